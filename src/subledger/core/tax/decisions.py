"""Which taxes a sale bears, and why.

The rules of the EU are those for services supplied electronically: Directive 2006/112/EC, articles
44 and 196 (a business buyer accounts for the tax itself), 58 and 59c (a consumer is taxed at home,
unless the seller's sales over the border stay below a threshold). Goods and their exceptions are
not decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any

from subledger.core.errors import MissingTaxRate
from subledger.core.tax.places import Place, in_eu
from subledger.core.tax.rates import Rate, RateTable, Treatment, check_text


class Reason(StrEnum):
    """Why a sale bears the tax that it bears."""

    STANDARD = "standard"
    REVERSE_CHARGE = "reverse_charge"
    EXEMPT = "exempt"
    ZERO_RATED = "zero_rated"
    NOT_REGISTERED = "not_registered"

    @property
    def note_key(self) -> str | None:
        """The key of the text that the invoice must carry; None for ordinary tax."""
        return None if self is Reason.STANDARD else f"tax_note.{self.value}"


@dataclass(frozen=True, slots=True)
class Seller:
    """Who sells, from where. ``registered`` is False for a small business that charges no tax at
    all; ``below_eu_threshold`` is True while its consumer sales to other members stay below
    EUR 10,000 a year, so that they are taxed at home (article 59c)."""

    place: Place
    registered: bool = True
    below_eu_threshold: bool = False


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who buys, and where. ``exempt_reason`` (text, for the invoice) makes all its purchases
    exempt; ``rates`` are agreed for this buyer and replace those of the table. ``vat_id_valid``
    is what a check outside the core has found."""

    place: Place
    vat_id_valid: bool = False
    exempt_reason: str | None = None
    rates: tuple[Rate, ...] = ()

    def __post_init__(self) -> None:
        if self.exempt_reason is not None:
            check_text(self.exempt_reason, pointer="/exempt_reason")


@dataclass(frozen=True, slots=True)
class Decision:
    """The rates of a line and the reason. ``place`` is where it is taxed.

    A sale that bears no tax for a reason keeps an entry of 0 percent, so that the invoice shows a
    base for it; only what is not taxable at all has no rate.
    """

    reason: Reason
    rates: tuple[Rate, ...]
    place: Place
    exempt_reason: str | None = None

    @property
    def note_key(self) -> str | None:
        return self.reason.note_key

    def data(self) -> dict[str, Any]:
        """The decision as plain data, for the derivation of a line."""
        return {
            "reason": self.reason.value,
            "note_key": self.note_key,
            "exempt_reason": self.exempt_reason,
            "country": self.place.country,
            "region": self.place.region,
            "rates": [{"rate_id": each.id, "percent": each.percent_text} for each in self.rates],
        }


def decide(
    seller: Seller,
    buyer: Buyer,
    *,
    category: str | None,
    at: date,
    rules: RateTable,
    line_rates: Sequence[Rate] = (),
) -> Decision:
    """The taxes of one line, on the local date of its supply.

    The first that fits: the seller charges no tax; the buyer is exempt; reverse charge (the buyer
    is an EU business with a valid VAT id in another country than the seller's); ``line_rates``;
    the buyer's own rates; the table's rules of the place of taxation. Without a rule a sale is
    not taxable, as the seller is not registered there, except from one EU country to the same or
    another: that raises MissingTaxRate, since no rule is then an omission.
    """
    home, away = seller.place.for_tax, buyer.place.for_tax
    if not seller.registered:
        return Decision(Reason.NOT_REGISTERED, (), home)
    if buyer.exempt_reason is not None:
        return _untaxed(Reason.EXEMPT, away, buyer.exempt_reason)
    if buyer.vat_id_valid and in_eu(away) and home.country != away.country:
        return _untaxed(Reason.REVERSE_CHARGE, away)
    place = home if seller.below_eu_threshold and in_eu(home) and in_eu(away) else away
    given = tuple(line_rates) or buyer.rates
    if given:
        return Decision(Reason.STANDARD, given, place)
    return _by_rules(place, category=category, at=at, rules=rules, due=in_eu(home))


def _by_rules(
    place: Place, *, category: str | None, at: date, rules: RateTable, due: bool
) -> Decision:
    chosen = rules.select(place, category=category, on=at)
    rates = tuple(rule.rate for rule in chosen)
    treatments = {rule.treatment for rule in chosen}
    if Treatment.TAXED in treatments:
        return Decision(Reason.STANDARD, rates, place)
    if Treatment.ZERO_RATED in treatments:
        return Decision(Reason.ZERO_RATED, rates, place)
    if Treatment.EXEMPT in treatments:
        return Decision(Reason.EXEMPT, rates, place, exempt_reason=chosen[0].rate.name)
    if due and in_eu(place):
        raise MissingTaxRate(
            f"no rate holds in {place.country} on {at.isoformat()}",
            pointer="/rules",
            fix=f"Add a rule for {place.country}, or mark the seller as not registered.",
        )
    return Decision(Reason.NOT_REGISTERED, (), place)


_NONE = Decimal(0)


def _untaxed(reason: Reason, place: Place, exempt_reason: str | None = None) -> Decision:
    rate = Rate(id=reason.value, percent=_NONE, name=reason.value, place=Place(place.country))
    return Decision(reason, (rate,), place, exempt_reason)
