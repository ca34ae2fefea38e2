"""Cases of discounts and coupons. They name no operation: the shape of ``given`` tells what is
asked."""

from __future__ import annotations

import calendar as names
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from subledger.core import discounts, ledger, promotions, states
from subledger.core.calendar import Anchor, Interval, Unit, boundary
from subledger.core.discount_parts import portion
from subledger.core.discounts import (
    UNUSED,
    Discount,
    Duration,
    Kind,
    Order,
    Running,
    Split,
    Taken,
    Target,
    Usage,
)
from subledger.core.errors import InvalidPromotion
from subledger.core.invoicing import draft
from subledger.core.money import exponent, round_half_up
from subledger.core.pricing import Flat
from subledger.core.promotions import Promotion, Situation
from subledger.core.timeline import Item, Phase, Timeline
from tests.conformance.case import Answer, Case, Operation, Unsupported

AT = datetime(2026, 1, 1, tzinfo=UTC)
Given = Mapping[str, Any]


def running(
    coupon: Given, n: int, currency: str, *, carried: bool = False, unit: int = 1
) -> list[Running]:
    """A coupon of any source; none for one that is worth nothing. ``unit`` is how many parts of a
    minor unit the case counts in."""
    value = Decimal(str(coupon.get("value", 10)))
    if value == 0:
        return []
    kind = Kind(coupon.get("type", "percent"))
    periods = coupon.get("cycles") or coupon.get("duration") if _counted(coupon) else None
    once = "once" in (coupon.get("frequency"), coupon.get("duration"))
    duration = Duration.ONCE if once else Duration.PERIODS if periods else Duration.FOREVER
    fixed = kind is Kind.FIXED
    scope = (*coupon.get("only_plans", ()), *coupon.get("only_products", ()))
    discount = Discount(
        id=str(n),
        kind=kind,
        percent=None if fixed else value,
        amount_minor=int(value) * unit if fixed else None,
        currency=coupon.get("currency", currency) if fixed else None,
        duration=duration,
        periods=periods,
        months=coupon.get("months"),
        applies_to=frozenset((*scope, *_touched(coupon))),
        carried=carried and fixed and once,
    )
    used = periods - coupon.get("remaining", periods) if periods else 0
    return [Running(discount, Usage(used, coupon.get("already_used_minor", 0) * unit))]


def _counted(coupon: Given) -> bool:
    return "cycles" in coupon or coupon.get("frequency") == "recurring"


def _touched(coupon: Given) -> list[str]:
    """``fees 5-8`` names the lines 5 to 8."""
    touches = str(coupon.get("touches", "all"))
    if touches == "all":
        return []
    first, _, last = touches.removeprefix("fees ").removeprefix("fee ").partition("-")
    return [f"line {n}" for n in range(int(first), int(last or first) + 1)]


def _order(case: Case) -> Order:
    return Order.AS_ATTACHED if case.source == "lago" else Order.PERCENT_FIRST


def _split(case: Case) -> Split:
    if "fees" in case.given:
        return Split.EACH
    return Split.LAST_LINE if case.source == "meteroid" else Split.LARGEST_REMAINDER


def _take(case: Case, lines: Sequence[int], *, unit: int = 1) -> tuple[Taken, list[Running]]:
    given = case.given
    currency = given.get("currency", "EUR")
    exponent(currency)
    coupons = given["coupons"] if "coupons" in given else [given.get("coupon") or given["discount"]]
    attached = [
        each
        for n, coupon in enumerate(coupons)
        for each in running(coupon, n, currency, carried=case.source == "lago", unit=unit)
    ]
    plan = [given["plan"]] if isinstance(given.get("plan"), str) else []
    targets = [
        Target(gross * unit, frozenset((*plan, f"line {n}"))) for n, gross in enumerate(lines, 1)
    ]
    taken = discounts.take(
        attached, targets, currency=currency, at=AT, order=_order(case), split=_split(case)
    )
    return taken, attached


def subtotal(case: Case) -> Answer:
    """One amount, one or more coupons."""
    given = case.given
    gross = given["subtotal_minor"] if "subtotal_minor" in given else given["amount_minor"]
    taken, _ = _take(case, [gross])
    return {
        "discounts_minor": [minor for _, minor in taken.by_discount],
        "total_discount_minor": taken.total_minor,
        "discount_minor": taken.total_minor,
        "total_after_minor": gross - taken.total_minor,
        "final_minor": gross - taken.total_minor,
    }


def lines(case: Case) -> Answer:
    """An amount or percentage over lines."""
    given = case.given
    if "discount_minor" in given:
        coupon = {"type": "fixed", "value": given["discount_minor"]}
        case = replace(case, given={**given, "discount": coupon})
    taken, _ = _take(case, given["lines_minor"])
    after = [
        gross - minor
        for gross, minor in zip(given["lines_minor"], taken.by_line_minor, strict=True)
    ]
    return {
        "per_line_minor": taken.by_line_minor,
        "total_minor": taken.total_minor,
        "on_total_minor": taken.total_minor,
        "lines_after_minor": after,
    }


def applied_coupon(case: Case) -> Answer:
    """Lago's applied coupon: what it gives to an invoice and what it is afterwards."""
    given = case.given
    if given.get("already_on_this_invoice"):
        return _billed_again(given)
    taken, attached = _take(case, given["fees_minor"])
    usage = taken.usage.get("0", attached[0].usage)
    discount = attached[0].discount
    running_on = discounts.runs(discount, usage, at=AT)
    answer = {
        "discount_minor": taken.total_minor,
        "per_fee_minor": taken.by_line_minor,
        "coupon_state": "active" if running_on else "terminated",
    }
    if discount.periods:
        answer["remaining"] = discount.periods - usage.periods
    if discount.carried:
        answer["remaining_minor"] = (discount.amount_minor or 0) - usage.taken_minor
    return answer


def _billed_again(given: Given) -> Answer:
    """The same invoice drafted twice: the second time it takes nothing more."""
    coupon = [each.discount for each in running(given["coupon"], 0, "EUR")]
    timeline = _timeline([(f"fee{n}", fee) for n, fee in enumerate(given["fees_minor"])], coupon)
    first = draft(timeline, first_period=0, horizon_at=AT)
    second = draft(timeline, first_period=0, horizon_at=AT, billed=first.lines)
    return {"new_credits": sum(len(line.derivation["discounts"]) for line in second.lines)}


def _timeline(
    fees: Sequence[tuple[str, int]], given: Sequence[Discount], currency: str = "EUR"
) -> Timeline:
    return Timeline(
        anchor=Anchor(AT, "UTC"),
        interval=Interval(Unit.MONTH),
        currency=currency,
        phases=(Phase(AT, tuple(Item(name, Flat(minor), Decimal(1)) for name, minor in fees)),),
        attached=tuple(map(Running, given)),
    )


PRECISION = 10**5
"""Lago keeps shares of coupons to five decimals of a minor unit: here that is the unit counted in.
Only their sum is rounded to minor units."""


def breakdown(case: Case) -> Answer:
    """Coupons over some of the fees, to five decimals."""
    fees = [fee["amount_minor"] for fee in case.given["fees"]]
    taken, _ = _take(case, fees, unit=PRECISION)
    total = round_half_up(Fraction(taken.total_minor, PRECISION))
    return {
        "per_fee_discount_minor_precise": [Fraction(n, PRECISION) for n in taken.by_line_minor],
        "total_discount_minor": total,
        "subtotal_after_minor": sum(fees) - total,
    }


def subscription(case: Case) -> Answer:
    """A subscription with coupons: its invoices, cycle after cycle."""
    given, plan = case.given, case.given["plan"]
    currency = plan.get("currency", "EUR")
    found = [
        each.discount
        for n, coupon in enumerate(given["coupons"])
        for each in running(coupon, n, currency)
    ]
    timeline = _timeline([("plan", plan["amount_minor"])], found, currency)
    cycles = [each["cycle"] for each in case.expect.get("invoices", [{"cycle": 0}])]
    usage: dict[str, Usage] = {}
    invoices = []
    for cycle in range(max(cycles) + 1):
        attached = tuple(Running(each, usage.get(each.id, UNUSED)) for each in found)
        billed = draft(
            replace(timeline, attached=attached),
            first_period=cycle,
            horizon_at=boundary(timeline.anchor, timeline.interval, cycle),
        )
        usage |= billed.usage
        invoices.append(billed)
    first = invoices[0]
    return {
        "subtotal_minor": first.subtotal_minor,
        "discount_minor": first.discount_minor,
        "total_minor": first.total_minor,
        "invoices": [{"cycle": n, "total_minor": invoices[n].total_minor} for n in cycles],
        **_settled(first.total_minor, currency, paid_trial=plan.get("trial") == "paid"),
    }


def _settled(total_minor: int, currency: str, *, paid_trial: bool) -> dict[str, Any]:
    """What is not owed is not collected, and the subscription is paid for. Meteroid has its own
    word for an active subscription in a trial that is paid for."""
    owed = ledger.finalized(customer="c", net_minor=total_minor, tax_minor=0, currency=currency)
    state = "incomplete" if owed else states.step(states.SUBSCRIPTION, "incomplete", "paid")
    if paid_trial and state == "active":
        state = "trial_active"
    return {"payment_attempts": len(owed), "subscription_state": state}


PROMOTION = Promotion("conformance", "0")
SITUATION = Situation(AT, "mia", "this", "EUR", 1_000)


def attempt(case: Case) -> Answer:
    """An attempt to use a code, told in words."""
    told = case.given["attempt"]
    promotion, situation = PROMOTION, SITUATION
    for word, limits, facts in (
        ("expired", {"valid_until": AT}, {}),
        ("not yet", {"valid_from": AT + timedelta(days=1)}, {}),
        ("archived", {"active": False}, {}),
        ("disabled", {"active": False}, {}),
        ("limited to another plan", {"plans": frozenset({"other"})}, {}),
        ("third use", {"most_redemptions": 2}, {"redemptions": 2}),
        (
            "non-reusable",
            {"most_per_customer": 1},
            {"redemptions": 1, "redemptions_by_customer": 0 if "another customer" in told else 1},
        ),
    ):
        if word in told:
            promotion = replace(promotion, **limits)
            situation = replace(situation, **facts)
    if promotion == PROMOTION:
        raise Unsupported(f"no limit for {told!r}")
    return {"error": "rejected when attached"} if _refused(promotion, situation) else ALLOWED


ALLOWED = {"allowed": True}


def _refused(promotion: Promotion, situation: Situation) -> bool:
    try:
        promotions.check(promotion, situation)
    except InvalidPromotion:
        return True
    return False


def redemptions(case: Case) -> Answer:
    """How often a code counts as redeemed."""
    given = case.given
    if "one_off_invoices" in given:
        promotion = replace(PROMOTION, most_redemptions=given["coupon"]["max_redemptions"])
        counts: list[int] = []
        count = 0
        for _ in range(given["one_off_invoices"]):
            refused = _refused(promotion, replace(SITUATION, redemptions=count))
            count += not refused
            counts.append(count)
        return {"redemptions": counts, "third_discounted": not refused}
    if "on a line and on the invoice" not in given["coupon"]:
        raise Unsupported("a coupon told in words")
    on_line, on_invoice = running({"touches": "fees 1"}, 0, "EUR") + running({}, 1, "EUR")
    taken = discounts.take(
        [on_line, on_invoice], [Target(1_000, frozenset({"line 1"}))], currency="EUR", at=AT
    )
    used = [name for name, _ in taken.by_discount]
    return {"redemptions": len(promotions.redeemed({"0": "code", "1": "code"}, used))}


def duration(case: Case) -> Answer:
    """For which periods a discount runs."""
    given = case.given
    coupon = dict(given["discount"])
    first_at = _midnight(given.get("first_applied", "2026-01-01"))
    (start,) = running(coupon, 0, "EUR")
    used = start.usage.after(1, first_at)

    def runs(usage: Usage, at: datetime) -> bool:
        return discounts.runs(start.discount, usage, at=at)

    monthly = [boundary(Anchor(first_at, "UTC"), Interval(Unit.MONTH), n) for n in range(13)]
    return {
        "first_cycle": runs(UNUSED, first_at),
        "second_cycle": runs(used, monthly[1]),
        "after_365_days": runs(used, first_at + timedelta(days=365)),
        "at_boundary": {
            day: runs(used, _midnight(day)) for day in case.expect.get("at_boundary", {})
        },
        "covers": [names.month_name[at.month] for at in monthly if runs(used, at)],
    }


def _midnight(day: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), tzinfo=UTC)


Discounted = list[tuple[int, list[tuple[str, int]]]]
"""Lines with the discounts they carry."""


def _discounted(coupon: Given, gross: Sequence[int], name: str) -> Discounted:
    """Lines of one product with the coupon taken off."""
    targets = [Target(minor, frozenset({name})) for minor in gross]
    taken = discounts.take(running(coupon, 0, "EUR"), targets, currency="EUR", at=AT)
    return [
        (minor, [(step["discount_id"], step["amount_minor"]) for step in steps])
        for minor, steps in zip(gross, taken.steps, strict=True)
    ]


def _net(found: Discounted) -> list[int]:
    return [portion(gross, carried, Fraction(1)).net_minor for gross, carried in found]


def _rest(found: Discounted, part: Fraction) -> list[int]:
    return [portion(gross, carried, part).net_minor for gross, carried in found]


def _carried(found: Discounted) -> list[int]:
    return [portion(gross, carried, Fraction(1)).discount_minor for gross, carried in found]


def changed_product(case: Case) -> Answer:
    """The rest of a period: credit of the old lines, charge of the new ones."""
    given, part = case.given, Fraction(case.given["remaining_fraction"])
    many = "old_prices_minor" in given
    before = given["old_prices_minor"] if many else [given["old_minor"]]
    after = given["new_prices_minor"] if many else [given["new_minor"]]
    old = _discounted(given["discount"], before, "old")
    new = _discounted(given["discount"], after, "new")
    if many:
        return {
            "old_discounted_minor": _net(old),
            "new_discounted_minor": _net(new),
            "credits_minor": _rest(old, part),
            "debits_minor": _rest(new, part),
        }
    return {
        "credit_minor": _rest(old, part)[0],
        "credit_discount_minor": _carried(old)[0],
        "debit_minor": _rest(new, part)[0],
        "debit_discount_minor": _carried(new)[0],
    }


def changed_seats(case: Case) -> Answer:
    """A fixed fee and seats: all lines of the rest of the period are credited and charged anew."""
    given, part = case.given, Fraction(case.given["remaining_fraction"])
    old, new = (
        _discounted(given["discount"], [given["fixed_minor"], given["seat_minor"] * seats], "plan")
        for seats in (given["old_seats"], given["new_seats"])
    )
    return {
        "seat_share_of_discount_minor": [_carried(old)[1], _carried(new)[1]],
        "debit_minor": sum(_rest(new, part)) - sum(_rest(old, part)),
    }


def proration_lines(case: Case) -> Answer:
    """Whether a discount of the invoice touches a proration line."""
    if case.given["rule"] != "proration lines":
        raise Unsupported(f"a rule in words: {case.given['rule']!r}")
    line = portion(1_000, [("0", 100)], Fraction(1, 2)).target()
    taken = discounts.take(running({}, 0, "EUR"), [line], currency="EUR", at=AT)
    return {"discountable": taken.total_minor > 0}


SHAPES: tuple[tuple[frozenset[str], Callable[[Case], Answer]], ...] = tuple(
    (frozenset(keys.split()), operation)
    for keys, operation in (
        ("attempt", attempt),
        ("rule", proration_lines),
        ("fees", breakdown),
        ("fees_minor", applied_coupon),
        ("lines_minor", lines),
        ("subtotal_minor", subtotal),
        ("amount_minor", subtotal),
        ("plan coupons", subscription),
        ("old_prices_minor", changed_product),
        ("old_minor", changed_product),
        ("old_seats", changed_seats),
        ("discount", duration),
        ("coupon", redemptions),
    )
)


def by_shape(case: Case) -> Answer:
    """The first shape whose keys are all given."""
    for keys, operation in SHAPES:
        if keys <= case.given.keys():
            return operation(case)
    raise Unsupported(f"no such shape: {sorted(case.given)}")


OPERATIONS: dict[str, Operation] = {"": by_shape}
