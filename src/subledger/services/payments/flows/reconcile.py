"""Reconciling: page through the provider's list and ours, match payouts, compare the balances.

Each page is a call and then a transaction that keeps it and moves the run on. A run whose process
vanished is claimed again and goes on with the page that was not kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from sqlalchemy import Row

from subledger.contracts.books import Books
from subledger.contracts.calls import Call
from subledger.platform import crashpoints
from subledger.platform.db import Database, Tx, assert_no_transaction, story
from subledger.platform.service import Step
from subledger.providers import port
from subledger.services.payments.listing import Listings
from subledger.services.payments.store import payouts
from subledger.services.payments.store import reconciliations as store
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import close_run, reconcile

MOST_PAGES = 50
"""Pages that a run takes before others have their turn."""
MOST_TRIES = 8
PATIENCE_S = (0.0, 0.0, 0.2, 1.0)
"""How long the end of a run waits for billing, again and again, before it believes a gap."""

_SCAN = story("payments.reconcile_claim")
_READ = story("payments.reconcile_read", reads=True)
_PAGE = story("payments.reconcile_page")
_OURS = story("payments.reconcile_ours")
_CLOSE = story("payments.reconcile_close")
_AFTER_LIST = crashpoints.point("payments.reconcile.after_list")
_AFTER_BALANCE = crashpoints.point("payments.reconcile.after_balance")

_log = structlog.get_logger()


class Reconciling:
    """The step of reconciliations."""

    def __init__(
        self, *, database: Database, listings: Listings, books: Books, lease_s: float
    ) -> None:
        """``lease_s``: how long a page may take before its process counts as vanished."""
        self._database = database
        self._listings = listings
        self._books = books
        self._lease_s = lease_s

    def steps(self) -> list[Step]:
        """What workers run."""
        return [
            Step("payments.reconcile", self.work, limit=2, types=frozenset({store.RUNS})),
        ]

    async def work(self, limit: int) -> int:
        """Take open runs on; tells how many."""
        rows: list[Row[Any]] = []
        async with self._database.transaction(_SCAN) as tx:
            keys = await store.waiting(tx, lease_s=self._lease_s, limit=limit)
            if keys:
                tx.use_tenants({tenant for tenant, _ in keys})
                rows = list(await store.claim(tx, keys, lease_s=self._lease_s))
        for row in rows:
            await self._advance(row)
        return len(rows)

    async def _advance(self, row: Row[Any]) -> None:
        phases: dict[str, Callable[[Row[Any]], Awaitable[bool]]] = {
            "listing": self._list,
            "payouts": self._payouts,
            "ours": self._ours,
            "refunds": self._ours,
            "closing": self._close,
        }
        key, now = (row.tenant_id, row.id), row
        for _ in range(MOST_PAGES):
            try:
                goes_on = await phases[now.phase](now)
            except Exception:
                _log.exception("payments.reconcile_broke", reconciliation_id=str(row.id))
                await self._put_off(now, "broke")
                return
            if not goes_on:
                return
            found = await self._read(key)
            if found is None or found.phase not in phases:
                return
            now = found

    async def _read(self, key: Key) -> Row[Any] | None:
        async with self._database.transaction(_READ, tenants=[key[0]]) as tx:
            return await store.run(tx, key)

    async def _list(self, run: Row[Any]) -> bool:
        page = await self._page(run, run.cursor)
        if page is None:
            return False

        async def keep(tx: Tx) -> None:
            await reconcile.take_page(tx, run, page)

        await self._database.transact(_PAGE, keep, tenants=[run.tenant_id])
        return True

    async def _page(
        self, run: Row[Any], cursor: str | None, *, payout_ref: str | None = None
    ) -> port.Settlements | None:
        """A page of the provider's list; None, and the run is put off, if it does not answer."""
        assert_no_transaction("list_settlements")
        asked = port.SettlementsRequest(run.since_at, run.until_at, cursor, payout_ref)
        page = await self._listings.page(run.connection_id, run.tenant_id, asked)
        _AFTER_LIST.hit()
        if isinstance(page, port.Unknown):
            await self._put_off(run, page.reason)
            return None
        return page

    async def _payouts(self, run: Row[Any]) -> bool:
        connection = (run.tenant_id, run.connection_id)
        async with self._database.transaction(_READ, tenants=[run.tenant_id]) as tx:
            payout = await payouts.to_book(tx, connection)
        if payout is None:

            async def leave(tx: Tx) -> None:
                await reconcile.leave(tx, run, "ours")

            await self._database.transact(_PAGE, leave, tenants=[run.tenant_id])
            return True
        page = await self._page(run, run.cursor, payout_ref=payout.provider_ref)
        if page is None:
            return False

        async def keep(tx: Tx) -> None:
            await close_run.take_payout(tx, run, payout, page)

        await self._database.transact(_PAGE, keep, tenants=[run.tenant_id])
        return True

    async def _ours(self, run: Row[Any]) -> bool:
        async def take(tx: Tx) -> None:
            if run.phase == "ours":
                await reconcile.take_ours(tx, run)
            else:
                await reconcile.take_refunds(tx, run)

        await self._database.transact(_OURS, take, tenants=[run.tenant_id])
        return True

    async def _close(self, run: Row[Any]) -> bool:
        held = await self._listings.balance(run.connection_id, run.tenant_id, at=run.until_at)
        if isinstance(held, port.Unknown):
            await self._put_off(run, held.reason)
            return False
        booked = await self._books.clearing(Call(run.tenant_id), run.connection_id)
        _AFTER_BALANCE.hit()
        patient = run.tries < len(PATIENCE_S)

        async def finish(tx: Tx) -> bool:
            return await close_run.finish(tx, run, held=held, booked=booked, patient=patient)

        if not await self._database.transact(_CLOSE, finish, tenants=[run.tenant_id]):
            await self._put_off(run, "not_booked", wait_s=PATIENCE_S[run.tries])
        return False

    async def _put_off(self, run: Row[Any], code: str, *, wait_s: float | None = None) -> None:
        if wait_s is None:
            wait_s = None if run.tries + 1 >= MOST_TRIES else 0.2 * 2**run.tries
            if wait_s is None:
                _log.error(
                    "payments.reconciliation_failed", reconciliation_id=str(run.id), code=code
                )

        async def put_off(tx: Tx) -> None:
            await reconcile.put_off(tx, run, code=code, wait_s=wait_s)

        await self._database.transact(_PAGE, put_off, tenants=[run.tenant_id])
