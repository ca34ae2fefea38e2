"""The guard against mass mistakes."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Date, Numeric, SmallInteger, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from subledger.services.billing.tables.base import metadata, when

billing_limits = Table(
    "billing_limits",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("largest_minor", BigInteger),
    Column("total_minor", BigInteger),
    Column("average_minor", BigInteger),
    Column("invoice_count", BigInteger),
    Column("set_at", when, nullable=False),
)

raised_limits = Table(
    "raised_limits",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("largest_minor", BigInteger),
    Column("total_minor", BigInteger),
    Column("average_minor", BigInteger),
    Column("invoice_count", BigInteger),
    Column("set_at", when, nullable=False),
)

billing_hours = Table(
    "billing_hours",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("hour_at", when, primary_key=True),
    Column("invoice_count", BigInteger, nullable=False),
    Column("total_minor", Numeric(38), nullable=False),
    Column("largest_minor", BigInteger, nullable=False),
)

holds = Table(
    "holds",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("job", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("is_on", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("set_at", when, nullable=False),
)

held_due = Table(
    "held_due",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("due_at", when, nullable=False),
    Column("rank", SmallInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
)

billing_parks = Table(
    "billing_parks",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("job", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("numbers", JSONB, nullable=False),
    Column("work_item_id", Uuid, nullable=False),
    Column("since_at", when, nullable=False),
    Column("released_at", when),
    Column("released_by", Text),
    Column("release_reason", Text),
)

released_runs = Table(
    "released_runs",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("most_minor", BigInteger, nullable=False),
    Column("released_at", when, nullable=False),
)

guard_changes = Table(
    "guard_changes",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", when, nullable=False),
)
