"""Customers, products, plans, prices, discounts, promo codes."""

from __future__ import annotations

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, Integer, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from subledger.services.billing.tables.base import metadata, when

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
    Column("tax_id_checked_at", when),
    Column("tax_exempt_reason", Text, nullable=False),
    Column("tax_rate_ids", ARRAY(Uuid), nullable=False),
    Column("next_subscription_number", BigInteger, nullable=False),
    Column("last_occurred_at", when, nullable=False),
    Column("created_at", when, nullable=False),
    Column("deleted_at", when),
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
    Column("created_at", when, nullable=False),
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
    Column("created_at", when, nullable=False),
)

plan_versions = Table(
    "plan_versions",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("plan_id", Uuid, nullable=False),
    Column("version", Integer, nullable=False),
    Column("grace_s", BigInteger, nullable=False),
    Column("created_at", when, nullable=False),
    Column("trial_days", Integer, nullable=False),
    Column("trial_requires_payment_method", Boolean, nullable=False),
    Column("grace_at_start", Boolean, nullable=False),
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
    Column("created_at", when, nullable=False),
    Column("archived_at", when),
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
    Column("valid_from_at", when),
    Column("valid_until_at", when),
    Column("redemptions", BigInteger, nullable=False),
    Column("created_at", when, nullable=False),
    Column("deactivated_at", when),
)

promotion_redemptions = Table(
    "promotion_redemptions",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("promotion_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, primary_key=True),
    Column("customer_id", Uuid, nullable=False),
    Column("redeemed_at", when, nullable=False),
    Column("released_at", when),
)

customer_discounts = Table(
    "customer_discounts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("customer_id", Uuid, primary_key=True),
    Column("discount_id", Uuid, primary_key=True),
    Column("added_at", when, nullable=False),
    Column("removed_at", when),
)

discount_settings = Table(
    "discount_settings",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("from_at", when, primary_key=True),
    Column("stacking", Text, nullable=False),
    Column("exclusive", Text, nullable=False),
    Column("split", Text, nullable=False),
)

agreed_prices = Table(
    "agreed_prices",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("account_id", Uuid, primary_key=True),
    Column("price_id", Uuid, primary_key=True),
    Column("from_at", when, primary_key=True),
    Column("model", Text, nullable=False),
    Column("terms", JSONB, nullable=False),
)

saved_methods = Table(
    "saved_methods",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("account_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
)
