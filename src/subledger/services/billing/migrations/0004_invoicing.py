"""Invoices that wait: drafts with a grace period, one document for several subscriptions, terms."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "billing_0004"
down_revision = "billing_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE billing.invoice_settings (
    tenant_id uuid NOT NULL PRIMARY KEY,
    draft_s bigint NOT NULL CHECK (draft_s BETWEEN 0 AND 2592000),
    zero_invoices text NOT NULL CHECK (zero_invoices IN ('issue', 'skip')),
    minimums jsonb NOT NULL,
    updated_at timestamptz NOT NULL
)
;;
ALTER TABLE billing.accounts
    ADD COLUMN net_days integer NOT NULL DEFAULT 0 CHECK (net_days BETWEEN 0 AND 365),
    ADD COLUMN consolidate boolean NOT NULL DEFAULT false
;;
ALTER TABLE billing.invoices
    ADD COLUMN drafted_at timestamptz,
    ALTER COLUMN finalized_at DROP NOT NULL,
    ALTER COLUMN due_at DROP NOT NULL,
    DROP CONSTRAINT invoices_status_check,
    ADD CONSTRAINT invoices_status_check
        CHECK (status IN ('draft', 'open', 'paid', 'void', 'uncollectible', 'skipped')),
    ADD CONSTRAINT invoice_numbered CHECK ((status IN ('draft', 'skipped')) = (number = 0)),
    ADD CONSTRAINT invoice_issued CHECK ((status = 'draft') = (finalized_at IS NULL))
;;
DO $$
DECLARE
    old text;
BEGIN
    SELECT conname INTO STRICT old FROM pg_constraint
    WHERE contype = 'c' AND conrelid = 'billing.invoices'::regclass
      AND pg_get_constraintdef(oid) ~ 'closed_at IS NULL';
    EXECUTE format('ALTER TABLE billing.invoices DROP CONSTRAINT %I', old);
END
$$
;;
ALTER TABLE billing.invoices ADD CONSTRAINT invoice_closed
    CHECK ((status IN ('draft', 'open')) = (closed_at IS NULL))
;;
CREATE INDEX drafts ON billing.invoices (tenant_id, account_id) WHERE status = 'draft'
"""
    )
    tenant_table(
        "billing.invoice_settings", role="subledger_billing", privileges="SELECT, INSERT, UPDATE"
    )
