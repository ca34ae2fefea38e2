"""The engine: sends what an adapter built, and decides between definite and unknown.

A connection that could not be opened means not executed; anything that goes wrong after the first
byte left is unknown; a 5xx, HTML where JSON belongs or a status that nobody knows is unknown too.
Nothing is repeated here. A provider that says "too many" (429) did nothing, and is left alone for
as long as it asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import msgspec
import structlog

from subledger.platform.db import assert_no_transaction
from subledger.platform.http.middleware import App
from subledger.platform.telemetry import metrics
from subledger.platform.telemetry.logs import PROVIDER_RESPONSE, masked
from subledger.providers.hearing import Heard, tell
from subledger.providers.limits import Breaker, Bucket, Pass, Said
from subledger.providers.port import (
    Adapter,
    Balance,
    Canceled,
    CaptureRequest,
    ChargeRequest,
    Checked,
    CheckoutRequest,
    CompleteRequest,
    Connection,
    Declined,
    Disputes,
    HttpRequest,
    HttpResponse,
    NotExecuted,
    NotFound,
    NotSent,
    Outcome,
    RefundRequest,
    Refunds,
    SavedMethod,
    Settlements,
    SettlementsRequest,
    SetupAnswer,
    SetupRequest,
    Snapshot,
    Transport,
    Unknown,
)
from subledger.providers.transport import MOST_ANSWER_BYTES, TOTAL_S

Read = TypeVar("Read")
OPEN_FOR_S = 30.0
MOST_WAIT_S = 2.0
"""How long a call waits here for a free place, and again for its turn; then it was not executed."""
RETRY_AFTER_S, MOST_RETRY_AFTER_S = 5.0, 3600.0
"""After a 429: when it does not say how long, and the longest that is believed."""
MOST_LANES = 10_000

_log = structlog.get_logger()


class ConnectionCut(Exception):
    """The other side went away without a whole answer."""


class AsgiTransport:
    """The provider's application in this process, called without a socket in between."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def send(self, request: HttpRequest) -> HttpResponse:
        path, _, query = request.path.partition("?")
        scope = {
            "type": "http",
            "method": request.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode()) for k, v in request.headers.items()],
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "server": ("127.0.0.1", 0),
            "client": ("127.0.0.1", 0),
            # So that an application in this process can show what no application can over HTTP.
            "extensions": {"subledger.not_sent": {}},
        }
        status, complete = 0, False
        headers: dict[str, str] = {}
        parts: list[bytes] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                headers.update({k.decode(): v.decode() for k, v in message.get("headers", ())})
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                complete = not message.get("more_body", False)

        await self._app(scope, receive, send)
        if not complete:
            raise ConnectionCut
        return HttpResponse(status, headers, b"".join(parts))


class _Lane:
    """What holds the calls of one connection back, in this process."""

    def __init__(self, *, places: int, rate_per_s: float, burst: int, now_s: float) -> None:
        self.places = asyncio.Semaphore(places)
        self.breaker = Breaker(open_for_s=OPEN_FOR_S)
        self.bucket = Bucket(rate_per_s=rate_per_s, burst=burst, now_s=now_s)
        self.calls = 0
        """Under way or waiting: such a lane is kept."""


class Gateway:
    """What payments calls: one adapter over one transport, for any number of connections."""

    def __init__(
        self,
        adapter: Adapter,
        transport: Transport,
        *,
        breaks: bool = True,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``now_s`` never goes back: by it calls are spaced and held back."""
        self.adapter = adapter
        self._now_s = now_s
        self._transport = transport
        self._breaks = breaks
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()

    def is_troubled(self, connection_id: str) -> bool:
        """True while calls of this connection are held back because it lost too many."""
        lane = self._lanes.get(connection_id)
        return self._breaks and lane is not None and not lane.breaker.is_closed

    async def check(self, connection: Connection) -> Checked | Declined | NotExecuted | Unknown:
        """Whether the provider knows these credentials. Asks even while the breaker is open."""
        return await self._call(
            connection,
            "check",
            self.adapter.build_check(connection),
            self.adapter.read_check,
            guarded=False,
        )

    async def charge_saved(self, connection: Connection, request: ChargeRequest) -> Outcome:
        """Charge a saved method once for this attempt."""
        return await self._call(
            connection,
            "charge",
            self.adapter.build_charge(connection, request),
            self.adapter.read_charge,
        )

    async def capture(self, connection: Connection, request: CaptureRequest) -> Outcome:
        """Take what was authorized, once."""
        return await self._call(
            connection,
            "capture",
            self.adapter.build_capture(connection, request),
            self.adapter.read_capture,
        )

    async def cancel(self, connection: Connection, provider_ref: str) -> Outcome:
        """Let go what was authorized: Canceled, or Succeeded if it was captured before."""
        return await self._call(
            connection,
            "cancel",
            self.adapter.build_cancel(connection, provider_ref),
            self.adapter.read_cancel,
        )

    async def start_checkout(self, connection: Connection, request: CheckoutRequest) -> Outcome:
        """Open a hosted page for this attempt."""
        return await self._call(
            connection,
            "checkout",
            self.adapter.build_checkout(connection, request),
            self.adapter.read_checkout,
        )

    async def complete(
        self, connection: Connection, request: CompleteRequest
    ) -> Outcome | Snapshot:
        """What a payer's return completes, and the attempt's state then."""
        built = self.adapter.build_complete(connection, request)
        if built is None:
            return await self.fetch(connection, request.attempt_id)
        return await self._call(connection, "complete", built, self.adapter.read_complete)

    async def expire(self, connection: Connection, provider_ref: str) -> Outcome:
        """Stop waiting for the payer of a hosted page or of a charge that asked for its payer:
        Canceled or Declined, or Succeeded if it was paid before."""
        return await self._call(
            connection,
            "expire",
            self.adapter.build_expire(connection, provider_ref),
            self.adapter.read_expire,
        )

    async def fetch(self, connection: Connection, attempt_id: str) -> Snapshot:
        """The attempt's state at the provider. Asks even while the breaker is open."""
        answer = await self._call(
            connection,
            "fetch",
            self.adapter.build_fetch(connection, attempt_id),
            self.adapter.read_fetch,
            guarded=False,
        )
        return Unknown(answer.reason) if isinstance(answer, NotExecuted) else answer

    async def refund(self, connection: Connection, request: RefundRequest) -> Outcome:
        """Give money back once for this refund id."""
        return await self._call(
            connection,
            "refund",
            self.adapter.build_refund(connection, request),
            self.adapter.read_refund,
        )

    async def refunds(self, connection: Connection, attempt_id: str) -> Refunds | Unknown:
        """All refunds of an attempt's capture. Asks even while the breaker is open."""
        answer = await self._call(
            connection,
            "refunds",
            self.adapter.build_refunds(connection, attempt_id),
            self.adapter.read_refunds,
            guarded=False,
        )
        return Unknown(answer.reason) if isinstance(answer, NotExecuted) else answer

    async def disputes(self, connection: Connection, attempt_id: str) -> Disputes | Unknown:
        """All disputes of an attempt's capture. Asks even while the breaker is open."""
        answer = await self._call(
            connection,
            "disputes",
            self.adapter.build_disputes(connection, attempt_id),
            self.adapter.read_disputes,
            guarded=False,
        )
        return Unknown(answer.reason) if isinstance(answer, NotExecuted) else answer

    async def list_settlements(
        self, connection: Connection, request: SettlementsRequest
    ) -> Settlements | Unknown:
        """A page of what the provider did with our money. Asks even while the breaker is open."""
        answer = await self._call(
            connection,
            "settlements",
            self.adapter.build_settlements(connection, request),
            self.adapter.read_settlements,
            guarded=False,
        )
        return Unknown(answer.reason) if isinstance(answer, NotExecuted) else answer

    async def start_setup(
        self, connection: Connection, request: SetupRequest
    ) -> SetupAnswer | NotExecuted:
        """Open the page of a setup; asked again it is the same page."""
        build = self.adapter.build_setup(connection, request)
        return await self._call(connection, "setup", build, self.adapter.read_setup)

    async def fetch_setup(
        self, connection: Connection, provider_ref: str, *, expire: bool = False
    ) -> SetupAnswer | NotExecuted:
        """What became of a setup; closed first if it is to ``expire``. Asks even while the breaker
        is open."""
        of = self.adapter.build_setup_expire if expire else self.adapter.build_setup_look
        build, read = of(connection, provider_ref), self.adapter.read_setup
        return await self._call(connection, "setup_look", build, read, guarded=False)

    async def fetch_method(
        self, connection: Connection, token: str
    ) -> SavedMethod | NotFound | Unknown:
        """A saved method as it is now, also what replaced it. Asks even while the breaker is
        open."""
        answer = await self._call(
            connection,
            "method",
            self.adapter.build_method(connection, token),
            self.adapter.read_method,
            guarded=False,
        )
        return Unknown(answer.reason) if isinstance(answer, NotExecuted) else answer

    async def balance(self, connection: Connection, at: datetime) -> Balance | Unknown:
        """What the provider held for us at ``at``. Asks even while the breaker is open."""
        answer = await self._call(
            connection,
            "balance",
            self.adapter.build_balance(connection, at),
            self.adapter.read_balance,
            guarded=False,
        )
        return Unknown(answer.reason) if isinstance(answer, NotExecuted) else answer

    async def detach(self, connection: Connection, token: str) -> Canceled | NotExecuted | Unknown:
        """Give a saved method up: Canceled once it cannot be charged any more, also twice."""
        return await self._call(
            connection,
            "detach",
            self.adapter.build_detach(connection, token),
            self.adapter.read_detach,
        )

    async def attach_test_method(
        self, connection: Connection, kind: str, idempotency_key: str
    ) -> SavedMethod | NotExecuted | Unknown | None:
        """A saved test method of the sandbox; None if it knows no such kind."""
        return await self._call(
            connection,
            "test_method",
            self.adapter.build_test_method(connection, kind, idempotency_key),
            self.adapter.read_test_method,
        )

    async def _call(
        self,
        connection: Connection,
        operation: str,
        request: HttpRequest,
        read: Callable[[int, Mapping[str, Any]], Read],
        *,
        guarded: bool = True,
    ) -> Read | NotExecuted | Unknown:
        assert_no_transaction(f"provider call {operation}")
        lane = self._lane(connection.id)
        lane.calls += 1
        try:
            outcome = await self._in_turn(lane, operation, request, read, guarded=guarded)
        finally:
            lane.calls -= 1
        name = type(outcome).__name__ if outcome is not None else "None"
        metrics.provider_calls.labels(self.adapter.name, operation, name).inc()
        return outcome

    async def _in_turn(
        self,
        lane: _Lane,
        operation: str,
        request: HttpRequest,
        read: Callable[[int, Mapping[str, Any]], Read],
        *,
        guarded: bool,
    ) -> Read | NotExecuted | Unknown:
        """Wait for a place and for the connection's turn, then call."""
        try:
            async with asyncio.timeout(MOST_WAIT_S):
                await lane.places.acquire()
        except TimeoutError:
            return NotExecuted("busy", retry_after_s=MOST_WAIT_S)
        try:
            now_s = self._now_s()
            wait_s = lane.bucket.ready_in_s(now_s)
            if wait_s > MOST_WAIT_S:
                return NotExecuted("rate_limited", retry_after_s=wait_s)
            # Asked once a place is free: those who waited must not follow into the same trouble.
            passed = Pass.CALL
            if guarded and self._breaks:
                passed = lane.breaker.admit(now_s)
                if passed is Pass.NO:
                    return NotExecuted("circuit_open", retry_after_s=lane.breaker.ready_in_s(now_s))
            lane.bucket.take(now_s)
            said = Said.NOTHING
            try:
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                said = Said.LOST  # until it answers, and if the caller's patience ends first
                started = time.perf_counter()
                outcome = await self._send(operation, request, read)
                metrics.provider_seconds.labels(self.adapter.name, operation).observe(
                    time.perf_counter() - started
                )
                said = _said(outcome)
                if isinstance(outcome, NotExecuted) and outcome.reason == "rate_limited":
                    lane.bucket.hold(self._now_s() + (outcome.retry_after_s or 0.0))
                return outcome
            finally:
                lane.breaker.note(said, self._now_s(), passed=passed)
        finally:
            lane.places.release()

    def _lane(self, connection_id: str) -> _Lane:
        lane = self._lanes.get(connection_id)
        if lane is None:
            can = self.adapter.capabilities
            lane = self._lanes[connection_id] = _Lane(
                places=can.max_parallel,
                rate_per_s=can.rate_per_s,
                burst=can.burst,
                now_s=self._now_s(),
            )
            if len(self._lanes) > MOST_LANES:
                idle = next((name for name, each in self._lanes.items() if not each.calls), None)
                if idle is not None and idle != connection_id:
                    del self._lanes[idle]
        return lane

    async def _send(
        self, operation: str, request: HttpRequest, read: Callable[[int, Mapping[str, Any]], Read]
    ) -> Read | NotExecuted | Unknown:
        call = {"provider": self.adapter.name, "operation": operation}
        try:
            async with asyncio.timeout(TOTAL_S):
                answer = await self._transport.send(request)
        except NotSent as error:
            _log.warning(PROVIDER_RESPONSE, **call, not_sent=str(error))
            tell(Heard(operation, note=f"not sent: {type(error).__name__}"))
            return NotExecuted(str(error))
        except Exception as error:
            _log.warning(PROVIDER_RESPONSE, **call, lost=type(error).__name__)
            tell(Heard(operation, note=f"lost: {type(error).__name__}"))
            return Unknown(type(error).__name__)
        if answer.status == 429:
            after_s = retry_after_s(answer.headers, datetime.now(UTC))
            _log.warning(PROVIDER_RESPONSE, **call, status=429, retry_after_s=after_s)
            tell(Heard(operation, 429, note="too many requests"))
            return NotExecuted("rate_limited", retry_after_s=after_s)
        if answer.status >= 500 or len(answer.body) > MOST_ANSWER_BYTES:
            _log.warning(PROVIDER_RESPONSE, **call, status=answer.status, size=len(answer.body))
            tell(Heard(operation, answer.status, note=f"{len(answer.body)} bytes"))
            return Unknown(f"status {answer.status}")
        try:
            data = msgspec.json.decode(answer.body, type=dict[str, Any])
            tell(Heard(operation, answer.status, data))
            level = logging.DEBUG if answer.status < 400 else logging.WARNING
            if _log.is_enabled_for(level):  # masking costs more than reading the answer
                _log.log(level, PROVIDER_RESPONSE, **call, status=answer.status, body=masked(data))
            return read(answer.status, data)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = type(error).__name__
            _log.warning(PROVIDER_RESPONSE, **call, status=answer.status, unreadable=reason)
            tell(Heard(operation, answer.status, note=f"unreadable: {reason}"))
            return Unknown(f"unreadable answer, status {answer.status}")


def _said(outcome: object) -> Said:
    if isinstance(outcome, NotExecuted):
        return Said.NOTHING
    return Said.LOST if isinstance(outcome, Unknown) else Said.ANSWERED


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float:
    """The seconds of a ``Retry-After`` header, in either of its two forms; 5 s for one that is
    missing or cannot be read, and at most an hour."""
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "").strip()
    after_s = RETRY_AFTER_S
    if value.isascii() and value.isdigit():
        after_s = float(value[:9])
    elif value:
        try:
            moment = parsedate_to_datetime(value)
            after_s = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
        except (ValueError, OverflowError):
            after_s = RETRY_AFTER_S
    return min(max(after_s, 0.0), MOST_RETRY_AFTER_S)
