"""Appending: the last statement before COMMIT.

It locks the heads of the needed partitions in ascending order, adds the counts, and inserts the
events with their positions. So positions have no gap and are, inside a partition, in commit
order, which is the order in which the account's lock was held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from uuid import UUID

import msgspec

from subledger.contracts.events import Event
from subledger.platform.db import Tx, sql
from subledger.platform.eventlog.tables import PARTITIONS

_encode = msgspec.json.Encoder(decimal_format="string").encode

_APPEND = sql(
    """
    WITH given AS (
        SELECT * FROM unnest(
            CAST(:partition AS smallint[]), CAST(:offset AS bigint[]), CAST(:id AS uuid[]),
            CAST(:type AS text[]), CAST(:version AS smallint[]), CAST(:tenant_id AS uuid[]),
            CAST(:subject AS uuid[]), CAST(:data AS jsonb[]), CAST(:occurred_at AS timestamptz[]),
            CAST(:cause AS uuid[])
        ) AS e(partition, place, id, type, version, tenant_id, subject, data, occurred_at, cause)
    ), counts AS (
        SELECT * FROM unnest(CAST(:used AS smallint[]), CAST(:count AS bigint[])) AS c(partition, n)
    ), locked AS (
        SELECT h.partition FROM eventlog.heads h JOIN counts USING (partition)
        ORDER BY h.partition FOR NO KEY UPDATE OF h
    ), bumped AS (
        UPDATE eventlog.heads h SET position = h.position + counts.n
        FROM locked JOIN counts USING (partition) WHERE h.partition = locked.partition
        RETURNING h.partition, h.position - counts.n AS base
    )
    INSERT INTO eventlog.events
        (partition, position, id, type, version, tenant_id, subject, data, occurred_at,
         recorded_at, cause)
    SELECT given.partition, bumped.base + given.place, given.id, given.type, given.version,
           given.tenant_id, given.subject, given.data, given.occurred_at, clock_timestamp(),
           given.cause
    FROM given JOIN bumped USING (partition)
    """
)


@lru_cache(maxsize=100_000)
def partition_of(subject: UUID, partitions: int = PARTITIONS) -> int:
    """The partition of a subject: SHA-256 of its 16 bytes, modulo the number of partitions."""
    return int.from_bytes(hashlib.sha256(subject.bytes).digest()[:8], "big") % partitions


async def append(tx: Tx, events: Sequence[Event]) -> None:
    """Write the events of a transaction, in the order in which they were emitted.

    The tenants of all events must be visible in the transaction; the policy refuses others.
    """
    counts: dict[int, int] = {}
    partitions, places = [], []
    for event in events:
        partition = partition_of(event.subject)
        counts[partition] = counts.get(partition, 0) + 1
        partitions.append(partition)
        places.append(counts[partition])
    await tx.run(
        _APPEND,
        partition=partitions,
        offset=places,
        id=[tx.ids.new() for _ in events],
        type=[event.type for event in events],
        version=[event.version for event in events],
        tenant_id=[event.tenant_id for event in events],
        subject=[event.subject for event in events],
        data=[_encode(event.data).decode() for event in events],
        occurred_at=[event.occurred_at for event in events],
        cause=[event.cause for event in events],
        used=list(counts),
        count=list(counts.values()),
    )
