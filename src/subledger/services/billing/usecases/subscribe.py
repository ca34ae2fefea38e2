"""Subscribe: a new subscription with its first invoice, open for collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core import invoicing
from subledger.core.calendar import Anchor, period
from subledger.core.errors import CoreError
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, problems
from subledger.services.billing.store import phases, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import bill
from subledger.services.billing.usecases.bill import Bill, Saved
from subledger.services.billing.usecases.issue import paid_at_once
from subledger.services.billing.usecases.timelines import timeline

INCOMPLETE_FOR = timedelta(hours=24)
"""How long (the tenant's clock) a first payment may take before the subscription expires."""


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """What a buyer asks for. ``currency`` None means the customer's own."""

    tenant_id: UUID
    subscription_id: UUID
    customer_id: UUID
    beneficiary_id: UUID
    plan_id: UUID
    currency: str | None
    quantity: Decimal
    discount_ids: tuple[UUID, ...]
    collection: str
    payment_method_id: UUID | None
    return_url: str | None
    proration: str
    cause: UUID | None


@dataclass(frozen=True, slots=True)
class _Loaded:
    accounts: Mapping[Key, Row[Any]]
    at: Mapping[Key, datetime]
    terms: Mapping[Key, PlanTerms]
    versions: Mapping[Key, UUID]
    discounts: Mapping[Key, Row[Any]]


async def subscribe(tx: Tx, memory: TermsMemory, requests: Sequence[SubscribeRequest]) -> None:
    """Create subscriptions, each with its first invoice; at most one per payer in a batch.

    Raises Problem: unknown_reference (customer, beneficiary, plan, discount), currency_mismatch,
    price_missing_for_currency, discount_not_applicable; CoreError for amounts out of range.
    """
    loaded = await _load(tx, memory, requests)
    rows = [_row(loaded, each) for each in requests]
    bills = [_bill(loaded, each, row) for each, row in zip(requests, rows, strict=True)]
    await _insert(tx, loaded, requests, rows)
    tx.emit(_created(each) for each in bills)
    saved = await bill.save(tx, bills)
    waiting = [
        (each.bill.subscription, each.bill.at + INCOMPLETE_FOR) for each in saved if each.collected
    ]
    await subscriptions.put_due(tx, subscriptions.EXPIRY, waiting)
    await _activate_at_once(tx, [each for each in saved if not each.collected])


async def _load(tx: Tx, memory: TermsMemory, requests: Sequence[SubscribeRequest]) -> _Loaded:
    keys = {(each.tenant_id, each.customer_id) for each in requests}
    keys |= {(each.tenant_id, each.beneficiary_id) for each in requests}
    accounts = await subscriptions.lock_accounts(tx, keys)
    for each in requests:
        for pointer, account in (
            ("/customer_id", each.customer_id),
            ("/beneficiary_id", each.beneficiary_id),
        ):
            row = accounts.get((each.tenant_id, account))
            if row is None or row.deleted_at is not None:
                raise Problem(
                    problems.UNKNOWN_REFERENCE, pointer=pointer, detail="There is no such customer."
                )
    at = await subscriptions.moments(tx, accounts, accounts)
    versions = await subscriptions.latest_versions(
        tx, {(each.tenant_id, each.plan_id) for each in requests}
    )
    for each in requests:
        if (each.tenant_id, each.plan_id) not in versions:
            raise Problem(
                problems.UNKNOWN_REFERENCE, pointer="/plan_id", detail="There is no such plan."
            )
    terms = await memory.load(tx, {(tenant, each) for (tenant, _), each in versions.items()})
    wanted = {(each.tenant_id, one) for each in requests for one in each.discount_ids}
    found = await subscriptions.discounts(tx, wanted) if wanted else {}
    return _Loaded(accounts, at, terms, versions, found)


def _row(loaded: _Loaded, each: SubscribeRequest) -> dict[str, Any]:
    account = loaded.accounts[each.tenant_id, each.customer_id]
    version = loaded.versions[each.tenant_id, each.plan_id]
    currency = each.currency or account.currency
    if currency != account.currency:
        raise Problem(
            problems.CURRENCY_MISMATCH,
            pointer="/currency",
            detail=f"The customer is billed in {account.currency}, not {currency}.",
        )
    terms = loaded.terms[each.tenant_id, version]
    if not terms.prices_in(currency):
        raise Problem(
            problems.PRICE_MISSING,
            pointer="/plan_id",
            detail=f"The plan has no price in {currency}.",
        )
    at = loaded.at[each.tenant_id, each.customer_id]
    first = period(
        Anchor(at, account.timezone), loaded.terms[each.tenant_id, version].interval(currency), 0
    )
    return {
        "tenant_id": each.tenant_id,
        "id": each.subscription_id,
        "payer_id": each.customer_id,
        "beneficiary_id": each.beneficiary_id,
        "number": account.next_subscription_number,
        "plan_version_id": version,
        "currency": currency,
        "quantity": each.quantity,
        "status": "incomplete",
        "anchor_at": at,
        "timezone": account.timezone,
        "started_at": at,
        "current_period_start_at": first.start_at,
        "current_period_end_at": first.end_at,
        "billed_through_at": first.end_at,
        "period_number": 0,
        "last_run_number": 0,
        "collection": each.collection,
        "payment_method_id": each.payment_method_id,
        "return_url": each.return_url,
        "proration": each.proration,
        "created_at": at,
    }


def _bill(loaded: _Loaded, each: SubscribeRequest, row: dict[str, Any]) -> Bill:
    terms = loaded.terms[each.tenant_id, row["plan_version_id"]]
    attached = [
        _Attachment(_discount(loaded, each, n), n, each.subscription_id)
        for n in range(len(each.discount_ids))
    ]
    try:
        draft = invoicing.draft(
            timeline(row, terms, attached),  # type: ignore[arg-type]  # rows alike
            first_period=0,
            horizon_at=row["anchor_at"],
        )
    except CoreError as refused:
        raise Problem(
            "invalid_request", detail=refused.detail, pointer="/quantity", fix=refused.fix
        ) from refused
    return Bill(
        subscription=row,
        terms=terms,
        draft=draft,
        attached=attached,  # type: ignore[arg-type]  # rows alike
        reason="subscription_create",
        at=row["anchor_at"],
        cause=each.cause,
    )


class _Attachment:
    """A discount that is being attached, with the columns of one that is attached."""

    def __init__(self, row: Row[Any], n: int, subscription_id: UUID) -> None:
        self._row = row
        self.n = n + 1
        self.subscription_id = subscription_id
        self.used_periods = 0
        self.taken_minor = 0
        self.first_at = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, name)


def _discount(loaded: _Loaded, each: SubscribeRequest, n: int) -> Row[Any]:
    pointer = f"/discount_ids/{n}"
    wanted = each.discount_ids[n]
    row = loaded.discounts.get((each.tenant_id, wanted))
    if row is None:
        raise Problem(
            problems.UNKNOWN_REFERENCE, pointer=pointer, detail="There is no such discount."
        )
    currency = each.currency or loaded.accounts[each.tenant_id, each.customer_id].currency
    if row.currency is not None and row.currency != currency:
        raise Problem(
            problems.DISCOUNT_NOT_APPLICABLE,
            pointer=pointer,
            detail=f"The discount is in {row.currency}, the subscription in {currency}.",
        )
    if wanted in each.discount_ids[:n]:
        raise Problem(
            problems.DISCOUNT_NOT_APPLICABLE, pointer=pointer, detail="The discount is named twice."
        )
    return row


async def _insert(
    tx: Tx, loaded: _Loaded, requests: Sequence[SubscribeRequest], rows: list[dict[str, Any]]
) -> None:
    await subscriptions.insert_subscriptions(tx, [row | {"last_run_number": 1} for row in rows])
    await subscriptions.number_subscriptions(
        tx,
        [
            {
                "tenant_id": row["tenant_id"],
                "id": row["payer_id"],
                "next_subscription_number": row["number"] + 1,
            }
            for row in rows
        ],
    )
    await phases.insert_phases(
        tx,
        [
            {
                "tenant_id": row["tenant_id"],
                "subscription_id": row["id"],
                "from_at": row["started_at"],
                "plan_version_id": row["plan_version_id"],
                "quantity": row["quantity"],
                "recorded_at": row["started_at"],
            }
            for row in rows
        ],
    )
    await subscriptions.append_changes(
        tx,
        [
            {
                "tenant_id": row["tenant_id"],
                "subscription_id": row["id"],
                "kind": "created",
                "effective_at": row["started_at"],
                "data": "{}",
                "recorded_at": row["started_at"],
            }
            for row in rows
        ],
    )
    await subscriptions.attach_discounts(
        tx,
        [
            {
                "tenant_id": each.tenant_id,
                "subscription_id": each.subscription_id,
                "n": n,
                "discount_id": discount,
                "used_periods": 0,
            }
            for each in requests
            for n, discount in enumerate(each.discount_ids, start=1)
        ],
    )


def _created(each: Bill) -> Event:
    row = each.subscription
    return Event(
        type=events.SUBSCRIPTION_CREATED,
        tenant_id=row["tenant_id"],
        subject=row["payer_id"],
        data=facts.subscription(row, each.terms),
        occurred_at=each.at,
        cause=each.cause,
    )


async def _activate_at_once(tx: Tx, saved: Sequence[Saved]) -> None:
    """A first invoice of zero needs no payment, one on terms is paid later."""
    rows = [each.bill.subscription for each in saved]
    await subscriptions.set_statuses(
        tx, [{"tenant_id": r["tenant_id"], "id": r["id"], "status": "active"} for r in rows]
    )
    await subscriptions.put_renewals(tx, rows)
    for each in saved:
        row = each.bill.subscription
        activated = Event(
            type=events.SUBSCRIPTION_ACTIVATED,
            tenant_id=row["tenant_id"],
            subject=row["payer_id"],
            data=facts.subscription(row, each.bill.terms, status="active")
            | {"invoice_id": ids.text("inv", each.invoice["id"])},
            occurred_at=each.bill.at,
            cause=each.bill.cause,
        )
        tx.emit([paid_at_once(each.issue), activated] if each.free else [activated])
