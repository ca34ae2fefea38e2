"""The difference of two sets of lines: what should be billed, less what is.

Nothing for what is billed right. A charge that ends earlier than it was billed for is credited for
the rest of its time; one that is wrong otherwise is credited whole and billed anew; one that should
not be there is credited. What stands is the sum of a charge and its credits, so that the result
does not depend on the order of the lines, and nothing is credited twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from subledger.core.timeline import Line

ENGINE_VERSION = 2

_Amounts = tuple[int, int, int]


def difference(intended: Iterable[Line], billed: Iterable[Line]) -> list[Line]:
    """The lines that make ``billed`` into ``intended``. Intended lines have different keys
    (AssertionError: the second of two would be billed again and again)."""
    intended = tuple(intended)
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
    return result


def _amounts(lines: Sequence[Line]) -> _Amounts:
    """Gross, discount and tax of lines together (minor units)."""
    return (
        sum(each.gross_minor for each in lines),
        sum(each.discount_minor for each in lines),
        sum(each.tax_minor for each in lines),
    )


def _is_shorter(line: Line, found: Sequence[Line]) -> bool:
    """True if the line differs from what was billed only by an earlier end, and costs no more."""
    charges = [each for each in found if each.kind == "charge"]
    if not charges or {each.quantity for each in charges} != {line.quantity}:
        return False
    if {each.tax_rate for each in found} != {line.tax_rate}:
        return False
    gross, discount, tax = _less(_amounts(found), _amounts([line]))
    return (
        line.service_end_at < max(each.service_end_at for each in charges)
        and 0 <= discount <= gross
        and tax >= 0
    )


def _less(amounts: _Amounts, less: _Amounts) -> _Amounts:
    return (amounts[0] - less[0], amounts[1] - less[1], amounts[2] - less[2])


def _unused(line: Line, found: Sequence[Line]) -> Line:
    """The credit for the time after the line's end that was billed."""
    charged_until = max(each.service_end_at for each in found)
    credited_from = [
        each.service_start_at
        for each in found
        if each.kind == "credit" and each.service_start_at > line.service_end_at
    ]
    return _credit(
        found[0],
        amounts=_less(_amounts(found), _amounts([line])),
        quantity=line.quantity,
        start_at=line.service_end_at,
        end_at=min(credited_from, default=charged_until),
    )


def _credits(lines: Sequence[Line]) -> list[Line]:
    """Take back what these lines (charges and earlier credits of one key) leave billed: one
    credit for each stored tax rate, since a credit's tax never comes from another rate."""
    result = []
    for rate in sorted({each.tax_rate for each in lines}):
        taxed = [each for each in lines if each.tax_rate == rate]
        amounts = _amounts(taxed)
        if amounts == (0, 0, 0):
            continue
        result.append(
            _credit(
                taxed[0],
                amounts=amounts,
                quantity=max(each.quantity for each in taxed),
                start_at=taxed[0].charged_from_at,
                end_at=max(each.service_end_at for each in taxed),
            )
        )
    return result


def _credit(
    of: Line, *, amounts: _Amounts, quantity: Decimal, start_at: datetime, end_at: datetime
) -> Line:
    gross, discount, tax = amounts
    derivation = {
        "engine": ENGINE_VERSION,
        "steps": [],
        "exact": str(-gross),
        "fraction": "1",
        "rounding": "half_up",
        "residue": "0",
        "gross_minor": -gross,
        "discounts": [
            {
                "discount_id": "",
                "kind": "reversed",
                "base_minor": -gross,
                "amount_minor": -discount,
            }
        ]
        if discount
        else [],
        "net_minor": discount - gross,
        "tax_rate": format(of.tax_rate, "f"),
        "tax_minor": -tax,
    }
    return Line(
        kind="credit",
        price_id=of.price_id,
        charged_from_at=of.charged_from_at,
        service_start_at=start_at,
        service_end_at=end_at,
        quantity=quantity,
        gross_minor=-gross,
        discount_minor=-discount,
        net_minor=discount - gross,
        tax_minor=-tax,
        tax_rate=of.tax_rate,
        derivation=derivation,
    )
