"""What a tenant says about its taxes: who sells, which rates there are, where and when they hold.

Each change begins a new edition (``store.taxes.put_editions``), whose row is held to the end of
the transaction. The facts belong to no account: their subject is the tenant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.core.errors import InvalidTax
from subledger.core.tax import Place, Rate, RateTable, Rule, in_eu
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import taxes
from subledger.services.billing.store.accounts import LAST
from subledger.services.billing.tax_provider import BUILT_IN
from subledger.services.billing.tax_terms import rate_of, rule_of
from subledger.services.billing.usecases.catalogue import tell
from subledger.services.billing.usecases.customer_taxes import place_of, vat_id_of


@dataclass(frozen=True, slots=True)
class Settings:
    """Who sells and how taxes are rounded; ``region`` and ``vat_id`` may be empty."""

    country: str
    region: str
    vat_id: str
    registered: bool
    below_eu_threshold: bool
    rounding: str
    ties: str
    provider: str


@dataclass(frozen=True, slots=True)
class NewRate:
    """A percentage of one tax in one place. It never changes."""

    code: str
    name: str
    percent: Decimal
    country: str
    region: str
    levy: str
    compound: bool


@dataclass(frozen=True, slots=True)
class NewRule:
    """Where and when a rate holds: one that exists, or a new one made with the rule."""

    rate: UUID | NewRate
    category: str
    treatment: str
    from_on: date | None
    until_on: date | None


async def put_settings(
    tx: Tx,
    *,
    tenant_id: UUID,
    settings: Settings,
    providers: Collection[str],
    cause: UUID | None,
) -> None:
    """Replace a tenant's tax settings: from now on its invoices carry tax. Saying the same again
    changes nothing. Raises invalid_request and tax_id_invalid."""
    place = place_of(settings.country, settings.region)
    if settings.below_eu_threshold and not in_eu(place):
        raise Problem(
            "invalid_request",
            pointer="/below_eu_threshold",
            detail="The threshold is for sellers in the EU.",
            fix="Leave it out.",
        )
    if settings.provider not in {BUILT_IN, *providers}:
        raise Problem(
            "invalid_request",
            pointer="/provider",
            detail=f"There is no tax provider {settings.provider}.",
            fix=f"Use {', '.join(sorted({BUILT_IN, *providers}))}.",
        )
    row = {
        "country": settings.country,
        "region": settings.region,
        "vat_id": _vat_id(settings.vat_id, place),
        "registered": settings.registered,
        "below_eu_threshold": settings.below_eu_threshold,
        "rounding": settings.rounding,
        "ties": settings.ties,
        "provider": settings.provider,
    }
    await taxes.put_editions(tx, [tenant_id])
    before = (await taxes.settings(tx, [tenant_id])).get(tenant_id)
    if before is not None and all(getattr(before, name) == value for name, value in row.items()):
        return
    at = await tx.now(tenant_id)
    await taxes.put_settings(tx, [{"tenant_id": tenant_id, **row, "updated_at": at}])
    await tell(tx, events.TAX_SETTINGS_UPDATED, tenant_id, row, cause)


async def create_rate(
    tx: Tx, *, tenant_id: UUID, rate_id: UUID, new: NewRate, cause: UUID | None
) -> None:
    """A rate that rules or customers can name. Raises code_taken, too_many_tax_rates and
    invalid_request."""
    await taxes.put_editions(tx, [tenant_id])
    await _insert_rate(tx, tenant_id, rate_id, new, pointer="", cause=cause)


async def create_rule(
    tx: Tx, *, tenant_id: UUID, rule_id: UUID, new: NewRule, cause: UUID | None
) -> None:
    """A rule, with its rate if that is new. Raises unknown_reference, tax_rules_overlap,
    too_many_tax_rates, code_taken and invalid_request; then nothing is created."""
    await taxes.put_editions(tx, [tenant_id])
    _, count = await taxes.counts(tx, tenant_id)
    if count >= taxes.MOST_RULES:
        raise _full("rules", taxes.MOST_RULES)
    if isinstance(new.rate, UUID):
        rate_id = new.rate
        found = (await taxes.rates(tx, [(tenant_id, rate_id)])).get((tenant_id, rate_id))
        if found is None:
            raise Problem(
                problems.UNKNOWN_REFERENCE,
                pointer="/tax_rate_id",
                detail="There is no such tax rate.",
            )
        rate = _rate(found)
    else:
        rate_id = tx.ids.new()
        rate = await _insert_rate(tx, tenant_id, rate_id, new.rate, pointer="/rate", cause=cause)
    row = {
        "tenant_id": tenant_id,
        "id": rule_id,
        "tax_rate_id": rate_id,
        "category": new.category,
        "treatment": new.treatment,
        "from_on": new.from_on,
        "until_on": new.until_on,
    }
    await _refuse_overlap(tx, tenant_id, rule_id, _rule(rate, row))
    await taxes.insert_rules(tx, [{**row, "created_at": await tx.now(tenant_id)}])
    await tell(tx, events.TAX_RULE_CREATED, tenant_id, _rule_data(row), cause)


async def end_rule(
    tx: Tx, *, tenant_id: UUID, rule_id: UUID, until_on: date, cause: UUID | None
) -> None:
    """Say the day from which a rule no longer holds; one that ends before it begins never holds.
    Invoices that were made stay. Raises not_found, and tax_rules_overlap for a later end."""
    await taxes.put_editions(tx, [tenant_id])
    key = (tenant_id, rule_id)
    found = (await taxes.rules(tx, [key])).get(key)
    if found is None:
        raise Problem("not_found", detail="There is no such tax rule.")
    if found.until_on == until_on:
        return
    row = found._asdict() | {"until_on": until_on}
    rule = _core_rule(_rate_of_rule(found), row)
    if rule is not None:
        await _refuse_overlap(tx, tenant_id, rule_id, rule)
    await taxes.end_rules(tx, [{"tenant_id": tenant_id, "id": rule_id, "until_on": until_on}])
    await tell(tx, events.TAX_RULE_ENDED, tenant_id, _rule_data(row), cause)


def _vat_id(text: str, place: Place) -> str:
    """A seller's id: checked within the EU, elsewhere as it is written."""
    if not text:
        return ""
    if in_eu(place):
        return vat_id_of(text, place.country, pointer="/vat_id")
    return text.strip()


async def _insert_rate(
    tx: Tx, tenant_id: UUID, rate_id: UUID, new: NewRate, *, pointer: str, cause: UUID | None
) -> Rate:
    count, _ = await taxes.counts(tx, tenant_id)
    if count >= taxes.MOST_RATES:
        raise _full("rates", taxes.MOST_RATES)
    place = place_of(new.country, new.region, pointer=pointer)
    if place.for_tax != place:
        raise Problem(
            "invalid_request",
            pointer=f"{pointer}/country",
            detail=f"{place.country} has the taxes of {place.for_tax.country}.",
            fix=f"Use {place.for_tax.country}.",
        )
    try:
        rate = Rate(
            id=ids.text("txr", rate_id),
            percent=new.percent,
            name=new.name,
            place=place,
            levy=new.levy,
            compound=new.compound,
        )
    except InvalidTax as refused:
        raise _invalid(refused, pointer) from refused
    at = await tx.now(tenant_id)
    row = {
        "tenant_id": tenant_id,
        "id": rate_id,
        "code": new.code,
        "name": new.name,
        "percent": new.percent,
        "country": new.country,
        "region": new.region,
        "levy": new.levy,
        "compound": new.compound,
        "created_at": at,
    }
    if await taxes.insert_rates(tx, [row]) == 0:
        raise Problem(
            problems.CODE_TAKEN, pointer=f"{pointer}/code", detail="Another tax rate has this code."
        )
    data = {
        "tax_rate_id": rate.id,
        "code": new.code,
        "percent": rate.percent_text,
        "country": new.country,
        "region": new.region or None,
        "levy": new.levy,
    }
    await tell(tx, events.TAX_RATE_CREATED, tenant_id, data, cause)
    return rate


async def _refuse_overlap(tx: Tx, tenant_id: UUID, rule_id: UUID, rule: Rule) -> None:
    for row in await taxes.list_rules(tx, tenant_id, before=LAST, limit=taxes.MOST_RULES):
        other = None if row.id == rule_id else _core_rule(_rate_of_rule(row), row._asdict())
        if other is None:
            continue
        try:
            RateTable((other, rule))
        except InvalidTax as refused:
            raise Problem(
                problems.TAX_RULES_OVERLAP,
                pointer="/from_on",
                detail=f"The rule of {row.rate_code} covers the same at the same time.",
                tax_rule_id=ids.text("tru", row.id),
            ) from refused


def _rule(rate: Rate, row: Mapping[str, Any]) -> Rule:
    """A new rule, which holds on some day. Raises invalid_request."""
    try:
        found = _core_rule(rate, row)
    except InvalidTax as refused:
        if refused.pointer == "/rate/percent":
            refused.pointer = "/treatment"
        raise _invalid(refused, "") from refused
    if found is None:
        raise Problem(
            "invalid_request",
            pointer="/until_on",
            detail="A rule ends after it begins.",
            fix="Give a later date.",
        )
    return found


def _core_rule(rate: Rate, row: Mapping[str, Any]) -> Rule | None:
    return rule_of(
        rate,
        category=row["category"],
        treatment=row["treatment"],
        from_on=row["from_on"],
        until_on=row["until_on"],
    )


def _rate(row: Row[Any]) -> Rate:
    return rate_of((row.id, row.percent, row.name, row.country, row.region, row.levy, row.compound))


def _rate_of_rule(row: Row[Any]) -> Rate:
    of = (row.tax_rate_id, row.percent, row.rate_name, row.country, row.region, row.levy)
    return rate_of((*of, row.compound))


def _rule_data(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tax_rule_id": ids.text("tru", row["id"]),
        "tax_rate_id": ids.text("txr", row["tax_rate_id"]),
        "category": row["category"] or None,
        "treatment": row["treatment"],
        "from_on": _day(row["from_on"]),
        "until_on": _day(row["until_on"]),
    }


def _day(value: date | None) -> str | None:
    return None if value is None else value.isoformat()


def _invalid(refused: InvalidTax, pointer: str) -> Problem:
    return Problem(
        "invalid_request",
        pointer=f"{pointer}{refused.pointer}",
        detail=f"{refused.detail[:1].upper()}{refused.detail[1:]}.",
        fix=refused.fix or None,
    )


def _full(what: str, most: int) -> Problem:
    return Problem(problems.TOO_MANY_TAX_RATES, detail=f"A tenant has at most {most} tax {what}.")
