"""Promo codes: who may use them, and codes that nobody guesses."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.errors import InvalidPromotion, UnknownCurrency
from subledger.core.money import Money
from subledger.core.promotions import (
    CROCKFORD,
    Promotion,
    Reason,
    Situation,
    check,
    entropy_bytes,
    generate,
    normalize,
    redeemed,
    without_twins,
)

AT = datetime(2026, 1, 31, 10, tzinfo=UTC)
LATER = AT + timedelta(days=1)
PLAIN = Promotion("spring24", "disc")
BUYING = Situation(AT, "mia", "pro", "EUR", 1000)


def reason(promotion: Promotion, situation: Situation = BUYING) -> str | None:
    try:
        check(promotion, situation)
    except InvalidPromotion as refusal:
        return refusal.reason if refusal.detail and refusal.fix else "unexplained"
    return None


def test_a_code_without_limits_is_good_for_everyone():
    assert check(PLAIN, replace(BUYING, redemptions=10**9, purchases=5)) is None


REFUSED = [
    ({"active": False}, {}, "inactive"),
    ({"customer_id": "tom"}, {}, "not_yours"),
    ({"valid_from": LATER}, {}, "not_started"),
    ({"valid_until": AT}, {}, "expired"),
    ({"most_redemptions": 2}, {"redemptions": 2}, "used_up"),
    ({"most_per_customer": 1}, {"redemptions_by_customer": 1}, "used_by_customer"),
    ({"plans": frozenset({"basic"})}, {}, "other_plan"),
    ({"first_purchase_only": True}, {"purchases": 1}, "not_first_purchase"),
    ({"currencies": frozenset({"USD"})}, {}, "other_currency"),
    ({"minimum": (Money(1000, "USD"),)}, {}, "other_currency"),
    ({"minimum": (Money(1001, "EUR"),)}, {}, "below_minimum"),
]
ALLOWED = [
    ({"customer_id": "mia"}, {}),
    ({"valid_from": AT, "valid_until": LATER}, {}),
    ({"most_redemptions": 2}, {"redemptions": 1}),
    ({"most_per_customer": 1}, {"redemptions": 7, "redemptions_by_customer": 0}),
    ({"plans": frozenset({"basic", "pro"})}, {}),
    ({"first_purchase_only": True}, {}),
    ({"currencies": frozenset({"USD", "EUR"})}, {}),
    ({"minimum": (Money(1000, "EUR"), Money(5000, "USD"))}, {}),
]


@pytest.mark.parametrize(("limits", "facts", "wanted"), REFUSED)
def test_a_refusal_says_why(limits, facts, wanted):
    assert reason(replace(PLAIN, **limits), replace(BUYING, **facts)) == wanted


@pytest.mark.parametrize(("limits", "facts"), ALLOWED)
def test_limits_that_are_kept(limits, facts):
    assert reason(replace(PLAIN, **limits), replace(BUYING, **facts)) is None


def test_every_reason_is_told():
    assert {wanted for _, _, wanted in REFUSED} == set(Reason) - {Reason.MALFORMED}


@given(st.sets(st.integers(0, len(REFUSED) - 1), min_size=1))
def test_of_several_reasons_the_first_is_told(chosen):
    limits, facts = {}, {}
    for n in sorted(chosen, reverse=True):
        limits |= REFUSED[n][0]
        facts |= REFUSED[n][1]
    if "minimum" in limits:
        limits.pop("currencies", None)
    if limits.get("valid_from"):
        limits.pop("valid_until", None)
    told = reason(replace(PLAIN, **limits), replace(BUYING, **facts))
    order = list(Reason)
    wanted = [REFUSED[n][2] for n in chosen if REFUSED[n][0].keys() <= limits.keys()]
    assert order.index(Reason(told)) <= min(order.index(Reason(each)) for each in wanted)


@pytest.mark.parametrize(
    ("typed", "code"),
    [("SPRING24", "spring24"), (" Spring 24\n", "spring24"), ("a-1", "a-1"), ("x" * 64, "x" * 64)],
)
def test_codes_are_compared_in_one_form(typed, code):
    assert normalize(typed) == code
    assert normalize(code) == code


@pytest.mark.parametrize(
    "typed",
    ["", "ab", "a b", "x" * 65, "x" * 10**6, "grün", "\u212aelvin", "ſpring", "a_b", "a.b", "кот1",
     "abc\0", "１２３"],
)  # fmt: skip
def test_codes_that_are_none(typed):
    with pytest.raises(InvalidPromotion) as refused:
        normalize(typed)
    assert refused.value.reason == "malformed"


@pytest.mark.parametrize(
    "limits",
    [
        {"code": "Spring"}, {"most_redemptions": 0}, {"most_per_customer": -1},
        {"valid_from": LATER, "valid_until": AT}, {"valid_from": AT, "valid_until": AT},
        {"valid_until": datetime(2026, 1, 1)},
        {"minimum": (Money(-1, "EUR"),)}, {"minimum": (Money(1, "EUR"), Money(2, "EUR"))},
        {"minimum": (Money(1, "EUR"),), "currencies": frozenset({"USD"})},
        {"plans": frozenset(map(str, range(1001)))},
    ],
)  # fmt: skip
def test_promotions_that_nothing_can_meet(limits):
    with pytest.raises(InvalidPromotion) as refused:
        replace(PLAIN, **limits)
    assert refused.value.reason == "malformed"


def test_currencies_are_known():
    with pytest.raises(UnknownCurrency):
        replace(PLAIN, currencies=frozenset({"eur"}))


def test_a_code_counts_once_for_an_invoice():
    codes = {"line": "spring24", "invoice": "spring24", "other": "vip"}
    assert redeemed(codes, ["invoice", "line", "own", "other"]) == ("spring24", "vip")


# Codes in bulk


def noise(n: int, seed: int = 0) -> bytes:
    return hashlib.shake_256(seed.to_bytes(8, "big")).digest(n)


def test_a_hundred_thousand_codes_at_once():
    codes = generate(noise(entropy_bytes(100_000)), 100_000)
    assert len(set(codes)) == 100_000
    assert all(len(code) == 12 and set(code) <= set(CROCKFORD) for code in codes)
    assert set("".join(codes)) == set(CROCKFORD)


@given(st.integers(1, 50), st.integers(8, 40), st.sampled_from(["", "Spring 26", "v-2"]),
       st.integers(0, 10**6))  # fmt: skip
def test_generated_codes_are_normalized_and_depend_on_the_bytes_alone(n, length, prefix, seed):
    entropy = noise(entropy_bytes(n, length=length), seed)
    codes = generate(entropy, n, length=length, prefix=prefix)
    assert len(set(codes)) == n
    assert codes == generate(entropy, n, length=length, prefix=prefix)
    for code in codes:
        assert normalize(code.upper()) == code
        assert without_twins(code) == code
        assert code.startswith(normalize(prefix) + "-" if prefix else "")


def test_codes_in_use_are_left_out():
    entropy = noise(entropy_bytes(10))
    first = generate(entropy, 5)
    assert set(generate(entropy, 10, taken=frozenset(first))).isdisjoint(first)


def test_a_mistyped_look_alike_is_found():
    assert without_twins("spring-o1il0") == "spring-01110"


@pytest.mark.parametrize(
    ("entropy", "n", "options"),
    [
        (bytes(10**4), 2, {}),  # the same bytes again and again
        (b"", 1, {}),
        (noise(100), 0, {}), (noise(100), 100_001, {}),
        (noise(100), 1, {"length": 6}), (noise(10**6), 100_000, {"length": 9}),
        (noise(100), 1, {"length": 65}), (noise(100), 1, {"length": 12, "prefix": "x" * 52}),
        (noise(100), 1, {"prefix": "Ü-fest"}),
    ],
)  # fmt: skip
def test_bulks_that_are_refused(entropy, n, options):
    with pytest.raises(InvalidPromotion):
        generate(entropy, n, **options)
