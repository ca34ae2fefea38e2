"""Which policy an invoice gets, which method a retry turns to, what each class of decline leads to;
the rules under generated input."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.dunning import (
    MAX_NOT_COUNTED,
    MAX_RETRIES,
    Decline,
    Failure,
    Final,
    FinalAction,
    Policy,
    Preferred,
    Retry,
    Since,
    next_step,
    steps_ahead,
)
from subledger.core.dunning_choice import Debt, Segment, avoided, choose, method_to_try
from subledger.core.errors import InvalidPolicy
from subledger.core.money import Money

NOW = datetime(2026, 3, 27, 22, tzinfo=UTC)  # two days before Berlin's clocks go forward
DAY = timedelta(days=1)
names = st.frozensets(st.sampled_from("abc"), max_size=2)
amounts = st.none() | st.integers(0, 3).map(lambda n: Money(n, "EUR"))


@st.composite
def segments(draw):
    named = {"plans": draw(names), "products": draw(names), "currencies": draw(names)}
    above = draw(amounts)
    if not any(named.values()) and above is None:
        above = Money(0, "EUR")
    return Segment(**named, above=above)


debts = st.builds(Debt, st.sampled_from(["EUR", "a"]), names, names, amounts)


@given(st.lists(segments(), max_size=6), debts, st.randoms(use_true_random=False))
def test_the_most_specific_of_those_that_fit_is_chosen_in_whatever_order(given_, debt, draw):
    policies = [(each, each.rank) for each in given_]
    chosen = choose(policies, debt)
    fitting = [rank for each, rank in policies if each.fits(debt)]
    assert chosen == max(fitting, default=None)
    shuffled = list(policies)
    draw.shuffle(shuffled)
    assert choose(shuffled, debt) == chosen


def test_a_plan_goes_before_a_product_a_product_before_an_amount():
    debt = Debt("EUR", frozenset({"p"}), frozenset({"r"}), Money(500, "EUR"))
    policies = [
        (Segment(currencies=frozenset({"EUR"})), "currency"),
        (Segment(above=Money(499, "EUR")), "amount"),
        (Segment(above=Money(500, "EUR")), "not above"),
        (Segment(above=Money(1, "USD")), "another currency"),
        (Segment(products=frozenset({"r"})), "product"),
        (Segment(plans=frozenset({"p"}), currencies=frozenset({"USD"})), "does not fit"),
    ]
    assert choose(policies, debt) == "product"
    assert choose(policies[:-2], debt) == "amount"
    assert choose(policies[2:4], debt) is None
    plan = (Segment(plans=frozenset({"p", "q"})), "plan")
    assert choose([*policies, plan, (plan[0], "later")], debt) == "plan"
    assert choose(policies, Debt("EUR")) == "currency"


def test_a_segment_names_something_and_not_too_much():
    with pytest.raises(InvalidPolicy):
        Segment()
    with pytest.raises(InvalidPolicy):
        Segment(plans=frozenset(str(n) for n in range(101)))


lists = st.lists(st.integers(1, 9).map(lambda n: n * DAY), max_size=5, unique=True).map(
    lambda each: tuple(sorted(each))
)
classed = st.builds(
    Policy,
    lists,
    st.sampled_from(FinalAction),
    hard_decline_stops=st.booleans(),
    since=st.sampled_from(Since),
    max_span=st.none() | st.integers(1, 60).map(lambda n: n * DAY),
    preferred=st.builds(Preferred, st.none() | st.integers(0, 23)),
    by_class=st.dictionaries(st.sampled_from(Decline), lists),
    fallback_after=st.frozensets(st.sampled_from(Decline)),
)
told = st.lists(
    st.tuples(
        st.sampled_from(Decline),
        st.booleans(),
        st.booleans(),
        st.none() | st.integers(0, 200),
        st.sampled_from("xyz"),
    ),
    min_size=1,
    max_size=12,
)
"""Answers of the bank, over and over: drawing eighty takes longer than whatever they are for."""


@given(classed, told, st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia"]))
def test_whatever_the_classes_it_ends_and_no_retry_is_before_a_wish(policy, answers, zone):
    history, at = [], NOW
    for decline, counted, elsewhere, wish, method in islice(cycle(answers), 80):
        history.append(
            Failure(at, decline, counted, method=method, elsewhere=elsewhere and counted)
        )
        wished = None if wish is None else at + timedelta(hours=wish)
        step = next_step(policy, history, retry_not_before=wished, timezone=zone)
        if isinstance(step, Final):
            break
        assert step.at > at
        assert wished is None or step.at >= wished
        assert step.number == len(history)
        at = step.at
    assert isinstance(step, Final)
    assert len(history) <= 1 + MAX_RETRIES + MAX_NOT_COUNTED + 1


@given(classed, st.sampled_from(["UTC", "Europe/Berlin"]))
def test_the_steps_shown_ahead_are_the_steps_that_come(policy, zone):
    failures = [Failure(NOW, Decline.SOFT)]
    shown = steps_ahead(policy, failures, timezone=zone)
    made: list[Retry | Final] = []
    while not made or isinstance(made[-1], Retry):
        made.append(next_step(policy, failures, timezone=zone))
        failures.append(Failure(made[-1].at, Decline.SOFT))
    assert list(shown) == made
    assert [each.number for each in shown[:-1]] == list(range(1, len(shown)))


def test_each_class_has_its_own_delays():
    policy = Policy(
        (DAY, 2 * DAY),
        FinalAction.CANCEL,
        hard_decline_stops=False,
        by_class={Decline.INSUFFICIENT_FUNDS: (5 * DAY, 6 * DAY, 7 * DAY), Decline.HARD: ()},
    )
    poor = [Failure(NOW, Decline.INSUFFICIENT_FUNDS)]
    assert next_step(policy, poor) == Retry(NOW + 5 * DAY, 1)
    mixed = [*poor, Failure(NOW + 5 * DAY, Decline.SOFT)]
    assert next_step(policy, mixed) == Retry(NOW + 7 * DAY, 2)
    assert isinstance(next_step(policy, [Failure(NOW, Decline.HARD)]), Final)
    assert policy.deadline(NOW) == NOW + 18 * DAY


def test_a_hard_decline_does_not_stop_where_another_method_is_left():
    policy = Policy((DAY,), FinalAction.CANCEL, fallback_after=frozenset({Decline.HARD}))
    last = Failure(NOW, Decline.HARD, method="x", elsewhere=True)
    assert next_step(policy, [last]) == Retry(NOW + DAY, 1)
    assert isinstance(next_step(policy, [Failure(NOW, Decline.HARD, method="x")]), Final)


@given(st.lists(st.sampled_from("vwxyz"), unique=True), st.lists(st.sampled_from("vwxyz")))
def test_the_method_tried_is_the_first_that_was_not_refused(methods, refused):
    chosen = method_to_try(methods, refused)
    left = [each for each in methods if each not in refused]
    assert chosen == (left or methods or [None])[0]


def test_only_refusals_of_the_named_classes_turn_to_another_method():
    policy = Policy((DAY,), FinalAction.NONE, fallback_after=frozenset({Decline.HARD}))
    failures = [
        Failure(NOW, Decline.SOFT, method="a"),
        Failure(NOW, Decline.HARD, method="b"),
        Failure(NOW, Decline.HARD, method="b"),
        Failure(NOW, Decline.HARD, counted=False, method="c"),
        Failure(NOW, Decline.HARD),
    ]
    assert avoided(policy, failures) == ("b",)
    random.Random(1).shuffle(failures)
    assert avoided(policy, failures) == ("b",)
