"""The port of those who decide taxes, and the built-in one, which follows the tenant's own rules.

Whoever decides returns the core's ``Decision``, so that amounts, derivations and credits are the
same for all. A provider that has no answer says so (``TaxUnavailable``), and then there is no
invoice: a person is told, or the renewal is parked. No provider answers "no tax" for "unknown".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol
from uuid import UUID

from subledger.core.errors import CoreError
from subledger.core.tax import Buyer, Decision, RateTable, Seller, decide

BUILT_IN = "builtin"


class TaxUnavailable(CoreError):
    """The tenant's provider gave no answer, or is not known to this process."""

    code = "tax_unavailable"


@dataclass(frozen=True, slots=True)
class TaxRequest:
    """One sale to decide on: who sells to whom, what kind of product, on which local date."""

    tenant_id: UUID
    seller: Seller
    buyer: Buyer
    category: str | None
    on: date


Answer = Decision | CoreError
"""A decision, or why there is none (``MissingTaxRate``, ``TaxUnavailable``)."""


class TaxProvider(Protocol):
    """Decides many sales at once.

    It is asked while a transaction is open, so it answers at once from what it holds: an adapter
    of an outside service asks that service between transactions, by a step of its own, keeps the
    answers with the time for which they hold, and refuses with ``TaxUnavailable`` what it has no
    answer for yet.
    """

    def decide(self, requests: Sequence[TaxRequest]) -> Sequence[Answer]:
        """One answer per request, in the same order. May raise TaxUnavailable for all of them."""
        ...


class BuiltIn:
    """Decides by each tenant's own rules (``core.tax.decide``)."""

    def __init__(self, rules: Mapping[UUID, RateTable]) -> None:
        self._rules = rules

    def decide(self, requests: Sequence[TaxRequest]) -> list[Answer]:
        return [self._one(each) for each in requests]

    def _one(self, request: TaxRequest) -> Answer:
        try:
            return decide(
                request.seller,
                request.buyer,
                category=request.category,
                at=request.on,
                rules=self._rules[request.tenant_id],
            )
        except CoreError as refused:
            return refused


def answers(provider: TaxProvider | None, requests: Sequence[TaxRequest]) -> Sequence[Answer]:
    """What the provider says; for each request a refusal if it fails or is not there."""
    if provider is None:
        why = TaxUnavailable("the tax provider of the settings is not known here")
        return [why] * len(requests)
    try:
        found = provider.decide(requests)
    except TaxUnavailable as refused:
        return [refused] * len(requests)
    if len(found) != len(requests):
        why = TaxUnavailable(f"the tax provider gave {len(found)} of {len(requests)} answers")
        return [why] * len(requests)
    return found
