"""Billing's own steps: announce what is due, release revenue, roll up the ledger's days, move
subscriptions to another version of their plan."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import DUE_READER, Database, Tx, story
from subledger.platform.due import Due
from subledger.services.billing.store import (
    holds,
    invoices,
    plan_migrations,
    postings,
    recognition,
    subscriptions,
)
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import migrate_plans
from subledger.services.billing.usecases.release import release

_ANNOUNCE = story("billing.announce_due")
_ROLL_UP = story("billing.roll_up")
_MIGRATE = story("billing.migrate_plans")
_RELEASE = story("billing.release_revenue")
_LET_GO = story("billing.let_go_holds")

_COMMANDS = {
    subscriptions.RENEWAL: events.RENEW_REQUIRED,
    subscriptions.CANCELLATION: events.CANCEL_REQUIRED,
    subscriptions.CHANGE: events.CHANGE_REQUIRED,
    subscriptions.EXPIRY: events.EXPIRY_REQUIRED,
    subscriptions.PAUSE: events.PAUSE_RESUME_REQUIRED,
    invoices.FINALIZATION: events.INVOICE_FINALIZE_REQUIRED,
    invoices.DUE: events.INVOICE_COLLECT_REQUIRED,
    subscriptions.REMINDER: events.TRIAL_REMINDER_REQUIRED,
}
_INVOICES = {invoices.FINALIZATION, invoices.DUE}
"""Due moments of invoices; all others are of subscriptions."""


async def _without_held(tx: Tx, claimed: Sequence[Due]) -> list[Due]:
    """The claimed rows that may be announced now; the others are set aside."""
    held = await holds.holds(tx, holds.RENEWALS, {row.tenant_id for row in claimed})
    if not held:
        return list(claimed)
    followed = await holds.followed(
        tx, ((row.tenant_id, row.id) for row in claimed if row.tenant_id in held)
    )
    aside = [
        row
        for row in claimed
        if (row.tenant_id, row.id) in followed
        or (row.kind == subscriptions.RENEWAL and held.get(row.tenant_id, False))
    ]
    await subscriptions.due.set_aside(tx, [(row.tenant_id, row.kind, row.id) for row in aside])
    gone = {(row.tenant_id, row.kind, row.id) for row in aside}
    return [row for row in claimed if (row.tenant_id, row.kind, row.id) not in gone]


class Jobs:
    """Steps on billing's database."""

    def __init__(self, database: Database, memory: TermsMemory) -> None:
        self._database = database
        self._memory = memory

    async def announce_due(self, limit: int) -> int:
        """Claim due rows and tell what they require, in one transaction; returns how many.

        What a stopped job is to do is set aside instead, and so is what comes after it for the
        same subscription: it goes on in its order when the job does.
        """
        async with self._database.transaction(_ANNOUNCE) as tx:
            claimed = await subscriptions.due.claim(tx, limit)
            if not claimed:
                return 0
            rows = await _without_held(tx, claimed)
            clocks = await tx.clocks({row.tenant_id for row in rows})
            tx.emit(
                Event(
                    type=_COMMANDS[row.kind],
                    tenant_id=row.tenant_id,
                    subject=row.account_id,
                    data={
                        **_named(row),
                        "customer_id": ids.text("cus", row.account_id),
                        "due_at": row.due_at.isoformat(),
                    },
                    occurred_at=clocks[row.tenant_id],
                )
                for row in rows
            )
            return len(claimed)

    async def let_go_holds(self, limit: int) -> int:
        """Make due again what jobs that are not stopped any more had set aside, at most ``limit``
        rows of each tenant, the earliest first; returns how many."""
        async with self._database.transaction(_LET_GO) as tx:
            found = await holds.let_go(tx, limit)
            if not found:
                return 0
            tx.use_tenants({tenant for tenant, _ in found})
            return sum([await holds.take_back(tx, tenant, job, limit) for tenant, job in found])

    async def release_revenue(self, limit: int) -> int:
        """Release what was delivered, of at most ``limit`` tenants; how many got on."""
        async with self._database.transaction(_RELEASE) as tx:
            keys = await recognition.due_policies(tx, limit)
            if not keys:
                return 0
            tx.use_tenants({tenant for tenant, _ in keys})
            return await release(tx, keys)

    async def roll_up(self, limit: int) -> int:
        """Sum whole past days (UTC, by ``recorded_at``) of the ledger, at most ``limit`` tenants.

        A day is summed once it is a quarter of an hour over: no transaction lives that long.
        """
        async with self._database.transaction(_ROLL_UP) as tx:
            async with tx.reading_as(DUE_READER):
                tenants = await postings.all_tenants(tx)
            done = 0
            for start in range(0, len(tenants), limit):
                part = tenants[start : start + limit]
                tx.use_tenants(part)
                done += await postings.roll_up(tx, part)
            return done

    async def migrate_plans(self, limit: int) -> int:
        """One batch of one running plan migration, the one that waited longest; tells how much was
        done, 0 only if none runs (or other processes work on all that do)."""
        async with self._database.transaction(_MIGRATE) as tx:
            migration = await plan_migrations.claim(tx)
            if migration is None:
                return 0
            return await migrate_plans.work(tx, self._memory, migration, limit)


def _named(row: Due) -> dict[str, str]:
    if row.kind in _INVOICES:
        return {"invoice_id": ids.text("inv", row.id)}
    return {"subscription_id": ids.text("sub", row.id)}
