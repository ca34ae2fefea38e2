"""Credit notes: what goes back, where it goes, and that nothing is ever given back twice."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from subledger.platform.db import story
from tests.stories.shop import seats_plan
from tests.stories.test_adjustments import adjust, books, credit_of
from tests.stories.test_changes import HALF, RENEWED, change

ISSUED = "credit_note.issued"
PATH = "/v1/credit-notes"
_FORCE = story("tests.force_note")


async def note(shop, invoice, *lines, expect=201, reason="goodwill", **more):
    """Credit ``(line, gross)`` of an invoice, or the whole."""
    body = {"invoice_id": invoice, "reason": reason, **more}
    if lines:
        body["lines"] = [{"n": n, "gross_minor": gross} for n, gross in lines]
    return await shop.post(PATH, body, expect=expect)


async def owing(shop, *, quantity="2"):
    """A customer whose renewal of 20.00 the bank declined: past due, the invoice open."""
    plan, viewer = await seats_plan(shop), await shop.customer()
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, plan, quantity=quantity)
    await shop.card(viewer, "soft_decline")
    await shop.move_to("2026-03-01")
    await shop.new_events(viewer)
    assert await shop.status(bought["id"]) == "past_due"
    return viewer, bought["id"], (await shop.last_invoice(viewer))["id"]


@pytest.mark.long
async def test_a_paid_line_goes_back_as_credit_that_pays_the_next_invoice(seats):
    shop, viewer, _ = seats
    await shop.move_to(HALF)
    invoice = await shop.last_invoice(viewer)
    body = {"invoice_id": invoice["id"], "reason": "unsatisfactory",
            "lines": [{"n": 1, "gross_minor": 1000}]}  # fmt: skip
    seen = await shop.post(f"{PATH}/preview", body, expect=200)
    assert await shop.new_events(viewer) == [], "a preview leaves no trace"
    assert (await shop.get(PATH))["data"] == []

    made = await shop.post(PATH, body | {"memo": "the stream broke off"})

    assert made["number"] == "CN-000001"
    assert (made["status"], made["total_minor"]) == ("issued", 1000)
    assert (made["offset_minor"], made["credit_minor"], made["refund_minor"]) == (0, 1000, 0)
    # Half of the 28 days are over: half of what goes back had been earned.
    (line,) = made["lines"]
    assert (line["net_minor"], line["deferred_minor"], line["revenue_minor"]) == (1000, 500, 500)
    for name in ("gross_minor", "total_minor", "offset_minor", "credit_minor"):
        assert seen[name] == made[name]
    assert seen["lines"][0]["derivation"]["before_gross_minor"] == 0
    assert not seen["closes_invoice"]
    assert await shop.new_events(viewer) == [ISSUED]
    assert await credit_of(shop, viewer) == 1000
    assert await books(shop) == {
        "provider_clearing": 2000, "credit": -1000, "deferred_revenue": -500, "revenue": -500,
    }  # fmt: skip
    kept = await shop.get(f"/v1/invoices/{invoice['id']}")
    assert (kept["status"], kept["total_minor"], kept["noted_minor"], kept["offset_minor"]) == (
        "paid", 2000, 1000, 0,
    )  # fmt: skip
    await shop.check()
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    renewal = await shop.last_invoice(viewer)
    assert (renewal["total_minor"], renewal["credit_applied_minor"]) == (2000, 1000)
    assert await shop.captured() == {"EUR": 2000 + 1000}
    await shop.check()


async def test_a_note_explains_itself_as_data_and_in_words(seats):
    shop, viewer, _ = seats
    await shop.move_to(HALF)
    invoice = await shop.last_invoice(viewer)
    await note(shop, invoice["id"], (1, 333))
    made = await note(shop, invoice["id"], (1, 1000), reason="pricing_error")
    path = f"{PATH}/{made['id']}/explain"
    explained = await shop.get(path)
    credit, split = explained["lines"][0]["derivation"]
    assert (credit["before_gross_minor"], credit["gross_minor"]) == (333, 1000)
    assert (split["recognized_before_minor"], split["recognized_after_minor"]) == (834, 334)
    assert explained["settlement"]["credit_minor"] == 1000
    for language, said in (
        ("en", ["Credit note CN-000002", "Reason: a wrong price",
                "10.00 EUR of 20.00 EUR is given back, 3.33 EUR was before",
                "5.00 EUR of it for service that was delivered by then",
                "to the customer’s credit: 10.00 EUR"]),
        ("ru", ["Кредит-нота CN-000002", "Причина: ошибка в цене",
                "возвращается 10,00 EUR из 20,00 EUR, ранее возвращено 3,33 EUR",
                "зачислено на счёт клиента: 10,00 EUR"]),
    ):  # fmt: skip
        told = await shop.raw("GET", path, params={"format": "text", "locale": language})
        for each in said:
            assert each in told.text, told.text
    statement = await shop.get(f"/v1/customers/{viewer}/statement")
    # An entry for what leaves deferred revenue and one for what leaves revenue.
    assert [
        (each["kind"], each["ledger"], each["credit_minor"]) for each in statement["entries"][-4:]
    ] == [("credit_note", "credit", each) for each in (167, 166, 500, 500)]


async def test_notes_together_give_back_the_line_and_never_more(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    off = await shop.post(
        "/v1/discounts", {"code": "off", "name": "Off", "percent": "33.3", "duration": "once"}
    )
    await shop.card(viewer)
    await shop.subscribe(viewer, plan, quantity="1", discount_ids=[off["id"]])
    invoice = await shop.last_invoice(viewer)
    assert invoice["total_minor"] == 667
    given = [await note(shop, invoice["id"], (1, each)) for each in (1, 333, 333)]
    # The discount's share is that of all that is given back: 0.333, 111.222, 222.111.
    assert [(each["gross_minor"], each["discount_minor"], each["net_minor"]) for each in given] == [
        (1, 0, 1), (333, 111, 222), (333, 111, 222),
    ]  # fmt: skip
    refused = await note(shop, invoice["id"], (1, 334), expect=422)
    assert (refused["code"], refused["left_minor"]) == ("credit_exceeds_line", 333)
    assert refused["pointer"] == "/lines/0/gross_minor"
    last = await note(shop, invoice["id"])
    assert (last["gross_minor"], last["discount_minor"], last["total_minor"]) == (333, 111, 222)
    empty = await note(shop, invoice["id"], expect=409)
    assert empty["code"] == "nothing_to_credit"
    assert await credit_of(shop, viewer) == 667
    numbers = [each["number"] for each in (await shop.get(PATH))["data"]]
    assert numbers == ["CN-000004", "CN-000003", "CN-000002", "CN-000001"]
    await shop.check()


@pytest.mark.long
async def test_what_is_open_is_not_paid_any_more(shop):
    viewer, subscription, invoice = await owing(shop)
    made = await note(shop, invoice, (1, 700))
    assert (made["offset_minor"], made["credit_minor"]) == (700, 0)
    assert await shop.new_events(viewer) == [ISSUED]
    found = await shop.get(f"/v1/invoices/{invoice}")
    assert (found["status"], found["paid_minor"], found["offset_minor"]) == ("open", 700, 700)
    await shop.check()
    await shop.card(viewer)  # what is past due is tried by it at once
    assert await shop.captured() == {"EUR": 2000 + 1300}
    assert await shop.status(subscription) == "active"
    await shop.check()


@pytest.mark.long
async def test_an_invoice_with_nothing_left_to_pay_is_paid_and_nobody_is_dunned(shop):
    viewer, subscription, invoice = await owing(shop)
    await note(shop, invoice, (1, 700))
    await shop.new_events(viewer)

    rest = await note(shop, invoice)

    assert (rest["total_minor"], rest["offset_minor"]) == (1300, 1300)
    told = await shop.new_events(viewer)
    assert told[:3] == [ISSUED, "invoice.paid", "subscription.renewed"]
    assert set(told[3:]) <= {"entitlement.granted"}
    assert await shop.status(subscription) == "active"
    assert (await shop.get(f"/v1/invoices/{invoice}"))["status"] == "paid"
    await shop.check()
    await shop.move_to("2026-03-20")
    assert "payment.failed" not in await shop.new_events(viewer)
    assert await shop.captured() == {"EUR": 2000}
    await shop.check()


async def test_more_than_is_open_becomes_credit(shop):
    """Credit paid a part of the renewal: that part comes back as credit."""
    plan, viewer = await seats_plan(shop), await shop.customer()
    await shop.card(viewer)
    await shop.subscribe(viewer, plan, quantity="2")
    await adjust(shop, viewer, 600)
    await shop.card(viewer, "soft_decline")
    await shop.move_to("2026-03-01")
    invoice = await shop.last_invoice(viewer)
    assert (invoice["status"], invoice["credit_applied_minor"]) == ("open", 600)

    made = await note(shop, invoice["id"], (1, 1500))

    assert (made["offset_minor"], made["credit_minor"]) == (1400, 100)
    assert (await shop.get(f"/v1/invoices/{invoice['id']}"))["status"] == "paid"
    assert await credit_of(shop, viewer) == 100
    rest = await note(shop, invoice["id"])
    assert (rest["offset_minor"], rest["credit_minor"]) == (0, 500)
    await shop.check()


async def test_a_first_invoice_that_is_credited_whole_activates(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    await shop.card(viewer, "soft_decline")
    refused = await shop.refused(viewer, plan)
    await shop.new_events(viewer)
    await note(shop, refused["invoice_id"])
    assert await shop.new_events(viewer) == [
        ISSUED, "invoice.paid", "subscription.activated", "entitlement.granted",
    ]  # fmt: skip
    assert await shop.status(refused["subscription_id"]) == "active"
    await shop.check()


async def test_what_a_payment_under_way_is_for_stays_open(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    bought = await shop.post(
        "/v1/subscriptions",
        {"customer_id": viewer, "plan_id": plan, "quantity": "2", "collection": "page",
         "return_url": "http://shop.test/x"},
    )  # fmt: skip
    await shop.pump.quiet()
    await shop.new_events(viewer)
    invoice = (await shop.last_invoice(viewer))["id"]
    refused = await note(shop, invoice, (1, 1), expect=409)
    assert refused["code"] == "invoice_reserved"
    body = {"invoice_id": invoice, "reason": "other"}
    assert (await shop.post(f"{PATH}/preview", body, expect=409))["code"] == "invoice_reserved"
    assert await shop.new_events(viewer) == []
    assert (await shop.pay_page(bought["next_action"]["redirect_url"])).status_code == 303
    await shop.pump.quiet()
    await note(shop, invoice, (1, 1))
    await shop.check()


# --- void ---------------------------------------------------------------------------------------


async def void(shop, made, expect=200):
    return await shop.post(f"{PATH}/{made['id']}/void", {"reason": "a mistake"}, expect=expect)


async def test_a_note_of_which_nothing_was_used_can_be_voided(seats):
    shop, viewer, _ = seats
    invoice = (await shop.last_invoice(viewer))["id"]
    first, second = await note(shop, invoice, (1, 800)), await note(shop, invoice, (1, 1200))
    await shop.new_events(viewer)
    gone = await void(shop, second)
    assert (gone["status"], gone["void_reason"]) == ("void", "a mistake")
    assert await shop.new_events(viewer) == ["credit_note.voided"]
    assert await credit_of(shop, viewer) == 800
    assert (await void(shop, second, 409))["code"] == "credit_note_void"
    assert (await note(shop, invoice, (1, 1200)))["number"] == "CN-000003"
    await void(shop, first)
    assert (await shop.get(f"/v1/invoices/{invoice}"))["noted_minor"] == 1200
    await shop.check()


async def test_a_note_whose_credit_was_used_stands(seats):
    shop, viewer, _ = seats
    older = await note(shop, (await shop.last_invoice(viewer))["id"], (1, 500))
    newer = await note(shop, (await shop.last_invoice(viewer))["id"], (1, 1500))
    await adjust(shop, viewer, 100, direction="debit")
    # The oldest credit is used first.
    used = await void(shop, older, 409)
    assert used["code"] == "credit_note_used"
    assert "100 of its credit of 500" in used["detail"]
    await adjust(shop, viewer, 1000)
    assert (await void(shop, older, 409))["code"] == "credit_note_used", "used stays used"
    await void(shop, newer)
    assert await credit_of(shop, viewer) == 1400
    await shop.check()


async def test_a_note_on_an_open_invoice_goes_and_the_invoice_is_owed_again(shop):
    _, _, invoice = await owing(shop)
    part = await note(shop, invoice, (1, 700))
    await void(shop, part)
    found = await shop.get(f"/v1/invoices/{invoice}")
    assert (found["status"], found["paid_minor"], found["noted_minor"]) == ("open", 0, 0)
    await shop.check()
    whole = await note(shop, invoice)
    assert (await void(shop, whole, 409))["code"] == "credit_note_used"
    assert (await shop.get(f"/v1/invoices/{invoice}"))["status"] == "paid"
    await shop.check()


async def test_an_invoice_goes_after_its_notes(shop):
    _, _, invoice = await owing(shop)
    part = await note(shop, invoice, (1, 700))
    for verb in ("void", "reissue"):
        refused = await shop.post(f"/v1/invoices/{invoice}/{verb}", {"reason": "x"}, expect=409)
        assert refused["code"] == "invoice_credited"
    await void(shop, part)
    await shop.post(f"/v1/invoices/{invoice}/void", {"reason": "x"}, expect=200)
    refused = await note(shop, invoice, expect=409)
    assert refused["code"] == "invoice_not_creditable"
    await shop.check()


async def test_an_invoice_that_gives_back_an_ended_cycle_is_credited_and_not_voided(shop):
    """Found by the simulation (seed 6028): the void took the credit of the old plan away, and what
    came later gave it back to nobody."""
    monthly = await shop.plan("monthly")
    weekly = await shop.plan("weekly", amounts={"EUR": 900}, unit="week")
    viewer = await shop.customer(timezone="UTC")
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, monthly)
    await shop.card(viewer, "soft_decline")
    await shop.move_to("2026-02-14T10:00:00")
    await change(shop, bought["id"], plan_id=weekly, settle="now")
    invoice = await shop.last_invoice(viewer)
    # A week, less 14 of 28 days of 9.99.
    assert (invoice["status"], invoice["total_minor"]) == ("open", 900 - 499)
    await shop.new_events(viewer)

    refused = await shop.post(f"/v1/invoices/{invoice['id']}/void", {"reason": "x"}, expect=409)

    assert refused["code"] == "invoice_settles_cycle"
    assert await shop.new_events(viewer) == []
    made = await note(shop, invoice["id"])
    assert (made["total_minor"], made["offset_minor"], made["credit_minor"]) == (401, 401, 0)
    assert (await shop.get(f"/v1/invoices/{invoice['id']}"))["status"] == "paid"
    assert await shop.status(bought["id"]) == "active"
    await shop.check()


@pytest.mark.long
async def test_an_invoice_that_a_later_one_takes_back_is_credited_and_not_voided(shop):
    viewer, subscription, old = await owing(shop)
    await shop.move_to("2026-03-10T10:00:00")
    await change(shop, subscription, quantity="3")
    later = await shop.last_invoice(viewer)
    # 21 of 31 days: 20.32 of three seats less 13.55 of the two that the open invoice charges.
    assert (later["status"], later["total_minor"]) == ("open", 677)
    await shop.new_events(viewer)

    refused = await shop.post(f"/v1/invoices/{old}/void", {"reason": "x"}, expect=409)

    assert refused["code"] == "invoice_credited"
    assert await shop.new_events(viewer) == []
    rest = await note(shop, old)
    assert (rest["total_minor"], rest["offset_minor"], rest["credit_minor"]) == (645, 645, 0)
    await shop.check()
    # Backwards all of it goes: the note, the later invoice, the old one.
    await void(shop, rest)
    for each in (later["id"], old):
        await shop.post(f"/v1/invoices/{each}/void", {"reason": "x"}, expect=200)
    assert await shop.new_events(viewer) == [
        ISSUED, "credit_note.voided", "invoice.voided", "invoice.voided",
    ]  # fmt: skip
    assert await credit_of(shop, viewer) == 0
    assert await shop.captured() == {"EUR": 2000}
    await shop.check()


async def test_a_subscription_that_was_never_paid_takes_its_notes_along(shop):
    plan, viewer = await seats_plan(shop), await shop.customer()
    await shop.card(viewer, "soft_decline")
    refused = await shop.refused(viewer, plan)
    made = await note(shop, refused["invoice_id"], (1, 400))
    await shop.new_events(viewer)
    await shop.post(
        f"/v1/subscriptions/{refused['subscription_id']}/cancel", {"when": "now"}, expect=200
    )
    assert await shop.new_events(viewer) == [
        "credit_note.voided", "invoice.voided", "subscription.canceled",
    ]  # fmt: skip
    assert (await shop.get(f"{PATH}/{made['id']}"))["status"] == "void"
    found = await shop.get(f"/v1/invoices/{refused['invoice_id']}")
    assert (found["status"], found["paid_minor"], found["noted_minor"]) == ("void", 0, 0)
    assert await books(shop) == {}
    await shop.check()


# --- wrong input --------------------------------------------------------------------------------


async def test_what_cannot_be_credited_is_told_and_nothing_changes(seats):
    shop, viewer, _ = seats
    invoice = (await shop.last_invoice(viewer))["id"]
    line, base = {"n": 1, "gross_minor": 5}, {"invoice_id": invoice, "reason": "other"}
    for body, code, pointer in (
        (base | {"settlement": "refund"}, "refund_unavailable", "/settlement"),
        (base | {"invoice_id": "inv_01h455vb4pex5vsknk084sn02q"}, "unknown_reference",
         "/invoice_id"),
        (base | {"lines": [{"n": 2, "gross_minor": 5}]}, "unknown_reference", "/lines/0/n"),
        (base | {"lines": [{"n": 1, "gross_minor": 0}]}, "invalid_request",
         "/lines/0/gross_minor"),
        (base | {"lines": [{"n": 1, "gross_minor": 2001}]}, "credit_exceeds_line",
         "/lines/0/gross_minor"),
        (base | {"lines": [line, line]}, "invalid_request", "/lines"),
        (base | {"lines": []}, "invalid_request", "/lines"),
        (base | {"lines": [line] * 101}, "invalid_request", "/lines"),
        (base | {"lines": [{"n": True, "gross_minor": 5}]}, "invalid_request", "/lines/0/n"),
        (base | {"reason": "because"}, "invalid_request", "/reason"),
        (base | {"memo": "x" * 501}, "invalid_request", "/memo"),
        (base | {"colour": "red"}, "invalid_request", "/colour"),
        ({"reason": "other"}, "invalid_request", "/invoice_id"),
    ):  # fmt: skip
        for path in (PATH, f"{PATH}/preview"):
            refused = await shop.post(path, body, expect=422)
            assert (refused["code"], refused["pointer"]) == (code, pointer), refused
            assert refused["fix"]
    assert await shop.new_events(viewer) == []
    assert (await shop.get(PATH))["data"] == []
    unknown = "cn_01h455vb4pex5vsknk084sn02q"
    for answer in (
        await shop.get(f"{PATH}/{unknown}", expect=404),
        await shop.get(f"{PATH}/{unknown}/explain", expect=404),
        await void(shop, {"id": unknown}, 404),
        await shop.get(PATH, invoice_id="inv_01h455vb4pex5vsknk084sn02q", expect=404),
    ):
        assert answer["code"] == "not_found"
    await shop.check()


async def test_the_same_request_again_is_one_note(seats):
    shop, viewer, _ = seats
    body = {"invoice_id": (await shop.last_invoice(viewer))["id"], "reason": "duplicate",
            "lines": [{"n": 1, "gross_minor": 1500}]}  # fmt: skip
    first = await shop.post(PATH, body, Idempotency_Key="once")
    assert await shop.post(PATH, body, Idempotency_Key="once") == first
    assert await credit_of(shop, viewer) == 1500
    assert len((await shop.get(PATH, customer_id=viewer))["data"]) == 1
    assert len((await shop.get(PATH, invoice_id=body["invoice_id"]))["data"]) == 1
    await shop.check()


async def test_two_notes_at_once_never_exceed_the_line(seats):
    shop, viewer, _ = seats
    invoice = (await shop.last_invoice(viewer))["id"]
    body = {"invoice_id": invoice, "reason": "other", "lines": [{"n": 1, "gross_minor": 1500}]}
    answers = await shop.pump.during(
        asyncio.gather(*(shop.api.post(PATH, json=body) for _ in range(3)))
    )
    assert sorted(each.status_code for each in answers) == [201, 422, 422]
    assert await credit_of(shop, viewer) == 1500
    await shop.check()


# --- the last wall ------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["gross", "discount", "net", "tax"])
async def test_the_database_refuses_to_give_back_more_than_a_line(seats, part):
    shop, viewer, _ = seats
    await note(shop, (await shop.last_invoice(viewer))["id"], (1, 500))
    database, column = shop.assembly.databases["billing"], f"noted_{part}_minor"
    for amount in ("2001", "-1"):
        with pytest.raises(DBAPIError, match="notes_within_line"):
            async with database.transaction(_FORCE, tenants=[shop.tenant_id]) as tx:
                await tx.run(text(f"UPDATE billing.invoice_lines SET {column} = {amount}"))
    with pytest.raises(DBAPIError, match="noted_minor"):
        async with database.transaction(_FORCE, tenants=[shop.tenant_id]) as tx:
            await tx.run(text("UPDATE billing.invoices SET noted_minor = total_minor + 1"))
    await shop.check()
