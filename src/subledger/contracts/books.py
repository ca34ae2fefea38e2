"""What the books say a provider holds for us: payments asks, billing (which keeps them) answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from subledger.contracts.calls import Call


@dataclass(frozen=True, slots=True)
class ClearingBalance:
    """What is booked as held by a provider (minor units, debits less credits)."""

    currency: str
    amount_minor: int


class Books(Protocol):
    """Answered by billing."""

    async def clearing(self, call: Call, connection_id: UUID) -> Sequence[ClearingBalance]:
        """The connection's clearing account as booked now, by currency; zeros are left out."""
        ...
