"""Refunds of payments, and intents to ask a provider for an attempt's refunds."""

from __future__ import annotations

from subledger.platform.schema import grant_columns, reader_policy, run, tenant_table

revision = "payments_0003"
down_revision = "payments_0002"
branch_labels = None
depends_on = None


_SCHEMA = """
CREATE TABLE payments.refunds (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    payment_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    destination text NOT NULL CHECK (destination IN ('method', 'credit')),
    source text NOT NULL CHECK (source IN ('invoice', 'credit')),
    origin text NOT NULL CHECK (origin IN ('asked', 'outside')),
    reason text NOT NULL,
    asked_minor bigint CHECK (asked_minor > 0),
    amount_minor bigint CHECK (amount_minor > 0),
    refundable_minor bigint,
    currency text NOT NULL,
    state text NOT NULL CHECK (state IN ('requested', 'ready', 'in_flight', 'unknown', 'succeeded',
        'failed', 'refused')),
    code text,
    credit_note_id uuid,
    provider_ref text,
    ready_at timestamptz NOT NULL,
    claimed_at timestamptz,
    tries smallint NOT NULL,
    lost_at timestamptz,
    exhausted_at timestamptz,
    cause uuid,
    occurred_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, payment_id) REFERENCES payments.payments,
    FOREIGN KEY (tenant_id, attempt_id) REFERENCES payments.attempts,
    CHECK (state IN ('requested', 'refused') OR amount_minor IS NOT NULL),
    CHECK ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'refused'))),
    CHECK (state <> 'in_flight' OR claimed_at IS NOT NULL),
    CHECK (state <> 'unknown' OR lost_at IS NOT NULL)
)
;;
CREATE UNIQUE INDEX refunds_by_ref ON payments.refunds (tenant_id, payment_id, provider_ref)
    NULLS NOT DISTINCT WHERE provider_ref IS NOT NULL
;;
CREATE INDEX refunds_of_payment ON payments.refunds (tenant_id, payment_id, created_at, id)
;;
CREATE INDEX refunds_requested ON payments.refunds (tenant_id, ready_at)
    WHERE state = 'requested'
;;
CREATE INDEX refunds_ready ON payments.refunds (tenant_id, ready_at) WHERE state = 'ready'
;;
CREATE INDEX refunds_in_flight ON payments.refunds (claimed_at) WHERE state = 'in_flight'
;;
CREATE INDEX refunds_open ON payments.refunds (tenant_id, state)
    WHERE state NOT IN ('succeeded', 'failed', 'refused')
;;
CREATE TABLE payments.refund_looks (
    tenant_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    asked bigint NOT NULL,
    claimed_at timestamptz,
    requested_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, attempt_id),
    FOREIGN KEY (tenant_id, attempt_id) REFERENCES payments.attempts
)
;;
CREATE INDEX refund_looks_by_claim
    ON payments.refund_looks (claimed_at NULLS FIRST, requested_at)
"""

_TABLES = {
    "refunds": ("SELECT, INSERT, UPDATE", "tenant_id, id, state, ready_at, claimed_at"),
    "refund_looks": (
        "SELECT, INSERT, UPDATE, DELETE",
        "tenant_id, attempt_id, claimed_at, requested_at",
    ),
}


def upgrade() -> None:
    run(_SCHEMA)
    for table, (privileges, columns) in _TABLES.items():
        name = f"payments.{table}"
        tenant_table(name, role="subledger_payments", privileges=privileges)
        reader_policy(name, reader="subledger_due_reader", columns=columns)
        grant_columns(name, role="subledger_clock_mover", columns=columns)
