"""Applying credit to an invoice: balances of credit notes, account credit, prepaid grants.

The order, in which each source pays what the ones before left (conformance README, "order on the
invoice"; after tax):

1. credit notes, then account credit, then prepaid grants: what we owe anyway before what was
   bought or given for later;
2. the lower priority number;
3. what expires sooner (never last);
4. the older;
5. the smaller id.

A source can be used from its start until its expiry, which is exclusive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from subledger.core.errors import InvalidCredit
from subledger.core.money import check_amount, exponent

MOST_SOURCES = 1_000
MOST_DRAWS = 10_000
MOST_PRIORITY = 255


class Kind(StrEnum):
    """What a balance came from, in the order of use."""

    CREDIT_NOTE = "credit_note"
    ACCOUNT = "account"
    PREPAID = "prepaid"


_RANK = {kind: place for place, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True)
class Source:
    """A balance of one currency (minor units, not negative). ``id`` is opaque text.

    Raises InvalidCredit for a negative balance, a priority outside 0…255, or an expiry that does
    not follow the start; UnknownCurrency, AmountOutOfRange.
    """

    id: str
    kind: Kind
    balance_minor: int
    currency: str
    created_at: datetime
    priority: int = 0
    starts_at: datetime | None = None
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        exponent(self.currency)
        if check_amount(self.balance_minor, pointer="/balance_minor") < 0:
            raise InvalidCredit(
                "a balance is not negative", pointer="/balance_minor", fix="Give 0 or more."
            )
        if not 0 <= self.priority <= MOST_PRIORITY:
            raise InvalidCredit(
                f"a priority lies between 0 and {MOST_PRIORITY}",
                pointer="/priority",
                fix="Use a lower number for what is used first.",
            )
        if self.starts_at and self.expires_at and self.expires_at <= self.starts_at:
            raise InvalidCredit(
                "credit expires after its start", pointer="/expires_at", fix="Use a later moment."
            )


@dataclass(frozen=True, slots=True)
class Use:
    """What one source paid (minor units, more than zero) and what it had left."""

    source_id: str
    kind: Kind
    amount_minor: int
    balance_after_minor: int
    step: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Applied:
    """The uses in their order, their sum, what is left to pay (minor units), and the sources
    after them, in the order given."""

    uses: tuple[Use, ...]
    applied_minor: int
    left_minor: int
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """An amount (minor units) to be taken at a moment."""

    at: datetime
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Burned:
    """What every draw took, in their order; the uncovered rest of all draws; the sources after;
    and what expired unused by id (minor units)."""

    applied: tuple[Applied, ...]
    overage_minor: int
    sources: tuple[Source, ...]
    expired: dict[str, int]


@dataclass(frozen=True, slots=True)
class Balance:
    """What a customer can use of one currency at a moment (minor units)."""

    credit_note_minor: int
    account_minor: int
    prepaid_minor: int

    @property
    def total_minor(self) -> int:
        """All three."""
        return self.credit_note_minor + self.account_minor + self.prepaid_minor


def usable(source: Source, currency: str, at: datetime) -> bool:
    """True if the source has something of this currency to give at ``at``."""
    return (
        source.balance_minor > 0
        and source.currency == currency
        and (source.starts_at is None or source.starts_at <= at)
        and (source.expires_at is None or at < source.expires_at)
    )


def _order(source: Source) -> tuple[int, int, bool, datetime, datetime, str]:
    never = source.expires_at is None
    expiry = source.expires_at or source.created_at
    return _RANK[source.kind], source.priority, never, expiry, source.created_at, source.id


def apply(due_minor: int, currency: str, sources: Sequence[Source], at: datetime) -> Applied:
    """Pay ``due_minor`` from the sources in order, never more than is due or than they have.

    Sources of another currency, not started or expired are passed over. Nothing is due of a
    negative invoice (``credit_notes.carried``): a negative ``due_minor`` raises InvalidCredit, as
    do a source that comes twice and more than 1000 sources.
    """
    check_amount(due_minor, pointer="/due_minor")
    if due_minor < 0:
        raise InvalidCredit(
            "what is due is not negative", pointer="/due_minor", fix="Carry a negative total over."
        )
    _check_sources(sources)
    left = due_minor
    uses: list[Use] = []
    after: dict[str, int] = {}
    for source in sorted((each for each in sources if usable(each, currency, at)), key=_order):
        if left == 0:
            break
        amount = min(left, source.balance_minor)
        after[source.id] = source.balance_minor - amount
        uses.append(_use(source, amount, due_minor=left))
        left -= amount
    return Applied(
        uses=tuple(uses),
        applied_minor=due_minor - left,
        left_minor=left,
        sources=tuple(
            replace(each, balance_minor=after[each.id]) if each.id in after else each
            for each in sources
        )
        if after
        else tuple(sources),
    )


def _check_sources(sources: Sequence[Source]) -> None:
    if len(sources) > MOST_SOURCES or len({each.id for each in sources}) < len(sources):
        raise InvalidCredit(
            f"at most {MOST_SOURCES} sources, each once",
            pointer="/sources",
            fix="Give each balance once.",
        )


def _use(source: Source, amount: int, *, due_minor: int) -> Use:
    return Use(
        source_id=source.id,
        kind=source.kind,
        amount_minor=amount,
        balance_after_minor=source.balance_minor - amount,
        step={
            "kind": "credit_applied",
            "source_id": source.id,
            "source_kind": source.kind.value,
            "due_minor": due_minor,
            "balance_minor": source.balance_minor,
            "amount_minor": amount,
        },
    )


def burn_down(
    sources: Sequence[Source], draws: Sequence[Draw], currency: str, until: datetime
) -> Burned:
    """Take the draws in the order of their moments; at ``until`` what has expired is gone.

    Overage is not carried to grants that start later: what a draw found missing stays missing.
    Raises as ``apply``, and InvalidCredit for more than 10 000 draws or one after ``until``.
    """
    if len(draws) > MOST_DRAWS or any(each.at > until for each in draws):
        raise InvalidCredit(
            f"at most {MOST_DRAWS} draws, none after the end", pointer="/draws", fix="Take fewer."
        )
    left = tuple(sources)
    _check_sources(left)
    applied: list[Applied] = []
    for draw in sorted(draws, key=lambda each: each.at):
        applied.append(apply(draw.amount_minor, currency, left, draw.at))
        left = applied[-1].sources
    left, expired = expire(left, until)
    return Burned(
        applied=tuple(applied),
        overage_minor=sum(each.left_minor for each in applied),
        sources=left,
        expired=expired,
    )


def expire(sources: Iterable[Source], at: datetime) -> tuple[tuple[Source, ...], dict[str, int]]:
    """The sources with what has expired by ``at`` gone, and how much that was by id (minor
    units; what breakage is to be booked for)."""
    kept: list[Source] = []
    gone: dict[str, int] = {}
    for each in sources:
        if each.balance_minor and each.expires_at is not None and each.expires_at <= at:
            gone[each.id] = each.balance_minor
            kept.append(replace(each, balance_minor=0))
        else:
            kept.append(each)
    return tuple(kept), gone


def balance(sources: Iterable[Source], currency: str, at: datetime) -> Balance:
    """What can be used of a currency at ``at``, by kind."""
    sums = dict.fromkeys(Kind, 0)
    for each in sources:
        if usable(each, currency, at):
            sums[each.kind] += each.balance_minor
    return Balance(sums[Kind.CREDIT_NOTE], sums[Kind.ACCOUNT], sums[Kind.PREPAID])
