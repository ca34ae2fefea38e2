"""Endpoints of connections, and what was received at them (encrypted, kept 30 days)."""

from __future__ import annotations

from alembic import op

from subledger.platform.schema import reader_policy, run, tenant_table

revision = "webhooks_0001"
down_revision = None
branch_labels = None
depends_on = None

_ROLE = "subledger_webhooks"


def upgrade() -> None:
    op.execute(
        f"GRANT USAGE ON SCHEMA webhooks TO {_ROLE}, subledger_tenant_finder, subledger_due_reader"
    )
    run(
        """
CREATE TABLE webhooks.endpoints (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    provider text NOT NULL,
    connection_id uuid NOT NULL,
    token_hash bytea NOT NULL CHECK (length(token_hash) = 32),
    token_encrypted bytea NOT NULL,
    secret_encrypted bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, connection_id)
)
;;
CREATE INDEX endpoints_by_token ON webhooks.endpoints (token_hash)
;;
CREATE TABLE webhooks.received (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    dedupe_key text NOT NULL CHECK (length(dedupe_key) BETWEEN 1 AND 300),
    kind text NOT NULL,
    trust text NOT NULL CHECK (trust IN ('strong', 'weak')),
    body_encrypted bytea NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, endpoint_id, dedupe_key),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES webhooks.endpoints
)
;;
CREATE INDEX received_by_age ON webhooks.received (tenant_id, received_at)
"""
    )
    tenant_table("webhooks.endpoints", role=_ROLE)
    tenant_table("webhooks.received", role=_ROLE, privileges="SELECT, INSERT, DELETE")
    reader_policy(
        "webhooks.endpoints",
        reader="subledger_tenant_finder",
        columns="tenant_id, id, token_hash",
    )
