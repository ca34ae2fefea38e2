"""Moving many subscriptions to another version of a plan: the migrations, what became of each
subscription, sums; a change that waits may wait for a certain version."""

from __future__ import annotations

from subledger.platform.schema import grant_columns, reader_policy, run, tenant_table

revision = "billing_0007"
down_revision = "billing_0006"
branch_labels = None
depends_on = None


_SCHEMA = """
CREATE TABLE billing.plan_migrations (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    plan_id uuid NOT NULL,
    from_version_id uuid,
    up_to_version integer NOT NULL,
    to_plan_id uuid NOT NULL,
    to_version_id uuid NOT NULL,
    effective text NOT NULL CHECK (effective IN ('now', 'period_end')),
    settle text NOT NULL CHECK (settle IN ('auto', 'now', 'next_invoice')),
    note text,
    status text NOT NULL CHECK (status IN ('running', 'paused', 'canceled', 'finished')),
    subscriptions_found bigint NOT NULL CHECK (subscriptions_found >= 0),
    last_listed_id uuid NOT NULL,
    is_listed boolean NOT NULL,
    changed bigint NOT NULL DEFAULT 0,
    scheduled bigint NOT NULL DEFAULT 0,
    skipped bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    cause uuid,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    worked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, plan_id) REFERENCES billing.plans,
    FOREIGN KEY (tenant_id, to_plan_id) REFERENCES billing.plans,
    FOREIGN KEY (tenant_id, from_version_id) REFERENCES billing.plan_versions,
    FOREIGN KEY (tenant_id, to_version_id) REFERENCES billing.plan_versions,
    CHECK ((status IN ('canceled', 'finished')) = (ended_at IS NOT NULL))
)
;;
CREATE UNIQUE INDEX plan_migrations_open ON billing.plan_migrations (tenant_id, plan_id)
    WHERE status IN ('running', 'paused')
;;
CREATE INDEX plan_migrations_running ON billing.plan_migrations (worked_at)
    WHERE status = 'running'
;;
CREATE TABLE billing.plan_migration_results (
    tenant_id uuid NOT NULL,
    migration_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    outcome text NOT NULL
        CHECK (outcome IN ('pending', 'changed', 'scheduled', 'skipped', 'failed')),
    reason text,
    detail text,
    from_version_id uuid NOT NULL,
    currency text NOT NULL,
    effective_at timestamptz,
    before_minor bigint,
    after_minor bigint,
    immediate_minor bigint,
    recorded_at timestamptz,
    PRIMARY KEY (tenant_id, migration_id, subscription_id),
    FOREIGN KEY (tenant_id, migration_id) REFERENCES billing.plan_migrations,
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES billing.subscriptions,
    FOREIGN KEY (tenant_id, from_version_id) REFERENCES billing.plan_versions,
    CHECK ((outcome IN ('skipped', 'failed')) = (reason IS NOT NULL)),
    CHECK ((outcome = 'pending') = (recorded_at IS NULL)),
    CHECK ((outcome IN ('changed', 'scheduled'))
           = (effective_at IS NOT NULL AND before_minor IS NOT NULL AND after_minor IS NOT NULL
              AND immediate_minor IS NOT NULL))
)
;;
CREATE INDEX plan_migration_results_by_outcome
    ON billing.plan_migration_results (tenant_id, migration_id, outcome, subscription_id)
;;
CREATE TABLE billing.plan_migration_totals (
    tenant_id uuid NOT NULL,
    migration_id uuid NOT NULL,
    currency text NOT NULL,
    from_version_id uuid NOT NULL,
    up bigint NOT NULL,
    down bigint NOT NULL,
    same bigint NOT NULL,
    before_minor numeric(38) NOT NULL,
    after_minor numeric(38) NOT NULL,
    immediate_minor numeric(38) NOT NULL,
    PRIMARY KEY (tenant_id, migration_id, currency, from_version_id),
    FOREIGN KEY (tenant_id, migration_id) REFERENCES billing.plan_migrations,
    FOREIGN KEY (tenant_id, from_version_id) REFERENCES billing.plan_versions
)
;;
-- Who lives on a version, in the order in which they are moved.
CREATE INDEX subscriptions_by_version ON billing.subscriptions (tenant_id, plan_version_id, id)
    WHERE ended_at IS NULL
;;
ALTER TABLE billing.scheduled_changes
    ADD COLUMN plan_version_id uuid,
    ADD FOREIGN KEY (tenant_id, plan_version_id) REFERENCES billing.plan_versions
"""


def upgrade() -> None:
    run(_SCHEMA)
    role = "subledger_billing"
    for table in ("plan_migrations", "plan_migration_results", "plan_migration_totals"):
        tenant_table(f"billing.{table}", role=role)
    columns = "tenant_id, id, status, worked_at"
    reader_policy("billing.plan_migrations", reader="subledger_due_reader", columns=columns)
    grant_columns("billing.plan_migrations", role="subledger_clock_mover", columns=columns)
