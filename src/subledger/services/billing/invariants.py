"""What must always hold in billing's tables, and what keeps a tenant's clock from moving on."""

from __future__ import annotations

from subledger.platform.service import Invariant, Quiet
from subledger.services.billing import crediting, guarding
from subledger.services.billing.store.recognition import BEHIND_SQL, RELEASED_SQL

INVARIANTS = (
    Invariant(
        "an invoice has a line",
        """
        SELECT i.tenant_id, format('invoice %s has no line', i.id) AS detail
        FROM billing.invoices i WHERE NOT EXISTS (
            SELECT FROM billing.invoice_lines l
            WHERE l.tenant_id = i.tenant_id AND l.invoice_id = i.id)
        """,
    ),
    Invariant(
        "an invoice equals its lines",
        """
        SELECT i.tenant_id, format('invoice %s: total %s, lines %s', i.id, i.total_minor,
                                   sum(l.net_minor + l.tax_minor)) AS detail
        FROM billing.invoices i JOIN billing.invoice_lines l
          ON l.tenant_id = i.tenant_id AND l.invoice_id = i.id
        GROUP BY i.tenant_id, i.id
        HAVING i.total_minor - i.credited_minor <> sum(l.net_minor + l.tax_minor)
            OR i.tax_included_minor <> sum(l.tax_included_minor)
            OR i.subtotal_minor <> sum(l.gross_minor)
            OR i.discount_minor <> sum(l.discount_minor) OR i.tax_minor <> sum(l.tax_minor)
        """,
    ),
    Invariant(
        "an account's balance equals its entries",
        """
        SELECT coalesce(b.tenant_id, e.tenant_id) AS tenant_id,
               format('account %s %s %s: balance %s, entries %s',
                      coalesce(b.account_id, e.account_id), coalesce(b.ledger, e.ledger),
                      coalesce(b.currency, e.currency), b.balance_minor, e.sum_minor) AS detail
        FROM billing.balances b
        FULL JOIN (
            SELECT tenant_id, account_id, split_part(ledger_account, ':', 1) AS ledger, currency,
                   sum(debit_minor - credit_minor) AS sum_minor
            FROM billing.entries
            WHERE split_part(ledger_account, ':', 1) IN ('receivable', 'credit', 'unapplied')
            GROUP BY 1, 2, 3, 4
        ) AS e ON (b.tenant_id, b.account_id, b.ledger, b.currency)
                = (e.tenant_id, e.account_id, e.ledger, e.currency)
        WHERE b.balance_minor IS DISTINCT FROM e.sum_minor
        """,
    ),
    Invariant(
        "the receivable of a closed invoice is zero, of an open one what is owed",
        """
        SELECT i.tenant_id, format('invoice %s (%s): receivable %s', i.id, i.status,
                                   coalesce(sum(e.debit_minor - e.credit_minor), 0)) AS detail
        FROM billing.invoices i LEFT JOIN billing.entries e
          ON e.tenant_id = i.tenant_id AND e.invoice_id = i.id
         AND split_part(e.ledger_account, ':', 1) = 'receivable'
        GROUP BY i.tenant_id, i.id
        HAVING coalesce(sum(e.debit_minor - e.credit_minor), 0)
            <> CASE WHEN i.status = 'open' THEN i.total_minor - i.paid_minor ELSE 0 END
        """,
    ),
    Invariant(
        "numbers of a series have no gap",
        """
        SELECT s.tenant_id, format('series %s: last %s, documents %s', s.series, s.last_number,
                                   count(d.number)) AS detail
        FROM billing.number_series s LEFT JOIN (
            SELECT tenant_id, series, number FROM billing.invoices
            UNION ALL SELECT tenant_id, series, number FROM billing.credit_notes
        ) AS d ON d.tenant_id = s.tenant_id AND d.series = s.series
        GROUP BY s.tenant_id, s.series
        HAVING s.last_number <> count(d.number) OR s.last_number <> coalesce(max(d.number), 0)
        """,
    ),
    Invariant(
        "runs are numbered without a gap and cover every moment once",
        # What was paid for reaches further by the pauses that extended it. Between that and a run
        # of kind 'resume' lies a pause or nothing, before a 'reactivation' an end.
        """
        SELECT tenant_id, format('subscription %s run %s: %s %s to %s', subscription_id, number,
                                 kind, period_start_at, period_end_at) AS detail
        FROM (
            SELECT r.*, to_timestamp(extract(epoch FROM r.ended) + coalesce((
                    SELECT sum(extract(epoch FROM p.extended_to_at)
                               - extract(epoch FROM p.period_end_at))
                    FROM billing.pauses p
                    WHERE p.tenant_id = r.tenant_id AND p.subscription_id = r.subscription_id
                      AND p.credit = 'extend' AND p.state = 'over' AND p.period_end_at >= r.ended
                      AND p.resumed_at <= r.period_start_at), 0)) AS paid_until
            FROM (
                SELECT r.*, coalesce(s.trial_end_at, s.started_at) AS billed_from_at,
                       s.billed_through_at, s.last_run_number,
                       lag(r.number) OVER runs AS previous, lag(r.period_end_at) OVER runs AS ended,
                       lag(r.period_start_at) OVER runs AS started,
                       lead(r.number) OVER runs AS following
                FROM billing.billing_runs r JOIN billing.subscriptions s
                  ON s.tenant_id = r.tenant_id AND s.id = r.subscription_id
                WINDOW runs AS (PARTITION BY r.tenant_id, r.subscription_id ORDER BY r.number)
            ) AS r
        ) AS r
        WHERE number <> coalesce(previous, 0) + 1
           OR (kind = 'period' AND period_start_at <> coalesce(ended, billed_from_at))
           OR (kind = 'restart' AND period_start_at NOT BETWEEN started AND paid_until)
           OR (kind = 'resume' AND period_start_at <> paid_until AND NOT EXISTS (
                SELECT FROM billing.pauses p
                WHERE p.tenant_id = r.tenant_id AND p.subscription_id = r.subscription_id
                  AND p.credit <> 'extend' AND p.state = 'over' AND p.from_at <= paid_until
                  AND p.resumed_at = period_start_at))
           OR (kind = 'reactivation' AND NOT EXISTS (
                SELECT FROM billing.subscription_changes c
                WHERE c.tenant_id = r.tenant_id AND c.subscription_id = r.subscription_id
                  AND c.kind = 'canceled' AND c.effective_at <= period_start_at
                  AND (started IS NULL OR c.effective_at >= started)))
           OR (following IS NULL
               AND (period_end_at <> billed_through_at OR number <> last_run_number))
        """,
    ),
    Invariant(
        "a pause extends a period by its own length",
        """
        SELECT p.tenant_id, format('subscription %s, pause %s to %s: period %s to %s',
                                   p.subscription_id, p.from_at, p.resumed_at, p.period_end_at,
                                   p.extended_to_at) AS detail
        FROM billing.pauses p JOIN billing.subscriptions s
          ON s.tenant_id = p.tenant_id AND s.id = p.subscription_id
        WHERE (p.credit = 'extend' AND p.resumed_at IS NOT NULL) <> (p.extended_to_at IS NOT NULL)
           OR (p.extended_to_at <> p.resumed_at AND CASE
               WHEN s.proration = 'second' THEN extract(epoch FROM p.extended_to_at)
                    - extract(epoch FROM p.period_end_at)
                    <> extract(epoch FROM p.resumed_at) - extract(epoch FROM p.from_at)
               -- Renewed since, perhaps in another time zone, in which the days are others:
               -- a day, and an hour of summer time, in seconds.
               WHEN s.current_period_start_at >= p.resumed_at THEN
                    abs(extract(epoch FROM p.extended_to_at) - extract(epoch FROM p.period_end_at)
                        - extract(epoch FROM p.resumed_at) + extract(epoch FROM p.from_at)) > 90000
               ELSE (p.extended_to_at AT TIME ZONE s.timezone)::date
                    - (p.period_end_at AT TIME ZONE s.timezone)::date
                    <> (p.resumed_at AT TIME ZONE s.timezone)::date
                    - (p.from_at AT TIME ZONE s.timezone)::date END)
        """,
    ),
    Invariant(
        "a live subscription knows what comes next",
        """
        SELECT s.tenant_id, format('subscription %s (%s) has nothing due', s.id, s.status)
            AS detail
        FROM billing.subscriptions s
        WHERE s.status IN ('pending', 'trialing', 'incomplete', 'active', 'past_due')
          AND s.parked_reason IS NULL
          AND NOT EXISTS (
            SELECT FROM billing.due d WHERE d.tenant_id = s.tenant_id AND d.id = s.id
              AND d.kind = CASE s.status WHEN 'incomplete' THEN 'incomplete_expiry'
                                         ELSE 'renewal' END)
          AND NOT EXISTS (
            SELECT FROM billing.held_due d WHERE d.tenant_id = s.tenant_id AND d.id = s.id)
        """,
    ),
    Invariant(
        "a pause that is planned begins, a paused subscription goes on when it was asked to",
        """
        SELECT coalesce(s.tenant_id, p.tenant_id) AS tenant_id,
               format('subscription %s (%s), pause %s from %s', s.id, s.status, p.state, p.from_at)
                   AS detail
        FROM (SELECT * FROM billing.pauses WHERE state <> 'over') AS p
        FULL JOIN (SELECT * FROM billing.subscriptions WHERE status = 'paused') AS s
          ON s.tenant_id = p.tenant_id AND s.id = p.subscription_id
        WHERE (s.status = 'paused') IS DISTINCT FROM (p.state = 'running')
              AND NOT (s.id IS NULL AND p.state = 'scheduled')
           OR EXISTS (SELECT FROM billing.due d WHERE d.tenant_id = s.tenant_id AND d.id = s.id
                        AND d.kind = 'renewal')
           OR (CASE p.state WHEN 'scheduled' THEN p.from_at ELSE p.resume_at END) IS NOT NULL
              AND NOT EXISTS (
                SELECT FROM billing.due d
                WHERE d.tenant_id = p.tenant_id AND d.id = p.subscription_id
                  AND d.kind = 'pause_resume'
                  AND d.due_at = CASE p.state WHEN 'scheduled' THEN p.from_at
                                              ELSE p.resume_at END)
        """,
    ),
    Invariant(
        "nothing is billed before a trial's end or a start day",
        """
        SELECT s.tenant_id, format('subscription %s (%s): run %s, period until %s', s.id, s.status,
                                   s.last_run_number, s.current_period_end_at) AS detail
        FROM billing.subscriptions s
        WHERE s.status IN ('pending', 'trialing')
          AND (s.last_run_number <> 0 OR s.billed_through_at <> s.current_period_end_at
               OR s.cycle_started_at <> coalesce(s.trial_end_at, s.started_at)
               OR s.current_period_end_at
                  <> CASE s.status WHEN 'pending' THEN s.started_at ELSE s.trial_end_at END)
        """,
    ),
    Invariant(
        "a settled invoice is not reserved, a paid one was collected or free",
        """
        SELECT i.tenant_id, format('invoice %s is %s', i.id, i.status) AS detail
        FROM billing.invoices i
        WHERE (i.status IN ('paid', 'void') AND EXISTS (
                SELECT FROM billing.reservations r WHERE r.tenant_id = i.tenant_id
                  AND r.invoice_id = i.id AND r.state = 'held'))
           OR (i.status = 'paid'
               AND i.total_minor > i.credit_applied_minor + i.offset_minor
               AND i.total_minor - i.credit_applied_minor - i.offset_minor - (
                SELECT coalesce(sum(r.applied_minor), 0) FROM billing.receipts r
                WHERE r.tenant_id = i.tenant_id AND r.invoice_id = i.id
                  AND (r.reversed_at IS NULL OR r.stays_applied)) <> (
                SELECT coalesce(sum(t.amount_minor), 0) FROM billing.transfers t
                WHERE t.tenant_id = i.tenant_id AND t.invoice_id = i.id
                  AND t.kind = 'account_applied'))
        """,
    ),
    Invariant(
        "money received is booked whole",
        """
        SELECT r.tenant_id, format('attempt %s: applied %s, unapplied %s', r.attempt_id,
                                   r.applied_minor, r.unapplied_minor) AS detail
        FROM billing.receipts r
        WHERE r.applied_minor < 0 OR r.unapplied_minor < 0
           OR (r.applied_minor = 0 AND r.unapplied_minor = 0)
        """,
    ),
    Invariant(
        "an invoice's taxes by rate are its tax",
        """
        SELECT i.tenant_id, format('invoice %s: tax %s, by rate %s', i.id, i.tax_minor,
                                   i.tax -> 'rates') AS detail
        FROM billing.invoices i
        WHERE i.tax IS NOT NULL AND i.tax_minor <> (
            SELECT coalesce(sum((each ->> 'tax_minor')::bigint), 0)
            FROM jsonb_array_elements(i.tax -> 'rates') AS each)
        """,
    ),
    Invariant(
        "two tax rules never cover the same on one day",
        """
        SELECT u.tenant_id, format('rules %s and %s', u.id, v.id) AS detail
        FROM billing.tax_rules u
        JOIN billing.tax_rates r ON r.tenant_id = u.tenant_id AND r.id = u.tax_rate_id
        JOIN billing.tax_rates q ON q.tenant_id = r.tenant_id AND q.levy = r.levy
          AND q.country = r.country AND q.region = r.region
        JOIN billing.tax_rules v ON v.tenant_id = q.tenant_id AND v.tax_rate_id = q.id
          AND v.category = u.category AND v.id > u.id
        WHERE coalesce(u.from_on < u.until_on, true) AND coalesce(v.from_on < v.until_on, true)
          AND coalesce(u.from_on < v.until_on, true) AND coalesce(v.from_on < u.until_on, true)
        """,
    ),
    Invariant(
        "the tax rates agreed with a customer exist",
        """
        SELECT a.tenant_id, format('customer %s: rate %s', a.id, agreed) AS detail
        FROM billing.accounts a CROSS JOIN unnest(a.tax_rate_ids) AS agreed
        WHERE NOT EXISTS (SELECT FROM billing.tax_rates r
                          WHERE r.tenant_id = a.tenant_id AND r.id = agreed)
        """,
    ),
    Invariant(
        "a plan migration's counts are its results",
        """
        SELECT m.tenant_id, format('migration %s (%s) counts %s of %s, has %s', m.id, m.status,
                                   m.changed + m.scheduled + m.skipped + m.failed,
                                   m.subscriptions_found, r.outcomes) AS detail
        FROM billing.plan_migrations m
        CROSS JOIN LATERAL (
            SELECT count(*) AS found,
                   count(*) FILTER (WHERE outcome = 'pending') AS pending,
                   ARRAY[count(*) FILTER (WHERE outcome = 'changed'),
                         count(*) FILTER (WHERE outcome = 'scheduled'),
                         count(*) FILTER (WHERE outcome = 'skipped'),
                         count(*) FILTER (WHERE outcome = 'failed')] AS outcomes
            FROM billing.plan_migration_results r
            WHERE r.tenant_id = m.tenant_id AND r.migration_id = m.id
        ) AS r
        WHERE r.found <> m.subscriptions_found
           OR r.outcomes <> ARRAY[m.changed, m.scheduled, m.skipped, m.failed]
           OR (m.status = 'finished' AND (r.pending > 0 OR NOT m.is_listed))
        """,
    ),
    Invariant(
        "a plan migration's sums are those of its results",
        """
        SELECT coalesce(t.tenant_id, r.tenant_id) AS tenant_id,
               format('migration %s %s: %s', coalesce(t.migration_id, r.migration_id),
                      coalesce(t.currency, r.currency), to_jsonb(t) || to_jsonb(r)) AS detail
        FROM billing.plan_migration_totals t
        FULL JOIN (
            SELECT tenant_id, migration_id, currency, from_version_id, count(*) AS n,
                   sum(before_minor) AS before_minor, sum(after_minor) AS after_minor,
                   sum(immediate_minor) AS immediate_minor
            FROM billing.plan_migration_results WHERE outcome IN ('changed', 'scheduled')
            GROUP BY 1, 2, 3, 4
        ) AS r ON (t.tenant_id, t.migration_id, t.currency, t.from_version_id)
                = (r.tenant_id, r.migration_id, r.currency, r.from_version_id)
        WHERE (t.up + t.down + t.same, t.before_minor, t.after_minor, t.immediate_minor)
            IS DISTINCT FROM (r.n, r.before_minor, r.after_minor, r.immediate_minor)
        """,
    ),
    Invariant(
        "what is deferred is what was billed and is not released",
        f"""
        SELECT tenant_id, format('deferred revenue is %s %s, the lines have %s left',
                                 sum(deferred_minor), currency, sum(left_minor)) AS detail
        FROM (
            SELECT e.tenant_id, e.currency, sum(e.credit_minor - e.debit_minor) AS deferred_minor,
                   0 AS left_minor
            FROM billing.entries e WHERE e.ledger_account = 'deferred_revenue' GROUP BY 1, 2
            UNION ALL
            SELECT s.tenant_id, s.currency, 0, sum(s.net_minor - {RELEASED_SQL})
            FROM billing.recognition_schedules s JOIN billing.recognition_policies p
              ON p.tenant_id = s.tenant_id AND p.version = s.policy GROUP BY 1, 2
        ) AS both_ways
        GROUP BY tenant_id, currency HAVING sum(deferred_minor) <> sum(left_minor)
        """,
    ),
    Invariant(
        "a line releases between nothing and its net",
        f"""
        SELECT tenant_id, format('invoice %s line %s: net %s, released %s', invoice_id, n,
                                 net_minor, released_minor) AS detail
        FROM (
            SELECT s.*, {RELEASED_SQL} AS released_minor
            FROM billing.recognition_schedules s JOIN billing.recognition_policies p
              ON p.tenant_id = s.tenant_id AND p.version = s.policy
        ) AS released
        WHERE released_minor NOT BETWEEN least(net_minor, 0) AND greatest(net_minor, 0)
        """,
    ),
    Invariant(
        "every line of an invoice has its schedule, a void one nothing to recognize",
        """
        SELECT i.tenant_id, format('invoice %s (%s) line %s: net %s, scheduled %s', i.id, i.status,
                                   l.n, l.net_minor, s.net_minor) AS detail
        FROM billing.invoices i
        JOIN billing.invoice_lines l ON l.tenant_id = i.tenant_id AND l.invoice_id = i.id
        LEFT JOIN billing.recognition_schedules s
          ON s.tenant_id = l.tenant_id AND s.invoice_id = l.invoice_id AND s.n = l.n
        WHERE CASE i.status WHEN 'void' THEN coalesce(s.net_minor, 0) <> 0
                            WHEN 'draft' THEN s.net_minor IS NOT NULL
                            ELSE coalesce(s.net_minor, 0)
                                NOT BETWEEN least(l.net_minor, 0) AND greatest(l.net_minor, 0)
                                OR (s.net_minor IS NULL AND l.net_minor <> 0) END
        """,
    ),
    Invariant(
        "a promo code is redeemed as often as it says, and not more often than it may be",
        """
        SELECT p.tenant_id, format('promotion %s: counted %s, redeemed %s', p.id, p.redemptions,
                                   count(r.subscription_id)) AS detail
        FROM billing.promotions p LEFT JOIN billing.promotion_redemptions r
          ON r.tenant_id = p.tenant_id AND r.promotion_id = p.id AND r.released_at IS NULL
        GROUP BY p.tenant_id, p.id
        HAVING p.redemptions <> count(r.subscription_id)
            OR count(r.subscription_id) > coalesce(p.most_redemptions, p.redemptions)
        """,
    ),
    Invariant(
        "a customer redeems a promo code at most as often as one customer may",
        """
        SELECT r.tenant_id, format('promotion %s, customer %s: %s times', r.promotion_id,
                                   r.customer_id, count(*)) AS detail
        FROM billing.promotion_redemptions r JOIN billing.promotions p
          ON p.tenant_id = r.tenant_id AND p.id = r.promotion_id
        WHERE r.released_at IS NULL
        GROUP BY r.tenant_id, r.promotion_id, r.customer_id, p.most_per_customer
        HAVING count(*) > p.most_per_customer
        """,
    ),
    Invariant(
        "an invoice and the one that replaces it name each other",
        """
        SELECT i.tenant_id, format('invoice %s', i.id) AS detail
        FROM billing.invoices i JOIN billing.invoices o ON o.tenant_id = i.tenant_id
         AND o.id = coalesce(i.replaces_invoice_id, i.replaced_by_invoice_id)
        WHERE (i.replaces_invoice_id = o.id AND o.replaced_by_invoice_id IS DISTINCT FROM i.id)
           OR (i.replaced_by_invoice_id = o.id AND o.replaces_invoice_id IS DISTINCT FROM i.id)
        """,
    ),
    *crediting.INVARIANTS,
    *guarding.INVARIANTS,
)

QUIET = (
    *guarding.QUIET,
    Quiet("billing's revenue", BEHIND_SQL),
    Quiet(
        "billing's migrations",
        "SELECT 'plan migrations' AS what, count(*) AS count FROM billing.plan_migrations"
        " WHERE tenant_id = :tenant AND status = 'running' HAVING count(*) > 0",
    ),
)
WAITS = (
    *guarding.WAITS,
    Quiet(
        "billing's migrations",
        "SELECT 'plan migrations paused' AS what, count(*) AS count FROM billing.plan_migrations"
        " WHERE tenant_id = :tenant AND status = 'paused' HAVING count(*) > 0",
    ),
)
"""Before a move ends, revenue is released. A migration that runs holds the clock; one that is
paused waits for a person."""
