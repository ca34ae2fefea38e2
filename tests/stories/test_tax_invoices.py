"""Invoices with tax: bought, renewed, changed, given back, to the cent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stories.tax_shop import buyer, rule, settings
from tests.stories.tax_shop import change as change_customer
from tests.stories.test_changes import CHANGED, HALF, RENEWED, change, lines
from tests.stories.test_first_main_job import BOUGHT

PROGRAM = Path(__file__).parents[2] / "examples/recompute_invoice.py"
BEFORE = "2026-02-10"
"""The new rate holds from here, before the change in the middle of the first period."""


async def plan_of(shop, *prices, code="seats", category=None):
    """A monthly plan; each price is its fields beside code, currency and interval."""
    product = await shop.post(
        "/v1/products",
        {"code": code, "name": code.title(), "resources": ["film:a"], "tax_category": category},
    )
    month = {"currency": "EUR", "interval": {"unit": "month", "count": 1}}
    given = [{"code": f"p{n}", **month, **each} for n, each in enumerate(prices)]
    plan = await shop.post(
        "/v1/plans",
        {"code": code, "name": code.title(), "product_id": product["id"], "prices": given},
    )
    return plan["id"]


FLAT = {"model": "flat", "amount_minor": 999}
SEAT = {"model": "per_unit", "unit_amount": "1000"}


@pytest.fixture
async def german(shop):
    """A German shop with 19 % for all and 7 % for books, and a German viewer with a card."""
    await settings(shop, vat_id="DE136695976")
    old = await rule(shop, "de-19", "19")
    await rule(shop, "de-7", "7", category="books")
    viewer = await buyer(shop, country="DE")
    await shop.card(viewer)
    await shop.new_events(viewer)
    return shop, viewer, old


async def new_rate(shop, old, day):
    """21 % from that day on."""
    await shop.post(f"/v1/tax-rules/{old['id']}/end", {"until_on": day}, expect=200)
    await rule(shop, "de-21", "21", from_on=day)


async def sums(shop, viewer):
    """Subtotal, discount, tax, tax that is in the subtotal, total of the newest invoice."""
    invoice = await shop.last_invoice(viewer)
    names = ("subtotal", "discount", "tax", "tax_included", "total")
    return tuple(invoice[f"{name}_minor"] for name in names)


async def line_taxes(shop, viewer):
    """Each line's kind, gross, net and tax."""
    invoice = await shop.get(f"/v1/invoices/{(await shop.last_invoice(viewer))['id']}")
    return [
        (line["kind"], line["gross_minor"], line["net_minor"], line["tax_minor"])
        for line in invoice["lines"]
    ]


async def by_rate(shop, viewer):
    """Each rate's name, base and tax on the newest invoice."""
    tax = (await shop.last_invoice(viewer))["tax"]
    return [(each["name"], each["base_minor"], each["tax_minor"]) for each in tax["rates"]]


async def owed_tax(shop):
    """What the books say is owed to the tax office."""
    [euro] = (await shop.get("/v1/ledger/trial-balance"))["currencies"]
    return -sum(
        each["balance_minor"] for each in euro["accounts"] if each["account"] == "tax_payable"
    )


async def recomputed(shop, viewer, tmp_path):
    """A program without ours finds the same total."""
    invoice = await shop.last_invoice(viewer)
    path = tmp_path / "explained.json"
    path.write_text(json.dumps(await shop.get(f"/v1/invoices/{invoice['id']}/explain")))
    found = subprocess.run(
        [sys.executable, PROGRAM, path], check=False, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr


async def test_tax_on_top_is_collected_and_owed(german, tmp_path):
    shop, viewer, _ = german
    await shop.subscribe(viewer, await plan_of(shop, FLAT))

    assert await shop.new_events(viewer) == BOUGHT
    assert await sums(shop, viewer) == (999, 0, 190, 0, 1189)
    assert await line_taxes(shop, viewer) == [("charge", 999, 999, 190)]
    invoice = await shop.last_invoice(viewer)
    [rate] = (await shop.get("/v1/tax-rates", code="de-19"))["data"]
    assert invoice["tax"] == {
        "seller": {"country": "DE", "region": None, "vat_id": "DE136695976"},
        "buyer": {"country": "DE", "region": None, "vat_id": None},
        "rounding": "per_tax",
        "rates": [
            {"rate_id": rate["id"], "name": "DE-19", "levy": "vat", "percent": "19",
             "country": "DE", "region": None, "reason": "standard", "base_minor": 999,
             "tax_minor": 190},
        ],
        "notes": [],
    }  # fmt: skip
    assert await shop.captured() == {"EUR": 1189}
    assert await owed_tax(shop) == 190
    told = await shop.raw(
        "GET", f"/v1/invoices/{invoice['id']}/explain", headers={"accept": "text/plain"}
    )
    assert "   DE-19 19 %: 1.90 EUR\n" in told.text
    assert "DE-19 19 % on 9.99 EUR: 1.90 EUR\nTotal: 11.89 EUR\n" in told.text
    await recomputed(shop, viewer, tmp_path)
    await shop.check()


async def test_tax_inside_the_price_is_told_and_owed(german, tmp_path):
    shop, viewer, _ = german
    await shop.subscribe(viewer, await plan_of(shop, FLAT | {"tax_inclusive": True}))
    assert await sums(shop, viewer) == (999, 0, 160, 160, 999)
    assert await line_taxes(shop, viewer) == [("charge", 999, 839, 160)]
    assert await by_rate(shop, viewer) == [("DE-19", 839, 160)]
    assert await shop.captured() == {"EUR": 999}
    assert await owed_tax(shop) == 160
    await recomputed(shop, viewer, tmp_path)
    await shop.check()


async def test_books_bear_the_reduced_rate_until_they_are_books_no_more(german):
    shop, viewer, _ = german
    await shop.subscribe(viewer, await plan_of(shop, FLAT, code="book", category="books"))
    assert await sums(shop, viewer) == (999, 0, 70, 0, 1069)
    [product] = (await shop.get("/v1/products", code="book"))["data"]
    answer = await shop.raw("PATCH", f"/v1/products/{product['id']}", json={"tax_category": None})
    assert answer.status_code == 200
    await shop.move_to("2026-03-01")
    assert await sums(shop, viewer) == (999, 0, 190, 0, 1189)
    assert await shop.captured() == {"EUR": 1069 + 1189}
    assert await owed_tax(shop) == 260
    await shop.check()


async def test_a_discount_comes_before_the_tax(german, tmp_path):
    shop, viewer, _ = german
    off = await shop.post(
        "/v1/discounts", {"code": "off", "name": "Off", "percent": "10", "duration": "once"}
    )
    await shop.subscribe(viewer, await plan_of(shop, FLAT), discount_ids=[off["id"]])
    # 19 % of 8.99 is 1.7081.
    assert await sums(shop, viewer) == (999, 100, 171, 0, 1070)
    assert await by_rate(shop, viewer) == [("DE-19", 899, 171)]
    await recomputed(shop, viewer, tmp_path)
    await shop.check()


@pytest.mark.parametrize(("rounding", "tax"), [("per_tax", 19), ("per_line", 20)])
async def test_two_lines_are_rounded_as_the_tenant_wants(german, rounding, tax):
    shop, viewer, _ = german
    await settings(shop, rounding=rounding)
    half = {"model": "flat", "amount_minor": 50}
    await shop.subscribe(viewer, await plan_of(shop, half, half))
    assert await sums(shop, viewer) == (100, 0, tax, 0, 100 + tax)
    await shop.check()


async def test_a_renewal_bears_the_rate_of_its_own_day(german):
    shop, viewer, old = german
    bought = await shop.subscribe(viewer, await plan_of(shop, FLAT))
    await new_rate(shop, old, "2026-02-20")
    upcoming = await shop.get(f"/v1/subscriptions/{bought['id']}/upcoming-invoice")
    assert (upcoming["tax_minor"], upcoming["total_minor"]) == (210, 1209)
    await shop.new_events(viewer)
    await shop.move_to("2026-03-01")
    assert await shop.new_events(viewer) == RENEWED
    assert await sums(shop, viewer) == (999, 0, 210, 0, 1209)
    assert await shop.captured() == {"EUR": 1189 + 1209}
    assert await owed_tax(shop) == 400
    await shop.check()


@pytest.mark.long
async def test_what_is_given_back_bears_the_rate_that_it_was_sold_at(german, tmp_path):
    shop, viewer, old = german
    bought = await shop.subscribe(viewer, await plan_of(shop, SEAT), quantity="2")
    assert await sums(shop, viewer) == (2000, 0, 380, 0, 2380)
    await new_rate(shop, old, BEFORE)
    await shop.new_events(viewer)
    await shop.move_to(HALF)
    body = {"quantity": "3"}
    path = f"/v1/subscriptions/{bought['id']}/preview-change"
    assert (await shop.post(path, body, expect=200))["total_minor"] == 625

    await change(shop, bought["id"], **body)

    assert await shop.new_events(viewer) == CHANGED
    # Half of two seats at 19 % comes back; half of three seats at 21 % is charged.
    assert await line_taxes(shop, viewer) == [
        ("credit", -1000, -1000, -190), ("charge", 1500, 1500, 315),
    ]  # fmt: skip
    assert await sums(shop, viewer) == (500, 0, 125, 0, 625)
    assert await by_rate(shop, viewer) == [("DE-19", -1000, -190), ("DE-21", 1500, 315)]
    assert await shop.captured() == {"EUR": 2380 + 625}
    assert await owed_tax(shop) == 380 + 125
    await recomputed(shop, viewer, tmp_path)
    await shop.move_to("2026-03-01")
    assert await sums(shop, viewer) == (3000, 0, 630, 0, 3630)
    await shop.check()


async def test_what_is_given_back_of_an_inclusive_price_is_gross(german, tmp_path):
    shop, viewer, old = german
    inside = SEAT | {"tax_inclusive": True}
    bought = await shop.subscribe(viewer, await plan_of(shop, inside), quantity="2")
    # 20.00 less 19 % inside is 16.8067: the tax is 3.1933 exactly, 3.19 rounded.
    assert await sums(shop, viewer) == (2000, 0, 319, 319, 2000)
    await new_rate(shop, old, BEFORE)
    await shop.move_to(HALF)
    await change(shop, bought["id"], quantity="3")
    # Half of the exact tax is 1.5966; 21 % inside 15.00 leaves 12.3967.
    assert await line_taxes(shop, viewer) == [
        ("credit", -1000, -840, -160), ("charge", 1500, 1240, 260),
    ]  # fmt: skip
    assert await sums(shop, viewer) == (500, 0, 100, 100, 500)
    assert await shop.captured() == {"EUR": 2500}
    assert await owed_tax(shop) == 419
    await recomputed(shop, viewer, tmp_path)
    await shop.check()


async def test_a_change_back_and_forth_gives_back_all_of_the_tax(german):
    shop, viewer, _ = german
    bought = await shop.subscribe(viewer, await plan_of(shop, SEAT), quantity="2")
    await shop.move_to("2026-02-13T10:00:00")
    for quantity in ("9", "4.25", "2"):
        await change(shop, bought["id"], quantity=quantity, settle="next_invoice")
    await shop.move_to("2026-03-01")
    assert (await sums(shop, viewer))[2:] == (380, 0, 2380)
    assert await owed_tax(shop) == 760
    await shop.check()


async def test_a_cancellation_gives_its_tax_back_as_credit_which_pays_with_tax(german):
    shop, viewer, _ = german
    bought = await shop.subscribe(viewer, await plan_of(shop, SEAT), quantity="2")
    await shop.move_to(HALF)
    await shop.post(
        f"/v1/subscriptions/{bought['id']}/cancel", {"when": "now", "credit_unused": True},
        expect=200,
    )  # fmt: skip
    ended = await shop.last_invoice(viewer)
    assert (ended["tax_minor"], ended["total_minor"], ended["credited_minor"]) == (-190, 0, 1190)
    assert await owed_tax(shop) == 190
    await shop.subscribe(viewer, await plan_of(shop, FLAT, code="flat"))
    paid = await shop.last_invoice(viewer)
    assert (paid["total_minor"], paid["credit_applied_minor"]) == (1189, 1189)
    assert await shop.captured() == {"EUR": 2380}
    assert await owed_tax(shop) == 380
    await shop.check()


async def test_a_business_abroad_gets_a_note_in_place_of_tax(german):
    shop, _, _ = german
    business = await buyer(shop, "business", country="AT", tax_id="ATU57194903")
    await shop.card(business)
    await shop.subscribe(business, await plan_of(shop, FLAT))
    assert await sums(shop, business) == (999, 0, 0, 0, 999)
    invoice = await shop.last_invoice(business)
    assert invoice["tax"]["buyer"]["vat_id"] == "ATU57194903"
    assert [
        (each["rate_id"], each["base_minor"], each["reason"]) for each in invoice["tax"]["rates"]
    ] == [("reverse_charge", 999, "reverse_charge")]
    path = f"/v1/invoices/{invoice['id']}/explain"
    for language, said in (("en", "Reverse charge: "), ("ru", "Обратное начисление: ")):
        told = await shop.raw(
            "GET", path, headers={"accept": "text/plain", "accept-language": language}
        )
        assert said in told.text
        assert "ATU57194903" in told.text
        assert "DE136695976" in told.text
    # It moves: the invoice stays as it was, the next one is taxed where it is then.
    await change_customer(shop, business, country="DE", tax_id=None)
    await shop.move_to("2026-03-01")
    assert await sums(shop, business) == (999, 0, 190, 0, 1189)
    assert (await shop.get(f"/v1/invoices/{invoice['id']}"))["tax"] == invoice["tax"]
    await shop.check()


async def test_nothing_is_sold_where_no_rate_is_known(german):
    shop, viewer, _ = german
    plan = await plan_of(shop, FLAT)
    for fields, code in (
        ({"country": "FR"}, "tax_rate_missing"), ({"country": None}, "tax_location_missing"),
    ):  # fmt: skip
        await change_customer(shop, viewer, **fields)
        await shop.new_events(viewer)
        refused = await shop.post(
            "/v1/subscriptions", {"customer_id": viewer, "plan_id": plan}, expect=422
        )
        assert (refused["code"], refused["pointer"]) == (code, "/customer_id")
        assert refused["fix"]
        assert await shop.new_events(viewer) == []
    assert (await shop.get("/v1/subscriptions"))["data"] == []
    assert (await shop.get("/v1/invoices"))["data"] == []
    await shop.check()


async def test_a_renewal_without_a_rate_is_parked_for_a_person(german):
    shop, viewer, old = german
    await shop.subscribe(viewer, await plan_of(shop, FLAT))
    path = f"/v1/tax-rules/{old['id']}/end"
    await shop.post(path, {"until_on": BEFORE}, expect=200)
    await shop.new_events(viewer)

    await shop.move_to("2026-03-01")

    assert await shop.new_events(viewer) == [
        "subscriptions.renew_required", "billing_run.parked", "work_item.opened",
    ]  # fmt: skip
    [item] = (await shop.get("/v1/work-items", status="open"))["data"]
    assert (item["kind"], item["data"]["reason"]) == (
        "billing_run_parked", "missing_tax_rate: no rate holds in DE on 2026-02-28",
    )  # fmt: skip
    assert await shop.captured() == {"EUR": 1189}
    await shop.check()


async def test_nothing_is_billed_anew_without_a_rate(german):
    shop, viewer, old = german
    bought = await shop.subscribe(viewer, await plan_of(shop, FLAT))
    await shop.card(viewer, "soft_decline")
    await shop.move_to("2026-03-01")
    owed = await shop.last_invoice(viewer)
    await shop.post(f"/v1/tax-rules/{old['id']}/end", {"until_on": BEFORE}, expect=200)
    await shop.new_events(viewer)
    path = f"/v1/invoices/{owed['id']}/reissue"
    refused = await shop.post(path, {"reason": "a wrong rate"}, expect=422)
    assert (refused["code"], refused["pointer"]) == ("tax_rate_missing", "/customer_id")
    assert "Add a rule" in refused["fix"]
    path = f"/v1/subscriptions/{bought['id']}/change-anchor"
    anchor = {"billing_anchor": {"kind": "day", "day": 3}, "when": "now"}
    refused = await shop.post(path, anchor, expect=422)
    assert (refused["code"], refused["pointer"]) == ("tax_rate_missing", "/customer_id")
    assert (await shop.last_invoice(viewer))["status"] == "open"
    assert await shop.new_events(viewer) == []
    await shop.check()


async def test_what_was_sold_without_tax_is_given_back_without_tax(shop):
    viewer = await buyer(shop, country="DE")
    await shop.card(viewer)
    bought = await shop.subscribe(viewer, await plan_of(shop, SEAT), quantity="2")
    assert (await shop.last_invoice(viewer))["tax"] is None
    await settings(shop)
    await rule(shop, "de-19", "19")
    await shop.move_to(HALF)
    await change(shop, bought["id"], quantity="3")
    assert await lines(shop, viewer) == (785, [("credit", -1000), ("charge", 1500)])
    assert await line_taxes(shop, viewer) == [
        ("credit", -1000, -1000, 0), ("charge", 1500, 1500, 285),
    ]  # fmt: skip
    assert await by_rate(shop, viewer) == [("DE-19", 1500, 285)]
    await shop.check()


async def test_a_void_invoice_owes_no_tax(german):
    shop, viewer, _ = german
    await shop.card(viewer, "soft_decline")
    refused = await shop.refused(viewer, await plan_of(shop, FLAT))
    assert await owed_tax(shop) == 190
    await shop.post(f"/v1/invoices/{refused['invoice_id']}/void", {"reason": "mistake"}, expect=200)
    assert await owed_tax(shop) == 0
    await shop.check()
