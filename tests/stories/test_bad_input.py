"""Bad input is a clear problem, and changes nothing: not one row of the tenant, not one event."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from subledger.hosts.assembly import Assembly
from subledger.providers.sandbox.adapter import SIGNATURE, sign
from tests.stories.fingerprint import fingerprint
from tests.stories.shop import Shop, open_shop

CUSTOMER = {
    "external_id": "ada", "name": "Ada", "email": "ada@example.com", "currency": "EUR",
    "timezone": "Europe/Berlin",
}  # fmt: skip


@pytest.fixture
async def refused(
    shop: Shop, admin: Any, shared_database_url: str
) -> AsyncIterator[Callable[..., Awaitable[dict[str, Any]]]]:
    """``await refused(request, status, code)``: the problem, after which nothing has changed."""
    connection = await admin(shared_database_url)

    async def ask(
        request: Awaitable[httpx.Response], status: int, code: str, pointer: str | None = None
    ) -> dict[str, Any]:
        await shop.pump.quiet()
        before = await fingerprint(connection, shop.tenant_id)
        answer = await request
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        told: dict[str, Any] = answer.json()
        assert (answer.status_code, told["status"], told["code"]) == (status, status, code), told
        assert told.get("pointer") == pointer, told
        assert told["detail"].endswith((".", "…")), told
        assert told["fix"]
        assert told["title"]
        assert told["request_id"] == answer.headers["x-request-id"]
        await shop.pump.quiet()
        after = await fingerprint(connection, shop.tenant_id)
        assert {name for name in after if after[name] != before[name]} == set()
        return told

    yield ask
    await connection.close()


def _raw(shop: Shop, body: bytes, path: str = "/v1/customers", **headers: str) -> Any:
    return shop.raw(
        "POST", path, content=body, headers={"content-type": "application/json", **headers}
    )


# --- the query ----------------------------------------------------------------------------------


async def test_a_filter_that_does_not_exist_is_not_passed_over(shop: Shop, refused: Any) -> None:
    told = await refused(
        shop.raw("GET", "/v1/payments", params={"state": "failed", "limit": 5}),
        422, "invalid_request", "/query/state",
    )  # fmt: skip
    assert "status" in told["fix"]
    events = shop.raw("GET", "/v1/events", params={"type": "invoice.paid"})
    await refused(events, 422, "invalid_request", "/query/type")
    there = shop.raw("POST", "/v1/customers", params={"dry_run": "true"}, json=CUSTOMER)
    told = await refused(there, 422, "invalid_request", "/query/dry_run")
    assert told["fix"] == "Leave out the query: it has none."


# --- the clock ----------------------------------------------------------------------------------


async def test_the_clock_of_a_live_tenant_stands_above_wishes(shop, refused, process):
    live = {"authorization": f"Bearer {shop.live_key}"}
    await refused(
        shop.raw("POST", "/v1/clock-moves", json={"to_at": "2026-03-01T00:00:00Z"}, headers=live),
        409, "clock_is_live",
    )  # fmt: skip


async def test_the_clock_moves_forward_only_and_one_way_at_a_time(shop, refused):
    for to_at, code in (("2026-01-30T00:00:00Z", "clock_backwards"),
                        ("2126-01-30T00:00:00Z", "clock_too_far")):  # fmt: skip
        told = await refused(
            shop.raw("POST", "/v1/clock-moves", json={"to_at": to_at}), 422, code, "/to_at"
        )
        assert "now_at" in told["fix"] or "20 years" in told["fix"]
    for bad in ("2026-02-30T00:00:00Z", "2026-03-01T00:00:00", "tomorrow", 1_700_000_000, None):
        await refused(
            shop.raw("POST", "/v1/clock-moves", json={"to_at": bad}),
            422, "invalid_request", "/to_at",
        )  # fmt: skip
    moving = await shop.api.post("/v1/clock-moves", json={"to_at": "2026-02-02T00:00:00Z"})
    assert moving.status_code == 202
    second = await shop.api.post("/v1/clock-moves", json={"to_at": "2026-02-03T00:00:00Z"})
    assert (second.status_code, second.json()["code"]) == (409, "clock_is_moving")
    assert second.json()["clock_move_id"] == moving.json()["id"]
    await shop.pump.quiet()
    assert (await shop.get("/v1/clock"))["now_at"] == "2026-02-02T00:00:00Z"


# --- fields -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("surprise", 1), ("currency", "eur"), ("currency", "ABC"), ("currency", "EURO"),
        ("timezone", "Mars"), ("timezone", "../etc/passwd"), ("timezone", "UTC+3"),
        ("email", "ada\n@example.com"), ("email", "ada\u0007@example.com"), ("email", "ada"),
        ("email", "a@b@c"), ("email", 5), ("name", ""), ("name", "   "), ("name", "A\u0000da"),
        ("name", "x" * 201), ("name", None), ("external_id", "x" * 201), ("external_id", ""),
        ("external_id", "a\u0001"), ("locale", "english"), ("country", "Germany"),
    ],
)  # fmt: skip
async def test_a_customers_bad_field_is_named(shop, refused, field, value):
    # A NUL is refused before anybody looks at fields, and named all the same.
    nul = isinstance(value, str) and "\x00" in value
    status, code = (400, "invalid_json") if nul else (422, "invalid_request")
    await refused(
        shop.raw("POST", "/v1/customers", json=CUSTOMER | {field: value}), status, code,
        f"/{field}",
    )  # fmt: skip


@pytest.mark.parametrize("amount", ["10.00", 1.5, True, "1e3", 10**16, -1, "", " 5", None, [1]])
async def test_an_amount_is_whole_minor_units(shop, refused, amount):
    product = await shop.post("/v1/products", {"code": "p", "name": "P", "resources": ["x"]})
    body = {
        "code": "p", "name": "P", "product_id": product["id"],
        "prices": [{"code": "b", "currency": "EUR", "model": "flat", "amount_minor": amount,
                    "interval": {"unit": "month", "count": 1}}],
    }  # fmt: skip
    pointer = "/prices/0" if amount is None else "/prices/0/amount_minor"
    await refused(shop.raw("POST", "/v1/plans", json=body), 422, "invalid_request", pointer)


async def test_an_amount_written_as_1e3_is_refused(shop, refused):
    off = b'{"code":"o","name":"O","amount_minor":1e3,"currency":"EUR","duration":"once"}'
    await refused(_raw(shop, off, "/v1/discounts"), 422, "invalid_request", "/amount_minor")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"name":NaN}', "NaN"), (b'{"name":Infinity}', "Infinity"),
        (b'{"name":"a","name":"b"}', "name"), (b'{"name":"\\u0000"}', "NUL"),
        (b'{"name":"\x00"}', ""), (b'{"name":"\xff"}', "UTF-8"), (b'{"name":"\\ud800"}', ""),
        (b"{", ""), (b"", ""), (b'{"name":' + b"9" * 40 + b"}", "38"),
        (b"[" * 1000 + b"]" * 1000, "deep"), (b'{"a":' * 1000 + b"1" + b"}" * 1000, "deep"),
    ],
)  # fmt: skip
async def test_json_that_nobody_should_send(shop, refused, body, said):
    answer = await _raw(shop, body)
    told = answer.json()
    status, code = (422, "invalid_request") if body == b"" else (400, "invalid_json")
    await refused(_raw(shop, body), status, code, told.get("pointer"))
    assert said in told["detail"], told


async def test_ten_megabytes_are_too_many(shop, refused):
    body = b'{"name":"' + b"x" * 10_000_000 + b'"}'
    told = await refused(_raw(shop, body), 413, "body_too_large")
    assert "1 MiB" in told["fix"]

    async def parts() -> AsyncIterator[bytes]:  # and without a length
        for _ in range(160):
            yield b"x" * 65_536

    await refused(
        shop.raw("POST", "/v1/customers", content=parts(),
                 headers={"content-type": "application/json"}),
        413, "body_too_large",
    )  # fmt: skip


async def test_a_body_of_another_kind_and_paths_that_are_none(shop, refused):
    form = shop.raw("POST", "/v1/customers", data={"name": "Ada"})
    await refused(form, 415, "unsupported_media_type")
    await refused(shop.raw("PUT", "/v1/customers", json={}), 405, "method_not_allowed")
    await refused(shop.raw("GET", "/v1/nothing"), 404, "not_found")
    for bad in ("ada", "cus_", "cus_" + "z" * 26, "sub_01h455vb4pex5vsknk084sn02q"):
        await refused(shop.raw("GET", f"/v1/customers/{bad}"), 404, "not_found")
    await refused(shop.raw("GET", "/v1/customers/%00"), 422, "invalid_request")
    for query, name in (("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"),
                        ("cursor=WyJ4Il0", "cursor")):  # fmt: skip
        await refused(
            shop.raw("GET", f"/v1/customers?{query}"), 422, "invalid_request", f"/query/{name}"
        )


# --- idempotency keys ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["k" * 300, "k" * 256, "a b", "\u00e9".encode("latin-1")])
async def test_an_idempotency_key_that_is_none(shop, refused, key):
    await refused(
        shop.raw("POST", "/v1/customers", json=CUSTOMER, headers={"idempotency-key": key}),
        400, "invalid_idempotency_key",
    )  # fmt: skip


async def test_an_idempotency_key_belongs_to_one_input_and_one_principal(shop, refused):
    headers = {"idempotency-key": "k-1"}
    first = await shop.post("/v1/customers", CUSTOMER, Idempotency_Key="k-1")
    product = {"code": "k", "name": "K", "resources": ["x"]}
    for path, body in (("/v1/customers", CUSTOMER | {"name": "Eve"}), ("/v1/products", product)):
        await refused(
            shop.raw("POST", path, json=body, headers=headers), 422, "idempotency_key_reused"
        )
    again = await shop.raw("POST", "/v1/customers", json=CUSTOMER, headers=headers)
    assert (again.status_code, again.json()["id"]) == (201, first["id"])
    assert again.headers["idempotent-replayed"] == "true"
    # Another principal's key of the same text is another key: it finds nothing of the first.
    other = await shop.post("/v1/api-keys", {"name": "second", "role": "admin"})
    theirs = headers | {"authorization": f"Bearer {other['key']}"}
    await refused(
        shop.raw("POST", "/v1/customers", json=CUSTOMER, headers=theirs), 409, "external_id_taken",
        "/external_id",
    )  # fmt: skip


# --- objects ------------------------------------------------------------------------------------


async def test_what_cannot_be_bought(shop, refused, process: Assembly):
    plan, yen = await shop.plan(), await shop.customer("yuki", currency="JPY")
    viewer, other = await shop.customer(), await shop.customer("bob")
    others_card = await shop.card(other)
    buy = {"customer_id": viewer, "plan_id": plan}
    stranger = await open_shop(process)
    foreign_plan = await stranger.plan()
    foreign = await stranger.customer()
    foreign_card = await stranger.card(foreign)
    for change, code, pointer in (
        ({"customer_id": yen}, "price_missing_for_currency", "/plan_id"),
        ({"currency": "JPY"}, "currency_mismatch", "/currency"),
        ({"customer_id": foreign}, "unknown_reference", "/customer_id"),
        ({"beneficiary_id": foreign}, "unknown_reference", "/beneficiary_id"),
        ({"plan_id": foreign_plan}, "unknown_reference", "/plan_id"),
        ({"discount_ids": ["disc_01h455vb4pex5vsknk084sn02q"]}, "unknown_reference",
         "/discount_ids/0"),
        ({"payment_method_id": foreign_card}, "unknown_reference", "/payment_method_id"),
        ({"payment_method_id": others_card}, "unknown_reference", "/payment_method_id"),
        ({"quantity": "0"}, "invalid_request", "/quantity"),
        ({"quantity": "NaN"}, "invalid_request", "/quantity"),
        ({"plan_id": viewer}, "invalid_request", "/plan_id"),
    ):  # fmt: skip
        await refused(shop.raw("POST", "/v1/subscriptions", json=buy | change), 422, code, pointer)
    await refused(
        shop.raw("POST", "/v1/payment-methods",
                 json={"customer_id": foreign, "test_kind": "visa_ok"}),
        404, "not_found", "/customer_id",
    )  # fmt: skip
    await stranger.api.aclose()


async def test_what_has_ended_stays_ended(shop, refused):
    plan, viewer = await shop.plan(), await shop.customer()
    method = await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    cancel, path = {"when": "now"}, f"/v1/subscriptions/{bought['id']}"
    await refused(shop.raw("POST", f"{path}/undo-cancel"), 409, "cancellation_not_scheduled")
    await shop.post(f"{path}/cancel", cancel, expect=200)
    for when in ("now", "period_end"):
        await refused(
            shop.raw("POST", f"{path}/cancel", json={"when": when}), 409, "subscription_ended"
        )
    await refused(shop.raw("POST", f"{path}/undo-cancel"), 409, "subscription_ended")
    await refused(shop.raw("GET", f"{path}/upcoming-invoice"), 409, "subscription_ended")
    invoice = (await shop.last_invoice(viewer))["id"]
    await refused(
        shop.raw("POST", f"/v1/invoices/{invoice}/void", json={"reason": "x"}),
        409, "invoice_not_open",
    )  # fmt: skip
    payment = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]["id"]
    await refused(shop.raw("POST", f"/v1/payments/{payment}/cancel"), 409, "payment_not_cancelable")
    assert (await shop.raw("DELETE", f"/v1/payment-methods/{method}")).status_code == 204
    await refused(
        shop.raw("POST", f"/v1/payment-methods/{method}/default"),
        409, "payment_method_not_active",
    )  # fmt: skip
    await refused(
        shop.raw("POST", "/v1/payments", json={"invoice_id": invoice, "payment_method_id": method}),
        409, "payment_method_not_active", "/payment_method_id",
    )  # fmt: skip
    assert (await shop.raw("DELETE", f"/v1/customers/{viewer}")).status_code == 204
    await refused(shop.raw("DELETE", f"/v1/customers/{viewer}"), 404, "not_found")
    buy = {"customer_id": viewer, "plan_id": plan}
    await refused(
        shop.raw("POST", "/v1/subscriptions", json=buy), 422, "unknown_reference", "/customer_id"
    )


# --- notifications ------------------------------------------------------------------------------


async def test_forged_old_and_repeated_notifications(shop, refused, admin, shared_database_url):
    plan, viewer = await shop.plan(), await shop.customer()
    bought = await shop.post(
        "/v1/subscriptions",
        {"customer_id": viewer, "plan_id": plan, "collection": "page",
         "return_url": "http://shop.test/x"},
    )  # fmt: skip
    connection = await admin(shared_database_url)
    path = await connection.fetchval(
        "SELECT webhook_path FROM sandbox.merchants WHERE tenant_id = $1", shop.tenant_id
    )
    _, secret = shop.assembly.sandbox.credentials(shop.tenant_id)
    assert (await shop.pay_page(bought["next_action"]["redirect_url"])).status_code == 303
    await shop.pump.quiet()
    body = await connection.fetchval(
        "SELECT body FROM sandbox.callbacks WHERE tenant_id = $1 ORDER BY id DESC", shop.tenant_id
    )
    await connection.close()
    now, sent = int(datetime.now(UTC).timestamp()), body.encode()

    def notify(header: str | None, content: bytes = sent) -> Any:
        given = {"content-type": "application/json"} | ({SIGNATURE: header} if header else {})
        return shop.raw("POST", path, content=content, headers=given)

    forged = sent.replace(b'"', b"'")
    for request in (
        notify(None), notify("nonsense"), notify(sign(sent, "whsec_other", now)),
        notify(sign(sent, secret, now - 3600)), notify(sign(sent, secret, now + 3600)),
        notify(sign(sent, secret, now), forged),
    ):  # fmt: skip
        await refused(request, 401, "webhook_rejected")
    await refused(notify(sign(b"{}", secret, now), b"{}"), 400, "webhook_unreadable")
    await refused(shop.raw("POST", "/webhooks/sandbox/" + "x" * 40, content=sent), 404, "not_found")
    await refused(shop.raw("POST", path.replace("sandbox", "paypal")), 404, "not_found")
    seen = await shop.new_events(viewer)
    repeated = await notify(sign(sent, secret, int(time.time())))
    assert repeated.status_code < 300  # acknowledged, or the provider would send it for ever
    assert await shop.new_events(viewer) == []
    assert seen.count("payment.succeeded") == 1
    assert await shop.captured() == {"EUR": 999}
    await shop.check()
