"""What identity's routes take and give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict
from sqlalchemy import Row

from subledger.platform.http.fields import IdOf, Name, Strict, Timestamp
from subledger.services.identity.clock.quiet import Work

if TYPE_CHECKING:  # a type checker sees what a field holds
    TenantId = UUID
    KeyId = UUID
    MoveId = UUID
else:
    TenantId = IdOf("ten")
    KeyId = IdOf("key")
    MoveId = IdOf("mov")
Mode = Annotated[
    Literal["live", "sandbox"],
    Field(description="Fixed when the tenant is opened. A sandbox owns its clock."),
]
Role = Annotated[
    Literal["admin", "read"],
    Field(description="`admin` may do everything within the tenant, `read` may read."),
]

_TENANT = "ten_01hchnvb4pe5xvsk0j40001hqs"
_KEY = "key_01hchnvb4pe5xvsk0j40001hqt"
_MOVE = "mov_01hchnvb4pe5xvsk0j40001hqv"


class Tenant(Strict):
    """A tenant: the owner of all data that its keys can reach."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _TENANT,
                    "name": "Cinema One",
                    "mode": "live",
                    "live_tenant_id": None,
                    "created_at": "2026-03-01T00:00:00Z",
                }
            ]
        }
    )

    id: TenantId
    name: Name
    mode: Mode
    live_tenant_id: Annotated[
        TenantId | None, Field(description="The live tenant that a sandbox belongs to.")
    ]
    created_at: Timestamp

    @classmethod
    def of(cls, row: Row[Any]) -> Tenant:
        return cls(
            id=row.tenant_id,
            name=row.name,
            mode=row.mode,
            live_tenant_id=row.live_tenant_id,
            created_at=row.created_at,
        )


class NewSandbox(Strict):
    """A sandbox tenant to open beside your live one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "Cinema One, rehearsal", "clock_at": "2026-03-01T00:00:00Z"}]
        }
    )

    name: Name
    clock_at: Annotated[Timestamp, Field(description="Where the sandbox's clock starts.")]


_SHOWN_ONCE = "The key's text. Shown in this answer only: null when the request is repeated."


class Sandbox(Tenant):
    """A new sandbox tenant with its first key."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _TENANT,
                    "name": "Cinema One, rehearsal",
                    "mode": "sandbox",
                    "live_tenant_id": "ten_01hchnvb4pe5xvsk0j40001hqw",
                    "created_at": "2026-03-01T00:00:00Z",
                    "key": "sk_test_0000000000000000000000000000000000000000000",
                }
            ]
        }
    )

    key: Annotated[str | None, Field(description=_SHOWN_ONCE)]


class NewApiKey(Strict):
    """An API key to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Reports", "role": "read"}]})

    name: Name
    role: Role


_KEY_EXAMPLE: JsonDict = {
    "id": _KEY,
    "name": "Reports",
    "role": "read",
    "last_four": "x7Qa",
    "created_at": "2026-03-01T00:00:00Z",
    "revoked_at": None,
}


class ApiKey(Strict):
    """An API key. Its text is not kept; its last four letters tell keys apart."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY_EXAMPLE]})

    id: KeyId
    name: Name
    role: Role
    last_four: Annotated[str, Field(min_length=4, max_length=4)]
    created_at: Timestamp
    revoked_at: Timestamp | None

    @classmethod
    def of(cls, row: Row[Any]) -> ApiKey:
        return cls(**_key_fields(row))


class CreatedApiKey(ApiKey):
    """A new API key with its text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {**_KEY_EXAMPLE, "key": "sk_live_0000000000000000000000000000000000000000000"}
            ]
        }
    )

    key: Annotated[str | None, Field(description=_SHOWN_ONCE)]

    @classmethod
    def with_text(cls, row: Row[Any], text: str | None) -> CreatedApiKey:
        return cls(**_key_fields(row), key=text)


def _key_fields(row: Row[Any]) -> dict[str, Any]:
    names = ("id", "name", "role", "last_four", "created_at", "revoked_at")
    return {name: getattr(row, name) for name in names}


class NewClockMove(Strict):
    """Where the clock shall be moved to."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"to_at": "2026-04-01T00:00:00Z"}]})

    to_at: Annotated[
        Timestamp, Field(description="At or after the clock's `now_at`, at most 20 years ahead.")
    ]


class WaitingFor(Strict):
    """Something that is to be done, and how much of it (at least)."""

    what: str
    count: int

    @classmethod
    def of(cls, work: Work) -> WaitingFor:
        return cls(what=work.what, count=work.count)


class BlockedAccount(Strict):
    """An account whose events one group of consumers has set aside after a failure."""

    group: str
    subject: str


class ClockMoveResult(Strict):
    """What happened during a move that has ended."""

    events: Annotated[dict[str, int], Field(description="Events of the tenant, by type.")]
    blocked: Annotated[
        list[BlockedAccount],
        Field(description="Accounts that a failure has set aside; they did not hold the clock."),
    ]
    waits: Annotated[list[WaitingFor], Field(description="What waits for a person or a deadline.")]
    keeps_moving: Annotated[
        list[str], Field(description="Of a stopped move: what repeated itself without end.")
    ]


_MOVE_EXAMPLE: JsonDict = {
    "id": _MOVE,
    "status": "done",
    "from_at": "2026-03-01T00:00:00Z",
    "to_at": "2026-04-01T00:00:00Z",
    "reached_at": "2026-04-01T00:00:00Z",
    "steps": 12,
    "waiting_for": [],
    "result": {
        "events": {"invoice.paid": 12, "subscription.renewed": 12},
        "blocked": [],
        "waits": [],
        "keeps_moving": [],
    },
    "created_at": "2026-03-01T09:30:00Z",
    "finished_at": "2026-03-01T09:30:02Z",
}


class ClockMove(Strict):
    """A move of a sandbox tenant's clock."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MOVE_EXAMPLE]})

    id: MoveId
    status: Annotated[
        Literal["moving", "done", "stopped"],
        Field(
            description="`stopped`: after 10,000 steps at one moment; the clock stays at"
            " `reached_at`."
        ),
    ]
    from_at: Timestamp
    to_at: Timestamp
    reached_at: Annotated[Timestamp, Field(description="How far the clock has come.")]
    steps: Annotated[int, Field(description="Moments opened so far.")]
    waiting_for: Annotated[
        list[WaitingFor], Field(description="While moving: what has to be done before it goes on.")
    ]
    result: ClockMoveResult | None
    created_at: Annotated[Timestamp, Field(description="Wall-clock time.")]
    finished_at: Annotated[Timestamp | None, Field(description="Wall-clock time.")]

    @classmethod
    def of(cls, row: Row[Any], waiting_for: list[Work] | None = None) -> ClockMove:
        ended = row.finished_at is not None
        return cls(
            id=row.id,
            status=row.status,
            from_at=row.from_at,
            to_at=row.target_at,
            reached_at=row.reached_at,
            steps=row.steps,
            waiting_for=[WaitingFor.of(each) for each in waiting_for or []],
            result=ClockMoveResult(**msgspec.json.decode(row.result)) if ended else None,
            created_at=row.created_at,
            finished_at=row.finished_at,
        )


class Clock(Strict):
    """What time it is for the tenant."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"mode": "sandbox", "now_at": "2026-03-01T00:00:00Z", "clock_move_id": None}
            ]
        }
    )

    mode: Mode
    now_at: Annotated[
        Timestamp,
        Field(description="A live tenant's clock is the database's; a sandbox's is its own."),
    ]
    clock_move_id: Annotated[MoveId | None, Field(description="The move under way, if any.")]
