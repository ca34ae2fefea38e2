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
    WITH span AS (
        SELECT t.tenant_id, coalesce(r.through_day, date '2000-01-01') AS after_day,
               CAST(:through AS date) AS through_day
        FROM unnest(CAST(:tenants AS uuid[])) AS t(tenant_id)
        LEFT JOIN billing.rolled_up r USING (tenant_id)
    ), sums AS (
        SELECT e.tenant_id, (e.recorded_at AT TIME ZONE 'UTC')::date AS day, e.ledger_account,
               e.currency, sum(e.debit_minor) AS debit_minor, sum(e.credit_minor) AS credit_minor
        FROM span JOIN billing.entries e USING (tenant_id)
        WHERE e.recorded_at >= (span.after_day + 1)::timestamp AT TIME ZONE 'UTC'
          AND e.recorded_at < (span.through_day + 1)::timestamp AT TIME ZONE 'UTC'
        GROUP BY 1, 2, 3, 4
    ), days AS (
        INSERT INTO billing.ledger_days
            (tenant_id, day, ledger_account, currency, debit_minor, credit_minor)
        SELECT tenant_id, day, ledger_account, currency, debit_minor, credit_minor FROM sums
        ORDER BY 1, 2, 3, 4
    )
    INSERT INTO billing.rolled_up (tenant_id, through_day)
    SELECT tenant_id, through_day FROM span WHERE after_day < through_day ORDER BY tenant_id
    ON CONFLICT (tenant_id) DO UPDATE SET through_day = excluded.through_day
    """
)
_TO_ROLL_UP = sql(
    """
    SELECT c.tenant_id, (clock_timestamp() - interval '15 minutes' - interval '1 day')::date
        AS through_day
    FROM identity.clocks c
    """
)


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
            for tenant, account, ledger, currency in sorted(changes)
        ],
    )
