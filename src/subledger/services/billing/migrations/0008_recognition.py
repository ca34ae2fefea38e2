"""Revenue recognition: how a tenant recognizes, and a schedule for each line."""

from __future__ import annotations

from subledger.platform.schema import grant_columns, reader_policy, run, tenant_table

revision = "billing_0008"
down_revision = "billing_0007"
branch_labels = None
depends_on = None

_ROLE = "subledger_billing"
_READ = {
    "billing.recognition_policies": "tenant_id, version, mode, through_at, next_at",
    "billing.recognition_schedules": "tenant_id, policy, is_late, is_counted",
}


_SCHEMA = """
CREATE TABLE billing.recognition_policies (
    tenant_id uuid NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    mode text NOT NULL CHECK (mode IN ('day', 'second')),
    timezone text NOT NULL,
    through_unit bigint NOT NULL,
    through_at timestamptz NOT NULL,
    next_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, version),
    CHECK (through_at < next_at)
)
;;
CREATE TABLE billing.recognition_schedules (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    n integer NOT NULL,
    policy integer NOT NULL,
    currency text NOT NULL,
    net_minor bigint NOT NULL,
    service_start_at timestamptz NOT NULL,
    service_end_at timestamptz NOT NULL,
    start_unit bigint NOT NULL,
    end_unit bigint NOT NULL,
    from_unit bigint NOT NULL,
    last_unit bigint NOT NULL,
    base_minor bigint NOT NULL DEFAULT 0,
    is_late boolean NOT NULL,
    is_counted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, invoice_id, n),
    -- None to recognition_policies: a busy tenant's one row would be locked by every line.
    FOREIGN KEY (tenant_id, invoice_id, n) REFERENCES billing.invoice_lines,
    CHECK (service_start_at < service_end_at),
    CHECK (start_unit < end_unit),
    CHECK (last_unit = greatest(end_unit, from_unit)),
    CHECK (base_minor BETWEEN least(net_minor, 0) AND greatest(net_minor, 0))
)
;;
CREATE INDEX recognition_open
    ON billing.recognition_schedules (tenant_id, policy, last_unit, start_unit) WHERE is_counted
;;
CREATE INDEX recognition_new ON billing.recognition_schedules (tenant_id, policy)
    WHERE NOT is_counted
;;
CREATE INDEX recognition_late ON billing.recognition_schedules (tenant_id, policy)
    WHERE is_late AND NOT is_counted
;;
-- A release is the tenant's, not a customer's.
ALTER TABLE billing.transfers ALTER COLUMN account_id DROP NOT NULL
;;
ALTER TABLE billing.transfers ADD CHECK (account_id IS NOT NULL OR kind = 'recognized')
;;
CREATE INDEX transfers_of_revenue ON billing.transfers (tenant_id, occurred_at)
    WHERE debit_account = 'revenue' OR credit_account = 'revenue'
;;
-- The owner copies every tenant's rows: forced row-level security would hide them from it.
ALTER TABLE billing.invoices NO FORCE ROW LEVEL SECURITY
;;
ALTER TABLE billing.invoice_lines NO FORCE ROW LEVEL SECURITY
;;
-- What was billed before is recognized from the day of its invoice on, by whole days of UTC.
INSERT INTO billing.recognition_policies
    SELECT tenant_id, 1, 'day', 'UTC', day - date '0001-01-01' + 1,
           day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC', first_at
    FROM (SELECT tenant_id, min(finalized_at) AS first_at,
                 (min(finalized_at) AT TIME ZONE 'UTC')::date AS day
          FROM billing.invoices WHERE finalized_at IS NOT NULL GROUP BY tenant_id) AS billed
;;
INSERT INTO billing.recognition_schedules
        (tenant_id, invoice_id, n, policy, currency, net_minor, service_start_at, service_end_at,
         start_unit, end_unit, from_unit, last_unit, is_late)
    SELECT tenant_id, id, n, 1, currency, net_minor, start_at, end_at, first_day, behind, from_day,
           greatest(behind, from_day), first_day < from_day - 1
    FROM (
        SELECT l.*, i.id, ends.end_at, l.service_start_at AS start_at, days.first_day,
               greatest(days.last_day, days.first_day + 1) AS behind,
               days.billed_day + 1 AS from_day
        FROM billing.invoices i
        JOIN billing.invoice_lines l ON l.tenant_id = i.tenant_id AND l.invoice_id = i.id
        CROSS JOIN LATERAL (
            SELECT greatest(l.service_end_at, l.service_start_at + interval '1 microsecond')
                AS end_at
        ) AS ends
        CROSS JOIN LATERAL (
            SELECT (l.service_start_at AT TIME ZONE 'UTC')::date - date '0001-01-01' + 1
                       AS first_day,
                   (ends.end_at AT TIME ZONE 'UTC')::date - date '0001-01-01' + 1 AS last_day,
                   (i.finalized_at AT TIME ZONE 'UTC')::date - date '0001-01-01' + 1 AS billed_day
        ) AS days
        WHERE i.status NOT IN ('draft', 'void') AND l.net_minor <> 0
    ) AS standing
;;
ALTER TABLE billing.invoices FORCE ROW LEVEL SECURITY
;;
ALTER TABLE billing.invoice_lines FORCE ROW LEVEL SECURITY
"""


def upgrade() -> None:
    run(_SCHEMA)
    for table, columns in _READ.items():
        tenant_table(table, role=_ROLE)
        reader_policy(table, reader="subledger_due_reader", columns=columns)
        grant_columns(table, role="subledger_clock_mover", columns=columns)
