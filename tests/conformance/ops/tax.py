"""Taxes: the file names no operation, so the shape of a case says what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from subledger.core import discounts
from subledger.core.discounts import Discount, Duration, Kind
from subledger.core.money import exponent, format_minor, round_half_up
from subledger.core.tax import (
    Buyer,
    Place,
    Rate,
    RateTable,
    Rounding,
    Seller,
    TaxLine,
    compute,
    decide,
)
from tests.conformance.case import Answer, Case, Operation, Unsupported

BY_SOURCE = {
    "lago": Rounding.PER_DOCUMENT,
    "meteroid": Rounding.PER_LINE,
    "stripe": Rounding.PER_LINE,
    "wafeq": Rounding.PER_LINE,
}
OF_GROSS = "percentage of the gross"
NOWHERE = "US"  # a country without a rule: only the rates of the case hold
AT = date(2026, 1, 1)


def document(case: Case) -> Answer:
    """Coupons off the lines, each line's decision, and the taxes."""
    given = case.given
    if not isinstance(given.get("lines"), list):
        raise Unsupported("the case tells its lines or their rates in words only")
    lines = given["lines"]
    amounts = _after_coupons(given, [line["amount_minor"] for line in lines])
    taxed = compute(
        [
            TaxLine(
                amount,
                _rates(given, line),
                inclusive=bool(line.get("tax_inclusive")),
                of_gross=line.get("mode") == OF_GROSS,
            )
            for line, amount in zip(lines, amounts, strict=True)
        ],
        rounding=BY_SOURCE.get(case.source, Rounding.PER_TAX),
    )
    by_tax = [
        {
            "tax_percent": each.rate.percent,
            "base_minor": each.base_minor,
            "tax_minor": each.tax_minor,
        }
        for each in taxed.totals
    ]
    return {
        "line_tax_minor": [line.tax_minor for line in taxed.lines],
        "net_minor": taxed.net_minor,
        "subtotal_minor": taxed.net_minor,
        "tax_minor": taxed.tax_minor,
        "total_minor": taxed.gross_minor,
        "by_tax": _like(by_tax, case.expect.get("by_tax", ())),
        "by_tax_minor": [each.tax_minor for each in taxed.totals],
        "groups": len(taxed.totals),
        "average_rate": taxed.average_percent,
    }


def _rates(given: Mapping[str, Any], line: Mapping[str, Any]) -> tuple[Rate, ...]:
    """What the core decides for the line, from the case's parties and percentages."""
    seller = _place(given.get("seller", NOWHERE))
    buyer = _place(given.get("buyer", given.get("customer_country", seller.country)))
    decision = decide(
        Seller(seller),
        Buyer(
            buyer,
            vat_id_valid="business" in given.get("buyer", ""),
            exempt_reason="exempt" if given.get("customer_exempt") else None,
            rates=_each(given.get("customer_tax_percent"), buyer),
        ),
        category=None,
        at=AT,
        rules=RateTable(()),
        line_rates=_each(line.get("tax_percents", line.get("tax_percent")), buyer),
    )
    return decision.rates


def _each(percents: Any, place: Place) -> tuple[Rate, ...]:
    if percents is None:
        return ()
    listed = percents if isinstance(percents, list) else [percents]
    return tuple(Rate(each, Decimal(each), f"{each} %", place) for each in listed)


def _place(text: str | None) -> Place:
    """``DE business`` lies in DE; no country is for the core to refuse."""
    return Place(text.split()[0] if text else "")


def _after_coupons(given: Mapping[str, Any], amounts: Sequence[int]) -> Sequence[int]:
    coupons = given.get("coupons", ())
    if not coupons:
        return amounts
    currency = given.get("currency", "EUR")
    applied = discounts.apply(
        [_discount(n, each, currency) for n, each in enumerate(coupons)], amounts, currency=currency
    )
    return [a - taken for a, taken in zip(amounts, applied.by_line_minor, strict=True)]


def _discount(number: int, coupon: Mapping[str, Any], currency: str) -> Discount:
    name, value = f"coupon {number}", coupon["value"]
    if coupon["type"] == "fixed":
        return Discount(name, Kind.FIXED, None, value, currency, Duration.ONCE, None)
    return Discount(name, Kind.PERCENT, Decimal(value), None, None, Duration.ONCE, None)


def _like(rows: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The rows with the columns that the case shows."""
    columns = set().union(*wanted) if wanted else set()
    return [{key: row[key] for key in row if key in columns} for row in rows]


def rounded(case: Case) -> Answer:
    """Amounts in whole units of the currency (dollars where the case names none)."""
    currency = case.given.get("currency", "USD")
    scale = 10 ** exponent(currency)
    return {
        "rounded": [
            format_minor(round_half_up(Fraction(value) * scale), currency)
            for value in case.given["values"]
        ]
    }


OPERATIONS: dict[str, Operation] = {"": document, "round": rounded}
