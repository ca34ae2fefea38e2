"""The guard against mass mistakes: forecast, limits, parks, kill switches, and their history."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.fields import Timestamp
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http.paging import before_id, id_key
from subledger.services.billing.http.stories import READ, SET_GUARD
from subledger.services.billing.schemas.guard import (
    BillingForecast,
    BillingLimit,
    BillingLimits,
    BillingLimitsNew,
    BillingPark,
    GuardChange,
    Job,
    KillSwitch,
    KillSwitches,
    ReleaseJob,
    SwitchNew,
)
from subledger.services.billing.schemas.references import ParkId
from subledger.services.billing.store import guard as store
from subledger.services.billing.store import holds
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import controls, forecast, unpark

_TAG = "Guard"
_CHANGES = "grc"
"""The prefix of cursors in the list of changes, which show no ids."""


def routers(database: Database, keys: Keys, memory: TermsMemory) -> list[APIRouter]:
    """``/v1/billing-forecast``, ``-limits``, ``-parks``, ``-guard-changes``, and kill switches."""
    routes = APIRouter(prefix="/v1", tags=[_TAG])
    _add_forecast(routes, database, memory)
    _add_limits(routes, database, keys)
    _add_parks(routes, database)
    _add_release(routes, database, keys)
    _add_switches(routes, database, keys)
    _add_changes(routes, database)
    return [routes]


def _add_forecast(routes: APIRouter, database: Database, memory: TermsMemory) -> None:
    @routes.get(
        "/billing-forecast",
        response_model=BillingForecast,
        summary="Forecast what will be billed",
        description="What the renewals due until then would bill, computed as they will be and not"
        " saved: by currency and UTC day, beside the tenant's limits, what the day has billed"
        " already, and as long a span before. Start days and ends of trials in the span are in it;"
        " `left_out` names what is not. At most 10,000 subscriptions are computed.",
        responses={**problems("invalid_request")},
    )
    async def get_billing_forecast(
        caller: CallerRead,
        until: Annotated[
            Timestamp | None,
            Query(description="At most 400 days after the tenant's clock; 24 hours, if null."),
        ] = None,
    ) -> BillingForecast:
        async with database.transaction(
            READ, tenants=[caller.tenant_id], repeatable_read=True
        ) as tx:
            found = await forecast.forecast(tx, memory, tenant_id=caller.tenant_id, until=until)
        return BillingForecast.of(found)


async def _load_limits(tx: Tx, tenant_id: UUID) -> BillingLimits:
    return BillingLimits(
        limits=[BillingLimit.of(row) for row in await store.limits(tx, [tenant_id])]
    )


def _add_limits(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.get(
        "/billing-limits",
        response_model=BillingLimits,
        summary="Get the billing limits",
        description="What a renewal and a day of renewals may bill before a person has to look. A"
        " new tenant has no limits.",
        responses={**problems()},
    )
    async def get_billing_limits(caller: CallerRead) -> BillingLimits:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _load_limits(tx, caller.tenant_id)

    @routes.put(
        "/billing-limits",
        response_model=BillingLimits,
        summary="Set the billing limits",
        description="Replaces all limits. A renewal above `largest_minor` parks its subscription;"
        " renewals with which the UTC day (of the tenant's clock) would go beyond its total, count"
        " or average park the whole job: nothing more is billed until a person releases it."
        " Purchases and changes count in the day's sums and are refused above `largest_minor`;"
        " the other limits do not stop them, nor the last invoice of a subscription that ends.",
        responses={**problems("invalid_request", "forbidden")},
    )
    async def put_billing_limits(
        body: BillingLimitsNew, caller: CallerAdmin, response: Response
    ) -> BillingLimits:
        async def work(tx: Tx, _: UUID) -> BillingLimits:
            await controls.set_limits(
                tx,
                tenant_id=caller.tenant_id,
                limits=body.by_currency(),
                reason=body.reason,
                by=caller.principal.id,
                cause=caller.request_id,
            )
            return await _load_limits(tx, caller.tenant_id)

        async def again(tx: Tx, _: UUID) -> BillingLimits:
            return await _load_limits(tx, caller.tenant_id)

        answered = await keys.run(
            database,
            SET_GUARD,
            caller,
            operation="billing_limits.set",
            body=body,
            work=work,
            load=again,
            new_id=caller.tenant_id,
        )
        return replayed(response, answered)


async def _load_park(tx: Tx, tenant_id: UUID, park_id: UUID) -> BillingPark:
    found = await store.park(tx, tenant_id, park_id)
    if found is None:
        raise Problem("not_found", detail="There is no such park.")
    return BillingPark.of(found)


def _add_parks(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "/billing-parks",
        response_model=Page[BillingPark],
        summary="List parked jobs",
        description="Jobs that a limit stopped, newest first, released ones too.",
        responses={**problems("invalid_request")},
    )
    async def list_billing_parks(caller: CallerRead, query: PageQuery) -> Page[BillingPark]:
        before = before_id(query, "park")
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.list_parks(
                tx, caller.tenant_id, before=before, limit=query.limit + 1
            )
        found = page(rows, query, key=lambda row: id_key(row, "park"))
        return Page(
            data=[BillingPark.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )

    @routes.get(
        "/billing-parks/{park_id}",
        response_model=BillingPark,
        summary="Get a parked job",
        description="Why a job was stopped, by which figures, and who released it.",
        responses={**problems("not_found")},
    )
    async def get_billing_park(park_id: ParkId, caller: CallerRead) -> BillingPark:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _load_park(tx, caller.tenant_id, park_id)


def _add_release(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/billing-parks/{park_id}/release",
        response_model=BillingPark,
        summary="Release a parked job",
        description="What is due is billed at once, each once, under the tenant's limits or, for"
        " the present UTC day, under `limits_today`; beyond them the job parks again. Closes the"
        " park's work item; keeps who released it and why.",
        responses={
            **problems("not_found", "billing_park_released", "invalid_request", "forbidden")
        },
    )
    async def release_billing_park(
        park_id: ParkId, body: ReleaseJob, caller: CallerAdmin, response: Response
    ) -> BillingPark:
        async def work(tx: Tx, _: UUID) -> BillingPark:
            await unpark.release_job(
                tx,
                tenant_id=caller.tenant_id,
                park_id=park_id,
                limits_today=body.by_currency(),
                reason=body.reason,
                by=caller.principal.id,
                cause=caller.request_id,
            )
            return await _load_park(tx, caller.tenant_id, park_id)

        async def again(tx: Tx, _: UUID) -> BillingPark:
            return await _load_park(tx, caller.tenant_id, park_id)

        answered = await keys.run(
            database,
            SET_GUARD,
            caller,
            operation="billing_parks.release",
            body=body,
            work=work,
            load=again,
            new_id=park_id,
        )
        return replayed(response, answered)


async def _load_switches(tx: Tx, tenant_id: UUID) -> KillSwitches:
    return KillSwitches.of(await holds.listed(tx, tenant_id))


def _add_switches(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.get(
        "/kill-switches",
        response_model=KillSwitches,
        summary="List the kill switches",
        description="Which jobs of the tenant are stopped, by whom and why.",
        responses={**problems()},
    )
    async def list_kill_switches(caller: CallerRead) -> KillSwitches:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _load_switches(tx, caller.tenant_id)

    @routes.put(
        "/kill-switches/{job}",
        response_model=KillSwitch,
        summary="Set a kill switch",
        description="Stops a job of the tenant, or lets it go on. `renewals`: no batch is billed"
        " any more, what is due waits in its order. `collections`: no saved method is charged"
        " automatically, attempts wait; payments that a person makes go on. `dunning`: no failed"
        " charge is tried again, and no invoice is written off or subscription ended for it."
        " Nothing is lost, and nothing is done twice when it goes on. A switch that stands so"
        " already changes nothing.",
        responses={**problems("invalid_request", "forbidden")},
    )
    async def put_kill_switch(
        job: Job, body: SwitchNew, caller: CallerAdmin, response: Response
    ) -> KillSwitch:
        async def work(tx: Tx, _: UUID) -> KillSwitch:
            await controls.set_switch(
                tx,
                tenant_id=caller.tenant_id,
                job=job,
                on=body.on,
                source=holds.TENANT,
                reason=body.reason,
                by=caller.principal.id,
                cause=caller.request_id,
            )
            return (await _load_switches(tx, caller.tenant_id)).one(job)

        async def again(tx: Tx, _: UUID) -> KillSwitch:
            return (await _load_switches(tx, caller.tenant_id)).one(job)

        answered = await keys.run(
            database,
            SET_GUARD,
            caller,
            operation="kill_switches.set",
            body=body,
            work=work,
            load=again,
            new_id=caller.tenant_id,
        )
        return replayed(response, answered)


def _add_changes(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "/billing-guard-changes",
        response_model=Page[GuardChange],
        summary="List changes of the guard",
        description="Who set limits and switches and released what, when and why; newest first.",
        responses={**problems("invalid_request")},
    )
    async def list_guard_changes(caller: CallerRead, query: PageQuery) -> Page[GuardChange]:
        before = before_id(query, _CHANGES)
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.list_changes(
                tx, caller.tenant_id, before=before, limit=query.limit + 1
            )
        found = page(rows, query, key=lambda row: id_key(row, _CHANGES))
        return Page(
            data=[GuardChange.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )
