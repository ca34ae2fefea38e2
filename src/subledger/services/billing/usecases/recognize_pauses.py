"""Recognition stands still while a service does: pauses after which a period ends later.

What was delivered by the pause stays recognized; from the resumption on the rest is recognized up
to where the service then ends. (IFRS 15.B18 measures progress by the service; no service, no
progress.) A subscription that ends in its pause serves nothing more: its charges and what was
given back of them are recognized over the dates on which they were billed. The subscriptions'
accounts are locked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from subledger.core.extension import Extension
from subledger.platform.db import Tx
from subledger.services.billing import ledger
from subledger.services.billing.store import pauses, recognition
from subledger.services.billing.usecases.extensions import PAUSED
from subledger.services.billing.usecases.recognize import Line, lines_of, posting, released


async def stand_still(tx: Tx, row: Row[Any], *, from_at: datetime, at: datetime) -> None:
    """A subscription is paused from ``from_at`` on, and it is ``at``."""
    found = await recognition.served_after(tx, (row.tenant_id, row.id), from_at)
    saved, postings = [], []
    for line in await _chosen(tx, found):
        unit = line.policy.unit(from_at)
        if line.row["is_counted"]:
            unit = max(unit, line.policy.through_unit)
        if unit >= line.end_unit or not line.net_minor:
            continue
        postings += [
            posting(line, row.payer_id, *each) for each in released(line, unit, at, months=True)
        ]
        line.paused_units.append(unit)
        saved.append(_saved(line, at))
    await recognition.save_schedules(tx, saved)
    await ledger.post(tx, postings)


async def billed_meanwhile(tx: Tx, rows: Iterable[Row[Any]], *, at: datetime) -> None:
    """Something was billed for these subscriptions: those in such a pause still stand still."""
    paused = {(row.tenant_id, row.id): row for row in rows if row.status == PAUSED}
    if not paused:
        return
    for key, pause in (await pauses.open_pauses(tx, paused)).items():
        if pause.credit == "extend":
            await stand_still(tx, paused[key], from_at=pause.from_at, at=at)


async def go_on(tx: Tx, row: Row[Any], within: Extension, *, at: datetime) -> None:
    """A subscription is resumed: the last of the pauses ``within`` its period is over."""
    before = replace(within, pauses=within.pauses[:-1])

    def moved(line: Line) -> None:
        ends_at = within.stops(before.paid(line.ends_at))
        later = max(line.policy.unit(ends_at) - line.end_unit, 0)
        line.paused_units.append(line.paused_units[-1] + later)
        line.start_unit += later
        line.end_unit += later
        line.ends_at = ends_at

    await _end_pauses(tx, [row], moved, at=lambda _: at)


async def stop(tx: Tx, rows: Sequence[Row[Any]], *, at: Callable[[Row[Any]], datetime]) -> None:
    """Subscriptions end, some of them in their pause."""

    def taken_back(line: Line) -> None:
        line.paused_units.pop()

    await _end_pauses(tx, rows, taken_back, at=at)


async def _end_pauses(
    tx: Tx,
    rows: Sequence[Row[Any]],
    change: Callable[[Line], None],
    *,
    at: Callable[[Row[Any]], datetime],
) -> None:
    by_key = {(row.tenant_id, row.id): row for row in rows}
    found = await recognition.paused(tx, by_key)
    of = {
        (each.tenant_id, each.invoice_id, each.n): by_key[each.tenant_id, each.subscription_id]
        for each in found
    }
    saved = []
    for line in await _chosen(tx, found):
        change(line)
        row = of[line.policy.tenant_id, line.row["invoice_id"], line.row["n"]]
        saved.append(_saved(line, at(row)))
    await recognition.save_schedules(tx, saved)


async def _chosen(tx: Tx, found: Sequence[Row[Any]]) -> list[Line]:
    """These lines of their invoices, locked, in their order."""
    keys = {(each.tenant_id, each.invoice_id, each.n) for each in found}
    lines = await lines_of(tx, ((tenant, invoice) for tenant, invoice, _ in sorted(keys)))
    return [line for key, line in lines.items() if key in keys]


def _saved(line: Line, at: datetime) -> dict[str, Any]:
    unit = max(line.policy.unit(at), line.policy.through_unit)
    return line.columns(line.released_minor, from_unit=unit + 1)
