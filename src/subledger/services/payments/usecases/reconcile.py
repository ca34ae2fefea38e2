"""Reconciling: what a page of the provider's list, or of ours, changes.

Each page is one transaction that also moves the run on, so that a run that stops anywhere goes on
from there, and a page that is taken again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.providers import port
from subledger.services.payments.comparing import (
    OF_DISPUTES,
    Difference,
    Ours,
    Theirs,
    compare,
)
from subledger.services.payments.protocol import Captured
from subledger.services.payments.store import intents, looks, methods, payouts
from subledger.services.payments.store import reconciliations as store
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import differences, listed_disputes
from subledger.services.payments.usecases.adopt import Adopted, adopt
from subledger.services.payments.usecases.differences import Found
from subledger.services.payments.usecases.settle import Result, settle

MARGIN: Final = timedelta(hours=1)
"""What is younger is not called missing: it may be on its way into the provider's list."""
PAGE: Final = 500

Cursor = tuple[datetime, UUID]
_FIRST: Final = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))


# --- a page of the provider's list ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """What a page made of a run: where it stands now, and what there was to count."""

    phase: str
    cursor: str | None
    counts: Mapping[str, int]


async def take_page(tx: Tx, run: Row[Any], page: port.Settlements) -> None:
    """Keep a page of the provider's list and act on it: captures of attempts that are open here
    are asked about, captures that we know nothing of are booked, refunds made there and disputes
    are looked for, and what needs a person is told. Does nothing if the run moved on meanwhile."""
    connection: Key = (run.tenant_id, run.connection_id)
    await store.lock_connections(tx, [connection])
    if not await is_there(tx, run):
        return
    rows = [row_of(connection, each) for each in page.listed]
    await store.put_settlements(tx, rows)
    counts: dict[str, int] = {"entries": len(rows)}
    await _captures(tx, connection, [row for row in rows if row["kind"] == "capture"], counts)
    await _refunds(tx, connection, [row for row in rows if row["kind"] == "refund"], counts)
    disputed = [row for row in rows if row["kind"] in OF_DISPUTES]
    counts["disputes_asked"] = await listed_disputes.ask(tx, connection, disputed)
    await _payouts(tx, connection, [row for row in rows if row["kind"] == "payout"])
    more = page.cursor is not None
    await move_on(tx, run, Step("listing" if more else "payouts", page.cursor, counts))


async def is_there(tx: Tx, run: Row[Any]) -> bool:
    """True while the run stands where its claimer saw it: locked."""
    now = await store.lock_run(tx, (run.tenant_id, run.id))
    return bool((now.phase, now.cursor) == (run.phase, run.cursor))


def row_of(connection: Key, each: port.Settlement) -> dict[str, Any]:
    return {
        "tenant_id": connection[0],
        "connection_id": connection[1],
        "provider_ref": each.provider_ref,
        "kind": each.kind,
        "attempt_id": _id("att", each.attempt_id),
        "refund_id": _id("ref", each.refund_id),
        "amount_minor": each.amount_minor,
        "fee_minor": each.fee_minor,
        "currency": each.currency,
        "at": each.at,
        "payout_ref": each.payout_ref,
        "customer_id": _id("cus", each.customer_id),
        "invoice_id": _id("inv", each.invoice_id),
    }


def _id(prefix: str, text: str | None) -> UUID | None:
    """An id of ours; None for one that was made elsewhere."""
    try:
        return None if text is None else ids.parse(prefix, text)
    except ids.InvalidId:
        return None


async def _captures(
    tx: Tx, connection: Key, rows: Sequence[Mapping[str, Any]], counts: dict[str, int]
) -> None:
    known = await store.ours(
        tx,
        connection,
        attempts=[row["attempt_id"] for row in rows if row["attempt_id"] is not None],
        refs=[row["provider_ref"] for row in rows],
    )
    listed = {row["provider_ref"]: row for row in rows}
    payments = {row.attempt_id: row for row in known}
    found = compare([theirs(row) for row in rows], [ours(row) for row in known])
    # An attempt that was paid twice is missing nothing; what is missing is looked for among ours.
    found = [each for each in found if each.kind != "payment_missing"]
    asked = {
        (connection[0], each.ours.attempt_id): "fetch"
        for each in found
        if each.kind == "capture_unsettled" and each.ours is not None
    }
    await intents.ask(tx, asked)
    adopted, unmatched = await _owners(tx, connection, found, listed, payments)
    matched, rest = await _held_back(tx, connection, adopted)
    counts["settled"] = len(asked) + await settle(tx, matched)
    counts["adopted"] = await adopt(tx, rest)
    amounts = [each for each in found if each.kind == "amount_differs"]
    counts["differences"] = await differences.open_all(
        tx, [*unmatched, *(_amount(connection, each, payments) for each in amounts)]
    )


async def _held_back(
    tx: Tx, connection: Key, adopted: Sequence[Adopted]
) -> tuple[list[Result], list[Adopted]]:
    """Captures that paid for what a kill switch keeps from being charged, and the others.

    After a restore an invoice is made anew and would be collected by a new attempt; while
    collections are stopped, money that is found pays for it instead: the one that it names, or one
    of the same amount.
    """
    named = [each for each in adopted if each.attempt_id is not None]
    owners = {(connection[0], each.customer_id) for each in named}
    held = list(await store.held(tx, owners)) if owners else []
    matched, rest = [], [each for each in adopted if each.attempt_id is None]
    for each in named:
        fitting = [
            row
            for row in held
            if (row.customer_id, row.amount_minor, row.currency)
            == (each.customer_id, each.amount_minor, each.currency)
        ]
        row = next((row for row in fitting if row.invoice_id == each.invoice_id), None)
        row = row or next(iter(fitting), None)
        if row is None:
            rest.append(each)
            continue
        held.remove(row)
        captured = Captured(provider_ref=each.provider_ref, amount_minor=each.amount_minor)
        attempt = (connection[0], row.attempt_id)
        matched.append(Result(attempt, captured, action="fetch", connection_id=connection[1]))
    return matched, rest


def theirs(row: Any) -> Theirs:
    """An entry as it is compared."""
    values = row if isinstance(row, Mapping) else row._mapping
    return Theirs(
        ref=values["provider_ref"],
        attempt_id=values["attempt_id"],
        amount_minor=values["amount_minor"],
        currency=values["currency"],
        at=values["at"],
    )


def ours(row: Row[Any]) -> Ours:
    """An attempt as it is compared."""
    return Ours(
        attempt_id=row.attempt_id,
        ref=row.provider_ref,
        state=row.state,
        amount_minor=row.amount_minor or 0,
        currency=row.currency or "",
    )


async def _owners(
    tx: Tx,
    connection: Key,
    found: Sequence[Difference],
    listed: Mapping[str, Mapping[str, Any]],
    payments: Mapping[UUID, Row[Any]],
) -> tuple[list[Adopted], list[Found]]:
    """Whose the captures are that have no payment: to be booked, or to be told."""
    named = {
        (connection[0], row["customer_id"])
        for row in listed.values()
        if row["customer_id"] is not None
    }
    customers = await methods.customers(tx, named) if named else {}
    adopted, unmatched = [], []
    for each in found:
        if each.kind not in {"capture_unknown", "capture_twice"} or each.theirs is None:
            continue
        row = listed[each.theirs.ref]
        customer, invoice, attempt = row["customer_id"], row["invoice_id"], row["attempt_id"]
        if each.ours is not None:
            customer, invoice, attempt = payments[each.ours.attempt_id].customer_id, None, None
        elif (connection[0], customer) not in customers:
            customer = None
        if customer is None:
            unmatched.append(_unmatched(connection, row))
        else:
            adopted.append(capture_of(connection, row, customer, invoice, attempt))
    return adopted, unmatched


def capture_of(
    connection: Key,
    row: Mapping[str, Any],
    customer_id: UUID,
    invoice_id: UUID | None,
    attempt_id: UUID | None,
) -> Adopted:
    """A listed capture as this customer's money."""
    return Adopted(
        tenant_id=connection[0],
        connection_id=connection[1],
        customer_id=customer_id,
        invoice_id=invoice_id,
        attempt_id=attempt_id,
        provider_ref=row["provider_ref"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        at=row["at"],
    )


def _unmatched(connection: Key, row: Mapping[str, Any]) -> Found:
    return Found(
        tenant_id=connection[0],
        connection_id=connection[1],
        kind=differences.CAPTURE_UNMATCHED,
        subject=row["provider_ref"],
        customer_id=None,
        payment_id=None,
        data=_said(row),
    )


def _said(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the provider says of an entry, in public form."""
    attempt = row["attempt_id"]
    return {
        "provider_ref": row["provider_ref"],
        "attempt_id": None if attempt is None else ids.text("att", attempt),
        "amount_minor": row["amount_minor"],
        "currency": row["currency"],
        "at": row["at"].isoformat(),
    }


def _amount(connection: Key, each: Difference, payments: Mapping[UUID, Row[Any]]) -> Found:
    assert each.theirs is not None, "an amount differs from another"
    assert each.ours is not None, "an amount differs from another"
    payment = payments[each.ours.attempt_id]
    return Found(
        tenant_id=connection[0],
        connection_id=connection[1],
        kind=differences.AMOUNT_DIFFERS,
        subject=each.theirs.ref,
        customer_id=payment.customer_id,
        payment_id=payment.payment_id,
        data={
            "provider_ref": each.theirs.ref,
            "attempt_id": ids.text("att", each.ours.attempt_id),
            "amount_minor": each.theirs.amount_minor,
            "currency": each.theirs.currency,
            "booked_minor": each.ours.amount_minor,
            "booked_currency": each.ours.currency,
        },
    )


async def _refunds(
    tx: Tx, connection: Key, rows: Sequence[Mapping[str, Any]], counts: dict[str, int]
) -> None:
    """Refunds that are not done here are asked about; those of unknown captures are told."""
    tenant = connection[0]
    attempts = [row["attempt_id"] for row in rows if row["attempt_id"] is not None]
    known = {row.attempt_id for row in await store.ours(tx, connection, attempts=attempts, refs=[])}
    done, done_refs = await store.known_refunds(
        tx,
        tenant,
        refunds=[row["refund_id"] for row in rows if row["refund_id"] is not None],
        attempts=attempts,
    )
    asked, unmatched = set(), []
    for row in rows:
        if row["refund_id"] in done or row["provider_ref"] in done_refs:
            continue
        if row["attempt_id"] in known:
            asked.add((tenant, row["attempt_id"]))
        else:
            unmatched.append(
                Found(tenant, connection[1], differences.REFUND_UNMATCHED, row["provider_ref"],
                      None, None, _said(row))
            )  # fmt: skip
    await looks.REFUNDS.ask(tx, asked)
    counts["refunds_asked"] = len(asked)
    counts["differences"] += await differences.open_all(tx, unmatched)


async def _payouts(tx: Tx, connection: Key, rows: Sequence[Mapping[str, Any]]) -> None:
    now = await tx.now(connection[0])
    await payouts.put_payouts(
        tx,
        [
            {
                "tenant_id": connection[0],
                "id": tx.ids.new(),
                "connection_id": connection[1],
                "provider_ref": row["provider_ref"],
                "amount_minor": row["amount_minor"],
                "currency": row["currency"],
                "paid_at": row["at"],
                "created_at": now,
            }
            for row in rows
        ],
    )


async def leave(tx: Tx, run: Row[Any], phase: str) -> None:
    """A phase of a run is over."""
    if await is_there(tx, run):
        await move_on(tx, run, Step(phase, None, {}))


async def move_on(tx: Tx, run: Row[Any], step: Step, *, balances: Any = None) -> None:
    """Where a locked run stands now; what is counted is added."""
    counted: dict[str, int] = msgspec.json.decode(run.counts)
    for name, n in step.counts.items():
        counted[name] = counted.get(name, 0) + n
    over = step.phase == "done"
    await store.save_run(
        tx,
        (run.tenant_id, run.id),
        phase=step.phase,
        cursor=step.cursor,
        counts=msgspec.json.encode(counted).decode(),
        balances=run.balances if balances is None else msgspec.json.encode(balances).decode(),
        tries=0,
        code=None,
        finished_at=await tx.now(run.tenant_id) if over else None,
    )


async def put_off(tx: Tx, run: Row[Any], *, code: str, wait_s: float | None) -> None:
    """The provider did not answer: tried again after ``wait_s`` (wall clock), or given up."""
    if not await is_there(tx, run):
        return
    await store.save_run(
        tx,
        (run.tenant_id, run.id),
        phase="failed" if wait_s is None else run.phase,
        cursor=run.cursor,
        counts=run.counts,
        balances=run.balances,
        tries=run.tries + 1,
        code=code,
        finished_at=await tx.now(run.tenant_id) if wait_s is None else None,
        wait_s=wait_s or 0.0,
    )


# --- a page of ours -------------------------------------------------------------------------------


def place(cursor: str | None) -> Cursor:
    """Where a page of ours begins."""
    if cursor is None:
        return _FIRST
    at, _, row_id = cursor.partition("|")
    return datetime.fromisoformat(at), UUID(row_id)


async def take_ours(tx: Tx, run: Row[Any]) -> None:
    """A page of what succeeded here and must be in the provider's list."""
    connection: Key = (run.tenant_id, run.connection_id)
    await store.lock_connections(tx, [connection])
    if not await is_there(tx, run):
        return
    until = min(run.until_at, await tx.now(run.tenant_id) - MARGIN)
    rows = await store.succeeded(
        tx, connection, since=run.since_at, until=until, after=place(run.cursor), limit=PAGE
    )
    listed = await store.entries(
        tx,
        connection,
        attempts=[row.attempt_id for row in rows],
        refs=[row.provider_ref for row in rows if row.provider_ref is not None],
    )
    payments = {row.attempt_id: row for row in rows}
    missing = [
        payments[each.ours.attempt_id]
        for each in compare([theirs(row) for row in listed], [ours(row) for row in rows])
        if each.kind == "payment_missing" and each.ours is not None
    ]
    told = [
        Found(
            tenant_id=row.tenant_id,
            connection_id=row.connection_id,
            kind=differences.PAYMENT_MISSING,
            subject=ids.text("att", row.attempt_id),
            customer_id=row.customer_id,
            payment_id=row.payment_id,
            data={
                "attempt_id": ids.text("att", row.attempt_id),
                "provider_ref": row.provider_ref,
                "amount_minor": row.amount_minor,
                "currency": row.currency,
            },
        )
        for row in missing
    ]
    counts = {"compared": len(rows), "differences": await differences.open_all(tx, told)}
    await _next_page(tx, run, rows, counts, by="attempt_id", then="refunds")


async def take_refunds(tx: Tx, run: Row[Any]) -> None:
    """A page of refunds that are done here and must be in the provider's list."""
    connection: Key = (run.tenant_id, run.connection_id)
    await store.lock_connections(tx, [connection])
    if not await is_there(tx, run):
        return
    until = min(run.until_at, await tx.now(run.tenant_id) - MARGIN)
    rows = await store.refunds_succeeded(
        tx, connection, since=run.since_at, until=until, after=place(run.cursor), limit=PAGE
    )
    told = [
        Found(
            tenant_id=run.tenant_id,
            connection_id=run.connection_id,
            kind=differences.REFUND_MISSING,
            subject=ids.text("ref", row.id),
            customer_id=row.customer_id,
            payment_id=row.payment_id,
            data={
                "refund_id": ids.text("ref", row.id),
                "provider_ref": row.provider_ref,
                "amount_minor": row.amount_minor,
                "currency": row.currency,
            },
        )
        for row in rows
        if not row.is_listed
    ]
    counts = {"compared": len(rows), "differences": await differences.open_all(tx, told)}
    await _next_page(tx, run, rows, counts, by="id", then="closing")


async def _next_page(
    tx: Tx,
    run: Row[Any],
    rows: Sequence[Row[Any]],
    counts: Mapping[str, int],
    *,
    by: str,
    then: str,
) -> None:
    if len(rows) < PAGE:
        await move_on(tx, run, Step(then, None, counts))
        return
    cursor = f"{rows[-1].finished_at.isoformat()}|{rows[-1]._mapping[by]}"
    await move_on(tx, run, Step(run.phase, cursor, counts))
