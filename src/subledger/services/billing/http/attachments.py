"""Discounts of subscriptions and of customers."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http import customers, subscriptions
from subledger.services.billing.http.changes import Actions
from subledger.services.billing.http.paging import before_id, before_number, id_key
from subledger.services.billing.http.stories import CHANGE_SUBSCRIPTION, READ
from subledger.services.billing.schemas.discounts import (
    CustomerDiscount,
    CustomerDiscountNew,
    SubscriptionDiscount,
    SubscriptionDiscountNew,
)
from subledger.services.billing.schemas.references import CustomerId, DiscountId, SubscriptionId
from subledger.services.billing.schemas.subscriptions import Subscription
from subledger.services.billing.store import discounts as store
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import attachments, personal_discounts


def routers(database: Database, memory: TermsMemory, keys: Keys) -> list[APIRouter]:
    """``/v1/subscriptions/{id}/discounts``, ``/v1/customers/{id}/discounts``."""
    of_subscription = APIRouter(prefix="/v1/subscriptions", tags=["Subscriptions"])
    of_customer = APIRouter(prefix="/v1/customers", tags=["Customers"])
    _add_to_subscription(of_subscription, Actions(database, keys, subscriptions.load), memory)
    _add_of_subscription(of_subscription, database, memory)
    _add_to_customer(of_customer, database, memory, keys)
    _add_of_customer(of_customer, database, memory)
    return [of_subscription, of_customer]


def _add_to_subscription(routes: APIRouter, actions: Actions, memory: TermsMemory) -> None:
    @routes.post(
        "/{subscription_id}/discounts",
        response_model=Subscription,
        summary="Attach a discount",
        description="By its id or by a promo code. It is taken from the next period on; the present"
        " one stays as it was billed. A subscription has each discount once; one that was taken"
        " away and is still in effect stays on.",
        responses={
            **problems(
                *("not_found", "subscription_ended", "unknown_reference"),
                *("discount_not_applicable", "promotion_code_refused", "invalid_request"),
                "forbidden",
            )
        },
    )
    async def attach_discount(
        subscription_id: SubscriptionId,
        body: SubscriptionDiscountNew,
        caller: CallerAdmin,
        response: Response,
    ) -> Subscription:
        async def do(tx: Tx) -> None:
            await attachments.attach(
                tx,
                memory,
                tenant_id=caller.tenant_id,
                subscription_id=subscription_id,
                discount_id=body.discount_id,
                code=body.promotion_code,
                cause=caller.request_id,
            )

        return await actions.act(caller, response, subscription_id, "attach_discount", body, do)


def _add_of_subscription(routes: APIRouter, database: Database, memory: TermsMemory) -> None:
    @routes.delete(
        "/{subscription_id}/discounts/{discount_id}",
        status_code=204,
        summary="Take a discount away",
        description="From the next period on; the present one stays as it was billed. A promo code"
        " that gave it stays redeemed.",
        responses={**problems("not_found", "subscription_ended", "forbidden")},
    )
    async def detach_discount(
        subscription_id: SubscriptionId, discount_id: DiscountId, caller: CallerAdmin
    ) -> None:
        async def work(tx: Tx) -> None:
            await attachments.detach(
                tx,
                memory,
                tenant_id=caller.tenant_id,
                subscription_id=subscription_id,
                discount_id=discount_id,
                cause=caller.request_id,
            )

        await database.transact(CHANGE_SUBSCRIPTION, work, tenants=[caller.tenant_id])

    @routes.get(
        "/{subscription_id}/discounts",
        response_model=Page[SubscriptionDiscount],
        summary="List a subscription's discounts",
        description="The latest attached first, with those taken away.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def list_subscription_discounts(
        subscription_id: SubscriptionId, caller: CallerRead, query: PageQuery
    ) -> Page[SubscriptionDiscount]:
        tenant_id, before = caller.tenant_id, before_number(query)
        async with database.transaction(READ, tenants=[tenant_id]) as tx:
            await subscriptions.load(tx, tenant_id, subscription_id)
            rows = await store.list_attachments(
                tx, tenant_id, subscription_id, before=before, limit=query.limit + 1
            )
        found = page(rows, query, key=lambda row: (str(row.n),))
        return Page(
            data=[SubscriptionDiscount.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )


async def _load(tx: Tx, tenant_id: UUID, customer_id: UUID, discount_id: UUID) -> CustomerDiscount:
    """Raises not_found."""
    key = (tenant_id, customer_id)
    for row in (await store.customer_discounts(tx, [key])).get(key, ()):
        if row.discount_id == discount_id:
            return CustomerDiscount.of(row)
    raise Problem("not_found", detail="The customer does not have this discount.")


def _add_to_customer(
    routes: APIRouter, database: Database, memory: TermsMemory, keys: Keys
) -> None:
    @routes.post(
        "/{customer_id}/discounts",
        status_code=201,
        response_model=CustomerDiscount,
        summary="Give a customer a discount",
        description="On every subscription that the customer pays for: on the live ones from their"
        " next period on, on future ones from their first. For how many periods it is taken is"
        " counted for each subscription. One that has or had the discount is left as it is.",
        responses={
            **problems(
                *("not_found", "unknown_reference", "discount_not_applicable"),
                *("too_many_subscriptions", "invalid_request", "forbidden"),
            )
        },
    )
    async def add_customer_discount(
        customer_id: CustomerId,
        body: CustomerDiscountNew,
        caller: CallerAdmin,
        response: Response,
    ) -> CustomerDiscount:
        async def work(tx: Tx, _: UUID) -> CustomerDiscount:
            await personal_discounts.add_to_customer(
                tx,
                memory,
                tenant_id=caller.tenant_id,
                customer_id=customer_id,
                discount_id=body.discount_id,
                cause=caller.request_id,
            )
            return await _load(tx, caller.tenant_id, customer_id, body.discount_id)

        async def again(tx: Tx, _: UUID) -> CustomerDiscount:
            return await _load(tx, caller.tenant_id, customer_id, body.discount_id)

        answered = await keys.run(
            database,
            CHANGE_SUBSCRIPTION,
            caller,
            operation="customers.add_discount",
            body=body,
            work=work,
            load=again,
            new_id=customer_id,
        )
        return replayed(response, answered)


def _add_of_customer(routes: APIRouter, database: Database, memory: TermsMemory) -> None:
    @routes.delete(
        "/{customer_id}/discounts/{discount_id}",
        status_code=204,
        summary="Take a customer's discount back",
        description="New subscriptions do not get it. Those that have it because the customer had"
        " it lose it from their next period on.",
        responses={**problems("not_found", "too_many_subscriptions", "forbidden")},
    )
    async def remove_customer_discount(
        customer_id: CustomerId, discount_id: DiscountId, caller: CallerAdmin
    ) -> None:
        async def work(tx: Tx) -> None:
            await personal_discounts.remove_from_customer(
                tx,
                memory,
                tenant_id=caller.tenant_id,
                customer_id=customer_id,
                discount_id=discount_id,
                cause=caller.request_id,
            )

        await database.transact(CHANGE_SUBSCRIPTION, work, tenants=[caller.tenant_id])

    @routes.get(
        "/{customer_id}/discounts",
        response_model=Page[CustomerDiscount],
        summary="List a customer's discounts",
        description="Personal discounts, the newest first, with those taken back.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def list_customer_discounts(
        customer_id: CustomerId, caller: CallerRead, query: PageQuery
    ) -> Page[CustomerDiscount]:
        tenant_id, before = caller.tenant_id, before_id(query, "disc")
        async with database.transaction(READ, tenants=[tenant_id]) as tx:
            await customers.load(tx, tenant_id, customer_id)
            rows = await store.list_customer_discounts(
                tx, tenant_id, customer_id, before=before, limit=query.limit + 1
            )
        found = page(rows, query, key=lambda row: id_key(row, "disc"))
        return Page(
            data=[CustomerDiscount.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )
