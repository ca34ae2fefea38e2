"""Tax rates and the table that says where, for what and when each of them holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise

from subledger.core.errors import InvalidTax
from subledger.core.tax.places import Place

MOST_DECIMALS = 12
MOST_PERCENT = 1_000
MOST_RULES = 500
MOST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Rate:
    """A tax of so many percent. ``id`` is opaque text and names this percentage for ever: a new
    percentage is a new rate.

    ``levy`` says which tax it is (``vat``, ``gst``, ``qst``): rates of one levy replace one
    another, those of different levies hold together. A ``compound`` rate is taken of the net
    amount and of all taxes before it. Raises InvalidTax outside 0…1000 percent, for more than 12
    decimals and for texts that are empty or over 200 characters.
    """

    id: str
    percent: Decimal
    name: str
    place: Place
    levy: str = "vat"
    compound: bool = False

    def __post_init__(self) -> None:
        if not self.percent.is_finite() or not 0 <= self.percent <= MOST_PERCENT:
            raise InvalidTax(
                f"a tax lies between 0 and {MOST_PERCENT} percent", pointer="/percent",
                fix='Use a decimal text such as "19" or "7.25".',
            )  # fmt: skip
        power = self.percent.as_tuple().exponent
        # As for prices: "1e-999999" would make an exact fraction of a million digits.
        if not isinstance(power, int) or -power > MOST_DECIMALS:
            raise InvalidTax(
                f"a tax percentage has at most {MOST_DECIMALS} decimals",
                pointer="/percent", fix="Round the percentage.",
            )  # fmt: skip
        for pointer, text in (("/id", self.id), ("/name", self.name), ("/levy", self.levy)):
            check_text(text, pointer=pointer)

    @property
    def percent_text(self) -> str:
        """The percentage in plain decimals: ``7.25``."""
        return format(self.percent.normalize(), "f")


def check_text(text: str, *, pointer: str) -> str:
    """The text itself. Raises InvalidTax if it is empty or over 200 characters."""
    if not 0 < len(text) <= MOST_TEXT:
        raise InvalidTax(
            f"a text has 1 to {MOST_TEXT} characters", pointer=pointer, fix="Shorten or fill it."
        )
    return text


class Treatment(StrEnum):
    """How a rule treats what it covers. Exempt and zero-rated sales bear no tax alike; they differ
    in the seller's right to deduct, so an invoice must say which."""

    TAXED = "taxed"
    ZERO_RATED = "zero_rated"
    EXEMPT = "exempt"


@dataclass(frozen=True, slots=True)
class Rule:
    """In its place the rate holds from ``from_on`` until before ``until_on`` (None: open), for one
    product category or for all that have no rule of their own.

    Raises InvalidTax if it ends before it begins, or is exempt or zero-rated with a percentage.
    """

    rate: Rate
    category: str | None = None
    treatment: Treatment = Treatment.TAXED
    from_on: date | None = None
    until_on: date | None = None

    def __post_init__(self) -> None:
        if self.from_on and self.until_on and self.from_on >= self.until_on:
            raise InvalidTax(
                "a rule ends after it begins", pointer="/until_on", fix="Give a later date."
            )
        if self.treatment is not Treatment.TAXED and self.rate.percent != 0:
            raise InvalidTax(
                f"what is {self.treatment.value} has no percentage",
                pointer="/rate/percent",
                fix="Use a rate of 0.",
            )
        if self.category is not None:
            check_text(self.category, pointer="/category")

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it covers: levy, country, region, category."""
        place = self.rate.place
        return (self.rate.levy, place.country, place.region or "", self.category or "")

    def holds(self, on: date) -> bool:
        return (self.from_on is None or self.from_on <= on) and (
            self.until_on is None or on < self.until_on
        )


@dataclass(frozen=True, slots=True)
class RateTable:
    """At most 500 rules. Raises InvalidTax if two cover the same at one time, since the order of
    rules must not decide a tax, or if one id names two rates."""

    rules: tuple[Rule, ...]
    _by_country: dict[str, list[Rule]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.rules) > MOST_RULES:
            raise InvalidTax(
                f"a table has at most {MOST_RULES} rules", pointer="/rules", fix="Drop old rules."
            )
        _check_overlaps(self.rules)
        rates: dict[str, Rate] = {}
        by_country: dict[str, list[Rule]] = {}
        for rule in self.rules:
            if rates.setdefault(rule.rate.id, rule.rate) != rule.rate:
                raise InvalidTax(
                    f"{rule.rate.id!r} names two rates", pointer="/rules", fix="Use another id."
                )
            by_country.setdefault(rule.rate.place.country, []).append(rule)
        object.__setattr__(self, "_by_country", by_country)

    def select(self, place: Place, *, category: str | None, on: date) -> tuple[Rule, ...]:
        """The rules that hold: of each levy the most specific one. A region's rule comes before
        its country's, then one for the category before one for all.

        In the order in which they are taken: plain before compound, country before region, then
        as the table has them. Empty if there is none.
        """
        assert not isinstance(on, datetime), "tax holds on a local date"
        place = place.for_tax
        best: dict[str, Rule] = {}
        for rule in self._by_country.get(place.country, ()):
            region = rule.rate.place.region
            if region != place.region and (region is not None or place.apart):
                continue
            if (rule.category is not None and rule.category != category) or not rule.holds(on):
                continue
            found = best.get(rule.rate.levy)
            if found is None or _rank(found) < _rank(rule):
                best[rule.rate.levy] = rule
        if len(best) <= 1:
            return tuple(best.values())
        chosen = [rule for rule in self._by_country[place.country] if rule in best.values()]
        return tuple(sorted(chosen, key=_turn))


def _rank(rule: Rule) -> tuple[bool, bool]:
    return (rule.rate.place.region is not None, rule.category is not None)


def _turn(rule: Rule) -> tuple[bool, bool]:
    return (rule.rate.compound, rule.rate.place.region is not None)


def _check_overlaps(rules: Sequence[Rule]) -> None:
    ordered = sorted(rules, key=lambda rule: (rule.key, rule.from_on or date.min))
    for one, other in pairwise(ordered):
        if one.key == other.key and (one.until_on or date.max) > (other.from_on or date.min):
            raise InvalidTax(
                f"{one.rate.id!r} and {other.rate.id!r} cover the same at one time",
                pointer="/rules",
                fix="End the older rule on the day from which the newer one holds.",
            )
