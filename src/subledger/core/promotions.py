"""Promo codes as pure rules: who may use a code, when, how often, and for what.

A promotion names a discount; the discount says what is taken and for how long. Counting
redemptions, and holding the count while a purchase is under way, is the caller's: two purchases
that check at the same moment both pass here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from subledger.core.errors import InvalidPromotion
from subledger.core.money import Money, exponent

SHORTEST, LONGEST = 3, 64
MOST_TYPED = 200
MOST_AT_ONCE = 100_000
MOST_NAMES = 1_000
CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no I, L, O (they look like 1 and 0) and no U."""
GUESS_BITS = 30
"""One guess in 2^30 finds one of the codes generated together."""

_ALLOWED = frozenset("0123456789abcdefghijklmnopqrstuvwxyz-")
_TWINS = str.maketrans("oil", "011")


class Reason(StrEnum):
    """Why a code may not be used, or ``malformed`` where it is none. Stable."""

    INACTIVE = "inactive"
    NOT_YOURS = "not_yours"
    NOT_STARTED = "not_started"
    EXPIRED = "expired"
    USED_UP = "used_up"
    USED_BY_CUSTOMER = "used_by_customer"
    OTHER_PLAN = "other_plan"
    NOT_FIRST_PURCHASE = "not_first_purchase"
    OTHER_CURRENCY = "other_currency"
    BELOW_MINIMUM = "below_minimum"
    MALFORMED = "malformed"


def normalize(typed: str) -> str:
    """A code as it is stored and compared: case folded, without spaces.

    Raises InvalidPromotion (``malformed``) unless that leaves 3 to 64 ASCII letters, digits and
    hyphens. ``Spring 24`` and ``SPRING24`` are one code.
    """
    # Folding would turn some other letters into ASCII ones (the Kelvin sign into k).
    if len(typed) <= MOST_TYPED and typed.isascii():
        code = "".join(typed.split()).casefold()
        if SHORTEST <= len(code) <= LONGEST and _ALLOWED.issuperset(code):
            return code
    raise InvalidPromotion(
        f"a code has {SHORTEST} to {LONGEST} letters, digits and hyphens",
        reason=Reason.MALFORMED,
        pointer="/code",
        fix="Use A to Z, 0 to 9 and hyphens.",
    )


def without_twins(code: str) -> str:
    """A normalized code with o read as 0, and i and l as 1, after its prefix: what was meant,
    where the code was generated. To be tried second, since a code in words may have them."""
    head, hyphen, body = code.rpartition("-")
    return head + hyphen + body.translate(_TWINS)


@dataclass(frozen=True, slots=True)
class Promotion:
    """A code and its limits; what is left out does not limit.

    ``code`` is normalized. ``valid_from`` belongs to the time of validity, ``valid_until`` does
    not; both are UTC. ``minimum`` is the least purchase before discounts, by currency; with it the
    code is good in those currencies only. Raises InvalidPromotion (``malformed``) for limits that
    nothing can meet, UnknownCurrency for its currencies.
    """

    code: str
    discount_id: str
    active: bool = True
    customer_id: str | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    most_redemptions: int | None = None
    most_per_customer: int | None = None
    plans: frozenset[str] = frozenset()
    first_purchase_only: bool = False
    currencies: frozenset[str] = frozenset()
    minimum: tuple[Money, ...] = ()

    def __post_init__(self) -> None:
        if self.code != normalize(self.code):
            raise _malformed("the code is not normalized", "/code")
        moments = [at for at in (self.valid_from, self.valid_until) if at is not None]
        if any(at.tzinfo is None for at in moments):
            raise _malformed("validity is given in instants", "/valid_from")
        if len(moments) == 2 and moments[0] >= moments[1]:
            raise _malformed("it ends before it starts", "/valid_until")
        for limit, pointer in (
            (self.most_redemptions, "/most_redemptions"),
            (self.most_per_customer, "/most_per_customer"),
        ):
            if limit is not None and limit < 1:
                raise _malformed("a limit is one or more", pointer)
        if len(self.plans) > MOST_NAMES:
            raise _malformed(f"at most {MOST_NAMES} plans", "/plans")
        for each in self.currencies:
            exponent(each)
        wanted = [money.currency for money in self.minimum]
        if len(set(wanted)) < len(wanted) or any(m.amount_minor < 0 for m in self.minimum):
            raise _malformed("one minimum for each currency, not negative", "/minimum")
        if wanted and self.currencies and self.currencies.isdisjoint(wanted):
            raise _malformed("no currency has a minimum", "/minimum")


def _malformed(detail: str, pointer: str) -> InvalidPromotion:
    return InvalidPromotion(
        detail, reason=Reason.MALFORMED, pointer=pointer, fix="Change the limit or leave it out."
    )


@dataclass(frozen=True, slots=True)
class Situation:
    """Who wants to use a code when, for what, and how often it was used before.

    ``amount_minor`` is the purchase before discounts; ``purchases`` counts what the customer
    bought before; ``redemptions`` and ``redemptions_by_customer`` count the code's uses.
    """

    at: datetime
    customer_id: str
    plan_id: str
    currency: str
    amount_minor: int
    redemptions: int = 0
    redemptions_by_customer: int = 0
    purchases: int = 0


def check(promotion: Promotion, situation: Situation) -> None:
    """Nothing if the code may be used. Raises InvalidPromotion with the first ``reason`` against
    it, in the order of ``Reason``: to a stranger a personal code tells nothing else of itself."""
    reason = _against(promotion, situation)
    if reason is not None:
        detail, fix = _SAID[reason]
        raise InvalidPromotion(detail, reason=reason, pointer="/code", fix=fix)


def _against(p: Promotion, s: Situation) -> Reason | None:
    minimum = next((m.amount_minor for m in p.minimum if m.currency == s.currency), None)
    objections = (
        (not p.active, Reason.INACTIVE),
        (p.customer_id is not None and p.customer_id != s.customer_id, Reason.NOT_YOURS),
        (p.valid_from is not None and s.at < p.valid_from, Reason.NOT_STARTED),
        (p.valid_until is not None and s.at >= p.valid_until, Reason.EXPIRED),
        (_reached(s.redemptions, p.most_redemptions), Reason.USED_UP),
        (_reached(s.redemptions_by_customer, p.most_per_customer), Reason.USED_BY_CUSTOMER),
        (bool(p.plans) and s.plan_id not in p.plans, Reason.OTHER_PLAN),
        (p.first_purchase_only and s.purchases > 0, Reason.NOT_FIRST_PURCHASE),
        (bool(p.currencies) and s.currency not in p.currencies, Reason.OTHER_CURRENCY),
        (bool(p.minimum) and minimum is None, Reason.OTHER_CURRENCY),
        (minimum is not None and s.amount_minor < minimum, Reason.BELOW_MINIMUM),
    )
    return next((reason for against, reason in objections if against), None)


def _reached(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit


_SAID = {
    Reason.INACTIVE: ("the code is not in use", "Use another code."),
    Reason.NOT_YOURS: ("the code is for another customer", "Use a code of your own."),
    Reason.NOT_STARTED: ("the code is not valid yet", "Come back later."),
    Reason.EXPIRED: ("the code is no longer valid", "Use another code."),
    Reason.USED_UP: ("the code has been used as often as it may be", "Use another code."),
    Reason.USED_BY_CUSTOMER: ("you have used the code already", "Use another code."),
    Reason.OTHER_PLAN: ("the code is for another plan", "Choose a plan it is for."),
    Reason.NOT_FIRST_PURCHASE: ("the code is for a first purchase", "Use another code."),
    Reason.OTHER_CURRENCY: ("the code is not good in this currency", "Pay in another currency."),
    Reason.BELOW_MINIMUM: ("the purchase is too small for the code", "Buy for more."),
}


def redeemed(code_of: Mapping[str, str], used: Iterable[str]) -> tuple[str, ...]:
    """The codes that one invoice redeems, each once however many of its discounts were taken.

    ``code_of`` maps a discount's id to its code, ``used`` are the discounts taken. A code taken on
    a line and on the invoice counts once (flexprice).
    """
    return tuple(dict.fromkeys(code_of[each] for each in used if each in code_of))


def entropy_bytes(n: int, *, length: int = 12) -> int:
    """How many random bytes ``generate`` needs for ``n`` codes, with a reserve for duplicates."""
    return (n + 16) * _bytes(length)


def _bytes(length: int) -> int:
    return (5 * length + 7) // 8


def generate(
    entropy: bytes,
    n: int,
    *,
    length: int = 12,
    prefix: str = "",
    taken: AbstractSet[str] = frozenset(),
) -> tuple[str, ...]:
    """``n`` different normalized codes from random bytes: ``prefix-`` and ``length`` characters.

    The bytes come from the caller's source of secure randomness, at least ``entropy_bytes``; each
    is used once. No code is in ``taken``. Raises InvalidPromotion (``malformed``) for more than
    100,000 at once, codes so short that guessing would pay (below 2^30 tries for one hit), codes
    over 64 characters, and bytes that do not make ``n`` different codes.
    """
    if not 1 <= n <= MOST_AT_ONCE:
        raise _malformed(f"1 to {MOST_AT_ONCE} codes at once", "/n")
    if not 0 < length <= LONGEST or 5 * length - n.bit_length() < GUESS_BITS:
        raise _malformed("codes so short could be guessed, or too long", "/length")
    head = normalize(prefix) + "-" if prefix else ""
    if len(head) + length > LONGEST:
        raise _malformed(f"codes have at most {LONGEST} characters", "/prefix")
    size = _bytes(length)
    found: dict[str, None] = {}
    for start in range(0, len(entropy) - size + 1, size):
        code = head + _body(entropy[start : start + size], length)
        if code not in taken:
            found[code] = None
        if len(found) == n:
            return tuple(found)
    raise _malformed("the bytes do not make so many different codes", "/entropy")


def _body(chunk: bytes, length: int) -> str:
    """The lowest 5 bits of the chunk are the first character, and so on; spare bits are left."""
    number = int.from_bytes(chunk, "big")
    return "".join(CROCKFORD[number >> 5 * n & 31] for n in range(length))
