"""Saved methods that are given up at the provider, and changed by it."""

from __future__ import annotations

from subledger.platform.schema import grant_columns, reader_policy, run, tenant_table

revision = "payments_0007"
down_revision = "payments_0006"
branch_labels = None
depends_on = None

_COLUMNS = "tenant_id, method_id, action, tries, ready_at"


def upgrade() -> None:
    run(
        """
ALTER TABLE payments.methods
    ADD COLUMN provider_ref text NOT NULL DEFAULT '',
    ADD COLUMN mandate_encrypted bytea,
    ADD COLUMN return_url text,
    ADD COLUMN redirect_url text
;;
CREATE INDEX methods_by_ref ON payments.methods (tenant_id, provider_ref)
;;
CREATE TABLE payments.method_tasks (
    tenant_id uuid NOT NULL,
    method_id uuid NOT NULL,
    action text NOT NULL CHECK (action IN ('detach', 'look', 'setup', 'expire')),
    asked bigint NOT NULL,
    tries smallint NOT NULL,
    ready_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, method_id, action),
    FOREIGN KEY (tenant_id, method_id) REFERENCES payments.methods
)
;;
CREATE INDEX method_tasks_ready ON payments.method_tasks (ready_at)
"""
    )
    for role in ("subledger_due_reader", "subledger_clock_mover"):
        grant_columns("payments.methods", role=role, columns="test_kind")
    name = "payments.method_tasks"
    tenant_table(name, role="subledger_payments", privileges="SELECT, INSERT, UPDATE, DELETE")
    reader_policy(name, reader="subledger_due_reader", columns=_COLUMNS)
    grant_columns(name, role="subledger_clock_mover", columns=_COLUMNS)
