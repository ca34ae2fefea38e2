"""What is billed is counted, by the hour of the tenant's clock, with the runs that bill it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from subledger.platform.db import Tx
from subledger.services.billing.store import guard as store
from subledger.services.billing.usecases.documents import Bill


def invoice_total(draft_total_minor: int) -> int:
    """What the invoice of a draft comes to: one that gives back more than it bills is of zero."""
    return max(draft_total_minor, 0)


async def count(tx: Tx, bills: Iterable[Bill]) -> None:
    """Count what runs bill: one statement of a row for each tenant, currency and hour.

    Every run counts when it bills, whoever asked for it, also onto a draft that is finalized
    later, and whether or not there are limits, so that a limit that is set at noon knows the
    morning. The rows are locked right before the number series (ARCHITECTURE 3, run totals), which
    the same transactions wait for anyway.
    """
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in bills:
        tenant_id, currency = each.subscription["tenant_id"], each.draft.currency
        hour_at = each.at.replace(minute=0, second=0, microsecond=0)
        row = sums.setdefault(
            (tenant_id, currency, hour_at),
            {
                "tenant_id": tenant_id,
                "currency": currency,
                "hour_at": hour_at,
                "invoice_count": 0,
                "total_minor": 0,
                "largest_minor": 0,
            },
        )
        total_minor = invoice_total(each.draft.total_minor)
        row["invoice_count"] += 1
        row["total_minor"] += total_minor
        row["largest_minor"] = max(row["largest_minor"], total_minor)
    await store.count(tx, sums.values())
