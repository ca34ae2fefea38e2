"""Requests that wait for their own facts: pay an invoice, cancel a page, attach a method.

The first transaction records the wish; then the request does what a worker would do, or waits
for the worker that is quicker. Stopped anywhere, the workers go on without it, and the same
request with the same idempotency key finds the result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.platform.db import Database, Tx, story
from subledger.platform.eventlog.writer import partition_of
from subledger.services.payments.flows.ask import Asking
from subledger.services.payments.flows.attach import Attaching
from subledger.services.payments.flows.capture import Capturing
from subledger.services.payments.flows.collect import Collecting
from subledger.services.payments.flows.refund import Refunding
from subledger.services.payments.flows.until import until
from subledger.services.payments.refunding import OVER
from subledger.services.payments.store import methods, payments, refunds

_READ = story("payments.read_payment", reads=True)
_READ_METHOD = story("payments.read_method", reads=True)
_READ_REFUND = story("payments.read_refund", reads=True)
_FIND_CUSTOMER = story("payments.find_customer", reads=True)
_CLOSED_WITHIN_S = 3.0
"""How long a cancellation waits where another process asks the provider."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A payment and its attempts."""

    payment: Row[Any]
    attempts: list[Row[Any]]


def _is_wanted(payment: Row[Any]) -> bool:
    """Whether an authorized payment is about to be captured or let go."""
    held = payment.held
    return payment.status == "authorized" and bool(msgspec.json.decode(held)["wish"])


class CustomerNotReady(Exception):
    """Payments has not read as far as the customer's events yet."""


class Waiting:
    """Drives what a request asked for, and looks until it is settled or time is up."""

    def __init__(
        self,
        *,
        database: Database,
        collecting: Collecting,
        asking: Asking,
        attaching: Attaching,
        refunding: Refunding,
        capturing: Capturing,
        group: str,
    ) -> None:
        self._database = database
        self._collecting = collecting
        self._asking = asking
        self._attaching = attaching
        self._refunding = refunding
        self._capturing = capturing
        self._group = group

    async def payment(self, tenant_id: UUID, payment_id: UUID) -> Seen | None:
        """The payment as it is now."""

        async def read(tx: Tx) -> Seen | None:
            key = (tenant_id, payment_id)
            found = (await payments.payments(tx, [key])).get(key)
            if found is None:
                return None
            return Seen(found, (await payments.attempts_of(tx, [key])).get(key, []))

        return await self._database.transact(_READ, read, tenants=[tenant_id])

    async def paid(self, tenant_id: UUID, payment_id: UUID, *, wait_s: float) -> Seen:
        """Collect, then wait until the payment is not ``processing`` any more, or ``wait_s``."""
        seen = await self.payment(tenant_id, payment_id)
        assert seen is not None, "recorded by this request or the one it repeats"
        attempt = seen.attempts[-1]
        if attempt.state in {"reserving", "ready"}:
            await self._collecting.drive((tenant_id, attempt.id), page=attempt.kind == "page")

        async def look() -> Seen | None:
            now = await self.payment(tenant_id, payment_id)
            return now if now is not None and now.payment.status != "processing" else None

        settled = await self.until(look, wait_s)
        return settled or await self.payment(tenant_id, payment_id) or seen

    async def reserved(self, tenant_id: UUID, payment_id: UUID) -> None:
        """Ask billing for the payment's reservation now, if it still waits for one: so that it has
        an owner who can give it back."""
        seen = await self.payment(tenant_id, payment_id)
        if seen is not None and seen.attempts[-1].state == "reserving":
            await self._collecting.reserve_attempts([(tenant_id, seen.attempts[-1].id)])

    async def closed(self, tenant_id: UUID, payment_id: UUID, *, wait_s: float) -> Seen:
        """Stop waiting for the payer at the provider, or let go what is authorized, as was intended
        before; waits ``wait_s`` for a worker that was quicker."""
        seen = await self.payment(tenant_id, payment_id)
        assert seen is not None, "checked by this request"
        await self._asking.drive((tenant_id, seen.attempts[-1].id))
        await self._capturing.drive((tenant_id, seen.attempts[-1].id))

        async def look() -> Seen | None:
            now = await self.payment(tenant_id, payment_id)
            waits = now is not None and (
                now.payment.status == "requires_action" or _is_wanted(now.payment)
            )
            return None if waits else now

        settled = await self.until(look, wait_s)
        return settled or await self.payment(tenant_id, payment_id) or seen

    async def captured(self, tenant_id: UUID, payment_id: UUID, *, wait_s: float) -> Seen:
        """Capture as was intended before, and wait until that is over or unknown, at most
        ``wait_s``."""
        seen = await self.payment(tenant_id, payment_id)
        assert seen is not None, "checked by this request"
        await self._capturing.drive((tenant_id, seen.attempts[-1].id))

        async def look() -> Seen | None:
            now = await self.payment(tenant_id, payment_id)
            return None if now is not None and _is_wanted(now.payment) else now

        settled = await self.until(look, wait_s)
        return settled or await self.payment(tenant_id, payment_id) or seen

    async def attached(self, tenant_id: UUID, method_id: UUID, *, wait_s: float) -> Row[Any]:
        """Attach, then wait until the method is not ``attaching`` any more, or ``wait_s``."""
        await self._attaching.drive((tenant_id, method_id))
        newest: list[Row[Any]] = []

        async def look() -> Row[Any] | None:
            async def read(tx: Tx) -> Row[Any]:
                key = (tenant_id, method_id)
                return (await methods.methods(tx, [key]))[key]

            newest[:] = [await self._database.transact(_READ_METHOD, read, tenants=[tenant_id])]
            return newest[0] if newest[0].status != "attaching" else None

        return await self.until(look, wait_s) or newest[0]

    async def set_up(self, tenant_id: UUID, method_id: UUID, *, wait_s: float) -> Row[Any]:
        """Wait until the page of a method is open, or it is not ``attaching``, or ``wait_s``."""
        key = (tenant_id, method_id)
        newest: list[Row[Any]] = []

        async def look() -> Row[Any] | None:
            async def read(tx: Tx) -> Row[Any]:
                return (await methods.methods(tx, [key]))[key]

            newest[:] = [await self._database.transact(_READ_METHOD, read, tenants=[tenant_id])]
            is_open = newest[0].redirect_url is not None
            return newest[0] if is_open or newest[0].status != "attaching" else None

        return await self.until(look, wait_s) or newest[0]

    async def refunded(self, tenant_id: UUID, refund_id: UUID, *, wait_s: float) -> Row[Any]:
        """Refund, then wait until it is over or unknown, or ``wait_s``."""
        key = (tenant_id, refund_id)
        await self._refunding.drive(key)
        newest: list[Row[Any]] = []

        async def look() -> Row[Any] | None:
            async def read(tx: Tx) -> Row[Any]:
                return (await refunds.refunds(tx, [key]))[key]

            newest[:] = [await self._database.transact(_READ_REFUND, read, tenants=[tenant_id])]
            return newest[0] if newest[0].state in {*OVER, "unknown"} else None

        return await self.until(look, wait_s) or newest[0]

    async def customer(
        self, tenant_id: UUID, customer_id: UUID, *, wait_s: float
    ) -> Row[Any] | None:
        """The customer, as soon as payments has read as far as the log reached at the request.

        None if there is no such customer. Raises CustomerNotReady when that takes too long.
        """
        partition = partition_of(customer_id)
        ends: list[int] = []

        async def look() -> tuple[Row[Any] | None] | None:
            async def read(tx: Tx) -> tuple[Row[Any] | None, int, int]:
                # The position first: whatever it covers is visible to the read that follows.
                reached, head = await methods.caught_up(tx, group=self._group, partition=partition)
                key = (tenant_id, customer_id)
                return (await methods.customers(tx, [key])).get(key), reached, head

            row, reached, head = await self._database.transact(
                _FIND_CUSTOMER, read, tenants=[tenant_id]
            )
            ends.append(head)
            return (row,) if row is not None or reached >= ends[0] else None

        found = await self.until(look, wait_s)
        if found is None:
            raise CustomerNotReady
        row: Row[Any] | None = found[0]
        return row

    async def until(self, look: Callable[[], Awaitable[Any]], wait_s: float) -> Any:
        """What ``look`` finds as soon as it is not None; None if it finds nothing in ``wait_s``."""
        return await until(self._database.wakeup, look, wait_s)
