"""The same tests on the other PostgreSQL, and the stories through PgBouncer with a pool of one.

The short lane runs on an installed PostgreSQL (15 in CI); here the embedded one's binaries take
its place, and PgBouncer in transaction mode stands before the installed one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHIN_S = 600


def run(paths: list[str], **environment: str) -> str:
    """A pytest run of its own in this environment; its output. Fails if it does."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SUBLEDGER_", "PYTEST_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "not long", "-n", "2", *paths],
        cwd=ROOT, env=inherited | environment, capture_output=True, text=True,
        timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


# What speaks to PostgreSQL itself; the other stories add use cases, not ways to speak to it.
STORIES = [f"tests/stories/test_{name}.py" for name in ("first_main_job", "races", "bad_input")]
PLATFORM = [
    f"tests/platform/test_{name}.py" for name in ("commands", "eventlog", "schema", "sharing")
]


@pytest.mark.long
def test_stores_log_and_stories_on_the_embedded_binaries():
    run([*STORIES, *PLATFORM], SUBLEDGER_TEST_PG="wheel")


@pytest.mark.long
def test_stories_through_pgbouncer_with_a_pool_of_one():
    said = run(["tests/stories/test_first_main_job.py"], SUBLEDGER_TEST_PGBOUNCER="1")
    assert "passed" in said
