"""The adapter's halves without any network: requests built, answers read, webhooks judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from subledger.providers.port import (
    Canceled,
    ChargeRequest,
    CheckoutRequest,
    Connection,
    Declined,
    Hint,
    NotFound,
    Outcome,
    Processing,
    RequiresAction,
    SavedMethod,
    Succeeded,
    Unknown,
)
from subledger.providers.sandbox.adapter import SIGNATURE, TOLERANCE_S, SandboxAdapter, sign

ADAPTER = SandboxAdapter()
CONNECTION = Connection("conn_1", "sandbox", "sbk_secret", "whsec_secret")
AT = "2026-03-01T12:00:00+00:00"
PAID = {"id": "ch_1", "status": "succeeded", "code": "ok", "amount_minor": 1250, "at": AT}


def test_a_charge_is_built_with_the_attempt_as_its_key() -> None:
    request = ADAPTER.build_charge(CONNECTION, ChargeRequest("att_1", "tok_1", 1250, "EUR"))
    assert (request.method, request.path) == ("POST", "/v1/charges")
    assert request.headers["idempotency-key"] == "att_1"
    assert request.headers["authorization"] == "Bearer sbk_secret"
    assert msgspec.json.decode(request.body) == {
        "token": "tok_1",
        "amount_minor": 1250,
        "currency": "EUR",
        "attempt_id": "att_1",
    }


def test_secrets_are_in_no_text_of_what_travels() -> None:
    request = ADAPTER.build_charge(CONNECTION, ChargeRequest("att_1", "tok_1", 1250, "EUR"))
    shown = repr([CONNECTION, request, ChargeRequest("att_1", "tok_1", 1, "EUR")])
    assert not any(secret in shown for secret in ("sbk_secret", "whsec_secret", "tok_1"))


def test_a_page_is_built_with_its_way_back() -> None:
    asked = CheckoutRequest("att_2", 500, "JPY", "https://shop.test/", True, "ru", "Кино")
    request = ADAPTER.build_checkout(CONNECTION, asked)
    assert (request.method, request.path) == ("POST", "/v1/pages")
    assert msgspec.json.decode(request.body) == {
        "attempt_id": "att_2",
        "amount_minor": 500,
        "currency": "JPY",
        "return_url": "https://shop.test/",
        "save": True,
        "locale": "ru",
        "description": "Кино",
    }
    assert ADAPTER.build_expire(CONNECTION, "page_1").path == "/v1/pages/page_1/expire"
    assert ADAPTER.build_fetch(CONNECTION, "att_2").path == "/v1/attempts/att_2"


VISA = {"token": "tok_9", "brand": "visa", "last_four": "4242"}


@pytest.mark.parametrize(
    ("status", "answer", "outcome"),
    [
        (200, PAID, Succeeded("ch_1", 1250, AT)),
        (
            200,
            PAID | {"method": VISA},
            Succeeded("ch_1", 1250, AT, SavedMethod("tok_9", "visa", "4242")),
        ),
        (
            200,
            {"id": "ch_2", "status": "declined", "code": "do_not_honor"},
            Declined("soft", "do_not_honor", "ch_2"),
        ),
        (
            200,
            {"id": "ch_2", "status": "declined", "code": "stolen_card"},
            Declined("hard", "stolen_card", "ch_2"),
        ),
        (
            200,
            {"id": "ch_2", "status": "declined", "code": "insufficient_funds"},
            Declined("insufficient_funds", "insufficient_funds", "ch_2"),
        ),
        (
            200,
            {"id": "ch_2", "status": "declined", "code": "authentication_required"},
            Declined("action", "authentication_required", "ch_2"),
        ),
        (
            200,
            {"id": "page_1", "status": "requires_action", "url": "http://p/pay/1"},
            RequiresAction("page_1", "http://p/pay/1"),
        ),
        (200, {"id": "ch_3", "status": "processing"}, Processing("ch_3")),
        (200, {"id": "page_1", "status": "expired"}, Canceled("page_1")),
        (200, {"id": "ch_4", "status": "in_review"}, Unknown("status in_review")),
        (401, {"code": "unauthorized"}, Declined("config", "unauthorized")),
        (
            422,
            {"code": "idempotency_key_reused"},
            Declined("config", "idempotency_key_reused"),
        ),
        (418, {"code": "teapot"}, Unknown("status 418")),
        (302, {}, Unknown("status 302")),
    ],
)
def test_a_charge_is_read(status: int, answer: Mapping[str, Any], outcome: Outcome) -> None:
    assert ADAPTER.read_charge(status, answer) == outcome


def test_only_a_404_of_a_fetch_says_that_there_is_no_such_attempt() -> None:
    assert ADAPTER.read_fetch(404, {"code": "not_found"}) == NotFound()
    assert ADAPTER.read_fetch(401, {"code": "unauthorized"}) == Unknown("status 401")
    assert ADAPTER.read_fetch(200, PAID) == Succeeded("ch_1", 1250, AT)


# --- webhooks -----------------------------------------------------------------------------------

SECRET, NOW = "whsec_secret", 1_772_366_400
BODY = b'{"id":"cb_1","type":"page.completed","data":{"attempt_id":"att_1","page_id":"page_1"}}'


def judged(header: str | None, *, body: bytes = BODY, now_s: int = NOW) -> str:
    headers = {} if header is None else {SIGNATURE: header}
    return ADAPTER.verify(headers, body, SECRET, now_s)


def test_a_signature_of_this_body_made_now_is_trusted() -> None:
    assert judged(sign(BODY, SECRET, NOW)) == "strong"
    assert judged(sign(BODY, SECRET, NOW), now_s=NOW + TOLERANCE_S) == "strong"


def test_an_old_or_a_future_signature_is_rejected() -> None:
    assert judged(sign(BODY, SECRET, NOW), now_s=NOW + TOLERANCE_S + 1) == "rejected"
    assert judged(sign(BODY, SECRET, NOW), now_s=NOW - TOLERANCE_S - 1) == "rejected"


def test_a_forged_signature_is_rejected() -> None:
    good = sign(BODY, SECRET, NOW)
    assert judged(sign(BODY, "whsec_other", NOW)) == "rejected"
    assert judged(good, body=BODY.replace(b"att_1", b"att_2")) == "rejected"
    assert judged(good, body=BODY[:-1]) == "rejected"
    assert judged(good, body=b"\xff\xfe") == "rejected"
    # The time is part of what is signed.
    assert judged(good.replace(f"t={NOW}", f"t={NOW + 1}")) == "rejected"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "v1=",
        "t=,v1=",
        f"t={NOW}",
        f"t={NOW},v1=",
        f"t={NOW},v1=é",
        f"t={NOW},v1=\udcff",
        "t=²,v1=00",
        f"t=-{NOW},v1=00",
        "t=1e9,v1=00",
        f"t={'9' * 5000},v1=00",
        ",,,=,=,",
        f"v0={'0' * 64}",
    ],
)
def test_a_header_that_is_none_is_rejected_and_never_an_error(header: str | None) -> None:
    assert judged(header) == "rejected"


def test_a_webhook_is_a_hint_with_ids_only() -> None:
    assert ADAPTER.parse(BODY) == [Hint("cb_1", "page.completed", "att_1", "page_1")]
    charge = b'{"id":"cb_2","type":"charge.failed","data":{"attempt_id":"att_1","charge_id":"ch"}}'
    assert ADAPTER.parse(charge) == [Hint("cb_2", "charge.failed", "att_1", "ch")]
    assert (ADAPTER.ack().status, ADAPTER.ack().body) == (200, b'{"received":true}')


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"id":1,"data":{}}', b"\xff", b'{"id":"x"}'])
def test_what_is_no_webhook_raises_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        ADAPTER.parse(body)
