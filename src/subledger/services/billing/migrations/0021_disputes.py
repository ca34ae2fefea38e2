"""Disputes of payments as the books know them, and what becomes of access meanwhile."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "billing_0021"
down_revision = "billing_0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE billing.disputes (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    connection_id uuid NOT NULL,
    invoice_id uuid,
    state text NOT NULL CHECK (state IN ('opened', 'won', 'lost')),
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    fee_minor bigint NOT NULL CHECK (fee_minor >= 0),
    currency text NOT NULL,
    on_dispute text NOT NULL CHECK (on_dispute IN ('keep', 'suspend', 'cancel')),
    suspended jsonb NOT NULL,
    work_item_id uuid NOT NULL,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing.accounts,
    FOREIGN KEY (tenant_id, attempt_id) REFERENCES billing.receipts,
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES billing.invoices,
    FOREIGN KEY (tenant_id, work_item_id) REFERENCES billing.work_items,
    CHECK ((closed_at IS NULL) = (state = 'opened'))
)
;;
CREATE INDEX disputes_of_attempt ON billing.disputes (tenant_id, attempt_id)
;;
CREATE INDEX disputes_open ON billing.disputes (tenant_id, account_id) WHERE state = 'opened'
;;
CREATE TABLE billing.dispute_settings (
    tenant_id uuid NOT NULL,
    on_dispute text NOT NULL CHECK (on_dispute IN ('keep', 'suspend', 'cancel')),
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id)
)
;;
CREATE INDEX work_items_open_by_kind ON billing.work_items (tenant_id, kind)
    WHERE closed_at IS NULL
"""
    )
    for table in ("billing.disputes", "billing.dispute_settings"):
        tenant_table(table, role="subledger_billing", privileges="SELECT, INSERT, UPDATE")
