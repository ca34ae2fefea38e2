"""The floor: the rows that a tenant's renewals wrote, written again set-based without our code.

The rows are read into temporary tables, and then copied back under new ids of another tenant in
the chain's own five transactions per 500 subscriptions: the invoices with lines, runs, postings,
balances and events; attempts; the journal; payments and receipts; grants. Same tables, keys,
checks and indexes, no engine, no Python per row.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

BATCH = 500

_KEPT = (
    "billing.invoices",
    "billing.billing_runs",
    "billing.invoice_lines",
    "billing.recognition_schedules",
    "billing.reservations",
    "billing.transfers",
    "billing.receipts",
    "payments.payments",
    "payments.attempts",
    "sandbox.charges",
    "entitlements.grants",
)
"""Tables whose rows a renewal inserts."""

_STAGES = (
    ("billing.invoices", "billing.billing_runs", "billing.invoice_lines",
     "billing.recognition_schedules", "billing.reservations", "billing.transfers"),
    ("payments.payments", "payments.attempts"),
    ("sandbox.charges",),
    ("billing.receipts",),
    ("entitlements.grants",),
)  # fmt: skip


async def write(admin: Any, tenant_id: UUID, subscriptions: int) -> float:
    """Seconds to write the same rows again, committed in the chain's transactions."""
    await admin.execute(f"CREATE TEMP TABLE chosen AS {_CHOSEN}", tenant_id)
    await admin.execute("CREATE INDEX ON chosen (batch)")
    for table in _KEPT:
        name = table.replace(".", "_")
        await admin.execute(f"CREATE TEMP TABLE kept_{name} AS {_kept(table)}", tenant_id)
        await admin.execute(f"CREATE INDEX ON kept_{name} (batch)")
    await admin.execute(f"CREATE TEMP TABLE kept_events AS {_EVENTS}", tenant_id)
    await admin.execute("CREATE INDEX ON kept_events (batch)")
    await _forget(admin, tenant_id)
    await admin.execute("ANALYZE")
    await admin.execute("CHECKPOINT")
    batches = (subscriptions + BATCH - 1) // BATCH
    began = time.perf_counter()
    for batch in range(batches):
        for number, stage in enumerate(_STAGES):
            async with admin.transaction():
                for table in stage:
                    name = table.replace(".", "_")
                    columns = await _columns(admin, table)
                    await admin.execute(
                        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM kept_{name}"
                        " WHERE batch = $1",
                        batch,
                    )
                for statement in _UPDATES.get(number, ()):
                    await admin.execute(statement, batch, tenant_id)
                await admin.execute(_APPEND, batch, number)
    return time.perf_counter() - began


_CHOSEN = """
SELECT r.subscription_id, r.invoice_id, s.payer_id AS account_id, a.attempt_id,
       (row_number() OVER (ORDER BY s.payer_id) - 1) / 500 AS batch
FROM billing.billing_runs r
JOIN billing.subscriptions s ON s.tenant_id = r.tenant_id AND s.id = r.subscription_id
JOIN billing.reservations a ON a.tenant_id = r.tenant_id AND a.invoice_id = r.invoice_id
WHERE r.tenant_id = $1
"""
_EVENTS = """
SELECT e.*, c.batch, row_number() OVER (PARTITION BY c.subscription_id ORDER BY e.position) % 5
    AS stage
FROM eventlog.events e JOIN chosen c ON c.account_id = e.subject WHERE e.tenant_id = $1
"""
_APPEND = """
WITH counted AS (
    SELECT partition, count(*) AS n FROM kept_events WHERE batch = $1 AND stage = $2 GROUP BY 1
), bumped AS (
    UPDATE eventlog.heads h SET position = h.position + counted.n FROM counted
    WHERE h.partition = counted.partition RETURNING h.partition, h.position - counted.n AS base
)
INSERT INTO eventlog.events SELECT e.partition, b.base + row_number() OVER (PARTITION BY
    e.partition ORDER BY e.position), e.id, e.type, e.version, e.tenant_id, e.subject, e.data,
    e.occurred_at, e.recorded_at, e.cause
FROM kept_events e JOIN bumped b USING (partition) WHERE e.batch = $1 AND e.stage = $2
"""
_UPDATES = {
    0: (
        "UPDATE billing.subscriptions s SET last_run_number = 1 FROM chosen c"
        " WHERE c.batch = $1 AND s.tenant_id = $2 AND s.id = c.subscription_id",
        "UPDATE billing.due d SET announced_at = NULL FROM chosen c"
        " WHERE c.batch = $1 AND d.tenant_id = $2 AND d.id = c.subscription_id",
        "UPDATE billing.accounts a SET last_occurred_at = a.last_occurred_at FROM chosen c"
        " WHERE c.batch = $1 AND a.tenant_id = $2 AND a.id = c.account_id",
        "UPDATE billing.balances b SET balance_minor = 999 FROM chosen c"
        " WHERE c.batch = $1 AND b.tenant_id = $2 AND b.account_id = c.account_id",
        "UPDATE billing.number_series SET last_number = last_number + 500"
        " WHERE tenant_id = $2 AND $1 >= 0",
    ),
    3: (
        "UPDATE billing.invoices i SET status = 'paid' FROM chosen c"
        " WHERE c.batch = $1 AND i.tenant_id = $2 AND i.id = c.invoice_id",
        "UPDATE billing.balances b SET balance_minor = 0 FROM chosen c"
        " WHERE c.batch = $1 AND b.tenant_id = $2 AND b.account_id = c.account_id",
        "UPDATE payments.payments p SET status = 'succeeded' FROM chosen c"
        " WHERE c.batch = $1 AND p.tenant_id = $2 AND p.invoice_id = c.invoice_id",
    ),
}


def _kept(table: str) -> str:
    """The tenant's rows of a table with the batch that each belongs to."""
    if table == "sandbox.charges":
        # The journal knows attempts by their public text only; any equal split will do.
        return (
            "SELECT t.*, (row_number() OVER (ORDER BY t.id) - 1) / 500 AS batch"
            " FROM sandbox.charges t WHERE t.tenant_id = $1"
        )
    join = {
        "billing.invoices": "c.invoice_id = t.id",
        "payments.attempts": "c.attempt_id = t.id",
        "billing.receipts": "c.attempt_id = t.attempt_id",
        "entitlements.grants": "c.subscription_id = t.subscription_id",
    }.get(table, "c.invoice_id = t.invoice_id")
    return f"SELECT t.*, c.batch FROM {table} t JOIN chosen c ON {join} WHERE t.tenant_id = $1"


async def _forget(admin: Any, tenant_id: UUID) -> None:
    """Take the chain's rows away, so that their copies find the keys free."""
    await admin.execute("DELETE FROM payments.refetches WHERE tenant_id = $1", tenant_id)
    for table in reversed(_KEPT):
        await admin.execute(f"DELETE FROM {table} WHERE tenant_id = $1", tenant_id)
    await admin.execute("VACUUM")


async def _columns(admin: Any, table: str) -> str:
    if table not in _known:
        _known[table] = await admin.fetchval(
            "SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped",
            table,
        )
    return _known[table]


_known: dict[str, str] = {}
