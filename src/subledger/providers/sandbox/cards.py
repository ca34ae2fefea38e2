"""Test methods: what each kind does, and the test card numbers of the hosted page.

No real card number is ever accepted; of a test number only brand and last four digits are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_COUNTED = re.compile(r"^(insufficient_funds|soft_after|hard_after|secure):([1-9][0-9]?)$")

SETTLES_AFTER_S = 3600
DISPUTED_AFTER_S = 3600
LATE_AFTER_S = 2 * 3600
LOST = "lost"
"""Code of a charge that never reached the journal: neither captured nor answered."""
STORED = "provider_error"
"""Code of a charge that broke the provider: every repeat of its key is answered 500."""
LATE = "authenticated_late"
"""Code of a charge that the bank confirms by itself, long after it asked for its payer."""
NOT_CONFIRMED, GONE = "authentication_failed", "authentication_expired"
CANCELED = "canceled"
"""Codes of a charge that its payer refused, and of one that the payer never came for."""

KINDS = {
    "visa_ok": ("visa", "4242"),
    "mastercard_ok": ("mastercard", "4444"),
    "soft_decline": ("visa", "0002"),
    "hard_decline": ("visa", "0069"),
    "insufficient_funds": ("visa", "9995"),
    "soft_after": ("visa", "0341"),
    "hard_after": ("visa", "0127"),
    "timeout": ("visa", "3001"),
    "timeout_lost": ("visa", "3002"),
    "pending_ok": ("visa", "3003"),
    "pending_decline": ("visa", "3004"),
    "requires_action": ("visa", "3155"),
    "disputed": ("visa", "0259"),
    "disputed_at_once": ("visa", "0267"),
    "expired_card": ("visa", "0119"),
    "secure": ("visa", "3184"),
    "secure_once": ("visa", "3220"),
}

CARDS = {
    "4242424242424242": ("visa_ok", "Paid"),
    "5555555555554444": ("mastercard_ok", "Paid"),
    "4000000000000002": ("soft_decline", "Declined"),
    "4000000000009995": ("insufficient_funds:3", "Not enough money, twice; then paid"),
    "4000000000000341": ("soft_after:1", "Paid now, declined at the next renewal"),
    "4000000000000259": ("disputed", "Paid, disputed an hour later"),
    "4000000000000119": ("expired_card", "Declined: the card has expired"),
    "4000000000003220": ("secure_once", "The bank asks you first (3-D Secure)"),
    "4000000000003184": ("secure:1", "The bank asks you now and at every renewal"),
    "4000000000013001": ("timeout", "Paid, but the answer is lost"),
}
"""Number → kind and what it does, as the page tells it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the bank says: ``code`` is ``ok`` or why not; ``reply`` false loses the answer.

    With ``settles_after_s`` the bank says so only then (tenant's clock); until then it processes.
    With ``disputed_after_s`` the payer disputes the whole charge then.
    With ``asks`` the bank asks the payer first: nothing is captured before.
    """

    captured: bool
    code: str
    reply: bool = True
    settles_after_s: int = 0
    disputed_after_s: int | None = None
    asks: bool = False


def known(kind: str) -> bool:
    """True for a kind that exists, with its count where it takes one."""
    return _COUNTED.match(kind) is not None or (
        kind in KINDS and kind not in {"soft_after", "hard_after", "secure"}
    )


def is_counted(kind: str) -> bool:
    """True if the answer depends on how often the method was tried before."""
    return ":" in kind


def face(kind: str) -> tuple[str, str]:
    """Brand and last four digits."""
    return KINDS[kind.partition(":")[0]]


def judge(kind: str, tries: int, *, on_page: bool = False) -> Verdict:
    """The answer to the try after ``tries`` earlier ones; ``on_page`` while the payer is there."""
    match = _COUNTED.match(kind)
    if match:
        name, n = match.group(1), int(match.group(2))
        if name == "secure":
            return Verdict(True, "ok", asks=tries + 1 >= n)
        if name == "insufficient_funds":
            enough = tries + 1 >= n
            return Verdict(enough, "ok" if enough else "insufficient_funds")
        code = "do_not_honor" if name == "soft_after" else "stolen_card"
        return Verdict(tries < n, "ok" if tries < n else code)
    return {
        "soft_decline": Verdict(False, "do_not_honor"),
        "hard_decline": Verdict(False, "stolen_card"),
        "insufficient_funds": Verdict(False, "insufficient_funds"),
        "timeout": Verdict(True, "ok", reply=False),
        "timeout_lost": Verdict(False, LOST, reply=False),
        "pending_ok": Verdict(True, "ok", settles_after_s=SETTLES_AFTER_S),
        "pending_decline": Verdict(False, "do_not_honor", settles_after_s=SETTLES_AFTER_S),
        "requires_action": Verdict(False, "authentication_required"),
        "disputed": Verdict(True, "ok", disputed_after_s=DISPUTED_AFTER_S),
        "disputed_at_once": Verdict(True, "ok", disputed_after_s=0),
        "expired_card": Verdict(False, "expired_card"),
        "secure_once": Verdict(True, "ok", asks=on_page),
    }.get(kind, Verdict(True, "ok"))
