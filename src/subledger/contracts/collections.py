"""Who may collect an invoice: payments asks, billing (the invoice's owner) decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from subledger.contracts.calls import Call


@dataclass(frozen=True, slots=True)
class ReserveRequest:
    """Attempt ``attempt_id`` wants to collect what is open on the invoice."""

    invoice_id: UUID
    attempt_id: UUID


@dataclass(frozen=True, slots=True)
class Reservation:
    """The answer for one request. ``granted`` false comes with ``refusal``:
    ``unknown_invoice``, ``not_open``, ``not_due``, ``reserved`` (by another attempt).

    When granted, ``amount_minor`` of ``currency`` is frozen for this attempt, and
    ``customer_id`` is the paying account; ``dunning`` says whether failures are retried by policy.
    """

    invoice_id: UUID
    attempt_id: UUID
    granted: bool
    refusal: str | None = None
    customer_id: UUID | None = None
    amount_minor: int = 0
    currency: str = ""
    dunning: bool = False


class Collections(Protocol):
    """Answered by billing. Batched, idempotent by attempt id, each call one transaction."""

    async def reserve_collections(
        self, call: Call, requests: Sequence[ReserveRequest]
    ) -> Sequence[Reservation]:
        """Reserve invoices of one tenant; an answer per request, in the same order."""
        ...
