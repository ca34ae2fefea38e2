"""Refunding: ask billing, call the provider, record what came of it.

Each arrow is a transaction of its own, and each leaves a row from which another process can go on:
``requested`` is asked for again (billing's answer is the same), ``ready`` is claimed by anyone, and
``in_flight`` whose caller vanished becomes unknown. The refund's id is the provider's key, so that
what is sent again is the same refund.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row

from subledger.contracts.calls import Call
from subledger.contracts.refunds import RefundGrant, RefundRequest, Refunds
from subledger.platform import crashpoints
from subledger.platform.db import Database, Tx, assert_no_transaction, story
from subledger.platform.http.problems import Problem
from subledger.platform.service import Step
from subledger.services.payments import problems
from subledger.services.payments.protocol import Lost, NotSent
from subledger.services.payments.provider import Charge, Providers, Return
from subledger.services.payments.refunding import Listed
from subledger.services.payments.store import looks, payments
from subledger.services.payments.store import refunds as store
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import refunds
from subledger.services.payments.usecases.refunds import Result, Wish

_SCAN = story("payments.refund_scan", reads=True)
_GRANT = story("payments.refund_grant")
_CLAIM = story("payments.refund_claim")
_RECORD = story("payments.refund_record")
_GIVE_UP = story("payments.refund_give_up")
_CLAIM_LOOKS = story("payments.refund_claim_looks")
_TAKE_LIST = story("payments.refund_take_list")
_GRANTED = crashpoints.point("payments.refund.after_grant")
_BEFORE_CALL = crashpoints.point("payments.refund.before_call")
_AFTER_CALL = crashpoints.point("payments.refund.after_call")
_AFTER_LOOK = crashpoints.point("payments.refund.after_look")

_log = structlog.get_logger()


class Refunding:
    """The steps of refunds, and the same for one that somebody waits for."""

    def __init__(
        self, *, database: Database, refunds: Refunds, providers: Providers, lease_s: float
    ) -> None:
        """``lease_s``: how long a claimed call may take before its caller counts as vanished."""
        self._database = database
        self._refunds = refunds
        self._providers = providers
        self._lease_s = lease_s

    # --- steps ---------------------------------------------------------------------------------

    def steps(self) -> list[Step]:
        """What workers run."""
        return [
            Step(
                "payments.refund_grant", self.grant, limit=100, types=frozenset({store.REQUESTED})
            ),
            Step("payments.refund_send", self.send, limit=100, types=frozenset({store.READY})),
            Step(
                "payments.refund_look", self.look, limit=100, types=frozenset({looks.REFUNDS.work})
            ),
            Step("payments.refund_give_up", self.give_up_waiting, pause_s=1, types=frozenset()),
        ]

    async def grant(self, limit: int) -> int:
        """Ask billing about refunds that were asked for."""
        async with self._database.transaction(_SCAN) as tx:
            keys = await store.requested(tx, limit)
        return await self._grant_all(keys)

    async def send(self, limit: int) -> int:
        """Send granted refunds to their providers."""
        async with self._database.transaction(_SCAN) as tx:
            keys = await store.ready(tx, limit)
        return await self._send_all(keys)

    async def look(self, limit: int) -> int:
        """Ask providers for the refunds of attempts, and take over what they list."""
        async with self._database.transaction(_CLAIM_LOOKS) as tx:
            keys = await looks.REFUNDS.waiting(tx, lease_s=self._lease_s, limit=limit)
            if not keys:
                return 0
            tx.use_tenants({tenant for tenant, _ in keys})
            rows = list(await looks.REFUNDS.claim(tx, keys, lease_s=self._lease_s))
            asked_at = await tx.clocks({row.tenant_id for row in rows})
        if not rows:
            return 0
        lists = await asyncio.gather(*(self._list(row) for row in rows))
        _AFTER_LOOK.hit()

        async def record(tx: Tx) -> None:
            await refunds.take_list(tx, list(zip(rows, lists, strict=True)), asked_at)
            await looks.REFUNDS.looked(tx, rows)

        await self._database.transact(_TAKE_LIST, record, tenants={row.tenant_id for row in rows})
        return len(rows)

    async def give_up_waiting(self, limit: int) -> int:
        """Let go of calls whose caller vanished."""
        async with self._database.transaction(_GIVE_UP) as tx:
            keys = await store.stale(tx, lease_s=self._lease_s, limit=limit)
            if not keys:
                return 0
            tx.use_tenants({tenant for tenant, _ in keys})
            return await refunds.give_up_waiting(tx, keys, lease_s=self._lease_s)

    # --- for one request -------------------------------------------------------------------------

    async def drive(self, refund: Key) -> None:
        """Take one refund as far as it goes now; what others hold is left to them."""
        await self._grant_all([refund])
        await self._send_all([refund])

    async def check_part(self, wish: Wish) -> None:
        """Raises the problem partial_refund_unavailable where the provider takes a capture back
        whole or not at all."""

        async def read(tx: Tx) -> Row[Any] | None:
            return (await payments.payments(tx, [key])).get(key)

        key = (wish.tenant_id, wish.payment_id)
        row = await self._database.transact(_SCAN, read, tenants=[wish.tenant_id])
        if wish.amount_minor is None or wish.to == "credit" or row is None:
            return
        whole = row.connection_id is None or wish.amount_minor >= row.amount_minor
        if not whole and not await self._providers.splits_refunds(
            row.connection_id, wish.tenant_id
        ):
            raise Problem(
                problems.PARTIAL_REFUND,
                detail=f"All of {row.amount_minor} goes back, or nothing.",
                pointer="/amount_minor",
            )

    async def preview(self, wish: Wish) -> RefundGrant:
        """What billing would answer to this wish now. Raises as ``usecases.refunds.refundable``."""

        async def read(tx: Tx) -> Row[Any]:
            return await refunds.refundable(tx, wish)

        payment = await self._database.transact(_SCAN, read, tenants=[wish.tenant_id])
        assert_no_transaction("preview_refunds")
        asked = RefundRequest(
            refund_id=self._database.ids.new(),
            payment_id=payment.id,
            attempt_id=payment.attempt_id,
            connection_id=payment.connection_id,
            amount_minor=wish.amount_minor,
            to=wish.to,
            source=wish.source,
            reason=wish.reason,
            cancel_subscription=wish.cancel_subscription,
        )
        answers = await self._refunds.preview_refunds(Call(wish.tenant_id), [asked])
        return answers[0]

    # --- claim, call, record ---------------------------------------------------------------------

    async def _grant_all(self, keys: Iterable[Key]) -> int:
        by_tenant: dict[UUID, list[Key]] = {}
        for key in keys:
            by_tenant.setdefault(key[0], []).append(key)
        changed = 0
        for tenant_id, mine in sorted(by_tenant.items()):
            async with self._database.transaction(_SCAN, tenants=[tenant_id]) as tx:
                rows = await store.to_grant(tx, mine)
            for row in rows:
                changed += await self._grant_one(row)
        return changed

    async def _grant_one(self, row: Row[Any]) -> int:
        """One call for each refund: what one of them meets stops no other."""
        asked = RefundRequest(
            refund_id=row.id,
            payment_id=row.payment_id,
            attempt_id=row.attempt_id,
            connection_id=row.connection_id,
            amount_minor=row.asked_minor,
            to=row.destination,
            source=row.source,
            reason=row.reason,
            cancel_subscription=row.cancel_subscription,
        )
        answers = await self._refunds.grant_refunds(Call(row.tenant_id, cause=row.cause), [asked])
        _GRANTED.hit()

        async def record(tx: Tx) -> int:
            return await refunds.apply_grants(tx, row.tenant_id, answers)

        return await self._database.transact(_GRANT, record, tenants=[row.tenant_id])

    async def _send_all(self, keys: Sequence[Key]) -> int:
        if not keys:
            return 0
        tenants = {tenant for tenant, _ in keys}
        async with self._database.transaction(_CLAIM, tenants=sorted(tenants)) as tx:
            rows = await store.claim(tx, keys)
        if not rows:
            return 0
        deadline = time.monotonic() + self._lease_s / 3
        results = await asyncio.gather(*(self._send(row, deadline) for row in rows))

        async def record(tx: Tx) -> int:
            return await refunds.settle(tx, results)

        await self._database.transact(_RECORD, record, tenants=tenants)
        return len(results)

    async def _send(self, row: Row[Any], deadline: float) -> Result:
        came_of = partial(Result, (row.tenant_id, row.id), claimed_at=row.claimed_at)
        if time.monotonic() > deadline:
            return came_of(NotSent("too_late"))
        given = Return(
            refund_id=row.id,
            capture=Charge(row.attempt_id, row.invoice_id, row.captured_minor, row.currency),
            capture_ref=row.provider_ref or "",
            amount_minor=row.amount_minor,
        )
        _BEFORE_CALL.hit()
        try:
            finding = await self._providers.refund(row.connection_id, row.tenant_id, given)
        except Exception as error:
            # Whatever broke, the request may have left: unknown, never failed.
            _log.exception("payments.refund_broke")
            return came_of(Lost(type(error).__name__))
        _AFTER_CALL.hit()
        return came_of(finding)

    async def _list(self, row: Row[Any]) -> list[Listed] | None:
        if row.connection_id is None:
            return None
        try:
            return await self._providers.refunds(row.connection_id, row.tenant_id, row.attempt_id)
        except Exception:
            _log.exception("payments.refund_look_broke", attempt_id=str(row.attempt_id))
            return None
