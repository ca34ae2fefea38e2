"""Billing, built from its dependencies."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from subledger.contracts.books import ClearingBalance
from subledger.contracts.calls import Call
from subledger.contracts.checkouts import Checkouts
from subledger.contracts.collections import DueInvoice, Reservation, ReserveRequest
from subledger.contracts.refunds import RefundGrant, RefundRequest
from subledger.contracts.repairs import Repairs
from subledger.platform.db import Database, Tx, story
from subledger.platform.eventlog.consumer import Consumer
from subledger.platform.service import Service, Step
from subledger.services.billing import consumers
from subledger.services.billing.http import routers
from subledger.services.billing.invariants import INVARIANTS, QUIET, WAITS
from subledger.services.billing.jobs import Jobs
from subledger.services.billing.store import (
    catalogue,
    holds,
    plan_migrations,
    recognition,
    subscriptions,
)
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import migrate_plans, refunds, reserve
from subledger.services.billing.usecases.trial_balance import clearing

_RESERVE = story("billing.reserve_collections")
_DUE = story("billing.due_invoices", reads=True)
_GRANT = story("billing.grant_refunds")
_PREVIEW = story("billing.preview_refunds", reads=True)
_BOOKS = story("billing.read_books", reads=True)
_LOOK_UP = story("billing.look_up_catalogue", reads=True)


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

    async def due_invoices(self, call: Call, invoice_ids: Sequence[UUID]) -> Sequence[DueInvoice]:
        """What is open of the invoices now."""

        async def read(tx: Tx) -> list[DueInvoice]:
            return await reserve.due(tx, call.tenant_id, invoice_ids)

        return await self._database.transact(_DUE, read, tenants=[call.tenant_id])


class Refunds:
    """Billing's answer to ``contracts.refunds``."""

    def __init__(self, database: Database, memory: TermsMemory) -> None:
        self._database = database
        self._memory = memory

    async def grant_refunds(
        self, call: Call, requests: Sequence[RefundRequest]
    ) -> Sequence[RefundGrant]:
        """Grant refunds of one tenant, in one transaction."""

        async def work(tx: Tx) -> list[RefundGrant]:
            return await refunds.grant(tx, self._memory, call.tenant_id, requests, cause=call.cause)

        return await self._database.transact(_GRANT, work, tenants=[call.tenant_id])

    async def preview_refunds(
        self, call: Call, requests: Sequence[RefundRequest]
    ) -> Sequence[RefundGrant]:
        """What granting them would answer, without a trace."""

        async def read(tx: Tx) -> list[RefundGrant]:
            return await refunds.preview(tx, call.tenant_id, requests)

        return await self._database.transact(_PREVIEW, read, tenants=[call.tenant_id])


class Books:
    """Billing's answer to ``contracts.books``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def clearing(self, call: Call, connection_id: UUID) -> Sequence[ClearingBalance]:
        """What is booked as held by the connection's provider now."""
        async with self._database.transaction(
            _BOOKS, tenants=[call.tenant_id], repeatable_read=True
        ) as tx:
            return await clearing(tx, tenant_id=call.tenant_id, connection_id=connection_id)


class Catalogues:
    """Billing's answer to ``contracts.catalogues``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unknown_plans(self, call: Call, plan_ids: Sequence[UUID]) -> Sequence[UUID]:
        """Those of the ids that name no plan."""
        keys = [(call.tenant_id, each) for each in plan_ids]

        async def read(tx: Tx) -> list[UUID]:
            found = await subscriptions.latest_versions(tx, keys)
            return [each for tenant, each in keys if (tenant, each) not in found]

        return await self._database.transact(_LOOK_UP, read, tenants=[call.tenant_id])

    async def unknown_products(self, call: Call, product_ids: Sequence[UUID]) -> Sequence[UUID]:
        """Those of the ids that name no product."""
        keys = [(call.tenant_id, each) for each in product_ids]

        async def read(tx: Tx) -> list[UUID]:
            found = await catalogue.products(tx, keys)
            return [each for tenant, each in keys if (tenant, each) not in found]

        return await self._database.transact(_LOOK_UP, read, tenants=[call.tenant_id])


def build(*, database: Database, checkouts: Checkouts, repairs: Repairs) -> Service:
    """The service. ``attributes["collections"]``, ``attributes["refunds"]`` and
    ``attributes["books"]`` answer payments, ``attributes["catalogues"]`` the scheduler;
    ``attributes["announce"]`` is the step that it runs under billing's own role."""
    memory = TermsMemory()
    jobs = Jobs(database, memory)
    return Service(
        name="billing",
        database=database,
        routers=routers(database, checkouts, repairs, memory),
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
            "refunds": Refunds(database, memory),
            "books": Books(database),
            "catalogues": Catalogues(database),
            "announce": Step(
                "billing.announce_due",
                jobs.announce_due,
                types=frozenset({subscriptions.due.work}),
            ),
        },
    )
