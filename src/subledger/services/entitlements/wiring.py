"""Builds the entitlements from their dependencies."""

from __future__ import annotations

from subledger.platform.db import Database
from subledger.platform.eventlog.consumer import Consumer
from subledger.platform.service import Service
from subledger.services.entitlements.consumers import GROUP
from subledger.services.entitlements.invariants import INVARIANTS
from subledger.services.entitlements.memory import Memory


def build(*, database: Database) -> Service:
    """The entitlements' consumer, and the memory that access checks are answered from.

    ``attributes["memory"]`` is a ``Memory``: a process that answers access checks runs its
    ``tail_step()`` all the time (after one ``catch_up()``), a process that does not leaves it be.
    """
    return Service(
        name="entitlements",
        database=database,
        consumers=[Consumer(database, GROUP)],
        invariants=INVARIANTS,
        attributes={"memory": Memory(database)},
    )
