"""Open a live tenant, or a sandbox tenant linked to one, each with its first admin key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from subledger.platform.db import Tx, sql
from subledger.services.identity import store
from subledger.services.identity.usecases.issue_keys import KeyRequest, issue_keys

_WALL_CLOCK = sql("SELECT clock_timestamp() AS at")


@dataclass(frozen=True, slots=True)
class Opened:
    """A new tenant and its key's text, which is shown this once."""

    tenant_id: UUID
    name: str
    mode: str
    key: str

    def __repr__(self) -> str:
        return f"Opened({self.name!r}, {self.mode}, {self.tenant_id})"


@dataclass(frozen=True, slots=True)
class TenantRequest:
    """What to open. A sandbox names its live tenant and where its clock starts (None: at the
    database's time); a live tenant has neither."""

    tenant_id: UUID
    name: str
    live_tenant_id: UUID | None = None
    clock_at: datetime | None = None

    @property
    def mode(self) -> str:
        return "live" if self.live_tenant_id is None else "sandbox"


async def create_tenants(
    tx: Tx, requests: list[TenantRequest], *, cause: UUID | None = None
) -> list[Opened]:
    """Open the tenants; they become visible in the transaction beside those that were.

    The mode is fixed from here on. Live tenants come before their own sandboxes in ``requests``.
    """
    assert all(each.mode == "sandbox" or each.clock_at is None for each in requests)
    tx.use_tenants(tx.tenants | {each.tenant_id for each in requests})
    wall = (await tx.rows(_WALL_CLOCK))[0].at
    await store.insert_tenants(
        tx,
        [
            {
                "tenant_id": each.tenant_id,
                "name": each.name,
                "mode": each.mode,
                "live_tenant_id": each.live_tenant_id,
                "created_at": wall,
                "now_at": (each.clock_at or wall) if each.mode == "sandbox" else None,
            }
            for each in requests
        ],
    )
    texts = await issue_keys(
        tx,
        [
            KeyRequest(
                tenant_id=each.tenant_id,
                key_id=tx.ids.new(),
                mode=each.mode,
                role="admin",
                name="First key",
                cause=cause,
            )
            for each in requests
        ],
    )
    return [
        Opened(tenant_id=each.tenant_id, name=each.name, mode=each.mode, key=text)
        for each, text in zip(requests, texts, strict=True)
    ]
