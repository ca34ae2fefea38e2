"""One subscription's draft becomes an invoice at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core.timeline import Draft
from subledger.platform.db import Tx
from subledger.services.billing.store import subscriptions
from subledger.services.billing.terms import PlanTerms
from subledger.services.billing.usecases import bill
from subledger.services.billing.usecases.documents import Bill, Kind, Reason
from subledger.services.billing.usecases.extensions import billed_by


async def invoice_now(
    tx: Tx,
    row: Row[Any],
    terms: PlanTerms,
    draft: Draft,
    attached: Sequence[Row[Any]],
    *,
    after: Mapping[str, Any] | None = None,
    kind: Kind = "change",
    reason: Reason,
    at: datetime,
    cause: UUID | None,
    look_back_from: int | None = None,
) -> None:
    """Write the draft of a locked subscription as an invoice and save where the subscription
    stands then: ``after``, or its columns as they were, and what the run changes. The next run
    looks back from period ``look_back_from``: a price in arrears has to know of what was.

    Raises RunTooLarge before anything is written.
    """
    saved = await bill.save(
        tx,
        [
            Bill(
                subscription=row._asdict(),
                terms=terms,
                draft=draft,
                attached=attached,
                reason=reason,
                at=at,
                cause=cause,
                kind=kind,
            )
        ],
    )
    tx.emit(event for each in saved for event in each.paid)
    values = dict(row._asdict() if after is None else after) | billed_by(row, draft)
    dirty = {"dirty_from_period": look_back_from}
    await subscriptions.change_subscriptions(tx, [values | dirty])
