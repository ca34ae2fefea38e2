"""What a change of a subscription leaves behind: a row of its history, and the fact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    data: Mapping[str, Any] | None = None,
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
                "data": msgspec.json.encode(data or {}).decode(),
                "recorded_at": at,
            }
        ],
    )


def told(
    type_: str,
    row: Row[Any] | Mapping[str, Any],
    terms: PlanTerms,
    at: datetime,
    cause: UUID | None,
    *,
    more: Mapping[str, Any],
    **columns: Any,
) -> Event:
    """A fact of a subscription: its public fields, ``columns`` in place of the row's, and
    ``more``."""
    values = row if isinstance(row, Mapping) else row._asdict()
    return Event(
        type=type_,
        tenant_id=values["tenant_id"],
        subject=values["payer_id"],
        data={**facts.subscription(values, terms, **columns), **more},
        occurred_at=at,
        cause=cause,
    )


def changed(
    row: Row[Any] | Mapping[str, Any],
    terms: PlanTerms,
    fields: Sequence[str],
    at: datetime,
    cause: UUID | None,
    **columns: Any,
) -> Event:
    """``subscription.changed``: the subscription as it is now, and which fields are new."""
    return told(
        events.SUBSCRIPTION_CHANGED, row, terms, at, cause, more={"changed": list(fields)},
        **columns,
    )  # fmt: skip
