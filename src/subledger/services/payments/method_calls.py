"""What payments asks providers about saved methods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from uuid import UUID

from subledger.platform import ids
from subledger.providers import port
from subledger.services.payments.protocol import (
    Absent,
    ActionNeeded,
    Closed,
    Lost,
    NotSent,
    Saved,
)
from subledger.services.payments.provider import Providers, saved_of

SetUp = Saved | ActionNeeded | Absent | NotSent | Lost


class MethodCalls:
    """Outside calls: none may run inside a transaction."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    async def detach(
        self, tenant_id: UUID, connection_id: UUID, token: str
    ) -> Closed | NotSent | Lost:
        """Give a method up: Closed once it cannot be charged any more, also twice."""
        gateway, connection = await self._providers.gateway_of(tenant_id, connection_id)
        try:
            async with asyncio.timeout(self._providers.call_s):
                answer = await gateway.detach(connection, token)
        except TimeoutError:
            return Lost("timeout")
        if isinstance(answer, port.NotExecuted):
            return NotSent(answer.reason, answer.retry_after_s)
        return Lost(answer.reason) if isinstance(answer, port.Unknown) else Closed()

    async def start_setup(
        self, tenant_id: UUID, connection_id: UUID, method_id: UUID, return_url: str
    ) -> SetUp:
        """Open the page on which a payer saves this method; asked again it is the same page."""
        gateway, connection = await self._providers.gateway_of(tenant_id, connection_id)
        asked = port.SetupRequest(ids.text("pm", method_id), return_url)
        return await self._set_up(gateway.start_setup(connection, asked))

    async def look_at_setup(
        self, tenant_id: UUID, connection_id: UUID, provider_ref: str, *, expire: bool
    ) -> SetUp:
        """What became of such a page: Saved, ActionNeeded while it is open, Absent once it is over
        without a method; closed first if it is to ``expire``."""
        gateway, connection = await self._providers.gateway_of(tenant_id, connection_id)
        return await self._set_up(gateway.fetch_setup(connection, provider_ref, expire=expire))

    async def _set_up(self, call: Awaitable[port.SetupAnswer | port.NotExecuted]) -> SetUp:
        try:
            async with asyncio.timeout(self._providers.call_s):
                answer = await call
        except TimeoutError:
            return Lost("timeout")
        found: SetUp
        match answer:
            case port.SavedMethod():
                found = saved_of(self._providers.fernet, answer)
            case port.RequiresAction():
                found = ActionNeeded(answer.redirect_url, answer.provider_ref)
            case port.NotFound() | port.Declined():
                found = Absent()
            case port.NotExecuted():
                found = NotSent(answer.reason, answer.retry_after_s)
            case port.Unknown():
                found = Lost(answer.reason)
        return found

    async def look(self, tenant_id: UUID, connection_id: UUID, token: str) -> Saved | Absent | Lost:
        """The method as it is now; Absent if the provider has it no more."""
        gateway, connection = await self._providers.gateway_of(tenant_id, connection_id)
        try:
            async with asyncio.timeout(self._providers.call_s):
                answer = await gateway.fetch_method(connection, token)
        except TimeoutError:
            return Lost("timeout")
        if isinstance(answer, port.SavedMethod):
            return saved_of(self._providers.fernet, answer)
        return Lost(answer.reason) if isinstance(answer, port.Unknown) else Absent()
