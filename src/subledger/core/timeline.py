"""What is billed: a subscription over time, the lines of an invoice, the draft that adds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from subledger.core.amounts import NOTHING, Amounts
from subledger.core.calendar import Anchor, Interval, Period
from subledger.core.discounts import Exclusive, Order, Running, Split, Usage
from subledger.core.pricing import PriceModel
from subledger.core.pricing import Usage as Used
from subledger.core.proration import BY_DAY, Mode
from subledger.core.tax import Rate, Rounding, Ties

MOST_EVERY = 1_200


class Timing(StrEnum):
    """When a price is billed: at its period's start, at its end, or once where it begins (a set-up
    fee), whole and never given back."""

    ADVANCE = "advance"
    ARREARS = "arrears"
    ONCE = "once"


@dataclass(frozen=True, slots=True)
class Taxed:
    """The taxes of a price, as decided for its buyer: the rates, and whether they are in the
    price already. ``decision`` is kept with the line (``tax.Decision.data``)."""

    rates: tuple[Rate, ...] = ()
    inclusive: bool = False
    decision: Mapping[str, Any] | None = field(default=None, compare=False)


UNTAXED = Taxed()


@dataclass(frozen=True, slots=True)
class Item:
    """One price that a subscription pays. ``price_id`` is opaque text.

    ``every`` is its own interval in periods of the subscription: 12 for a yearly price beside
    monthly ones. ``names`` are what a discount may be limited to. A ``metered`` price is for what
    was used in the period (``Timeline.used``), which is priced as it is, never by time.
    """

    price_id: str
    model: PriceModel
    quantity: Decimal
    timing: Timing = Timing.ADVANCE
    every: int = 1
    names: frozenset[str] = frozenset()
    taxed: Taxed = UNTAXED
    metered: bool = False

    def __post_init__(self) -> None:
        assert 1 <= self.every <= MOST_EVERY, "a price has an interval"


@dataclass(frozen=True, slots=True)
class Phase:
    """What a subscription pays from ``from_at`` until the next phase begins. No items: a trial, a
    pause, or the time after a cancellation that gives back what is unused."""

    from_at: datetime
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """How a tenant has discounts taken."""

    order: Order = Order.PERCENT_FIRST
    exclusive: Exclusive = Exclusive.BEST
    split: Split = Split.LARGEST_REMAINDER


DEFAULTS = Policy()


class FirstPeriod(StrEnum):
    """What a stub before the first boundary costs: its share of the grid's period (the default), a
    whole period's price, or nothing (Stripe with ``proration_behavior: none``)."""

    PRORATED = "prorated"
    FULL = "full"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is known of a subscription: where its cycle hangs, what it pays, until when.

    ``phases`` begin one after another, the first where the subscription starts; a phase that
    begins inside a period shares it by ``proration``. ``ended_at`` (exclusive) is where the
    subscription ends or will end: the period that it cuts is billed cut, unless it ``serves_out``
    what was billed in advance. ``attached`` are its discounts with what they gave before the first
    period of the draft. ``used`` is what metered prices bill, by price and start of its period.
    """

    anchor: Anchor
    interval: Interval
    currency: str
    phases: tuple[Phase, ...]
    attached: tuple[Running, ...] = ()
    ended_at: datetime | None = None
    serves_out: bool = False
    proration: Mode = BY_DAY
    used: Mapping[tuple[str, datetime], Used] = field(default_factory=dict)
    policies: tuple[tuple[datetime, Policy], ...] = ()
    """Since when discounts are taken how: a period keeps the policy of its start."""
    parties: Any = None
    """Who sells to whom, for the draft's reader: it is handed on as it is."""
    tax_rounding: Rounding = Rounding.PER_TAX
    tax_ties: Ties = Ties.HALF_UP
    first_period: FirstPeriod = FirstPeriod.PRORATED

    def __post_init__(self) -> None:
        moments = [each.from_at for each in self.phases]
        assert moments, "a subscription has a phase"
        assert moments == sorted(set(moments)), "phases begin one after another"

    def policy_at(self, at: datetime) -> Policy:
        """How discounts are taken in a period that starts at ``at``."""
        found = [each for from_at, each in self.policies if from_at <= at]
        return found[-1] if found else DEFAULTS

    @property
    def longest(self) -> int:
        """The most periods that one of its prices spans."""
        return max((item.every for each in self.phases for item in each.items), default=1)

    @property
    def in_arrears(self) -> bool:
        """Whether a price is billed when its period is over."""
        return any(item.timing is Timing.ARREARS for each in self.phases for item in each.items)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a draft (minor units).

    A ``credit`` line takes back what should not be there, wholly or for the time from its
    ``service_start_at``: its amounts are negative. ``charged_from_at`` is where the charge begins
    that the line is, or takes back. ``tax_included_minor`` is the tax that the gross contains:
    net = gross - discount - tax included, and net + tax is to be paid.
    """

    kind: str
    price_id: str
    charged_from_at: datetime
    service_start_at: datetime
    service_end_at: datetime
    quantity: Decimal
    gross_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int
    tax_rate: Decimal
    derivation: Mapping[str, Any]
    tax_included_minor: int = 0
    noted: Amounts = NOTHING
    """What credit notes gave back of a stored line (positive)."""

    @property
    def key(self) -> tuple[str, datetime]:
        """What makes it the same charge: which price, from when."""
        return (self.price_id, self.charged_from_at)

    @property
    def due_at(self) -> datetime:
        """When the charge fell due: at its start unless its derivation says another moment."""
        told = self.derivation.get("due_at")
        return self.charged_from_at if told is None else datetime.fromisoformat(told)


@dataclass(frozen=True, slots=True)
class Draft:
    """The lines to be added, their sums (minor units), and what they use up.

    ``period`` is the last period covered (None if there is nothing to bill), ``periods`` how many
    are covered, ``next_billing_at`` when the next run is due (None if the subscription ends). The
    total is negative if more is given back than billed. ``taxes`` tells which taxes of the added
    charges were rounded together (``tax.DocumentTax.derivation`` less its lines), once per cycle.
    """

    lines: tuple[Line, ...]
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    tax_included_minor: int
    total_minor: int
    period: Period | None
    periods: int
    next_billing_at: datetime | None
    usage: Mapping[str, Usage]
    """Discount id → what it has given up to here, for those that the draft's periods took."""
    taxes: tuple[Mapping[str, Any], ...] = ()
    parties: Any = None
