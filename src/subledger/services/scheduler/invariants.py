"""What must never be found in the scheduler's tables."""

from __future__ import annotations

from subledger.platform.service import Invariant, Quiet

INVARIANTS = (
    Invariant(
        "scheduler.due_belongs_to_an_open_collection",
        """
        SELECT d.tenant_id, 'due ' || d.kind || ' of invoice ' || d.id AS detail
        FROM scheduler.due d LEFT JOIN scheduler.collections c
          ON c.tenant_id = d.tenant_id AND c.invoice_id = d.id AND c.outcome = 'open'
        WHERE c.invoice_id IS NULL
        """,
    ),
    Invariant(
        "scheduler.one_due_moment_per_invoice",
        """
        SELECT tenant_id, 'invoice ' || id || ' has ' || count(*) || ' due moments' AS detail
        FROM scheduler.due GROUP BY tenant_id, id HAVING count(*) > 1
        """,
    ),
    Invariant(
        "scheduler.held_only_behind_a_kill_switch",
        """
        SELECT d.tenant_id, d.kind || ' of invoice ' || d.id || ' is held by nothing' AS detail
        FROM scheduler.held_due d WHERE NOT EXISTS (
            SELECT FROM scheduler.holds h WHERE h.tenant_id = d.tenant_id)
        """,
    ),
)

_ON = "EXISTS (SELECT FROM scheduler.holds h WHERE h.tenant_id = :tenant AND h.is_on)"

QUIET = (
    Quiet(
        "dunning's kill switch",
        f"""
        SELECT 'work that becomes due again' AS what, count(*) AS count FROM scheduler.held_due
        WHERE tenant_id = :tenant AND NOT {_ON} HAVING count(*) > 0
        """,
    ),
)
WAITS = (
    Quiet(
        "dunning's kill switch",
        f"""
        SELECT 'due ' || kind || ', dunning is stopped' AS what, count(*) AS count
        FROM scheduler.held_due WHERE tenant_id = :tenant AND {_ON} GROUP BY kind ORDER BY kind
        """,
    ),
)
"""What a kill switch holds waits for a person: it holds no clock."""
