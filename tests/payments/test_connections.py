"""Stories of connections: made, checked, chosen, changed, closed; secrets stay secret."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from subledger.hosts.gateway import build_app
from subledger.platform import ids
from subledger.platform.http.problems import Problem
from subledger.providers.engine import AsgiTransport, Gateway
from subledger.providers.port import HttpRequest, HttpResponse, NotSent
from subledger.providers.sandbox.adapter import SandboxAdapter
from subledger.services.payments import provider
from subledger.services.payments.protocol import RECONCILE
from tests.payments.connecting import SECRET, account, change, check, client_of, connect, notify
from tests.payments.world import FERNET, Shop, World


def wall(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock by which processes remember connections, moved by hand."""
    now_s = [0.0]
    monkeypatch.setattr(provider, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    return now_s


async def paid_through(shop: Shop, customer: UUID) -> str:
    """The connection whose page a new invoice is to be paid on."""
    invoice, _ = await shop.invoice(
        customer, 500, mode="page", dunning=False, return_url="http://shop.test/back"
    )
    await shop.world.settle()
    payment = (await shop.payments_of(invoice))[0]
    assert payment["status"] == "requires_action", payment
    return str(payment["connection_id"])


async def test_a_connection_is_made_once_and_shows_no_secret(world: World) -> None:
    shop = await world.shop()
    await world.provider.provision(shop.tenant, "/hooks/elsewhere")
    body = {"provider": "sandbox", "name": "Cards", "credentials": account(shop)}
    key = {"Idempotency-Key": "connect"}
    made = (await shop.http.post("/v1/connections", json=body, headers=key)).json()
    again = (await shop.http.post("/v1/connections", json=body, headers=key)).json()

    api_key = account(shop)["api_key"]
    assert (made["status"], made["opens_itself"]) == ("active", False)
    assert made["credentials"] == {"api_key": f"…{api_key[-4:]}", "webhook_secret": "…0123"}
    assert made["webhook_url"].startswith("http://gateway.test/webhooks/sandbox/")
    assert len(made["webhook_url"].rpartition("/")[2]) == 43
    assert again == made
    listed = (await shop.http.get("/v1/connections")).json()["data"]
    assert listed == [made] == [(await shop.http.get(f"/v1/connections/{made['id']}")).json()]
    reader = {"authorization": f"Bearer sk_read_{shop.tenant.hex}"}
    seen = (await shop.http.get(f"/v1/connections/{made['id']}", headers=reader)).json()
    assert seen == made | {"webhook_url": None}

    stored = await world.admin.fetch(
        "SELECT c.*::text AS row FROM payments.connections c WHERE tenant_id = $1"
        " UNION ALL SELECT e.*::text FROM webhooks.endpoints e WHERE tenant_id = $1"
        " UNION ALL SELECT l.*::text FROM eventlog.events l WHERE tenant_id = $1",
        shop.tenant,
    )
    text = " ".join(row["row"] for row in stored)
    token = made["webhook_url"].rpartition("/")[2]
    for secret in (api_key, SECRET, token):
        assert secret not in text
        assert secret.encode().hex() not in text


async def test_a_check_says_what_is_wrong_in_two_languages(world: World) -> None:
    shop = await world.shop()
    made = (await connect(shop))["id"]
    good = await check(shop, made)
    assert (good["ok"], good["findings"]) == (True, [])
    assert good["account"] == ids.text("mer", shop.tenant)

    await change(shop, made, credentials={"api_key": "sbk_of_nobody_at_all", "webhook_secret": ""})
    bad = await check(shop, made)
    assert (bad["ok"], bad["account"]) == (False, None)
    assert [each["code"] for each in bad["findings"]] == [
        "credentials_rejected",
        "webhook_secret_missing",
    ]
    russian = await check(shop, made, locale="ru")
    assert [each["code"] for each in russian["findings"]] == [
        each["code"] for each in bad["findings"]
    ]
    assert "не принимает эти реквизиты (unauthorized)" in russian["findings"][0]["message"]
    assert "of_nobody" not in json.dumps(bad) + json.dumps(russian)


class Broken:
    """A provider that cannot be reached, or that never answers."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def send(self, request: HttpRequest) -> HttpResponse:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"),
    [(NotSent("ConnectError"), "not_reached"), (ConnectionResetError(), "no_clear_answer")],
)
async def test_a_check_of_a_provider_in_trouble_blames_no_credentials(
    world: World, error: Exception, code: str
) -> None:
    shop = await world.shop()
    made = (await connect(shop))["id"]
    gateway = Gateway(SandboxAdapter(), Broken(error))
    broken = world.build_payments(gateways={"sandbox": gateway})
    async with client_of(build_app([broken], key_ring=world.ring), shop) as client:
        answer = (await client.post(f"/v1/connections/{made}/check")).json()
    assert [each["code"] for each in answer["findings"]] == [code]


async def test_secrets_and_addresses_are_replaced(world: World) -> None:
    shop = await world.shop()
    made = await connect(shop)
    path = f"/v1/connections/{made['id']}"
    assert await notify(shop, made["webhook_url"]) == 200
    await change(shop, made["id"], credentials={"webhook_secret": "whsec_rotated_9876"})
    assert await notify(shop, made["webhook_url"]) == 401
    assert await notify(shop, made["webhook_url"], "whsec_rotated_9876") == 200

    moved = (await shop.http.post(f"{path}/replace-webhook-url")).json()
    assert moved["webhook_url"] != made["webhook_url"]
    assert await notify(shop, made["webhook_url"], "whsec_rotated_9876") == 404
    assert await notify(shop, moved["webhook_url"], "whsec_rotated_9876") == 200

    key = {"Idempotency-Key": "move"}
    first = (await shop.http.post(f"{path}/replace-webhook-url", headers=key)).json()
    second = (await shop.http.post(f"{path}/replace-webhook-url", headers=key)).json()
    assert first["webhook_url"] == second["webhook_url"] != moved["webhook_url"]

    # Closed, it is still told of money that is on its way.
    closed = (await shop.http.post(f"{path}/close")).json()
    assert (closed["status"], closed["default_for"]) == ("closed", [])
    assert await notify(shop, first["webhook_url"], "whsec_rotated_9876", event="cb_2") == 200
    assert [each["code"] for each in (await check(shop, made["id"]))["findings"]] == ["closed"]
    refused = await shop.http.patch(path, json={"name": "Again"})
    assert (refused.status_code, refused.json()["code"]) == (409, "connection_closed")


async def test_without_a_webhook_secret_nothing_is_believed(world: World) -> None:
    shop = await world.shop()
    only_key = {"api_key": account(shop)["api_key"]}
    made = await connect(shop, credentials=only_key)
    assert await notify(shop, made["webhook_url"], "") == 401


async def test_default_order_and_age_choose(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    first = (await connect(shop, "First", position=2))["id"]
    second = (await connect(shop, "Second", position=1))["id"]
    assert await paid_through(shop, viewer) == second
    await change(shop, first, default_for=["EUR"])
    assert await paid_through(shop, viewer) == first
    taken = await change(shop, second, default_for=["EUR"])
    assert taken["default_for"] == ["EUR"]
    assert (await shop.http.get(f"/v1/connections/{first}")).json()["default_for"] == []
    assert await paid_through(shop, viewer) == second
    await change(shop, second, currencies=["USD"], default_for=[])
    assert await paid_through(shop, viewer) == first
    await shop.http.post(f"/v1/connections/{first}/close")
    # No connection of its own takes euro: the sandbox's opens itself, and is listed.
    own = await paid_through(shop, viewer)
    listed = (await shop.http.get("/v1/connections")).json()["data"]
    assert [each["id"] for each in listed if each["opens_itself"]] == [own]


async def test_a_currency_that_no_connection_takes_is_said_clearly(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("visa_ok")
    [own] = (await shop.http.get("/v1/connections")).json()["data"]
    await change(shop, own["id"], currencies=["USD"])

    saved = await shop.http.post(
        "/v1/payment-methods",
        json={"customer_id": ids.text("cus", viewer), "test_kind": "visa_ok"},
    )
    assert (saved.status_code, saved.json()["code"]) == (422, "currency_not_taken")
    for collect, told in ((True, ["payment.failed"]), (False, ["payment.failed"] * 2)):
        invoice, _ = await shop.invoice(viewer, 700, collection=collect)
        if not collect:
            body = {"invoice_id": ids.text("inv", invoice), "mode": "page"}
            answer = await shop.http.post("/v1/payments", json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "currency_not_taken")
            assert "EUR" in answer.json()["detail"]
        await world.settle()
        assert await shop.told(viewer) == told
    failed = (await shop.facts(viewer))[-1][1]
    assert (failed["code"], failed["decline"], failed["counted"]) == (
        "currency_not_taken", "config", False,
    )  # fmt: skip
    assert (await shop.journal())["captures"] == 0


async def test_a_page_that_is_opened_again_is_opened_at_the_same_provider(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    first = (await connect(shop, "First", default_for=["EUR"]))["id"]
    invoice, _ = await shop.invoice(
        viewer, 500, mode="page", dunning=False, return_url="http://shop.test/back"
    )
    away = world.build_payments(
        gateways={"sandbox": Gateway(SandboxAdapter(), Broken(NotSent("away")))}
    )
    while await world.payments.consumers[0].step(100):
        continue
    opening = next(each for each in away.steps if each.name == "payments.checkout")
    assert await opening.run(10) == 1
    await connect(shop, "Second", default_for=["EUR"])
    await asyncio.sleep(0.5)
    await world.settle()
    payment = (await shop.payments_of(invoice))[0]
    assert (payment["status"], payment["connection_id"]) == ("requires_action", first)


async def test_a_closed_connection_charges_nothing_more_and_is_still_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = wall(monkeypatch)
    shop = await world.shop()
    made = (await connect(shop, default_for=["EUR"]))["id"]
    viewer = await shop.customer("visa_ok")
    other = world.build_payments()  # another process, which has the connection in its memory
    charge = next(each for each in other.steps if each.name == "payments.charge")
    await shop.invoice(viewer, 100)
    while await world.payments.consumers[0].step(100):
        continue
    assert await charge.run(10) == 1
    await shop.fault("charge_no_reply", 1)
    lost, _ = await shop.invoice(viewer, 200)
    while await world.payments.consumers[0].step(100):
        continue
    assert await charge.run(10) == 1
    assert (await shop.payments_of(lost))[0]["status"] == "unknown"

    assert (await shop.http.post(f"/v1/connections/{made}/close")).status_code == 200
    now_s[0] += provider.KEPT_S
    refused, _ = await shop.invoice(viewer, 400)
    while await world.payments.consumers[0].step(100):
        continue
    assert await charge.run(10) == 1
    payment = (await shop.payments_of(refused))[0]
    assert (payment["status"], payment["failure_code"]) == ("failed", "connection_closed")
    # What was under way is asked about and booked.
    await shop.advance(RECONCILE[0])
    await world.settle()
    assert (await shop.payments_of(lost))[0]["status"] == "succeeded"
    assert await shop.journal() == {"captured_minor": {"EUR": 300}, "captures": 2, "doubles": 0}


async def test_rotated_credentials_reach_every_process(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = wall(monkeypatch)
    shop = await world.shop()
    made = (await connect(shop))["id"]
    other = world.build_payments()
    providers = cast(Any, other.attributes["connecting"])._providers
    key = ids.parse("conn", made)
    assert (await providers.connection(shop.tenant, key)).webhook_secret == SECRET
    await change(shop, made, credentials={"webhook_secret": "whsec_rotated_9876"})
    assert (await providers.connection(shop.tenant, key)).webhook_secret == SECRET
    now_s[0] += provider.KEPT_S
    # Many ask at once; one of them reads.
    found = await asyncio.gather(*(providers.connection(shop.tenant, key) for _ in range(50)))
    assert {each.webhook_secret for each in found} == {"whsec_rotated_9876"}
    assert len({id(each) for each in found}) == 1


async def test_changes_at_once_end_with_one_default_and_one_secret(world: World) -> None:
    shop = await world.shop()
    made = [(await connect(shop, f"C{n}"))["id"] for n in range(4)]
    secrets = [f"whsec_number_{n}_abcdef" for n in range(8)]
    await asyncio.gather(
        *(change(shop, each, default_for=["EUR", "USD"]) for each in made),
        *(change(shop, made[0], credentials={"webhook_secret": each}) for each in secrets),
    )
    listed = (await shop.http.get("/v1/connections")).json()["data"]
    assert sorted(c for each in listed for c in each["default_for"]) == ["EUR", "USD"]
    url = next(each["webhook_url"] for each in listed if each["id"] == made[0])
    row = await world.admin.fetchrow(
        "SELECT webhook_secret_encrypted FROM payments.connections WHERE id = $1",
        ids.parse("conn", made[0]),
    )
    kept = FERNET.decrypt(row["webhook_secret_encrypted"]).decode()
    answers = {each: await notify(shop, url, each) for each in secrets}
    assert {each for each, status in answers.items() if status == 200} == {kept}


@pytest.mark.parametrize(
    ("changed", "status", "code", "pointer"),
    [
        ({"provider": "stripe"}, 422, "unknown_provider", "/provider"),
        ({"provider": "Sandbox!"}, 422, "invalid_request", "/provider"),
        ({"credentials": {}}, 422, "invalid_request", "/credentials"),
        ({"credentials": {"webhook_secret": "x"}}, 422, "invalid_request", "/credentials/api_key"),
        ({"credentials": {"api_key": ""}}, 422, "invalid_request", "/credentials/api_key"),
        ({"credentials": {"api_key": "top secret", "pin": "1"}}, 422, "invalid_request",
         "/credentials/pin"),
        ({"credentials": {"api_key": 7}}, 422, "invalid_request", "/credentials/api_key"),
        ({"currencies": ["EURO"]}, 422, "invalid_request", "/currencies/0"),
        ({"currencies": ["EUR", "EUR"]}, 422, "invalid_request", "/currencies"),
        ({"currencies": ["EUR"], "default_for": ["USD"]}, 422, "invalid_request", "/default_for"),
        ({"position": -1}, 422, "invalid_request", "/position"),
        ({"name": " "}, 422, "invalid_request", "/name"),
    ],
)  # fmt: skip
async def test_what_cannot_be_connected_is_refused_without_telling_secrets(
    world: World,
    changed: dict[str, Any],
    status: int,
    code: str,
    pointer: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shop = await world.shop()
    body = {"provider": "sandbox", "name": "Cards", "credentials": {"api_key": "top secret"}}
    answer = await shop.http.post("/v1/connections", json=body | changed)
    told = answer.json()
    assert (answer.status_code, told["code"], told["pointer"]) == (status, code, pointer)
    assert "top secret" not in answer.text + capfd.readouterr().err
    assert (await shop.http.get("/v1/connections")).json()["data"] == []


async def test_a_live_tenant_takes_no_test_money(world: World) -> None:
    shop = await world.shop(mode="live")
    body = {"provider": "sandbox", "name": "Cards", "credentials": {"api_key": "sbk_0"}}
    answer = await shop.http.post("/v1/connections", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_provider")


class _RealMoney(SandboxAdapter):
    capabilities = replace(SandboxAdapter.capabilities, is_real_money=True)


async def test_where_money_is_real_the_lists_are_compared_every_night(world: World) -> None:
    in_sandbox = await connect(await world.shop())
    assert in_sandbox["reconciles_daily"] is False
    asked_for = await connect(await world.shop(), reconciles_daily=True)
    assert asked_for["reconciles_daily"] is True
    world.gateway = Gateway(_RealMoney(), AsgiTransport(world.provider), breaks=False)
    world.restart()
    live = await world.shop(mode="live")

    first, second = await connect(live), await connect(live, "Other", reconciles_daily=False)

    assert (first["reconciles_daily"], second["reconciles_daily"]) == (True, False)
    [due] = await world.admin.fetch(
        "SELECT id, due_at FROM payments.due WHERE tenant_id = $1", live.tenant
    )
    at = due["due_at"]
    assert due["id"] == ids.parse("conn", first["id"])
    assert (at.hour, at.minute, at.second) == (1, 0, 0)
    assert timedelta(0) < at - datetime.now(UTC) <= timedelta(hours=25)


async def test_the_sandboxes_own_connection_stays(world: World) -> None:
    shop = await world.shop()
    await shop.customer("visa_ok")
    [own] = (await shop.http.get("/v1/connections")).json()["data"]
    path = f"/v1/connections/{own['id']}"
    assert (await check(shop, own["id"]))["ok"]
    for answer in (
        await shop.http.post(f"{path}/close"),
        await shop.http.patch(path, json={"credentials": {"api_key": "sbk_other"}}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "connection_opens_itself")
    assert (await change(shop, own["id"], name="Ours"))["name"] == "Ours"
    # Its address is told to the sandbox, whose next webhook arrives at the new one.
    moved = (await shop.http.post(f"{path}/replace-webhook-url")).json()
    assert moved["webhook_url"] != own["webhook_url"]
    invoice, _ = await shop.invoice(await shop.customer(), 100, mode="page", dunning=False)
    await world.settle()
    await shop.pay_page(await shop.page_address(invoice), "4242424242424242")
    await world.settle()
    sent = world.post.sent[-1]
    assert f"http://gateway.test{sent[0].path}" == moved["webhook_url"]
    assert sent[1] == 200


async def test_twenty_connections_and_no_more(world: World) -> None:
    shop, foreign = await world.shop(), await world.shop()
    made = [(await connect(shop, f"C{n}"))["id"] for n in range(20)]
    body = {"provider": "sandbox", "name": "One more", "credentials": account(shop)}
    answer = await shop.http.post("/v1/connections", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_connections")
    await shop.http.post(f"/v1/connections/{made[0]}/close")
    assert (await shop.http.post("/v1/connections", json=body)).status_code == 201
    page = (await shop.http.get("/v1/connections", params={"limit": 20})).json()
    rest = await shop.http.get("/v1/connections", params={"cursor": page["next_cursor"]})
    assert [each["id"] for each in rest.json()["data"]] == [made[0]]
    for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/check"), ("POST", "/close")):
        given = {"json": {"name": "Mine"}} if method == "PATCH" else {}
        answer = await foreign.http.request(method, f"/v1/connections/{made[1]}{path}", **given)
        assert answer.status_code == 404, answer.text


async def test_what_stopped_half_way_goes_on(world: World) -> None:
    shop = await world.shop()

    class Away:
        async def register(self, *_: Any) -> Any:
            raise Problem("service_unavailable", detail="Webhooks is away.")

    broken = world.build_payments(endpoints=Away())
    body = {"provider": "sandbox", "name": "Cards", "credentials": account(shop)}
    await world.provider.provision(shop.tenant, "/hooks/elsewhere")
    headers = {"Idempotency-Key": "half"}
    async with client_of(build_app([broken], key_ring=world.ring), shop) as client:
        assert (await client.post("/v1/connections", json=body, headers=headers)).status_code == 503
    [half] = (await shop.http.get("/v1/connections")).json()["data"]
    assert (half["status"], half["webhook_url"]) == ("opening", None)
    # Either way on: the same request again, or a check.
    again = await shop.http.post("/v1/connections", json=body, headers=headers)
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (
        201, half["id"], "active",
    )  # fmt: skip
