"""What subscriptions used, and prices agreed with customers."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.problems import problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http import customers, subscriptions
from subledger.services.billing.http.stories import CHANGE_SUBSCRIPTION, READ, SAVE_CUSTOMER
from subledger.services.billing.schemas.quantities import (
    AgreedPrice,
    AgreedPrices,
    Used,
    UsedQuantities,
)
from subledger.services.billing.schemas.references import CustomerId, PriceId, SubscriptionId
from subledger.services.billing.store import quantities as store
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import quantities


def routers(database: Database, memory: TermsMemory, keys: Keys) -> list[APIRouter]:
    """``/v1/subscriptions/{id}/quantities``, ``/v1/customers/{id}/prices``."""
    used = APIRouter(prefix="/v1/subscriptions", tags=["Subscriptions"])
    agreed = APIRouter(prefix="/v1/customers", tags=["Customers"])
    _add_used(used, database, memory, keys)
    _add_agreed(agreed, database, keys)
    return [used, agreed]


async def _used(tx: Tx, tenant_id: UUID, subscription_id: UUID) -> UsedQuantities:
    """Raises not_found."""
    await subscriptions.load(tx, tenant_id, subscription_id)
    rows = await store.used_of(tx, (tenant_id, subscription_id), limit=store.MOST_PERIODS)
    return UsedQuantities.of(rows)


def _add_used(routes: APIRouter, database: Database, memory: TermsMemory, keys: Keys) -> None:
    @routes.get(
        "/{subscription_id}/quantities",
        response_model=UsedQuantities,
        summary="List what was used",
        description="What was said of metered prices, the latest period first.",
        responses={**problems("not_found")},
    )
    async def list_quantities(
        subscription_id: SubscriptionId, caller: CallerRead
    ) -> UsedQuantities:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _used(tx, caller.tenant_id, subscription_id)

    @routes.put(
        "/{subscription_id}/quantities",
        response_model=UsedQuantities,
        summary="Say what was used",
        description="Of one metered price in the running period; the last word before its end is"
        " billed. A period of which nothing was said used nothing.",
        responses={
            **problems(
                "not_found", "subscription_ended", "unknown_reference", "invalid_request",
                "forbidden",
            )
        },
    )  # fmt: skip
    async def put_quantity(
        subscription_id: SubscriptionId, body: Used, caller: CallerAdmin, response: Response
    ) -> UsedQuantities:
        async def work(tx: Tx, _: UUID) -> UsedQuantities:
            await quantities.put_used(
                tx,
                memory,
                tenant_id=caller.tenant_id,
                subscription_id=subscription_id,
                price_id=body.price_id,
                usage=body.usage(),
                data=body.data(),
            )
            return await _used(tx, caller.tenant_id, subscription_id)

        async def again(tx: Tx, _: UUID) -> UsedQuantities:
            return await _used(tx, caller.tenant_id, subscription_id)

        answered = await keys.run(
            database,
            CHANGE_SUBSCRIPTION,
            caller,
            operation="subscriptions.put_quantity",
            body=body,
            work=work,
            load=again,
            new_id=subscription_id,
        )
        return replayed(response, answered)


async def _agreed(tx: Tx, tenant_id: UUID, customer_id: UUID) -> AgreedPrices:
    """Raises not_found."""
    await customers.load(tx, tenant_id, customer_id)
    found = await store.agreed(tx, [(tenant_id, customer_id)])
    return AgreedPrices.of(
        [(price_id, *each) for (_, _, price_id), several in found.items() for each in several]
    )


def _add_agreed(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.get(
        "/{customer_id}/prices",
        response_model=AgreedPrices,
        summary="List agreed prices",
        description="What the customer pays in place of the catalogue's prices, and since when.",
        responses={**problems("not_found")},
    )
    async def list_agreed_prices(customer_id: CustomerId, caller: CallerRead) -> AgreedPrices:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _agreed(tx, caller.tenant_id, customer_id)

    @routes.put(
        "/{customer_id}/prices/{price_id}",
        response_model=AgreedPrices,
        summary="Agree on a price",
        description="In place of a price of the catalogue: at once in what the customer buys from"
        " now on, in running subscriptions from their next period on.",
        responses={**problems("not_found", "invalid_request", "forbidden")},
    )
    async def put_agreed_price(
        customer_id: CustomerId,
        price_id: PriceId,
        body: AgreedPrice,
        caller: CallerAdmin,
        response: Response,
    ) -> AgreedPrices:
        async def work(tx: Tx, _: UUID) -> AgreedPrices:
            await quantities.agree(
                tx,
                tenant_id=caller.tenant_id,
                customer_id=customer_id,
                price_id=price_id,
                model=body.wanted(),
            )
            return await _agreed(tx, caller.tenant_id, customer_id)

        async def again(tx: Tx, _: UUID) -> AgreedPrices:
            return await _agreed(tx, caller.tenant_id, customer_id)

        answered = await keys.run(
            database,
            SAVE_CUSTOMER,
            caller,
            operation=f"customers.put_price.{price_id}",
            body=body,
            work=work,
            load=again,
            new_id=customer_id,
        )
        return replayed(response, answered)
