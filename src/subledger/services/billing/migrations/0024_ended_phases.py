"""Between a subscription's end and its going on, nothing is billed in arrears."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "billing_0024"
down_revision = "billing_0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
ALTER TABLE billing.subscription_phases
    ADD COLUMN is_ended boolean NOT NULL DEFAULT false,
    ADD CHECK (NOT (is_ended AND is_paused))
"""
    )
