"""Saved methods: kept after the provider attached them, made the default, detached."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.platform.db import Tx
from subledger.services.payments import facts
from subledger.services.payments.store import methods
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
            }
        ],
        created_at=await tx.now(tenant_id),
    )


async def finish_attaching(
    tx: Tx, answers: Sequence[tuple[Key, tuple[str, str, str] | None]]
) -> int:
    """Keep ``(token, brand, last four)`` of attached methods, or None: the provider refused.

    The first method of a customer becomes the default, and one that asked for it. A method that
    is not attaching any more is left alone.
    """
    found = await methods.methods(tx, (key for key, _ in answers))
    customers = await methods.lock_customers(
        tx, {(row.tenant_id, row.customer_id) for row in found.values()}
    )
    locked = await methods.lock_methods(tx, found)
    clocks = await tx.clocks({tenant for tenant, _ in locked})
    defaults = {key: row.default_method_id for key, row in customers.items()}
    before = dict(defaults)
    rows, attached = [], []
    for key, answer in answers:
        row = locked.get(key)
        if row is None or row.status != "attaching":
            continue
        token, brand, last_four = answer or ("", "", "")
        rows.append(
            _row(row, status="active" if answer else "failed", shown=(token, brand, last_four))
        )
        if answer is None:
            continue
        owner = (row.tenant_id, row.customer_id)
        if row.make_default or defaults[owner] is None:
            defaults[owner] = row.id
        attached.append((row, brand, last_four))
    await methods.save_methods(tx, rows)
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


async def make_default(tx: Tx, *, tenant_id: UUID, method_id: UUID) -> bool:
    """Charge this method unless another is named; False if it cannot be charged."""
    found = (await methods.methods(tx, [(tenant_id, method_id)])).get((tenant_id, method_id))
    if found is None:
        return False
    owner = (tenant_id, found.customer_id)
    customers = await methods.lock_customers(tx, [owner])
    row = (await methods.lock_methods(tx, [(tenant_id, method_id)]))[tenant_id, method_id]
    if row.status != "active" or customers[owner].deleted_at is not None:
        return False
    await _set_defaults(tx, {owner: customers[owner].default_method_id}, {owner: method_id})
    return True


async def detach(tx: Tx, *, tenant_id: UUID, method_id: UUID, cause: UUID) -> bool:
    """Never charge this method again. False if there is none; detached twice is no error.

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
