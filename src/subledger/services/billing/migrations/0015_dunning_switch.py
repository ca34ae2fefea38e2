"""Dunning has a kill switch."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "billing_0015"
down_revision = "billing_0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
ALTER TABLE billing.holds DROP CONSTRAINT holds_job_check
;;
ALTER TABLE billing.holds ADD CHECK (job IN ('renewals', 'collections', 'dunning'))
"""
    )
