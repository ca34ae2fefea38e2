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
        WHERE a.state IN ('ready', 'in_flight', 'requires_action', 'authorized', 'unknown')
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
        "what is authorized is let go in time",
        """
        SELECT a.tenant_id, format('attempt %s is authorized and nothing is due', a.id) AS detail
        FROM payments.attempts a
        WHERE a.state = 'authorized'
          AND NOT EXISTS (SELECT FROM payments.due d WHERE d.tenant_id = a.tenant_id
                          AND d.id = a.payment_id AND d.kind = 'authorization')
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
        "a method that its payer is to save is looked after",
        """
        SELECT m.tenant_id, format('method %s waits and nothing is due', m.id) AS detail
        FROM payments.methods m WHERE m.status = 'attaching' AND m.test_kind IS NULL
          AND NOT EXISTS (SELECT FROM payments.due d WHERE d.tenant_id = m.tenant_id
                          AND d.id = m.id AND d.kind = 'setup_look')
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
        "never more goes back than was captured",
        """
        SELECT r.tenant_id, format('payment %s: %s of %s', r.payment_id, sum(r.amount_minor),
                                   p.amount_minor) AS detail
        FROM payments.refunds r JOIN payments.payments p
          ON p.tenant_id = r.tenant_id AND p.id = r.payment_id
        WHERE r.destination = 'method' AND r.state = 'succeeded'
        GROUP BY r.tenant_id, r.payment_id, p.amount_minor, p.status
        HAVING sum(r.amount_minor) > p.amount_minor OR p.status <> 'succeeded'
        """,
    ),
    Invariant(
        "a refund that waits is looked after, one that is over has nothing due",
        """
        SELECT r.tenant_id, format('refund %s is %s', r.id, r.state) AS detail
        FROM payments.refunds r LEFT JOIN payments.due d
          ON d.tenant_id = r.tenant_id AND d.id = r.id AND d.kind = 'refund_reconcile'
        WHERE CASE r.state WHEN 'unknown' THEN d.id IS NULL AND r.exhausted_at IS NULL
                AND NOT EXISTS (SELECT FROM payments.refund_looks l
                                WHERE l.tenant_id = r.tenant_id AND l.attempt_id = r.attempt_id)
              ELSE d.id IS NOT NULL END
        """,
    ),
    Invariant(
        "an open dispute is asked about until a person has to",
        """
        SELECT d.tenant_id, format('dispute %s is open and nothing is due', d.id) AS detail
        FROM payments.disputes d WHERE d.state = 'opened' AND d.exhausted_at IS NULL
          AND NOT EXISTS (SELECT FROM payments.due w WHERE w.tenant_id = d.tenant_id
                          AND w.kind = 'dispute' AND w.id = d.attempt_id)
          AND NOT EXISTS (SELECT FROM payments.dispute_looks l WHERE l.tenant_id = d.tenant_id
                          AND l.attempt_id = d.attempt_id)
        """,
    ),
    Invariant(
        "refunds and disputes together never take more than was captured",
        """
        SELECT p.tenant_id, format('payment %s: %s of %s', p.id, sum(t.amount_minor),
                                   p.amount_minor) AS detail
        FROM (
            SELECT tenant_id, payment_id, amount_minor FROM payments.disputes WHERE state <> 'won'
            UNION ALL
            SELECT tenant_id, payment_id, amount_minor FROM payments.refunds
            WHERE destination = 'method' AND state = 'succeeded'
        ) AS t JOIN payments.payments p ON p.tenant_id = t.tenant_id AND p.id = t.payment_id
        GROUP BY p.tenant_id, p.id, p.amount_minor HAVING sum(t.amount_minor) > p.amount_minor
        """,
    ),
    Invariant(
        "what has been unknown for too long is a person's, what is over is nobody's",
        """
        SELECT a.tenant_id, format('attempt %s is %s', a.id, a.state) AS detail
        FROM payments.attempts a JOIN payments.payments p
          ON p.tenant_id = a.tenant_id AND p.id = a.payment_id
        WHERE a.state IN ('unknown', 'requires_action') AND a.exhausted_at IS NOT NULL
          AND p.connection_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM payments.differences d WHERE d.tenant_id = a.tenant_id
              AND d.payment_id = p.id AND d.kind = 'payment_unknown' AND d.closed_at IS NULL)
        """,
    ),
    Invariant(
        "a dispute that nobody asks about any more is a person's",
        """
        SELECT t.tenant_id, format('dispute %s', t.id) AS detail FROM payments.disputes t
        WHERE t.state = 'opened' AND t.exhausted_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM payments.differences d WHERE d.tenant_id = t.tenant_id
              AND d.payment_id = t.payment_id AND d.kind = 'dispute_unknown'
              AND d.closed_at IS NULL)
        """,
    ),
    Invariant(
        "a payout is booked as what it is made of",
        """
        SELECT o.tenant_id, format('payout %s: %s of %s', o.provider_ref, o.amount_minor,
                                   o.gross_minor) AS detail
        FROM payments.payouts o WHERE o.booked_at IS NOT NULL
          AND o.gross_minor <> o.amount_minor + o.fee_minor + o.difference_minor
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
            SELECT 'wanted captures', count(*) FROM payments.authorizations
            WHERE tenant_id = :tenant AND ready_at IS NOT NULL
            UNION ALL
            SELECT 'refunds ' || state, count(*) FROM payments.refunds
            WHERE tenant_id = :tenant AND state IN ('requested', 'ready', 'in_flight')
              AND state NOT IN ('succeeded', 'failed', 'refused')
            GROUP BY state
            UNION ALL
            SELECT 'questions about refunds', count(*) FROM payments.refund_looks
            WHERE tenant_id = :tenant
            UNION ALL
            SELECT 'questions about disputes', count(*) FROM payments.dispute_looks
            WHERE tenant_id = :tenant
            UNION ALL
            SELECT 'questions about methods', count(*) FROM payments.method_tasks
            WHERE tenant_id = :tenant AND tries = 0
            UNION ALL
            SELECT 'reconciliations', count(*) FROM payments.reconciliations
            WHERE tenant_id = :tenant AND phase NOT IN ('done', 'failed')
            UNION ALL
            SELECT 'methods attaching', count(*) FROM payments.methods
            WHERE tenant_id = :tenant AND status = 'attaching' AND test_kind IS NOT NULL
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
