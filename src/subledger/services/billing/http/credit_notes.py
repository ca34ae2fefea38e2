"""Credit notes: issue, preview, look, explain, void."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import Caller, CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing import note_texts
from subledger.services.billing.http import customers
from subledger.services.billing.http.languages import in_words, words_asked
from subledger.services.billing.http.paging import before_id, id_key
from subledger.services.billing.http.stories import READ, SAVE_CREDIT_NOTE
from subledger.services.billing.schemas.credit_notes import (
    CreditNote,
    CreditNoteExplanation,
    CreditNoteNew,
    CreditNotePreview,
    CreditNoteVoid,
    CreditNoteWithLines,
)
from subledger.services.billing.schemas.references import CreditNoteId, CustomerId, InvoiceId
from subledger.services.billing.store import credit_notes as store
from subledger.services.billing.store import invoices as invoices_store
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import credit_notes
from subledger.services.billing.usecases.explain import explain_note
from subledger.services.billing.usecases.note_draft import LineRequest, NoteRequest

_REFUSALS = (
    "unknown_reference",
    "invoice_not_creditable",
    "invoice_reserved",
    "nothing_to_credit",
    "credit_exceeds_line",
    "refund_unavailable",
    "invalid_request",
)
_EXAMPLE_TEXT = """Credit note CN-000001 of 2026-03-10 13:00 for invoice INV-000001
Times are those of Europe/Berlin.
Reason: goodwill

1. Cinema Basic (monthly), from 2026-03-01 13:00 until 2026-04-01 13:00
   5.00 EUR of 9.99 EUR is given back, 0.00 EUR was before
   1.45 EUR of it for service that was delivered by then
   given back: 5.00 EUR

Total: 5.00 EUR
to the customer’s credit: 5.00 EUR
"""


async def _load(tx: Tx, tenant_id: UUID, credit_note_id: UUID) -> CreditNoteWithLines:
    """Raises not_found."""
    key = (tenant_id, credit_note_id)
    found = await store.notes(tx, [key])
    if key not in found:
        raise Problem("not_found", detail="There is no such credit note.")
    lines = await store.note_lines(tx, [key])
    return CreditNoteWithLines.with_lines(found[key], lines.get(key, []))


def _request(caller: Caller, body: CreditNoteNew) -> NoteRequest:
    return NoteRequest(
        tenant_id=caller.tenant_id,
        invoice_id=body.invoice_id,
        reason=body.reason,
        memo=body.memo,
        lines=None
        if body.lines is None
        else [LineRequest(each.n, each.gross_minor) for each in body.lines],
        settlement=body.settlement,
        cause=caller.request_id,
    )


def router(database: Database, keys: Keys, memory: TermsMemory) -> APIRouter:
    """``/v1/credit-notes``."""
    routes = APIRouter(prefix="/v1/credit-notes", tags=["Credit notes"])
    _add_issue(routes, database, keys, memory)
    _add_preview(routes, database)
    _add_reads(routes, database)
    _add_explain(routes, database)
    _add_void(routes, database, keys)
    return routes


def _add_issue(routes: APIRouter, database: Database, keys: Keys, memory: TermsMemory) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=CreditNoteWithLines,
        summary="Issue a credit note",
        description="Gives back lines of an open or paid invoice, or all that is left of it; each"
        " line's share of discount and tax goes with it, as the line has stored them. What is"
        " still open is taken off the invoice, which is paid if nothing is left to pay; what was"
        " paid becomes the customer's credit. Earlier credit notes and what later invoices took"
        " back count, so that never more is given back than was billed.",
        responses={**problems(*_REFUSALS, "forbidden")},
    )
    async def issue_credit_note(
        body: CreditNoteNew, caller: CallerAdmin, response: Response
    ) -> CreditNoteWithLines:
        async def work(tx: Tx, credit_note_id: UUID) -> CreditNoteWithLines:
            await credit_notes.issue(
                tx, memory, _request(caller, body), credit_note_id=credit_note_id
            )
            return await again(tx, credit_note_id)

        async def again(tx: Tx, credit_note_id: UUID) -> CreditNoteWithLines:
            return await _load(tx, caller.tenant_id, credit_note_id)

        answered = await keys.run(
            database,
            SAVE_CREDIT_NOTE,
            caller,
            operation="credit_notes.issue",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)


def _add_preview(routes: APIRouter, database: Database) -> None:
    @routes.post(
        "/preview",
        response_model=CreditNotePreview,
        summary="Preview a credit note",
        description="What the same request would give back now, and where it would go. Nothing is"
        " saved.",
        responses={**problems(*_REFUSALS)},
    )
    async def preview_credit_note(body: CreditNoteNew, caller: CallerRead) -> CreditNotePreview:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return CreditNotePreview.of(await credit_notes.preview(tx, _request(caller, body)))


def _add_reads(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[CreditNote],
        summary="List credit notes",
        description="Newest first, without their lines; of one customer, one invoice, or all.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def list_credit_notes(
        caller: CallerRead,
        query: PageQuery,
        customer_id: Annotated[CustomerId | None, Query(description="Who paid.")] = None,
        invoice_id: Annotated[InvoiceId | None, Query()] = None,
    ) -> Page[CreditNote]:
        tenant_id, before = caller.tenant_id, before_id(query, "cn")
        async with database.transaction(READ, tenants=[tenant_id]) as tx:
            if customer_id is not None:
                await customers.load(tx, tenant_id, customer_id)
            if invoice_id is not None:
                key = (tenant_id, invoice_id)
                if key not in await invoices_store.invoices(tx, [key]):
                    raise Problem("not_found", detail="There is no such invoice.")
            rows = await store.list_notes(
                tx,
                tenant_id,
                account_id=customer_id,
                invoice_id=invoice_id,
                before=before,
                limit=query.limit + 1,
            )
        found = page(rows, query, key=lambda row: id_key(row, "cn"))
        return Page(
            data=[CreditNote.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )

    @routes.get(
        "/{credit_note_id}",
        response_model=CreditNoteWithLines,
        summary="Get a credit note",
        description="A credit note with its lines, void ones too.",
        responses={**problems("not_found")},
    )
    async def get_credit_note(
        credit_note_id: CreditNoteId, caller: CallerRead
    ) -> CreditNoteWithLines:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _load(tx, caller.tenant_id, credit_note_id)


def _add_explain(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "/{credit_note_id}/explain",
        response_model=CreditNoteExplanation,
        summary="Explain a credit note",
        description="The computation of every line and of where the total went, as it was stored"
        " when the note was issued. In words with `format=text` or `Accept: text/plain`, in"
        " English or Russian.",
        responses={
            200: {"content": {"text/plain": {"example": _EXAMPLE_TEXT}}},
            **problems("not_found"),
        },
    )
    async def explain_credit_note(
        request: Request,
        credit_note_id: CreditNoteId,
        caller: CallerRead,
        form: Annotated[Literal["json", "text"] | None, Query(alias="format")] = None,
        locale: Annotated[
            Literal["en", "ru"] | None,
            Query(description="Of the words; by Accept-Language if left out."),
        ] = None,
    ) -> CreditNoteExplanation | Response:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            explained = await explain_note(
                tx, tenant_id=caller.tenant_id, credit_note_id=credit_note_id
            )
        language = words_asked(request, form, locale)
        if language is not None:
            return in_words(note_texts.explanation(explained, language), language)
        return CreditNoteExplanation.of(explained)


def _add_void(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/{credit_note_id}/void",
        response_model=CreditNoteWithLines,
        summary="Void a credit note",
        description="A note of which nothing was used: its invoice is still open, its credit"
        " whole. Its postings are reversed and its lines can be credited again.",
        responses={
            **problems(
                "not_found",
                "credit_note_void",
                "credit_note_used",
                "invoice_reserved",
                "invalid_request",
                "forbidden",
            ),
        },
    )
    async def void_credit_note(
        credit_note_id: CreditNoteId, body: CreditNoteVoid, caller: CallerAdmin, response: Response
    ) -> CreditNoteWithLines:
        async def work(tx: Tx, _: UUID) -> CreditNoteWithLines:
            await credit_notes.void(
                tx,
                tenant_id=caller.tenant_id,
                credit_note_id=credit_note_id,
                reason=body.reason,
                cause=caller.request_id,
            )
            return await again(tx, credit_note_id)

        async def again(tx: Tx, _: UUID) -> CreditNoteWithLines:
            return await _load(tx, caller.tenant_id, credit_note_id)

        answered = await keys.run(
            database,
            SAVE_CREDIT_NOTE,
            caller,
            operation="credit_notes.void",
            body=body,
            work=work,
            load=again,
            new_id=credit_note_id,
        )
        return replayed(response, answered)
