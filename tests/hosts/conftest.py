"""An installation of real processes on a database of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.hosts.machines import KEPT, Machine, free_port


@pytest.fixture
async def machine(database_url: str, secret_key: str, tmp_path: Path) -> AsyncIterator[Machine]:
    port = free_port()
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    made = Machine(
        environment=kept
        | {
            "SUBLEDGER_DATABASE_URL": database_url,
            "SUBLEDGER_SECRET_KEY": secret_key,
            "SUBLEDGER_DATA_DIR": str(tmp_path),
            "SUBLEDGER_PORT": str(port),
            "SUBLEDGER_POOL_SIZE": "3",
        },
        port=port,
        folder=tmp_path,
    )
    yield made
    for process in made.started:
        if process.returncode is None:
            process.kill()
            await process.communicate()
