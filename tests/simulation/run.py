"""Seeds, one after the other, on one database, each judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import asyncpg

from subledger.platform import crashpoints
from tests.postgres import plan_once
from tests.simulation.auditor import audit
from tests.simulation.life import Life
from tests.simulation.month import SHORT, Month, Size
from tests.simulation.told import diary, facts


@dataclass(frozen=True)
class Lived:
    """What one seed was: what was done, each account's events, where the process died
    and where its database hung up."""

    trace: list[tuple[str, int]]
    accounts: dict[str, list[tuple[str, str, int]]]
    deaths: list[str]
    cuts: list[str]
    outcomes: Counter[tuple[str, str]]
    kinds: Counter[str]
    """How often each event was told."""


class Simulation:
    """A process on a database of its own. It lives seed after seed, each in a fresh tenant; only
    a death (or a seed that failed) starts it anew."""

    def __init__(self, *, url: str, secret_key: str) -> None:
        """``url``: an administrator's, of a migrated database."""
        self._url = url
        self._secret_key = secret_key

    async def open(self) -> None:
        """Start the process."""
        await plan_once(self._url)
        admin = await asyncpg.connect(self._url.replace("+asyncpg", ""))
        self._life = Life(url=self._url, secret_key=self._secret_key, admin=admin)
        await self._life.born()

    async def close(self) -> None:
        """Stop it."""
        await self._life.end()
        await self._life.admin.close()

    async def lives(self, seed: int, size: Size = SHORT) -> Lived:
        """Live a seed and judge it.

        Raises AssertionError that names the seed and what is wrong, or what broke on the way.
        """
        month = Month(seed=seed, life=self._life, size=size)
        try:
            await month.lived()
            wrong = await audit(month)
            assert not wrong, "\n".join(wrong)
            told = await facts(self._life.admin, month.tenant_id)
        except Exception as error:
            faults = f"deaths {self._life.deaths}, cuts {self._life.cuts}"
            error.add_note(f"seed {seed}, {faults}, then {month.trace[-5:]}")
            await self.close()
            await self.open()
            raise
        finally:
            crashpoints.install(None)
        kinds = Counter(each.kind for account in told.values() for each in account)
        life = self._life
        return Lived(month.trace, diary(told), life.deaths, life.cuts, month.outcomes, kinds)
