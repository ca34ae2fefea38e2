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
    ``percent``, ``compound`` and ``tax_minor``."""

    net_minor: int
    decision: Mapping[str, Any]
    taxes: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, decision: Decision, line: LineTax) -> TaxedLine:
        """A line that ``core.tax.compute`` made."""
        return cls(line.net_minor, decision.data(), line.derivation()["taxes"])

    @classmethod
    def stored(cls, net_minor: int, derivation: Mapping[str, Any]) -> TaxedLine | None:
        """An invoice's line, by its derivation; None if nobody decided on its taxes: it was sold
        before the tenant had tax settings, or takes back what was."""
        decision = derivation.get("tax")
        return None if decision is None else cls(net_minor, decision, derivation["taxes"])


def summary(
    lines: Iterable[TaxedLine],
    *,
    rates: Mapping[str, Rate],
    parties: Mapping[str, Any],
    rounding: str,
    onto: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The taxes of a document; together with those of ``onto``, the same document's before these
    lines joined it.

    ``rates`` gives names by id; ``parties`` are seller and buyer (``usecases.taxes.Taxes``);
    ``rounding`` is what was rounded once. The base of a rate is what its percentage is of: the net
    amounts, with the taxes before it if it compounds. All ``tax_minor`` sum to the document's tax.
    """
    known = {"rates": (), "notes": ()} if onto is None else onto
    totals = {(each["rate_id"], each["reason"]): dict(each) for each in known["rates"]}
    notes = {(each["reason"], each["exempt_reason"]): dict(each) for each in known["notes"]}
    for line in lines:
        reason, exempt = line.decision["reason"], line.decision["exempt_reason"]
        note_key = line.decision["note_key"]
        if note_key is not None:
            note = {"reason": reason, "note_key": note_key, "exempt_reason": exempt}
            notes.setdefault((reason, exempt), note)
        before = 0
        for tax in _in_turn(line, rates):
            key = (tax["rate_id"], reason)
            total = totals.setdefault(key, _total(tax, line.decision, rates))
            total["base_minor"] += line.net_minor + (before if tax["compound"] else 0)
            total["tax_minor"] += tax["tax_minor"]
            before += tax["tax_minor"]
    return {
        **parties,
        "rounding": rounding,
        "rates": list(totals.values()),
        "notes": list(notes.values()),
    }


def _in_turn(line: TaxedLine, rates: Mapping[str, Rate]) -> list[Mapping[str, Any]]:
    """A line's taxes in the order in which they are taken. A credit leaves out those of zero, and
    its base counts all the same."""
    given = {each["rate_id"]: each for each in line.taxes}
    found = []
    for each in line.decision["rates"]:
        rate = rates.get(each["rate_id"])
        zero = {**each, "compound": rate is not None and rate.compound, "tax_minor": 0}
        found.append(given.pop(each["rate_id"], zero))
    return [*found, *given.values()]


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
