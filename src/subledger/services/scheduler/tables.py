"""Tables of the schema ``scheduler``: dunning policies, what they are chosen by, collections in
dunning, due moments, and the kill switch behind which they wait."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from subledger.platform.due import due_table
from subledger.platform.eventlog.tables import consumer_tables

metadata = MetaData(schema="scheduler")
_when = DateTime(timezone=True)

policies = Table(
    "policies",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("segment", JSONB),
    Column("terms", JSONB, nullable=False),
    Column("updated_at", _when, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("timezone", Text, nullable=False),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("plan_id", Uuid, nullable=False),
    Column("product_id", Uuid, nullable=False),
    Column("currency", Text, nullable=False),
)

collections = Table(
    "collections",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("invoice_id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("failures", JSONB, nullable=False),
    Column("retries", BigInteger, nullable=False),
    Column("first_failed_at", _when, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("ended_at", _when),
    Column("subscription_ids", ARRAY(Uuid), nullable=False),
    Column("amount_minor", BigInteger),
    Column("currency", Text),
    Column("policy_id", Uuid),
    Column("policy_name", Text, nullable=False),
    Column("policy_version", BigInteger, nullable=False),
    Column("terms", JSONB),
    Column("method_id", Uuid),
    Column("new_method_id", Uuid),
)

holds = Table(
    "holds",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("is_on", Boolean, nullable=False),
)

held_due = Table(
    "held_due",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("due_at", _when, nullable=False),
    Column("rank", SmallInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
)

due = due_table(metadata)
cursors, parked, blocked = consumer_tables(metadata)
