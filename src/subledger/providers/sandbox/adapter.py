"""The adapter of the sandbox provider: builds its requests, reads its answers."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec

from subledger.providers.port import (
    Authorized,
    Balance,
    Canceled,
    Capabilities,
    CaptureRequest,
    ChargeRequest,
    Checked,
    CheckoutRequest,
    CompleteRequest,
    Connection,
    Credential,
    DeclineClass,
    Declined,
    Disputes,
    DisputeState,
    Hint,
    HttpRequest,
    HttpResponse,
    Mandate,
    NotFound,
    Outcome,
    Processing,
    RefundRequest,
    Refunds,
    RefundState,
    RequiresAction,
    SavedMethod,
    Settlement,
    Settlements,
    SettlementsRequest,
    SetupAnswer,
    SetupRequest,
    Snapshot,
    Succeeded,
    Trust,
    Unknown,
)

SIGNATURE = "sandbox-signature"
TOLERANCE_S = 300
_CLASSES: dict[str, DeclineClass] = {
    "do_not_honor": "soft",
    "canceled": "soft",
    "insufficient_funds": "insufficient_funds",
    "stolen_card": "hard",
    "authentication_required": "action",
    "expired_card": "hard",
    "authentication_failed": "action",
    "authentication_expired": "action",
    "unknown_token": "hard",
}
_SETTLED = {
    *("capture", "refund", "payout"),
    *("dispute", "dispute_won", "dispute_fee", "dispute_fee_back"),
}
_REFUND_STATES: dict[str, Literal["processing", "succeeded", "failed"]] = {
    "processing": "processing",
    "succeeded": "succeeded",
    "declined": "failed",
}
_DISPUTE_STATES: dict[str, Literal["opened", "won", "lost"]] = {
    "opened": "opened",
    "won": "won",
    "lost": "lost",
}


def sign(body: bytes, secret: str, at_s: int) -> str:
    """The signature header of a webhook: HMAC-SHA256 over time and raw body."""
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def _metadata(request: ChargeRequest | CheckoutRequest) -> dict[str, Any]:
    """Ids that the provider keeps for us."""
    named = {"customer_id": request.customer_id, "invoice_id": request.invoice_id}
    known = {name: value for name, value in named.items() if value is not None}
    return {"metadata": known} if known else {}


class SandboxAdapter:
    """Two pure halves; knows no clock and no network."""

    name = "sandbox"
    capabilities = Capabilities(
        partial_refund=True,
        hosted_page=True,
        expire_page=True,
        save_without_charge=True,
        disputes="events",
        replay_window_s=10**9,
        max_parallel=300,
        rate_per_s=2_000.0,
        burst=2_000,
        expire_call="POST /v1/pages/{id}/expire",
        is_real_money=False,
        two_stage=True,
        authorization_s=7 * 86_400,
    )
    credentials: tuple[Credential, ...] = (
        Credential("api_key"),
        Credential("webhook_secret", required=False),
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

    def build_check(self, connection: Connection) -> HttpRequest:
        return self._request(connection, "GET", "/v1/account")

    def read_check(self, status: int, answer: Mapping[str, Any]) -> Checked | Declined:
        if status == 200:
            return Checked(str(answer["id"]))
        return Declined("config", str(answer.get("code", f"status_{status}")))

    def build_charge(self, connection: Connection, request: ChargeRequest) -> HttpRequest:
        body: dict[str, Any] = {
            "token": request.token,
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "attempt_id": request.attempt_id,
            **_metadata(request),
        }
        if request.return_url is not None:
            body["return_url"] = request.return_url
        if not request.capture:
            body["capture"] = False
        return self._request(connection, "POST", "/v1/charges", body, request.attempt_id)

    def read_charge(self, status: int, answer: Mapping[str, Any]) -> Outcome:
        if status == 200:
            return self._outcome(answer)
        if status in {400, 401, 404, 422}:
            return Declined("config", str(answer.get("code", f"status_{status}")))
        return Unknown(f"status {status}")

    def build_capture(self, connection: Connection, request: CaptureRequest) -> HttpRequest:
        path = f"/v1/charges/{request.provider_ref}/capture"
        body = {"amount_minor": request.amount_minor}
        return self._request(connection, "POST", path, body, f"{request.attempt_id}.capture")

    def read_capture(self, status: int, answer: Mapping[str, Any]) -> Outcome:
        return self.read_charge(status, answer)

    def build_cancel(self, connection: Connection, provider_ref: str) -> HttpRequest:
        return self._request(connection, "POST", f"/v1/charges/{provider_ref}/void", {})

    def read_cancel(self, status: int, answer: Mapping[str, Any]) -> Outcome:
        return Canceled(None) if status == 404 else self.read_charge(status, answer)

    def build_checkout(self, connection: Connection, request: CheckoutRequest) -> HttpRequest:
        body: dict[str, Any] = {
            "attempt_id": request.attempt_id,
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "return_url": request.return_url,
            "save": request.save,
            "locale": request.locale,
            "description": request.description,
            **_metadata(request),
        }
        if not request.capture:
            body["capture"] = False
        return self._request(connection, "POST", "/v1/pages", body, request.attempt_id)

    def read_checkout(self, status: int, answer: Mapping[str, Any]) -> Outcome:
        return self.read_charge(status, answer)

    def build_complete(
        self, connection: Connection, request: CompleteRequest
    ) -> HttpRequest | None:
        return None  # it captures by itself

    def read_complete(self, status: int, answer: Mapping[str, Any]) -> Outcome:
        return self.read_charge(status, answer)

    def build_expire(self, connection: Connection, provider_ref: str) -> HttpRequest:
        path = f"/v1/pages/{provider_ref}/expire"
        if provider_ref.startswith("ch_"):
            path = f"/v1/charges/{provider_ref}/cancel"
        return self._request(connection, "POST", path, {})

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

    def build_refund(self, connection: Connection, request: RefundRequest) -> HttpRequest:
        body = {
            "attempt_id": request.attempt_id,
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "refund_id": request.refund_id,
        }
        return self._request(connection, "POST", "/v1/refunds", body, request.refund_id)

    def read_refund(self, status: int, answer: Mapping[str, Any]) -> Outcome:
        return self.read_charge(status, answer)

    def build_refunds(self, connection: Connection, attempt_id: str) -> HttpRequest:
        return self._request(connection, "GET", f"/v1/refunds?attempt_id={attempt_id}")

    def read_refunds(self, status: int, answer: Mapping[str, Any]) -> Refunds | Unknown:
        if status != 200:
            return Unknown(f"status {status}")
        found = []
        for each in answer["data"]:
            state = _REFUND_STATES.get(each["status"])
            if state is None:
                return Unknown(f"status {each['status']}")
            found.append(
                RefundState(
                    provider_ref=each["id"],
                    refund_id=each["refund_id"],
                    amount_minor=each["amount_minor"],
                    status=state,
                    code=each["code"],
                )
            )
        return Refunds(tuple(found))

    def build_disputes(self, connection: Connection, attempt_id: str) -> HttpRequest:
        return self._request(connection, "GET", f"/v1/disputes?attempt_id={attempt_id}")

    def read_disputes(self, status: int, answer: Mapping[str, Any]) -> Disputes | Unknown:
        if status != 200:
            return Unknown(f"status {status}")
        found = []
        for each in answer["data"]:
            state = _DISPUTE_STATES.get(each["status"])
            if state is None:
                return Unknown(f"status {each['status']}")
            found.append(
                DisputeState(
                    provider_ref=each["id"],
                    amount_minor=each["amount_minor"],
                    currency=each["currency"],
                    reason=each["reason"],
                    status=state,
                    evidence_due_at=datetime.fromisoformat(each["evidence_due_at"]),
                    fee_minor=each["fee_minor"],
                )
            )
        return Disputes(tuple(found))

    def build_settlements(self, connection: Connection, request: SettlementsRequest) -> HttpRequest:
        query = {"since": request.since.isoformat(), "until": request.until.isoformat()}
        if request.payout_ref is not None:
            query = {"payout": request.payout_ref}
        if request.cursor is not None:
            query["after"] = request.cursor
        return self._request(connection, "GET", f"/v1/settlements?{urlencode(query)}")

    def read_settlements(self, status: int, answer: Mapping[str, Any]) -> Settlements | Unknown:
        if status != 200:
            return Unknown(f"status {status}")
        found = []
        for each in answer["data"]:
            if each["kind"] not in _SETTLED:
                return Unknown(f"kind {each['kind']}")
            found.append(
                Settlement(
                    provider_ref=each["id"],
                    kind=each["kind"],
                    amount_minor=each["amount_minor"],
                    fee_minor=each["fee_minor"],
                    currency=each["currency"],
                    at=datetime.fromisoformat(each["at"]),
                    attempt_id=each["attempt_id"],
                    refund_id=each["refund_id"],
                    payout_ref=each["payout_id"],
                    customer_id=each["metadata"]["customer_id"],
                    invoice_id=each["metadata"]["invoice_id"],
                )
            )
        return Settlements(tuple(found), answer["next"])

    def build_balance(self, connection: Connection, at: datetime) -> HttpRequest:
        return self._request(connection, "GET", f"/v1/balance?{urlencode({'at': at.isoformat()})}")

    def read_balance(self, status: int, answer: Mapping[str, Any]) -> Balance | Unknown:
        if status != 200:
            return Unknown(f"status {status}")
        return Balance({name: int(held) for name, held in answer["amount_minor"].items()})

    def build_test_method(
        self, connection: Connection, kind: str, idempotency_key: str
    ) -> HttpRequest:
        return self._request(connection, "POST", "/v1/methods", {"kind": kind}, idempotency_key)

    def read_test_method(self, status: int, answer: Mapping[str, Any]) -> SavedMethod | None:
        return self._method(answer) if status == 200 else None

    def build_setup(self, connection: Connection, request: SetupRequest) -> HttpRequest:
        body = {"setup_id": request.setup_id, "return_url": request.return_url}
        return self._request(connection, "POST", "/v1/setups", body, request.setup_id)

    def read_setup(self, status: int, answer: Mapping[str, Any]) -> SetupAnswer:
        if status == 404:
            return NotFound()
        if status != 200:
            definite = status in {400, 401, 422}
            code = str(answer.get("code", f"status_{status}"))
            return Declined("config", code) if definite else Unknown(f"status {status}")
        match answer["status"]:
            case "requires_action":
                return RequiresAction(answer["id"], answer["url"])
            case "completed":
                return self._method(answer["method"])
            case "expired":
                return NotFound()
            case other:
                return Unknown(f"status {other}")

    def build_setup_look(self, connection: Connection, provider_ref: str) -> HttpRequest:
        return self._request(connection, "GET", f"/v1/setups/{provider_ref}")

    def build_setup_expire(self, connection: Connection, provider_ref: str) -> HttpRequest:
        return self._request(connection, "POST", f"/v1/setups/{provider_ref}/expire", {})

    def build_method(self, connection: Connection, token: str) -> HttpRequest:
        return self._request(connection, "GET", f"/v1/methods/{token}")

    def read_method(
        self, status: int, answer: Mapping[str, Any]
    ) -> SavedMethod | NotFound | Unknown:
        if status == 404:
            return NotFound()
        return self._method(answer) if status == 200 else Unknown(f"status {status}")

    def build_detach(self, connection: Connection, token: str) -> HttpRequest:
        return self._request(connection, "POST", f"/v1/methods/{token}/detach", {})

    def read_detach(self, status: int, answer: Mapping[str, Any]) -> Canceled | Unknown:
        # What is not there any more is as good as detached.
        return Canceled() if status in {200, 404} else Unknown(f"status {status}")

    def _outcome(self, answer: Mapping[str, Any]) -> Outcome:
        if answer["status"] == "authorized":
            expires_at = datetime.fromisoformat(answer["expires_at"])
            method = answer.get("method")
            saved = None if method is None else self._method(method)
            return Authorized(answer["id"], answer["amount_minor"], expires_at, saved)
        return self._in_one_stage(answer)

    def _in_one_stage(self, answer: Mapping[str, Any]) -> Outcome:
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
        expires, agreed = answer.get("expires_on"), answer.get("mandate")
        return SavedMethod(
            token=answer["token"],
            brand=answer["brand"],
            last_four=answer["last_four"],
            reference=answer.get("id", ""),
            expires_on=None if expires is None else date.fromisoformat(expires),
            mandate=None
            if agreed is None
            else Mandate(agreed["text"], agreed["language"], agreed["at"], agreed["address"]),
        )

    def verify(self, headers: Mapping[str, str], body: bytes, secret: str, now_s: int) -> Trust:
        """Strong only for a signature of this body, made within five minutes (wall clock). Without
        a secret nothing is: everybody could sign."""
        if not secret:
            return "rejected"
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
                provider_ref=about.get("page_id")
                or about.get("charge_id")
                or about.get("method_id")
                or about.get("payout_id"),
            )
        ]

    def ack(self) -> HttpResponse:
        return HttpResponse(200, {"content-type": "application/json"}, b'{"received":true}')
