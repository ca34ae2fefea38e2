"""Differences: told when found and when over; billing makes work items of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.payments.store import differences as store
from subledger.services.payments.store.payments import Key

PAYMENT_UNKNOWN: Final = "payment_unknown"
REFUND_UNKNOWN: Final = "refund_unknown"
DISPUTE_UNKNOWN: Final = "dispute_unknown"
CAPTURE_UNMATCHED: Final = "capture_unmatched"
REFUND_UNMATCHED: Final = "refund_unmatched"
PAYMENT_MISSING: Final = "payment_missing"
REFUND_MISSING: Final = "refund_missing"
AMOUNT_DIFFERS: Final = "amount_differs"
CLEARING_DIFFERS: Final = "clearing_differs"
AGREES: Final = "agrees"
"""How a difference is over that nobody had to repair."""
BY_ITSELF: Final = "reconciliation"


@dataclass(frozen=True, slots=True)
class Found:
    """A difference. ``subject`` is by what it is known again, ``data`` its public form."""

    tenant_id: UUID
    connection_id: UUID
    kind: str
    subject: str
    customer_id: UUID | None
    payment_id: UUID | None
    data: Mapping[str, Any]


async def open_all(tx: Tx, found: Sequence[Found]) -> int:
    """Write down and tell what is not open already; tells how many that were."""
    if not found:
        return 0
    clocks = await tx.clocks({each.tenant_id for each in found})
    made = {tx.ids.new(): each for each in found}
    new = await store.open_new(
        tx,
        [
            {
                "tenant_id": each.tenant_id,
                "id": difference_id,
                "kind": each.kind,
                "subject": each.subject,
                "connection_id": each.connection_id,
                "customer_id": each.customer_id,
                "payment_id": each.payment_id,
                "data": msgspec.json.encode(each.data).decode(),
                "opened_at": clocks[each.tenant_id],
            }
            for difference_id, each in made.items()
        ],
    )
    tx.emit(
        Event(
            type=events.DIFFERENCE_FOUND,
            tenant_id=each.tenant_id,
            subject=each.customer_id or each.tenant_id,
            data=_data(difference_id, each.connection_id, each.kind, each, each.data),
            occurred_at=clocks[each.tenant_id],
        )
        for difference_id, each in made.items()
        if difference_id in new
    )
    return len(new)


async def close_about(tx: Tx, subjects: Iterable[tuple[UUID, str, str]], *, how: str) -> None:
    """Close what is open about ``(tenant_id, kind, subject)``: it was settled."""
    keys = await store.about(tx, subjects)
    if keys:
        await close_all(tx, keys, by=BY_ITSELF, how=how)


async def close_all(
    tx: Tx, keys: Iterable[Key], *, by: str, how: str, reference: str | None = None
) -> int:
    """Close differences that are still open, and tell who did it and how; tells how many."""
    rows = [row for row in (await store.lock(tx, keys)).values() if row.closed_at is None]
    if not rows:
        return 0
    clocks = await tx.clocks({row.tenant_id for row in rows})
    await store.close(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "id": row.id,
                "closed_at": clocks[row.tenant_id],
                "closed_by": by,
                "closed_how": how,
                "reference": reference,
            }
            for row in rows
        ],
    )
    tx.emit(
        Event(
            type=events.DIFFERENCE_CLOSED,
            tenant_id=row.tenant_id,
            subject=row.customer_id or row.tenant_id,
            data=_data(row.id, row.connection_id, row.kind, row, {}) | {"how": how, "by": by},
            occurred_at=clocks[row.tenant_id],
        )
        for row in rows
    )
    return len(rows)


def _data(
    difference_id: UUID,
    connection_id: UUID,
    kind: str,
    about: Found | Row[Any],
    data: Mapping[str, Any],
) -> dict[str, Any]:
    customer, payment = about.customer_id, about.payment_id
    return {
        "difference_id": ids.text("diff", difference_id),
        "connection_id": ids.text("conn", connection_id),
        "kind": kind,
        "customer_id": None if customer is None else ids.text("cus", customer),
        "payment_id": None if payment is None else ids.text("pay", payment),
        **data,
    }
