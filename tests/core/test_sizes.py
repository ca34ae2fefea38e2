"""The check of sizes bites, and counts texts and inner functions."""

from __future__ import annotations

from tools import sizes


def function(lines: int, name: str = "f", indent: str = "") -> str:
    return "\n".join([f"{indent}def {name}():", *[f"{indent}    pass"] * (lines - 1)])


def test_what_is_too_long_is_told_with_its_place():
    assert list(sizes.findings(function(70), "x.py")) == []
    assert list(sizes.findings(function(71), "x.py")) == ["x.py:1: f: 71 lines, more than 70"]
    assert list(sizes.findings("x = 1\n" * 501, "x.py")) == ["x.py:1: 501 lines, more than 500"]


def test_texts_and_inner_functions_count():
    text = "def f():\n    return '''" + "\n" * 80 + "'''"
    assert list(sizes.findings(text, "x.py")) == ["x.py:1: f: 82 lines, more than 70"]
    outer = "\n".join([function(40, "routes"), function(60, "one", "    ")])
    assert list(sizes.findings(outer, "x.py")) == ["x.py:1: routes: 100 lines, more than 70"]


def test_all_of_ours_are_short_enough():
    assert sizes.main() == 0
