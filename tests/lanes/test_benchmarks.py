"""The benchmark of renewals still fits the schema: a small one runs to its end, figures and all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_renewals_are_measured_to_the_end():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.renewals", "--subscriptions", "100", "--runs", "1",
         "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["renewals_per_s"] > 0
