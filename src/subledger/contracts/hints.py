"""What became of notifications: webhooks asks payments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from subledger.contracts.calls import Call


@dataclass(frozen=True, slots=True)
class WaitingHint:
    """A notification speaks of something that is not known yet: it was looked for ``looks`` times
    and will be again at ``next_look_at`` (the tenant's clock)."""

    webhook_id: UUID
    looks: int
    next_look_at: datetime | None


class Hints(Protocol):
    """Answered by payments; reads only."""

    async def waiting_hints(self, call: Call, webhook_ids: Sequence[UUID]) -> Sequence[WaitingHint]:
        """Those of the notifications that still wait for what they speak of."""
        ...
