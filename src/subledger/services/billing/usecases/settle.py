"""Money that arrived, and money that did not: what a payment's outcome does to invoices.

Each outcome is applied once: a receipt per attempt for successes, the reservation's state for
the rest. Money that arrives is always booked: what finds no open invoice goes to the customer's
unapplied balance and opens a work item.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event, Recorded
from subledger.core import ledger as books
from subledger.core.states import INVOICE, SUBSCRIPTION, can, step
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.eventlog.consumer import caused
from subledger.services.billing import facts, ledger
from subledger.services.billing.store import invoices, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import settled as settled_invoices
from subledger.services.billing.usecases import work_items
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
    item.
    """
    outcomes = _read(given)
    booked = await invoices.booked_attempts(tx, (each.attempt for each in outcomes))
    outcomes = [each for each in outcomes if each.attempt not in booked]
    if not outcomes:
        return
    scene = await _load(tx, memory, outcomes)
    settled = {}
    for each in outcomes:
        invoice = scene.invoices.get(each.invoice) if each.invoice else None
        payable = invoice is not None and can(INVOICE, invoice.status, "paid")
        open_minor = (
            invoice.total_minor - invoice.paid_minor if invoice is not None and payable else 0
        )
        captured = each.event.data["amount_minor"]
        settled[each.attempt] = open_minor if 0 < open_minor <= captured else 0

    await _book(tx, scene, outcomes, settled)
    applied = [each for each in outcomes if settled[each.attempt]]
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
    await _open_unapplied(tx, scene, outcomes, settled)


async def _book(
    tx: Tx, scene: _Scene, outcomes: Sequence[_Outcome], settled: dict[Key, int]
) -> None:
    postings, receipts = [], []
    for each in outcomes:
        data, tenant = each.event.data, each.account[0]
        connection, customer = data["connection_id"], data["customer_id"]
        applied = settled[each.attempt]
        excess = data["amount_minor"] - applied
        recovers = applied > 0 and scene.written_off(each.invoice)
        settle = books.recovered if recovers else books.paid
        for kind, transfers in (
            (
                "recovered" if recovers else "paid",
                settle(
                    connection=connection,
                    customer=customer,
                    amount_minor=applied,
                    currency=data["currency"],
                ),
            ),
            (
                "unapplied",
                books.unapplied_receipt(
                    connection=connection,
                    customer=customer,
                    amount_minor=excess,
                    currency=data["currency"],
                ),
            ),
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
            {
                "tenant_id": row.tenant_id,
                "invoice_id": row.invoice_id,
                "attempt_id": row.attempt_id,
                "state": "consumed" if row.attempt_id == each.attempt[1] else "released",
                "closed_at": scene.at[each.account],
            }
            for each in applied
            if each.invoice
            for row in scene.reservations.get(each.invoice, [])
            if row.state == "held"
        ],
    )


async def _open_unapplied(
    tx: Tx, scene: _Scene, outcomes: Sequence[_Outcome], settled: dict[Key, int]
) -> None:
    for each in outcomes:
        excess = each.event.data["amount_minor"] - settled[each.attempt]
        if excess == 0:
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
        held = [
            row
            for row in scene.reservations.get(each.invoice, [])
            if row.attempt_id == each.attempt[1] and row.state == "held"
        ]
        if not held:
            continue  # applied before
        released += [
            {
                "tenant_id": row.tenant_id,
                "invoice_id": row.invoice_id,
                "attempt_id": row.attempt_id,
                "state": "released",
                "closed_at": at,
            }
            for row in held
        ]
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
