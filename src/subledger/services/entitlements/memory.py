"""Who may use what, in memory: a snapshot of the tables, kept fresh by the tail of the event log.

Each process that answers access checks reads the log by itself and stores no cursor. The snapshot
is read in one REPEATABLE READ transaction together with this service's cursors (up to where the
tables reflect the log) and the log's heads; the tail begins at those cursors. Between cursor and
head some events are applied that the tables reflect already: in order, to the same end.

Compact by design (about 600 bytes for a customer with one subscription): ids are kept as the text
that a request brings, so that an answer parses nothing.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import structlog

from subledger.contracts.events import (
    CUSTOMER_CREATED,
    CUSTOMER_DELETED,
    CUSTOMER_UPDATED,
    ENTITLEMENT_GRANTED,
    ENTITLEMENT_REVOKED,
    PRODUCT_CREATED,
    PRODUCT_UPDATED,
)
from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.platform.service import Step
from subledger.services.entitlements import store

LEEWAY_S = 3 * 86_400
"""How long after its period an active entitlement still allows: its renewal is on the way. Grace
ends exactly; a subscription that ended is revoked by its event."""

_SNAPSHOT = story("entitlements.snapshot", reads=True)
_TAIL = story("entitlements.tail", reads=True)
_log = structlog.get_logger()


class Product:
    """What a product gives access to; shared by all grants of it."""

    __slots__ = ("resources",)

    def __init__(self) -> None:
        self.resources: frozenset[str] = frozenset()


class Grant:
    """One subscription's access. ``until`` is in seconds since 1970."""

    __slots__ = ("is_grace", "product", "subscription", "until")

    def __init__(self, subscription: bytes, product: Product, is_grace: bool, until: float) -> None:
        self.subscription = subscription
        self.product = product
        self.is_grace = is_grace
        self.until = until


class Person:
    """A customer: the external id known last, and what is granted."""

    __slots__ = ("external_id", "grants")

    def __init__(self) -> None:
        self.external_id: str | None = None
        self.grants: tuple[Grant, ...] = ()


@dataclass(slots=True)
class Tenant:
    """One tenant's customers by both ids, its products, and its clock if it has its own."""

    by_id: dict[str, Person] = field(default_factory=dict)
    by_external_id: dict[str, Person] = field(default_factory=dict)
    products: dict[str, Product] = field(default_factory=dict)
    now: float | None = None

    def product(self, product_id: str) -> Product:
        found = self.products.get(product_id)
        if found is None:
            found = self.products[product_id] = Product()
        return found

    def person(self, customer_id: str) -> Person:
        found = self.by_id.get(customer_id)
        if found is None:
            found = self.by_id[customer_id] = Person()
        return found

    def name(self, customer_id: str, external_id: str) -> None:
        """The customer is called so now; an id that another one took meanwhile stays theirs."""
        person = self.person(customer_id)
        if person.external_id != external_id:
            self._forget_external_id(person)
            person.external_id = external_id
        self.by_external_id[external_id] = person

    def forget(self, customer_id: str) -> None:
        person = self.by_id.pop(customer_id, None)
        if person is not None:
            self._forget_external_id(person)

    def _forget_external_id(self, person: Person) -> None:
        known = person.external_id
        if known is not None and self.by_external_id.get(known) is person:
            del self.by_external_id[known]

    def grant(self, customer_id: str, given: Grant) -> None:
        person = self.person(customer_id)
        others = tuple(g for g in person.grants if g.subscription != given.subscription)
        person.grants = (*others, given)

    def revoke(self, customer_id: str, subscription: bytes) -> None:
        person = self.by_id.get(customer_id)
        if person is not None:
            person.grants = tuple(g for g in person.grants if g.subscription != subscription)


class Answer(NamedTuple):
    """Whether, why, and until when (seconds since 1970; None where no moment is known)."""

    allowed: bool
    reason: str
    valid_until: float | None = None


UNKNOWN_CUSTOMER = Answer(False, "unknown_customer")
NO_ENTITLEMENT = Answer(False, "no_entitlement")


class Memory:
    """What access checks are answered from. ``step`` keeps it fresh; a host runs it in a loop."""

    def __init__(
        self, database: Database, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._monotonic = monotonic
        self._tenants: dict[UUID, Tenant] = {}
        self._positions: dict[int, int] = {}
        self._log_id: tuple[UUID, int] | None = None
        self._fresh_at: float | None = None

    # --- asking --------------------------------------------------------------------------------

    def age_s(self) -> float:
        """Seconds since the log was last read to its end; infinite before the first time."""
        fresh_at = self._fresh_at
        return float("inf") if fresh_at is None else self._monotonic() - fresh_at

    def check(self, tenant_id: UUID, customer: str, resource: str) -> Answer:
        """Whether the customer (our id or the shop's) may use the resource now.

        Our id wins over an external id that looks like one. Of several grants the one that lasts
        longest answers. Now is the tenant's clock: its own, else this machine's.
        """
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            return UNKNOWN_CUSTOMER
        person = tenant.by_id.get(customer) or tenant.by_external_id.get(customer)
        if person is None:
            return UNKNOWN_CUSTOMER
        best: Grant | None = None
        best_end = 0.0
        for each in person.grants:
            if resource in each.product.resources:
                end = each.until if each.is_grace else each.until + LEEWAY_S
                if end > best_end:
                    best, best_end = each, end
        if best is None:
            return NO_ENTITLEMENT
        now = time.time() if tenant.now is None else tenant.now
        if now >= best_end:
            return Answer(False, "expired", best.until)
        if best.is_grace:
            return Answer(True, "grace", best_end)
        return Answer(True, "active", best.until if now < best.until else best_end)

    def customers(self) -> int:
        """How many customers are known, of all tenants."""
        return sum(len(each.by_id) for each in self._tenants.values())

    # --- keeping fresh -------------------------------------------------------------------------

    def tail_step(self) -> Step:
        """The step that a process which answers access checks runs, beside no one else's."""
        return Step("entitlements.tail", self.step, limit=2_000, pause_s=0.1)

    async def step(self, limit: int) -> int:
        """Read what the log has gained, at most about ``limit`` positions; how many are left.

        0 at the log's end: the next look can wait for the step's pause. The first time, and after
        a restore of the log, reads the snapshot. Raises what the database raises; what is in
        memory stays and grows stale.
        """
        if self._log_id is None:
            await self._read_snapshot()
        started = self._monotonic()
        async with self._database.transaction(_TAIL) as tx:
            heads = await store.heads(tx)
            if heads.log != self._log_id or self._is_ahead_of(heads):
                _log.warning("entitlements.log_replaced", epoch=heads.log[1])
                self._log_id = None
                return 1
            self._use_clocks(await store.sandbox_clocks(tx))
            spans = self._spans(heads.positions, limit)
            rows = await store.tail(tx, spans, sorted(_APPLY)) if spans else []
        for row in rows:
            _apply(self._tenant(row.tenant_id), row.type, row.data)
        self._positions.update({partition: upto for partition, _, upto in spans})
        left = sum(heads.positions.values()) - sum(self._positions.values())
        if left == 0:
            self._fresh_at = started
        return left

    async def catch_up(self) -> None:
        """Step until the log's end has been reached: before the first answer.

        A snapshot lives as long as the process, so it is taken out of the collector's way: a full
        collection over 100,000 customers would hold up every answer.
        """
        is_first = self._log_id is None
        while await self.step(50_000) or self._fresh_at is None:
            pass
        if is_first:
            gc.collect()
            gc.freeze()

    def _is_ahead_of(self, heads: store.Heads) -> bool:
        return any(self._positions.get(p, 0) > head for p, head in heads.positions.items())

    def _spans(self, heads: Mapping[int, int], limit: int) -> list[tuple[int, int, int]]:
        spans = []
        for partition, head in sorted(heads.items()):
            after = self._positions.get(partition, 0)
            upto = min(head, after + limit)
            if upto > after:
                spans.append((partition, after, upto))
                limit -= upto - after
        return spans

    def _tenant(self, tenant_id: UUID) -> Tenant:
        found = self._tenants.get(tenant_id)
        if found is None:
            found = self._tenants[tenant_id] = Tenant()
        return found

    def _use_clocks(self, clocks: Mapping[UUID, datetime]) -> None:
        for tenant_id, now_at in clocks.items():
            self._tenant(tenant_id).now = now_at.timestamp()

    async def _read_snapshot(self) -> None:
        tenants: dict[UUID, Tenant] = {}
        async with self._database.transaction(_SNAPSHOT, repeatable_read=True) as tx:
            heads = await store.heads(tx)
            consumed = await store.consumed(tx)
            for tenant_id in await store.tenants(tx):
                tx.use_tenants([tenant_id])
                tenants[tenant_id] = await _read_tenant(tx, tenant_id)
        self._tenants = tenants
        self._positions = {partition: consumed.get(partition, 0) for partition in heads.positions}
        self._log_id = heads.log


async def _read_tenant(tx: Tx, tenant_id: UUID) -> Tenant:
    tenant = Tenant()
    for row in await store.products_of(tx, tenant_id):
        tenant.product(ids.text("prod", row.id)).resources = frozenset(row.resources)
    taken: dict[str, datetime] = {}
    async for page in store.customer_pages(tx, tenant_id):
        for row in page:
            customer = ids.text("cus", row.id)
            # Two may carry one external id while a swap is half-way: the later one has it.
            if taken.setdefault(row.external_id, row.changed_at) <= row.changed_at:
                tenant.name(customer, row.external_id)
            else:
                tenant.person(customer).external_id = row.external_id
    async for page in store.grant_pages(tx, tenant_id):
        for row in page:
            if row.state != "revoked":
                tenant.grant(
                    ids.text("cus", row.customer_id),
                    Grant(
                        row.subscription_id.bytes,
                        tenant.product(ids.text("prod", row.product_id)),
                        row.state == "grace",
                        row.valid_until_at.timestamp(),
                    ),
                )
    return tenant


# --- one event ----------------------------------------------------------------------------------


def _apply(tenant: Tenant, kind: str, data: str) -> None:
    """Apply one event. One that cannot be read is told and passed over: it must not keep every
    other customer's revocation from being heard."""
    try:
        _APPLY[kind](tenant, msgspec.json.decode(data))
    except (KeyError, TypeError, ValueError):
        _log.exception("entitlements.event_unreadable", type=kind)


def _granted(tenant: Tenant, data: Mapping[str, Any]) -> None:
    tenant.grant(
        data["customer_id"],
        Grant(
            ids.parse("sub", data["subscription_id"]).bytes,
            tenant.product(data["product_id"]),
            data["reason"] == "grace",
            datetime.fromisoformat(data["valid_until_at"]).timestamp(),
        ),
    )


def _revoked(tenant: Tenant, data: Mapping[str, Any]) -> None:
    tenant.revoke(data["customer_id"], ids.parse("sub", data["subscription_id"]).bytes)


def _product(tenant: Tenant, data: Mapping[str, Any]) -> None:
    tenant.product(data["product_id"]).resources = frozenset(data["resources"])


def _named(tenant: Tenant, data: Mapping[str, Any]) -> None:
    tenant.name(data["customer_id"], data["external_id"])


def _deleted(tenant: Tenant, data: Mapping[str, Any]) -> None:
    tenant.forget(data["customer_id"])


_APPLY: Mapping[str, Callable[[Tenant, Mapping[str, Any]], None]] = {
    ENTITLEMENT_GRANTED: _granted,
    ENTITLEMENT_REVOKED: _revoked,
    PRODUCT_CREATED: _product,
    PRODUCT_UPDATED: _product,
    CUSTOMER_CREATED: _named,
    CUSTOMER_UPDATED: _named,
    CUSTOMER_DELETED: _deleted,
}
