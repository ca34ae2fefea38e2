"""The kill switch of collections: automatic charges of a tenant that wait until it is let go."""

from __future__ import annotations

from subledger.platform.schema import grant_columns, reader_policy, run, tenant_table

revision = "payments_0002"
down_revision = "payments_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE payments.holds (
    tenant_id uuid NOT NULL,
    source text NOT NULL CHECK (source IN ('tenant', 'installation')),
    is_on boolean NOT NULL,
    PRIMARY KEY (tenant_id, source)
)
;;
CREATE INDEX holds_let_go ON payments.holds (tenant_id) WHERE NOT is_on
"""
    )
    columns = "tenant_id, source, is_on"
    tenant_table(
        "payments.holds", role="subledger_payments", privileges="SELECT, INSERT, UPDATE, DELETE"
    )
    reader_policy("payments.holds", reader="subledger_due_reader", columns=columns)
    grant_columns("payments.holds", role="subledger_clock_mover", columns=columns)
