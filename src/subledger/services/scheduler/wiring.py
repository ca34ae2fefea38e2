"""Builds the scheduler from its dependencies."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.contracts.catalogues import Catalogues
from subledger.contracts.checkouts import Checkouts
from subledger.platform.db import Database
from subledger.platform.eventlog.consumer import Consumer
from subledger.platform.service import Service, Step
from subledger.services.scheduler import jobs
from subledger.services.scheduler.consumers import GROUP
from subledger.services.scheduler.http import routers
from subledger.services.scheduler.invariants import INVARIANTS, QUIET, WAITS


def build(
    *,
    database: Database,
    catalogues: Catalogues,
    checkouts: Checkouts,
    announcers: Sequence[Step] = (),
    housekeeping: Sequence[Step] = (),
) -> Service:
    """The scheduler: dunning, and the loops of due work.

    ``catalogues`` and ``checkouts`` are asked by routes alone: whether what a policy names exists,
    and which methods a retry would turn to. ``announcers`` are other services' steps that claim
    and announce their due moments, each on its owner's database; ``housekeeping`` are steps with
    long pauses (expiry of idempotency keys).
    """
    return Service(
        name="scheduler",
        database=database,
        routers=routers(database, catalogues=catalogues, checkouts=checkouts),
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
