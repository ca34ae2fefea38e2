"""Connections that an admin makes: names, currencies, an order of choice, replaceable addresses."""

from __future__ import annotations

from alembic import op

from subledger.platform.schema import run, tenant_table

revision = "payments_0005"
down_revision = "payments_0004"
branch_labels = None
depends_on = None

_ROLE = "subledger_payments"


def upgrade() -> None:
    op.execute("ALTER TABLE payments.connections RENAME COLUMN is_default TO opens_itself")
    run(
        """
ALTER INDEX payments.one_default_connection RENAME TO one_connection_opens_itself
;;
ALTER TABLE payments.connections
    ADD COLUMN name text NOT NULL DEFAULT 'Sandbox' CHECK (length(name) BETWEEN 1 AND 200),
    ADD COLUMN currencies text[] NOT NULL DEFAULT '{}' CHECK (cardinality(currencies) <= 200),
    ADD COLUMN position smallint NOT NULL DEFAULT 0,
    ADD COLUMN credentials_shown jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN revision integer NOT NULL DEFAULT 1,
    ADD COLUMN address_number integer NOT NULL DEFAULT 1,
    ADD COLUMN webhook_path_encrypted bytea,
    ADD COLUMN closed_at timestamptz,
    ADD CONSTRAINT closed_at_a_moment CHECK ((status = 'closed') = (closed_at IS NOT NULL))
;;
CREATE INDEX connections_listed ON payments.connections (tenant_id, created_at, id)
;;
CREATE TABLE payments.currency_defaults (
    tenant_id uuid NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    connection_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, currency),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES payments.connections
)
"""
    )
    tenant_table(
        "payments.currency_defaults", role=_ROLE, privileges="SELECT, INSERT, UPDATE, DELETE"
    )
