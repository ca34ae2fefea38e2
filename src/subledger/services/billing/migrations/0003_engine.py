"""Taxes that prices contain, prices of every timing, and all that a discount has given."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "billing_0003"
down_revision = "billing_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
-- The sums have names that PostgreSQL chose.
DO $$
DECLARE
    old record;
BEGIN
    FOR old IN SELECT conrelid::regclass AS place, conname FROM pg_constraint
        WHERE contype = 'c' AND conrelid IN ('billing.invoices'::regclass,
                                             'billing.invoice_lines'::regclass)
          AND pg_get_constraintdef(oid) ~ 'discount_minor'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', old.place, old.conname);
    END LOOP;
END
$$
;;
ALTER TABLE billing.invoice_lines
    ADD COLUMN tax_included_minor bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT line_sum CHECK (net_minor = gross_minor - discount_minor - tax_included_minor),
    ADD CONSTRAINT line_tax CHECK (tax_included_minor IN (0, tax_minor))
;;
ALTER TABLE billing.invoices
    ADD COLUMN tax_included_minor bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT invoice_sum CHECK (
        subtotal_minor - discount_minor + tax_minor - tax_included_minor
            = total_minor - credited_minor)
;;
ALTER TABLE billing.subscription_discounts
    ADD COLUMN taken_minor bigint NOT NULL DEFAULT 0 CHECK (taken_minor >= 0),
    ADD COLUMN first_at timestamptz
;;
ALTER TABLE billing.products ADD COLUMN tax_category text
;;
ALTER TABLE billing.prices
    ADD COLUMN metered boolean NOT NULL DEFAULT false,
    ADD COLUMN tax_inclusive boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT prices_timing_check,
    ADD CONSTRAINT prices_timing_check CHECK (timing IN ('advance', 'arrears', 'once')),
    ADD CONSTRAINT metered_in_arrears CHECK (NOT metered OR timing = 'arrears')
"""
    )
