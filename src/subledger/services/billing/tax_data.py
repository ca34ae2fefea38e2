"""The taxes of a document as data: who sells to whom, each rate with its base and its tax, and why
there is none. An invoice keeps it as it was when it was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subledger.core.tax import Decision, LineTax, Rate


@dataclass(frozen=True, slots=True)
class TaxedLine:
    """A line with its taxes as they are stored, whichever way it came about (minor units, negative
    for a credit). ``net_minor`` is after discounts and without tax, ``decision`` the data of
    ``core.tax.Decision``, ``taxes`` that of ``core.tax.LineTax``: each has ``rate_id``,
    ``percent``, ``compound`` and ``tax_minor``, in the order in which they were taken."""

    net_minor: int
    decision: Mapping[str, Any]
    taxes: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, decision: Decision, line: LineTax) -> TaxedLine:
        """A line that ``core.tax.compute`` made."""
        return cls(line.net_minor, decision.data(), line.derivation()["taxes"])


def summary(
    lines: Iterable[TaxedLine],
    *,
    rates: Mapping[str, Rate],
    parties: Mapping[str, Any],
    rounding: str,
) -> dict[str, Any]:
    """The taxes of a document. ``rates`` gives names by id; ``parties`` are seller and buyer
    (``usecases.taxes.Taxes.parties``); ``rounding`` is what was rounded once.

    The base of a rate is what its percentage is of: the net amounts, with the taxes before it if
    it compounds. The sum of all ``tax_minor`` is the document's tax.
    """
    totals: dict[tuple[str, str], dict[str, Any]] = {}
    notes: dict[tuple[str, str | None], dict[str, Any]] = {}
    for line in lines:
        reason, exempt = line.decision["reason"], line.decision["exempt_reason"]
        if line.decision["note_key"] is not None:
            notes.setdefault(
                (reason, exempt),
                {
                    "reason": reason,
                    "note_key": line.decision["note_key"],
                    "exempt_reason": exempt,
                },
            )
        before = 0
        for tax in line.taxes:
            total = totals.setdefault((tax["rate_id"], reason), _total(tax, line.decision, rates))
            total["base_minor"] += line.net_minor + (before if tax["compound"] else 0)
            total["tax_minor"] += tax["tax_minor"]
            before += tax["tax_minor"]
    return {
        **parties,
        "rounding": rounding,
        "rates": list(totals.values()),
        "notes": list(notes.values()),
    }


def _total(
    tax: Mapping[str, Any], decision: Mapping[str, Any], rates: Mapping[str, Rate]
) -> dict[str, Any]:
    """A rate that nothing was added to yet. One that stands for no tax (``reverse_charge``) is
    named by its reason and is nobody's levy."""
    known = rates.get(tax["rate_id"])
    return {
        "rate_id": tax["rate_id"],
        "name": tax["rate_id"] if known is None else known.name,
        "levy": None if known is None else known.levy,
        "percent": tax["percent"],
        "country": decision["country"] if known is None else known.place.country,
        "region": None if known is None else known.place.region,
        "reason": decision["reason"],
        "base_minor": 0,
        "tax_minor": 0,
    }
