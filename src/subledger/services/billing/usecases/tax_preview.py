"""Preview of taxes: what amounts would come to for a customer, or for someone who is none yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from subledger.core.errors import CoreError
from subledger.core.local_days import local_date
from subledger.core.tax import Buyer, Decision, DocumentTax, TaxLine, compute
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import catalogue, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.tax_data import TaxedLine, summary
from subledger.services.billing.tax_provider import TaxRequest
from subledger.services.billing.tax_terms import ROUNDING_NAMES, TaxMemory, TaxTerms
from subledger.services.billing.usecases import taxes
from subledger.services.billing.usecases.customer_taxes import place_of, vat_id_of


@dataclass(frozen=True, slots=True)
class Amount:
    """Minor units after discounts: net, or with the taxes in them; for a product, or for a kind of
    product."""

    amount_minor: int
    product_id: UUID | None
    category: str | None
    tax_inclusive: bool


@dataclass(frozen=True, slots=True)
class Visitor:
    """A buyer who is no customer yet; ``region`` and ``tax_id`` may be empty."""

    country: str
    region: str
    tax_id: str
    timezone: str


@dataclass(frozen=True, slots=True)
class Previewed:
    """Each amount's decision, in order; what they come to; and the document's taxes as data."""

    on: date
    decisions: Sequence[Decision]
    document: DocumentTax
    tax: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Decided:
    on: date
    decisions: list[Decision]
    parties: dict[str, Any]


async def preview(
    tx: Tx, memory: TaxMemory, *, tenant_id: UUID, buyer: UUID | Visitor, amounts: Sequence[Amount]
) -> Previewed:
    """The taxes that an invoice of these amounts would carry now. Nothing is saved.

    Raises tax_settings_missing, unknown_reference (customer, product), tax_rate_missing,
    tax_location_missing, tax_unavailable, tax_id_invalid.
    """
    terms = (await memory.load(tx, [tenant_id])).get(tenant_id)
    if terms is None:
        raise Problem(
            problems.TAX_SETTINGS_MISSING, detail="There are no tax settings: no invoice is taxed."
        )
    await _check_products(tx, tenant_id, amounts)
    now = await tx.now(tenant_id)
    try:
        if isinstance(buyer, UUID):
            decided = await _for_customer(tx, memory, (tenant_id, buyer), amounts, now)
        else:
            categories = await memory.categories(
                tx, {tenant_id: terms}, _products(tenant_id, amounts)
            )
            kinds = [
                each.category if each.product_id is None else categories[tenant_id, each.product_id]
                for each in amounts
            ]
            decided = _for_visitor(memory, terms, tenant_id, buyer, kinds, now)
    except CoreError as refused:
        pointer = "/customer_id" if isinstance(buyer, UUID) else "/buyer/country"
        told = taxes.problem(refused, pointer=pointer)
        if told is None:
            raise
        raise told from refused
    document = compute(
        [
            TaxLine(each.amount_minor, decision.rates, inclusive=each.tax_inclusive)
            for each, decision in zip(amounts, decided.decisions, strict=True)
        ],
        rounding=terms.rounding,
        ties=terms.ties,
    )
    lines = map(TaxedLine.of, decided.decisions, document.lines)
    data = summary(
        lines, rates=terms.rates, parties=decided.parties, rounding=ROUNDING_NAMES[terms.rounding]
    )
    return Previewed(decided.on, decided.decisions, document, data)


def _products(tenant_id: UUID, amounts: Sequence[Amount]) -> set[Key]:
    return {(tenant_id, each.product_id) for each in amounts if each.product_id is not None}


async def _check_products(tx: Tx, tenant_id: UUID, amounts: Sequence[Amount]) -> None:
    wanted = _products(tenant_id, amounts)
    found = await catalogue.products(tx, wanted) if wanted else {}
    for n, each in enumerate(amounts):
        if each.product_id is not None and (tenant_id, each.product_id) not in found:
            raise Problem(
                problems.UNKNOWN_REFERENCE,
                pointer=f"/lines/{n}/product_id",
                detail="There is no such product.",
            )


async def _for_customer(
    tx: Tx, memory: TaxMemory, key: tuple[UUID, UUID], amounts: Sequence[Amount], now: datetime
) -> _Decided:
    account = (await subscriptions.accounts(tx, [key])).get(key)
    if account is None or account.deleted_at is not None:
        raise Problem(
            problems.UNKNOWN_REFERENCE, pointer="/customer_id", detail="There is no such customer."
        )
    at = max(now, account.last_occurred_at)
    sales = [taxes.Sale(*key, at, each.product_id, each.category) for each in amounts]
    found = await taxes.taxes_for(tx, memory, sales)
    decisions = [decision for sale in sales if (decision := found.of(sale)) is not None]
    parties = found.parties(*key)
    assert parties is not None, "the tenant has tax settings"
    return _Decided(local_date(at, account.timezone), decisions, parties)


def _for_visitor(
    memory: TaxMemory,
    terms: TaxTerms,
    tenant_id: UUID,
    visitor: Visitor,
    categories: Sequence[str | None],
    now: datetime,
) -> _Decided:
    place = place_of(visitor.country, visitor.region, pointer="/buyer")
    tax_id = ""
    if visitor.tax_id:
        tax_id = vat_id_of(visitor.tax_id, visitor.country, pointer="/buyer/tax_id")
    on = local_date(now, visitor.timezone)
    requests = {
        n: TaxRequest(tenant_id, terms.seller, Buyer(place, bool(tax_id)), category, on)
        for n, category in enumerate(categories)
    }
    answers = taxes.decide_all(memory, {tenant_id: terms}, requests)
    decisions = []
    for n in range(len(categories)):
        answer = answers[n]
        if isinstance(answer, CoreError):
            raise answer
        decisions.append(answer)
    buyer = {
        "country": place.country,
        "region": place.region,
        "vat_id": tax_id or None,
    }
    return _Decided(on, decisions, {"seller": taxes.seller_data(terms), "buyer": buyer})
