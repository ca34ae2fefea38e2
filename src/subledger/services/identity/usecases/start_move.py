"""Start moving a sandbox tenant's clock."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.fields import moment_text
from subledger.platform.http.problems import Problem
from subledger.services.identity import problems, store

MOST_YEARS = 20


async def start_move(tx: Tx, *, tenant_id: UUID, move_id: UUID, to_at: datetime) -> None:
    """Record the move; the clock mover's steps carry it out, whatever happens to this process.

    Raises clock_is_live, clock_is_moving (also when two are started at once: the clock's row is
    locked), clock_backwards and clock_too_far.
    """
    clock = (await store.lock_clocks(tx, [tenant_id]))[0]
    if clock.mode != "sandbox":
        raise Problem(problems.CLOCK_IS_LIVE, detail="This key belongs to a live tenant.")
    for move in await store.open_moves(tx, tenant_id):
        raise Problem(
            problems.CLOCK_IS_MOVING,
            detail="A move of this clock is under way.",
            clock_move_id=ids.text("mov", move),
        )
    if to_at < clock.now_at:
        raise Problem(
            problems.CLOCK_BACKWARDS,
            detail=f"The clock says {moment_text(clock.now_at)} already.",
            pointer="/to_at",
        )
    if (to_at - clock.now_at).days > MOST_YEARS * 366:
        raise Problem(
            problems.CLOCK_TOO_FAR,
            detail=f"The clock says {moment_text(clock.now_at)}.",
            pointer="/to_at",
        )
    await store.insert_move(
        tx, tenant_id=tenant_id, move_id=move_id, from_at=clock.now_at, target_at=to_at
    )
