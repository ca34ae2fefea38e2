"""Merchants, test methods, the journal of charges, hosted pages, callbacks, faults."""

from __future__ import annotations

from alembic import op

from subledger.platform.schema import due_table, grant_columns, reader_policy, run, tenant_table

revision = "sandbox_0001"
down_revision = None
branch_labels = None
depends_on = None

_ROLE = "subledger_sandbox"


_SCHEMA = """
CREATE TABLE sandbox.merchants (
    tenant_id uuid PRIMARY KEY,
    key_hash bytea NOT NULL,
    webhook_path text NOT NULL,
    created_at timestamptz NOT NULL
)
;;
CREATE INDEX merchants_by_key ON sandbox.merchants (key_hash)
;;
CREATE TABLE sandbox.methods (
    tenant_id uuid NOT NULL,
    token text NOT NULL,
    kind text NOT NULL,
    brand text NOT NULL,
    last_four text NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, token)
)
;;
CREATE TABLE sandbox.charges (
    tenant_id uuid NOT NULL,
    idempotency_key text NOT NULL,
    id uuid NOT NULL,
    attempt_id text NOT NULL,
    token text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL,
    status text NOT NULL CHECK (status IN ('succeeded', 'declined')),
    code text NOT NULL,
    request_hash bytea NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, idempotency_key)
)
;;
CREATE INDEX charges_of_attempt ON sandbox.charges (tenant_id, attempt_id)
;;
CREATE TABLE sandbox.pages (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    attempt_id text NOT NULL,
    token_hash bytea NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL,
    description text NOT NULL,
    return_url text NOT NULL,
    save boolean NOT NULL,
    locale text NOT NULL,
    status text NOT NULL CHECK (status IN ('open', 'completed', 'expired')),
    saved_token text,
    tries integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, attempt_id)
)
;;
CREATE INDEX pages_by_token ON sandbox.pages (token_hash)
;;
CREATE TABLE sandbox.callbacks (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    body text NOT NULL,
    state text NOT NULL CHECK (state IN ('waiting', 'ready', 'sending', 'delivered', 'given_up')),
    tries integer NOT NULL DEFAULT 0,
    claimed_at timestamptz,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
)
;;
CREATE INDEX callbacks_open ON sandbox.callbacks (tenant_id, id)
    WHERE state IN ('ready', 'sending')
;;
CREATE TABLE sandbox.faults (
    tenant_id uuid NOT NULL,
    mode text NOT NULL,
    remaining integer NOT NULL,
    PRIMARY KEY (tenant_id, mode)
)
"""


def upgrade() -> None:
    run(_SCHEMA)
    op.execute(
        f"GRANT USAGE ON SCHEMA sandbox TO {_ROLE}, subledger_due_reader,"
        " subledger_tenant_finder, subledger_clock_mover"
    )
    for table in ("merchants", "methods", "charges", "pages", "callbacks", "faults"):
        privileges = "SELECT, INSERT" if table == "charges" else "SELECT, INSERT, UPDATE"
        tenant_table(f"sandbox.{table}", role=_ROLE, privileges=privileges)
    due_table("sandbox", role=_ROLE)
    reader_policy(
        "sandbox.merchants", reader="subledger_tenant_finder", columns="tenant_id, key_hash"
    )
    reader_policy(
        "sandbox.pages", reader="subledger_tenant_finder", columns="tenant_id, token_hash"
    )
    reader_policy(
        "sandbox.callbacks", reader="subledger_due_reader", columns="tenant_id, id, state"
    )
    op.execute("GRANT SELECT (claimed_at) ON sandbox.callbacks TO subledger_due_reader")
    grant_columns("sandbox.callbacks", role="subledger_clock_mover", columns="tenant_id, id, state")
