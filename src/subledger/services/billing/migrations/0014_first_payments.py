"""Grace on a start day, by plan version; runs that had nothing to bill have no invoice."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "billing_0014"
down_revision = "billing_0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
ALTER TABLE billing.plan_versions ADD COLUMN grace_at_start boolean NOT NULL DEFAULT false
;;
ALTER TABLE billing.billing_runs ALTER COLUMN invoice_id DROP NOT NULL
"""
    )
