"""Promo codes: created one by one or many at once, taken out of use, and checked before a purchase.

The codes themselves are the core's (``core.promotions``); the entropy of generated ones comes from
the operating system, so that nobody guesses them.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.core.errors import InvalidPromotion
from subledger.core.money import Money
from subledger.core.promotions import Promotion, entropy_bytes, generate, normalize
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, problems
from subledger.services.billing.store import accounts, catalogue, subscriptions
from subledger.services.billing.store import discounts as discount_store
from subledger.services.billing.store import promotions as store
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases.catalogue import refuse_taken, tell
from subledger.services.billing.usecases.discounts import check_fits, misfit
from subledger.services.billing.usecases.redeem import Claim, list_price_minor, reason_against

MOST_GENERATED = 10_000
LENGTH = 12
_POINTERS = {
    "/valid_from": "/valid_from_at",
    "/valid_until": "/valid_until_at",
    "/plans": "/plan_ids",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Which discount codes give, to whom, when, how often, for what; as ``core.promotions``."""

    tenant_id: UUID
    discount_id: UUID
    customer_id: UUID | None = None
    plan_ids: tuple[UUID, ...] = ()
    currencies: tuple[str, ...] = ()
    minimum: tuple[Money, ...] = ()
    first_purchase_only: bool = False
    most_redemptions: int | None = None
    most_per_customer: int | None = None
    valid_from_at: datetime | None = None
    valid_until_at: datetime | None = None


async def create(
    tx: Tx, limits: Limits, *, promotion_id: UUID, code: str | None, cause: UUID | None
) -> None:
    """One code, as typed or generated if None.

    Raises code_taken, unknown_reference (discount, plan, customer), discount_not_applicable, and
    InvalidPromotion for a code that is none and limits that nothing can meet.
    """
    typed = generate_one() if code is None else normalize(code)
    at = await _check(tx, limits, typed)
    row = _row(limits, promotion_id, typed, at=at, generated=code is None, batch_id=None)
    refuse_taken(await store.insert_promotions(tx, [row]), "promo code")
    data = {
        "promotion_code_id": ids.text("promo", promotion_id),
        "discount_id": ids.text("disc", limits.discount_id),
    }
    await tell(tx, events.PROMOTION_CODE_CREATED, limits.tenant_id, data, cause)


def generate_one() -> str:
    """A code that nobody guesses."""
    return generate(secrets.token_bytes(entropy_bytes(1, length=LENGTH)), 1, length=LENGTH)[0]


async def create_many(
    tx: Tx,
    limits: Limits,
    *,
    batch_id: UUID,
    n: int,
    prefix: str,
    length: int,
    cause: UUID | None,
) -> None:
    """``n`` codes that nobody guesses, each with the same limits of its own.

    Raises as ``create`` does, and InvalidPromotion for codes so short that guessing would pay.
    """
    codes = await _fresh(tx, limits.tenant_id, n, prefix=prefix, length=length)
    at = await _check(tx, limits, codes[0])
    rows = [
        _row(limits, tx.ids.new(), code, at=at, generated=True, batch_id=batch_id) for code in codes
    ]
    # Another request may have taken one since they were looked up: begin again with other bytes.
    if await store.insert_promotions(tx, rows) < n:
        raise Problem("conflict", detail="A generated code was taken at the same moment.")
    data = {
        "batch_id": ids.text("batch", batch_id),
        "discount_id": ids.text("disc", limits.discount_id),
        "n": n,
    }
    await tell(tx, events.PROMOTION_CODES_GENERATED, limits.tenant_id, data, cause)


async def _fresh(tx: Tx, tenant_id: UUID, n: int, *, prefix: str, length: int) -> Sequence[str]:
    """Codes that the tenant does not have. Raises InvalidPromotion."""
    assert 1 <= n <= MOST_GENERATED, "the request's body is bounded"

    def draw(taken: frozenset[str]) -> Sequence[str]:
        entropy = secrets.token_bytes(entropy_bytes(n + len(taken), length=length))
        return generate(entropy, n, length=length, prefix=prefix, taken=taken)

    try:
        normalize(prefix or "none")
    except InvalidPromotion as refused:
        raise InvalidPromotion(
            refused.detail, reason=refused.reason, pointer="/prefix", fix=refused.fix
        ) from refused
    codes = draw(frozenset())
    taken = await store.taken_codes(tx, tenant_id, codes)
    return draw(taken) if taken else codes


async def deactivate(tx: Tx, *, tenant_id: UUID, promotion_id: UUID, cause: UUID | None) -> None:
    """Take a code out of use; what it gave goes on. Raises not_found; once more changes nothing."""
    key = (tenant_id, promotion_id)
    found = await store.lock_promotions(tx, [key])
    if key not in found:
        raise Problem("not_found", detail="There is no such promo code.")
    if found[key].deactivated_at is not None:
        return
    at = await tx.now(tenant_id)
    await store.deactivate(tx, [{"tenant_id": tenant_id, "id": promotion_id, "deactivated_at": at}])
    data = {"promotion_code_id": ids.text("promo", promotion_id)}
    await tell(tx, events.PROMOTION_CODE_DEACTIVATED, tenant_id, data, cause)


@dataclass(frozen=True, slots=True)
class Question:
    """Would this code, as typed, work for this customer's purchase now?"""

    tenant_id: UUID
    code: str
    customer_id: UUID
    plan_id: UUID
    currency: str | None
    quantity: Decimal


async def would_work(
    tx: Tx, memory: TermsMemory, asked: Question
) -> tuple[str | None, Row[Any] | None]:
    """The reason against it, or the promotion's row. Nothing is reserved: another purchase may use
    the code up meanwhile. Raises unknown_reference, currency_mismatch and
    price_missing_for_currency."""
    tenant = asked.tenant_id
    customers = await accounts.customers(tx, [(tenant, asked.customer_id)])
    if not customers:
        raise _unknown("/customer_id", "customer")
    customer = customers[tenant, asked.customer_id]
    currency = asked.currency or customer.currency
    if currency != customer.currency:
        raise Problem(
            problems.CURRENCY_MISMATCH,
            pointer="/currency",
            detail=f"The customer is billed in {customer.currency}, not {currency}.",
        )
    plan = (tenant, asked.plan_id)
    version = (await subscriptions.latest_versions(tx, [plan])).get(plan)
    if version is None:
        raise _unknown("/plan_id", "plan")
    terms = (await memory.load(tx, [(tenant, version)]))[tenant, version]
    if not terms.prices_in(currency):
        raise Problem(
            problems.PRICE_MISSING,
            pointer="/plan_id",
            detail=f"The plan has no price in {currency}.",
        )
    claim = Claim(
        tenant_id=tenant,
        customer_id=asked.customer_id,
        subscription_id=asked.customer_id,  # none yet: nothing is redeemed
        plan_id=asked.plan_id,
        currency=currency,
        list_price_minor=list_price_minor(terms, currency, asked.quantity),
        at=max(await tx.now(tenant), customer.last_occurred_at),
        codes=(asked.code,),
        pointers=("/code",),
    )
    return await reason_against(tx, claim)


async def _check(tx: Tx, limits: Limits, code: str) -> datetime:
    """The tenant's now, if codes with these limits can ever be used."""
    try:
        Promotion(
            code=code,
            discount_id=str(limits.discount_id),
            customer_id=None if limits.customer_id is None else str(limits.customer_id),
            valid_from=limits.valid_from_at,
            valid_until=limits.valid_until_at,
            most_redemptions=limits.most_redemptions,
            most_per_customer=limits.most_per_customer,
            plans=frozenset(str(each) for each in limits.plan_ids),
            first_purchase_only=limits.first_purchase_only,
            currencies=frozenset(limits.currencies),
            minimum=limits.minimum,
        )
    except InvalidPromotion as refused:
        pointer = _POINTERS.get(refused.pointer, refused.pointer)
        raise InvalidPromotion(
            refused.detail, reason=refused.reason, pointer=pointer, fix=refused.fix
        ) from refused
    tenant = limits.tenant_id
    at = await tx.now(tenant)
    if limits.valid_until_at is not None and limits.valid_until_at <= at:
        raise Problem(
            "invalid_request",
            pointer="/valid_until_at",
            detail=f"The code ends before it begins: it is {facts.moment(at)} now.",
            fix="Give a moment to come.",
        )
    await _check_references(tx, limits)
    discount = (await discount_store.discounts(tx, [(tenant, limits.discount_id)])).get(
        (tenant, limits.discount_id)
    )
    if discount is None:
        raise _unknown("/discount_id", "discount")
    starts_at = at if limits.valid_from_at is None else max(at, limits.valid_from_at)
    currencies = [*limits.currencies, *(each.currency for each in limits.minimum)]
    fits = [each for each in currencies if misfit(discount, currency=each, at=starts_at) is None]
    if not fits:
        check_fits(
            discount,
            currency=currencies[0] if currencies else _own_currency(discount),
            at=starts_at,
            pointer="/discount_id",
        )
    return at


def _own_currency(discount: Row[Any]) -> str:
    """A currency that the discount is good in, for codes that are good in all."""
    caps = msgspec.json.decode(discount.terms).get("caps", ())
    return str(discount.currency or (caps[0][0] if caps else "EUR"))


async def _check_references(tx: Tx, limits: Limits) -> None:
    tenant = limits.tenant_id
    plans = await catalogue.plans(tx, [(tenant, each) for each in limits.plan_ids])
    for n, each in enumerate(limits.plan_ids):
        if (tenant, each) not in plans:
            raise _unknown(f"/plan_ids/{n}", "plan")
    if limits.customer_id is not None:
        key = (tenant, limits.customer_id)
        if key not in await accounts.customers(tx, [key]):
            raise _unknown("/customer_id", "customer")


def _unknown(pointer: str, what: str) -> Problem:
    return Problem(problems.UNKNOWN_REFERENCE, pointer=pointer, detail=f"There is no such {what}.")


def _row(
    limits: Limits,
    promotion_id: UUID,
    code: str,
    *,
    at: datetime,
    generated: bool,
    batch_id: UUID | None,
) -> dict[str, Any]:
    return {
        "tenant_id": limits.tenant_id,
        "id": promotion_id,
        "code": code,
        "generated": generated,
        "batch_id": batch_id,
        "discount_id": limits.discount_id,
        "customer_id": limits.customer_id,
        "plan_ids": msgspec.json.encode([str(each) for each in limits.plan_ids]).decode(),
        "currencies": msgspec.json.encode(list(limits.currencies)).decode(),
        "minimum": msgspec.json.encode(
            [[each.currency, each.amount_minor] for each in limits.minimum]
        ).decode(),
        "first_purchase_only": limits.first_purchase_only,
        "most_redemptions": limits.most_redemptions,
        "most_per_customer": limits.most_per_customer,
        "valid_from_at": limits.valid_from_at,
        "valid_until_at": limits.valid_until_at,
        "redemptions": 0,
        "created_at": at,
    }
