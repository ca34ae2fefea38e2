"""Repairing: ask the provider where that decides, then set the difference right.

Between the question and the repair nothing is kept: a repair that stops half-way is asked for
again, and what is done is done once (the difference is closed in the same transaction).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import Row

from subledger.contracts.calls import Call
from subledger.contracts.repairs import RepairAnswer, RepairRequest
from subledger.platform import crashpoints
from subledger.platform.db import Database, Tx, story
from subledger.services.payments.flows.ask import Asking
from subledger.services.payments.protocol import Captured, Lost, NotSent
from subledger.services.payments.provider import Providers
from subledger.services.payments.store import intents, looks, refunds
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import begin_runs, differences, repair

_READ = story("payments.repair_read")
_REPAIR = story("payments.repair")
_AFTER_LOOK = crashpoints.point("payments.repair.after_look")
_ANSWERED_WITHIN_S = 5.0
"""How long a repair waits where a worker asks the provider already."""

_Repair = Callable[[Tx, Row[Any], RepairRequest], Awaitable[RepairAnswer]]


class Repairing:
    """Payments' answer to ``contracts.repairs``."""

    def __init__(self, *, database: Database, providers: Providers, asking: Asking) -> None:
        self._database = database
        self._providers = providers
        self._asking = asking

    async def repair(self, call: Call, request: RepairRequest) -> RepairAnswer:
        """Set one difference right."""
        key = (call.tenant_id, request.difference_id)
        row = await self._read(key)
        if row is None:
            return repair.refused("unknown")
        if row.closed_at is not None:
            return repair.refused("closed")
        action = repair.action_of(row.kind, request)
        if action is None:
            return repair.refused("no_such_action")
        return await self._act(key, row, request, action)

    async def _act(
        self, key: Key, row: Row[Any], request: RepairRequest, action: str
    ) -> RepairAnswer:
        match action:
            case repair.ASK:
                return await self._ask(key, row)
            case "reverse":
                return await self._reverse(key, row, request)
            case "fail":
                return await self._fail(key, row, request)
            case _:
                return await self._do(key, row, request, repair.BY_ACTION[action])

    async def _read(self, key: Key) -> Row[Any] | None:
        async def read(tx: Tx) -> Row[Any] | None:
            return await repair.read(tx, key)

        return await self._database.transact(_READ, read, tenants=[key[0]])

    async def _do(
        self, key: Key, about: Row[Any], request: RepairRequest, act: _Repair
    ) -> RepairAnswer:
        async def work(tx: Tx) -> RepairAnswer:
            await repair.lock_root(tx, about)
            row = await repair.read(tx, key)
            assert row is not None, "a difference is never removed"
            if row.closed_at is not None:
                return repair.refused("closed")
            return await act(tx, row, request)

        return await self._database.transact(_REPAIR, work, tenants=[key[0]])

    async def _ask(self, key: Key, row: Row[Any]) -> RepairAnswer:
        """Ask the provider once more; what it says settles the difference by itself."""
        attempt: Key | None = None
        if row.kind == differences.PAYMENT_UNKNOWN:
            attempt = (key[0], repair.attempt_of(row))

        async def intend(tx: Tx) -> None:
            if attempt is not None:
                await intents.ask(tx, {attempt: "fetch"})
            elif row.kind in {differences.CLEARING_DIFFERS, differences.REFUND_UNMATCHED}:
                # What an unmatched refund is of may be known by now: the lists say so.
                connection = (key[0], row.connection_id)
                await begin_runs.begin(tx, connection, origin="asked", run_id=tx.ids.new())
            elif row.kind == differences.DISPUTE_UNKNOWN:
                await looks.DISPUTES.ask(tx, [(key[0], repair.attempt_of(row))])
            else:
                await looks.REFUNDS.ask(tx, [(key[0], repair.attempt_of(row))])

        await self._database.transact(_REPAIR, intend, tenants=[key[0]])
        if attempt is not None:
            await self._asking.answered(attempt, wait_s=_ANSWERED_WITHIN_S)
            now = await self._read(key)
            if now is not None and now.closed_at is None:
                return repair.refused("unsure")
        return repair.DONE

    async def _reverse(self, key: Key, row: Row[Any], request: RepairRequest) -> RepairAnswer:
        """Only what the provider, asked once more, does not have is taken back."""
        attempt = repair.attempt_of(row)
        finding = await self._providers.look(row.connection_id, key[0], attempt)
        _AFTER_LOOK.hit()
        if isinstance(finding, Lost | NotSent):
            return repair.refused("unsure")
        agrees = isinstance(finding, Captured)
        return await self._do(
            key, row, request, repair.close_unless_open if agrees else repair.reverse
        )

    async def _fail(self, key: Key, row: Row[Any], request: RepairRequest) -> RepairAnswer:
        async with self._database.transaction(_READ, tenants=[key[0]]) as tx:
            refund = (key[0], repair.refund_of(row))
            known = (await refunds.refunds(tx, [refund]))[refund]
        listed = await self._providers.refunds(row.connection_id, key[0], known.attempt_id)
        _AFTER_LOOK.hit()
        if listed is None:
            return repair.refused("unsure")
        agrees = any(
            isinstance(each.finding, Captured)
            and (each.provider_ref == known.provider_ref or each.name == row.subject)
            for each in listed
        )
        act = repair.close_unless_open if agrees else repair.fail_refund
        return await self._do(key, row, request, act)
