"""Money that arrived, and money that did not: what a payment's outcome does to invoices.

Each outcome is applied once: a receipt per attempt for successes, the reservation's state for
the rest. Money that arrives is always booked: what finds no open invoice goes to the customer's
unapplied balance and opens a work item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event, Recorded
from subledger.core import ledger as books
from subledger.core import reservations
from subledger.core.reservations import Claim
from subledger.core.states import INVOICE, SUBSCRIPTION, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.eventlog.consumer import caused
from subledger.services.billing import facts, ledger
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import resume, work_items
from subledger.services.billing.usecases import settled as settled_invoices
from subledger.services.billing.usecases.settled import Settled


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A payment event with its ids read."""

    event: Recorded
    account: Key
    invoice: Key | None
    attempt: Key
    payment_id: UUID


def _read(given: Iterable[Recorded]) -> list[_Outcome]:
    outcomes = []
    for event in given:
        tenant, data = event.tenant_id, event.data
        invoice = data["invoice_id"]
        outcomes.append(
            _Outcome(
                event=event,
                account=(tenant, ids.parse("cus", data["customer_id"])),
                invoice=None if invoice is None else (tenant, ids.parse("inv", invoice)),
                attempt=(tenant, ids.parse("att", data["attempt_id"])),
                payment_id=ids.parse("pay", data["payment_id"]),
            )
        )
    return outcomes


@dataclass(slots=True)
class _Scene:
    """Everything locked and loaded that a batch of outcomes speaks of."""

    at: dict[Key, datetime]
    invoices: dict[Key, Row[Any]]
    subscriptions_of: dict[Key, list[UUID]]
    subscriptions: dict[Key, Row[Any]]
    reservations: dict[Key, list[Row[Any]]]
    terms: dict[Key, PlanTerms]

    def subscribed(self, invoice: Key) -> list[Row[Any]]:
        """The subscriptions that an invoice bills, whole rows."""
        tenant = invoice[0]
        return [self.subscriptions[tenant, each] for each in self.subscriptions_of.get(invoice, [])]

    def claims(self, invoice: Key) -> list[Claim]:
        """Who reserved the invoice, and what became of it."""
        return [Claim(row.attempt_id, row.state) for row in self.reservations.get(invoice, [])]

    def written_off(self, invoice: Key | None) -> bool:
        """True if the invoice was given up before this money came."""
        return invoice in self.invoices and self.invoices[invoice].status == "uncollectible"

    def terms_of(self, row: Row[Any]) -> PlanTerms:
        return self.terms[row.tenant_id, row.plan_version_id]


async def _load(tx: Tx, memory: TermsMemory, outcomes: Sequence[_Outcome]) -> _Scene:
    accounts = await subscriptions.accounts(tx, (each.account for each in outcomes))
    named = {each.invoice for each in outcomes if each.invoice is not None}
    subscribed = await invoices.subscriptions_of(tx, named)
    rows = await subscriptions.lock_subscriptions(
        tx, ((tenant, each) for (tenant, _), found in subscribed.items() for each in found)
    )
    locked = await invoices.lock_invoices(tx, named)
    return _Scene(
        at=await subscriptions.moments(tx, accounts, accounts),
        invoices=locked,
        subscriptions_of=subscribed,
        subscriptions={(row.tenant_id, row.id): row for row in rows},
        reservations=await invoices.reservations(tx, named),
        terms=dict(await memory.load(tx, {(r.tenant_id, r.plan_version_id) for r in rows})),
    )


async def paid(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Book captured money: the invoice is paid, its subscriptions are active or renewed.

    An attempt whose receipt exists is skipped. An invoice that was written off is recovered: the
    writing off is reversed, then it is paid; its subscriptions stay as they are. Money for a paid
    or void invoice, or more than is owed, goes to the customer's unapplied balance and opens a work
    item. What pays only a part is told as such, and the invoice stays open.
    """
    outcomes = _read(given)
    booked = await invoices.booked_attempts(tx, (each.attempt for each in outcomes))
    outcomes = [each for each in outcomes if each.attempt not in booked]
    if not outcomes:
        return
    scene = await _load(tx, memory, outcomes)
    settled: dict[Key, int] = {}
    parts: dict[Key, int] = {}
    left: dict[Key | None, int] = {None: 0}
    for each in outcomes:
        invoice = scene.invoices.get(each.invoice) if each.invoice else None
        status = None if invoice is None else invoice.status
        open_minor = left.get(
            each.invoice, 0 if invoice is None else invoice.total_minor - invoice.paid_minor
        )
        captured = each.event.data["amount_minor"]
        settled[each.attempt] = reservations.applied_minor(status, open_minor, captured)
        if 0 < captured < open_minor and _is_part(each, invoice):
            settled[each.attempt] = captured
            parts[each.attempt] = open_minor - captured
        left[each.invoice] = open_minor - settled[each.attempt]

    await _book(tx, scene, outcomes, settled, parts)
    await _lessen(tx, scene, [each for each in outcomes if each.attempt in parts], left)
    _tell_parts(tx, scene, outcomes, parts)
    applied = [each for each in outcomes if settled[each.attempt] and each.attempt not in parts]
    await _release(tx, scene, [each for each in outcomes if each not in applied])
    await _close(tx, scene, applied)
    await settled_invoices.follow(
        tx,
        scene.terms,
        [
            Settled(
                invoice=scene.invoices[each.invoice],
                subscriptions=scene.subscribed(each.invoice),
                at=scene.at[each.account],
                cause=each.event.id,
                payment_id=each.event.data["payment_id"],
                changed={},
                recovered=scene.written_off(each.invoice),
            )
            for each in applied
            if each.invoice is not None
        ],
    )
    for each in applied:
        if each.invoice is not None:
            billed = scene.subscribed(each.invoice)
            await resume.when_paid(tx, memory, billed, scene.at[each.account], each.event.id)
    await _open_unapplied(tx, scene, outcomes, settled)


def _is_part(each: _Outcome, invoice: Row[Any] | None) -> bool:
    """Whether money that is less than what is open pays its part: only what arrived off-line or was
    captured in part by our own wish, since else a provider was asked for all of it. What was given
    up is not paid in parts."""
    return _comes_in_parts(each) and invoice is not None and invoice.status == "open"


def _comes_in_parts(each: _Outcome) -> bool:
    data = each.event.data
    return data["connection_id"] is None or data.get("part", False)


async def _lessen(
    tx: Tx, scene: _Scene, parts: Sequence[_Outcome], left: Mapping[Key | None, int]
) -> None:
    """Invoices that are paid in part stay open for the rest (minor units, in ``left``)."""
    rows = [scene.invoices[key] for key in sorted({each.invoice for each in parts if each.invoice})]
    await invoices.close_invoices(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "id": row.id,
                "status": row.status,
                "paid_minor": row.total_minor - left[row.tenant_id, row.id],
                "closed_at": None,
            }
            for row in rows
        ],
    )


def _tell_parts(
    tx: Tx, scene: _Scene, outcomes: Sequence[_Outcome], parts: Mapping[Key, int]
) -> None:
    """Each part that an invoice was paid, with what is open after it (minor units)."""
    tx.emit(
        caused(
            each.event,
            type=events.INVOICE_PARTIALLY_PAID,
            data=facts.part_paid(
                scene.invoices[each.invoice],
                [row.id for row in scene.subscribed(each.invoice)],
                amount_minor=each.event.data["amount_minor"],
                open_minor=parts[each.attempt],
                payment_id=each.event.data["payment_id"],
            ),
            occurred_at=scene.at[each.account],
        )
        for each in outcomes
        if each.invoice is not None and each.attempt in parts
    )


async def _release(tx: Tx, scene: _Scene, outcomes: Sequence[_Outcome]) -> None:
    """Money off-line or captured in part that did not close its invoice holds it no longer."""
    await invoices.close_reservations(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "invoice_id": row.invoice_id,
                "attempt_id": row.attempt_id,
                "state": "released",
                "closed_at": scene.at[each.account],
            }
            for each in outcomes
            if each.invoice and _comes_in_parts(each)
            for row in scene.reservations.get(each.invoice, [])
            if row.state == "held" and row.attempt_id == each.attempt[1]
        ],
    )


async def _book(
    tx: Tx,
    scene: _Scene,
    outcomes: Sequence[_Outcome],
    settled: dict[Key, int],
    parts: Mapping[Key, int],
) -> None:
    postings, receipts = [], []
    for each in outcomes:
        data, tenant = each.event.data, each.account[0]
        connection, customer = data["connection_id"], data["customer_id"]
        applied = settled[each.attempt]
        excess = data["amount_minor"] - applied
        recovers = applied > 0 and scene.written_off(each.invoice)
        settle = books.recovered if recovers else books.paid
        # A part is applied by a posting of its own, so that a void gives the customer the money
        # back as unapplied.
        part = applied if each.attempt in parts else 0
        whole = {"customer": customer, "currency": data["currency"]}
        for kind, transfers in (
            (
                "recovered" if recovers else "paid",
                settle(connection=connection, amount_minor=applied - part, **whole),
            ),
            (
                "unapplied",
                books.unapplied_receipt(connection=connection, amount_minor=excess + part, **whole),
            ),
            ("applied", books.unapplied_applied(amount_minor=part, **whole)),
        ):
            postings.append(
                ledger.Posting(
                    tenant_id=tenant,
                    account_id=each.account[1],
                    invoice_id=each.invoice[1] if each.invoice else None,
                    kind=kind,
                    occurred_at=scene.at[each.account],
                    transfers=transfers,
                )
            )
        receipts.append(
            {
                "tenant_id": tenant,
                "payment_id": each.payment_id,
                "attempt_id": each.attempt[1],
                "account_id": each.account[1],
                "invoice_id": each.invoice[1] if each.invoice else None,
                "applied_minor": applied,
                "unapplied_minor": excess,
                "currency": data["currency"],
                "received_at": scene.at[each.account],
                "reversed_at": None,
            }
        )
    await ledger.post(tx, postings)
    await invoices.insert_receipts(tx, receipts)


async def _close(tx: Tx, scene: _Scene, applied: Sequence[_Outcome]) -> None:
    await invoices.close_invoices(
        tx,
        [
            {
                "tenant_id": each.account[0],
                "id": each.invoice[1],
                "status": step(INVOICE, scene.invoices[each.invoice].status, "paid"),
                "paid_minor": scene.invoices[each.invoice].total_minor,
                "closed_at": scene.at[each.account],
            }
            for each in applied
            if each.invoice
        ],
    )
    await invoices.close_reservations(
        tx,
        [
            _closed(each.invoice, claim, scene.at[each.account])
            for each in applied
            if each.invoice
            for claim in reservations.when_paid(scene.claims(each.invoice), each.attempt[1])
        ],
    )


def _closed(invoice: Key, claim: Claim, at: datetime) -> dict[str, Any]:
    """A reservation's row once it is not held any more."""
    return {
        "tenant_id": invoice[0],
        "invoice_id": invoice[1],
        "attempt_id": claim.attempt,
        "state": claim.state,
        "closed_at": at,
    }


async def _open_unapplied(
    tx: Tx, scene: _Scene, outcomes: Sequence[_Outcome], settled: dict[Key, int]
) -> None:
    for each in outcomes:
        data = each.event.data
        excess = data["amount_minor"] - settled[each.attempt]
        # What was paid into the account through a provider is where it was meant to be.
        if excess == 0 or (data["connection_id"] is not None and data.get("into_account")):
            continue
        await work_items.open_item(
            tx,
            tenant_id=each.account[0],
            account_id=each.account[1],
            kind="payment_unapplied",
            data={
                "payment_id": each.event.data["payment_id"],
                "invoice_id": each.event.data["invoice_id"],
                "amount_minor": excess,
                "currency": each.event.data["currency"],
            },
            at=scene.at[each.account],
            cause=each.event.id,
        )


async def not_paid(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """A definite failure or cancellation: the reservation is released, and a subscription whose
    renewal was refused is past due (its grace begins with the first refusal)."""
    outcomes = [
        each for each in _read(given) if each.invoice and each.event.data.get("final", True)
    ]
    if not outcomes:
        return
    scene = await _load(tx, memory, outcomes)
    released: list[dict[str, Any]] = []
    statuses: list[dict[str, Any]] = []
    facts_told: list[Event] = []
    for each in outcomes:
        assert each.invoice is not None
        at = scene.at[each.account]
        let_go = reservations.when_not_paid(scene.claims(each.invoice), each.attempt[1])
        if not let_go:
            continue  # applied before
        released += [_closed(each.invoice, claim, at) for claim in let_go]
        if each.event.type != events.PAYMENT_FAILED:
            continue
        invoice = scene.invoices[each.invoice]
        for row in scene.subscribed(each.invoice):
            if row.status != "active" or invoice.status != "open":
                continue
            status = step(SUBSCRIPTION, row.status, "payment_failed")
            statuses.append({"tenant_id": row.tenant_id, "id": row.id, "status": status})
            terms = scene.terms_of(row)
            data = facts.subscription(row, terms, status=status) | {
                "invoice_id": ids.text("inv", invoice.id),
                "grace_until_at": facts.moment(at + timedelta(seconds=terms.grace_s)),
            }
            facts_told.append(
                caused(each.event, type=events.SUBSCRIPTION_PAST_DUE, data=data, occurred_at=at)
            )
    await subscriptions.set_statuses(tx, statuses)
    await invoices.close_reservations(tx, released)
    tx.emit(facts_told)
