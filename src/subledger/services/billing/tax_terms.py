"""Each tenant's taxes as the core sees them: kept for as long as their edition holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.core.tax import Place, Rate, RateTable, Rounding, Rule, Seller, Ties, Treatment
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.billing.store import taxes as store
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.tax_provider import TaxProvider

ROUNDINGS: Mapping[str, Rounding] = {
    "per_tax": Rounding.PER_TAX,
    "per_line": Rounding.PER_LINE,
    "per_document": Rounding.PER_DOCUMENT,
}
ROUNDING_NAMES: Mapping[Rounding, str] = {kind: name for name, kind in ROUNDINGS.items()}
_MOST_TENANTS = 2_000
_MOST_PRODUCTS = 50_000


@dataclass(frozen=True, slots=True)
class TaxTerms:
    """What one edition of a tenant's taxes says. ``rates`` by public id, also those that no rule
    names: they are agreed with single customers. ``categories`` are those of the products that
    were asked for so far."""

    seller: Seller
    vat_id: str | None
    rounding: Rounding
    ties: Ties
    provider: str
    rules: RateTable
    rates: Mapping[str, Rate]
    categories: dict[UUID, str | None] = field(default_factory=dict, compare=False)


class TaxMemory:
    """Tax terms seen by this process, of the tenants used last.

    A tenant's edition is read with every batch (one row by primary key, none for a tenant without
    taxes); the rest only when the edition is a new one. An edition is an id that no other content
    ever has, so what a transaction saw before it rolled back harms nobody.
    """

    def __init__(self, providers: Mapping[str, TaxProvider] | None = None) -> None:
        self.providers: Mapping[str, TaxProvider] = providers or {}
        """Providers besides the built-in one, by the code that the settings name."""
        self._known: OrderedDict[UUID, tuple[UUID, TaxTerms | None]] = OrderedDict()

    async def load(self, tx: Tx, tenants: Iterable[UUID]) -> dict[UUID, TaxTerms]:
        """The terms of each tenant that has tax settings; the others are left out."""
        wanted = set(tenants)
        assert wanted <= tx.tenants, "taxes of a tenant out of sight"
        now = await store.editions(tx, wanted) if wanted else {}
        stale = [each for each, edition in now.items() if self._edition(each) != edition]
        for row in await store.terms(tx, stale) if stale else ():
            self._known[row.tenant_id] = (row.edition, _read(row))
        found = {}
        for tenant in now:
            self._known.move_to_end(tenant)
            terms = self._known[tenant][1]
            if terms is not None:
                found[tenant] = terms
        while len(self._known) > _MOST_TENANTS:
            self._known.popitem(last=False)
        return found

    async def categories(
        self, tx: Tx, terms: Mapping[UUID, TaxTerms], products: Iterable[Key]
    ) -> dict[Key, str | None]:
        """The tax category of each product of these tenants."""
        wanted = set(products)
        missing = [key for key in wanted if key[1] not in terms[key[0]].categories]
        read = await store.categories(tx, missing) if missing else {}
        found = {key: read.get(key) for key in missing}
        for key in wanted - found.keys():
            found[key] = terms[key[0]].categories[key[1]]
        for (tenant, product), category in found.items():
            if len(terms[tenant].categories) < _MOST_PRODUCTS:
                terms[tenant].categories[product] = category
        return found

    def _edition(self, tenant: UUID) -> UUID | None:
        return self._known[tenant][0] if tenant in self._known else None


def rate_of(data: Iterable[Any]) -> Rate:
    """A rate from id, percentage (text), name, country, region, levy, compound."""
    rate_id, percent, name, country, region, levy, compound = data
    return Rate(
        id=ids.text("txr", rate_id if isinstance(rate_id, UUID) else UUID(rate_id)),
        percent=Decimal(percent),
        name=name,
        place=Place(country, region or None),
        levy=levy,
        compound=compound,
    )


def rule_of(
    rate: Rate, *, category: str, treatment: str, from_on: date | None, until_on: date | None
) -> Rule | None:
    """A rule as the core sees it; None for one that was ended before it began to hold."""
    if from_on is not None and until_on is not None and until_on <= from_on:
        return None
    return Rule(rate, category or None, Treatment(treatment), from_on, until_on)


def _read(row: Row[Any]) -> TaxTerms | None:
    if row.country is None:
        return None
    rates = {each.id: each for each in map(rate_of, msgspec.json.decode(row.rates or "[]"))}
    rules = [
        rule_of(
            rates[ids.text("txr", UUID(rate_id))],
            category=category,
            treatment=treatment,
            from_on=_day(from_on),
            until_on=_day(until_on),
        )
        for rate_id, category, treatment, from_on, until_on in msgspec.json.decode(
            row.rules or "[]"
        )
    ]
    return TaxTerms(
        seller=Seller(
            Place(row.country, row.region or None),
            registered=row.registered,
            below_eu_threshold=row.below_eu_threshold,
        ),
        vat_id=row.vat_id or None,
        rounding=ROUNDINGS[row.rounding],
        ties=Ties(row.ties),
        provider=row.provider,
        rules=RateTable(tuple(each for each in rules if each is not None)),
        rates=rates,
    )


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
