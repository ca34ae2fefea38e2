"""Revenue follows the service: exact amounts on the tenant's own books, whatever the steps."""

from __future__ import annotations

import pytest

from tests.stories.recognizing import books, subscriber
from tests.stories.shop import open_shop

pytestmark = pytest.mark.long

RENEWED = [
    "subscriptions.renew_required", "invoice.finalized", "payment.succeeded", "invoice.paid",
    "subscription.renewed", "entitlement.granted",
]  # fmt: skip


async def test_a_day_is_earned_when_it_is_over(march):
    shop, _, _ = march
    assert await books(shop) == (3100, 0)
    await shop.move_to("2026-03-01T23:59:59")
    assert await books(shop) == (3100, 0)
    await shop.move_to("2026-03-02")
    assert await books(shop) == (3000, 100)
    await shop.check()


async def test_day_by_day_and_in_one_jump_the_books_are_the_same(shop, process):
    other = await open_shop(process)
    for each in (shop, other):
        await each.move_to("2026-03-01T10:00:00")
        await subscriber(each)
    for day in range(2, 32):
        await shop.move_to(f"2026-03-{day:02d}T12:00:00")
        assert await books(shop) == (3100 - 100 * (day - 1), 100 * (day - 1))
    await shop.move_to("2026-04-01T09:00:00")
    await other.move_to("2026-04-01T09:00:00")
    assert await books(shop) == (0, 3100)
    assert await books(other) == (0, 3100)
    balances = [await each.get("/v1/ledger/trial-balance") for each in (shop, other)]
    for balance in balances:
        for sums in balance["currencies"]:
            for account in sums["accounts"]:
                account["account"] = account["account"].partition(":")[0]
    assert balances[0] == balances[1], "debits and credits too"
    await shop.move_to("2026-06-15T12:00:00")
    await other.move_to("2026-06-15T12:00:00")
    assert await books(shop) == await books(other) == (1653, 9300 + 1447)
    for each in (shop, other):
        await each.check()
    await other.api.aclose()


async def test_a_year_is_earned_over_its_days(shop):
    await shop.move_to("2026-03-01T10:00:00")
    viewer, _ = await subscriber(shop, amount=36500, unit="year")
    await shop.new_events(viewer)
    await shop.move_to("2026-12-31T12:00:00")
    assert await books(shop) == (6000, 30500)
    assert await shop.new_events(viewer) == []
    await shop.move_to("2027-03-01T09:00:00")
    assert await books(shop) == (0, 36500)
    await shop.move_to("2027-03-03")
    assert await books(shop) == (36500 - 199, 36500 + 199), "two of 366 days"
    assert await shop.new_events(viewer) == RENEWED
    await shop.check()


async def seats(shop):
    """One seat at 31.00 a month, bought and quiet."""
    product = await shop.post(
        "/v1/products", {"code": "seats", "name": "Seats", "resources": ["film:a"]}
    )
    plan = await shop.post(
        "/v1/plans",
        {"code": "seats", "name": "Seats", "product_id": product["id"], "prices": [
            {"code": "seat", "currency": "EUR", "model": "per_unit", "unit_amount": "3100",
             "interval": {"unit": "month", "count": 1}}]},
    )  # fmt: skip
    viewer = await shop.customer(timezone="UTC")
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan["id"], quantity="1")
    await shop.new_events(viewer)
    return viewer, bought["id"]


@pytest.mark.parametrize(
    ("quantity", "at_once", "next_day", "in_the_end"),
    [("2", (4200, 1000), (4000, 1200), 5200), ("0.5", (1050, 1000), (1000, 1050), 2050)],
)
async def test_a_change_gives_back_and_charges_over_the_same_days(
    shop, quantity, at_once, next_day, in_the_end
):
    await shop.move_to("2026-03-01T10:00:00")
    _, subscription = await seats(shop)
    await shop.move_to("2026-03-11T10:00:00")
    body = {"quantity": quantity, "settle": "now"}
    await shop.post(f"/v1/subscriptions/{subscription}/change", body, expect=200)

    assert await books(shop) == at_once
    await shop.move_to("2026-03-12")
    assert await books(shop) == next_day
    await shop.check()
    await shop.move_to("2026-04-01")
    assert await books(shop) == (0, in_the_end)
    await shop.check()


async def test_a_cancellation_with_credit_keeps_what_was_used(march):
    shop, viewer, subscription = march
    await shop.move_to("2026-03-11T10:00:00")
    await shop.new_events(viewer)
    await shop.post(
        f"/v1/subscriptions/{subscription}/cancel", {"when": "now", "credit_unused": True},
        expect=200,
    )  # fmt: skip
    assert await books(shop) == (0, 1000)
    assert await shop.new_events(viewer) == [
        "invoice.finalized", "invoice.paid", "subscription.canceled", "entitlement.revoked",
    ]  # fmt: skip
    await shop.move_to("2026-04-15")
    assert await books(shop) == (0, 1000)
    await shop.check()


async def unpaid_april(shop, viewer):
    """The renewal of April is declined and waits for its third try."""
    await shop.card(viewer, "insufficient_funds:9")
    await shop.move_to("2026-04-05T12:00:00")
    invoice = await shop.last_invoice(viewer)
    assert (invoice["status"], invoice["total_minor"]) == ("open", 3100)
    return invoice["id"]


async def test_a_void_takes_back_what_was_released(march):
    shop, viewer, _ = march
    invoice = await unpaid_april(shop, viewer)
    assert await books(shop) == (3100 - 413, 3100 + 413)
    await shop.new_events(viewer)

    await shop.post(f"/v1/invoices/{invoice}/void", {"reason": "a mistake"}, expect=200)

    assert await books(shop) == (0, 3100)
    assert await shop.new_events(viewer) == ["invoice.voided"]
    await shop.check()
    schedule = await shop.get("/v1/revenue-schedule", invoice_id=invoice)
    assert [(line["net_minor"], line["months"]) for line in schedule["lines"]] == [(0, [])]
    months = await shop.get("/v1/revenue", **{"from": "2026-03", "to": "2026-04"})
    assert revenue_of(months) == [("2026-03", 3100, 0), ("2026-04", 0, 0)]
    await shop.move_to("2026-04-20")
    assert await books(shop) == (0, 3100)
    await shop.check()


async def test_what_is_written_off_stays_earned(march):
    shop, viewer, _ = march
    await unpaid_april(shop, viewer)
    await shop.move_to("2026-05-20")
    assert await books(shop) == (0, 6200), "the loss is bad debt's"
    await shop.check()


async def test_what_was_never_paid_leaves_nothing_in_the_books(shop):
    plan, viewer = await shop.plan("daily", amounts={"EUR": 3100}), await shop.customer()
    await shop.subscribe(viewer, plan, collection="page", return_url="http://shop.test/x")
    assert await books(shop) == (3100, 0)
    await shop.move_to("2026-05-01")
    assert [status for _, status, _ in await shop.invoices(viewer)] == ["void"]
    assert await books(shop) == (0, 0)
    await shop.check()


async def test_what_is_billed_late_is_earned_when_it_is_billed(march):
    shop, viewer, _ = march
    settings = {"draft_s": 29 * 86400}
    assert (await shop.raw("PUT", "/v1/invoice-settings", json=settings)).status_code == 200
    await shop.move_to("2026-04-29T12:00:00")
    assert await books(shop) == (0, 3100), "a draft is in no books"
    [draft] = (await shop.get("/v1/invoices", customer_id=viewer, status="draft"))["data"]
    schedule = await shop.get("/v1/revenue-schedule", invoice_id=draft["id"])
    assert schedule["lines"] == []
    await shop.check()
    await shop.move_to("2026-04-30T12:00:00")
    assert await books(shop) == (103, 3100 + 2997), "29 of 30 days at once"
    months = await shop.get("/v1/revenue", **{"from": "2026-03", "to": "2026-05"})
    assert revenue_of(months) == [("2026-03", 3100, 0), ("2026-04", 2997, 103), ("2026-05", 0, 0)]
    await shop.check()
    await shop.move_to("2026-05-01")
    assert await books(shop) == (0, 6200)
    await shop.check()


# --- by second, and in whose days ---------------------------------------------------------------


async def set_policy(shop, expect=200, **body):
    answer = await shop.raw("PUT", "/v1/revenue-policy", json=body)
    assert answer.status_code == expect, answer.text
    return answer.json()


async def test_by_second_each_moment_counts(shop):
    await set_policy(shop, mode="second", timezone="Europe/Berlin")
    await shop.move_to("2026-03-01T10:00:00")
    await subscriber(shop)
    assert await books(shop) == (3100, 0)
    await shop.move_to("2026-03-01T22:00:00")
    assert await books(shop) == (3050, 50)
    await shop.move_to("2026-03-16T22:00:00")
    assert await books(shop) == (1550, 1550)
    await shop.check()
    await shop.move_to("2026-04-01T10:00:00")
    assert await books(shop) == (3100, 3100)
    await shop.check()


async def test_days_end_where_the_policy_says(shop):
    await set_policy(shop, mode="day", timezone="Europe/Berlin")
    await shop.move_to("2026-03-01T10:00:00")
    await subscriber(shop)
    await shop.move_to("2026-03-01T22:59:59")
    assert await books(shop) == (3100, 0)
    await shop.move_to("2026-03-01T23:00:00")
    assert await books(shop) == (3000, 100)
    await shop.check()


async def test_another_policy_holds_for_what_is_billed_afterwards(march):
    shop, viewer, _ = march
    assert await shop.get("/v1/revenue-policy") == {"mode": "day", "timezone": "UTC"}
    await shop.move_to("2026-03-16T12:00:00")
    await set_policy(shop, mode="second", timezone="UTC")
    await set_policy(shop, mode="second", timezone="UTC")
    assert await books(shop) == (1600, 1500)
    await shop.move_to("2026-04-01T22:00:00")
    assert await books(shop) == (3100 - 52, 3100 + 52), "12 of 720 hours"
    invoice = await shop.last_invoice(viewer)
    [line] = (await shop.get("/v1/revenue-schedule", invoice_id=invoice["id"]))["lines"]
    assert (line["mode"], line["recognized_minor"], line["deferred_minor"]) == ("second", 52, 3048)
    await shop.check()


async def test_a_policy_that_is_none_is_refused(shop):
    for body in (
        {"mode": "week", "timezone": "UTC"},
        {"mode": "day", "timezone": "Mars/Base"},
        {"mode": "day"},
        {"mode": "day", "timezone": "UTC", "rate": 1},
    ):
        assert (await set_policy(shop, expect=422, **body))["code"] == "invalid_request"
    assert await shop.get("/v1/revenue-policy") == {"mode": "day", "timezone": "UTC"}


async def test_a_policy_changes_at_most_99_times(shop):
    for n in range(100):
        await set_policy(shop, mode=("day", "second")[n % 2], timezone="UTC")
    refused = await set_policy(shop, expect=409, mode="day", timezone="UTC")
    assert refused["code"] == "revenue_policy_changed_often"


# --- looking ------------------------------------------------------------------------------------


def revenue_of(answer, currency="EUR"):
    [found] = [each for each in answer["currencies"] if each["currency"] == currency]
    months = found["months"]
    assert found["recognized_minor"] == sum(each["recognized_minor"] for each in months)
    assert found["to_come_minor"] == sum(each["to_come_minor"] for each in months)
    return [(each["month"], each["recognized_minor"], each["to_come_minor"]) for each in months]


async def test_the_months_of_a_line_and_of_the_shop(shop):
    await shop.move_to("2026-03-16")
    viewer, _ = await subscriber(shop)
    other = await shop.plan("yen", amounts={"JPY": 310})
    japanese = await shop.customer("yuki", currency="JPY", timezone="UTC")
    await shop.card(japanese)
    await shop.subscribe(japanese, other)
    await shop.move_to("2026-04-02T12:00:00")
    invoice = (await shop.last_invoice(viewer))["id"]

    schedule = await shop.get("/v1/revenue-schedule", invoice_id=invoice)

    assert schedule == {"invoice_id": invoice, "lines": [{
        "n": 1, "net_minor": 3100, "service_start_at": "2026-03-16T00:00:00Z",
        "service_end_at": "2026-04-16T00:00:00Z", "mode": "day", "timezone": "UTC",
        "recognized_minor": 1700, "deferred_minor": 1400, "months": [
            {"month": "2026-03", "recognized_minor": 1600, "to_come_minor": 0},
            {"month": "2026-04", "recognized_minor": 100, "to_come_minor": 1400}]}]}  # fmt: skip
    months = await shop.get("/v1/revenue", **{"from": "2026-02", "to": "2026-05"})
    assert months["timezone"] == "UTC"
    assert revenue_of(months) == [
        ("2026-02", 0, 0), ("2026-03", 1600, 0), ("2026-04", 100, 1400), ("2026-05", 0, 0),
    ]  # fmt: skip
    assert revenue_of(months, "JPY")[1:3] == [("2026-03", 160, 0), ("2026-04", 10, 140)]
    later = await shop.get("/v1/revenue", **{"from": "2026-05", "to": "2026-05"})
    assert later["currencies"] == []
    await shop.check()


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"from": "2026-03"}, "/query/to"),
        ({"from": "2026-3", "to": "2026-04"}, "/query/from"),
        ({"from": "2026-13", "to": "2026-14"}, "/query/from"),
        ({"from": "2026-04", "to": "2026-03"}, "/query/to"),
        ({"from": "2026-01", "to": "2031-01"}, "/query/to"),
        ({"from": "0000-01", "to": "0000-02"}, "/query/to"),
        ({"from": "9999-11", "to": "9999-12"}, "/query/to"),
    ],
)
async def test_months_that_cannot_be_told(shop, query, pointer):
    answer = await shop.get("/v1/revenue", expect=422, **query)
    assert (answer["code"], answer.get("pointer") or answer["errors"][0]["pointer"]) == (
        "invalid_request", pointer,
    )  # fmt: skip


async def test_sixty_months_and_an_empty_shop(shop):
    answer = await shop.get("/v1/revenue", **{"from": "2026-01", "to": "2030-12"})
    assert answer == {"timezone": "UTC", "currencies": []}


async def test_a_schedule_of_no_invoice(shop):
    unknown = "inv_01h455vb4pex5vsknk084sn02q"
    answer = await shop.get("/v1/revenue-schedule", expect=404, invoice_id=unknown)
    assert answer["code"] == "not_found"
    for query in ({}, {"invoice_id": "sub_01h455vb4pex5vsknk084sn02q"}):
        answer = await shop.get("/v1/revenue-schedule", expect=422, **query)
        assert answer["code"] == "invalid_request"
