"""Endpoints: webhooks' answer to ``contracts.endpoints``, and finding one by its token."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.fernet import MultiFernet

from subledger.contracts.calls import Call
from subledger.contracts.endpoints import Endpoint, EndpointRequest
from subledger.platform.db import Database, Tx, story
from subledger.services.webhooks import store
from subledger.services.webhooks.usecases.replay import reseal

_REGISTER = story("webhooks.register_endpoint")
_RESEAL = story("webhooks.reseal_endpoints")
_FIND = story("webhooks.find_endpoint", reads=True)
KEPT_S = 10.0
"""How long a process may take an address or a secret for valid that was replaced."""
_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Known:
    """An endpoint with its secret in the clear (never logged)."""

    tenant_id: UUID
    id: UUID
    provider: str
    connection_id: UUID
    secret: str = field(repr=False)


class Endpoints:
    """Endpoints of all tenants; an answer is kept ten seconds, since every notification asks."""

    def __init__(self, database: Database, fernet: MultiFernet) -> None:
        self._database = database
        self._fernet = fernet
        self._kept: OrderedDict[bytes, tuple[float, Known]] = OrderedDict()

    async def register(self, call: Call, request: EndpointRequest) -> Endpoint:
        """Open the connection's endpoint: the same path as before, until the number grows."""
        token = secrets.token_urlsafe(32)

        async def work(tx: Tx) -> str:
            row = await store.register(
                tx,
                tenant_id=call.tenant_id,
                provider=request.provider,
                connection_id=request.connection_id,
                token_hash=_hash(token),
                token_encrypted=self._fernet.encrypt(token.encode()),
                secret_encrypted=self._fernet.encrypt(request.secret.encode()),
                number=request.number,
                revision=request.revision,
            )
            return self._fernet.decrypt(bytes(row.token_encrypted)).decode()

        kept = await self._database.transact(_REGISTER, work, tenants=[call.tenant_id])
        for digest, (_, known) in list(self._kept.items()):
            if known.connection_id == request.connection_id:
                del self._kept[digest]
        return Endpoint(
            connection_id=request.connection_id, path=f"/webhooks/{request.provider}/{kept}"
        )

    def remembered(self, token: str) -> Known | None:
        """The endpoint if it was found a moment ago; no I/O."""
        kept = self._kept.get(_hash(token))
        return kept[1] if kept is not None and kept[0] > time.monotonic() else None

    async def find(self, token: str) -> Known | None:
        """The endpoint with this token, or None."""
        digest = _hash(token)

        async def work(tx: Tx) -> Known | None:
            row = await store.endpoint_by_token(tx, digest)
            if row is None:
                return None
            return Known(
                tenant_id=row.tenant_id,
                id=row.id,
                provider=row.provider,
                connection_id=row.connection_id,
                secret=self._fernet.decrypt(bytes(row.secret_encrypted)).decode(),
            )

        found = await self._database.transact(_FIND, work)
        if found is not None:
            self._kept[digest] = (time.monotonic() + KEPT_S, found)
            self._kept.move_to_end(digest)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return found

    async def reseal(self, tenant_id: UUID) -> None:
        """Encrypt the tenant's tokens and secrets with the newest key."""
        after: UUID | None = UUID(int=0)
        while after is not None:
            start = after

            async def work(tx: Tx, start: UUID = start) -> UUID | None:
                return await reseal(tx, self._fernet, tenant_id=tenant_id, after=start)

            after = await self._database.transact(_RESEAL, work, tenants=[tenant_id])


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
