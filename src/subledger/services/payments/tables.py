"""Tables of the schema ``payments`` (the migrations say keys, checks and policies)."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
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
    Column("opens_itself", Boolean, nullable=False),
    Column("credentials_encrypted", LargeBinary, nullable=False),
    Column("webhook_secret_encrypted", LargeBinary, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("name", Text, nullable=False),
    Column("currencies", ARRAY(Text), nullable=False),
    Column("position", SmallInteger, nullable=False),
    Column("credentials_shown", JSONB, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("address_number", Integer, nullable=False),
    Column("webhook_path_encrypted", LargeBinary),
    Column("closed_at", _when),
    Column("reconciles_daily", Boolean, nullable=False),
)

currency_defaults = Table(
    "currency_defaults",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("connection_id", Uuid, nullable=False),
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
    Column("turn", SmallInteger),
    Column("expires_on", Date),
    Column("provider_ref", Text, nullable=False),
    Column("mandate_encrypted", LargeBinary),
    Column("return_url", Text),
    Column("redirect_url", Text),
)

method_tasks = Table(
    "method_tasks",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("method_id", Uuid, primary_key=True),
    Column("action", Text, primary_key=True),
    Column("asked", BigInteger, nullable=False),
    Column("tries", SmallInteger, nullable=False),
    Column("ready_at", _when, nullable=False),
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
    Column("subscription_ids", ARRAY(Uuid), nullable=False),
    Column("capture_method", Text, nullable=False),
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
    Column("looked_at", _when),
)

refunds = Table(
    "refunds",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("payment_id", Uuid, nullable=False),
    Column("attempt_id", Uuid, nullable=False),
    Column("destination", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("cancel_subscription", Boolean, nullable=False),
    Column("asked_minor", BigInteger),
    Column("amount_minor", BigInteger),
    Column("refundable_minor", BigInteger),
    Column("currency", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("code", Text),
    Column("credit_note_id", Uuid),
    Column("provider_ref", Text),
    Column("ready_at", _when, nullable=False),
    Column("claimed_at", _when),
    Column("tries", SmallInteger, nullable=False),
    Column("lost_at", _when),
    Column("exhausted_at", _when),
    Column("cause", Uuid),
    Column("occurred_at", _when, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("finished_at", _when),
)

refund_looks = Table(
    "refund_looks",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("attempt_id", Uuid, primary_key=True),
    Column("asked", BigInteger, nullable=False),
    Column("claimed_at", _when),
    Column("requested_at", _when, nullable=False),
)

disputes = Table(
    "disputes",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("payment_id", Uuid, nullable=False),
    Column("attempt_id", Uuid, nullable=False),
    Column("customer_id", Uuid, nullable=False),
    Column("provider_ref", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
    Column("evidence_due_at", _when),
    Column("opened_at", _when, nullable=False),
    Column("closed_at", _when),
    Column("exhausted_at", _when),
    Column("occurred_at", _when, nullable=False),
)

dispute_looks = Table(
    "dispute_looks",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("attempt_id", Uuid, primary_key=True),
    Column("asked", BigInteger, nullable=False),
    Column("tries", SmallInteger, nullable=False),
    Column("claimed_at", _when),
    Column("requested_at", _when, nullable=False),
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

authorizations = Table(
    "authorizations",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("attempt_id", Uuid, primary_key=True),
    Column("authorized_minor", BigInteger, nullable=False),
    Column("expires_at", _when, nullable=False),
    Column("wish", Text),
    Column("capture_minor", BigInteger),
    Column("tries", SmallInteger, nullable=False),
    Column("ready_at", _when),
    Column("claimed_at", _when),
)

settings = Table(
    "settings",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("return_origins", ARRAY(Text), nullable=False),
    Column("updated_at", _when, nullable=False),
)

offline_payments = Table(
    "offline_payments",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("payment_id", Uuid, primary_key=True),
    Column("method", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("received_at", _when, nullable=False),
    Column("reversed_at", _when),
    Column("reversal_reason", Text),
)

links = Table(
    "links",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("invoice_id", Uuid, nullable=False),
    Column("return_url", Text),
    Column("expires_at", _when),
    Column("revoked_at", _when),
    Column("created_at", _when, nullable=False),
)

attempt_answers = Table(
    "attempt_answers",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("attempt_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("status", SmallInteger),
    Column("body", Text),
    Column("note", Text),
    Column("state", Text),
    Column("webhook_id", Uuid),
    Column("occurred_at", _when, nullable=False),
)

# --- the kill switch of collections -------------------------------------------------------------

holds = Table(
    "holds",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("is_on", Boolean, nullable=False),
)

# --- reconciliation ------------------------------------------------------------------------------

reconciliations = Table(
    "reconciliations",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("connection_id", Uuid, nullable=False),
    Column("origin", Text, nullable=False),
    Column("since_at", _when, nullable=False),
    Column("until_at", _when, nullable=False),
    Column("phase", Text, nullable=False),
    Column("cursor", Text),
    Column("counts", JSONB, nullable=False),
    Column("balances", JSONB, nullable=False),
    Column("ready_at", _when, nullable=False),
    Column("claimed_at", _when),
    Column("tries", SmallInteger, nullable=False),
    Column("code", Text),
    Column("created_at", _when, nullable=False),
    Column("finished_at", _when),
)

settlements = Table(
    "settlements",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("connection_id", Uuid, primary_key=True),
    Column("provider_ref", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("attempt_id", Uuid),
    Column("refund_id", Uuid),
    Column("amount_minor", BigInteger, nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("at", _when, nullable=False),
    Column("payout_ref", Text),
    Column("customer_id", Uuid),
    Column("invoice_id", Uuid),
)

payouts = Table(
    "payouts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("connection_id", Uuid, nullable=False),
    Column("provider_ref", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("gross_minor", BigInteger),
    Column("fee_minor", BigInteger),
    Column("difference_minor", BigInteger),
    Column("paid_at", _when, nullable=False),
    Column("booked_at", _when),
    Column("created_at", _when, nullable=False),
)

differences = Table(
    "differences",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("connection_id", Uuid, nullable=False),
    Column("customer_id", Uuid),
    Column("payment_id", Uuid),
    Column("data", JSONB, nullable=False),
    Column("opened_at", _when, nullable=False),
    Column("closed_at", _when),
    Column("closed_by", Text),
    Column("closed_how", Text),
    Column("reference", Text),
)
