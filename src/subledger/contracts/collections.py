"""Who may collect an invoice: payments asks, billing (the invoice's owner) decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from subledger.contracts.calls import Call


@dataclass(frozen=True, slots=True)
class ReserveRequest:
    """Attempt ``attempt_id`` wants to collect what is open on the invoice.

    Money that arrived off-line says its ``amount_minor`` of ``currency`` itself, whatever is open.
    Without an invoice it is for the account of ``customer_id``, and says how much it is too.
    """

    invoice_id: UUID | None
    attempt_id: UUID
    customer_id: UUID | None = None
    amount_minor: int | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """The answer for one request. ``granted`` false comes with ``refusal``:
    ``unknown_invoice``, ``not_open``, ``not_due``, ``reserved`` (by another attempt); where
    the amount was said also ``unknown_customer``, ``currency_mismatch``.

    When granted, ``amount_minor`` of ``currency`` is frozen for this attempt, and
    ``customer_id`` is the paying account; ``dunning`` says whether failures are retried by policy.
    """

    invoice_id: UUID | None
    attempt_id: UUID
    granted: bool
    refusal: str | None = None
    customer_id: UUID | None = None
    amount_minor: int = 0
    currency: str = ""
    dunning: bool = False


@dataclass(frozen=True, slots=True)
class DueInvoice:
    """What a payer has to know of an invoice. ``due_minor`` is what is open of it now, zero unless
    it can be paid; ``status`` is the invoice's."""

    invoice_id: UUID
    number: str
    status: str
    due_minor: int
    currency: str


class Collections(Protocol):
    """Answered by billing. Batched, idempotent by attempt id, each call one transaction."""

    async def reserve_collections(
        self, call: Call, requests: Sequence[ReserveRequest]
    ) -> Sequence[Reservation]:
        """Reserve invoices of one tenant; an answer per request, in the same order."""
        ...

    async def due_invoices(self, call: Call, invoice_ids: Sequence[UUID]) -> Sequence[DueInvoice]:
        """What is open now of those invoices that exist; reads only, promises nothing."""
        ...
