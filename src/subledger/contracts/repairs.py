"""Setting right what payments found to differ: billing (which shows work items) asks payments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from subledger.contracts.calls import Call


@dataclass(frozen=True, slots=True)
class RepairRequest:
    """Do what sets difference ``difference_id`` right. ``action`` None is the one right thing; some
    kinds know others (``ask``, ``succeeded``, ``failed``, ``assign``). ``by`` is who asked,
    ``reference`` what they know it from, ``customer_id`` whom money is assigned to."""

    difference_id: UUID
    action: str | None
    by: str
    reference: str | None = None
    customer_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class RepairAnswer:
    """``done`` false comes with ``refusal``: ``unknown`` (no such difference), ``closed`` (it was
    set right before), ``no_such_action``, ``unsure`` (the provider does not say: ask again later),
    ``no_customer`` (say whose money it is), ``no_reference`` (say what it is known from),
    ``refunded`` (money of it went back)."""

    done: bool
    refusal: str | None = None


class Repairs(Protocol):
    """Answered by payments. Asked again for what is done it answers ``closed``."""

    async def repair(self, call: Call, request: RepairRequest) -> RepairAnswer:
        """Set one difference right."""
        ...
