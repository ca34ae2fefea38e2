"""Reconciliation: payouts booked, payments reversed and corrected, differences as work items."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "billing_0022"
down_revision = "billing_0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE billing.payouts (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    connection_id uuid NOT NULL,
    amount_minor bigint NOT NULL,
    fee_minor bigint NOT NULL,
    difference_minor bigint NOT NULL,
    currency text NOT NULL,
    booked_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
)
;;
CREATE TABLE billing.differences (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    work_item_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, work_item_id),
    FOREIGN KEY (tenant_id, work_item_id) REFERENCES billing.work_items
)
;;
ALTER TABLE billing.receipts ADD COLUMN reversed_at timestamptz,
    ADD COLUMN stays_applied boolean NOT NULL DEFAULT false
;;
-- A payout is the tenant's, not a customer's.
ALTER TABLE billing.transfers DROP CONSTRAINT transfers_check1,
    ADD CONSTRAINT transfers_of_somebody
        CHECK (account_id IS NOT NULL OR kind IN ('recognized', 'paid_out'))
"""
    )
    for table in ("payouts", "differences"):
        tenant_table(f"billing.{table}", role="subledger_billing", privileges="SELECT, INSERT")
