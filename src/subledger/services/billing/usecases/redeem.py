"""Redeeming promo codes: claimed under the lock of their rows, so that a limit holds however many
buy at once; given back when the purchase comes to nothing.

A purchase under way holds its redemptions and counts as a purchase until it is paid, canceled or
expires: otherwise two purchases at once would both be the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core.errors import InvalidPromotion
from subledger.core.money import Money, check_amount, round_half_up
from subledger.core.pricing import price
from subledger.core.promotions import (
    Promotion,
    Reason,
    Situation,
    check,
    normalize,
    without_twins,
)
from subledger.core.timeline import Timing
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.refusals import REFUSALS, UNKNOWN
from subledger.services.billing.store import promotions as store
from subledger.services.billing.store import subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import PlanTerms
from subledger.services.billing.usecases.anchors import NOT_BEGUN
from subledger.services.billing.usecases.discounts import misfit

_UNPAID = NOT_BEGUN | {"incomplete"}


@dataclass(frozen=True, slots=True)
class Claim:
    """Codes (as typed) that a customer wants to use for a subscription. ``list_price_minor`` is
    what a full period costs before discounts; ``pointer`` leads to the first code."""

    tenant_id: UUID
    customer_id: UUID
    subscription_id: UUID
    plan_id: UUID
    currency: str
    list_price_minor: int
    at: datetime
    codes: tuple[str, ...]
    pointers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """A promotion's row that may be redeemed, with the row of its discount."""

    claim: Claim
    promotion: Row[Any]
    discount: Row[Any]


def list_price_minor(terms: PlanTerms, currency: str, quantity: Decimal) -> int:
    """What one period of each price billed in advance costs before discounts (minor units); zero
    where nothing is sold in advance. Raises CoreError for a quantity that cannot be priced."""
    return check_amount(
        sum(
            check_amount(round_half_up(price(each.model, quantity).amount))
            for each in terms.prices_in(currency)
            if each.timing is Timing.ADVANCE and not each.metered
        )
    )


async def claim(tx: Tx, claims: Sequence[Claim], *, locked: bool) -> list[list[Offer]]:
    """Lock the promotions of the claims and judge each; the offers of each claim in the order of
    its codes. The customers' accounts are locked. ``save`` then redeems them. A preview that only
    looks has nothing ``locked``.

    Raises promotion_code_refused with a ``reason`` at the code's pointer.
    """
    if not any(each.codes for each in claims):
        return [[] for _ in claims]
    found = await _find(tx, claims)
    keys = {(row.tenant_id, row.id) for each in found for row in each}
    promotions = await (store.lock_promotions if locked else store.promotions)(tx, keys)
    counted = {key: row.redemptions for key, row in promotions.items()}
    judge = await _judge(tx, claims, promotions)
    offers = []
    for each, rows in zip(claims, found, strict=True):
        mine = []
        for n, row in enumerate(rows):
            key = (row.tenant_id, row.id)
            reason = judge(each, promotions[key], counted[key])
            if reason is not None:
                raise refused(reason, each.pointers[n])
            counted[key] += 1
            mine.append(Offer(each, promotions[key], judge.discount(promotions[key])))
        offers.append(mine)
    return offers


async def reason_against(tx: Tx, wanted: Claim) -> tuple[str | None, Row[Any] | None]:
    """Why its one code would be refused now, and the promotion's row if it would not; nothing is
    locked or redeemed."""
    try:
        ((row,),) = await _find(tx, [wanted])
    except Problem as problem:
        return problem.extra["reason"], None
    key = (row.tenant_id, row.id)
    rows = await store.promotions(tx, [key])
    judge = await _judge(tx, [wanted], rows)
    reason = judge(wanted, rows[key], rows[key].redemptions)
    return reason, None if reason else rows[key]


async def save(tx: Tx, offers: Sequence[Offer], *, cause: UUID | None) -> None:
    """Redeem claimed offers for subscriptions that exist by now."""
    if not offers:
        return
    await store.insert_redemptions(
        tx,
        [
            {
                "tenant_id": each.claim.tenant_id,
                "promotion_id": each.promotion.id,
                "subscription_id": each.claim.subscription_id,
                "customer_id": each.claim.customer_id,
                "redeemed_at": each.claim.at,
            }
            for each in offers
        ],
    )
    await _count(tx, [each.promotion for each in offers], by=1)
    tx.emit(
        _event(
            events.PROMOTION_CODE_REDEEMED,
            each.promotion,
            each.claim.customer_id,
            each.claim.subscription_id,
            each.claim.at,
            cause,
        )
        for each in offers
    )


async def hold(tx: Tx, rows: Iterable[Row[Any]]) -> None:
    """Lock what the unpaid ones of these subscriptions (locked) would give back. For batches that
    bill some and end others: promotions are locked before invoices are numbered."""
    unpaid = [(row.tenant_id, row.id) for row in rows if row.status in _UNPAID]
    held = await store.redemptions_of(tx, unpaid) if unpaid else []
    if held:
        await store.lock_promotions(tx, {(each.tenant_id, each.promotion_id) for each in held})


async def release(tx: Tx, ended: Iterable[tuple[Row[Any], datetime, UUID | None]]) -> None:
    """Give back what subscriptions redeemed that end before anything was paid: incomplete, before
    their start day, or in their trial. ``ended``: their rows as they were (locked), when they
    ended, and the cause. Those that were paid for keep theirs."""
    given = {
        (row.tenant_id, row.id): (at, cause) for row, at, cause in ended if row.status in _UNPAID
    }
    held = await store.redemptions_of(tx, given) if given else []
    if not held:
        return
    locked = await store.lock_promotions(tx, {(r.tenant_id, r.promotion_id) for r in held})
    await store.release_redemptions(
        tx,
        [
            {
                "tenant_id": each.tenant_id,
                "promotion_id": each.promotion_id,
                "subscription_id": each.subscription_id,
                "released_at": given[each.tenant_id, each.subscription_id][0],
            }
            for each in held
        ],
    )
    await _count(tx, [locked[each.tenant_id, each.promotion_id] for each in held], by=-1)
    tx.emit(
        _event(
            events.PROMOTION_CODE_RELEASED,
            locked[each.tenant_id, each.promotion_id],
            each.customer_id,
            each.subscription_id,
            *given[each.tenant_id, each.subscription_id],
        )
        for each in held
    )


def promotion_of(row: Row[Any], *, active: bool) -> Promotion:
    """A promotion's row as the core sees it."""
    return Promotion(
        code=row.code,
        discount_id=str(row.discount_id),
        active=active and row.deactivated_at is None,
        customer_id=None if row.customer_id is None else str(row.customer_id),
        valid_from=row.valid_from_at,
        valid_until=row.valid_until_at,
        most_redemptions=row.most_redemptions,
        most_per_customer=row.most_per_customer,
        plans=frozenset(str(each) for each in row.plan_ids),
        first_purchase_only=row.first_purchase_only,
        currencies=frozenset(row.currencies),
        minimum=tuple(
            Money(minor, currency) for currency, minor in msgspec.json.decode(row.minimum)
        ),
    )


def refused(reason: str, pointer: str) -> Problem:
    """The problem promotion_code_refused."""
    return Problem(
        problems.PROMOTION_CODE_REFUSED,
        pointer=pointer,
        detail=REFUSALS[reason],
        reason=reason,
    )


async def _find(tx: Tx, claims: Sequence[Claim]) -> list[list[Row[Any]]]:
    """The promotions that codes name. What looks like another letter is read as it was meant only
    where the code was generated. Raises promotion_code_refused and, for a code named twice,
    discount_not_applicable."""
    typed = [
        [_normalized(code, at) for code, at in zip(each.codes, each.pointers, strict=True)]
        for each in claims
    ]
    wanted = {
        (each.tenant_id, meant)
        for each, codes in zip(claims, typed, strict=True)
        for code in codes
        for meant in (code, without_twins(code))
    }
    known = await store.find(tx, wanted)
    found = []
    for each, codes in zip(claims, typed, strict=True):
        rows: list[Row[Any]] = []
        for code, pointer in zip(codes, each.pointers, strict=True):
            row = known.get((each.tenant_id, code))
            if row is None:
                row = known.get((each.tenant_id, without_twins(code)))
                row = row if row is not None and row.generated else None
            if row is None:
                raise refused(UNKNOWN, pointer)
            if any(row.id == other.id for other in rows):
                raise Problem(
                    problems.DISCOUNT_NOT_APPLICABLE,
                    pointer=pointer,
                    detail="The promo code is named twice.",
                    fix="Name each code once.",
                )
            rows.append(row)
        found.append(rows)
    return found


def _normalized(code: str, pointer: str) -> str:
    try:
        return normalize(code)
    except InvalidPromotion as error:
        raise refused(error.reason, pointer) from error


@dataclass(frozen=True, slots=True)
class _Judge:
    """All that a verdict needs beside the promotion and its count."""

    discounts: Mapping[Key, Row[Any]]
    by_customer: Mapping[tuple[UUID, UUID, UUID], int]
    buyers: set[Key]

    def discount(self, promotion: Row[Any]) -> Row[Any]:
        return self.discounts[promotion.tenant_id, promotion.discount_id]

    def __call__(self, wanted: Claim, promotion: Row[Any], redemptions: int) -> str | None:
        """The first reason against it, that of the discount last."""
        discount = self.discount(promotion)
        tenant, customer = wanted.tenant_id, wanted.customer_id
        situation = Situation(
            at=wanted.at,
            customer_id=str(customer),
            plan_id=str(wanted.plan_id),
            currency=wanted.currency,
            amount_minor=wanted.list_price_minor,
            redemptions=redemptions,
            redemptions_by_customer=self.by_customer.get((tenant, promotion.id, customer), 0),
            purchases=1 if (tenant, customer) in self.buyers else 0,
        )
        active = discount.archived_at is None
        try:
            check(promotion_of(promotion, active=active), situation)
        except InvalidPromotion as error:
            return Reason(error.reason).value
        against = misfit(discount, currency=wanted.currency, at=wanted.at)
        return None if against is None else against[0]


async def _judge(tx: Tx, claims: Sequence[Claim], rows: Mapping[Key, Row[Any]]) -> _Judge:
    discounts = await subscriptions.discounts(
        tx, {(tenant, row.discount_id) for (tenant, _), row in rows.items()}
    )
    by_customer = await store.redemptions_by_customer(
        tx,
        {
            (tenant, promotion, each.customer_id)
            for tenant, promotion in rows
            for each in claims
            if each.tenant_id == tenant
        },
    )
    customers = {(each.tenant_id, each.customer_id) for each in claims}
    first_only = any(row.first_purchase_only for row in rows.values())
    return _Judge(
        discounts, by_customer, await store.buyers(tx, customers) if first_only else set()
    )


async def _count(tx: Tx, promotions: Sequence[Row[Any]], *, by: int) -> None:
    counts: dict[Key, int] = {}
    for row in promotions:
        key = (row.tenant_id, row.id)
        counts[key] = counts.get(key, row.redemptions) + by
    await store.set_redemptions(
        tx,
        [
            {"tenant_id": tenant, "id": promotion, "redemptions": count}
            for (tenant, promotion), count in counts.items()
        ],
    )


def _event(
    type_: str,
    promotion: Row[Any],
    customer_id: UUID,
    subscription_id: UUID,
    at: datetime,
    cause: UUID | None,
) -> Event:
    return Event(
        type=type_,
        tenant_id=promotion.tenant_id,
        subject=customer_id,
        data={
            "promotion_code_id": ids.text("promo", promotion.id),
            "discount_id": ids.text("disc", promotion.discount_id),
            "customer_id": ids.text("cus", customer_id),
            "subscription_id": ids.text("sub", subscription_id),
        },
        occurred_at=at,
        cause=cause,
    )
