"""Charges that the bank decides later, and charges found by their own id."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "sandbox_0002"
down_revision = "sandbox_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
ALTER TABLE sandbox.charges ADD COLUMN settles_at timestamptz
;;
CREATE UNIQUE INDEX charges_by_id ON sandbox.charges (tenant_id, id)
"""
    )
