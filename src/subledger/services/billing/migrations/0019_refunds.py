"""Refunds that billing granted or found made: what each was taken from."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "billing_0019"
down_revision = "billing_0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE billing.refunds (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    connection_id uuid NOT NULL,
    invoice_id uuid,
    credit_note_id uuid,
    destination text NOT NULL CHECK (destination IN ('method', 'credit')),
    source text NOT NULL CHECK (source IN ('invoice', 'credit')),
    state text NOT NULL CHECK (state IN ('granted', 'succeeded', 'failed')),
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    unapplied_minor bigint NOT NULL CHECK (unapplied_minor >= 0),
    credit_minor bigint NOT NULL CHECK (credit_minor >= 0),
    note_minor bigint NOT NULL CHECK (note_minor >= 0),
    currency text NOT NULL,
    granted_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing.accounts,
    FOREIGN KEY (tenant_id, attempt_id) REFERENCES billing.receipts,
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES billing.invoices,
    FOREIGN KEY (tenant_id, credit_note_id) REFERENCES billing.credit_notes,
    CHECK (unapplied_minor + credit_minor + note_minor = amount_minor),
    CHECK ((note_minor > 0) = (credit_note_id IS NOT NULL))
)
;;
CREATE INDEX refunds_of_attempt ON billing.refunds (tenant_id, attempt_id)
"""
    )
    tenant_table("billing.refunds", role="subledger_billing", privileges="SELECT, INSERT, UPDATE")
