"""The log of what was received, by connection, kind and trust; addresses can be replaced."""

from __future__ import annotations

from subledger.platform.schema import run

revision = "webhooks_0002"
down_revision = "webhooks_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        """
ALTER TABLE webhooks.endpoints ADD COLUMN address_number integer NOT NULL DEFAULT 1,
    ADD COLUMN revision integer NOT NULL DEFAULT 1
;;
CREATE INDEX received_listed ON webhooks.received (tenant_id, received_at, id)
;;
DROP INDEX webhooks.received_by_age
;;
CREATE INDEX received_of_endpoint ON webhooks.received (tenant_id, endpoint_id, received_at, id)
;;
CREATE INDEX received_of_kind ON webhooks.received (tenant_id, kind, received_at, id)
;;
CREATE INDEX received_of_trust ON webhooks.received (tenant_id, trust, received_at, id)
"""
    )
