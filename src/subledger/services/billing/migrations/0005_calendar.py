"""Where cycles hang, trials, start dates, and which customers have a payment method."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "billing_0005"
down_revision = "billing_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
ALTER TABLE billing.plan_versions
    ADD COLUMN trial_days integer NOT NULL DEFAULT 0 CHECK (trial_days BETWEEN 0 AND 1100),
    ADD COLUMN trial_requires_payment_method boolean NOT NULL DEFAULT false
;;
ALTER TABLE billing.subscriptions
    ADD COLUMN anchor_day integer CHECK (anchor_day BETWEEN 1 AND 31),
    -- A local time, written as if it were UTC.
    ADD COLUMN anchor_wall timestamptz,
    ADD COLUMN billing_anchor jsonb NOT NULL DEFAULT '{"kind": "anniversary"}',
    ADD COLUMN first_period text NOT NULL DEFAULT 'prorated'
        CHECK (first_period IN ('prorated', 'full', 'free')),
    ADD COLUMN trial_end_at timestamptz CHECK (trial_end_at > started_at),
    ADD COLUMN trial_end_behavior text NOT NULL DEFAULT 'invoice'
        CHECK (trial_end_behavior IN ('invoice', 'cancel')),
    ADD COLUMN cycle_started_at timestamptz
;;
-- The owner fills in every tenant's rows: forced row-level security would hide them from it.
ALTER TABLE billing.subscriptions NO FORCE ROW LEVEL SECURITY
;;
UPDATE billing.subscriptions SET cycle_started_at = anchor_at
;;
ALTER TABLE billing.subscriptions ALTER COLUMN cycle_started_at SET NOT NULL
;;
ALTER TABLE billing.subscriptions FORCE ROW LEVEL SECURITY
;;
ALTER TABLE billing.scheduled_changes ADD COLUMN billing_anchor jsonb
;;
CREATE TABLE billing.saved_methods (
    tenant_id uuid NOT NULL,
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    PRIMARY KEY (tenant_id, account_id, id),
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing.accounts
)
"""
    )
    tenant_table(
        "billing.saved_methods", role="subledger_billing", privileges="SELECT, INSERT, DELETE"
    )
