"""Pages and confirmations that only set money aside: it is captured later."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "sandbox_0010"
down_revision = "sandbox_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
ALTER TABLE sandbox.pages ADD COLUMN capture boolean NOT NULL DEFAULT true
;;
ALTER TABLE sandbox.challenges ADD COLUMN capture boolean NOT NULL DEFAULT true
"""
    )
