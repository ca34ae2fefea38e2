"""Tables of the schema ``sandbox``: what the provider knows, apart from all that we know."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
)

from subledger.platform.due import due_table

metadata = MetaData(schema="sandbox")
_when = DateTime(timezone=True)

merchants = Table(
    "merchants",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("key_hash", LargeBinary, nullable=False),
    Column("webhook_path", Text, nullable=False),
    Column("created_at", _when, nullable=False),
)
methods = Table(
    "methods",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("token", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("brand", Text, nullable=False),
    Column("last_four", Text, nullable=False),
    Column("tries", Integer, nullable=False),
)
charges = Table(
    "charges",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("attempt_id", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("at", _when, nullable=False),
    Column("settles_at", _when),
)
pages = Table(
    "pages",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("attempt_id", Text, nullable=False),
    Column("token_hash", LargeBinary, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("return_url", Text, nullable=False),
    Column("save", Boolean, nullable=False),
    Column("locale", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("saved_token", Text),
    Column("tries", Integer, nullable=False),
    Column("created_at", _when, nullable=False),
)
callbacks = Table(
    "callbacks",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("claimed_at", _when),
    Column("created_at", _when, nullable=False),
)
faults = Table(
    "faults",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("mode", Text, primary_key=True),
    Column("remaining", Integer, nullable=False),
)
due = due_table(metadata)
