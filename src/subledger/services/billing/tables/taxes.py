"""Taxes: settings, rates, rules."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Date, Numeric, Table, Text, Uuid

from subledger.services.billing.tables.base import metadata, when

tax_editions = Table(
    "tax_editions",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("edition", Uuid, nullable=False),
)

tax_settings = Table(
    "tax_settings",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("country", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("vat_id", Text, nullable=False),
    Column("registered", Boolean, nullable=False),
    Column("below_eu_threshold", Boolean, nullable=False),
    Column("rounding", Text, nullable=False),
    Column("ties", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("updated_at", when, nullable=False),
)

tax_rates = Table(
    "tax_rates",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("percent", Numeric, nullable=False),
    Column("country", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("levy", Text, nullable=False),
    Column("compound", Boolean, nullable=False),
    Column("created_at", when, nullable=False),
)

tax_rules = Table(
    "tax_rules",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("tax_rate_id", Uuid, nullable=False),
    Column("category", Text, nullable=False),
    Column("treatment", Text, nullable=False),
    Column("from_on", Date),
    Column("until_on", Date),
    Column("created_at", when, nullable=False),
)
