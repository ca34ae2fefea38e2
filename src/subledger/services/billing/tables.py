"""Tables of the schema ``billing`` (the migrations say keys, checks and policies)."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from subledger.platform.due import due_table
from subledger.platform.eventlog.tables import consumer_tables

metadata = MetaData(schema="billing")
_when = DateTime(timezone=True)

accounts = Table(
    "accounts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("external_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("email_normalized", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("locale", Text, nullable=False),
    Column("country", Text, nullable=False),
    Column("net_days", Integer, nullable=False),
    Column("consolidate", Boolean, nullable=False),
    Column("region", Text, nullable=False),
    Column("tax_id", Text, nullable=False),
    Column("tax_id_check", Text, nullable=False),
    Column("tax_id_checked_at", _when),
    Column("tax_exempt_reason", Text, nullable=False),
    Column("tax_rate_ids", ARRAY(Uuid), nullable=False),
    Column("next_subscription_number", BigInteger, nullable=False),
    Column("last_occurred_at", _when, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("deleted_at", _when),
)

products = Table(
    "products",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("resources", ARRAY(Text), nullable=False),
    Column("tax_category", Text),
    Column("created_at", _when, nullable=False),
)

plans = Table(
    "plans",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("product_id", Uuid, nullable=False),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("created_at", _when, nullable=False),
)

plan_versions = Table(
    "plan_versions",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("plan_id", Uuid, nullable=False),
    Column("version", Integer, nullable=False),
    Column("grace_s", BigInteger, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("trial_days", Integer, nullable=False),
    Column("trial_requires_payment_method", Boolean, nullable=False),
)

prices = Table(
    "prices",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("plan_version_id", Uuid, nullable=False),
    Column("code", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("interval_unit", Text, nullable=False),
    Column("interval_count", Integer, nullable=False),
    Column("timing", Text, nullable=False),
    Column("metered", Boolean, nullable=False),
    Column("tax_inclusive", Boolean, nullable=False),
    Column("terms", JSONB, nullable=False),
    Column("ramp", JSONB, nullable=False),
)

discounts = Table(
    "discounts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("percent", Numeric),
    Column("amount_minor", BigInteger),
    Column("currency", Text),
    Column("duration", Text, nullable=False),
    Column("periods", Integer),
    Column("terms", JSONB, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("archived_at", _when),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("payer_id", Uuid, nullable=False),
    Column("beneficiary_id", Uuid, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("plan_version_id", Uuid, nullable=False),
    Column("currency", Text, nullable=False),
    Column("quantity", Numeric(38, 12), nullable=False),
    Column("status", Text, nullable=False),
    Column("anchor_at", _when, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("started_at", _when, nullable=False),
    Column("current_period_start_at", _when, nullable=False),
    Column("current_period_end_at", _when, nullable=False),
    Column("billed_through_at", _when, nullable=False),
    Column("period_number", Integer, nullable=False),
    Column("last_run_number", BigInteger, nullable=False),
    Column("cancel_at", _when),
    Column("ended_at", _when),
    Column("end_reason", Text),
    Column("collection", Text, nullable=False),
    Column("payment_method_id", Uuid),
    Column("return_url", Text),
    Column("parked_reason", Text),
    Column("proration", Text, nullable=False),
    Column("dirty_from_period", Integer),
    Column("created_at", _when, nullable=False),
    Column("anchor_day", Integer),
    Column("anchor_wall", DateTime(timezone=False)),
    Column("billing_anchor", JSONB, nullable=False),
    Column("first_period", Text, nullable=False),
    Column("trial_end_at", _when),
    Column("trial_end_behavior", Text, nullable=False),
    Column("cycle_started_at", _when, nullable=False),
    Column("charged_until_at", _when),
    Column("cancel_credit", Boolean, nullable=False),
    Column("cancel_reason", Text),
    Column("cancel_comment", Text),
    Column("is_extended", Boolean, nullable=False),
)

subscription_phases = Table(
    "subscription_phases",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, primary_key=True),
    Column("from_at", _when, primary_key=True),
    Column("plan_version_id", Uuid, nullable=False),
    Column("quantity", Numeric(38, 12), nullable=False),
    Column("recorded_at", _when, nullable=False),
    Column("is_paused", Boolean, nullable=False),
)

scheduled_changes = Table(
    "scheduled_changes",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, primary_key=True),
    Column("effective_at", _when, nullable=False),
    Column("plan_id", Uuid),
    Column("quantity", Numeric(38, 12)),
    Column("settle", Text, nullable=False),
    Column("recorded_at", _when, nullable=False),
    Column("billing_anchor", JSONB),
    Column("plan_version_id", Uuid),
)

subscription_changes = Table(
    "subscription_changes",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("effective_at", _when, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("recorded_at", _when, nullable=False),
)

subscription_discounts = Table(
    "subscription_discounts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("discount_id", Uuid, nullable=False),
    Column("used_periods", Integer, nullable=False),
    Column("taken_minor", BigInteger, nullable=False),
    Column("first_at", _when),
    Column("from_at", _when),
    Column("until_at", _when),
    Column("source", Text, nullable=False),
    Column("promotion_id", Uuid),
)

invoice_settings = Table(
    "invoice_settings",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("draft_s", BigInteger, nullable=False),
    Column("zero_invoices", Text, nullable=False),
    Column("minimums", JSONB, nullable=False),
    Column("updated_at", _when, nullable=False),
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
    Column("number", BigInteger),
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
    Column("drafted_at", _when),
    Column("due_at", _when),
    Column("finalized_at", _when),
    Column("closed_at", _when),
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
    Column("invoice_id", Uuid, nullable=False),
    Column("period_start_at", _when, nullable=False),
    Column("period_end_at", _when, nullable=False),
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
    Column("charged_from_at", _when, nullable=False),
    Column("service_start_at", _when, nullable=False),
    Column("service_end_at", _when, nullable=False),
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
    Column("reserved_at", _when, nullable=False),
    Column("closed_at", _when),
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
    Column("received_at", _when, nullable=False),
)

work_items = Table(
    "work_items",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("account_id", Uuid),
    Column("data", JSONB, nullable=False),
    Column("opened_at", _when, nullable=False),
    Column("closed_at", _when),
    Column("closed_by", Text),
    Column("close_reason", Text),
)

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
    Column("occurred_at", _when, nullable=False),
    Column("recorded_at", _when, nullable=False),
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

due = due_table(metadata)
cursors, parked, blocked = consumer_tables(metadata)

saved_methods = Table(
    "saved_methods",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("account_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
)

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
    Column("updated_at", _when, nullable=False),
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
    Column("created_at", _when, nullable=False),
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
    Column("created_at", _when, nullable=False),
)

plan_migrations = Table(
    "plan_migrations",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("plan_id", Uuid, nullable=False),
    Column("from_version_id", Uuid),
    Column("up_to_version", Integer, nullable=False),
    Column("to_plan_id", Uuid, nullable=False),
    Column("to_version_id", Uuid, nullable=False),
    Column("effective", Text, nullable=False),
    Column("settle", Text, nullable=False),
    Column("note", Text),
    Column("status", Text, nullable=False),
    Column("subscriptions_found", BigInteger, nullable=False),
    Column("last_listed_id", Uuid, nullable=False),
    Column("is_listed", Boolean, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("scheduled", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("cause", Uuid),
    Column("created_at", _when, nullable=False),
    Column("ended_at", _when),
    Column("worked_at", _when, nullable=False),
)

plan_migration_results = Table(
    "plan_migration_results",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("migration_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
    Column("detail", Text),
    Column("from_version_id", Uuid, nullable=False),
    Column("currency", Text, nullable=False),
    Column("effective_at", _when),
    Column("before_minor", BigInteger),
    Column("after_minor", BigInteger),
    Column("immediate_minor", BigInteger),
    Column("recorded_at", _when),
)

plan_migration_totals = Table(
    "plan_migration_totals",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("migration_id", Uuid, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("from_version_id", Uuid, primary_key=True),
    Column("up", BigInteger, nullable=False),
    Column("down", BigInteger, nullable=False),
    Column("same", BigInteger, nullable=False),
    Column("before_minor", Numeric(38), nullable=False),
    Column("after_minor", Numeric(38), nullable=False),
    Column("immediate_minor", Numeric(38), nullable=False),
)

recognition_policies = Table(
    "recognition_policies",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("through_unit", BigInteger, nullable=False),
    Column("through_at", _when, nullable=False),
    Column("next_at", _when, nullable=False),
    Column("created_at", _when, nullable=False),
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
    Column("service_start_at", _when, nullable=False),
    Column("service_end_at", _when, nullable=False),
    Column("start_unit", BigInteger, nullable=False),
    Column("end_unit", BigInteger, nullable=False),
    Column("from_unit", BigInteger, nullable=False),
    Column("last_unit", BigInteger, nullable=False),
    Column("base_minor", BigInteger, nullable=False),
    Column("is_late", Boolean, nullable=False),
    Column("is_counted", Boolean, nullable=False),
)

promotions = Table(
    "promotions",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("code", Text, nullable=False),
    Column("generated", Boolean, nullable=False),
    Column("batch_id", Uuid),
    Column("discount_id", Uuid, nullable=False),
    Column("customer_id", Uuid),
    Column("plan_ids", ARRAY(Uuid), nullable=False),
    Column("currencies", ARRAY(Text), nullable=False),
    Column("minimum", JSONB, nullable=False),
    Column("first_purchase_only", Boolean, nullable=False),
    Column("most_redemptions", BigInteger),
    Column("most_per_customer", BigInteger),
    Column("valid_from_at", _when),
    Column("valid_until_at", _when),
    Column("redemptions", BigInteger, nullable=False),
    Column("created_at", _when, nullable=False),
    Column("deactivated_at", _when),
)

promotion_redemptions = Table(
    "promotion_redemptions",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("promotion_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, primary_key=True),
    Column("customer_id", Uuid, nullable=False),
    Column("redeemed_at", _when, nullable=False),
    Column("released_at", _when),
)

customer_discounts = Table(
    "customer_discounts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("customer_id", Uuid, primary_key=True),
    Column("discount_id", Uuid, primary_key=True),
    Column("added_at", _when, nullable=False),
    Column("removed_at", _when),
)

discount_settings = Table(
    "discount_settings",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("from_at", _when, primary_key=True),
    Column("stacking", Text, nullable=False),
    Column("exclusive", Text, nullable=False),
    Column("split", Text, nullable=False),
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
    Column("issued_at", _when, nullable=False),
    Column("recorded_at", _when, nullable=False),
    Column("voided_at", _when),
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
    Column("made_at", _when, nullable=False),
)

pauses = Table(
    "pauses",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("state", Text, nullable=False),
    Column("credit", Text, nullable=False),
    Column("from_at", _when, nullable=False),
    Column("resume_at", _when),
    Column("resumed_at", _when),
    Column("anchor_at", _when),
    Column("period_number", Integer),
    Column("period_end_at", _when),
    Column("extended_to_at", _when),
    Column("recorded_at", _when, nullable=False),
)

used_quantities = Table(
    "used_quantities",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, primary_key=True),
    Column("price_id", Uuid, primary_key=True),
    Column("period_start_at", _when, primary_key=True),
    Column("used", JSONB, nullable=False),
    Column("recorded_at", _when, nullable=False),
)

agreed_prices = Table(
    "agreed_prices",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("account_id", Uuid, primary_key=True),
    Column("price_id", Uuid, primary_key=True),
    Column("from_at", _when, primary_key=True),
    Column("model", Text, nullable=False),
    Column("terms", JSONB, nullable=False),
)

# --- the guard against mass mistakes ------------------------------------------------------------

billing_limits = Table(
    "billing_limits",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("largest_minor", BigInteger),
    Column("total_minor", BigInteger),
    Column("average_minor", BigInteger),
    Column("invoice_count", BigInteger),
    Column("set_at", _when, nullable=False),
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
    Column("set_at", _when, nullable=False),
)

billing_hours = Table(
    "billing_hours",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("hour_at", _when, primary_key=True),
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
    Column("set_at", _when, nullable=False),
)

held_due = Table(
    "held_due",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("due_at", _when, nullable=False),
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
    Column("since_at", _when, nullable=False),
    Column("released_at", _when),
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
    Column("released_at", _when, nullable=False),
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
    Column("changed_at", _when, nullable=False),
)
