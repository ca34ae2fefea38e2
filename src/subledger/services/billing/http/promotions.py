"""Promo codes: create one or many, look, check, take out of use."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from subledger.core.errors import InvalidPromotion
from subledger.core.promotions import normalize
from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.fields import Text
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http import discounts
from subledger.services.billing.http.paging import before_id, id_key
from subledger.services.billing.http.stories import READ, SAVE_CATALOGUE
from subledger.services.billing.schemas.promotions import (
    CodeCheck,
    CodeCheckNew,
    PromotionCode,
    PromotionCodeNew,
    PromotionCodes,
    PromotionCodesNew,
    Redemption,
)
from subledger.services.billing.schemas.references import BatchId, DiscountId, PromotionCodeId
from subledger.services.billing.store import promotions as store
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import promotions

_REFUSALS = (
    *("code_taken", "unknown_reference", "discount_not_applicable", "invalid_request"),
    "forbidden",
)


async def load(tx: Tx, tenant_id: UUID, promotion_id: UUID) -> PromotionCode:
    """Raises not_found."""
    found = await store.promotions(tx, [(tenant_id, promotion_id)])
    if not found:
        raise Problem("not_found", detail="There is no such promo code.")
    return PromotionCode.of(found[tenant_id, promotion_id])


def router(database: Database, memory: TermsMemory, keys: Keys) -> APIRouter:
    """``/v1/promotion-codes``."""
    routes = APIRouter(prefix="/v1/promotion-codes", tags=["Promo codes"])
    _add_create(routes, database, keys)
    _add_bulk(routes, database, keys)
    _add_check(routes, database, memory)
    _add_deactivate(routes, database, keys)
    _add_list(routes, database)
    _add_reads(routes, database)
    return routes


def _add_create(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=PromotionCode,
        summary="Create a promo code",
        description="A code, typed or generated, that gives a discount within its limits.",
        responses={**problems(*_REFUSALS)},
    )
    async def create_promotion_code(
        body: PromotionCodeNew, caller: CallerAdmin, response: Response
    ) -> PromotionCode:
        async def work(tx: Tx, promotion_id: UUID) -> PromotionCode:
            await promotions.create(
                tx,
                body.limits(caller.tenant_id),
                promotion_id=promotion_id,
                code=body.code,
                cause=caller.request_id,
            )
            return await load(tx, caller.tenant_id, promotion_id)

        async def again(tx: Tx, promotion_id: UUID) -> PromotionCode:
            return await load(tx, caller.tenant_id, promotion_id)

        answered = await keys.run(
            database,
            SAVE_CATALOGUE,
            caller,
            operation="promotion_codes.create",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)


def _add_bulk(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/bulk",
        status_code=201,
        response_model=PromotionCodes,
        summary="Generate promo codes",
        description="Up to 10,000 codes at once that nobody guesses, each with the limits for"
        " itself: with `most_redemptions` of 1 each works once. All of them or none.",
        responses={**problems(*_REFUSALS, "conflict")},
    )
    async def generate_promotion_codes(
        body: PromotionCodesNew, caller: CallerAdmin, response: Response
    ) -> PromotionCodes:
        async def work(tx: Tx, batch_id: UUID) -> PromotionCodes:
            await promotions.create_many(
                tx,
                body.limits(caller.tenant_id),
                batch_id=batch_id,
                n=body.n,
                prefix=body.prefix,
                length=body.length,
                cause=caller.request_id,
            )
            return await again(tx, batch_id)

        async def again(tx: Tx, batch_id: UUID) -> PromotionCodes:
            codes = await store.codes_of_batch(tx, caller.tenant_id, batch_id)
            return PromotionCodes.of(batch_id, codes)

        answered = await keys.run(
            database,
            SAVE_CATALOGUE,
            caller,
            operation="promotion_codes.generate",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)


def _add_check(routes: APIRouter, database: Database, memory: TermsMemory) -> None:
    @routes.post(
        "/check",
        response_model=CodeCheck,
        summary="Check a promo code",
        description="Whether the code would work for this customer and plan now, and if not, why,"
        " in English and Russian. Nothing is reserved or saved.",
        responses={
            **problems(
                *("unknown_reference", "currency_mismatch", "price_missing_for_currency"),
                "invalid_request",
            ),
        },
    )
    async def check_promotion_code(body: CodeCheckNew, caller: CallerRead) -> CodeCheck:
        asked = promotions.Question(
            tenant_id=caller.tenant_id,
            code=body.code,
            customer_id=body.customer_id,
            plan_id=body.plan_id,
            currency=body.currency,
            quantity=body.quantity,
        )
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return CodeCheck.of(*await promotions.would_work(tx, memory, asked))


def _add_deactivate(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/{promotion_code_id}/deactivate",
        response_model=PromotionCode,
        summary="Take a promo code out of use",
        description="Nobody can redeem it any more. Discounts that it gave go on.",
        responses={**problems("not_found", "forbidden")},
    )
    async def deactivate_promotion_code(
        promotion_code_id: PromotionCodeId, caller: CallerAdmin, response: Response
    ) -> PromotionCode:
        async def work(tx: Tx, _: UUID) -> PromotionCode:
            await promotions.deactivate(
                tx,
                tenant_id=caller.tenant_id,
                promotion_id=promotion_code_id,
                cause=caller.request_id,
            )
            return await load(tx, caller.tenant_id, promotion_code_id)

        async def again(tx: Tx, _: UUID) -> PromotionCode:
            return await load(tx, caller.tenant_id, promotion_code_id)

        answered = await keys.run(
            database,
            SAVE_CATALOGUE,
            caller,
            operation="promotion_codes.deactivate",
            body=None,
            work=work,
            load=again,
            new_id=promotion_code_id,
        )
        return replayed(response, answered)


def _add_list(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[PromotionCode],
        summary="List promo codes",
        description="Newest first, with how often each was redeemed; all, or by one of the"
        " filters.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def list_promotion_codes(
        caller: CallerRead,
        query: PageQuery,
        code: Annotated[
            Text | None, Query(max_length=200, description="Only this code, as typed.")
        ] = None,
        discount_id: Annotated[DiscountId | None, Query(description="That give it.")] = None,
        batch_id: Annotated[BatchId | None, Query(description="Generated together.")] = None,
    ) -> Page[PromotionCode]:
        if sum(each is not None for each in (code, discount_id, batch_id)) > 1:
            raise Problem(
                "invalid_request", pointer="/query", detail="The list takes one filter at a time."
            )
        tenant_id, before = caller.tenant_id, before_id(query, "promo")
        async with database.transaction(READ, tenants=[tenant_id]) as tx:
            if discount_id is not None:
                await discounts.load(tx, tenant_id, discount_id)
            rows = await store.list_promotions(
                tx,
                tenant_id,
                discount_id=discount_id,
                batch_id=batch_id,
                code=None if code is None else _read(code),
                before=before,
                limit=query.limit + 1,
            )
        if batch_id is not None and not rows and query.after is None:
            raise Problem("not_found", detail="No codes were generated under this id.")
        found = page(rows, query, key=lambda row: id_key(row, "promo"))
        return Page(
            data=[PromotionCode.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )


def _read(code: str) -> str:
    """The code as stored; what is no code is nobody's."""
    try:
        return normalize(code)
    except InvalidPromotion:
        return ""


def _add_reads(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "/{promotion_code_id}",
        response_model=PromotionCode,
        summary="Get a promo code",
        description="A code with its limits and how often it was redeemed.",
        responses={**problems("not_found")},
    )
    async def get_promotion_code(
        promotion_code_id: PromotionCodeId, caller: CallerRead
    ) -> PromotionCode:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await load(tx, caller.tenant_id, promotion_code_id)

    @routes.get(
        "/{promotion_code_id}/redemptions",
        response_model=Page[Redemption],
        summary="List a promo code's redemptions",
        description="By subscription, the newest first; those given back too.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def list_redemptions(
        promotion_code_id: PromotionCodeId, caller: CallerRead, query: PageQuery
    ) -> Page[Redemption]:
        tenant_id, before = caller.tenant_id, before_id(query, "sub")
        async with database.transaction(READ, tenants=[tenant_id]) as tx:
            await load(tx, tenant_id, promotion_code_id)
            rows = await store.list_redemptions(
                tx, tenant_id, promotion_code_id, before=before, limit=query.limit + 1
            )
        found = page(rows, query, key=lambda row: id_key(row, "sub"))
        return Page(
            data=[Redemption.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )
