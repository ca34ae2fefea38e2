"""Any price model, and anything that can be used under it, for Hypothesis."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from functools import cache

from hypothesis import strategies as st

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
    Priced,
    PriceModel,
    Rate,
    RateTier,
    Stairstep,
    Started,
    Tier,
    Usage,
    Volume,
)

D = Decimal
units = st.decimals(0, 1000, places=4)
above_zero = st.decimals(D("0.001"), 1000, places=3)
flats = st.integers(0, 500)
quantities = st.decimals(0, 400, places=3)


@cache
def bounds_and_open(*, whole_bounds: bool = False, highest: int = 200):
    each = (
        st.integers(1, highest).map(D)
        if whole_bounds
        else st.decimals(D("0.01"), highest, places=2)
    )
    return st.lists(each, max_size=5, unique=True).map(lambda found: [*sorted(found), None])


@st.composite
def tiers(draw, *, whole_bounds: bool = False, highest: int = 200):
    uppers = draw(bounds_and_open(whole_bounds=whole_bounds, highest=highest))
    return tuple(Tier(upper, draw(units), draw(flats)) for upper in uppers)


rates = st.decimals(0, 100, places=3)


@st.composite
def rate_tiers(draw):
    return tuple(RateTier(up, draw(rates), draw(flats)) for up in draw(bounds_and_open()))


sizes = st.integers(1, 40).map(D)
most_blocks = st.lists(st.integers(1, 8), max_size=4)


@st.composite
def blocks(draw):
    held = draw(most_blocks)
    return tuple(BlockTier(draw(sizes), draw(units), most) for most in [*held, None])


regions = st.sampled_from(["eu", "us", "x/y", "~"])
combinations = st.tuples(regions, regions)
some_combinations = st.lists(combinations, max_size=5, unique=True)


@st.composite
def matrices(draw):
    values = draw(some_combinations)
    return Matrix(("region", "kind"), tuple(Rate(v, draw(units)) for v in values), draw(units))


options = {"bounds": st.sampled_from(Bounds), "charge_zero": st.booleans()}
stairs = tiers().map(lambda all: tuple(Tier(t.up_to, flat_minor=t.flat_minor) for t in all))
percentages = st.builds(
    Percentage,
    rate_percent=st.decimals(0, 100, places=3), event_amount=units,
    free_events=st.none() | st.integers(1, 4), free_total_minor=st.none() | st.integers(1, 900),
    event_minimum_minor=st.none() | st.integers(0, 50),
    event_maximum_minor=st.none() | st.integers(50, 500),
)  # fmt: skip
by_quantity = st.one_of(
    st.builds(PerUnit, units),
    st.builds(Graduated, tiers(), **options),
    st.builds(Volume, tiers(), **options),
    st.builds(Stairstep, stairs, **options),
    st.builds(Package, above_zero, units, above_zero | st.just(D(0)), st.sampled_from(Started)),
    st.builds(Blocks, blocks(), st.sampled_from(BlockMode)),
)
others = st.one_of(
    st.builds(Flat, flats),
    percentages,
    st.builds(GraduatedPercentage, rate_tiers(), **options),
    st.builds(Dynamic, units),
    matrices(),
)


any_base = by_quantity | others
minimums, maximums = st.none() | st.integers(0, 5000), st.none() | st.integers(5000, 9000)
included, most_sold = st.none() | above_zero, st.none() | st.just(D(1000))


@st.composite
def models(draw) -> PriceModel:
    """Any model, every second time with something over it."""
    base = draw(any_base)
    over: dict[str, object] = {}
    if draw(st.booleans()):
        over["minimum_minor"] = draw(minimums)
        over["maximum_minor"] = draw(maximums)
        if isinstance(base, PerUnit | Graduated | Volume | Stairstep | Package | Blocks):
            over["included_units"] = draw(included)
            over["most_quantity"] = draw(most_sold)
    over = {key: value for key, value in over.items() if value is not None}
    return Modified(base, **over) if over else base


of_events = st.lists(quantities, max_size=6).map(lambda all: Usage(event_amounts=all))
by_dimensions = st.dictionaries(combinations, quantities, max_size=4).map(
    lambda each: Usage(by_dimensions=each)
)
of_quantity = quantities.map(Usage)


def used_by(model: PriceModel) -> st.SearchStrategy[Usage]:
    """What can be used under a model."""
    base = model.model if isinstance(model, Modified) else model
    match base:
        case Percentage() | GraduatedPercentage() | Dynamic():
            return of_events
        case Matrix():
            return by_dimensions
    return of_quantity


def recomputed(priced: Priced) -> Fraction:
    """The price from its steps alone, as ``examples/recompute_invoice.py`` does."""
    for step in priced.steps:
        assert Fraction(step.quantity) * Fraction(step.unit_amount) == Fraction(step.amount)
    return sum((Fraction(step.amount) for step in priced.steps), Fraction(0))
