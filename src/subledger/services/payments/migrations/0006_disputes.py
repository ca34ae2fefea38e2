"""Disputes of payments, and intents to ask a provider for an attempt's disputes."""

from __future__ import annotations

from subledger.platform.schema import grant_columns, reader_policy, run, tenant_table

revision = "payments_0006"
down_revision = "payments_0005"
branch_labels = None
depends_on = None


_SCHEMA = """
CREATE TABLE payments.disputes (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    payment_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    provider_ref text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL,
    reason text NOT NULL,
    state text NOT NULL CHECK (state IN ('opened', 'won', 'lost')),
    fee_minor bigint NOT NULL CHECK (fee_minor >= 0),
    evidence_due_at timestamptz,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    exhausted_at timestamptz,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, payment_id) REFERENCES payments.payments,
    FOREIGN KEY (tenant_id, attempt_id) REFERENCES payments.attempts,
    CHECK ((closed_at IS NULL) = (state = 'opened'))
)
;;
CREATE UNIQUE INDEX disputes_by_ref ON payments.disputes (tenant_id, attempt_id, provider_ref)
;;
CREATE INDEX disputes_of_payment ON payments.disputes (tenant_id, payment_id, opened_at, id)
;;
CREATE INDEX disputes_of_customer ON payments.disputes (tenant_id, customer_id, opened_at, id)
;;
CREATE INDEX disputes_by_state ON payments.disputes (tenant_id, state, opened_at, id)
;;
CREATE INDEX disputes_newest ON payments.disputes (tenant_id, opened_at, id)
;;
CREATE TABLE payments.dispute_looks (
    tenant_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    asked bigint NOT NULL,
    tries smallint NOT NULL,
    claimed_at timestamptz,
    requested_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, attempt_id),
    FOREIGN KEY (tenant_id, attempt_id) REFERENCES payments.attempts
)
;;
CREATE INDEX dispute_looks_by_claim
    ON payments.dispute_looks (claimed_at NULLS FIRST, requested_at)
"""


def upgrade() -> None:
    run(_SCHEMA)
    tenant_table(
        "payments.disputes", role="subledger_payments", privileges="SELECT, INSERT, UPDATE"
    )
    looks = "payments.dispute_looks"
    columns = "tenant_id, attempt_id, claimed_at, requested_at"
    tenant_table(looks, role="subledger_payments", privileges="SELECT, INSERT, UPDATE, DELETE")
    reader_policy(looks, reader="subledger_due_reader", columns=columns)
    grant_columns(looks, role="subledger_clock_mover", columns=columns)
