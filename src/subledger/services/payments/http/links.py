"""Routes of payment links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlalchemy import Row

from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import Caller, CallerAdmin, CallerRead
from subledger.platform.http.fields import IdOf, Strict, Timestamp
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import RETURN_URL_NOT_ALLOWED, Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.payments import problems as refusals
from subledger.services.payments.addresses import Addresses
from subledger.services.payments.flows.link import Linking
from subledger.services.payments.http import lists
from subledger.services.payments.http.public import Public
from subledger.services.payments.schemas import InvoiceId, ReturnUrl
from subledger.services.payments.store import links as store

if TYPE_CHECKING:
    LinkId = UUID
else:
    LinkId = IdOf("plink")

_CREATE = story("payments.create_link")
_REVOKE = story("payments.revoke_link")
_READ = story("payments.read_links", reads=True)


class NewLink(Strict):
    """An address at which anybody who has it can pay the invoice."""

    model_config = Strict.model_config | {
        "json_schema_extra": {"examples": [{"invoice_id": "inv_01h455vb4pex5vsknk084sn02q"}]}
    }
    invoice_id: InvoiceId
    return_url: ReturnUrl | None = None
    expires_at: Annotated[
        Timestamp | None, Field(description="From then on no page is opened; never, if null.")
    ] = None


class Link(Strict):
    """A payment link. It says nothing about the invoice: that is true when somebody opens it."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "id": "plink_01h455vb4pex5vsknk084sn02q",
                    "invoice_id": "inv_01h455vb4pex5vsknk084sn02q",
                    "url": "https://billing.example/pay/AZX0...",
                    "status": "active",
                    "return_url": None,
                    "expires_at": None,
                    "revoked_at": None,
                    "created_at": "2026-03-01T00:00:00Z",
                }
            ]
        }
    }
    id: LinkId
    invoice_id: InvoiceId
    url: str
    status: Literal["active", "expired", "revoked"]
    return_url: str | None
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    created_at: Timestamp


async def _shown(tx: Tx, rows: list[Row[Any]], addresses: Addresses) -> list[Link]:
    clocks = await tx.clocks({row.tenant_id for row in rows}) if rows else {}

    def status(row: Row[Any]) -> Literal["active", "expired", "revoked"]:
        if row.revoked_at is not None:
            return "revoked"
        over = row.expires_at is not None and clocks[row.tenant_id] >= row.expires_at
        return "expired" if over else "active"

    return [
        Link(
            id=row.id,
            invoice_id=row.invoice_id,
            url=addresses.link(row.tenant_id, row.id),
            status=status(row),
            return_url=row.return_url,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            created_at=row.created_at,
        )
        for row in rows
    ]


def router(database: Database, keys: Keys, *, linking: Linking, public: Public) -> APIRouter:
    """``/v1/payment-links``."""
    routes = APIRouter(prefix="/v1/payment-links", tags=["Payments"])
    _create_route(routes, database, keys, linking=linking, public=public)

    async def load(tx: Tx, tenant_id: UUID, link_id: UUID) -> Link:
        found = await store.links(tx, [(tenant_id, link_id)])
        if not found:
            raise Problem("not_found", detail="There is no such payment link.")
        return (await _shown(tx, list(found.values()), public.addresses))[0]

    @routes.get(
        "",
        response_model=Page[Link],
        summary="List payment links",
        description="The newest first, or the one of an invoice that is not revoked.",
        responses={**problems("invalid_request")},
    )
    async def list_payment_links(
        caller: CallerRead,
        query: PageQuery,
        invoice_id: Annotated[InvoiceId | None, Query()] = None,
    ) -> Page[Link]:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            if invoice_id is not None:
                one = await store.of_invoice(tx, caller.tenant_id, invoice_id)
                rows = [] if one is None else [one]
            else:
                before, limit = lists.before(query.after), query.limit + 1
                rows = list(await store.listed(tx, caller.tenant_id, before=before, limit=limit))
            shown = await _shown(tx, rows, public.addresses)
        return page(shown, query, key=lambda each: lists.key(each.created_at, each.id))

    @routes.get(
        "/{payment_link_id}",
        response_model=Link,
        summary="Get a payment link",
        description="A link with its address.",
        responses={**problems("not_found")},
    )
    async def get_payment_link(payment_link_id: LinkId, caller: CallerRead) -> Link:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            return await load(tx, caller.tenant_id, payment_link_id)

    @routes.post(
        "/{payment_link_id}/revoke",
        response_model=Link,
        summary="Revoke a payment link",
        description="Its address leads nowhere from now on. A hosted page that was opened through"
        " it stays open: cancel its payment to close it.",
        responses={**problems("forbidden", "not_found")},
    )
    async def revoke_payment_link(payment_link_id: LinkId, caller: CallerAdmin) -> Link:
        key = (caller.tenant_id, payment_link_id)

        async def work(tx: Tx) -> Link:
            await store.revoke(tx, key, await tx.now(caller.tenant_id))
            return await load(tx, *key)

        return await database.transact(_REVOKE, work, tenants=[caller.tenant_id])

    return routes


def _create_route(
    routes: APIRouter, database: Database, keys: Keys, *, linking: Linking, public: Public
) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=Link,
        summary="Create a payment link",
        description="An address at which whoever has it sees what is due of the invoice at that"
        " time and pays it on a hosted page. An invoice has one live link: created again, it keeps"
        " its address and takes the new terms.",
        responses={
            **problems(
                "forbidden",
                "not_found",
                "invalid_request",
                "idempotency_key_reused",
                "idempotency_in_progress",
                refusals.NOT_COLLECTABLE,
                RETURN_URL_NOT_ALLOWED,
            )
        },
    )
    async def create_payment_link(body: NewLink, caller: CallerAdmin, response: Response) -> Link:
        invoice = await linking.due(caller.tenant_id, body.invoice_id)

        async def work(tx: Tx, new_id: UUID) -> Link:
            if invoice is None:  # here: a repeated request gets its first answer
                raise Problem(
                    "not_found", detail="There is no such invoice.", pointer="/invoice_id"
                )
            if invoice.due_minor <= 0:
                raise Problem(
                    refusals.NOT_COLLECTABLE,
                    detail=f"The invoice is {invoice.status}.",
                    pointer="/invoice_id",
                )
            return await _put(tx, caller, body, new_id, public)

        async def load(tx: Tx, _: UUID) -> Link:
            found = await store.of_invoice(tx, caller.tenant_id, body.invoice_id)
            if found is None:
                raise Problem("not_found", detail="The payment link was revoked meanwhile.")
            return (await _shown(tx, [found], public.addresses))[0]

        answered = await keys.run(
            database,
            _CREATE,
            caller,
            operation="create_payment_link",
            body=body,
            work=work,
            load=load,
        )
        replayed(response, answered)
        return answered.value


async def _put(tx: Tx, caller: Caller, body: NewLink, new_id: UUID, public: Public) -> Link:
    await public.returns.require(tx, caller.tenant_id, body.return_url)
    now = await tx.now(caller.tenant_id)
    if body.expires_at is not None and body.expires_at <= now:
        raise Problem(
            "invalid_request",
            detail="The link would have expired already.",
            pointer="/expires_at",
            fix="Choose a moment after now on the tenant's clock (GET /v1/clock).",
        )
    row = {
        "tenant_id": caller.tenant_id,
        "id": new_id,
        "invoice_id": body.invoice_id,
        "return_url": body.return_url,
        "expires_at": body.expires_at,
        "created_at": now,
    }
    await store.put(tx, [row])
    found = await store.of_invoice(tx, caller.tenant_id, body.invoice_id)
    assert found is not None, "put by this transaction"
    return (await _shown(tx, [found], public.addresses))[0]
