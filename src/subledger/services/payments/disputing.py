"""Disputes as pure functions: what a provider's list of an attempt's disputes changes.

A dispute is never made by us: it is found, told once, and followed until it is decided. Whatever
comes first, webhook or reconciler, and however often, is applied once; what an old answer says of
a dispute that is decided by now changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from subledger.contracts import events
from subledger.core.states import DISPUTE, can
from subledger.services.payments.protocol import RECONCILE

OPEN: Final = "opened"
HELD: Final = frozenset({OPEN, "lost"})
"""States in which a dispute keeps its part of the payment."""
DAILY: Final = timedelta(days=1)
"""How often an open dispute is asked about although no webhook came."""
PATIENCE: Final = timedelta(days=90)
"""After its last moment for evidence, before a person has to ask the provider."""


@dataclass(frozen=True, slots=True)
class Found:
    """A dispute as the provider lists it (minor units, UTC)."""

    provider_ref: str
    amount_minor: int
    currency: str
    reason: str
    state: str
    evidence_due_at: datetime | None
    fee_minor: int


@dataclass(frozen=True, slots=True)
class Known:
    """A dispute as it is written down."""

    id: UUID
    provider_ref: str
    state: str
    evidence_due_at: datetime | None
    fee_minor: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a dispute is from now on, and what is told, in order."""

    state: str
    evidence_due_at: datetime | None
    fee_minor: int
    events: tuple[str, ...]


def decide(known: Known | None, found: Found) -> Decision | None:
    """What ``found`` changes, or None if it changes nothing.

    One that is new and decided already is told as opened, then as closed. A decided one is never
    open again: a bank that reopens a case opens another.
    """
    told: tuple[str, ...]
    if known is None:
        told = (events.DISPUTE_OPENED,)
        if found.state != OPEN:
            told = (*told, events.DISPUTE_CLOSED)
    elif can(DISPUTE, known.state, found.state):
        told = (events.DISPUTE_CLOSED,)
    elif found.state == known.state and _differs(known, found):
        told = (events.DISPUTE_UPDATED,)
    else:
        return None
    return Decision(found.state, found.evidence_due_at, found.fee_minor, told)


def _differs(known: Known, found: Found) -> bool:
    is_open = found.state == OPEN
    return known.fee_minor != found.fee_minor or (
        is_open and known.evidence_due_at != found.evidence_due_at
    )


def compare(
    known: Sequence[Known], listed: Sequence[Found]
) -> list[tuple[Known | None, Found, Decision]]:
    """What a provider's whole list changes, each dispute once. What it lists no more stays as it
    is: a provider that forgets has decided nothing."""
    by_ref = {each.provider_ref: each for each in known}
    once: Mapping[str, Found] = {each.provider_ref: each for each in listed}
    decided = []
    for ref, found in once.items():
        decision = decide(by_ref.get(ref), found)
        if decision is not None:
            decided.append((by_ref.get(ref), found, decision))
    return decided


@dataclass(frozen=True, slots=True)
class Waiting:
    """An open dispute, for the question when to ask again."""

    opened_at: datetime
    evidence_due_at: datetime | None

    @property
    def until(self) -> datetime:
        """When nobody asks for it any more."""
        return (self.evidence_due_at or self.opened_at) + PATIENCE


def next_look(waiting: Iterable[Waiting], at: datetime) -> timedelta | None:
    """How long until the provider is asked again about an attempt with these open disputes: a day,
    or less if evidence is due before. None if there is none to wait for."""
    waits = [
        min([DAILY, *([due - at] if (due := each.evidence_due_at) and due > at else [])])
        for each in waiting
        if each.until > at
    ]
    return min(waits, default=None)


def look_again(tries: int) -> timedelta | None:
    """How long until an attempt is asked about again whose ``tries`` looks taught nothing; None
    after the last."""
    return RECONCILE[tries] if tries < len(RECONCILE) else None
