"""Taxes of sales: decided for a batch by the tenants' own rules or their tax provider."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core.errors import CoreError, InvalidTax, MissingTaxRate
from subledger.core.local_days import local_date
from subledger.core.tax import Buyer, Decision, Place, Rate, Rounding, Ties
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.tax_provider import (
    BUILT_IN,
    Answer,
    BuiltIn,
    TaxProvider,
    TaxRequest,
    TaxUnavailable,
    answers,
)
from subledger.services.billing.tax_terms import TaxMemory, TaxTerms
from subledger.services.billing.vat_ids import country_of


class TaxLocationMissing(InvalidTax):
    """Nobody knows where the buyer is: an unknown place is not a place without tax."""

    code = "tax_location_missing"


@dataclass(frozen=True, slots=True)
class Sale:
    """What is to be taxed: to which customer, at which moment, which product.

    The date of supply is the local date of ``at`` in the customer's time zone. The category is
    that of the product, unless one is given.
    """

    tenant_id: UUID
    account_id: UUID
    at: datetime
    product_id: UUID | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Taxes:
    """What was decided for a batch of sales."""

    terms: Mapping[UUID, TaxTerms]
    accounts: Mapping[Key, Row[Any]]
    answers: Mapping[Sale, Answer]

    def of(self, sale: Sale) -> Decision | None:
        """The decision; None if the tenant has no tax settings, so that there is no tax at all.

        Raises a CoreError if there is none: MissingTaxRate, TaxLocationMissing, TaxUnavailable.
        Then nothing may be invoiced (``problem`` tells a person; a renewal is parked).
        """
        if sale.tenant_id not in self.terms:
            return None
        answer = self.answers[sale]
        if isinstance(answer, CoreError):
            raise answer
        return answer

    def rounding(self, tenant_id: UUID) -> Rounding:
        """What the tenant has rounded once; the default of the core without settings."""
        return self.terms[tenant_id].rounding if tenant_id in self.terms else Rounding.PER_TAX

    def ties(self, tenant_id: UUID) -> Ties:
        return self.terms[tenant_id].ties if tenant_id in self.terms else Ties.HALF_UP

    def rates(self, tenant_id: UUID) -> Mapping[str, Rate]:
        """All rates of the tenant by their id, those of ended rules too."""
        return self.terms[tenant_id].rates if tenant_id in self.terms else {}

    def parties(self, tenant_id: UUID, account_id: UUID) -> dict[str, Any] | None:
        """Seller and buyer as an invoice shows them, as data; None without tax settings."""
        if tenant_id not in self.terms:
            return None
        account = self.accounts[tenant_id, account_id]
        return {
            "seller": seller_data(self.terms[tenant_id]),
            "buyer": {
                "country": account.country or None,
                "region": account.region or None,
                "vat_id": account.tax_id or None,
            },
        }


async def taxes_for(tx: Tx, memory: TaxMemory, sales: Iterable[Sale]) -> Taxes:
    """Decide the taxes of a batch, of any number of tenants.

    One statement where all is remembered and the accounts are locked: the tenants' editions.
    Nothing more is read for tenants without tax settings. What cannot be decided is refused for
    its own sale only, when it is asked for (``Taxes.of``).
    """
    wanted = list(dict.fromkeys(sales))
    terms = await memory.load(tx, {each.tenant_id for each in wanted})
    asked = [each for each in wanted if each.tenant_id in terms]
    if not asked:
        return Taxes(terms, {}, {})
    accounts = await subscriptions.accounts(tx, {(e.tenant_id, e.account_id) for e in asked})
    products = {
        (each.tenant_id, each.product_id)
        for each in asked
        if each.category is None and each.product_id is not None
    }
    categories = await memory.categories(tx, terms, products)
    requests: dict[Sale, TaxRequest] = {}
    found: dict[Sale, Answer] = {}
    for sale in asked:
        account = accounts[sale.tenant_id, sale.account_id]
        category = sale.category
        if category is None and sale.product_id is not None:
            category = categories[sale.tenant_id, sale.product_id]
        try:
            requests[sale] = TaxRequest(
                tenant_id=sale.tenant_id,
                seller=terms[sale.tenant_id].seller,
                buyer=buyer_of(account, terms[sale.tenant_id]),
                category=category,
                on=local_date(sale.at, account.timezone),
            )
        except CoreError as refused:
            found[sale] = refused
    return Taxes(terms, accounts, found | decide_all(memory, terms, requests))


def decide_all(
    memory: TaxMemory, terms: Mapping[UUID, TaxTerms], requests: Mapping[Any, TaxRequest]
) -> dict[Any, Answer]:
    """The answer to each request, each provider asked once for all of its tenants'."""
    by_provider: dict[str, list[Any]] = {}
    for key, request in requests.items():
        by_provider.setdefault(terms[request.tenant_id].provider, []).append(key)
    built_in = BuiltIn({tenant: each.rules for tenant, each in terms.items()})
    found: dict[Any, Answer] = {}
    for code, keys in by_provider.items():
        provider: TaxProvider | None = built_in if code == BUILT_IN else memory.providers.get(code)
        found |= zip(keys, answers(provider, [requests[key] for key in keys]), strict=True)
    return found


def buyer_of(account: Row[Any], terms: TaxTerms) -> Buyer:
    """The buyer as the core sees it. Raises TaxLocationMissing without a country, unless the
    seller charges no tax wherever the buyer is."""
    if not account.country:
        if not terms.seller.registered:
            return Buyer(terms.seller.place)
        raise TaxLocationMissing(
            "the customer's country is not known",
            pointer="/country",
            fix="Give the customer a country by PATCH /v1/customers/{id}.",
        )
    place = Place(account.country, account.region or None)
    rates = [ids.text("txr", each) for each in account.tax_rate_ids]
    if not terms.rates.keys() >= set(rates):
        # The rate was made and agreed after this transaction looked: ask again.
        raise TaxUnavailable("a rate agreed with the customer is not known yet")
    return Buyer(
        place,
        vat_id_valid=bool(account.tax_id) and country_of(account.tax_id) == place.for_tax.country,
        exempt_reason=account.tax_exempt_reason or None,
        rates=tuple(terms.rates[each] for each in rates),
    )


def seller_data(terms: TaxTerms) -> dict[str, Any]:
    """The seller as an invoice shows it, as data."""
    place = terms.seller.place
    return {"country": place.country, "region": place.region, "vat_id": terms.vat_id}


def problem(refused: CoreError, *, pointer: str = "/customer_id") -> Problem | None:
    """What a person is told of a refusal to decide; None if the refusal is about something else."""
    for kind, code in (
        (MissingTaxRate, problems.TAX_RATE_MISSING),
        (TaxLocationMissing, problems.TAX_LOCATION_MISSING),
        (TaxUnavailable, problems.TAX_UNAVAILABLE),
    ):
        if isinstance(refused, kind):
            said = f"{refused.detail[:1].upper()}{refused.detail[1:]}."
            return Problem(code, detail=said, fix=refused.fix or None, pointer=pointer)
    return None
