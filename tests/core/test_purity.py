"""The purity check bites on what it is for, and leaves exact code alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import purity


@pytest.mark.parametrize(
    "source",
    [
        "import time", "from uuid import uuid4", "import random", "from os import path",
        "import math", "x = datetime.now()", "clock = datetime.now", "x = date.today()",
        "x = 0.5", "x = a / b", "a /= 2", "x = float(3)", "key = float", "x = 1j", "round(x)",
        "x = gap.total_seconds()", "x = at.timestamp()", "open('f')", "print(1)", "eval('1')",
        "__import__('os')", "async def f(): pass",
    ],
)  # fmt: skip
def test_the_purity_check_bites(source):
    assert purity.findings(source, "x.py")


@pytest.mark.parametrize(
    "source",
    ["x = Fraction(1, 3)", "x = a // b", "x = Decimal('0.5')", "from datetime import datetime"],
)
def test_exact_code_is_left_alone(source):
    assert purity.findings(source, "x.py") == []


def test_a_finding_names_file_and_line():
    assert purity.findings("x = 1\ny = 0.5\n", "prices.py") == ["prices.py:2: a float"]


def test_the_core_is_pure():
    program = Path(purity.__file__)
    ran = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (0, "")
