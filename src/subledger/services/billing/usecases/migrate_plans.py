"""Moving the subscriptions of a plan to another version, in batches that survive every crash.

By default nobody is moved: a new version is for new subscriptions, existing ones keep theirs. A
migration moves them, each by its own change with the change's own invoice and facts. A batch is
one transaction: the changes, what became of each subscription and the counts commit together, so
that a process killed at any moment loses nothing and repeats nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import structlog
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core.errors import CoreError, IllegalTransition
from subledger.core.states import PLAN_MIGRATION, step
from subledger.platform import ids
from subledger.platform.db import Tx, is_transient
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import catalogue as plans
from subledger.services.billing.store import phases, subscriptions
from subledger.services.billing.store import plan_migrations as store
from subledger.services.billing.store.plan_migrations import Leaving
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import change
from subledger.services.billing.usecases.conditions import Conditions
from subledger.services.billing.usecases.plan_routes import (
    Amounts,
    Asked,
    Compared,
    Summary,
    Sums,
    Total,
    change_request,
    conditions_for,
    find_route,
    turn_of,
    why_not,
)
from subledger.services.billing.usecases.planned import Planned

BATCH = 25
"""Accounts locked at a time: a renewal waits for one batch at most."""
LISTED_AT_ONCE = 2_000
_MOST_DETAIL = 500

Trigger = Literal["paused", "resumed", "canceled", "finished"]
_TOLD: Mapping[str, str] = {
    "paused": events.PLAN_MIGRATION_PAUSED,
    "resumed": events.PLAN_MIGRATION_RESUMED,
    "canceled": events.PLAN_MIGRATION_CANCELED,
    "finished": events.PLAN_MIGRATION_FINISHED,
}
_log = structlog.get_logger()


async def start(
    tx: Tx, memory: TermsMemory, asked: Asked, *, migration_id: UUID, note: str | None,
    cause: UUID | None,
) -> None:  # fmt: skip
    """Begin to move a plan's subscriptions; the billing step does the rest.

    Raises Problem: unknown_reference, nothing_to_change, price_missing_for_currency (the target is
    sold in no currency of the versions left), plan_migration_open (another one moves subscriptions
    from or to one of the plans).
    """
    try:
        route = await find_route(tx, memory, asked)
    except Problem as refused:
        if refused.code != "not_found":
            raise
        raise Problem(
            problems.UNKNOWN_REFERENCE, pointer="/plan_id", detail=refused.detail
        ) from refused
    tenant, touched = asked.tenant_id, {asked.plan_id, route.target.plan_id}
    await plans.lock_plans(tx, [(tenant, each) for each in touched])
    other = await store.open_migration(tx, tenant, touched)
    if other is not None:
        raise Problem(
            problems.PLAN_MIGRATION_OPEN,
            detail=f"{ids.text('mig', other)} moves subscriptions of the plan and is not over.",
        )
    sold = {each.currency for each in route.target.prices}
    left = await store.currencies(tx, route.leaving)
    if not left & sold:
        raise Problem(
            problems.PRICE_MISSING, pointer="/to_plan_id",
            detail=f"The plan has no price in {', '.join(sorted(left))}.",
        )  # fmt: skip
    at = await tx.now(tenant)
    row = {
        "tenant_id": tenant,
        "id": migration_id,
        "plan_id": asked.plan_id,
        "from_version_id": route.leaving.version_id,
        "up_to_version": route.leaving.up_to_version,
        "to_plan_id": route.target.plan_id,
        "to_version_id": route.target.plan_version_id,
        "effective": asked.effective,
        "settle": asked.settle,
        "note": note,
        "status": "running",
        "subscriptions_found": 0,
        "last_listed_id": store.FIRST,
        "is_listed": False,
        "cause": cause,
        "created_at": at,
    }
    await store.insert_migrations(tx, [row])
    listed = await _list(tx, row, route.leaving)
    counts = dict.fromkeys(("changed", "scheduled", "skipped", "failed"), 0)
    told = row | listed | counts
    tx.emit([_event(events.PLAN_MIGRATION_STARTED, told, "running", at, cause)])


async def _list(tx: Tx, row: Mapping[str, Any], leaving: Leaving) -> dict[str, Any]:
    """Note the next 2,000 subscriptions that are to be moved, with the version they are on."""
    found = await store.living_on(tx, leaving, after=row["last_listed_id"], limit=LISTED_AT_ONCE)
    tenant, migration = row["tenant_id"], row["id"]
    await store.insert_pending(
        tx,
        [
            {
                "tenant_id": tenant,
                "migration_id": migration,
                "subscription_id": each.id,
                "outcome": "pending",
                "from_version_id": each.plan_version_id,
                "currency": each.currency,
            }
            for each in found
        ],
    )
    listed = {
        "subscriptions_found": row["subscriptions_found"] + len(found),
        "last_listed_id": found[-1].id if found else row["last_listed_id"],
        "is_listed": len(found) < LISTED_AT_ONCE,
    }
    await store.set_listed(tx, [{"tenant_id": tenant, "id": migration, **listed}])
    return listed


async def turn(
    tx: Tx, *, tenant_id: UUID, migration_id: UUID, trigger: Trigger, cause: UUID | None
) -> None:
    """Pause, resume or cancel; waits for the batch under way. What is done stays done, what is not
    is left alone. Raises not_found and plan_migration_status."""
    key = (tenant_id, migration_id)
    found = await store.lock_migrations(tx, [key])
    if key not in found:
        raise Problem("not_found", detail="There is no such migration.")
    try:
        await _turn(tx, found[key], trigger, cause)
    except IllegalTransition as refused:
        raise Problem(
            problems.PLAN_MIGRATION_STATUS, detail=f"The migration is {found[key].status}."
        ) from refused


async def _turn(tx: Tx, row: Row[Any], trigger: Trigger, cause: UUID | None) -> None:
    status, at = step(PLAN_MIGRATION, row.status, trigger), await tx.now(row.tenant_id)
    ended_at = at if trigger in {"canceled", "finished"} else None
    await store.set_statuses(
        tx,
        [{"tenant_id": row.tenant_id, "id": row.id, "status": status, "ended_at": ended_at}],
    )
    tx.emit([_event(_TOLD[trigger], row._asdict(), status, at, cause)])


def _event(
    type_: str, row: Mapping[str, Any], status: str, at: datetime, cause: UUID | None
) -> Event:
    """Facts of a migration belong to no account."""
    left = row["from_version_id"]
    return Event(
        type=type_,
        tenant_id=row["tenant_id"],
        subject=row["tenant_id"],
        data={
            "plan_migration_id": ids.text("mig", row["id"]),
            "plan_id": ids.text("plan", row["plan_id"]),
            "from_plan_version_id": None if left is None else ids.text("plv", left),
            "to_plan_id": ids.text("plan", row["to_plan_id"]),
            "to_plan_version_id": ids.text("plv", row["to_version_id"]),
            "at": row["effective"],
            "settle": row["settle"],
            "status": status,
            **{
                name: row[name]
                for name in ("subscriptions_found", "changed", "scheduled", "skipped", "failed")
            },
        },
        occurred_at=at,
        cause=cause,
    )


@dataclass(frozen=True, slots=True)
class _Batch:
    """What a batch was decided from; its accounts and subscriptions are locked."""

    migration: Row[Any]
    at: Mapping[Key, datetime]
    terms: Mapping[Key, PlanTerms]
    attached: Mapping[Key, list[Row[Any]]]
    scheduled: Mapping[Key, Row[Any]]
    amounts: Amounts
    conditions: Conditions

    def compare(self, row: Row[Any]) -> Compared:
        tenant = self.migration.tenant_id
        return self.amounts.compare(
            row,
            self.terms[tenant, row.plan_version_id],
            self.terms[tenant, self.migration.to_version_id],
            self.attached.get((tenant, row.id), ()),
            self.conditions,
        )


@dataclass(frozen=True, slots=True)
class _Result:
    """What became of one subscription."""

    row: Row[Any]
    outcome: Literal["changed", "scheduled", "skipped", "failed"]
    reason: tuple[str, str] | None = None
    compared: Compared | None = None
    planned: Planned | None = None

    @property
    def immediate_minor(self) -> int:
        draft = None if self.planned is None else self.planned.draft
        return 0 if draft is None else draft.total_minor


async def work(tx: Tx, memory: TermsMemory, migration: Row[Any], limit: int) -> int:
    """The next batch of a running migration that is locked; at least 1, its end counts too.

    Locks the batch's accounts in ascending order, then its subscriptions, as renewals do. A
    subscription that is refused, or fails, is noted with its reason; the others go on.
    """
    key = (migration.tenant_id, migration.id)
    if not migration.is_listed:
        listed = await _list(tx, migration._asdict(), _leaving(migration))
        await store.move_on(tx, key, {})
        return 1 + int(listed["subscriptions_found"]) - int(migration.subscriptions_found)
    pending = await store.pending(tx, key, min(limit, BATCH))
    if not pending:
        await _turn(tx, migration, "finished", migration.cause)
        return 1
    batch, rows = await _load(tx, memory, migration, pending)
    listed_on = {each.subscription_id: each.from_version_id for each in pending}
    results = []
    for row in rows:
        reason = (
            why_not(
                row,
                effective=migration.effective,
                has_scheduled=(row.tenant_id, row.id) in batch.scheduled,
            )
            if row.plan_version_id == listed_on[row.id]
            else ("version_left", "It was changed to another version meanwhile.")
        )
        results.append(
            await _change(tx, memory, batch, row)
            if reason is None
            else _Result(row, "skipped", reason)
        )
    await _save(tx, batch, results)
    return len(results)


def _leaving(migration: Row[Any]) -> Leaving:
    return Leaving(
        migration.tenant_id,
        migration.plan_id,
        migration.from_version_id,
        migration.up_to_version,
        migration.to_version_id,
    )


async def _load(
    tx: Tx, memory: TermsMemory, migration: Row[Any], pending: Sequence[Row[Any]]
) -> tuple[_Batch, Sequence[Row[Any]]]:
    tenant = migration.tenant_id
    accounts = await subscriptions.lock_accounts(tx, {(tenant, each.payer_id) for each in pending})
    keys = [(tenant, each.subscription_id) for each in pending]
    rows = await subscriptions.lock_subscriptions(tx, keys)
    versions = {migration.to_version_id, *(row.plan_version_id for row in rows)}
    terms = await memory.load(tx, {(tenant, each) for each in versions})
    batch = _Batch(
        migration=migration,
        at=await subscriptions.moments(tx, accounts, accounts),
        terms=terms,
        attached=await subscriptions.attached_discounts(tx, keys),
        scheduled=await phases.scheduled(tx, keys),
        amounts=Amounts(),
        conditions=await conditions_for(
            tx, memory, rows, terms, terms[tenant, migration.to_version_id]
        ),
    )
    return batch, rows


async def _change(tx: Tx, memory: TermsMemory, batch: _Batch, row: Row[Any]) -> _Result:
    """One subscription's change, wholly or not at all. What may succeed when the whole batch is
    tried again (a lost connection, a lock) is raised."""
    migration = batch.migration
    request = change_request(
        row.tenant_id,
        row.id,
        plan_id=migration.to_plan_id,
        plan_version_id=migration.to_version_id,
        effective=migration.effective,
        settle=migration.settle,
        cause=migration.cause,
    )
    try:
        async with tx.savepoint():
            compared = batch.compare(row)
            at = batch.at[row.tenant_id, row.payer_id]
            planned = await change.change_row(tx, memory, request, row, at)
    except (Problem, CoreError) as refused:
        return _Result(row, "failed", (refused.code, refused.detail[:_MOST_DETAIL]))
    except Exception as error:
        if is_transient(error):
            raise
        _log.error("plan_migration.failed", subscription=str(row.id), exc_info=error)
        return _Result(row, "failed", ("internal_error", type(error).__name__))
    outcome: Literal["scheduled", "changed"] = "scheduled" if planned.waits else "changed"
    return _Result(row, outcome, None, compared, planned)


async def _save(tx: Tx, batch: _Batch, results: Sequence[_Result]) -> None:
    key = (batch.migration.tenant_id, batch.migration.id)
    sums: dict[tuple[str, UUID], Sums] = {}
    for each in results:
        if each.compared is not None:
            group = (each.row.currency, each.row.plan_version_id)
            sums.setdefault(group, Sums()).add(each.compared, each.immediate_minor)
    await store.set_results(tx, [_result_row(key, batch, each) for each in results])
    await store.add_to_totals(
        tx,
        [
            {
                "tenant_id": key[0],
                "migration_id": key[1],
                "currency": currency,
                "from_version_id": version,
                **asdict(each),
            }
            for (currency, version), each in sorted(
                sums.items(), key=lambda pair: (pair[0][0], pair[0][1].bytes)
            )
        ],
    )
    await store.move_on(tx, key, Counter(each.outcome for each in results))


def _result_row(key: Key, batch: _Batch, each: _Result) -> dict[str, Any]:
    code, detail = each.reason or (None, None)
    done = each.compared is not None and each.planned is not None
    return {
        "tenant_id": key[0],
        "migration_id": key[1],
        "subscription_id": each.row.id,
        "outcome": each.outcome,
        "reason": code,
        "detail": detail,
        "effective_at": each.planned.effective_at if each.planned else None,
        "before_minor": each.compared.before_minor if each.compared else None,
        "after_minor": each.compared.after_minor if each.compared else None,
        "immediate_minor": each.immediate_minor if done else None,
        "recorded_at": batch.at[each.row.tenant_id, each.row.payer_id],
    }


async def totals(
    tx: Tx, memory: TermsMemory, migrations: Sequence[Row[Any]]
) -> dict[Key, list[Total]]:
    """What each migration has changed so far, by currency."""
    keys = [(row.tenant_id, row.id) for row in migrations]
    found = await store.totals(tx, keys)
    wanted = {(row.tenant_id, row.to_version_id) for row in migrations}
    wanted |= {(each.tenant_id, each.from_version_id) for rows in found.values() for each in rows}
    terms = await memory.load(tx, wanted)
    summed = {}
    for row in migrations:
        summary = Summary()
        for each in found.get((row.tenant_id, row.id), ()):
            before, after = (
                turn_of(terms[row.tenant_id, version], each.currency)
                for version in (each.from_version_id, row.to_version_id)
            )
            sums = summary.of(each.currency, before, after)
            for name in Sums.__slots__:
                setattr(sums, name, getattr(sums, name) + int(getattr(each, name)))
        summed[row.tenant_id, row.id] = summary.totals()
    return summed
