"""Recognition policies and the schedules of lines, summed where they lie.

What a line has recognized is no column: a policy says through which unit (local day or
microsecond) all its counted lines are released, and the arithmetic of ``core.recognition`` is
repeated here over whole units (docs/adr/0007). No unit is ever computed in SQL: there is one
calendar, in the core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys, split
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

PolicyKey = tuple[UUID, int]
"""``(tenant_id, version)``"""
LATE = "billing.late_schedules"
"""The kind of work that a line is whose service has begun when it is billed."""
MOST_COUNTED = 10_000
"""New lines of one policy that one transaction counts."""


def recognized_sql(unit: str) -> str:
    """What of the line ``s`` is recognized where ``unit`` begins (bigint): nothing of it before it
    was billed, what a credit note left recognized until the note's unit is over, then its share;
    while it is paused, no more than before."""
    whole = "(s.end_unit - s.start_unit)"
    over = f"({unit} - s.start_unit)"
    return f"""(CASE
        WHEN {unit} < s.from_unit OR s.is_paused THEN s.base_minor
        WHEN {unit} >= s.end_unit THEN s.net_minor
        WHEN {unit} <= s.start_unit THEN 0
        -- Of a month of days, say: the products fit bigint, which numeric takes ten times as long.
        WHEN abs(s.net_minor) < 4000000000000000000 / {whole} THEN
            CASE WHEN s.net_minor < 0 THEN -1 ELSE 1 END
            * ((2 * abs(s.net_minor) * {over} + {whole}) / (2 * {whole}))
        ELSE (sign(s.net_minor::numeric)
              * div(2 * abs(s.net_minor)::numeric * {over} + {whole}, 2 * {whole}::numeric))::bigint
        END)"""


RELEASED_SQL = f"(CASE WHEN s.is_counted THEN {recognized_sql('p.through_unit')} ELSE 0 END)"
"""What of the line ``s`` the ledger has released, ``p`` being its policy."""

_POLICY = "p.tenant_id, p.version, p.mode, p.timezone, p.through_unit, p.through_at, p.next_at"
_CURRENT = f"""
    SELECT {_POLICY} FROM unnest(CAST(:tenants AS uuid[])) AS w(tenant_id)
    CROSS JOIN LATERAL (
        SELECT * FROM billing.recognition_policies r WHERE r.tenant_id = w.tenant_id
        ORDER BY r.version DESC LIMIT 1
    ) AS p ORDER BY p.tenant_id
    """
_CURRENT_POLICIES = sql(_CURRENT)
_KEYS = {"tenant_id": "tenants", "version": "versions integer"}
_BY_KEYS = by_keys("billing.recognition_policies p", **_KEYS)
_LOCK_POLICIES = sql(f"SELECT {_POLICY} {_BY_KEYS} FOR NO KEY UPDATE OF p")
_CLAIM_POLICIES = sql(f"SELECT {_POLICY} {_BY_KEYS} FOR NO KEY UPDATE OF p SKIP LOCKED")
_HOLD_POLICIES = sql(
    f"SELECT {_POLICY} FROM billing.recognition_policies p"
    " WHERE p.tenant_id = ANY (CAST(:tenants AS uuid[])) ORDER BY p.tenant_id, p.version FOR SHARE"
)
_ALL_POLICIES = sql(
    f"SELECT {_POLICY} FROM billing.recognition_policies p WHERE p.tenant_id = :tenant"
    " ORDER BY p.version"
)
_INSERT_POLICIES = Insert(
    tables.recognition_policies,
    [column.name for column in tables.recognition_policies.c],
    conflict="(tenant_id, version) DO NOTHING",
)
_ADVANCE_POLICIES = Update(
    tables.recognition_policies,
    keys=["tenant_id", "version"],
    sets=["through_unit", "through_at", "next_at"],
)
_LINES = sql(
    "SELECT l.tenant_id, l.invoice_id, l.n, l.currency, l.net_minor, l.service_start_at,"
    " l.service_end_at"
    f" {by_keys('billing.invoice_lines l', tenant_id='tenants', invoice_id='ids')}"
    " ORDER BY l.tenant_id, l.invoice_id, l.n"
)
_INSERT_SCHEDULES = Insert(
    tables.recognition_schedules,
    [
        column.name
        for column in tables.recognition_schedules.c
        if column.name not in {"base_minor", "is_counted", "paused_units", "is_paused"}
    ],
)
_SCHEDULE = ", ".join(f"s.{column.name}" for column in tables.recognition_schedules.c)
_LOCK_SCHEDULES = sql(
    f"SELECT {_SCHEDULE}"
    f" {by_keys('billing.recognition_schedules s', tenant_id='tenants', invoice_id='ids')}"
    " ORDER BY s.tenant_id, s.invoice_id, s.n FOR NO KEY UPDATE OF s"
)
_SCHEDULES = sql(
    f"SELECT {_SCHEDULE}, p.mode, p.timezone, p.through_at,"
    f" {RELEASED_SQL} AS released_minor FROM billing.recognition_schedules s"
    " JOIN billing.recognition_policies p ON p.tenant_id = s.tenant_id AND p.version = s.policy"
    " WHERE s.tenant_id = :tenant AND s.invoice_id = :invoice ORDER BY s.n"
)
_OF_SUBSCRIPTIONS = """
    SELECT s.tenant_id, l.subscription_id, s.invoice_id, s.n
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)
    JOIN billing.invoice_lines l ON l.tenant_id = w.tenant_id AND l.subscription_id = w.id
    JOIN billing.recognition_schedules s
        ON s.tenant_id = l.tenant_id AND s.invoice_id = l.invoice_id AND s.n = l.n
    """
# What is charged once has no duration: it is delivered where it is charged.
_SERVED_AFTER = sql(
    f"{_OF_SUBSCRIPTIONS} WHERE s.service_end_at > :after_at AND NOT s.is_paused"
    " AND s.service_end_at > s.service_start_at + interval '1 microsecond'"
)
_PAUSED = sql(f"{_OF_SUBSCRIPTIONS} WHERE s.is_paused")
_SAVE_SCHEDULES = Update(
    tables.recognition_schedules,
    keys=["tenant_id", "invoice_id", "n"],
    sets=[
        *("net_minor", "service_start_at", "service_end_at", "start_unit", "end_unit"),
        *("from_unit", "last_unit", "base_minor", "is_counted", "paused_units", "is_paused"),
    ],
)
_BEHIND = """
    (p.next_at <= coalesce(c.now_at, statement_timestamp())
     OR p.mode = 'second' AND c.now_rank = 32767 AND p.through_at < c.now_at)
    """
_DUE = sql(
    f"""
    SELECT p.tenant_id, p.version FROM identity.clocks c
    JOIN billing.recognition_policies p ON p.tenant_id = c.tenant_id
    WHERE c.stopped_at IS NULL AND {_BEHIND}
    UNION
    SELECT s.tenant_id, s.policy FROM billing.recognition_schedules s
    WHERE s.is_late AND NOT s.is_counted
    LIMIT :limit
    """
)
BEHIND_SQL = f"""
    SELECT 'revenue to release' AS what, count(*) AS count FROM (
        SELECT p.version FROM identity.clocks c
        JOIN billing.recognition_policies p ON p.tenant_id = c.tenant_id
        WHERE c.tenant_id = :tenant AND c.now_rank = 32767 AND {_BEHIND}
        UNION
        SELECT s.policy FROM billing.recognition_schedules s
        WHERE s.tenant_id = :tenant AND s.is_late AND NOT s.is_counted
    ) AS behind
    """
"""Before a clock move ends all of it has to be released; on the way nobody waits for it."""
_COUNT_NEW = sql(
    f"""
    WITH new AS (
        SELECT w.through_unit, w.also_unit, s.place
        FROM unnest(CAST(:tenants AS uuid[]), CAST(:versions AS integer[]),
                    CAST(:throughs AS bigint[]), CAST(:alsos AS bigint[]))
            AS w(tenant_id, version, through_unit, also_unit)
        CROSS JOIN LATERAL (
            SELECT r.ctid AS place FROM billing.recognition_schedules r
            WHERE r.tenant_id = w.tenant_id AND r.policy = w.version AND NOT r.is_counted
            LIMIT :most
        ) AS s
    ), counted AS (
        UPDATE billing.recognition_schedules AS s
        SET is_counted = true,
            from_unit = CASE WHEN s.from_unit <= n.also_unit
                             THEN least(s.from_unit, n.through_unit) ELSE s.from_unit END,
            last_unit = CASE WHEN s.from_unit <= n.also_unit
                             THEN greatest(s.end_unit, least(s.from_unit, n.through_unit))
                             ELSE s.last_unit END
        FROM new n WHERE s.ctid = n.place
        RETURNING s.tenant_id, s.policy, s.currency,
                  {recognized_sql("n.through_unit")} AS released
    )
    SELECT tenant_id, policy, currency, count(*) AS lines,
           coalesce(sum(released) FILTER (WHERE released > 0), 0)::bigint AS earned_minor,
           coalesce(-sum(released) FILTER (WHERE released < 0), 0)::bigint AS returned_minor
    FROM counted GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    """
)
_SPANS = (
    "unnest(CAST(:tenants AS uuid[]), CAST(:versions AS integer[]), CAST(:afters AS bigint[]),"
    " CAST(:untils AS bigint[]))"
    " WITH ORDINALITY AS w(tenant_id, version, after_unit, until_unit, n)"
)
_OF_SPAN = (
    "s.tenant_id = w.tenant_id AND s.policy = w.version AND s.last_unit > w.after_unit"
    " AND s.start_unit < w.until_unit"
)
_DELIVERED = f"{recognized_sql('w.until_unit')} - {recognized_sql('w.after_unit')}"
_SUMS = sql(
    f"""
    SELECT w.n, s.currency,
           coalesce(sum(s.change) FILTER (WHERE s.change > 0), 0)::bigint AS earned_minor,
           coalesce(-sum(s.change) FILTER (WHERE s.change < 0), 0)::bigint AS returned_minor
    FROM {_SPANS}
    CROSS JOIN LATERAL (
        SELECT s.currency, {_DELIVERED} AS change FROM billing.recognition_schedules s
        WHERE {_OF_SPAN} AND s.is_counted OFFSET 0 -- so that each change is computed once
    ) AS s
    WHERE s.change <> 0 GROUP BY w.n, s.currency ORDER BY w.n, s.currency
    """
)
# A line that is not counted yet brings all that it has not released in the first span.
_TO_COME = sql(
    f"""
    SELECT w.n, s.currency, sum(s.change)::bigint AS amount_minor FROM {_SPANS}
    CROSS JOIN LATERAL (
        SELECT s.currency, {_DELIVERED} AS change FROM billing.recognition_schedules s
        WHERE {_OF_SPAN} AND s.is_counted
        UNION ALL
        SELECT s.currency, {recognized_sql("w.until_unit")}
            - CASE WHEN w.after_unit <= :through THEN 0 ELSE {recognized_sql("w.after_unit")} END
        FROM billing.recognition_schedules s
        WHERE s.tenant_id = w.tenant_id AND s.policy = w.version AND NOT s.is_counted
    ) AS s
    WHERE s.change <> 0 GROUP BY w.n, s.currency ORDER BY w.n, s.currency
    """
)
_REVENUE = sql(
    """
    SELECT w.n, t.currency, sum(t.amount_minor)::bigint AS amount_minor
    FROM unnest(CAST(:froms AS timestamptz[]), CAST(:tos AS timestamptz[]))
        WITH ORDINALITY AS w(from_at, to_at, n)
    CROSS JOIN LATERAL (
        SELECT t.currency,
               CASE t.credit_account WHEN 'revenue' THEN 1 ELSE -1 END * t.amount_minor
                   AS amount_minor
        FROM billing.transfers t
        WHERE t.tenant_id = :tenant
          AND (t.debit_account = 'revenue' OR t.credit_account = 'revenue')
          AND t.occurred_at >= w.from_at AND t.occurred_at < w.to_at
    ) AS t
    GROUP BY w.n, t.currency ORDER BY w.n, t.currency
    """
)


@dataclass(frozen=True, slots=True)
class Span:
    """Units of a policy: behind ``after_unit`` (included) up to ``until_unit`` (not included)."""

    policy: PolicyKey
    after_unit: int
    until_unit: int


def _spans(given: Sequence[Span]) -> dict[str, list[Any]]:
    return {
        "tenants": [each.policy[0] for each in given],
        "versions": [each.policy[1] for each in given],
        "afters": [each.after_unit for each in given],
        "untils": [each.until_unit for each in given],
    }


def _versions(keys: Iterable[PolicyKey]) -> dict[str, list[Any]]:
    once = dict.fromkeys(keys)
    return {"tenants": [tenant for tenant, _ in once], "versions": [each for _, each in once]}


async def current_policies(tx: Tx, tenants: Iterable[UUID]) -> dict[UUID, Row[Any]]:
    """The newest version of each tenant's policy; absent where nothing was billed or set yet."""
    rows = await tx.rows(_CURRENT_POLICIES, tenants=list(dict.fromkeys(tenants)))
    return {row.tenant_id: row for row in rows}


async def insert_policies(tx: Tx, rows: Iterable[Mapping[str, Any]]) -> int:
    """New versions; one that another wrote first is left as it is. Tells how many were written."""
    ordered = sorted(rows, key=lambda each: (each["tenant_id"].bytes, each["version"]))
    return await _INSERT_POLICIES(tx, ordered)


async def due_policies(tx: Tx, limit: int) -> list[PolicyKey]:
    """Policies of which a unit is over, or which have lines that were late when billed."""
    async with tx.reading_as(DUE_READER):
        rows = await tx.rows(_DUE, limit=limit)
    return [(row.tenant_id, row.version) for row in rows]


async def claim_policies(tx: Tx, keys: Iterable[PolicyKey]) -> Sequence[Row[Any]]:
    """Lock policies alone: nobody releases or credits their lines meanwhile. Skips locked ones."""
    return await tx.rows(_CLAIM_POLICIES, **_versions(keys))


async def lock_policies(tx: Tx, keys: Iterable[PolicyKey]) -> Sequence[Row[Any]]:
    """As ``claim_policies``, but waits."""
    return await tx.rows(_LOCK_POLICIES, **_versions(keys))


async def hold_policies(tx: Tx, tenants: Iterable[UUID]) -> dict[PolicyKey, Row[Any]]:
    """Keep all policies of tenants where they are, together with others who do so; their lines
    are locked afterwards."""
    rows = await tx.rows(_HOLD_POLICIES, tenants=list(dict.fromkeys(tenants)))
    return {(row.tenant_id, row.version): row for row in rows}


async def all_policies(tx: Tx, tenant_id: UUID) -> Sequence[Row[Any]]:
    """Every version of a tenant's policy, the oldest first."""
    return await tx.rows(_ALL_POLICIES, tenant=tenant_id)


async def advance_policies(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Through which unit the lines of locked policies are released."""
    await _ADVANCE_POLICIES(tx, rows)


async def count_new(
    tx: Tx, policies: Sequence[Row[Any]], *, alsos: Sequence[int]
) -> Sequence[Row[Any]]:
    """Count new lines of locked policies, at most 10,000 of each, and what they release for the
    units that are over: ``tenant_id, policy, currency, lines, earned_minor, returned_minor``.
    A line that is billed from a unit after ``alsos`` on releases nothing yet."""
    return await tx.rows(
        _COUNT_NEW,
        tenants=[each.tenant_id for each in policies],
        versions=[each.version for each in policies],
        throughs=[each.through_unit for each in policies],
        alsos=list(alsos),
        most=MOST_COUNTED,
    )


async def sums(tx: Tx, spans: Sequence[Span]) -> Sequence[Row[Any]]:
    """What the counted lines recognize within each span: ``n`` (from 1), ``currency``,
    ``earned_minor``, ``returned_minor`` (of credit lines), none of them negative."""
    return await tx.rows(_SUMS, **_spans(spans))


async def to_come(tx: Tx, spans: Sequence[Span], *, through: int) -> Sequence[Row[Any]]:
    """What all lines of one policy, which is released through ``through``, will recognize within
    each span: ``n`` (from 1), ``currency``, ``amount_minor``."""
    return await tx.rows(_TO_COME, **_spans(spans), through=through)


async def revenue(
    tx: Tx, tenant_id: UUID, spans: Sequence[tuple[datetime, datetime]]
) -> Sequence[Row[Any]]:
    """Credits less debits of revenue within each ``[from, to)``: ``n``, ``currency``,
    ``amount_minor``."""
    return await tx.rows(
        _REVENUE,
        tenant=tenant_id,
        froms=[from_at for from_at, _ in spans],
        tos=[to_at for _, to_at in spans],
    )


async def lines(tx: Tx, invoices: Iterable[Key]) -> Sequence[Row[Any]]:
    """What a schedule needs of the lines of invoices."""
    return await tx.rows(_LINES, **split(invoices))


async def insert_schedules(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    if any(row["is_late"] for row in rows):
        tx.work.add(LATE)
    await _INSERT_SCHEDULES(tx, rows)


async def lock_schedules(tx: Tx, invoices: Iterable[Key]) -> Sequence[Row[Any]]:
    """Lock the schedules of invoices (locked) in order; their policies are held."""
    return await tx.rows(_LOCK_SCHEDULES, **split(invoices))


async def served_after(tx: Tx, key: Key, after_at: datetime) -> Sequence[Row[Any]]:
    """The lines (``invoice_id``, ``n``) of a subscription that are served after a moment."""
    return await tx.rows(_SERVED_AFTER, **split([key]), after_at=after_at)


async def paused(tx: Tx, keys: Iterable[Key]) -> Sequence[Row[Any]]:
    """The lines of subscriptions whose recognition stands still: ``tenant_id``,
    ``subscription_id``, ``invoice_id``, ``n``."""
    return await tx.rows(_PAUSED, **split(keys))


async def save_schedules(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _SAVE_SCHEDULES(tx, rows)


async def schedules(tx: Tx, tenant_id: UUID, invoice_id: UUID) -> Sequence[Row[Any]]:
    """The schedules of an invoice's lines with their policy and ``released_minor``."""
    return await tx.rows(_SCHEDULES, tenant=tenant_id, invoice=invoice_id)
