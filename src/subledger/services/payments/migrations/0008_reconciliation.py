"""Reconciliation: runs, the provider's entries as it listed them, payouts, differences."""

from __future__ import annotations

from subledger.platform.schema import grant_columns, reader_policy, run, tenant_table

revision = "payments_0008"
down_revision = "payments_0007"
branch_labels = None
depends_on = None


_SCHEMA = """
ALTER TABLE payments.connections ADD COLUMN reconciles_daily boolean NOT NULL DEFAULT false
;;
CREATE TABLE payments.reconciliations (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    connection_id uuid NOT NULL,
    origin text NOT NULL CHECK (origin IN ('daily', 'asked', 'payout')),
    since_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL CHECK (until_at > since_at),
    phase text NOT NULL CHECK (phase IN ('listing', 'payouts', 'ours', 'refunds', 'closing',
        'done', 'failed')),
    cursor text,
    counts jsonb NOT NULL,
    balances jsonb NOT NULL,
    ready_at timestamptz NOT NULL,
    claimed_at timestamptz,
    tries smallint NOT NULL,
    code text,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES payments.connections,
    CHECK ((finished_at IS NOT NULL) = (phase IN ('done', 'failed')))
)
;;
CREATE INDEX reconciliations_open ON payments.reconciliations (tenant_id, ready_at)
    WHERE phase NOT IN ('done', 'failed')
;;
CREATE INDEX reconciliations_listed ON payments.reconciliations (tenant_id, created_at, id)
;;
CREATE INDEX reconciliations_of ON payments.reconciliations (tenant_id, connection_id, until_at)
    WHERE phase = 'done'
;;
CREATE TABLE payments.settlements (
    tenant_id uuid NOT NULL,
    connection_id uuid NOT NULL,
    provider_ref text NOT NULL,
    kind text NOT NULL,
    attempt_id uuid,
    refund_id uuid,
    amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
    fee_minor bigint NOT NULL,
    currency text NOT NULL,
    at timestamptz NOT NULL,
    payout_ref text,
    customer_id uuid,
    invoice_id uuid,
    PRIMARY KEY (tenant_id, connection_id, provider_ref),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES payments.connections
)
;;
CREATE INDEX settlements_of_attempt ON payments.settlements (tenant_id, attempt_id)
;;
CREATE INDEX settlements_of_refund ON payments.settlements (tenant_id, refund_id)
    WHERE refund_id IS NOT NULL
;;
CREATE INDEX settlements_of_payout ON payments.settlements (tenant_id, connection_id, payout_ref)
    WHERE payout_ref IS NOT NULL
;;
CREATE TABLE payments.payouts (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    connection_id uuid NOT NULL,
    provider_ref text NOT NULL,
    amount_minor bigint NOT NULL,
    currency text NOT NULL,
    gross_minor bigint,
    fee_minor bigint,
    difference_minor bigint,
    paid_at timestamptz NOT NULL,
    booked_at timestamptz,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, connection_id, provider_ref),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES payments.connections,
    CHECK (booked_at IS NULL
           OR (gross_minor = amount_minor + fee_minor + difference_minor) IS TRUE)
)
;;
CREATE INDEX payouts_to_book ON payments.payouts (tenant_id, connection_id, paid_at, id)
    WHERE booked_at IS NULL
;;
CREATE INDEX payouts_listed ON payments.payouts (tenant_id, paid_at, id)
;;
CREATE TABLE payments.differences (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    connection_id uuid NOT NULL,
    customer_id uuid,
    payment_id uuid,
    data jsonb NOT NULL,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    closed_by text,
    closed_how text,
    reference text,
    PRIMARY KEY (tenant_id, id),
    CHECK ((closed_at IS NULL) = (closed_how IS NULL))
)
;;
CREATE UNIQUE INDEX one_open_difference ON payments.differences (tenant_id, kind, subject)
    WHERE closed_at IS NULL
;;
CREATE INDEX differences_open_of ON payments.differences (tenant_id, connection_id, id)
    WHERE closed_at IS NULL
;;
CREATE INDEX attempts_succeeded ON payments.attempts (tenant_id, finished_at, id)
    WHERE state = 'succeeded'
;;
CREATE INDEX refunds_succeeded ON payments.refunds (tenant_id, finished_at, id)
    WHERE state = 'succeeded'
"""
_PRIVILEGES = "SELECT, INSERT, UPDATE"


def upgrade() -> None:
    run(_SCHEMA)
    for table in ("reconciliations", "settlements", "payouts", "differences"):
        tenant_table(f"payments.{table}", role="subledger_payments", privileges=_PRIVILEGES)
    columns = "tenant_id, id, phase, ready_at, claimed_at"
    name = "payments.reconciliations"
    reader_policy(name, reader="subledger_due_reader", columns=columns)
    grant_columns(name, role="subledger_clock_mover", columns=columns)
