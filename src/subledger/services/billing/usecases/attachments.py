"""Discounts attached to subscriptions: at the purchase, and to a live one.

What is attached to a live subscription, or taken from it, counts from the next period on: a period
that began before keeps what it was billed with, also when a change bills it anew. A subscription
has each discount once. Codes and personal discounts come after those that a purchase names, in this
order: discount_ids, promotion_codes, personal ones by when they were given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, problems
from subledger.services.billing.store import discounts as store
from subledger.services.billing.store import subscriptions
from subledger.services.billing.terms import PlanTerms, TermsMemory
from subledger.services.billing.usecases import redeem
from subledger.services.billing.usecases.discounts import check_fits, misfit
from subledger.services.billing.usecases.end import lock_one
from subledger.services.billing.usecases.opening import refused
from subledger.services.billing.usecases.redeem import Claim, Offer, list_price_minor

MOST_ATTACHED = 50
"""Discounts that one subscription has or had."""
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Purchase:
    """A subscription that is being bought at ``at``, with the discounts and codes that it names."""

    tenant_id: UUID
    subscription_id: UUID
    customer_id: UUID
    currency: str
    quantity: Decimal
    terms: PlanTerms
    at: datetime
    discount_ids: Sequence[UUID]
    codes: Sequence[str]
    cause: UUID | None


@dataclass(frozen=True, slots=True)
class Extra:
    """What a purchase gets beside the discounts that it names by id: rows of ``discounts``, first
    those of the ``offers``."""

    purchase: Purchase
    offers: Sequence[Offer]
    personal: Sequence[Row[Any]]

    @property
    def discounts(self) -> list[Row[Any]]:
        return [*(each.discount for each in self.offers), *self.personal]


async def at_purchase(tx: Tx, purchases: Sequence[Purchase], *, locked: bool) -> list[Extra]:
    """Claim the codes of purchases and look up their customers' personal discounts. The payers'
    accounts are locked; ``save`` attaches it all once the subscriptions exist. Not ``locked``, it
    only looks, for a preview.

    Raises promotion_code_refused, and discount_not_applicable for a code whose discount the
    purchase has already.
    """
    offers = await redeem.claim(tx, [_claim(each) for each in purchases], locked=locked)
    personal = await store.customer_discounts(
        tx, {(each.tenant_id, each.customer_id) for each in purchases}
    )
    own = {
        key: [each.discount_id for each in rows if each.removed_at is None]
        for key, rows in personal.items()
    }
    wanted = {(tenant, each) for (tenant, _), found in own.items() for each in found}
    rows = await subscriptions.discounts(tx, wanted) if wanted else {}
    extras = []
    for each, offered in zip(purchases, offers, strict=True):
        has = set(each.discount_ids)
        for n, offer in enumerate(offered):
            _refuse_second(offer.discount.id in has, f"/promotion_codes/{n}")
            has.add(offer.discount.id)
        mine = [
            rows[each.tenant_id, one]
            for one in own.get((each.tenant_id, each.customer_id), ())
            if one not in has
        ]
        fitting = [one for one in mine if misfit(one, currency=each.currency, at=each.at) is None]
        extras.append(Extra(each, offered, fitting))
    return extras


def _claim(purchase: Purchase) -> Claim:
    price_minor = 0
    if purchase.codes:
        price_minor = refused(
            "/quantity",
            lambda: list_price_minor(purchase.terms, purchase.currency, purchase.quantity),
        )
    return Claim(
        tenant_id=purchase.tenant_id,
        customer_id=purchase.customer_id,
        subscription_id=purchase.subscription_id,
        plan_id=purchase.terms.plan_id,
        currency=purchase.currency,
        list_price_minor=price_minor,
        at=purchase.at,
        codes=tuple(purchase.codes),
        pointers=tuple(f"/promotion_codes/{n}" for n in range(len(purchase.codes))),
    )


def _refuse_second(has: bool, pointer: str) -> None:
    if has:
        raise Problem(
            problems.DISCOUNT_NOT_APPLICABLE,
            pointer=pointer,
            detail="The subscription has, or had, this discount.",
            fix="Name each discount once; to give it once more, create another one.",
        )


async def save(tx: Tx, extras: Sequence[Extra]) -> None:
    """Attach what ``at_purchase`` found to subscriptions that exist by now, and redeem the codes.
    Their places follow those of the discounts named."""
    attached = []
    for each in extras:
        promoted = {offer.discount.id: offer.promotion.id for offer in each.offers}
        for n, discount in enumerate(each.discounts, start=len(each.purchase.discount_ids) + 1):
            promotion = promoted.get(discount.id)
            attached.append(
                {
                    "tenant_id": each.purchase.tenant_id,
                    "subscription_id": each.purchase.subscription_id,
                    "n": n,
                    "discount_id": discount.id,
                    "used_periods": 0,
                    "from_at": None,
                    "source": "customer" if promotion is None else "promotion",
                    "promotion_id": promotion,
                }
            )
    await store.attach(tx, attached)
    for each in extras:
        await redeem.save(tx, each.offers, cause=each.purchase.cause)


# --- of a live subscription ----------------------------------------------------------------------


async def attach(
    tx: Tx,
    memory: TermsMemory,
    *,
    tenant_id: UUID,
    subscription_id: UUID,
    discount_id: UUID | None,
    code: str | None,
    cause: UUID | None,
) -> None:
    """Attach a discount, or that of a promo code, from the next period on. One that was taken away
    and is still in effect stays on.

    Raises not_found, subscription_ended, unknown_reference, discount_not_applicable,
    promotion_code_refused.
    """
    row, at = await lock_one(tx, tenant_id, subscription_id)
    terms = (await memory.load(tx, [(tenant_id, row.plan_version_id)]))[
        tenant_id, row.plan_version_id
    ]
    offers: list[Offer] = []
    pointer = "/discount_id" if code is None else "/promotion_code"
    if code is not None:
        (offers,) = await redeem.claim(tx, [_claim_of(row, terms, code, at)], locked=True)
        discount_id = offers[0].promotion.discount_id
    assert discount_id is not None, "a discount or a code"
    found = (await subscriptions.discounts(tx, [(tenant_id, discount_id)])).get(
        (tenant_id, discount_id)
    )
    if found is None:
        raise Problem(
            problems.UNKNOWN_REFERENCE, pointer=pointer, detail="There is no such discount."
        )
    check_fits(found, currency=row.currency, at=at, pointer=pointer)
    key = (tenant_id, subscription_id)
    known = (await store.attachments(tx, [key])).get(key, [])
    if len(known) >= MOST_ATTACHED:
        raise Problem(
            problems.DISCOUNT_NOT_APPLICABLE,
            pointer=pointer,
            detail=f"A subscription has at most {MOST_ATTACHED} discounts, past ones too.",
            fix="Use fewer.",
        )
    attachment = added(row, known, discount_id, at, offers)
    _refuse_second(attachment is None, pointer)
    await write(tx, [attachment])
    await redeem.save(tx, offers, cause=cause)
    await tell(tx, memory, [(row, at, discount_id)], "discount_attached", cause)


def _claim_of(row: Row[Any], terms: PlanTerms, code: str, at: datetime) -> Claim:
    return Claim(
        tenant_id=row.tenant_id,
        customer_id=row.payer_id,
        subscription_id=row.id,
        plan_id=terms.plan_id,
        currency=row.currency,
        list_price_minor=list_price_minor(terms, row.currency, row.quantity),
        at=at,
        codes=(code,),
        pointers=("/promotion_code",),
    )


def next_period_from(row: Row[Any], at: datetime) -> datetime:
    """The moment from which periods that begin are not those begun: now, but after the present
    period's start, and no later than its end, where the next one may be waiting to be billed."""
    start_at: datetime = row.current_period_start_at
    end_at: datetime = row.current_period_end_at
    return min(max(at, start_at + _TICK), end_at)


def added(
    row: Row[Any],
    known: Sequence[Row[Any]],
    discount_id: UUID,
    at: datetime,
    offers: Sequence[Offer] = (),
    source: str = "direct",
) -> dict[str, Any] | None:
    """The attachment to be written, new or one whose end is taken back; None if there is none to
    be had: each discount once."""
    earlier = next((each for each in known if each.discount_id == discount_id), None)
    if earlier is None:
        return {
            "tenant_id": row.tenant_id,
            "subscription_id": row.id,
            "n": max((each.n for each in known), default=0) + 1,
            "discount_id": discount_id,
            "used_periods": 0,
            "from_at": next_period_from(row, at),
            "until_at": None,
            "source": "promotion" if offers else source,
            "promotion_id": offers[0].promotion.id if offers else None,
            "is_new": True,
        }
    if offers or earlier.until_at is None or earlier.until_at <= row.current_period_start_at:
        return None
    return {**earlier._asdict(), "until_at": None, "is_new": False}


async def write(tx: Tx, attachments: Sequence[Mapping[str, Any] | None]) -> None:
    """Write what ``added`` found."""
    given = [each for each in attachments if each is not None]
    await store.attach(tx, [each for each in given if each["is_new"]])
    await store.set_until(tx, [each for each in given if not each["is_new"]])


async def detach(
    tx: Tx,
    memory: TermsMemory,
    *,
    tenant_id: UUID,
    subscription_id: UUID,
    discount_id: UUID,
    cause: UUID | None,
) -> None:
    """Take a discount from a subscription, from the next period on. A redemption is not given
    back. Raises not_found, subscription_ended."""
    row, at = await lock_one(tx, tenant_id, subscription_id)
    key = (tenant_id, subscription_id)
    known = (await store.attachments(tx, [key])).get(key, [])
    gone = ended(row, known, discount_id, at)
    if gone is None:
        raise Problem("not_found", detail="The subscription does not have this discount.")
    await store.set_until(tx, [gone])
    await tell(tx, memory, [(row, at, discount_id)], "discount_detached", cause)


def ended(
    row: Row[Any],
    known: Sequence[Row[Any]],
    discount_id: UUID,
    at: datetime,
    source: str | None = None,
) -> dict[str, Any] | None:
    """The attachment that is to end, with where it does; None if it is not there, or not by this
    ``source``."""
    for each in known:
        mine = source is None or each.source == source
        if each.discount_id == discount_id and each.until_at is None and mine:
            return {**each._asdict(), "until_at": next_period_from(row, at)}
    return None


async def tell(
    tx: Tx,
    memory: TermsMemory,
    changed: Sequence[tuple[Row[Any], datetime, UUID]],
    kind: str,
    cause: UUID | None,
) -> None:
    """Append to the histories of subscriptions, and tell of it."""
    terms = await memory.load(tx, {(row.tenant_id, row.plan_version_id) for row, _, _ in changed})
    await subscriptions.append_changes(
        tx,
        [
            {
                "tenant_id": row.tenant_id,
                "subscription_id": row.id,
                "kind": kind,
                "effective_at": next_period_from(row, at),
                "data": msgspec.json.encode({"discount_id": str(discount_id)}).decode(),
                "recorded_at": at,
            }
            for row, at, discount_id in changed
        ],
    )
    tx.emit(
        Event(
            type=events.SUBSCRIPTION_CHANGED,
            tenant_id=row.tenant_id,
            subject=row.payer_id,
            data=facts.subscription(row, terms[row.tenant_id, row.plan_version_id])
            | {"changed": ["discount_ids"]},
            occurred_at=at,
            cause=cause,
        )
        for row, at, _ in changed
    )
