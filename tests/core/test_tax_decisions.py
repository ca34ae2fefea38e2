"""Who is taxed where, at which rates, and why."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.errors import InvalidTax, MissingTaxRate
from subledger.core.tax import (
    EU_MEMBERS,
    Buyer,
    Decision,
    Place,
    Rate,
    RateTable,
    Reason,
    Rule,
    Seller,
    Treatment,
    decide,
    in_eu,
)

AT = date(2026, 3, 1)
SPRING, SUMMER = date(2026, 4, 1), date(2026, 7, 1)


def rate(name: str, percent: str, *place: str, levy: str = "vat", compound: bool = False) -> Rate:
    return Rate(name, Decimal(percent), name, Place(*place), levy=levy, compound=compound)


GST = rate("gst", "5", "CA", levy="gst")
HST_ON = rate("hst-on", "13", "CA", "ON", levy="gst")
QST = rate("qst", "9.975", "CA", "QC", levy="qst")
DE19, DE7 = rate("de-19", "19", "DE"), rate("de-7", "7", "DE")
FR20, ES21 = rate("fr-20", "20", "FR"), rate("es-21", "21", "ES")
TABLE = RateTable(
    (
        Rule(QST), Rule(HST_ON), Rule(GST), Rule(FR20), Rule(ES21), Rule(DE19),
        Rule(DE7, category="books"),
        Rule(rate("de-0", "0", "DE"), category="solar", treatment=Treatment.ZERO_RATED),
        Rule(rate("teaching", "0", "DE"), category="courses", treatment=Treatment.EXEMPT),
        Rule(rate("us-ca", "7.25", "US", "CA", levy="sales")),
    )
)  # fmt: skip


def decided(seller: Place, buyer: Place, *, category=None, at=AT, lines=(), **who) -> Decision:
    of_seller = {k: who.pop(k) for k in ("registered", "below_eu_threshold") if k in who}
    return decide(
        Seller(seller, **of_seller), Buyer(buyer, **who),
        category=category, at=at, rules=TABLE, line_rates=lines,
    )  # fmt: skip


def ids(decision: Decision) -> list[str]:
    return [each.id for each in decision.rates]


DE, FR, US, CH = Place("DE"), Place("FR"), Place("US"), Place("CH")


@pytest.mark.parametrize(
    ("category", "reason", "rates"),
    [
        (None, Reason.STANDARD, ["de-19"]),
        ("software", Reason.STANDARD, ["de-19"]),
        ("books", Reason.STANDARD, ["de-7"]),
        ("solar", Reason.ZERO_RATED, ["de-0"]),
        ("courses", Reason.EXEMPT, ["teaching"]),
    ],
)
def test_the_rule_of_the_category_wins(category, reason, rates):
    found = decided(DE, DE, category=category)
    assert (found.reason, ids(found)) == (reason, rates)


@pytest.mark.parametrize(
    ("region", "rates"),
    [(None, ["gst"]), ("AB", ["gst"]), ("ON", ["hst-on"]), ("QC", ["gst", "qst"])],
)
def test_rates_of_one_levy_replace_and_of_others_add(region, rates):
    assert ids(decided(Place("CA"), Place("CA", region))) == rates


def test_compound_comes_last_whatever_the_order_of_the_table():
    old_qst = rate("qst-2012", "9.5", "CA", "QC", levy="qst", compound=True)
    town = rate("town", "1", "CA", "QC", levy="town")
    for rules in ((old_qst, town, GST), (GST, town, old_qst)):
        table = RateTable(tuple(Rule(each) for each in rules))
        found = table.select(Place("CA", "QC"), category=None, on=AT)
        assert [rule.rate.id for rule in found] == ["gst", "town", "qst-2012"]


def test_a_region_comes_before_a_category():
    table = RateTable(
        (Rule(rate("books", "1", "US"), category="books"), Rule(rate("ny", "8", "US", "NY")))
    )
    found = table.select(Place("US", "NY"), category="books", on=AT)
    assert [rule.rate.id for rule in found] == ["ny"]


def test_a_rule_holds_from_its_first_day_until_before_its_last():
    table = RateTable(
        (
            Rule(DE19, until_on=SPRING),
            Rule(rate("de-16", "16", "DE"), from_on=SPRING, until_on=SUMMER),
        )
    )
    days = [date(2026, 3, 31), SPRING, date(2026, 6, 30), SUMMER]
    found = [table.select(DE, category=None, on=day) for day in days]
    assert [[rule.rate.id for rule in each] for each in found] == [
        ["de-19"], ["de-16"], ["de-16"], []
    ]  # fmt: skip


def test_a_business_in_another_member_accounts_for_the_tax_itself():
    found = decided(DE, FR, vat_id_valid=True)
    assert (found.reason, found.note_key) == (Reason.REVERSE_CHARGE, "tax_note.reverse_charge")
    assert [each.percent for each in found.rates] == [0]
    assert found.data() == {
        "reason": "reverse_charge",
        "note_key": "tax_note.reverse_charge",
        "exempt_reason": None,
        "country": "FR",
        "region": None,
        "rates": [{"rate_id": "reverse_charge", "percent": "0"}],
    }


@pytest.mark.parametrize(
    ("seller", "buyer", "who", "reason", "rates"),
    [
        (DE, DE, {"vat_id_valid": True}, Reason.STANDARD, ["de-19"]),
        (DE, FR, {}, Reason.STANDARD, ["fr-20"]),
        (DE, FR, {"below_eu_threshold": True}, Reason.STANDARD, ["de-19"]),
        (DE, CH, {"below_eu_threshold": True}, Reason.NOT_REGISTERED, []),
        (DE, CH, {"vat_id_valid": True}, Reason.NOT_REGISTERED, []),
        (DE, Place("US", "CA"), {}, Reason.STANDARD, ["us-ca"]),
        (US, US, {}, Reason.NOT_REGISTERED, []),
        (US, FR, {}, Reason.STANDARD, ["fr-20"]),
        (US, Place("IT"), {}, Reason.NOT_REGISTERED, []),
        (US, FR, {"vat_id_valid": True}, Reason.REVERSE_CHARGE, ["reverse_charge"]),
        (DE, DE, {"registered": False}, Reason.NOT_REGISTERED, []),
        (DE, FR, {"registered": False, "vat_id_valid": True}, Reason.NOT_REGISTERED, []),
        (DE, DE, {"exempt_reason": "embassy"}, Reason.EXEMPT, ["exempt"]),
        (DE, Place("MC"), {}, Reason.STANDARD, ["fr-20"]),
        (FR, Place("MC"), {"vat_id_valid": True}, Reason.STANDARD, ["fr-20"]),
        (DE, Place("ES", "MD"), {}, Reason.STANDARD, ["es-21"]),
        (DE, Place("ES", "CN"), {}, Reason.NOT_REGISTERED, []),
        (DE, Place("ES", "CN"), {"vat_id_valid": True}, Reason.NOT_REGISTERED, []),
    ],
)
def test_where_and_why(seller, buyer, who, reason, rates):
    found = decided(seller, buyer, **who)
    assert (found.reason, ids(found)) == (reason, rates)
    assert (found.note_key is None) == (reason is Reason.STANDARD)


@pytest.mark.parametrize("buyer", [Place("IT"), Place("DE")])
def test_a_rate_that_is_missing_in_the_eu_is_not_no_tax(buyer):
    with pytest.raises(MissingTaxRate) as refused:
        decide(Seller(DE), Buyer(buyer), category=None, at=AT, rules=RateTable(()))
    assert refused.value.fix


def test_the_line_comes_before_the_buyer_and_the_buyer_before_the_table():
    own, special = rate("own", "15", "DE"), rate("special", "3", "DE")
    assert ids(decided(DE, DE, rates=(own,))) == ["own"]
    assert ids(decided(DE, DE, rates=(own,), lines=(special,))) == ["special"]
    assert decided(DE, FR, rates=(own,), vat_id_valid=True).reason is Reason.REVERSE_CHARGE
    assert decided(DE, DE, rates=(own,), exempt_reason="embassy").exempt_reason == "embassy"


codes = st.sampled_from([*sorted(EU_MEMBERS), "US", "CH", "GB", "NO", "MC", "GP"])


@given(codes, codes, st.booleans(), st.booleans())
def test_reverse_charge_needs_a_valid_id_and_a_border(seller, buyer, valid, registered):
    everywhere = RateTable(tuple(Rule(rate(f"vat-{each}", "20", each)) for each in EU_MEMBERS))
    found = decide(
        Seller(Place(seller), registered=registered), Buyer(Place(buyer), vat_id_valid=valid),
        category=None, at=AT, rules=everywhere,
    )  # fmt: skip
    if found.reason is Reason.REVERSE_CHARGE:
        assert valid
        assert registered
        assert in_eu(Place(buyer))
        assert Place(seller).for_tax.country != Place(buyer).for_tax.country
    if not in_eu(Place(buyer)):
        assert found.reason is Reason.NOT_REGISTERED


def test_the_eu_has_27_members_and_some_places_apart():
    assert len(EU_MEMBERS) == 27
    assert all(map(in_eu, [Place("GR"), Place("MC"), Place("PT", "20"), Place("FR", "2A")]))
    apart = [Place("FI", "01"), Place("AX"), Place("FR", "974"), Place("RE"), Place("GR", "69")]
    assert not any(map(in_eu, [*apart, Place("GB"), Place("IM"), Place("CH"), Place("XI")]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Place("EL"),
        lambda: Place("UK"),
        lambda: Place("de"),
        lambda: Place(""),
        lambda: Place(None),
        lambda: Place("ÄÖ"),
        lambda: Place("US", "ca"),
        lambda: Place("US", "US-CA"),
        lambda: Place("US", ""),
        lambda: rate("x", "-1", "DE"),
        lambda: rate("x", "1000.1", "DE"),
        lambda: rate("x", "NaN", "DE"),
        lambda: rate("x", "1e-13", "DE"),
        lambda: rate("", "1", "DE"),
        lambda: rate("x" * 201, "1", "DE"),
        lambda: Rule(DE19, from_on=SUMMER, until_on=SPRING),
        lambda: Rule(DE19, treatment=Treatment.EXEMPT),
        lambda: Rule(DE19, category=""),
        lambda: Buyer(DE, exempt_reason=""),
        lambda: RateTable((Rule(DE19), Rule(rate("de-x", "20", "DE"), from_on=SPRING))),
        lambda: RateTable((Rule(DE19), Rule(rate("de-19", "20", "FR")))),
        lambda: RateTable(tuple(Rule(DE19, category=str(n)) for n in range(501))),
    ],
)
def test_what_is_refused(make):
    with pytest.raises(InvalidTax):
        make()


def test_a_wrong_country_code_says_which_is_right():
    with pytest.raises(InvalidTax) as refused:
        Place("EL")
    assert (refused.value.pointer, refused.value.fix) == ("/country", "Use GR.")


def test_tax_holds_on_a_date_and_not_at_a_moment():
    with pytest.raises(AssertionError):
        decided(DE, DE, at=datetime(2026, 3, 1))
