"""Collecting: reserve, call the provider, record what came of it.

Each arrow is a transaction of its own, and each leaves a row from which another process can go
on: ``reserving`` is asked for again, ``ready`` is claimed by anyone, ``in_flight`` whose caller
vanished becomes unknown. A charge leaves this process at most once per claim.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row

from subledger.contracts.calls import Call
from subledger.contracts.collections import Collections, ReserveRequest
from subledger.platform import crashpoints
from subledger.platform.db import (
    Database,
    Story,
    Tx,
    assert_no_transaction,
    is_transient,
    story,
)
from subledger.providers.hearing import hearing
from subledger.services.payments.addresses import Addresses
from subledger.services.payments.flows.connect import Connecting, CurrencyNotTaken, NoConnection
from subledger.services.payments.protocol import Finding, Lost, NotSent, Refused
from subledger.services.payments.provider import Charge, Providers
from subledger.services.payments.store import payments
from subledger.services.payments.store.holds import switch
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import look, reserve
from subledger.services.payments.usecases.settle import Result, settle

GROUP = 200
GROUP_S = 0.02
"""Results are recorded in groups: at most this many, or what came within this time."""
REFILL_AFTER_S = 0.5
MOST_REFILLED, MOST_RUN_S = 20, 10.0
"""A run fills free places again while more is ready (a tenth at a time), when something became
ready, and now and then, up to this many times its limit and for this long: then it ends, so that
its process can stop."""

_SCAN = story("payments.scan_attempts", reads=True)
_RESERVE = story("payments.record_reservations")
_CLAIM_CHARGES = story("payments.claim_charges")
_CLAIM_PAGES = story("payments.claim_pages")
_RECORD = story("payments.record_results")
_GIVE_UP = story("payments.give_up_waiting")
_LET_GO = story("payments.let_go_holds")
_RESERVED = crashpoints.point("payments.reserve.after_call")
_BEFORE_CHARGE = crashpoints.point("payments.charge.before_call")
_AFTER_CHARGE = crashpoints.point("payments.charge.after_call")
_AFTER_PAGE = crashpoints.point("payments.checkout.after_call")

_log = structlog.get_logger()
_Ask = Callable[[Row[Any], float], Coroutine[Any, Any, Result]]


class Collecting:
    """The executor's steps, and the same work for one payment that somebody waits for."""

    def __init__(
        self,
        *,
        database: Database,
        collections: Collections,
        providers: Providers,
        connecting: Connecting,
        lease_s: float,
        addresses: Addresses,
    ) -> None:
        """``lease_s``: how long a claimed call may take before its caller counts as vanished.
        ``addresses``: where payers go from a provider's page, our own page of their payment."""
        self._database = database
        self._collections = collections
        self._providers = providers
        self._connecting = connecting
        self._lease_s = lease_s
        self._addresses = addresses

    # --- steps ---------------------------------------------------------------------------------

    async def reserve(self, limit: int) -> int:
        """Ask billing for the reservations of attempts that have none yet."""
        async with self._database.transaction(_SCAN) as tx:
            keys = await payments.reserving(tx, limit)
        return await self.reserve_attempts(keys)

    async def charge(self, limit: int) -> int:
        """Charge saved methods, at most ``limit`` calls in flight at once."""
        return await self._call_all("charge", _CLAIM_CHARGES, self._charge, limit)

    async def checkout(self, limit: int) -> int:
        """Open the hosted pages of attempts that wait for one."""
        return await self._call_all("page", _CLAIM_PAGES, self._open_page, limit)

    async def give_up_waiting(self, limit: int) -> int:
        """Let go of calls whose caller vanished."""
        async with self._database.transaction(_GIVE_UP) as tx:
            keys = await payments.stale(tx, lease_s=self._lease_s, limit=limit)
            if not keys:
                return 0
            tx.use_tenants({tenant for tenant, _ in keys})
            return await look.give_up_waiting(tx, keys, lease_s=self._lease_s)

    async def let_go_holds(self, limit: int) -> int:
        """Make ready again what a kill switch that was let go had put off."""
        async with self._database.transaction(_LET_GO) as tx:
            return await switch.let_go(tx, limit)

    # --- the same for chosen attempts ------------------------------------------------------------

    async def reserve_attempts(self, keys: Iterable[Key]) -> int:
        """Ask billing, tenant by tenant, and record its answers."""
        by_tenant: dict[UUID, list[Key]] = {}
        for key in keys:
            by_tenant.setdefault(key[0], []).append(key)
        changed = 0
        for tenant_id, mine in sorted(by_tenant.items()):
            async with self._database.transaction(_SCAN, tenants=[tenant_id]) as tx:
                rows = await payments.to_reserve(tx, mine)
            if not rows:
                continue
            assert_no_transaction("reserve_collections")
            answers = await self._collections.reserve_collections(
                Call(tenant_id), [_request_of(row) for row in rows]
            )
            _RESERVED.hit()

            async def record(
                tx: Tx, tenant_id: UUID = tenant_id, answers: Sequence[Any] = answers
            ) -> int:
                return await reserve.apply(tx, tenant_id, answers)

            changed += await self._database.transact(_RESERVE, record, tenants=[tenant_id])
        return changed

    async def drive(self, attempt: Key, *, page: bool) -> None:
        """Take one attempt as far as it goes now; what others hold is left to them."""
        await self.reserve_attempts([attempt])
        kind, name, ask = (
            ("page", _CLAIM_PAGES, self._open_page)
            if page
            else ("charge", _CLAIM_CHARGES, self._charge)
        )
        rows, deadline = await self._claim(kind, name, [attempt])
        if rows:
            await self._record([await ask(rows[0], deadline)])

    # --- claim, call, record ---------------------------------------------------------------------

    async def _claim(
        self, kind: str, name: Story, keys: Sequence[Key] | None = None, *, limit: int = 1
    ) -> tuple[Sequence[Row[Any]], float]:
        """Claimed rows, and until when (monotonic) their calls may begin: later, another may
        believe that nobody will."""
        async with self._database.transaction(name) as tx:
            found = await payments.ready(tx, kind=kind, limit=limit) if keys is None else keys
            if not found:
                return [], 0.0
            deadline = time.monotonic() + self._lease_s / 3
            tx.use_tenants({tenant for tenant, _ in found})
            return await payments.claim(tx, found, kind=kind), deadline

    async def _call_all(self, kind: str, name: Story, ask: _Ask, limit: int) -> int:
        """Call for what is ready, at most ``limit`` at once, and record in groups; free places are
        filled again meanwhile, so that neither a slow call nor a commit holds up the others."""
        running: set[asyncio.Task[Result]] = set()
        recording: asyncio.Task[None] | None = None
        results: list[Result] = []
        heard = self._database.wakeup.listener(types={payments.READY})
        began, filled_at, total, more = time.monotonic(), 0.0, 0, True
        try:
            while True:
                now, free = time.monotonic(), limit - len(running) - len(results)
                goes_on = total < MOST_REFILLED * limit and now < began + MOST_RUN_S
                wanted = (more and free >= limit // 10) or heard.has_heard
                if total == 0 or (
                    running
                    and free > 0
                    and goes_on
                    and (wanted or now > filled_at + REFILL_AFTER_S)
                ):
                    heard.forget()
                    rows, deadline = await self._claim(kind, name, limit=free)
                    filled_at, more = time.monotonic(), len(rows) == free
                    total += len(rows)
                    running |= {asyncio.create_task(ask(row, deadline)) for row in rows}
                if running:
                    done, running = await asyncio.wait(running, timeout=GROUP_S)
                    results += [each.result() for each in done]
                if recording is not None and (recording.done() or not running):
                    await recording
                    recording = None
                if recording is None and results:
                    recording = asyncio.create_task(self._record(results))
                    results = []
                if recording is None and not running:
                    return total
        finally:
            self._database.wakeup.dismiss(heard)
            left = [*running, *([recording] if recording else [])]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _charge(self, row: Row[Any], deadline: float) -> Result:
        came_of = partial(Result, (row.tenant_id, row.attempt_id), claimed_at=row.claimed_at)
        if row.token is None or row.connection_id is None:
            return came_of(Refused(decline="action", code="no_payment_method"))
        _BEFORE_CHARGE.hit()
        with hearing() as answers:
            finding = await self._guarded(
                deadline,
                lambda: self._providers.charge(
                    row.connection_id,
                    row.tenant_id,
                    _charge_of(row),
                    token=row.token,
                    return_url=self._addresses.status(row.tenant_id, row.payment_id),
                ),
            )
        _AFTER_CHARGE.hit()
        return came_of(finding, connection_id=row.connection_id, answers=answers)

    async def _open_page(self, row: Row[Any], deadline: float) -> Result:
        came_of = partial(Result, (row.tenant_id, row.attempt_id), claimed_at=row.claimed_at)
        try:
            connection_id = row.connection_id or await self._connecting.assign(
                (row.tenant_id, row.payment_id), row.currency
            )
        except NoConnection:
            return came_of(Refused(decline="config", code="no_connection", counted=False))
        except CurrencyNotTaken:
            refused = Refused(decline="config", code="currency_not_taken", counted=False)
            return came_of(refused)
        with hearing() as answers:
            finding = await self._guarded(
                deadline,
                lambda: self._providers.open_page(
                    connection_id,
                    row.tenant_id,
                    _charge_of(row),
                    return_url=self._addresses.status(row.tenant_id, row.payment_id),
                ),
            )
        _AFTER_PAGE.hit()
        return came_of(finding, connection_id=connection_id, answers=answers)

    async def _guarded(self, deadline: float, call: Callable[[], Awaitable[Finding]]) -> Finding:
        if time.monotonic() > deadline:
            return NotSent("too_late")
        try:
            return await call()
        except Exception as error:
            # Whatever broke, the request may have left: unknown, never failed.
            _log.exception("payments.call_broke")
            return Lost(type(error).__name__)

    async def _record(self, results: Sequence[Result]) -> None:
        for start in range(0, len(results), GROUP):
            await self._record_group(results[start : start + GROUP])

    async def _record_group(self, results: Sequence[Result]) -> None:
        """One transaction; if its data is refused it is halved, and the culprit alone is left to
        the lease (its attempt is then unknown and asked about)."""

        async def work(tx: Tx) -> int:
            return await settle(tx, results)

        try:
            await self._database.transact(
                _RECORD, work, tenants={each.attempt[0] for each in results}
            )
        except Exception as error:
            if is_transient(error):
                raise
            if len(results) == 1:
                _log.exception("payments.result_refused", attempt_id=str(results[0].attempt[1]))
                return
            middle = len(results) // 2
            await self._record_group(results[:middle])
            await self._record_group(results[middle:])


def _charge_of(row: Row[Any]) -> Charge:
    return Charge(
        attempt_id=row.attempt_id,
        invoice_id=row.invoice_id,
        amount_minor=row.amount_minor,
        currency=row.currency,
        customer_id=row.customer_id,
        capture=row.capture_method == "automatic",
    )


def _request_of(row: Row[Any]) -> ReserveRequest:
    """What to ask billing; money for an account, or that arrived off-line, says itself how much it
    is."""
    if row.kind != "offline" and row.invoice_id is not None:
        return ReserveRequest(row.invoice_id, row.attempt_id)
    return ReserveRequest(
        row.invoice_id,
        row.attempt_id,
        customer_id=row.customer_id,
        amount_minor=row.amount_minor,
        currency=row.currency,
    )
