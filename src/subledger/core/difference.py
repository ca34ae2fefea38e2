"""The difference of two sets of lines: what should be billed, less what is.

Nothing for what is billed right. A charge that ends earlier than it was billed for is credited for
the rest of its time; one that is wrong otherwise is credited whole and billed anew; one that should
not be there is credited. What stands is the sum of a charge and its credits, so that the result
does not depend on the order of the lines, and nothing is credited twice.

Right means amount and discount. The tax of what stands stays as it was billed, whatever today's
rate: a credit gives back the stored tax (Directive 2006/112/EC, article 90: a price that is reduced
later reduces the taxable amount of the original supply), a new charge bears the rates of its day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from subledger.core.noted import capped
from subledger.core.tax import StoredTax, credit_tax
from subledger.core.timeline import Line

ENGINE_VERSION = 4

_Amounts = tuple[int, int]


def difference(intended: Iterable[Line], billed: Iterable[Line]) -> list[Line]:
    """The lines that make ``billed`` into ``intended``. Intended lines have different keys
    (AssertionError: the second of two would be billed again and again)."""
    intended, billed = tuple(intended), tuple(billed)
    assert len({line.key for line in intended}) == len(intended), "one line per price and moment"
    existing: dict[tuple[str, datetime], list[Line]] = {}
    for line in billed:
        existing.setdefault(line.key, []).append(line)
    result = []
    for line in intended:
        found = existing.pop(line.key, [])
        if found and _amounts(found) == _amounts([line]):
            continue
        if _is_shorter(line, found):
            result.append(_unused(line, found))
        else:
            result += _credits(found)
            result.append(line)
    for key in sorted(existing):
        result += _credits(existing[key])
    return capped(result, billed)


def _amounts(lines: Sequence[Line]) -> _Amounts:
    """Gross and discount of lines together (minor units)."""
    return sum(each.gross_minor for each in lines), sum(each.discount_minor for each in lines)


def _is_shorter(line: Line, found: Sequence[Line]) -> bool:
    """True if the line differs from what was billed only by an earlier end, and costs no more."""
    charges = [each for each in found if each.kind == "charge"]
    if not charges or {each.quantity for each in charges} != {line.quantity}:
        return False
    (gross, discount), (less_gross, less_discount) = _amounts(found), _amounts([line])
    return (
        line.service_end_at < _stands_until(found)
        and 0 <= discount - less_discount <= gross - less_gross
    )


def _unused(line: Line, found: Sequence[Line]) -> Line:
    """The credit for the time after the line's end that was billed."""
    charged_until = _stands_until(found)
    credited_from = [
        each.service_start_at
        for each in found
        if each.kind == "credit" and each.service_start_at > line.service_end_at
    ]
    (gross, discount), (less_gross, less_discount) = _amounts(found), _amounts([line])
    discounts = discounts_of(found)
    for name, minor in discounts_of([line]).items():
        discounts[name] = discounts.get(name, 0) - minor
    amounts = (gross - less_gross, discount - less_discount)
    return _credit(
        found,
        amounts=amounts,
        discounts=discounts,
        taxes=_unused_taxes(found, amounts[0] - amounts[1]),
        quantity=line.quantity,
        start_at=line.service_end_at,
        end_at=min(credited_from, default=charged_until),
    )


def _credits(lines: Sequence[Line]) -> list[Line]:
    """Take back what these lines (charges and earlier credits of one key) leave billed."""
    if not lines:
        return []
    amounts, taxes = _amounts(lines), _standing_taxes(lines)
    if amounts == (0, 0) and not any(each["tax_minor"] for each in taxes):
        return []
    return [
        _credit(
            lines,
            amounts=amounts,
            discounts=discounts_of(lines),
            taxes=[{**each, "tax_minor": -each["tax_minor"]} for each in taxes],
            quantity=max(each.quantity for each in lines),
            start_at=lines[0].charged_from_at,
            end_at=_stands_until(lines),
        )
    ]


def _stands_until(lines: Sequence[Line]) -> datetime:
    """Where the time ends that these lines (of one key) leave charged: of two charges from one
    moment, the first taken back, it is the second's end. All of it, if nothing stands."""
    steps: dict[datetime, int] = {}
    for each in lines:
        sign = -1 if each.kind == "credit" else 1
        steps[each.service_start_at] = steps.get(each.service_start_at, 0) + sign
        steps[each.service_end_at] = steps.get(each.service_end_at, 0) - sign
    depth, found = 0, None
    for at in sorted(steps):
        if depth > 0:
            found = at
        depth += steps[at]
    return found or max(each.service_end_at for each in lines)


def discounts_of(lines: Iterable[Line]) -> dict[str, int]:
    """Discount id → what it took off these lines, less what their credits gave back of it."""
    found: dict[str, int] = {}
    for line in lines:
        for step in line.derivation.get("discounts", ()):
            if minor := step.get("amount_minor"):
                name = step["discount_id"]
                found[name] = found.get(name, 0) + minor
    return found


def _standing_taxes(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """Each rate with the tax that these lines leave billed at it, in the order of its id; rates
    that nothing is left of are left out."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        for tax in line.derivation.get("taxes", ()):
            known = found.setdefault(
                tax["rate_id"],
                {"rate_id": tax["rate_id"], "percent": tax["percent"],
                 "compound": tax["compound"], "tax_minor": 0},
            )  # fmt: skip
            known["tax_minor"] += tax["tax_minor"]
    return [found[name] for name in sorted(found) if found[name]["tax_minor"]]


def _unused_taxes(lines: Sequence[Line], credited_minor: int) -> list[dict[str, Any]]:
    """The taxes of crediting a part of what these lines leave billed, each in proportion."""
    charges = [each for each in lines if each.kind == "charge"]
    stands = sum(each.gross_minor - each.discount_minor for each in lines)
    result = []
    for tax in _standing_taxes(lines):
        original = StoredTax(stands, tax["tax_minor"], Fraction(0))
        before, before_tax = 0, 0
        if len(charges) == 1:
            (charge,) = charges
            (stored,) = [
                each for each in charge.derivation["taxes"] if each["rate_id"] == tax["rate_id"]
            ]
            amount = charge.gross_minor - charge.discount_minor
            original = StoredTax(amount, stored["tax_minor"], Fraction(stored["residue"]))
            before, before_tax = amount - stands, stored["tax_minor"] - tax["tax_minor"]
        given = credit_tax(
            original,
            credited_minor=credited_minor,
            already_credited_minor=before,
            already_credited_tax_minor=before_tax,
        )
        result.append({**tax, "tax_minor": -given.tax_minor, "credit": given.derivation})
    return result


def _reversed(base_minor: int, discounts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Discounts that are taken back, one after the other."""
    steps = []
    for name, minor in sorted(discounts.items()):
        if minor:
            steps.append({"discount_id": name, "kind": "reversed", "base_minor": base_minor,
                          "amount_minor": -minor})  # fmt: skip
            base_minor += minor
    return steps


def _credit(
    of: Sequence[Line],
    *,
    amounts: _Amounts,
    discounts: Mapping[str, int],
    taxes: Sequence[Mapping[str, Any]],
    quantity: Decimal,
    start_at: datetime,
    end_at: datetime,
) -> Line:
    gross, discount = amounts
    tax = sum(each["tax_minor"] for each in taxes)
    included = tax if any(each.tax_included_minor for each in of) else 0
    first = of[0]
    rate = sum((Decimal(each["percent"]) for each in taxes), Decimal(0))
    derivation: dict[str, Any] = {
        "engine": ENGINE_VERSION,
        "steps": [],
        "exact": str(-gross),
        "fraction": "1",
        "rounding": "half_up",
        "residue": "0",
        "gross_minor": -gross,
        "discounts": _reversed(-gross, discounts),
        "taxes": list(taxes),
        "tax_included_minor": included,
        "tax_minor": tax,
        "net_minor": discount - gross - included,
    }
    for name in ("due_at", "tax"):
        if name in first.derivation:
            derivation[name] = first.derivation[name]
    return Line(
        kind="credit",
        price_id=first.price_id,
        charged_from_at=first.charged_from_at,
        service_start_at=start_at,
        service_end_at=end_at,
        quantity=quantity,
        gross_minor=-gross,
        discount_minor=-discount,
        net_minor=discount - gross - included,
        tax_minor=tax,
        tax_included_minor=included,
        tax_rate=rate,
        derivation=derivation,
    )
