"""The clock mover: brings sandbox tenants, moment by moment, to where their moves want them.

A move is a row. Any process may run the step; per tenant and iteration one mover holds the row.
One iteration is one REPEATABLE READ transaction: in its snapshot the tenant is quiet or not, and
if it is, the clock opens exactly the next ``(due_at, rank, number)`` over all services, or reaches
the target. Two movers that decide upon the same state meet at the row: the later one's
transaction fails to serialize and nothing of it happens. Nothing is kept in memory, so a killed
mover is followed by any other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import Row

from subledger.platform import crashpoints, ids
from subledger.platform.db import CLOCK_MOVER, Database, Tx, sqlstate, story
from subledger.platform.due import due_work
from subledger.platform.service import Service, Step
from subledger.services.identity import store
from subledger.services.identity.clock.quiet import Clock, Moment, Sources, Work

_FIND = story("identity.find_clock_moves", reads=True)
_MOVE = story("identity.move_clock")
_LOOK = story("identity.look_at_clock", reads=True)
_OPENED = crashpoints.point("identity.move_clock.after_open")
"""A tenant was quiet and its clock is about to open a moment: nobody works for it."""

MOST_AT_ONE_MOMENT = 10_000
"""Steps of a move, or events of one account and type, without the clock advancing."""
_LOOK_FOR_RESTLESS_S = 5.0
_LAST_RANK, _LAST_NUMBER = 32767, 9223372036854775807
_SERIALIZATION_FAILURE = "40001"

_log = structlog.get_logger()


class ClockMover:
    """Steps over all moves under way."""

    def __init__(
        self,
        database: Database,
        services: Sequence[Service],
        *,
        most_at_one_moment: int = MOST_AT_ONE_MOMENT,
        look_for_restless_s: float = _LOOK_FOR_RESTLESS_S,
    ) -> None:
        self._database = database
        self._sources = Sources(services)
        self._most = most_at_one_moment
        self._look_for_restless_s = look_for_restless_s
        self._looked: dict[UUID, float] = {}
        """When (monotonic) a busy tenant was last searched for what never ends: only a pace."""
        self._waiting = False

    def as_step(self) -> Step:
        """The step for a host: heard at every commit, and impatient while a tenant is busy."""
        return Step("identity.move_clocks", self.step, hears_all=True, hurry=lambda: self._waiting)

    async def step(self, limit: int) -> int:
        """Try one iteration of each move under way, at most ``limit``; how many got on."""
        async with self._database.transaction(_FIND) as tx:
            moving = await store.moving(tx, limit)
        moved = 0
        for tenant_id, move_id in moving:
            moved += await self._iterate(tenant_id, move_id)
        self._waiting = moved < len(moving)
        if not moving:
            self._looked.clear()
        return moved

    async def waiting_for(self, tenant_id: UUID) -> list[Work]:
        """What keeps the tenant's clock from moving now, in words; empty when it is quiet."""
        async with self._database.transaction(
            _LOOK, tenants=[tenant_id], repeatable_read=True
        ) as tx:
            clock = await self._clock(tx, tenant_id)
            async with tx.reading_as(CLOCK_MOVER):
                found = await self._sources.busy(tx, clock, most=20)
                moment = await self._sources.earliest(tx, clock, until=clock.now_at)
        if moment is not None and _is_open(moment, clock):
            found.append(Work(what=f"due: {moment.kind} of {moment.source}", count=1))
        return found

    async def _iterate(self, tenant_id: UUID, move_id: UUID) -> bool:
        try:
            async with self._database.transaction(
                _MOVE, tenants=[tenant_id], repeatable_read=True
            ) as tx:
                claimed = await store.claim_moves(tx, tenant_id, move_id)
                return bool(claimed) and await self._advance(tx, claimed[0])
        except Exception as error:
            if sqlstate(error) == _SERIALIZATION_FAILURE:
                return False  # another mover got there first
            raise

    async def _advance(self, tx: Tx, move: Row[Any]) -> bool:
        clock = await self._clock(tx, move.tenant_id)
        async with tx.reading_as(CLOCK_MOVER):
            busy = await self._sources.busy(tx, clock)
            moment = None
            if not busy:
                moment = await self._sources.earliest(tx, clock, until=move.target_at)
        if busy or (moment is not None and _is_open(moment, clock)):
            return await self._stop_restless(tx, move, clock)
        if moment is None:
            await self._finish(tx, move, clock)
        elif move.moment_steps >= self._most and moment.due_at <= move.reached_at:
            keeps = f"{moment.kind} of {moment.source} (account {_account(moment.account_id)})"
            await self._stop(tx, move, clock, [f"due again and again: {keeps}"])
        else:
            at = max(clock.now_at, moment.due_at)
            await store.set_clock(
                tx, tenant_id=move.tenant_id, at=at, rank=moment.rank, number=moment.number
            )
            await store.advance_move(tx, tenant_id=move.tenant_id, move_id=move.id, at=at)
            # The moments of one rank are of one kind, so of one service: nobody else need look.
            tx.work.add(due_work(moment.source))
            _OPENED.hit()
        return True

    async def _clock(self, tx: Tx, tenant_id: UUID) -> Clock:
        row = (await store.clocks(tx, [tenant_id]))[0]
        return Clock(
            tenant_id=tenant_id, now_at=row.now_at, rank=row.now_rank, number=row.now_number
        )

    # --- ends -----------------------------------------------------------------------------------

    async def _finish(self, tx: Tx, move: Row[Any], clock: Clock) -> None:
        """Nothing is left up to the target: the clock shows it, and all of that moment is open.
        The move ends unless something follows the clock itself (revenue is released up to it):
        then an iteration after that has been done ends it."""
        await store.set_clock(
            tx,
            tenant_id=move.tenant_id,
            at=move.target_at,
            rank=_LAST_RANK,
            number=_LAST_NUMBER,
        )
        async with tx.reading_as(CLOCK_MOVER):
            busy = await self._sources.busy(tx, clock)
        if not busy:
            await self._end(tx, move, clock, status="done", at=move.target_at, keeps_moving=[])

    async def _stop_restless(self, tx: Tx, move: Row[Any], clock: Clock) -> bool:
        """A busy tenant is left to its workers, unless an account does the same without end."""
        last = self._looked.setdefault(move.tenant_id, time.monotonic())
        if time.monotonic() - last < self._look_for_restless_s:
            return False
        self._looked[move.tenant_id] = time.monotonic()
        restless = await store.restless_subjects(
            tx, move.tenant_id, _marks(move), since=move.advanced_at, limit=self._most
        )
        if not restless:
            return False
        names = [f"{row.times} × {row.type} of account {_account(row.subject)}" for row in restless]
        await self._stop(tx, move, clock, names)
        return True

    async def _stop(self, tx: Tx, move: Row[Any], clock: Clock, names: list[str]) -> None:
        _log.warning("clock_move.stopped", tenant=str(move.tenant_id), keeps_moving=names)
        await self._end(tx, move, clock, status="stopped", at=clock.now_at, keeps_moving=names)

    async def _end(
        self, tx: Tx, move: Row[Any], clock: Clock, *, status: str, at: Any, keeps_moving: list[str]
    ) -> None:
        async with tx.reading_as(CLOCK_MOVER):
            waits = await self._sources.waits(tx, clock)
            blocked = await self._sources.blocked(tx, move.tenant_id)
        result = {
            "events": await store.count_events(tx, move.tenant_id, _marks(move)),
            "blocked": [
                {"group": row.reader, "subject": ids.text("cus", row.subject)} for row in blocked
            ],
            "waits": [{"what": each.what, "count": each.count} for each in waits],
            "keeps_moving": keeps_moving,
        }
        await store.finish_move(
            tx,
            tenant_id=move.tenant_id,
            move_id=move.id,
            status=status,
            at=at,
            result=msgspec.json.encode(result).decode(),
        )


def _is_open(moment: Moment, clock: Clock) -> bool:
    return (moment.due_at, moment.rank, moment.number) <= (clock.now_at, clock.rank, clock.number)


def _account(account_id: UUID) -> str:
    return ids.text("cus", account_id)


def _marks(move: Row[Any]) -> dict[int, int]:
    """Where the log stood when the move began, by partition."""
    return {int(key): value for key, value in msgspec.json.decode(move.marks).items()}
