"""What merchants settle by: their journal in order, fees, daily payouts, what a charge is for."""

from __future__ import annotations

from alembic import op

from subledger.platform.schema import run, tenant_table

revision = "sandbox_0006"
down_revision = "sandbox_0005"
branch_labels = None
depends_on = None

_ROLE = "subledger_sandbox"
_SCHEMA = """
CREATE TABLE sandbox.subjects (
    tenant_id uuid NOT NULL,
    attempt_id text NOT NULL,
    customer_id text,
    invoice_id text,
    PRIMARY KEY (tenant_id, attempt_id)
)
;;
CREATE TABLE sandbox.settings (
    tenant_id uuid PRIMARY KEY,
    fee_basis_points integer NOT NULL CHECK (fee_basis_points BETWEEN 0 AND 10000),
    fee_fixed_minor bigint NOT NULL CHECK (fee_fixed_minor >= 0),
    pays_out_daily boolean NOT NULL,
    payout_difference_minor bigint NOT NULL
)
;;
CREATE TABLE sandbox.payouts (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    fee_minor bigint NOT NULL,
    currency text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
)
;;
CREATE INDEX payouts_in_order ON sandbox.payouts (tenant_id, at, id)
;;
CREATE TABLE sandbox.paid_out (
    tenant_id uuid NOT NULL,
    entry_id uuid NOT NULL,
    payout_id uuid NOT NULL,
    fee_minor bigint NOT NULL,
    PRIMARY KEY (tenant_id, entry_id)
)
;;
CREATE INDEX paid_out_of ON sandbox.paid_out (tenant_id, payout_id)
;;
CREATE INDEX charges_in_order ON sandbox.charges (tenant_id, coalesce(settles_at, at), id)
    WHERE status = 'succeeded'
;;
CREATE INDEX refunds_in_order ON sandbox.refunds (tenant_id, coalesce(settles_at, at), id)
    WHERE status = 'succeeded'
;;
CREATE VIEW sandbox.entries WITH (security_invoker = true) AS
    SELECT tenant_id, id, 'capture' AS kind, attempt_id, NULL::text AS refund_id, amount_minor,
           currency, coalesce(settles_at, at) AS at
    FROM sandbox.charges WHERE status = 'succeeded'
    UNION ALL
    SELECT tenant_id, id, 'refund', attempt_id, refund_id, amount_minor, currency,
           coalesce(settles_at, at)
    FROM sandbox.refunds WHERE status = 'succeeded'
    UNION ALL
    SELECT tenant_id, id, 'payout', NULL, NULL, amount_minor, currency, at FROM sandbox.payouts
"""


def upgrade() -> None:
    run(_SCHEMA)
    for table in ("subjects", "settings", "payouts", "paid_out"):
        privileges = "SELECT, INSERT, UPDATE" if table == "settings" else "SELECT, INSERT"
        tenant_table(f"sandbox.{table}", role=_ROLE, privileges=privileges)
    op.execute(f"GRANT SELECT ON sandbox.entries TO {_ROLE}")
