"""A unit price for each combination of values of dimensions."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from subledger.core.errors import InvalidPrice, InvalidQuantity
from subledger.core.pricing.exact import Priced, Sheet, check_unit_amount, scaled
from subledger.core.pricing.usage import Usage

MOST_DIMENSIONS = 8
MOST_RATES = 1000
MOST_LETTERS = 100


@dataclass(frozen=True, slots=True)
class Rate:
    """The unit amount of one combination, with its values in the order of the dimensions."""

    values: tuple[str, ...]
    unit_amount: Decimal

    def __post_init__(self) -> None:
        check_unit_amount(self.unit_amount)


@dataclass(frozen=True, slots=True)
class Matrix:
    """So much per unit, by the values of dimensions such as region and instance size.

    A combination without a rate costs ``default_unit_amount``; without a default it is refused,
    since it would be given away otherwise. Steps come in the order of the combinations' values.
    """

    dimensions: tuple[str, ...]
    rates: tuple[Rate, ...]
    default_unit_amount: Decimal | None = None
    _by_values: dict[tuple[str, ...], Decimal] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_names(self.dimensions)
        check_rate_count(len(self.rates))
        if self.default_unit_amount is not None:
            check_unit_amount(self.default_unit_amount, pointer="/default_unit_amount")
        by_values: dict[tuple[str, ...], Decimal] = {}
        for place, rate in enumerate(self.rates):
            if len(rate.values) != len(self.dimensions) or any(
                not 1 <= len(each) <= MOST_LETTERS for each in rate.values
            ):
                raise InvalidPrice(
                    "a rate has one value for each dimension",
                    pointer=f"/rates/{place}/values",
                    fix=f"Give {len(self.dimensions)} texts of 1 to {MOST_LETTERS} letters.",
                )
            if rate.values in by_values:
                raise InvalidPrice(
                    "a combination has one rate",
                    pointer=f"/rates/{place}/values",
                    fix="Leave the second one out.",
                )
            by_values[rate.values] = rate.unit_amount
        object.__setattr__(self, "_by_values", by_values)

    def priced(self, usage: Usage) -> Priced:
        """Raises InvalidQuantity without quantities by dimensions, and for an unknown one."""
        quantities = usage.by_dimensions
        if quantities is None:
            if usage.units():
                raise InvalidQuantity(
                    "this price needs quantities by dimensions",
                    pointer="/by_dimensions",
                    fix=f"Give a quantity for each combination of {', '.join(self.dimensions)}.",
                )
            quantities = {}
        sheet = Sheet()
        for values in sorted(quantities):
            unit_amount = self._by_values.get(values, self.default_unit_amount)
            if unit_amount is None or len(values) != len(self.dimensions):
                raise InvalidQuantity(
                    f"there is no rate for {', '.join(values) or 'nothing'}",
                    pointer="/by_dimensions",
                    fix="Add the rate or a default to the price.",
                )
            sheet.add("per_unit", scaled(quantities[values]), unit_amount, _part(values))
        return sheet.priced()


def _part(values: tuple[str, ...]) -> str:
    """``/eu/small``, written as a JSON pointer so that no two combinations look alike."""
    return "".join(f"/{each.replace('~', '~0').replace('/', '~1')}" for each in values)


def check_rate_count(count: int) -> None:
    """Raises InvalidPrice for over 1000 rates."""
    if count > MOST_RATES:
        raise InvalidPrice(
            f"a matrix has at most {MOST_RATES} rates", pointer="/rates", fix="Use a default."
        )


def _check_names(dimensions: tuple[str, ...]) -> None:
    if (
        not 1 <= len(dimensions) <= MOST_DIMENSIONS
        or len(set(dimensions)) < len(dimensions)
        or any(not 1 <= len(each) <= MOST_LETTERS for each in dimensions)
    ):
        raise InvalidPrice(
            f"a matrix has 1 to {MOST_DIMENSIONS} dimensions with different names",
            pointer="/dimensions",
            fix=f"Use names of 1 to {MOST_LETTERS} letters.",
        )
