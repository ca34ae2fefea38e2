"""Watching every statement that runs: its plan, and what its scans threw away."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError

from subledger.platform.db import Tx

MOST_REMOVED = 1_000
_EACH = 4
"""How many executions of a statement are explained: the first may have nothing to find."""
_REMOVED = (
    "Rows Removed by Filter", "Rows Removed by Index Recheck", "Rows Removed by Join Filter",
)  # fmt: skip


class _Undone(Exception):
    """The statement was run to be looked at."""


@dataclass
class Plans:
    """What was seen: executions by statement, and the findings."""

    watching: bool = False
    seen: dict[str, int] = field(default_factory=dict)
    wasteful: dict[str, str] = field(default_factory=dict)

    async def look(self, tx: Tx, statement: TextClause, values: Mapping[str, Any]) -> None:
        """EXPLAIN the statement with its values where it is about to run, and undo that."""
        name = statement.text
        if not self.watching or self.seen.get(name, 0) >= _EACH:
            return
        self.seen[name] = self.seen.get(name, 0) + 1
        explain = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {name}")
        found: Any = None
        await tx._before_statement()
        try:
            async with tx.commands.savepoint():
                await tx.commands.send()
                found = (await tx._driver.rows(explain, values))[0][0]
                raise _Undone
        except _Undone:
            pass
        except DBAPIError:
            return  # what the statement itself will say in a moment
        plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
        for node in _nodes(plan):
            for kind in _REMOVED:
                removed = node.get(kind, 0) * node.get("Actual Loops", 1)
                if removed > MOST_REMOVED:
                    self.wasteful[name] = (
                        f"{node['Node Type']} on {node.get('Relation Name')}: {kind} {removed:.0f}"
                        f" ({node.get('Filter') or node.get('Join Filter')})"
                    )


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from _nodes(each)


def watch(patch: pytest.MonkeyPatch) -> Plans:
    """Look at whatever runs through ``Tx`` from now on; it runs all the same."""
    plans, rows, run = Plans(), Tx.rows, Tx.run

    async def seen_rows(self: Tx, statement: TextClause, /, **values: Any) -> Any:
        await plans.look(self, statement, values)
        return await rows(self, statement, **values)

    async def seen_run(self: Tx, statement: TextClause, /, **values: Any) -> int:
        await plans.look(self, statement, values)
        return await run(self, statement, **values)

    patch.setattr(Tx, "rows", seen_rows)
    patch.setattr(Tx, "run", seen_run)
    return plans
