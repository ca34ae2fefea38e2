"""What stories of connections have in common: an account, a connection, a notification."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx

from subledger.providers.sandbox.adapter import SIGNATURE, sign
from tests.payments.world import Shop

SECRET = "whsec_of_our_own_0123"


def account(shop: Shop) -> dict[str, str]:
    """The tenant's account at the sandbox, as its cabinet would show it."""
    api_key, _ = shop.world.provider.credentials(shop.tenant)
    return {"api_key": api_key, "webhook_secret": SECRET}


async def connect(shop: Shop, name: str = "Cards", **fields: Any) -> dict[str, Any]:
    """A connection of the tenant's own to its account at the sandbox."""
    await shop.world.provider.provision(shop.tenant, "/hooks/elsewhere")
    body = {"provider": "sandbox", "name": name, "credentials": account(shop), **fields}
    answer = await shop.http.post("/v1/connections", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def change(shop: Shop, connection: str, **fields: Any) -> dict[str, Any]:
    answer = await shop.http.patch(f"/v1/connections/{connection}", json=fields)
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


async def check(shop: Shop, connection: str, **query: str) -> dict[str, Any]:
    answer = await shop.http.post(f"/v1/connections/{connection}/check", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def notify(shop: Shop, url: str, secret: str = SECRET, *, event: str = "cb_1") -> int:
    body = json.dumps({"id": event, "type": "x", "data": {"page_id": "page_x"}}).encode()
    headers = {SIGNATURE: sign(body, secret, int(time.time()))}
    path = url.removeprefix("http://gateway.test")
    return (await shop.http.post(path, content=body, headers=headers)).status_code


def client_of(app: Any, shop: Shop) -> httpx.AsyncClient:
    """The shop's caller at another process."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://gateway.test",
        headers=dict(shop.http.headers),
    )
