"""The process of a simulation: it lives, dies at a crash point, and is born again.

Dead means dead: from the first ``Crashed`` on, every crash point that anything of the old process
still passes raises too, so nothing more of it can commit. A database's connection may break as
well, right before a commit or right after it, when nobody heard that it was done: the process lives
on with all that it remembers. Wall-clock time is the simulator's too: leases are long, and end only
when ``wall_time_passes`` says so.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg
import httpx
from sqlalchemy.exc import DBAPIError, OperationalError

from subledger.hosts.assembly import Assembly, Options, assemble
from subledger.hosts.loops import ear
from subledger.platform import crashpoints, migrate
from subledger.platform.crashpoints import Crashed, Crashpoint
from subledger.platform.ids import Ids
from subledger.platform.service import Step
from tests.simulation import placement

T = TypeVar("T")
ORIGIN = "http://sim.test"
LEASE_S = 60.0
BY_WALL_CLOCK = "identity.find_key."
"""Keys are remembered for a second of real time: whether one is looked up is not the seed's."""
_WALL_TIME = (
    "UPDATE payments.attempts SET claimed_at = claimed_at - interval '1 hour'"
    " WHERE state = 'in_flight'",
    # What a kill switch holds is ready in the year 9999, and stays so.
    "UPDATE payments.attempts SET ready_at = ready_at - interval '1 hour' WHERE state = 'ready'"
    " AND ready_at < '9999-01-01'",
    "UPDATE payments.refetches SET claimed_at = claimed_at - interval '1 hour'",
    "UPDATE payments.refund_looks SET claimed_at = claimed_at - interval '1 hour'",
    "UPDATE payments.refunds SET claimed_at = claimed_at - interval '1 hour',"
    " ready_at = ready_at - interval '1 hour' WHERE finished_at IS NULL",
    "UPDATE payments.reconciliations SET claimed_at = claimed_at - interval '1 hour',"
    " ready_at = ready_at - interval '1 hour' WHERE finished_at IS NULL",
    "UPDATE payments.authorizations SET claimed_at = claimed_at - interval '1 hour',"
    " ready_at = ready_at - interval '1 hour' WHERE ready_at IS NOT NULL",
    "UPDATE payments.dispute_looks SET claimed_at = claimed_at - interval '1 hour'",
    "UPDATE payments.methods SET ready_at = ready_at - interval '1 hour'"
    " WHERE status = 'attaching'",
    "UPDATE sandbox.callbacks SET claimed_at = claimed_at - interval '1 hour'"
    " WHERE state = 'sending'",
)


class Died(Exception):
    """The process died while it worked, or could not say whether it did: nobody heard an answer."""


class Drawn(Ids):
    """Ids drawn from a seed, and then from the next one."""

    def __init__(self) -> None:
        self.begin(0)
        super().__init__(entropy=self._bytes, clock_ms=self._tick)

    def _bytes(self, n: int) -> bytes:
        return self._source.randbytes(n)

    def _tick(self) -> int:
        return next(self._ticks)

    def begin(self, seed: int) -> None:
        """From here on, the ids of ``seed``, as ``Ids.seeded`` gives them."""
        self._source = random.Random(seed)
        self._ticks = iter(range(1_700_000_000_000, 1 << 47))
        self._last_ms = self._counter = self._used = 0
        self._drawn = b""


@dataclass
class Life:
    """A process and its successors, all on one database, for one seed after the other."""

    url: str
    secret_key: str
    admin: asyncpg.Connection[asyncpg.Record]
    ids: Drawn = field(default_factory=Drawn)
    deaths: list[str] = field(default_factory=list)
    """Where it died, in order."""
    cuts: list[str] = field(default_factory=list)
    """Where the database's connection broke, in order."""

    def __post_init__(self) -> None:
        self._left = self._until_cut = 0
        self._hours = 0
        self._dead = self._was_cut = False

    def begin(self, seed: int) -> None:
        """The next seed: its ids, and no death yet."""
        self.ids.begin(seed)
        self.deaths, self.cuts = [], []
        self.doom(0)
        self.cut(0)
        crashpoints.install(self._passed)
        asyncio.get_running_loop().set_exception_handler(_unless_it_died)

    # --- being born ------------------------------------------------------------------------------

    async def born(self) -> None:
        """Assemble everything; only the database remembers anything."""
        self.assembly: Assembly = assemble(
            Options(
                url_of=lambda name: migrate.service_url(self.url, name, self.secret_key),
                secret_key=self.secret_key,
                public_url=ORIGIN,
                pool_size=2,
                lease_s=LEASE_S,
                ids=self.ids,
                monotonic_s=lambda: time.monotonic() + self._hours * 3_600,
            )
        )
        placement.near(self.assembly.databases.values())
        transport = httpx.ASGITransport(self.assembly.app)
        self.http = httpx.AsyncClient(transport=transport, base_url=ORIGIN, timeout=60)
        self.steps: dict[str, Step] = {
            each.name: each
            for each in self.assembly.steps
            if each.pause_s <= 1 and each.name != THE_SAME
        }
        assert self.steps.keys() == {MOVER, *ROUND}, self.steps.keys() ^ {MOVER, *ROUND}
        self._ears = {name: ear(step, self.assembly.wakeup) for name, step in self.steps.items()}
        self._looks = True
        await self.assembly.memory.catch_up()

    async def end(self) -> None:
        """The simulation is over."""
        crashpoints.install(None)
        await self.http.aclose()
        await self.assembly.close()

    # --- dying -----------------------------------------------------------------------------------

    def doom(self, hits: int) -> None:
        """Die at the ``hits``-th crash point passed from now on; 0: do not."""
        self._left = hits

    def cut(self, commits: int) -> None:
        """Break the database's connection at the ``commits``-th place right before or after a
        commit from now on; 0: do not."""
        self._until_cut = commits

    def excuses(self, answer: httpx.Response) -> bool:
        """Whether "try again in a moment" may be said: a connection has just been cut."""
        excused, self._was_cut = self._was_cut and answer.status_code == 503, False
        return excused

    def _passed(self, point: Crashpoint) -> None:
        if self._dead:
            raise Crashed(point.name)
        if point.name.startswith(BY_WALL_CLOCK):
            return
        if self._until_cut and point.name.endswith(COMMITS):
            self._until_cut -= 1
            if not self._until_cut:
                self.cuts.append(point.name)
                self._was_cut = self._looks = True  # whom the commit should have woken looks
                lost = asyncpg.ConnectionDoesNotExistError("connection was closed")
                raise OperationalError("COMMIT", None, lost, connection_invalidated=True)
        if self._left:
            self._left -= 1
            if not self._left:
                self._dead = True
                self.deaths.append(point.name)
                raise Crashed(point.name)

    async def lives(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it. Raises Died, with the next process already born, if this one died meanwhile."""
        before = asyncio.all_tasks()
        try:
            result = await work
        except BaseException:
            # A death shows as Crashed, as a cancelled future, or inside a group of exceptions.
            if not self._dead:
                raise
        else:
            if not self._dead:
                return result
        await self._buried(asyncio.all_tasks() - before)
        raise Died(self.deaths[-1])

    async def _buried(self, orphans: set[asyncio.Task[Any]]) -> None:
        for task in orphans:
            task.cancel()
        await asyncio.gather(*orphans, return_exceptions=True)
        await self.http.aclose()
        await self.assembly.close()
        self._dead = False
        await self.born()

    # --- time and work ---------------------------------------------------------------------------

    async def wall_time_passes(self) -> None:
        """An hour on the wall: leases end, what backed off may be tried again."""
        self._looks = True
        self._hours += 1
        for statement in _WALL_TIME:
            await self.admin.execute(statement)

    async def step(self, name: str, limit: int) -> int:
        """Run a step once. Raises Died."""

        async def run() -> int:
            try:
                return await self.steps[name].run(limit)
            except DBAPIError:
                if not self._was_cut:
                    raise
                self._was_cut = False
                return 0  # its loop would log it and come again

        return await self.lives(run())

    async def busy(self, turns: int) -> int:
        """So many turns in which the clock's mover and every step that a commit woke do something;
        how much was done. Where no commit can have told of work (a process that was just born, an
        hour on the wall) every step looks by itself. Raises Died."""
        done = 0
        for _ in range(turns):
            now = await self.step(MOVER, 500) + await self._woken(alone=ONE_AT_A_TIME)
            if not now and self._looks:
                now = await self._whole_round(alone=ONE_AT_A_TIME)
                self._looks = now > 0
            if not now:
                break
            done += now
        return done

    async def quiet(self) -> None:
        """Run steps until a whole round finds nothing to do, first those that a commit woke."""
        for _ in range(5_000):
            while await self._woken():
                pass
            if not await self.step(MOVER, 500) and not await self._whole_round():
                return
        raise AssertionError("never quiet")

    async def _woken(self, *, alone: frozenset[str] = frozenset()) -> int:
        done = 0
        for name in ROUND:
            if self._ears[name].has_heard and name != BY_ITSELF:
                self._ears[name].forget()
                done += await self._worked_off(name, 1 if name in alone else None)
        return done

    async def _whole_round(self, *, alone: frozenset[str] = frozenset()) -> int:
        return sum([await self._worked_off(each, 1 if each in alone else None) for each in ROUND])

    async def _worked_off(self, name: str, most: int | None = None) -> int:
        """As often as it does all that it may do at once. With ``most``, so many at a time: nothing
        runs side by side."""
        done, limit = 0, most or self.steps[name].limit
        while (now := await self.step(name, limit)) >= limit:
            done += now
        return done + now


def _unless_it_died(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a process leaves behind when it is taken for dead is no news; all else is."""
    if not isinstance(context.get("exception"), Crashed):
        loop.default_exception_handler(context)


MOVER = "identity.move_clocks"
COMMITS = (".before_commit", ".after_commit")
ONE_AT_A_TIME = frozenset({"payments.charge", "payments.checkout", "payments.capture"})
"""Their calls run side by side: with one, the order is the seed's and not the network's."""
ROUND = (
    "scheduler.announce",
    "billing.announce_due",
    "billing.consume",
    "payments.consume",
    "payments.ask_due",
    "payments.answer",
    "payments.refund_look",
    "payments.dispute_look",
    "payments.refund_grant",
    "payments.refund_send",
    "payments.refund_give_up",
    "payments.reconcile",
    "payments.reserve",
    "payments.attach",
    "payments.charge",
    "payments.checkout",
    "payments.capture",
    "payments.give_up_waiting",
    "payments.tend_methods",
    "sandbox.callbacks_due",
    "sandbox.deliver",
    "billing.consume",
    "billing.migrate_plans",
    "billing.release_revenue",
    "scheduler.consume",
    "entitlements.consume",
    "entitlements.tail",
    *(f"{service}.let_go_holds" for service in ("billing", "payments", "scheduler")),
)
"""Every step of a worker but the mover, in the order of a renewal: a round does much."""
BY_ITSELF = "entitlements.tail"
"""It looks ten times a second whatever it hears: here, in whole rounds."""
THE_SAME = "payments.capture_again"
"""``payments.capture`` by time instead of by commits."""
