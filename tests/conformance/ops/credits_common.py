"""What the translations of credits share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from subledger.core.calendar import Period
from subledger.core.credit_notes import CreditNote, InvoiceLine
from subledger.core.credits import Kind, Source
from subledger.core.money import allocate, round_half_up
from subledger.core.recognition import delivered

SOME_MINOR = 10_000
"""The amount of an invoice where a case says that none matters."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def currency_of(given: Mapping[str, Any]) -> str:
    return str(given.get("currency") or given.get("plan", {}).get("currency") or "EUR")


def rate_of(given: Mapping[str, Any]) -> Fraction:
    return Fraction(Decimal(given.get("tax_percent", "0"))) * Fraction(1, 100)


def stored(
    gross: Sequence[int], taken: Sequence[int], given: Mapping[str, Any]
) -> tuple[InvoiceLine, ...]:
    """The stored lines ``0``, ``1``, … of an invoice taxed once, the tax split over them."""
    nets = [each - less for each, less in zip(gross, taken, strict=True)]
    taxes = allocate(round_half_up(sum(nets) * rate_of(given)), nets)
    return tuple(
        InvoiceLine(str(n), each, less, tax)
        for n, (each, less, tax) in enumerate(zip(gross, taken, taxes, strict=True))
    )


def source(name: str, amount: int, kind: Kind, **more: Any) -> Source:
    return Source(name, kind, amount, more.pop("currency", "EUR"), NOW, **more)


def unused_of(whole: Period, at: datetime, zone: str = "UTC") -> Fraction:
    done = delivered(whole, at, timezone=zone)
    return Fraction(done.whole - done.done, done.whole)


def instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def goes(note: CreditNote) -> dict[str, Any]:
    to = note.settlement
    return {
        "credit_minor": to.credit_minor,
        "credited_minor": to.credit_minor,
        "refund_minor": to.refund_minor,
        "refunded_minor": to.refund_minor,
        "offset_minor": to.offset_minor,
    }
