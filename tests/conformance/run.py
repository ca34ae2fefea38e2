"""Runs files of cases against the public functions of the core."""

from __future__ import annotations

import importlib
import importlib.util
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from subledger.core.errors import CoreError
from tests.conformance.case import Case, Operation, Unsupported, differences, read

CASES = Path(__file__).with_name("cases")
DEVIATIONS = Path(__file__).with_name("deviations.yaml")


@dataclass
class Report:
    """Counts by ``(file, operation)`` and why each case that did not pass did not."""

    counts: dict[tuple[str, str], Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    reasons: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Case id → (``failed`` or ``unsupported``, why)."""

    def totals(self) -> dict[str, int]:
        """``passed``, ``failed``, ``unsupported`` over all."""
        found: Counter[str] = sum(self.counts.values(), Counter())
        return {each: found[each] for each in ("passed", "failed", "unsupported")}

    def lines(self) -> list[str]:
        """A line per file and operation, then the cases that did not pass."""
        shown = [
            f"{file:<22} {operation:<40} passed {seen['passed']:4}  failed {seen['failed']:4}"
            f"  unsupported {seen['unsupported']:4}"
            for (file, operation), seen in sorted(self.counts.items())
        ]
        return shown + [
            f"{verdict}: {case}: {why}" for case, (verdict, why) in sorted(self.reasons.items())
        ]


def run(paths: Iterable[Path]) -> Report:
    """Every case of every file, in order."""
    report = Report()
    for path in paths:
        for case in read(path):
            verdict, why = judge(case)
            report.counts[path.name, case.operation or "-"][verdict] += 1
            if verdict != "passed":
                report.reasons[case.id] = (verdict, why)
    return report


def judge(case: Case) -> tuple[str, str]:
    """``passed``, ``failed`` or ``unsupported``, and why."""
    operation = _operations(case.area).get(case.operation)
    if operation is None:
        return "unsupported", f"no translation of {case.operation or 'this file'}"
    try:
        wrong = differences(case.expect, operation(case))
    except Unsupported as reason:
        return "unsupported", str(reason)
    except CoreError as refusal:
        return "failed", f"refused: {refusal.code}: {refusal.detail}"
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        return "failed", f"the translation broke: {error!r}"
    return ("failed", "; ".join(wrong)) if wrong else ("passed", "")


def _operations(area: str) -> Mapping[str, Operation]:
    name = f"tests.conformance.ops.{area}"
    if not area.isidentifier() or importlib.util.find_spec(name) is None:
        return {}
    found: Mapping[str, Operation] = importlib.import_module(name).OPERATIONS
    return found


def deviations() -> dict[str, str]:
    """Case id → the convention chosen instead and why."""
    groups: dict[str, dict[str, Any]] = yaml.safe_load(DEVIATIONS.read_text(encoding="utf-8"))
    return {
        case: " ".join(each["why"].split()) for each in groups.values() for case in each["cases"]
    }
