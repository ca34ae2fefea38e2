"""Buying waits for its own facts: the same code as when nobody waits, and a look at the result."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.calls import Call
from subledger.contracts.checkouts import Checkouts, CollectionState
from subledger.platform.db import Database, Tx, story
from subledger.platform.lookout import Lookout
from subledger.services.billing.store import reads
from subledger.services.billing.store.subscriptions import Key

_READ = story("billing.read_bought", reads=True)
_SETTLED = frozenset({"requires_action", "failed", "canceled"})
_MAY_SETTLE = (
    events.SUBSCRIPTION_ACTIVATED,
    events.PAYMENT_REQUIRES_ACTION,
    events.PAYMENT_FAILED,
    events.PAYMENT_CANCELED,
)


@dataclass(frozen=True, slots=True)
class Bought:
    """How far a purchase has come. ``redirect_url`` is set when the payer has to act."""

    status: str
    invoice_id: UUID | None
    payment_status: str | None = None
    redirect_url: str | None = None
    failure_code: str | None = None

    @property
    def is_settled(self) -> bool:
        """True if it is active, or its payer has to act or was refused."""
        return self.status != "incomplete" or self.payment_status in _SETTLED


Outcome = tuple[Row[Any], Bought]
"""The subscription as it is shown, and how far its purchase has come."""


class Buyers:
    """All of a process that wait for their purchases."""

    def __init__(self, database: Database, checkouts: Checkouts) -> None:
        self._database = database
        self._checkouts = checkouts
        self._lookout = Lookout(database.wakeup, self._settled, types=_MAY_SETTLE)

    async def wait(self, key: Key, wait_s: float, *, at_once: bool = True) -> Outcome:
        """How it is once the purchase is settled, or ``wait_s`` (wall clock) has passed. Reads
        only, so it can be given up at any moment. ``at_once``: see ``Lookout.wait``."""
        if wait_s > 0:
            outcome = await self._lookout.wait(key, wait_s, at_once=at_once)
            if outcome is not None:
                return outcome
        bought = (await self._look([key]))[key]
        return (await self._rows([key]))[key], bought

    async def _settled(self, keys: Sequence[Key]) -> dict[Key, Outcome]:
        bought = await self._look(keys)
        settled = [key for key in keys if bought[key].is_settled]
        if not settled:
            return {}
        rows = await self._rows(settled)
        # Read after, so that what was settled as waiting may have become more since.
        return {key: (rows[key], bought[key]) for key in settled}

    async def _rows(self, keys: Sequence[Key]) -> dict[Key, Row[Any]]:
        async def read(tx: Tx) -> dict[Key, Row[Any]]:
            return await reads.subscriptions(tx, keys)

        return await self._database.transact(_READ, read, tenants=_tenants(keys))

    async def _look(self, keys: Sequence[Key]) -> dict[Key, Bought]:
        async def read(tx: Tx) -> dict[Key, Row[Any]]:
            return await reads.last_invoices(tx, keys)

        found = await self._database.transact(_READ, read, tenants=_tenants(keys))
        states = await self._states(
            [(key[0], row.invoice_id) for key, row in found.items() if _is_collecting(row)]
        )
        return {key: _bought(row, states) for key, row in found.items()}

    async def _states(self, invoices: Collection[Key]) -> dict[Key, CollectionState]:
        """Tenant by tenant: what payments says of invoices that are being collected."""
        states = {}
        for tenant_id in sorted(_tenants(invoices)):
            mine = [invoice for tenant, invoice in invoices if tenant == tenant_id]
            for state in await self._checkouts.collection_states(Call(tenant_id), mine):
                states[tenant_id, state.invoice_id] = state
        return states


def _tenants(keys: Collection[Key]) -> set[UUID]:
    return {tenant for tenant, _ in keys}


def _is_collecting(row: Row[Any]) -> bool:
    return bool(row.status == "incomplete" and row.invoice_id is not None)


def _bought(row: Row[Any], states: dict[Key, CollectionState]) -> Bought:
    if not _is_collecting(row):
        return Bought(row.status, row.invoice_id)
    state = states[row.tenant_id, row.invoice_id]
    return Bought(row.status, row.invoice_id, state.status, state.redirect_url, state.failure_code)
