"""Changes of a whole plan: see before what they do, then move its subscriptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from subledger.platform import ids
from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import Caller, CallerAdmin, CallerRead
from subledger.platform.http.fields import Strict
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http.paging import after_id, before_id, id_key
from subledger.services.billing.http.stories import READ, SAVE_CATALOGUE
from subledger.services.billing.schemas.plan_migrations import (
    ForeseenChange,
    MigrationResult,
    Outcome,
    PlanChangeNew,
    PlanChangePreview,
    PlanMigration,
    PlanMigrationNew,
    PlanTotal,
    ReasonCount,
)
from subledger.services.billing.schemas.references import PlanId, PlanMigrationId
from subledger.services.billing.store import plan_migrations as store
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import migrate_plans
from subledger.services.billing.usecases.plan_preview import preview_plan
from subledger.services.billing.usecases.plan_routes import Asked

_Do = Callable[[Tx, UUID], Awaitable[None]]
OutcomeFilter = Annotated[Outcome | None, Query(description="Only those with this outcome.")]


def routers(database: Database, memory: TermsMemory, keys: Keys) -> list[APIRouter]:
    """``/v1/plans/{id}/preview-change`` and ``/v1/plan-migrations``."""
    plans = APIRouter(prefix="/v1/plans", tags=["Plans"])
    migrations = APIRouter(prefix="/v1/plan-migrations", tags=["Plan migrations"])
    _add_preview(plans, database, memory)
    _add_start(migrations, _Writes(database, memory, keys))
    _add_turns(migrations, _Writes(database, memory, keys))
    _add_reads(migrations, database, memory)
    return [plans, migrations]


async def load(tx: Tx, memory: TermsMemory, tenant_id: UUID, migration_id: UUID) -> PlanMigration:
    """Raises not_found."""
    key = (tenant_id, migration_id)
    found = await store.migrations(tx, [key])
    if key not in found:
        raise Problem("not_found", detail="There is no such migration.")
    return PlanMigration.of(found[key], (await migrate_plans.totals(tx, memory, [found[key]]))[key])


@dataclass(frozen=True, slots=True)
class _Writes:
    """Each write takes an idempotency key and answers the migration as it is afterwards."""

    database: Database
    memory: TermsMemory
    keys: Keys

    async def run(
        self, caller: Caller, response: Response, name: str, body: Strict | None, do: _Do,
        migration_id: UUID | None = None,
    ) -> PlanMigration:  # fmt: skip
        async def again(tx: Tx, given: UUID) -> PlanMigration:
            return await load(tx, self.memory, caller.tenant_id, given)

        async def work(tx: Tx, given: UUID) -> PlanMigration:
            await do(tx, given)
            return await again(tx, given)

        answered = await self.keys.run(
            self.database,
            SAVE_CATALOGUE,
            caller,
            operation=f"plan_migrations.{name}",
            body=body,
            work=work,
            load=again,
            new_id=migration_id,
        )
        return replayed(response, answered)


def _add_preview(routes: APIRouter, database: Database, memory: TermsMemory) -> None:
    @routes.post(
        "/{plan_id}/preview-change",
        response_model=PlanChangePreview,
        summary="Preview a change of all subscriptions of a plan",
        description="Who would pay what, now and then, if the plan's subscriptions moved to"
        " another version, of this plan or of another one, or to prices that are only thought of:"
        " sums by currency with the difference in monthly recurring revenue, and one page of"
        " subscriptions, each computed by its change itself. Nothing is saved.",
        responses={
            **problems(
                "not_found",
                "unknown_reference",
                "nothing_to_change",
                "mixed_intervals",
                "duplicate_price",
                "invalid_request",
            )
        },
    )
    async def preview_plan_change(
        plan_id: PlanId, body: PlanChangeNew, caller: CallerRead, query: PageQuery
    ) -> PlanChangePreview:
        asked = Asked(
            tenant_id=caller.tenant_id,
            plan_id=plan_id,
            from_version=body.from_version,
            to_plan_id=body.to_plan_id,
            to_version=body.to_version,
            effective=body.at,
            settle=body.settle,
            prices=None if body.prices is None else [each.new() for each in body.prices],
        )
        after = after_id(query, "sub")
        async with database.transaction(
            READ, tenants=[caller.tenant_id], repeatable_read=True
        ) as tx:
            found = await preview_plan(tx, memory, asked, after=after, limit=query.limit + 1)
        shown = page(found.page, query, key=lambda each: id_key(each.row, "sub"))
        return PlanChangePreview(
            plan_id=plan_id,
            to_plan_id=found.route.target.plan_id,
            to_version=found.route.to_version,
            at=body.at,
            settle=body.settle,
            subscriptions=found.subscriptions,
            is_complete=found.is_complete,
            totals=[PlanTotal.of(each) for each in found.totals],
            cannot_change=[
                ReasonCount(code=code, subscriptions=count) for code, count in found.reasons.items()
            ],
            data=[ForeseenChange.of(each) for each in shown.data],
            has_more=shown.has_more,
            next_cursor=shown.next_cursor,
        )


def _add_start(routes: APIRouter, writes: _Writes) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=PlanMigration,
        summary="Move a plan's subscriptions to another version",
        description="Each subscription that is on the versions left when it starts gets a change of"
        " its own, in the background: with `period_end` it is scheduled, with `now` made and"
        " billed. By default nobody is moved by a new version; this moves them. What a person"
        " decided for a subscription stays: one that waits for another change, or that was changed"
        " meanwhile, is skipped. See before by `POST /v1/plans/{id}/preview-change`.",
        responses={
            **problems(
                "unknown_reference",
                "nothing_to_change",
                "price_missing_for_currency",
                "plan_migration_open",
                "invalid_request",
                "forbidden",
            )
        },
    )
    async def start_plan_migration(
        body: PlanMigrationNew, caller: CallerAdmin, response: Response
    ) -> PlanMigration:
        asked = Asked(
            tenant_id=caller.tenant_id,
            plan_id=body.plan_id,
            from_version=body.from_version,
            to_plan_id=body.to_plan_id,
            to_version=body.to_version,
            effective=body.at,
            settle=body.settle,
        )

        async def do(tx: Tx, migration_id: UUID) -> None:
            await migrate_plans.start(
                tx,
                writes.memory,
                asked,
                migration_id=migration_id,
                note=body.note,
                cause=caller.request_id,
            )

        return await writes.run(caller, response, "start", body, do)


def _add_turns(routes: APIRouter, writes: _Writes) -> None:
    async def turn(
        caller: Caller, response: Response, migration_id: UUID, name: str,
        trigger: migrate_plans.Trigger,
    ) -> PlanMigration:  # fmt: skip
        async def do(tx: Tx, _: UUID) -> None:
            await migrate_plans.turn(
                tx,
                tenant_id=caller.tenant_id,
                migration_id=migration_id,
                trigger=trigger,
                cause=caller.request_id,
            )

        return await writes.run(caller, response, name, None, do, migration_id)

    refusals = {**problems("not_found", "plan_migration_status", "forbidden")}

    @routes.post(
        "/{migration_id}/pause",
        response_model=PlanMigration,
        summary="Pause a plan migration",
        description="Waits for the batch under way; what is pending waits until it is resumed.",
        responses=refusals,
    )
    async def pause_plan_migration(
        migration_id: PlanMigrationId, caller: CallerAdmin, response: Response
    ) -> PlanMigration:
        return await turn(caller, response, migration_id, "pause", "paused")

    @routes.post(
        "/{migration_id}/resume",
        response_model=PlanMigration,
        summary="Resume a plan migration",
        description="It goes on where it was paused.",
        responses=refusals,
    )
    async def resume_plan_migration(
        migration_id: PlanMigrationId, caller: CallerAdmin, response: Response
    ) -> PlanMigration:
        return await turn(caller, response, migration_id, "resume", "resumed")

    @routes.post(
        "/{migration_id}/cancel",
        response_model=PlanMigration,
        summary="Cancel a plan migration",
        description="What is pending is left alone. What was changed stays changed; what was"
        " scheduled stays scheduled and can be taken back by"
        " `POST /v1/subscriptions/{id}/undo-change`.",
        responses=refusals,
    )
    async def cancel_plan_migration(
        migration_id: PlanMigrationId, caller: CallerAdmin, response: Response
    ) -> PlanMigration:
        return await turn(caller, response, migration_id, "cancel", "canceled")


def _add_reads(routes: APIRouter, database: Database, memory: TermsMemory) -> None:
    @routes.get(
        "",
        response_model=Page[PlanMigration],
        summary="List plan migrations",
        description="Newest first.",
        responses={**problems("invalid_request")},
    )
    async def list_plan_migrations(caller: CallerRead, query: PageQuery) -> Page[PlanMigration]:
        before = before_id(query, "mig")
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.list_migrations(
                tx, caller.tenant_id, before=before, limit=query.limit + 1
            )
            found = page(rows, query, key=lambda row: id_key(row, "mig"))
            totals = await migrate_plans.totals(tx, memory, found.data)
        return Page(
            data=[PlanMigration.of(row, totals[row.tenant_id, row.id]) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )

    @routes.get(
        "/{migration_id}",
        response_model=PlanMigration,
        summary="Get a plan migration",
        description="How far it has come, and what it has changed so far.",
        responses={**problems("not_found")},
    )
    async def get_plan_migration(
        migration_id: PlanMigrationId, caller: CallerRead
    ) -> PlanMigration:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await load(tx, memory, caller.tenant_id, migration_id)

    @routes.get(
        "/{migration_id}/results",
        response_model=Page[MigrationResult],
        summary="List what became of each subscription",
        description="By subscription, oldest first; of one outcome, or all.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def list_plan_migration_results(
        migration_id: PlanMigrationId,
        caller: CallerRead,
        query: PageQuery,
        outcome: OutcomeFilter = None,
    ) -> Page[MigrationResult]:
        after, key = after_id(query, "sub"), (caller.tenant_id, migration_id)
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            await load(tx, memory, *key)
            rows = await store.list_results(
                tx, key, outcome=outcome, after=after, limit=query.limit + 1
            )
        found = page(rows, query, key=lambda row: (ids.text("sub", row.subscription_id),))
        return Page(
            data=[MigrationResult.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )
