"""Taxes: who sells where, rates and where they hold, what is known of a buyer."""

from __future__ import annotations

from subledger.platform.schema import run, tenant_table

revision = "billing_0006"
down_revision = "billing_0005"
branch_labels = None
depends_on = None

_TABLES = """
-- A new id whenever anything that decides a tenant's taxes changes: what processes remember holds
-- for one edition. No row: the tenant never said anything about taxes.
CREATE TABLE billing.tax_editions (
    tenant_id uuid PRIMARY KEY,
    edition uuid NOT NULL
)
;;
CREATE TABLE billing.tax_settings (
    tenant_id uuid PRIMARY KEY,
    country text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    region text NOT NULL,
    vat_id text NOT NULL,
    registered boolean NOT NULL,
    below_eu_threshold boolean NOT NULL,
    rounding text NOT NULL CHECK (rounding IN ('per_tax', 'per_line', 'per_document')),
    ties text NOT NULL CHECK (ties IN ('half_up', 'half_even')),
    provider text NOT NULL CHECK (provider <> ''),
    updated_at timestamptz NOT NULL
)
;;
CREATE TABLE billing.tax_rates (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    percent numeric NOT NULL CHECK (percent BETWEEN 0 AND 1000),
    country text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    region text NOT NULL,
    levy text NOT NULL CHECK (levy <> ''),
    compound boolean NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code)
)
;;
CREATE TABLE billing.tax_rules (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    tax_rate_id uuid NOT NULL,
    category text NOT NULL,
    treatment text NOT NULL CHECK (treatment IN ('taxed', 'zero_rated', 'exempt')),
    from_on date,
    until_on date,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, tax_rate_id) REFERENCES billing.tax_rates
)
;;
ALTER TABLE billing.accounts
    ADD COLUMN region text NOT NULL DEFAULT '',
    ADD COLUMN tax_id text NOT NULL DEFAULT '',
    ADD COLUMN tax_id_check text NOT NULL DEFAULT '' CHECK (tax_id_check IN ('', 'format')),
    ADD COLUMN tax_id_checked_at timestamptz,
    ADD COLUMN tax_exempt_reason text NOT NULL DEFAULT '',
    ADD COLUMN tax_rate_ids uuid[] NOT NULL DEFAULT '{}'
        CHECK (cardinality(tax_rate_ids) <= 8),
    ADD CHECK ((tax_id = '') = (tax_id_check = '') AND (tax_id = '') = (tax_id_checked_at IS NULL)),
    ADD CHECK (region = '' OR country <> '')
;;
ALTER TABLE billing.invoices ADD COLUMN tax jsonb
"""


def upgrade() -> None:
    run(_TABLES)
    role = "subledger_billing"
    for table, privileges in (
        ("tax_editions", "SELECT, INSERT, UPDATE"),
        ("tax_settings", "SELECT, INSERT, UPDATE"),
        ("tax_rates", "SELECT, INSERT"),
        ("tax_rules", "SELECT, INSERT, UPDATE"),
    ):
        tenant_table(f"billing.{table}", role=role, privileges=privileges)
