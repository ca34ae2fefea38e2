"""What is asked for: an order becomes a request, and the preview of it, if it has one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.previews.drawn import Data, Example, Order
from tests.stories.shop import Shop

LIVE = {"pending", "trialing", "active", "past_due", "paused"}


def moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read(at: str) -> datetime:
    return datetime.fromisoformat(at)


@dataclass
class Promise:
    """The answer to a preview: what it says, or the code of the problem."""

    said: Data | None
    code: str | None


@dataclass
class Asked:
    """A preview and what it is a preview of."""

    preview: str | None
    path: str
    body: Data
    preview_body: Data | None = None
    method: str = "POST"


@dataclass
class Deed:
    """Who does what."""

    person: Person
    order: Order


@dataclass
class Person:
    """A customer, and what is known of the one subscription that counts."""

    id: str
    subscription: Data | None = None
    upcoming: Data | None = None
    refused: bool = False
    """A purchase was refused once."""
    known: dict[str, Data] = field(default_factory=dict)
    """Invoices seen before, by id."""

    @property
    def is_live(self) -> bool:
        return self.subscription is not None and self.subscription["status"] in LIVE


class Asking:
    """The shop as those who ask know it. Each order is a method here."""

    def __init__(self, shop: Shop, example: Example) -> None:
        self.shop = shop
        self.example = example
        self.now = read(example.start).replace(tzinfo=UTC)
        self.people: list[Person] = []
        self.plans: list[Data] = []
        self.discounts: list[str] = []

    async def asked(self, person: Person, order: Order) -> Asked | None:
        """The requests of an order, None where it makes no sense."""
        if order.do != "buy" and person.subscription is None:
            return None
        asked: Asked | None = await getattr(self, f"_{order.do}")(person, order.given)
        return asked

    def _path(self, person: Person) -> str:
        assert person.subscription is not None
        return f"/v1/subscriptions/{person.subscription['id']}"

    def _at(self, given: Any) -> Any:
        """Hours from now, or as it is."""
        return moment(self.now + timedelta(hours=given)) if isinstance(given, int) else given

    async def _buy(self, person: Person, given: Data) -> Asked | None:
        if person.is_live:
            return None
        body = {name: given[name] for name in ("quantity", "first_period", "proration")}
        body |= {
            "customer_id": person.id,
            "plan_id": self.plans[given["plan"] % len(self.plans)]["id"],
            "discount_ids": [self.discounts[n] for n in given["discounts"]],
        }
        if given["trial_days"] is not None:
            body["trial_days"] = given["trial_days"]
        if given["start_days"] is not None:
            body["start_at"] = moment(self.now + timedelta(days=given["start_days"]))
        if given["billing_anchor"] is not None:
            body["billing_anchor"] = given["billing_anchor"]
        return Asked("/v1/subscriptions/preview", "/v1/subscriptions", body)

    async def _change(self, person: Person, given: Data) -> Asked | None:
        body = {"settle": given["settle"], "at": self._at(given["at"])}
        if given["plan"] is not None:
            body["plan_id"] = self.plans[given["plan"]]["id"]
        stands = person.subscription
        assert stands is not None
        if given["quantity"] not in (None, stands["quantity"]):
            body["quantity"] = given["quantity"]
        elif body.get("plan_id", stands["plan_id"]) == stands["plan_id"]:
            body["quantity"] = "5" if stands["quantity"] != "5" else "6"
        path = self._path(person)
        return Asked(f"{path}/preview-change", f"{path}/change", body)

    async def _reanchor(self, person: Person, given: Data) -> Asked | None:
        path = self._path(person)
        at = None if given["when"] == "now" else "period_end"
        same_change = {"billing_anchor": given["billing_anchor"], "at": at, "settle": "now"}
        return Asked(f"{path}/preview-change", f"{path}/change-anchor", dict(given), same_change)

    async def _pause(self, person: Person, given: Data) -> Asked | None:
        body = {"at": self._at(given["at"]), "credit": given["credit"]}
        if given["resume_days"] is not None:
            body["resume_at"] = self._at(given["resume_days"] * 24)
        path = self._path(person)
        return Asked(f"{path}/preview-pause", f"{path}/pause", body)

    async def _resume(self, person: Person, given: Data) -> Asked | None:
        path = self._path(person)
        body = {"at": self._at(given["at"])}
        return Asked(f"{path}/preview-resume", f"{path}/resume", body)

    async def _cancel(self, person: Person, given: Data) -> Asked | None:
        when = given["when"]
        body = {"at": self._at(when)} if isinstance(when, int) else {"when": when}
        body["credit_unused"] = given["credit_unused"]
        return Asked(None, f"{self._path(person)}/cancel", body)

    async def _note(self, person: Person, given: Data) -> Asked | None:
        mine = sorted(person.known.values(), key=lambda row: row["number"] or "")
        if not mine:
            return None
        invoice = mine[given["invoice"] % len(mine)]["id"]
        body: Data = {"invoice_id": invoice, "reason": "goodwill"}
        if given["line"] is not None:
            whole = (await self.shop.get(f"/v1/invoices/{invoice}"))["lines"]
            charges = [line for line in whole if line["gross_minor"] > 0]
            if not charges:
                return None
            line = charges[given["line"] % len(charges)]
            gross = max(line["gross_minor"] * given["share"] // 4, 1)
            body["lines"] = [{"n": line["n"], "gross_minor": gross}]
        return Asked("/v1/credit-notes/preview", "/v1/credit-notes", body)

    async def _use(self, person: Person, given: Data) -> Asked | None:
        assert person.subscription is not None
        plan = await self.shop.get(f"/v1/plans/{person.subscription['plan_id']}/versions")
        metered = [
            price["id"] for version in plan["data"] for price in version["prices"]
            if version["plan_version_id"] == person.subscription["plan_version_id"]
            and price["metered"]
        ]  # fmt: skip
        if not metered:
            return None
        body = {"price_id": metered[given["price"] % len(metered)], "quantity": given["quantity"]}
        return Asked(None, f"{self._path(person)}/quantities", body, method="PUT")

    async def _reissue(self, person: Person, given: Data) -> Asked | None:
        mine = sorted(
            (row for row in person.known.values() if row["status"] == "open"),
            key=lambda row: row["number"],
        )
        if not mine:
            return None
        return Asked(None, f"/v1/invoices/{mine[-1]['id']}/reissue", {"reason": "drawn"})

    async def _reactivate(self, person: Person, given: Data) -> Asked | None:
        return None if person.is_live else Asked(None, f"{self._path(person)}/reactivate", {})

    async def _undo(self, person: Person, given: Data) -> Asked | None:
        stands = person.subscription
        assert stands is not None
        for name, what in (("change", "scheduled_change"), ("cancel", "cancel_at")):
            if person.is_live and stands[what] is not None:
                return Asked(None, f"{self._path(person)}/undo-{name}", {})
        return None
