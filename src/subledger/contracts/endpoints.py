"""Where a provider's notifications arrive: payments asks, webhooks answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from subledger.contracts.calls import Call


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """Receive what ``provider`` says about ``connection_id``, signed with ``secret``."""

    connection_id: UUID
    provider: str
    secret: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``path`` is below the installation's public URL and holds an unguessable part."""

    connection_id: UUID
    path: str


class Endpoints(Protocol):
    """Answered by webhooks."""

    async def register(self, call: Call, request: EndpointRequest) -> Endpoint:
        """Open the connection's endpoint. Idempotent by connection: asked again it answers the
        same path and keeps the newest secret."""
        ...
