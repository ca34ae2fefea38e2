"""Where payers may be sent back to: our own origin, and those that the tenant has listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from subledger.platform.db import Tx
from subledger.platform.http.origins import origin, permits
from subledger.platform.http.problems import foreign_return_url
from subledger.services.payments.store import settings


@dataclass(frozen=True, slots=True)
class Returns:
    """``public_url`` is where we are reached ourselves."""

    public_url: str

    async def allowed(self, tx: Tx, tenant_id: UUID, address: str | None) -> bool:
        """True if the tenant's payers may be sent there; nowhere is always allowed."""
        if address is None:
            return True
        row = (await settings.settings(tx, [tenant_id]))[tenant_id]
        return permits(
            address,
            own=origin(self.public_url),
            allowed=frozenset(row.return_origins),
            is_test=row.mode == "sandbox",
        )

    async def require(self, tx: Tx, tenant_id: UUID, address: str | None) -> None:
        """Raises the problem ``return_url_not_allowed``."""
        if not await self.allowed(tx, tenant_id, address):
            raise foreign_return_url()


async def put_origins(tx: Tx, tenant_id: UUID, origins: Sequence[str]) -> None:
    """Replace the list; each is the origin of an address, kept once and in order."""
    given = sorted({origin(each) for each in origins})
    row = {
        "tenant_id": tenant_id,
        "return_origins": msgspec.json.encode(given).decode(),
        "updated_at": await tx.now(tenant_id),
    }
    await settings.put(tx, [row])
