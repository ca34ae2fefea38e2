"""Discounts' rows, names and settings without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from subledger.core.calendar import Interval, Unit
from subledger.core.discounts import Discount, Duration, Exclusive, Kind, Order, Spread
from subledger.core.money import Money
from subledger.core.pricing import Flat
from subledger.core.promotions import Reason
from subledger.core.timeline import Timing
from subledger.platform import ids
from subledger.services.billing.refusals import REFUSALS, UNKNOWN
from subledger.services.billing.terms import PlanTerms, PriceTerms
from subledger.services.billing.texts import say
from subledger.services.billing.usecases.attachments import next_period_from
from subledger.services.billing.usecases.discounts import (
    Stacking,
    Stackings,
    discount_of,
    line_names,
    misfit,
    to_terms,
)

AT = datetime(2026, 1, 31, 10, tzinfo=UTC)
DAY = timedelta(days=1)
NEW = ids.Ids()
PERCENT = Discount("d", Kind.PERCENT, Decimal("12.5"), None, None, Duration.FOREVER, None)
FIXED = Discount("d", Kind.FIXED, None, 500, "EUR", Duration.ONCE, None)


def row(discount: Discount, **columns: Any) -> Any:
    return SimpleNamespace(
        id=discount.id,
        kind=discount.kind.value,
        percent=discount.percent,
        amount_minor=discount.amount_minor,
        currency=discount.currency,
        duration=discount.duration.value,
        periods=discount.periods,
        terms=msgspec.json.encode(to_terms(discount)).decode(),
        **({"archived_at": None} | columns),
    )


@pytest.mark.parametrize(
    "discount",
    [
        PERCENT,
        FIXED,
        replace(PERCENT, duration=Duration.PERIODS, periods=3, months=2, until=AT),
        replace(PERCENT, applies_to=frozenset({"plan:a", "price:b"}), spread=Spread.INVOICE),
        replace(PERCENT, exclusive=True, caps=(Money(5, "EUR"), Money(10**15, "JPY"))),
        replace(PERCENT, caps=(Money(5, "EUR"),), cap_for_life=True),
        replace(FIXED, carried=True),
        replace(FIXED, prorated=True, other_amounts=(Money(7, "USD"),), spread=Spread.LINE),
        Discount(
            "d", Kind.FREE_UNITS, None, None, None, Duration.FOREVER, None,
            applies_to=frozenset({"price:a"}), free_units=Decimal("0.000000000001"),
        ),
    ],
)  # fmt: skip
def test_a_discount_is_stored_and_read_as_it_was(discount: Discount) -> None:
    assert discount_of(row(discount)) == discount


def test_a_row_older_than_the_options_is_read() -> None:
    old = row(PERCENT)
    old.terms = "{}"
    assert discount_of(old) == PERCENT
    assert to_terms(PERCENT) == {}


@pytest.mark.parametrize(
    ("discount", "columns", "currency", "reason"),
    [
        (PERCENT, {}, "USD", None),
        (PERCENT, {"archived_at": AT}, "USD", "inactive"),
        (FIXED, {}, "EUR", None),
        (FIXED, {}, "USD", "other_currency"),
        (replace(FIXED, other_amounts=(Money(7, "USD"),)), {}, "USD", None),
        (replace(PERCENT, caps=(Money(7, "USD"),)), {}, "USD", None),
        (replace(PERCENT, caps=(Money(7, "USD"),)), {}, "EUR", "other_currency"),
        (replace(PERCENT, until=AT), {}, "EUR", "expired"),
        (replace(PERCENT, until=AT + DAY), {}, "EUR", None),
    ],
)
def test_whom_a_discount_fits(
    discount: Discount, columns: Any, currency: str, reason: str | None
) -> None:
    found = misfit(row(discount, **columns), currency=currency, at=AT)
    assert (None if found is None else found[0]) == reason
    assert found is None or all(found)


def test_a_line_goes_by_its_ids_and_its_codes_with_their_kind() -> None:
    one, two, three, four, five = [NEW.new() for _ in range(5)]
    price = PriceTerms(
        one, "basic", "EUR", Flat(1), Interval(Unit.MONTH), Timing.ADVANCE,
        metered=False, tax_inclusive=False,
    )  # fmt: skip
    terms = PlanTerms(
        tenant_id=five,
        plan_version_id=four,
        plan_id=two,
        product_id=three,
        grace_s=0,
        trial_days=0,
        trial_requires_payment_method=False,
        grace_at_start=False,
        prices=(price,),
        plan_code="basic",
        product_code="basic",
    )
    assert line_names(terms, price) == {
        ids.text("price", one), ids.text("plan", two), ids.text("prod", three),
        "price:basic", "plan:basic", "product:basic",
    }  # fmt: skip


def test_a_period_keeps_the_settings_of_its_start() -> None:
    attached, first = Stacking(Order.AS_ATTACHED), Stacking(exclusive=Exclusive.FIRST)
    known = Stackings(((AT, attached), (AT + DAY, first)))
    assert known.at(AT - timedelta(microseconds=1)) == Stacking()
    assert known.at(AT) == attached
    assert known.at(AT + DAY) == known.at(AT + 400 * DAY) == known.latest == first
    assert Stackings().at(AT) == Stackings().latest == Stacking()


def test_the_next_period_is_none_that_began_and_none_after_the_next() -> None:
    span: Any = SimpleNamespace(current_period_start_at=AT, current_period_end_at=AT + 28 * DAY)
    tick = timedelta(microseconds=1)
    assert next_period_from(span, AT) == AT + tick
    assert next_period_from(span, AT + DAY) == AT + DAY
    # The renewal is due already and has not run yet: its period is the next.
    assert next_period_from(span, AT + 30 * DAY) == AT + 28 * DAY


def test_every_reason_has_words_in_both_languages() -> None:
    assert set(REFUSALS) == {UNKNOWN, *Reason}
    for text in REFUSALS.values():
        assert say(text, "en") == text
        assert say(text, "ru") != text
