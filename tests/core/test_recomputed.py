"""An invoice computed again from its stored inputs has the same hash, by another computation."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from subledger.core import invoicing
from subledger.core.invoicing import draft
from subledger.core.tax import Ties
from subledger.core.timeline import Phase
from tests.core.test_engine import PERIODS, START, lives, month
from tests.recomputed import content_hash, recomputed


def stored(found: Any) -> Any:
    """An invoice's inputs, as they come back from where they were kept."""
    data = {"taxes": list(found.taxes), "lines": [each.derivation for each in found.lines]}
    return json.loads(json.dumps(data))


@given(lives(), st.sampled_from(Ties), st.integers(0, 120))
def test_every_document_of_a_life_has_the_hash_of_its_recomputation(timeline, ties, day):
    """The first invoice, a later one, and what taking everything back from a day on makes."""
    timeline = replace(timeline, tax_ties=ties)
    first = draft(timeline, first_period=0, horizon_at=START)
    later = draft(timeline, first_period=0, horizon_at=month(2), most_periods=3, billed=first.lines)
    billed = (*first.lines, *later.lines)
    kept = [each for each in timeline.phases if each.from_at < START + timedelta(days=day)]
    ended = replace(timeline, phases=(*kept, Phase(START + timedelta(days=day), ())))
    back = draft(ended, first_period=0, horizon_at=month(2), most_periods=3, billed=billed)
    assume(any(each.lines for each in (first, later, back)))
    for found in (first, later, back):
        data = stored(found)
        assert recomputed(data) == data
        assert content_hash(recomputed(data)) == invoicing.content_hash(data)


@given(lives(), st.integers(0, 10), st.data())
def test_another_figure_has_another_hash(timeline, place, data):
    """The oracle is no mirror: a figure that was changed comes out as it should be."""
    found = draft(timeline, first_period=0, horizon_at=month(PERIODS), most_periods=PERIODS)
    right = stored(found)
    assume(right["lines"])
    wrong = json.loads(json.dumps(right))
    line = wrong["lines"][place % len(wrong["lines"])]
    name = data.draw(st.sampled_from(("gross_minor", "net_minor", "tax_minor")))
    line[name] += 1
    assert recomputed(wrong) == right
    assert content_hash(wrong) != content_hash(right)
