"""The ledger, recognition, adjustments."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
)

from subledger.services.billing.tables.base import metadata, when

transfers = Table(
    "transfers",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("ledger_tx", Uuid, primary_key=True),
    Column("n", SmallInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("account_id", Uuid),
    Column("invoice_id", Uuid),
    Column("debit_account", Text, nullable=False),
    Column("credit_account", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("occurred_at", when, nullable=False),
    Column("recorded_at", when, nullable=False),
)

balances = Table(
    "balances",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("account_id", Uuid, primary_key=True),
    Column("ledger", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("balance_minor", BigInteger, nullable=False),
)

ledger_days = Table(
    "ledger_days",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("ledger_account", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("debit_minor", Numeric(38), nullable=False),
    Column("credit_minor", Numeric(38), nullable=False),
)

rolled_up = Table(
    "rolled_up",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("through_day", Date, nullable=False),
)

recognition_policies = Table(
    "recognition_policies",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("through_unit", BigInteger, nullable=False),
    Column("through_at", when, nullable=False),
    Column("next_at", when, nullable=False),
    Column("created_at", when, nullable=False),
)

recognition_schedules = Table(
    "recognition_schedules",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("invoice_id", Uuid, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("policy", Integer, nullable=False),
    Column("currency", Text, nullable=False),
    Column("net_minor", BigInteger, nullable=False),
    Column("service_start_at", when, nullable=False),
    Column("service_end_at", when, nullable=False),
    Column("start_unit", BigInteger, nullable=False),
    Column("end_unit", BigInteger, nullable=False),
    Column("from_unit", BigInteger, nullable=False),
    Column("last_unit", BigInteger, nullable=False),
    Column("base_minor", BigInteger, nullable=False),
    Column("is_late", Boolean, nullable=False),
    Column("is_counted", Boolean, nullable=False),
    Column("paused_units", ARRAY(BigInteger), nullable=False),
    Column("is_paused", Boolean, nullable=False),
)

adjustments = Table(
    "adjustments",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("direction", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("made_at", when, nullable=False),
)
