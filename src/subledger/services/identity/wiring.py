"""Identity, built from its dependencies."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.platform.db import Database
from subledger.platform.service import Service
from subledger.services.identity.clock.mover import ClockMover
from subledger.services.identity.http import routers
from subledger.services.identity.invariants import INVARIANTS
from subledger.services.identity.ring import Keys


def build(
    *, database: Database, services: Sequence[Service] = (), one_database: bool = True
) -> Service:
    """The service. ``services`` are all services of the installation, also those that run in other
    processes: a clock moves only while each of them is quiet. ``attributes["key_ring"]`` answers
    the gateway; ``attributes["mover"]`` tells what a clock waits for."""
    mover = ClockMover(database, services)
    return Service(
        name="identity",
        database=database,
        routers=routers(database, mover, one_database=one_database),
        steps=[mover.as_step()],
        invariants=INVARIANTS,
        attributes={"key_ring": Keys(database), "mover": mover},
    )
