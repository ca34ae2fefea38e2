"""Refunds: a part of a charge given back, once per idempotency key."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "sandbox_0003"
down_revision = "sandbox_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE sandbox.refunds (
    tenant_id uuid NOT NULL,
    idempotency_key text NOT NULL,
    id uuid NOT NULL,
    charge_id uuid NOT NULL,
    attempt_id text NOT NULL,
    refund_id text,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL,
    status text NOT NULL CHECK (status IN ('succeeded', 'declined')),
    code text NOT NULL,
    request_hash bytea NOT NULL,
    at timestamptz NOT NULL,
    settles_at timestamptz,
    PRIMARY KEY (tenant_id, idempotency_key)
)
;;
CREATE INDEX refunds_of_attempt ON sandbox.refunds (tenant_id, attempt_id)
"""
    )
    tenant_table("sandbox.refunds", role="subledger_sandbox", privileges="SELECT, INSERT")
