"""Tables of the schema ``entitlements``: customers, products' resources, grants."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY

from subledger.platform.eventlog.tables import consumer_tables

metadata = MetaData(schema="entitlements")
_when = DateTime(timezone=True)

customers = Table(
    "customers",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("external_id", Text, nullable=False),
    Column("changed_at", _when, nullable=False),
    Column("deleted_at", _when),
)

products = Table(
    "products",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("resources", ARRAY(Text), nullable=False),
)

grants = Table(
    "grants",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, primary_key=True),
    Column("customer_id", Uuid, nullable=False),
    Column("product_id", Uuid, nullable=False),
    Column("state", Text, nullable=False),
    Column("valid_until_at", _when, nullable=False),
    Column("changed_at", _when, nullable=False),
)

cursors, parked, blocked = consumer_tables(metadata)
