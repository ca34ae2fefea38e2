"""Disputes: a part of a charge that the payer's bank takes back, for a time or for good."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "sandbox_0004"
down_revision = "sandbox_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE sandbox.disputes (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    charge_id uuid NOT NULL,
    attempt_id text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL,
    reason text NOT NULL,
    fee_minor bigint NOT NULL CHECK (fee_minor >= 0),
    outcome text CHECK (outcome IN ('won', 'lost')),
    evidence_due_at timestamptz NOT NULL,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CHECK ((outcome IS NULL) = (closed_at IS NULL))
)
;;
CREATE INDEX disputes_of_attempt ON sandbox.disputes (tenant_id, attempt_id)
"""
    )
    tenant_table("sandbox.disputes", role="subledger_sandbox", privileges="SELECT, INSERT, UPDATE")
