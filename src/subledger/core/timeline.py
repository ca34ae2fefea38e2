"""What is billed: a subscription over time, the lines of an invoice, the draft that adds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from subledger.core.calendar import Anchor, Interval, Period
from subledger.core.discounts import Discount
from subledger.core.pricing import PriceModel
from subledger.core.proration import BY_DAY, Mode


@dataclass(frozen=True, slots=True)
class Item:
    """One price that a subscription pays in advance each period. ``price_id`` is opaque text."""

    price_id: str
    model: PriceModel
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Attached:
    """A discount of the subscription and how many periods it had given before the first period of
    the draft. (Counting those of ``billed`` too would end it early and bill them anew.)"""

    discount: Discount
    used_periods: int


@dataclass(frozen=True, slots=True)
class Phase:
    """What a subscription pays from ``from_at`` until the next phase begins. No items: a pause, or
    the time after a cancellation that gives back what is unused."""

    from_at: datetime
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is known of a subscription: where its cycle hangs, what it pays, until when.

    ``phases`` begin one after another, the first where the subscription starts; a phase that
    begins inside a period shares it by ``proration``. ``ended_at`` (exclusive) is where the
    subscription ends or will end; no period starts at or after it.
    """

    anchor: Anchor
    interval: Interval
    currency: str
    phases: tuple[Phase, ...]
    attached: tuple[Attached, ...] = ()
    ended_at: datetime | None = None
    proration: Mode = BY_DAY

    def __post_init__(self) -> None:
        moments = [each.from_at for each in self.phases]
        assert moments, "a subscription has a phase"
        assert moments == sorted(set(moments)), "phases begin one after another"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a draft (minor units).

    A ``credit`` line takes back what should not be there, wholly or for the time from its
    ``service_start_at``: its amounts are negative. ``charged_from_at`` is where the charge begins
    that the line is, or takes back.
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

    @property
    def key(self) -> tuple[str, datetime]:
        """What makes it the same charge: which price, from when."""
        return (self.price_id, self.charged_from_at)


@dataclass(frozen=True, slots=True)
class Draft:
    """The lines to be added, their sums (minor units), and what they use up.

    ``period`` is the last period covered (None if there is nothing to bill), ``periods`` how many
    are covered, ``next_billing_at`` when the next run is due (None if the subscription ends). The
    total is negative if more is given back than billed.
    """

    lines: tuple[Line, ...]
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    total_minor: int
    period: Period | None
    periods: int
    next_billing_at: datetime | None
    used: Mapping[str, int]
    """Discount id → periods that this draft adds to those used."""
