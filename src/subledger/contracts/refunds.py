"""Who may give money back: payments asks, billing (which keeps the books) decides.

A granted refund is booked at once: the credit note that backs it is issued, or the customer's
credit is taken, and the money has left the provider's clearing account. So nobody else can use the
same money, and a refund that fails is the reversal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from subledger.contracts.calls import Call


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """Refund ``refund_id`` wants to give back what attempt ``attempt_id`` captured.

    ``amount_minor`` None is all that can be given back. ``to`` is ``method`` or ``credit``.
    ``source`` says what backs it: ``invoice`` (a credit note) or ``credit`` (the customer's
    credit). ``reason`` is a credit note's. ``cancel_subscription`` ends what the payment's invoice
    bills, as soon as the refund is granted.
    """

    refund_id: UUID
    payment_id: UUID
    attempt_id: UUID
    connection_id: UUID
    amount_minor: int | None
    to: str
    source: str
    reason: str
    cancel_subscription: bool = False


@dataclass(frozen=True, slots=True)
class RefundGrant:
    """The answer for one request. ``granted`` false comes with ``refusal``: ``not_booked`` (ask
    again: billing has not read of the payment yet), ``exceeds`` (more than ``refundable_minor``),
    ``disputed`` (no more than ``refundable_minor`` is free of disputes).

    ``amount_minor`` of ``currency`` is ``from_unapplied_minor`` (money that paid for nothing),
    ``from_credit_minor`` and ``note_minor`` (backed by a credit note, with ``tax_minor`` of tax).
    ``unused_minor`` is what the invoice's service that is not yet delivered has cost.
    ``ends`` are the subscriptions that end with it; only told the first time.
    """

    refund_id: UUID
    granted: bool
    refusal: str | None = None
    refundable_minor: int = 0
    customer_id: UUID | None = None
    amount_minor: int = 0
    currency: str = ""
    from_unapplied_minor: int = 0
    from_credit_minor: int = 0
    note_minor: int = 0
    tax_minor: int = 0
    unused_minor: int = 0
    credit_note_id: UUID | None = None
    ends: tuple[UUID, ...] = ()


class Refunds(Protocol):
    """Answered by billing. Batched; each call one transaction."""

    async def grant_refunds(
        self, call: Call, requests: Sequence[RefundRequest]
    ) -> Sequence[RefundGrant]:
        """Grant and book refunds of one tenant; an answer per request, in the same order.
        Idempotent by refund id: what was granted is granted again, as it was."""
        ...

    async def preview_refunds(
        self, call: Call, requests: Sequence[RefundRequest]
    ) -> Sequence[RefundGrant]:
        """What ``grant_refunds`` would answer now, without a trace."""
        ...
