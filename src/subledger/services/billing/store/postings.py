"""The ledger's rows: transfers, customers' balances, daily roll-ups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from subledger.platform.bulk import Insert, by_keys
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
_CREDITS = sql(
    "SELECT b.tenant_id, b.account_id, b.currency, b.balance_minor"
    f" {by_keys('billing.balances b', tenant_id='tenants', account_id='ids')}"
    " WHERE b.ledger = 'credit' AND b.balance_minor < 0"
)
_UNSUMMED = sql(
    """
    SELECT array_agg(t.tenant_id ORDER BY t.tenant_id) AS tenants, through.day AS through_day,
           (coalesce(r.through_day, date '2000-01-01') + 1)::timestamp AT TIME ZONE 'UTC'
               AS from_at,
           (through.day + 1)::timestamp AT TIME ZONE 'UTC' AS to_at
    FROM (SELECT (clock_timestamp() AT TIME ZONE 'UTC' - interval '15 minutes')::date - 1)
        AS through(day)
    CROSS JOIN unnest(CAST(:tenants AS uuid[])) AS t(tenant_id)
    LEFT JOIN billing.rolled_up r USING (tenant_id)
    WHERE coalesce(r.through_day, date '2000-01-01') < through.day
    GROUP BY r.through_day, through.day ORDER BY r.through_day NULLS FIRST
    """
)
# Tenant by tenant, so that the index takes the moments too.
_SUM_DAYS = sql(
    """
    INSERT INTO billing.ledger_days
        (tenant_id, day, ledger_account, currency, debit_minor, credit_minor)
    SELECT e.tenant_id, (e.recorded_at AT TIME ZONE 'UTC')::date, e.ledger_account, e.currency,
           sum(e.debit_minor), sum(e.credit_minor)
    FROM unnest(CAST(:tenants AS uuid[])) AS w(tenant_id)
    CROSS JOIN LATERAL (
        SELECT * FROM billing.entries r WHERE r.tenant_id = w.tenant_id
          AND r.recorded_at >= :from_at AND r.recorded_at < :to_at OFFSET 0
    ) AS e
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    """
)
_MOVE_ON = sql(
    """
    INSERT INTO billing.rolled_up (tenant_id, through_day)
    SELECT tenant_id, :through_day FROM unnest(CAST(:tenants AS uuid[])) AS t(tenant_id)
    ORDER BY tenant_id
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
    done = 0
    for span in await tx.rows(_UNSUMMED, tenants=list(tenants)):
        await tx.run(_SUM_DAYS, tenants=span.tenants, from_at=span.from_at, to_at=span.to_at)
        done += await tx.run(_MOVE_ON, tenants=span.tenants, through_day=span.through_day)
    return done


async def credits(
    tx: Tx, accounts: Sequence[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID, str], int]:
    """What we owe customers in credit: ``(tenant_id, account_id, currency)`` → minor units, above
    zero. The accounts are locked."""
    rows = await tx.rows(
        _CREDITS, tenants=[tenant for tenant, _ in accounts], ids=[each for _, each in accounts]
    )
    return {(row.tenant_id, row.account_id, row.currency): -row.balance_minor for row in rows}


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
