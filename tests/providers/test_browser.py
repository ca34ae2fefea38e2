"""The payer's pages in a real browser, clicked through in both languages."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from subledger.providers.port import RequiresAction, Succeeded
from tests.providers.bank import Merchant

pytestmark = pytest.mark.long
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WORDS = {
    "en": ("Card number", "Confirm", "Refuse", "The bank declined the payment", "Payment received"),
    "ru": ("Номер карты", "Подтвердить", "Отказаться", "Банк отклонил платёж", "Платёж принят"),
}


@pytest.fixture(params=["en", "ru"])
async def page(request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is needed")
        pytest.skip("no Chromium on this machine")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context(
            locale=request.param, viewport={"width": 480, "height": 900}
        )
        yield await context.new_page()
        await browser.close()


async def _seen(page: Page, name: str) -> None:
    """What it looks like, for people, where SUBLEDGER_TEST_SCREENSHOTS names a folder."""
    folder = os.environ.get("SUBLEDGER_TEST_SCREENSHOTS")
    if folder:
        language = await page.evaluate("document.documentElement.lang")
        await page.screenshot(path=Path(folder) / f"{name}-{language}.png", full_page=True)


async def test_a_payer_is_declined_refuses_confirms_and_has_paid(
    merchant: Merchant, page: Page
) -> None:
    opened = await merchant.page("att_1", amount_minor=123450)
    assert isinstance(opened, RequiresAction)
    await page.goto(opened.redirect_url)
    number, confirm, refuse, declined, received = WORDS[
        await page.evaluate("document.documentElement.lang")
    ]
    await _seen(page, "page")
    await page.get_by_label(number).fill("4000 0000 0000 0002")
    await page.locator("form button").click()
    assert declined in await page.get_by_role("alert").inner_text()
    await _seen(page, "declined")

    for wish in (refuse, confirm):
        await page.get_by_label(number).fill("4000 0000 0000 3220")
        await page.locator("form button").click()
        await page.wait_for_url("**/secure/**")
        await _seen(page, "bank")
        await page.get_by_role("button", name=wish).click()
        await page.wait_for_url("**/pay/**")
        if wish == refuse:
            assert declined in await page.get_by_role("alert").inner_text()

    assert received in await page.locator("h1").inner_text()
    await _seen(page, "paid")
    assert isinstance(await merchant.gateway.fetch(merchant.connection, "att_1"), Succeeded)
    assert (await merchant.journal())["captures"] == 1


async def test_a_payer_leaves_the_bank_and_decides_later(merchant: Merchant, page: Page) -> None:
    asked = await merchant.charge(await merchant.method("secure:1"), "att_1")
    assert isinstance(asked, RequiresAction)
    await page.goto(asked.redirect_url)
    _, confirm, *_ = WORDS[await page.evaluate("document.documentElement.lang")]
    await page.locator(".lang a").click()  # and in the other language
    await page.go_back()
    await page.get_by_role("button", name=confirm).click()
    await page.wait_for_load_state()
    await _seen(page, "confirmed")
    await page.reload()
    assert (await merchant.journal())["captures"] == 1
