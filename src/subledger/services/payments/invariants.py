"""What must always hold in payments' tables, and what keeps a tenant's clock from moving on."""

from __future__ import annotations

from subledger.platform.service import Invariant, Quiet
from subledger.services.payments.store.holds import NEVER

INVARIANTS = (
    Invariant(
        "a payment says what its newest attempt says",
        """
        SELECT p.tenant_id, format('payment %s is %s, attempt %s is %s', p.id, p.status, a.id,
                                   a.state) AS detail
        FROM payments.payments p
        JOIN LATERAL (
            SELECT id, state FROM payments.attempts a
            WHERE a.tenant_id = p.tenant_id AND a.payment_id = p.id ORDER BY n DESC LIMIT 1
        ) AS a ON true
        WHERE CASE a.state
            WHEN 'reserving' THEN 'processing' WHEN 'ready' THEN 'processing'
            WHEN 'in_flight' THEN 'processing' ELSE a.state END <> p.status
          -- A retry that found the invoice held by another payment failed without an attempt.
          AND NOT (p.status = 'failed' AND a.state = 'canceled' AND p.dunning)
        """,
    ),
    Invariant(
        "every payment has an attempt",
        """
        SELECT p.tenant_id, format('payment %s has no attempt', p.id) AS detail
        FROM payments.payments p WHERE NOT EXISTS (
            SELECT FROM payments.attempts a
            WHERE a.tenant_id = p.tenant_id AND a.payment_id = p.id)
        """,
    ),
    Invariant(
        "an invoice has at most one attempt that may take money",
        """
        SELECT p.tenant_id, format('invoice %s has %s open attempts', p.invoice_id, count(*))
            AS detail
        FROM payments.attempts a JOIN payments.payments p
          ON p.tenant_id = a.tenant_id AND p.id = a.payment_id
        WHERE a.state IN ('ready', 'in_flight', 'requires_action', 'unknown')
          AND p.invoice_id IS NOT NULL
        GROUP BY p.tenant_id, p.invoice_id HAVING count(*) > 1
        """,
    ),
    Invariant(
        "an attempt that waits is looked after",
        """
        SELECT a.tenant_id, format('attempt %s is %s and nothing is due', a.id, a.state) AS detail
        FROM payments.attempts a
        WHERE a.state IN ('unknown', 'requires_action') AND a.exhausted_at IS NULL
          AND NOT EXISTS (SELECT FROM payments.due d WHERE d.tenant_id = a.tenant_id
                          AND d.id = a.payment_id AND d.kind IN ('reconcile', 'page_expiry'))
          AND NOT EXISTS (SELECT FROM payments.refetches r WHERE r.tenant_id = a.tenant_id
                          AND r.attempt_id = a.id)
        """,
    ),
    Invariant(
        "a default method is the customer's own and can be charged",
        """
        SELECT c.tenant_id, format('customer %s: default method %s', c.id, c.default_method_id)
            AS detail
        FROM payments.customers c LEFT JOIN payments.methods m
          ON m.tenant_id = c.tenant_id AND m.id = c.default_method_id
        WHERE c.default_method_id IS NOT NULL
          AND (m.status IS DISTINCT FROM 'active' OR m.customer_id <> c.id)
        """,
    ),
    Invariant(
        "what is over has nothing due",
        """
        SELECT p.tenant_id, format('payment %s is %s, yet %s is due', p.id, p.status, d.kind)
            AS detail
        FROM payments.due d JOIN payments.payments p ON p.tenant_id = d.tenant_id AND p.id = d.id
        WHERE p.status IN ('succeeded', 'failed', 'canceled')
        """,
    ),
    Invariant(
        "a charge is put off only behind a kill switch",
        f"""
        SELECT a.tenant_id, format('attempt %s waits for nothing', a.id) AS detail
        FROM payments.attempts a WHERE a.state = 'ready' AND a.ready_at = {NEVER}
          AND NOT EXISTS (SELECT FROM payments.holds h WHERE h.tenant_id = a.tenant_id)
        """,
    ),
)

_ON = "EXISTS (SELECT FROM payments.holds h WHERE h.tenant_id = :tenant AND h.is_on)"

QUIET = (
    Quiet(
        "payments' intents",
        f"""
        SELECT what, count FROM (
            SELECT 'attempts ' || state AS what, count(*) AS count FROM payments.attempts
            WHERE tenant_id = :tenant AND state IN ('reserving', 'ready', 'in_flight')
              AND state NOT IN ('succeeded', 'failed', 'canceled')
              AND NOT (ready_at = {NEVER} AND {_ON})
            GROUP BY state
            UNION ALL
            SELECT 'provider questions', count(*) FROM payments.refetches
            WHERE tenant_id = :tenant
            UNION ALL
            SELECT 'methods attaching', count(*) FROM payments.methods
            WHERE tenant_id = :tenant AND status = 'attaching'
        ) AS work WHERE count > 0
        """,
    ),
)
"""An attempt that waits for a payer, a deadline or a person counts as quiet."""
WAITS = (
    Quiet(
        "payments' kill switch",
        f"""
        SELECT 'charges, collections are stopped' AS what, count(*) AS count
        FROM payments.attempts WHERE tenant_id = :tenant AND state = 'ready'
          AND state NOT IN ('succeeded', 'failed', 'canceled')
          AND ready_at = {NEVER} AND {_ON} HAVING count(*) > 0
        """,
    ),
)
"""What a kill switch holds waits for a person: it holds no clock."""
