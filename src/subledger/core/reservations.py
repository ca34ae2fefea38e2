"""Who may collect an invoice, and what money that arrives pays: decisions of the invoice's owner.

A reservation is held by one attempt until its money came (``consumed``) or until it certainly will
not (``released``). While one is held or consumed nobody else may collect.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from subledger.core.states import INVOICE, RESERVATION, can, step


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt's reservation of an invoice: ``held``, ``consumed`` or ``released``."""

    attempt: Hashable
    state: str


def holder(claims: Iterable[Claim]) -> Hashable | None:
    """The attempt that holds or has collected the invoice."""
    return next((each.attempt for each in claims if each.state != "released"), None)


def is_held(claims: Iterable[Claim]) -> bool:
    """True while an attempt may still bring money: the invoice stays as it is."""
    return any(each.state == "held" for each in claims)


def refusal(status: str | None, claims: Iterable[Claim], attempt: Hashable) -> str | None:
    """Why ``attempt`` may not collect an invoice of this status (None: there is no such invoice),
    or None if it may. An attempt that holds it already may; one that let go never may again."""
    claims = list(claims)
    held_by = holder(claims)
    if status is None:
        return "unknown_invoice"
    if not can(INVOICE, status, "paid"):
        return "not_open"
    if held_by is not None:
        return None if held_by == attempt else "reserved"
    return "released" if any(each.attempt == attempt for each in claims) else None


def applied_minor(status: str | None, open_minor: int, captured_minor: int) -> int:
    """What of captured money pays the invoice: all that is open on it, or nothing."""
    if status is None or not can(INVOICE, status, "paid"):
        return 0
    return open_minor if 0 < open_minor <= captured_minor else 0


def when_paid(claims: Iterable[Claim], attempt: Hashable) -> list[Claim]:
    """What becomes of held reservations once ``attempt`` has paid."""
    return [
        Claim(each.attempt, step(RESERVATION, "held", _paid(each, attempt)))
        for each in claims
        if each.state == "held"
    ]


def _paid(claim: Claim, attempt: Hashable) -> str:
    return "consumed" if claim.attempt == attempt else "released"


def when_not_paid(claims: Iterable[Claim], attempt: Hashable) -> list[Claim]:
    """What becomes of the reservation of an attempt that brought no money; nothing if it holds
    none (its end was told before)."""
    return [
        Claim(each.attempt, step(RESERVATION, "held", "released"))
        for each in claims
        if each.attempt == attempt and each.state == "held"
    ]
