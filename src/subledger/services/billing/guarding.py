"""What must always hold of the guard's rows, and what it has for a sandbox clock to wait for."""

from __future__ import annotations

from subledger.platform.service import Invariant, Quiet

INVARIANTS = (
    Invariant(
        "what is billed is counted by the hour",
        """
        SELECT coalesce(h.tenant_id, r.tenant_id) AS tenant_id,
               format('%s: counted %s of %s, billed %s of %s', coalesce(h.currency, r.currency),
                      h.runs, h.total_minor, r.runs, r.total_minor) AS detail
        FROM (
            SELECT tenant_id, currency, sum(invoice_count) AS runs, sum(total_minor) AS total_minor
            FROM billing.billing_hours GROUP BY 1, 2
        ) AS h FULL JOIN (
            SELECT i.tenant_id, i.currency, sum(n.runs) AS runs, sum(i.total_minor) AS total_minor,
                   bool_or(i.drafted_at IS NOT NULL) AS has_drafts
            FROM billing.invoices i CROSS JOIN LATERAL (
                SELECT count(*) AS runs FROM billing.billing_runs b
                WHERE b.tenant_id = i.tenant_id AND b.invoice_id = i.id
            ) AS n WHERE n.runs > 0 GROUP BY 1, 2
        ) AS r USING (tenant_id, currency)
        -- On a draft a run that gives back meets one that bills: its total is not their sum.
        WHERE h.runs IS DISTINCT FROM r.runs
           OR (NOT r.has_drafts AND h.total_minor IS DISTINCT FROM r.total_minor)
        """,
    ),
    Invariant(
        "due work is set aside only behind a hold, and a parked job is held",
        """
        SELECT d.tenant_id, format('%s of %s is held by nothing', d.kind, d.id) AS detail
        FROM billing.held_due d WHERE NOT EXISTS (
            SELECT FROM billing.holds h WHERE h.tenant_id = d.tenant_id AND h.job = 'renewals')
        UNION ALL
        SELECT p.tenant_id, format('park %s holds nothing', p.id) FROM billing.billing_parks p
        WHERE p.released_at IS NULL AND NOT EXISTS (
            SELECT FROM billing.holds h WHERE h.tenant_id = p.tenant_id AND h.job = p.job
              AND h.source = 'park' AND h.is_on)
        """,
    ),
)

_ON = (
    "EXISTS (SELECT FROM billing.holds h WHERE h.tenant_id = :tenant AND h.job = 'renewals'"
    " AND h.is_on)"
)

QUIET = (
    Quiet(
        "billing's guard",
        f"""
        SELECT 'work that becomes due again' AS what, count(*) AS count FROM billing.held_due
        WHERE tenant_id = :tenant AND NOT {_ON} HAVING count(*) > 0
        """,
    ),
)
WAITS = (
    Quiet(
        "billing's guard",
        f"""
        SELECT 'due ' || kind || ', renewals are stopped' AS what, count(*) AS count
        FROM billing.held_due WHERE tenant_id = :tenant AND {_ON} GROUP BY kind ORDER BY kind
        """,
    ),
)
"""What is held by a limit or a kill switch waits for a person: it holds no clock."""
