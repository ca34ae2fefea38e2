"""Discounts of every kind, promo codes with their redemptions, customers' own discounts, and how
discounts stack."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "billing_0009"
down_revision = "billing_0008"
branch_labels = None
depends_on = None

_ROLE = "subledger_billing"


_SCHEMA = """
ALTER TABLE billing.discounts
    DROP CONSTRAINT discounts_kind_check,
    ADD CONSTRAINT discounts_kind_check CHECK (kind IN ('percent', 'fixed', 'free_units')),
    ADD COLUMN terms jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN archived_at timestamptz
;;
-- applies_to names prices by code.
CREATE INDEX prices_by_code ON billing.prices (tenant_id, code)
;;
CREATE TABLE billing.promotions (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    code text NOT NULL CHECK (length(code) BETWEEN 3 AND 64),
    generated boolean NOT NULL,
    batch_id uuid,
    discount_id uuid NOT NULL,
    customer_id uuid,
    plan_ids uuid[] NOT NULL,
    currencies text[] NOT NULL,
    minimum jsonb NOT NULL,
    first_purchase_only boolean NOT NULL,
    most_redemptions bigint CHECK (most_redemptions > 0),
    most_per_customer bigint CHECK (most_per_customer > 0),
    valid_from_at timestamptz,
    valid_until_at timestamptz,
    redemptions bigint NOT NULL CHECK (redemptions >= 0),
    created_at timestamptz NOT NULL,
    deactivated_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code),
    FOREIGN KEY (tenant_id, discount_id) REFERENCES billing.discounts,
    FOREIGN KEY (tenant_id, customer_id) REFERENCES billing.accounts,
    CHECK (redemptions <= most_redemptions),
    CHECK (valid_from_at < valid_until_at)
)
;;
CREATE INDEX promotions_of_discount ON billing.promotions (tenant_id, discount_id, id)
;;
CREATE INDEX promotions_of_batch ON billing.promotions (tenant_id, batch_id, id)
    WHERE batch_id IS NOT NULL
;;
CREATE TABLE billing.promotion_redemptions (
    tenant_id uuid NOT NULL,
    promotion_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    redeemed_at timestamptz NOT NULL,
    released_at timestamptz,
    PRIMARY KEY (tenant_id, promotion_id, subscription_id),
    FOREIGN KEY (tenant_id, promotion_id) REFERENCES billing.promotions,
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES billing.subscriptions,
    FOREIGN KEY (tenant_id, customer_id) REFERENCES billing.accounts
)
;;
CREATE INDEX redemptions_of_customer
    ON billing.promotion_redemptions (tenant_id, promotion_id, customer_id)
;;
CREATE INDEX redemptions_of_subscription
    ON billing.promotion_redemptions (tenant_id, subscription_id)
;;
ALTER TABLE billing.subscription_discounts
    ADD COLUMN from_at timestamptz,
    ADD COLUMN until_at timestamptz,
    ADD COLUMN source text NOT NULL DEFAULT 'direct'
        CHECK (source IN ('direct', 'promotion', 'customer')),
    ADD COLUMN promotion_id uuid,
    ADD FOREIGN KEY (tenant_id, promotion_id) REFERENCES billing.promotions,
    ADD CHECK ((source = 'promotion') = (promotion_id IS NOT NULL))
;;
CREATE TABLE billing.customer_discounts (
    tenant_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    discount_id uuid NOT NULL,
    added_at timestamptz NOT NULL,
    removed_at timestamptz,
    PRIMARY KEY (tenant_id, customer_id, discount_id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES billing.accounts,
    FOREIGN KEY (tenant_id, discount_id) REFERENCES billing.discounts
)
;;
CREATE TABLE billing.discount_settings (
    tenant_id uuid NOT NULL,
    from_at timestamptz NOT NULL,
    stacking text NOT NULL CHECK (stacking IN ('percent_first', 'as_attached')),
    exclusive text NOT NULL CHECK (exclusive IN ('best', 'first')),
    split text NOT NULL CHECK (split IN ('largest_remainder', 'last_line', 'each')),
    PRIMARY KEY (tenant_id, from_at)
)
"""


def upgrade() -> None:
    run(_SCHEMA)
    for table in (
        *("promotions", "promotion_redemptions"),
        *("customer_discounts", "discount_settings"),
    ):
        tenant_table(f"billing.{table}", role=_ROLE)
