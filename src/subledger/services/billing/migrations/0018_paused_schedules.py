"""Recognition stands still while a service does: its schedules know their pauses."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "billing_0018"
down_revision = "billing_0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
ALTER TABLE billing.recognition_schedules
    -- From and until, one after the other: of a pause that runs only from.
    ADD COLUMN paused_units bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN is_paused boolean NOT NULL DEFAULT false,
    ADD CHECK (is_paused = (cardinality(paused_units) % 2 = 1))
"""
    )
