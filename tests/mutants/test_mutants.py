"""Each mutant's text is where it was, and its killer exists; ``make mutants`` runs them."""

from __future__ import annotations

import pytest

from tests.mutants.__main__ import ROOT, without
from tests.mutants.guards import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", [pytest.param(each, id=each.guard) for each in MUTANTS])
def test_the_guard_is_found_and_somebody_watches_it(mutant: Mutant) -> None:
    source = (ROOT / "src/subledger" / mutant.file).read_text()
    compile(without(mutant, source), mutant.file, "exec")
    file, _, name = mutant.killer.partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 12
    assert len({each.guard for each in MUTANTS}) == len(MUTANTS)
