"""Routes of the order in which a customer's payment methods are tried."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import Caller, CallerAdmin, CallerRead
from subledger.platform.http.problems import UNKNOWN_REFERENCE, Problem, problems
from subledger.services.payments import problems as refusals
from subledger.services.payments.flows.pay import Waiting
from subledger.services.payments.http import lists
from subledger.services.payments.schemas import CustomerId, MethodOrder
from subledger.services.payments.store import methods as store
from subledger.services.payments.usecases.methods import set_order

_READ = story("payments.read_order", reads=True)
_SET = story("payments.set_order")


def router(database: Database, *, waiting: Waiting) -> APIRouter:
    """``/v1/customers/{id}/payment-methods/order``."""
    routes = APIRouter(prefix="/v1/customers", tags=["Payment methods"])

    async def shown(caller: Caller, customer_id: UUID) -> MethodOrder:
        owner = (caller.tenant_id, customer_id)
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            found = (await store.in_order(tx, [owner])).get(owner, ())
        return MethodOrder(payment_method_ids=[row.id for row in found])

    @routes.get(
        "/{customer_id}/payment-methods/order",
        response_model=MethodOrder,
        summary="Get the order of a customer's payment methods",
        description="In which order retries turn to them, where the dunning policy says so: the"
        " default one first. What is detached or has expired is left out.",
        responses={**problems("not_found", refusals.CUSTOMER_NOT_READY)},
    )
    async def get_payment_method_order(customer_id: CustomerId, caller: CallerRead) -> MethodOrder:
        await lists.require_customer(waiting, caller, customer_id, pointer="/path/customer_id")
        return await shown(caller, customer_id)

    @routes.put(
        "/{customer_id}/payment-methods/order",
        response_model=MethodOrder,
        summary="Set the order of a customer's payment methods",
        description="The default method stays in front; methods that you leave out come last, as"
        " they were attached.",
        responses={
            **problems(
                *("forbidden", "not_found", "invalid_request"),
                *(UNKNOWN_REFERENCE, refusals.CUSTOMER_NOT_READY),
            )
        },
    )
    async def put_payment_method_order(
        customer_id: CustomerId, body: MethodOrder, caller: CallerAdmin
    ) -> MethodOrder:
        given = body.payment_method_ids
        if len(set(given)) != len(given):
            raise Problem(
                "invalid_request",
                pointer="/payment_method_ids",
                detail="A payment method is named twice.",
                fix="Name each once.",
            )
        await lists.require_customer(waiting, caller, customer_id, pointer="/path/customer_id")

        async def work(tx: Tx) -> UUID | None:
            return await set_order(
                tx, tenant_id=caller.tenant_id, customer_id=customer_id, method_ids=given
            )

        unknown = await database.transact(_SET, work, tenants=[caller.tenant_id])
        if unknown is not None:
            raise Problem(
                UNKNOWN_REFERENCE,
                pointer=f"/payment_method_ids/{given.index(unknown)}",
                detail="It is none of the customer's active payment methods.",
            )
        return await shown(caller, customer_id)

    return routes
