"""Attaching a test method: the wish is committed, the sandbox is asked, the answer is kept."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import Row

from subledger.platform import crashpoints
from subledger.platform.db import Database, Tx, story
from subledger.services.payments.protocol import Lost, Saved
from subledger.services.payments.provider import Providers
from subledger.services.payments.store import methods
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases.methods import finish_attaching

MOST_TRIES = 10
_CLAIM = story("payments.claim_methods")
_KEEP = story("payments.keep_methods")
_AFTER_CALL = crashpoints.point("payments.attach.after_call")


class Attaching:
    """Works off methods that are ``attaching``; the method's id is the provider's key, so a
    repeated call makes the same method."""

    def __init__(self, *, database: Database, providers: Providers, lease_s: float) -> None:
        self._database = database
        self._providers = providers
        self._lease_s = lease_s

    async def attach(self, limit: int) -> int:
        """Attach what nobody works on."""
        async with self._database.transaction(_CLAIM) as tx:
            keys = await methods.attaching(tx, limit)
            if not keys:
                return 0
            tx.use_tenants({tenant for tenant, _ in keys})
            rows = await methods.claim_attaching(tx, keys, lease_s=self._lease_s)
        return await self._attach_all(list(rows))

    async def drive(self, method: Key) -> None:
        """Attach one method now, unless another works on it."""
        async with self._database.transaction(_CLAIM, tenants=[method[0]]) as tx:
            rows = await methods.claim_attaching(tx, [method], lease_s=self._lease_s)
        await self._attach_all(list(rows))

    async def _attach_all(self, rows: list[Row[Any]]) -> int:
        if not rows:
            return 0
        answers = await asyncio.gather(
            *(
                self._providers.attach(
                    row.connection_id, row.tenant_id, row.id, test_kind=row.test_kind
                )
                for row in rows
            )
        )
        _AFTER_CALL.hit()
        kept: list[tuple[Key, Saved | None]] = []
        for row, answer in zip(rows, answers, strict=True):
            key = (row.tenant_id, row.id)
            if isinstance(answer, Lost):
                if row.tries + 1 >= MOST_TRIES:
                    kept.append((key, None))
            else:
                kept.append((key, answer))
        if not kept:
            return 0

        async def keep(tx: Tx) -> int:
            return await finish_attaching(tx, kept)

        return await self._database.transact(_KEEP, keep, tenants={key[0] for key, _ in kept})
