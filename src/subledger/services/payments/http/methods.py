"""Routes of saved payment methods."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from cryptography.fernet import InvalidToken, MultiFernet
from fastapi import APIRouter, Query, Response
from sqlalchemy import Row

from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import Caller, CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.payments import problems as refusals
from subledger.services.payments.flows.connect import (
    PROVIDER,
    Connecting,
    CurrencyNotTaken,
    NoConnection,
)
from subledger.services.payments.flows.pay import Waiting
from subledger.services.payments.http import lists
from subledger.services.payments.schemas import (
    CustomerId,
    Mandate,
    Method,
    MethodId,
    MethodMandate,
    NewMethod,
)
from subledger.services.payments.sealing import open_mandate
from subledger.services.payments.store import methods as store
from subledger.services.payments.usecases.methods import detach, make_default, start_attaching

_ATTACH = story("payments.attach_method")
_READ = story("payments.read_methods", reads=True)
_DETACH = story("payments.detach_method")
_DEFAULT = story("payments.make_default_method")


def router(
    database: Database,
    keys: Keys,
    *,
    waiting: Waiting,
    connecting: Connecting,
    fernet: MultiFernet,
) -> APIRouter:
    """``/v1/payment-methods``."""
    routes = APIRouter(prefix="/v1/payment-methods", tags=["Payment methods"])
    _add_attach(routes, database, keys, waiting=waiting, connecting=connecting)
    _add_changes(routes, database, keys)
    _add_mandate(routes, database, fernet)

    @routes.get(
        "",
        response_model=Page[Method],
        summary="List payment methods",
        description="Saved methods, the newest first; of one customer if you name it.",
        responses={**problems("invalid_request", "not_found", refusals.CUSTOMER_NOT_READY)},
    )
    async def list_payment_methods(
        caller: CallerRead,
        query: PageQuery,
        customer_id: Annotated[CustomerId | None, Query()] = None,
    ) -> Page[Method]:
        if customer_id is not None:
            await lists.require_customer(waiting, caller, customer_id, pointer="/query/customer_id")
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.listed_methods(
                tx,
                caller.tenant_id,
                before=lists.before(query.after),
                limit=query.limit + 1,
                customer_id=customer_id,
            )
            shown = await _shown(tx, rows)
        return page(shown, query, key=lambda each: lists.key(each.created_at, each.id))

    @routes.get(
        "/{method_id}",
        response_model=Method,
        summary="Get a payment method",
        description="What may be shown of a saved method: brand and last four digits.",
        responses={**problems("not_found")},
    )
    async def get_payment_method(method_id: MethodId, caller: CallerRead) -> Method:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            return await _one(tx, caller.tenant_id, method_id)

    return routes


def _add_attach(
    routes: APIRouter,
    database: Database,
    keys: Keys,
    *,
    waiting: Waiting,
    connecting: Connecting,
) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=Method,
        summary="Attach a test payment method",
        description="Saves a test method of the sandbox provider for a customer. A customer's"
        " first method becomes the default. Real methods are saved by payers on the hosted page.",
        responses={
            **problems(
                "forbidden",
                "not_found",
                "invalid_request",
                "idempotency_in_progress",
                "idempotency_key_reused",
                refusals.NO_CONNECTION,
                refusals.CURRENCY_NOT_TAKEN,
                refusals.CUSTOMER_NOT_READY,
            )
        },
    )
    async def attach_payment_method(
        body: NewMethod, caller: CallerAdmin, response: Response
    ) -> Method:
        customer = await lists.require_customer(
            waiting, caller, body.customer_id, pointer="/customer_id"
        )
        connection_id = await _connection(connecting, caller, customer.currency)

        async def work(tx: Tx, new_id: UUID) -> None:
            await start_attaching(
                tx,
                tenant_id=caller.tenant_id,
                method_id=new_id,
                customer_id=body.customer_id,
                connection_id=connection_id,
                test_kind=body.test_kind,
                make_default=body.make_default,
                expires_on=body.expires_on,
            )

        answered = await keys.run(
            database,
            _ATTACH,
            caller,
            operation="attach_payment_method",
            body=body,
            work=work,
            load=_nothing,
        )
        replayed(response, answered)
        row = await waiting.attached(caller.tenant_id, answered.resource_id, wait_s=caller.wait_s)
        if row.status == "failed":
            raise Problem(
                "invalid_request",
                detail=f"The sandbox provider knows no test method {body.test_kind!r}.",
                pointer="/test_kind",
                fix="Use a kind from the list in the documentation, for example visa_ok.",
            )
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            return await _one(tx, caller.tenant_id, row.id)


def _add_mandate(routes: APIRouter, database: Database, fernet: MultiFernet) -> None:
    @routes.get(
        "/{method_id}/mandate",
        response_model=MethodMandate,
        summary="Get what the payer agreed to",
        description="The consent under which a method was saved: the text as it was shown, its"
        " language, the moment and the payer's address; null for a test method that you attached"
        " yourself. For admins, since it is personal data.",
        responses={**problems("forbidden", "not_found", refusals.MANDATE_SEALED)},
    )
    async def get_payment_method_mandate(method_id: MethodId, caller: CallerAdmin) -> MethodMandate:
        key = (caller.tenant_id, method_id)
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            row = (await store.methods(tx, [key])).get(key)
        if row is None:
            raise _no_method()
        if row.mandate_encrypted is None:
            return MethodMandate(payment_method_id=row.id, mandate=None)
        try:
            given = open_mandate(fernet, bytes(row.mandate_encrypted))
        except InvalidToken:
            raise Problem(refusals.MANDATE_SEALED, detail="No key opens the mandate.") from None
        mandate = Mandate(
            text=given.text,
            language=given.language,
            given_at=datetime.fromisoformat(given.at),
            address=given.address,
        )
        return MethodMandate(payment_method_id=row.id, mandate=mandate)


def _add_changes(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/{method_id}/default",
        response_model=Method,
        summary="Make a payment method the default",
        description="The default method is charged where no other is named. What is past due is"
        " tried by it at once.",
        responses={**problems("forbidden", "not_found", refusals.METHOD_NOT_ACTIVE)},
    )
    async def make_default_payment_method(
        method_id: MethodId, caller: CallerAdmin, response: Response
    ) -> Method:
        async def work(tx: Tx, _: UUID) -> Method:
            await _one(tx, caller.tenant_id, method_id)
            if not await make_default(
                tx, tenant_id=caller.tenant_id, method_id=method_id, cause=caller.request_id
            ):
                raise Problem(refusals.METHOD_NOT_ACTIVE, detail="The method is not active.")
            return await _one(tx, caller.tenant_id, method_id)

        async def load(tx: Tx, _: UUID) -> Method:
            return await _one(tx, caller.tenant_id, method_id)

        answered = await keys.run(
            database,
            _DEFAULT,
            caller,
            operation="make_default_payment_method",
            body=None,
            work=work,
            load=load,
            new_id=method_id,
        )
        return replayed(response, answered)

    @routes.delete(
        "/{method_id}",
        status_code=204,
        summary="Detach a payment method",
        description="The method is never charged again. If it was the default, the customer's"
        " newest other method becomes the default.",
        responses={**problems("forbidden", "not_found")},
    )
    async def detach_payment_method(method_id: MethodId, caller: CallerAdmin) -> Response:
        async def work(tx: Tx) -> bool:
            return await detach(
                tx, tenant_id=caller.tenant_id, method_id=method_id, cause=caller.request_id
            )

        if not await database.transact(_DETACH, work, tenants=[caller.tenant_id]):
            raise _no_method()
        return Response(status_code=204)


async def _connection(connecting: Connecting, caller: Caller, currency: str) -> UUID:
    """Where a test method is kept: a connection to the sandbox for the customer's currency."""
    try:
        return await connecting.choose(caller.tenant_id, currency, provider=PROVIDER)
    except NoConnection:
        raise Problem(
            refusals.NO_CONNECTION,
            detail="Test methods belong to the sandbox provider, which a live tenant has not.",
        ) from None
    except CurrencyNotTaken:
        raise Problem(
            refusals.CURRENCY_NOT_TAKEN,
            detail=f"No connection to the sandbox takes {currency}.",
            pointer="/customer_id",
        ) from None


async def _nothing(_: Tx, __: UUID) -> None:
    """The answer is built from the method after the provider was asked."""


async def _one(tx: Tx, tenant_id: UUID, method_id: UUID) -> Method:
    row = (await store.methods(tx, [(tenant_id, method_id)])).get((tenant_id, method_id))
    if row is None:
        raise _no_method()
    return (await _shown(tx, [row]))[0]


async def _shown(tx: Tx, rows: Any) -> list[Method]:
    found: list[Row[Any]] = list(rows)
    customers = await store.customers(tx, {(row.tenant_id, row.customer_id) for row in found})
    return [
        Method.of(
            row, default_method_id=customers[row.tenant_id, row.customer_id].default_method_id
        )
        for row in found
    ]


def _no_method() -> Problem:
    return Problem("not_found", detail="There is no such payment method.")
