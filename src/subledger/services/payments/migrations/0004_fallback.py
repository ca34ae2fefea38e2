"""A customer's order of payment methods, when a card expires, and what a payment is for."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "payments_0004"
down_revision = "payments_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
ALTER TABLE payments.methods
    ADD COLUMN turn smallint CHECK (turn > 0),
    ADD COLUMN expires_on date
;;
ALTER TABLE payments.payments ADD COLUMN subscription_ids uuid[] NOT NULL DEFAULT '{}'
"""
    )
