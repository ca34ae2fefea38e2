"""What a year reaches of saved methods: asked by the bank, set up, changed, given up."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tests.stories.shop import VISA, Shop


async def methods_come_and_go(shop: Shop, word: str, plan: str) -> None:
    """A payer confirms at the bank, saves a card without paying, gets a new one, and removes it."""
    viewer = await shop.customer(f"{word}-secure")
    await shop.card(viewer, "secure:1")
    for wish in ("confirm", "leave"):
        bought = await shop.subscribe(viewer, plan)
        url = bought["next_action"]["redirect_url"]
        await shop.raw("GET", urlsplit(url).path)
        await shop.raw("POST", urlsplit(url).path, data={"do": wish})
        await shop.pump.quiet()
        payment = (await shop.get("/v1/payments", customer_id=viewer))["data"][0]
        charge = payment["attempts"][0]["provider_ref"]
        await _sandbox(shop, "GET", f"/v1/charges/{charge}")
        if wish == "leave":
            await shop.post(f"/v1/payments/{payment['id']}/cancel", expect=200)
    setup = await shop.post(f"/v1/customers/{viewer}/payment-method-setups", {})
    method, page = setup["payment_method_id"], setup["next_action"]["redirect_url"]
    await shop.raw("POST", urlsplit(page).path, data={"card_number": VISA})
    await shop.pump.quiet()
    await shop.get(f"/v1/payment-methods/{method}/mandate")
    test = await shop.card(viewer)
    await _sandbox(shop, "POST", f"/v1/methods/{test}/update", last_four="1881", replace=True)
    await _sandbox(shop, "GET", "/v1/faults")
    await shop.pump.quiet()
    await shop.fault("request_refused", 1)
    assert (await shop.raw("DELETE", f"/v1/payment-methods/{test}")).status_code == 204
    await shop.pump.quiet()


async def _sandbox(shop: Shop, method: str, path: str, **body: Any) -> None:
    key, _ = shop.assembly.sandbox.credentials(shop.tenant_id)
    headers = {"authorization": f"Bearer {key}"}
    given = {"json": body} if method == "POST" else {}
    answer = await shop.raw(method, f"/sandbox{path}", headers=headers, **given)
    assert answer.status_code == 200, answer.text
    await shop.pump.woken()
