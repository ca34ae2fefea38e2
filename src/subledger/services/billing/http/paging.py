"""Where a page begins: the cursors of billing's lists."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform import ids
from subledger.platform.http.pages import PageAsked
from subledger.platform.http.problems import Problem
from subledger.services.billing.store.accounts import LAST
from subledger.services.billing.store.plan_migrations import FIRST
from subledger.services.billing.store.reads import FAR


def foreign_cursor() -> Problem:
    """The cursor was made, but by another list."""
    return Problem(
        "invalid_request",
        pointer="/query/cursor",
        detail="The cursor belongs to another list.",
        fix="Use next_cursor of the page before, with the same filters.",
    )


def before_id(query: PageAsked, prefix: str) -> UUID:
    """The id below which the page begins. Raises invalid_request."""
    return LAST if query.after is None else _id(query.after, prefix)


def after_id(query: PageAsked, prefix: str) -> UUID:
    """The id above which the page begins. Raises invalid_request."""
    return FIRST if query.after is None else _id(query.after, prefix)


def _id(after: tuple[str, ...], prefix: str) -> UUID:
    if len(after) != 1:
        raise foreign_cursor()
    try:
        return ids.parse(prefix, after[0])
    except ids.InvalidId:
        raise foreign_cursor() from None


def before_number(query: PageAsked) -> int:
    """The number below which the page begins. Raises invalid_request."""
    if query.after is None:
        return FAR
    text = query.after[0] if len(query.after) == 1 else ""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise foreign_cursor()
    return int(text)


def id_key(row: Row[Any], prefix: str) -> tuple[str]:
    """A row's key in a list by id."""
    return (ids.text(prefix, row.id),)
