"""Bodies and answers about connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import AfterValidator, Field
from sqlalchemy import Row

from subledger.platform.http.fields import (
    CurrencyCode,
    Flag,
    IdOf,
    Name,
    Strict,
    Text,
    Timestamp,
    Whole,
)
from subledger.providers.port import Capabilities
from subledger.services.payments.usecases.connections import Wanted

if TYPE_CHECKING:  # a type checker sees what a field holds
    ConnectionId = UUID
else:
    ConnectionId = IdOf("conn")

_ID = "01h455vb4pex5vsknk084sn02q"
_NEW: dict[str, Any] = {
    "provider": "sandbox",
    "name": "Cards in euro",
    "credentials": {"api_key": "sbk_0123456789abcdef", "webhook_secret": "whsec_0123456789ab"},
    "currencies": ["EUR"],
    "default_for": ["EUR"],
}


def _distinct(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("a currency is named twice")
    return value


Currencies = Annotated[
    list[CurrencyCode],
    AfterValidator(_distinct),
    Field(max_length=200, description="None named: every currency that the provider takes."),
]
DefaultFor = Annotated[
    list[CurrencyCode],
    AfterValidator(_distinct),
    Field(max_length=200, description="Taken from the connection that had it before."),
]
Position = Annotated[
    Whole,
    Field(ge=0, le=1000, description="Where there is no default: the lowest position first."),
]
Credentials = Annotated[
    dict[
        Annotated[str, Field(pattern="^[a-z_]{1,40}$")],
        Annotated[Text, Field(max_length=4000)],
    ],
    Field(min_length=1, max_length=10, description="Never shown again."),
]
ProviderName = Annotated[str, Field(pattern="^[a-z]{1,40}$", examples=["sandbox"])]


class NewConnection(Strict):
    """A tenant's account at a payment provider."""

    model_config = Strict.model_config | {"json_schema_extra": {"examples": [_NEW]}}
    provider: ProviderName
    name: Name
    credentials: Credentials = Field(repr=False)
    currencies: Currencies = Field(default_factory=list)
    default_for: DefaultFor = Field(default_factory=list)
    position: Position = 0
    reconciles_daily: Flag | None = Field(
        default=None,
        description="Compare the provider's list with ours every night. Left out: yes, but in a"
        " sandbox, whose clock would stop at every night that it passes.",
    )

    def wanted(self) -> Wanted:
        return _wanted(self)


class ConnectionChange(Strict):
    """What is to change; what is left out stays. Credentials replace the fields that they name; an
    empty text takes a field away."""

    model_config = Strict.model_config | {
        "json_schema_extra": {"examples": [{"default_for": ["EUR", "USD"]}]}
    }
    name: Name | None = None
    credentials: Credentials | None = Field(default=None, repr=False)
    currencies: Currencies | None = None
    default_for: DefaultFor | None = None
    position: Position | None = None

    def wanted(self) -> Wanted:
        return _wanted(self)


def _wanted(given: NewConnection | ConnectionChange) -> Wanted:
    return Wanted(
        name=given.name,
        currencies=None if given.currencies is None else frozenset(given.currencies),
        default_for=None if given.default_for is None else frozenset(given.default_for),
        position=given.position,
        credentials=given.credentials,
    )


class Abilities(Strict):
    """What the connection's provider can do here."""

    currencies: dict[str, int] | None = Field(
        description="Decimals by currency; null: every currency, as ISO 4217 has it."
    )
    partial_refund: Flag
    two_stage: Flag
    hosted_page: Flag
    expire_page: Flag
    save_without_charge: Flag
    disputes: Literal["events", "poll", "none"]

    @classmethod
    def of(cls, can: Capabilities) -> Abilities:
        return cls(
            currencies=None if can.currencies is None else dict(can.currencies),
            partial_refund=can.partial_refund,
            two_stage=can.two_stage,
            hosted_page=can.hosted_page,
            expire_page=can.expire_page,
            save_without_charge=can.save_without_charge,
            disputes=can.disputes,
        )


class Connection(Strict):
    """A connection. Of its credentials the last four characters are shown; its webhook address to
    admins only. ``opening`` lasts until webhooks knows it; a check goes on with it."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "id": f"conn_{_ID}",
                    "provider": "sandbox",
                    "name": "Cards in euro",
                    "status": "active",
                    "opens_itself": False,
                    "currencies": ["EUR"],
                    "default_for": ["EUR"],
                    "position": 0,
                    "credentials": {"api_key": "…cdef", "webhook_secret": "…89ab"},
                    "webhook_url": "https://billing.example/webhooks/sandbox/kJ2…",
                    "capabilities": None,
                    "reconciles_daily": True,
                    "created_at": "2026-03-01T00:00:00Z",
                    "closed_at": None,
                }
            ]
        }
    }
    id: ConnectionId
    provider: str
    name: str
    status: Literal["opening", "active", "closed"]
    opens_itself: Flag
    currencies: list[str]
    default_for: list[str]
    position: int
    credentials: dict[str, str]
    webhook_url: str | None
    capabilities: Abilities | None
    reconciles_daily: Flag = Field(
        description="To be changed by PUT /v1/connections/{id}/reconciliation."
    )
    created_at: Timestamp
    closed_at: Timestamp | None

    @classmethod
    def of(cls, row: Row[Any], *, webhook_url: str | None, can: Capabilities | None) -> Connection:
        return cls(
            id=row.id,
            provider=row.provider,
            name=row.name,
            status=row.status,
            opens_itself=row.opens_itself,
            currencies=list(row.currencies),
            default_for=list(row.default_for),
            position=row.position,
            credentials=msgspec.json.decode(row.credentials_shown, type=dict[str, str]),
            webhook_url=webhook_url,
            capabilities=None if can is None else Abilities.of(can),
            reconciles_daily=row.reconciles_daily,
            created_at=row.created_at,
            closed_at=row.closed_at,
        )


class Finding(Strict):
    """Something that the check found, by a stable code and in words."""

    code: str = Field(examples=["credentials_rejected"])
    message: str = Field(examples=["The provider does not accept the API key."])


class Check(Strict):
    """Whether payments can go through the connection now."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {"connection_id": f"conn_{_ID}", "ok": True, "account": "mer_1", "findings": []}
            ]
        }
    }
    connection_id: ConnectionId
    ok: Flag
    account: str | None = Field(description="The account's name at the provider, if it told one.")
    findings: list[Finding]
