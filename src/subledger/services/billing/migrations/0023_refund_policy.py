"""What becomes of a subscription whose payment was refunded at the provider, by the tenant."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "billing_0023"
down_revision = "billing_0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE billing.refund_settings (
    tenant_id uuid NOT NULL,
    on_outside_refund text NOT NULL CHECK (on_outside_refund IN ('keep', 'cancel')),
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id)
)
"""
    )
    tenant_table(
        "billing.refund_settings",
        role="subledger_billing",
        privileges="SELECT, INSERT, UPDATE",
    )
