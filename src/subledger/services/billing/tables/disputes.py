"""Disputes of payments, and the tenant's access policy."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from subledger.services.billing.tables.base import metadata, when

disputes = Table(
    "disputes",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("payment_id", Uuid, nullable=False),
    Column("attempt_id", Uuid, nullable=False),
    Column("connection_id", Uuid, nullable=False),
    Column("invoice_id", Uuid),
    Column("state", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("on_dispute", Text, nullable=False),
    Column("suspended", JSONB, nullable=False),
    Column("work_item_id", Uuid, nullable=False),
    Column("opened_at", when, nullable=False),
    Column("closed_at", when),
)

dispute_settings = Table(
    "dispute_settings",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("on_dispute", Text, nullable=False),
    Column("updated_at", when, nullable=False),
)
