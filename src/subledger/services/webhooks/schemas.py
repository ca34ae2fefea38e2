"""Bodies and answers about received webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy import Row

from subledger.platform.http.fields import IdOf, Strict, Text, Timestamp

if TYPE_CHECKING:  # a type checker sees what a field holds
    ConnectionId = UUID
    ReceivedId = UUID
else:
    ConnectionId = IdOf("conn")
    ReceivedId = IdOf("whr")

_ID = "01h455vb4pex5vsknk084sn02q"
Trust = Literal["strong", "weak"]


class Received(Strict):
    """Something that a provider told us. ``trust`` is ``strong`` for a signature that holds, else
    ``weak``: then only what the provider answers when asked counts."""

    id: ReceivedId
    connection_id: ConnectionId
    provider: str
    kind: str = Field(examples=["charge.succeeded"])
    trust: Trust
    provider_event_id: str = Field(description="By this a repeated notification is known.")
    received_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any]) -> Received:
        return cls(**_fields(row))


class Waiting(Strict):
    """What the notification speaks of is not known here yet: it is looked for again."""

    looks: int = Field(description="How often it was looked for.", examples=[1])
    next_look_at: Timestamp | None = Field(description="By the tenant's clock.")


class ReceivedWhole(Received):
    """A received webhook with its body: masked, for admins only, while a key opens it."""

    body: Any = Field(examples=[{"id": "evt_1", "type": "charge.succeeded"}])
    waiting: Waiting | None

    @classmethod
    def whole(cls, row: Row[Any], *, body: Any, waiting: Waiting | None) -> ReceivedWhole:
        return cls(**_fields(row), body=body, waiting=waiting)


def _fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "connection_id": row.connection_id,
        "provider": row.provider,
        "kind": row.kind,
        "trust": row.trust,
        "provider_event_id": row.dedupe_key,
        "received_at": row.received_at,
    }


class ReplayRange(Strict):
    """Which notifications to tell again: of a connection, received from ``from`` until before
    ``until``; at most 1,000 a call, the oldest first."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "connection_id": f"conn_{_ID}",
                    "from": "2026-03-01T00:00:00Z",
                    "until": "2026-03-02T00:00:00Z",
                }
            ]
        }
    }
    connection_id: ConnectionId
    since: Timestamp = Field(alias="from")
    until: Timestamp
    cursor: Annotated[Text, Field(max_length=2000)] | None = Field(
        default=None, description="next_cursor of the call before."
    )


class Replay(Strict):
    """How much was told again. Go on with ``next_cursor`` until it is null."""

    replayed: int = Field(examples=[3])
    unreadable: int = Field(
        description="Left out: no key opens their bodies any more.", examples=[0]
    )
    next_cursor: str | None
