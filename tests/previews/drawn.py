"""What is drawn: what a shop sells, who buys what, and what is asked for at which moment.

Everything is plain data, so that an example prints itself. A number that names something (a plan, a
line, an invoice) is taken modulo what there is when its turn comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Data = dict[str, Any]

STARTS = ("2026-01-31T10:00", "2028-02-10T00:00", "2026-10-20T22:30", "2026-03-28T01:00")
ZONES = ("Europe/Berlin", "UTC", "America/New_York", "Asia/Kolkata")
HOURS = (0, 0, 5, 24 * 3, 24 * 9, 24 * 31)
CYCLES = (("month", 1), ("month", 1), ("month", 1), ("week", 1), ("quarter", 1), ("day", 10))
ROUNDINGS = ("per_tax", "per_line", "per_document")
# None: without tax settings.
TAXES = (None, ("19",), ("19", "2.5"))


@dataclass(frozen=True)
class Order:
    """What one customer does in one round; ``do`` is a method of ``Play``."""

    do: str
    given: Data


@dataclass(frozen=True)
class Round:
    """One order for each customer, maybe a plan that all of it leave, and how much time passes."""

    orders: tuple[Order, ...]
    migration: Data | None
    hours: int


@dataclass(frozen=True)
class Example:
    start: str
    rounding: str
    taxes: tuple[str, ...] | None
    plans: tuple[tuple[Data, ...], ...]
    discounts: tuple[Data, ...]
    zones: tuple[str, ...]
    purchases: tuple[Data, ...]
    rounds: tuple[Round, ...]


# --- what is sold ---------------------------------------------------------------------------------

amounts = st.sampled_from((0, 1, 333, 999, 1000, 2999, 10_001))
units = st.sampled_from(("0.5", "10", "333.33", "999", "1000"))
two_tiers = st.builds(
    lambda up_to, low, high, flat: [
        {"up_to": up_to, "unit_amount": low, "flat_minor": flat},
        {"up_to": None, "unit_amount": high},
    ],
    st.sampled_from(("1", "2", "3")), units, units, st.sampled_from((0, 0, 250)),
)  # fmt: skip
models = st.one_of(
    st.builds(lambda minor: {"model": "flat", "amount_minor": minor}, amounts),
    st.builds(lambda unit: {"model": "per_unit", "unit_amount": unit}, units),
    st.builds(
        lambda model, tiers: {"model": model, "tiers": tiers},
        st.sampled_from(("graduated", "volume")), two_tiers,
    ),
    st.builds(
        lambda low, high: {"model": "stairstep", "tiers": [
            {"up_to": "2", "flat_minor": low}, {"up_to": None, "flat_minor": high}]},
        amounts, amounts,
    ),
    st.builds(
        lambda size, unit: {"model": "package", "size": size, "package_amount": unit},
        st.sampled_from(("2", "3")), units,
    ),
)  # fmt: skip
METERED = {"per_unit", "graduated", "volume", "package"}


@st.composite
def plans(draw: Any) -> tuple[Data, ...]:
    """The prices of one version: the first one recurs with the cycle."""
    unit, count = draw(st.sampled_from(CYCLES))
    prices = []
    for n in range(draw(st.integers(1, 3))):
        timing = draw(st.sampled_from(("advance", "advance", "arrears", *(["once"] if n else []))))
        times = draw(st.sampled_from((1, 1, 2, 3))) if n and timing != "once" else 1
        price = {
            "code": f"p{n}", "currency": "EUR", "timing": timing, **draw(models),
            "interval": {"unit": unit, "count": count * times},
            "tax_inclusive": draw(st.booleans()),
        }  # fmt: skip
        if timing == "arrears" and price["model"] in METERED:
            price["metered"] = draw(st.booleans())
        if draw(st.integers(0, 5)) == 0:
            price["minimum_minor"] = 500
        prices.append(price)
    return tuple(prices)


discounts = st.builds(
    lambda worth, lasts, spread: {**worth, **lasts, **spread},
    st.sampled_from((
        {"percent": "12.5"}, {"percent": "50"}, {"percent": "100"},
        {"amount_minor": 250, "currency": "EUR"}, {"amount_minor": 5000, "currency": "EUR"},
    )),
    st.sampled_from((
        {"duration": "once"}, {"duration": "periods", "periods": 2}, {"duration": "forever"},
    )),
    st.sampled_from(({}, {"spread": "line"}, {"spread": "invoice"})),
)  # fmt: skip

# --- what is asked for ----------------------------------------------------------------------------

quantities = st.sampled_from(("1", "2", "3", "4", "2.5"))
anchors = st.sampled_from(
    (
        {"kind": "anniversary"}, {"kind": "start_day"}, {"kind": "calendar"},
        {"kind": "day", "day": 15}, {"kind": "day", "day": 31},
    )
)  # fmt: skip
settles = st.sampled_from(("auto", "auto", "now", "next_invoice"))
numbers = st.integers(0, 11)


def mostly(value: Any, *others: Any, times: int = 3) -> st.SearchStrategy[Any]:
    return st.sampled_from((value,) * times + others)


purchases = st.fixed_dictionaries({
    "plan": numbers,
    "quantity": quantities,
    "trial_days": mostly(None, 3, 10, times=5),
    "start_days": mostly(None, -40, 4, times=5),
    "billing_anchor": mostly(None, {"kind": "calendar"}, {"kind": "day", "day": 15}),
    "first_period": mostly("prorated", "full", "free"),
    "proration": st.sampled_from(("day", "second")),
    "discounts": st.sampled_from(((), (), (0,), (0, 1))),
    "declines": mostly(False, True, times=4),
})  # fmt: skip

changes = st.fixed_dictionaries({
    "plan": mostly(None, 0, 1, 2),
    "quantity": st.none() | quantities,
    # A moment in hours from now, or in words.
    "at": mostly(None, "period_end", "period_end", -24 * 2, -24 * 20, 24 * 5, times=8),
    "settle": settles,
})  # fmt: skip
reanchors = st.fixed_dictionaries(
    {"billing_anchor": anchors, "when": st.sampled_from(("now", "period_end"))}
)
pauses = st.fixed_dictionaries({
    "at": mostly("now", "period_end", 24 * 4),
    "credit": st.sampled_from(("none", "credit", "extend")),
    "resume_days": mostly(None, 12, 40),
})  # fmt: skip
resumes = st.fixed_dictionaries({"at": mostly("now", 24 * 6)})
cancels = st.fixed_dictionaries({
    "when": st.sampled_from(("now", "period_end", 24 * 8)), "credit_unused": st.booleans(),
})  # fmt: skip
notes = st.fixed_dictionaries(
    {"invoice": numbers, "line": st.none() | numbers, "share": st.integers(1, 4)}
)
uses = st.fixed_dictionaries({"price": numbers, "quantity": st.sampled_from(("0", "7", "2.5"))})
by_number = st.fixed_dictionaries({"invoice": numbers})
nothing = st.just({})

ORDERS: dict[str, tuple[int, st.SearchStrategy[Data]]] = {
    "change": (10, changes),
    "reanchor": (2, reanchors),
    "pause": (3, pauses),
    "resume": (1, resumes),
    "cancel": (2, cancels),
    "buy": (2, purchases),
    "note": (3, notes),
    "use": (2, uses),
    "reissue": (3, by_number),
    "reactivate": (1, nothing),
    "undo": (1, nothing),
}
orders = st.sampled_from([name for name, (weight, _) in ORDERS.items() for _ in range(weight)])


@st.composite
def an_order(draw: Any) -> Order:
    name = draw(orders)
    return Order(name, draw(ORDERS[name][1]))


migrations = st.fixed_dictionaries({
    "plan": numbers, "prices": plans(), "at": st.sampled_from(("now", "period_end")),
    "settle": settles,
})  # fmt: skip


def examples(*, people: int, rounds: int) -> st.SearchStrategy[Example]:
    """A shop of three plans with so many customers, each with one order a round."""
    return st.builds(
        Example,
        start=st.sampled_from(STARTS),
        rounding=st.sampled_from(ROUNDINGS),
        taxes=st.sampled_from(TAXES),
        plans=st.tuples(plans(), plans(), plans()),
        discounts=st.tuples(discounts, discounts),
        zones=st.tuples(*(st.sampled_from(ZONES) for _ in range(people))),
        purchases=st.tuples(*(purchases for _ in range(people))),
        rounds=st.tuples(
            *(
                st.builds(
                    Round,
                    st.tuples(*(an_order() for _ in range(people))),
                    st.none() | st.none() | migrations,
                    st.sampled_from(HOURS),
                )
                for _ in range(rounds)
            )
        ),
    )
