"""The guard against mass mistakes: limits, what was billed by the hour, holds and what they hold,
parks, releases, and who changed what."""

from __future__ import annotations

from alembic import op

from subledger.platform.schema import grant_columns, reader_policy, run, tenant_table

revision = "billing_0013"
down_revision = "billing_0012"
branch_labels = None
depends_on = None

_TABLES = (
    "billing_limits",
    "raised_limits",
    "billing_hours",
    "holds",
    "held_due",
    "billing_parks",
    "released_runs",
    "guard_changes",
)


_SCHEMA = """
CREATE TABLE billing.billing_limits (
    tenant_id uuid NOT NULL,
    currency text NOT NULL,
    largest_minor bigint CHECK (largest_minor >= 0),
    total_minor bigint CHECK (total_minor >= 0),
    average_minor bigint CHECK (average_minor >= 0),
    invoice_count bigint CHECK (invoice_count >= 0),
    set_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, currency)
)
;;
CREATE TABLE billing.raised_limits (
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    currency text NOT NULL,
    largest_minor bigint CHECK (largest_minor >= 0),
    total_minor bigint CHECK (total_minor >= 0),
    average_minor bigint CHECK (average_minor >= 0),
    invoice_count bigint CHECK (invoice_count >= 0),
    set_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, day, currency)
)
;;
CREATE TABLE billing.billing_hours (
    tenant_id uuid NOT NULL,
    currency text NOT NULL,
    hour_at timestamptz NOT NULL,
    invoice_count bigint NOT NULL CHECK (invoice_count > 0),
    total_minor numeric(38) NOT NULL,
    largest_minor bigint NOT NULL,
    PRIMARY KEY (tenant_id, currency, hour_at)
)
;;
-- What was billed before there was a guard. The owner reads and writes every tenant's rows; the
-- new table has no policy yet.
ALTER TABLE billing.invoices NO FORCE ROW LEVEL SECURITY
;;
ALTER TABLE billing.billing_runs NO FORCE ROW LEVEL SECURITY
;;
INSERT INTO billing.billing_hours
    SELECT i.tenant_id, i.currency,
           date_trunc('hour', coalesce(i.drafted_at, i.finalized_at), 'UTC'), sum(r.runs),
           sum(i.total_minor), max(i.total_minor)
    FROM billing.invoices i CROSS JOIN LATERAL (
        SELECT count(*) AS runs FROM billing.billing_runs b
        WHERE b.tenant_id = i.tenant_id AND b.invoice_id = i.id
    ) AS r
    WHERE r.runs > 0 GROUP BY 1, 2, 3
;;
ALTER TABLE billing.billing_runs FORCE ROW LEVEL SECURITY
;;
ALTER TABLE billing.invoices FORCE ROW LEVEL SECURITY
;;
CREATE TABLE billing.holds (
    tenant_id uuid NOT NULL,
    job text NOT NULL CHECK (job IN ('renewals', 'collections')),
    source text NOT NULL CHECK (source IN ('park', 'tenant', 'installation')),
    is_on boolean NOT NULL,
    reason text NOT NULL,
    set_by text NOT NULL,
    set_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, job, source)
)
;;
CREATE INDEX holds_let_go ON billing.holds (tenant_id, job) WHERE NOT is_on
;;
CREATE TABLE billing.held_due (
    tenant_id uuid NOT NULL,
    kind text NOT NULL,
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    due_at timestamptz NOT NULL,
    rank smallint NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (tenant_id, kind, id)
)
;;
CREATE INDEX held_due_in_order ON billing.held_due (tenant_id, due_at, rank, number)
;;
CREATE INDEX held_due_of ON billing.held_due (tenant_id, id)
;;
CREATE TABLE billing.billing_parks (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    job text NOT NULL,
    reason text NOT NULL,
    numbers jsonb NOT NULL,
    work_item_id uuid NOT NULL,
    since_at timestamptz NOT NULL,
    released_at timestamptz,
    released_by text,
    release_reason text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, work_item_id) REFERENCES billing.work_items,
    CHECK ((released_at IS NULL) = (released_by IS NULL)),
    CHECK ((released_at IS NULL) = (release_reason IS NULL))
)
;;
CREATE UNIQUE INDEX one_park_at_a_time ON billing.billing_parks (tenant_id, job)
    WHERE released_at IS NULL
;;
CREATE TABLE billing.released_runs (
    tenant_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    number bigint NOT NULL,
    most_minor bigint NOT NULL CHECK (most_minor >= 0),
    released_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, number),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES billing.subscriptions
)
;;
CREATE TABLE billing.guard_changes (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL,
    data jsonb NOT NULL,
    reason text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
)
;;
-- A job of the whole tenant that parks is nobody's account.
ALTER TABLE billing.work_items ALTER COLUMN account_id DROP NOT NULL
;;
CREATE INDEX work_items_open_of ON billing.work_items (tenant_id, account_id, id)
    WHERE closed_at IS NULL
"""


def upgrade() -> None:
    run(_SCHEMA)
    role = "subledger_billing"
    for table in _TABLES:
        tenant_table(f"billing.{table}", role=role, privileges="SELECT, INSERT, UPDATE, DELETE")
    columns = "tenant_id, job, source, is_on"
    reader_policy("billing.holds", reader="subledger_due_reader", columns=columns)
    grant_columns("billing.holds", role="subledger_clock_mover", columns=columns)
    grant_columns("billing.held_due", role="subledger_clock_mover", columns="tenant_id, kind, id")
    op.execute("REVOKE UPDATE, DELETE ON billing.guard_changes FROM subledger_billing")
