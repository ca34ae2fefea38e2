"""Disputes: what they do to the books, to access, and who has to look.

The invoice stays paid and the customer's account as it is: the bank has taken our money, not the
customer's debt back. The tenant's policy says what becomes of the subscriptions that the payment
paid for: ``keep`` nothing; ``suspend`` pauses them until the dispute is won, and cancels them if it
is lost; ``cancel`` ends them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Recorded
from subledger.core import ledger as books
from subledger.core.errors import CoreError
from subledger.core.states import SUBSCRIPTION, can
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import ledger
from subledger.services.billing.store import disputes as store
from subledger.services.billing.store import invoices, pauses, reads, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import pause, resume, work_items
from subledger.services.billing.usecases.end import Ending, end
from subledger.services.billing.usecases.pause import PauseRequest

OPENED, REFUSED = "dispute_opened", "dispute_step_refused"
"""Kinds of work items."""
REASON: Final = "dispute"
"""Why a subscription is paused or ends, as its events say it."""
_ENDS = frozenset({"pending", "trialing", "active", "past_due", "paused"})
"""One whose first payment is open ends by itself."""
_STEPS: Final = {
    (None, "opened"): ("opened",),
    ("opened", "won"): ("won",),
    ("opened", "lost"): ("lost",),
    # The bank decided again: its first decision is taken back.
    ("won", "lost"): ("opened", "lost"),
    ("lost", "won"): ("not_lost", "won"),
}
_Do = Callable[[Row[Any]], Coroutine[Any, Any, object]]


async def set_policy(tx: Tx, *, tenant_id: UUID, on_dispute: str) -> None:
    """Replace the tenant's policy; it holds for disputes opened from now on."""
    row = {"tenant_id": tenant_id, "on_dispute": on_dispute, "updated_at": await tx.now(tenant_id)}
    await store.put_policy(tx, row)


async def follow(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Book what was told of disputes, each step once, and let access follow the policy."""
    for event in given:
        key = (event.tenant_id, ids.parse("dsp", event.data["dispute_id"]))
        row = (await store.disputes(tx, [key])).get(key)
        state = event.data["status"]
        before = None if row is None else row.state
        if row is not None and event.type == events.DISPUTE_OPENED:
            continue  # it was booked, and may have been decided since
        accounts = await subscriptions.lock_accounts(tx, [(event.tenant_id, event.subject)])
        at = (await subscriptions.moments(tx, accounts, accounts))[event.tenant_id, event.subject]
        if row is None:
            row = await _open(tx, event, key, at)
        await _post(tx, row, event, before, at)
        saved = row._asdict() | {"fee_minor": event.data["fee_minor"]}
        if state != before and (before, state) in _STEPS:
            saved |= {"state": state, "closed_at": None if state == "opened" else at}
            saved["suspended"] = await _access(tx, memory, row, state, at, event.id)
            if state != "opened":
                await _no_more_to_do(tx, row, state, at, event.id)
        await store.save(tx, saved)


async def _open(tx: Tx, event: Recorded, key: Key, at: datetime) -> Row[Any]:
    data = event.data
    invoice = data["invoice_id"]
    named = ("dispute_id", "payment_id", "invoice_id", "amount_minor", "currency", "reason")
    item = await work_items.open_item(
        tx,
        tenant_id=event.tenant_id,
        account_id=event.subject,
        kind=OPENED,
        data={name: data[name] for name in (*named, "evidence_due_at")},
        at=at,
        cause=event.id,
    )
    await store.insert(
        tx,
        {
            "tenant_id": event.tenant_id,
            "id": key[1],
            "account_id": event.subject,
            "payment_id": ids.parse("pay", data["payment_id"]),
            "attempt_id": ids.parse("att", data["attempt_id"]),
            "connection_id": ids.parse("conn", data["connection_id"]),
            "invoice_id": None if invoice is None else ids.parse("inv", invoice),
            "state": "opened",
            "amount_minor": data["amount_minor"],
            "fee_minor": 0,
            "currency": data["currency"],
            "on_dispute": await store.policy(tx, event.tenant_id),
            "suspended": "[]",
            "work_item_id": item,
            "opened_at": at,
            "closed_at": None,
        },
    )
    return (await store.disputes(tx, [key]))[key]


# --- the books -----------------------------------------------------------------------------------


async def _post(tx: Tx, row: Row[Any], event: Recorded, before: str | None, at: datetime) -> None:
    connection = ids.text("conn", row.connection_id)
    amount, currency = row.amount_minor, row.currency
    taken = books.disputed(connection=connection, amount_minor=amount, currency=currency)
    lost = books.dispute_lost(amount_minor=amount, currency=currency)
    moves = {
        "opened": ("dispute_opened", taken),
        "won": ("dispute_won", books.reversed_transfers(taken)),
        "lost": ("dispute_lost", lost),
        "not_lost": ("dispute_lost", books.reversed_transfers(lost)),
    }
    fee = books.provider_fee(
        connection=connection,
        amount_minor=event.data["fee_minor"] - row.fee_minor,
        currency=currency,
    )
    steps = [moves[each] for each in _STEPS.get((before, event.data["status"]), ())]
    await ledger.post(
        tx,
        [
            ledger.Posting(
                tenant_id=row.tenant_id,
                account_id=row.account_id,
                invoice_id=row.invoice_id,
                kind=kind,
                occurred_at=at,
                transfers=transfers,
            )
            for kind, transfers in (*steps, ("dispute_fee", fee))
        ],
    )


async def _no_more_to_do(tx: Tx, row: Row[Any], outcome: str, at: datetime, cause: UUID) -> None:
    """The work item of a decided dispute closes by itself."""
    key = (row.tenant_id, row.work_item_id)
    item = (await reads.work_items(tx, [key]))[key]
    if item.closed_at is None:
        await work_items.close_locked(
            tx, item, at=at, closed_by="subledger", reason=f"The dispute is {outcome}.", cause=cause
        )


# --- access --------------------------------------------------------------------------------------


async def _access(
    tx: Tx, memory: TermsMemory, row: Row[Any], state: str, at: datetime, cause: UUID
) -> str:
    """Let the subscriptions that the payment paid for follow; the pauses that the dispute holds."""
    held: list[dict[str, Any]] = msgspec.json.decode(row.suspended)
    if row.on_dispute == "keep" or row.invoice_id is None:
        return "[]"
    key = (row.tenant_id, row.invoice_id)
    named = (await invoices.subscriptions_of(tx, [key])).get(key, [])
    rows = await subscriptions.lock_subscriptions(tx, ((row.tenant_id, each) for each in named))
    ends = state == "lost" or row.on_dispute == "cancel"
    if state == "won":
        await _give_back(tx, memory, row, held, rows, at, cause)
        held = []
    elif ends:
        live = [each for each in rows if each.status in _ENDS]
        await end(tx, memory, [Ending(each, at, REASON, cause) for each in live])
        held = []
    else:
        held = await _suspend(tx, memory, row, rows, at, cause)
    return msgspec.json.encode(held).decode()


async def _suspend(
    tx: Tx,
    memory: TermsMemory,
    row: Row[Any],
    rows: Sequence[Row[Any]],
    at: datetime,
    cause: UUID,
) -> list[dict[str, Any]]:
    """Pause them; one that another open dispute has paused already is held by both."""

    async def pause_one(each: Row[Any]) -> None:
        request = PauseRequest(
            tenant_id=each.tenant_id,
            subscription_id=each.id,
            at="now",
            credit="none",
            resume_at=None,
            cause=cause,
            reason=REASON,
        )
        await pause.pause_row(tx, memory, request, each, at)

    others = await _held_by_others(tx, row)
    held = []
    for each in rows:
        key = (each.tenant_id, each.id)
        if can(SUBSCRIPTION, each.status, "paused"):
            await _try(tx, row, each, at, cause, pause_one)
        found = (await pauses.open_pauses(tx, [key])).get(key)
        if found is None or found.state != "running":
            continue
        ours = can(SUBSCRIPTION, each.status, "paused")
        if ours or (str(each.id), found.n) in others:
            held.append({"subscription_id": str(each.id), "n": found.n})
    return held


async def _give_back(
    tx: Tx,
    memory: TermsMemory,
    row: Row[Any],
    held: Sequence[dict[str, Any]],
    rows: Sequence[Row[Any]],
    at: datetime,
    cause: UUID,
) -> None:
    """The pauses that the dispute began are over, unless another open dispute holds them. One that
    somebody has ended already, or began anew, is left alone."""
    mine = {(each["subscription_id"], each["n"]) for each in held}
    mine -= await _held_by_others(tx, row)
    running = await pauses.open_pauses(tx, ((each.tenant_id, each.id) for each in rows))
    for each in rows:
        waiting = running.get((each.tenant_id, each.id))
        if waiting is not None and (str(each.id), waiting.n) in mine:
            await resume.go_on(tx, memory, each, waiting, at, cause)


async def _held_by_others(tx: Tx, row: Row[Any]) -> set[tuple[str, int]]:
    """Pauses that other open disputes of the account hold."""
    return {
        (each["subscription_id"], each["n"])
        for other in await store.open_of(tx, (row.tenant_id, row.account_id))
        if other.id != row.id
        for each in msgspec.json.decode(other.suspended)
    }


async def _try(
    tx: Tx, row: Row[Any], subscription: Row[Any], at: datetime, cause: UUID, do: _Do
) -> None:
    """What is not possible now is left to a person; the subscription stays as it is."""
    try:
        await do(subscription)
    except (Problem, CoreError) as refused:
        await work_items.open_item(
            tx,
            tenant_id=row.tenant_id,
            account_id=row.account_id,
            kind=REFUSED,
            data={
                "dispute_id": ids.text("dsp", row.id),
                "subscription_id": ids.text("sub", subscription.id),
                "reason": f"{refused.code}: {refused.detail}",
            },
            at=at,
            cause=cause,
        )
