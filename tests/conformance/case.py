"""One case of another system's tests, and how an answer is compared with what it expects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any


class Unsupported(Exception):
    """Subledger has no such function or option (yet); the reason."""


@dataclass(frozen=True, slots=True)
class Case:
    """A line of a file of cases (``cases/README.md`` tells the notation)."""

    id: str
    given: Mapping[str, Any]
    expect: Mapping[str, Any]
    notes: str

    @property
    def area(self) -> str:
        """The file it comes from: ``proration``."""
        return self.id.split(".")[0]

    @property
    def source(self) -> str:
        """The system whose convention it follows: ``lago``."""
        return self.id.split(".")[1]

    @property
    def operation(self) -> str:
        """What is asked: ``op``, ``model:volume``, ``aggregation:sum``, or `` `` where the file's
        cases name none."""
        given = self.given
        if "op" in given:
            return str(given["op"])
        for kind in ("model", "aggregation"):
            if kind in given:
                return f"{kind}:{given[kind]}"
        return ""


Answer = Mapping[str, Any]
Operation = Callable[[Case], Answer]
"""Translates a case into calls of the core; answers under the keys of ``expect``. Raises
Unsupported. It never computes a figure itself."""


def read(path: Path) -> Iterator[Case]:
    """The cases of one JSON-lines file. Raises ValueError with file and line for a bad one."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                raw = json.loads(line)
                yield Case(raw["id"], raw["given"], raw["expect"], raw.get("notes", ""))
            except (ValueError, KeyError) as error:
                raise ValueError(f"{path}:{number}: {error!r}") from error


def differences(expect: Mapping[str, Any], answer: Answer) -> list[str]:
    """What is expected and not answered so; empty is a pass. All keys of ``expect`` count."""
    return [
        f"{key}: expected {wanted!r}, got {answer.get(key, 'nothing')!r}"
        for key, wanted in expect.items()
        if key not in answer or not _same(wanted, answer[key])
    ]


def _same(wanted: Any, got: Any) -> bool:
    if isinstance(wanted, Mapping):
        return (
            isinstance(got, Mapping)
            and wanted.keys() == got.keys()
            and all(_same(value, got[key]) for key, value in wanted.items())
        )
    if isinstance(wanted, list):
        return (
            isinstance(got, list | tuple)
            and len(wanted) == len(got)
            and all(_same(a, b) for a, b in zip(wanted, got, strict=True))
        )
    if isinstance(wanted, bool) or isinstance(got, bool) or wanted is None or got is None:
        return wanted is got
    return wanted == got or (_number(wanted) is not None and _number(wanted) == _number(got))


def _number(value: Any) -> Fraction | None:
    """``12``, ``"11.6"`` and ``"25/31"`` as one exact number; other text is None."""
    if isinstance(value, int | Decimal | Fraction):
        return Fraction(value)
    try:
        return Fraction(value) if isinstance(value, str) else None
    except (ValueError, ZeroDivisionError, InvalidOperation):
        return None
