"""The provider's journal: one row per key whatever comes at once, each answer after its commit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from subledger.providers.port import Declined, Outcome, RequiresAction, Succeeded
from tests.providers.bank import Bank, Merchant


async def test_fifty_at_once_with_one_key_are_one_charge(merchant: Merchant) -> None:
    visa = await merchant.method("visa_ok")
    answers = await asyncio.gather(*(merchant.charge(visa, "att_1") for _ in range(50)))
    assert isinstance(answers[0], Succeeded)
    assert len(set(answers)) == 1
    assert await merchant.journal() == {
        "captured_minor": {"EUR": 1250},
        "captures": 1,
        "doubles": 0,
    }


async def test_fifty_at_once_over_http_with_one_key_are_one_charge(merchant: Merchant) -> None:
    merchant.over(merchant.bank.over_http)
    visa = await merchant.method("visa_ok")
    answers = await asyncio.gather(*(merchant.charge(visa, "att_1") for _ in range(50)))
    assert isinstance(answers[0], Succeeded)
    assert len(set(answers)) == 1
    assert (await merchant.journal())["captures"] == 1


async def test_two_inputs_at_once_under_one_key_are_one_charge(merchant: Merchant) -> None:
    visa = await merchant.method("visa_ok")
    answers = await asyncio.gather(
        *(merchant.charge(visa, "att_1", amount_minor=100 + n % 2) for n in range(20))
    )
    assert sorted(type(each).__name__ for each in answers) == ["Declined"] * 10 + ["Succeeded"] * 10
    assert (await merchant.journal())["captures"] == 1


async def test_two_processes_with_the_same_keys_charge_each_once(
    bank: Bank, merchant: Merchant, module_database_url: str, service_database: Any
) -> None:
    """Both are in the middle of a group when they meet: neither group fails, nothing is doubled."""
    other = Bank(bank.admin, service_database(module_database_url, "sandbox"), "http://other.test")
    elsewhere = Merchant(other, merchant.tenant, merchant.connection, merchant.hook_path)
    visa, poor = await merchant.method("visa_ok"), await merchant.method("insufficient_funds:31")

    async def both(n: int) -> tuple[Outcome, Outcome]:
        method = poor if n % 2 else visa
        return await asyncio.gather(
            merchant.charge(method, f"att_{n}"), elsewhere.charge(method, f"att_{n}")
        )

    answers = await asyncio.gather(*(both(n) for n in range(120)))
    assert all(here == there for here, there in answers)
    # Each of the 60 tries of the poor card counted once: the 31st and later ones were paid.
    declined = [here for here, _ in answers if isinstance(here, Declined)]
    assert len(declined) == 30
    assert await merchant.journal() == {
        "captured_minor": {"EUR": 90 * 1250},
        "captures": 90,
        "doubles": 0,
    }


async def test_charges_of_two_merchants_share_a_group_and_nothing_else(bank: Bank) -> None:
    one, two = await bank.merchant(), await bank.merchant()
    visa, mastercard = await one.method("visa_ok"), await two.method("mastercard_ok")
    answers = await asyncio.gather(
        *(one.charge(visa, f"att_{n}", amount_minor=100) for n in range(30)),
        *(two.charge(mastercard, f"att_{n}", amount_minor=7, currency="KWD") for n in range(30)),
        one.ask("POST", "/v1/charges", {"token": "\0", "attempt_id": "\0"}, key="bad"),
    )
    assert all(isinstance(each, Succeeded) for each in answers[:60])
    assert answers[60] == (400, {"code": "invalid_key"})
    assert await one.journal() == {"captured_minor": {"EUR": 3000}, "captures": 30, "doubles": 0}
    assert await two.journal() == {"captured_minor": {"KWD": 210}, "captures": 30, "doubles": 0}


async def test_a_fault_spoils_just_as_many_answers_as_were_asked_for(merchant: Merchant) -> None:
    visa = await merchant.method("visa_ok")
    await merchant.fault("charge_500", 3)
    answers = await asyncio.gather(*(merchant.charge(visa, f"att_{n}") for n in range(10)))
    assert sum(isinstance(each, Succeeded) for each in answers) == 7
    assert (await merchant.journal())["captures"] == 10


async def test_the_journal_is_only_ever_added_to(bank: Bank) -> None:
    privileges = await bank.admin.fetch(
        "SELECT privilege_type FROM information_schema.role_table_grants"
        " WHERE grantee = 'subledger_sandbox' AND table_schema = 'sandbox'"
        " AND table_name = 'charges'"
    )
    assert {row["privilege_type"] for row in privileges} == {"SELECT", "INSERT"}


@pytest.fixture
def quiet_log() -> Iterator[None]:
    """The log at the level of a real installation: printing lines costs more than a charge."""
    before = structlog.get_config()
    quiet = structlog.make_filtering_bound_logger(logging.INFO)
    structlog.configure(**(before | {"wrapper_class": quiet}))
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("quiet_log")
async def test_what_a_group_carries_a_second(merchant: Merchant) -> None:
    """Says how fast the journal is; the benchmarks judge it, on a machine of their own."""
    visa = await merchant.method("visa_ok")
    await merchant.charge(visa, "att_warm")
    n, started = 2_000, time.perf_counter()
    for first in range(0, n, 500):
        answers = await asyncio.gather(
            *(merchant.charge(visa, f"att_{i}") for i in range(first, first + 500))
        )
        assert all(isinstance(each, Succeeded) for each in answers)
    print(f"\n{n / (time.perf_counter() - started):,.0f} charges/s in groups of at most 200")
    assert (await merchant.journal())["captures"] == n + 1


async def test_a_page_of_an_attempt_and_its_charge_are_told_as_one(merchant: Merchant) -> None:
    opened = await merchant.page("att_1")
    assert isinstance(opened, RequiresAction)
    await merchant.charge(await merchant.method("soft_decline"), "att_1")
    # While the page is open, a decline beside it decides nothing.
    assert await merchant.gateway.fetch(merchant.connection, "att_1") == opened
