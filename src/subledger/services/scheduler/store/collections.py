"""Collections in dunning, their due moments, and what keeps the event log going."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.core.dunning import Decline, Failure
from subledger.platform.bulk import Insert, Update, by_keys
from subledger.platform.db import DUE_READER, Tx, sql
from subledger.platform.holding import HeldQueue
from subledger.services.scheduler import tables
from subledger.services.scheduler.policies import Kept, Terms

Key = tuple[UUID, UUID]
"""``(tenant_id, id)``"""

due = HeldQueue(tables.due)

RETRY = "payment_retry"
FINAL = "final_dunning_step"


class Attempted(msgspec.Struct, frozen=True):
    """One failed attempt, as kept in ``collections.failures``; ids in their public form.
    ``elsewhere``: the payer had another method that was not refused yet."""

    attempt_id: str
    at: datetime
    decline: Decline
    counted: bool
    code: str | None = None
    method_id: str | None = None
    elsewhere: bool = False

    def failure(self) -> Failure:
        """As the core wants it."""
        return Failure(
            at=self.at,
            decline=self.decline,
            counted=self.counted,
            code=self.code,
            method=self.method_id,
            elsewhere=self.elsewhere,
        )


@dataclass(slots=True)
class Collection:
    """An invoice in dunning, by the policy (``policy_id`` None: the default one) in the version
    with which it began. ``number`` counts the account's collections from 1; ``retries`` is the
    number of the retry planned last; ``is_waiting`` while something waits for its moment.
    ``method_id`` is named for the retry planned last, ``new_method_id`` came while one was under
    way.
    """

    tenant_id: UUID
    invoice_id: UUID
    account_id: UUID
    number: int
    failures: list[Attempted]
    retries: int
    first_failed_at: datetime
    subscription_ids: list[UUID]
    amount_minor: int | None
    currency: str | None
    policy_id: UUID | None
    policy_name: str
    policy_version: int
    terms: Terms | None
    """None where it began before policies had versions: the tenant's default policy holds."""
    outcome: str = "open"
    ended_at: datetime | None = None
    method_id: UUID | None = None
    new_method_id: UUID | None = None
    is_waiting: bool = field(default=False)
    is_new: bool = field(default=False)

    def failed(self) -> list[Failure]:
        """The failures as the core wants them."""
        return [each.failure() for each in self.failures]

    def begin_by(self, policy: Kept) -> None:
        """Go on by this policy, in this version."""
        self.policy_id, self.policy_name = policy.id, policy.name
        self.policy_version, self.terms = policy.version, policy.terms

    @property
    def is_under_way(self) -> bool:
        """True while an announced retry has no outcome yet: its number is that of the failures."""
        return not self.is_waiting and self.retries == len(self.failures)


_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[]))"

_COLUMNS = """
    c.tenant_id, c.invoice_id, c.account_id, c.number, c.failures::text AS failures, c.retries,
    c.first_failed_at, c.subscription_ids, c.amount_minor, c.currency, c.policy_id, c.policy_name,
    c.policy_version, c.terms::text AS terms, c.outcome, c.ended_at, c.method_id, c.new_method_id
"""
_LOCK_COLLECTIONS = sql(
    f"""
    SELECT {_COLUMNS},
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
    SELECT {_COLUMNS}, false AS is_waiting
    {by_keys("scheduler.collections c", tenant_id="tenants", invoice_id="ids")}
    """
)
_LOCK_DUE = sql(
    "SELECT d.id"
    f" {by_keys('scheduler.due d', tenant_id='tenants', kind='kinds text', id='ids')}"
    " FOR UPDATE OF d"
)
_OPEN_OF_ACCOUNTS = sql(
    f"""
    SELECT o.tenant_id, o.invoice_id FROM {_WANTED} AS w(tenant_id, account_id)
    CROSS JOIN LATERAL (
        SELECT c.tenant_id, c.invoice_id FROM scheduler.collections c
        WHERE c.tenant_id = w.tenant_id AND c.account_id = w.account_id AND c.outcome = 'open'
        OFFSET 0
    ) AS o
    """
)
_OPEN_OF_SUBSCRIPTION = sql(
    f"""
    SELECT {_COLUMNS}, d.kind AS due_kind, d.due_at FROM scheduler.collections c
    LEFT JOIN LATERAL (
        SELECT u.kind, u.due_at FROM scheduler.due u
        WHERE u.tenant_id = c.tenant_id AND u.kind IN ('{RETRY}', '{FINAL}')
          AND u.id = c.invoice_id
        UNION ALL
        SELECT h.kind, h.due_at FROM scheduler.held_due h
        WHERE h.tenant_id = c.tenant_id AND h.kind IN ('{RETRY}', '{FINAL}')
          AND h.id = c.invoice_id
        LIMIT 1
    ) AS d ON true
    WHERE c.tenant_id = :tenant AND c.account_id = :account AND c.outcome = 'open'
      AND CAST(:subscription AS uuid) = ANY (c.subscription_ids)
    ORDER BY c.number LIMIT :limit
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
        *("first_failed_at", "subscription_ids", "amount_minor", "currency", "policy_id"),
        *("policy_name", "policy_version", "terms", "outcome", "ended_at", "method_id"),
        "new_method_id",
    ],
)
_update = Update(
    tables.collections,
    keys=["tenant_id", "invoice_id"],
    sets=[
        *("failures", "retries", "outcome", "ended_at", "method_id", "new_method_id"),
        *("policy_id", "policy_name", "policy_version", "terms"),
    ],
)
_TENANTS = sql("SELECT tenant_id FROM identity.clocks ORDER BY tenant_id")
_CREATE_SEGMENTS = sql("SELECT eventlog.create_segments(:segment) AS made")

_failures = msgspec.json.Decoder(list[Attempted])
_terms = msgspec.json.Decoder(Terms)


def _collection(row: Row[Any]) -> Collection:
    values = {name: value for name, value in row._mapping.items() if not name.startswith("due_")}
    values["failures"] = _failures.decode(row.failures)
    values["terms"] = None if row.terms is None else _terms.decode(row.terms)
    return Collection(**values)


async def lock_collections(tx: Tx, keys: Iterable[Key]) -> dict[Key, Collection]:
    """Lock the collections of these invoices, in order; what was never in dunning is absent."""
    wanted = sorted(set(keys))
    rows = await tx.rows(
        _LOCK_COLLECTIONS, tenants=[t for t, _ in wanted], ids=[i for _, i in wanted]
    )
    return {(row.tenant_id, row.invoice_id): _collection(row) for row in rows}


async def lock_with_due(tx: Tx, keys: Iterable[Key]) -> dict[Key, Collection]:
    """As ``lock_collections``, and what waits for its moment too: nobody is announcing it."""
    wanted = sorted(set(keys))
    await lock_collections(tx, wanted)
    both = [(tenant, kind, each) for tenant, each in wanted for kind in (RETRY, FINAL)]
    await tx.rows(
        _LOCK_DUE,
        tenants=[tenant for tenant, _, _ in both],
        kinds=[kind for _, kind, _ in both],
        ids=[each for _, _, each in both],
    )
    return await lock_collections(tx, wanted)


async def open_collections(tx: Tx, keys: Iterable[Key]) -> dict[Key, Collection]:
    """Those of the collections that are still open. Locks nothing; does not say what waits."""
    wanted = sorted(set(keys))
    rows = await tx.rows(_COLLECTIONS, tenants=[t for t, _ in wanted], ids=[i for _, i in wanted])
    return {
        (row.tenant_id, row.invoice_id): _collection(row) for row in rows if row.outcome == "open"
    }


async def open_of_accounts(tx: Tx, accounts: Iterable[Key]) -> list[Key]:
    """The invoices of accounts whose collections are open."""
    wanted = sorted(set(accounts))
    rows = await tx.rows(
        _OPEN_OF_ACCOUNTS, tenants=[t for t, _ in wanted], ids=[i for _, i in wanted]
    )
    return [(row.tenant_id, row.invoice_id) for row in rows]


async def open_of_subscription(
    tx: Tx, tenant_id: UUID, *, account_id: UUID, subscription_id: UUID, limit: int
) -> list[tuple[Collection, tuple[str, datetime] | None]]:
    """The open collections of a subscription's invoices, the oldest first, each with the kind and
    the moment of what waits."""
    rows = await tx.rows(
        _OPEN_OF_SUBSCRIPTION,
        tenant=tenant_id,
        account=account_id,
        subscription=subscription_id,
        limit=limit,
    )
    found: list[tuple[Collection, tuple[str, datetime] | None]] = []
    for row in rows:
        collection = _collection(row)
        collection.is_waiting = row.due_kind is not None
        found.append((collection, (row.due_kind, row.due_at) if row.due_kind else None))
    return found


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
        "subscription_ids": msgspec.json.encode(each.subscription_ids).decode(),
        "amount_minor": each.amount_minor,
        "currency": each.currency,
        "policy_id": each.policy_id,
        "policy_name": each.policy_name,
        "policy_version": each.policy_version,
        "terms": None if each.terms is None else msgspec.json.encode(each.terms).decode(),
        "outcome": each.outcome,
        "ended_at": each.ended_at,
        "method_id": each.method_id,
        "new_method_id": each.new_method_id,
    }


async def save_collections(tx: Tx, collections: Sequence[Collection]) -> None:
    """Insert the new ones, update the locked ones."""
    ordered = sorted(collections, key=lambda each: (each.tenant_id, each.invoice_id))
    await _insert(tx, [_columns(each) for each in ordered if each.is_new])
    await _update(tx, [_columns(each) for each in ordered if not each.is_new])


async def create_segments(tx: Tx, segment: int) -> int:
    """Make the event log's next segments; how many were missing."""
    made: int = (await tx.rows(_CREATE_SEGMENTS, segment=segment))[0].made
    return made


async def all_tenants(tx: Tx) -> list[UUID]:
    """Every tenant, by the policy of the due reader."""
    async with tx.reading_as(DUE_READER):
        return [row.tenant_id for row in await tx.rows(_TENANTS)]
