"""Personal discounts: on every subscription that a customer pays for, present and future.

Attached to each subscription as if by hand, so that what a subscription has is always listed there;
``attachments`` says from when it counts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import discounts as store
from subledger.services.billing.store import subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases.attachments import (
    MOST_ATTACHED,
    added,
    ended,
    tell,
    write,
)
from subledger.services.billing.usecases.discounts import check_fits
from subledger.services.billing.usecases.end import LIVE

MOST_PERSONAL = 20
MOST_AT_ONCE = 500
"""Live subscriptions that one personal discount is attached to in one transaction."""


async def add_to_customer(
    tx: Tx,
    memory: TermsMemory,
    *,
    tenant_id: UUID,
    customer_id: UUID,
    discount_id: UUID,
    cause: UUID | None,
) -> None:
    """Give a customer a discount on every subscription that it pays for: on the live ones from the
    next period on, on future ones from the first. Its periods are counted for each subscription.

    One that has or had the discount is left as it is. Raises not_found, unknown_reference,
    discount_not_applicable, too_many_subscriptions.
    """
    key = (tenant_id, customer_id)
    account, at = await _lock_customer(tx, key)
    discount = (await subscriptions.discounts(tx, [(tenant_id, discount_id)])).get(
        (tenant_id, discount_id)
    )
    if discount is None:
        raise Problem(
            problems.UNKNOWN_REFERENCE, pointer="/discount_id", detail="There is no such discount."
        )
    check_fits(discount, currency=account.currency, at=at, pointer="/discount_id")
    held = (await store.customer_discounts(tx, [key])).get(key, [])
    has = [each.discount_id for each in held if each.removed_at is None]
    if discount_id in has or len(has) >= MOST_PERSONAL:
        raise Problem(
            problems.DISCOUNT_NOT_APPLICABLE,
            pointer="/discount_id",
            detail="The customer has this discount."
            if discount_id in has
            else f"A customer has at most {MOST_PERSONAL} discounts.",
            fix="Remove it first, or use another one.",
        )
    await store.add_to_customers(
        tx,
        [
            {
                "tenant_id": tenant_id,
                "customer_id": customer_id,
                "discount_id": discount_id,
                "added_at": at,
                "removed_at": None,
            }
        ],
    )
    tx.emit([_personal(events.CUSTOMER_DISCOUNT_ADDED, key, discount_id, at, cause)])
    rows, known = await _live_of(tx, key)
    fresh = [
        (row, one)
        for row in rows
        if len(known.get((tenant_id, row.id), [])) < MOST_ATTACHED
        and (one := added(row, known.get((tenant_id, row.id), []), discount_id, at,
                           source="customer")) is not None
    ]  # fmt: skip
    await write(tx, [one for _, one in fresh])
    told = [(row, at, discount_id) for row, _ in fresh]
    await tell(tx, memory, told, "discount_attached", cause)


async def remove_from_customer(
    tx: Tx,
    memory: TermsMemory,
    *,
    tenant_id: UUID,
    customer_id: UUID,
    discount_id: UUID,
    cause: UUID | None,
) -> None:
    """Take a personal discount back: future subscriptions do not get it, and those that have it by
    this way lose it from the next period on. Raises not_found, too_many_subscriptions."""
    key = (tenant_id, customer_id)
    _, at = await _lock_customer(tx, key)
    held = (await store.customer_discounts(tx, [key])).get(key, [])
    if not any(each.discount_id == discount_id and each.removed_at is None for each in held):
        raise Problem("not_found", detail="The customer does not have this discount.")
    removed = {
        "tenant_id": tenant_id,
        "customer_id": customer_id,
        "discount_id": discount_id,
        "removed_at": at,
    }
    await store.remove_from_customers(tx, [removed])
    tx.emit([_personal(events.CUSTOMER_DISCOUNT_REMOVED, key, discount_id, at, cause)])
    rows, known = await _live_of(tx, key)
    gone = [
        (row, one)
        for row in rows
        if (one := ended(row, known.get((tenant_id, row.id), []), discount_id, at, "customer"))
        is not None
    ]
    await store.set_until(tx, [one for _, one in gone])
    told = [(row, at, discount_id) for row, _ in gone]
    await tell(tx, memory, told, "discount_detached", cause)


async def _lock_customer(tx: Tx, key: Key) -> tuple[Row[Any], datetime]:
    locked = await subscriptions.lock_accounts(tx, [key])
    if key not in locked or locked[key].deleted_at is not None:
        raise Problem("not_found", detail="There is no such customer.")
    return locked[key], (await subscriptions.moments(tx, locked, locked))[key]


async def _live_of(tx: Tx, key: Key) -> tuple[list[Row[Any]], dict[Key, list[Row[Any]]]]:
    """The customer's live subscriptions, locked, and their discounts."""
    found = await store.live_subscriptions(tx, *key, live=LIVE, limit=MOST_AT_ONCE + 1)
    if len(found) > MOST_AT_ONCE:
        raise Problem(
            problems.TOO_MANY_SUBSCRIPTIONS,
            detail=f"The customer pays for more than {MOST_AT_ONCE} live subscriptions.",
        )
    rows = await subscriptions.lock_subscriptions(tx, found)
    return rows, await store.attachments(tx, found)


def _personal(type_: str, key: Key, discount_id: UUID, at: datetime, cause: UUID | None) -> Event:
    tenant_id, customer_id = key
    return Event(
        type=type_,
        tenant_id=tenant_id,
        subject=customer_id,
        data={
            "customer_id": ids.text("cus", customer_id),
            "discount_id": ids.text("disc", discount_id),
        },
        occurred_at=at,
        cause=cause,
    )
