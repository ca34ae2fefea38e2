"""Tenants, API keys, clocks and clock moves."""

from __future__ import annotations

from alembic import op

from subledger.platform.schema import (
    grant_columns,
    idempotency_table,
    reader_policy,
    run,
    tenant_table,
)

revision = "identity_0001"
down_revision = None
branch_labels = None
depends_on = None

_ROLE = "subledger_identity"
_SERVICES = (
    "subledger_identity, subledger_billing, subledger_payments, subledger_webhooks,"
    " subledger_scheduler, subledger_entitlements, subledger_sandbox"
)


_SCHEMA = """
CREATE TABLE identity.tenants (
    tenant_id uuid PRIMARY KEY,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    mode text NOT NULL CHECK (mode IN ('live', 'sandbox')),
    live_tenant_id uuid,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    CHECK ((mode = 'live') = (live_tenant_id IS NULL))
)
;;
CREATE TABLE identity.api_keys (
    tenant_id uuid NOT NULL REFERENCES identity.tenants,
    id uuid NOT NULL,
    key_hash bytea NOT NULL CHECK (length(key_hash) = 32),
    last_four text NOT NULL,
    role text NOT NULL CHECK (role IN ('admin', 'read')),
    name text NOT NULL,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, id)
)
;;
CREATE INDEX api_keys_by_hash ON identity.api_keys (key_hash)
;;
CREATE TABLE identity.clocks (
    tenant_id uuid PRIMARY KEY REFERENCES identity.tenants,
    mode text NOT NULL CHECK (mode IN ('live', 'sandbox')),
    now_at timestamptz,
    now_rank smallint NOT NULL DEFAULT 32767,
    now_number bigint NOT NULL DEFAULT 9223372036854775807,
    stopped_at timestamptz,
    CHECK ((mode = 'live') = (now_at IS NULL))
)
;;
CREATE TABLE identity.clock_moves (
    tenant_id uuid NOT NULL REFERENCES identity.clocks,
    id uuid NOT NULL,
    status text NOT NULL CHECK (status IN ('moving', 'done', 'stopped')),
    from_at timestamptz NOT NULL,
    target_at timestamptz NOT NULL,
    reached_at timestamptz NOT NULL,
    steps integer NOT NULL DEFAULT 0,
    moment_steps integer NOT NULL DEFAULT 0,
    advanced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    marks jsonb NOT NULL DEFAULT '{}',
    result jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CHECK (target_at >= from_at AND (finished_at IS NULL) = (status = 'moving'))
)
;;
CREATE UNIQUE INDEX one_move_at_a_time ON identity.clock_moves (tenant_id)
    WHERE finished_at IS NULL
"""


def upgrade() -> None:
    run(_SCHEMA)
    for table in ("tenants", "api_keys", "clocks", "clock_moves"):
        tenant_table(f"identity.{table}", role=_ROLE)
    idempotency_table("identity", role=_ROLE)

    op.execute(
        f"GRANT USAGE ON SCHEMA identity TO {_SERVICES}, subledger_due_reader,"
        " subledger_tenant_finder, subledger_clock_mover"
    )
    op.execute(f"GRANT SELECT ON identity.clocks TO {_SERVICES}")
    grant_columns(
        "identity.clocks",
        role="subledger_clock_mover",
        columns="tenant_id, mode, now_at, now_rank, now_number, stopped_at",
    )
    reader_policy(
        "identity.clocks",
        reader="subledger_due_reader",
        columns="tenant_id, mode, now_at, now_rank, now_number, stopped_at",
    )
    reader_policy(
        "identity.clock_moves", reader="subledger_due_reader", columns="tenant_id, id, finished_at"
    )
    op.execute("CREATE INDEX ON identity.tenants (live_tenant_id) WHERE live_tenant_id IS NOT NULL")
    reader_policy(
        "identity.tenants",
        reader="subledger_tenant_finder",
        columns="tenant_id, mode, live_tenant_id, deleted_at",
    )
    reader_policy(
        "identity.api_keys",
        reader="subledger_tenant_finder",
        columns="tenant_id, id, key_hash, role, revoked_at",
    )
