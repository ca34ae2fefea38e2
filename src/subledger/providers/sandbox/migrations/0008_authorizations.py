"""Authorizations: money set aside on a card until it is captured, voided or expires."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "sandbox_0008"
down_revision = "sandbox_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE sandbox.authorizations (
    tenant_id uuid NOT NULL,
    idempotency_key text NOT NULL,
    id uuid NOT NULL,
    attempt_id text NOT NULL,
    token text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL,
    request_hash bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'captured', 'voided')),
    at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at > at),
    PRIMARY KEY (tenant_id, idempotency_key),
    UNIQUE (tenant_id, id)
)
;;
CREATE INDEX authorizations_of ON sandbox.authorizations (tenant_id, attempt_id)
"""
    )
    tenant_table(
        "sandbox.authorizations", role="subledger_sandbox", privileges="SELECT, INSERT, UPDATE"
    )
