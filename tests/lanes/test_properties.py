"""Every property of the core with a thousand examples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_a_thousand_examples_of_each_property():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/core", "-m", "hypothesis", "-n", "2", "-q"],
        cwd=ROOT, env=os.environ | {"HYPOTHESIS_PROFILE": "long"}, capture_output=True, text=True,
        check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-1_000:]
