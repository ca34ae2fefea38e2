"""Which connection takes a currency, whatever the connections are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from subledger.services.payments.choice import Candidate, choose, takes

START = datetime(2026, 3, 1, tzinfo=UTC)
CURRENCIES = st.sampled_from(["EUR", "USD", "JPY"])
SETS = st.frozensets(CURRENCIES)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        id=st.uuids(),
        currencies=SETS,
        offered=st.none() | SETS,
        is_default=st.booleans(),
        position=st.integers(0, 3),
        created_at=st.integers(0, 3).map(lambda days: START + timedelta(days=days)),
        is_troubled=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda each: each.id,
)


@given(CANDIDATES, CURRENCIES, st.randoms(use_true_random=False))
def test_the_choice_takes_the_currency_and_knows_no_order_of_asking(
    candidates: list[Candidate], currency: str, random: Random
) -> None:
    chosen = choose(candidates, currency)
    taking = [each for each in candidates if takes(each.currencies, each.offered, currency)]
    assert (chosen is None) == (not taking)
    assert chosen is None or chosen in taking
    shuffled = list(candidates)
    random.shuffle(shuffled)
    assert choose(shuffled, currency) == chosen


@given(CANDIDATES, CURRENCIES)
def test_healthy_before_troubled_default_before_order(
    candidates: list[Candidate], currency: str
) -> None:
    chosen = choose(candidates, currency)
    if chosen is None:
        return
    for other in candidates:
        if not takes(other.currencies, other.offered, currency):
            continue
        assert chosen.is_troubled <= other.is_troubled
        if chosen.is_troubled == other.is_troubled:
            assert chosen.is_default >= other.is_default
            if chosen.is_default == other.is_default:
                assert chosen.position <= other.position


def test_a_currency_needs_tenant_and_provider() -> None:
    assert takes(set(), None, "EUR")
    assert takes({"EUR"}, {"EUR", "USD"}, "EUR")
    assert not takes({"EUR"}, None, "USD")
    assert not takes(set(), {"USD"}, "EUR")
    assert choose([Candidate(UUID(int=1), frozenset(), set(), True, 0, START)], "EUR") is None
