"""Tables of the schema ``payments`` (the migrations say keys, checks and policies)."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from subledger.platform.due import due_table
from subledger.platform.eventlog.tables import consumer_tables

metadata = MetaData(schema="payments")
_when = DateTime(timezone=True)

customers = Table(
    "customers",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("external_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("default_method_id", Uuid),
    Column("deleted_at", _when),
)

connections = Table(
    "connections",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("credentials_encrypted", LargeBinary, nullable=False),
    Column("webhook_secret_encrypted", LargeBinary, nullable=False),
    Column("created_at", _when, nullable=False),
)

methods = Table(
    "methods",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("customer_id", Uuid, nullable=False),
    Column("connection_id", Uuid, nullable=False),
    Column("status", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("brand", Text, nullable=False),
    Column("last_four", Text, nullable=False),
    Column("test_kind", Text),
    Column("make_default", Boolean, nullable=False),
    Column("tries", SmallInteger, nullable=False),
    Column("ready_at", _when, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("detached_at", _when),
)

payments = Table(
    "payments",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("customer_id", Uuid),
    Column("invoice_id", Uuid),
    Column("connection_id", Uuid),
    Column("method_id", Uuid),
    Column("mode", Text, nullable=False),
    Column("dunning", Boolean, nullable=False),
    Column("amount_minor", BigInteger),
    Column("currency", Text),
    Column("status", Text, nullable=False),
    Column("decline", Text),
    Column("failure_code", Text),
    Column("redirect_url", Text),
    Column("return_url", Text),
    Column("cause", Uuid),
    Column("occurred_at", _when, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("finished_at", _when),
)

attempts = Table(
    "attempts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("payment_id", Uuid, nullable=False),
    Column("n", SmallInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("ready_at", _when, nullable=False),
    Column("claimed_at", _when),
    Column("tries", SmallInteger, nullable=False),
    Column("fetches", SmallInteger, nullable=False),
    Column("lost_at", _when),
    Column("exhausted_at", _when),
    Column("provider_ref", Text),
    Column("outcome", JSONB, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("finished_at", _when),
)

retries = Table(
    "retries",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("invoice_id", Uuid, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("payment_id", Uuid, nullable=False),
)

refetches = Table(
    "refetches",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("attempt_id", Uuid, primary_key=True),
    Column("action", Text, nullable=False),
    Column("asked", BigInteger, nullable=False),
    Column("claimed_at", _when),
    Column("requested_at", _when, nullable=False),
)

hints = Table(
    "hints",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("connection_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("attempt_id", Uuid),
    Column("provider_ref", Text),
    Column("tries", SmallInteger, nullable=False),
    Column("created_at", _when, nullable=False),
)

due = due_table(metadata)
cursors, parked, blocked = consumer_tables(metadata)

# --- the kill switch of collections -------------------------------------------------------------

holds = Table(
    "holds",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("is_on", Boolean, nullable=False),
)
