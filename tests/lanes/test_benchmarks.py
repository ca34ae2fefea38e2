"""The benchmarks still fit the schema: a small one of each runs to its end, figures and all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def measured(name: str, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options, "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.long
def test_renewals_are_measured_to_the_end():
    assert measured("renewals", "--subscriptions", "100", "--runs", "1")["renewals_per_s"] > 0


@pytest.mark.long
def test_charges_are_measured_to_the_end():
    found = measured("charges", "--charges", "100", "--latency-ms", "50")
    assert found["charges_per_s"] > 0
    assert (found["doubles"], found["lost"]) == (0, 0)


@pytest.mark.long
def test_purchases_are_measured_to_the_end():
    found = measured("buy", "--purchases", "50", "--clients", "8")
    assert found["subscriptions_per_s"] > 0
    assert found["wrong"] == 0
