"""What must never be found in the entitlements' tables."""

from __future__ import annotations

from subledger.platform.service import Invariant

INVARIANTS = (
    Invariant(
        "entitlements.a_grant_is_of_a_known_customer",
        """
        SELECT g.tenant_id, 'grant of subscription ' || g.subscription_id || ' to customer '
               || g.customer_id AS detail
        FROM entitlements.grants g LEFT JOIN entitlements.customers c
          ON c.tenant_id = g.tenant_id AND c.id = g.customer_id
        WHERE c.id IS NULL AND NOT EXISTS (
            SELECT FROM entitlements.blocked b
            WHERE b.tenant_id = g.tenant_id AND b.subject = g.customer_id)
        """,
    ),
    Invariant(
        "entitlements.a_grant_is_of_a_known_product",
        """
        SELECT g.tenant_id, 'grant of subscription ' || g.subscription_id || ' for product '
               || g.product_id AS detail
        FROM entitlements.grants g LEFT JOIN entitlements.products p
          ON p.tenant_id = g.tenant_id AND p.id = g.product_id
        WHERE p.id IS NULL AND NOT EXISTS (
            SELECT FROM entitlements.blocked b
            WHERE b.tenant_id = g.tenant_id AND b.subject = g.tenant_id)
        """,
    ),
)
"""They hold once the log has been read; another account's event may be heard a moment later."""
