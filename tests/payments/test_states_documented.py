"""Every state in which something can be stuck has its line: who goes on, until when, then what."""

from __future__ import annotations

from importlib.resources import files

import pytest

from subledger.core.states import ATTEMPT, DISPUTE, PAYMENT, REFUND

_MACHINES = {"attempt": ATTEMPT, "dispute": DISPUTE, "payment": PAYMENT, "refund": REFUND}
# Left again only by money that arrives, or goes, late, and by a bank that decides again.
_OVER = {"succeeded", "failed", "canceled", "refused", "won", "lost"}


def lines() -> dict[tuple[str, str], list[str]]:
    text = (files("subledger.services.payments") / "README.md").read_text(encoding="utf-8")
    section = text.split("## States, deadlines, metric")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines()]
    return {(row[0], row[1]): row[2:] for row in rows if len(row) == 5}


@pytest.mark.parametrize("kind", sorted(_MACHINES))
def test_every_state_that_is_not_the_last_one_has_a_deadline(kind: str) -> None:
    states = {state for state, _ in _MACHINES[kind]} | set(_MACHINES[kind].values())
    known = lines()
    for state in sorted(states - _OVER):
        assert all(known[kind, state]), (kind, state)
    documented = {state for of, state in known if of == kind}
    assert documented == states - _OVER
