"""Discounts of the catalogue: their rows as the core sees them, the names that lines go by, whom a
discount fits, and how a tenant's discounts stack.

A discount never changes. Archived, it is attached to nothing new, neither by id, nor by a promo
code, nor as a customer's own; where it is attached it goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.core.discounts import (
    MOST_NAMES,
    Discount,
    Duration,
    Exclusive,
    Kind,
    Order,
    Running,
    Split,
    Spread,
    Usage,
)
from subledger.core.errors import InvalidDiscount
from subledger.core.money import Money
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import facts, problems
from subledger.services.billing.store import discounts as store
from subledger.services.billing.terms import PlanTerms, PriceTerms
from subledger.services.billing.usecases.catalogue import refuse_taken, tell

MOST_SETTINGS = 1_000
_KINDS_OF_ID = {"price": "price_id", "plan": "plan_id", "prod": "product_id"}
_KINDS_OF_CODE = ("price", "plan", "product")


@dataclass(frozen=True, slots=True)
class NewDiscount:
    """What a discount takes and for how long, as ``core.discounts.Discount`` has it; the kind
    follows from which of ``percent``, ``amount_minor`` and ``free_units`` is given."""

    tenant_id: UUID
    discount_id: UUID
    code: str
    name: str
    duration: str
    periods: int | None = None
    months: int | None = None
    until_at: datetime | None = None
    percent: Decimal | None = None
    amount_minor: int | None = None
    currency: str | None = None
    other_amounts: tuple[Money, ...] = ()
    free_units: Decimal | None = None
    applies_to: tuple[str, ...] = ()
    spread: str | None = None
    exclusive: bool = False
    carried: bool = False
    prorated: bool = False
    caps: tuple[Money, ...] = ()
    cap_for_life: bool = False

    @property
    def kind(self) -> Kind:
        if self.percent is not None:
            return Kind.PERCENT
        return Kind.FIXED if self.free_units is None else Kind.FREE_UNITS

    def discount(self) -> Discount:
        """As the core has it. Raises InvalidDiscount, which points into the request's body."""
        try:
            return Discount(
                id=str(self.discount_id),
                kind=self.kind,
                percent=self.percent,
                amount_minor=self.amount_minor,
                currency=self.currency,
                duration=Duration(self.duration),
                periods=self.periods,
                months=self.months,
                until=self.until_at,
                applies_to=frozenset(self.applies_to),
                spread=None if self.spread is None else Spread(self.spread),
                exclusive=self.exclusive,
                carried=self.carried,
                prorated=self.prorated,
                other_amounts=self.other_amounts,
                caps=self.caps,
                cap_for_life=self.cap_for_life,
                free_units=self.free_units,
            )
        except InvalidDiscount as refused:
            raise InvalidDiscount(
                refused.detail, pointer=self._pointer(refused.pointer), fix=refused.fix
            ) from refused

    def _pointer(self, pointer: str) -> str:
        """The core names a kind; the body has no such field, but the option that it excludes."""
        if pointer == "/until":
            return "/until_at"
        if pointer != "/kind":
            return pointer
        options = ["other_amounts", "prorated"]
        if self.kind is Kind.FREE_UNITS:
            options = ["exclusive", "caps", "carried", *options]
        return next(f"/{each}" for each in options if getattr(self, each))


async def create_discount(tx: Tx, new: NewDiscount, *, cause: UUID | None) -> None:
    """A discount that subscriptions, promo codes and customers can name.

    Raises code_taken, unknown_reference (a name in ``applies_to``), and InvalidDiscount for
    figures out of range, options that exclude one another, and an end that has passed.
    """
    discount = new.discount()
    at = await tx.now(new.tenant_id)
    if discount.until is not None and discount.until <= at:
        raise InvalidDiscount(
            f"the discount ends before it begins: it is {facts.moment(at)} now",
            pointer="/until_at",
            fix="Give a moment to come.",
        )
    await _check_names(tx, new.tenant_id, new.applies_to)
    row = {
        "tenant_id": new.tenant_id,
        "id": new.discount_id,
        "code": new.code,
        "name": new.name,
        "kind": new.kind.value,
        "percent": new.percent,
        "amount_minor": new.amount_minor,
        "currency": new.currency,
        "duration": new.duration,
        "periods": new.periods,
        "terms": msgspec.json.encode(to_terms(discount)).decode(),
        "created_at": at,
    }
    refuse_taken(await store.insert_discounts(tx, [row]), "discount")
    data = {"discount_id": ids.text("disc", new.discount_id)}
    await tell(tx, events.DISCOUNT_CREATED, new.tenant_id, data, cause)


async def archive_discount(
    tx: Tx, *, tenant_id: UUID, discount_id: UUID, cause: UUID | None
) -> None:
    """Attach a discount to nothing new. Raises not_found; once more changes nothing."""
    key = (tenant_id, discount_id)
    found = await store.lock_discounts(tx, [key])
    if key not in found:
        raise Problem("not_found", detail="There is no such discount.")
    if found[key].archived_at is not None:
        return
    archived = {"tenant_id": tenant_id, "id": discount_id, "archived_at": await tx.now(tenant_id)}
    await store.archive_discounts(tx, [archived])
    data = {"discount_id": ids.text("disc", discount_id)}
    await tell(tx, events.DISCOUNT_ARCHIVED, tenant_id, data, cause)


# --- rows ----------------------------------------------------------------------------------------


def to_terms(discount: Discount) -> dict[str, Any]:
    """The options that have no column of their own, as JSON data; what is left out is default."""
    terms: dict[str, Any] = {
        "months": discount.months,
        "until_at": facts.moment(discount.until),
        "applies_to": sorted(discount.applies_to),
        "spread": None if discount.spread is None else discount.spread.value,
        "exclusive": discount.exclusive,
        "carried": discount.carried,
        "prorated": discount.prorated,
        "other_amounts": _amounts(discount.other_amounts),
        "caps": _amounts(discount.caps),
        "cap_for_life": discount.cap_for_life,
        "free_units": None if discount.free_units is None else format(discount.free_units, "f"),
    }
    return {name: value for name, value in terms.items() if value}


def _amounts(amounts: Iterable[Money]) -> list[list[Any]]:
    return [[each.currency, each.amount_minor] for each in amounts]


def _money(terms: Mapping[str, Any], name: str) -> tuple[Money, ...]:
    return tuple(Money(minor, currency) for currency, minor in terms.get(name, ()))


def discount_of(row: Row[Any]) -> Discount:
    """A discount's row as the core sees it. Rows older than their ``terms`` have none."""
    terms = msgspec.json.decode(row.terms)
    until, units = terms.get("until_at"), terms.get("free_units")
    return Discount(
        id=str(row.id),
        kind=Kind(row.kind),
        percent=row.percent,
        amount_minor=row.amount_minor,
        currency=row.currency,
        duration=Duration(row.duration),
        periods=row.periods,
        months=terms.get("months"),
        until=None if until is None else datetime.fromisoformat(until),
        applies_to=frozenset(terms.get("applies_to", ())),
        spread=Spread(terms["spread"]) if "spread" in terms else None,
        exclusive=terms.get("exclusive", False),
        carried=terms.get("carried", False),
        prorated=terms.get("prorated", False),
        other_amounts=_money(terms, "other_amounts"),
        caps=_money(terms, "caps"),
        cap_for_life=terms.get("cap_for_life", False),
        free_units=None if units is None else Decimal(units),
    )


def running(row: Row[Any]) -> Running:
    """An attached discount as the engine takes it: from when, until when, what it has given."""
    discount = discount_of(row)
    ends = [each for each in (discount.until, row.until_at) if each is not None]
    return Running(
        replace(discount, until=min(ends, default=None)),
        Usage(row.used_periods, row.taken_minor, row.first_at),
        from_at=row.from_at,
    )


# --- names and fitness ---------------------------------------------------------------------------


def line_names(terms: PlanTerms, price: PriceTerms) -> frozenset[str]:
    """The names by which ``applies_to`` finds a line: the public ids of its price, plan and
    product, and their codes with their kind before them (``plan:pro``), so that a plan and a price
    of one code are not taken for each other."""
    return frozenset(
        {
            ids.text("price", price.price_id),
            ids.text("plan", terms.plan_id),
            ids.text("prod", terms.product_id),
            f"price:{price.code}",
            f"plan:{terms.plan_code}",
            f"product:{terms.product_code}",
        }
    )


async def _check_names(tx: Tx, tenant_id: UUID, names: Sequence[str]) -> None:
    """Raises unknown_reference for what the catalogue does not have: it would never be met."""
    assert len(names) <= MOST_NAMES, "the request's body is bounded"
    known = await store.known_names(tx, tenant_id, [_read(each) for each in names])
    for n, name in enumerate(names):
        if n not in known:
            raise Problem(
                problems.UNKNOWN_REFERENCE,
                pointer=f"/applies_to/{n}",
                detail=f"The catalogue has nothing by the name {name}.",
                fix="Use an id (price_…, plan_…, prod_…) or a code with its kind: price:seats,"
                " plan:pro, product:cinema.",
            )


def _read(name: str) -> tuple[str, str | None, UUID | None]:
    """Kind, code, id of a name; the kind ``none`` if it is no name."""
    kind, colon, code = name.partition(":")
    if colon and kind in _KINDS_OF_CODE:
        return kind, code, None
    prefix = name.partition("_")[0]
    try:
        return _KINDS_OF_ID[prefix], None, ids.parse(prefix, name)
    except (KeyError, ids.InvalidId):
        return "none", None, None


def misfit(row: Row[Any], *, currency: str, at: datetime) -> tuple[str, str, str] | None:
    """Why a discount's row cannot be attached to what is billed in ``currency`` from ``at`` on:
    reason, detail and way out; None if it can. It would never take anything."""
    if row.archived_at is not None:
        return "inactive", "The discount is archived.", "Use another discount."
    discount = discount_of(row)
    if discount.until is not None and discount.until <= at:
        ended = facts.moment(discount.until)
        return "expired", f"The discount ended at {ended}.", "Use another discount."
    if discount.kind is Kind.FIXED and discount.amount_in(currency) is None:
        detail = f"The discount is in {discount.currency}, the subscription in {currency}."
    elif discount.caps and discount.cap_in(currency) is None:
        detail = f"The discount has no cap in {currency}, so it takes nothing there."
    else:
        return None
    return "other_currency", detail, "Use a percentage, or an amount in the currency billed."


def check_fits(row: Row[Any], *, currency: str, at: datetime, pointer: str) -> None:
    """Raises discount_not_applicable."""
    found = misfit(row, currency=currency, at=at)
    if found is not None:
        _, detail, fix = found
        raise Problem(problems.DISCOUNT_NOT_APPLICABLE, pointer=pointer, detail=detail, fix=fix)


# --- stacking ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stacking:
    """How a tenant's discounts stack: what ``core.discounts.take`` is told."""

    order: Order = Order.PERCENT_FIRST
    exclusive: Exclusive = Exclusive.BEST
    split: Split = Split.LARGEST_REMAINDER


@dataclass(frozen=True, slots=True)
class Stackings:
    """A tenant's settings over time, the earliest first. A period keeps those of its start, so
    that a new setting never changes what is billed already."""

    since: tuple[tuple[datetime, Stacking], ...] = ()

    def at(self, start_at: datetime) -> Stacking:
        """What holds for a period that begins at ``start_at``."""
        found = [each for from_at, each in self.since if from_at <= start_at]
        return found[-1] if found else Stacking()

    @property
    def latest(self) -> Stacking:
        return self.since[-1][1] if self.since else Stacking()


async def stackings(tx: Tx, tenants: Iterable[UUID]) -> dict[UUID, Stackings]:
    """Each tenant's settings; the defaults for one that set none."""
    wanted = set(tenants)
    found = await store.settings(tx, wanted)
    return {
        tenant: Stackings(
            tuple(
                (
                    row.from_at,
                    Stacking(Order(row.stacking), Exclusive(row.exclusive), Split(row.split)),
                )
                for row in found.get(tenant, ())
            )
        )
        for tenant in wanted
    }


async def set_stacking(tx: Tx, *, tenant_id: UUID, wanted: Stacking) -> None:
    """Stack the discounts of periods that begin from now on in another way. The same again changes
    nothing. Raises conflict beyond 1,000 changes."""
    known = (await stackings(tx, [tenant_id]))[tenant_id]
    if known.since and known.latest == wanted:
        return
    if len(known.since) >= MOST_SETTINGS:
        raise Problem("conflict", detail=f"The settings were changed {MOST_SETTINGS} times.")
    row = {
        "tenant_id": tenant_id,
        "from_at": await tx.now(tenant_id),
        "stacking": wanted.order.value,
        "exclusive": wanted.exclusive.value,
        "split": wanted.split.value,
    }
    await store.save_settings(tx, [row])
