"""Catalogue, accounts, subscriptions, invoices, collections and the ledger."""

from __future__ import annotations

from alembic import op

from subledger.platform.schema import (
    consumer_tables,
    due_table,
    idempotency_table,
    run,
    tenant_table,
)

revision = "billing_0001"
down_revision = None
branch_labels = None
depends_on = None

_ROLE = "subledger_billing"

_CATALOGUE = """
CREATE TABLE billing.accounts (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    external_id text NOT NULL CHECK (length(external_id) BETWEEN 1 AND 200),
    name text NOT NULL,
    email text NOT NULL,
    email_normalized text NOT NULL,
    currency text NOT NULL,
    timezone text NOT NULL,
    locale text NOT NULL,
    country text NOT NULL,
    next_subscription_number bigint NOT NULL DEFAULT 1,
    last_occurred_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, external_id)
)
;;
CREATE INDEX accounts_by_email ON billing.accounts (tenant_id, email_normalized)
;;
CREATE INDEX accounts_not_deleted ON billing.accounts (tenant_id, id) WHERE deleted_at IS NULL
;;
CREATE TABLE billing.products (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    resources text[] NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code)
)
;;
CREATE TABLE billing.plans (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    product_id uuid NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    latest_version integer NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code),
    FOREIGN KEY (tenant_id, product_id) REFERENCES billing.products
)
;;
CREATE TABLE billing.plan_versions (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    plan_id uuid NOT NULL,
    version integer NOT NULL,
    grace_s bigint NOT NULL CHECK (grace_s >= 0),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, plan_id, version),
    FOREIGN KEY (tenant_id, plan_id) REFERENCES billing.plans
)
;;
CREATE TABLE billing.prices (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    plan_version_id uuid NOT NULL,
    code text NOT NULL,
    currency text NOT NULL,
    model text NOT NULL,
    interval_unit text NOT NULL,
    interval_count integer NOT NULL CHECK (interval_count > 0),
    timing text NOT NULL CHECK (timing IN ('advance', 'arrears')),
    terms jsonb NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, plan_version_id, code, currency),
    FOREIGN KEY (tenant_id, plan_version_id) REFERENCES billing.plan_versions
)
;;
CREATE TABLE billing.discounts (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('percent', 'fixed')),
    percent numeric,
    amount_minor bigint,
    currency text,
    duration text NOT NULL CHECK (duration IN ('once', 'periods', 'forever')),
    periods integer,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code),
    CHECK ((kind = 'percent') = (percent IS NOT NULL)),
    CHECK ((kind = 'fixed') = (amount_minor IS NOT NULL AND currency IS NOT NULL)),
    CHECK ((duration = 'periods') = (periods IS NOT NULL))
)
"""

_SUBSCRIPTIONS = """
CREATE TABLE billing.subscriptions (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    payer_id uuid NOT NULL,
    beneficiary_id uuid NOT NULL,
    number bigint NOT NULL,
    plan_version_id uuid NOT NULL,
    currency text NOT NULL,
    quantity numeric(38, 12) NOT NULL CHECK (quantity > 0),
    status text NOT NULL,
    anchor_at timestamptz NOT NULL,
    timezone text NOT NULL,
    started_at timestamptz NOT NULL,
    current_period_start_at timestamptz NOT NULL,
    current_period_end_at timestamptz NOT NULL,
    billed_through_at timestamptz NOT NULL,
    period_number integer NOT NULL,
    last_run_number bigint NOT NULL,
    cancel_at timestamptz,
    ended_at timestamptz,
    end_reason text,
    collection text NOT NULL CHECK (collection IN ('automatic', 'page')),
    payment_method_id uuid,
    return_url text,
    parked_reason text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, payer_id, number),
    FOREIGN KEY (tenant_id, payer_id) REFERENCES billing.accounts,
    FOREIGN KEY (tenant_id, beneficiary_id) REFERENCES billing.accounts,
    FOREIGN KEY (tenant_id, plan_version_id) REFERENCES billing.plan_versions,
    CHECK (current_period_start_at < current_period_end_at)
)
;;
CREATE INDEX subscriptions_of_beneficiary
    ON billing.subscriptions (tenant_id, beneficiary_id)
;;
CREATE INDEX subscriptions_by_status ON billing.subscriptions (tenant_id, status, id)
;;
CREATE TABLE billing.subscription_changes (
    tenant_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    n integer NOT NULL,
    kind text NOT NULL,
    effective_at timestamptz NOT NULL,
    data jsonb NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, n),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES billing.subscriptions
)
;;
CREATE TABLE billing.subscription_discounts (
    tenant_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    n integer NOT NULL,
    discount_id uuid NOT NULL,
    used_periods integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, subscription_id, n),
    UNIQUE (tenant_id, subscription_id, discount_id),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES billing.subscriptions,
    FOREIGN KEY (tenant_id, discount_id) REFERENCES billing.discounts
)
"""

_INVOICES = """
CREATE TABLE billing.number_series (
    tenant_id uuid NOT NULL,
    series text NOT NULL,
    last_number bigint NOT NULL,
    PRIMARY KEY (tenant_id, series)
)
;;
CREATE TABLE billing.invoices (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    series text NOT NULL,
    number bigint NOT NULL,
    status text NOT NULL CHECK (status IN ('open', 'paid', 'void', 'uncollectible')),
    reason text NOT NULL,
    currency text NOT NULL,
    subtotal_minor bigint NOT NULL,
    discount_minor bigint NOT NULL,
    tax_minor bigint NOT NULL,
    total_minor bigint NOT NULL CHECK (total_minor BETWEEN 0 AND 1000000000000000),
    paid_minor bigint NOT NULL DEFAULT 0 CHECK (paid_minor BETWEEN 0 AND total_minor),
    due_at timestamptz NOT NULL,
    finalized_at timestamptz NOT NULL,
    closed_at timestamptz,
    close_reason text,
    inputs jsonb NOT NULL,
    content_hash text NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, series, number),
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing.accounts,
    CHECK (subtotal_minor - discount_minor + tax_minor = total_minor),
    CHECK ((status = 'open') = (closed_at IS NULL))
)
;;
CREATE INDEX invoices_of_account ON billing.invoices (tenant_id, account_id, id)
;;
CREATE INDEX invoices_not_paid ON billing.invoices (tenant_id, status, id) WHERE status <> 'paid'
;;
CREATE TABLE billing.billing_runs (
    tenant_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    number bigint NOT NULL,
    invoice_id uuid NOT NULL,
    period_start_at timestamptz NOT NULL,
    period_end_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, number),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES billing.subscriptions,
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES billing.invoices
)
;;
CREATE INDEX billing_runs_of_invoice ON billing.billing_runs (tenant_id, invoice_id)
;;
CREATE TABLE billing.invoice_lines (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    n integer NOT NULL,
    kind text NOT NULL,
    subscription_id uuid NOT NULL,
    run_number bigint NOT NULL,
    price_id uuid NOT NULL,
    service_start_at timestamptz NOT NULL,
    service_end_at timestamptz NOT NULL,
    quantity numeric(38, 12) NOT NULL,
    gross_minor bigint NOT NULL,
    discount_minor bigint NOT NULL,
    net_minor bigint NOT NULL,
    tax_minor bigint NOT NULL,
    tax_rate numeric NOT NULL,
    currency text NOT NULL,
    derivation jsonb NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id, n),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES billing.invoices,
    FOREIGN KEY (tenant_id, subscription_id, run_number) REFERENCES billing.billing_runs,
    FOREIGN KEY (tenant_id, price_id) REFERENCES billing.prices,
    CHECK (gross_minor - discount_minor = net_minor),
    CHECK (service_start_at <= service_end_at)
)
;;
CREATE INDEX lines_of_subscription
    ON billing.invoice_lines (tenant_id, subscription_id, service_start_at)
;;
CREATE TABLE billing.reservations (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    state text NOT NULL CHECK (state IN ('held', 'released', 'consumed')),
    reserved_at timestamptz NOT NULL,
    closed_at timestamptz,
    PRIMARY KEY (tenant_id, invoice_id, attempt_id),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES billing.invoices,
    CHECK ((state = 'held') = (closed_at IS NULL))
)
;;
CREATE UNIQUE INDEX one_reservation_held ON billing.reservations (tenant_id, invoice_id)
    WHERE state <> 'released'
;;
CREATE TABLE billing.receipts (
    tenant_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    account_id uuid NOT NULL,
    invoice_id uuid,
    applied_minor bigint NOT NULL,
    unapplied_minor bigint NOT NULL,
    currency text NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, attempt_id),
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing.accounts
)
;;
CREATE TABLE billing.work_items (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL,
    account_id uuid NOT NULL,
    data jsonb NOT NULL,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    closed_by text,
    close_reason text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing.accounts
)
;;
CREATE INDEX work_items_open ON billing.work_items (tenant_id, id) WHERE closed_at IS NULL
"""

_LEDGER = """
CREATE TABLE billing.transfers (
    tenant_id uuid NOT NULL,
    ledger_tx uuid NOT NULL,
    n smallint NOT NULL,
    kind text NOT NULL,
    account_id uuid NOT NULL,
    invoice_id uuid,
    debit_account text NOT NULL,
    credit_account text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, ledger_tx, n),
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing.accounts,
    CHECK (debit_account <> credit_account)
)
;;
CREATE INDEX transfers_of_account ON billing.transfers (tenant_id, account_id, occurred_at)
;;
CREATE INDEX transfers_recorded ON billing.transfers USING brin (recorded_at)
    WITH (pages_per_range = 8, autosummarize = on)
;;
CREATE VIEW billing.entries WITH (security_invoker = true) AS
    SELECT tenant_id, ledger_tx, n, kind, account_id, invoice_id, debit_account AS ledger_account,
           amount_minor AS debit_minor, 0::bigint AS credit_minor, currency, occurred_at,
           recorded_at
    FROM billing.transfers
    UNION ALL
    SELECT tenant_id, ledger_tx, n, kind, account_id, invoice_id, credit_account,
           0::bigint, amount_minor, currency, occurred_at, recorded_at
    FROM billing.transfers
;;
CREATE TABLE billing.balances (
    tenant_id uuid NOT NULL,
    account_id uuid NOT NULL,
    ledger text NOT NULL CHECK (ledger IN ('receivable', 'credit', 'unapplied')),
    currency text NOT NULL,
    balance_minor bigint NOT NULL,
    PRIMARY KEY (tenant_id, account_id, ledger, currency),
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing.accounts
)
;;
CREATE TABLE billing.ledger_days (
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    ledger_account text NOT NULL,
    currency text NOT NULL,
    debit_minor numeric(38) NOT NULL,
    credit_minor numeric(38) NOT NULL,
    PRIMARY KEY (tenant_id, day, ledger_account, currency)
)
;;
CREATE TABLE billing.rolled_up (
    tenant_id uuid PRIMARY KEY,
    through_day date NOT NULL
)
"""

_TABLES = (
    "accounts",
    "products",
    "plans",
    "plan_versions",
    "prices",
    "discounts",
    "subscriptions",
    "subscription_changes",
    "subscription_discounts",
    "number_series",
    "invoices",
    "billing_runs",
    "invoice_lines",
    "reservations",
    "receipts",
    "work_items",
    "transfers",
    "balances",
    "ledger_days",
    "rolled_up",
)


def upgrade() -> None:
    op.execute(
        f"GRANT USAGE ON SCHEMA billing TO {_ROLE}, subledger_due_reader, subledger_clock_mover"
    )
    for part in (_CATALOGUE, _SUBSCRIPTIONS, _INVOICES, _LEDGER):
        run(part)
    for table in _TABLES:
        privileges = "SELECT, INSERT" if table == "transfers" else "SELECT, INSERT, UPDATE"
        tenant_table(f"billing.{table}", role=_ROLE, privileges=privileges)
    op.execute(f"GRANT SELECT ON billing.entries TO {_ROLE}")
    consumer_tables("billing", role=_ROLE)
    due_table("billing", role=_ROLE)
    idempotency_table("billing", role=_ROLE)
