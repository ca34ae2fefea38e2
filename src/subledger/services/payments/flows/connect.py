"""A tenant's connection to the sandbox provider, opened at its first use.

The intent (a connection that is ``opening``) is committed first; then the webhook endpoint and
the account are asked for, which is the same when repeated; then the connection is active. Whoever
finds it half-way goes on from there.
"""

from __future__ import annotations

from uuid import UUID

from cryptography.fernet import MultiFernet
from sqlalchemy import Row

from subledger.contracts.calls import Call
from subledger.contracts.endpoints import EndpointRequest, Endpoints
from subledger.platform import crashpoints
from subledger.platform.db import Database, Tx, assert_no_transaction, story
from subledger.services.payments.provider import Accounts
from subledger.services.payments.store import methods

_OPEN = story("payments.open_connection")
_ACTIVATE = story("payments.activate_connection")
_AFTER_CALL = crashpoints.point("payments.connect.after_call")

PROVIDER = "sandbox"


class NoConnection(Exception):
    """The tenant is live, and this installation knows no live provider."""


class Connecting:
    """Answers which connection a tenant's new methods and pages belong to."""

    def __init__(
        self, *, database: Database, endpoints: Endpoints, accounts: Accounts, fernet: MultiFernet
    ) -> None:
        self._database = database
        self._endpoints = endpoints
        self._accounts = accounts
        self._fernet = fernet
        self._known: dict[UUID, UUID] = {}

    async def default(self, tenant_id: UUID) -> UUID:
        """The tenant's default connection, opened if there is none yet.

        Raises NoConnection for a live tenant: test money must not look like money.
        """
        known = self._known.get(tenant_id)
        if known is not None:
            return known
        api_key, secret = self._accounts.credentials(tenant_id)

        async def intend(tx: Tx) -> Row[object]:
            found = await methods.default_connection(tx, tenant_id)
            if found is not None:
                return found
            if await methods.mode_of(tx, tenant_id) != "sandbox":
                raise NoConnection
            await methods.open_connection(
                tx,
                tenant_id=tenant_id,
                connection_id=tx.ids.new(),
                provider=PROVIDER,
                credentials_encrypted=self._fernet.encrypt(api_key.encode()),
                secret_encrypted=self._fernet.encrypt(secret.encode()),
                created_at=await tx.now(tenant_id),
            )
            opened = await methods.default_connection(tx, tenant_id)
            assert opened is not None, "the one just inserted, or another's"
            return opened

        row = await self._database.transact(_OPEN, intend, tenants=[tenant_id])
        if row.status != "active":
            await self._finish(tenant_id, row.id, secret=secret)
        self._known[tenant_id] = row.id
        return UUID(int=row.id.int)

    async def _finish(self, tenant_id: UUID, connection_id: UUID, *, secret: str) -> None:
        assert_no_transaction("opening a connection")
        endpoint = await self._endpoints.register(
            Call(tenant_id),
            EndpointRequest(connection_id=connection_id, provider=PROVIDER, secret=secret),
        )
        await self._accounts.provision(tenant_id, endpoint.path)
        _AFTER_CALL.hit()

        async def activate(tx: Tx) -> None:
            await methods.activate_connection(tx, tenant_id, connection_id)

        await self._database.transact(_ACTIVATE, activate, tenants=[tenant_id])
