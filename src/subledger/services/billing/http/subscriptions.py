"""Subscriptions: buy, look, cancel, keep, preview."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from subledger.contracts.calls import Call
from subledger.contracts.checkouts import Checkouts
from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.flows.buy import Buyers
from subledger.services.billing.http import (
    anchors,
    changes,
    customers,
    endings,
    one_off,
    outcomes,
    pauses,
    reactivations,
)
from subledger.services.billing.http.paging import before_id, before_number, id_key
from subledger.services.billing.http.purchases import Purchases, request
from subledger.services.billing.http.stories import READ
from subledger.services.billing.schemas.purchases import PurchasePreview
from subledger.services.billing.schemas.references import CustomerId, SubscriptionId
from subledger.services.billing.schemas.subscriptions import (
    Purchase,
    Status,
    Subscription,
    SubscriptionNew,
)
from subledger.services.billing.schemas.upcoming import UpcomingInvoice
from subledger.services.billing.store import reads
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import preview, subscribe


async def load(tx: Tx, tenant_id: UUID, subscription_id: UUID) -> Subscription:
    """Raises not_found."""
    found = await reads.subscriptions(tx, [(tenant_id, subscription_id)])
    if not found:
        raise Problem("not_found", detail="There is no such subscription.")
    return Subscription.of(found[tenant_id, subscription_id])


def router(database: Database, checkouts: Checkouts, memory: TermsMemory, keys: Keys) -> APIRouter:
    """``/v1/subscriptions``."""
    routes = APIRouter(prefix="/v1/subscriptions", tags=["Subscriptions"])
    buyers = Buyers(database, checkouts)
    purchases = Purchases(database, checkouts, memory, keys)
    _add_create(routes, purchases, buyers)
    _add_preview(routes, database, purchases, memory)
    _add_reads(routes, database, memory)
    actions = changes.Actions(database, keys, load)
    changes.add(routes, actions, memory)
    anchors.add(routes, actions, memory)
    one_off.add(routes, actions, memory)
    endings.add(routes, actions, memory)
    pauses.add(routes, actions, memory)
    reactivations.add(routes, buyers, checkouts, actions, memory)
    return routes


_REFUSALS = (
    "unknown_reference",
    "currency_mismatch",
    "price_missing_for_currency",
    "discount_not_applicable",
    "promotion_code_refused",
    "start_out_of_range",
    "payment_method_required",
    "billing_limit_exceeded",
    "return_url_not_allowed",
    "invalid_request",
)


def _add_create(
    routes: APIRouter,
    purchases: Purchases,
    buyers: Buyers,
) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=Purchase,
        summary="Create a subscription",
        description="Creates the subscription with its first invoice, collects it, and waits for"
        " the outcome, by default 10 s (`Prefer: wait=n`, at most 30). Answers `active`; or"
        " `incomplete` with `next_action.redirect_url`, or while the payment is still under way."
        " A declined payment is the problem `payment_declined`: the subscription stays"
        " `incomplete` for 24 hours, its id and invoice are in the problem, and the invoice can"
        " be paid by POST /v1/payments. With a trial it is `trialing`, before its start day"
        " `pending`: then nothing is billed until that time. After a trial the first invoice is"
        " collected like a renewal's; on a start day, or with `collection: page`, like a purchase's"
        " (`incomplete` until it is paid, for three days). Where nothing is due at once (a plan"
        " all in arrears) it is `active` without an invoice.",
        responses={
            **problems("payment_declined", "forbidden", *_REFUSALS),
        },
    )
    async def create_subscription(
        body: SubscriptionNew, caller: CallerAdmin, response: Response
    ) -> Purchase:
        answered = await purchases.make(caller, body)
        replayed(response, answered)
        return await outcomes.waited(
            buyers, caller, answered.resource_id, at_once=not answered.value
        )


def _add_preview(
    routes: APIRouter, database: Database, purchases: Purchases, memory: TermsMemory
) -> None:
    @routes.post(
        "/preview",
        response_model=PurchasePreview,
        summary="Preview a subscription",
        description="What the same purchase would bill, computed by the purchase itself: the first"
        " invoice's lines and total, what is due now, the trial's end. Nothing is saved.",
        responses={**problems(*_REFUSALS)},
    )
    async def preview_subscription(body: SubscriptionNew, caller: CallerRead) -> PurchasePreview:
        tenant_id = caller.tenant_id
        paying = await purchases.paying(Call(tenant_id), body)
        async with database.transaction(READ, tenants=[tenant_id]) as tx:
            asked = request(caller, body, tx.ids.new(), paying.checked())
            made = await subscribe.preview(tx, memory, asked)
            described = await changes.descriptions(tx, tenant_id, made.draft)
        return PurchasePreview.of(made, described)


def _add_reads(routes: APIRouter, database: Database, memory: TermsMemory) -> None:
    @routes.get(
        "",
        response_model=Page[Subscription],
        summary="List subscriptions",
        description="Newest first; of one payer, in one status, or all.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def list_subscriptions(
        caller: CallerRead,
        query: PageQuery,
        customer_id: Annotated[CustomerId | None, Query(description="Who pays.")] = None,
        status: Annotated[Status | None, Query()] = None,
    ) -> Page[Subscription]:
        tenant_id, limit = caller.tenant_id, query.limit + 1
        async with database.transaction(READ, tenants=[tenant_id]) as tx:
            if customer_id is None:
                before = before_id(query, "sub")
                rows = await reads.list_subscriptions(
                    tx, tenant_id, status=status, before=before, limit=limit
                )
                found = page(rows, query, key=lambda row: id_key(row, "sub"))
            else:
                number = before_number(query)
                await customers.load(tx, tenant_id, customer_id)
                rows = await reads.list_subscriptions_of_payer(
                    tx, tenant_id, customer_id, status=status, before=number, limit=limit
                )
                found = page(rows, query, key=lambda row: (str(row.number),))
        return Page(
            data=[Subscription.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )

    @routes.get(
        "/{subscription_id}",
        response_model=Subscription,
        summary="Get a subscription",
        description="A subscription as it is now, ended ones too.",
        responses={**problems("not_found")},
    )
    async def get_subscription(subscription_id: SubscriptionId, caller: CallerRead) -> Subscription:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await load(tx, caller.tenant_id, subscription_id)

    @routes.get(
        "/{subscription_id}/upcoming-invoice",
        response_model=UpcomingInvoice,
        summary="Preview the next invoice",
        description="Computed as the renewal will compute it, and not saved. It has no lines if"
        " the subscription ends with its period, or if nothing falls due then (in arrears, at a"
        " trial's end).",
        responses={**problems("not_found", "subscription_ended")},
    )
    async def get_upcoming_invoice(
        subscription_id: SubscriptionId, caller: CallerRead
    ) -> UpcomingInvoice:
        tenant_id = caller.tenant_id
        async with database.transaction(READ, tenants=[tenant_id]) as tx:
            draft = await preview.upcoming(
                tx, memory, tenant_id=tenant_id, subscription_id=subscription_id
            )
            described = await changes.descriptions(tx, tenant_id, draft)
        return UpcomingInvoice.of(subscription_id, draft, described)
