"""Discounts off invoices: scope, order, caps, what stacks, what is carried, until when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core import discounts
from subledger.core.discounts import (
    UNUSED,
    Discount,
    Duration,
    Exclusive,
    Kind,
    Order,
    Running,
    Split,
    Spread,
    Taken,
    Target,
    Usage,
    runs,
)
from subledger.core.errors import InvalidDiscount, UnknownCurrency
from subledger.core.money import Money

AT = datetime(2026, 1, 31, 10, tzinfo=UTC)


def percent(value: str, name: str = "p", **options) -> Discount:
    terms = {"duration": Duration.FOREVER, "periods": None, **options}
    return Discount(name, Kind.PERCENT, Decimal(value), None, None, **terms)


def fixed(amount: int, name: str = "f", **options) -> Discount:
    terms = {"currency": "EUR", "duration": Duration.FOREVER, "periods": None, **options}
    return Discount(name, Kind.FIXED, None, amount, **terms)


def take(given_discounts, gross, *, currency="EUR", usage=UNUSED, **options) -> Taken:
    """On lines named ``line 0``, ``line 1``…"""
    lines = [Target(minor, frozenset({f"line {n}"})) for n, minor in enumerate(gross)]
    attached = [Running(each, usage) for each in given_discounts]
    return discounts.take(attached, lines, currency=currency, at=AT, **options)


def first_line(discount: Discount) -> Discount:
    return replace(discount, applies_to=frozenset({"line 0"}))


# Scope and spread


def test_a_scope_names_lines():
    assert take([first_line(percent("10"))], [1000, 1000]).by_line_minor == (100, 0)
    assert take([first_line(fixed(300))], [1000, 1000]).by_line_minor == (300, 0)


def test_no_line_in_scope_passes_a_discount_over():
    found = take([replace(percent("10"), applies_to=frozenset({"other"}))], [1000])
    assert (found.total_minor, found.usage) == (0, {})
    assert found.passed_over == (("p", "other_lines"),)


def test_a_line_that_may_not_be_discounted_is_left_alone():
    lines = [Target(1000), Target(1000, discountable=False)]
    found = discounts.take([Running(percent("10"))], lines, currency="EUR", at=AT)
    assert found.by_line_minor == (100, 0)


def test_a_fixed_amount_may_be_off_each_line():
    found = take([fixed(300, spread=Spread.LINE)], [1000, 200, 0])
    assert found.by_line_minor == (300, 200, 0)


def test_a_percentage_may_be_rounded_once_over_the_invoice():
    per_line, once = percent("33.33"), percent("33.33", spread=Spread.INVOICE)
    assert take([per_line], [100, 100]).by_line_minor == (33, 33)
    assert take([once], [100, 100]).by_line_minor == (34, 33)


@pytest.mark.parametrize(
    ("split", "parts"),
    [
        (Split.LARGEST_REMAINDER, (17, 17, 16)),
        (Split.LAST_LINE, (17, 17, 16)),
        (Split.EACH, (17, 17, 16)),
    ],
)
def test_splits_of_fifty_over_three_never_give_more(split, parts):
    assert take([fixed(50)], [100, 100, 100], split=split).by_line_minor == parts


def test_splits_differ_where_shares_round_down():
    def of(split):
        return take([fixed(100)], [100, 100, 100], split=split).by_line_minor

    assert of(Split.LARGEST_REMAINDER) == (34, 33, 33)
    assert of(Split.LAST_LINE) == (33, 33, 34)
    assert of(Split.EACH) == (33, 33, 33)


# Order and stacking


def test_as_attached_takes_a_fixed_amount_before_a_percentage():
    both = [fixed(5000), percent("10")]
    assert take(both, [10000]).total_minor == 6000
    assert take(both, [10000], order=Order.AS_ATTACHED).total_minor == 5500
    assert take(both[::-1], [10000], order=Order.AS_ATTACHED).total_minor == 6000


def test_an_exclusive_discount_wins_where_it_takes_more():
    alone, others = percent("30", "x", exclusive=True), [percent("10"), fixed(100)]
    found = take([*others, alone], [1000])
    assert found.by_discount == (("x", 300),)
    assert found.passed_over == (("f", "not_stacked"), ("p", "not_stacked"))
    assert take([*others, alone], [400]).by_discount == (("p", 40), ("f", 100))


def test_the_first_attached_may_win_instead():
    alone, other = percent("30", "x", exclusive=True), percent("10")
    assert take([other, alone], [1000], exclusive=Exclusive.FIRST).by_discount == (("p", 100),)
    assert take([alone, other], [1000], exclusive=Exclusive.FIRST).by_discount == (("x", 300),)
    assert take([alone, other], [0], exclusive=Exclusive.FIRST).total_minor == 0


# Caps, currencies, carried amounts, prorated periods


def test_a_cap_is_the_most_taken_from_an_invoice_and_is_split_too():
    found = take([percent("50", caps=(Money(100, "EUR"),))], [300, 100])
    assert found.by_line_minor == (75, 25)
    assert found.steps[0] == (
        {
            "discount_id": "p", "kind": "fixed", "base_minor": 300, "amount_minor": 75,
            "capped_percent": "50", "uncapped_minor": 150, "total_minor": 100, "of_minor": 200,
        },
    )  # fmt: skip


def test_a_cap_for_life_counts_what_was_taken_before():
    capped = percent("50", caps=(Money(100, "EUR"),), cap_for_life=True)
    found = take([capped], [300], usage=Usage(1, 70, AT))
    assert found.total_minor == 30
    assert found.usage["p"] == Usage(2, 100, AT)
    assert not runs(capped, found.usage["p"], at=AT)


def test_without_a_cap_in_the_currency_nothing_is_taken():
    found = take([percent("50", caps=(Money(100, "EUR"),))], [300], currency="USD")
    assert found.passed_over == (("p", "other_currency"),)


def test_a_fixed_amount_may_be_given_in_several_currencies():
    discount = fixed(500, other_amounts=(Money(600, "USD"),))
    assert take([discount], [1000]).total_minor == 500
    assert take([discount], [1000], currency="USD").total_minor == 600
    assert take([discount], [1000], currency="GBP").passed_over == (("f", "other_currency"),)


def test_what_is_left_of_a_fixed_amount_is_lost_unless_carried():
    lost = fixed(12, duration=Duration.ONCE)
    assert not runs(lost, take([lost], [6]).usage["f"], at=AT)
    carried = replace(lost, carried=True)
    first = take([carried], [6])
    assert runs(carried, first.usage["f"], at=AT)
    assert first.steps[0][0]["carried_minor"] == 6
    second = take([carried], [300], usage=first.usage["f"])
    assert second.total_minor == 6
    assert not runs(carried, second.usage["f"], at=AT)


def test_a_fixed_amount_is_scaled_to_a_part_of_a_period_only_if_asked():
    half = Fraction(1, 2)
    assert take([fixed(301)], [1000], fraction=half).total_minor == 301
    found = take([fixed(301, prorated=True)], [1000], fraction=half)
    assert found.total_minor == 151
    assert found.steps[0][0]["whole_minor"] == 301
    assert found.steps[0][0]["fraction"] == "1/2"


def test_a_whole_percentage_uses_up_a_period_and_a_zero_invoice_none():
    free = percent("100", duration=Duration.PERIODS, periods=1)
    assert take([free], [4900]).usage["p"].periods == 1
    assert take([free], [0]).passed_over == (("p", "nothing_left"),)


# How long


def test_months_count_from_the_first_use_in_the_customers_zone():
    discount = percent("5", months=3)
    used = UNUSED.after(10, AT)  # 31 January, 11:00 in Berlin
    assert runs(discount, UNUSED, at=AT + timedelta(days=900))
    # 30 April, 11:00 summer time is 09:00 UTC: the period that starts then is the fourth.
    last = datetime(2026, 4, 30, 9, tzinfo=UTC)
    assert runs(discount, used, at=last - timedelta(seconds=1), timezone="Europe/Berlin")
    assert not runs(discount, used, at=last, timezone="Europe/Berlin")
    assert runs(discount, used, at=last, timezone="UTC")


def test_a_moment_ends_a_discount_and_it_does_not_belong_to_it():
    discount = percent("5", until=AT)
    assert runs(discount, UNUSED, at=AT - timedelta(seconds=1))
    assert not runs(discount, UNUSED, at=AT)
    assert take([discount], [100]).passed_over == (("p", "ended"),)


def test_dates_limit_a_count_of_periods():
    discount = percent("5", duration=Duration.PERIODS, periods=2, until=AT + timedelta(days=1))
    assert runs(discount, Usage(1), at=AT)
    assert not runs(discount, Usage(2), at=AT)
    assert not runs(discount, Usage(1), at=AT + timedelta(days=1))


def test_a_count_of_periods_does_not_decide_for_dates():
    for each in (percent("5", months=3), percent("5", until=AT)):
        with pytest.raises(InvalidDiscount):
            discounts.applies(each, 0)
    with pytest.raises(InvalidDiscount):
        discounts.apply([first_line(percent("5"))], [100], currency="EUR")


# What is refused


@pytest.mark.parametrize(
    "make",
    [
        lambda: percent("5", months=0), lambda: percent("5", months=1201),
        lambda: percent("5", until=datetime(2026, 1, 1)),
        lambda: percent("5", carried=True), lambda: percent("5", prorated=True),
        lambda: percent("5", other_amounts=(Money(1, "EUR"),)),
        lambda: percent("5", caps=(Money(0, "EUR"),)),
        lambda: percent("5", caps=(Money(1, "EUR"), Money(2, "EUR"))),
        lambda: percent("5", cap_for_life=True),
        lambda: percent("5", applies_to=frozenset(map(str, range(1001)))),
        lambda: fixed(5, carried=True),
        lambda: fixed(5, carried=True, duration=Duration.ONCE, spread=Spread.LINE),
        lambda: fixed(5, carried=True, duration=Duration.ONCE, caps=(Money(1, "EUR"),)),
        lambda: fixed(5, other_amounts=(Money(1, "EUR"),)),
        lambda: Usage(-1), lambda: Usage(0, -1),
        lambda: take([percent("5"), percent("6")], [100]),
        lambda: take([percent("5", str(n)) for n in range(101)], [100]),
    ],
)  # fmt: skip
def test_terms_that_contradict_one_another(make):
    with pytest.raises(InvalidDiscount):
        make()


def test_currencies_are_known():
    with pytest.raises(UnknownCurrency):
        fixed(5, other_amounts=(Money(1, "eur"),))


# Properties


scopes = st.frozensets(st.sampled_from(("line 0", "line 1", "line 2")))
spreads = st.sampled_from((None, *Spread))
caps = st.sampled_from(((), (), (Money(500, "EUR"),), (Money(7, "USD"),)))
percents = st.decimals(Decimal("0.01"), 100, places=2)
either = st.sampled_from(("EUR", "USD"))


@st.composite
def any_discount(draw) -> Discount:
    options = {"applies_to": draw(scopes), "spread": draw(spreads), "caps": draw(caps)}
    if draw(st.booleans()):
        return percent(str(draw(percents)), **options)
    return fixed(draw(st.integers(1, 10**4)), currency=draw(either), **options)


several = st.lists(any_discount(), max_size=5).map(
    lambda found: [replace(each, id=str(n)) for n, each in enumerate(found)]
)
exclusives = st.lists(st.tuples(any_discount(), st.booleans()), max_size=5).map(
    lambda found: [
        replace(each, id=str(n), exclusive=alone) for n, (each, alone) in enumerate(found)
    ]
)
amounts = st.lists(st.integers(-500, 10**4), max_size=4)


@given(exclusives, amounts, st.sampled_from(Order), st.sampled_from(Split),
       st.sampled_from(Exclusive))  # fmt: skip
def test_lines_stay_above_zero_and_all_sums_agree(chosen, gross, order, split, exclusive):
    found = take(chosen, gross, order=order, split=split, exclusive=exclusive)
    for minor, taken, steps in zip(gross, found.by_line_minor, found.steps, strict=True):
        assert 0 <= taken <= max(minor, 0)
        assert sum(step["amount_minor"] for step in steps) == taken
        left = minor
        for step in steps:
            assert step["base_minor"] == left
            left -= step["amount_minor"]
    assert sum(minor for _, minor in found.by_discount) == found.total_minor
    for name, minor in found.by_discount:
        discount = chosen[int(name)]
        if discount.kind is Kind.FIXED and discount.taken_per is Spread.INVOICE:
            assert minor <= discount.amount_in("EUR")
        if discount.caps:
            assert minor <= discount.cap_in("EUR")
        assert found.usage[name] == Usage(1, minor, AT)
    told = {name for name, _ in (*found.by_discount, *found.passed_over)}
    assert told == {each.id for each in chosen}


@given(exclusives, amounts, st.randoms())
def test_the_order_of_attachment_does_not_matter_unless_asked(chosen, gross, random):
    shuffled = list(chosen)
    random.shuffle(shuffled)
    assert take(shuffled, gross) == take(chosen, gross)


def naive(chosen, gross) -> tuple[list[int], dict[str, int]]:
    """Step by step in exact fractions, with none of the core's helpers."""
    left, taken = list(gross), {}
    percents = sorted((d for d in chosen if d.percent), key=lambda d: (-d.percent, d.id))
    others = sorted((d for d in chosen if not d.percent), key=lambda d: (-d.amount_minor, d.id))
    for each in percents + others:
        if not each.percent and each.currency != "EUR":
            continue
        if each.caps and each.caps[0].currency != "EUR":
            continue
        scope = [
            n for n in range(len(left)) if not each.applies_to or f"line {n}" in each.applies_to
        ]
        base = {n: max(left[n], 0) for n in scope}
        whole = sum(base.values())
        if each.percent and each.spread is not Spread.INVOICE:
            parts = {n: half_up(base[n] * Fraction(each.percent) / 100) for n in scope}
        elif each.percent:
            parts = hamilton(half_up(whole * Fraction(each.percent) / 100), base)
        elif each.spread is Spread.LINE:
            parts = {n: min(each.amount_minor, base[n]) for n in scope}
        else:
            parts = hamilton(min(each.amount_minor, whole), base)
        if each.caps and sum(parts.values()) > each.caps[0].amount_minor:
            parts = hamilton(each.caps[0].amount_minor, parts)
        if any(parts.values()):
            taken[each.id] = sum(parts.values())
        for n, part in parts.items():
            left[n] -= part
    return [g - rest for g, rest in zip(gross, left, strict=True)], taken


def half_up(value: Fraction) -> int:
    return (value + Fraction(1, 2)).__floor__()


def hamilton(total: int, weights: dict[int, int]) -> dict[int, int]:
    """One unit after the other to whoever lags furthest behind, within one unit of its share."""
    whole = sum(weights.values())
    if whole == 0:
        return dict.fromkeys(weights, 0)
    exact = {n: Fraction(total * weight, whole) for n, weight in weights.items()}
    parts = {n: share.__floor__() for n, share in exact.items()}
    while sum(parts.values()) < total:
        parts[max(parts, key=lambda n: (exact[n] - parts[n], -n))] += 1
    return parts


@given(several, amounts)
def test_what_is_taken_is_what_a_naive_computation_takes(chosen, gross):
    found = take(chosen, gross)
    by_line, by_discount = naive(chosen, gross)
    assert list(found.by_line_minor) == by_line
    assert dict(found.by_discount) == by_discount


@given(exclusives, amounts)
def test_the_best_of_what_does_not_stack_is_taken(chosen, gross):
    rivals = [[each] for each in chosen if each.exclusive]
    rivals.append([each for each in chosen if not each.exclusive])
    best = max(sum(naive(rival, gross)[0]) for rival in rivals)
    assert take(chosen, gross).total_minor == best


@given(st.integers(1, 1000), st.lists(st.lists(st.integers(0, 300), max_size=3), max_size=8))
def test_a_carried_amount_is_taken_whole_and_no_more(amount, invoices):
    discount = fixed(amount, duration=Duration.ONCE, carried=True)
    usage, taken = UNUSED, 0
    for gross in invoices:
        found = take([discount], gross, usage=usage)
        taken += found.total_minor
        usage = found.usage.get("f", usage)
        rest = amount - usage.taken_minor
        assert taken + rest == amount
        assert found.total_minor == min(sum(gross), rest + found.total_minor)
        assert runs(discount, usage, at=AT) is (rest > 0)
    assert taken == min(amount, sum(map(sum, invoices)))


@given(st.integers(1, 6), st.lists(st.integers(0, 3), min_size=1, max_size=10))
def test_periods_are_used_up_only_where_something_was_taken(periods, invoices):
    discount = percent("100", duration=Duration.PERIODS, periods=periods)
    usage = UNUSED
    for gross in invoices:
        usage = take([discount], [gross], usage=usage).usage.get("p", usage)
    assert usage.periods == min(periods, sum(gross > 0 for gross in invoices))


@given(several, amounts)
def test_both_ways_to_take_agree_on_simple_discounts(chosen, gross):
    simple = [replace(each, applies_to=frozenset()) for each in chosen]
    applied, found = discounts.apply(simple, gross, currency="EUR"), take(simple, gross)
    assert applied.by_line_minor == found.by_line_minor
    assert applied.steps == found.steps
    assert list(applied.used) == [name for name, _ in found.by_discount]
