"""Sell, bill, collect, give access, renew, retry what fails, balance the books."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BOUGHT = [
    "subscription.created", "invoice.finalized", "payment.succeeded", "invoice.paid",
    "subscription.activated", "entitlement.granted",
]  # fmt: skip
RENEWED = [
    "subscriptions.renew_required", "invoice.finalized", "payment.succeeded", "invoice.paid",
    "subscription.renewed", "entitlement.granted",
]  # fmt: skip
REFUSED = [
    "subscriptions.renew_required", "invoice.finalized", "payment.failed",
    "subscription.past_due", "dunning.retry_scheduled", "entitlement.granted",
]  # fmt: skip
PROGRAM = Path(__file__).parents[2] / "examples/recompute_invoice.py"


async def test_buying_with_a_saved_card_is_active_at_once(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    assert await shop.new_events(viewer) == ["customer.created", "payment_method.attached"]

    bought = await shop.subscribe(viewer, plan)

    assert bought["status"] == "active"
    assert bought["current_period_end_at"] == "2026-02-28T10:00:00Z"
    assert await shop.new_events(viewer) == BOUGHT
    assert await shop.invoices(viewer) == [("INV-000001", "paid", 999)]
    assert await shop.access(viewer) == {
        "allowed": True, "reason": "active", "valid_until": "2026-02-28T10:00:00Z",
    }  # fmt: skip
    assert (await shop.access("ada", "film:b"))["allowed"]
    assert not (await shop.access(viewer, "film:z"))["allowed"]
    assert await shop.access("nobody") == {
        "allowed": False, "reason": "unknown_customer", "valid_until": None,
    }  # fmt: skip
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_months_pass_and_their_ends_come_back(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    await shop.new_events(viewer)

    await shop.move_to("2026-05-01")

    assert await shop.new_events(viewer) == RENEWED * 3
    page = await shop.get("/v1/invoices", customer_id=viewer)
    starts = sorted(row["finalized_at"] for row in page["data"])
    assert starts == [
        "2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z", "2026-03-31T09:00:00Z",
        "2026-04-30T09:00:00Z",
    ]  # fmt: skip  # 11:00 in Berlin throughout
    assert await shop.status(bought["id"]) == "active"
    assert await shop.captured() == {"EUR": 4 * 999}
    await shop.check()


async def test_a_hosted_page_saves_the_card_and_pays_and_renews_from_it(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.new_events(viewer)

    bought = await shop.subscribe(
        viewer, plan, collection="page", return_url="http://shop.test/thanks"
    )
    assert bought["status"] == "incomplete"
    url = bought["next_action"]["redirect_url"]
    assert await shop.new_events(viewer) == [
        "subscription.created", "invoice.finalized", "payment.requires_action",
    ]  # fmt: skip
    assert not (await shop.access(viewer))["allowed"]

    shown = await shop.raw("GET", url.removeprefix("http://shop.test"))
    assert "9.99" in shown.text
    declined = await shop.pay_page(url, "4000 0000 0000 0002")
    assert declined.status_code == 422
    refused = await shop.pay_page(url, "4111 1111 1111 1111")
    assert "Never enter a real card" in refused.text
    assert (await shop.pay_page(url)).status_code == 303
    assert (await shop.pay_page(url)).status_code == 200  # sent twice: paid once

    assert await shop.new_events(viewer) == [
        "payment_method.attached", "payment.succeeded", "invoice.paid", "subscription.activated",
        "entitlement.granted",
    ]  # fmt: skip
    assert await shop.status(bought["id"]) == "active"
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    assert await shop.captured() == {"EUR": 2 * 999}
    await shop.check()


async def test_a_page_that_is_never_paid_expires_and_nothing_is_owed(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    bought = await shop.subscribe(
        viewer, plan, collection="page", return_url="http://shop.test/thanks"
    )
    await shop.new_events(viewer)
    await shop.move_to("2026-02-03")
    assert await shop.new_events(viewer) == [
        "payment.canceled", "subscriptions.expiry_required", "invoice.voided",
        "subscription.canceled",
    ]  # fmt: skip
    assert await shop.status(bought["id"]) == "incomplete_expired"
    assert await shop.invoices(viewer) == [("INV-000001", "void", 999)]
    gone = await shop.pay_page(bought["next_action"]["redirect_url"])
    assert gone.status_code == 410
    assert await shop.captured() == {}
    await shop.check()


async def test_a_declined_renewal_is_retried_and_recovers_with_access_in_grace(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    await shop.card(viewer, "insufficient_funds:3")
    await shop.new_events(viewer)

    await shop.move_to("2026-03-01T09:00:00")
    assert await shop.new_events(viewer) == REFUSED
    assert await shop.status(bought["id"]) == "past_due"
    assert await shop.access(viewer) == {
        "allowed": True, "reason": "grace", "valid_until": "2026-03-16T10:00:00Z",
    }  # fmt: skip
    await shop.move_to("2026-03-02")  # a day later: no
    assert await shop.new_events(viewer) == [
        "payments.retry_required", "payment.failed", "dunning.retry_scheduled",
    ]  # fmt: skip
    await shop.move_to("2026-03-05")  # three days later: yes
    assert await shop.new_events(viewer) == [
        "payments.retry_required", "payment.succeeded", "invoice.paid", "subscription.renewed",
        "entitlement.granted",
    ]  # fmt: skip
    assert await shop.status(bought["id"]) == "active"
    assert (await shop.access(viewer))["valid_until"] == "2026-03-31T09:00:00Z"
    assert await shop.captured() == {"EUR": 2 * 999}
    await shop.check()


async def test_when_dunning_ends_the_subscription_does_and_the_debt_is_written_off(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    await shop.card(viewer, "soft_decline")
    await shop.new_events(viewer)

    await shop.move_to("2026-03-20")

    retry = ["payments.retry_required", "payment.failed", "dunning.retry_scheduled"]
    assert await shop.new_events(viewer) == [
        *REFUSED, *(retry * 4)[:-1], "dunning.final_step_scheduled",
        "payments.final_step_required", "invoice.uncollectible", "subscription.canceled",
        "entitlement.revoked",
    ]  # fmt: skip
    assert await shop.status(bought["id"]) == "canceled"
    assert not (await shop.access(viewer))["allowed"]
    assert await shop.invoices(viewer) == [
        ("INV-000001", "paid", 999), ("INV-000002", "uncollectible", 999),
    ]  # fmt: skip
    balance = await shop.get(f"/v1/customers/{viewer}/balance")
    assert balance["balances"][0]["balance_minor"] == 0
    assert await shop.captured() == {"EUR": 999}
    await shop.check()


async def test_what_was_written_off_can_be_paid_after_all(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    await shop.card(viewer, "hard_decline")
    await shop.move_to("2026-03-01")
    owed = await shop.last_invoice(viewer)
    assert owed["status"] == "uncollectible"
    await shop.new_events(viewer)

    refused = await shop.raw("POST", "/v1/payments", json={"invoice_id": owed["id"]})
    assert refused.status_code == 402, refused.text
    assert await shop.new_events(viewer) == ["payment.failed"]  # and no retry: it was given up
    await shop.card(viewer)
    await shop.new_events(viewer)
    await shop.post("/v1/payments", {"invoice_id": owed["id"]})

    assert await shop.new_events(viewer) == ["payment.succeeded", "invoice.paid"]
    assert await shop.status(bought["id"]) == "canceled"
    assert await shop.invoices(viewer) == [("INV-000001", "paid", 999), ("INV-000002", "paid", 999)]
    (books,) = (await shop.get("/v1/ledger/trial-balance"))["currencies"]
    assert {row["account"].split(":")[0]: row["balance_minor"] for row in books["accounts"]} == {
        # All of February is delivered, and the first of the 31 days of March's period.
        "bad_debt": 0, "deferred_revenue": -967, "provider_clearing": 1998, "receivable": 0,
        "revenue": -1031,
    }  # fmt: skip
    assert await shop.captured() == {"EUR": 2 * 999}
    again = await shop.raw("POST", "/v1/payments", json={"invoice_id": owed["id"]})
    assert again.status_code == 409, again.text
    await shop.move_to("2026-06-01")
    assert await shop.new_events(viewer) == []
    await shop.check()


async def test_a_hard_decline_ends_dunning_at_once(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    await shop.subscribe(viewer, plan)
    await shop.card(viewer, "hard_decline")
    await shop.new_events(viewer)
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == [
        *REFUSED[:-2], "dunning.final_step_scheduled", "entitlement.granted",
        "payments.final_step_required", "invoice.uncollectible", "subscription.canceled",
        "entitlement.revoked",
    ]  # fmt: skip
    await shop.check()


async def test_a_charge_whose_answer_is_lost_is_unknown_then_true(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    await shop.new_events(viewer)
    await shop.fault("charge_no_reply", 1)

    await shop.move_to("2026-02-28T10:00:00")
    assert await shop.new_events(viewer) == [
        "subscriptions.renew_required", "invoice.finalized", "payment.unknown",
    ]  # fmt: skip
    refused = await shop.raw(
        "POST", "/v1/payments", json={"invoice_id": (await shop.last_invoice(viewer))["id"]}
    )
    assert refused.status_code == 409  # unknown blocks another attempt
    await shop.move_to("2026-02-28T12:00:00")
    assert await shop.new_events(viewer) == [
        "payment.succeeded", "invoice.paid", "subscription.renewed", "entitlement.granted",
    ]  # fmt: skip
    assert await shop.status(bought["id"]) == "active"
    assert await shop.captured() == {"EUR": 2 * 999}
    await shop.check()


async def test_a_charge_that_never_reached_the_bank_is_collected_later(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    await shop.subscribe(viewer, plan)
    await shop.card(viewer, "timeout_lost")
    await shop.move_to("2026-02-28T10:00:00")
    await shop.card(viewer)
    await shop.move_to("2026-03-15")
    assert await shop.captured() == {"EUR": 2 * 999}
    assert [row[1] for row in await shop.invoices(viewer)] == ["paid", "paid"]
    await shop.check()


async def test_cancelling_at_the_end_of_the_period_keeps_access_until_then(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    await shop.new_events(viewer)

    await shop.post(f"/v1/subscriptions/{bought['id']}/cancel", {"when": "period_end"}, expect=200)
    assert await shop.new_events(viewer) == ["subscription.changed"]
    assert (await shop.access(viewer))["allowed"]
    preview = await shop.get(f"/v1/subscriptions/{bought['id']}/upcoming-invoice")
    assert preview["lines"] == []

    await shop.move_to("2026-03-15")
    assert await shop.new_events(viewer) == [
        "subscriptions.cancel_required", "subscription.canceled", "entitlement.revoked",
    ]  # fmt: skip
    assert not (await shop.access(viewer))["allowed"]
    assert await shop.captured() == {"EUR": 999}
    again = await shop.raw("POST", f"/v1/subscriptions/{bought['id']}/cancel", json={"when": "now"})
    assert (again.status_code, again.json()["code"]) == (409, "subscription_ended")
    await shop.check()


async def test_a_cancellation_can_be_taken_back(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan)
    await shop.post(f"/v1/subscriptions/{bought['id']}/cancel", {"when": "period_end"}, expect=200)
    await shop.post(f"/v1/subscriptions/{bought['id']}/undo-cancel", expect=200)
    await shop.new_events(viewer)
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    await shop.check()


async def test_discounts_end_when_they_should_and_free_invoices_need_no_payment(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    free = await shop.post(
        "/v1/discounts", {"code": "free", "name": "Free", "percent": "100", "duration": "once"}
    )
    third = await shop.post(
        "/v1/discounts",
        {"code": "third", "name": "A third", "percent": "33.3", "duration": "periods",
         "periods": 2},
    )  # fmt: skip
    await shop.card(viewer)
    await shop.new_events(viewer)
    bought = await shop.subscribe(viewer, plan, discount_ids=[free["id"], third["id"]])
    assert await shop.new_events(viewer) == [
        "subscription.created", "invoice.finalized", "invoice.paid", "subscription.activated",
        "entitlement.granted",
    ]  # fmt: skip
    assert bought["status"] == "active"
    preview = await shop.get(f"/v1/subscriptions/{bought['id']}/upcoming-invoice")

    await shop.move_to("2026-05-01")

    assert [row[2] for row in await shop.invoices(viewer)] == [0, 666, 666, 999]
    assert preview["total_minor"] == 666  # the preview was the real path
    assert await shop.captured() == {"EUR": 666 + 666 + 999}
    await shop.check()


async def test_an_explained_invoice_is_recomputed_by_a_program_of_nobody(shop, tmp_path):
    plan, viewer = await shop.plan(amounts={"EUR": 1234}), await shop.customer()
    off = await shop.post(
        "/v1/discounts", {"code": "o", "name": "O", "percent": "12.5", "duration": "forever"}
    )
    await shop.card(viewer)
    await shop.subscribe(viewer, plan, discount_ids=[off["id"]])
    invoice = await shop.last_invoice(viewer)
    explained = await shop.get(f"/v1/invoices/{invoice['id']}/explain")
    path = tmp_path / "explained.json"
    path.write_text(json.dumps(explained))
    ran = subprocess.run(
        [sys.executable, "-I", PROGRAM, path], capture_output=True, text=True, check=False
    )
    assert ran.stdout == "total 1080 computed, 1080 stated\n", ran.stderr
    russian = await shop.raw(
        "GET", f"/v1/invoices/{invoice['id']}/explain", params={"format": "text", "locale": "ru"}
    )
    assert "10,80" in russian.text


async def test_the_statement_opens_adds_up_and_closes(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer)
    await shop.subscribe(viewer, plan)
    await shop.card(viewer, "soft_decline")
    await shop.move_to("2026-03-02")
    statement = await shop.get(
        f"/v1/customers/{viewer}/statement",
        **{"from": "2026-02-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"},
    )
    assert [each["balance_minor"] for each in statement["opening"]] == [0]
    assert [(e["kind"], e["debit_minor"], e["credit_minor"], e["balance_minor"])
            for e in statement["entries"]] == [("finalized", 999, 0, 999)]  # fmt: skip
    assert [each["balance_minor"] for each in statement["closing"]] == [999]


async def test_voiding_an_open_invoice_reverses_it_exactly(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer, "soft_decline")
    refused = await shop.refused(viewer, plan)
    assert refused["code"] == "payment_declined"
    assert await shop.status(refused["subscription_id"]) == "incomplete"
    invoice = await shop.last_invoice(viewer)
    await shop.post(f"/v1/invoices/{invoice['id']}/void", {"reason": "A mistake"}, expect=200)
    again = await shop.raw("POST", f"/v1/invoices/{invoice['id']}/void", json={"reason": "x"})
    assert (again.status_code, again.json()["code"]) == (409, "invoice_not_open")
    balance = await shop.get(f"/v1/customers/{viewer}/balance")
    assert balance["balances"][0]["receivable_minor"] == 0
    await shop.check()


async def test_a_declined_purchase_is_paid_later_with_another_card(shop):
    plan, viewer = await shop.plan(), await shop.customer()
    await shop.card(viewer, "soft_decline")
    refused = await shop.refused(viewer, plan)
    await shop.new_events(viewer)
    good = await shop.card(viewer)
    invoice = await shop.last_invoice(viewer)
    paid = await shop.post("/v1/payments", {"invoice_id": invoice["id"], "payment_method_id": good})
    assert paid["status"] == "succeeded"
    assert await shop.new_events(viewer) == [
        "payment_method.attached", "payment.succeeded", "invoice.paid", "subscription.activated",
        "entitlement.granted",
    ]  # fmt: skip
    assert await shop.status(refused["subscription_id"]) == "active"
    await shop.check()


async def test_currencies_without_and_with_three_decimals_and_far_zones(shop):
    plan = await shop.plan(amounts={"JPY": 900, "KWD": 1950})
    tokyo = await shop.customer("yuki", currency="JPY", timezone="Asia/Tokyo")
    kuwait = await shop.customer("farid", currency="KWD", timezone="Pacific/Kiritimati")
    for viewer in (tokyo, kuwait):
        await shop.card(viewer)
        await shop.subscribe(viewer, plan)
    await shop.move_to("2026-03-02")
    assert await shop.captured() == {"JPY": 1800, "KWD": 3900}
    # 31 January 10:00 UTC is 1 February in Kiritimati: its cycle hangs on the first.
    ends = (await shop.get("/v1/subscriptions", customer_id=kuwait))["data"][0]
    assert ends["current_period_end_at"] == "2026-03-31T10:00:00Z"
    await shop.check()
