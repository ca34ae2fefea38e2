"""What travels along with every call from one service to another."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Call:
    """Whose data, why, and for how long.

    ``deadline_s`` is the time left (seconds) when the call is made; ``cause`` the event or request
    behind it; ``idempotency_key`` makes a repeated call one call.
    """

    tenant_id: UUID
    cause: UUID | None = None
    idempotency_key: str | None = None
    deadline_s: int = 10
