"""Addresses of payers' pages: unguessable, and known without a look at the database.

A token is tenant, id and a MAC over both under a key of the installation, so that nothing is stored
for a payment that nobody looks at, and a page is found without a reader of all tenants' rows.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID

PREFIX = "/pay/"
STATUS = f"{PREFIX}status/"
_MAC = 16
_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Addresses:
    """``secret`` makes the MACs; ``public_url`` is where payers reach us."""

    secret: bytes
    public_url: str

    def status(self, tenant_id: UUID, payment_id: UUID) -> str:
        """Where the payer of a payment sees what became of it."""
        return f"{self.public_url.rstrip('/')}{STATUS}{self.token('status', tenant_id, payment_id)}"

    def link(self, tenant_id: UUID, link_id: UUID) -> str:
        """Where an invoice can be paid: what is open of it at the time."""
        return f"{self.public_url.rstrip('/')}{PREFIX}{self.token('link', tenant_id, link_id)}"

    def token(self, purpose: str, tenant_id: UUID, row_id: UUID) -> str:
        """The last part of an address; the same one each time."""
        named = tenant_id.bytes + row_id.bytes
        return base64.urlsafe_b64encode(named + self._mac(purpose, named)).decode()

    def read(self, purpose: str, token: str) -> tuple[UUID, UUID] | None:
        """Whose page this is: ``(tenant_id, id)``; None for a token that we did not make."""
        if len(token) != _LENGTH:
            return None
        try:
            raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        named = raw[:32]
        if not hmac.compare_digest(raw[32:], self._mac(purpose, named)):
            return None
        return UUID(bytes=named[:16]), UUID(bytes=named[16:])

    def _mac(self, purpose: str, named: bytes) -> bytes:
        given = b"pay\0" + purpose.encode() + b"\0" + named
        return hmac.new(self.secret, given, hashlib.sha256).digest()[:_MAC]
