"""Encrypting anew what is kept encrypted, after a new key came first in the settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast
from uuid import UUID

from subledger.hosts.assembly import Assembly
from subledger.hosts.invariants import every_tenant

RAW_DAYS = 30
"""Received webhooks are not touched: with their bodies an old key can be dropped after these."""


async def reseal(assembly: Assembly) -> int:
    """Every service's secrets, tenant by tenant, with the newest key; tells how many tenants.

    Each page is a transaction that locks its rows, so a change made meanwhile is not undone; run
    again it does the same again. What no key opens is logged and left.
    """
    sealers = [
        cast("Callable[[UUID], Awaitable[None]]", each.attributes["reseal"])
        for each in assembly.services
        if "reseal" in each.attributes
    ]
    tenants = 0
    async for batch in every_tenant(assembly):
        for tenant_id in batch:
            for reseal_tenant in sealers:
                await reseal_tenant(tenant_id)
        tenants += len(batch)
    return tenants
