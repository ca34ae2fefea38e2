"""Refunds that end what their payment's invoice bills."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "payments_0011"
down_revision = "payments_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
ALTER TABLE payments.refunds ADD COLUMN cancel_subscription boolean NOT NULL DEFAULT false
"""
    )
