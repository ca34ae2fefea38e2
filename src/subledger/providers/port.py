"""The provider port: what payments asks of any provider, and the few answers there are.

An adapter is two pure halves: build the request, read the response. The engine owns HTTP, time
limits, masking, metrics and the three-way outcome: not executed, definite, unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, Protocol

DeclineClass = Literal["soft", "hard", "insufficient_funds", "action", "config"]
Trust = Literal["strong", "weak", "rejected"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do.

    ``max_parallel`` bounds calls in flight, ``rate_per_s`` and ``burst`` calls over time, each per
    connection and process. ``replay_window_s`` is how long a repeated key repeats its answer.
    """

    partial_refund: bool
    hosted_page: bool
    expire_page: bool
    save_without_charge: bool
    disputes: Literal["events", "poll", "none"]
    replay_window_s: int
    max_parallel: int
    rate_per_s: float = 1_000.0
    burst: int = 1_000
    currencies: Mapping[str, int] | None = None
    """The decimals of each currency that it takes; None: every currency, as ISO 4217 has it."""
    two_stage: bool = False
    """It can authorize first and capture later."""
    authorization_s: int | None = None
    """How long it keeps an authorization that nobody captures, unless its answer says so."""
    expire_call: str | None = None
    """The call that ends an open page, for people who read the provider's documents."""
    is_real_money: bool = True
    """False for test providers, which live tenants cannot connect."""


@dataclass(frozen=True, slots=True)
class Credential:
    """One field of what a provider gives a merchant to authenticate with."""

    name: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Connection:
    """A tenant's account at a provider, with its secrets in the clear (never logged)."""

    id: str
    provider: str
    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False, default="")
    credentials: Mapping[str, str] = field(repr=False, default_factory=dict)
    """All fields by name (``Adapter.credentials``), the two above among them."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False, default=b"")


@dataclass(frozen=True, slots=True)
class HttpResponse:
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """Charge a saved method. ``attempt_id`` is also the provider's idempotency key,
    ``return_url`` where the payer goes after confirming it with the bank, if that is asked."""

    attempt_id: str
    token: str = field(repr=False)
    amount_minor: int
    currency: str
    invoice_id: str | None = None
    customer_id: str | None = None
    """Invoice and customer are kept there as metadata: money that we forgot names its owner."""
    return_url: str | None = None
    capture: bool = True
    """False only authorizes: the money is set aside, and captured or let go later."""


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """Take what ``attempt_id`` authorized as ``provider_ref``, whole or a part, once."""

    attempt_id: str
    provider_ref: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """Open a hosted page on which the payer pays this attempt and may save the method. Without
    ``capture`` the page only authorizes."""

    attempt_id: str
    amount_minor: int
    currency: str
    return_url: str
    save: bool
    locale: str = "en"
    description: str = ""
    invoice_id: str | None = None
    customer_id: str | None = None
    capture: bool = True


@dataclass(frozen=True, slots=True)
class SetupRequest:
    """Open a page on which the payer saves a method without paying. ``setup_id`` is also the
    provider's idempotency key."""

    setup_id: str
    return_url: str


@dataclass(frozen=True, slots=True)
class CompleteRequest:
    """The payer came back from the provider's page with ``params`` in the address or the form."""

    attempt_id: str
    provider_ref: str | None
    params: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """Give back a part of what ``attempt_id`` captured, or all of it. ``refund_id`` is also the
    provider's idempotency key; ``provider_ref`` is the capture's own name there."""

    refund_id: str
    attempt_id: str
    provider_ref: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Mandate:
    """What a payer agreed to when a method was saved: the text as it was shown, its language, the
    moment (ISO 8601) and the network address. Personal data."""

    text: str
    language: str
    at: str
    address: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SavedMethod:
    """A method at the provider: an opaque token, brand and last four digits only.

    ``reference`` names it in the provider's notifications and charges nothing (empty: it has no
    such name); ``expires_on`` is the last day on which it is valid, if that is known.
    """

    token: str = field(repr=False)
    brand: str
    last_four: str
    reference: str = ""
    expires_on: date | None = None
    mandate: Mandate | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The money was captured. ``method`` is set when the provider saved one."""

    provider_ref: str
    amount_minor: int
    captured_at: str
    method: SavedMethod | None = None


@dataclass(frozen=True, slots=True)
class Authorized:
    """The money is set aside and not taken. ``expires_at`` (UTC): the provider lets it go then;
    None if it does not say. ``method`` is set when the provider saved one."""

    provider_ref: str
    amount_minor: int
    expires_at: datetime | None = None
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
    """Certainly nothing happened at the provider: the same attempt may be sent again, but no
    sooner than ``retry_after_s`` (wall clock) if that is known."""

    reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Money may or may not have moved: ask, never repeat blindly."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotFound:
    """The provider knows no such attempt."""


@dataclass(frozen=True, slots=True)
class RefundState:
    """One refund as the provider lists it. ``refund_id`` is ours; None if it was not made by us."""

    provider_ref: str
    refund_id: str | None
    amount_minor: int
    status: Literal["processing", "succeeded", "failed"]
    code: str = ""


@dataclass(frozen=True, slots=True)
class Refunds:
    """All refunds of one capture, whoever made them."""

    listed: tuple[RefundState, ...]


@dataclass(frozen=True, slots=True)
class DisputeState:
    """One dispute as the provider lists it. ``fee_minor`` is what the provider keeps for it by now,
    in the dispute's currency; ``evidence_due_at`` is UTC."""

    provider_ref: str
    amount_minor: int
    currency: str
    reason: str
    status: Literal["opened", "won", "lost"]
    evidence_due_at: datetime | None
    fee_minor: int = 0


@dataclass(frozen=True, slots=True)
class Disputes:
    """All disputes of one capture."""

    listed: tuple[DisputeState, ...]


@dataclass(frozen=True, slots=True)
class SettlementsRequest:
    """A page of what the provider did with money from ``since`` on, before ``until``, in its
    order; or, if ``payout_ref`` is given, of what that payout is made of. ``cursor`` is the page
    before's."""

    since: datetime
    until: datetime
    cursor: str | None = None
    payout_ref: str | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """One movement of money at the provider. ``amount_minor`` is positive; a capture, what
    a dispute that was won gives back, and a dispute's fee that comes back add to what is held for
    us, everything else takes from it. ``fee_minor`` is what the provider keeps of it.

    ``attempt_id``, ``refund_id``, ``customer_id`` and ``invoice_id`` are ours as the provider was
    told them; None where it was told none. ``payout_ref`` is set once it is paid out.
    """

    provider_ref: str
    kind: Literal[
        "capture",
        "refund",
        "dispute",
        "dispute_won",
        "dispute_fee",
        "dispute_fee_back",
        "payout",
    ]
    amount_minor: int
    fee_minor: int
    currency: str
    at: datetime
    attempt_id: str | None = None
    refund_id: str | None = None
    payout_ref: str | None = None
    customer_id: str | None = None
    invoice_id: str | None = None


@dataclass(frozen=True, slots=True)
class Settlements:
    """A page. ``cursor`` None: there is nothing more."""

    listed: tuple[Settlement, ...]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """What the provider held for us at the moment asked for, before its fees, by currency."""

    amount_minor: Mapping[str, int]


SetupAnswer = SavedMethod | RequiresAction | Declined | NotFound | Unknown
"""What became of a setup: saved, open, refused, over without a method (NotFound), or unknown."""
Made = Succeeded | Authorized | RequiresAction | Processing | Declined | Canceled
Outcome = Made | NotExecuted | Unknown
Snapshot = Made | NotFound | Unknown


@dataclass(frozen=True, slots=True)
class Checked:
    """The provider knows these credentials. ``account`` names the merchant's account there;
    ``currencies`` are those it may take (None: the provider does not say)."""

    account: str
    currencies: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Hint:
    """What a webhook says happened; a hint only, the state is fetched from the provider.

    ``dedupe_key`` makes a repeated delivery the same delivery. ``attempt_id`` is also that of the
    payment whose refunds or disputes the hint is about; its kind then begins with ``refund.`` or
    ``dispute.``. A kind that begins with ``method.`` is about a saved method, named by
    ``provider_ref``.
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
    credentials: tuple[Credential, ...]

    def build_check(self, connection: Connection) -> HttpRequest: ...
    def read_check(self, status: int, answer: Mapping[str, Any]) -> Checked | Declined: ...
    def build_charge(self, connection: Connection, request: ChargeRequest) -> HttpRequest: ...
    def read_charge(self, status: int, answer: Mapping[str, Any]) -> Outcome: ...
    def build_capture(self, connection: Connection, request: CaptureRequest) -> HttpRequest: ...
    def read_capture(self, status: int, answer: Mapping[str, Any]) -> Outcome: ...
    def build_cancel(self, connection: Connection, provider_ref: str) -> HttpRequest: ...
    def read_cancel(self, status: int, answer: Mapping[str, Any]) -> Outcome: ...
    def build_checkout(self, connection: Connection, request: CheckoutRequest) -> HttpRequest: ...
    def read_checkout(self, status: int, answer: Mapping[str, Any]) -> Outcome: ...
    def build_complete(
        self, connection: Connection, request: CompleteRequest
    ) -> HttpRequest | None:
        """The call that a payer's approval waits for, with the attempt as its idempotency key; None
        where the provider goes on by itself."""
        ...

    def read_complete(self, status: int, answer: Mapping[str, Any]) -> Outcome: ...
    def build_expire(self, connection: Connection, provider_ref: str) -> HttpRequest: ...
    def read_expire(self, status: int, answer: Mapping[str, Any]) -> Outcome: ...
    def build_fetch(self, connection: Connection, attempt_id: str) -> HttpRequest: ...
    def read_fetch(self, status: int, answer: Mapping[str, Any]) -> Snapshot: ...
    def build_refund(self, connection: Connection, request: RefundRequest) -> HttpRequest: ...
    def read_refund(self, status: int, answer: Mapping[str, Any]) -> Outcome: ...
    def build_refunds(self, connection: Connection, attempt_id: str) -> HttpRequest: ...
    def read_refunds(self, status: int, answer: Mapping[str, Any]) -> Refunds | Unknown: ...
    def build_disputes(self, connection: Connection, attempt_id: str) -> HttpRequest: ...
    def read_disputes(self, status: int, answer: Mapping[str, Any]) -> Disputes | Unknown: ...
    def build_setup(self, connection: Connection, request: SetupRequest) -> HttpRequest: ...
    def build_setup_look(self, connection: Connection, provider_ref: str) -> HttpRequest: ...
    def build_setup_expire(self, connection: Connection, provider_ref: str) -> HttpRequest: ...
    def read_setup(self, status: int, answer: Mapping[str, Any]) -> SetupAnswer: ...
    def build_method(self, connection: Connection, token: str) -> HttpRequest: ...
    def read_method(
        self, status: int, answer: Mapping[str, Any]
    ) -> SavedMethod | NotFound | Unknown: ...
    def build_detach(self, connection: Connection, token: str) -> HttpRequest: ...
    def read_detach(self, status: int, answer: Mapping[str, Any]) -> Canceled | Unknown: ...
    def build_settlements(
        self, connection: Connection, request: SettlementsRequest
    ) -> HttpRequest: ...
    def read_settlements(self, status: int, answer: Mapping[str, Any]) -> Settlements | Unknown: ...
    def build_balance(self, connection: Connection, at: datetime) -> HttpRequest: ...
    def read_balance(self, status: int, answer: Mapping[str, Any]) -> Balance | Unknown: ...
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
