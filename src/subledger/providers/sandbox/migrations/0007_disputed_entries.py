"""Disputes and their fees in the journal: what was taken and given back, each when it was."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "sandbox_0007"
down_revision = "sandbox_0006"
branch_labels = None
depends_on = None

_ROLE = "subledger_sandbox"
# What decided disputes went through before is not known: it is told as it is now.
_SCHEMA = """
CREATE TABLE sandbox.dispute_entries (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    dispute_id uuid NOT NULL,
    attempt_id text NOT NULL,
    kind text NOT NULL
        CHECK (kind IN ('dispute', 'dispute_won', 'dispute_fee', 'dispute_fee_back')),
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
)
;;
CREATE INDEX dispute_entries_in_order ON sandbox.dispute_entries (tenant_id, at, id)
;;
ALTER TABLE sandbox.disputes NO FORCE ROW LEVEL SECURITY
;;
INSERT INTO sandbox.dispute_entries
    SELECT tenant_id, gen_random_uuid(), id, attempt_id, 'dispute', amount_minor, currency,
           opened_at FROM sandbox.disputes
    UNION ALL
    SELECT tenant_id, gen_random_uuid(), id, attempt_id, 'dispute_won', amount_minor, currency,
           closed_at FROM sandbox.disputes WHERE outcome = 'won'
    UNION ALL
    SELECT tenant_id, gen_random_uuid(), id, attempt_id, 'dispute_fee', fee_minor, currency,
           opened_at FROM sandbox.disputes WHERE fee_minor > 0
;;
ALTER TABLE sandbox.disputes FORCE ROW LEVEL SECURITY
;;
CREATE OR REPLACE VIEW sandbox.entries WITH (security_invoker = true) AS
    SELECT tenant_id, id, 'capture' AS kind, attempt_id, NULL::text AS refund_id, amount_minor,
           currency, coalesce(settles_at, at) AS at
    FROM sandbox.charges WHERE status = 'succeeded'
    UNION ALL
    SELECT tenant_id, id, 'refund', attempt_id, refund_id, amount_minor, currency,
           coalesce(settles_at, at)
    FROM sandbox.refunds WHERE status = 'succeeded'
    UNION ALL
    SELECT tenant_id, id, kind, attempt_id, NULL, amount_minor, currency, at
    FROM sandbox.dispute_entries
    UNION ALL
    SELECT tenant_id, id, 'payout', NULL, NULL, amount_minor, currency, at FROM sandbox.payouts
"""


def upgrade() -> None:
    run(_SCHEMA)
    tenant_table("sandbox.dispute_entries", role=_ROLE, privileges="SELECT, INSERT")
