"""Tables of the schema ``identity``: tenants, API keys, clocks and their moves."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(schema="identity")
_when = DateTime(timezone=True)

tenants = Table(
    "tenants",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("live_tenant_id", Uuid),
    Column("created_at", _when, nullable=False),
    Column("deleted_at", _when),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("key_hash", LargeBinary, nullable=False),
    Column("last_four", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("revoked_at", _when),
)

clocks = Table(
    "clocks",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("now_at", _when),
    Column("now_rank", SmallInteger, nullable=False),
    Column("now_number", BigInteger, nullable=False),
    Column("stopped_at", _when),
)

clock_moves = Table(
    "clock_moves",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("status", Text, nullable=False),
    Column("from_at", _when, nullable=False),
    Column("target_at", _when, nullable=False),
    Column("reached_at", _when, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("moment_steps", Integer, nullable=False),
    Column("advanced_at", _when, nullable=False),
    Column("marks", JSONB, nullable=False),
    Column("result", JSONB, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("finished_at", _when),
)
