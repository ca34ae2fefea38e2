"""All SQL of the scheduler but the kill switch's (``holds.py``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from subledger.core.dunning import DEFAULT, Decline, Failure, FinalAction, Policy
from subledger.platform.bulk import Insert, Update, by_keys
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.platform.holding import HeldQueue
from subledger.services.scheduler import tables

Key = tuple[UUID, UUID]
"""``(tenant_id, id)``"""

due = HeldQueue(tables.due)

RETRY = "payment_retry"
FINAL = "final_dunning_step"


class Attempted(msgspec.Struct, frozen=True):
    """One failed attempt, as kept in ``collections.failures``. ``attempt_id`` is its TypeID."""

    attempt_id: str
    at: datetime
    decline: Decline
    counted: bool


@dataclass(slots=True)
class Collection:
    """An invoice in dunning. ``number`` counts the account's collections from 1; ``retries`` is
    the number of the retry announced last; ``due_at`` is set while something waits for its moment.
    """

    tenant_id: UUID
    invoice_id: UUID
    account_id: UUID
    number: int
    failures: list[Attempted]
    retries: int
    first_failed_at: datetime
    outcome: str = "open"
    ended_at: datetime | None = None
    is_waiting: bool = field(default=False)
    is_new: bool = field(default=False)

    def failed(self) -> list[Failure]:
        """The failures as the core wants them."""
        return [Failure(at=f.at, decline=f.decline, counted=f.counted) for f in self.failures]


_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[]))"

_LOCK_COLLECTIONS = sql(
    f"""
    SELECT c.tenant_id, c.invoice_id, c.account_id, c.number, c.failures::text AS failures,
           c.retries, c.first_failed_at, c.outcome, c.ended_at,
           EXISTS (SELECT FROM scheduler.due d WHERE d.tenant_id = c.tenant_id
                   AND d.kind IN ('{RETRY}', '{FINAL}') AND d.id = c.invoice_id)
           OR EXISTS (SELECT FROM scheduler.held_due h WHERE h.tenant_id = c.tenant_id
                      AND h.kind IN ('{RETRY}', '{FINAL}') AND h.id = c.invoice_id) AS is_waiting
    {by_keys("scheduler.collections c", tenant_id="tenants", invoice_id="ids")}
    FOR NO KEY UPDATE OF c
    """
)
_COLLECTIONS = sql(
    f"""
    SELECT c.tenant_id, c.invoice_id, c.retries, c.outcome
    {by_keys("scheduler.collections c", tenant_id="tenants", invoice_id="ids")}
    """
)
_LAST_NUMBERS = sql(
    f"""
    SELECT w.tenant_id, w.account_id, n.number FROM {_WANTED} AS w(tenant_id, account_id)
    CROSS JOIN LATERAL (
        SELECT c.number FROM scheduler.collections c
        WHERE c.tenant_id = w.tenant_id AND c.account_id = w.account_id
        ORDER BY c.number DESC LIMIT 1
    ) AS n
    """
)
_insert = Insert(
    tables.collections,
    [
        *("tenant_id", "invoice_id", "account_id", "number", "failures", "retries"),
        *("first_failed_at", "outcome", "ended_at"),
    ],
)
_update = Update(
    tables.collections,
    keys=["tenant_id", "invoice_id"],
    sets=["failures", "retries", "outcome", "ended_at"],
)
_POLICIES = sql(
    "SELECT tenant_id, delays_s::text AS delays_s, final_action, hard_decline_stops"
    " FROM scheduler.policies WHERE tenant_id = ANY (CAST(:tenants AS uuid[]))"
)
_SAVE_POLICY = sql(
    "INSERT INTO scheduler.policies"
    " (tenant_id, delays_s, final_action, hard_decline_stops, updated_at)"
    " VALUES (:tenant, CAST(:delays_s AS jsonb), :final_action, :hard_decline_stops, :at)"
    " ON CONFLICT (tenant_id) DO UPDATE SET delays_s = excluded.delays_s,"
    " final_action = excluded.final_action, hard_decline_stops = excluded.hard_decline_stops,"
    " updated_at = excluded.updated_at"
)
_TENANTS = sql("SELECT tenant_id FROM identity.clocks ORDER BY tenant_id")
_CREATE_SEGMENTS = sql("SELECT eventlog.create_segments(:segment) AS made")

_failures = msgspec.json.Decoder(list[Attempted])


async def lock_collections(tx: Tx, keys: Iterable[Key]) -> dict[Key, Collection]:
    """Lock the collections of these invoices, in order; what was never in dunning is absent."""
    wanted = sorted(set(keys))
    rows = await tx.rows(
        _LOCK_COLLECTIONS, tenants=[t for t, _ in wanted], ids=[i for _, i in wanted]
    )
    return {
        (row.tenant_id, row.invoice_id): Collection(
            **{**row._mapping, "failures": _failures.decode(row.failures)}
        )
        for row in rows
    }


async def retry_numbers(tx: Tx, keys: Iterable[Key]) -> dict[Key, int]:
    """The retry number of each collection that is still open. Locks nothing."""
    wanted = sorted(set(keys))
    rows = await tx.rows(_COLLECTIONS, tenants=[t for t, _ in wanted], ids=[i for _, i in wanted])
    return {(row.tenant_id, row.invoice_id): row.retries for row in rows if row.outcome == "open"}


async def last_numbers(tx: Tx, accounts: Iterable[Key]) -> dict[Key, int]:
    """How many collections each account has had; absent for none."""
    wanted = sorted(set(accounts))
    rows = await tx.rows(_LAST_NUMBERS, tenants=[t for t, _ in wanted], ids=[i for _, i in wanted])
    return {(row.tenant_id, row.account_id): row.number for row in rows}


def _columns(each: Collection) -> Mapping[str, Any]:
    return {
        "tenant_id": each.tenant_id,
        "invoice_id": each.invoice_id,
        "account_id": each.account_id,
        "number": each.number,
        "failures": msgspec.json.encode(each.failures).decode(),
        "retries": each.retries,
        "first_failed_at": each.first_failed_at,
        "outcome": each.outcome,
        "ended_at": each.ended_at,
    }


async def save_collections(tx: Tx, collections: Sequence[Collection]) -> None:
    """Insert the new ones, update the locked ones."""
    ordered = sorted(collections, key=lambda each: (each.tenant_id, each.invoice_id))
    await _insert(tx, [_columns(each) for each in ordered if each.is_new])
    await _update(tx, [_columns(each) for each in ordered if not each.is_new])


async def policies(tx: Tx, tenants: Iterable[UUID]) -> dict[UUID, Policy]:
    """Each tenant's policy, or the default one."""
    wanted = sorted(set(tenants))
    found = {
        row.tenant_id: Policy(
            delays=tuple(timedelta(seconds=each) for each in msgspec.json.decode(row.delays_s)),
            final=FinalAction(row.final_action),
            hard_decline_stops=row.hard_decline_stops,
        )
        for row in await tx.rows(_POLICIES, tenants=wanted)
    }
    return {tenant: found.get(tenant, DEFAULT) for tenant in wanted}


async def save_policy(tx: Tx, tenant_id: UUID, policy: Policy, *, at: datetime) -> None:
    """Set the tenant's policy."""
    await tx.run(
        _SAVE_POLICY,
        tenant=tenant_id,
        delays_s=msgspec.json.encode(
            [int(each.total_seconds()) for each in policy.delays]
        ).decode(),
        final_action=policy.final.value,
        hard_decline_stops=policy.hard_decline_stops,
        at=at,
    )


async def create_segments(tx: Tx, segment: int) -> int:
    """Make the event log's next segments; how many were missing."""
    made: int = (await tx.rows(_CREATE_SEGMENTS, segment=segment))[0].made
    return made


async def all_tenants(tx: Tx) -> list[UUID]:
    """Every tenant, by the policy of the due reader."""
    async with tx.reading_as(DUE_READER):
        return [row.tenant_id for row in await tx.rows(_TENANTS)]
