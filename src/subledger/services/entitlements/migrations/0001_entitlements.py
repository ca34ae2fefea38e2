"""Customers, products' resources, grants."""

from __future__ import annotations

from alembic import op

from subledger.platform.schema import consumer_tables, run, tenant_table

revision = "entitlements_0001"
down_revision = None
branch_labels = None
depends_on = None

_ROLE = "subledger_entitlements"


def upgrade() -> None:
    # An external id is not unique here: two customers who swap theirs are two events of different
    # accounts, and between them no order is promised. The owner (billing) keeps it unique.
    run(
        """
CREATE TABLE entitlements.customers (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    external_id text NOT NULL,
    changed_at timestamptz NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id)
)
;;
CREATE TABLE entitlements.products (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    resources text[] NOT NULL,
    PRIMARY KEY (tenant_id, id)
)
;;
CREATE TABLE entitlements.grants (
    tenant_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    product_id uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'grace', 'revoked')),
    valid_until_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id)
) WITH (fillfactor = 80)
"""
    )
    for table in ("customers", "products", "grants"):
        tenant_table(f"entitlements.{table}", role=_ROLE)
    consumer_tables("entitlements", role=_ROLE)
    op.execute(f"GRANT USAGE ON SCHEMA entitlements TO {_ROLE}, subledger_clock_mover")
