"""Idempotency keys: the same request twice has one effect and one answer (ARCHITECTURE 7).

The first transaction claims ``(tenant, principal, key)`` with the hash of the input and the
resource that it creates; a repeat is answered from that resource. A refusal that rolls back
takes its claim with it. Claims live 72 hours in ``<schema>.idempotency_keys``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from subledger.platform.db import Database, Story, Tx, sql, sqlstate
from subledger.platform.http.callers import Caller
from subledger.platform.http.fields import Strict
from subledger.platform.http.problems import Problem

T = TypeVar("T")
KEPT_H = 72
WAIT = "2s"

_SHORT_WAIT = sql(
    "SELECT current_setting('lock_timeout') AS usual,"
    f" set_config('lock_timeout', '{WAIT}', true) AS short"
)
_WAIT_FOR = sql("SELECT set_config('lock_timeout', :wait, true)")


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """The answer, and whether it repeats an earlier one."""

    value: T
    replayed: bool
    resource_id: UUID


@dataclass(frozen=True, slots=True)
class Claim:
    """A request's claim of its key, for the resource that it would make."""

    caller: Caller
    operation: str
    body: Strict | None
    resource_id: UUID

    def hash(self) -> bytes:
        return hash_of(self.operation, self.caller.path, self.body)


class Keys:
    """The idempotency keys of one service."""

    def __init__(self, schema: str) -> None:
        self._find = sql(
            f"SELECT operation, input_hash, resource_id FROM {schema}.idempotency_keys"
            " WHERE tenant_id = :tenant AND principal = :principal AND key = :key"
        )
        # In the order of the keys, as every claim of several.
        self._claim = sql(
            f"INSERT INTO {schema}.idempotency_keys"
            " (tenant_id, principal, key, operation, input_hash, resource_id)"
            " SELECT * FROM unnest(CAST(:tenants AS uuid[]), CAST(:principals AS text[]),"
            " CAST(:keys AS text[]), CAST(:operations AS text[]), CAST(:hashes AS bytea[]),"
            " CAST(:resources AS uuid[])) AS w(tenant_id, principal, key) ORDER BY 1, 2, 3"
            " ON CONFLICT DO NOTHING RETURNING principal, key"
        )
        self._expired = sql(
            f"DELETE FROM {schema}.idempotency_keys WHERE (tenant_id, principal, key) IN ("
            f" SELECT tenant_id, principal, key FROM {schema}.idempotency_keys"
            " WHERE tenant_id = ANY (CAST(:tenants AS uuid[]))"
            f" AND created_at < statement_timestamp() - interval '{KEPT_H} hours'"
            " ORDER BY tenant_id, created_at LIMIT :limit FOR UPDATE SKIP LOCKED)"
        )

    async def run(
        self,
        database: Database,
        name: Story,
        caller: Caller,
        *,
        operation: str,
        body: Strict | None,
        work: Callable[[Tx, UUID], Awaitable[T]],
        load: Callable[[Tx, UUID], Awaitable[T]],
        new_id: UUID | None = None,
    ) -> Answered[T]:
        """Do ``work`` for a new resource id in one transaction, or ``load`` what an earlier
        request with this key made.

        Raises idempotency_key_reused for other input, and idempotency_in_progress when the same
        request is still running after 2 s.
        """
        resource_id = new_id or database.ids.new()

        async def once(tx: Tx) -> Answered[T]:
            earlier = await self.claim(
                tx, caller, operation=operation, body=body, resource_id=resource_id
            )
            if earlier is not None:
                return Answered(await load(tx, earlier), True, earlier)
            return Answered(await work(tx, resource_id), False, resource_id)

        return await database.transact(name, once, tenants=[caller.tenant_id])

    async def claim(
        self, tx: Tx, caller: Caller, *, operation: str, body: Strict | None, resource_id: UUID
    ) -> UUID | None:
        """Claim the caller's key for ``resource_id``; the earlier resource if it was used."""
        claim = Claim(caller, operation, body, resource_id)
        return (await self.claim_all(tx, [claim]))[0]

    async def claim_all(self, tx: Tx, claims: Sequence[Claim]) -> list[UUID | None]:
        """``claim`` for several requests, no two with the same key of the same principal."""
        keyed = [each for each in claims if each.caller.idempotency_key is not None]
        if not keyed:
            return [None for _ in claims]
        usual = (await tx.rows(_SHORT_WAIT))[0].usual
        try:
            rows = await tx.rows(
                self._claim,
                tenants=[each.caller.tenant_id for each in keyed],
                principals=[each.caller.principal.id for each in keyed],
                keys=[each.caller.idempotency_key for each in keyed],
                operations=[each.operation for each in keyed],
                hashes=[each.hash() for each in keyed],
                resources=[each.resource_id for each in keyed],
            )
        except DBAPIError as error:
            if sqlstate(error) == "55P03":
                raise _in_progress() from error
            raise
        tx.wrote = tx.wrote or bool(rows)
        await tx.rows(_WAIT_FOR, wait=usual)
        claimed = {(row.principal, row.key) for row in rows}
        return [
            None
            if each.caller.idempotency_key is None
            or (each.caller.principal.id, each.caller.idempotency_key) in claimed
            else await self._earlier(tx, each)
            for each in claims
        ]

    async def _earlier(self, tx: Tx, claim: Claim) -> UUID:
        """The resource that the caller's key has made. Raises idempotency_key_reused for other
        input."""
        found = await tx.rows(
            self._find,
            tenant=claim.caller.tenant_id,
            principal=claim.caller.principal.id,
            key=claim.caller.idempotency_key,
        )
        if not found:
            # The claim that stood in the way expired between the two statements.
            raise _in_progress()
        row = found[0]
        if row.operation != claim.operation or bytes(row.input_hash) != claim.hash():
            raise Problem(
                "idempotency_key_reused",
                detail="This idempotency key belongs to a request with other input.",
            )
        return UUID(int=row.resource_id.int)

    async def expire(self, tx: Tx, tenants: list[UUID], limit: int) -> int:
        """Forget keys older than 72 hours of the visible ``tenants``, at most ``limit``."""
        return await tx.run(self._expired, tenants=tenants, limit=limit)


def _in_progress() -> Problem:
    return Problem(
        "idempotency_in_progress",
        detail="A request with this idempotency key is still being worked on.",
        headers={"Retry-After": "1"},
    )


def hash_of(operation: str, path: str, body: Strict | None) -> bytes:
    """SHA-256 of what makes a request the same request."""
    text = "" if body is None else body.model_dump_json()
    return hashlib.sha256("\0".join((operation, path, text)).encode()).digest()
