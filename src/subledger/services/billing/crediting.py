"""What must always hold of credit notes and of credit that an admin adjusts."""

from __future__ import annotations

from subledger.platform.service import Invariant

INVARIANTS = (
    Invariant(
        "a credit note equals its lines",
        """
        SELECT c.tenant_id, format('credit note %s: %s, lines %s', c.id, c.total_minor,
                                   sum(l.net_minor + l.tax_minor)) AS detail
        FROM billing.credit_notes c LEFT JOIN billing.credit_note_lines l
          ON l.tenant_id = c.tenant_id AND l.credit_note_id = c.id
         AND l.invoice_id = c.invoice_id
        GROUP BY c.tenant_id, c.id
        HAVING (c.gross_minor, c.discount_minor, c.net_minor, c.tax_minor)
            IS DISTINCT FROM (sum(l.gross_minor), sum(l.discount_minor), sum(l.net_minor),
                              sum(l.tax_minor))
        """,
    ),
    Invariant(
        "invoices and their lines know what standing credit notes gave back",
        """
        SELECT i.tenant_id, format('invoice %s: noted %s, offset %s, notes %s, %s', i.id,
                                   i.noted_minor, i.offset_minor, sum(c.total_minor),
                                   sum(c.offset_minor)) AS detail
        FROM billing.invoices i LEFT JOIN billing.credit_notes c
          ON c.tenant_id = i.tenant_id AND c.invoice_id = i.id AND c.status = 'issued'
        GROUP BY i.tenant_id, i.id
        HAVING i.noted_minor <> coalesce(sum(c.total_minor), 0)
            OR i.offset_minor <> coalesce(sum(c.offset_minor), 0)
        UNION ALL
        SELECT l.tenant_id, format('invoice %s line %s: noted %s, notes %s', l.invoice_id, l.n,
                                   l.noted_gross_minor, sum(c.gross_minor)) AS detail
        FROM billing.invoice_lines l LEFT JOIN (
            SELECT g.* FROM billing.credit_note_lines g JOIN billing.credit_notes c
              ON c.tenant_id = g.tenant_id AND c.id = g.credit_note_id AND c.status = 'issued'
        ) AS c ON c.tenant_id = l.tenant_id AND c.invoice_id = l.invoice_id AND c.n = l.n
        GROUP BY l.tenant_id, l.invoice_id, l.n
        HAVING (l.noted_gross_minor, l.noted_discount_minor, l.noted_net_minor, l.noted_tax_minor)
            IS DISTINCT FROM (coalesce(sum(c.gross_minor), 0), coalesce(sum(c.discount_minor), 0),
                              coalesce(sum(c.net_minor), 0), coalesce(sum(c.tax_minor), 0))
        """,
    ),
    Invariant(
        "of no charge more is given back than was charged, by credit notes and invoices together",
        """
        SELECT l.tenant_id, format('subscription %s price %s from %s: %s charged, %s noted',
                                   l.subscription_id, l.price_id, l.charged_from_at,
                                   sum(l.gross_minor), sum(l.noted_gross_minor)) AS detail
        FROM billing.invoice_lines l JOIN billing.invoices i
          ON i.tenant_id = l.tenant_id AND i.id = l.invoice_id AND i.status <> 'void'
        GROUP BY l.tenant_id, l.subscription_id, l.price_id, l.charged_from_at
        HAVING sum(l.gross_minor - l.noted_gross_minor) < 0
            OR sum(l.noted_gross_minor) > 0 AND (sum(l.net_minor - l.noted_net_minor) < 0
            OR sum(l.tax_minor - l.noted_tax_minor) < 0)
        """,
    ),
    Invariant(
        "credit notes are booked: receivable, credit, revenues and tax",
        """
        SELECT c.tenant_id, format('invoice %s: %s', c.invoice_id, c.ledger) AS detail
        FROM (
            SELECT n.tenant_id, n.invoice_id, v.ledger, sum(v.amount_minor) AS noted_minor
            FROM billing.credit_notes n
            JOIN (SELECT tenant_id, credit_note_id, sum(deferred_minor) AS deferred_minor,
                         sum(revenue_minor) AS revenue_minor
                  FROM billing.credit_note_lines GROUP BY tenant_id, credit_note_id) AS l
              ON l.tenant_id = n.tenant_id AND l.credit_note_id = n.id
            CROSS JOIN LATERAL (VALUES
                ('receivable', -n.offset_minor), ('credit', -n.credit_minor - n.refund_minor),
                ('deferred_revenue', l.deferred_minor), ('revenue', l.revenue_minor),
                ('tax_payable', n.tax_minor)) AS v(ledger, amount_minor)
            WHERE n.status = 'issued' GROUP BY n.tenant_id, n.invoice_id, v.ledger
        ) AS c LEFT JOIN (
            SELECT tenant_id, invoice_id, split_part(ledger_account, ':', 1) AS ledger,
                   sum(debit_minor - credit_minor) AS booked_minor
            FROM billing.entries WHERE kind IN ('credit_note', 'credit_note_voided')
            GROUP BY 1, 2, 3
        ) AS e USING (tenant_id, invoice_id, ledger)
        WHERE c.noted_minor <> coalesce(e.booked_minor, 0)
        """,
    ),
    Invariant(
        "adjustments are booked, and no customer's credit is below zero",
        """
        SELECT b.tenant_id, format('account %s: credit %s', b.account_id, -b.balance_minor)
            AS detail
        FROM billing.balances b WHERE b.ledger = 'credit' AND b.balance_minor > 0
        UNION ALL
        SELECT coalesce(a.tenant_id, e.tenant_id),
               format('account %s: adjusted %s, booked %s', coalesce(a.account_id, e.account_id),
                      a.sum_minor, e.sum_minor)
        FROM (
            SELECT tenant_id, account_id, sum(
                CASE direction WHEN 'credit' THEN amount_minor ELSE -amount_minor END) AS sum_minor
            FROM billing.adjustments GROUP BY tenant_id, account_id
        ) AS a FULL JOIN (
            SELECT tenant_id, account_id, sum(debit_minor - credit_minor) AS sum_minor
            FROM billing.entries WHERE ledger_account = 'adjustment_expense'
            GROUP BY tenant_id, account_id
        ) AS e USING (tenant_id, account_id)
        WHERE a.sum_minor IS DISTINCT FROM e.sum_minor
        """,
    ),
    Invariant(
        "refunds are booked, and none gives back more than was received",
        """
        SELECT coalesce(f.tenant_id, e.tenant_id) AS tenant_id,
               format('account %s: refunded %s, booked %s', coalesce(f.account_id, e.account_id),
                      f.sum_minor, e.sum_minor) AS detail
        FROM (
            SELECT tenant_id, account_id, currency, sum(amount_minor) AS sum_minor
            FROM billing.refunds WHERE state <> 'failed' AND destination = 'method' GROUP BY 1, 2, 3
        ) AS f FULL JOIN (
            SELECT tenant_id, account_id, currency, sum(credit_minor - debit_minor) AS sum_minor
            FROM billing.entries
            WHERE kind IN ('refunded', 'credit_refunded', 'refund_failed')
              AND split_part(ledger_account, ':', 1) = 'provider_clearing' GROUP BY 1, 2, 3
        ) AS e USING (tenant_id, account_id, currency)
        WHERE coalesce(f.sum_minor, 0) <> coalesce(e.sum_minor, 0)
        UNION ALL
        SELECT f.tenant_id, format('attempt %s: refunded %s', f.attempt_id, sum(f.amount_minor))
        FROM billing.refunds f JOIN billing.receipts r
          ON r.tenant_id = f.tenant_id AND r.attempt_id = f.attempt_id
        WHERE f.state <> 'failed' AND f.destination = 'method'
        GROUP BY f.tenant_id, f.attempt_id, r.applied_minor, r.unapplied_minor
        HAVING sum(f.amount_minor) > r.applied_minor + r.unapplied_minor
        """,
    ),
    Invariant(
        "disputes are booked: what is open, what was lost, what the provider holds, and fees",
        """
        SELECT coalesce(d.tenant_id, e.tenant_id) AS tenant_id,
               format('account %s, %s: %s, booked %s', coalesce(d.account_id, e.account_id),
                      coalesce(d.ledger, e.ledger), d.sum_minor, e.sum_minor) AS detail
        FROM (
            SELECT x.tenant_id, x.account_id, x.currency, v.ledger, sum(v.amount_minor) AS sum_minor
            FROM billing.disputes x CROSS JOIN LATERAL (VALUES
                ('disputed', CASE x.state WHEN 'opened' THEN x.amount_minor ELSE 0 END),
                ('chargeback_loss', CASE x.state WHEN 'lost' THEN x.amount_minor ELSE 0 END),
                ('provider_clearing', -x.fee_minor
                    - CASE x.state WHEN 'won' THEN 0 ELSE x.amount_minor END),
                ('fees', x.fee_minor)) AS v(ledger, amount_minor)
            GROUP BY 1, 2, 3, 4
        ) AS d FULL JOIN (
            SELECT tenant_id, account_id, currency, split_part(ledger_account, ':', 1) AS ledger,
                   sum(debit_minor - credit_minor) AS sum_minor
            FROM billing.entries
            WHERE kind IN ('dispute_opened', 'dispute_won', 'dispute_lost', 'dispute_fee')
            GROUP BY 1, 2, 3, 4
        ) AS e USING (tenant_id, account_id, currency, ledger)
        WHERE coalesce(d.sum_minor, 0) <> coalesce(e.sum_minor, 0)
        """,
    ),
    Invariant(
        "what credit notes gave back of a line is not recognized",
        """
        SELECT l.tenant_id, format('invoice %s line %s: net %s, noted %s, scheduled %s',
                                   l.invoice_id, l.n, l.net_minor, l.noted_net_minor, s.net_minor)
            AS detail
        FROM billing.invoice_lines l
        JOIN billing.invoices i ON i.tenant_id = l.tenant_id AND i.id = l.invoice_id
        JOIN billing.recognition_schedules s
          ON s.tenant_id = l.tenant_id AND s.invoice_id = l.invoice_id AND s.n = l.n
        WHERE i.status <> 'void' AND s.net_minor <> l.net_minor - l.noted_net_minor
        """,
    ),
)
