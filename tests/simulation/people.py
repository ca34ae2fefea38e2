"""Who lives in a simulation, and what they ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Person:
    """A customer of the shop as the shop remembers it."""

    name: str
    plan: str
    wants_page: bool
    timezone: str
    id: str = ""
    subscriptions: list[str] = field(default_factory=list)
    cards: list[str] = field(default_factory=list)
    discounts: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    """The operations that were asked for this person's sake, done or refused."""


@dataclass(frozen=True)
class Request:
    """A request that is sent until it is answered. ``what`` is the operation, ``how`` its
    variant."""

    what: str
    how: str
    who: Person | None
    method: str
    path: str
    body: Any
    key: str

    @property
    def name(self) -> str:
        return f"{self.what} {self.how}".strip()
