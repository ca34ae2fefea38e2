"""Whether this process can answer: each service's database, and the schema in it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache

from alembic.script import ScriptDirectory

from subledger.platform.db import sql, sqlstate, story
from subledger.platform.migrate import PACKAGE, SCHEMAS, SERVICES
from subledger.platform.service import Service

WITHIN_S = 1.0
_READY = story("gateway.readyz", reads=True)
_ALIVE = sql("SELECT 1 AS one")
_VERSION = {name: sql(f"SELECT version_num FROM {name}.schema_version") for name in SERVICES}
_NO_SUCH_TABLE, _NO_SUCH_SCHEMA = "42P01", "3F000"


async def unready(services: Sequence[Service]) -> dict[str, str]:
    """What is wrong, by service: ``unreachable`` (no answer to a real query within a second) or
    ``migrations`` (its schema is not this release's). Empty when ready."""
    asked = [asyncio.create_task(_ask(each)) for each in services]
    answers = await asyncio.gather(*asked)
    return {
        service.name: answer
        for service, answer in zip(services, answers, strict=True)
        if answer is not None
    }


async def _ask(service: Service) -> str | None:
    version = _VERSION.get(service.name)
    try:
        async with asyncio.timeout(WITHIN_S), service.database.transaction(_READY) as tx:
            rows = await tx.rows(version if version is not None else _ALIVE)
    except Exception as error:
        missing = sqlstate(error) in {_NO_SUCH_TABLE, _NO_SUCH_SCHEMA}
        return "migrations" if missing else "unreachable"
    if version is None or {row.version_num for row in rows} == {head_of(service.name)}:
        return None
    return "migrations"


@lru_cache
def head_of(schema: str) -> str | None:
    """The newest migration of a schema that this release brings."""
    scripts = ScriptDirectory(
        str(PACKAGE / "platform/alembic"), version_locations=[str(SCHEMAS[schema])]
    )
    return scripts.get_current_head()
