"""A service of its own, as small as a service can be: reminders that repeat.

Schema ``reminders``, under the scheduler's role. ``announce`` claims due rows and appends
``reminder.required``; the group writes an intent and the next due row; ``send`` carries intents
out and appends ``reminder.sent``. So a clock move meets due rows, unread events and intents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine

from subledger.contracts.events import Event, Recorded
from subledger.platform import schema
from subledger.platform.db import Database, Tx, sql, story
from subledger.platform.due import Due, DueQueue, due_table
from subledger.platform.eventlog.consumer import Consumer, Group
from subledger.platform.service import Quiet, Service, Step

ROLE = "subledger_scheduler"
RANKS = {"first": 1, "second": 2, "endless": 3}

due = DueQueue(due_table(MetaData(schema="reminders")))

_PUT = story("reminders.put")
_ANNOUNCE = story("reminders.announce")
_SEND = story("reminders.send")

_INTEND = sql(
    "INSERT INTO reminders.intents (tenant_id, id, account_id, state)"
    " VALUES (:tenant, :id, :account, 'ready') ON CONFLICT DO NOTHING"
)
_CLAIM = sql(
    "SELECT tenant_id, id, account_id FROM reminders.intents WHERE state = 'ready'"
    " AND tenant_id = ANY (CAST(:tenants AS uuid[]))"
    " ORDER BY tenant_id, id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED"
)
_SENT = sql("DELETE FROM reminders.intents WHERE tenant_id = :tenant AND id = :id")


async def install(admin_url: str) -> None:
    """Create the schema in a migrated database, with the very functions that migrations use."""
    engine = create_async_engine(admin_url)
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE SCHEMA reminders AUTHORIZATION {schema.OWNER}"))
        await connection.execute(text(f"SET LOCAL ROLE {schema.OWNER}"))
        await connection.run_sync(_create)
    await engine.dispose()


def _create(connection: Connection) -> None:
    with Operations.context(MigrationContext.configure(connection)):
        schema.due_table("reminders", role=ROLE)
        schema.consumer_tables("reminders", role=ROLE)
        connection.execute(
            text(
                "CREATE TABLE reminders.intents (tenant_id uuid, id uuid, account_id uuid NOT NULL,"
                " state text NOT NULL, PRIMARY KEY (tenant_id, id))"
            )
        )
        schema.tenant_table(
            "reminders.intents", role=ROLE, privileges="SELECT, INSERT, UPDATE, DELETE"
        )
        schema.grant_columns(
            "reminders.intents", role="subledger_clock_mover", columns="tenant_id, state"
        )
        connection.execute(
            text(
                f"GRANT USAGE ON SCHEMA reminders TO {ROLE}, subledger_due_reader,"
                " subledger_clock_mover"
            )
        )


@dataclass
class Reminders:
    """The service. An account in ``poisoned`` cannot be handled; kind ``endless`` comes due again
    at the same moment (with the next number), every other kind ``every`` later until ``until``."""

    database: Database
    tenants: Sequence[UUID]
    every: timedelta = timedelta(days=30)
    until: datetime | None = None
    poisoned: set[UUID] = field(default_factory=set)
    stubborn: bool = False
    """``endless`` comes due again with the same number: it is open at once, for ever."""

    def service(self) -> Service:
        group = Group("reminders", "reminders", {"reminder.required": self._handle})
        return Service(
            name="reminders",
            database=self.database,
            consumers=[Consumer(self.database, group)],
            steps=[
                Step("reminders.announce", self._announce),
                Step("reminders.send", self._send),
            ],
            due="reminders",
            quiet=[
                Quiet(
                    "reminders",
                    "SELECT 'intents' AS what, count(*) AS count FROM reminders.intents"
                    " WHERE tenant_id = :tenant HAVING count(*) > 0",
                )
            ],
            waits=[Quiet("reminders", "SELECT 'a person' AS what, CAST(1 AS bigint) AS count")],
        )

    async def put(self, *rows: Due) -> None:
        async with self.database.transaction(_PUT, tenants={row.tenant_id for row in rows}) as tx:
            await due.put(tx, rows)

    async def _announce(self, limit: int) -> int:
        async with self.database.transaction(_ANNOUNCE) as tx:
            rows = await due.claim(tx, limit)
            for row in rows:
                tx.emit(
                    [
                        Event(
                            type="reminder.required",
                            tenant_id=row.tenant_id,
                            subject=row.account_id,
                            data={
                                "id": str(row.id),
                                "kind": row.kind,
                                "number": row.number,
                                "due_at": row.due_at.isoformat(),
                            },
                            occurred_at=await tx.now(row.tenant_id),
                        )
                    ]
                )
            return len(rows)

    async def _handle(self, tx: Tx, events: Sequence[Recorded]) -> None:
        for event in events:
            if event.subject in self.poisoned:
                raise ValueError("this account cannot be handled")
            kind, number = event.data["kind"], event.data["number"]
            row_id, due_at = UUID(event.data["id"]), datetime.fromisoformat(event.data["due_at"])
            await tx.run(_INTEND, tenant=event.tenant_id, id=event.id, account=event.subject)
            await due.drop(tx, [(event.tenant_id, kind, row_id)])
            endless = kind == "endless"
            at = due_at if endless else due_at + self.every
            if endless or (self.until is not None and at <= self.until):
                step = 1 if endless and not self.stubborn else 0
                again = Due(
                    event.tenant_id, kind, row_id, event.subject, at, RANKS[kind], number + step
                )
                await due.put(tx, [again])

    async def _send(self, limit: int) -> int:
        async with self.database.transaction(_SEND, tenants=self.tenants) as tx:
            rows = await tx.rows(_CLAIM, tenants=list(self.tenants), limit=limit)
            for row in rows:
                await tx.run(_SENT, tenant=row.tenant_id, id=row.id)
                tx.emit(
                    [
                        Event(
                            type="reminder.sent",
                            tenant_id=row.tenant_id,
                            subject=row.account_id,
                            data={},
                            occurred_at=await tx.now(row.tenant_id),
                        )
                    ]
                )
            return len(rows)
