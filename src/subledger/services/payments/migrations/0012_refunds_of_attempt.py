"""Refunds are found by their attempt, which is how a provider lists them."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "payments_0012"
down_revision = "payments_0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("CREATE INDEX refunds_of_attempt ON payments.refunds (tenant_id, attempt_id)")
