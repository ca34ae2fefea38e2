"""Billing, built from its dependencies."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.contracts.calls import Call
from subledger.contracts.checkouts import Checkouts
from subledger.contracts.collections import Reservation, ReserveRequest
from subledger.platform.db import Database, Tx, story
from subledger.platform.eventlog.consumer import Consumer
from subledger.platform.service import Service, Step
from subledger.services.billing import consumers
from subledger.services.billing.http import routers
from subledger.services.billing.invariants import INVARIANTS, QUIET, WAITS
from subledger.services.billing.jobs import Jobs
from subledger.services.billing.store import holds, plan_migrations, recognition, subscriptions
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import migrate_plans, reserve

_RESERVE = story("billing.reserve_collections")


class Collections:
    """Billing's answer to ``contracts.collections``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve_collections(
        self, call: Call, requests: Sequence[ReserveRequest]
    ) -> Sequence[Reservation]:
        """Reserve invoices of one tenant, in one transaction."""

        async def work(tx: Tx) -> list[Reservation]:
            return await reserve.reserve(tx, call.tenant_id, requests)

        return await self._database.transact(_RESERVE, work, tenants=[call.tenant_id])


def build(*, database: Database, checkouts: Checkouts) -> Service:
    """The service. ``attributes["collections"]`` answers payments; ``attributes["announce"]`` is
    the step that the scheduler runs under billing's own role."""
    memory = TermsMemory()
    jobs = Jobs(database, memory)
    return Service(
        name="billing",
        database=database,
        routers=routers(database, checkouts, memory),
        consumers=[Consumer(database, consumers.group(memory))],
        steps=[
            Step("billing.let_go_holds", jobs.let_go_holds, types=frozenset({holds.LET_GO})),
            Step(
                "billing.release_revenue",
                jobs.release_revenue,
                limit=20,
                pause_s=1.0,
                types=frozenset({recognition.LATE}),
                by_clock=True,
            ),
            Step("billing.roll_up", jobs.roll_up, limit=100, pause_s=300),
            Step(
                "billing.migrate_plans",
                jobs.migrate_plans,
                limit=migrate_plans.BATCH,
                pause_s=1,
                types=frozenset({plan_migrations.RUNNING}),
            ),
        ],
        due="billing",
        quiet=QUIET,
        waits=WAITS,
        invariants=INVARIANTS,
        attributes={
            "collections": Collections(database),
            "announce": Step(
                "billing.announce_due",
                jobs.announce_due,
                types=frozenset({subscriptions.due.work}),
                by_clock=True,
            ),
        },
    )
