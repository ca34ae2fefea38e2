"""What payments may rely on, the same over both transports: in process and real HTTP."""

from __future__ import annotations

from datetime import timedelta

import pytest

from subledger.platform import ids
from subledger.platform.db import OutsideCallInTransaction, story
from subledger.providers.port import (
    Canceled,
    Checked,
    Connection,
    Declined,
    NotFound,
    Outcome,
    Processing,
    RequiresAction,
    SavedMethod,
    Succeeded,
    Unknown,
)
from tests.providers.bank import START, Bank, Merchant

NOTHING = {"captured_minor": {}, "captures": 0, "doubles": 0}
ONE = {"captured_minor": {"EUR": 1250}, "captures": 1, "doubles": 0}
_OPEN = story("tests.open_while_calling")


@pytest.fixture(params=["in_process", "over_http"])
async def shop(bank: Bank, request: pytest.FixtureRequest) -> Merchant:
    return (await bank.merchant()).over(getattr(bank, request.param))


async def fetched(shop: Merchant, attempt: str) -> object:
    return await shop.gateway.fetch(shop.connection, attempt)


async def test_a_charge_is_captured_once_at_the_tenants_clock(shop: Merchant) -> None:
    visa = await shop.method("visa_ok")
    assert (visa.brand, visa.last_four) == ("visa", "4242")
    first = await shop.charge(visa, "att_1")
    assert isinstance(first, Succeeded)
    assert (first.amount_minor, first.captured_at) == (1250, START.isoformat())

    await shop.advance(timedelta(days=400))
    assert await shop.charge(visa, "att_1") == first  # the key never grows old here
    assert await fetched(shop, "att_1") == first
    assert await shop.journal() == ONE


async def test_one_key_with_other_input_is_refused(shop: Merchant) -> None:
    visa = await shop.method("visa_ok")
    await shop.charge(visa, "att_1")
    reused = Declined("config", "idempotency_key_reused")
    assert await shop.charge(visa, "att_1", amount_minor=1251) == reused
    assert await shop.charge(visa, "att_1", currency="USD") == reused
    assert await shop.charge(await shop.method("visa_ok"), "att_1") == reused
    assert await shop.charge(visa, "att_1", capture=False) == reused
    assert await shop.journal() == ONE


@pytest.mark.parametrize(
    ("kind", "decline", "code"),
    [
        ("soft_decline", "soft", "do_not_honor"),
        ("hard_decline", "hard", "stolen_card"),
        ("insufficient_funds", "insufficient_funds", "insufficient_funds"),
        ("requires_action", "action", "authentication_required"),
    ],
)
async def test_a_decline_is_definite(shop: Merchant, kind: str, decline: str, code: str) -> None:
    answer = await shop.charge(await shop.method(kind), "att_1")
    assert isinstance(answer, Declined)
    assert (answer.decline, answer.code) == (decline, code)
    assert await fetched(shop, "att_1") == answer
    assert await shop.journal() == NOTHING


async def test_enough_money_at_the_third_try(shop: Merchant) -> None:
    poor = await shop.method("insufficient_funds:3")
    kinds = [type(await shop.charge(poor, f"att_{n}")) for n in (1, 2, 2, 3, 4)]
    # A repeat under the same key is no new try.
    assert kinds == [Declined, Declined, Declined, Succeeded, Succeeded]


async def test_a_card_that_ends_after_two_payments(shop: Merchant) -> None:
    ending = await shop.method("hard_after:2")
    answers: list[Outcome] = [await shop.charge(ending, f"att_{n}") for n in (1, 2, 3)]
    assert [type(each) for each in answers] == [Succeeded, Succeeded, Declined]


async def test_captured_but_the_answer_never_came(shop: Merchant) -> None:
    assert isinstance(await shop.charge(await shop.method("timeout"), "att_1"), Unknown)
    assert isinstance(await fetched(shop, "att_1"), Succeeded)
    assert await shop.journal() == ONE


async def test_never_arrived_and_no_answer_either(shop: Merchant) -> None:
    assert isinstance(await shop.charge(await shop.method("timeout_lost"), "att_1"), Unknown)
    assert await fetched(shop, "att_1") == NotFound()
    assert await shop.journal() == NOTHING


@pytest.mark.parametrize(
    "mode", ["charge_no_reply", "charge_500", "charge_html", "charge_unknown_status"]
)
async def test_a_spoiled_answer_is_unknown_and_the_money_is_there(
    shop: Merchant, mode: str
) -> None:
    visa = await shop.method("visa_ok")
    await shop.fault(mode)
    assert isinstance(await shop.charge(visa, "att_1"), Unknown)
    assert isinstance(await fetched(shop, "att_1"), Succeeded)
    # The fault is used up, and the repeat is the same charge.
    assert isinstance(await shop.charge(visa, "att_1"), Succeeded)
    assert await shop.journal() == ONE


@pytest.mark.parametrize(
    ("kind", "settled", "told"),
    [("pending_ok", Succeeded, "charge.succeeded"), ("pending_decline", Declined, "charge.failed")],
)
async def test_the_bank_decides_an_hour_later(
    shop: Merchant, kind: str, settled: type, told: str
) -> None:
    answer = await shop.charge(await shop.method(kind), "att_1")
    assert isinstance(answer, Processing)
    await shop.advance(timedelta(minutes=59))
    await shop.bank.settle()
    assert await fetched(shop, "att_1") == answer
    assert (await shop.journal(), shop.bank.inbox.told(shop)) == (NOTHING, [])

    await shop.advance(timedelta(minutes=1))
    await shop.bank.settle()
    assert isinstance(await fetched(shop, "att_1"), settled)
    assert [each["type"] for each in shop.bank.inbox.told(shop)] == [told]
    assert await shop.journal() == (ONE if settled is Succeeded else NOTHING)


async def test_a_page_is_opened_once_and_expired(shop: Merchant) -> None:
    opened = await shop.page("att_1")
    assert isinstance(opened, RequiresAction)
    assert await shop.page("att_1") == opened
    assert await fetched(shop, "att_1") == opened
    reused = Declined("config", "idempotency_key_reused")
    assert await shop.page("att_1", amount_minor=1) == reused
    assert await shop.page("att_1", capture=False) == reused

    gateway, connection = shop.gateway, shop.connection
    closed = Canceled(opened.provider_ref)
    assert await gateway.expire(connection, opened.provider_ref) == closed
    assert await gateway.expire(connection, opened.provider_ref) == closed
    assert await fetched(shop, "att_1") == closed
    assert await gateway.expire(connection, "page_unheard_of") == Canceled(None)


async def test_a_check_tells_known_credentials_from_others(shop: Merchant) -> None:
    known = await shop.gateway.check(shop.connection)
    assert known == Checked(ids.text("mer", shop.tenant))
    stranger = Connection("conn_x", "sandbox", "sbk_of_nobody")
    assert await shop.gateway.check(stranger) == Declined("config", "unauthorized")


async def test_bad_input_is_a_definite_no(shop: Merchant) -> None:
    visa = await shop.method("visa_ok")
    no_such = await shop.charge(SavedMethod("tok_x", "visa", "0000"), "att_1")
    assert isinstance(no_such, Declined)
    assert (no_such.decline, no_such.code) == ("hard", "unknown_token")
    for amount in (0, -5, 10**16):
        assert isinstance(await shop.charge(visa, "att_2", amount_minor=amount), Declined)
    for currency in ("eur", "ZZZ", "", "EUR\0"):
        assert isinstance(await shop.charge(visa, "att_3", currency=currency), Declined)
    assert await fetched(shop, "att_2") == NotFound()
    assert await shop.gateway.attach_test_method(shop.connection, "gold", "k") is None


@pytest.mark.parametrize(
    "data",
    [
        [],
        None,
        {},
        {"token": "tok_\0", "amount_minor": 1, "currency": "EUR", "attempt_id": "a"},
        {"token": 7, "amount_minor": 1, "currency": "EUR", "attempt_id": "a"},
        {"token": "t", "amount_minor": True, "currency": "EUR", "attempt_id": "a"},
        {"token": "t", "amount_minor": "10.00", "currency": "EUR", "attempt_id": "a"},
        {"token": "t", "amount_minor": 1, "currency": "EUR", "attempt_id": "a" * 300},
        {"token": "t", "amount_minor": 1, "currency": "EUR", "metadata": {}},
    ],
)
async def test_nonsense_is_refused_with_a_code(shop: Merchant, data: object) -> None:
    status, answer = await shop.ask("POST", "/v1/charges", data, key="k-1")
    assert status in {400, 422}, answer
    assert isinstance(answer["code"], str)
    assert await shop.journal() == NOTHING


async def test_a_charge_is_read_by_its_id_and_by_its_key(shop: Merchant) -> None:
    charged = await shop.charge(await shop.method("visa_ok"), "att_1")
    assert isinstance(charged, Succeeded)
    by_id = await shop.ask("GET", f"/v1/charges/{charged.provider_ref}")
    assert by_id == await shop.ask("GET", "/v1/charges?idempotency_key=att_1")
    assert by_id == (
        200,
        {
            "id": charged.provider_ref,
            "attempt_id": "att_1",
            "status": "succeeded",
            "code": "ok",
            "amount_minor": 1250,
            "currency": "EUR",
            "at": START.isoformat(),
        },
    )
    assert await shop.ask("GET", "/v1/charges?idempotency_key=att_2") == (
        404,
        {"code": "not_found"},
    )
    assert (await shop.ask("GET", "/v1/charges/ch_nonsense"))[0] == 404


async def test_another_merchants_objects_do_not_exist(shop: Merchant, bank: Bank) -> None:
    other = (await bank.merchant()).over(shop.transport)
    visa = await shop.method("visa_ok")
    charged = await shop.charge(visa, "att_1")
    opened = await shop.page("att_2")
    assert isinstance(charged, Succeeded)
    assert isinstance(opened, RequiresAction)

    assert await fetched(other, "att_1") == NotFound()
    assert (await other.ask("GET", f"/v1/charges/{charged.provider_ref}"))[0] == 404
    assert await other.gateway.expire(other.connection, opened.provider_ref) == Canceled(None)
    stolen = await other.charge(visa, "att_9")
    assert isinstance(stolen, Declined)
    assert stolen.code == "unknown_token"
    assert await fetched(shop, "att_2") == opened
    assert await other.journal() == NOTHING


async def test_a_wrong_key_is_told_apart(shop: Merchant) -> None:
    visa = await shop.method("visa_ok")
    object.__setattr__(shop.connection, "api_key", "sbk_wrong")
    assert await shop.charge(visa, "att_1") == Declined("config", "unauthorized")
    # Not "there is no such attempt": that would free the invoice for a second charge.
    assert isinstance(await fetched(shop, "att_1"), Unknown)


async def test_no_call_while_a_transaction_is_open(shop: Merchant) -> None:
    database = shop.bank.service.database
    with pytest.raises(OutsideCallInTransaction):
        async with database.transaction(_OPEN):
            await shop.gateway.fetch(shop.connection, "att_1")


async def test_a_method_is_made_once_per_key(shop: Merchant) -> None:
    gateway, connection = shop.gateway, shop.connection
    one = await gateway.attach_test_method(connection, "visa_ok", "key-1")
    assert await gateway.attach_test_method(connection, "visa_ok", "key-1") == one
    assert await gateway.attach_test_method(connection, "soft_decline", "key-1") is None
    # Without a key each request makes its own.
    made = [await shop.ask("POST", "/v1/methods", {"kind": "visa_ok"}) for _ in range(2)]
    assert made[0][1]["token"] != made[1][1]["token"]
