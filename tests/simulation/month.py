"""A month or three of a shop in which a seed decides what happens next, and then quiet days.

A step of any service, a request, a fault of the provider, a death of the process, a database that
hangs up, an hour on the wall. Requests do not wait (``Prefer: wait=0``), so nothing but the seed
decides what runs when. A request that nobody heard an answer of is sent again with its idempotency
key, as a shop would.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.simulation import operations
from tests.simulation.asking import OK, Asking
from tests.simulation.life import ONE_AT_A_TIME, Died, Life
from tests.simulation.operations.paying import FAULTS, set_fault, stopped_jobs, turn
from tests.simulation.people import Request
from tests.simulation.selling import Shelf, open_shop

START = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)
QUIET_DAYS, MORE = timedelta(days=9), timedelta(hours=8)


@dataclass(frozen=True)
class Size:
    """How much one seed lives through."""

    days: int
    """Of the clock, until the quiet ones (``QUIET_DAYS``)."""
    people: int
    rounds: int
    of_regulars: float
    """How many of the people have a card that works and a subscription from the first day on."""
    plans: tuple[str, ...]
    """Of which each of the people wants one."""


SHORT = Size(
    days=28,
    people=3,
    rounds=18,
    of_regulars=0.8,
    plans=("week", "week", "month"),
)
QUARTER = Size(
    days=81,
    people=10,
    rounds=12,
    of_regulars=1.0,
    plans=(*("month",) * 9, "week"),
)
NIGHT = Size(
    days=84,
    people=20,
    rounds=100,
    of_regulars=1.0,
    plans=("week", "week", "month"),
)


class Month(Asking):
    """One seed, from an empty tenant to its last quiet day."""

    def __init__(self, *, seed: int, life: Life, size: Size = SHORT) -> None:
        super().__init__(seed=seed, life=life)
        self.size = size
        self.shelf = Shelf()
        self.end_at = START
        self.last_at = START + timedelta(days=size.days)
        """Nobody asks for the clock to be moved beyond."""

    # --- the course of things --------------------------------------------------------------------

    async def lived(self) -> None:
        """The whole of it. Raises AssertionError if anything answers as it never should."""
        self.life.begin(self.seed)
        await open_shop(self, START)
        for _ in range(self.size.rounds):
            await self._round()
        await self._safely()

    async def _round(self) -> None:
        """A few things, as drawn; a death in their midst is followed by the next process."""
        draw = self.draw
        if draw.random() < 0.04:
            self.life.doom(draw.randrange(1, draw.choice((4, 40))))
        if draw.random() < 0.06:
            self.life.cut(draw.randrange(1, draw.choice((4, 40))))
        try:
            if self._waiting and draw.random() < 0.5:
                await self.send(self._waiting[0])
            elif draw.random() < 0.9:
                for _ in range(draw.choice((1, 1, 2, 3))):
                    await operations.something(self)
            if draw.random() < 0.08:
                await self.life.wall_time_passes()
                self.trace.append(("an hour on the wall", 0))
            for _ in range(draw.randrange(0, 5)):
                await self._step(draw.choice(sorted(self.life.steps)))
            if draw.random() < 0.7:
                self.trace.append(("a busy while", await self.life.busy(draw.choice((5, 20, 60)))))
        except Died as died:
            self.trace.append((str(died), len(self.life.deaths)))

    async def _step(self, name: str) -> None:
        limit = 1 if name in ONE_AT_A_TIME else self.draw.choice((1, 3, 500, 500))
        self.trace.append((name, await self.life.step(name, limit)))

    async def _safely(self) -> None:
        """The faults stop; within bounded time everything has to be settled."""
        self.life.doom(0)
        self.life.cut(0)
        for request in list(self._waiting):
            await self.send(request)
        for mode in FAULTS:
            await set_fault(self, mode, 0)
        for job in await stopped_jobs(self):
            await turn(self, job, on=False)
        for each in await self.get_all("/v1/plan-migrations"):
            if each["status"] == "paused":
                await self.must(f"/v1/plan-migrations/{each['id']}/resume", expect=200)
        await self._settled(self.last_at + QUIET_DAYS)
        await self._reconciled()
        for _ in range(10):
            if not await self._undecided():
                return
            # What was lost in the last hours is asked about in the next ones.
            await self._settled(self.end_at + MORE)
        raise AssertionError("a payment stays unknown")

    async def _settled(self, to_at: datetime) -> None:
        moves, stuck = None, 0
        for _ in range(1_000):
            await self.life.wall_time_passes()
            await self.life.quiet()
            before, moves = moves, (await self.get("/v1/clock-moves"))["data"]
            if any(each["status"] == "moving" for each in moves):
                # An open breaker lets one charge through in an hour.
                stuck = stuck + 1 if moves == before else 0
                if stuck == 60:
                    break
                continue
            assert all(each["status"] == "done" for each in moves), moves
            if await self.now() >= to_at:
                self.end_at = to_at
                return
            await self.must("/v1/clock-moves", to_at=to_at.isoformat(), expect=202)
        raise AssertionError(f"the clock still moves: {moves[0]}")

    async def _reconciled(self) -> None:
        """What happened at the provider and was never told is found by its own list."""
        for each in await self.get_all("/v1/connections"):
            path = f"/v1/connections/{each['id']}/reconcile"
            run = await self.must(path, expect=202)
            for _ in range(200):
                await self.life.quiet()
                run = await self.get(f"/v1/reconciliations/{run['id']}")
                if run["status"] != "running":
                    break
                await asyncio.sleep(0.02)  # it waits for billing by the wall's clock
            assert run["status"] == "done", run
        await self.life.quiet()

    async def _undecided(self) -> int:
        """Attempts of which the shop does not know yet what the provider does."""
        count: int = await self.life.admin.fetchval(
            "SELECT count(*) FROM payments.attempts WHERE tenant_id = $1"
            " AND state IN ('ready', 'reserving', 'in_flight', 'unknown')",
            self.tenant_id,
        )
        refunds: int = await self.life.admin.fetchval(
            "SELECT count(*) FROM payments.refunds WHERE tenant_id = $1 AND finished_at IS NULL",
            self.tenant_id,
        )
        return count + refunds

    # --- answers ---------------------------------------------------------------------------------

    def answered(self, request: Request, status: int, said: Any) -> None:
        code = OK if status < 400 else said["code"]
        operations.check_refusal(request, code)
        if request.what == "buy" and request.who is not None:
            bought = said.get("subscription_id") or (said["id"] if code == OK else None)
            request.who.subscriptions += [bought] if bought else []
        if code != OK:
            return
        if request.what == "card" and request.who is not None:
            request.who.cards.append(said["id"])
        elif request.name == "give discount personal" and request.who is not None:
            request.who.discounts.append(said["discount_id"])
        elif request.what == "change tax rule":
            self.shelf.rule_id = said["id"]
