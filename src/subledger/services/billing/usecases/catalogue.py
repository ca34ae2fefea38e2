"""The catalogue: products, plans and their versions.

Facts of the catalogue belong to no account: their subject is the tenant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.core.calendar import Interval
from subledger.core.pricing import PriceModel, kind_of, to_data
from subledger.core.timeline import Timing
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import catalogue, taxes
from subledger.services.billing.terms import cycle_of

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class NewPrice:
    """One price of a version: its code is unique within a currency. ``tax_inclusive``: taxes are in
    it already."""

    code: str
    currency: str
    model: PriceModel
    interval: Interval
    timing: Timing = Timing.ADVANCE
    metered: bool = False
    tax_inclusive: bool = False
    ramp: tuple[tuple[int, PriceModel], ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """What a plan's version gives unpaid: local days of a trial, 0 for none, and whether it takes
    a payment method to begin it; days for which access outlives a failed renewal, and whether a
    first payment that fails on a start day has them too."""

    grace_days: int
    trial_days: int = 0
    trial_requires_payment_method: bool = False
    grace_at_start: bool = False


@dataclass(frozen=True, slots=True)
class AccessChange:
    """The same of a next version; None keeps what the version before has."""

    grace_days: int | None
    trial_days: int | None
    trial_requires_payment_method: bool | None
    grace_at_start: bool | None

    def of(self, before: Row[Any]) -> Access:
        def kept(asked: Any, had: Any) -> Any:
            return had if asked is None else asked

        return Access(
            kept(self.grace_days, before.grace_s // DAY_S),
            kept(self.trial_days, before.trial_days),
            kept(self.trial_requires_payment_method, before.trial_requires_payment_method),
            kept(self.grace_at_start, before.grace_at_start),
        )


@dataclass(frozen=True, slots=True)
class NewPlan:
    """A plan with its first version."""

    tenant_id: UUID
    plan_id: UUID
    product_id: UUID
    code: str
    name: str
    access: Access
    prices: Sequence[NewPrice]


async def create_product(
    tx: Tx,
    *,
    tenant_id: UUID,
    product_id: UUID,
    code: str,
    name: str,
    resources: Sequence[str],
    tax_category: str = "",
    cause: UUID | None,
) -> None:
    """A product and what it gives access to. Raises code_taken."""
    row = {
        "tenant_id": tenant_id,
        "id": product_id,
        "code": code,
        "name": name,
        "resources": msgspec.json.encode(list(resources)).decode(),
        "tax_category": tax_category or None,
        "created_at": await tx.now(tenant_id),
    }
    refuse_taken(await catalogue.insert_products(tx, [row]), "product")
    data = _product_data(product_id, code, resources)
    await tell(tx, events.PRODUCT_CREATED, tenant_id, data, cause)


async def change_product(
    tx: Tx,
    *,
    tenant_id: UUID,
    product_id: UUID,
    name: str | None,
    resources: Sequence[str] | None,
    tax_category: str | None = None,
    cause: UUID | None,
) -> None:
    """Replace a product's name, resources or tax category; None leaves it. Whoever holds the
    product gains and loses access at once; invoices from now on go by the new category. Raises
    not_found."""
    key = (tenant_id, product_id)
    found = await catalogue.lock_products(tx, [key])
    if key not in found:
        raise Problem("not_found", detail="There is no such product.")
    row = found[key]
    wanted = list(row.resources if resources is None else resources)
    category = row.tax_category if tax_category is None else tax_category or None
    same_name = name is None or name == row.name
    if same_name and wanted == list(row.resources) and category == row.tax_category:
        return
    if category != row.tax_category:
        await taxes.put_editions(tx, [tenant_id])
    await catalogue.update_products(
        tx,
        [
            {
                "tenant_id": tenant_id,
                "id": product_id,
                "name": row.name if name is None else name,
                "resources": msgspec.json.encode(wanted).decode(),
                "tax_category": category,
            }
        ],
    )
    data = _product_data(product_id, row.code, wanted)
    await tell(tx, events.PRODUCT_UPDATED, tenant_id, data, cause)


async def create_plan(tx: Tx, plan: NewPlan, *, cause: UUID | None) -> None:
    """A plan with version 1. Raises code_taken, unknown_reference (product), duplicate_price,
    mixed_intervals."""
    check_prices(plan.prices)
    key = (plan.tenant_id, plan.product_id)
    if key not in await catalogue.products(tx, [key]):
        raise Problem(
            problems.UNKNOWN_REFERENCE, pointer="/product_id", detail="There is no such product."
        )
    row = {
        "tenant_id": plan.tenant_id,
        "id": plan.plan_id,
        "product_id": plan.product_id,
        "code": plan.code,
        "name": plan.name,
        "latest_version": 1,
        "created_at": await tx.now(plan.tenant_id),
    }
    refuse_taken(await catalogue.insert_plans(tx, [row]), "plan")
    version_id = await _add_version(tx, plan.tenant_id, plan.plan_id, 1, plan.access, plan.prices)
    data = _plan_data(plan.plan_id, plan.code, plan.product_id, version_id, 1)
    await tell(tx, events.PLAN_CREATED, plan.tenant_id, data, cause)


async def add_version(
    tx: Tx,
    *,
    tenant_id: UUID,
    plan_id: UUID,
    version_id: UUID,
    access: AccessChange,
    prices: Sequence[NewPrice],
    cause: UUID | None,
) -> None:
    """New prices for future subscriptions; existing ones keep their version.

    Raises not_found, duplicate_price, mixed_intervals.
    """
    check_prices(prices)
    key = (tenant_id, plan_id)
    locked = await catalogue.lock_plans(tx, [key])
    if key not in locked:
        raise Problem("not_found", detail="There is no such plan.")
    row, before = locked[key], (await catalogue.plans(tx, [key]))[key]
    number = row.latest_version + 1
    await _add_version(
        tx, tenant_id, plan_id, number, access.of(before), prices, version_id=version_id
    )
    await catalogue.update_plans(
        tx, [{"tenant_id": tenant_id, "id": plan_id, "latest_version": number}]
    )
    data = _plan_data(plan_id, row.code, row.product_id, version_id, number)
    await tell(tx, events.PLAN_VERSIONED, tenant_id, data, cause)


def check_prices(prices: Sequence[NewPrice]) -> None:
    """Raises duplicate_price and mixed_intervals (a subscription has one clock)."""
    known: dict[str, list[NewPrice]] = {}
    seen: set[tuple[str, str]] = set()
    for n, each in enumerate(prices):
        if (each.code, each.currency) in seen:
            raise Problem(
                problems.DUPLICATE_PRICE,
                pointer=f"/prices/{n}/code",
                detail=f"The price {each.code} in {each.currency} is given twice.",
            )
        seen.add((each.code, each.currency))
        others = known.setdefault(each.currency, [])
        others.append(each)
        if cycle_of(other.interval for other in others) is None:
            raise Problem(
                problems.MIXED_INTERVALS,
                pointer=f"/prices/{n}/interval",
                detail=f"In {each.currency}, {others[0].code} is due every"
                f" {_words(others[0].interval)}, {each.code} every {_words(each.interval)}.",
            )


def _words(interval: Interval) -> str:
    return f"{interval.count} {interval.unit.value}"


async def _add_version(
    tx: Tx,
    tenant_id: UUID,
    plan_id: UUID,
    number: int,
    access: Access,
    prices: Sequence[NewPrice],
    *,
    version_id: UUID | None = None,
) -> UUID:
    version = version_id or tx.ids.new()
    await catalogue.insert_versions(
        tx,
        [
            {
                "tenant_id": tenant_id,
                "id": version,
                "plan_id": plan_id,
                "version": number,
                "grace_s": access.grace_days * DAY_S,
                "trial_days": access.trial_days,
                "trial_requires_payment_method": access.trial_requires_payment_method,
                "grace_at_start": access.grace_at_start,
                "created_at": await tx.now(tenant_id),
            }
        ],
        [
            {
                "tenant_id": tenant_id,
                "id": tx.ids.new(),
                "plan_version_id": version,
                "code": each.code,
                "currency": each.currency,
                "model": kind_of(each.model),
                "interval_unit": each.interval.unit.value,
                "interval_count": each.interval.count,
                "timing": each.timing.value,
                "metered": each.metered,
                "tax_inclusive": each.tax_inclusive,
                "ramp": msgspec.json.encode(
                    [
                        {"from_period": n, "model": kind_of(model), "terms": to_data(model)}
                        for n, model in each.ramp
                    ]
                ).decode(),
                "terms": msgspec.json.encode(to_data(each.model)).decode(),
            }
            for each in prices
        ],
    )
    return version


def _product_data(product_id: UUID, code: str, resources: Sequence[str]) -> dict[str, Any]:
    return {
        "product_id": ids.text("prod", product_id),
        "code": code,
        "resources": list(resources),
    }


def _plan_data(
    plan_id: UUID, code: str, product_id: UUID, version_id: UUID, version: int
) -> dict[str, Any]:
    return {
        "plan_id": ids.text("plan", plan_id),
        "code": code,
        "product_id": ids.text("prod", product_id),
        "plan_version_id": ids.text("plv", version_id),
        "version": version,
    }


def refuse_taken(written: int, kind: str) -> None:
    """Raises code_taken if the new object was not written, because its code is another's."""
    if written == 0:
        raise Problem(problems.CODE_TAKEN, pointer="/code", detail=f"Another {kind} has this code.")


async def tell(
    tx: Tx, type_: str, tenant_id: UUID, data: Mapping[str, Any], cause: UUID | None
) -> None:
    """Emit a fact that belongs to no account."""
    tx.emit(
        [
            Event(
                type=type_,
                tenant_id=tenant_id,
                subject=tenant_id,
                data=data,
                occurred_at=await tx.now(tenant_id),
                cause=cause,
            )
        ]
    )
