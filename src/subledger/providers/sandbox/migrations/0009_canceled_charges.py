"""A charge that the bank has not decided yet can be canceled: its row says so."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "sandbox_0009"
down_revision = "sandbox_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("GRANT UPDATE (status, code, settles_at) ON sandbox.charges TO subledger_sandbox")
