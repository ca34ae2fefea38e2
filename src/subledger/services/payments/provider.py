"""Asking providers: the port's answers as findings, connections with their secrets in the clear.

Everything outside this module speaks of findings (``protocol``), so a new provider or a new kind
of answer changes nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from cryptography.fernet import MultiFernet
from sqlalchemy import Row

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers import port
from subledger.providers.engine import Gateway
from subledger.services.payments.protocol import (
    Absent,
    ActionNeeded,
    Captured,
    Closed,
    Finding,
    Lost,
    NotSent,
    Refused,
    Saved,
)
from subledger.services.payments.store import methods

_READ_CONNECTION = story("payments.read_connection", reads=True)


class Accounts(Protocol):
    """Opens tenants' accounts at the sandbox provider, which tells the credentials itself."""

    def credentials(self, tenant_id: UUID) -> tuple[str, str]:
        """API key and webhook secret of the tenant's account, opened or not."""
        ...

    async def provision(self, tenant_id: UUID, webhook_path: str) -> tuple[str, str]:
        """Open the account, notified at ``webhook_path``. Idempotent by tenant."""
        ...


@dataclass(frozen=True, slots=True)
class Charge:
    """One attempt as a provider needs it."""

    attempt_id: UUID
    invoice_id: UUID | None
    amount_minor: int
    currency: str


class Providers:
    """All providers that this installation knows, and the connections of its tenants.

    Every method is an outside call: none may run inside a transaction.
    """

    def __init__(
        self,
        *,
        database: Database,
        gateways: Mapping[str, Gateway],
        fernet: MultiFernet,
        call_s: float,
    ) -> None:
        """``call_s`` bounds one call (wall clock); it must be shorter than a claim's lease."""
        self._database = database
        self._gateways = gateways
        self._fernet = fernet
        self._call_s = call_s
        self._connections: dict[UUID, port.Connection] = {}

    async def charge(
        self, connection_id: UUID, tenant_id: UUID, charge: Charge, *, token: str
    ) -> Finding:
        """Charge a saved method, once for this attempt."""
        connection = await self.connection(tenant_id, connection_id)
        request = port.ChargeRequest(
            attempt_id=ids.text("att", charge.attempt_id),
            token=token,
            amount_minor=charge.amount_minor,
            currency=charge.currency,
            invoice_id=None if charge.invoice_id is None else ids.text("inv", charge.invoice_id),
        )
        gateway = self._gateways[connection.provider]
        return await self._find(gateway.charge_saved(connection, request))

    async def open_page(
        self, connection_id: UUID, tenant_id: UUID, charge: Charge, *, return_url: str
    ) -> Finding:
        """Open the hosted page of this attempt; asked again it is the same page."""
        connection = await self.connection(tenant_id, connection_id)
        request = port.CheckoutRequest(
            attempt_id=ids.text("att", charge.attempt_id),
            amount_minor=charge.amount_minor,
            currency=charge.currency,
            return_url=return_url,
            save=True,
        )
        gateway = self._gateways[connection.provider]
        return await self._find(gateway.start_checkout(connection, request))

    async def look(self, connection_id: UUID, tenant_id: UUID, attempt_id: UUID) -> Finding:
        """What the provider says about an attempt now."""
        connection = await self.connection(tenant_id, connection_id)
        gateway = self._gateways[connection.provider]
        return await self._find(gateway.fetch(connection, ids.text("att", attempt_id)))

    async def close_page(self, connection_id: UUID, tenant_id: UUID, provider_ref: str) -> Finding:
        """Close a hosted page; Captured if it was paid before."""
        connection = await self.connection(tenant_id, connection_id)
        gateway = self._gateways[connection.provider]
        return await self._find(gateway.expire(connection, provider_ref))

    async def attach(
        self, connection_id: UUID, tenant_id: UUID, method_id: UUID, *, test_kind: str
    ) -> port.SavedMethod | Lost | None:
        """A saved test method, once for this method id; None if there is no such kind."""
        connection = await self.connection(tenant_id, connection_id)
        gateway = self._gateways[connection.provider]
        try:
            async with asyncio.timeout(self._call_s):
                answer = await gateway.attach_test_method(
                    connection, test_kind, ids.text("pm", method_id)
                )
        except TimeoutError:
            return Lost("timeout")
        if isinstance(answer, port.NotExecuted | port.Unknown):
            return Lost(answer.reason)
        return answer

    async def connection(self, tenant_id: UUID, connection_id: UUID) -> port.Connection:
        """The connection with its secrets; remembered, since they never change."""
        known = self._connections.get(connection_id)
        if known is not None:
            return known

        async def read(tx: Tx) -> Row[Any]:
            key = (tenant_id, connection_id)
            return (await methods.connections(tx, [key]))[key]

        row = await self._database.transact(_READ_CONNECTION, read, tenants=[tenant_id])
        opened = port.Connection(
            id=ids.text("conn", row.id),
            provider=row.provider,
            api_key=self._fernet.decrypt(bytes(row.credentials_encrypted)).decode(),
            webhook_secret=self._fernet.decrypt(bytes(row.webhook_secret_encrypted)).decode(),
        )
        self._connections[connection_id] = opened
        return opened

    async def _find(self, call: Awaitable[port.Outcome | port.Snapshot]) -> Finding:
        try:
            async with asyncio.timeout(self._call_s):
                answer = await call
        except TimeoutError:
            return Lost("timeout")
        return finding(answer)


def finding(answer: port.Outcome | port.Snapshot) -> Finding:
    """A provider's answer as what it means here."""
    found: Finding
    match answer:
        case port.Succeeded():
            saved = answer.method
            found = Captured(
                provider_ref=answer.provider_ref,
                amount_minor=answer.amount_minor,
                saved=None if saved is None else Saved(saved.token, saved.brand, saved.last_four),
            )
        case port.RequiresAction():
            found = ActionNeeded(answer.redirect_url, answer.provider_ref)
        case port.Declined():
            found = Refused(
                decline=answer.decline,
                code=answer.code,
                retry_not_before=answer.retry_not_before,
                counted=answer.decline != "config",
                provider_ref=answer.provider_ref,
            )
        case port.Canceled():
            found = Closed()
        case port.NotFound():
            found = Absent()
        case port.NotExecuted():
            found = NotSent(answer.reason)
        case port.Processing():
            found = Lost("processing")
        case port.Unknown():
            found = Lost(answer.reason)
    return found
