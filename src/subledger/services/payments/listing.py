"""Asking providers for their lists: what they did with our money, and what they hold of it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from uuid import UUID

from subledger.providers import port
from subledger.services.payments.provider import Providers


class Listings:
    """The outside calls of a reconciliation. None may run inside a transaction."""

    def __init__(self, providers: Providers, *, call_s: float) -> None:
        """``call_s`` bounds one call (wall clock)."""
        self._providers = providers
        self._call_s = call_s

    async def page(
        self, connection_id: UUID, tenant_id: UUID, request: port.SettlementsRequest
    ) -> port.Settlements | port.Unknown:
        """A page of the provider's list; Unknown if it does not answer."""
        gateway, connection = await self._providers.gateway_of(tenant_id, connection_id)
        try:
            async with asyncio.timeout(self._call_s):
                return await gateway.list_settlements(connection, request)
        except TimeoutError:
            return port.Unknown("timeout")

    async def balance(
        self, connection_id: UUID, tenant_id: UUID, *, at: datetime
    ) -> port.Balance | port.Unknown:
        """What the provider held at a moment; Unknown if it does not answer."""
        gateway, connection = await self._providers.gateway_of(tenant_id, connection_id)
        try:
            async with asyncio.timeout(self._call_s):
                return await gateway.balance(connection, at)
        except TimeoutError:
            return port.Unknown("timeout")
