"""A tenant's trial balance reads its own part of the unsummed days and nobody else's."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "billing_0017"
down_revision = "billing_0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
DROP INDEX billing.transfers_recorded
;;
CREATE INDEX transfers_recorded ON billing.transfers (tenant_id, recorded_at)
"""
    )
