"""The core's README cannot lie: its example runs."""

from __future__ import annotations

import doctest
from pathlib import Path

import subledger.core

README = Path(subledger.core.__file__).with_name("README.md")


def test_the_worked_example_gives_what_the_readme_says():
    found = doctest.testfile(str(README), module_relative=False)
    assert found.failed == 0
    assert found.attempted > 10
