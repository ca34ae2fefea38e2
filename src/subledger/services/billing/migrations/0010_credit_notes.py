"""Credit notes with their lines, adjustments of account credit, invoices that replace another."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "billing_0010"
down_revision = "billing_0009"
branch_labels = None
depends_on = None


_SCHEMA = """
-- What standing notes gave back: of each line and of the invoice, never more than it is. A default
-- of a constant rewrites no row.
ALTER TABLE billing.invoice_lines
    ADD COLUMN noted_gross_minor bigint NOT NULL DEFAULT 0,
    ADD COLUMN noted_discount_minor bigint NOT NULL DEFAULT 0,
    ADD COLUMN noted_net_minor bigint NOT NULL DEFAULT 0,
    ADD COLUMN noted_tax_minor bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT notes_within_line CHECK (
        noted_gross_minor BETWEEN 0 AND greatest(gross_minor, 0)
        AND noted_discount_minor BETWEEN 0 AND greatest(discount_minor, 0)
        AND noted_net_minor BETWEEN 0 AND greatest(net_minor, 0)
        AND noted_tax_minor BETWEEN 0 AND greatest(tax_minor, 0)
    )
;;
ALTER TABLE billing.invoices
    ADD COLUMN noted_minor bigint NOT NULL DEFAULT 0
        CHECK (noted_minor BETWEEN 0 AND total_minor),
    ADD COLUMN offset_minor bigint NOT NULL DEFAULT 0
        CHECK (offset_minor BETWEEN 0 AND noted_minor),
    ADD COLUMN replaces_invoice_id uuid,
    ADD COLUMN replaced_by_invoice_id uuid,
    ADD FOREIGN KEY (tenant_id, replaces_invoice_id) REFERENCES billing.invoices,
    ADD FOREIGN KEY (tenant_id, replaced_by_invoice_id) REFERENCES billing.invoices,
    ADD CHECK (offset_minor <= paid_minor),
    ADD CHECK (replaced_by_invoice_id IS NULL OR status = 'void')
;;
CREATE UNIQUE INDEX invoices_replaced_once ON billing.invoices (tenant_id, replaces_invoice_id)
    NULLS NOT DISTINCT
    WHERE replaces_invoice_id IS NOT NULL
;;
CREATE TABLE billing.credit_notes (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    series text NOT NULL,
    number bigint NOT NULL,
    status text NOT NULL CHECK (status IN ('issued', 'void')),
    reason text NOT NULL CHECK (reason IN ('duplicate', 'fraudulent', 'order_change',
        'cancellation', 'unsatisfactory', 'pricing_error', 'goodwill', 'other')),
    memo text,
    currency text NOT NULL,
    gross_minor bigint NOT NULL CHECK (gross_minor > 0),
    discount_minor bigint NOT NULL CHECK (discount_minor >= 0),
    net_minor bigint NOT NULL CHECK (net_minor >= 0),
    tax_minor bigint NOT NULL CHECK (tax_minor >= 0),
    total_minor bigint NOT NULL CHECK (total_minor > 0),
    offset_minor bigint NOT NULL CHECK (offset_minor >= 0),
    credit_minor bigint NOT NULL CHECK (credit_minor >= 0),
    refund_minor bigint NOT NULL CHECK (refund_minor >= 0),
    credit_before_minor bigint NOT NULL CHECK (credit_before_minor >= 0),
    derivation jsonb NOT NULL,
    issued_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    voided_at timestamptz,
    void_reason text,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, series, number),
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing.accounts,
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES billing.invoices,
    CHECK (gross_minor - discount_minor >= net_minor),
    CHECK (net_minor + tax_minor = total_minor),
    CHECK (offset_minor + credit_minor + refund_minor = total_minor),
    CHECK ((status = 'void') = (voided_at IS NOT NULL))
)
;;
CREATE INDEX credit_notes_of_account ON billing.credit_notes (tenant_id, account_id, id)
;;
CREATE INDEX credit_notes_of_invoice ON billing.credit_notes (tenant_id, invoice_id, id)
;;
CREATE TABLE billing.credit_note_lines (
    tenant_id uuid NOT NULL,
    credit_note_id uuid NOT NULL,
    n integer NOT NULL,
    invoice_id uuid NOT NULL,
    gross_minor bigint NOT NULL CHECK (gross_minor > 0),
    discount_minor bigint NOT NULL CHECK (discount_minor >= 0),
    net_minor bigint NOT NULL CHECK (net_minor >= 0),
    tax_minor bigint NOT NULL CHECK (tax_minor >= 0),
    deferred_minor bigint NOT NULL CHECK (deferred_minor >= 0),
    revenue_minor bigint NOT NULL CHECK (revenue_minor >= 0),
    derivation jsonb NOT NULL,
    PRIMARY KEY (tenant_id, credit_note_id, n),
    FOREIGN KEY (tenant_id, credit_note_id) REFERENCES billing.credit_notes,
    FOREIGN KEY (tenant_id, invoice_id, n) REFERENCES billing.invoice_lines,
    CHECK (gross_minor - discount_minor >= net_minor),
    CHECK (deferred_minor + revenue_minor = net_minor)
)
;;
CREATE TABLE billing.adjustments (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    direction text NOT NULL CHECK (direction IN ('credit', 'debit')),
    amount_minor bigint NOT NULL CHECK (amount_minor BETWEEN 1 AND 1000000000000000),
    currency text NOT NULL,
    reason text NOT NULL,
    made_by text NOT NULL,
    made_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing.accounts
)
;;
CREATE INDEX adjustments_of_account ON billing.adjustments (tenant_id, account_id, id)
"""


def upgrade() -> None:
    run(_SCHEMA)
    role = "subledger_billing"
    tenant_table("billing.credit_notes", role=role, privileges="SELECT, INSERT, UPDATE")
    for table in ("credit_note_lines", "adjustments"):
        tenant_table(f"billing.{table}", role=role, privileges="SELECT, INSERT")
