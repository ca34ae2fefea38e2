"""Stories of the log of received webhooks: shown, replayed, waiting; nothing told to strangers."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from subledger.platform import ids
from subledger.providers.sandbox.adapter import SIGNATURE, sign
from subledger.services.webhooks.usecases import replay
from tests.payments.world import Shop, World


async def told(shop: Shop, event: str, kind: str = "x", **about: Any) -> None:
    """The sandbox tells the tenant's own connection something."""
    _, secret = shop.world.provider.credentials(shop.tenant)
    [own] = (await shop.http.get("/v1/connections")).json()["data"]
    body = json.dumps({"id": event, "type": kind, "data": about}).encode()
    headers = {SIGNATURE: sign(body, secret, int(time.time()))}
    answer = await shop.http.post(own["webhook_url"], content=body, headers=headers)
    assert answer.status_code == 200, answer.text


async def listed(shop: Shop, **query: Any) -> list[dict[str, Any]]:
    answer = await shop.http.get("/v1/received-webhooks", params=query)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


async def replays(shop: Shop, **body: Any) -> dict[str, Any]:
    answer = await shop.http.post("/v1/received-webhooks/replay", json=body)
    assert answer.status_code == 200, answer.text
    done: dict[str, Any] = answer.json()
    return done


async def facts(shop: Shop) -> int:
    count: int = await shop.world.admin.fetchval(
        "SELECT count(*) FROM eventlog.events WHERE tenant_id = $1 AND type = 'webhook.received'",
        shop.tenant,
    )
    return count


async def open_shop(world: World) -> Shop:
    """A shop whose connection to the sandbox is open."""
    shop = await world.shop()
    await shop.customer("visa_ok")
    return shop


async def test_the_log_shows_what_was_received_masked_and_to_admins(world: World) -> None:
    shop = await open_shop(world)
    [own] = (await shop.http.get("/v1/connections")).json()["data"]
    await told(shop, "cb_1", "charge.succeeded", attempt_id="att_1", card_number="4242424242424242")
    await told(shop, "cb_2", "charge.failed", note="4242 4242 4242 4242", email="a@b.example")

    newest, oldest = await listed(shop)
    assert (newest["kind"], oldest["kind"]) == ("charge.failed", "charge.succeeded")
    assert oldest["provider_event_id"] == "cb_1"
    assert (oldest["connection_id"], oldest["trust"]) == (own["id"], "strong")

    path = f"/v1/received-webhooks/{oldest['id']}"
    whole = (await shop.http.get(path)).json()
    assert whole == oldest | {
        "body": {
            "id": "cb_1",
            "type": "charge.succeeded",
            "data": {"attempt_id": "att_1", "card_number": "***"},
        },
        "waiting": None,
    }
    other = (await shop.http.get(f"/v1/received-webhooks/{newest['id']}")).json()["body"]
    assert other["data"] == {"note": "***", "email": "***"}
    reader = {"authorization": f"Bearer sk_read_{shop.tenant.hex}"}
    assert (await shop.http.get(path, headers=reader)).json() == whole | {"body": None}


async def test_the_log_is_narrowed_and_paged(world: World) -> None:
    shop = await open_shop(world)
    [own] = (await shop.http.get("/v1/connections")).json()["data"]
    for n in range(5):
        await told(shop, f"cb_{n}", "even" if n % 2 == 0 else "odd")
    whole = await listed(shop)
    assert [each["provider_event_id"] for each in whole] == [f"cb_{n}" for n in (4, 3, 2, 1, 0)]
    assert await listed(shop, connection_id=own["id"]) == whole
    assert await listed(shop, trust="strong") == whole
    assert await listed(shop, trust="weak") == []
    assert await listed(shop, kind="odd") == [whole[1], whole[3]]
    since = {"from": whole[3]["received_at"], "until": whole[1]["received_at"]}
    assert await listed(shop, **since) == [whole[2], whole[3]]
    page = (
        await shop.http.get("/v1/received-webhooks", params={"limit": 2, "kind": "even"})
    ).json()
    rest = await listed(shop, cursor=page["next_cursor"], kind="even")
    assert [*page["data"], *rest] == [whole[0], whole[2], whole[4]]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"kind": "x", "trust": "weak"}, 422),
        ({"trust": "blind"}, 422),
        ({"from": "yesterday"}, 422),
        ({"cursor": "WyJ4Il0"}, 422),
        ({"cursor": "WyIyMDI2LTAzLTAxVDAwOjAwOjAwIiwieCJd"}, 422),
        ({"connection_id": ids.text("conn", uuid4())}, 404),
    ],
)
async def test_bad_filters(world: World, query: dict[str, str], status: int) -> None:
    shop = await world.shop()
    answer = await shop.http.get("/v1/received-webhooks", params=query)
    assert answer.status_code == status, answer.text


async def test_a_replay_changes_nothing_that_was_handled(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    invoice, _ = await shop.invoice(viewer, 999, mode="page", dunning=False)
    await world.settle()
    await shop.pay_page(await shop.page_address(invoice), "4242424242424242", save=False)
    await world.settle()
    assert await shop.told(viewer) == ["payment.requires_action", "payment.succeeded"]
    [kept] = await listed(shop)

    for _ in range(3):
        answer = await shop.http.post(f"/v1/received-webhooks/{kept['id']}/replay")
        assert answer.json() == {"replayed": 1, "unreadable": 0, "next_cursor": None}
        await world.settle()
    assert await facts(shop) == 4
    assert await listed(shop) == [kept]
    assert await shop.told(viewer) == ["payment.requires_action", "payment.succeeded"]
    assert (await shop.journal())["captures"] == 1


async def test_a_replay_helps_where_the_first_telling_was_lost(world: World) -> None:
    """Another program's mistake: the fact was taken for handled, and the payment still waits."""
    shop = await world.shop()
    viewer = await shop.customer("visa_ok")
    await shop.fault("charge_no_reply", 1)
    invoice, attempt = await shop.invoice(viewer, 999)
    await world.settle()
    await told(shop, "cb_1", attempt_id=ids.text("att", attempt))
    await world.settle(leave_out=["payments.answer"])
    assert (await shop.payments_of(invoice))[0]["status"] == "unknown"
    await world.admin.execute("DELETE FROM payments.refetches WHERE tenant_id = $1", shop.tenant)
    await world.settle()
    assert (await shop.payments_of(invoice))[0]["status"] == "unknown"

    [kept] = await listed(shop)
    day = timedelta(days=1)
    done = await replays(
        shop,
        connection_id=kept["connection_id"],
        **{
            "from": (datetime.now(UTC) - day).isoformat(),
            "until": (datetime.now(UTC) + day).isoformat(),
        },
    )
    assert done == {"replayed": 1, "unreadable": 0, "next_cursor": None}
    await world.settle()
    assert (await shop.payments_of(invoice))[0]["status"] == "succeeded"


async def test_a_long_range_is_replayed_in_calls(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MOST_AT_ONCE", 2)
    shop = await open_shop(world)
    for n in range(5):
        await told(shop, f"cb_{n}")
    whole = await listed(shop)
    await world.admin.execute(
        "UPDATE webhooks.received SET body_encrypted = 'x' WHERE tenant_id = $1 AND dedupe_key"
        " = 'cb_1'",
        shop.tenant,
    )
    asked: dict[str, Any] = {
        "connection_id": whole[0]["connection_id"],
        "from": whole[-1]["received_at"],
        "until": whole[0]["received_at"],
    }
    first = await replays(shop, **asked)
    assert (first["replayed"], first["unreadable"]) == (1, 1)
    second = await replays(shop, **asked, cursor=first["next_cursor"])
    assert second == {"replayed": 2, "unreadable": 0, "next_cursor": None}
    assert await facts(shop) == 5 + 3
    sealed = f"/v1/received-webhooks/{whole[3]['id']}"
    answer = await shop.http.post(f"{sealed}/replay")
    assert (answer.status_code, answer.json()["code"]) == (409, "webhook_sealed")
    assert (await shop.http.get(sealed)).json()["body"] is None


async def test_what_is_not_known_yet_waits_and_the_log_says_so(world: World) -> None:
    shop, foreign = await open_shop(world), await open_shop(world)
    viewer = await foreign.customer("visa_ok")
    _, attempt = await foreign.invoice(viewer, 999)
    await world.settle(leave_out=["payments.charge"])
    before = await foreign.facts_of_all()
    # An attempt of another tenant is as unknown here as one that does not exist.
    await told(shop, "cb_1", attempt_id=ids.text("att", attempt))
    await world.settle(leave_out=["payments.charge"])
    [kept] = await listed(shop)
    path = f"/v1/received-webhooks/{kept['id']}"
    assert (await shop.http.get(path)).json()["waiting"] == {
        "looks": 1,
        "next_look_at": "2026-03-01T00:05:00Z",
    }
    assert await foreign.facts_of_all() == before
    for method, suffix in (("GET", ""), ("POST", "/replay")):
        answer = await foreign.http.request(method, f"{path}{suffix}")
        assert answer.status_code == 404

    await shop.advance(timedelta(minutes=5))
    await world.settle()
    assert (await shop.http.get(path)).json()["waiting"]["looks"] == 2
    for _ in range(4):
        await shop.advance(timedelta(days=2))
        await world.settle()
    assert (await shop.http.get(path)).json()["waiting"] is None
