"""Disputes at the provider: what they take, that refunds cannot take it too, who is told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from subledger.providers.port import Declined, Disputes, DisputeState, RefundRequest, Succeeded
from subledger.providers.sandbox.adapter import SandboxAdapter
from tests.providers.bank import Bank, Merchant


async def dispute(merchant: Merchant, **body: Any) -> tuple[int, Any]:
    return await merchant.ask("POST", "/v1/disputes", {"attempt_id": "att_1"} | body)


async def close(merchant: Merchant, made: Any, **body: Any) -> tuple[int, Any]:
    return await merchant.ask("POST", f"/v1/disputes/{made['id']}/close", body)


async def listed(merchant: Merchant, attempt: str = "att_1") -> tuple[DisputeState, ...]:
    found = await merchant.gateway.disputes(merchant.connection, attempt)
    assert isinstance(found, Disputes)
    return found.listed


async def refund(merchant: Merchant, name: str, amount: int) -> Any:
    request = RefundRequest(name, "att_1", "ch_1", amount, "EUR")
    return await merchant.gateway.refund(merchant.connection, request)


async def balance(merchant: Merchant) -> Any:
    status, told = await merchant.ask("GET", "/v1/balance")
    assert status == 200
    return told["amount_minor"]


@pytest.fixture
async def paid(merchant: Merchant) -> Merchant:
    """12.50 captured."""
    await merchant.charge(await merchant.method("visa_ok"), "att_1")
    return merchant


async def test_a_dispute_takes_money_and_fee_and_gives_the_money_back_if_won(
    paid: Merchant,
) -> None:
    status, made = await dispute(paid, amount_minor=1000, fee_minor=200, reason="not_received")
    assert status == 200, made
    assert await balance(paid) == {"EUR": 50}
    (open_one,) = await listed(paid)
    assert (open_one.status, open_one.amount_minor, open_one.fee_minor) == ("opened", 1000, 200)
    assert (open_one.reason, open_one.provider_ref) == ("not_received", made["id"])
    assert open_one.evidence_due_at is not None

    assert (await close(paid, made, outcome="won"))[0] == 200
    assert await balance(paid) == {"EUR": 1050}
    assert (await close(paid, made, outcome="won")) == (409, {"code": "dispute_closed"})
    journal = await paid.summary()
    assert (journal["captured_minor"], journal["disputed_minor"]) == ({"EUR": 1250}, {"EUR": 0})
    assert journal["dispute_fees_minor"] == {"EUR": 200}


async def test_a_lost_dispute_keeps_the_money_and_may_give_the_fee_back(paid: Merchant) -> None:
    _, made = await dispute(paid)
    await close(paid, made, outcome="lost", fee_minor=0)
    assert await balance(paid) == {}
    assert isinstance(await refund(paid, "ref_1", 1), Declined)
    assert [each.status for each in await listed(paid)] == ["lost"]


async def test_a_bank_may_decide_again_unless_the_money_was_refunded(paid: Merchant) -> None:
    _, made = await dispute(paid, fee_minor=0)
    await close(paid, made, outcome="won")
    await close(paid, made, outcome="lost")
    assert await balance(paid) == {}
    await close(paid, made, outcome="won", fee_minor=5)
    assert await balance(paid) == {"EUR": 1245}
    assert isinstance(await refund(paid, "ref_1", 1), Succeeded)
    again = await close(paid, made, outcome="lost")
    assert again == (422, {"code": "dispute_exceeds_charge"})


async def test_refunds_and_disputes_together_never_exceed_the_capture(paid: Merchant) -> None:
    assert isinstance(await refund(paid, "ref_1", 250), Succeeded)
    assert (await dispute(paid, amount_minor=1001))[1] == {"code": "dispute_exceeds_charge"}
    racing = await asyncio.gather(
        dispute(paid, amount_minor=700), refund(paid, "ref_2", 700), refund(paid, "ref_3", 700)
    )
    assert sum(each[0] == 200 if isinstance(each, tuple) else isinstance(each, Succeeded)
               for each in racing) == 1  # fmt: skip
    assert (await refund(paid, "ref_4", 301)).code in {"charge_disputed", "refund_exceeds_charge"}
    assert isinstance(await refund(paid, "ref_5", 300), Succeeded)


async def test_a_card_is_disputed_an_hour_after_its_payment(bank: Bank, merchant: Merchant) -> None:
    await merchant.charge(await merchant.method("disputed"), "att_1")
    assert await listed(merchant) == ()
    assert await balance(merchant) == {"EUR": 1250}
    assert await refund(merchant, "ref_1", 1) == Declined("config", "charge_disputed")
    await merchant.advance(timedelta(hours=1))
    await bank.settle()
    assert [each.amount_minor for each in await listed(merchant)] == [1250]
    (told,) = bank.inbox.told(merchant)
    assert (told["type"], told["data"]["attempt_id"]) == ("dispute.opened", "att_1")


async def test_disputes_are_told_by_webhook(bank: Bank, paid: Merchant) -> None:
    _, made = await dispute(paid, amount_minor=5)
    await close(paid, made, outcome="won")
    await bank.settle()
    told = [each for each in bank.inbox.told(paid) if each["type"].startswith("dispute")]
    assert [each["type"] for each in told] == ["dispute.opened", "dispute.closed"]
    assert {each["data"]["dispute_id"] for each in told} == {made["id"]}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"attempt_id": "att_9"}, (422, {"code": "nothing_captured"})),
        ({"amount_minor": 0}, (422, {"code": "invalid_amount"})),
        ({"fee_minor": -1}, (422, {"code": "invalid_amount"})),
        ({"reason": "No Reason"}, (422, {"code": "invalid_reason"})),
        ({"evidence_due_at": "soon"}, (400, {"code": "invalid_request"})),
        ({"evidence_due_at": "2026-03-01T00:00:00"}, (422, {"code": "invalid_moment"})),
    ],
)
async def test_what_cannot_be_disputed_is_refused(
    paid: Merchant, body: Any, answer: tuple[int, Any]
) -> None:
    assert await dispute(paid, **body) == answer
    assert await listed(paid) == ()
    missing = await paid.ask("POST", "/v1/disputes/dp_x/close", {"outcome": "won"})
    assert missing == (404, {"code": "not_found"})


def test_an_answer_that_says_something_else_is_unknown() -> None:
    read = SandboxAdapter().read_disputes
    assert read(500, {}) == read(500, {})
    assert type(read(500, {})).__name__ == "Unknown"
    odd = {"data": [{"id": "dp_1", "status": "warming_up"}]}
    assert type(read(200, odd)).__name__ == "Unknown"
