"""What a change of a subscription leaves behind: a row of its history, and the fact."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform.db import Tx
from subledger.services.billing import facts
from subledger.services.billing.store import subscriptions
from subledger.services.billing.terms import PlanTerms


async def record(
    tx: Tx, row: Row[Any], kind: str, *, effective_at: datetime, at: datetime,
    data: dict[str, Any],
) -> None:  # fmt: skip
    """Append to the history of a locked subscription."""
    await subscriptions.append_changes(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "subscription_id": row.id,
                "kind": kind,
                "effective_at": effective_at,
                "data": msgspec.json.encode(data).decode(),
                "recorded_at": at,
            }
        ],
    )


def changed(
    row: Row[Any] | dict[str, Any],
    terms: PlanTerms,
    fields: Sequence[str],
    at: datetime,
    cause: UUID | None,
) -> Event:
    """``subscription.changed``: the subscription as it is now, and which fields are new."""
    values = row if isinstance(row, dict) else row._asdict()
    return Event(
        type=events.SUBSCRIPTION_CHANGED,
        tenant_id=values["tenant_id"],
        subject=values["payer_id"],
        data=facts.subscription(values, terms) | {"changed": list(fields)},
        occurred_at=at,
        cause=cause,
    )
