"""Lists in pages: an opaque cursor, never an offset."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

import msgspec
from fastapi import Depends, Query
from pydantic import Field

from subledger.platform.http.fields import Strict
from subledger.platform.http.problems import Problem

T = TypeVar("T")
MOST = 100


class Page(Strict, Generic[T]):
    """One page of a list. Pass ``next_cursor`` as ``cursor`` to go on; it is null at the end."""

    data: list[T]
    has_more: bool = Field(examples=[True])
    next_cursor: str | None = Field(examples=["WyIyMDI2LTAzLTAxIl0"])


@dataclass(frozen=True, slots=True)
class PageAsked:
    """What a list was asked for: how many, and after which row (its key, as texts)."""

    limit: int
    after: tuple[str, ...] | None


def encode(key: Sequence[str]) -> str:
    """A row's key as an opaque cursor."""
    return base64.urlsafe_b64encode(msgspec.json.encode(list(key))).decode().rstrip("=")


def decode(cursor: str) -> tuple[str, ...]:
    """The key inside a cursor. Raises the problem ``invalid_request``."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return tuple(msgspec.json.decode(raw, type=list[str]))
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise Problem(
            "invalid_request",
            detail="The cursor is not one that a list gave.",
            pointer="/query/cursor",
            fix="Use next_cursor of the page before, unchanged.",
        ) from None


def _read(
    limit: Annotated[int, Query(ge=1, le=MOST, description="Rows per page.")] = 20,
    cursor: Annotated[
        str | None, Query(max_length=2000, description="next_cursor of the page before.")
    ] = None,
) -> PageAsked:
    return PageAsked(limit=limit, after=None if cursor is None else decode(cursor))


PageQuery = Annotated[PageAsked, Depends(_read)]


def page(rows: Sequence[T], query: PageAsked, key: Callable[[T], Sequence[str]]) -> Page[T]:
    """A page of at most ``limit`` rows, from ``limit + 1`` rows asked of the database."""
    shown = list(rows[: query.limit])
    more = len(rows) > query.limit
    return Page(data=shown, has_more=more, next_cursor=encode(key(shown[-1])) if more else None)
