"""What reconciliation stories say to a shop and to its provider."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.stories.shop import Shop


async def provider(shop: Shop, method: str, path: str, **given: Any) -> Any:
    """Ask the sandbox provider as its merchant."""
    key, _ = shop.assembly.sandbox.credentials(shop.tenant_id)
    headers = {"authorization": f"Bearer {key}"} | given.pop("headers", {})
    answer = await shop.raw(method, f"/sandbox{path}", headers=headers, **given)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def terms(shop: Shop, **given: Any) -> None:
    """What the provider keeps and pays out."""
    await provider(shop, "POST", "/v1/settings", json=given)


async def connection(shop: Shop) -> str:
    """The shop's connection to the sandbox provider that opened by itself."""
    known = (await shop.get("/v1/connections"))["data"]
    return next(str(each["id"]) for each in known if each["opens_itself"])


async def reconcile(shop: Shop, **asked: str) -> Any:
    """Compare with the provider's list, and wait for the end."""
    path = f"/v1/connections/{await connection(shop)}/reconcile"
    run = await shop.post(path, asked, expect=202)
    for _ in range(200):
        await shop.pump.woken()
        run = await shop.get(f"/v1/reconciliations/{run['id']}")
        if run["status"] != "running":
            break
        # Before it believes that the balances differ it waits for billing, by the wall's clock.
        await asyncio.sleep(0.02)
        await shop.pump.once()
    assert run["status"] == "done", run
    return run


def balance(run: Any, currency: str = "EUR") -> tuple[int, int, int, int]:
    """What a run says of a currency: provider, clearing, explained, gap."""
    for each in run["balances"]:
        if each["currency"] == currency:
            names = ("provider_minor", "clearing_minor", "explained_minor", "gap_minor")
            return tuple(each[name] for name in names)  # type: ignore[return-value]
    return 0, 0, 0, 0


async def charge(
    shop: Shop, amount: int, attempt: str, *, token: str | None = None, **metadata: str
) -> str:
    """Money taken at the provider by somebody else's hand; the charge's id."""
    if token is None:
        made = await provider(
            shop, "POST", "/v1/methods", json={"kind": "visa_ok"},
            headers={"idempotency-key": f"method-{attempt}"},
        )  # fmt: skip
        token = made["token"]
    made = await provider(
        shop, "POST", "/v1/charges",
        json={"token": token, "amount_minor": amount, "currency": "EUR", "attempt_id": attempt,
              "metadata": metadata},
        headers={"idempotency-key": f"by-hand-{attempt}-{amount}"},
    )  # fmt: skip
    return str(made["id"])


async def open_items(shop: Shop) -> list[tuple[str, int]]:
    """Kinds and amounts of the open work items, the oldest first."""
    page = await shop.get("/v1/work-items", status="open")
    return [(each["kind"], each["data"]["amount_minor"]) for each in page["data"]][::-1]


async def item(shop: Shop, kind: str) -> Any:
    """The newest work item of a kind."""
    page = await shop.get("/v1/work-items", limit=100)
    found = [each for each in page["data"] if each["kind"] == kind]
    assert found, f"no {kind} among {[each['kind'] for each in page['data']]}"
    return found[0]


async def repair(shop: Shop, kind: str, *, expect: int = 200, **asked: Any) -> Any:
    found = await item(shop, kind)
    return await shop.post(f"/v1/work-items/{found['id']}/repair", asked, expect=expect)
