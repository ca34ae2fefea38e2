"""Asking providers: the port's answers as findings, connections with their secrets in the clear.

Everything outside this module speaks of findings (``protocol``), so a new provider or a new kind
of answer changes nothing else.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

from cryptography.fernet import InvalidToken, MultiFernet
from sqlalchemy import Row

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers import port
from subledger.providers.engine import Gateway
from subledger.services.payments import choice, sealing
from subledger.services.payments.protocol import (
    Absent,
    ActionNeeded,
    Authorized,
    Captured,
    Closed,
    Finding,
    Lost,
    NotSent,
    Refused,
    Saved,
)
from subledger.services.payments.refunding import Listed
from subledger.services.payments.store import connections

_FOUR_DIGITS = re.compile("[0-9]{4}")
KEPT_S = 10.0
"""How long a process remembers a connection: a rotated or closed one is known everywhere then."""
_MOST_KEPT = 10_000
_READ_CONNECTION = story("payments.read_connection", reads=True)


class Accounts(Protocol):
    """Opens tenants' accounts at the sandbox provider, which tells the credentials itself."""

    def credentials(self, tenant_id: UUID) -> tuple[str, str]:
        """API key and webhook secret of the tenant's account, opened or not."""
        ...

    async def provision(self, tenant_id: UUID, webhook_path: str) -> tuple[str, str]:
        """Open the account, notified at ``webhook_path``. Idempotent by tenant."""
        ...


@dataclass(frozen=True, slots=True)
class Charge:
    """One attempt as a provider needs it."""

    attempt_id: UUID
    invoice_id: UUID | None
    amount_minor: int
    currency: str
    customer_id: UUID | None = None
    capture: bool = True

    @property
    def invoice(self) -> str | None:
        return None if self.invoice_id is None else ids.text("inv", self.invoice_id)

    @property
    def customer(self) -> str | None:
        return None if self.customer_id is None else ids.text("cus", self.customer_id)


@dataclass(frozen=True, slots=True)
class Return:
    """One refund as a provider needs it: what to give back of what ``capture`` took."""

    refund_id: UUID
    capture: Charge
    capture_ref: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class _Known:
    """A connection with its secrets, as it was a moment ago."""

    until_s: float
    connection: port.Connection
    is_closed: bool
    currencies: frozenset[str]


class Providers:
    """All providers that this installation knows, and the connections of its tenants.

    Every method is an outside call: none may run inside a transaction.
    """

    def __init__(
        self,
        *,
        database: Database,
        gateways: Mapping[str, Gateway],
        fernet: MultiFernet,
        call_s: float,
    ) -> None:
        """``call_s`` bounds one call (wall clock); it must be shorter than a claim's lease."""
        self._database = database
        self._gateways = gateways
        self.fernet = fernet
        self.call_s = self._call_s = call_s
        self._kept: OrderedDict[UUID, _Known] = OrderedDict()
        self._reading: dict[UUID, asyncio.Task[_Known]] = {}

    async def charge(
        self,
        connection_id: UUID,
        tenant_id: UUID,
        charge: Charge,
        *,
        token: str,
        return_url: str | None = None,
    ) -> Finding:
        """Charge a saved method, once for this attempt; who has to confirm it with the bank goes
        to ``return_url`` then."""
        connection = await self._taking(tenant_id, connection_id, charge.currency)
        if isinstance(connection, Refused):
            return connection
        gateway = self._gateways[connection.provider]
        if (refused := _in_one_stage_only(gateway, charge)) is not None:
            return refused
        request = port.ChargeRequest(
            attempt_id=ids.text("att", charge.attempt_id),
            token=token,
            amount_minor=charge.amount_minor,
            currency=charge.currency,
            invoice_id=charge.invoice,
            customer_id=charge.customer,
            return_url=return_url,
            capture=charge.capture,
        )
        return self._dated(await self.find(gateway.charge_saved(connection, request)), gateway)

    async def open_page(
        self, connection_id: UUID, tenant_id: UUID, charge: Charge, *, return_url: str
    ) -> Finding:
        """Open the hosted page of this attempt; asked again it is the same page."""
        connection = await self._taking(tenant_id, connection_id, charge.currency)
        if isinstance(connection, Refused):
            return connection
        gateway = self._gateways[connection.provider]
        if (refused := _in_one_stage_only(gateway, charge)) is not None:
            return refused
        request = port.CheckoutRequest(
            attempt_id=ids.text("att", charge.attempt_id),
            amount_minor=charge.amount_minor,
            currency=charge.currency,
            return_url=return_url,
            save=True,
            invoice_id=charge.invoice,
            customer_id=charge.customer,
            capture=charge.capture,
        )
        return await self.find(gateway.start_checkout(connection, request))

    async def look(self, connection_id: UUID, tenant_id: UUID, attempt_id: UUID) -> Finding:
        """What the provider says about an attempt now."""
        connection = await self.connection(tenant_id, connection_id)
        gateway = self._gateways[connection.provider]
        found = await self.find(gateway.fetch(connection, ids.text("att", attempt_id)))
        return self._dated(found, gateway)

    def _dated(self, found: Finding, gateway: Gateway) -> Finding:
        """Where an answer does not say how long an authorization lasts, the capability does."""
        kept_s = gateway.adapter.capabilities.authorization_s
        if isinstance(found, Authorized) and kept_s is not None:
            return replace(found, keeps_s=kept_s)
        return found

    async def stop_waiting(
        self, connection_id: UUID, tenant_id: UUID, provider_ref: str
    ) -> Finding:
        """Close a hosted page, or a charge that asked for its payer; Captured if it was paid
        before."""
        connection = await self.connection(tenant_id, connection_id)
        gateway = self._gateways[connection.provider]
        return await self.find(gateway.expire(connection, provider_ref))

    async def splits_refunds(self, connection_id: UUID, tenant_id: UUID) -> bool:
        """True if the provider gives back a part of a capture."""
        connection = await self.connection(tenant_id, connection_id)
        return self._gateways[connection.provider].adapter.capabilities.partial_refund

    async def refund(self, connection_id: UUID, tenant_id: UUID, given: Return) -> Finding:
        """Give money back, once for this refund; what a provider cannot split it refuses whole."""
        connection = await self.connection(tenant_id, connection_id)
        gateway = self._gateways[connection.provider]
        part = given.amount_minor < given.capture.amount_minor
        if part and not gateway.adapter.capabilities.partial_refund:
            return Refused(decline="config", code="partial_refund_unavailable", counted=False)
        request = port.RefundRequest(
            refund_id=ids.text("ref", given.refund_id),
            attempt_id=ids.text("att", given.capture.attempt_id),
            provider_ref=given.capture_ref,
            amount_minor=given.amount_minor,
            currency=given.capture.currency,
        )
        return await self.find(gateway.refund(connection, request))

    async def refunds(
        self, connection_id: UUID, tenant_id: UUID, attempt_id: UUID
    ) -> list[Listed] | None:
        """All refunds of an attempt that the provider knows; None if it does not say."""
        connection = await self.connection(tenant_id, connection_id)
        gateway = self._gateways[connection.provider]
        try:
            async with asyncio.timeout(self._call_s):
                answer = await gateway.refunds(connection, ids.text("att", attempt_id))
        except TimeoutError:
            return None
        if isinstance(answer, port.Unknown):
            return None
        return [_listed(each) for each in answer.listed]

    async def attach(
        self, connection_id: UUID, tenant_id: UUID, method_id: UUID, *, test_kind: str
    ) -> Saved | Lost | None:
        """A saved test method, once for this method id; None if there is no such kind."""
        connection = await self.connection(tenant_id, connection_id)
        gateway = self._gateways[connection.provider]
        try:
            async with asyncio.timeout(self._call_s):
                answer = await gateway.attach_test_method(
                    connection, test_kind, ids.text("pm", method_id)
                )
        except TimeoutError:
            return Lost("timeout")
        if isinstance(answer, port.NotExecuted | port.Unknown):
            return Lost(answer.reason)
        return None if answer is None else saved_of(self.fernet, answer)

    async def check(
        self, connection_id: UUID, tenant_id: UUID
    ) -> port.Checked | port.Declined | port.NotExecuted | port.Unknown:
        """Whether the provider knows the connection's newest credentials."""
        self.forget(connection_id)
        connection = await self.connection(tenant_id, connection_id)
        try:
            async with asyncio.timeout(self._call_s):
                return await self._gateways[connection.provider].check(connection)
        except TimeoutError:
            return port.Unknown("timeout")

    async def gateway_of(
        self, tenant_id: UUID, connection_id: UUID
    ) -> tuple[Gateway, port.Connection]:
        """The way to a connection's provider, and the connection with its secrets."""
        connection = await self.connection(tenant_id, connection_id)
        return self._gateways[connection.provider], connection

    def capabilities(self, provider: str) -> port.Capabilities | None:
        """What the provider can do; None for one that this installation does not know."""
        gateway = self._gateways.get(provider)
        return None if gateway is None else gateway.adapter.capabilities

    def credentials(self, provider: str) -> tuple[port.Credential, ...] | None:
        """The fields of a provider's credentials; None for one that is not known here."""
        gateway = self._gateways.get(provider)
        return None if gateway is None else gateway.adapter.credentials

    def names(self, *, is_live: bool) -> list[str]:
        """The providers that a tenant of this mode can connect: no test money in live tenants."""
        return sorted(
            name
            for name, each in self._gateways.items()
            if each.adapter.capabilities.is_real_money or not is_live
        )

    def currencies(self, provider: str) -> Collection[str] | None:
        """The currencies that a provider takes (None: all)."""
        can = self.capabilities(provider)
        return frozenset[str]() if can is None else can.currencies

    def is_troubled(self, provider: str, connection_id: UUID) -> bool:
        """True while the connection's calls are held back in this process."""
        gateway = self._gateways.get(provider)
        return gateway is not None and gateway.is_troubled(ids.text("conn", connection_id))

    async def connection(self, tenant_id: UUID, connection_id: UUID) -> port.Connection:
        """The connection with its secrets, as they were at most ``KEPT_S`` ago."""
        return (await self._known(tenant_id, connection_id)).connection

    def forget(self, connection_id: UUID) -> None:
        """The connection was changed: it is read anew."""
        self._kept.pop(connection_id, None)
        self._reading.pop(connection_id, None)

    async def _known(self, tenant_id: UUID, connection_id: UUID) -> _Known:
        known = self._kept.get(connection_id)
        if known is not None and known.until_s > time.monotonic():
            return known
        # Hundreds of charges ask at once when it has grown old: one of them reads.
        reading = self._reading.get(connection_id)
        if reading is None:
            reading = asyncio.create_task(self._read(tenant_id, connection_id))
            self._reading[connection_id] = reading
        return await asyncio.shield(reading)

    async def _read(self, tenant_id: UUID, connection_id: UUID) -> _Known:
        key, started_s = (tenant_id, connection_id), time.monotonic()
        mine = asyncio.current_task()

        async def read(tx: Tx) -> Row[Any]:
            return (await connections.connections(tx, [key]))[key]

        try:
            row = await self._database.transact(_READ_CONNECTION, read, tenants=[tenant_id])
            known = _Known(
                until_s=started_s + KEPT_S,
                connection=sealing.opened(self.fernet, row),
                is_closed=row.status == "closed",
                currencies=frozenset(row.currencies),
            )
            if self._reading.get(connection_id) is mine:  # else it was changed meanwhile
                self._kept[connection_id] = known
                self._kept.move_to_end(connection_id)
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
            return known
        finally:
            if self._reading.get(connection_id) is mine:
                del self._reading[connection_id]

    async def _taking(
        self, tenant_id: UUID, connection_id: UUID, currency: str
    ) -> port.Connection | Refused:
        """The connection for something new in ``currency``, or why nothing new may be asked of it:
        then the bank never sees it."""
        try:
            known = await self._known(tenant_id, connection_id)
        except InvalidToken:
            return Refused(decline="config", code="credentials_sealed", counted=False)
        provider, code = known.connection.provider, None
        if provider not in self._gateways:
            code = "unknown_provider"
        elif known.is_closed:
            code = "connection_closed"
        elif not choice.takes(known.currencies, self.currencies(provider), currency):
            code = "currency_not_taken"
        if code is not None:
            return Refused(decline="config", code=code, counted=False)
        return known.connection

    async def find(self, call: Awaitable[port.Outcome | port.Snapshot]) -> Finding:
        """What a call within the time limit found out; the limit's end finds ``Lost``."""
        try:
            async with asyncio.timeout(self._call_s):
                answer = await call
        except TimeoutError:
            return Lost("timeout")
        return finding(self.fernet, answer)


def _in_one_stage_only(gateway: Gateway, charge: Charge) -> Refused | None:
    """Why the provider cannot set the money of ``charge`` aside, if it should."""
    if charge.capture or gateway.adapter.capabilities.two_stage:
        return None
    return Refused(decline="config", code="two_stage_unavailable", counted=False)


def _listed(state: port.RefundState) -> Listed:
    found: Finding
    match state.status:
        case "succeeded":
            found = Captured(provider_ref=state.provider_ref, amount_minor=state.amount_minor)
        case "failed":
            found = Refused(decline="hard", code=state.code, provider_ref=state.provider_ref)
        case "processing":
            found = Lost("processing")
    return Listed(state.provider_ref, state.refund_id, state.amount_minor, found)


def saved_of(fernet: MultiFernet, method: port.SavedMethod) -> Saved:
    """A provider's method as it is kept here, its mandate encrypted."""
    return Saved(
        token=method.token,
        brand=method.brand,
        last_four=method.last_four if _FOUR_DIGITS.fullmatch(method.last_four) else "",
        reference=method.reference,
        expires_on=method.expires_on,
        mandate=sealing.seal_mandate(fernet, method.mandate),
    )


def finding(fernet: MultiFernet, answer: port.Outcome | port.Snapshot) -> Finding:
    """A provider's answer as what it means here."""
    found: Finding
    match answer:
        case port.Succeeded():
            saved = answer.method
            found = Captured(
                provider_ref=answer.provider_ref,
                amount_minor=answer.amount_minor,
                saved=None if saved is None else saved_of(fernet, saved),
            )
        case port.Authorized():
            saved = answer.method
            found = Authorized(
                provider_ref=answer.provider_ref,
                amount_minor=answer.amount_minor,
                expires_at=answer.expires_at,
                saved=None if saved is None else saved_of(fernet, saved),
            )
        case port.RequiresAction():
            found = ActionNeeded(answer.redirect_url, answer.provider_ref)
        case port.Declined():
            found = Refused(
                decline=answer.decline,
                code=answer.code,
                retry_not_before=answer.retry_not_before,
                counted=answer.decline != "config",
                provider_ref=answer.provider_ref,
            )
        case port.Canceled():
            found = Closed()
        case port.NotFound():
            found = Absent()
        case port.NotExecuted():
            found = NotSent(answer.reason, answer.retry_after_s)
        case port.Processing():
            found = Lost("processing")
        case port.Unknown():
            found = Lost(answer.reason)
    return found
