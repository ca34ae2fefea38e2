"""Units sold in blocks whose size depends on the tier (Kill Bill's consumable usage)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from subledger.core.errors import InvalidPrice
from subledger.core.pricing.exact import (
    SCALE,
    Priced,
    Sheet,
    check_bound,
    check_unit_amount,
    scaled,
)
from subledger.core.pricing.tiers import check_tier_count
from subledger.core.pricing.usage import Usage

MOST_BLOCKS = 10**15


class BlockMode(StrEnum):
    ALL_TIERS = "all_tiers"
    """Each tier's blocks at its price (graduated)."""
    TOP_TIER = "top_tier"
    """All units in blocks of the tier reached (volume)."""


@dataclass(frozen=True, slots=True)
class BlockTier:
    """Blocks of ``size`` units at ``block_amount`` each; at most so many (None: open)."""

    size: Decimal
    block_amount: Decimal
    most_blocks: int | None

    def __post_init__(self) -> None:
        check_bound(self.size, pointer="/size")
        check_unit_amount(self.block_amount, pointer="/block_amount")
        if self.most_blocks is not None and not 1 <= self.most_blocks <= MOST_BLOCKS:
            raise InvalidPrice(
                "a tier holds 1 to 10^15 blocks", pointer="/most_blocks", fix="Use 1 or more."
            )


@dataclass(frozen=True, slots=True)
class Blocks:
    """A started block is charged whole; no usage, no block. Only the last tier is open."""

    tiers: tuple[BlockTier, ...]
    mode: BlockMode = BlockMode.ALL_TIERS

    def __post_init__(self) -> None:
        check_tier_count(len(self.tiers))
        for place, tier in enumerate(self.tiers):
            last = place == len(self.tiers) - 1
            if (tier.most_blocks is None) is not last:
                raise InvalidPrice(
                    "the last tier is open" if last else "only the last tier is open",
                    pointer=f"/tiers/{place}/most_blocks",
                    fix="Leave it out of the last tier, and only there.",
                )

    def priced(self, usage: Usage) -> Priced:
        sheet = Sheet()
        left = units = scaled(usage.units())
        for place, tier in enumerate(self.tiers):
            size = scaled(tier.size)
            held = left if tier.most_blocks is None else min(left, size * tier.most_blocks)
            left -= held
            if self.mode is BlockMode.TOP_TIER:
                if left:
                    continue
                held = units
            if held:
                sheet.add("block", -(-held // size) * SCALE, tier.block_amount, str(place + 1))
            if not left:
                break
        return sheet.priced()
