"""What was given back of a charge, whoever gave it: credit notes and later invoices count together.

A credit note takes something off a line for a reason of its own; a change or a cancellation takes
back, by a credit line of a later invoice, what should not have been billed. Neither knows of the
other, so here is what keeps the two together from giving back more than was charged:

* ``capped`` holds the credit lines of a new invoice to what notes have left of the charge. A note
  that leaves enough is not touched: goodwill stays, and nothing is billed anew because of it
  (Kill Bill's repair caps by adjustments in the same way; conformance README, "cap of a credit").
* ``taken_back`` says what of a line later invoices took back, so that a note counts it as given.

So of each charge (a price, from a moment): charges − credit lines − notes ≥ 0, in gross, in price
(gross less discount) and in tax. What should stand of a charge, I, of which notes gave back N, then
costs max(I − N, 0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from subledger.core.amounts import NOTHING, Amounts
from subledger.core.money import allocate
from subledger.core.recognition import share_minor
from subledger.core.timeline import Line

Key = tuple[str, datetime]
_RATE = ("rate_id", "percent", "compound")


def of(line: Line) -> Amounts:
    """A line's amounts, with its sign."""
    return Amounts(line.gross_minor, line.discount_minor, line.net_minor, line.tax_minor)


def capped(added: Sequence[Line], billed: Iterable[Line]) -> list[Line]:
    """The lines that a run adds, their credits held to what notes have left of each charge.

    ``billed`` are the lines that exist, each with what notes gave back of it (``noted``). Charges
    stay as they are, and so does everything of a charge without notes. What was cut once stays
    cut: the same run again adds nothing. The taxes of added charges are not known yet (``held``).
    """
    existing = tuple(billed)
    noted = _noted(existing)
    if not noted:
        return list(added)
    left = _sums((*existing, *(each for each in added if each.kind != "credit")))
    charged = {each.key for each in added if each.kind != "credit"}
    result: list[Line] = []
    cut: set[Key] = set()
    for line in added:
        if line.kind != "credit" or line.key not in noted:
            result.append(line)
            continue
        due = -of(line)
        given = _within(due, left[line.key], knows_tax=line.key not in charged)
        left[line.key] -= given
        if given == due:
            result.append(line)
            continue
        cut.add(line.key)
        if given != NOTHING:
            result.append(_cut(line, given))
    # What is taken back only to be charged again stands as it is.
    again = _sums(result)
    return [
        line
        for line in result
        if line.key not in cut or again[line.key].gross_minor or again[line.key].priced_minor
    ]


def held(added: Sequence[Line], billed: Iterable[Line]) -> list[Line]:
    """The lines of a run, now that its charges bear their taxes: no charge's tax falls below zero.
    A credit gives back as much less, as where a charge is billed anew at a lower rate after notes.
    """
    existing = tuple(billed)
    noted = _noted(existing)
    sums = _sums((*existing, *added)) if noted else {}
    result = []
    for line in added:
        due = -of(line)
        missing = -sums[line.key].tax_minor if line.key in noted else 0
        less = min(max(missing, 0), max(due.tax_minor, 0))
        if line.kind != "credit" or less == 0:
            result.append(line)
            continue
        included = max(due.tax_included_minor - less, 0)
        given = replace(due, net_minor=due.priced_minor - included, tax_minor=due.tax_minor - less)
        sums[line.key] += Amounts(tax_minor=less)
        result.append(_cut(line, given))
    return result


def _noted(lines: Iterable[Line]) -> set[Key]:
    return {line.key for line in lines if line.noted != NOTHING}


def _sums(lines: Iterable[Line]) -> dict[Key, Amounts]:
    """By charge: what was charged, less what was credited, less what notes gave back."""
    found: dict[Key, Amounts] = {}
    for line in lines:
        found[line.key] = found.get(line.key, NOTHING) + of(line) - line.noted
    return found


def _within(due: Amounts, left: Amounts, *, knows_tax: bool) -> Amounts:
    """As much of a credit as is left of its charge, its taxes in proportion to the price; what is
    left of the tax goes with the last of the price, where it is known."""
    gross = max(min(due.gross_minor, left.gross_minor), 0)
    priced = max(min(due.priced_minor, left.priced_minor, gross), 0)
    tax, included = due.tax_minor, due.tax_included_minor
    if priced != due.priced_minor:
        tax = share_minor(tax, priced, due.priced_minor)
        included = share_minor(included, priced, due.priced_minor)
    if knows_tax:
        if priced == left.priced_minor:
            tax = due.tax_minor
        tax = max(min(tax, left.tax_minor), 0)
        included = tax if due.tax_included_minor == due.tax_minor else included
    return Amounts(gross, gross - priced, priced - included, tax)


def _cut(line: Line, given: Amounts) -> Line:
    """The credit line with smaller amounts, each discount and tax with its part of them; its
    derivation says what it would have been."""
    told = line.derivation
    discounts, base = [], -given.gross_minor
    for step, minor in _parts(told.get("discounts", ()), "amount_minor", given.discount_minor):
        discounts.append({**step, "base_minor": base, "amount_minor": -minor})
        base += minor
    derivation: dict[str, Any] = {
        **told,
        "exact": str(-given.gross_minor),
        "gross_minor": -given.gross_minor,
        "discounts": discounts,
        "taxes": [
            {**{name: each[name] for name in _RATE if name in each}, "tax_minor": -minor}
            for each, minor in _parts(told.get("taxes", ()), "tax_minor", given.tax_minor)
        ],
        "net_minor": -given.net_minor,
        "tax_minor": -given.tax_minor,
        "tax_included_minor": -given.tax_included_minor,
        "capped": {
            "kind": "given_back_by_credit_notes",
            "gross_minor": line.gross_minor,
            "net_minor": line.net_minor,
            "tax_minor": line.tax_minor,
        },
    }
    return replace(
        line,
        gross_minor=-given.gross_minor,
        discount_minor=-given.discount_minor,
        net_minor=-given.net_minor,
        tax_minor=-given.tax_minor,
        tax_included_minor=-given.tax_included_minor,
        derivation=derivation,
    )


def _parts(
    steps: Sequence[Mapping[str, Any]], name: str, total_minor: int
) -> Iterable[tuple[Mapping[str, Any], int]]:
    """A smaller total shared by the steps as they shared the larger one; steps without a share
    are left out."""
    weights = [max(-int(each.get(name, 0)), 0) for each in steps]
    if not total_minor or not sum(weights):
        return []
    shared = zip(steps, allocate(total_minor, weights), strict=True)
    return [(each, minor) for each, minor in shared if minor]


@dataclass(frozen=True, slots=True)
class Charged:
    """A stored line of one charge, and what standing notes gave back of it (minor units). ``id``
    is opaque; the lines of credits are negative."""

    id: str
    amounts: Amounts
    noted: Amounts = NOTHING


def taken_back(lines: Sequence[Charged]) -> Mapping[str, Amounts]:
    """What the credit lines among ``lines`` (all of one charge, the oldest first) took back of
    each charging line: of the oldest first, and of none more than its notes have left of it."""
    taken = NOTHING
    for each in lines:
        if each.amounts.gross_minor < 0 or each.amounts.total_minor < 0:
            taken += -each.amounts
    found = {}
    for each in lines:
        if each.amounts.gross_minor <= 0:
            continue
        part = taken.within(each.amounts - each.noted)
        taken -= part
        if part != NOTHING:
            found[each.id] = part
    return found
