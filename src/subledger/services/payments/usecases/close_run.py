"""The end of a run: payouts booked, differences that are over closed, the balances compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.books import ClearingBalance
from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.providers import port
from subledger.services.payments.comparing import Held, compare, paid_out
from subledger.services.payments.store import differences as stored
from subledger.services.payments.store import payouts
from subledger.services.payments.store import reconciliations as store
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import differences, listed_disputes
from subledger.services.payments.usecases.differences import Found
from subledger.services.payments.usecases.reconcile import (
    MARGIN,
    Step,
    is_there,
    move_on,
    ours,
    row_of,
    theirs,
)

_AT_ONCE: Final = 500


async def take_payout(tx: Tx, run: Row[Any], payout: Row[Any], page: port.Settlements) -> None:
    """A page of what a payout is made of; with the last one it is matched, and told for the books:
    once, whatever repeats."""
    connection: Key = (run.tenant_id, run.connection_id)
    await store.lock_connections(tx, [connection])
    if not await is_there(tx, run):
        return
    await store.put_settlements(tx, [row_of(connection, each) for each in page.listed])
    if page.cursor is not None:
        await move_on(tx, run, Step("payouts", page.cursor, {}))
        return
    row = await payouts.lock_payout(tx, (payout.tenant_id, payout.id))
    if row.booked_at is None:
        await _book(tx, connection, row)
    await move_on(tx, run, Step("payouts", None, {"payouts": 1}))


async def _book(tx: Tx, connection: Key, row: Row[Any]) -> None:
    made_of = await payouts.payout_entries(tx, connection, ref=row.provider_ref)
    parts = paid_out(row.amount_minor, made_of)
    now = await tx.now(connection[0])
    saved = {
        "gross_minor": parts.gross_minor,
        "fee_minor": parts.fee_minor,
        "difference_minor": parts.difference_minor,
    }
    await payouts.save_payouts(
        tx, [{"tenant_id": row.tenant_id, "id": row.id, "booked_at": now, **saved}]
    )
    tx.emit(
        [
            Event(
                type=events.PAYOUT_PAID,
                tenant_id=connection[0],
                subject=connection[0],
                data={
                    "payout_id": ids.text("po", row.id),
                    "connection_id": ids.text("conn", connection[1]),
                    "provider_ref": row.provider_ref,
                    "amount_minor": row.amount_minor,
                    "currency": row.currency,
                    "paid_at": row.paid_at.isoformat(),
                    **saved,
                },
                occurred_at=now,
            )
        ]
    )


async def close_agreed(tx: Tx, connection: Key) -> int:
    """Close the differences of a connection that are over without a repair; tells how many."""
    rows = await stored.open_of(tx, connection, after=UUID(int=0), limit=_AT_ONCE)
    by_kind: dict[str, list[Row[Any]]] = {}
    for row in rows:
        by_kind.setdefault(row.kind, []).append(row)
    over = [
        *await _agreed_payments(tx, connection, by_kind),
        *await _agreed_refunds(tx, connection, by_kind.get(differences.REFUND_MISSING, [])),
    ]
    return await differences.close_all(
        tx,
        ((row.tenant_id, row.id) for row in over),
        by=differences.BY_ITSELF,
        how=differences.AGREES,
    )


async def _agreed_payments(
    tx: Tx, connection: Key, by_kind: Mapping[str, Sequence[Row[Any]]]
) -> list[Row[Any]]:
    about = [
        *by_kind.get(differences.PAYMENT_MISSING, []),
        *by_kind.get(differences.AMOUNT_DIFFERS, []),
        *by_kind.get(differences.CAPTURE_UNMATCHED, []),
    ]
    said = {row.id: msgspec.json.decode(row.data) for row in about}
    attempts = [
        ids.parse("att", each["attempt_id"]) for each in said.values() if each["attempt_id"]
    ]
    refs = [each["provider_ref"] for each in said.values() if each["provider_ref"]]
    known = await store.ours(tx, connection, attempts=attempts, refs=refs)
    listed = await store.entries(tx, connection, attempts=attempts, refs=refs)
    differing = compare([theirs(row) for row in listed], [ours(row) for row in known])
    still = {
        (each.kind, ids.text("att", each.ours.attempt_id))
        for each in differing
        if each.kind == "payment_missing" and each.ours is not None
    } | {(each.kind, each.subject) for each in differing if each.theirs is not None}
    names = {
        differences.PAYMENT_MISSING: "payment_missing",
        differences.AMOUNT_DIFFERS: "amount_differs",
        differences.CAPTURE_UNMATCHED: "capture_unknown",
    }
    return [row for row in about if (names[row.kind], row.subject) not in still]


async def _agreed_refunds(tx: Tx, connection: Key, rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    about = {ids.parse("ref", row.subject): row for row in rows}
    agreed = await store.agreed_refunds(tx, connection, about) if about else set()
    return [row for refund, row in about.items() if refund in agreed]


async def finish(
    tx: Tx,
    run: Row[Any],
    *,
    held: port.Balance,
    booked: Sequence[ClearingBalance],
    patient: bool,
) -> bool:
    """Compare the balances and end the run. False, and nothing is done, if they differ and
    ``patient``: what was told just now may not be booked yet.

    A gap becomes a work item only if the run before had the same one.
    """
    connection: Key = (run.tenant_id, run.connection_id)
    await store.lock_connections(tx, [connection])
    if not await is_there(tx, run):
        return True
    listed = await payouts.listed_sums(tx, connection, until=run.until_at)
    own = await payouts.own_sums(tx, connection)
    clearing = {each.currency: each.amount_minor for each in booked}
    found = {
        currency: Held(
            provider_minor=held.amount_minor.get(currency, 0),
            clearing_minor=clearing.get(currency, 0),
            explained_minor=listed.get(currency, 0) - own.get(currency, 0),
        )
        for currency in sorted({*held.amount_minor, *clearing, *listed, *own})
    }
    if patient and any(each.gap_minor for each in found.values()):
        return False
    until = min(run.until_at, await tx.now(run.tenant_id) - MARGIN)
    await listed_disputes.tell_unlisted(tx, run, until=until)
    last = await store.newest_done(tx, connection)
    before = {} if last is None else msgspec.json.decode(last.balances)
    closed = await close_agreed(tx, connection)
    opened = await _tell_gaps(tx, connection, found, before)
    balances = {
        currency: {
            "provider_minor": each.provider_minor,
            "clearing_minor": each.clearing_minor,
            "explained_minor": each.explained_minor,
            "gap_minor": each.gap_minor,
        }
        for currency, each in found.items()
    }
    counts = {"closed": closed, "differences": opened}
    await move_on(tx, run, Step("done", None, counts), balances=balances)
    tx.emit([await _finished(tx, run, counts)])
    return True


async def _tell_gaps(
    tx: Tx, connection: Key, found: Mapping[str, Held], before: Mapping[str, Any]
) -> int:
    kind = differences.CLEARING_DIFFERS
    name = ids.text("conn", connection[1])
    told, over = [], []
    for currency, each in found.items():
        subject = f"{name}:{currency}"
        if not each.gap_minor:
            over.append((connection[0], kind, subject))
        elif before.get(currency, {}).get("gap_minor") == each.gap_minor:
            data = {
                "amount_minor": each.gap_minor,
                "currency": currency,
                "provider_minor": each.provider_minor,
                "clearing_minor": each.clearing_minor,
            }
            told.append(Found(connection[0], connection[1], kind, subject, None, None, data))
    await differences.close_about(tx, over, how=differences.AGREES)
    return await differences.open_all(tx, told)


async def _finished(tx: Tx, run: Row[Any], counts: Mapping[str, int]) -> Event:
    return Event(
        type=events.RECONCILIATION_FINISHED,
        tenant_id=run.tenant_id,
        subject=run.tenant_id,
        data={
            "reconciliation_id": ids.text("rec", run.id),
            "connection_id": ids.text("conn", run.connection_id),
            "since_at": run.since_at.isoformat(),
            "until_at": run.until_at.isoformat(),
            **msgspec.json.decode(run.counts),
            "closed": counts["closed"],
            "differences": msgspec.json.decode(run.counts).get("differences", 0)
            + counts["differences"],
        },
        occurred_at=await tx.now(run.tenant_id),
    )
