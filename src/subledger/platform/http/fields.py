"""Fields of requests and answers: one type per kind of thing, strict about what they accept."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import core_schema

from subledger.core import money
from subledger.core.calendar import MAX_YEAR, MIN_YEAR, parse_zone
from subledger.core.errors import CoreError
from subledger.core.pricing import check_quantity
from subledger.platform import ids


class Strict(BaseModel):
    """Base of all bodies and answers: unknown fields are refused, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False)


def _core(error: CoreError) -> ValueError:
    return ValueError(f"{error.detail}. {error.fix}".strip())


def _amount(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("an amount is an integer of minor units, or such an integer as text")
    if isinstance(value, str):
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 16):
            raise ValueError('an amount is whole minor units: 1000 or "1000", not "10.00" or 1e3')
        value = int(value)
    try:
        return money.check_amount(value)
    except CoreError as error:
        raise _core(error) from error


def _positive(value: int) -> int:
    if value <= 0:
        raise ValueError("the amount must be above zero")
    return value


def _not_negative(value: int) -> int:
    if value < 0:
        raise ValueError("the amount must not be negative")
    return value


_AMOUNT_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "integer"},
            {"type": "string", "pattern": "^-?[0-9]{1,16}$"},
        ],
        "description": "Minor units of the currency, at most 10^15.",
        "examples": [999],
    }
)
AmountMinor = Annotated[int, BeforeValidator(_amount), _AMOUNT_SCHEMA]
PositiveAmountMinor = Annotated[
    int, BeforeValidator(_amount), AfterValidator(_positive), _AMOUNT_SCHEMA
]
PriceAmountMinor = Annotated[
    int, BeforeValidator(_amount), AfterValidator(_not_negative), _AMOUNT_SCHEMA
]


def _decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError('a number is an integer or decimal text such as "2.5"')
    text = str(value)
    if len(text) > 60 or not text.isascii() or "e" in text.lower() or "_" in text:
        raise ValueError('use plain decimal text such as "2.5"')
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError('use plain decimal text such as "2.5"') from None
    if not number.is_finite():
        raise ValueError("the number must be finite")
    return number


def _quantity(value: Any) -> Decimal:
    try:
        return check_quantity(_decimal(value))
    except CoreError as error:
        raise _core(error) from error


def plain(value: Decimal) -> str:
    """Decimal text without exponent and trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


_DECIMAL_SCHEMA = WithJsonSchema(
    {
        "anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$"}],
        "examples": ["1"],
    }
)
ExactDecimal = Annotated[
    Decimal, BeforeValidator(_decimal), PlainSerializer(plain), _DECIMAL_SCHEMA
]
Quantity = Annotated[Decimal, BeforeValidator(_quantity), PlainSerializer(plain), _DECIMAL_SCHEMA]


def _currency(value: str) -> str:
    try:
        money.exponent(value)
    except CoreError as error:
        raise _core(error) from error
    return value


def _zone(value: str) -> str:
    try:
        parse_zone(value)
    except CoreError as error:
        raise _core(error) from error
    return value


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _clean(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("control characters are not allowed")
    return value


def _visible(value: str) -> str:
    if not value.strip():
        raise ValueError("the text is blank")
    return value


def _email(value: str) -> str:
    local, at, domain = value.rpartition("@")
    if (
        not at
        or not local
        or not domain
        or any(letter.isspace() for letter in value)
        or "." not in domain.strip(".")
        or domain.startswith(".")
        or domain.endswith(".")
        or "@" in local
    ):
        raise ValueError("an e-mail address looks like name@example.com")
    return value


Text = Annotated[str, AfterValidator(_clean)]
CurrencyCode = Annotated[str, AfterValidator(_currency), Field(max_length=3, examples=["EUR"])]
TimeZoneName = Annotated[
    str, AfterValidator(_zone), Field(max_length=64, examples=["Europe/Berlin"])
]
LocaleTag = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Z]{2})?$", examples=["en"])]
CountryCode = Annotated[str, Field(pattern=r"^[A-Z]{2}$", examples=["DE"])]
Email = Annotated[
    str,
    AfterValidator(_clean),
    AfterValidator(_email),
    Field(min_length=3, max_length=254, examples=["viewer@example.com"]),
]
ExternalId = Annotated[
    str,
    AfterValidator(_clean),
    AfterValidator(_visible),
    Field(min_length=1, max_length=200, examples=["viewer-17"]),
]
Name = Annotated[
    str,
    AfterValidator(_clean),
    AfterValidator(_visible),
    Field(min_length=1, max_length=200, examples=["Ada Lovelace"]),
]
Flag = Annotated[bool, Field(strict=True)]
"""true or false, where plain ``bool`` would also take "yes" and 1."""
Whole = Annotated[int, Field(strict=True)]
"""A JSON integer, where plain ``int`` would also take true, "3" and 3.0."""
Code = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$", examples=["cinema-basic"])]


_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})?"
)


def _timestamp(value: Any) -> datetime:
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str) and _MOMENT.fullmatch(value):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("a moment looks like 2026-03-01T00:00:00Z") from None
    else:
        raise ValueError("a moment looks like 2026-03-01T00:00:00Z")
    if moment.tzinfo is None:
        raise ValueError("a moment needs its offset, for example 2026-03-01T00:00:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the moment is out of range") from None


def moment_text(value: datetime) -> str:
    """RFC 3339 in UTC, ending in Z."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


Timestamp = Annotated[
    datetime,
    BeforeValidator(_timestamp),
    PlainSerializer(moment_text),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-03-01T00:00:00Z"]}),
]


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _day(value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            day = date.fromisoformat(value)
        except ValueError:
            raise ValueError("a day looks like 2026-03-01") from None
        if MIN_YEAR <= day.year <= MAX_YEAR:
            return day
        raise ValueError(f"a day lies in the years {MIN_YEAR} to {MAX_YEAR}")
    raise ValueError("a day looks like 2026-03-01")


Day = Annotated[
    date,
    BeforeValidator(_day),
    PlainSerializer(lambda value: value.isoformat(), return_type=str),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-03-01"]}),
]
"""A local date, without time and zone."""


def IdOf(prefix: str) -> Any:  # noqa: N802  # it stands where a type stands
    """The public form of ids with this prefix: TypeID text outside, UUID inside."""

    def read(value: Any) -> UUID:
        if isinstance(value, UUID):
            return value
        if not isinstance(value, str):
            raise ValueError(f"an id is text like {prefix}_ and 26 characters")
        try:
            return ids.parse(prefix, value)
        except ids.InvalidId as error:
            raise ValueError(str(error)) from None

    def schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: ids.text(prefix, value), return_schema=core_schema.str_schema()
            ),
        )

    example = ids.text(prefix, UUID("01890a5d-ac96-774b-bcce-b302099a8057"))
    return Annotated[
        UUID,
        GetPydanticSchema(schema),
        WithJsonSchema(
            {
                "type": "string",
                "pattern": f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$",
                "examples": [example],
            }
        ),
    ]
