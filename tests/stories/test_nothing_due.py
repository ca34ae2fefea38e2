"""Where nothing is due there is no invoice; what is used in a free stub is free."""

from __future__ import annotations

import pytest

from tests.stories.test_calendar_stories import PAID, act, period
from tests.stories.test_prices import BASE, CALLS, LATE, lines, plan_of, use

BOUGHT = ["subscription.created", "subscription.activated", "entitlement.granted"]
RENEWED = ["subscriptions.renew_required", *PAID, "subscription.renewed", "entitlement.granted"]
OVER = [
    "subscriptions.trial_reminder_required", "subscription.trial_will_end",
    "subscriptions.renew_required", "subscription.trial_ended",
]  # fmt: skip
ACTIVE = ["subscription.activated", "entitlement.granted"]


@pytest.fixture
async def viewer(shop):
    customer = await shop.customer()
    await shop.card(customer)
    await shop.new_events(customer)
    return customer


@pytest.mark.parametrize("zero", ["issue", "skip"])
async def test_a_plan_all_in_arrears_has_no_invoice_at_its_purchase(shop, viewer, zero):
    """Whatever is done with invoices of zero: this one would have no line."""
    settings = {"zero_invoices": zero}
    assert (await shop.raw("PUT", "/v1/invoice-settings", json=settings)).status_code == 200
    plan, _ = await plan_of(shop, LATE)
    wanted = {"customer_id": viewer, "plan_id": plan}
    seen = await shop.post("/v1/subscriptions/preview", wanted, expect=200)
    assert (seen["total_minor"], seen["due_now_minor"], seen["lines"]) == (0, 0, [])

    bought = await shop.subscribe(viewer, plan)

    assert (bought["status"], bought["latest_invoice_id"]) == ("active", None)
    assert await shop.new_events(viewer) == BOUGHT
    assert await shop.invoices(viewer) == []
    assert (await shop.access(viewer, "mix"))["allowed"]
    upcoming = await shop.get(f"/v1/subscriptions/{bought['id']}/upcoming-invoice")
    assert upcoming["total_minor"] == 310
    assert [(line["service_start_at"], line["service_end_at"]) for line in upcoming["lines"]] == [
        ("2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z")
    ]
    await shop.check()

    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    assert [each[1:] for each in await shop.invoices(viewer)] == [("paid", 310)]
    assert await lines(shop, viewer) == {"late": 310}
    found = await shop.get(f"/v1/subscriptions/{bought['id']}")
    assert found["latest_invoice_id"] == (await shop.last_invoice(viewer))["id"]
    assert await period(shop, bought["id"]) == ("2026-02-28T10:00:00Z", "2026-03-31T09:00:00Z")
    await shop.check()


@pytest.mark.parametrize("begins", ["trial", "start", "page"])
@pytest.mark.long
async def test_nothing_is_due_either_where_it_begins_by_itself(shop, viewer, begins):
    plan, _ = await plan_of(shop, LATE)
    more = {
        "trial": {"trial_days": 14},
        "start": {"start_at": "2026-02-14T10:00:00Z"},
        "page": {"trial_days": 14, "collection": "page"},
    }[begins]
    bought = await shop.subscribe(viewer, plan, **more)
    await shop.new_events(viewer)
    seen = await shop.get("/v1/billing-forecast", until="2026-02-15T00:00:00Z")
    assert (seen["subscriptions"], seen["first_invoices"], seen["currencies"]) == (1, 1, [])

    await shop.move_to("2026-02-15")

    started = ["subscriptions.renew_required", "subscription.started"]
    assert await shop.new_events(viewer) == [*(started if begins == "start" else OVER), *ACTIVE]
    assert await shop.status(bought["id"]) == "active"
    assert await shop.invoices(viewer) == []
    await shop.check()
    await shop.move_to("2026-03-15")
    assert await shop.new_events(viewer) == RENEWED
    assert await shop.captured() == {"EUR": 310}
    await shop.check()


async def test_it_may_end_and_begin_again_without_an_invoice(shop, viewer):
    plan, _ = await plan_of(shop, LATE)
    bought = await shop.subscribe(viewer, plan)
    await shop.move_to("2026-02-14T10:00:00")
    await act(shop, bought["id"], "cancel", {"when": "now", "credit_unused": True})
    # 14 of 28 days.
    assert [each[2] for each in await shop.invoices(viewer)] == [155]
    await shop.new_events(viewer)
    await shop.move_to("2026-02-20")
    await shop.post(f"/v1/subscriptions/{bought['id']}/reactivate", {}, expect=200)
    assert await shop.new_events(viewer) == ["subscription.reactivated", *ACTIVE]
    assert len(await shop.invoices(viewer)) == 1
    found = await shop.get(f"/v1/subscriptions/{bought['id']}")
    assert found["latest_invoice_id"] == (await shop.last_invoice(viewer))["id"]
    await shop.check()
    await shop.move_to("2026-03-21")
    assert await shop.captured() == {"EUR": 155 + 310}
    await shop.check()


async def test_a_day_counts_invoices_and_not_runs_without_one(shop, viewer):
    plan, _ = await plan_of(shop, LATE)
    body = {"limits": [{"currency": "EUR", "count": 1}], "reason": "few"}
    assert (await shop.raw("PUT", "/v1/billing-limits", json=body)).status_code == 200
    for _ in range(2):
        await shop.subscribe(viewer, plan, trial_days=14)
    await shop.move_to("2026-02-15")
    assert (await shop.get("/v1/billing-parks"))["data"] == []
    found = (await shop.get("/v1/subscriptions", customer_id=viewer))["data"]
    assert [each["status"] for each in found] == ["active", "active"]
    await shop.check()


# Free stubs ---------------------------------------------------------------------------------------

LEAST = {"code": "least", "model": "commitment", "commitment_minor": 2000, "timing": "arrears"}


@pytest.mark.parametrize(
    ("first_period", "stub"),
    [
        ("free", {"base": 1000, "calls": 0, "least": 0}),
        # 15 of 28 days of the commitment; base was paid for them, and usage is not shared by time.
        ("prorated", {"base": 1000, "calls": 50, "least": 485}),
        ("full", {"base": 1000, "calls": 50, "least": 950}),
    ],
)
@pytest.mark.long
async def test_what_is_used_in_a_free_stub_is_free(shop, viewer, first_period, stub):
    plan, prices = await plan_of(shop, BASE, CALLS, LEAST)
    await shop.move_to("2026-02-14T09:00:00")
    bought = await shop.subscribe(
        viewer, plan, billing_anchor={"kind": "calendar"}, first_period=first_period
    )
    await use(shop, bought["id"], prices["calls"], quantity="100")
    await shop.move_to("2026-03-01")
    assert await lines(shop, viewer) == stub
    await use(shop, bought["id"], prices["calls"], quantity="301")
    await shop.move_to("2026-04-01")
    assert await lines(shop, viewer) == {"base": 1000, "calls": 151, "least": 849}
    await shop.check()


async def test_what_is_used_in_a_free_stub_is_free_also_if_it_ends_there(shop, viewer):
    plan, prices = await plan_of(shop, BASE, CALLS)
    await shop.move_to("2026-02-14T09:00:00")
    bought = await shop.subscribe(
        viewer, plan, billing_anchor={"kind": "calendar"}, first_period="free"
    )
    await use(shop, bought["id"], prices["calls"], quantity="100")
    await shop.move_to("2026-02-20T09:00:00")
    await act(shop, bought["id"], "cancel", {"when": "now"})
    assert await lines(shop, viewer) == {"calls": 0}
    assert await shop.captured() == {}
    await shop.check()
