"""Customers as payments knows them, connections, saved methods, payments, attempts, intents."""

from __future__ import annotations

from alembic import op

from subledger.platform.schema import (
    consumer_tables,
    due_table,
    grant_columns,
    idempotency_table,
    reader_policy,
    run,
    tenant_table,
)

revision = "payments_0001"
down_revision = None
branch_labels = None
depends_on = None

_ROLE = "subledger_payments"

_METHODS = """
CREATE TABLE payments.customers (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    external_id text NOT NULL,
    currency text NOT NULL,
    default_method_id uuid,
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id)
)
;;
CREATE TABLE payments.connections (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    provider text NOT NULL,
    status text NOT NULL CHECK (status IN ('opening', 'active', 'closed')),
    is_default boolean NOT NULL,
    credentials_encrypted bytea NOT NULL,
    webhook_secret_encrypted bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
)
;;
CREATE UNIQUE INDEX one_default_connection ON payments.connections (tenant_id) WHERE is_default
;;
CREATE TABLE payments.methods (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    customer_id uuid NOT NULL,
    connection_id uuid NOT NULL,
    status text NOT NULL CHECK (status IN ('attaching', 'active', 'failed', 'detached')),
    token text NOT NULL,
    brand text NOT NULL,
    last_four text NOT NULL CHECK (last_four ~ '^([0-9]{4})?$'),
    test_kind text,
    make_default boolean NOT NULL,
    tries smallint NOT NULL,
    ready_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    detached_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES payments.customers,
    FOREIGN KEY (tenant_id, connection_id) REFERENCES payments.connections,
    CHECK (status <> 'active' OR token <> ''),
    CHECK ((status = 'detached') = (detached_at IS NOT NULL))
)
;;
CREATE UNIQUE INDEX one_method_per_token ON payments.methods (tenant_id, connection_id, token)
    WHERE token <> ''
;;
CREATE INDEX methods_of_customer ON payments.methods (tenant_id, customer_id, created_at, id)
;;
CREATE INDEX methods_listed ON payments.methods (tenant_id, created_at, id)
;;
CREATE INDEX methods_attaching ON payments.methods (ready_at) WHERE status = 'attaching'
;;
CREATE INDEX methods_attaching_of ON payments.methods (tenant_id) WHERE status = 'attaching'
"""

_PAYMENTS = """
CREATE TABLE payments.payments (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    customer_id uuid,
    invoice_id uuid,
    connection_id uuid,
    method_id uuid,
    mode text NOT NULL CHECK (mode IN ('automatic', 'manual', 'page')),
    dunning boolean NOT NULL,
    amount_minor bigint CHECK (amount_minor > 0),
    currency text,
    status text NOT NULL CHECK (status IN
        ('processing', 'requires_action', 'unknown', 'succeeded', 'failed', 'canceled')),
    decline text CHECK (decline IN ('soft', 'hard', 'insufficient_funds', 'action', 'config')),
    failure_code text,
    redirect_url text,
    return_url text,
    cause uuid,
    occurred_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES payments.connections,
    FOREIGN KEY (tenant_id, method_id) REFERENCES payments.methods,
    CHECK ((amount_minor IS NULL) = (currency IS NULL)),
    CHECK (status IN ('processing', 'failed', 'canceled')
           OR (customer_id IS NOT NULL AND amount_minor IS NOT NULL)),
    CHECK ((finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'canceled')))
)
;;
CREATE INDEX payments_listed ON payments.payments (tenant_id, created_at, id)
;;
CREATE INDEX payments_of_invoice ON payments.payments (tenant_id, invoice_id, created_at, id)
;;
CREATE INDEX payments_of_customer ON payments.payments (tenant_id, customer_id, created_at, id)
;;
CREATE INDEX payments_by_status ON payments.payments (tenant_id, status, created_at, id)
    WHERE status <> 'succeeded'
;;
CREATE TABLE payments.attempts (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    payment_id uuid NOT NULL,
    n smallint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('charge', 'page')),
    state text NOT NULL CHECK (state IN ('reserving', 'ready', 'in_flight', 'requires_action',
        'unknown', 'succeeded', 'failed', 'canceled')),
    ready_at timestamptz NOT NULL,
    claimed_at timestamptz,
    tries smallint NOT NULL,
    fetches smallint NOT NULL,
    lost_at timestamptz,
    exhausted_at timestamptz,
    provider_ref text,
    outcome jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, payment_id, n),
    FOREIGN KEY (tenant_id, payment_id) REFERENCES payments.payments,
    CHECK ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'canceled'))),
    CHECK (state <> 'in_flight' OR claimed_at IS NOT NULL),
    CHECK (state <> 'unknown' OR lost_at IS NOT NULL)
)
;;
CREATE INDEX attempts_ready ON payments.attempts (tenant_id, kind, ready_at)
    WHERE state = 'ready'
;;
CREATE INDEX attempts_reserving ON payments.attempts (tenant_id, ready_at)
    WHERE state = 'reserving'
;;
CREATE INDEX attempts_in_flight ON payments.attempts (claimed_at) WHERE state = 'in_flight'
;;
CREATE INDEX attempts_open ON payments.attempts (tenant_id, state)
    WHERE state NOT IN ('succeeded', 'failed', 'canceled')
;;
CREATE INDEX attempts_by_ref ON payments.attempts (tenant_id, provider_ref)
    WHERE provider_ref IS NOT NULL
;;
CREATE TABLE payments.retries (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    number bigint NOT NULL,
    payment_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id, number),
    FOREIGN KEY (tenant_id, payment_id) REFERENCES payments.payments
)
"""

_INTENTS = """
CREATE TABLE payments.refetches (
    tenant_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    action text NOT NULL CHECK (action IN ('fetch', 'reconcile', 'expire')),
    asked bigint NOT NULL,
    claimed_at timestamptz,
    requested_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, attempt_id),
    FOREIGN KEY (tenant_id, attempt_id) REFERENCES payments.attempts
)
;;
CREATE INDEX refetches_by_claim ON payments.refetches (claimed_at NULLS FIRST, requested_at)
;;
CREATE TABLE payments.hints (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    connection_id uuid NOT NULL,
    kind text NOT NULL,
    attempt_id uuid,
    provider_ref text,
    tries smallint NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK (attempt_id IS NOT NULL OR provider_ref IS NOT NULL)
)
"""

_TABLES = {
    "customers": "SELECT, INSERT, UPDATE",
    "connections": "SELECT, INSERT, UPDATE",
    "methods": "SELECT, INSERT, UPDATE",
    "payments": "SELECT, INSERT, UPDATE",
    "attempts": "SELECT, INSERT, UPDATE",
    "retries": "SELECT, INSERT",
    "refetches": "SELECT, INSERT, UPDATE, DELETE",
    "hints": "SELECT, INSERT, UPDATE, DELETE",
}

_SCANNED = {
    "attempts": "tenant_id, id, kind, state, ready_at, claimed_at",
    "refetches": "tenant_id, attempt_id, claimed_at, requested_at",
    "methods": "tenant_id, id, status, ready_at",
}
"""What the due scan sees of all tenants: keys, states and moments of intents."""


def upgrade() -> None:
    op.execute(
        f"GRANT USAGE ON SCHEMA payments TO {_ROLE}, subledger_due_reader, subledger_clock_mover"
    )
    for part in (_METHODS, _PAYMENTS, _INTENTS):
        run(part)
    for table, privileges in _TABLES.items():
        tenant_table(f"payments.{table}", role=_ROLE, privileges=privileges)
    for table, columns in _SCANNED.items():
        reader_policy(f"payments.{table}", reader="subledger_due_reader", columns=columns)
        grant_columns(f"payments.{table}", role="subledger_clock_mover", columns=columns)
    consumer_tables("payments", role=_ROLE)
    due_table("payments", role=_ROLE)
    idempotency_table("payments", role=_ROLE)
