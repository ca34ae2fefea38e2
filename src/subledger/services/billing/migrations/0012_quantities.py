"""What was used in a period, prices agreed with a customer, ramps."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "billing_0012"
down_revision = "billing_0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE billing.used_quantities (
    tenant_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    price_id uuid NOT NULL,
    period_start_at timestamptz NOT NULL,
    used jsonb NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, price_id, period_start_at),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES billing.subscriptions,
    FOREIGN KEY (tenant_id, price_id) REFERENCES billing.prices
)
;;
CREATE TABLE billing.agreed_prices (
    tenant_id uuid NOT NULL,
    account_id uuid NOT NULL,
    price_id uuid NOT NULL,
    from_at timestamptz NOT NULL,
    model text NOT NULL,
    terms jsonb NOT NULL,
    PRIMARY KEY (tenant_id, account_id, price_id, from_at),
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing.accounts,
    FOREIGN KEY (tenant_id, price_id) REFERENCES billing.prices
)
;;
ALTER TABLE billing.prices ADD COLUMN ramp jsonb NOT NULL DEFAULT '[]'
"""
    )
    for table in ("used_quantities", "agreed_prices"):
        tenant_table(
            f"billing.{table}", role="subledger_billing", privileges="SELECT, INSERT, UPDATE"
        )
