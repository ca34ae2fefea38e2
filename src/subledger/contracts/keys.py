"""Who is calling: the gateway asks, identity answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. ``mode`` is ``live`` or ``sandbox`` (its tenant's), ``role`` is
    ``admin`` (all) or ``read``; ``id`` names the key (or later the user) for idempotency."""

    tenant_id: UUID
    id: str
    role: str
    mode: str


class KeyRing(Protocol):
    """Answered by identity. Tokens of users join here later."""

    async def principal(self, credential: str) -> Principal | None:
        """Who presents this API key; None if it is unknown, revoked, or its tenant is deleted."""
        ...
