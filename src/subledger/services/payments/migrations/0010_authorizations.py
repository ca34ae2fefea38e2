"""Two-stage payments: what is authorized, until when, and what is wanted of it."""

from __future__ import annotations

from subledger.platform.schema import grant_columns, reader_policy, run, tenant_table

revision = "payments_0010"
down_revision = "payments_0009"
branch_labels = None
depends_on = None

_SCHEMA = """
ALTER TABLE payments.payments
    ADD COLUMN capture_method text NOT NULL DEFAULT 'automatic'
        CHECK (capture_method IN ('automatic', 'manual')),
    DROP CONSTRAINT payments_status_check,
    ADD CONSTRAINT payments_status_check CHECK (status IN ('processing', 'requires_action',
        'authorized', 'unknown', 'succeeded', 'failed', 'canceled'))
;;
ALTER TABLE payments.attempts
    DROP CONSTRAINT attempts_state_check,
    ADD CONSTRAINT attempts_state_check CHECK (state IN ('reserving', 'ready', 'in_flight',
        'requires_action', 'authorized', 'unknown', 'succeeded', 'failed', 'canceled'))
;;
CREATE TABLE payments.authorizations (
    tenant_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    authorized_minor bigint NOT NULL CHECK (authorized_minor > 0),
    expires_at timestamptz NOT NULL,
    wish text CHECK (wish IN ('capture', 'void')),
    capture_minor bigint,
    tries smallint NOT NULL,
    ready_at timestamptz,
    claimed_at timestamptz,
    PRIMARY KEY (tenant_id, attempt_id),
    FOREIGN KEY (tenant_id, attempt_id) REFERENCES payments.attempts,
    CHECK ((capture_minor > 0) IS DISTINCT FROM false AND capture_minor <= authorized_minor),
    CHECK (wish IS DISTINCT FROM 'capture' OR capture_minor IS NOT NULL),
    CHECK (ready_at IS NULL OR wish IS NOT NULL)
)
;;
CREATE INDEX authorizations_wanted ON payments.authorizations (ready_at)
    WHERE ready_at IS NOT NULL
"""


def upgrade() -> None:
    run(_SCHEMA)
    name, columns = "payments.authorizations", "tenant_id, attempt_id, ready_at, claimed_at"
    tenant_table(name, role="subledger_payments", privileges="SELECT, INSERT, UPDATE")
    reader_policy(name, reader="subledger_due_reader", columns=columns)
    grant_columns(name, role="subledger_clock_mover", columns=columns)
