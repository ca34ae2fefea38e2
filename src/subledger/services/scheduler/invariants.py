"""What must never be found in the scheduler's tables."""

from __future__ import annotations

from subledger.platform.service import Invariant

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
)
