"""Asking providers beyond the plain charge: what a payer's return completes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from subledger.platform import ids
from subledger.providers import port
from subledger.services.payments.protocol import Finding
from subledger.services.payments.provider import Providers


@dataclass(frozen=True, slots=True)
class Steps:
    """Every method is an outside call: none may run inside a transaction."""

    providers: Providers

    async def complete(
        self,
        connection_id: UUID,
        tenant_id: UUID,
        attempt_id: UUID,
        provider_ref: str | None,
        params: Mapping[str, str],
    ) -> Finding:
        """The payer came back with ``params``: whatever call of ours the provider waits for is
        made, once for this attempt; then what it says about the attempt now."""
        gateway, connection = await self.providers.gateway_of(tenant_id, connection_id)
        request = port.CompleteRequest(
            attempt_id=ids.text("att", attempt_id), provider_ref=provider_ref, params=params
        )
        return await self.providers.find(gateway.complete(connection, request))
