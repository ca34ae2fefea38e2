"""What must always hold in identity's tables: queries that return no row."""

from __future__ import annotations

from subledger.platform.service import Invariant

INVARIANTS = (
    Invariant(
        "a tenant has one clock of its mode",
        """
        SELECT t.tenant_id, format('mode %s, clock %s', t.mode, c.mode) AS detail
        FROM identity.tenants t LEFT JOIN identity.clocks c ON c.tenant_id = t.tenant_id
        WHERE c.mode IS DISTINCT FROM t.mode
        """,
    ),
    Invariant(
        "the clock of a deleted tenant stands still",
        """
        SELECT t.tenant_id, 'deleted, but its clock runs' AS detail
        FROM identity.tenants t JOIN identity.clocks c ON c.tenant_id = t.tenant_id
        WHERE (t.deleted_at IS NOT NULL) AND c.stopped_at IS NULL
        """,
    ),
    Invariant(
        "a move ends where the clock is, or was then",
        """
        SELECT m.tenant_id, format('move %s reached %s, clock %s', m.id, m.reached_at, c.now_at)
            AS detail
        FROM identity.clock_moves m JOIN identity.clocks c ON c.tenant_id = m.tenant_id
        WHERE m.reached_at > c.now_at OR (m.status = 'done' AND m.reached_at <> m.target_at)
        """,
    ),
)
