"""The provider port: what payments asks of any provider, and the few answers there are.

An adapter is two pure halves: build the request, read the response. The engine owns HTTP, time
limits, masking, metrics and the three-way outcome: not executed, definite, unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

DeclineClass = Literal["soft", "hard", "insufficient_funds", "action", "config"]
Trust = Literal["strong", "weak", "rejected"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do. ``max_parallel`` bounds calls in flight per connection."""

    partial_refund: bool
    hosted_page: bool
    expire_page: bool
    save_without_charge: bool
    disputes: Literal["events", "poll", "none"]
    replay_window_s: int
    max_parallel: int


@dataclass(frozen=True, slots=True)
class Connection:
    """A tenant's account at a provider, with its secrets in the clear (never logged)."""

    id: str
    provider: str
    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False, default=b"")


@dataclass(frozen=True, slots=True)
class HttpResponse:
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """Charge a saved method. ``attempt_id`` is also the provider's idempotency key."""

    attempt_id: str
    token: str = field(repr=False)
    amount_minor: int
    currency: str
    invoice_id: str | None = None


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """Open a hosted page on which the payer pays this attempt and may save the method."""

    attempt_id: str
    amount_minor: int
    currency: str
    return_url: str
    save: bool
    locale: str = "en"
    description: str = ""


@dataclass(frozen=True, slots=True)
class SavedMethod:
    """A method at the provider: an opaque token, brand and last four digits only."""

    token: str = field(repr=False)
    brand: str
    last_four: str


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The money was captured. ``method`` is set when the provider saved one."""

    provider_ref: str
    amount_minor: int
    captured_at: str
    method: SavedMethod | None = None


@dataclass(frozen=True, slots=True)
class RequiresAction:
    """The payer has to go to ``redirect_url``."""

    provider_ref: str
    redirect_url: str


@dataclass(frozen=True, slots=True)
class Processing:
    """The provider is still working on it; ask again later."""

    provider_ref: str


@dataclass(frozen=True, slots=True)
class Declined:
    """A definite no."""

    decline: DeclineClass
    code: str
    provider_ref: str | None = None
    retry_not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Canceled:
    """Definitely over without money: the page was expired or abandoned."""

    provider_ref: str | None = None


@dataclass(frozen=True, slots=True)
class NotExecuted:
    """Certainly nothing happened at the provider: the same attempt may be sent again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Money may or may not have moved: ask, never repeat blindly."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotFound:
    """The provider knows no such attempt."""


Outcome = Succeeded | RequiresAction | Processing | Declined | Canceled | NotExecuted | Unknown
Snapshot = Succeeded | RequiresAction | Processing | Declined | Canceled | NotFound | Unknown


@dataclass(frozen=True, slots=True)
class Hint:
    """What a webhook says happened; a hint only, the state is fetched from the provider.

    ``dedupe_key`` makes a repeated delivery the same delivery.
    """

    dedupe_key: str
    kind: str
    attempt_id: str | None
    provider_ref: str | None


class Adapter(Protocol):
    """A provider's two pure halves. ``read_*`` get only complete, JSON-decoded answers of a
    status that the adapter declared definite; everything else the engine calls unknown."""

    name: str
    capabilities: Capabilities

    def build_charge(self, connection: Connection, request: ChargeRequest) -> HttpRequest: ...
    def read_charge(self, status: int, answer: Mapping[str, Any]) -> Outcome: ...
    def build_checkout(self, connection: Connection, request: CheckoutRequest) -> HttpRequest: ...
    def read_checkout(self, status: int, answer: Mapping[str, Any]) -> Outcome: ...
    def build_expire(self, connection: Connection, provider_ref: str) -> HttpRequest: ...
    def read_expire(self, status: int, answer: Mapping[str, Any]) -> Outcome: ...
    def build_fetch(self, connection: Connection, attempt_id: str) -> HttpRequest: ...
    def read_fetch(self, status: int, answer: Mapping[str, Any]) -> Snapshot: ...
    def build_test_method(
        self, connection: Connection, kind: str, idempotency_key: str
    ) -> HttpRequest: ...
    def read_test_method(self, status: int, answer: Mapping[str, Any]) -> SavedMethod | None: ...
    def verify(self, headers: Mapping[str, str], body: bytes, secret: str, now_s: int) -> Trust: ...
    def parse(self, body: bytes) -> list[Hint]: ...
    def ack(self) -> HttpResponse: ...


class Transport(Protocol):
    """Carries one request to the provider. Raises NotSent if certainly nothing was sent, and
    any other exception when the answer did not come."""

    async def send(self, request: HttpRequest) -> HttpResponse: ...


class NotSent(Exception):
    """Nothing reached the provider: the connection could not be opened."""
