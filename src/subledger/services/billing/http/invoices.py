"""Invoices: look, void, make anew, explain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Row

from subledger.core.errors import CoreError
from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing import texts
from subledger.services.billing.http import customers, subscriptions
from subledger.services.billing.http.changes import refused
from subledger.services.billing.http.languages import in_words, words_asked
from subledger.services.billing.http.paging import before_id, before_number, id_key
from subledger.services.billing.http.stories import READ, VOID_INVOICE
from subledger.services.billing.schemas.invoices import (
    Explanation,
    Invoice,
    InvoiceStatus,
    InvoiceWithLines,
    Void,
)
from subledger.services.billing.schemas.references import CustomerId, InvoiceId, SubscriptionId
from subledger.services.billing.store import invoices as locked
from subledger.services.billing.store import reads
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import reissue, unpaid
from subledger.services.billing.usecases.explain import explain

_EXAMPLE_TEXT = """Invoice INV-000001 of 2026-03-01 13:00
Times are those of Europe/Berlin.

1. Cinema Basic (monthly), from 2026-03-01 13:00 until 2026-04-01 13:00
   fixed price 9.99 EUR
   to pay: 9.99 EUR

Subtotal: 9.99 EUR
Discount: 0.00 EUR
Tax: 0.00 EUR
Total: 9.99 EUR
"""


async def load(tx: Tx, tenant_id: UUID, invoice_id: UUID) -> InvoiceWithLines:
    """Raises not_found."""
    key = (tenant_id, invoice_id)
    found = await reads.invoices(tx, [key])
    if key not in found:
        raise Problem("not_found", detail="There is no such invoice.")
    subscribed = await locked.subscriptions_of(tx, [key])
    lines = await reads.lines(tx, [key])
    return InvoiceWithLines.with_lines(found[key], subscribed.get(key, []), lines.get(key, []))


def router(database: Database, keys: Keys, memory: TermsMemory) -> APIRouter:
    """``/v1/invoices``."""
    routes = APIRouter(prefix="/v1/invoices", tags=["Invoices"])
    _add_reads(routes, database)
    _add_void(routes, database, keys)
    _add_reissue(routes, database, keys, memory)
    _add_explain(routes, database)
    return routes


def _add_reads(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[Invoice],
        summary="List invoices",
        description="Newest first, without their lines; of one payer, one subscription, in one"
        " status, or all.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def list_invoices(
        caller: CallerRead,
        query: PageQuery,
        customer_id: Annotated[CustomerId | None, Query(description="Who pays.")] = None,
        subscription_id: Annotated[SubscriptionId | None, Query()] = None,
        status: Annotated[InvoiceStatus | None, Query()] = None,
    ) -> Page[Invoice]:
        tenant_id, limit = caller.tenant_id, query.limit + 1
        async with database.transaction(READ, tenants=[tenant_id]) as tx:
            if customer_id is not None:
                await customers.load(tx, tenant_id, customer_id)
            if subscription_id is None:
                rows = await reads.list_invoices(
                    tx,
                    tenant_id,
                    account_id=customer_id,
                    status=status,
                    before=before_id(query, "inv"),
                    limit=limit,
                )
                found = page(rows, query, key=lambda row: id_key(row, "inv"))
            else:
                await subscriptions.load(tx, tenant_id, subscription_id)
                rows = await reads.list_invoices_of_subscription(
                    tx,
                    tenant_id,
                    subscription_id,
                    account_id=customer_id,
                    status=status,
                    before=before_number(query),
                    limit=limit,
                )
                found = page(rows, query, key=lambda row: (str(row.run_number),))
            data = await _with_subscriptions(tx, found.data)
        return Page(data=data, has_more=found.has_more, next_cursor=found.next_cursor)

    @routes.get(
        "/{invoice_id}",
        response_model=InvoiceWithLines,
        summary="Get an invoice",
        description="An invoice with its lines.",
        responses={**problems("not_found")},
    )
    async def get_invoice(invoice_id: InvoiceId, caller: CallerRead) -> InvoiceWithLines:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await load(tx, caller.tenant_id, invoice_id)


async def _with_subscriptions(tx: Tx, rows: Sequence[Row[Any]]) -> list[Invoice]:
    keys = [(row.tenant_id, row.id) for row in rows]
    subscribed = await locked.subscriptions_of(tx, keys) if keys else {}
    return [Invoice.of(row, subscribed.get(key, [])) for key, row in zip(keys, rows, strict=True)]


def _add_void(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/{invoice_id}/void",
        response_model=InvoiceWithLines,
        summary="Void an invoice",
        description="An open invoice that nobody is to pay; its postings are reversed. Refused"
        " while a payment is under way, credit notes of it stand or a later invoice takes a part of"
        " it back, and where it gives back what a cycle that ended with it was paid.",
        responses={
            **problems(
                "not_found",
                "invoice_not_open",
                "invoice_reserved",
                "invoice_credited",
                "invoice_settles_cycle",
                "invalid_request",
                "forbidden",
            ),
        },
    )
    async def void_invoice(
        invoice_id: InvoiceId, body: Void, caller: CallerAdmin, response: Response
    ) -> InvoiceWithLines:
        async def work(tx: Tx, _: UUID) -> InvoiceWithLines:
            tenant_id = caller.tenant_id
            await unpaid.void_invoice(
                tx, tenant_id=tenant_id, invoice_id=invoice_id, cause=caller.request_id
            )
            await reads.set_close_reasons(
                tx, [{"tenant_id": tenant_id, "id": invoice_id, "close_reason": body.reason}]
            )
            return await load(tx, tenant_id, invoice_id)

        async def again(tx: Tx, _: UUID) -> InvoiceWithLines:
            return await load(tx, caller.tenant_id, invoice_id)

        answered = await keys.run(
            database,
            VOID_INVOICE,
            caller,
            operation="invoices.void",
            body=body,
            work=work,
            load=again,
            new_id=invoice_id,
        )
        return replayed(response, answered)


def _add_reissue(routes: APIRouter, database: Database, keys: Keys, memory: TermsMemory) -> None:
    @routes.post(
        "/{invoice_id}/reissue",
        status_code=201,
        response_model=InvoiceWithLines,
        summary="Make an invoice anew",
        description="Voids an open invoice and bills the same periods again as the subscription is"
        " now, under a new number; changes that waited for the next invoice are billed with it."
        " Answers the new invoice, which names the one that it replaces. Refused while a payment"
        " is under way, credit notes stand or a later invoice takes a part of it back.",
        responses={
            **problems(
                "not_found",
                "invoice_not_open",
                "invoice_reserved",
                "invoice_credited",
                "invoice_not_reissuable",
                "invoice_still_open",
                "tax_rate_missing",
                "tax_location_missing",
                "tax_unavailable",
                "invalid_request",
                "forbidden",
            ),
        },
    )
    async def reissue_invoice(
        invoice_id: InvoiceId, body: Void, caller: CallerAdmin, response: Response
    ) -> InvoiceWithLines:
        async def work(tx: Tx, old: UUID) -> InvoiceWithLines:
            tenant_id = caller.tenant_id
            try:
                await reissue.reissue(
                    tx, memory, tenant_id=tenant_id, invoice_id=old, cause=caller.request_id
                )
            except CoreError as wrong:
                raise refused(wrong) from wrong
            await reads.set_close_reasons(
                tx, [{"tenant_id": tenant_id, "id": old, "close_reason": body.reason}]
            )
            return await again(tx, old)

        async def again(tx: Tx, old: UUID) -> InvoiceWithLines:
            replaced = await load(tx, caller.tenant_id, old)
            assert replaced.replaced_by_invoice_id is not None, "it was made anew"
            return await load(tx, caller.tenant_id, replaced.replaced_by_invoice_id)

        answered = await keys.run(
            database,
            VOID_INVOICE,
            caller,
            operation="invoices.reissue",
            body=body,
            work=work,
            load=again,
            new_id=invoice_id,
        )
        return replayed(response, answered)


def _add_explain(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "/{invoice_id}/explain",
        response_model=Explanation,
        summary="Explain an invoice",
        description="The computation of every line, as it was stored when the invoice was made."
        " In words with `format=text` or `Accept: text/plain`, in English or Russian.",
        responses={
            200: {"content": {"text/plain": {"example": _EXAMPLE_TEXT}}},
            **problems("not_found"),
        },
    )
    async def explain_invoice(
        request: Request,
        invoice_id: InvoiceId,
        caller: CallerRead,
        form: Annotated[Literal["json", "text"] | None, Query(alias="format")] = None,
        locale: Annotated[
            Literal["en", "ru"] | None,
            Query(description="Of the words; by Accept-Language if left out."),
        ] = None,
    ) -> Explanation | Response:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            explained = await explain(tx, tenant_id=caller.tenant_id, invoice_id=invoice_id)
        language = words_asked(request, form, locale)
        if language is not None:
            return in_words(texts.explanation(explained, language), language)
        return Explanation.of(explained)
