"""The cinema's business over the public API: sell, let time pass, look at the books."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from subledger.hosts.demo import script
from subledger.hosts.demo.script import Bundle, Viewer

SITE = "https://cinema.example"
_MOVE_WITHIN_S = 120
_LOOK_AGAIN_S = 0.2
_PAGE = 100


class DemoFailed(RuntimeError):
    """The demo met an answer that it did not expect; the text shows it."""


@dataclass(slots=True)
class Cinema:
    """The shop's side: its key, and what it has created."""

    api: httpx.AsyncClient
    plans: dict[str, str] = field(default_factory=dict)
    discounts: dict[str, str] = field(default_factory=dict)
    customers: dict[int, str] = field(default_factory=dict)
    subscriptions: dict[int, str] = field(default_factory=dict)
    asked_by_bank: list[dict[str, Any]] = field(default_factory=list)
    """Payments as they stood while the payer's bank asked."""

    # --- HTTP ------------------------------------------------------------------------------------

    async def post(self, path: str, body: dict[str, Any], *, key: str | None = None) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = await self.api.post(path, json=body, headers=headers)
        if answer.status_code >= 300:
            raise DemoFailed(f"POST {path}: {answer.status_code} {answer.text[:600]}")
        return answer.json() if answer.content else None

    async def put(self, path: str, body: dict[str, Any]) -> None:
        answer = await self.api.put(path, json=body)
        if answer.status_code >= 300:
            raise DemoFailed(f"PUT {path}: {answer.status_code} {answer.text[:600]}")

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.api.get(path, params=query)
        if answer.status_code >= 300:
            raise DemoFailed(f"GET {path}: {answer.status_code} {answer.text[:600]}")
        return answer.json()

    async def every(self, path: str, **query: Any) -> AsyncIterator[Any]:
        """All rows of a list, page by page."""
        cursor: str | None = None
        while True:
            page = await self.get(
                path, limit=_PAGE, **query, **({"cursor": cursor} if cursor else {})
            )
            for row in page["data"]:
                yield row
            cursor = page["next_cursor"]
            if cursor is None:
                return

    # --- the shop --------------------------------------------------------------------------------

    async def open(self, offered: Iterable[Bundle]) -> None:
        """Products with their films, a monthly plan each with a price per currency, discounts; and
        the cinema's own site, to which payers go back."""
        await self.put("/v1/payment-settings", {"return_origins": [SITE]})
        for bundle in offered:
            product = await self.post(
                "/v1/products",
                {"code": bundle.code, "name": bundle.name, "resources": list(bundle.films)},
            )
            plan = await self.post(
                "/v1/plans",
                {
                    "code": f"{bundle.code}-monthly",
                    "name": f"{bundle.name}, monthly",
                    "product_id": product["id"],
                    "prices": [
                        {
                            "code": "base",
                            "currency": currency,
                            "model": "flat",
                            "amount_minor": amount,
                            "interval": {"unit": "month", "count": 1},
                        }
                        for currency, amount in script.PRICES[bundle.level].items()
                    ],
                },
            )
            self.plans[bundle.code] = plan["id"]
        for code, name, terms in (
            ("welcome", "Half price to begin with", {"percent": "50", "duration": "once"}),
            ("friends", "Friends of the house",
             {"percent": "12.5", "duration": "periods", "periods": 3}),
        ):  # fmt: skip
            made = await self.post("/v1/discounts", {"code": code, "name": name, **terms})
            self.discounts[code] = made["id"]

    async def sell(self, viewer: Viewer) -> bool:
        """A customer arrives and buys, by card or on the hosted page; True if it is active."""
        key = f"demo-{viewer.number}"
        customer = await self.post(
            "/v1/customers",
            {
                "external_id": viewer.external_id,
                "name": viewer.name,
                "email": f"{viewer.external_id}@example.com",
                "currency": viewer.currency,
                "timezone": viewer.timezone,
                "locale": viewer.locale,
                "country": viewer.country,
            },
            key=f"{key}-customer",
        )
        self.customers[viewer.number] = customer["id"]
        body: dict[str, Any] = {
            "customer_id": customer["id"],
            "plan_id": self.plans[viewer.bundle],
            "discount_ids": [self.discounts[viewer.discount]] if viewer.discount else [],
        }
        if viewer.by_page:
            body |= {"collection": "page", "return_url": f"{SITE}/thanks"}
        else:
            await self.post(
                "/v1/payment-methods",
                {"customer_id": customer["id"], "test_kind": "visa_ok", "make_default": True},
                key=f"{key}-method",
            )
        bought = await self.post("/v1/subscriptions", body, key=f"{key}-subscription")
        self.subscriptions[viewer.number] = bought["id"]
        if viewer.by_page:
            bank = await self.pay_on_page(bought["next_action"]["redirect_url"], viewer.card)
            if bank is not None:
                await self.confirm(viewer, bank)
            bought = await self.until_active(bought["id"])
        return bool(bought["status"] == "active")

    async def pay_on_page(self, url: str, card: str) -> str | None:
        """What the payer's browser does: open the page, enter a test card, submit. Returns the
        bank's page if that asks the payer first."""
        async with _browser(url) as browser:
            shown = await browser.get(urlsplit(url).path)
            if shown.status_code != 200:
                raise DemoFailed(f"the hosted page answered {shown.status_code}")
            paid = await browser.post(urlsplit(url).path, data={"card_number": card, "keep": "on"})
            if paid.status_code not in {200, 303}:
                raise DemoFailed(f"paying on the page answered {paid.status_code}")
        to = paid.headers.get("location", "")
        return urljoin(url, to) if "/secure/" in to else None

    async def confirm(self, viewer: Viewer, bank: str) -> None:
        """The payer confirms on the bank's page (3-D Secure)."""
        self.asked_by_bank.append((await self.payments_of(viewer))[0])
        async with _browser(bank) as browser:
            shown = await browser.get(urlsplit(bank).path)
            done = await browser.post(urlsplit(bank).path, data={"do": "confirm"})
        if shown.status_code != 200 or done.status_code not in {200, 303}:
            raise DemoFailed(f"the bank's page answered {shown.status_code}, {done.status_code}")

    async def payments_of(self, viewer: Viewer) -> list[dict[str, Any]]:
        """A customer's payments, the newest first."""
        page = await self.get("/v1/payments", customer_id=self.customers[viewer.number])
        return list(page["data"])

    async def until_active(self, subscription: str) -> Any:
        for _ in range(400):
            found = await self.get(f"/v1/subscriptions/{subscription}")
            if found["status"] != "incomplete":
                return found
            await asyncio.sleep(0.05)
        raise DemoFailed(f"{subscription} is still incomplete 20 s after its payment")

    async def make_trouble(self, viewer: Viewer) -> None:
        """The customer's new card will be declined, or its answers get lost."""
        await self.post(
            "/v1/payment-methods",
            {
                "customer_id": self.customers[viewer.number],
                "test_kind": viewer.trouble,
                "make_default": True,
            },
            key=f"demo-{viewer.number}-trouble",
        )

    async def leave(self, viewer: Viewer) -> None:
        """The customer cancels; one whose payments failed for good is gone already."""
        subscription = self.subscriptions[viewer.number]
        state = await self.get(f"/v1/subscriptions/{subscription}")
        if state["status"] in {"active", "past_due"}:
            await self.post(
                f"/v1/subscriptions/{subscription}/cancel",
                {"when": viewer.leaves},
                key=f"demo-{viewer.number}-cancel",
            )

    async def move_to(self, at: datetime) -> None:
        """Let time pass, and wait until everything due by then has happened."""
        move = await self.post("/v1/clock-moves", {"to_at": at.isoformat()})
        deadline = asyncio.get_running_loop().time() + _MOVE_WITHIN_S
        while move["status"] == "moving":
            if asyncio.get_running_loop().time() > deadline:
                raise DemoFailed(f"the clock did not arrive at {at}: {move}")
            await asyncio.sleep(_LOOK_AGAIN_S)
            move = await self.get(f"/v1/clock-moves/{move['id']}")
        if move["status"] != "done":
            raise DemoFailed(f"the clock stopped: {move}")


def _browser(url: str) -> httpx.AsyncClient:
    """A payer's: without a key, and it does not follow redirects by itself."""
    place = urlsplit(url)
    return httpx.AsyncClient(base_url=f"{place.scheme}://{place.netloc}", timeout=30)
