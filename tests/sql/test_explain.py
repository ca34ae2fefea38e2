"""No statement of any store reads a table to throw it away.

Every registered statement is explained where it runs, with the values it runs with, under its own
role and row-level security, on tables of 100,000 rows of two tenants. A statement that no story
reaches has to be named below, with the reason.
"""

from __future__ import annotations

from typing import Any

import pytest

from subledger.hosts.assembly import Options, assemble
from subledger.platform import migrate
from subledger.platform.db import statements
from tests.sql.crowd import ROWS, multiply
from tests.sql.plans import watch
from tests.sql.year import live
from tests.stories.shop import open_shop

UNREACHED: dict[str, str] = {}
"""The beginning of a statement → why the stories here do not reach it."""


@pytest.mark.long
async def test_no_statement_filters_away_more_than_a_thousand_rows(
    module_database_url: str, secret_key: str, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = watch(monkeypatch)
    assembly = assemble(
        Options(
            url_of=lambda name: migrate.service_url(module_database_url, name, secret_key),
            secret_key=secret_key,
            public_url="http://shop.test",
            pool_size=3,
        )
    )
    connection = await admin(module_database_url)
    try:
        await assembly.memory.catch_up()
        shop, other = await open_shop(assembly), await open_shop(assembly)
        await live(shop, "first", month=3)
        counts = await multiply(connection, shop.tenant_id, other.tenant_id)
        await connection.execute("VACUUM ANALYZE")
        assert min(counts.values()) >= ROWS, counts
        plans.watching = True
        await assembly.memory.catch_up()
        await live(shop, "second", month=5)
        for step in assembly.steps:
            await step.run(step.limit)
        await shop.api.aclose()
        await other.api.aclose()
    finally:
        await connection.close()
        await assembly.close()
    wasteful = [f"{' '.join(name.split())}\n    {why}" for name, why in plans.wasteful.items()]
    assert not wasteful, "\n".join(wasteful)
    unreached = [" ".join(each.split()) for each in statements() if each not in plans.seen]
    surprising = [
        each for each in unreached if not any(each.startswith(known) for known in UNREACHED)
    ]
    assert not surprising, "\n".join(surprising)
    gone = [known for known in UNREACHED if not any(e.startswith(known) for e in unreached)]
    assert not gone, f"reached after all, or gone: {gone}"
