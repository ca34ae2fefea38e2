"""Tables of the schema ``webhooks`` (the migrations say keys, checks and policies)."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Integer, LargeBinary, MetaData, Table, Text, Uuid

metadata = MetaData(schema="webhooks")
_when = DateTime(timezone=True)

endpoints = Table(
    "endpoints",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("connection_id", Uuid, nullable=False),
    Column("token_hash", LargeBinary, nullable=False),
    Column("token_encrypted", LargeBinary, nullable=False),
    Column("secret_encrypted", LargeBinary, nullable=False),
    Column("address_number", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", _when, nullable=False),
)

received = Table(
    "received",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("endpoint_id", Uuid, nullable=False),
    Column("dedupe_key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("trust", Text, nullable=False),
    Column("body_encrypted", LargeBinary, nullable=False),
    Column("received_at", _when, nullable=False),
)
