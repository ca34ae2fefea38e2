"""Charges confirmed by their payer (3-D Secure), webhooks signed wrongly, methods that change."""

from __future__ import annotations

from subledger.platform.schema import reader_policy, run, tenant_table

revision = "sandbox_0005"
down_revision = "sandbox_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE sandbox.challenges (
    tenant_id uuid NOT NULL,
    idempotency_key text NOT NULL,
    id uuid NOT NULL,
    attempt_id text NOT NULL,
    token text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL,
    request_hash bytea NOT NULL,
    secret_hash bytea NOT NULL,
    page_id uuid,
    mandate text,
    return_url text NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'checking', 'confirmed', 'declined', 'expired')),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, idempotency_key)
)
;;
CREATE TABLE sandbox.setups (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    setup_id text NOT NULL,
    secret_hash bytea NOT NULL,
    return_url text NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'completed', 'expired')),
    saved_token text,
    tries integer NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, setup_id)
)
;;
CREATE INDEX setups_by_secret ON sandbox.setups (secret_hash)
;;
CREATE UNIQUE INDEX challenges_by_id ON sandbox.challenges (tenant_id, id)
;;
CREATE INDEX challenges_of_attempt ON sandbox.challenges (tenant_id, attempt_id)
;;
CREATE INDEX challenges_by_secret ON sandbox.challenges (secret_hash)
;;
ALTER TABLE sandbox.callbacks ADD COLUMN signature text NOT NULL DEFAULT 'right'
    CHECK (signature IN ('right', 'wrong', 'none'))
;;
ALTER TABLE sandbox.methods
    ADD COLUMN expires_on date,
    ADD COLUMN detached_at timestamptz,
    ADD COLUMN replaced_by text,
    ADD COLUMN mandate text
;;
CREATE INDEX methods_replaced ON sandbox.methods (tenant_id, replaced_by)
    WHERE replaced_by IS NOT NULL
"""
    )
    for table in ("sandbox.challenges", "sandbox.setups"):
        tenant_table(table, role="subledger_sandbox")
        reader_policy(table, reader="subledger_tenant_finder", columns="tenant_id, secret_hash")
