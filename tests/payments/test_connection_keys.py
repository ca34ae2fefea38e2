"""Stories of the keys that seal connections: replaced, lost, and those of the first release."""

from __future__ import annotations

import json
import time
from typing import Any, cast

import httpx
from cryptography.fernet import Fernet, MultiFernet

from subledger.hosts.gateway import build_app
from subledger.providers.sandbox.adapter import SIGNATURE, SandboxAdapter, sign
from subledger.services.webhooks import wiring as webhooks_wiring
from tests.payments.connecting import SECRET, account, client_of, connect
from tests.payments.test_pages import OK, page_of
from tests.payments.world import FERNET, Shop, World


async def test_a_new_key_encrypts_anew_and_the_old_one_can_go(world: World) -> None:
    shop = await world.shop()
    made = await connect(shop)
    new = Fernet(Fernet.generate_key())
    both = MultiFernet([new, *FERNET._fernets])  # type: ignore[attr-defined]  # untyped there
    webhooks = _webhooks(world, both)
    payments = world.build_payments(fernet=both, endpoints=webhooks.attributes["endpoints"])
    for service in (payments, webhooks):
        await cast(Any, service.attributes["reseal"])(shop.tenant)

    alone = MultiFernet([new])
    later = _webhooks(world, alone)
    app = build_app(
        [world.build_payments(fernet=alone, endpoints=later.attributes["endpoints"]), later],
        key_ring=world.ring,
    )
    async with client_of(app, shop) as client:
        path = f"/v1/connections/{made['id']}"
        assert (await client.get(path)).json() == made
        assert (await client.post(f"{path}/check")).json()["ok"]
        body = json.dumps({"id": "cb_9", "type": "x", "data": {}}).encode()
        answer = await client.post(
            made["webhook_url"],
            content=body,
            headers={SIGNATURE: sign(body, SECRET, int(time.time()))},
        )
        assert answer.status_code == 200


async def test_what_payers_agreed_to_outlives_the_key_that_sealed_it(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    _, _, url = await page_of(shop, viewer)
    await shop.pay_page(url, OK)
    await world.settle()
    listed = await shop.http.get("/v1/payment-methods")
    path = f"/v1/payment-methods/{listed.json()['data'][0]['id']}/mandate"
    agreed = (await shop.http.get(path)).json()
    assert agreed["mandate"]["text"].startswith("Keep this card")

    new = Fernet(Fernet.generate_key())
    both = MultiFernet([new, *FERNET._fernets])  # type: ignore[attr-defined]  # untyped there
    alone = MultiFernet([new])
    before, after = await _mandate(world, shop, alone, path), None
    payments = world.build_payments(fernet=both)
    for _ in range(2):  # again it is the same again
        await cast(Any, payments.attributes["reseal"])(shop.tenant)
        after = await _mandate(world, shop, alone, path)

    assert (before.status_code, before.json()["code"]) == (409, "mandate_sealed")
    assert after is not None
    assert (after.status_code, after.json()) == (200, agreed)
    lost = world.build_payments(fernet=MultiFernet([Fernet(Fernet.generate_key())]))
    await cast(Any, lost.attributes["reseal"])(shop.tenant)  # opens nothing, and spoils nothing
    assert (await _mandate(world, shop, alone, path)).json() == agreed


async def _mandate(world: World, shop: Shop, fernet: MultiFernet, path: str) -> httpx.Response:
    """As a process answers that has these keys."""
    app = build_app([world.build_payments(fernet=fernet)], key_ring=world.ring)
    async with client_of(app, shop) as client:
        return await client.get(path)


async def test_without_its_key_a_connection_is_shown_and_closed(world: World) -> None:
    shop = await world.shop()
    made = await connect(shop)
    other = MultiFernet([Fernet(Fernet.generate_key())])
    later = _webhooks(world, other)
    payments = world.build_payments(fernet=other, endpoints=later.attributes["endpoints"])
    path = f"/v1/connections/{made['id']}"
    async with client_of(build_app([payments, later], key_ring=world.ring), shop) as client:
        assert (await client.get(path)).json() == made | {"webhook_url": None}
        answer = await client.post(f"{path}/check")
        assert (answer.status_code, answer.json()["code"]) == (409, "credentials_sealed")
        answer = await client.patch(path, json={"credentials": account(shop)})
        assert (answer.status_code, answer.json()["code"]) == (409, "credentials_sealed")
        assert (await client.patch(path, json={"name": "Sealed"})).json()["name"] == "Sealed"
        assert (await client.post(f"{path}/close")).status_code == 200


async def test_the_first_releases_credentials_are_still_read(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("visa_ok")
    api_key, _ = world.provider.credentials(shop.tenant)
    await world.admin.execute(
        "UPDATE payments.connections SET credentials_encrypted = $2 WHERE tenant_id = $1",
        *(shop.tenant, FERNET.encrypt(api_key.encode())),
    )
    world.restart()
    await shop.invoice(viewer, 100)
    await world.settle()
    assert await shop.told(viewer) == ["payment.succeeded"]


def _webhooks(world: World, fernet: MultiFernet) -> Any:
    return webhooks_wiring.build(
        database=world.databases["webhooks"],
        adapters={"sandbox": SandboxAdapter()},
        fernet=fernet,
    )
