"""Subscribe: a new subscription with its first invoice, open for collection.

One that begins later, or with a trial, has no invoice yet: its first renewal begins it
(``begin.py``). A preview is the same computation without the save.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core import invoicing
from subledger.core.calendar import Period
from subledger.core.proration import ByTime
from subledger.core.timeline import Draft
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, problems
from subledger.services.billing.store import discounts, methods, phases, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import attachments, begin, bill, guard
from subledger.services.billing.usecases.attachments import Extra, Purchase
from subledger.services.billing.usecases.begin import Waiting
from subledger.services.billing.usecases.bill import Bill, Saved
from subledger.services.billing.usecases.conditions import Conditions, Given, conditions
from subledger.services.billing.usecases.discounts import check_fits
from subledger.services.billing.usecases.opening import (
    MOST_PERIODS,
    Opening,
    Start,
    opening,
    refused,
)
from subledger.services.billing.usecases.timelines import timeline

INCOMPLETE_FOR = timedelta(hours=24)
"""How long (the tenant's clock) a first payment may take before the subscription expires."""


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """What a buyer asks for. ``currency`` None means the customer's own.

    ``charged_method_id`` is the saved method that would be charged now, if it was asked for
    (``needs_method``) and there is one.
    """

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
    proration: ByTime
    start: Start
    charged_method_id: UUID | None
    cause: UUID | None
    promotion_codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Loaded:
    accounts: Mapping[Key, Row[Any]]
    at: Mapping[Key, datetime]
    terms: Mapping[Key, PlanTerms]
    versions: Mapping[Key, UUID]
    discounts: Mapping[Key, Row[Any]]
    conditions: Conditions


@dataclass(frozen=True, slots=True)
class Prepared:
    """A subscription as it would be made, nothing saved."""

    request: SubscribeRequest
    row: dict[str, Any]
    opening: Opening
    terms: PlanTerms
    draft: Draft
    """Its first invoice: of now, or of its start day or its trial's end."""
    attached: list[_Attachment]
    at: datetime

    @property
    def bill(self) -> Bill:
        """The first invoice, for all periods up to now."""
        period = self.draft.period
        assert period is not None, "the first period has begun"
        return Bill(
            subscription=self.row,
            terms=self.terms,
            draft=replace(self.draft, period=Period(self.opening.bills_from_at, period.end_at)),
            attached=self.attached,  # type: ignore[arg-type]  # rows alike
            reason="subscription_create",
            at=self.at,
            cause=self.request.cause,
        )


async def needs_method(
    tx: Tx, memory: TermsMemory, *, tenant_id: UUID, plan_id: UUID, start: Start
) -> bool:
    """Whether a purchase depends on a saved payment method: its trial takes one to begin, or ends
    without one."""
    if start.trial_end_behavior == "cancel":
        return True
    plan = (tenant_id, plan_id)
    version = (await subscriptions.latest_versions(tx, [plan])).get(plan)
    if version is None:
        return False
    key = (tenant_id, version)
    return (await memory.load(tx, [key]))[key].trial_requires_payment_method


async def subscribe(tx: Tx, memory: TermsMemory, requests: Sequence[SubscribeRequest]) -> set[UUID]:
    """Create subscriptions, each with its first invoice unless it begins later or with a trial; at
    most one per payer in a batch. Returns those that wait for their first payment.

    Raises Problem: unknown_reference (customer, beneficiary, plan, discount), currency_mismatch,
    price_missing_for_currency, discount_not_applicable, promotion_code_refused,
    start_out_of_range, payment_method_required, billing_limit_exceeded; CoreError for amounts out
    of range.
    """
    loaded = await _load(tx, memory, requests, locked=True)
    purchases = [_purchase(loaded, each) for each in requests]
    extras = await attachments.at_purchase(tx, purchases, locked=True)
    made = [_prepare(loaded, *each) for each in zip(requests, extras, strict=True)]
    due = [each for each in made if each.opening.waits is None]
    waiting = [each for each in made if each.opening.waits is not None]
    await guard.refuse_large_bills(tx, [each.bill for each in due], pointer="/plan_id")
    await _insert(tx, made)
    tx.emit(_created(each) for each in made)
    await attachments.save(tx, extras)
    await _remember_methods(tx, requests)
    await begin.wait(
        tx, [Waiting(each.row, each.terms, each.at, each.request.cause) for each in waiting]
    )
    saved = await bill.save(tx, [each.bill for each in due])
    unpaid = [
        (each.bill.subscription, each.bill.at + INCOMPLETE_FOR) for each in saved if each.collected
    ]
    await subscriptions.put_due(tx, subscriptions.EXPIRY, unpaid)
    await activate_at_once(tx, [each for each in saved if not each.collected])
    return {row["id"] for row, _ in unpaid}


async def preview(tx: Tx, memory: TermsMemory, request: SubscribeRequest) -> Prepared:
    """What ``subscribe`` would do now. Raises as it does."""
    loaded = await _load(tx, memory, [request], locked=False)
    extras = await attachments.at_purchase(tx, [_purchase(loaded, request)], locked=False)
    made = _prepare(loaded, request, extras[0])
    if made.opening.waits is None:
        await guard.refuse_large_bills(tx, [made.bill], pointer="/plan_id")
    return made


async def _load(
    tx: Tx, memory: TermsMemory, requests: Sequence[SubscribeRequest], *, locked: bool
) -> _Loaded:
    keys = {(each.tenant_id, each.customer_id) for each in requests}
    keys |= {(each.tenant_id, each.beneficiary_id) for each in requests}
    find = subscriptions.lock_accounts if locked else subscriptions.accounts
    accounts = await find(tx, keys)
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
    if locked:
        at = await subscriptions.moments(tx, accounts, accounts)
    else:
        clocks = await tx.clocks({tenant for tenant, _ in accounts})
        at = {key: max(clocks[key[0]], row.last_occurred_at) for key, row in accounts.items()}
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
    found_for = await conditions(tx, memory, [_given(at, terms, versions, e) for e in requests])
    return _Loaded(accounts, at, terms, versions, found, found_for)


def _given(
    at: Mapping[Key, datetime],
    terms: Mapping[Key, PlanTerms],
    versions: Mapping[Key, UUID],
    each: SubscribeRequest,
) -> Given:
    """What a purchase's conditions depend on."""
    its = terms[each.tenant_id, versions[each.tenant_id, each.plan_id]]
    row = {
        "tenant_id": each.tenant_id,
        "id": each.subscription_id,
        "payer_id": each.customer_id,
        "currency": each.currency,
    }
    return row, [its], at[each.tenant_id, each.customer_id]


def _currency(loaded: _Loaded, each: SubscribeRequest, terms: PlanTerms) -> str:
    account = loaded.accounts[each.tenant_id, each.customer_id]
    currency = each.currency or account.currency
    if currency != account.currency:
        raise Problem(
            problems.CURRENCY_MISMATCH,
            pointer="/currency",
            detail=f"The customer is billed in {account.currency}, not {currency}.",
        )
    if not terms.prices_in(currency):
        raise Problem(
            problems.PRICE_MISSING,
            pointer="/plan_id",
            detail=f"The plan has no price in {currency}.",
        )
    return currency


def _purchase(loaded: _Loaded, each: SubscribeRequest) -> Purchase:
    terms = loaded.terms[each.tenant_id, loaded.versions[each.tenant_id, each.plan_id]]
    return Purchase(
        tenant_id=each.tenant_id,
        subscription_id=each.subscription_id,
        customer_id=each.customer_id,
        currency=_currency(loaded, each, terms),
        quantity=each.quantity,
        terms=terms,
        at=loaded.at[each.tenant_id, each.customer_id],
        discount_ids=each.discount_ids,
        codes=each.promotion_codes,
        cause=each.cause,
    )


def _prepare(loaded: _Loaded, each: SubscribeRequest, extra: Extra) -> Prepared:
    account = loaded.accounts[each.tenant_id, each.customer_id]
    version = loaded.versions[each.tenant_id, each.plan_id]
    terms = loaded.terms[each.tenant_id, version]
    currency = _currency(loaded, each, terms)
    at = loaded.at[each.tenant_id, each.customer_id]
    opened = opening(
        each.start, terms, at=at, timezone=account.timezone, interval=terms.interval(currency)
    )
    _check_method(each, terms, opened, at)
    row = opened.columns | {
        "tenant_id": each.tenant_id,
        "id": each.subscription_id,
        "payer_id": each.customer_id,
        "beneficiary_id": each.beneficiary_id,
        "number": account.next_subscription_number,
        "plan_version_id": version,
        "currency": currency,
        "quantity": each.quantity,
        "status": opened.waits or "incomplete",
        "last_run_number": 0,
        "collection": each.collection,
        "payment_method_id": each.payment_method_id,
        "return_url": each.return_url,
        "proration": each.proration.by.value,
        "proration_rounds": each.proration.rounds.value,
        "stub_denominator": each.proration.denominator.value,
        "last_day_charged": each.proration.last_day_charged,
        "created_at": at,
    }
    named = [_discount(loaded, each, n) for n in range(len(each.discount_ids))]
    attached = [
        _Attachment(found, n, each.subscription_id)
        for n, found in enumerate([*named, *extra.discounts])
    ]
    draft = _first_draft(row, terms, attached, loaded.conditions, opened, at)
    return Prepared(
        each, row | _current_period(row, opened, draft, at), opened, terms, draft, attached, at
    )


def _check_method(each: SubscribeRequest, terms: PlanTerms, opened: Opening, at: datetime) -> None:
    """A trial that takes a payment method to begin."""
    trial_end_at = opened.columns["trial_end_at"]
    if trial_end_at is None or trial_end_at <= at or not terms.trial_requires_payment_method:
        return
    if each.charged_method_id is None:
        raise Problem(
            problems.PAYMENT_METHOD_REQUIRED,
            pointer="/payment_method_id",
            detail="The plan's trial begins with a saved payment method, and there is none.",
        )


def _first_draft(
    row: Mapping[str, Any],
    terms: PlanTerms,
    attached: Sequence[_Attachment],
    found_for: Conditions,
    opened: Opening,
    at: datetime,
) -> Draft:
    """All periods up to now or, if it begins later, its first one. Raises start_out_of_range for
    more than 50 periods or lines."""
    draft = refused(
        "/quantity",
        lambda: invoicing.draft(
            timeline(row, terms, attached, found_for),  # type: ignore[arg-type]  # rows alike
            first_period=0,
            horizon_at=max(at, opened.bills_from_at),
            most_periods=MOST_PERIODS,
        ),
    )
    assert draft.next_billing_at is not None, "it has no end yet"
    if draft.next_billing_at <= at or (draft.periods > 1 and len(draft.lines) > bill.MOST_LINES):
        raise Problem(
            problems.START_OUT_OF_RANGE,
            pointer="/start_at",
            detail=f"The first invoice would have more than {MOST_PERIODS} periods or lines.",
        )
    return draft


def _current_period(
    row: Mapping[str, Any], opened: Opening, draft: Draft, at: datetime
) -> dict[str, Any]:
    """Until a subscription begins, its current period is the wait or the trial."""
    assert draft.period is not None, "the horizon lies in a period"
    if opened.waits is None:
        start_at, end_at, number = draft.period.start_at, draft.period.end_at, draft.periods - 1
    elif opened.waits == "pending":
        start_at, end_at, number = at, row["started_at"], -1
    else:
        start_at, end_at, number = row["started_at"], row["trial_end_at"], -1
    return {
        "current_period_start_at": start_at,
        "current_period_end_at": end_at,
        "billed_through_at": end_at,
        "period_number": number,
    }


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
    at = loaded.at[each.tenant_id, each.customer_id]
    check_fits(row, currency=currency, at=at, pointer=pointer)
    if wanted in each.discount_ids[:n]:
        raise Problem(
            problems.DISCOUNT_NOT_APPLICABLE, pointer=pointer, detail="The discount is named twice."
        )
    return row


async def _insert(tx: Tx, made: Sequence[Prepared]) -> None:
    rows = [each.row for each in made]
    await subscriptions.insert_subscriptions(
        tx,
        [each.row | {"last_run_number": 0 if each.opening.waits else 1} for each in made],
    )
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
                "recorded_at": row["created_at"],
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
                "recorded_at": row["created_at"],
            }
            for row in rows
        ],
    )
    await discounts.attach(
        tx,
        [
            {
                "tenant_id": each.request.tenant_id,
                "subscription_id": each.request.subscription_id,
                "n": n,
                "discount_id": discount,
                "used_periods": 0,
                "from_at": None,
                "source": "direct",
                "promotion_id": None,
            }
            for each in made
            for n, discount in enumerate(each.request.discount_ids, start=1)
        ],
    )


async def _remember_methods(tx: Tx, requests: Sequence[SubscribeRequest]) -> None:
    """What payments said of the customer's method, in case its event was told before we heard."""
    await methods.save_methods(
        tx,
        [
            (each.tenant_id, each.customer_id, each.charged_method_id)
            for each in requests
            if each.charged_method_id is not None
        ],
    )


def _created(each: Prepared) -> Event:
    return Event(
        type=events.SUBSCRIPTION_CREATED,
        tenant_id=each.request.tenant_id,
        subject=each.request.customer_id,
        data=facts.subscription(each.row, each.terms),
        occurred_at=each.at,
        cause=each.request.cause,
    )


async def activate_at_once(tx: Tx, saved: Sequence[Saved]) -> None:
    """A first invoice of zero needs no payment, one on terms is paid later; where nothing is due
    yet (all in arrears) there is none."""
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
            | {"invoice_id": each.invoice_text},
            occurred_at=each.bill.at,
            cause=each.bill.cause,
        )
        tx.emit([*each.paid, activated])
