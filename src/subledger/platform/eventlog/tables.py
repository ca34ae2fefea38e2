"""Tables of the event log, and the tables that every consuming service keeps for itself."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(schema="eventlog")
_when = DateTime(timezone=True)

PARTITIONS = 16
SEGMENT = 1_000_000

log = Table(
    "log",
    metadata,
    Column("one", SmallInteger, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("partitions", SmallInteger, nullable=False),
)

heads = Table(
    "heads",
    metadata,
    Column("partition", SmallInteger, primary_key=True),
    Column("position", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("partition", SmallInteger, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("type", Text, nullable=False),
    Column("version", SmallInteger, nullable=False),
    Column("tenant_id", Uuid, nullable=False),
    Column("subject", Uuid, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("occurred_at", _when, nullable=False),
    Column("recorded_at", _when, nullable=False),
    Column("cause", Uuid),
)


def consumer_tables(metadata: MetaData) -> tuple[Table, Table, Table]:
    """``cursors``, ``parked`` and ``blocked`` in the consuming service's own schema, so that the
    handler's writes and its cursor commit together."""
    cursors = Table(
        "cursors",
        metadata,
        Column("group_name", Text, primary_key=True),
        Column("log_id", Uuid, primary_key=True),
        Column("partition", SmallInteger, primary_key=True),
        Column("position", BigInteger, nullable=False),
    )
    parked = Table(
        "parked",
        metadata,
        Column("tenant_id", Uuid, primary_key=True),
        Column("group_name", Text, primary_key=True),
        Column("subject", Uuid, primary_key=True),
        Column("partition", SmallInteger, primary_key=True),
        Column("position", BigInteger, primary_key=True),
        Column("event", JSONB, nullable=False),
        Column("parked_at", _when, nullable=False),
    )
    blocked = Table(
        "blocked",
        metadata,
        Column("tenant_id", Uuid, primary_key=True),
        Column("group_name", Text, primary_key=True),
        Column("subject", Uuid, primary_key=True),
        Column("error", Text, nullable=False),
        Column("blocked_at", _when, nullable=False),
    )
    return cursors, parked, blocked
