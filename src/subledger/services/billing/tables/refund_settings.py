"""The tenant's policy for refunds that were made at a provider."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text, Uuid

from subledger.services.billing.tables.base import metadata, when

refund_settings = Table(
    "refund_settings",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("on_outside_refund", Text, nullable=False),
    Column("updated_at", when, nullable=False),
)
