"""Tax settings, rates, rules, and the tax preview."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing import texts
from subledger.services.billing.http.catalogue import CodeFilter
from subledger.services.billing.http.paging import before_id, id_key
from subledger.services.billing.http.stories import READ, SAVE_CATALOGUE
from subledger.services.billing.schemas.references import TaxRateId, TaxRuleId
from subledger.services.billing.schemas.tax_preview import TaxPreview, TaxPreviewNew
from subledger.services.billing.schemas.taxes import (
    TaxRate,
    TaxRateNew,
    TaxRule,
    TaxRuleEnd,
    TaxRuleNew,
    TaxSettings,
    TaxSettingsNew,
)
from subledger.services.billing.store import taxes as store
from subledger.services.billing.tax_terms import TaxMemory
from subledger.services.billing.usecases import tax_settings
from subledger.services.billing.usecases.tax_preview import preview


def routers(database: Database, keys: Keys, memory: TaxMemory) -> list[APIRouter]:
    """``/v1/tax-settings``, ``/v1/tax-rates``, ``/v1/tax-rules``, ``/v1/tax-preview``."""
    settings = APIRouter(prefix="/v1/tax-settings", tags=["Taxes"])
    rates = APIRouter(prefix="/v1/tax-rates", tags=["Taxes"])
    rules = APIRouter(prefix="/v1/tax-rules", tags=["Taxes"])
    previews = APIRouter(prefix="/v1/tax-preview", tags=["Taxes"])
    _add_settings(settings, database, memory)
    _write_rates(rates, database, keys)
    _read_rates(rates, database)
    _write_rules(rules, database, keys)
    _end_rules(rules, database, keys)
    _read_rules(rules, database)
    _add_preview(previews, database, memory)
    return [settings, rates, rules, previews]


async def _settings(tx: Tx, tenant_id: UUID) -> TaxSettings:
    found = await store.settings(tx, [tenant_id])
    if not found:
        raise Problem("not_found", detail="There are no tax settings: no invoice is taxed.")
    return TaxSettings.of(found[tenant_id])


async def _rate(tx: Tx, tenant_id: UUID, rate_id: UUID) -> TaxRate:
    found = await store.rates(tx, [(tenant_id, rate_id)])
    if not found:
        raise Problem("not_found", detail="There is no such tax rate.")
    return TaxRate.of(found[tenant_id, rate_id])


async def _rule(tx: Tx, tenant_id: UUID, rule_id: UUID) -> TaxRule:
    found = await store.rules(tx, [(tenant_id, rule_id)])
    if not found:
        raise Problem("not_found", detail="There is no such tax rule.")
    return TaxRule.of(found[tenant_id, rule_id])


def _add_settings(routes: APIRouter, database: Database, memory: TaxMemory) -> None:
    @routes.get(
        "",
        response_model=TaxSettings,
        summary="Get the tax settings",
        description="Who sells, and how taxes are rounded. Without settings no invoice carries"
        " tax.",
        responses={**problems("not_found")},
    )
    async def get_tax_settings(caller: CallerRead) -> TaxSettings:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _settings(tx, caller.tenant_id)

    @routes.put(
        "",
        response_model=TaxSettings,
        summary="Set the tax settings",
        description="Replaces the settings. Invoices from now on are taxed by them; those that were"
        " made stay, and so do the taxes that their credits give back.",
        responses={**problems("tax_id_invalid", "invalid_request", "forbidden")},
    )
    async def put_tax_settings(body: TaxSettingsNew, caller: CallerAdmin) -> TaxSettings:
        async def work(tx: Tx) -> TaxSettings:
            await tax_settings.put_settings(
                tx,
                tenant_id=caller.tenant_id,
                settings=body.settings(),
                providers=memory.providers.keys(),
                cause=caller.request_id,
            )
            return await _settings(tx, caller.tenant_id)

        return await database.transact(SAVE_CATALOGUE, work, tenants=[caller.tenant_id])


def _write_rates(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=TaxRate,
        summary="Create a tax rate",
        description="A percentage of one tax in one place, for rules, or to agree on with single"
        " customers. It never changes.",
        responses={**problems("code_taken", "too_many_tax_rates", "invalid_request", "forbidden")},
    )
    async def create_tax_rate(body: TaxRateNew, caller: CallerAdmin, response: Response) -> TaxRate:
        async def work(tx: Tx, rate_id: UUID) -> TaxRate:
            await tax_settings.create_rate(
                tx,
                tenant_id=caller.tenant_id,
                rate_id=rate_id,
                new=body.new(),
                cause=caller.request_id,
            )
            return await _rate(tx, caller.tenant_id, rate_id)

        async def again(tx: Tx, rate_id: UUID) -> TaxRate:
            return await _rate(tx, caller.tenant_id, rate_id)

        answered = await keys.run(
            database,
            SAVE_CATALOGUE,
            caller,
            operation="tax_rates.create",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)


def _read_rates(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[TaxRate],
        summary="List tax rates",
        description="Newest first; with `code` at most one.",
        responses={**problems("invalid_request")},
    )
    async def list_tax_rates(
        caller: CallerRead, query: PageQuery, code: CodeFilter = None
    ) -> Page[TaxRate]:
        before = before_id(query, "txr")
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.list_rates(
                tx, caller.tenant_id, code=code, before=before, limit=query.limit + 1
            )
        found = page(rows, query, key=lambda row: id_key(row, "txr"))
        return Page(
            data=[TaxRate.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )

    @routes.get(
        "/{tax_rate_id}",
        response_model=TaxRate,
        summary="Get a tax rate",
        description="A percentage of one tax in one place.",
        responses={**problems("not_found")},
    )
    async def get_tax_rate(tax_rate_id: TaxRateId, caller: CallerRead) -> TaxRate:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _rate(tx, caller.tenant_id, tax_rate_id)


def _write_rules(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=TaxRule,
        summary="Create a tax rule",
        description="Where, for which products and when a rate holds. Two rules for the same levy,"
        " place and category never hold on one day: end the older one first. Rules of one rank are"
        " taken in the order of their rates' codes, compound ones last.",
        responses={
            **problems(
                "unknown_reference",
                "tax_rules_overlap",
                "too_many_tax_rates",
                "code_taken",
                "invalid_request",
                "forbidden",
            )
        },
    )
    async def create_tax_rule(body: TaxRuleNew, caller: CallerAdmin, response: Response) -> TaxRule:
        async def work(tx: Tx, rule_id: UUID) -> TaxRule:
            await tax_settings.create_rule(
                tx,
                tenant_id=caller.tenant_id,
                rule_id=rule_id,
                new=body.new(),
                cause=caller.request_id,
            )
            return await _rule(tx, caller.tenant_id, rule_id)

        async def again(tx: Tx, rule_id: UUID) -> TaxRule:
            return await _rule(tx, caller.tenant_id, rule_id)

        answered = await keys.run(
            database,
            SAVE_CATALOGUE,
            caller,
            operation="tax_rules.create",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)


def _end_rules(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/{tax_rule_id}/end",
        response_model=TaxRule,
        summary="End a tax rule",
        description="The day from which the rule no longer holds. A rule that ends at or before its"
        " first day never holds. Invoices that were made stay.",
        responses={**problems("not_found", "tax_rules_overlap", "invalid_request", "forbidden")},
    )
    async def end_tax_rule(
        tax_rule_id: TaxRuleId, body: TaxRuleEnd, caller: CallerAdmin, response: Response
    ) -> TaxRule:
        async def work(tx: Tx, _: UUID) -> TaxRule:
            await tax_settings.end_rule(
                tx,
                tenant_id=caller.tenant_id,
                rule_id=tax_rule_id,
                until_on=body.until_on,
                cause=caller.request_id,
            )
            return await _rule(tx, caller.tenant_id, tax_rule_id)

        async def again(tx: Tx, _: UUID) -> TaxRule:
            return await _rule(tx, caller.tenant_id, tax_rule_id)

        answered = await keys.run(
            database,
            SAVE_CATALOGUE,
            caller,
            operation="tax_rules.end",
            body=body,
            work=work,
            load=again,
            new_id=tax_rule_id,
        )
        return replayed(response, answered)


def _read_rules(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[TaxRule],
        summary="List tax rules",
        description="Newest first, each with its rate; ended ones too.",
        responses={**problems("invalid_request")},
    )
    async def list_tax_rules(caller: CallerRead, query: PageQuery) -> Page[TaxRule]:
        before = before_id(query, "tru")
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.list_rules(
                tx, caller.tenant_id, before=before, limit=query.limit + 1
            )
        found = page(rows, query, key=lambda row: id_key(row, "tru"))
        return Page(
            data=[TaxRule.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )

    @routes.get(
        "/{tax_rule_id}",
        response_model=TaxRule,
        summary="Get a tax rule",
        description="A rule with its rate, an ended one too.",
        responses={**problems("not_found")},
    )
    async def get_tax_rule(tax_rule_id: TaxRuleId, caller: CallerRead) -> TaxRule:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await _rule(tx, caller.tenant_id, tax_rule_id)


def _add_preview(routes: APIRouter, database: Database, memory: TaxMemory) -> None:
    @routes.post(
        "",
        response_model=TaxPreview,
        summary="Preview taxes",
        description="What an invoice of these amounts would carry now, for a customer or for a"
        " buyer who is none yet. Nothing is saved.",
        responses={
            **problems(
                "unknown_reference",
                "tax_settings_missing",
                "tax_rate_missing",
                "tax_location_missing",
                "tax_unavailable",
                "tax_id_invalid",
                "invalid_request",
            )
        },
    )
    async def preview_tax(
        body: TaxPreviewNew,
        caller: CallerRead,
        locale: Annotated[texts.Language, Query(description="Of the notes.")] = "en",
    ) -> TaxPreview:
        buyer, amounts = body.asked()
        async with database.transaction(
            READ, tenants=[caller.tenant_id], repeatable_read=True
        ) as tx:
            found = await preview(
                tx, memory, tenant_id=caller.tenant_id, buyer=buyer, amounts=amounts
            )
        notes = [{**each, "text": texts.tax_note(each, locale)} for each in found.tax["notes"]]
        return TaxPreview.of(found, {**found.tax, "notes": notes})
