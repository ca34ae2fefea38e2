"""Saved methods: kept after the provider attached them, made the default, detached."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.platform.db import Tx
from subledger.services.payments import facts
from subledger.services.payments.protocol import Saved
from subledger.services.payments.store import intents, method_tasks, methods
from subledger.services.payments.store.payments import Key


async def start_attaching(
    tx: Tx,
    *,
    tenant_id: UUID,
    method_id: UUID,
    customer_id: UUID,
    connection_id: UUID,
    test_kind: str,
    make_default: bool,
    expires_on: date | None,
) -> None:
    """Record the wish for a test method; the provider is asked after the commit."""
    await methods.insert_methods(
        tx,
        [
            {
                "tenant_id": tenant_id,
                "id": method_id,
                "customer_id": customer_id,
                "connection_id": connection_id,
                "status": "attaching",
                "token": "",
                "brand": "",
                "last_four": "",
                "test_kind": test_kind,
                "make_default": make_default,
                "expires_on": expires_on,
            }
        ],
        created_at=await tx.now(tenant_id),
    )


async def finish_attaching(tx: Tx, answers: Sequence[tuple[Key, Saved | None]]) -> int:
    """Keep what the provider says of attached methods, or None: it refused.

    The first method of a customer becomes the default, and one that asked for it. A method that
    is not attaching any more is left alone; one that was detached meanwhile is given up there too.
    """
    found = await methods.methods(tx, (key for key, _ in answers))
    customers = await methods.lock_customers(
        tx, {(row.tenant_id, row.customer_id) for row in found.values()}
    )
    locked = await methods.lock_methods(tx, found)
    clocks = await tx.clocks({tenant for tenant, _ in locked})
    defaults = {key: row.default_method_id for key, row in customers.items()}
    before = dict(defaults)
    rows, attached, described, unwanted, over = [], [], [], [], []
    for key, answer in answers:
        row = locked.get(key)
        if row is not None and row.status == "detached" and answer is not None and not row.token:
            described.append(methods.described(row, answer))
            unwanted.append(key)
        if row is None or row.status != "attaching":
            continue
        if row.test_kind is None:
            over.append((row.tenant_id, intents.SETUP, row.id))
        saved = answer or Saved("", "", "")
        shown = (saved.token, saved.brand, saved.last_four)
        rows.append(_row(row, status="active" if answer else "failed", shown=shown))
        described.append(methods.described(row, saved))
        if answer is None:
            continue
        owner = (row.tenant_id, row.customer_id)
        if row.make_default or defaults[owner] is None:
            defaults[owner] = row.id
        attached.append((row, saved.brand, saved.last_four))
    await methods.save_methods(tx, rows)
    await methods.describe(tx, described)
    await intents.due.drop(tx, over)
    await method_tasks.ask(tx, unwanted, "detach")
    await _set_defaults(tx, before, defaults)
    tx.emit(
        facts.method(
            events.PAYMENT_METHOD_ATTACHED,
            tenant_id=row.tenant_id,
            method_id=row.id,
            customer_id=row.customer_id,
            brand=brand,
            last_four=last_four,
            is_default=defaults[row.tenant_id, row.customer_id] == row.id,
            occurred_at=clocks[row.tenant_id],
            cause=None,
        )
        for row, brand, last_four in attached
    )
    return len(rows)


async def make_default(tx: Tx, *, tenant_id: UUID, method_id: UUID, cause: UUID) -> bool:
    """Charge this method unless another is named; False if it cannot be charged. What is past due
    is tried by it at once."""
    found = (await methods.methods(tx, [(tenant_id, method_id)])).get((tenant_id, method_id))
    if found is None:
        return False
    owner = (tenant_id, found.customer_id)
    customers = await methods.lock_customers(tx, [owner])
    row = (await methods.lock_methods(tx, [(tenant_id, method_id)]))[tenant_id, method_id]
    if row.status != "active" or customers[owner].deleted_at is not None:
        return False
    if customers[owner].default_method_id == method_id:
        return True
    await _set_defaults(tx, {owner: customers[owner].default_method_id}, {owner: method_id})
    tx.emit(
        [
            facts.method(
                events.PAYMENT_METHOD_DEFAULT_CHANGED,
                tenant_id=tenant_id,
                method_id=method_id,
                customer_id=row.customer_id,
                brand=row.brand,
                last_four=row.last_four,
                is_default=True,
                occurred_at=await tx.now(tenant_id),
                cause=cause,
            )
        ]
    )
    return True


async def set_order(
    tx: Tx, *, tenant_id: UUID, customer_id: UUID, method_ids: Sequence[UUID]
) -> UUID | None:
    """Try the customer's methods in this order after the default one; those that are not named
    follow as they came. Returns the first that is none of the customer's active ones: then
    nothing has changed."""
    owner = (tenant_id, customer_id)
    await methods.lock_customers(tx, [owner])
    active = {
        row.id: row for row in await methods.lock_methods_of(tx, [owner]) if row.status == "active"
    }
    for each in method_ids:
        if each not in active:
            return each
    turns = {each: turn for turn, each in enumerate(method_ids, start=1)}
    rows = [{"tenant_id": tenant_id, "id": each, "turn": turns.get(each)} for each in active]
    await methods.set_turns(tx, rows)
    return None


async def detach(
    tx: Tx, *, tenant_id: UUID, method_id: UUID, cause: UUID | None, tells_provider: bool = True
) -> bool:
    """Never charge this method again, and give it up at the provider unless that told us itself.
    False if there is none; detached twice is no error.

    If it was the default, the newest other method becomes the default.
    """
    found = (await methods.methods(tx, [(tenant_id, method_id)])).get((tenant_id, method_id))
    if found is None:
        return False
    owner = (tenant_id, found.customer_id)
    customer = (await methods.lock_customers(tx, [owner]))[owner]
    of_customer = {row.id: row for row in await methods.lock_methods_of(tx, [owner])}
    row = of_customer[method_id]
    if row.status == "detached":
        return True
    now = await tx.now(tenant_id)
    await methods.save_methods(
        tx, [_row(row, status="detached", shown=(row.token, row.brand, row.last_four), at=now)]
    )
    if tells_provider and row.token:
        await method_tasks.ask(tx, [(tenant_id, method_id)], "detach")
    others = sorted(
        (each for each in of_customer.values() if each.status == "active" and each.id != method_id),
        key=lambda each: (each.created_at, each.id),
    )
    was_default = customer.default_method_id == method_id
    if was_default:
        heir = others[-1].id if others else None
        await _set_defaults(tx, {owner: method_id}, {owner: heir})
    if row.status == "active":
        tx.emit(
            [
                facts.method(
                    events.PAYMENT_METHOD_DETACHED,
                    tenant_id=tenant_id,
                    method_id=method_id,
                    customer_id=row.customer_id,
                    brand=row.brand,
                    last_four=row.last_four,
                    is_default=was_default,
                    occurred_at=now,
                    cause=cause,
                )
            ]
        )
    return True


def _row(
    row: Row[Any], *, status: str, shown: tuple[str, str, str], at: datetime | None = None
) -> dict[str, Any]:
    token, brand, last_four = shown
    return {
        "tenant_id": row.tenant_id,
        "id": row.id,
        "status": status,
        "token": token,
        "brand": brand,
        "last_four": last_four,
        "detached_at": at,
    }


async def _set_defaults(
    tx: Tx, before: dict[Key, UUID | None], after: dict[Key, UUID | None]
) -> None:
    await methods.set_defaults(
        tx,
        [
            {"tenant_id": tenant, "id": customer, "default_method_id": after[tenant, customer]}
            for tenant, customer in sorted(after)
            if after[tenant, customer] != before[tenant, customer]
        ],
    )
