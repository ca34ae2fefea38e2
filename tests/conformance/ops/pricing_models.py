"""Cases of price models in terms of ``core.pricing`` and ``core.money``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from subledger.core.errors import InvalidQuantity
from subledger.core.money import exponent, format_minor, round_half_up
from subledger.core.pricing import (
    BlockMode,
    Blocks,
    BlockTier,
    Bounds,
    Dynamic,
    Flat,
    Graduated,
    GraduatedPercentage,
    Modified,
    Package,
    Percentage,
    PerUnit,
    Priced,
    PriceModel,
    RateTier,
    Stairstep,
    Started,
    Tier,
    Usage,
    Volume,
    by_part,
    counted,
    price_further,
    true_up,
    upper_bounds,
)
from tests.conformance.case import Answer, Case, Operation, Unsupported

# The documentation page states them once, above the first of its cases.
_AS_ABOVE = [
    {"up_to": 1000, "rate_percent": 1, "flat_minor": 20000},
    {"up_to": 10000, "rate_percent": 2, "flat_minor": 30000},
    {"up_to": None, "rate_percent": 3, "flat_minor": 40000},
]
_REFUSED = {
    "/quantity": "negative quantity",
    "/most_quantity": "quantity beyond the last tier",
}
"""The pointer of a refusal, in the words of the cases."""


def _model(case: Case) -> PriceModel:
    """The price with what stands over it."""
    given = case.given
    base, most = _BASES[given["model"]](given)
    over: dict[str, Any] = {"most_quantity": most} if most is not None else {}
    if given.get("included_units") is not None:
        over["included_units"] = _decimal(given["included_units"])
    for key in ("minimum_minor", "maximum_minor"):
        if given.get(key) is not None:
            over[key] = given[key]
    return Modified(base, **over) if over else base


def _tiers(given: Mapping[str, Any]) -> tuple[tuple[Tier, ...], Bounds, Decimal | None]:
    """Tiers, how their bounds are read, and the bound of a last tier that is not open."""
    raw = given["tiers"]
    if any("from_" in each for each in raw):
        uppers: Sequence[Decimal | None] = upper_bounds([_decimal(each["from_"]) for each in raw])
        bounds, most = Bounds.FROM, None
    else:
        uppers = [_open(each["up_to"]) for each in raw]
        bounds, most = Bounds.UP_TO, uppers[-1]
        uppers = [*uppers[:-1], None]
    fixed = given.get("fixed_minor", 0)
    tiers = []
    for place, (each, upper) in enumerate(zip(raw, uppers, strict=True)):
        # Beside the tiers: once for all of a graduated price, in each tier of the others.
        beside = 0 if place and given["model"] == "graduated" else fixed
        unit = each.get("unit_minor", each.get("price_minor", 0))
        tiers.append(Tier(upper, _decimal(unit), each.get("flat_minor", 0) + beside))
    return tuple(tiers), bounds, most


_Base = tuple[Any, Decimal | None]


def _graduated(given: Mapping[str, Any]) -> _Base:
    tiers, bounds, most = _tiers(given)
    return Graduated(tiers, bounds), most


def _volume(given: Mapping[str, Any]) -> _Base:
    tiers, bounds, most = _tiers(given)
    return Volume(tiers, bounds), most


def _stairstep(given: Mapping[str, Any]) -> _Base:
    tiers, bounds, most = _tiers(given)
    return Stairstep(tiers, bounds), most


def _flat(given: Mapping[str, Any]) -> _Base:
    return Flat(given["amount_minor"]), None


def _unit(given: Mapping[str, Any]) -> _Base:
    if "unit_price" in given:
        return PerUnit(_minor(given["unit_price"], given)), None
    return PerUnit(_decimal(given["unit_minor"])), None


def _package(given: Mapping[str, Any]) -> _Base:
    return Package(
        size=_decimal(given["package_size"]),
        package_amount=_decimal(given["package_minor"]),
        free_units=_decimal(given.get("free_units") or 0),
        started=Started(given.get("round", "up")),
    ), None


def _percentage(given: Mapping[str, Any]) -> _Base:
    return Percentage(
        rate_percent=_decimal(given["rate_percent"]),
        event_amount=_decimal(given.get("fixed_per_event_minor") or 0),
        free_events=given.get("free_events") or None,
        free_total_minor=given.get("free_total_minor") or None,
        event_minimum_minor=given.get("per_event_min_minor"),
        event_maximum_minor=given.get("per_event_max_minor"),
    ), None


def _graduated_percentage(given: Mapping[str, Any]) -> _Base:
    """The bounds are whole units of the currency; ours are minor units."""
    raw = _AS_ABOVE if given["tiers"] == "as above" else given["tiers"]
    tiers = tuple(
        RateTier(
            None if each["up_to"] is None else _minor(each["up_to"], given),
            _decimal(each["rate_percent"]),
            each.get("flat_minor", 0),
        )
        for each in raw
    )
    return GraduatedPercentage(tiers), None


def _dynamic(given: Mapping[str, Any]) -> _Base:
    return Dynamic(_decimal(given.get("multiplier", 1))), None


def _blocks(given: Mapping[str, Any]) -> _Base:
    """A last tier with a bound is an open one and a limit, as for tiers of units."""
    raw = given["tiers"]
    tiers = tuple(
        BlockTier(
            _decimal(each["block"]),
            _decimal(each["block_minor"]),
            each.get("max_blocks") if each is not raw[-1] else None,
        )
        for each in raw
    )
    held = [None if each.get("max_blocks") is None else each["block"] * each["max_blocks"]
            for each in raw]  # fmt: skip
    most = None if held[-1] is None else _decimal(sum(filter(None, held)))
    return Blocks(tiers, BlockMode(given.get("mode", "all_tiers"))), most


_BASES = {
    "flat": _flat,
    "unit": _unit,
    "graduated": _graduated,
    "graduated_prorated": _graduated,
    "volume": _volume,
    "stairstep": _stairstep,
    "package": _package,
    "percentage": _percentage,
    "graduated_percentage": _graduated_percentage,
    "dynamic": _dynamic,
    "blocks": _blocks,
}


def _used(given: Mapping[str, Any]) -> Usage:
    if "event_units" in given:
        prorated = given.get("event_prorated_units", given["event_units"])
        pairs = zip(given["event_units"], prorated, strict=True)
        return Usage(changes=[(_decimal(full), _decimal(part)) for full, part in pairs])
    if "event_amounts_minor" in given:
        return _events(given)
    if "sum_of_event_amounts_minor" in given:
        return Usage(_decimal(given["sum_of_event_amounts_minor"]))
    quantity = given["quantity"]
    if given["model"] == "graduated_percentage":
        return Usage(_minor(quantity, given))
    chosen_by = given.get("tier_selected_by_quantity")
    return Usage(
        _decimal(quantity), tier_quantity=None if chosen_by is None else _decimal(chosen_by)
    )


def _events(given: Mapping[str, Any]) -> Usage:
    """Event amounts as a list (minor units), or in words (whole units of the currency)."""
    told = given["event_amounts_minor"]
    if not isinstance(told, str):
        return Usage(event_amounts=[_decimal(each) for each in told])
    words = re.fullmatch(r"(\d+) events, (running totals|total) ([\d., ]+)", told)
    if words is None:
        raise Unsupported(f"events told as {told!r}")
    totals = [_minor(each, given) for each in words[3].split(", ")]
    if words[2] == "total":
        return Usage(totals[0], event_count=int(words[1]))
    return Usage(event_amounts=[b - a for a, b in zip([Decimal(0), *totals], totals, strict=False)])


def _before(case: Case) -> Usage | Decimal | None:
    """What was billed earlier in the period; None if nothing was."""
    given = case.given
    if "already_billed_blocks" in given:
        return _decimal(given["already_billed_blocks"] * given["tiers"][0]["block"])
    earlier = given.get("pre_line_quantity", 0)
    return _decimal(earlier) if earlier or given.get("billed_before_minor") else None


def _further(case: Case) -> tuple[Priced, Usage]:
    """What the line of the case costs. Kill Bill's quantity is the one to date, so that what was
    billed is a part of it; OpenMeter's comes on top."""
    used, before = _used(case.given), _before(case)
    if "already_billed_blocks" in case.given and isinstance(before, Decimal):
        used = Usage(used.quantity - before)
    closing = case.given.get("last_line", True)
    return price_further(_model(case), used, before=before, closing=closing), used


def _answer(case: Case) -> Answer:
    try:
        priced, used = _further(case)
    except InvalidQuantity as refusal:
        if "error" not in case.expect:
            raise
        return {"error": _REFUSED.get(refusal.pointer, refusal.detail)}
    answer: dict[str, Any] = {
        "amount_minor": _shown(case, priced.amount),
        "total_minor": _shown(case, priced.amount),
        "packages": counted(priced, "package"),
        "blocks": counted(priced, "block"),
        "blocks_to_bill": counted(priced, "block"),
        "topup_minor": _topup(case, priced),
    }
    lines = [each for each in by_part(priced) if each.gross]
    answer["lines_minor"] = [round_half_up(each.net) for each in lines]
    answer["lines"] = [
        {
            "gross_minor": round_half_up(each.gross),
            "discount_minor": round_half_up(each.above_maximum),
            "net_minor": round_half_up(each.net),
        }
        for each in lines
    ]
    if len(lines) == 1:
        answer |= answer["lines"][0]
    return answer | _events_one_by_one(case, used)


def _topup(case: Case, priced: Priced) -> int:
    """The true-up against what the case says was billed, where it says it only as an amount."""
    given = case.given
    if "billed_before_minor" in given and "minimum_minor" in given:
        if not given.get("last_line", True):
            return 0
        base = _BASES[given["model"]](given)[0]
        line = price_further(base, _used(given), before=_before(case))
        charged = (given["billed_before_minor"], line.amount)
        return round_half_up(true_up(given["minimum_minor"], charged))
    return sum(round_half_up(each.net) for each in by_part(priced) if each.part == "minimum")


_NTH = ("first", "second", "third", "fourth", "fifth")


def _events_one_by_one(case: Case, used: Usage) -> Answer:
    """What each event added: ``second_event_minor``."""
    amounts = used.event_amounts
    if amounts is None or not any(key.endswith("_event_minor") for key in case.expect):
        return {}
    answer = {}
    for place, (name, amount) in enumerate(zip(_NTH, amounts, strict=False)):
        before = Usage(event_amounts=amounts[:place]) if place else None
        added = price_further(_model(case), Usage(event_amounts=[amount]), before=before)
        answer[f"{name}_event_minor"] = _shown(case, added.amount)
    return answer


def _shown(case: Case, amount: int | Fraction) -> int | Fraction:
    """Lago's models give the exact amount; the others' figures are rounded lines."""
    exact = "unrounded" in case.notes and "Shown to" not in case.notes
    return amount if exact else round_half_up(amount)


def _round_money(case: Case) -> Answer:
    currency = case.given["currency"]
    minor = round_half_up(Fraction(case.given["value_major"]) * 10 ** exponent(currency))
    return {"rounded_major": format_minor(minor, currency)}


def _round_minor(case: Case) -> Answer:
    return {"rounded": round_half_up(_decimal(case.given["value"]))}


def _currency_decimals(case: Case) -> Answer:
    return {currency: exponent(currency) for currency in case.expect}


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value))


def _open(value: Any) -> Decimal | None:
    return None if value is None else _decimal(value)


def _minor(major: Any, given: Mapping[str, Any]) -> Decimal:
    return _decimal(major).scaleb(exponent(given["currency"]))


OPERATIONS: dict[str, Operation] = {
    **{f"model:{model}": _answer for model in _BASES},
    "round_money": _round_money,
    "round_minor": _round_minor,
    "currency_decimals": _currency_decimals,
}
