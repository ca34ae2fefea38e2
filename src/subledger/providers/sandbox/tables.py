"""Tables of the schema ``sandbox``: what the provider knows, apart from all that we know."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
)

from subledger.platform.due import due_table

metadata = MetaData(schema="sandbox")
_when = DateTime(timezone=True)

merchants = Table(
    "merchants",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("key_hash", LargeBinary, nullable=False),
    Column("webhook_path", Text, nullable=False),
    Column("created_at", _when, nullable=False),
)
methods = Table(
    "methods",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("token", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("brand", Text, nullable=False),
    Column("last_four", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("expires_on", Date),
    Column("detached_at", _when),
    Column("replaced_by", Text),
    Column("mandate", Text),
)
charges = Table(
    "charges",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("attempt_id", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("at", _when, nullable=False),
    Column("settles_at", _when),
)
refunds = Table(
    "refunds",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("charge_id", Uuid, nullable=False),
    Column("attempt_id", Text, nullable=False),
    Column("refund_id", Text),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("at", _when, nullable=False),
    Column("settles_at", _when),
)
disputes = Table(
    "disputes",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("charge_id", Uuid, nullable=False),
    Column("attempt_id", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
    Column("outcome", Text),
    Column("evidence_due_at", _when, nullable=False),
    Column("opened_at", _when, nullable=False),
    Column("closed_at", _when),
)
pages = Table(
    "pages",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("attempt_id", Text, nullable=False),
    Column("token_hash", LargeBinary, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("return_url", Text, nullable=False),
    Column("save", Boolean, nullable=False),
    Column("locale", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("saved_token", Text),
    Column("tries", Integer, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("capture", Boolean, nullable=False),
)
callbacks = Table(
    "callbacks",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("claimed_at", _when),
    Column("created_at", _when, nullable=False),
    Column("signature", Text, nullable=False),
)
setups = Table(
    "setups",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("setup_id", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("return_url", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("saved_token", Text),
    Column("tries", Integer, nullable=False),
    Column("created_at", _when, nullable=False),
)
challenges = Table(
    "challenges",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("attempt_id", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("page_id", Uuid),
    Column("mandate", Text),
    Column("return_url", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("capture", Boolean, nullable=False),
)
authorizations = Table(
    "authorizations",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("attempt_id", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("at", _when, nullable=False),
    Column("expires_at", _when, nullable=False),
)
faults = Table(
    "faults",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("mode", Text, primary_key=True),
    Column("remaining", Integer, nullable=False),
)
dispute_entries = Table(
    "dispute_entries",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("dispute_id", Uuid, nullable=False),
    Column("attempt_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("at", _when, nullable=False),
)
subjects = Table(
    "subjects",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("attempt_id", Text, primary_key=True),
    Column("customer_id", Text),
    Column("invoice_id", Text),
)
settings = Table(
    "settings",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("fee_basis_points", Integer, nullable=False),
    Column("fee_fixed_minor", BigInteger, nullable=False),
    Column("pays_out_daily", Boolean, nullable=False),
    Column("payout_difference_minor", BigInteger, nullable=False),
)
payouts = Table(
    "payouts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("amount_minor", BigInteger, nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("at", _when, nullable=False),
)
paid_out = Table(
    "paid_out",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("entry_id", Uuid, primary_key=True),
    Column("payout_id", Uuid, nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
)
due = due_table(metadata)
