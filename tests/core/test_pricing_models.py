"""Every price model against a naive reckoning of the same rule."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.errors import InvalidPrice, InvalidQuantity
from subledger.core.pricing import (
    BlockMode,
    Blocks,
    BlockTier,
    Bounds,
    Dynamic,
    Flat,
    Graduated,
    GraduatedPercentage,
    Matrix,
    Modified,
    Package,
    Percentage,
    PerUnit,
    Rate,
    RateTier,
    Stairstep,
    Started,
    Tier,
    Usage,
    Volume,
    by_part,
    in_parts,
    price,
    price_further,
    true_up,
)
from tests.core.price_models import D, blocks, models, recomputed, tiers, used_by

whole = st.integers(0, 300).map(Decimal)
quantities = st.decimals(0, 300, places=3)


def by_units(given_tiers, units: int) -> int | Fraction:
    """One unit after the other: the slow and obvious way."""
    total = Fraction(given_tiers[0].flat_minor)
    reached = 0
    for unit in range(1, units + 1):
        while given_tiers[reached].up_to is not None and unit > given_tiers[reached].up_to:
            reached += 1
            total += given_tiers[reached].flat_minor
        total += Fraction(given_tiers[reached].unit_amount)
    return total


@given(tiers(whole_bounds=True), whole)
def test_graduated_is_the_sum_over_single_units(given_tiers, quantity):
    assert price(Graduated(given_tiers), quantity).amount == by_units(given_tiers, int(quantity))


@given(tiers(), quantities, quantities)
def test_graduated_never_falls(given_tiers, one, other):
    low, high = sorted((one, other))
    model = Graduated(given_tiers)
    assert price(model, low).amount <= price(model, high).amount


@given(tiers(), quantities, st.decimals(0, 100, places=4))
def test_volume_and_graduated_agree_where_all_tiers_have_one_price(given_tiers, quantity, unit):
    same = tuple(Tier(each.up_to, unit) for each in given_tiers)
    expected = Fraction(quantity) * Fraction(unit)
    assert price(Graduated(same), quantity).amount == expected
    assert price(Volume(same), quantity).amount == expected


@given(tiers(), quantities)
def test_volume_prices_all_units_in_the_tier_of_the_last(given_tiers, quantity):
    reached = next(t for t in given_tiers if t.up_to is None or quantity <= t.up_to)
    expected = Fraction(quantity) * Fraction(reached.unit_amount) + reached.flat_minor
    assert price(Volume(given_tiers), quantity).amount == expected


@given(tiers(), st.fractions(0, 1))
def test_a_stairstep_is_constant_within_a_tier(given_tiers, share):
    steps = tuple(Tier(each.up_to, flat_minor=each.flat_minor) for each in given_tiers)
    uppers = [each.up_to for each in steps[:-1]]
    for tier, (low, high) in zip(steps[1:], pairwise([*uppers, D(10**6)]), strict=True):
        exact = Fraction(low) + (Fraction(high) - Fraction(low)) * share
        inside = Decimal(exact.numerator * 1000 // exact.denominator) / 1000
        if inside > low:
            assert price(Stairstep(steps), inside).amount == tier.flat_minor
        assert price(Stairstep(steps), high).amount == tier.flat_minor


@given(tiers(), quantities)
def test_bounds_read_from_below_differ_only_at_the_bounds(given_tiers, quantity):
    at_a_bound = any(each.up_to == quantity for each in given_tiers)
    for model in (Graduated, Volume):
        up_to = price(model(given_tiers), quantity)
        lower = price(model(given_tiers, Bounds.FROM), quantity)
        assert at_a_bound or up_to == lower


def test_a_bound_belongs_to_the_tier_that_the_option_says():
    two = (Tier(D(100), D(2)), Tier(None, D(1), flat_minor=50))
    assert price(Volume(two), D(100)).amount == 200
    assert price(Volume(two, Bounds.FROM), D(100)).amount == 150
    assert price(Graduated(two), D(100)).amount == 200
    assert price(Graduated(two, Bounds.FROM), D(100)).amount == 250
    assert price(Graduated(two), D("100.000000000001")).amount == Fraction(250 * 10**12 + 1, 10**12)


@pytest.mark.parametrize("model", [Graduated, Volume])
def test_zero_usage_costs_the_first_flat_part_unless_told_otherwise(model):
    two = (Tier(D(10), D(5), flat_minor=300), Tier(None, D(4)))
    assert price(model(two), D(0)).amount == 300
    free = price(model(two, charge_zero=False), D(0))
    assert (free.amount, free.steps) == (0, ())
    assert [each.kind for each in price(model(two), D(0)).steps] == ["flat", "per_unit"]
    assert price(model(two, charge_zero=False), D(1)).amount == 305


def test_the_tier_may_be_chosen_by_the_full_units():
    two = (Tier(D(100), D(2)), Tier(None, D(1), flat_minor=50))
    assert price(Volume(two), Usage(D("66.2"), tier_quantity=D(300))).amount == Fraction(581, 5)


@given(st.lists(st.integers(1, 30), max_size=8), tiers(whole_bounds=True))
def test_changes_that_are_not_prorated_cost_as_their_sum(grown, given_tiers):
    changes = [(D(each), D(each)) for each in grown]
    walked = price(Graduated(given_tiers), Usage(changes=changes))
    assert walked.amount == price(Graduated(given_tiers), D(sum(grown))).amount


@given(
    st.lists(st.tuples(st.integers(-30, 30), st.integers(0, 31)), max_size=8),
    tiers(whole_bounds=True, highest=40),
)
def test_prorated_changes_walk_the_tiers_unit_by_unit(moved, given_tiers):
    changes = [(D(full), D(full * days) / 32) for full, days in moved]
    total = peak = 0
    owed = Fraction(0)
    for full, days in moved:
        for _ in range(abs(full)):
            unit = total + 1 if full > 0 else total  # the unit that comes or goes
            tier = next(t for t in given_tiers if t.up_to is None or unit <= t.up_to)
            owed += Fraction(days, 32) * Fraction(tier.unit_amount) * (1 if full > 0 else -1)
            total += 1 if full > 0 else -1
        peak = max(peak, total)
    owed += sum(
        tier.flat_minor
        for lower, tier in zip([0, *[t.up_to for t in given_tiers]], given_tiers, strict=False)
        if peak > lower or lower == 0
    )
    assert price(Graduated(given_tiers), Usage(changes=changes)).amount == max(owed, 0)


def test_a_tier_once_reached_is_paid_though_the_total_falls_back():
    two = Graduated((Tier(D(5), D(10), 100), Tier(None, D(5), 50)))
    risen = [(D(5), D("3.5")), (D(2), D(1)), (D(-4), D("-1.6"))]
    assert price(two, Usage(changes=risen)).amount == 150 + 27 + 1


def test_many_changes_of_many_digits_cost_what_they_add_up_to():
    two = Graduated((Tier(D(1000), D(7)), Tier(None, D(7))))
    rises = [(D(7 * 10**30 + n), D(n)) for n in range(1000)]
    falls = [(-full, -share) for full, share in reversed(rises)]
    assert price(two, Usage(changes=[*rises, *falls])).amount == 0
    priced = price(two, Usage(changes=rises))
    assert priced.amount == 7 * sum(range(1000))
    assert all(len(each.quantity) < 60 for each in priced.steps)


@given(quantities, st.integers(1, 50), st.integers(0, 50), st.sampled_from(Started))
def test_packages(quantity, size, free, started):
    model = Package(D(size), D("12.5"), D(free), started)
    over = max(quantity - free, 0)
    count = 0
    while (count + 1) * size <= over or (started is Started.UP and count * size < over):
        count += 1
    assert price(model, quantity).amount == count * Fraction(25, 2)


@given(blocks(), whole)
def test_blocks(given_tiers, quantity):
    left, bill, reached = int(quantity), 0, None
    for tier in given_tiers:
        reached = tier
        filled = 0
        while left > 0 and filled != tier.most_blocks:
            left, filled = left - int(tier.size), filled + 1
            bill += Fraction(tier.block_amount)
        if left <= 0:
            break
    assert price(Blocks(given_tiers), quantity).amount == bill
    top = -(-int(quantity) // int(reached.size)) * Fraction(reached.block_amount)
    assert price(Blocks(given_tiers, BlockMode.TOP_TIER), quantity).amount == top


@given(
    st.lists(st.integers(0, 5000), max_size=8),
    st.none() | st.integers(1, 5), st.none() | st.integers(1, 9000),
    st.none() | st.integers(0, 60), st.none() | st.integers(60, 90),
)  # fmt: skip
def test_percentages_event_by_event(amounts, free_events, free_total, low, high):
    model = Percentage(D("2.9"), D("20.25"), free_events, free_total, low, high)
    owed, seen = Fraction(0), 0
    for place, amount in enumerate(amounts):
        free = 0
        if (free_events, free_total) != (None, None) and place < (free_events or 99):
            free = amount if free_total is None else min(amount, max(free_total - seen, 0))
        seen += free
        if free < amount or place >= (free_events or 99) or (free_events, free_total) == (
            None, None
        ):  # fmt: skip
            due = Fraction(29, 1000) * (amount - free) + Fraction(81, 4)
            due = due if low is None else max(due, Fraction(low))
            owed += due if high is None else min(due, Fraction(high))
    used = Usage(event_amounts=[D(each) for each in amounts])
    assert price(model, used).amount == owed


def test_a_percentage_needs_only_sum_and_count_where_events_are_alike():
    model = Percentage(D("1.5"), D(30))
    assert price(model, Usage(D(10000), event_count=4)).amount == 270
    assert price(Percentage(D("1.5")), D(10000)).amount == 150
    with pytest.raises(InvalidQuantity) as refused:
        price(model, D(10000))
    assert refused.value.pointer == "/event_count"
    with pytest.raises(InvalidQuantity) as refused:
        price(Percentage(D("1.5"), free_events=1), Usage(D(10000), event_count=4))
    assert refused.value.pointer == "/event_amounts"


@given(st.lists(st.integers(0, 4000), max_size=6))
def test_graduated_percentages(amounts):
    model = GraduatedPercentage(
        (RateTier(D(1000), D(1), 20), RateTier(D(5000), D("2.5"), 30), RateTier(None, D(3)))
    )
    total = sum(amounts)
    owed = 20 + Fraction(min(total, 1000), 100)
    if total > 1000:
        owed += 30 + Fraction(min(total, 5000) - 1000, 40)
    if total > 5000:
        owed += Fraction(3 * (total - 5000), 100)
    assert price(model, Usage(event_amounts=[D(each) for each in amounts])).amount == owed


def test_dynamic_amounts_come_with_the_events():
    used = Usage(event_amounts=[D("10.5"), D("29.7")])
    assert price(Dynamic(), used).amount == Fraction(201, 5)
    assert price(Dynamic(D("1.2")), D(100)).amount == 120


def test_a_matrix_has_a_price_for_each_combination():
    model = Matrix(
        ("region", "size"),
        (Rate(("eu", "small"), D(5)), Rate(("eu", "large"), D(9))),
        default_unit_amount=D(20),
    )
    used = {("eu", "small"): D(10), ("us", "small"): D(2), ("eu", "large"): D("0.5")}
    priced = price(model, Usage(by_dimensions=used))
    assert priced.amount == 50 + 40 + Fraction(9, 2)
    assert [each.part for each in priced.steps] == ["/eu/large", "/eu/small", "/us/small"]
    assert price(model, D(0)).amount == 0
    with pytest.raises(InvalidQuantity):
        price(model, D(3))
    without = Matrix(model.dimensions, model.rates)
    with pytest.raises(InvalidQuantity, match="us, small"):
        price(without, Usage(by_dimensions=used))
    with pytest.raises(InvalidQuantity):
        price(model, Usage(by_dimensions={("eu",): D(1)}))


def test_no_two_combinations_share_a_part():
    used = {("a/b", "c"): D(1), ("a", "b/c"): D(1), ("a~1b", "c"): D(1)}
    priced = price(Matrix(("x", "y"), (), D(1)), Usage(by_dimensions=used))
    assert len({each.part for each in priced.steps}) == 3


@given(models(), st.data())
def test_steps_alone_recompute_every_price(model, data):
    priced = price(model, data.draw(used_by(model)))
    assert recomputed(priced) == priced.amount >= 0
    assert sum(each.net for each in by_part(priced)) == priced.amount


@given(tiers(), quantities, st.integers(0, 5000), st.integers(0, 5000))
def test_minimum_and_maximum_hold(given_tiers, quantity, low, more):
    bare = price(Graduated(given_tiers), quantity).amount
    model = Modified(Graduated(given_tiers), minimum_minor=low, maximum_minor=low + more)
    priced = price(model, quantity)
    assert priced.amount == max(low, min(bare, low + more))
    assert all(each.above_maximum >= 0 and each.net >= 0 for each in by_part(priced))


@given(quantities, st.integers(1, 200))
def test_only_the_overage_is_priced(quantity, included):
    model = Modified(PerUnit(D(3)), included_units=D(included))
    assert price(model, quantity).amount == 3 * Fraction(max(quantity - included, 0))


def test_included_units_keep_their_digits():
    many = D("12345678901234567890123456.000000000001")
    assert price(Modified(PerUnit(D(1)), included_units=D(1)), many).amount == Fraction(many) - 1


def test_no_more_than_is_sold():
    model = Modified(PerUnit(D(3)), most_quantity=D(10))
    assert price(model, D(10)).amount == 30
    with pytest.raises(InvalidQuantity) as refused:
        price(model, D(11))
    assert refused.value.pointer == "/most_quantity"


@given(models(), st.data())
def test_a_period_billed_in_parts_costs_what_it_costs_at_once(model, data):
    first, later = data.draw(used_by(model)), data.draw(used_by(model))
    both = first.plus(later)
    begun = price_further(model, first, closing=False)
    closed = price_further(model, later, before=first)
    assert begun.amount + closed.amount == price(model, both).amount
    assert recomputed(begun) == begun.amount
    assert recomputed(closed) == closed.amount
    assert in_parts(model) or begun.steps == ()


def test_parts_of_a_graduated_price_continue_where_the_last_ended():
    model = Graduated((Tier(D(5), D(10), 100), Tier(D(10), D(10), 50), Tier(None, D(10))))
    added = price_further(model, D(10), before=D(3))
    assert [(each.part, each.net) for each in by_part(added)] == [("1", 20), ("2", 100), ("3", 30)]


def test_what_passes_the_maximum_is_taken_off_the_parts_that_pass_it():
    model = Modified(Graduated((Tier(D(5), D(10)), Tier(D(8), D(20)), Tier(None, D(30)))),
                     maximum_minor=100)  # fmt: skip
    assert [
        (each.part, each.gross, each.above_maximum, each.net)
        for each in by_part(price(model, D(9)))
    ] == [("1", 50, 0, 50), ("2", 60, 10, 50), ("3", 30, 30, 0)]
    further = price_further(model, D(1), before=D(9))
    assert [(each.gross, each.net) for each in by_part(further)] == [(30, 0)]


def test_a_minimum_waits_for_the_end_of_the_period():
    model = Modified(PerUnit(D(10)), minimum_minor=100)
    assert price_further(model, D(2), closing=False).amount == 20
    last = price_further(model, D(3), before=D(2))
    assert [(each.part, each.net) for each in by_part(last)] == [("", 30), ("minimum", 50)]


def test_usage_adds_up():
    assert Usage(D(5), event_count=2).plus(Usage(D(1), event_count=3)) == Usage(D(6), event_count=5)
    assert Usage(D(5), event_count=2).plus(Usage(D(1))).event_count is None
    prorated = Usage(D("1.5"), tier_quantity=D(4))
    assert prorated.plus(Usage(D(2))) == Usage(D("3.5"), tier_quantity=D(6))
    some = Usage(by_dimensions={("a",): D("0.1"), ("b",): D(1)})
    assert some.plus(Usage(by_dimensions={("a",): D("0.2")})).by_dimensions == {
        ("a",): D("0.3"), ("b",): D(1),
    }  # fmt: skip


def test_a_true_up_may_be_for_a_part_of_the_period():
    assert true_up(1000, [100, Fraction(1, 2)]) == Fraction(1799, 2)
    assert true_up(1000, [1000, 5]) == 0
    assert true_up(1000, [200], fraction=Fraction(15, 31)) == Fraction(15000, 31) - 200


def test_more_decimals_than_decimal_arithmetic_keeps():
    unit = D("0.123456789012")
    quantity = D("12345678901234567890123456.789012345678")
    exact = Fraction(unit) * Fraction(quantity)
    for model in (PerUnit(unit), Graduated((Tier(D(1), unit), Tier(None, unit)))):
        assert price(model, quantity).amount == exact


@pytest.mark.parametrize(
    "used",
    [
        {"quantity": D("1e40")}, {"quantity": D(-1)}, {"tier_quantity": D("NaN")},
        {"event_count": -1}, {"event_amounts": [D(-5)]}, {"event_amounts": [D("Infinity")]},
        {"by_dimensions": {("a",): D(-1)}}, {"changes": [(D(0), D(1))]},
        {"changes": [(D("NaN"), D(1))]}, {"changes": [(D("-1e40"), D(1))]},
        {"quantity": D(1), "event_amounts": [D(1)]}, {"event_amounts": [], "changes": []},
    ],
)  # fmt: skip
def test_usage_that_is_none(used):
    with pytest.raises(InvalidQuantity):
        Usage(**used)


@pytest.mark.parametrize(
    "model", [PerUnit(D(1)), Graduated((Tier(None, D(1)),)), Package(D(1), D(1))]
)
def test_prices_by_quantity_do_not_guess_one(model):
    with pytest.raises(InvalidQuantity):
        price(model, Usage(event_amounts=[D(1)]))
    with pytest.raises(InvalidQuantity):
        price(model, Usage(D(1)).plus(Usage(event_amounts=[D(1)])))


open_tier = Tier(None, D(1))


@pytest.mark.parametrize(
    ("make", "pointer"),
    [
        (lambda: Graduated(()), "/tiers"),
        (lambda: Graduated((*(Tier(D(n), D(1)) for n in range(1, 101)), open_tier)), "/tiers"),
        (lambda: Volume((Tier(D(10), D(1)),)), "/tiers/0/up_to"),
        (lambda: Volume((Tier(D(10)), Tier(D(10)), open_tier)), "/tiers/1/up_to"),
        (lambda: Volume((Tier(D(10)), Tier(D(5)), open_tier)), "/tiers/1/up_to"),
        (lambda: Volume((open_tier, Tier(D(5)), open_tier)), "/tiers/0/up_to"),
        (lambda: Stairstep((open_tier,)), "/tiers/0/unit_amount"),
        (lambda: Tier(D(0), D(1)), "/up_to"),
        (lambda: Tier(D("1e40"), D(1)), "/up_to"),
        (lambda: Tier(D(1), D(-1)), "/unit_amount"),
        (lambda: Tier(D(1), D("1e-13")), "/unit_amount"),
        (lambda: Tier(D(1), D(1), -1), "/flat_minor"),
        (lambda: Package(D(0), D(1)), "/size"),
        (lambda: Package(D(1), D(1), D(-1)), "/free_units"),
        (lambda: Blocks((BlockTier(D(1), D(1), 5),)), "/tiers/0/most_blocks"),
        (lambda: Blocks((BlockTier(D(1), D(1), None),) * 2), "/tiers/0/most_blocks"),
        (lambda: BlockTier(D(1), D(1), 0), "/most_blocks"),
        (lambda: Percentage(D(1001)), "/rate_percent"),
        (lambda: Percentage(D("-0.1")), "/rate_percent"),
        (lambda: Percentage(D(1), free_events=0), "/free_events"),
        (lambda: Percentage(D(1), event_minimum_minor=2, event_maximum_minor=1),
         "/event_minimum_minor"),
        (lambda: RateTier(None, D("NaN")), "/rate_percent"),
        (lambda: Dynamic(D(-1)), "/multiplier"),
        (lambda: Matrix((), ()), "/dimensions"),
        (lambda: Matrix(("a", "a"), ()), "/dimensions"),
        (lambda: Matrix(("a",), (Rate(("x",), D(1)), Rate(("x",), D(2)))), "/rates/1/values"),
        (lambda: Matrix(("a",), (Rate(("x", "y"), D(1)),)), "/rates/0/values"),
        (lambda: Matrix(("a",), (), D(-1)), "/default_unit_amount"),
        (lambda: Modified(Flat(5)), ""),
        (lambda: Modified(Flat(5), included_units=D(1)), "/included_units"),
        (lambda: Modified(Flat(5), minimum_minor=-1), "/minimum_minor"),
        (lambda: Modified(Flat(5), minimum_minor=6, maximum_minor=5), "/minimum_minor"),
        (lambda: Modified(PerUnit(D(1)), most_quantity=D(0)), "/most_quantity"),
    ],
)  # fmt: skip
def test_prices_that_are_refused(make, pointer):
    with pytest.raises(InvalidPrice) as refused:
        make()
    assert refused.value.pointer == pointer
    assert refused.value.fix
