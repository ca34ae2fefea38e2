"""Comparing the provider's list with ours, as a pure function.

The order in which entries are listed does not matter, nor how often one is compared: what agrees
says nothing, and what differs says the same again until it is set right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

Kind = Literal[
    "capture_unsettled", "capture_unknown", "capture_twice", "amount_differs", "payment_missing"
]
SETTLED: Final = "succeeded"


@dataclass(frozen=True, slots=True)
class Theirs:
    """A capture as the provider lists it. ``attempt_id`` is our name for it, if it was told one."""

    ref: str
    attempt_id: UUID | None
    amount_minor: int
    currency: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Ours:
    """An attempt as we know it. ``amount_minor`` is what we believe was captured."""

    attempt_id: UUID
    ref: str | None
    state: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the lists differ. ``theirs`` is None for ``payment_missing``, ``ours`` for
    ``capture_unknown``; the second capture of an attempt (``capture_twice``) has both."""

    kind: Kind
    theirs: Theirs | None
    ours: Ours | None

    @property
    def subject(self) -> str:
        """By what it is known again: the provider's name, else ours."""
        if self.theirs is not None:
            return self.theirs.ref
        assert self.ours is not None, "a difference is about something"
        return str(self.ours.attempt_id)


def compare(theirs: Iterable[Theirs], ours: Iterable[Ours]) -> list[Difference]:
    """What differs between captures there and attempts here, in a fixed order.

    An entry belongs to the attempt that has its reference, else to the one that it names. Each list
    must be whole for what the other one speaks of: an attempt of ``ours`` whose entry is left out
    counts as missing there, and an entry whose attempt is left out as unknown here.
    """
    known = {each.attempt_id: each for each in ours}
    by_ref = {each.ref: each for each in known.values() if each.ref is not None}
    entries: dict[UUID | None, list[Theirs]] = {}
    for each in {entry.ref: entry for entry in theirs}.values():
        own = by_ref.get(each.ref)
        if own is None and each.attempt_id is not None:
            own = known.get(each.attempt_id)
        entries.setdefault(None if own is None else own.attempt_id, []).append(each)
    found = [Difference("capture_unknown", each, None) for each in entries.pop(None, [])]
    for attempt_id, own in known.items():
        found += _of_attempt(own, entries.get(attempt_id, []))
    return sorted(found, key=lambda each: (each.kind, each.subject))


def _of_attempt(own: Ours, entries: Sequence[Theirs]) -> list[Difference]:
    if not entries:
        missing = own.state == SETTLED
        return [Difference("payment_missing", None, own)] if missing else []
    first, *others = sorted(entries, key=lambda each: (each.ref != own.ref, each.at, each.ref))
    found = [Difference("capture_twice", each, own) for each in others]
    if own.state != SETTLED:
        found.append(Difference("capture_unsettled", first, own))
    elif (first.amount_minor, first.currency) != (own.amount_minor, own.currency):
        found.append(Difference("amount_differs", first, own))
    return found


SIGNS: Final = {
    "capture": 1,
    "refund": -1,
    "dispute": -1,
    "dispute_won": 1,
    "dispute_fee": -1,
    "dispute_fee_back": 1,
    "payout": 0,
}
"""What a movement adds to what the provider holds, before payouts."""
OF_DISPUTES: Final = frozenset({"dispute", "dispute_won", "dispute_fee", "dispute_fee_back"})


@dataclass(frozen=True, slots=True)
class PaidOut:
    """What a payout is made of: entries' sum, their fees, and what is left to explain."""

    gross_minor: int
    fee_minor: int
    difference_minor: int


def paid_out(amount_minor: int, entries: Iterable[tuple[str, int, int]]) -> PaidOut:
    """Match a payout of ``amount_minor`` to its entries ``(kind, amount, fee)``: their sum is the
    payout, the fees, and a difference (rounding, exchange)."""
    gross, fees = 0, 0
    for kind, amount, fee in entries:
        gross += SIGNS[kind] * amount
        fees += fee
    return PaidOut(gross, fees, gross - amount_minor - fees)


@dataclass(frozen=True, slots=True)
class Held:
    """One currency of a connection (minor units): what the provider holds, what is booked, and what
    of the difference the lists explain (``explained_minor``: what they have and we do not)."""

    provider_minor: int
    clearing_minor: int
    explained_minor: int

    @property
    def gap_minor(self) -> int:
        """What nothing explains; zero when the books are right."""
        return self.provider_minor - self.clearing_minor - self.explained_minor
