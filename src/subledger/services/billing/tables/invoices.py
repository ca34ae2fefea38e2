"""Invoices with lines and runs, credit notes, what collects them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from subledger.services.billing.tables.base import metadata, when

invoice_settings = Table(
    "invoice_settings",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("draft_s", BigInteger, nullable=False),
    Column("zero_invoices", Text, nullable=False),
    Column("minimums", JSONB, nullable=False),
    Column("updated_at", when, nullable=False),
)

number_series = Table(
    "number_series",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("series", Text, primary_key=True),
    Column("last_number", BigInteger, nullable=False),
)

invoices = Table(
    "invoices",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("series", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("subtotal_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("tax_included_minor", BigInteger, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("credited_minor", BigInteger, nullable=False),
    Column("credit_applied_minor", BigInteger, nullable=False),
    Column("paid_minor", BigInteger, nullable=False),
    Column("drafted_at", when),
    Column("due_at", when),
    Column("finalized_at", when),
    Column("closed_at", when),
    Column("close_reason", Text),
    Column("inputs", JSONB, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("tax", JSONB),
    Column("noted_minor", BigInteger, nullable=False),
    Column("offset_minor", BigInteger, nullable=False),
    Column("replaces_invoice_id", Uuid),
    Column("replaced_by_invoice_id", Uuid),
)

billing_runs = Table(
    "billing_runs",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("invoice_id", Uuid),
    Column("period_start_at", when, nullable=False),
    Column("period_end_at", when, nullable=False),
    Column("kind", Text, nullable=False),
)

invoice_lines = Table(
    "invoice_lines",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("invoice_id", Uuid, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subscription_id", Uuid, nullable=False),
    Column("run_number", BigInteger, nullable=False),
    Column("price_id", Uuid, nullable=False),
    Column("charged_from_at", when, nullable=False),
    Column("service_start_at", when, nullable=False),
    Column("service_end_at", when, nullable=False),
    Column("quantity", Numeric(38, 12), nullable=False),
    Column("gross_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("net_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("tax_included_minor", BigInteger, nullable=False),
    Column("tax_rate", Numeric, nullable=False),
    Column("currency", Text, nullable=False),
    Column("derivation", JSONB, nullable=False),
    Column("noted_gross_minor", BigInteger, nullable=False),
    Column("noted_discount_minor", BigInteger, nullable=False),
    Column("noted_net_minor", BigInteger, nullable=False),
    Column("noted_tax_minor", BigInteger, nullable=False),
)

reservations = Table(
    "reservations",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("invoice_id", Uuid, primary_key=True),
    Column("attempt_id", Uuid, primary_key=True),
    Column("amount_minor", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("reserved_at", when, nullable=False),
    Column("closed_at", when),
)

receipts = Table(
    "receipts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("payment_id", Uuid, nullable=False),
    Column("attempt_id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("invoice_id", Uuid),
    Column("applied_minor", BigInteger, nullable=False),
    Column("unapplied_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("received_at", when, nullable=False),
    Column("reversed_at", when),
    Column("stays_applied", Boolean, nullable=False),
)

credit_notes = Table(
    "credit_notes",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("invoice_id", Uuid, nullable=False),
    Column("series", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("memo", Text),
    Column("currency", Text, nullable=False),
    Column("gross_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("net_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("offset_minor", BigInteger, nullable=False),
    Column("credit_minor", BigInteger, nullable=False),
    Column("refund_minor", BigInteger, nullable=False),
    Column("credit_before_minor", BigInteger, nullable=False),
    Column("derivation", JSONB, nullable=False),
    Column("issued_at", when, nullable=False),
    Column("recorded_at", when, nullable=False),
    Column("voided_at", when),
    Column("void_reason", Text),
)

credit_note_lines = Table(
    "credit_note_lines",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("credit_note_id", Uuid, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("invoice_id", Uuid, nullable=False),
    Column("gross_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("net_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("deferred_minor", BigInteger, nullable=False),
    Column("revenue_minor", BigInteger, nullable=False),
    Column("derivation", JSONB, nullable=False),
)

refunds = Table(
    "refunds",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("payment_id", Uuid, nullable=False),
    Column("attempt_id", Uuid, nullable=False),
    Column("connection_id", Uuid, nullable=False),
    Column("invoice_id", Uuid),
    Column("credit_note_id", Uuid),
    Column("destination", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("unapplied_minor", BigInteger, nullable=False),
    Column("credit_minor", BigInteger, nullable=False),
    Column("note_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("granted_at", when, nullable=False),
)

work_items = Table(
    "work_items",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("account_id", Uuid),
    Column("data", JSONB, nullable=False),
    Column("opened_at", when, nullable=False),
    Column("closed_at", when),
    Column("closed_by", Text),
    Column("close_reason", Text),
)

payouts = Table(
    "payouts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("connection_id", Uuid, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
    Column("difference_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("booked_at", when, nullable=False),
)

differences = Table(
    "differences",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("work_item_id", Uuid, nullable=False),
)
