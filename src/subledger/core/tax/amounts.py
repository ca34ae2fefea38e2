"""What rates come to: exact per line and rate, rounded together, split so that everything adds up.

A *cell* is one rate on one line. Cells are rounded in groups: each alone, one rate's over the
document, or all of them. A group's rounded sum is split by largest remainder, first over its rates
and then over their lines, so that no cell is a whole unit or more away from its exact amount.
(``money.allocate`` splits in proportion to weights of one sign; here the exact parts are known,
and lines that are charged and credited stand side by side.) Integers throughout: within a group
all exact amounts share a denominator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Any

from subledger.core.errors import InvalidTax
from subledger.core.money import check_amount
from subledger.core.pricing import exact_text
from subledger.core.tax.rates import Rate

ENGINE_VERSION = 1
MOST_LINES = 5_000
MOST_RATES_OF_LINE = 8
MOST_RATES = 50


class Rounding(StrEnum):
    """What is rounded once: each tax on the document (the default: flexprice, EN 16931), each tax
    on each line (Stripe, Meteroid), or all taxes of the document together (Lago)."""

    PER_TAX = "per_tax_on_document"
    PER_LINE = "per_line"
    PER_DOCUMENT = "per_document"


class Ties(StrEnum):
    """Where a half goes: away from zero, or to the even neighbour."""

    HALF_UP = "half_up"
    HALF_EVEN = "half_even"


@dataclass(frozen=True, slots=True)
class TaxLine:
    """An amount after discounts (minor units, negative for a credit) and its rates.

    The amount is net, or gross if ``inclusive``. If ``of_gross`` the percentages are of the gross
    amount, whichever of the two is given. Raises InvalidTax for more than eight rates, one rate
    twice, and for percentages of the gross that compound or take all of it; AmountOutOfRange.
    """

    amount_minor: int
    rates: tuple[Rate, ...]
    inclusive: bool = False
    of_gross: bool = False

    def __post_init__(self) -> None:
        check_amount(self.amount_minor, pointer="/amount_minor")
        if len(self.rates) > 1:
            _check_rates(self.rates)
        if self.of_gross and (
            any(rate.compound for rate in self.rates)
            or sum(rate.percent for rate in self.rates) >= 100
        ):
            raise InvalidTax(
                "percentages of the gross stay below 100 together and do not compound",
                pointer="/rates",
                fix="Give percentages of the net amount.",
            )


def _check_rates(rates: Sequence[Rate]) -> None:
    if len(rates) > MOST_RATES_OF_LINE:
        raise InvalidTax(
            f"a line has at most {MOST_RATES_OF_LINE} rates", pointer="/rates", fix="Join rates."
        )
    if len({rate.id for rate in rates}) < len(rates):
        raise InvalidTax(
            "a rate is taken once of a line", pointer="/rates", fix="Give each rate once."
        )


@dataclass(frozen=True, slots=True)
class RateTax:
    """One rate on one line: whole minor units, and the exact amount as a fraction."""

    rate: Rate
    tax_minor: int
    numerator: int
    denominator: int

    @property
    def exact(self) -> Fraction:
        return Fraction(self.numerator, self.denominator)

    @property
    def residue(self) -> Fraction:
        """Exact less rounded; a later credit needs it."""
        return self.exact - self.tax_minor


@dataclass(frozen=True, slots=True)
class LineTax:
    """A line with its taxes, in the order of its rates (minor units): net + tax = gross, and the
    one that was given is unchanged."""

    line: TaxLine
    net_minor: int
    tax_minor: int
    gross_minor: int
    taxes: tuple[RateTax, ...]

    def derivation(self) -> dict[str, Any]:
        """How the line's tax came about, as texts and integers."""
        return {
            "amount_minor": self.line.amount_minor,
            "inclusive": self.line.inclusive,
            "of_gross": self.line.of_gross,
            "net_minor": self.net_minor,
            "tax_minor": self.tax_minor,
            "taxes": [
                {
                    "rate_id": each.rate.id,
                    "percent": each.rate.percent_text,
                    "compound": each.rate.compound,
                    "exact": exact_text(each.exact),
                    "residue": exact_text(each.residue),
                    "tax_minor": each.tax_minor,
                }
                for each in self.taxes
            ],
        }


@dataclass(frozen=True, slots=True)
class RateTotal:
    """One rate over the document (minor units). ``base_minor`` is what the percentage is of: the
    net amounts, with the taxes before it if it compounds, or the gross amounts if it is of these.
    """

    rate: Rate
    base_minor: int
    tax_minor: int
    exact: Fraction

    @property
    def residue(self) -> Fraction:
        return self.exact - self.tax_minor


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that were rounded together: the lines (by number), the rates, and their sum."""

    lines: tuple[int, ...]
    rate_ids: tuple[str, ...]
    inclusive: bool
    exact_numerator: int
    exact_denominator: int
    tax_minor: int


@dataclass(frozen=True, slots=True)
class DocumentTax:
    """All lines with their taxes, and the sums (minor units). Every sum is that of its lines."""

    lines: tuple[LineTax, ...]
    totals: tuple[RateTotal, ...]
    net_minor: int
    tax_minor: int
    gross_minor: int
    rounding: Rounding
    ties: Ties
    groups: tuple[Group, ...]

    @property
    def average_percent(self) -> Fraction:
        """All taxes as a percentage of the net amount, exact; 0 if that is 0."""
        return Fraction(100 * self.tax_minor, self.net_minor) if self.net_minor else Fraction(0)

    def derivation(self) -> dict[str, Any]:
        """How every figure came about, as texts and integers: from the amounts and percentages of
        the lines, the groups and the two modes a program without ours recomputes the rest."""
        return {
            "engine": ENGINE_VERSION,
            "rounding": self.rounding.value,
            "ties": self.ties.value,
            "lines": [line.derivation() for line in self.lines],
            "groups": [_group_data(group) for group in self.groups],
            "totals": [
                {
                    "rate_id": each.rate.id,
                    "percent": each.rate.percent_text,
                    "base_minor": each.base_minor,
                    "tax_minor": each.tax_minor,
                    "exact": exact_text(each.exact),
                    "residue": exact_text(each.residue),
                }
                for each in self.totals
            ],
        }


def _group_data(group: Group) -> dict[str, Any]:
    exact = Fraction(group.exact_numerator, group.exact_denominator)
    return {
        "lines": list(group.lines),
        "rate_ids": list(group.rate_ids),
        "inclusive": group.inclusive,
        "exact": exact_text(exact),
        "tax_minor": group.tax_minor,
        "residue": exact_text(exact - group.tax_minor),
    }


def compute(
    lines: Sequence[TaxLine],
    *,
    rounding: Rounding = Rounding.PER_TAX,
    ties: Ties = Ties.HALF_UP,
) -> DocumentTax:
    """The taxes of a document's lines.

    Tax on net amounts is rounded; of gross amounts the net is rounded and the tax is what is left
    (gross is never made from net). The latter are therefore rounded apart from the former, and
    per combination of rates. An empty document has no tax. Raises InvalidTax for more than 5000
    lines or 50 rates and if one id names two rates; AmountOutOfRange for sums beyond 10^15.
    """
    if len(lines) > MOST_LINES:
        raise InvalidTax(
            f"a document has at most {MOST_LINES} lines", pointer="/lines", fix="Split it."
        )
    rates = _rates(lines)
    shares = [_shares(line.rates, line.inclusive, line.of_gross) for line in lines]
    taxes: list[list[int]] = [[0] * len(line.rates) for line in lines]
    groups = tuple(
        _round_group(cells, lines, shares, taxes, ties)
        for cells in _grouped(lines, rounding).values()
    )
    taxed = tuple(
        _line(line, *share, tax) for line, share, tax in zip(lines, shares, taxes, strict=True)
    )
    tax = sum(line.tax_minor for line in taxed)
    net = sum(line.net_minor for line in taxed)
    for amount in (net, tax, net + tax):
        check_amount(amount, pointer="/lines")
    return DocumentTax(
        lines=taxed,
        totals=_totals(taxed, rates),
        net_minor=net,
        tax_minor=tax,
        gross_minor=net + tax,
        rounding=rounding,
        ties=ties,
        groups=groups,
    )


def _rates(lines: Sequence[TaxLine]) -> dict[str, Rate]:
    found: dict[str, Rate] = {}
    for line in lines:
        for rate in line.rates:
            known = found.setdefault(rate.id, rate)
            if known is not rate and known != rate:
                raise InvalidTax(
                    f"{rate.id!r} names two rates", pointer="/lines", fix="Use another id."
                )
    if len(found) > MOST_RATES:
        raise InvalidTax(
            f"a document has at most {MOST_RATES} rates", pointer="/lines", fix="Split it."
        )
    return found


@lru_cache(maxsize=1_000)
def _shares(
    rates: tuple[Rate, ...], inclusive: bool, of_gross: bool
) -> tuple[tuple[int, ...], int]:
    """Each rate's share of the given amount, as numerators over one denominator."""
    parts = [Fraction(rate.percent) * Fraction(1, 100) for rate in rates]
    if of_gross:
        rest = 1 if inclusive else 1 - sum(parts)
        parts = [part * Fraction(1, rest) for part in parts]
    else:
        below = sum(part for part, rate in zip(parts, rates, strict=True) if not rate.compound)
        for n, rate in enumerate(rates):
            if rate.compound:
                parts[n] *= 1 + below
                below += parts[n]
        if inclusive:
            parts = [part * Fraction(1, 1 + below) for part in parts]
    whole = 1
    for part in parts:
        whole = _common(whole, part.denominator)
    return tuple(part.numerator * (whole // part.denominator) for part in parts), whole


def _common(one: int, other: int) -> int:
    """The least common multiple."""
    return one if one == other else one * Fraction(other, one).numerator


Cells = dict[str, list[tuple[int, int]]]
"""Rate id → (line, place of the rate on the line)."""


def _grouped(lines: Sequence[TaxLine], rounding: Rounding) -> dict[object, Cells]:
    groups: dict[object, Cells] = {}
    for n, line in enumerate(lines):
        for k, (rate, key) in enumerate(zip(line.rates, _keys(n, line, rounding), strict=False)):
            groups.setdefault(key, {}).setdefault(rate.id, []).append((n, k))
    return groups


def _keys(number: int, line: TaxLine, rounding: Rounding) -> Iterator[object]:
    """For each rate of a line, with what else it is rounded."""
    together = tuple(sorted(rate.id for rate in line.rates))
    for rate in line.rates:
        match rounding:
            case Rounding.PER_LINE:
                yield number if line.inclusive else (number, rate.id)
            case Rounding.PER_TAX:
                yield together if line.inclusive else rate.id
            case Rounding.PER_DOCUMENT:
                yield line.inclusive


def _round_group(
    cells: Cells,
    lines: Sequence[TaxLine],
    shares: Sequence[tuple[tuple[int, ...], int]],
    taxes: list[list[int]],
    ties: Ties,
) -> Group:
    """Round the cells together, write their whole amounts to ``taxes`` and say what was done."""
    numbers = sorted({n for places in cells.values() for n, _ in places})
    unit = 1
    for n in numbers:
        unit = _common(unit, shares[n][1])
    exact = [
        [lines[n].amount_minor * shares[n][0][k] * (unit // shares[n][1]) for n, k in places]
        for places in cells.values()
    ]
    by_rate = [sum(each) for each in exact]
    whole = sum(by_rate)
    inclusive = lines[numbers[0]].inclusive
    if inclusive:
        gross = sum(lines[n].amount_minor for n in numbers)
        rounded = gross - rounded_ratio(gross * unit - whole, unit, ties)
    else:
        rounded = rounded_ratio(whole, unit, ties)
    for places, each, target in zip(
        cells.values(), exact, apportion(rounded, by_rate, unit), strict=True
    ):
        for (n, k), amount in zip(places, apportion(target, each, unit), strict=True):
            taxes[n][k] = amount
    return Group(tuple(numbers), tuple(cells), inclusive, whole, unit, rounded)


def rounded_ratio(numerator: int, denominator: int, ties: Ties) -> int:
    """The nearest integer to a ratio; as ``money.round_half_up``, on integers and with a choice of
    where halves go."""
    size, rest = divmod(2 * abs(numerator) + denominator, 2 * denominator)
    if rest == 0 and ties is Ties.HALF_EVEN:
        size -= size % 2
    return size if numerator >= 0 else -size


def apportion(total: int, exact: Sequence[int], unit: int) -> list[int]:
    """Whole parts that sum to ``total``, each the floor or the ceiling of its exact part
    (``exact`` over ``unit``); the larger remainders get the units, of equal ones the earlier.

    ``total`` is a floor or ceiling of the exact sum (AssertionError otherwise). All signs turned
    turns the result, so that a document and its reversal cancel out line by line.
    """
    if len(exact) == 1:
        return [total]
    lead = sum(exact) or next((each for each in exact if each), 0)
    if lead < 0:
        return [-part for part in apportion(-total, [-each for each in exact], unit)]
    parts, remainders = [], []
    for place, each in enumerate(exact):
        part, rest = divmod(each, unit)
        parts.append(part)
        if rest:
            remainders.append((-rest, place))
    spare = total - sum(parts)
    assert 0 <= spare <= len(remainders), "a total next to the exact sum"
    for _, place in sorted(remainders)[:spare]:
        parts[place] += 1
    return parts


def _line(line: TaxLine, shares: tuple[int, ...], unit: int, taxes: Sequence[int]) -> LineTax:
    tax = sum(taxes)
    net = line.amount_minor - tax if line.inclusive else line.amount_minor
    return LineTax(
        line=line,
        net_minor=net,
        tax_minor=tax,
        gross_minor=net + tax,
        taxes=tuple(
            RateTax(rate, amount, line.amount_minor * share, unit)
            for rate, amount, share in zip(line.rates, taxes, shares, strict=True)
        ),
    )


def _totals(lines: Sequence[LineTax], rates: dict[str, Rate]) -> tuple[RateTotal, ...]:
    base, tax = dict.fromkeys(rates, 0), dict.fromkeys(rates, 0)
    exact: dict[str, dict[int, int]] = {each: {} for each in rates}
    for line in lines:
        below = line.gross_minor if line.line.of_gross else line.net_minor
        taken = below + sum(each.tax_minor for each in line.taxes if not each.rate.compound)
        for each in line.taxes:
            name = each.rate.id
            base[name] += taken if each.rate.compound else below
            taken += each.tax_minor if each.rate.compound else 0
            tax[name] += each.tax_minor
            sums = exact[name]
            sums[each.denominator] = sums.get(each.denominator, 0) + each.numerator
    return tuple(
        RateTotal(
            rate, base[name], tax[name], sum((Fraction(n, d) for d, n in exact[name].items()),
                                             Fraction(0)),
        )
        for name, rate in rates.items()
    )  # fmt: skip
