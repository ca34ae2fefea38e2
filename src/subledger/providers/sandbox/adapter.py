"""The adapter of the sandbox provider: builds its requests, reads its answers."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

from subledger.providers.port import (
    Canceled,
    Capabilities,
    ChargeRequest,
    CheckoutRequest,
    Connection,
    DeclineClass,
    Declined,
    Hint,
    HttpRequest,
    HttpResponse,
    NotFound,
    Outcome,
    Processing,
    RequiresAction,
    SavedMethod,
    Snapshot,
    Succeeded,
    Trust,
    Unknown,
)

SIGNATURE = "sandbox-signature"
TOLERANCE_S = 300
_CLASSES: dict[str, DeclineClass] = {
    "do_not_honor": "soft",
    "insufficient_funds": "insufficient_funds",
    "stolen_card": "hard",
    "authentication_required": "action",
    "unknown_token": "hard",
}


def sign(body: bytes, secret: str, at_s: int) -> str:
    """The signature header of a webhook: HMAC-SHA256 over time and raw body."""
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


class SandboxAdapter:
    """Two pure halves; knows no clock and no network."""

    name = "sandbox"
    capabilities = Capabilities(
        partial_refund=False,
        hosted_page=True,
        expire_page=True,
        save_without_charge=True,
        disputes="none",
        replay_window_s=10**9,
        max_parallel=300,
    )

    def _request(
        self,
        connection: Connection,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> HttpRequest:
        headers = {"authorization": f"Bearer {connection.api_key}"}
        if key is not None:
            headers["idempotency-key"] = key
        if body is None:
            return HttpRequest(method, path, headers)
        headers["content-type"] = "application/json"
        return HttpRequest(method, path, headers, msgspec.json.encode(body))

    def build_charge(self, connection: Connection, request: ChargeRequest) -> HttpRequest:
        body = {
            "token": request.token,
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "attempt_id": request.attempt_id,
        }
        return self._request(connection, "POST", "/v1/charges", body, request.attempt_id)

    def read_charge(self, status: int, answer: Mapping[str, Any]) -> Outcome:
        if status == 200:
            return self._outcome(answer)
        if status in {400, 401, 404, 422}:
            return Declined("config", str(answer.get("code", f"status_{status}")))
        return Unknown(f"status {status}")

    def build_checkout(self, connection: Connection, request: CheckoutRequest) -> HttpRequest:
        body = {
            "attempt_id": request.attempt_id,
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "return_url": request.return_url,
            "save": request.save,
            "locale": request.locale,
            "description": request.description,
        }
        return self._request(connection, "POST", "/v1/pages", body, request.attempt_id)

    def read_checkout(self, status: int, answer: Mapping[str, Any]) -> Outcome:
        return self.read_charge(status, answer)

    def build_expire(self, connection: Connection, provider_ref: str) -> HttpRequest:
        return self._request(connection, "POST", f"/v1/pages/{provider_ref}/expire", {})

    def read_expire(self, status: int, answer: Mapping[str, Any]) -> Outcome:
        if status == 404:
            return Canceled(None)
        return self.read_charge(status, answer)

    def build_fetch(self, connection: Connection, attempt_id: str) -> HttpRequest:
        return self._request(connection, "GET", f"/v1/attempts/{attempt_id}")

    def read_fetch(self, status: int, answer: Mapping[str, Any]) -> Snapshot:
        if status == 404:
            return NotFound()
        if status != 200:
            return Unknown(f"status {status}")
        return self._outcome(answer)  # type: ignore[return-value]  # the sandbox never answers "not executed"

    def build_test_method(
        self, connection: Connection, kind: str, idempotency_key: str
    ) -> HttpRequest:
        return self._request(connection, "POST", "/v1/methods", {"kind": kind}, idempotency_key)

    def read_test_method(self, status: int, answer: Mapping[str, Any]) -> SavedMethod | None:
        return self._method(answer) if status == 200 else None

    def _outcome(self, answer: Mapping[str, Any]) -> Outcome:
        match answer["status"]:
            case "succeeded":
                method = answer.get("method")
                return Succeeded(
                    provider_ref=answer["id"],
                    amount_minor=answer["amount_minor"],
                    captured_at=answer["at"],
                    method=None if method is None else self._method(method),
                )
            case "declined":
                code = str(answer["code"])
                return Declined(_CLASSES.get(code, "soft"), code, answer["id"])
            case "requires_action":
                return RequiresAction(answer["id"], answer["url"])
            case "processing":
                return Processing(answer["id"])
            case "expired":
                return Canceled(answer["id"])
            case other:
                return Unknown(f"status {other}")

    def _method(self, answer: Mapping[str, Any]) -> SavedMethod:
        return SavedMethod(answer["token"], answer["brand"], answer["last_four"])

    def verify(self, headers: Mapping[str, str], body: bytes, secret: str, now_s: int) -> Trust:
        """Strong only for a signature of this body, made within five minutes (wall clock)."""
        parts = dict(
            part.partition("=")[::2] for part in headers.get(SIGNATURE, "").split(",") if part
        )
        stamp = parts.get("t", "")
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
            return "rejected"
        if abs(now_s - int(stamp)) > TOLERANCE_S:
            return "rejected"
        expected = sign(body, secret, int(stamp)).partition("v1=")[2]
        given = parts.get("v1", "")
        same = hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))
        return "strong" if same else "rejected"

    def parse(self, body: bytes) -> list[Hint]:
        """What the webhook speaks of. Raises ValueError if it is not one of ours."""
        data = msgspec.json.decode(body, type=dict[str, Any])
        about = data.get("data")
        if not isinstance(about, dict) or not isinstance(data.get("id"), str):
            raise ValueError("not a webhook of the sandbox provider")
        return [
            Hint(
                dedupe_key=data["id"],
                kind=str(data.get("type", "")),
                attempt_id=about.get("attempt_id"),
                provider_ref=about.get("page_id") or about.get("charge_id"),
            )
        ]

    def ack(self) -> HttpResponse:
        return HttpResponse(200, {"content-type": "application/json"}, b'{"received":true}')
