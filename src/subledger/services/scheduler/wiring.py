"""Builds the scheduler from its dependencies."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.platform.db import Database
from subledger.platform.eventlog.consumer import Consumer
from subledger.platform.service import Service, Step
from subledger.services.scheduler import http, jobs
from subledger.services.scheduler.consumers import GROUP
from subledger.services.scheduler.invariants import INVARIANTS, QUIET, WAITS


def build(
    *, database: Database, announcers: Sequence[Step] = (), housekeeping: Sequence[Step] = ()
) -> Service:
    """The scheduler: dunning, and the loops of due work.

    ``announcers`` are other services' steps that claim and announce their due moments, each on
    its owner's database; ``housekeeping`` are steps with long pauses (expiry of idempotency keys).
    """
    return Service(
        name="scheduler",
        database=database,
        routers=[http.router(database)],
        consumers=[Consumer(database, GROUP)],
        steps=[
            *announcers,
            jobs.announcing(database),
            jobs.letting_go(database),
            jobs.segments(database),
            *housekeeping,
        ],
        due="scheduler",
        invariants=INVARIANTS,
        quiet=QUIET,
        waits=WAITS,
    )
