"""All SQL of the sandbox provider."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, by_keys
from subledger.platform.db import DUE_READER, TENANT_FINDER, Tx, sql
from subledger.platform.due import DueQueue
from subledger.providers.sandbox import tables

due = DueQueue(tables.due)
CALLBACK = "provider_callback"
LEASE_S = 20
READY = "sandbox.ready_callbacks"
"""The kind of work that a callback to be sent now is."""

_MERCHANT_BY_KEY = sql("SELECT tenant_id FROM sandbox.merchants WHERE key_hash = :hash")
_PAGE_BY_TOKEN = sql("SELECT tenant_id FROM sandbox.pages WHERE token_hash = :hash")
_MERCHANTS = sql(
    "SELECT tenant_id, webhook_path FROM sandbox.merchants"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[]))"
)
_ADD_MERCHANT = Insert(
    tables.merchants,
    [column.name for column in tables.merchants.c],
    conflict="(tenant_id) DO UPDATE SET webhook_path = excluded.webhook_path",
)
_ADD_METHODS = Insert(
    tables.methods, [c.name for c in tables.methods.c], conflict="(tenant_id, token) DO NOTHING"
)
_METHODS = sql(
    "SELECT m.tenant_id, m.token, m.kind, m.brand, m.last_four, m.tries, m.expires_on,"
    " m.detached_at, m.replaced_by, m.mandate"
    f" {by_keys('sandbox.methods m', tenant_id='tenants', token='tokens text')}"
)
_LOCK_METHODS = sql(
    "SELECT m.tenant_id, m.token, m.kind, m.brand, m.last_four, m.tries, m.expires_on,"
    " m.detached_at, m.replaced_by, m.mandate"
    f" {by_keys('sandbox.methods m', tenant_id='tenants', token='tokens text')}"
    " FOR NO KEY UPDATE OF m"
)
_TRIED = Update(tables.methods, keys=["tenant_id", "token"], sets=["tries"])
_ADD_CHARGES = Insert(
    tables.charges,
    [c.name for c in tables.charges.c],
    conflict="(tenant_id, idempotency_key) DO NOTHING",
)
_CHARGE = (
    "c.tenant_id, c.idempotency_key, c.id, c.attempt_id, c.token, c.amount_minor, c.currency,"
    " c.status, c.code, c.request_hash, c.at, c.settles_at"
)
_CHARGES_BY_KEY = sql(
    f"SELECT {_CHARGE}"
    f" {by_keys('sandbox.charges c', tenant_id='tenants', idempotency_key='keys text')}"
)
_CHARGE_OF_ID = sql(
    f"SELECT {_CHARGE} FROM sandbox.charges c WHERE c.tenant_id = :tenant AND c.id = :id"
)
_CANCEL_CHARGE = sql(
    "UPDATE sandbox.charges AS c SET status = 'declined', code = :code, settles_at = :at"
    " WHERE c.tenant_id = :tenant AND c.id = :id AND c.settles_at > :at"
    f" RETURNING {_CHARGE}"
)
_CHARGES_OF = sql(
    f"SELECT {_CHARGE} FROM sandbox.charges c"
    " WHERE c.tenant_id = :tenant AND c.attempt_id = :attempt ORDER BY c.at, c.id"
)
_LOCK_MERCHANT = sql(
    "SELECT m.tenant_id FROM sandbox.merchants m WHERE m.tenant_id = :tenant FOR NO KEY UPDATE"
)
_ADD_REFUNDS = Insert(tables.refunds, [c.name for c in tables.refunds.c])
_REFUND = (
    "r.tenant_id, r.idempotency_key, r.id, r.charge_id, r.attempt_id, r.refund_id,"
    " r.amount_minor, r.currency, r.status, r.code, r.request_hash, r.at, r.settles_at"
)
_REFUND_OF_KEY = sql(
    f"SELECT {_REFUND} FROM sandbox.refunds r"
    " WHERE r.tenant_id = :tenant AND r.idempotency_key = :key"
)
_REFUNDS_OF = sql(
    f"SELECT {_REFUND} FROM sandbox.refunds r"
    " WHERE r.tenant_id = :tenant AND r.attempt_id = :attempt ORDER BY r.at, r.id"
)
_ADD_PAGES = Insert(
    tables.pages, [c.name for c in tables.pages.c], conflict="(tenant_id, attempt_id) DO NOTHING"
)
_PAGE = (
    "p.tenant_id, p.id, p.attempt_id, p.amount_minor, p.currency, p.description, p.return_url,"
    " p.save, p.locale, p.status, p.saved_token, p.tries, p.token_hash, p.capture"
)
_PAGE_OF_ATTEMPT = sql(
    f"SELECT {_PAGE} FROM sandbox.pages p WHERE p.tenant_id = :tenant AND p.attempt_id = :attempt"
)
_PAGE_OF_TOKEN = sql(
    f"SELECT {_PAGE} FROM sandbox.pages p WHERE p.tenant_id = :tenant AND p.token_hash = :hash"
)
_LOCK_PAGE = sql(
    f"SELECT {_PAGE} FROM sandbox.pages p WHERE p.tenant_id = :tenant AND p.id = :id"
    " FOR NO KEY UPDATE"
)
_SET_PAGE = Update(tables.pages, keys=["tenant_id", "id"], sets=["status", "saved_token", "tries"])
_ADD_CALLBACKS = Insert(
    tables.callbacks, ["tenant_id", "id", "body", "state", "tries", "created_at", "signature"]
)
_SET_CALLBACKS = Update(tables.callbacks, keys=["tenant_id", "id"], sets=["state", "tries"])
_READY_CALLBACKS = sql(
    "SELECT tenant_id, id FROM sandbox.callbacks WHERE state = 'ready' OR (state = 'sending'"
    " AND claimed_at < statement_timestamp() - make_interval(secs => :lease_s))"
    " ORDER BY tenant_id, id LIMIT :limit"
)
_CLAIM_CALLBACKS = sql(
    """
    WITH mine AS (
        SELECT c.tenant_id, c.id FROM sandbox.callbacks c
        JOIN unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)
            USING (tenant_id, id)
        WHERE c.state = 'ready' OR (c.state = 'sending'
            AND c.claimed_at < statement_timestamp() - make_interval(secs => :lease_s))
        ORDER BY c.tenant_id, c.id FOR NO KEY UPDATE OF c SKIP LOCKED
    )
    UPDATE sandbox.callbacks c SET state = 'sending', claimed_at = clock_timestamp(),
        tries = c.tries + 1
    FROM mine WHERE c.tenant_id = mine.tenant_id AND c.id = mine.id
    RETURNING c.tenant_id, c.id, c.body, c.tries, c.signature
    """
)
_ADD_FAULT = Insert(
    tables.faults,
    ["tenant_id", "mode", "remaining"],
    conflict="(tenant_id, mode) DO UPDATE SET remaining = excluded.remaining",
)
_FAULTS = sql(
    "SELECT tenant_id, mode, remaining FROM sandbox.faults"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[])) AND mode = ANY (CAST(:modes AS text[]))"
    " AND remaining > 0"
    " ORDER BY tenant_id, mode FOR NO KEY UPDATE"
)
_ALL_FAULTS = sql(
    "SELECT mode, remaining FROM sandbox.faults WHERE tenant_id = :tenant AND remaining > 0"
    " ORDER BY mode"
)
_SET_FAULTS = Update(tables.faults, keys=["tenant_id", "mode"], sets=["remaining"])
_SUMMARY = sql(
    "SELECT currency, sum(amount_minor)::bigint AS captured_minor, count(*) AS captures,"
    " count(*) - count(DISTINCT attempt_id) AS doubles"
    " FROM sandbox.charges WHERE tenant_id = :tenant AND status = 'succeeded'"
    " AND (settles_at IS NULL OR settles_at <= :now)"
    " GROUP BY currency ORDER BY currency"
)
_REFUNDED = sql(
    "SELECT currency, sum(amount_minor)::bigint AS refunded_minor"
    " FROM sandbox.refunds WHERE tenant_id = :tenant AND status = 'succeeded'"
    " AND (settles_at IS NULL OR settles_at <= :now) GROUP BY currency"
)


async def merchant_of(tx: Tx, key_hash: bytes) -> UUID | None:
    """The tenant whose API key this is."""
    async with tx.reading_as(TENANT_FINDER):
        rows = await tx.rows(_MERCHANT_BY_KEY, hash=key_hash)
    return rows[0].tenant_id if rows else None


async def page_tenant(tx: Tx, token_hash: bytes) -> UUID | None:
    """The tenant whose page this is."""
    async with tx.reading_as(TENANT_FINDER):
        rows = await tx.rows(_PAGE_BY_TOKEN, hash=token_hash)
    return rows[0].tenant_id if rows else None


async def add_merchants(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _ADD_MERCHANT(tx, rows)


async def webhook_paths(tx: Tx, tenants: Iterable[UUID]) -> dict[UUID, str]:
    rows = await tx.rows(_MERCHANTS, tenants=list(tenants))
    return {row.tenant_id: row.webhook_path for row in rows}


async def add_methods(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _ADD_METHODS(tx, rows)


async def methods(
    tx: Tx, keys: Sequence[tuple[UUID, str]], *, lock: bool = False
) -> dict[tuple[UUID, str], Row[Any]]:
    """Methods by ``(tenant, token)``; locked in order if their tries are to be counted."""
    rows = await tx.rows(
        _LOCK_METHODS if lock else _METHODS,
        tenants=[tenant for tenant, _ in keys],
        tokens=[token for _, token in keys],
    )
    return {(row.tenant_id, row.token): row for row in rows}


async def count_tries(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _TRIED(tx, rows)


async def add_charges(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write the journal, one charge per key; fewer rows than given: another was first."""
    return await _ADD_CHARGES(tx, rows)


async def charges_by_key(
    tx: Tx, keys: Sequence[tuple[UUID, str]]
) -> dict[tuple[UUID, str], Row[Any]]:
    rows = await tx.rows(
        _CHARGES_BY_KEY, tenants=[tenant for tenant, _ in keys], keys=[key for _, key in keys]
    )
    return {(row.tenant_id, row.idempotency_key): row for row in rows}


async def charge_of_id(tx: Tx, tenant: UUID, charge_id: UUID) -> Row[Any] | None:
    rows = await tx.rows(_CHARGE_OF_ID, tenant=tenant, id=charge_id)
    return rows[0] if rows else None


async def cancel_charge(
    tx: Tx, tenant: UUID, charge_id: UUID, *, code: str, at: datetime
) -> Sequence[Row[Any]]:
    """The charge, declined with ``code``, if its verdict was still to come at ``at``."""
    return await tx.rows(_CANCEL_CHARGE, tenant=tenant, id=charge_id, code=code, at=at)


async def charges_of(tx: Tx, tenant: UUID, attempt: str) -> Sequence[Row[Any]]:
    return await tx.rows(_CHARGES_OF, tenant=tenant, attempt=attempt)


async def lock_merchant(tx: Tx, tenant: UUID) -> None:
    """Let a merchant's refunds wait for one another."""
    await tx.rows(_LOCK_MERCHANT, tenant=tenant)


async def add_refunds(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _ADD_REFUNDS(tx, rows)


async def refund_of_key(tx: Tx, tenant: UUID, key: str) -> Row[Any] | None:
    rows = await tx.rows(_REFUND_OF_KEY, tenant=tenant, key=key)
    return rows[0] if rows else None


async def refunds_of(tx: Tx, tenant: UUID, attempt: str) -> Sequence[Row[Any]]:
    return await tx.rows(_REFUNDS_OF, tenant=tenant, attempt=attempt)


async def refunded(tx: Tx, tenant: UUID) -> dict[str, int]:
    """Money given back by currency, as the journal says."""
    rows = await tx.rows(_REFUNDED, tenant=tenant, now=await tx.now(tenant))
    return {row.currency: row.refunded_minor for row in rows}


async def add_pages(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _ADD_PAGES(tx, rows)


async def page_of_attempt(tx: Tx, tenant: UUID, attempt: str) -> Row[Any] | None:
    rows = await tx.rows(_PAGE_OF_ATTEMPT, tenant=tenant, attempt=attempt)
    return rows[0] if rows else None


async def page_of_token(tx: Tx, tenant: UUID, token_hash: bytes) -> Row[Any] | None:
    rows = await tx.rows(_PAGE_OF_TOKEN, tenant=tenant, hash=token_hash)
    return rows[0] if rows else None


async def lock_page(tx: Tx, tenant: UUID, page_id: UUID) -> Row[Any] | None:
    rows = await tx.rows(_LOCK_PAGE, tenant=tenant, id=page_id)
    return rows[0] if rows else None


async def set_pages(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _SET_PAGE(tx, rows)


async def add_callbacks(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _ADD_CALLBACKS(tx, rows)


async def set_callbacks(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    if any(row["state"] == "ready" for row in rows):
        tx.work.add(READY)
    await _SET_CALLBACKS(tx, rows)


async def claim_callbacks(tx: Tx, limit: int) -> Sequence[Row[Any]]:
    """Take callbacks that are ready, or whose sender died; they are ``sending`` then."""
    async with tx.reading_as(DUE_READER):
        found = await tx.rows(_READY_CALLBACKS, limit=limit, lease_s=LEASE_S)
    if not found:
        return []
    tx.use_tenants({row.tenant_id for row in found})
    rows = await tx.rows(
        _CLAIM_CALLBACKS,
        tenants=[row.tenant_id for row in found],
        ids=[row.id for row in found],
        lease_s=LEASE_S,
    )
    tx.wrote = tx.wrote or bool(rows)
    return rows


async def set_fault(tx: Tx, tenant: UUID, mode: str, remaining: int) -> None:
    await _ADD_FAULT(tx, [{"tenant_id": tenant, "mode": mode, "remaining": remaining}])


async def faults_left(tx: Tx, tenant: UUID) -> dict[str, int]:
    """How often each mode of a merchant is still to act."""
    rows = await tx.rows(_ALL_FAULTS, tenant=tenant)
    return {row.mode: row.remaining for row in rows}


async def take_faults(
    tx: Tx, wanted: Mapping[UUID, int], *, modes: Sequence[str]
) -> dict[UUID, list[str]]:
    """The fault of each of the next ``wanted`` charges or webhooks of a tenant, while any remain.

    Of several ``modes`` that are set the first by name is spent first; the last of the list is the
    first one's.
    """
    taken: dict[UUID, list[str]] = {}
    spent = []
    for row in await tx.rows(_FAULTS, tenants=sorted(wanted), modes=list(modes)):
        before = taken.setdefault(row.tenant_id, [])
        n = min(row.remaining, wanted[row.tenant_id] - len(before))
        if n > 0:
            taken[row.tenant_id] = [row.mode] * n + before
            spent.append(
                {"tenant_id": row.tenant_id, "mode": row.mode, "remaining": row.remaining - n}
            )
    await _SET_FAULTS(tx, spent)
    return taken


async def summary(tx: Tx, tenant: UUID) -> Sequence[Row[Any]]:
    """Captured money by currency, as the journal says, and captures beyond one per attempt."""
    return await tx.rows(_SUMMARY, tenant=tenant, now=await tx.now(tenant))
