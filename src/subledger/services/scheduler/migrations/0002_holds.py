"""The kill switch of dunning: retries and last steps of a tenant that wait until it is let go."""

from __future__ import annotations

from subledger.platform.schema import grant_columns, reader_policy, run, tenant_table

revision = "scheduler_0002"
down_revision = "scheduler_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE scheduler.holds (
    tenant_id uuid NOT NULL,
    source text NOT NULL CHECK (source IN ('tenant', 'installation')),
    is_on boolean NOT NULL,
    PRIMARY KEY (tenant_id, source)
)
;;
CREATE INDEX holds_let_go ON scheduler.holds (tenant_id) WHERE NOT is_on
;;
CREATE TABLE scheduler.held_due (
    tenant_id uuid NOT NULL,
    kind text NOT NULL,
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    due_at timestamptz NOT NULL,
    rank smallint NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (tenant_id, kind, id)
)
;;
CREATE INDEX held_due_in_order ON scheduler.held_due (tenant_id, due_at, rank, number)
;;
CREATE INDEX held_due_of ON scheduler.held_due (tenant_id, id)
"""
    )
    for table in ("holds", "held_due"):
        tenant_table(
            f"scheduler.{table}",
            role="subledger_scheduler",
            privileges="SELECT, INSERT, UPDATE, DELETE",
        )
    columns = "tenant_id, source, is_on"
    reader_policy("scheduler.holds", reader="subledger_due_reader", columns=columns)
    grant_columns("scheduler.holds", role="subledger_clock_mover", columns=columns)
    grant_columns("scheduler.held_due", role="subledger_clock_mover", columns="tenant_id, kind, id")
