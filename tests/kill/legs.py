"""Parts of the story that stand alone: add a coroutine to ``LEGS`` and its crash points are hit.

A leg may be cut off anywhere and begun again: each request has a name, which is its idempotency
key, and what an earlier life has done already is answered as it was then, or refused with 409.
``afterwards`` says what of it is wrong once everything is quiet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

VISIBLE_S = 5.0
SENT_BACK = (("plain", 300), ("silent", 200))
OUTSIDE = 100


class Client(Protocol):
    """What a leg can do."""

    @property
    def merchant_key(self) -> str:
        """The shop's key at the sandbox provider."""
        ...

    async def send(
        self, method: str, name: str, path: str, body: Any = None, *allowed: int
    ) -> Any: ...

    async def get(self, path: str, **query: Any) -> Any: ...

    async def until(self, path: str, field: str, *wanted: str) -> Any: ...

    async def there(self, path: str, body: Any, *, key: str) -> None:
        """A request to the sandbox provider itself."""
        ...


async def refunds(client: Client, plan: str) -> None:
    """A part goes back; somebody sends back another part at the provider; the reply to a third is
    lost, so that only a question tells what became of it."""
    customer = await _customer(client, "refunds")
    payment = await _bought(client, "refunds", customer, plan)
    if payment is None:
        return  # unknown until the clock moves on: nothing can go back yet
    path = f"/v1/payments/{payment['id']}"
    attempt = (await client.get(path))["attempts"][-1]["id"]
    await client.send("POST", "refund-plain", f"{path}/refunds", {"amount_minor": 300}, 409)
    outside = {"attempt_id": attempt, "amount_minor": OUTSIDE, "currency": "EUR"}
    await client.there("/sandbox/v1/refunds", outside, key="outside")
    await client.there("/sandbox/v1/faults", {"mode": "refund_no_reply", "remaining": 1}, key="f")
    await client.send("POST", "refund-silent", f"{path}/refunds", {"amount_minor": 200}, 409)


async def a_page_let_go(client: Client, plan: str) -> None:
    """A hosted page is canceled by the shop, and a saved method detached."""
    customer = await _customer(client, "lets-go")
    body = {"customer_id": customer, "plan_id": plan, "collection": "page",
            "return_url": "http://localhost/thanks"}  # fmt: skip
    bought = await client.send("POST", "buy-lets-go", "/v1/subscriptions", body)
    payment = await _newest(client, bought["latest_invoice_id"])
    if payment is not None:
        await client.send("POST", "let-go", f"/v1/payments/{payment['id']}/cancel", None, 409)
    body = {"customer_id": customer, "test_kind": "visa_ok", "make_default": True}
    method = await client.send("POST", "method-lets-go", "/v1/payment-methods", body)
    await client.send("DELETE", "detach", f"/v1/payment-methods/{method['id']}", None, 404, 409)


async def connections(client: Client, plan: str) -> None:
    """A second connection is made, changed, given a new address and closed."""
    del plan
    credentials = {"api_key": client.merchant_key, "webhook_secret": "whsec_of_our_own_0123"}
    made = await client.send(
        "POST", "connect", "/v1/connections",
        {"provider": "sandbox", "name": "Spare", "credentials": credentials},
    )  # fmt: skip
    path = f"/v1/connections/{made['id']}"
    await client.send("PATCH", "rename", path, {"name": "Other"}, 409)
    await client.send("POST", "readdress", f"{path}/replace-webhook-url", None, 409)
    await client.send("POST", "disconnect", f"{path}/close", None, 409)


async def two_stages(client: Client, plan: str) -> None:
    """What is owed is authorized and let go, authorized again and taken."""
    customer, invoice = await _owing(client, "stages", plan)
    card = {"customer_id": customer, "test_kind": "visa_ok", "make_default": True}
    method = await client.send("POST", "good-stages", "/v1/payment-methods", card)
    wish = {"invoice_id": invoice, "payment_method_id": method["id"], "capture_method": "manual"}
    for name, end in (("first", "cancel"), ("second", "capture")):
        payment = await client.send("POST", f"authorize-{name}", "/v1/payments", wish, 402, 409)
        if "id" not in payment:
            return  # it never came there, or another that is unknown holds the invoice
        path = f"/v1/payments/{payment['id']}"
        if await _decided(client, path) == "authorized":
            await client.send("POST", f"{end}-{name}", f"{path}/{end}", {}, 409)
            await _decided(client, path)


async def own_money(client: Client, plan: str) -> None:
    """Money into the account, which then pays what is owed."""
    customer, _ = await _owing(client, "own-money", plan)
    card = {"customer_id": customer, "test_kind": "visa_ok", "make_default": True}
    method = await client.send("POST", "good-own-money", "/v1/payment-methods", card)
    body = {"amount_minor": 1_200, "currency": "EUR", "payment_method_id": method["id"]}
    path = f"/v1/customers/{customer}"
    payment = await client.send("POST", "top-up", f"{path}/payments", body)
    await _decided(client, f"/v1/payments/{payment['id']}")
    await client.send("POST", "apply", f"{path}/apply-unapplied", None, 409)


async def reconciliation(client: Client, plan: str) -> None:
    """What the provider lists is compared with what is booked."""
    del plan
    for each in (await client.get("/v1/connections"))["data"]:
        if each["status"] == "active":
            path = f"/v1/connections/{each['id']}/reconcile"
            begun = await client.send("POST", f"reconcile-{each['id']}", path, {})
            await client.until(f"/v1/reconciliations/{begun['id']}", "status", "done")


Leg = Callable[[Client, str], Awaitable[None]]
LEGS: tuple[Leg, ...] = (
    refunds, a_page_let_go, connections, two_stages, own_money, reconciliation,
)  # fmt: skip
"""Lived in this order before the clock moves; each is given the plan that is sold."""


async def afterwards(client: Client) -> tuple[list[str], int]:
    """What is wrong with refunds, and how much went back in all (minor units)."""
    wrong, back = [], 0
    for payment in (await client.get("/v1/payments", limit=100))["data"]:
        if payment["status"] != "succeeded":
            continue
        found = (await client.get(f"/v1/payments/{payment['id']}/refunds"))["data"]
        if not found:
            continue
        back += sum(each["amount_minor"] for each in found if each["status"] == "succeeded")
        open_ = [each["status"] for each in found if each["status"] in {"processing", "unknown"}]
        wrong += [f"a refund stays {status}" for status in open_]
        amounts = [each["amount_minor"] for each in found]
        if len(amounts) != len(set(amounts)):
            wrong.append(f"refunds twice: {amounts}")
    return wrong, back


async def _customer(client: Client, name: str) -> str:
    made = await client.send(
        "POST", f"customer-{name}", "/v1/customers",
        {"external_id": name, "name": name, "email": f"{name}@example.com",
         "currency": "EUR", "timezone": "Europe/Berlin"},
    )  # fmt: skip
    return str(made["id"])


async def _bought(client: Client, name: str, customer: str, plan: str) -> Any:
    """The payment of a purchase by card once it has succeeded; None if it is unknown."""
    card = {"customer_id": customer, "test_kind": "visa_ok", "make_default": True}
    await client.send("POST", f"method-{name}", "/v1/payment-methods", card)
    body = {"customer_id": customer, "plan_id": plan}
    bought = await client.send("POST", f"buy-{name}", "/v1/subscriptions", body)
    # An earlier life may have come to the renewal: what is paid here is the purchase.
    page = await client.get("/v1/invoices", subscription_id=bought["id"], limit=50)
    invoice = next(row["id"] for row in page["data"] if row["reason"] == "subscription_create")
    for _ in range(int(VISIBLE_S / 0.05)):
        payment = await _newest(client, invoice)
        if payment is not None and payment["status"] != "processing":
            return payment if payment["status"] == "succeeded" else None
        await asyncio.sleep(0.05)
    return None


async def _owing(client: Client, name: str, plan: str) -> tuple[str, str]:
    """A customer whose first payment was refused, and the invoice of it."""
    customer = await _customer(client, name)
    card = {"customer_id": customer, "test_kind": "soft_decline", "make_default": True}
    await client.send("POST", f"method-{name}", "/v1/payment-methods", card)
    body = {"customer_id": customer, "plan_id": plan}
    refused = await client.send("POST", f"buy-{name}", "/v1/subscriptions", body, 402)
    subscription = refused.get("subscription_id") or refused["id"]
    page = await client.get("/v1/invoices", subscription_id=subscription, limit=50)
    invoice = next(row["id"] for row in page["data"] if row["reason"] == "subscription_create")
    payment = await _newest(client, invoice)
    await _decided(client, f"/v1/payments/{payment['id']}")
    return customer, invoice


async def _decided(client: Client, path: str) -> str:
    """What became of a payment, or that it is unknown until the clock moves on."""
    found = await client.until(
        path, "status", "authorized", "succeeded", "failed", "canceled", "unknown"
    )
    return str(found["status"])


async def _newest(client: Client, invoice: str) -> Any:
    for _ in range(int(VISIBLE_S / 0.05)):
        found = (await client.get("/v1/payments", invoice_id=invoice))["data"]
        if found:
            return found[0]
        await asyncio.sleep(0.05)
    return None
