"""Price models: exact amounts in minor units, unrounded, with the steps that made them.

Every model is a frozen dataclass and a member of ``PriceModel``. Each step's quantity times its
unit amount is its amount, and the steps sum to the price, so that a program that knows nothing of
models can recompute it (``examples/recompute_invoice.py``).
"""

from __future__ import annotations

from decimal import Decimal

from subledger.core.pricing.blocks import BlockMode, Blocks, BlockTier
from subledger.core.pricing.exact import (
    MOST_DECIMALS,
    NOTHING,
    QUANTITY_DIGITS,
    Priced,
    Step,
    check_quantity,
    exact_text,
)
from subledger.core.pricing.matrix import Matrix, Rate
from subledger.core.pricing.modifiers import Modified, Part, by_part, counted, less, true_up
from subledger.core.pricing.percentages import GraduatedPercentage, Percentage, RateTier
from subledger.core.pricing.simple import Commitment, Dynamic, Flat, Package, PerUnit, Started
from subledger.core.pricing.stored import PriceModel, from_data, kind_of, to_data
from subledger.core.pricing.tiers import Bounds, Graduated, Stairstep, Tier, Volume, upper_bounds
from subledger.core.pricing.usage import Usage

__all__ = [
    "MOST_DECIMALS", "QUANTITY_DIGITS", "BlockMode", "BlockTier", "Blocks", "Bounds", "Commitment",
    "Dynamic", "Flat", "Graduated", "GraduatedPercentage", "Matrix", "Modified", "Package", "Part",
    "PerUnit", "Percentage", "PriceModel", "Priced", "Rate", "RateTier", "Stairstep", "Started",
    "Step", "Tier", "Usage", "Volume", "by_part", "check_quantity", "counted", "exact_text",
    "from_data", "in_parts", "kind_of", "less", "price", "price_further", "to_data", "true_up",
    "upper_bounds",
]  # fmt: skip


def price(model: PriceModel, used: Decimal | Usage) -> Priced:
    """What ``used`` (a plain quantity, or more) costs under ``model``: exact, with one step per
    part of the price.

    Raises InvalidQuantity as ``check_quantity`` does, also where the price does not depend on it,
    and where the model needs to know more than was told.
    """
    return model.priced(_usage(used))


def in_parts(model: PriceModel) -> bool:
    """False if what later units cost depends on the final quantity (volume, stairstep, blocks of
    the top tier), so that nothing can be billed before the period ends."""
    base = model.model if isinstance(model, Modified) else model
    match base:
        case Volume() | Stairstep():
            return False
        case Blocks():
            return base.mode is BlockMode.ALL_TIERS
        case _:
            return True


def price_further(
    model: PriceModel,
    used: Decimal | Usage,
    *,
    before: Decimal | Usage | None = None,
    closing: bool = True,
) -> Priced:
    """What ``used`` adds to what was billed for ``before`` in the same period (None: nothing was
    billed yet): the price of both, less the price of the first.

    A minimum is trued up only when ``closing`` the period; a price that cannot be billed in parts
    (``in_parts``) costs nothing before, and all of it then. Raises InvalidQuantity as ``price``.
    """
    now = _usage(used)
    if before is None:
        total = now
    else:
        earlier = _usage(before)
        total = earlier.plus(now)
    if not in_parts(model):
        return _priced(model, total, closing=True) if closing else NOTHING
    if before is None:
        return _priced(model, total, closing=closing)
    return less(_priced(model, total, closing=closing), _priced(model, earlier, closing=False))


def _priced(model: PriceModel, usage: Usage, *, closing: bool) -> Priced:
    if isinstance(model, Modified):
        return model.priced(usage, closing=closing)
    return model.priced(usage)


def _usage(used: Decimal | Usage) -> Usage:
    return Usage(used) if isinstance(used, Decimal) else used
