"""What a tenant sells, where another service names it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from subledger.contracts.calls import Call


class Catalogues(Protocol):
    """Answered by billing; reads only."""

    async def unknown_plans(self, call: Call, plan_ids: Sequence[UUID]) -> Sequence[UUID]:
        """Those of the ids that name no plan of the tenant."""
        ...

    async def unknown_products(self, call: Call, product_ids: Sequence[UUID]) -> Sequence[UUID]:
        """Those of the ids that name no product of the tenant."""
        ...
