"""The documents of algorithms cannot lie: their worked numbers run."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

DOCUMENTS = sorted((Path(__file__).parents[2] / "docs/algorithms").glob("*.md"))


def test_there_are_documents():
    assert DOCUMENTS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_the_worked_numbers_are_right(document):
    found = doctest.testfile(str(document), module_relative=False, encoding="utf-8")
    assert found.failed == 0
    assert found.attempted >= 1
