"""Through which connection a currency is taken: the default for it, then an order, then age.

Pure: the caller loads the tenant's open connections and says which of them are in trouble.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Candidate:
    """An open connection. ``currencies`` are those that the tenant lets it take (none named: all),
    ``offered`` those that its provider takes (None: all); ``is_default`` is for the currency asked
    about; ``is_troubled`` while its calls are held back."""

    id: UUID
    currencies: frozenset[str]
    offered: Collection[str] | None
    is_default: bool
    position: int
    created_at: datetime
    is_troubled: bool = False


def takes(currencies: Collection[str], offered: Collection[str] | None, currency: str) -> bool:
    """Whether a connection takes the currency: its tenant and its provider have to."""
    wanted = not currencies or currency in currencies
    return wanted and (offered is None or currency in offered)


def choose(candidates: Iterable[Candidate], currency: str) -> Candidate | None:
    """The connection for a new page or method in ``currency``; None if none takes it.

    One that is in trouble is taken only if all are: what is new need not wait for it.
    """
    taking = (each for each in candidates if takes(each.currencies, each.offered, currency))
    return min(
        taking,
        key=lambda each: (
            each.is_troubled,
            not each.is_default,
            each.position,
            each.created_at,
            each.id,
        ),
        default=None,
    )
