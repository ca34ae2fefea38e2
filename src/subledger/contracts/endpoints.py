"""Where a provider's notifications arrive: payments asks, webhooks answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from subledger.contracts.calls import Call


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """Receive what ``provider`` says about ``connection_id``, signed with ``secret``, at the
    connection's ``number``-th address: a higher number than before ends the address there was.
    Of two requests the one with the higher ``revision`` says which secret holds."""

    connection_id: UUID
    provider: str
    secret: str = field(repr=False)
    number: int = 1
    revision: int = 1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``path`` is below the installation's public URL and holds an unguessable part."""

    connection_id: UUID
    path: str


class Endpoints(Protocol):
    """Answered by webhooks."""

    async def register(self, call: Call, request: EndpointRequest) -> Endpoint:
        """Open the connection's endpoint. Idempotent by connection and number: asked again it
        answers the same path and keeps the newest secret."""
        ...
