"""Pauses, cancellations at a date with their reasons, and cycles that begin again."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "billing_0011"
down_revision = "billing_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
CREATE TABLE billing.pauses (
    tenant_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    n integer NOT NULL,
    state text NOT NULL CHECK (state IN ('scheduled', 'running', 'over')),
    credit text NOT NULL CHECK (credit IN ('none', 'credit', 'extend')),
    from_at timestamptz NOT NULL,
    resume_at timestamptz CHECK (resume_at > from_at),
    resumed_at timestamptz CHECK (resumed_at >= from_at),
    anchor_at timestamptz,
    period_number integer,
    period_end_at timestamptz,
    extended_to_at timestamptz CHECK (extended_to_at >= period_end_at),
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, n),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES billing.subscriptions,
    CHECK (state = 'scheduled' OR period_end_at IS NOT NULL)
)
;;
CREATE UNIQUE INDEX pause_at_a_time ON billing.pauses (tenant_id, subscription_id)
    WHERE state <> 'over'
;;
ALTER TABLE billing.subscription_phases ADD COLUMN is_paused boolean NOT NULL DEFAULT false
;;
ALTER TABLE billing.subscriptions
    ADD COLUMN charged_until_at timestamptz,
    ADD COLUMN cancel_credit boolean NOT NULL DEFAULT false,
    ADD COLUMN cancel_reason text,
    ADD COLUMN cancel_comment text CHECK (length(cancel_comment) <= 500),
    ADD COLUMN is_extended boolean NOT NULL DEFAULT false
;;
-- The owner changes every tenant's rows: forced row-level security would hide them from it.
ALTER TABLE billing.subscriptions NO FORCE ROW LEVEL SECURITY
;;
UPDATE billing.subscriptions SET charged_until_at = cancel_at WHERE cancel_at IS NOT NULL
;;
ALTER TABLE billing.subscriptions FORCE ROW LEVEL SECURITY
;;
ALTER TABLE billing.billing_runs DROP CONSTRAINT billing_runs_kind_check
;;
ALTER TABLE billing.billing_runs ADD CHECK
    (kind IN ('period', 'change', 'restart', 'resume', 'reactivation'))
"""
    )
    tenant_table(
        "billing.pauses", role="subledger_billing", privileges="SELECT, INSERT, UPDATE, DELETE"
    )
