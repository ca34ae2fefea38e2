"""Cursors of lists that show the newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from subledger.platform.http.problems import Problem

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
