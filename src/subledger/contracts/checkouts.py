"""What a payer has to do next: billing asks payments while a buyer waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from subledger.contracts.calls import Call


@dataclass(frozen=True, slots=True)
class CollectionState:
    """How far the collection of an invoice has come.

    ``status`` is the payment's: ``none`` (payments has not seen the invoice yet), ``processing``,
    ``requires_action`` (then ``redirect_url`` is where to send the payer), ``succeeded``,
    ``failed`` (then ``failure_code``), ``unknown``, ``canceled``.
    """

    invoice_id: UUID
    status: str
    payment_id: UUID | None = None
    redirect_url: str | None = None
    failure_code: str | None = None


class Checkouts(Protocol):
    """Answered by payments; reads only."""

    async def collection_states(
        self, call: Call, invoice_ids: Sequence[UUID]
    ) -> Sequence[CollectionState]:
        """The state of the newest payment of each invoice, in the order asked."""
        ...

    async def chargeable(self, call: Call, customer_id: UUID, method_id: UUID) -> bool:
        """True if the customer has saved this payment method and it can be charged."""
        ...

    async def method_to_charge(
        self, call: Call, customer_id: UUID, method_id: UUID | None
    ) -> UUID | None:
        """The saved method that an automatic payment would charge: the one named while it can be
        charged, else the customer's default; None if there is neither."""
        ...

    async def methods_to_try(self, call: Call, customer_id: UUID) -> Sequence[UUID]:
        """The customer's saved methods that can be charged, in the customer's order."""
        ...

    async def return_allowed(self, call: Call, address: str) -> bool:
        """True if the tenant's payers may be sent to ``address`` after a hosted page."""
        ...
