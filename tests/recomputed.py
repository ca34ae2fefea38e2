"""An invoice computed again from what it has stored, by fractions alone. Nothing of ours is
imported: another computation of the same figures, and another hash of the same data."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from fractions import Fraction
from typing import Any

Data = dict[str, Any]


def content_hash(data: Data) -> str:
    """SHA-256 of the canonical JSON, as docs and API say it is made."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def recomputed(stored: Data) -> Data:
    """Inputs with the lines' derivations, in which every figure that follows from others is
    computed anew. What was stored right is what comes out; anything else has another hash."""
    data = deepcopy(stored)
    for line in data["lines"]:
        _price(line)
    for rounding in data["taxes"]:
        for group in rounding["groups"]:
            _tax(group, data["lines"], even=rounding["ties"] == "half_even")
    for line in data["lines"]:
        _sums(line)
    return data


def _put(into: Data, name: str, value: Fraction | int) -> None:
    """A figure as text, written as it was if it is the same number."""
    if Fraction(into[name]) != value:
        into[name] = str(value)


def half_up(value: Fraction) -> int:
    size = int(abs(value) + Fraction(1, 2))
    return size if value >= 0 else -size


def rounded(value: Fraction, *, even: bool) -> int:
    if even and abs(value) % 1 == Fraction(1, 2):
        return round(value)
    return half_up(value)


def _price(line: Data) -> None:
    """Steps, share of the period, rounding, discounts."""
    for step in line["steps"]:
        _put(step, "amount", Fraction(step["quantity"]) * Fraction(step["unit_amount"]))
    whole = sum((Fraction(each["amount"]) for each in line["steps"]), Fraction(0))
    if line["steps"]:
        _put(line, "exact", whole * Fraction(line["fraction"]))
    exact = Fraction(line["exact"])
    amount = half_up(exact)
    if rest := Fraction(line.get("rest", 0)):  # what is given back is rounded in its stead
        amount = half_up(whole * (Fraction(line["fraction"]) + rest)) - half_up(whole * rest)
    line["gross_minor"] = amount
    _put(line, "residue", exact - amount)
    for step in line["discounts"]:
        if "base_minor" not in step:  # free units: taken off the quantity before
            continue
        step["base_minor"] = amount
        if "percent" in step:
            part = half_up(amount * Fraction(step["percent"]) / 100)
            step["amount_minor"] = min(part, amount)
        amount -= step["amount_minor"]


def _priced(line: Data) -> int:
    """The gross less discounts (minor units)."""
    off = sum(each["amount_minor"] for each in line["discounts"] if "base_minor" in each)
    return int(line["gross_minor"] - off)


def exact_taxes(amount: int, line: Data) -> dict[str, Fraction]:
    """Rate id → exact tax on, or in, an amount; compound rates come on top of those before."""
    taxes = [
        (each["rate_id"], Fraction(each["percent"]) / 100, each["compound"])
        for each in line["taxes"]
    ]
    below = sum((part for _, part, compound in taxes if not compound), Fraction(0))
    parts = {}
    for name, part, compound in taxes:
        parts[name] = part * (1 + below) if compound else part
        below += parts[name] if compound else 0
    whole = 1 + below if line["tax_inclusive"] else Fraction(1)
    return {name: amount * part / whole for name, part in parts.items()}


def _tax(group: Data, lines: list[Data], *, even: bool) -> None:
    """Taxes that are rounded together, then shared: first among the rates, then the lines."""
    cells: list[list[tuple[Data, Fraction]]] = []
    for name in group["rate_ids"]:
        cells.append([])
        for n in group["lines"]:
            for tax in lines[n - 1]["taxes"]:
                if tax["rate_id"] == name:
                    exact = exact_taxes(_priced(lines[n - 1]), lines[n - 1])[name]
                    cells[-1].append((tax, exact))
    by_rate = [sum((exact for _, exact in each), Fraction(0)) for each in cells]
    whole = sum(by_rate, Fraction(0))
    gross = sum(_priced(lines[n - 1]) for n in group["lines"])
    if group["inclusive"]:
        total = gross - rounded(gross - whole, even=even)
    else:
        total = rounded(whole, even=even)
    _put(group, "exact", whole)
    group["tax_minor"] = total
    _put(group, "residue", whole - total)
    for of_rate, minor in zip(cells, shared(total, by_rate), strict=True):
        parts = shared(minor, [exact for _, exact in of_rate])
        for (tax, exact), part in zip(of_rate, parts, strict=True):
            tax["tax_minor"] = part
            _put(tax, "exact", exact)
            _put(tax, "residue", exact - part)


def shared(total: int, exact: list[Fraction]) -> list[int]:
    """Whole parts of a total: each one's floor, and a unit more for the largest remainders."""
    if len(exact) == 1:
        return [total]
    parts = [each.numerator // each.denominator for each in exact]
    order = sorted(range(len(exact)), key=lambda n: (parts[n] - exact[n], n))
    for n in order[: total - sum(parts)]:
        parts[n] += 1
    return parts


def _sums(line: Data) -> None:
    line["tax_minor"] = sum(each["tax_minor"] for each in line["taxes"])
    if line.get("tax_inclusive") or line["tax_included_minor"]:
        line["tax_included_minor"] = line["tax_minor"]
    line["net_minor"] = _priced(line) - line["tax_included_minor"]
