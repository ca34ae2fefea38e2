"""Refunds at the provider: once per key, together never more than was captured, told by webhook."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from subledger.providers.port import (
    Declined,
    Outcome,
    Processing,
    RefundRequest,
    Refunds,
    RefundState,
    Succeeded,
    Unknown,
)
from subledger.providers.sandbox.adapter import SandboxAdapter
from tests.providers.bank import Bank, Merchant


async def give_back(merchant: Merchant, refund: str, amount: int, currency: str = "EUR") -> Outcome:
    request = RefundRequest(refund, "att_1", "ch_1", amount, currency)
    return await merchant.gateway.refund(merchant.connection, request)


async def listed(merchant: Merchant) -> tuple[RefundState, ...]:
    found = await merchant.gateway.refunds(merchant.connection, "att_1")
    assert isinstance(found, Refunds)
    return found.listed


async def paid(merchant: Merchant) -> Merchant:
    await merchant.charge(await merchant.method("visa_ok"), "att_1")
    return merchant


async def test_one_key_is_one_refund_and_other_input_is_refused(merchant: Merchant) -> None:
    await paid(merchant)
    answers = await asyncio.gather(*(give_back(merchant, "ref_1", 250) for _ in range(10)))
    assert len(set(answers)) == 1
    assert isinstance(answers[0], Succeeded)
    other = await give_back(merchant, "ref_1", 251)
    assert other == Declined("config", "idempotency_key_reused")
    (one,) = await listed(merchant)
    assert (one.refund_id, one.amount_minor, one.status) == ("ref_1", 250, "succeeded")
    assert (await merchant.journal())["captured_minor"] == {"EUR": 1000}


async def test_refunds_of_the_rest_at_once_never_exceed_the_capture(
    bank: Bank, merchant: Merchant, module_database_url: str, service_database: Any
) -> None:
    await paid(merchant)
    other = Bank(bank.admin, service_database(module_database_url, "sandbox"), "http://other.test")
    elsewhere = Merchant(other, merchant.tenant, merchant.connection, merchant.hook_path)
    answers = await asyncio.gather(
        *(
            give_back(each, f"ref_{n}", 500)
            for n in range(4)
            for each in [merchant, elsewhere][n % 2 :]
        )
    )
    assert Declined("config", "refund_exceeds_charge") in answers
    assert sum(each.amount_minor for each in await listed(merchant)) == 1000
    assert (await merchant.journal())["captured_minor"] == {"EUR": 250}


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (1251, "EUR", "refund_exceeds_charge"),
        (1, "USD", "nothing_captured"),
        (0, "EUR", "invalid_amount"),
    ],
)
async def test_what_was_not_captured_does_not_go_back(
    merchant: Merchant, amount: int, currency: str, code: str
) -> None:
    await paid(merchant)
    assert await give_back(merchant, "ref_1", amount, currency) == Declined("config", code)
    assert await listed(merchant) == ()


@pytest.mark.parametrize("mode", ["refund_no_reply", "refund_500", "refund_html"])
async def test_a_spoiled_answer_is_unknown_and_the_money_is_gone(
    merchant: Merchant, mode: str
) -> None:
    await paid(merchant)
    await merchant.fault(mode)
    assert isinstance(await give_back(merchant, "ref_1", 1250), Unknown)
    assert [each.status for each in await listed(merchant)] == ["succeeded"]
    assert (await merchant.journal())["captured_minor"] == {}
    assert isinstance(await give_back(merchant, "ref_1", 1250), Succeeded), "asked again it says"


async def test_the_bank_may_refuse_or_decide_later(merchant: Merchant) -> None:
    await paid(merchant)
    await merchant.fault("refund_declined")
    refused = await give_back(merchant, "ref_1", 1250)
    assert isinstance(refused, Declined)
    assert refused.code == "refund_declined"
    await merchant.fault("refund_pending")
    assert isinstance(await give_back(merchant, "ref_2", 1000), Processing)
    await merchant.fault("refund_pending_declined")
    assert isinstance(await give_back(merchant, "ref_3", 250), Processing)
    assert (await merchant.journal())["captured_minor"] == {"EUR": 1250}
    await merchant.advance(timedelta(hours=1))
    assert [each.status for each in await listed(merchant)] == ["failed", "succeeded", "failed"]
    assert (await merchant.journal())["captured_minor"] == {"EUR": 250}


async def test_a_refund_is_told_by_webhook_whoever_made_it(merchant: Merchant) -> None:
    await paid(merchant)
    status, made = await merchant.ask(
        "POST", "/v1/refunds",
        {"attempt_id": "att_1", "amount_minor": 50, "currency": "EUR"}, key="by-hand",
    )  # fmt: skip
    assert (status, made["status"], made["refund_id"]) == (200, "succeeded", None)
    await merchant.bank.settle()
    (sent,) = [each for each in merchant.bank.inbox.got if each.path == merchant.hook_path]
    (hint,) = SandboxAdapter().parse(sent.body)
    assert (hint.kind, hint.attempt_id) == ("refund.succeeded", "att_1")
    (one,) = await listed(merchant)
    assert (one.refund_id, one.provider_ref) == (None, made["id"])
