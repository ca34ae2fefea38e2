"""Accounts and subscriptions: locking, loading and saving them, many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core.states import DUE_RANK
from subledger.platform.bulk import Insert, Update, by_keys, split
from subledger.platform.db import Tx, sql
from subledger.platform.due import Due
from subledger.platform.holding import HeldQueue
from subledger.services.billing import tables

Key = tuple[UUID, UUID]
"""``(tenant_id, id)``"""

due = HeldQueue(tables.due)

RENEWAL = "renewal"
CANCELLATION = "cancellation"
CHANGE = "scheduled_change"
EXPIRY = "incomplete_expiry"
REMINDER = "reminder"
PAUSE = "pause_resume"

_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"

_ACCOUNT = (
    "a.tenant_id, a.id, a.currency, a.timezone, a.locale, a.last_occurred_at,"
    " a.next_subscription_number, a.net_days, a.consolidate, a.deleted_at, a.country,"
    " a.region, a.tax_id, a.tax_exempt_reason, a.tax_rate_ids"
)
_LOCK_ACCOUNTS = sql(
    f"SELECT {_ACCOUNT} {by_keys('billing.accounts a', tenant_id='tenants', id='ids')}"
    " FOR NO KEY UPDATE OF a"
)
_ACCOUNTS = sql(f"SELECT {_ACCOUNT} {by_keys('billing.accounts a', tenant_id='tenants', id='ids')}")
_COLUMNS = (
    "s.tenant_id, s.id, s.payer_id, s.beneficiary_id, s.number, s.plan_version_id, s.currency,"
    " s.quantity, s.status, s.anchor_at, s.timezone, s.started_at, s.current_period_start_at,"
    " s.current_period_end_at, s.billed_through_at, s.period_number, s.last_run_number,"
    " s.cancel_at, s.ended_at, s.end_reason, s.collection, s.payment_method_id, s.return_url,"
    " s.parked_reason, s.proration, s.proration_rounds, s.stub_denominator,"
    " s.last_day_charged, s.dirty_from_period, s.created_at, s.anchor_day,"
    " s.anchor_wall, s.billing_anchor::text AS billing_anchor, s.first_period, s.trial_end_at,"
    " s.trial_end_behavior, s.cycle_started_at, s.charged_until_at, s.cancel_credit,"
    " s.cancel_reason, s.cancel_comment, s.is_extended"
)
_LOCK_SUBSCRIPTIONS = sql(
    f"SELECT {_COLUMNS} {by_keys('billing.subscriptions s', tenant_id='tenants', id='ids')}"
    " FOR NO KEY UPDATE OF s"
)
_SUBSCRIPTIONS = sql(
    f"SELECT {_COLUMNS} {by_keys('billing.subscriptions s', tenant_id='tenants', id='ids')}"
)
_PLAN_TERMS = sql(
    """
    SELECT v.tenant_id, v.id AS plan_version_id, v.plan_id, v.grace_s, v.trial_days,
           v.trial_requires_payment_method, v.grace_at_start, p.product_id,
           r.id AS price_id, r.code, r.currency, r.model, r.interval_unit, r.interval_count,
           r.timing, r.metered, r.tax_inclusive, r.terms::text AS terms,
           r.ramp::text AS ramp,
           p.code AS plan_code, o.code AS product_code
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)
    JOIN billing.plan_versions v USING (tenant_id, id)
    JOIN billing.plans p ON p.tenant_id = v.tenant_id AND p.id = v.plan_id
    JOIN billing.products o ON o.tenant_id = p.tenant_id AND o.id = p.product_id
    JOIN billing.prices r ON r.tenant_id = v.tenant_id AND r.plan_version_id = v.id
    ORDER BY v.tenant_id, v.id, r.code, r.currency
    """
)
_LATEST_VERSIONS = sql(
    """
    SELECT v.tenant_id, p.id AS plan_id, v.id AS plan_version_id
    FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)
    JOIN billing.plans p USING (tenant_id, id)
    JOIN billing.plan_versions v
      ON v.tenant_id = p.tenant_id AND v.plan_id = p.id AND v.version = p.latest_version
    """
)
_ATTACHED_DISCOUNTS = sql(
    f"""
    SELECT a.tenant_id, a.subscription_id, a.n, a.used_periods, a.taken_minor, a.first_at,
           d.id, d.kind, d.percent, d.amount_minor, d.currency, d.duration, d.periods,
           d.terms::text AS terms, a.from_at, a.until_at
    {by_keys("billing.subscription_discounts a", tenant_id="tenants", subscription_id="ids")}
    JOIN billing.discounts d ON d.tenant_id = a.tenant_id AND d.id = a.discount_id
    ORDER BY a.tenant_id, a.subscription_id, a.n
    """
)
_DISCOUNTS = sql(
    "SELECT d.tenant_id, d.id, d.kind, d.percent, d.amount_minor, d.currency, d.duration,"
    " d.periods, d.terms::text AS terms, d.archived_at, NULL::timestamptz AS from_at,"
    " NULL::timestamptz AS until_at"
    f" FROM billing.discounts d JOIN {_WANTED} USING (tenant_id, id)"
)

_OCCURRED = Update(tables.accounts, keys=["tenant_id", "id"], sets=["last_occurred_at"])
_NUMBERED = Update(tables.accounts, keys=["tenant_id", "id"], sets=["next_subscription_number"])
_INSERT = Insert(
    tables.subscriptions,
    [
        column.name
        for column in tables.subscriptions.c
        if column.name
        not in {
            "cancel_at",
            "ended_at",
            "end_reason",
            "parked_reason",
            "dirty_from_period",
            "charged_until_at",
            "cancel_credit",
            "cancel_reason",
            "cancel_comment",
            "is_extended",
        }
    ],
)
_ADVANCE = Update(
    tables.subscriptions,
    keys=["tenant_id", "id"],
    sets=[
        "current_period_start_at",
        "current_period_end_at",
        "billed_through_at",
        "period_number",
        "last_run_number",
        "dirty_from_period",
    ],
)
_CHANGE = Update(
    tables.subscriptions,
    keys=["tenant_id", "id"],
    sets=[
        *("plan_version_id", "quantity", "anchor_at", "current_period_start_at"),
        *("current_period_end_at", "billed_through_at", "period_number", "last_run_number"),
        *("dirty_from_period", "timezone", "anchor_day", "anchor_wall", "billing_anchor"),
        *("first_period", "cycle_started_at", "is_extended"),
    ],
)
_STATUS = Update(tables.subscriptions, keys=["tenant_id", "id"], sets=["status"])
_BEGIN_TRIAL = Update(
    tables.subscriptions,
    keys=["tenant_id", "id"],
    sets=["status", "current_period_start_at", "current_period_end_at", "billed_through_at"],
)
_CANCEL = Update(
    tables.subscriptions,
    keys=["tenant_id", "id"],
    sets=["cancel_at", "charged_until_at", "cancel_credit", "cancel_reason", "cancel_comment"],
)
_END = Update(
    tables.subscriptions,
    keys=["tenant_id", "id"],
    sets=["status", "ended_at", "end_reason", "cancel_at", "charged_until_at"],
)
_RESTART = Update(
    tables.subscriptions,
    keys=["tenant_id", "id"],
    sets=[
        *("status", "ended_at", "end_reason", "cancel_at", "charged_until_at", "cancel_credit"),
        *("cancel_reason", "cancel_comment", "parked_reason"),
    ],
)
_PARK = Update(tables.subscriptions, keys=["tenant_id", "id"], sets=["parked_reason"])
_CHANGES = Insert(
    tables.subscription_changes,
    ["tenant_id", "subscription_id", "n", "kind", "effective_at", "data", "recorded_at"],
)
_NEXT_CHANGE = sql(
    "SELECT tenant_id, subscription_id, max(n) + 1 AS n FROM billing.subscription_changes"
    " JOIN unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[]))"
    " AS w(tenant_id, subscription_id) USING (tenant_id, subscription_id)"
    " GROUP BY tenant_id, subscription_id"
)
_USED = Update(
    tables.subscription_discounts,
    keys=["tenant_id", "subscription_id", "n"],
    sets=["used_periods", "taken_minor", "first_at"],
)


async def lock_accounts(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Lock accounts in ascending order. Whoever holds the account decides alone."""
    rows = await tx.rows(_LOCK_ACCOUNTS, **split(keys))
    tx.held.update({("account", row.tenant_id, row.id): row for row in rows})
    return {(row.tenant_id, row.id): row for row in rows}


async def accounts(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Accounts that this transaction has locked already (or only reads)."""
    wanted = list(dict.fromkeys(keys))
    held = {key: tx.held.get(("account", *key)) for key in wanted}
    if all(held.values()):
        return {key: row for key, row in held.items() if row is not None}
    rows = await tx.rows(_ACCOUNTS, **split(wanted))
    return {(row.tenant_id, row.id): row for row in rows}


async def moments(tx: Tx, keys: Iterable[Key], rows: Mapping[Key, Row[Any]]) -> dict[Key, datetime]:
    """The moment at which this transaction acts for each account: its tenant's clock, never
    earlier than the account's last moment; and remember it. The accounts are locked."""
    wanted = list(dict.fromkeys(keys))
    clocks = await tx.clocks({tenant for tenant, _ in wanted})
    at = {key: max(clocks[key[0]], rows[key].last_occurred_at) for key in wanted}
    await _OCCURRED(
        tx,
        [
            {"tenant_id": tenant, "id": account, "last_occurred_at": moment}
            for (tenant, account), moment in at.items()
            if moment != rows[tenant, account].last_occurred_at
        ],
    )
    return at


async def lock_subscriptions(tx: Tx, keys: Iterable[Key]) -> list[Row[Any]]:
    """Lock subscriptions, whose payers' accounts are locked already, in ascending order."""
    return list(await tx.rows(_LOCK_SUBSCRIPTIONS, **split(keys)))


async def subscriptions(tx: Tx, keys: Iterable[Key]) -> list[Row[Any]]:
    """Subscriptions as they are, unlocked."""
    return list(await tx.rows(_SUBSCRIPTIONS, **split(keys)))


async def plan_terms(tx: Tx, keys: Iterable[Key]) -> Sequence[Row[Any]]:
    """One row per price of each plan version ``(tenant_id, plan_version_id)``."""
    return await tx.rows(_PLAN_TERMS, **split(keys))


async def latest_versions(tx: Tx, plans: Iterable[Key]) -> dict[Key, UUID]:
    """The newest version of each plan ``(tenant_id, plan_id)`` that exists."""
    rows = await tx.rows(_LATEST_VERSIONS, **split(plans))
    return {(row.tenant_id, row.plan_id): row.plan_version_id for row in rows}


async def attached_discounts(tx: Tx, keys: Iterable[Key]) -> dict[Key, list[Row[Any]]]:
    """The discounts of each subscription, in the order in which they were attached."""
    found: dict[Key, list[Row[Any]]] = {}
    for row in await tx.rows(_ATTACHED_DISCOUNTS, **split(keys)):
        found.setdefault((row.tenant_id, row.subscription_id), []).append(row)
    return found


async def discounts(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Discounts of the catalogue, as if attached for all periods."""
    rows = await tx.rows(_DISCOUNTS, **split(keys))
    return {(row.tenant_id, row.id): row for row in rows}


async def insert_subscriptions(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _INSERT(tx, rows)


async def number_subscriptions(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Remember the next free subscription number of each account."""
    await _NUMBERED(tx, rows)


async def advance_subscriptions(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _ADVANCE(tx, rows)


async def change_subscriptions(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """What is paid for, and where the cycle stands."""
    await _CHANGE(tx, rows)


async def set_statuses(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _STATUS(tx, rows)


async def begin_trials(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """The trial is the current period; nothing of it is billed."""
    await _BEGIN_TRIAL(tx, rows)


async def set_cancellations(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """When they end, up to where they are charged, and why."""
    await _CANCEL(tx, rows)


async def end_subscriptions(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _END(tx, rows)


async def begin_again(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Ended subscriptions live again: nothing is left of their end."""
    await _RESTART(tx, rows)


async def park_subscriptions(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _PARK(tx, rows)


async def append_changes(tx: Tx, changes: Sequence[Mapping[str, Any]]) -> None:
    """Append to the history of subscriptions that are locked (or new); at most one change each."""
    keys = [(each["tenant_id"], each["subscription_id"]) for each in changes]
    rows = await tx.rows(_NEXT_CHANGE, **split(keys)) if changes else []
    numbers = {(row.tenant_id, row.subscription_id): row.n for row in rows}
    await _CHANGES(
        tx,
        [{**each, "n": numbers.get(key, 1)} for key, each in zip(keys, changes, strict=True)],
    )


async def set_usage(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _USED(tx, rows)


async def put_renewals(tx: Tx, rows: Iterable[Row[Any] | Mapping[str, Any]]) -> None:
    """Set the next renewal of each subscription to the end of its current period."""
    given = [row if isinstance(row, Mapping) else row._mapping for row in rows]
    await due.put(
        tx,
        [
            Due(
                tenant_id=row["tenant_id"],
                kind=RENEWAL,
                id=row["id"],
                account_id=row["payer_id"],
                due_at=row["current_period_end_at"],
                rank=DUE_RANK[RENEWAL],
                number=row["number"],
            )
            for row in given
        ],
    )


async def put_due(
    tx: Tx, kind: str, rows: Iterable[tuple[Row[Any] | Mapping[str, Any], datetime]]
) -> None:
    """Set a cancellation or an expiry of subscriptions to the moments given."""
    await due.put(
        tx,
        [
            Due(
                tenant_id=values["tenant_id"],
                kind=kind,
                id=values["id"],
                account_id=values["payer_id"],
                due_at=moment,
                rank=DUE_RANK[kind],
                number=values["number"],
            )
            for values, moment in (
                (row if isinstance(row, Mapping) else row._mapping, moment) for row, moment in rows
            )
        ],
    )
