"""Price models as plain data: the shape in which they are stored and come in by the API.

A model is a kind (text) and a flat mapping of its fields: decimals as texts, amounts in minor
units as integers, choices as texts; what is left out has its default. What ``Modified`` adds
stands beside the fields of the model it stands over, so the kind stays that model's::

    "graduated", {"tiers": [{"up_to": "100", "unit_amount": "5"},
                            {"up_to": null, "unit_amount": "3.5"}], "minimum_minor": 1000}

Where ``bounds`` is ``"from"`` a tier says ``from`` instead of ``up_to``; the first starts at "0".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from decimal import Decimal
from enum import StrEnum
from typing import Any

from subledger.core.errors import InvalidPrice
from subledger.core.pricing.blocks import BlockMode, Blocks, BlockTier
from subledger.core.pricing.exact import decimal_text
from subledger.core.pricing.matrix import MOST_DIMENSIONS, Matrix, Rate, check_rate_count
from subledger.core.pricing.modifiers import BaseModel, Modified
from subledger.core.pricing.percentages import GraduatedPercentage, Percentage, RateTier
from subledger.core.pricing.simple import Commitment, Dynamic, Flat, Package, PerUnit, Started
from subledger.core.pricing.tiers import (
    Bounds,
    Graduated,
    Stairstep,
    Tier,
    Volume,
    check_tier_count,
    upper_bounds,
)

PriceModel = BaseModel | Modified

KINDS: dict[str, type[BaseModel]] = {
    "flat": Flat,
    "per_unit": PerUnit,
    "graduated": Graduated,
    "volume": Volume,
    "stairstep": Stairstep,
    "package": Package,
    "blocks": Blocks,
    "percentage": Percentage,
    "graduated_percentage": GraduatedPercentage,
    "dynamic": Dynamic,
    "matrix": Matrix,
    "commitment": Commitment,
}
_KIND_OF = {model: kind for kind, model in KINDS.items()}
_TIERS: dict[type, type] = {
    Graduated: Tier,
    Volume: Tier,
    Stairstep: Tier,
    GraduatedPercentage: RateTier,
    Blocks: BlockTier,
}
_CHOICES: dict[str, type[StrEnum]] = {"bounds": Bounds, "started": Started, "mode": BlockMode}
_OPEN = {"up_to", "most_blocks"}
"""Of the last tier these are None, and may be left out."""
_DECIMAL = re.compile(r"[0-9]{1,38}(\.[0-9]{1,12})?")


def kind_of(model: PriceModel) -> str:
    """The kind of a model: ``graduated``; of a modified one that of the model below."""
    return _KIND_OF[type(model.model if isinstance(model, Modified) else model)]


def to_data(model: PriceModel) -> dict[str, Any]:
    """The model as plain data that JSON can hold; ``from_data`` with its kind gives it back."""
    if not isinstance(model, Modified):
        return _written(model)
    return _written(model.model) | _written(model, but="model")


def from_data(kind: str, data: Mapping[str, Any]) -> PriceModel:
    """The model of a kind. Raises InvalidPrice with a pointer into ``data`` for an unknown kind,
    for keys that the kind has not, for values of another type and for what the model refuses."""
    wanted = KINDS.get(kind) if isinstance(kind, str) else None
    if wanted is None:
        raise InvalidPrice(
            "there is no such price model", pointer="/model", fix=f"Use one of {', '.join(KINDS)}."
        )
    _check_object(data, "")
    above = {each.name for each in _fields(Modified, but="model")}
    own = {key: value for key, value in data.items() if key not in above}
    base: BaseModel = _read(wanted, own, "")
    rest = {key: value for key, value in data.items() if key in above and value is not None}
    return base if not rest else _read(Modified, rest, "", {"model": base})


def _written(model: Any, *, but: str = "") -> dict[str, Any]:
    """All fields that have no default or another value than it."""
    data: dict[str, Any] = {}
    for each in _fields(type(model), but=but):
        value = getattr(model, each.name)
        if each.default is MISSING or value != each.default:
            data[each.name] = _plain(value)
    if data.get("bounds") == Bounds.FROM.value:
        _say_from(data["tiers"])
    return data


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return decimal_text(value)
        case StrEnum():
            return value.value
        case tuple():
            return [_plain(each) for each in value]
        case Tier() | RateTier() | BlockTier() | Rate():
            return _written(value)
    return value


def _say_from(tiers: list[dict[str, Any]]) -> None:
    start = "0"
    for tier in tiers:
        tier["from"], start = start, tier.pop("up_to")


def _fields(model: type[Any], *, but: str = "") -> list[Field[Any]]:
    return [each for each in fields(model) if each.init and each.name != but]


def _read(model: type[Any], data: Any, at: str, known: Mapping[str, Any] | None = None) -> Any:
    """An object of one of our classes; what it refuses is pointed at from the root."""
    _check_object(data, at)
    values = dict(known or {})
    wanted = {each.name: each for each in _fields(model) if each.name not in values}
    for key in data:
        if key not in wanted:
            raise InvalidPrice(
                "there is no such field here",
                pointer=f"{at}/{_escaped(key)}",
                fix=f"Use only {', '.join(wanted)}.",
            )
    if data.get("bounds") == Bounds.FROM.value:
        data = {**data, "tiers": _with_upper_bounds(data.get("tiers"))}
    for name, each in wanted.items():
        if name in data and not (data[name] is None and each.default is None):
            values[name] = _value(model, name, data[name], f"{at}/{name}")
        elif name in _OPEN:
            values[name] = None
        elif each.default is MISSING:
            raise InvalidPrice("a field is missing", pointer=f"{at}/{name}", fix="Give it.")
    try:
        return model(**values)
    except InvalidPrice as refusal:
        raise InvalidPrice(
            refusal.detail, pointer=f"{at}{refusal.pointer}", fix=refusal.fix
        ) from None


def _value(model: type[Any], name: str, value: Any, at: str) -> Any:  # noqa: PLR0911  # a way out per kind of field
    if name in _OPEN and value is None:
        return None
    if name in _CHOICES:
        return _choice(_CHOICES[name], value, at)
    match name:
        case "tiers":
            _check_list(value, at)
            check_tier_count(len(value))
            return tuple(_read(_TIERS[model], each, f"{at}/{n}") for n, each in enumerate(value))
        case "rates":
            _check_list(value, at)
            check_rate_count(len(value))
            return tuple(_read(Rate, each, f"{at}/{n}") for n, each in enumerate(value))
        case "dimensions" | "values":
            return _texts(value, at)
        case "charge_zero":
            return _typed(bool, value, at, "Use true or false.")
        case "free_events" | "most_blocks":
            return _typed(int, value, at, "Use a whole number.")
    if name.endswith("_minor"):
        return _typed(int, value, at, "Use a whole number of minor units.")
    return _decimal(value, at)


def _typed(wanted: type, value: Any, at: str, fix: str) -> Any:
    # ``type`` and not ``isinstance``: true is no integer here.
    if type(value) is not wanted:
        raise InvalidPrice("a value has the wrong type", pointer=at, fix=fix)
    return value


def _decimal(value: Any, at: str) -> Decimal:
    if type(value) is not str or not _DECIMAL.fullmatch(value):
        raise InvalidPrice(
            "a decimal is a text of digits, zero or more, with at most 12 decimals",
            pointer=at,
            fix='Use a text such as "0.05".',
        )
    return Decimal(value)


def _choice(choices: type[StrEnum], value: Any, at: str) -> StrEnum:
    for each in choices:
        if value == each.value:
            return each
    raise InvalidPrice(
        "there is no such choice", pointer=at, fix=f"Use one of {', '.join(choices)}."
    )


def _texts(value: Any, at: str) -> tuple[str, ...]:
    _check_list(value, at)
    if len(value) > MOST_DIMENSIONS or any(type(each) is not str for each in value):
        raise InvalidPrice(
            f"up to {MOST_DIMENSIONS} texts are wanted", pointer=at, fix="Use a list of texts."
        )
    return tuple(value)


def _with_upper_bounds(tiers: Any) -> list[dict[str, Any]]:
    """Tiers told by ``from`` as tiers told by ``up_to``."""
    _check_list(tiers, "/tiers")
    check_tier_count(len(tiers))
    starts = []
    for place, tier in enumerate(tiers):
        at = f"/tiers/{place}"
        _check_object(tier, at)
        if "up_to" in tier:
            raise InvalidPrice(
                'tiers with bounds "from" have no up_to', pointer=f"{at}/up_to", fix="Use from."
            )
        starts.append(_decimal(tier.get("from"), f"{at}/from"))
        if place and starts[-1] <= starts[-2]:
            raise InvalidPrice(
                "tier bounds rise", pointer=f"{at}/from", fix=f"Start above {starts[-2]:f}."
            )
    uppers: Sequence[Decimal | None] = upper_bounds(starts)
    return [
        {key: value for key, value in tier.items() if key != "from"}
        | {"up_to": None if upper is None else decimal_text(upper)}
        for tier, upper in zip(tiers, uppers, strict=True)
    ]


def _check_object(value: Any, at: str) -> None:
    if not isinstance(value, Mapping):
        raise InvalidPrice("an object is wanted", pointer=at, fix="Use an object with its fields.")


def _check_list(value: Any, at: str) -> None:
    if not isinstance(value, list | tuple):
        raise InvalidPrice("a list is wanted", pointer=at, fix="Use a list.")


def _escaped(key: object) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")
