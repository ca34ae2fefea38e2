"""The event feed: a tenant's facts over HTTP, of one customer or of all, to be read on and on.

Per subject the order is that in which things happened. Across subjects there is none to promise:
the feed of a tenant merges the log's partitions by the wall clock. A cursor names the log and its
epoch, so that one from before a restore is refused instead of skipping or repeating facts.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field
from sqlalchemy import Row

from subledger.platform import ids
from subledger.platform.db import Database, Tx, sql, story
from subledger.platform.eventlog.writer import partition_of
from subledger.platform.http.callers import CallerRead
from subledger.platform.http.fields import IdOf, Strict, Timestamp
from subledger.platform.http.pages import PageAsked, PageQuery, encode
from subledger.platform.http.problems import Problem, problems

WINDOW = 1_000
"""Positions of each partition looked at in one read: other tenants' events lie between ours."""
ROUNDS = 5
"""Reads in one request: it answers with fewer events rather than look for ever."""

_READ = story("eventlog.read_feed", reads=True)

_COLUMNS = (
    "e.partition, e.position, e.id, e.type, e.version, e.tenant_id, e.subject,"
    " e.data::text AS data, e.occurred_at, e.recorded_at, e.cause"
)
_LOG = sql("SELECT id, epoch, partitions FROM eventlog.log")
_HEADS = sql("SELECT partition, position FROM eventlog.heads ORDER BY partition")
_OF_SUBJECT = sql(
    f"SELECT {_COLUMNS} FROM eventlog.events e WHERE e.partition = :partition"
    " AND e.tenant_id = :tenant AND e.subject = :subject AND e.position > :after"
    " ORDER BY e.position LIMIT :limit"
)
_OF_TENANT = sql(
    f"""
    SELECT {_COLUMNS}
    FROM unnest(CAST(:partitions AS smallint[]), CAST(:afters AS bigint[]),
                CAST(:uptos AS bigint[])) AS c(partition, after, upto)
    CROSS JOIN LATERAL (
        SELECT * FROM eventlog.events l
        WHERE l.partition = c.partition AND l.position > c.after AND l.position <= c.upto
          AND l.tenant_id = :tenant
        ORDER BY l.position LIMIT :limit
    ) AS e
    ORDER BY e.partition, e.position
    """
)

if TYPE_CHECKING:  # a type checker wants the name of a type where pydantic wants its fields
    CustomerId = UUID
    EventId = UUID
else:
    CustomerId, EventId = IdOf("cus"), IdOf("evt")

Exists = Callable[[Tx, UUID, UUID], Awaitable[bool]]


class FeedEvent(Strict):
    """A fact in the CloudEvents 1.0 envelope."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "specversion": "1.0",
                    "id": "evt_01h455vb4pex5vsknk084sn02q",
                    "source": "/tenants/ten_01h455vb4pex5vsknk084sn02q",
                    "type": "customer.created",
                    "subject": "cus_01h455vb4pex5vsknk084sn02q",
                    "time": "2026-03-01T12:00:00Z",
                    "datacontenttype": "application/json",
                    "data": {"customer_id": "cus_01h455vb4pex5vsknk084sn02q"},
                    "dataversion": 1,
                    "position": "7:1289",
                }
            ]
        }
    )

    specversion: str
    id: EventId
    source: str
    type: str
    subject: str = Field(description="The paying customer, or the tenant.")
    time: Timestamp = Field(description="By the tenant's clock.")
    datacontenttype: str
    data: dict[str, Any]
    dataversion: int
    position: str = Field(description="Partition and position in the log.")

    @classmethod
    def of(cls, row: Row[Any]) -> FeedEvent:
        tenant = ids.text("ten", row.tenant_id)
        own = row.subject == row.tenant_id
        return cls(
            specversion="1.0",
            id=row.id,
            source=f"/tenants/{tenant}",
            type=row.type,
            subject=tenant if own else ids.text("cus", row.subject),
            time=row.occurred_at,
            datacontenttype="application/json",
            data=msgspec.json.decode(row.data),
            dataversion=row.version,
            position=f"{row.partition}:{row.position}",
        )


class FeedPage(Strict):
    """Events after the cursor. ``next_cursor`` is always there: at the end, use it later to ask
    for what has happened since."""

    data: list[FeedEvent]
    has_more: bool = Field(description="Whether asking again at once may give more.")
    next_cursor: str


@dataclass(frozen=True, slots=True)
class _Place:
    """How far a reader has come: a position, or one per partition."""

    log_id: UUID
    epoch: int
    subject: UUID | None
    positions: tuple[int, ...]

    def cursor(self) -> str:
        subject = "" if self.subject is None else str(self.subject)
        return encode([str(self.log_id), str(self.epoch), subject, *map(str, self.positions)])

    def moved(self, positions: Sequence[int]) -> _Place:
        return _Place(self.log_id, self.epoch, self.subject, tuple(positions))


def router(database: Database, *, subject_exists: Exists) -> APIRouter:
    """``GET /v1/events``. ``subject_exists(tx, tenant_id, customer_id)`` says whom it knows."""
    routes = APIRouter(prefix="/v1/events", tags=["Events"])

    @routes.get(
        "",
        response_model=FeedPage,
        summary="Read the event feed",
        description="Facts of the tenant, oldest first, or of one customer in the order in which"
        " they happened. A page may hold fewer events than asked for, even none, and have more;"
        " go on with `next_cursor`. Events are kept 90 days. A cursor from before a restore of"
        " the log is refused with `stale_cursor`.",
        responses={**problems("not_found", "stale_cursor", "invalid_request")},
    )
    async def list_events(
        caller: CallerRead,
        query: PageQuery,
        customer_id: Annotated[CustomerId | None, Query(description="Whose account.")] = None,
    ) -> FeedPage:
        async with database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            if customer_id is not None and not await subject_exists(
                tx, caller.tenant_id, customer_id
            ):
                raise Problem("not_found", detail="There is no such customer.")
            place = await _place(tx, query, customer_id)
            if customer_id is None:
                rows, place, more = await _of_tenant(tx, caller.tenant_id, place, query.limit)
            else:
                rows, place, more = await _of_subject(tx, caller.tenant_id, place, query.limit)
        return FeedPage(
            data=[FeedEvent.of(row) for row in rows],
            has_more=more,
            next_cursor=place.cursor(),
        )

    return routes


async def _place(tx: Tx, query: PageAsked, subject: UUID | None) -> _Place:
    """Where the reader stands. Raises stale_cursor, and invalid_request for a cursor of another
    feed."""
    log = (await tx.rows(_LOG))[0]
    count = log.partitions if subject is None else 1
    if query.after is None:
        return _Place(log.id, log.epoch, subject, (0,) * count)
    texts = query.after
    wanted = "" if subject is None else str(subject)
    if len(texts) != 3 + count or texts[2] != wanted or not all(map(_is_position, texts[3:])):
        raise Problem(
            "invalid_request",
            pointer="/query/cursor",
            detail="The cursor belongs to another feed.",
            fix="Use next_cursor of the page before, with the same customer_id.",
        )
    if texts[:2] != (str(log.id), str(log.epoch)):
        raise Problem(
            "stale_cursor",
            detail="The log was restored, or replaced, since this cursor was given.",
            fix="Read the feed from the beginning, without a cursor, and pass over the event ids"
            " that you know.",
        )
    return _Place(log.id, log.epoch, subject, tuple(int(each) for each in texts[3:]))


def _is_position(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


async def _of_subject(
    tx: Tx, tenant_id: UUID, place: _Place, limit: int
) -> tuple[list[Row[Any]], _Place, bool]:
    assert place.subject is not None
    rows = await tx.rows(
        _OF_SUBJECT,
        partition=partition_of(place.subject),
        tenant=tenant_id,
        subject=place.subject,
        after=place.positions[0],
        limit=limit + 1,
    )
    shown = list(rows[:limit])
    at = shown[-1].position if shown else place.positions[0]
    return shown, place.moved([at]), len(rows) > limit


async def _of_tenant(
    tx: Tx, tenant_id: UUID, place: _Place, limit: int
) -> tuple[list[Row[Any]], _Place, bool]:
    """At most ``limit`` events from windows of all partitions, merged by the wall clock."""
    heads = [row.position for row in await tx.rows(_HEADS)]
    shown: list[Row[Any]] = []
    for _ in range(ROUNDS):
        if len(shown) >= limit or all(
            at >= head for at, head in zip(place.positions, heads, strict=True)
        ):
            break
        found, place = await _round(tx, tenant_id, place, heads, limit - len(shown))
        shown += found
    more = any(at < head for at, head in zip(place.positions, heads, strict=True))
    return shown, place, more


async def _round(
    tx: Tx, tenant_id: UUID, place: _Place, heads: Sequence[int], limit: int
) -> tuple[list[Row[Any]], _Place]:
    uptos = [min(head, at + WINDOW) for at, head in zip(place.positions, heads, strict=True)]
    rows = await tx.rows(
        _OF_TENANT,
        partitions=list(range(len(heads))),
        afters=list(place.positions),
        uptos=uptos,
        tenant=tenant_id,
        limit=limit,
    )
    by_partition: list[list[Row[Any]]] = [[] for _ in heads]
    for row in rows:
        by_partition[row.partition].append(row)
    merged = heapq.merge(*by_partition, key=lambda row: (row.recorded_at, row.partition))
    shown = [row for row, _ in zip(merged, range(limit), strict=False)]
    positions = list(place.positions)
    for partition, found in enumerate(by_partition):
        taken = [row.position for row in shown if row.partition == partition]
        if len(taken) == len(found) < limit:
            positions[partition] = max(uptos[partition], positions[partition])
        elif taken:
            positions[partition] = taken[-1]
    return shown, place.moved(positions)
