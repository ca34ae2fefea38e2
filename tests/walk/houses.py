"""Two shops in one process: ours, and a foreign one with a canary in every text that it may set."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field

from subledger.contracts.events import Event
from subledger.hosts.assembly import Assembly
from subledger.platform import ids
from subledger.platform.db import story
from subledger.providers.sandbox.adapter import SIGNATURE, sign
from tests.stories.dispute_world import dispute, disputes
from tests.stories.shop import START, Shop, open_shop

_EMIT = story("tests.walk_overpaid")
_ID = re.compile(r"[a-z]{2,5}_[0-7][0-9a-hjkmnp-tv-z]{25}")
NEVER_DELETED = {
    "prod", "plan", "disc", "sub", "inv", "pay", "mov", "wrk", "park", "txr", "tru", "mig", "promo",
    "batch", "cn", "adj", "price", "ref", "conn", "whr", "rec", "dsp", "plink",
}  # fmt: skip
"""Kinds that the API cannot delete. A revoked key stays readable, as the document says."""


@dataclass
class House:
    """A shop with an object of every kind. ``ids`` by prefix; ``texts`` by parameter name."""

    shop: Shop
    word: str
    ids: dict[str, str] = field(default_factory=dict)
    others: list[dict[str, str]] = field(default_factory=list)
    """More objects of a kind, in other states, each by its prefix."""
    deleted: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    """All that a foreigner must never see: the word, and every id of the tenant in both forms."""


async def furnish(assembly: Assembly, word: str) -> House:
    """A shop whose every text holds ``word``, with at least one object of every kind."""
    shop = await open_shop(assembly)
    house = House(shop, word)
    await _sell(house)
    await _overpay(house)
    await _link(house)
    await _migrate(house)
    await shop.pump.quiet()
    await _begin_later(house)
    await _park(house)
    await _tax(house)
    await _dun(house)
    await shop.pump.quiet()
    await _delete(house)
    house.texts = {
        "code": f"{word}-plan", "external_id": f"{word}-viewer", "customer": f"{word}-viewer",
        "resource": f"film:{word}", "job": "collections",
    }  # fmt: skip
    await _remember(house)
    return house


async def _sell(house: House) -> None:
    shop, word, known = house.shop, house.word, house.ids
    product = await shop.post(
        "/v1/products",
        {"code": f"{word}-product", "name": f"{word} P", "resources": [f"film:{word}"]},
    )
    plan = await shop.post(
        "/v1/plans",
        {"code": f"{word}-plan", "name": f"{word} plan", "product_id": product["id"],
         "prices": [{"code": f"{word}-price", "currency": "EUR", "model": "flat",
                     "amount_minor": 999, "interval": {"unit": "month", "count": 1}}]},
    )  # fmt: skip
    discount = await shop.post(
        "/v1/discounts",
        {"code": f"{word}-off", "name": f"{word} off", "percent": "10", "duration": "once"},
    )
    customer = await _customer(house, f"{word}-viewer")
    method = await shop.card(customer)
    known |= {"prod": product["id"], "plan": plan["id"], "disc": discount["id"]}
    known["price"] = plan["latest"]["prices"][0]["id"]
    known |= {"cus": customer, "pm": method}
    known["mov"] = (await shop.move_to("2026-02-01"))["id"]
    await _promote(house, customer)
    bought = await shop.subscribe(customer, plan["id"], promotion_codes=[f"{word}-code"])
    known["sub"] = bought["id"]
    known["inv"] = (await shop.last_invoice(customer))["id"]
    known["pay"] = (await shop.get("/v1/payments", customer_id=customer))["data"][0]["id"]
    note = await shop.post(
        "/v1/credit-notes",
        {"invoice_id": known["inv"], "reason": "other", "memo": f"{word} memo",
         "lines": [{"n": 1, "gross_minor": 100}]},
    )  # fmt: skip
    adjusted = await shop.post(
        "/v1/adjustments",
        {"customer_id": customer, "direction": "credit", "amount_minor": 100, "currency": "EUR",
         "reason": f"{word} reason"},
    )  # fmt: skip
    known |= {"cn": note["id"], "adj": adjusted["id"]}
    back = await shop.post(f"/v1/payments/{known['pay']}/refunds", {"amount_minor": 10})
    known["ref"] = back["id"]
    await dispute(shop, known["pay"], amount_minor=20)
    [known["dsp"]] = [each["id"] for each in await disputes(shop)]
    await _be_told(house)
    key = await shop.post("/v1/api-keys", {"name": f"{word} key", "role": "read"})
    known["key"] = key["id"]


async def _be_told(house: House) -> None:
    """The provider has told something: a connection, and what was received at it."""
    shop, known = house.shop, house.ids
    [own] = (await shop.get("/v1/connections"))["data"]
    _, secret = shop.assembly.sandbox.credentials(shop.tenant_id)
    body = json.dumps({"id": f"{house.word} event", "type": house.word, "data": {}}).encode()
    answer = await shop.raw(
        "POST", own["webhook_url"].removeprefix("http://shop.test"), content=body,
        headers={SIGNATURE: sign(body, secret, int(time.time()))},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    known["conn"] = own["id"]
    compared = await shop.post(f"/v1/connections/{own['id']}/reconcile", expect=202)
    known["rec"] = compared["id"]
    await shop.pump.quiet()
    known["whr"] = (await shop.get("/v1/received-webhooks"))["data"][0]["id"]


async def _promote(house: House, customer: str) -> None:
    """A typed and a generated promo code, and a personal discount."""
    shop, word, known = house.shop, house.word, house.ids
    limits = {"discount_id": known["disc"], "most_redemptions": 1}
    code = await shop.post("/v1/promotion-codes", {"code": f"{word}-code", **limits})
    batch = await shop.post("/v1/promotion-codes/bulk", {"n": 1, "prefix": word, **limits})
    own = await shop.post(
        "/v1/discounts",
        {"code": f"{word}-own", "name": f"{word} own", "percent": "1", "duration": "forever"},
    )
    await shop.post(f"/v1/customers/{customer}/discounts", {"discount_id": own["id"]})
    known |= {"promo": code["id"], "batch": batch["batch_id"]}


async def _customer(house: House, external_id: str) -> str:
    word = house.word
    made = await house.shop.post(
        "/v1/customers",
        {"external_id": external_id, "name": f"{word} Name", "email": f"{word}@example.com",
         "currency": "EUR", "timezone": "Europe/Berlin"},
    )  # fmt: skip
    await house.shop.pump.quiet()
    return str(made["id"])


async def _overpay(house: House) -> None:
    """Money arrives for an attempt that billing knows nothing of: a person has to look."""
    database, known = house.shop.assembly.databases["payments"], house.ids
    data = {
        "payment_id": known["pay"], "invoice_id": known["inv"], "customer_id": known["cus"],
        "connection_id": ids.text("conn", database.ids.new()),
        "attempt_id": ids.text("att", database.ids.new()), "amount_minor": 5, "currency": "EUR",
        "dunning": False, "captured_at": START.isoformat(),
    }  # fmt: skip
    event = Event(
        type="payment.succeeded", tenant_id=house.shop.tenant_id,
        subject=ids.parse("cus", known["cus"]), data=data, occurred_at=START,
    )  # fmt: skip
    async with database.transaction(_EMIT, tenants=[house.shop.tenant_id]) as tx:
        tx.emit([event])
    await house.shop.pump.quiet()
    found = (await house.shop.get("/v1/work-items"))["data"]
    [item] = [each for each in found if each["kind"] == "payment_unapplied"]
    known["wrk"] = item["id"]


async def _link(house: House) -> None:
    """An invoice that was declined, and where it can be paid."""
    debtor = await _customer(house, f"{house.word}-debtor")
    await house.shop.card(debtor, "soft_decline")
    refused = await house.shop.refused(debtor, house.ids["plan"])
    link = await house.shop.post("/v1/payment-links", {"invoice_id": refused["invoice_id"]})
    house.ids["plink"] = link["id"]


async def _tax(house: House) -> None:
    """A rate, a rule, and settings; last, so that what was sold before carries no tax."""
    shop, word = house.shop, house.word
    rate = {"code": f"{word}-vat", "name": f"{word} VAT", "percent": "19", "country": "DE"}
    rule = await shop.post("/v1/tax-rules", {"rate": rate, "category": f"{word}-films"})
    house.ids |= {"tru": rule["id"], "txr": rule["rate"]["id"]}
    body = {"country": "US", "region": "CA", "vat_id": f"{word} 1"}
    assert (await shop.raw("PUT", "/v1/tax-settings", json=body)).status_code == 200
    changed = await shop.raw(
        "PATCH", f"/v1/customers/{house.ids['cus']}",
        json={"country": "DE", "tax_rate_ids": [house.ids["txr"]],
              "tax_exempt_reason": f"{word} is exempt"},
    )  # fmt: skip
    assert changed.status_code == 200, changed.text


async def _migrate(house: House) -> None:
    """The plan gets a second version, and its subscription is to move to it."""
    shop, word, plan = house.shop, house.word, house.ids["plan"]
    price = {"code": f"{word}-price", "currency": "EUR", "model": "flat", "amount_minor": 1099,
             "interval": {"unit": "month", "count": 1}}  # fmt: skip
    await shop.post(f"/v1/plans/{plan}/versions", {"prices": [price]})
    started = await shop.post("/v1/plan-migrations", {"plan_id": plan, "note": f"{word} note"})
    house.ids["mig"] = started["id"]


async def _begin_later(house: House) -> None:
    """A subscription in its trial, and one whose start day has not come."""
    shop, customer, plan = house.shop, house.ids["cus"], house.ids["plan"]
    for status, given in (
        ("trialing", {"trial_days": 300}), ("pending", {"start_at": "2026-12-01T00:00:00Z"}),
    ):  # fmt: skip
        bought = await shop.subscribe(customer, plan, **given)
        assert bought["status"] == status, bought
        house.others.append({"sub": bought["id"]})


async def _park(house: House) -> None:
    """A day's renewals beyond the tenant's limit."""
    shop, word = house.shop, house.word
    daily = await shop.plan(f"{word}-daily", unit="day")
    reader = await _customer(house, f"{word}-reader")
    await shop.card(reader)
    await shop.subscribe(reader, daily)
    limits = {"limits": [{"currency": "EUR", "total_minor": 1}], "reason": f"{word} limits"}
    assert (await shop.raw("PUT", "/v1/billing-limits", json=limits)).status_code == 200
    await shop.move_to("2026-02-02")
    [park] = (await shop.get("/v1/billing-parks"))["data"]
    house.ids["park"] = park["id"]


async def _dun(house: House) -> None:
    """A policy for the house's plan, and one that was deleted."""
    body = {
        "delays_s": [86400], "final_action": "uncollectible", "hard_decline_stops": True,
        "segment": {"plan_ids": [house.ids["plan"]]},
    }  # fmt: skip
    for name in ("kept", "gone"):
        named = body | {"name": f"{house.word} {name}"}
        made = await house.shop.post("/v1/dunning-policies", named)
        (house.ids if name == "kept" else house.deleted)["dun"] = made["id"]
    path = f"/v1/dunning-policies/{house.deleted['dun']}"
    assert (await house.shop.raw("DELETE", path)).status_code == 204


async def _delete(house: House) -> None:
    shop = house.shop
    gone = await _customer(house, f"{house.word}-gone")
    method = await shop.card(gone)
    for path in (f"/v1/payment-methods/{method}", f"/v1/customers/{gone}"):
        answer = await shop.raw("DELETE", path)
        assert answer.status_code == 204, answer.text
    await shop.pump.quiet()
    house.deleted |= {"cus": gone, "pm": method}


async def _remember(house: House) -> None:
    """Every id that the tenant's own lists show is a secret to others."""
    shop, found = house.shop, set[str]()
    for path in (
        "/v1/tenant", "/v1/api-keys", "/v1/clock-moves", "/v1/customers", "/v1/products",
        "/v1/plans", "/v1/discounts", "/v1/subscriptions", "/v1/invoices", "/v1/work-items",
        "/v1/payment-methods", "/v1/payments", "/v1/plan-migrations", "/v1/events?limit=100",
        "/v1/tax-rates", "/v1/tax-rules", "/v1/promotion-codes", "/v1/credit-notes",
        "/v1/adjustments", "/v1/billing-parks", "/v1/dunning-policies", "/v1/connections",
        "/v1/received-webhooks", "/v1/payment-links",
    ):  # fmt: skip
        found |= set(_ID.findall((await shop.raw("GET", path)).text))
    found |= {*house.ids.values(), *house.deleted.values(), ids.text("ten", shop.tenant_id)}
    plain = {str(ids.parse(each.partition("_")[0], each)) for each in found}
    house.secrets = {house.word, *found, *plain}


def leaks(house: House, *texts: str) -> list[str]:
    """Which of the house's secrets the texts show."""
    shown = " ".join(texts)
    return sorted(each for each in house.secrets if each in shown)
