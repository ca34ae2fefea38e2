"""How old the oldest of each state is that something can be stuck in: a gauge, and its step."""

from __future__ import annotations

from subledger.platform.db import DUE_READER, Database, sql, story
from subledger.platform.service import Step
from subledger.platform.telemetry import metrics

_MEASURE = story("payments.measure_states", reads=True)
# What a kill switch holds is ready in the year 9999: it has waited for nothing. A dispute waits for
# a bank; what can be stuck of it is a question.
_OLDEST = sql(
    """
    SELECT kind, state, greatest(extract(epoch FROM clock_timestamp() - min(ready_at)), 0)::bigint
        AS age_s
    FROM (
        SELECT 'attempt' AS kind, state, ready_at FROM payments.attempts
        WHERE state IN ('reserving', 'ready', 'in_flight', 'requires_action', 'authorized',
              'unknown')
          AND state NOT IN ('succeeded', 'failed', 'canceled')
        UNION ALL
        SELECT 'refund', state, ready_at FROM payments.refunds
        WHERE state IN ('requested', 'ready', 'in_flight', 'unknown')
          AND state NOT IN ('succeeded', 'failed', 'refused')
        UNION ALL
        SELECT CASE WHEN test_kind IS NULL THEN 'setup' ELSE 'method' END, status, ready_at
        FROM payments.methods WHERE status = 'attaching'
        UNION ALL
        SELECT 'method_task', action, ready_at FROM payments.method_tasks
        UNION ALL
        SELECT 'dispute', 'opened', requested_at FROM payments.dispute_looks
        UNION ALL
        SELECT 'reconciliation', phase, ready_at FROM payments.reconciliations
        WHERE phase NOT IN ('done', 'failed')
    ) AS waiting GROUP BY kind, state
    """
)


class Watching:
    """Measures what waits in this service."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: set[tuple[str, str]] = set()

    def steps(self) -> list[Step]:
        """What workers run."""
        return [Step("payments.measure_states", self.measure, pause_s=30, types=frozenset())]

    async def measure(self, limit: int) -> int:
        """Set the gauge of every state; one that is empty again is 0."""
        async with self._database.transaction(_MEASURE) as tx, tx.reading_as(DUE_READER):
            rows = await tx.rows(_OLDEST)
        found = {(row.kind, row.state): row.age_s for row in rows}
        for kind, state in self._seen | set(found):
            age_s = found.get((kind, state), 0)
            metrics.oldest_state_seconds.labels(kind, state).set(age_s)
        self._seen |= set(found)
        return 0
