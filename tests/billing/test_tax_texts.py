"""An invoice's taxes as data and in words."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from subledger.core.tax import Decision, Place, Rate, Reason, Rounding, TaxLine, compute
from subledger.services.billing import texts, vat_ids
from subledger.services.billing.tax_data import TaxedLine, summary
from subledger.services.billing.usecases.explain import Explained, ExplainedLine

DE = Place("DE")
VAT = Rate("txr_vat", Decimal(19), "Umsatzsteuer", DE)
SOLI = Rate("txr_soli", Decimal("5.5"), "Zuschlag", DE, levy="soli", compound=True)
RATES = {each.id: each for each in (VAT, SOLI)}
PARTIES = {
    "seller": {"country": "DE", "region": None, "vat_id": "DE136695976"},
    "buyer": {"country": "AT", "region": None, "vat_id": "ATU57194903"},
}
REVERSED = Decision(
    Reason.REVERSE_CHARGE,
    (Rate("reverse_charge", Decimal(0), "reverse_charge", Place("AT")),),
    Place("AT"),
)


def taxed(*given: tuple[int, Decision]) -> tuple[Any, dict[str, Any]]:
    """Amounts with their decisions: what they come to, and that as data."""
    document = compute([TaxLine(amount, decision.rates) for amount, decision in given])
    lines = [
        TaxedLine.of(decision, line)
        for (_, decision), line in zip(given, document.lines, strict=True)
    ]
    return document, summary(lines, rates=RATES, parties=PARTIES, rounding="per_tax")


def test_a_document_tells_each_rate_and_each_reason_once() -> None:
    standard = Decision(Reason.STANDARD, (VAT, SOLI), DE)
    abroad = Decision(Reason.NOT_REGISTERED, (), Place("CH"))

    _, found = taxed((1000, standard), (500, REVERSED), (-200, standard), (100, abroad))

    # 19 % of 8.00 is 1.52, and 5.5 % of 9.52 is 0.5236.
    assert found["rates"] == [
        {"rate_id": "txr_vat", "name": "Umsatzsteuer", "levy": "vat", "percent": "19",
         "country": "DE", "region": None, "reason": "standard", "base_minor": 800,
         "tax_minor": 152},
        {"rate_id": "txr_soli", "name": "Zuschlag", "levy": "soli", "percent": "5.5",
         "country": "DE", "region": None, "reason": "standard", "base_minor": 952,
         "tax_minor": 52},
        {"rate_id": "reverse_charge", "name": "reverse_charge", "levy": None, "percent": "0",
         "country": "AT", "region": None, "reason": "reverse_charge", "base_minor": 500,
         "tax_minor": 0},
    ]  # fmt: skip
    assert [each["reason"] for each in found["notes"]] == ["reverse_charge", "not_registered"]
    assert (found["seller"], found["buyer"]) == (PARTIES["seller"], PARTIES["buyer"])


def test_a_credit_takes_its_base_back_in_the_order_of_its_charge() -> None:
    standard = Decision(Reason.STANDARD, (VAT, SOLI), DE)
    sold, whole = taxed((1000, standard), (500, REVERSED))
    # As the engine credits: by the rate's id, and nothing of rates without tax.
    credited = [
        TaxedLine.stored(
            -line.net_minor,
            {
                "tax": decision.data(),
                "taxes": [
                    each | {"tax_minor": -each["tax_minor"]}
                    for each in sorted(line.derivation()["taxes"], key=lambda tax: tax["rate_id"])
                    if each["tax_minor"]
                ],
            },
        )
        for decision, line in zip((standard, REVERSED), sold.lines, strict=True)
    ]
    found = summary(
        [each for each in credited if each is not None],
        rates=RATES, parties=PARTIES, rounding="per_tax", onto=whole,
    )  # fmt: skip
    assert [each["rate_id"] for each in found["rates"]] == [
        "txr_vat", "txr_soli", "reverse_charge",
    ]  # fmt: skip
    assert [(each["base_minor"], each["tax_minor"]) for each in found["rates"]] == [(0, 0)] * 3
    assert found["notes"] == whole["notes"]
    assert TaxedLine.stored(5, {"taxes": []}) is None


standards = st.sampled_from([(VAT,), (VAT, SOLI), (SOLI,), ()])


@given(
    st.lists(st.tuples(st.integers(-(10**6), 10**6), standards), max_size=8),
    st.sampled_from(Rounding),
    st.booleans(),
)
def test_the_data_agrees_with_the_core(
    given_lines: list[tuple[int, tuple[Rate, ...]]], rounding: Rounding, inclusive: bool
) -> None:
    document = compute(
        [TaxLine(amount, rates, inclusive=inclusive) for amount, rates in given_lines],
        rounding=rounding,
    )
    lines = [
        TaxedLine.of(Decision(Reason.STANDARD, rates, DE), line)
        for (_, rates), line in zip(given_lines, document.lines, strict=True)
    ]
    found = summary(lines, rates=RATES, parties=PARTIES, rounding=rounding.value)
    assert {
        each["rate_id"]: (each["base_minor"], each["tax_minor"]) for each in found["rates"]
    } == {each.rate.id: (each.base_minor, each.tax_minor) for each in document.totals}
    assert sum(each["tax_minor"] for each in found["rates"]) == document.tax_minor


def explained() -> Explained:
    """9.99 at 19 %, and 5.00 under reverse charge."""
    document, tax = taxed((999, Decision(Reason.STANDARD, (VAT,), DE)), (500, REVERSED))
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    lines = []
    for n, line in enumerate(document.lines, start=1):
        row: Any = SimpleNamespace(
            n=n, kind="charge", plan_name="Basic", price_code="base", service_start_at=at,
            service_end_at=at.replace(month=4), net_minor=line.net_minor, tax_minor=line.tax_minor,
        )  # fmt: skip
        derivation = {
            "steps": [{"kind": "flat", "amount": str(line.net_minor)}], "residue": "0",
            "discounts": [], "gross_minor": line.net_minor, "tax_minor": line.tax_minor,
            "taxes": line.derivation()["taxes"],
        }  # fmt: skip
        lines.append(ExplainedLine(row, derivation))
    invoice: Any = SimpleNamespace(
        series="INV", number=1, currency="EUR", finalized_at=at, subtotal_minor=1499,
        discount_minor=0, tax_minor=190, total_minor=1689,
    )  # fmt: skip
    return Explained(invoice, {"timezone": "UTC"}, "", lines, {}, tax)


def test_an_invoice_in_words_names_each_tax() -> None:
    assert texts.explanation(explained(), "en").splitlines()[3:] == [
        "1. Basic (base), from 2026-03-01 12:00 until 2026-04-01 12:00",
        "   fixed price 9.99 EUR",
        "   Umsatzsteuer 19 %: 1.90 EUR",
        "   to pay: 11.89 EUR",
        "",
        "2. Basic (base), from 2026-03-01 12:00 until 2026-04-01 12:00",
        "   fixed price 5.00 EUR",
        "   Tax 0 %: 0.00 EUR",
        "   to pay: 5.00 EUR",
        "",
        "Subtotal: 14.99 EUR",
        "Discount: 0.00 EUR",
        "Umsatzsteuer 19 % on 9.99 EUR: 1.90 EUR",
        "Tax 0 % on 5.00 EUR: 0.00 EUR",
        "Total: 16.89 EUR",
        "",
        "Reverse charge: the recipient owes the VAT (Directive 2006/112/EC, articles 44 and 196).",
        "Seller, VAT id: DE136695976",
        "Buyer, VAT id: ATU57194903",
    ]


def test_in_russian_too() -> None:
    told = texts.explanation(explained(), "ru").splitlines()
    assert told[5] == "   Umsatzsteuer 19 %: 1,90 EUR"
    assert told[-7:] == [
        "Umsatzsteuer 19 % с 9,99 EUR: 1,90 EUR",
        "Налог 0 % с 5,00 EUR: 0,00 EUR",
        "Итого: 16,89 EUR",
        "",
        "Обратное начисление: НДС уплачивает получатель (Директива 2006/112/EC, статьи 44 и 196).",
        "Продавец, номер плательщика НДС: DE136695976",
        "Покупатель, номер плательщика НДС: ATU57194903",
    ]


@given(st.text(max_size=50))
def test_any_text_is_a_vat_id_or_none(text: str) -> None:
    with contextlib.suppress(vat_ids.InvalidVatId):
        found = vat_ids.normalized(text)
        assert vat_ids.normalized(found) == found


def test_every_note_is_said_in_both_languages() -> None:
    for reason in Reason:
        if reason.note_key is not None:
            note = {"reason": reason.value, "exempt_reason": "x"}
            assert texts.tax_note(note, "en") != texts.tax_note(note, "ru")
