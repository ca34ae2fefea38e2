"""Pauses that end when what is owed is paid."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "billing_0020"
down_revision = "billing_0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("ALTER TABLE billing.pauses ADD COLUMN until_paid boolean NOT NULL DEFAULT false")
