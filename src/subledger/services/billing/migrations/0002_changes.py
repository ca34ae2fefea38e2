"""Changes inside a period: phases over time, account credit, runs that cover no new period."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "billing_0002"
down_revision = "billing_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE billing.subscription_phases (
    tenant_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    from_at timestamptz NOT NULL,
    plan_version_id uuid NOT NULL,
    quantity numeric(38, 12) NOT NULL CHECK (quantity > 0),
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, from_at),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES billing.subscriptions,
    FOREIGN KEY (tenant_id, plan_version_id) REFERENCES billing.plan_versions
)
;;
-- The owner copies every tenant's rows: forced row-level security would hide them from it.
ALTER TABLE billing.subscriptions NO FORCE ROW LEVEL SECURITY
;;
ALTER TABLE billing.invoice_lines NO FORCE ROW LEVEL SECURITY
;;
INSERT INTO billing.subscription_phases
    SELECT tenant_id, id, started_at, plan_version_id, quantity, created_at
    FROM billing.subscriptions
;;
CREATE TABLE billing.scheduled_changes (
    tenant_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    effective_at timestamptz NOT NULL,
    plan_id uuid,
    quantity numeric(38, 12) CHECK (quantity > 0),
    settle text NOT NULL CHECK (settle IN ('auto', 'now', 'next_invoice')),
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES billing.subscriptions,
    FOREIGN KEY (tenant_id, plan_id) REFERENCES billing.plans
)
;;
ALTER TABLE billing.subscriptions
    ADD COLUMN proration text NOT NULL DEFAULT 'day' CHECK (proration IN ('day', 'second')),
    ADD COLUMN dirty_from_period integer
;;
ALTER TABLE billing.invoice_lines ADD COLUMN charged_from_at timestamptz
;;
UPDATE billing.invoice_lines SET charged_from_at = service_start_at
;;
ALTER TABLE billing.invoice_lines ALTER COLUMN charged_from_at SET NOT NULL
;;
ALTER TABLE billing.subscriptions FORCE ROW LEVEL SECURITY
;;
ALTER TABLE billing.invoice_lines FORCE ROW LEVEL SECURITY
;;
ALTER TABLE billing.billing_runs ADD COLUMN kind text NOT NULL DEFAULT 'period'
    CHECK (kind IN ('period', 'change', 'restart'))
;;
ALTER TABLE billing.invoices
    ADD COLUMN credited_minor bigint NOT NULL DEFAULT 0 CHECK (credited_minor >= 0),
    ADD COLUMN credit_applied_minor bigint NOT NULL DEFAULT 0
        CHECK (credit_applied_minor BETWEEN 0 AND total_minor),
    DROP CONSTRAINT invoices_check1
;;
ALTER TABLE billing.invoices
    ADD CHECK (subtotal_minor - discount_minor + tax_minor = total_minor - credited_minor),
    ADD CHECK (total_minor = 0 OR credited_minor = 0)
"""
    )
    role = "subledger_billing"
    for table in ("subscription_phases", "scheduled_changes"):
        tenant_table(f"billing.{table}", role=role, privileges="SELECT, INSERT, UPDATE, DELETE")
