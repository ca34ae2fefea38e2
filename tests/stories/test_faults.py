"""Every way in which a provider goes wrong, and one payment through it: taken once, and known."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from subledger.providers.sandbox import faults
from tests.stories.shop import START, Shop

OPENED = ["subscription.created", "invoice.finalized"]
PAID = ["payment.succeeded", "invoice.paid", "subscription.activated", "entitlement.granted"]
KEPT = ["payment_method.attached", *PAID]
FAILED = {"charge_stored_500", "charge_declined"}
ASKED = [*OPENED, "payment.requires_action"]
LOST = [*OPENED, "payment.unknown"]

CHARGES: dict[str, tuple[list[str], list[str], list[str]]] = {
    # what is known at once, within ten minutes, and within three hours
    **{
        mode: (LOST, PAID, [])
        for mode in (
            "charge_no_reply", "charge_500", "charge_html", "charge_unknown_status",
            "charge_reset", "charge_key_expired", "charge_in_flight",
        )
    },
    "charge_stored_500": (LOST, ["payment.failed"], []),
    "charge_declined": ([*OPENED, "payment.failed"], [], []),
    "charge_action_late": (ASKED, [], PAID),
    "charge_webhook_first": ([*OPENED, *PAID], [], []),
    "request_429": ([*OPENED, *PAID], [], []),
    "request_refused": ([*OPENED, *PAID], [], []),
    "request_slow": ([*OPENED, *PAID], [], []),
}  # fmt: skip
PAGES: dict[str, tuple[list[str], list[str], list[str]]] = {
    # what is known when the payer has paid, within fifteen minutes, and within four days
    **{
        mode: (KEPT, [], [])
        for mode in ("page_declined", "webhook_twice", "webhook_thrice", "webhook_twenty")
    },
    "webhook_out_of_order": ([], KEPT, []),
    "webhook_bad_signature": ([], KEPT, []),
    "webhook_unsigned": ([], KEPT, []),
    "webhook_foreign": ([], [], KEPT),
    "webhook_never": ([], [], KEPT),
    "webhook_day_late": ([], [], KEPT),
    "webhook_3_days_late": ([], [], KEPT),
}


def test_every_fault_has_its_story() -> None:
    # Those of refunds are in test_refunds, of captures in test_two_stage, and what the daily
    # comparison finds in test_reconciliation.
    told = {*CHARGES, *PAGES, *faults.at("refund"), *faults.at("question")}
    told |= set(faults.at("capture"))
    told |= {faults.PHANTOM, faults.SHORT}
    assert told == set(faults.ALL)


async def wait_for(shop: Shop, **more: int) -> None:
    await shop.move_to((START + timedelta(**more)).replace(tzinfo=None).isoformat())


async def healed(shop: Shop, viewer: str, *, paid: bool = True) -> int:
    """Taken and paid, or not taken and clearly failed; what was captured."""
    payments = (await shop.get("/v1/payments", customer_id=viewer))["data"]
    assert [each["status"] for each in payments] == ["succeeded" if paid else "failed"]
    [(_, status, total)] = await shop.invoices(viewer)
    assert (status, total) == ("paid" if paid else "open", 999)
    return 999 if paid else 0


async def heard(shop: Shop, viewers: dict[str, str]) -> dict[str, list[str]]:
    return {mode: await shop.new_events(viewer) for mode, viewer in viewers.items()}


@pytest.mark.long
async def test_a_charge_goes_through_each(shop: Shop, monkeypatch: Any) -> None:
    monkeypatch.setattr(faults, "SLOW_S", 0.1)
    plan, viewers = await shop.plan(), {}
    for mode in CHARGES:
        viewer = viewers[mode] = await shop.customer(mode.replace("_", "-"))
        await shop.card(viewer)
        await shop.fault(mode, 1)
        body = {"customer_id": viewer, "plan_id": plan}
        refused = mode == "charge_declined"
        wait = "wait=10" if mode.startswith("request") or refused else "wait=0"
        await shop.post("/v1/subscriptions", body, expect=402 if refused else 201, prefer=wait)
    at_once = {mode: found[1:] for mode, found in (await heard(shop, viewers)).items()}
    assert at_once == {mode: ["payment_method.attached", *CHARGES[mode][0]] for mode in CHARGES}
    await wait_for(shop, minutes=10)
    assert await heard(shop, viewers) == {mode: soon for mode, (_, soon, _) in CHARGES.items()}
    await wait_for(shop, hours=3)
    assert await heard(shop, viewers) == {mode: later for mode, (*_, later) in CHARGES.items()}
    taken = 0
    for mode, viewer in viewers.items():
        taken += await healed(shop, viewer, paid=mode not in FAILED)
    assert await shop.captured() == {"EUR": taken}
    await shop.check()


async def test_a_page_goes_through_each(shop: Shop) -> None:
    plan, viewers = await shop.plan(), {}
    for mode in PAGES:
        viewer = viewers[mode] = await shop.customer(mode.replace("_", "-"))
        bought = await shop.subscribe(viewer, plan, collection="page")
        await shop.new_events(viewer)
        await shop.fault(mode, 1)
        for _ in range(1 + (mode == "page_declined")):
            await shop.pay_page(bought["next_action"]["redirect_url"])
    for n, moment in enumerate(({}, {"minutes": 15}, {"days": 4})):
        if moment:
            await wait_for(shop, **moment)
        assert await heard(shop, viewers) == {mode: found[n] for mode, found in PAGES.items()}
    taken = sum([await healed(shop, viewer) for viewer in viewers.values()])
    assert await shop.captured() == {"EUR": taken}
    await shop.check()


async def test_fail_fail_pay_on_one_page(shop: Shop) -> None:
    plan, viewer = await shop.plan(), await shop.customer()
    bought = await shop.subscribe(viewer, plan, collection="page")
    await shop.fault("page_declined", 2)
    page = bought["next_action"]["redirect_url"]
    assert [(await shop.pay_page(page)).status_code for _ in range(3)] == [422, 422, 303]
    assert (await shop.new_events(viewer))[-5:] == ["payment_method.attached", *PAID]
    await healed(shop, viewer)
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_the_modes_that_there_are(shop: Shop) -> None:
    viewer = await shop.customer()
    await shop.card(viewer)
    await shop.fault("webhook_never", 7)
    key, _ = shop.assembly.sandbox.credentials(shop.tenant_id)
    answer = await shop.raw("GET", "/sandbox/v1/faults", headers={"authorization": f"Bearer {key}"})
    listed = {each["mode"]: each for each in answer.json()["data"]}
    assert set(listed) == set(faults.ALL)
    assert (listed["webhook_never"]["id"], listed["webhook_never"]["remaining"]) == ("P8", 7)
    assert sum(each["remaining"] for each in listed.values()) == 7
