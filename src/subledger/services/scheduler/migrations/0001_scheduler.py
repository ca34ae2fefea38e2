"""Dunning policies, collections in dunning, due moments."""

from __future__ import annotations

from alembic import op

from subledger.platform.schema import consumer_tables, due_table, run, tenant_table

revision = "scheduler_0001"
down_revision = None
branch_labels = None
depends_on = None

_ROLE = "subledger_scheduler"


def upgrade() -> None:
    run(
        """
CREATE TABLE scheduler.policies (
    tenant_id uuid PRIMARY KEY,
    delays_s jsonb NOT NULL CHECK (jsonb_typeof(delays_s) = 'array'),
    final_action text NOT NULL CHECK (final_action IN ('cancel', 'uncollectible')),
    hard_decline_stops boolean NOT NULL,
    updated_at timestamptz NOT NULL
)
;;
CREATE TABLE scheduler.collections (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    account_id uuid NOT NULL,
    number bigint NOT NULL CHECK (number > 0),
    failures jsonb NOT NULL CHECK (jsonb_typeof(failures) = 'array'),
    retries bigint NOT NULL CHECK (retries >= 0),
    first_failed_at timestamptz NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('open', 'paid', 'void', 'uncollectible')),
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, invoice_id),
    UNIQUE (tenant_id, account_id, number),
    CHECK ((outcome = 'open') = (ended_at IS NULL))
)
"""
    )
    for table in ("policies", "collections"):
        tenant_table(f"scheduler.{table}", role=_ROLE)
    due_table("scheduler", role=_ROLE)
    consumer_tables("scheduler", role=_ROLE)
    op.execute(
        f"GRANT USAGE ON SCHEMA scheduler TO {_ROLE}, subledger_due_reader, subledger_clock_mover"
    )
