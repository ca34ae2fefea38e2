"""Stories of the hosted page, as a browser sees it: opened, refused, declined, paid, expired."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape

import httpx
import pytest

from subledger.providers.port import (
    Canceled,
    CheckoutRequest,
    Declined,
    RequiresAction,
    SavedMethod,
    Succeeded,
)
from subledger.providers.sandbox import cards, texts
from tests.providers.bank import BACK, START, Bank, Merchant

OK, DECLINED, POOR, ENDING = (
    *("4242 4242 4242 4242", "4000000000000002"),
    *("4000000000009995", "4000000000000341"),
)
REAL = "4111111111111111"


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(follow_redirects=True) as client:
        yield client


async def opened(merchant: Merchant, attempt: str = "att_1", **fields: object) -> RequiresAction:
    answer = await merchant.page(attempt, **fields)  # type: ignore[arg-type]  # amount, currency
    assert isinstance(answer, RequiresAction)
    return answer


async def told(merchant: Merchant) -> list[str]:
    await merchant.bank.settle()
    return [each["type"] for each in merchant.bank.inbox.told(merchant)]


def as_text(answer: httpx.Response) -> str:
    return unescape(answer.text).replace("\xa0", " ").replace("\u202f", " ")


async def test_a_person_pays_and_goes_back(merchant: Merchant, browser: httpx.AsyncClient) -> None:
    page = await opened(merchant)
    seen = await browser.get(page.redirect_url)
    assert seen.status_code == 200
    assert seen.headers["content-type"] == "text/html; charset=utf-8"
    assert "frame-ancestors 'none'" in seen.headers["content-security-policy"]
    assert all(text in as_text(seen) for text in ("Cinema", "€12.50", "Card number", "Keep this"))
    for number in cards.CARDS:
        assert " ".join(number[i : i + 4] for i in range(0, 16, 4)) in seen.text

    paid = await browser.post(page.redirect_url, data={"card_number": OK, "keep": "on", "try": "0"})
    assert (paid.status_code, paid.request.method) == (200, "GET")  # a reload does not pay again
    assert all(text in as_text(paid) for text in ("Payment received", "€12.50"))
    assert f'href="{BACK}"' in unescape(paid.text)

    answer = await merchant.gateway.fetch(merchant.connection, "att_1")
    assert isinstance(answer, Succeeded)
    assert (answer.amount_minor, answer.captured_at) == (1250, START.isoformat())
    assert answer.method is not None
    assert (answer.method.brand, answer.method.last_four) == ("visa", "4242")
    assert await told(merchant) == ["page.completed"]
    # What was saved pays the next invoice.
    assert isinstance(await merchant.charge(answer.method, "att_2"), Succeeded)


async def test_who_does_not_agree_leaves_no_method(
    merchant: Merchant, browser: httpx.AsyncClient
) -> None:
    page = await opened(merchant)
    await browser.post(page.redirect_url, data={"card_number": OK})
    answer = await merchant.gateway.fetch(merchant.connection, "att_1")
    assert isinstance(answer, Succeeded)
    assert answer.method is None


async def test_a_shop_that_does_not_save_does_not_ask(
    merchant: Merchant, browser: httpx.AsyncClient
) -> None:
    page = await opened(merchant, save=False)
    assert "Keep this" not in (await browser.get(page.redirect_url)).text
    await browser.post(page.redirect_url, data={"card_number": OK, "keep": "on"})
    answer = await merchant.gateway.fetch(merchant.connection, "att_1")
    assert isinstance(answer, Succeeded)
    assert answer.method is None


async def test_fail_fail_pay_on_one_page(merchant: Merchant, browser: httpx.AsyncClient) -> None:
    page = await opened(merchant)
    for n in range(2):
        form = {"card_number": POOR, "try": str(n)}
        answer = await browser.post(page.redirect_url, data=form)
        assert answer.status_code == 422
        assert "The bank declined the payment." in as_text(answer)
        assert f'name="try" value="{n + 1}"' in answer.text
        # A decline on a page that is open decides nothing for the shop.
        assert await merchant.gateway.fetch(merchant.connection, "att_1") == page
    paid = await browser.post(page.redirect_url, data={"card_number": POOR, "try": "2"})
    assert "Payment received" in paid.text
    assert await merchant.journal() == {
        "captured_minor": {"EUR": 1250},
        "captures": 1,
        "doubles": 0,
    }
    assert await told(merchant) == ["page.completed"]


async def test_a_card_may_pay_now_and_fail_later(
    merchant: Merchant, browser: httpx.AsyncClient
) -> None:
    page = await opened(merchant)
    await browser.post(page.redirect_url, data={"card_number": ENDING, "keep": "on"})
    answer = await merchant.gateway.fetch(merchant.connection, "att_1")
    assert isinstance(answer, Succeeded)
    assert isinstance(answer.method, SavedMethod)
    assert isinstance(await merchant.charge(answer.method, "att_2"), Declined)


@pytest.mark.parametrize("number", [REAL, "", "4242", "4242424242424243", "<script>", "٤٢٤٢" * 4])
async def test_only_test_cards_are_taken(
    merchant: Merchant, browser: httpx.AsyncClient, number: str
) -> None:
    page = await opened(merchant)
    answer = await browser.post(page.redirect_url, data={"card_number": number})
    assert answer.status_code == 422
    assert "Never enter a real card here." in as_text(answer)
    assert number == "" or number not in answer.text.replace("4242 4242 4242 4242", "")
    assert (await merchant.journal())["captures"] == 0


async def test_no_number_is_kept_anywhere(
    bank: Bank, merchant: Merchant, browser: httpx.AsyncClient
) -> None:
    page = await opened(merchant)
    for number in (REAL, DECLINED, OK):
        await browser.post(page.redirect_url, data={"card_number": number, "keep": "on"})
    kept = ""
    for table in ("methods", "charges", "pages", "callbacks"):
        kept += str(await bank.admin.fetch(f"SELECT t::text FROM sandbox.{table} t"))
    assert len(kept) > 500
    assert not any(number.replace(" ", "") in kept for number in (REAL, DECLINED, OK))


async def test_a_form_sent_ten_times_at_once_pays_once(
    merchant: Merchant, browser: httpx.AsyncClient
) -> None:
    page = await opened(merchant)
    form = {"card_number": OK, "keep": "on", "try": "0"}
    answers = await asyncio.gather(*(browser.post(page.redirect_url, data=form) for _ in range(10)))
    assert all("Payment received" in each.text for each in answers)
    assert (await merchant.journal())["captures"] == 1
    assert await told(merchant) == ["page.completed"]


async def test_a_declined_form_sent_twice_is_one_try(
    merchant: Merchant, browser: httpx.AsyncClient
) -> None:
    page = await opened(merchant)
    form = {"card_number": POOR, "try": "0"}
    answers = await asyncio.gather(*(browser.post(page.redirect_url, data=form) for _ in range(5)))
    assert all("The bank declined" in each.text for each in answers)
    assert all('name="try" value="1"' in each.text for each in answers)
    # Of the two tries that this card fails, one is used.
    again = await browser.post(page.redirect_url, data={"card_number": POOR, "try": "1"})
    assert "The bank declined" in again.text
    assert (
        "Payment received" in (await browser.post(page.redirect_url, data=form | {"try": "2"})).text
    )


async def test_tries_are_bounded(merchant: Merchant, browser: httpx.AsyncClient) -> None:
    page = await opened(merchant)
    for _ in range(20):
        answer = await browser.post(page.redirect_url, data={"card_number": DECLINED})
    assert "Too many tries." in answer.text
    assert (
        "Too many tries." in (await browser.post(page.redirect_url, data={"card_number": OK})).text
    )
    assert (await merchant.journal())["captures"] == 0


async def test_an_expired_page_says_so_and_takes_no_money(
    merchant: Merchant, browser: httpx.AsyncClient
) -> None:
    page = await opened(merchant)
    gateway, connection = merchant.gateway, merchant.connection
    assert await gateway.expire(connection, page.provider_ref) == Canceled(page.provider_ref)
    for answer in (
        await browser.get(page.redirect_url),
        await browser.post(page.redirect_url, data={"card_number": OK}),
    ):
        assert answer.status_code == 410
        assert "This page has expired" in answer.text
        assert f'href="{BACK}"' in unescape(answer.text)
    assert (await merchant.journal())["captures"] == 0
    assert await told(merchant) == ["page.expired"]


async def test_a_paid_page_is_not_expired(merchant: Merchant, browser: httpx.AsyncClient) -> None:
    page = await opened(merchant)
    await browser.post(page.redirect_url, data={"card_number": OK})
    assert isinstance(
        await merchant.gateway.expire(merchant.connection, page.provider_ref), Succeeded
    )
    assert "Payment received" in (await browser.get(page.redirect_url)).text
    assert await told(merchant) == ["page.completed"]


async def test_paying_and_expiring_at_once_never_both(
    merchant: Merchant, browser: httpx.AsyncClient
) -> None:
    gateway, connection = merchant.gateway, merchant.connection
    pages = [await opened(merchant, f"att_{n}") for n in range(24)]

    async def race(n: int, page: RequiresAction) -> tuple[object, str]:
        # Both orders have their chance.
        pay = asyncio.create_task(browser.post(page.redirect_url, data={"card_number": OK}))
        await asyncio.sleep(0.002 * (n % 8))
        return await gateway.expire(connection, page.provider_ref), (await pay).text

    paid = 0
    for answer, text in await asyncio.gather(*(race(n, page) for n, page in enumerate(pages))):
        if isinstance(answer, Succeeded):
            assert "Payment received" in text
            paid += 1
        else:
            assert isinstance(answer, Canceled)
            assert "This page has expired" in text
    assert (await merchant.journal())["captures"] == paid
    kinds = await told(merchant)
    assert (kinds.count("page.completed"), kinds.count("page.expired")) == (paid, 24 - paid)


async def test_there_is_no_such_page(bank: Bank, browser: httpx.AsyncClient) -> None:
    for token in ("x", "0" * 64, "%00", "..%2f..%2fetc"):
        answer = await browser.get(f"{bank.url}/pay/{token}")
        assert answer.status_code == 404
        assert "There is no such page" in answer.text


# --- languages and amounts ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "query", "expected"),
    [
        ("ru-RU,ru;q=0.9,en;q=0.8", "", "Номер карты"),
        ("en-GB,en;q=0.9,ru;q=0.5", "", "Card number"),
        ("en;q=0.3,ru;q=0.9", "", "Номер карты"),
        ("ru;q=0,en", "", "Card number"),
        ("de,fr;q=x", "", "Card number"),
        ("ru", "?lang=en", "Card number"),
        ("en", "?lang=ru", "Номер карты"),
        ("en", "?lang=tlh", "Card number"),
    ],
)
async def test_the_page_speaks_the_readers_language(
    merchant: Merchant, browser: httpx.AsyncClient, accept: str, query: str, expected: str
) -> None:
    page = await opened(merchant)
    seen = await browser.get(page.redirect_url + query, headers={"accept-language": accept})
    assert expected in seen.text
    assert f'<html lang="{"ru" if expected == "Номер карты" else "en"}">' in seen.text


async def test_the_merchants_language_is_the_last_word(
    merchant: Merchant, browser: httpx.AsyncClient
) -> None:
    request = CheckoutRequest("att_1", 49900, "RUB", BACK, True, "ru", "<b>Кино</b>")
    page = await merchant.gateway.start_checkout(merchant.connection, request)
    assert isinstance(page, RequiresAction)
    seen = await browser.get(page.redirect_url, headers={"accept-language": "de"})
    assert "499,00 ₽" in as_text(seen)
    assert "&lt;b&gt;Кино&lt;/b&gt;" in seen.text
    declined = await browser.post(
        page.redirect_url, data={"card_number": DECLINED}, headers={"accept-language": "de"}
    )
    assert "Банк отклонил платёж." in declined.text
    paid = await browser.post(page.redirect_url + "?lang=ru", data={"card_number": OK})
    assert "Платёж принят" in paid.text


@pytest.mark.parametrize(
    ("amount_minor", "currency", "english", "russian"),
    [
        (123456, "EUR", "€1,234.56", "1 234,56 €"),
        (1500, "JPY", "¥1,500", "1 500 ¥"),
        (1234, "KWD", "KWD 1.234", "1,234 KWD"),
    ],
)
def test_amounts_have_their_currencys_decimals(
    amount_minor: int, currency: str, english: str, russian: str
) -> None:
    def plain(language: str) -> str:
        text = texts.amount(amount_minor, currency, language)
        return text.replace("\xa0", " ").replace("\u202f", " ")

    assert (plain("en"), plain("ru")) == (english, russian)


async def test_no_english_is_left_on_a_russian_page(
    bank: Bank, merchant: Merchant, browser: httpx.AsyncClient
) -> None:
    browser.headers["accept-language"] = "ru"
    paid, full, expired = [
        await merchant.gateway.start_checkout(
            merchant.connection, CheckoutRequest(f"att_{n}", 49900, "RUB", BACK, True)
        )
        for n in range(3)
    ]
    assert isinstance(paid, RequiresAction)
    assert isinstance(full, RequiresAction)
    assert isinstance(expired, RequiresAction)
    await merchant.gateway.expire(merchant.connection, expired.provider_ref)
    seen = [
        await browser.get(paid.redirect_url),
        await browser.post(paid.redirect_url, data={"card_number": REAL}),
        *[await browser.post(full.redirect_url, data={"card_number": DECLINED}) for _ in range(20)],
        await browser.post(paid.redirect_url, data={"card_number": OK}),
        await browser.get(expired.redirect_url),
        await browser.get(f"{bank.url}/pay/none"),
    ]
    assert len({each.text for each in seen}) >= 7
    for each in seen:
        body = re.sub(r"(?s)<style>.*</style>", "", each.text).replace("3-D Secure", "")
        words = re.findall(r"[A-Za-z]{2,}", unescape(re.sub(r"<[^>]*>", " ", body)))
        assert words == ["English"], words  # the way to the other language


@pytest.mark.parametrize(
    "url",
    [
        *(
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://x/",
            "//shop.test/",
            "/back",
            "",
            "http://",
        ),
        *("https://shop.test/\r\nset-cookie: a=b", "http://shop.test/\0", "https://" + "x" * 2000),
    ],
)
async def test_the_way_back_is_a_web_address(merchant: Merchant, url: str) -> None:
    request = CheckoutRequest("att_1", 100, "EUR", url, True)
    answer = await merchant.gateway.start_checkout(merchant.connection, request)
    assert answer == Declined("config", "invalid_return_url")
