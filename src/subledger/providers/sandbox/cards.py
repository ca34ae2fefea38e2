"""Test methods: what each kind does, and the test card numbers of the hosted page.

No real card number is ever accepted; of a test number only brand and last four digits are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_COUNTED = re.compile(r"^(insufficient_funds|soft_after|hard_after):([1-9][0-9]?)$")

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
}

CARDS = {
    "4242424242424242": ("visa_ok", "Paid"),
    "5555555555554444": ("mastercard_ok", "Paid"),
    "4000000000000002": ("soft_decline", "Declined"),
    "4000000000009995": ("insufficient_funds:3", "Not enough money, twice; then paid"),
    "4000000000000341": ("soft_after:1", "Paid now, declined at the next renewal"),
}
"""Number → kind and what it does, as the page tells it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the bank says: ``code`` is ``ok`` or why not; ``reply`` false loses the answer."""

    captured: bool
    code: str
    reply: bool = True


def known(kind: str) -> bool:
    """True for a kind that exists, with its count where it takes one."""
    return _COUNTED.match(kind) is not None or (
        kind in KINDS and kind not in {"soft_after", "hard_after"}
    )


def is_counted(kind: str) -> bool:
    """True if the answer depends on how often the method was tried before."""
    return ":" in kind


def face(kind: str) -> tuple[str, str]:
    """Brand and last four digits."""
    return KINDS[kind.partition(":")[0]]


def judge(kind: str, tries: int) -> Verdict:
    """The answer to the try after ``tries`` earlier ones."""
    match = _COUNTED.match(kind)
    if match:
        name, n = match.group(1), int(match.group(2))
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
        "timeout_lost": Verdict(False, "lost", reply=False),
    }.get(kind, Verdict(True, "ok"))
