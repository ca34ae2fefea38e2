"""Discounts of the catalogue, and how discounts stack."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.fields import Code
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http.paging import before_id, id_key
from subledger.services.billing.http.stories import READ, SAVE_CATALOGUE
from subledger.services.billing.schemas.discounts import Discount, DiscountNew, DiscountSettings
from subledger.services.billing.schemas.references import DiscountId
from subledger.services.billing.store import discounts as store
from subledger.services.billing.usecases import discounts


async def load(tx: Tx, tenant_id: UUID, discount_id: UUID) -> Discount:
    """Raises not_found."""
    found = await store.discounts(tx, [(tenant_id, discount_id)])
    if not found:
        raise Problem("not_found", detail="There is no such discount.")
    return Discount.of(found[tenant_id, discount_id])


def routers(database: Database, keys: Keys) -> list[APIRouter]:
    """``/v1/discounts``, ``/v1/discount-settings``."""
    routes = APIRouter(prefix="/v1/discounts", tags=["Discounts"])
    settings = APIRouter(prefix="/v1/discount-settings", tags=["Discounts"])
    _add_create(routes, database, keys)
    _add_archive(routes, database, keys)
    _add_reads(routes, database)
    _add_settings(settings, database)
    return [routes, settings]


def _add_create(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=Discount,
        summary="Create a discount",
        description="A percentage, a fixed amount, or free units: once, for some periods, months or"
        " until a date, or for ever; of the whole invoice, or of the prices, plans and products"
        " that `applies_to` names.",
        responses={
            **problems("code_taken", "unknown_reference", "invalid_request", "forbidden"),
        },
    )
    async def create_discount(
        body: DiscountNew, caller: CallerAdmin, response: Response
    ) -> Discount:
        async def work(tx: Tx, discount_id: UUID) -> Discount:
            new = body.new(caller.tenant_id, discount_id)
            await discounts.create_discount(tx, new, cause=caller.request_id)
            return await load(tx, caller.tenant_id, discount_id)

        async def again(tx: Tx, discount_id: UUID) -> Discount:
            return await load(tx, caller.tenant_id, discount_id)

        answered = await keys.run(
            database,
            SAVE_CATALOGUE,
            caller,
            operation="discounts.create",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)


def _add_archive(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/{discount_id}/archive",
        response_model=Discount,
        summary="Archive a discount",
        description="It is attached to nothing new: not by id, nor by a promo code, nor to new"
        " subscriptions of customers who have it. Where it is attached it goes on.",
        responses={**problems("not_found", "forbidden")},
    )
    async def archive_discount(
        discount_id: DiscountId, caller: CallerAdmin, response: Response
    ) -> Discount:
        async def work(tx: Tx, _: UUID) -> Discount:
            await discounts.archive_discount(
                tx, tenant_id=caller.tenant_id, discount_id=discount_id, cause=caller.request_id
            )
            return await load(tx, caller.tenant_id, discount_id)

        async def again(tx: Tx, _: UUID) -> Discount:
            return await load(tx, caller.tenant_id, discount_id)

        answered = await keys.run(
            database,
            SAVE_CATALOGUE,
            caller,
            operation="discounts.archive",
            body=None,
            work=work,
            load=again,
            new_id=discount_id,
        )
        return replayed(response, answered)


def _add_reads(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[Discount],
        summary="List discounts",
        description="Newest first, archived ones too.",
        responses={**problems("invalid_request")},
    )
    async def list_discounts(
        caller: CallerRead,
        query: PageQuery,
        code: Annotated[Code | None, Query(description="Only the one with this code.")] = None,
    ) -> Page[Discount]:
        before = before_id(query, "disc")
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.list_discounts(
                tx, caller.tenant_id, code=code, before=before, limit=query.limit + 1
            )
        found = page(rows, query, key=lambda row: id_key(row, "disc"))
        return Page(
            data=[Discount.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )

    @routes.get(
        "/{discount_id}",
        response_model=Discount,
        summary="Get a discount",
        description="A discount of the catalogue.",
        responses={**problems("not_found")},
    )
    async def get_discount(discount_id: DiscountId, caller: CallerRead) -> Discount:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await load(tx, caller.tenant_id, discount_id)


def _add_settings(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=DiscountSettings,
        summary="Get the discount settings",
        description="How your tenant's discounts stack; the defaults (`percent_first`, `best`,"
        " `largest_remainder`) until you set your own.",
        responses={**problems("unauthorized")},
    )
    async def get_settings(caller: CallerRead) -> DiscountSettings:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            found = await discounts.stackings(tx, [caller.tenant_id])
        return DiscountSettings.of(found[caller.tenant_id].latest)

    @routes.put(
        "",
        response_model=DiscountSettings,
        summary="Set the discount settings",
        description="They hold for periods that begin from now on; what is billed already stays.",
        responses={**problems("forbidden", "conflict", "invalid_request")},
    )
    async def put_settings(body: DiscountSettings, caller: CallerAdmin) -> DiscountSettings:
        async def work(tx: Tx) -> None:
            await discounts.set_stacking(tx, tenant_id=caller.tenant_id, wanted=body.stacking())

        await database.transact(SAVE_CATALOGUE, work, tenants=[caller.tenant_id])
        return body
