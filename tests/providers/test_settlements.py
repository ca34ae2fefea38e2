"""What a merchant settles by: the journal in order and in pages, fees, payouts, the balance."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from subledger.providers.port import Balance, Settlements, SettlementsRequest
from subledger.providers.sandbox import settlements_store
from subledger.services.payments.comparing import SIGNS
from tests.providers.bank import START, Bank, Merchant

_ALL = SettlementsRequest(START - timedelta(days=1), START + timedelta(days=9))


async def listed(merchant: Merchant, request: SettlementsRequest = _ALL) -> Settlements:
    page = await merchant.gateway.list_settlements(merchant.connection, request)
    assert isinstance(page, Settlements)
    return page


async def terms(merchant: Merchant, **given: Any) -> None:
    status, _ = await merchant.ask("POST", "/v1/settings", given)
    assert status == 200


async def paid_out(bank: Bank, merchant: Merchant) -> None:
    await merchant.advance(timedelta(hours=12))
    await bank.settle()


async def test_a_payout_holds_the_day_before_less_its_fees(bank: Bank, merchant: Merchant) -> None:
    await terms(merchant, fee_basis_points=290, fee_fixed_minor=30, pays_out_daily=True)
    visa = await merchant.method("visa_ok")
    # 2.9 % of 12.50 is 36.25 cents, of 0.50 it is 1.45: both are rounded half up.
    await merchant.charge(visa, "att_1")
    await merchant.charge(visa, "att_2", amount_minor=50)
    assert [each.fee_minor for each in (await listed(merchant)).listed] == [66, 31]
    await paid_out(bank, merchant)

    page = await listed(merchant)

    payout = page.listed[-1]
    assert (payout.kind, payout.amount_minor, payout.fee_minor) == ("payout", 1203, 97)
    assert {each.payout_ref for each in page.listed[:-1]} == {payout.provider_ref}
    of = SettlementsRequest(_ALL.since, _ALL.until, payout_ref=payout.provider_ref)
    assert [each.attempt_id for each in (await listed(merchant, of)).listed] == ["att_1", "att_2"]
    assert "payout.paid" in [each["type"] for each in bank.inbox.told(merchant)]
    held = [
        await merchant.gateway.balance(merchant.connection, START + after)
        for after in (timedelta(), timedelta(days=1))
    ]
    assert held == [Balance({"EUR": 1300}), Balance({})]
    await paid_out(bank, merchant)
    assert len((await listed(merchant)).listed) == 3, "nothing happened: no payout"


async def test_each_movement_of_a_dispute_is_an_entry_of_its_own(
    bank: Bank, merchant: Merchant
) -> None:
    await terms(merchant, pays_out_daily=True)
    await merchant.charge(await merchant.method("visa_ok"), "att_1")
    status, made = await merchant.ask(
        "POST", "/v1/disputes", {"attempt_id": "att_1", "amount_minor": 400, "fee_minor": 150}
    )
    assert status == 200
    for outcome, fee in (("won", 150), ("lost", 100), ("lost", 120), ("won", 0)):
        told = {"outcome": outcome, "fee_minor": fee}
        assert (await merchant.ask("POST", f"/v1/disputes/{made['id']}/close", told))[0] == 200

    entries = (await listed(merchant)).listed

    assert [(each.kind, each.amount_minor) for each in entries] == [
        ("capture", 1250), ("dispute", 400), ("dispute_fee", 150), ("dispute_won", 400),
        ("dispute", 400), ("dispute_fee_back", 50), ("dispute_fee", 20), ("dispute_won", 400),
        ("dispute_fee_back", 120),
    ]  # fmt: skip
    assert {each.attempt_id for each in entries} == {"att_1"}
    assert len({each.provider_ref for each in entries}) == len(entries)
    assert await merchant.gateway.balance(merchant.connection, START) == Balance({"EUR": 1250})
    await paid_out(bank, merchant)
    page = (await listed(merchant)).listed
    assert (page[-1].kind, page[-1].amount_minor) == ("payout", 1250)
    assert {each.payout_ref for each in page[:-1]} == {page[-1].provider_ref}


def test_both_sides_agree_on_what_adds_and_what_takes() -> None:
    assert SIGNS == settlements_store.SIGNS | {"payout": 0}


async def test_a_day_that_gave_back_more_waits_for_the_next(bank: Bank, merchant: Merchant) -> None:
    visa = await merchant.method("visa_ok")
    await merchant.charge(visa, "att_1")
    await terms(merchant, pays_out_daily=True)
    await paid_out(bank, merchant)
    status, _ = await merchant.ask(
        "POST", "/v1/refunds", {"attempt_id": "att_1", "amount_minor": 250, "currency": "EUR"},
        key="back",
    )  # fmt: skip
    assert status == 200
    await merchant.advance(timedelta(days=1))
    await bank.settle()
    await merchant.charge(visa, "att_2", amount_minor=1000)
    await merchant.advance(timedelta(days=1))
    await bank.settle()
    payouts = [each for each in (await listed(merchant)).listed if each.kind == "payout"]
    assert [each.amount_minor for each in payouts] == [1250, 750]


async def test_pages_list_everything_once_and_name_what_it_was_for(merchant: Merchant) -> None:
    visa = await merchant.method("visa_ok")
    for n in range(5):
        await merchant.charge(visa, f"att_{n}", amount_minor=100 + n)
    seen, after = [], ""
    while True:
        status, page = await merchant.ask("GET", f"/v1/settlements?limit=2&after={after}")
        assert status == 200
        seen += [each["amount_minor"] for each in page["data"]]
        if page["next"] is None:
            break
        after = page["next"].replace("+", "%2B")
    assert sorted(seen) == [100, 101, 102, 103, 104]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/settlements?limit=0", 422),
        ("/v1/settlements?since=yesterday", 400),
        ("/v1/settlements?since=2026-03-01T00:00:00", 422),
        ("/v1/settlements?payout=po_1", 404),
        ("/v1/settlements?after=x", 400),
    ],
)
async def test_questions_that_make_no_sense_are_refused(
    merchant: Merchant, path: str, code: int
) -> None:
    status, _ = await merchant.ask("GET", path)
    assert status == code


async def test_terms_that_cannot_be_are_refused(merchant: Merchant) -> None:
    for given in ({"fee_basis_points": 10_001}, {"fee_fixed_minor": -1}):
        status, _ = await merchant.ask("POST", "/v1/settings", given)
        assert status == 400
