"""What decides on lines beside a subscription's own terms: taxes, how discounts stack, what was
used, and prices agreed with the customer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from subledger.core.pricing import PriceModel
from subledger.core.pricing import Usage as Used
from subledger.core.tax import Rate
from subledger.core.timeline import UNTAXED, Policy, Taxed
from subledger.platform.db import Tx
from subledger.services.billing.store import quantities
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.tax_terms import ROUNDING_NAMES
from subledger.services.billing.terms import PlanTerms, PriceTerms, TermsMemory
from subledger.services.billing.usecases.discounts import Stackings, stackings
from subledger.services.billing.usecases.taxes import Sale, Taxes, taxes_for

Given = tuple[Mapping[str, Any], Iterable[PlanTerms], datetime]
"""A subscription's columns, the plan versions it pays, and the moment of its invoice."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """A price that a customer pays instead of the plan's, in periods that begin from then on."""

    from_at: datetime
    model: PriceModel


@dataclass(frozen=True, slots=True)
class Parties:
    """What an invoice shows of its taxes besides the amounts: seller and buyer as data, the rates
    by id, and what was rounded once."""

    data: Mapping[str, Any]
    rates: Mapping[str, Rate]
    rounding: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was found for a batch of subscriptions."""

    taxes: Taxes
    stackings: Mapping[UUID, Stackings] = field(default_factory=dict)
    used: Mapping[Key, Mapping[tuple[str, datetime], Used]] = field(default_factory=dict)
    agreed: Mapping[tuple[UUID, UUID, UUID], Sequence[Agreed]] = field(default_factory=dict)
    """By tenant, payer and price, the earliest first."""
    at: Mapping[Key, datetime] = field(default_factory=dict)

    def taxed(self, row: Mapping[str, Any], terms: PlanTerms, price: PriceTerms) -> Taxed:
        """The taxes of a price. Raises a CoreError where they cannot be decided."""
        moment = self.at.get((row["tenant_id"], row["id"]))
        if moment is None:
            return UNTAXED
        decision = self.taxes.of(
            Sale(row["tenant_id"], row["payer_id"], moment, product_id=terms.product_id)
        )
        if decision is None:
            return UNTAXED
        return Taxed(decision.rates, price.tax_inclusive, decision.data())

    def parties(self, row: Mapping[str, Any]) -> Parties | None:
        """Seller and buyer, and the seller's rates; None without tax settings."""
        if (row["tenant_id"], row["id"]) not in self.at:
            return None
        found = self.taxes.parties(row["tenant_id"], row["payer_id"])
        if found is None:
            return None
        rounding = ROUNDING_NAMES[self.taxes.rounding(row["tenant_id"])]
        return Parties(found, self.taxes.rates(row["tenant_id"]), rounding)

    def policies(self, row: Mapping[str, Any]) -> tuple[tuple[datetime, Policy], ...]:
        """How the tenant's discounts stack, since when."""
        found = self.stackings.get(row["tenant_id"])
        if found is None:
            return ()
        return tuple(
            (from_at, Policy(each.order, each.exclusive, each.split))
            for from_at, each in found.since
        )

    def used_by(self, row: Mapping[str, Any]) -> Mapping[tuple[str, datetime], Used]:
        """What a subscription used, by price and start of the period."""
        return self.used.get((row["tenant_id"], row["id"]), {})

    def agreed_with(self, row: Mapping[str, Any], price_id: UUID) -> Sequence[Agreed]:
        """The prices agreed with the payer in place of one of the plan."""
        return self.agreed.get((row["tenant_id"], row["payer_id"], price_id), ())


NONE = Conditions(Taxes({}, {}, {}))
"""No taxes, discounts as they come, nothing used."""


async def conditions(tx: Tx, memory: TermsMemory, given: Sequence[Given]) -> Conditions:
    """The conditions of subscriptions whose accounts are locked or only read. What cannot be taxed
    is refused when its lines are made."""
    known = [(row, tuple(terms), at) for row, terms, at in given]
    if not known:
        return NONE
    taxes = await taxes_for(
        tx,
        memory.taxes,
        (
            Sale(row["tenant_id"], row["payer_id"], at, product_id=each.product_id)
            for row, terms, at in known
            for each in terms
        ),
    )
    metered = [
        (row["tenant_id"], row["id"])
        for row, terms, _ in known
        if any(price.metered for each in terms for price in each.prices_in(row["currency"]))
    ]
    payers = {(row["tenant_id"], row["payer_id"]) for row, _, _ in known}
    agreed = await quantities.agreed(tx, payers)
    return Conditions(
        taxes=taxes,
        stackings=await stackings(tx, {row["tenant_id"] for row, _, _ in known}),
        used=await quantities.used(tx, metered) if metered else {},
        agreed={key: tuple(Agreed(*each) for each in found) for key, found in agreed.items()},
        at={(row["tenant_id"], row["id"]): at for row, _, at in known},
    )


async def conditions_of(
    tx: Tx, memory: TermsMemory, row: Mapping[str, Any], terms: Iterable[PlanTerms], at: datetime
) -> Conditions:
    """``conditions`` of one subscription."""
    return await conditions(tx, memory, [(row, terms, at)])
