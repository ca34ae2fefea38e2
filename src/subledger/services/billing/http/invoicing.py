"""How invoices are issued: the tenant's settings, a customer's terms, a draft finalized now."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http import invoices as documents
from subledger.services.billing.http.stories import FINALIZE_INVOICE, READ, SAVE_CUSTOMER
from subledger.services.billing.schemas.invoices import InvoiceWithLines
from subledger.services.billing.schemas.invoicing import InvoiceSettings, InvoiceTerms
from subledger.services.billing.schemas.references import CustomerId, InvoiceId
from subledger.services.billing.store import accounts, invoices
from subledger.services.billing.usecases import finalize, invoice_settings


def routers(database: Database, keys: Keys) -> list[APIRouter]:
    """``/v1/invoice-settings``, ``/v1/customers/{id}/invoice-terms``, ``/v1/invoices/{id}/
    finalize``."""
    settings = APIRouter(prefix="/v1/invoice-settings", tags=["Invoices"])
    terms = APIRouter(prefix="/v1/customers", tags=["Customers"])
    drafts = APIRouter(prefix="/v1/invoices", tags=["Invoices"])
    _add_settings(settings, database, keys)
    _add_terms(terms, database, keys)
    _add_finalize(drafts, database, keys)
    return [settings, terms, drafts]


async def _settings(tx: Tx, tenant_id: UUID) -> InvoiceSettings:
    found = await invoices.settings(tx, [tenant_id])
    return InvoiceSettings.of(found.get(tenant_id))


def _add_settings(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.get(
        "",
        response_model=InvoiceSettings,
        summary="Get the invoice settings",
        description="Grace period of drafts, zero invoices, and amounts too small to collect.",
        responses={**problems()},
    )
    async def get_invoice_settings(caller: CallerRead) -> InvoiceSettings:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _settings(tx, caller.tenant_id)

    @routes.put(
        "",
        response_model=InvoiceSettings,
        summary="Replace the invoice settings",
        description="They hold for renewals from now on. What a person buys or changes is billed"
        " at once all the same.",
        responses={**problems("invalid_request", "forbidden")},
    )
    async def put_invoice_settings(
        body: InvoiceSettings, caller: CallerAdmin, response: Response
    ) -> InvoiceSettings:
        async def work(tx: Tx, _: UUID) -> InvoiceSettings:
            await invoice_settings.put_settings(
                tx,
                tenant_id=caller.tenant_id,
                draft_s=body.draft_s,
                zero_invoices=body.zero_invoices,
                minimums=body.minimums_minor,
            )
            return await _settings(tx, caller.tenant_id)

        async def again(tx: Tx, _: UUID) -> InvoiceSettings:
            return await _settings(tx, caller.tenant_id)

        answered = await keys.run(
            database,
            SAVE_CUSTOMER,
            caller,
            operation="invoice_settings.put",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)


async def _terms(tx: Tx, tenant_id: UUID, customer_id: UUID) -> InvoiceTerms:
    """Raises not_found."""
    found = (await accounts.customers(tx, [(tenant_id, customer_id)])).get((tenant_id, customer_id))
    if found is None:
        raise Problem("not_found", detail="There is no such customer.")
    return InvoiceTerms(net_days=found.net_days, consolidate=found.consolidate)


def _add_terms(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.get(
        "/{customer_id}/invoice-terms",
        response_model=InvoiceTerms,
        summary="Get a customer's terms",
        description="When its invoices are due, and whether renewals share one.",
        responses={**problems("not_found")},
    )
    async def get_invoice_terms(customer_id: CustomerId, caller: CallerRead) -> InvoiceTerms:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _terms(tx, caller.tenant_id, customer_id)

    @routes.put(
        "/{customer_id}/invoice-terms",
        response_model=InvoiceTerms,
        summary="Replace a customer's terms",
        description="They hold for invoices that are issued from now on.",
        responses={**problems("not_found", "invalid_request", "forbidden")},
    )
    async def put_invoice_terms(
        customer_id: CustomerId, body: InvoiceTerms, caller: CallerAdmin, response: Response
    ) -> InvoiceTerms:
        async def work(tx: Tx, _: UUID) -> InvoiceTerms:
            await invoice_settings.put_terms(
                tx,
                tenant_id=caller.tenant_id,
                customer_id=customer_id,
                net_days=body.net_days,
                consolidate=body.consolidate,
                cause=caller.request_id,
            )
            return await _terms(tx, caller.tenant_id, customer_id)

        async def again(tx: Tx, _: UUID) -> InvoiceTerms:
            return await _terms(tx, caller.tenant_id, customer_id)

        answered = await keys.run(
            database,
            SAVE_CUSTOMER,
            caller,
            operation="customers.put_invoice_terms",
            body=body,
            work=work,
            load=again,
            new_id=customer_id,
        )
        return replayed(response, answered)


def _add_finalize(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/{invoice_id}/finalize",
        response_model=InvoiceWithLines,
        summary="Finalize a draft",
        description="Gives a draft its number and opens its collection now, however small it is.",
        responses={**problems("not_found", "invoice_not_draft", "forbidden")},
    )
    async def finalize_invoice(
        invoice_id: InvoiceId, caller: CallerAdmin, response: Response
    ) -> InvoiceWithLines:
        async def work(tx: Tx, _: UUID) -> InvoiceWithLines:
            await finalize.finalize_now(
                tx, tenant_id=caller.tenant_id, invoice_id=invoice_id, cause=caller.request_id
            )
            return await documents.load(tx, caller.tenant_id, invoice_id)

        async def again(tx: Tx, _: UUID) -> InvoiceWithLines:
            return await documents.load(tx, caller.tenant_id, invoice_id)

        answered = await keys.run(
            database,
            FINALIZE_INVOICE,
            caller,
            operation="invoices.finalize",
            body=None,
            work=work,
            load=again,
            new_id=invoice_id,
        )
        return replayed(response, answered)
