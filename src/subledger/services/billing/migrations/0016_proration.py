"""What is counted, what is rounded and what a stub is measured against where time is shared."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "billing_0016"
down_revision = "billing_0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
ALTER TABLE billing.subscriptions
    DROP CONSTRAINT subscriptions_proration_check,
    ADD CONSTRAINT subscriptions_proration_check
        CHECK (proration IN ('day', 'second', 'month_of_30', 'none')),
    ADD COLUMN proration_rounds text NOT NULL DEFAULT 'used'
        CHECK (proration_rounds IN ('used', 'credit')),
    ADD COLUMN stub_denominator text NOT NULL DEFAULT 'grid'
        CHECK (stub_denominator IN ('grid', 'imagined', 'counted_back')),
    ADD COLUMN last_day_charged boolean NOT NULL DEFAULT false
"""
    )
