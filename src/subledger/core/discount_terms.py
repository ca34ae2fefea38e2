"""What a discount is, what it has given, and for how long it runs.

``discounts`` takes them off lines and hands these names on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from subledger.core.calendar import MAX_COUNT, Anchor, Interval, Unit, boundary
from subledger.core.errors import InvalidDiscount
from subledger.core.money import LIMIT_MINOR, Money, exponent
from subledger.core.pricing import check_quantity

MOST_DECIMALS = 12
MOST_NAMES = 1_000
"""Prices, products or plans that one discount may be limited to."""


class Kind(StrEnum):
    PERCENT = "percent"
    FIXED = "fixed"
    FREE_UNITS = "free_units"


class Duration(StrEnum):
    """For how many periods a discount is taken. ``months`` and ``until`` limit it by date."""

    ONCE = "once"
    PERIODS = "periods"
    FOREVER = "forever"


class Spread(StrEnum):
    """Whether a discount is taken on each line, or once over the lines and then split."""

    LINE = "line"
    INVOICE = "invoice"


@dataclass(frozen=True, slots=True)
class Discount:
    """A discount and for how long it runs. ``id`` is opaque text.

    - ``months``: only for the periods that begin within n months of the first it was taken in;
      ``until``: only for those that begin before a moment (UTC). With FOREVER these alone end it.
    - ``applies_to``: names of prices, products, plans or lines; empty means the whole invoice.
    - ``spread``: by default a percentage and free units are per line, a fixed amount is per
      invoice. Conformance README, "line rounding" and "split of an invoice-level amount".
    - ``exclusive``: it does not stack with others.
    - ``carried``: a fixed amount taken once that is larger than the invoice is taken further from
      the next ones (Lago); by default the rest is lost (Stripe, Meteroid).
    - ``prorated``: a fixed amount is scaled by the fraction of the period that is billed.
    - ``other_amounts``: the fixed amount in further currencies.
    - ``caps``: the most that is taken from one invoice, by currency, or in all if
      ``cap_for_life``. An invoice in a currency without a cap is then passed over.

    Raises InvalidDiscount for a percentage outside 0…100, a negative or missing amount, a fixed
    amount without currency, ``periods`` below one, or options that exclude one another;
    UnknownCurrency for its currencies.
    """

    id: str
    kind: Kind
    percent: Decimal | None
    amount_minor: int | None
    currency: str | None
    duration: Duration
    periods: int | None
    months: int | None = None
    until: datetime | None = None
    applies_to: frozenset[str] = frozenset()
    spread: Spread | None = None
    exclusive: bool = False
    carried: bool = False
    prorated: bool = False
    other_amounts: tuple[Money, ...] = ()
    caps: tuple[Money, ...] = ()
    cap_for_life: bool = False
    free_units: Decimal | None = None

    def __post_init__(self) -> None:
        if self.kind is Kind.PERCENT and (
            self.percent is None or not self.percent.is_finite() or not 0 < self.percent <= 100
        ):
            raise InvalidDiscount(
                "a percentage lies above 0 and up to 100", pointer="/percent", fix='Use "12.5".'
            )
        # As for prices: "1e-999999" would make an exact fraction of a million digits.
        if self.percent is not None and _decimals(self.percent) > MOST_DECIMALS:
            raise InvalidDiscount(
                f"a percentage has at most {MOST_DECIMALS} decimals",
                pointer="/percent",
                fix='Use "12.5".',
            )
        if self.currency is not None:
            exponent(self.currency)
        if self.kind is Kind.FIXED and (
            self.amount_minor is None
            or not 0 < self.amount_minor <= LIMIT_MINOR
            or self.currency is None
        ):
            raise InvalidDiscount(
                "a fixed discount has a positive amount and a currency",
                pointer="/amount_minor",
                fix="Give amount_minor and currency.",
            )
        _check_duration(self)
        _check_options(self)

    @property
    def taken_per(self) -> Spread:
        """On each line or once over the invoice, the default by kind."""
        if self.spread is not None:
            return self.spread
        return Spread.INVOICE if self.kind is Kind.FIXED else Spread.LINE

    def amount_in(self, currency: str) -> int | None:
        """The fixed amount in a currency (minor units), None if there is none."""
        if self.currency == currency:
            return self.amount_minor
        return _in(self.other_amounts, currency)

    def cap_in(self, currency: str) -> int | None:
        """The cap in a currency (minor units), None if there is none."""
        return _in(self.caps, currency)


def _in(amounts: Sequence[Money], currency: str) -> int | None:
    return next((each.amount_minor for each in amounts if each.currency == currency), None)


def _check_duration(each: Discount) -> None:
    if each.duration is Duration.PERIODS and (each.periods is None or each.periods < 1):
        raise InvalidDiscount(
            "a discount for n periods needs n", pointer="/periods", fix="Give periods >= 1."
        )
    if each.months is not None and not 1 <= each.months <= MAX_COUNT:
        raise InvalidDiscount(
            f"a discount runs for 1 to {MAX_COUNT} months", pointer="/months", fix="Give fewer."
        )
    if each.until is not None and each.until.tzinfo is None:
        raise InvalidDiscount(
            "a discount ends at an instant", pointer="/until", fix="Give the moment in UTC."
        )


def _check_options(each: Discount) -> None:
    for amounts, pointer in ((each.other_amounts, "/other_amounts"), (each.caps, "/caps")):
        currencies = [money.currency for money in amounts]
        if pointer == "/other_amounts" and amounts:
            currencies.append(each.currency or "")
        if len(set(currencies)) < len(currencies) or any(m.amount_minor <= 0 for m in amounts):
            raise InvalidDiscount(
                "amounts are positive, one for each currency", pointer=pointer, fix="Give one each."
            )
    units = each.free_units
    if each.kind is Kind.FREE_UNITS:
        if units is None or not each.applies_to:
            raise InvalidDiscount(
                "free units have a number and the prices they are free of",
                pointer="/free_units",
                fix="Give free_units and applies_to.",
            )
        check_quantity(units, pointer="/free_units")
    # A free unit has no amount before it is priced, so it can neither be capped nor compared.
    faults = (
        (len(each.applies_to) > MOST_NAMES, "/applies_to", f"at most {MOST_NAMES} names"),
        (units is not None and units == 0, "/free_units", "free units are more than none"),
        (
            each.kind is Kind.FREE_UNITS and bool(each.exclusive or each.caps or each.carried),
            "/kind",
            "free units stack and have no cap",
        ),
        (
            each.kind is not Kind.FIXED and bool(each.other_amounts or each.prorated),
            "/kind",
            "only a fixed discount has amounts or is prorated",
        ),
        (
            each.carried
            and not (
                each.kind is Kind.FIXED
                and each.duration is Duration.ONCE
                and each.taken_per is Spread.INVOICE
            ),
            "/carried",
            "only a fixed amount taken once over the invoice is carried",
        ),
        (
            each.carried and bool(each.other_amounts or each.caps or each.prorated),
            "/carried",
            "a carried amount has one currency, no cap, and is not prorated",
        ),
        (
            each.cap_for_life and len(each.caps) != 1,
            "/caps",
            "a cap for life has one currency",
        ),
    )
    for wrong, pointer, detail in faults:
        if wrong:
            raise InvalidDiscount(detail, pointer=pointer, fix="Change or leave out the option.")


def _decimals(value: Decimal) -> int:
    power = value.as_tuple().exponent
    return max(-power, 0) if isinstance(power, int) else 0


def applies(discount: Discount, used_periods: int) -> bool:
    """True if a discount that is counted in periods still has one to give after ``used_periods``.

    Raises InvalidDiscount for one that ends by date or by amount: ``runs`` decides those."""
    if discount.months or discount.until or discount.carried or discount.cap_for_life:
        raise InvalidDiscount("it does not end by a count of periods alone", fix="Ask runs().")
    return _counts(discount, used_periods)


def _counts(discount: Discount, used_periods: int) -> bool:
    match discount.duration:
        case Duration.ONCE:
            return used_periods < 1
        case Duration.PERIODS:
            return used_periods < (discount.periods or 0)
        case Duration.FOREVER:
            return True


@dataclass(frozen=True, slots=True)
class Usage:
    """What a discount has given so far: periods, minor units in all, and the start (UTC) of the
    first period it was taken in."""

    periods: int = 0
    taken_minor: int = 0
    first_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.periods < 0 or self.taken_minor < 0:
            raise InvalidDiscount("usage is not negative", pointer="/periods", fix="Count from 0.")

    def after(self, taken_minor: int, at: datetime) -> Usage:
        """With one more period, the one that starts at ``at``."""
        first_at = self.first_at if self.first_at is not None else at
        return Usage(self.periods + 1, self.taken_minor + taken_minor, first_at)


UNUSED = Usage()


def runs(discount: Discount, usage: Usage, *, at: datetime, timezone: str = "UTC") -> bool:
    """True if the discount is still to be taken in a period that starts at ``at`` (UTC).

    Months are counted from the first use in the customer's zone, as billing periods are: three
    months from 1 January cover January to March, and 1 April is without (Polar). A carried amount
    runs until it is all taken, a discount capped for life until the cap is.
    """
    if discount.cap_for_life and usage.taken_minor >= discount.caps[0].amount_minor:
        return False
    if discount.until is not None and at >= discount.until:
        return False
    if discount.months is not None and usage.first_at is not None:
        anchor = Anchor(usage.first_at, timezone)
        if at >= boundary(anchor, Interval(Unit.MONTH, discount.months), 1):
            return False
    if discount.carried:
        return usage.taken_minor < (discount.amount_minor or 0)
    return _counts(discount, usage.periods)


@dataclass(frozen=True, slots=True)
class Running:
    """An attached discount and what it has given before this invoice. ``from_at`` (UTC): only what
    falls due then or later is discounted; it was attached after what fell due before."""

    discount: Discount
    usage: Usage = UNUSED
    from_at: datetime | None = None

    def has_begun(self, at: datetime) -> bool:
        """True if it was attached for what falls due at ``at``."""
        return self.from_at is None or self.from_at <= at
