"""What became of refunds: done, failed, or made at the provider by somebody else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts.events import Recorded
from subledger.core import ledger as books
from subledger.core.credit_notes import Reason
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.billing import ledger
from subledger.services.billing.store import postings, subscriptions
from subledger.services.billing.store import refunds as store
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import refund_endings, work_items
from subledger.services.billing.usecases.refunds import Parts, book, held_of, issue_note, transfers

FAILED, OUTSIDE = "refund_failed", "refund_outside"
"""Kinds of work items."""


async def succeeded(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Refunds that are done. One that billing never granted was made at the provider: it is backed
    as far as anything can back it and a person has to look; the rest is owed by the customer's
    unapplied balance. So is one that had failed before."""
    for event in given:
        key = (event.tenant_id, ids.parse("ref", event.data["refund_id"]))
        row = (await store.refunds(tx, [key])).get(key)
        if row is None:
            await _book_outside(tx, memory, event, key[1])
        elif row.state != "succeeded":
            if row.state == "failed":
                await _take_again(tx, row, event)
            await store.set_states(
                tx, [{"tenant_id": row.tenant_id, "id": row.id, "state": "succeeded"}]
            )


async def failed(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Refunds that came to nothing: the money is the customer's again, and a person has to look."""
    for event in given:
        key = (event.tenant_id, ids.parse("ref", event.data["refund_id"]))
        row = (await store.refunds(tx, [key])).get(key)
        if row is None or row.state == "failed":
            continue
        await store.set_states(tx, [{"tenant_id": row.tenant_id, "id": row.id, "state": "failed"}])
        reversal = books.reversed_transfers(transfers(row._mapping))
        await _post_and_ask(
            tx, row._mapping, event, "refund_failed", reversal, FAILED, code=event.data["code"]
        )


async def _book_outside(tx: Tx, memory: TermsMemory, event: Recorded, refund_id: UUID) -> None:
    data = event.data
    held = await held_of(tx, (event.tenant_id, ids.parse("att", data["attempt_id"])))
    assert held is not None, "a payment's success comes before its refunds"
    unapplied = min(data["amount_minor"], held.unapplied_minor)
    left = data["amount_minor"] - unapplied
    noted = min(left, held.note_minor)
    credited = min(left - noted, held.credit_minor)
    missing = left - noted - credited
    parts = Parts(unapplied + missing, credited, noted)
    note_id = await issue_note(
        tx, memory, held, parts, to="method", reason=Reason.OTHER.value, cause=event.id
    )
    await book(
        tx,
        held,
        parts,
        refund_id=refund_id,
        connection_id=ids.parse("conn", data["connection_id"]),
        to="method",
        source="invoice",
        state="succeeded",
        credit_note_id=note_id,
    )
    key = (event.tenant_id, refund_id)
    row = (await store.refunds(tx, [key]))[key]
    await _post_and_ask(tx, row._mapping, event, "refunded", (), OUTSIDE, unbacked_minor=missing)
    captured = held.receipt.applied_minor + held.receipt.unapplied_minor
    await refund_endings.follow_outside(
        tx,
        memory,
        event.tenant_id,
        held.receipt.invoice_id,
        is_whole=held.refunded_minor + data["amount_minor"] >= captured,
        cause=event.id,
    )


async def _take_again(tx: Tx, row: Row[Any], event: Recorded) -> None:
    """The money of a refund that had failed left after all: it is taken from what the customer has
    by now."""
    account = (row.tenant_id, row.account_id)
    has = (await postings.credits(tx, [account])).get((*account, row.currency), 0)
    backed = min(has, row.credit_minor + row.note_minor)
    missing = row.credit_minor + row.note_minor - backed
    taken = row._asdict() | {
        "unapplied_minor": row.unapplied_minor + missing,
        "credit_minor": backed,
        "note_minor": 0,
    }
    kind = "refunded" if row.source == "invoice" else "credit_refunded"
    await _post_and_ask(tx, taken, event, kind, transfers(taken), OUTSIDE, unbacked_minor=missing)


async def _post_and_ask(
    tx: Tx,
    row: Any,
    event: Recorded,
    kind: str,
    moved: Sequence[books.Transfer],
    work_item: str,
    **more: Any,
) -> None:
    """Post what an event about a refund moves, and open its work item."""
    account = (row["tenant_id"], row["account_id"])
    accounts = await subscriptions.lock_accounts(tx, [account])
    at = (await subscriptions.moments(tx, accounts, accounts))[account]
    await ledger.post(
        tx,
        [
            ledger.Posting(
                tenant_id=row["tenant_id"],
                account_id=row["account_id"],
                invoice_id=row["invoice_id"],
                kind=kind,
                occurred_at=at,
                transfers=moved,
            )
        ],
    )
    await work_items.open_item(
        tx,
        tenant_id=row["tenant_id"],
        account_id=row["account_id"],
        kind=work_item,
        data={
            "refund_id": ids.text("ref", row["id"]),
            "payment_id": ids.text("pay", row["payment_id"]),
            "amount_minor": row["amount_minor"],
            "currency": row["currency"],
            **more,
        },
        at=at,
        cause=event.id,
    )
