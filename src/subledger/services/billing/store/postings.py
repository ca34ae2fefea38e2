"""The ledger's rows: transfers, customers' balances, daily roll-ups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from subledger.platform.bulk import Insert
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables

_TRANSFERS = Insert(
    tables.transfers,
    [column.name for column in tables.transfers.c if column.name != "recorded_at"],
)
_BALANCES = Insert(
    tables.balances,
    ["tenant_id", "account_id", "ledger", "currency", "balance_minor"],
    conflict="(tenant_id, account_id, ledger, currency)"
    " DO UPDATE SET balance_minor = balances.balance_minor + excluded.balance_minor",
)
_ROLL_UP = sql(
    """
    WITH through AS (
        SELECT (clock_timestamp() AT TIME ZONE 'UTC' - interval '15 minutes')::date - 1 AS day
    ), span AS (
        SELECT t.tenant_id, coalesce(r.through_day, date '2000-01-01') AS after_day,
               through.day AS through_day
        FROM through CROSS JOIN unnest(CAST(:tenants AS uuid[])) AS t(tenant_id)
        LEFT JOIN billing.rolled_up r USING (tenant_id)
        WHERE coalesce(r.through_day, date '2000-01-01') < through.day
    ), sums AS (
        SELECT e.tenant_id, (e.recorded_at AT TIME ZONE 'UTC')::date AS day, e.ledger_account,
               e.currency, sum(e.debit_minor) AS debit_minor, sum(e.credit_minor) AS credit_minor
        FROM span JOIN billing.entries e USING (tenant_id)
        WHERE e.recorded_at >= (span.after_day + 1)::timestamp AT TIME ZONE 'UTC'
          AND e.recorded_at < (span.through_day + 1)::timestamp AT TIME ZONE 'UTC'
          -- The same for all tenants together: bounds that the index on recorded_at can take.
          AND e.recorded_at >= ((SELECT min(after_day) FROM span) + 1)::timestamp
              AT TIME ZONE 'UTC'
          AND e.recorded_at < ((SELECT max(through_day) FROM span) + 1)::timestamp
              AT TIME ZONE 'UTC'
        GROUP BY 1, 2, 3, 4
    ), days AS (
        INSERT INTO billing.ledger_days
            (tenant_id, day, ledger_account, currency, debit_minor, credit_minor)
        SELECT tenant_id, day, ledger_account, currency, debit_minor, credit_minor FROM sums
        ORDER BY 1, 2, 3, 4
    )
    INSERT INTO billing.rolled_up (tenant_id, through_day)
    SELECT tenant_id, through_day FROM span ORDER BY tenant_id
    ON CONFLICT (tenant_id) DO UPDATE SET through_day = excluded.through_day
    """
)
_TENANTS = sql("SELECT tenant_id FROM identity.clocks ORDER BY tenant_id")


async def all_tenants(tx: Tx) -> list[UUID]:
    """Every tenant (as the due reader)."""
    return [row.tenant_id for row in await tx.rows(_TENANTS)]


async def roll_up(tx: Tx, tenants: Sequence[UUID]) -> int:
    """Sum the days that are over and not summed yet; tells how many tenants moved on. Two at
    once collide on the day's key, and the later one rolls back."""
    return await tx.run(_ROLL_UP, tenants=list(tenants))


async def insert_transfers(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _TRANSFERS(tx, rows)


async def add_to_balances(tx: Tx, changes: Mapping[tuple[UUID, UUID, str, str], int]) -> None:
    """Add to balances by ``(tenant_id, account_id, ledger, currency)``, in that order."""
    await _BALANCES(
        tx,
        [
            {
                "tenant_id": tenant,
                "account_id": account,
                "ledger": ledger,
                "currency": currency,
                "balance_minor": changes[tenant, account, ledger, currency],
            }
            for tenant, account, ledger, currency in sorted(
                changes, key=lambda key: (key[0].bytes, key[1].bytes, key[2], key[3])
            )
        ],
    )
