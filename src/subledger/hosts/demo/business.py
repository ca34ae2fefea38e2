"""The cinema's business over the public API: sell, let time pass, look at the books."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx

from subledger.hosts.demo import script
from subledger.hosts.demo.script import Bundle, Viewer

AT_ONCE = 12
_MOVE_WITHIN_S = 120
_LOOK_AGAIN_S = 0.2
_PAGE = 100
Progress = Callable[[str, int, int], None]
"""``(what, done, of)``"""


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

    # --- HTTP ------------------------------------------------------------------------------------

    async def post(self, path: str, body: dict[str, Any], *, key: str | None = None) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = await self.api.post(path, json=body, headers=headers)
        if answer.status_code >= 300:
            raise DemoFailed(f"POST {path}: {answer.status_code} {answer.text[:600]}")
        return answer.json() if answer.content else None

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
        """Products with their films, a monthly plan each with a price per currency, discounts."""
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
            body |= {"collection": "page", "return_url": "https://cinema.example/thanks"}
        else:
            await self.post(
                "/v1/payment-methods",
                {"customer_id": customer["id"], "test_kind": "visa_ok", "make_default": True},
                key=f"{key}-method",
            )
        bought = await self.post("/v1/subscriptions", body, key=f"{key}-subscription")
        self.subscriptions[viewer.number] = bought["id"]
        if viewer.by_page:
            await self.pay_on_page(bought["next_action"]["redirect_url"])
            bought = await self.until_active(bought["id"])
        return bool(bought["status"] == "active")

    async def pay_on_page(self, url: str) -> None:
        """What the payer's browser does: open the page, enter a test card, submit."""
        place = urlsplit(url)
        async with httpx.AsyncClient(
            base_url=f"{place.scheme}://{place.netloc}", timeout=30
        ) as browser:
            shown = await browser.get(place.path)
            if shown.status_code != 200:
                raise DemoFailed(f"the hosted page answered {shown.status_code}")
            paid = await browser.post(
                place.path, data={"card_number": "4242 4242 4242 4242", "keep": "on"}
            )
            if paid.status_code not in {200, 303}:
                raise DemoFailed(f"paying on the page answered {paid.status_code}")

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


async def gather(work: Iterable[Awaitable[Any]]) -> None:
    """Run a few at a time; the first failure is raised."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(each: Awaitable[Any]) -> None:
        async with slots:
            await each

    await asyncio.gather(*(one(each) for each in work))


async def six_months(
    cinema: Cinema, viewers: list[Viewer], progress: Progress, first_paid: Callable[[], None]
) -> None:
    """Sell during the first weeks, then let six months pass with all that happens in them."""
    sold = 0
    for at in sorted({viewer.buys_at for viewer in viewers}):
        if at > script.START:
            await cinema.move_to(at)
        todays = [viewer for viewer in viewers if viewer.buys_at == at]
        if sold == 0:
            # The first customer alone, to see how long a newcomer waits for a paid invoice.
            cards = [each for each in todays if not each.by_page] or todays
            await cinema.sell(cards[0])
            first_paid()
            todays.remove(cards[0])
            sold = 1
        await gather(cinema.sell(viewer) for viewer in todays)
        sold += len(todays)
        progress("customers", sold, len(viewers))
    for month in range(1, script.MONTHS + 1):
        await cinema.move_to(script.START + timedelta(days=30 * month - 5))
        await gather(
            cinema.make_trouble(viewer)
            for viewer in viewers
            if viewer.trouble and viewer.trouble_month == month
        )
        await gather(
            cinema.leave(viewer)
            for viewer in viewers
            if viewer.leaves and viewer.leaves_month == month
        )
        progress("months", month, script.MONTHS)
    await cinema.move_to(script.START + timedelta(days=30 * script.MONTHS + 1))
