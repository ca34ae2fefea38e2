"""Several dunning policies, each in versions; what they are chosen by; methods to turn to."""

from __future__ import annotations

from subledger.platform.schema import idempotency_table, run, tenant_table

revision = "scheduler_0003"
down_revision = "scheduler_0002"
branch_labels = None
depends_on = None

_ROLE = "subledger_scheduler"


def upgrade() -> None:
    run(
        """
ALTER TABLE scheduler.policies
    ADD COLUMN id uuid,
    ADD COLUMN name text NOT NULL DEFAULT 'default' CHECK (length(name) BETWEEN 1 AND 200),
    ADD COLUMN version bigint NOT NULL DEFAULT 1 CHECK (version > 0),
    ADD COLUMN segment jsonb CHECK (jsonb_typeof(segment) = 'object'),
    ADD COLUMN terms jsonb CHECK (jsonb_typeof(terms) = 'object')
;;
-- The owner changes every tenant's rows: forced row-level security would hide them from it.
ALTER TABLE scheduler.policies NO FORCE ROW LEVEL SECURITY
;;
UPDATE scheduler.policies SET id = tenant_id, terms = jsonb_build_object(
    'delays_s', delays_s, 'final_action', final_action, 'hard_decline_stops', hard_decline_stops)
;;
ALTER TABLE scheduler.policies FORCE ROW LEVEL SECURITY
;;
ALTER TABLE scheduler.policies
    ALTER COLUMN terms SET NOT NULL,
    ALTER COLUMN name DROP DEFAULT,
    ALTER COLUMN version DROP DEFAULT,
    DROP CONSTRAINT policies_pkey,
    ADD PRIMARY KEY (tenant_id, id),
    ADD UNIQUE (tenant_id, name),
    ADD CHECK ((id = tenant_id) = (segment IS NULL)),
    DROP COLUMN delays_s,
    DROP COLUMN final_action,
    DROP COLUMN hard_decline_stops
;;
CREATE TABLE scheduler.accounts (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    timezone text NOT NULL,
    PRIMARY KEY (tenant_id, id)
)
;;
CREATE TABLE scheduler.subscriptions (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    plan_id uuid NOT NULL,
    product_id uuid NOT NULL,
    currency text NOT NULL,
    PRIMARY KEY (tenant_id, id)
)
;;
ALTER TABLE scheduler.collections
    ADD COLUMN subscription_ids uuid[] NOT NULL DEFAULT '{}',
    ADD COLUMN amount_minor bigint,
    ADD COLUMN currency text,
    ADD COLUMN policy_id uuid,
    ADD COLUMN policy_name text NOT NULL DEFAULT 'default',
    ADD COLUMN policy_version bigint NOT NULL DEFAULT 0,
    ADD COLUMN terms jsonb CHECK (jsonb_typeof(terms) = 'object'),
    ADD COLUMN method_id uuid,
    ADD COLUMN new_method_id uuid
;;
CREATE INDEX collections_open ON scheduler.collections (tenant_id, account_id)
    WHERE outcome = 'open'
"""
    )
    for table in ("accounts", "subscriptions"):
        tenant_table(f"scheduler.{table}", role=_ROLE)
    run(f"GRANT DELETE ON scheduler.policies TO {_ROLE}")
    idempotency_table("scheduler", role=_ROLE)
