"""Which tax a sale bears, and what it comes to: settings, rules, customers, and the preview."""

from __future__ import annotations

import asyncio

import pytest

from tests.stories.fingerprint import fingerprint
from tests.stories.tax_shop import buyer, by_rate, change, figures, preview, rule, settings, told

AT_BUSINESS = {"country": "AT", "tax_id": "atu 57194903"}


@pytest.fixture
async def german(shop):
    """A German shop with 19 % for all and 7 % for books."""
    await settings(shop, vat_id="DE 136 695 976")
    await rule(shop, "de-19", "19")
    await rule(shop, "de-7", "7", category="books")
    return shop


async def test_the_category_chooses_the_rate_and_the_price_says_if_it_is_inside(german):
    ada = await buyer(german, country="DE")

    found = await preview(
        german, ada, 999, {"amount_minor": 1000, "category": "books"},
        {"amount_minor": 999, "tax_inclusive": True}, {"amount_minor": 1000, "category": "games"},
    )  # fmt: skip

    # 19 % of 19.99 on top is 3.7981; 19 % inside 9.99 leaves 8.3950 net, so 8.39.
    assert figures(found) == [
        (999, 190, 1189, "standard"), (1000, 70, 1070, "standard"), (839, 160, 999, "standard"),
        (1000, 190, 1190, "standard"),
    ]  # fmt: skip
    assert by_rate(found) == [("DE-19", "19", 2838, 540), ("DE-7", "7", 1000, 70)]
    assert (found["net_minor"], found["tax_minor"], found["gross_minor"]) == (3838, 610, 4448)
    assert found["tax"]["seller"] == {"country": "DE", "region": None, "vat_id": "DE136695976"}
    assert found["tax"]["notes"] == []
    assert found["supplied_on"] == "2026-01-31"
    assert await told(german, "tax_") == [
        "tax_settings.updated", "tax_rate.created", "tax_rule.created", "tax_rate.created",
        "tax_rule.created",
    ]  # fmt: skip
    await german.check()


@pytest.mark.parametrize(
    ("rounding", "ties", "taxes"),
    [
        # Three times 0.50 at 19 % are 0.095 each, 0.285 together.
        ("per_tax", "half_up", [10, 10, 9]), ("per_line", "half_up", [10, 10, 10]),
        ("per_line", "half_even", [10, 10, 10]), ("per_document", "half_even", [10, 9, 9]),
    ],
)  # fmt: skip
@pytest.mark.long
async def test_what_is_rounded_once_is_the_tenants_choice(shop, rounding, ties, taxes):
    await settings(shop, rounding=rounding, ties=ties)
    await rule(shop, "de-19", "19")
    found = await preview(shop, {"country": "DE"}, 50, 50, 50)
    assert [line["tax_minor"] for line in found["lines"]] == taxes
    assert found["tax"]["rounding"] == rounding
    await shop.check()


async def test_a_county_s_tax_on_top_of_the_state_s(shop):
    await settings(shop, "US", region="CA", vat_id="12-3456789")
    await rule(shop, "us-ca", "7.25", "US", region="CA", levy="state")
    await rule(shop, "county", "1", "US", region="CA", levy="county", compound=True)

    found = await preview(shop, {"country": "US", "region": "CA"}, 10_000)
    elsewhere = await preview(shop, {"country": "US", "region": "NY"}, 10_000)

    # 7.25 % of 100.00, and 1 % of 107.25.
    assert figures(found) == [(10_000, 832, 10_832, "standard")]
    assert by_rate(found) == [("US-CA", "7.25", 10_000, 725), ("COUNTY", "1", 10_725, 107)]
    assert found["tax"]["seller"] == {"country": "US", "region": "CA", "vat_id": "12-3456789"}
    assert figures(elsewhere) == [(10_000, 0, 10_000, "not_registered")]
    await shop.check()


async def test_a_business_in_another_member_owes_the_tax_itself(german):
    ada = await buyer(german, **AT_BUSINESS)
    known = await german.get(f"/v1/customers/{ada}")
    assert (known["tax_id"], known["tax_id_check"], known["tax_id_checked_at"]) == (
        "ATU57194903", "format", "2026-01-31T10:00:00Z",
    )  # fmt: skip

    found = await preview(german, ada, 999)
    russian = await preview(german, ada, 999, locale="ru")

    assert figures(found) == [(999, 0, 999, "reverse_charge")]
    assert by_rate(found) == [("reverse_charge", "0", 999, 0)]
    assert found["tax"]["buyer"] == {"country": "AT", "region": None, "vat_id": "ATU57194903"}
    assert found["tax"]["notes"] == [
        {"reason": "reverse_charge", "note_key": "tax_note.reverse_charge", "exempt_reason": None,
         "text": "Reverse charge: the recipient owes the VAT (Directive 2006/112/EC,"
                 " articles 44 and 196)."}
    ]  # fmt: skip
    assert russian["tax"]["notes"][0]["text"].startswith("Обратное начисление: НДС уплачивает")
    # Without its id it is a consumer, and Austria's rate is missing.
    assert (await change(german, ada, tax_id=None))["tax_id_check"] is None
    refused = await preview(german, ada, 999, expect=422)
    assert (refused["code"], refused["pointer"]) == ("tax_rate_missing", "/customer_id")
    assert refused["detail"] == "No rate holds in AT on 2026-01-31."
    assert refused["fix"].startswith("Add a rule for AT")
    await rule(german, "at-20", "20", "AT")
    assert figures(await preview(german, ada, 999)) == [(999, 200, 1199, "standard")]
    assert await told(german, "customer.") == ["customer.created", "customer.updated"]
    await german.check()


async def test_a_german_business_pays_german_tax(german):
    visitor = {"country": "DE", "tax_id": "DE136695976"}
    assert figures(await preview(german, visitor, 1000)) == [(1000, 190, 1190, "standard")]


async def test_who_is_exempt_says_why(german):
    ada = await buyer(german, country="DE", tax_exempt_reason="Embassy of Freedonia")
    await rule(german, "courses", "0", category="courses", treatment="exempt")

    found = await preview(german, ada, 999)
    course = await preview(german, {"country": "DE"}, {"amount_minor": 999, "category": "courses"})

    assert figures(found) == [(999, 0, 999, "exempt")]
    assert found["tax"]["notes"][0]["exempt_reason"] == "Embassy of Freedonia"
    assert found["tax"]["notes"][0]["text"] == "Exempt from tax: Embassy of Freedonia."
    assert figures(course) == [(999, 0, 999, "exempt")]
    assert course["tax"]["notes"][0]["text"] == "Exempt from tax: COURSES."
    assert (await change(german, ada, tax_exempt_reason=None))["tax_exempt_reason"] is None
    assert figures(await preview(german, ada, 999)) == [(999, 190, 1189, "standard")]
    await german.check()


async def test_a_swiss_buyer_is_not_taxed_at_home(german):
    found = await preview(german, {"country": "CH"}, 999)
    assert figures(found) == [(999, 0, 999, "not_registered")]
    assert found["tax"]["rates"] == []
    assert found["tax"]["notes"][0]["text"].startswith("No tax is charged")


async def test_a_small_seller_is_taxed_at_home_or_not_at_all(german):
    await settings(german, below_eu_threshold=True)
    assert figures(await preview(german, {"country": "FR"}, 1000)) == [
        (1000, 190, 1190, "standard")
    ]
    await settings(german, registered=False)
    nowhere = await buyer(german)
    assert figures(await preview(german, nowhere, 1000)) == [(1000, 0, 1000, "not_registered")]
    await german.check()


async def test_agreed_rates_take_the_place_of_the_rules(german):
    half = await german.post(
        "/v1/tax-rates", {"code": "half", "name": "Half", "percent": "9.5", "country": "DE"}
    )
    ada = await buyer(german, country="DE", tax_rate_ids=[half["id"]])
    assert by_rate(await preview(german, ada, 1000)) == [("Half", "9.5", 1000, 95)]
    assert (await german.get("/v1/tax-rates", code="half"))["data"] == [half]
    assert (await change(german, ada, tax_rate_ids=[]))["tax_rate_ids"] == []
    assert by_rate(await preview(german, ada, 1000)) == [("DE-19", "19", 1000, 190)]
    await german.check()


async def test_a_rate_changes_on_the_buyer_s_own_day(german):
    [old] = [
        each for each in (await german.get("/v1/tax-rules"))["data"] if each["category"] is None
    ]
    ended = await german.post(
        f"/v1/tax-rules/{old['id']}/end", {"until_on": "2026-02-15"}, expect=200
    )
    assert ended == old | {"until_on": "2026-02-15"}
    await rule(german, "de-21", "21", from_on="2026-02-15")
    early = await buyer(german, "early", country="DE", timezone="Pacific/Auckland")
    late = await buyer(german, "late", country="DE", timezone="America/New_York")

    await german.move_to("2026-02-14T23:30:00")  # 00:30 of the 15th in Berlin

    taxed = {who: (await preview(german, who, 1000))["tax_minor"] for who in (early, late)}
    assert taxed == {early: 210, late: 190}
    berlin = {"country": "DE", "timezone": "Europe/Berlin"}
    assert (await preview(german, berlin, 1000))["tax_minor"] == 210
    assert (await told(german, "tax_"))[-3:] == [
        "tax_rule.ended", "tax_rate.created", "tax_rule.created",
    ]  # fmt: skip
    await german.check()


async def test_two_rules_never_cover_the_same_day(german):
    rate = {"code": "x", "name": "X", "percent": "20", "country": "DE"}
    rules = (await german.get("/v1/tax-rules"))["data"]
    old = next(each for each in rules if each["category"] is None)

    refused = await german.post(
        "/v1/tax-rules", {"rate": rate, "from_on": "2026-06-01"}, expect=409
    )

    assert (refused["code"], refused["tax_rule_id"]) == ("tax_rules_overlap", old["id"])
    assert "de-19" in refused["detail"]
    assert (await german.get("/v1/tax-rates", code="x"))["data"] == [], "nothing was created"
    # Another levy, another region, another category: no overlap.
    await rule(german, "soli", "1", levy="soli")
    await rule(german, "by", "18", region="BY")
    # A rule by mistake is ended before it begins, and another one takes its place.
    wrong = await rule(german, "games-5", "5", category="games", from_on="2026-03-01")
    body = {"tax_rate_id": wrong["rate"]["id"], "category": "games", "from_on": "2026-04-01"}
    assert (await german.post("/v1/tax-rules", body, expect=409))["code"] == "tax_rules_overlap"
    path = f"/v1/tax-rules/{wrong['id']}/end"
    await german.post(path, {"until_on": "2026-03-01"}, expect=200)
    right = await german.post("/v1/tax-rules", body)
    assert right["rate"] == wrong["rate"]
    # It cannot hold longer than that now.
    refused = await german.post(path, {"until_on": "2026-05-01"}, expect=409)
    assert (refused["code"], refused["tax_rule_id"]) == ("tax_rules_overlap", right["id"])
    await german.check()


async def test_of_two_rules_at_once_one_is_made(shop):
    bodies = [
        {"rate": {"code": f"de-{n}", "name": "USt", "percent": str(n), "country": "DE"}}
        for n in (19, 20, 21)
    ]
    answers = await asyncio.gather(
        *(shop.raw("POST", "/v1/tax-rules", json=each) for each in bodies)
    )
    assert sorted(each.status_code for each in answers) == [201, 409, 409]
    assert len((await shop.get("/v1/tax-rules"))["data"]) == 1
    assert len((await shop.get("/v1/tax-rates"))["data"]) == 1
    await shop.check()


async def test_the_same_request_again_makes_nothing_again(shop):
    rate = {"code": "de-19", "name": "USt", "percent": "19.00", "country": "DE"}
    made = [
        await shop.post("/v1/tax-rules", {"rate": rate}, Idempotency_Key="once") for _ in range(2)
    ]
    assert made[0] == made[1]
    assert made[0]["rate"]["percent"] == "19"
    assert (await shop.post("/v1/tax-rates", rate, expect=409))["code"] == "code_taken"
    first, again = await settings(shop), await settings(shop)
    assert first == again
    assert await told(shop, "tax_") == [
        "tax_rate.created", "tax_rule.created", "tax_settings.updated",
    ]  # fmt: skip
    await shop.check()


async def test_without_settings_there_is_no_tax(shop):
    await rule(shop, "de-19", "19")
    assert (await shop.get("/v1/tax-settings", expect=404))["code"] == "not_found"
    refused = await preview(shop, {"country": "DE"}, 999, expect=409)
    assert refused["code"] == "tax_settings_missing"
    await settings(shop)
    assert (await preview(shop, {"country": "DE"}, 999))["tax_minor"] == 190
    ada = await buyer(shop)
    refused = await preview(shop, ada, 999, expect=422)
    assert (refused["code"], refused["pointer"]) == ("tax_location_missing", "/customer_id")
    await shop.check()


@pytest.mark.parametrize(
    ("country", "given", "kept"),
    [
        ("DE", "de 136 695 976", "DE136695976"), ("GR", "GR094259216", "EL094259216"),
        ("GR", " el 094259216 ", "EL094259216"), ("BE", "BE697449992", "BE0697449992"),
        ("GB", "XI432525179", "XI432525179"), ("FR", "FR 61 954 506 077", "FR61954506077"),
        ("MC", "FR61954506077", "FR61954506077"), ("NL", "NL004495445B01", "NL004495445B01"),
    ],
)  # fmt: skip
@pytest.mark.long
async def test_a_vat_id_is_kept_in_its_normal_form(shop, country, given, kept):
    ada = await buyer(shop, country=country, tax_id=given)
    found = await shop.get(f"/v1/customers/{ada}")
    assert (found["tax_id"], found["tax_id_check"]) == (kept, "format")
    await shop.move_to("2026-02-01")
    again = await change(shop, ada, tax_id=kept.lower())
    assert again == found, "what is known already is not checked again"
    assert await told(shop, "customer.") == ["customer.created"]


@pytest.mark.parametrize(
    ("country", "given"),
    [
        ("DE", "DE136695970"), ("DE", "136695976"), ("DE", "DE"), ("CH", "CHE107787577"),
        ("DE", "EU372022452"), ("FR", "DE136695976"), (None, "DE136695976"),
        ("GB", "GB432525179"), ("DE", "DE١٣٦٦٩٥٩٧٦"),
    ],
)  # fmt: skip
async def test_a_wrong_vat_id_is_refused(shop, country, given):
    body = {"name": "Ada", "email": "a@example.com", "currency": "EUR", "timezone": "UTC"}
    refused = await shop.post(
        "/v1/customers", body | {"country": country, "tax_id": given}, expect=422
    )
    assert (refused["code"], refused["pointer"]) == ("tax_id_invalid", "/tax_id")
    assert refused["fix"]
    assert (await shop.get("/v1/customers"))["data"] == []


async def test_a_customer_who_moves_needs_another_id(german):
    ada = await buyer(german, **AT_BUSINESS)
    before = await german.get(f"/v1/customers/{ada}")
    for fields in ({"country": "FR"}, {"country": None}):
        refused = await change(german, ada, 422, **fields)
        assert (refused["code"], refused["pointer"]) == ("tax_id_invalid", "/country")
    assert await german.get(f"/v1/customers/{ada}") == before
    moved = await change(german, ada, country="FR", tax_id="FR61954506077")
    assert (moved["country"], moved["tax_id"]) == ("FR", "FR61954506077")
    await german.check()


WRONG = [
    ("PUT", "/v1/tax-settings", {"country": "UK"}, "invalid_request", "/country"),
    ("PUT", "/v1/tax-settings", {"country": "DE", "region": "de"}, "invalid_request", "/region"),
    ("PUT", "/v1/tax-settings", {"country": "DE", "vat_id": "DE1"}, "tax_id_invalid", "/vat_id"),
    ("PUT", "/v1/tax-settings", {"country": "DE", "vat_id": "ATU57194903"}, "tax_id_invalid",
     "/vat_id"),
    ("PUT", "/v1/tax-settings", {"country": "CH", "below_eu_threshold": True}, "invalid_request",
     "/below_eu_threshold"),
    ("PUT", "/v1/tax-settings", {"country": "DE", "provider": "nobody"}, "invalid_request",
     "/provider"),
    ("PUT", "/v1/tax-settings", {"country": "DE", "rounding": "never"}, "invalid_request",
     "/rounding"),
    ("PUT", "/v1/tax-settings", {}, "invalid_request", "/country"),
    ("POST", "/v1/tax-rates", {"percent": "-1"}, "invalid_request", "/percent"),
    ("POST", "/v1/tax-rates", {"percent": "1000.5"}, "invalid_request", "/percent"),
    ("POST", "/v1/tax-rates", {"percent": "0.0000000000001"}, "invalid_request", "/percent"),
    ("POST", "/v1/tax-rates", {"percent": "NaN"}, "invalid_request", "/percent"),
    ("POST", "/v1/tax-rates", {"percent": 1.5}, "invalid_request", "/percent"),
    ("POST", "/v1/tax-rates", {"country": "EL"}, "invalid_request", "/country"),
    ("POST", "/v1/tax-rates", {"country": "MC"}, "invalid_request", "/country"),
    ("POST", "/v1/tax-rates", {"region": "US-CA"}, "invalid_request", "/region"),
    ("POST", "/v1/tax-rates", {"levy": ""}, "invalid_request", "/levy"),
    ("POST", "/v1/tax-rates", {"code": "de-19"}, "code_taken", "/code"),
    ("POST", "/v1/tax-rules", {}, "invalid_request", ""),
    ("POST", "/v1/tax-rules", {"tax_rate_id": "txr_01h455vb4pex5vsknk084sn02q"},
     "unknown_reference", "/tax_rate_id"),
    ("POST", "/v1/tax-rules", {"rate": {"percent": "2000"}}, "invalid_request", "/rate/percent"),
    ("POST", "/v1/tax-rules", {"rate": {}, "treatment": "exempt"}, "invalid_request",
     "/treatment"),
    ("POST", "/v1/tax-rules", {"rate": {}, "from_on": "2026-03-01", "until_on": "2026-03-01"},
     "invalid_request", "/until_on"),
    ("POST", "/v1/tax-rules", {"rate": {}, "from_on": "2026-02-30"}, "invalid_request",
     "/from_on"),
    ("POST", "/v1/tax-rules", {"rate": {}, "from_on": "1900-01-01"}, "invalid_request",
     "/from_on"),
    ("POST", "/v1/tax-rules", {"rate": {}, "from_on": 5}, "invalid_request", "/from_on"),
    ("POST", "/v1/tax-rules/{rule}/end", {"until_on": None}, "invalid_request", "/until_on"),
    ("POST", "/v1/tax-rules/tru_01h455vb4pex5vsknk084sn02q/end", {"until_on": "2026-03-01"},
     "not_found", None),
    ("POST", "/v1/tax-preview", {"buyer": {"country": "DE"}, "lines": []}, "invalid_request",
     "/lines"),
    ("POST", "/v1/tax-preview", {"lines": [{"amount_minor": 1}]}, "invalid_request", ""),
    ("POST", "/v1/tax-preview", {"buyer": {"country": "UK"}, "lines": [{"amount_minor": 1}]},
     "invalid_request", "/buyer/country"),
    ("POST", "/v1/tax-preview",
     {"buyer": {"country": "DE", "tax_id": "X"}, "lines": [{"amount_minor": 1}]},
     "tax_id_invalid", "/buyer/tax_id"),
    ("POST", "/v1/tax-preview", {"buyer": {"country": "IT"}, "lines": [{"amount_minor": 1}]},
     "tax_rate_missing", "/buyer/country"),
    ("POST", "/v1/tax-preview", {"buyer": {"country": "DE"}, "lines": [{"amount_minor": 10**16}]},
     "invalid_request", "/lines/0/amount_minor"),
    ("POST", "/v1/tax-preview", {"buyer": {"country": "DE"}, "lines": [{"amount_minor": 1.5}]},
     "invalid_request", "/lines/0/amount_minor"),
    ("POST", "/v1/tax-preview",
     {"buyer": {"country": "DE"}, "lines": [{"amount_minor": 10**15}, {"amount_minor": 10**15}]},
     "invalid_request", "/lines"),
    ("POST", "/v1/tax-preview",
     {"customer_id": "cus_01h455vb4pex5vsknk084sn02q", "lines": [{"amount_minor": 1}]},
     "unknown_reference", "/customer_id"),
    ("POST", "/v1/tax-preview",
     {"buyer": {"country": "DE"}, "lines": [{"amount_minor": 1}, {
         "amount_minor": 1, "product_id": "prod_01h455vb4pex5vsknk084sn02q"}]},
     "unknown_reference", "/lines/1/product_id"),
    ("PATCH", "/v1/customers/{ada}", {"region": "BY", "country": None}, "invalid_request",
     "/region"),
    ("PATCH", "/v1/customers/{ada}", {"country": "UK"}, "invalid_request", "/country"),
    ("PATCH", "/v1/customers/{ada}", {"tax_rate_ids": ["txr_01h455vb4pex5vsknk084sn02q"]},
     "unknown_reference", "/tax_rate_ids/0"),
    ("PATCH", "/v1/customers/{ada}", {"tax_rate_ids": None}, "invalid_request", ""),
    ("PATCH", "/v1/customers/{ada}", {"tax_exempt_reason": " "}, "invalid_request",
     "/tax_exempt_reason"),
    ("PATCH", "/v1/customers/{ada}", {"tax_id": "x" * 41}, "invalid_request", "/tax_id"),
    ("POST", "/v1/products", {"code": "p", "name": "P", "resources": [], "tax_category": "A B"},
     "invalid_request", "/tax_category"),
]  # fmt: skip


async def test_what_is_wrong_is_named_and_changes_nothing(german, admin, shared_database_url):
    ada = await buyer(german, country="DE")
    [first, *_] = (await german.get("/v1/tax-rules"))["data"]
    connection = await admin(shared_database_url)
    try:
        before = await fingerprint(connection, german.tenant_id)
        rate = {"code": "new", "name": "New", "percent": "5", "country": "FR"}
        for method, path, body, code, pointer in WRONG:
            given = rate | body if path == "/v1/tax-rates" else dict(body)
            if "rate" in given:
                given["rate"] = rate | given["rate"]
            real = path.replace("{ada}", ada).replace("{rule}", first["id"])
            answer = await german.raw(method, real, json=given)
            problem = answer.json()
            assert (problem["code"], problem.get("pointer")) == (code, pointer), (path, body)
            assert answer.status_code in {404, 409, 422}
            assert problem["fix"]
        assert await fingerprint(connection, german.tenant_id) == before
    finally:
        await connection.close()
    await german.check()


async def test_a_product_has_a_category_and_a_price_says_if_tax_is_inside(shop):
    book = await shop.post(
        "/v1/products",
        {"code": "book", "name": "Book", "resources": ["b"], "tax_category": "books"},
    )
    assert book["tax_category"] == "books"
    price = {"code": "base", "currency": "EUR", "model": "flat", "amount_minor": 999,
             "interval": {"unit": "month", "count": 1}}  # fmt: skip
    plan = await shop.post(
        "/v1/plans",
        {"code": "book", "name": "Book", "product_id": book["id"],
         "prices": [price | {"tax_inclusive": True}, price | {"code": "more"}]},
    )  # fmt: skip
    prices = {each["code"]: each["tax_inclusive"] for each in plan["latest"]["prices"]}
    assert prices == {"base": True, "more": False}
    await settings(shop)
    await rule(shop, "de-19", "19")
    await rule(shop, "de-7", "7", category="books")
    ada = await buyer(shop, country="DE")
    line = {"amount_minor": 1000, "product_id": book["id"]}
    taxes = [(await preview(shop, who, line))["tax_minor"] for who in (ada, {"country": "DE"})]
    assert taxes == [70, 70]
    path = f"/v1/products/{book['id']}"
    for body, kept in (({"name": "A book"}, "books"), ({"tax_category": None}, None)):
        answer = await shop.raw("PATCH", path, json=body)
        assert (answer.status_code, answer.json()["tax_category"]) == (200, kept), answer.text
    taxes = [(await preview(shop, who, line))["tax_minor"] for who in (ada, {"country": "DE"})]
    assert taxes == [190, 190], "at once"
    assert await told(shop, "product.") == ["product.created"] + ["product.updated"] * 2
    await shop.check()
