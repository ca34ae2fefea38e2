"""Lists that show the newest first: their cursors, and whose they are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.http.callers import Caller
from subledger.platform.http.problems import Problem
from subledger.services.payments import problems as refusals
from subledger.services.payments.flows.pay import CustomerNotReady, Waiting

_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_LAST = UUID(int=(1 << 128) - 1)


def key(created_at: datetime, row_id: UUID) -> tuple[str, str]:
    """The place of a row: its creation and id."""
    return created_at.isoformat(), str(row_id)


def before(after: tuple[str, ...] | None) -> tuple[datetime, UUID]:
    """Where a page begins. Raises the problem ``invalid_request`` for a cursor of another list."""
    if after is None:
        return _NEVER, _LAST
    try:
        created_at, row_id = after
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None:
            raise ValueError("without an offset")
        return moment, UUID(row_id)
    except ValueError:
        raise Problem(
            "invalid_request",
            detail="The cursor belongs to another list.",
            pointer="cursor",
            fix="Use next_cursor of the page before, unchanged.",
        ) from None


async def require_customer(
    waiting: Waiting, caller: Caller, customer_id: UUID, *, pointer: str
) -> Row[Any]:
    """The customer. Raises not_found for an unknown or deleted customer, and customer_not_ready."""
    try:
        found = await waiting.customer(caller.tenant_id, customer_id, wait_s=caller.wait_s)
    except CustomerNotReady:
        raise Problem(
            refusals.CUSTOMER_NOT_READY,
            detail="The customer's events have not been read yet.",
            pointer=pointer,
        ) from None
    if found is None or found.deleted_at is not None:
        raise Problem("not_found", detail="There is no such customer.", pointer=pointer)
    return found
