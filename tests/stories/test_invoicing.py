"""Invoices that wait: drafts, one document for several subscriptions, small amounts, terms."""

from __future__ import annotations

import pytest

DRAFTED = ["subscriptions.renew_required", "invoice.drafted", "subscription.renewed",
           "entitlement.granted"]  # fmt: skip
PAID = ["invoice.finalized", "payment.succeeded", "invoice.paid"]
BOUGHT = ["subscription.created", "invoice.finalized", "payment.succeeded", "invoice.paid",
          "subscription.activated", "entitlement.granted"]  # fmt: skip
RENEWED = ["subscriptions.renew_required", "invoice.finalized", "payment.succeeded",
           "invoice.paid", "subscription.renewed", "entitlement.granted"]  # fmt: skip


async def settings(shop, **given):
    answer = await shop.raw("PUT", "/v1/invoice-settings", json=given)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def terms(shop, customer, expect=200, **given):
    answer = await shop.raw("PUT", f"/v1/customers/{customer}/invoice-terms", json=given)
    assert answer.status_code == expect, answer.text
    await shop.new_events(customer)
    return answer.json()


async def invoices(shop, customer):
    page = await shop.get("/v1/invoices", customer_id=customer, limit=50)
    return [(each["number"], each["status"], each["total_minor"]) for each in page["data"]][::-1]


@pytest.fixture
async def viewer(shop):
    customer = await shop.customer()
    await shop.card(customer)
    await shop.new_events(customer)
    return customer


@pytest.mark.long
async def test_a_renewal_waits_as_a_draft_and_is_collected_after_its_grace(shop, viewer):
    assert await settings(shop, draft_s=86_400) == {
        "draft_s": 86_400, "zero_invoices": "issue", "minimums_minor": {},
    }  # fmt: skip
    bought = await shop.subscribe(viewer, await shop.plan())
    assert await shop.new_events(viewer) == BOUGHT, "what a person buys does not wait"
    await shop.move_to("2026-02-28T11:00:00")

    assert await shop.new_events(viewer) == DRAFTED
    assert await invoices(shop, viewer) == [("INV-000001", "paid", 999), (None, "draft", 999)]
    assert await shop.captured() == {"EUR": 999}
    now = await shop.get(f"/v1/subscriptions/{bought['id']}")
    assert (now["status"], now["current_period_end_at"]) == ("active", "2026-03-31T09:00:00Z")
    await shop.check()

    await shop.move_to("2026-03-01T11:00:00")
    assert await shop.new_events(viewer) == ["invoices.finalize_required", *PAID]
    assert await invoices(shop, viewer) == [
        ("INV-000001", "paid", 999), ("INV-000002", "paid", 999),
    ]  # fmt: skip
    assert await shop.captured() == {"EUR": 1998}
    await shop.check()


async def test_a_draft_is_finalized_by_hand_only_once(shop, viewer):
    await settings(shop, draft_s=86_400)
    await shop.subscribe(viewer, await shop.plan())
    await shop.move_to("2026-02-28T11:00:00")
    draft = (await shop.last_invoice(viewer))["id"]
    await shop.new_events(viewer)

    done = await shop.post(f"/v1/invoices/{draft}/finalize", expect=200)
    assert (done["status"], done["number"]) == ("open", "INV-000002")
    assert await shop.new_events(viewer) == PAID
    refused = await shop.post(f"/v1/invoices/{draft}/finalize", expect=409)
    assert refused["code"] == "invoice_not_draft"
    await shop.move_to("2026-03-05")
    assert await shop.new_events(viewer) == []
    await shop.check()


async def test_renewals_of_a_customer_share_an_invoice(shop, viewer):
    await terms(shop, viewer, net_days=0, consolidate=True)
    await shop.subscribe(viewer, await shop.plan())
    await shop.subscribe(viewer, await shop.plan("extra", amounts={"EUR": 500}))
    await shop.new_events(viewer)
    await shop.move_to("2026-03-01")

    assert await invoices(shop, viewer) == [
        ("INV-000001", "paid", 999), ("INV-000002", "paid", 500), ("INV-000003", "paid", 1499),
    ]  # fmt: skip
    last = await shop.last_invoice(viewer)
    assert len(last["subscription_ids"]) == 2
    whole = await shop.get(f"/v1/invoices/{last['id']}")
    assert [line["net_minor"] for line in whole["lines"]] == [999, 500]
    assert (await shop.new_events(viewer)).count("invoice.finalized") == 1
    explained = await shop.get(f"/v1/invoices/{last['id']}/explain")
    assert len(explained["inputs"]["plan_versions"]) == 2
    assert await shop.captured() == {"EUR": 2998}
    await shop.check()


@pytest.mark.long
async def test_what_is_too_small_is_carried_forward(shop, viewer):
    await settings(shop, minimums_minor={"EUR": 1000})
    await shop.subscribe(viewer, await shop.plan(amounts={"EUR": 400}))
    assert await shop.captured() == {"EUR": 400}, "what a person buys is collected"
    await shop.new_events(viewer)
    await shop.move_to("2026-03-01")
    assert (await invoices(shop, viewer))[1:] == [(None, "draft", 400)]
    await shop.move_to("2026-04-01")
    assert (await invoices(shop, viewer))[1:] == [(None, "draft", 800)]
    await shop.move_to("2026-05-01")
    assert (await invoices(shop, viewer))[1:] == [("INV-000002", "paid", 1200)]
    assert await shop.captured() == {"EUR": 1600}
    await shop.check()


async def test_a_small_amount_is_collected_when_nothing_follows(shop, viewer):
    await settings(shop, minimums_minor={"EUR": 1000})
    bought = await shop.subscribe(viewer, await shop.plan(amounts={"EUR": 400}))
    await shop.move_to("2026-03-01")
    await shop.post(f"/v1/subscriptions/{bought['id']}/cancel", {"when": "period_end"}, expect=200)
    await shop.move_to("2026-04-02")
    assert (await invoices(shop, viewer))[1:] == [("INV-000002", "paid", 400)]
    await shop.check()


async def test_an_invoice_of_zero_is_no_document_if_so_wanted(shop, viewer):
    await settings(shop, zero_invoices="skip")
    await shop.subscribe(viewer, await shop.plan(amounts={"EUR": 0}))
    assert await shop.new_events(viewer) == [
        "subscription.created", "subscription.activated", "entitlement.granted",
    ]  # fmt: skip
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == [
        "subscriptions.renew_required", "subscription.renewed", "entitlement.granted",
    ]  # fmt: skip
    assert [each[:2] for each in await invoices(shop, viewer)] == [(None, "skipped")] * 2
    await shop.check()


async def test_on_terms_an_invoice_is_collected_when_it_falls_due(shop, viewer):
    await terms(shop, viewer, net_days=14, consolidate=False)
    bought = await shop.subscribe(viewer, await shop.plan())
    assert bought["status"] == "active"
    assert await shop.new_events(viewer) == [
        "subscription.created", "invoice.finalized", "subscription.activated",
        "entitlement.granted",
    ]  # fmt: skip
    invoice = await shop.last_invoice(viewer)
    assert (invoice["status"], invoice["due_at"]) == ("open", "2026-02-14T10:00:00Z")
    assert await shop.captured() == {}
    await shop.move_to("2026-02-15")
    assert await shop.new_events(viewer) == [
        "invoices.collect_required", "invoice.due", "payment.succeeded", "invoice.paid",
    ]  # fmt: skip
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_wrong_settings_are_told(shop, viewer):
    for given in (
        {"draft_s": -1}, {"draft_s": 10**9}, {"zero_invoices": "burn"},
        {"minimums_minor": {"EUR": -1}}, {"minimums_minor": {"XXX!": 1}},
        {"minimums_minor": {"EUR": 10**20}},
    ):  # fmt: skip
        answer = await shop.raw("PUT", "/v1/invoice-settings", json=given)
        assert answer.status_code == 422, (given, answer.text)
    await terms(shop, viewer, expect=422, net_days=366)
    unknown = "/v1/customers/cus_01h455vb4pex5vsknk084sn02q/invoice-terms"
    assert (await shop.raw("PUT", unknown, json={"net_days": 1})).status_code == 404
