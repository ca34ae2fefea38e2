"""Payers' pages and where they may lead back to; what providers answered, attempt by attempt."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "payments_0009"
down_revision = "payments_0008"
branch_labels = None
depends_on = None

_ROLE = "subledger_payments"


def upgrade() -> None:
    run(
        """
ALTER TABLE payments.attempts ADD COLUMN looked_at timestamptz
;;
CREATE TABLE payments.settings (
    tenant_id uuid NOT NULL,
    return_origins text[] NOT NULL CHECK (cardinality(return_origins) <= 100),
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id)
)
;;
CREATE TABLE payments.attempt_answers (
    tenant_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('answer', 'webhook')),
    operation text NOT NULL,
    status smallint,
    body text CHECK (octet_length(body) <= 4096),
    note text CHECK (length(note) <= 200),
    state text,
    webhook_id uuid,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, attempt_id, id),
    FOREIGN KEY (tenant_id, attempt_id) REFERENCES payments.attempts,
    CHECK ((kind = 'webhook') = (webhook_id IS NOT NULL))
)
;;
CREATE TABLE payments.links (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    return_url text CHECK (length(return_url) <= 2000),
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
)
;;
CREATE TABLE payments.offline_payments (
    tenant_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    method text NOT NULL CHECK (method IN ('bank_transfer', 'cash', 'check', 'other')),
    reference text NOT NULL CHECK (length(reference) <= 200),
    received_at timestamptz NOT NULL,
    reversed_at timestamptz,
    reversal_reason text CHECK (length(reversal_reason) <= 500),
    PRIMARY KEY (tenant_id, payment_id),
    FOREIGN KEY (tenant_id, payment_id) REFERENCES payments.payments,
    CHECK ((reversed_at IS NULL) = (reversal_reason IS NULL))
)
;;
ALTER TABLE payments.attempts DROP CONSTRAINT attempts_kind_check,
    ADD CONSTRAINT attempts_kind_check CHECK (kind IN ('charge', 'page', 'offline'))
;;
ALTER TABLE payments.payments DROP CONSTRAINT payments_mode_check,
    ADD CONSTRAINT payments_mode_check CHECK (mode IN ('automatic', 'manual', 'page', 'offline'))
;;
CREATE UNIQUE INDEX one_link_of_invoice ON payments.links (tenant_id, invoice_id)
    WHERE revoked_at IS NULL
;;
CREATE INDEX links_listed ON payments.links (tenant_id, created_at, id)
"""
    )
    tenant_table("payments.offline_payments", role=_ROLE)
    tenant_table("payments.links", role=_ROLE)
    tenant_table("payments.settings", role=_ROLE)
    tenant_table("payments.attempt_answers", role=_ROLE, privileges="SELECT, INSERT, DELETE")
