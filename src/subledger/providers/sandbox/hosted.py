"""The hosted page: a payer enters a test card, agrees to keep it, pays, and goes back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import authorizations, cards, faults, methods_store, store, texts
from subledger.providers.sandbox.callbacks import tell_of_page as tell
from subledger.providers.sandbox.frame import Agreed, Answer, card_table, html, notice, switch
from subledger.providers.sandbox.http import wire
from subledger.providers.sandbox.journal import Asked, Told, charge_all
from subledger.providers.sandbox.secure import Addresses

_READ = story("sandbox.read_page", reads=True)
_TRY = story("sandbox.try_page")
_EXPIRE = story("sandbox.expire_page")
MOST_TRIES = 20
_CONSENT = (
    "Keep this card for the next payments. I agree to be charged at each renewal until I cancel."
)
_DECLINED = "The bank declined the payment. Try another card."
_NO_TEST_CARD = "This is not one of the test cards. Never enter a real card here."
_HELD = "Your bank keeps it for the shop, which takes it later or lets it go."
_ONLY_HELD = "The amount is set aside on your card now, and taken later or let go."
_TOO_MANY = "Too many tries. Ask the shop for a new page."


class HostedPages:
    """Pages by their unguessable token."""

    def __init__(self, database: Database, addresses: Addresses) -> None:
        self._database = database
        self._addresses = addresses

    async def answer(
        self,
        method: str,
        token: str,
        query: bytes,
        headers: Mapping[str, str],
        body: bytes,
        *,
        address: str,
    ) -> Answer:
        """The page, the result of a try, or why there is none."""
        page = await self._page(hashlib.sha256(token.encode()).digest())
        asked = parse_qs(query.decode("latin-1"), max_num_fields=10)
        language = texts.choose(
            _first(asked, "lang"),
            headers.get("accept-language"),
            "en" if page is None else page.locale,
        )
        if page is None:
            return html(404, language, notice(language, "There is no such page", None))
        if method != "POST" or page.status != "open":
            declined = page.status == "open" and _first(asked, "declined")
            return self._show(page, language, error=_DECLINED if declined else None, status=200)
        form = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20)
        return await self._pay(page, language, form, address=address)

    async def _pay(
        self, page: Any, language: str, form: Mapping[str, list[str]], *, address: str
    ) -> Answer:
        """What a try led to: the bank's page, this page's end, or this page again."""
        number = "".join(_first(form, "card_number").split())
        if number not in cards.CARDS:
            return self._show(page, language, error=_NO_TEST_CARD)
        agreed = None
        if page.save and "keep" in form:
            agreed = Agreed(texts.catalogue(language).gettext(_CONSENT), language, address)
        page, told = await self._try(page, number, agreed=agreed, seen=_first(form, "try"))
        if told is not None and told.fault == faults.NO_REPLY:
            return wire.CUT, {}, b""
        elsewhere = None if page.status == "open" else ""
        if told is not None and told.status == "requires_action":
            elsewhere = self._addresses.of_challenge(page.tenant_id, told.key)
        if elsewhere is not None:
            # Told by a page of its own, so that "reload" does not pay again.
            where = f"{elsewhere}?lang={language}"
            return 303, {"location": where, "cache-control": "no-store"}, b""
        error = _DECLINED if page.tries < MOST_TRIES else _TOO_MANY
        return self._show(page, language, error=error)

    async def _page(self, digest: bytes) -> Any:
        async with self._database.transaction(_READ) as tx:
            tenant = await store.page_tenant(tx, digest)
            if tenant is None:
                return None
            tx.use_tenants([tenant])
            return await store.page_of_token(tx, tenant, digest)

    async def _try(
        self, page: Any, number: str, *, agreed: Agreed | None, seen: str
    ) -> tuple[Any, Told | None]:
        """One try, in one transaction under the page's lock: the method, the charge, what it means
        for the page, the webhook. So a page that was expired never captures, and a capture is
        never without its webhook. Returns the page as it is then, and what the bank said if it was
        asked now.

        ``seen`` is the number of tries that the payer's form knew of; a form that was sent twice
        is one try.
        """
        kind, _ = cards.CARDS[number]
        token = f"tok_{hashlib.sha256(f'{page.id}:{kind}'.encode()).hexdigest()[:32]}"

        async def work(tx: Tx) -> tuple[Any, Told | None]:
            current = await store.lock_page(tx, page.tenant_id, page.id)
            assert current is not None
            stale = seen != "" and seen != str(current.tries)
            if current.status != "open" or current.tries >= MOST_TRIES or stale:
                return current, None
            spoiled = await store.take_faults(tx, {page.tenant_id: 1}, modes=faults.at("page"))
            await store.add_methods(tx, [methods_store.made(page.tenant_id, token, kind)])
            key = f"{ids.text('page', page.id)}:{current.tries}"
            mandate = None if agreed is None else agreed.at(await tx.now(page.tenant_id))
            asked = Asked(
                tenant_id=page.tenant_id,
                key=key,
                attempt_id=page.attempt_id,
                token=token,
                amount_minor=page.amount_minor,
                currency=page.currency,
                secret_hash=self._addresses.secret_hash(page.tenant_id, key),
                return_url=page.return_url,
                page_id=page.id,
                mandate=mandate,
                declined=page.tenant_id in spoiled,
                capture=current.capture,
            )
            told = await _charged(tx, asked)
            done = told.status in {"succeeded", "authorized"}
            changed = {
                "tenant_id": page.tenant_id,
                "id": page.id,
                "tries": current.tries + 1,
                "status": "completed" if done else "open",
                "saved_token": token if done and mandate else None,
            }
            await store.set_pages(tx, [changed])
            if done and mandate is not None:
                await methods_store.agree(tx, page.tenant_id, token, mandate)
            if done:
                await tell(tx, current, "page.completed")
            return await store.lock_page(tx, page.tenant_id, page.id), told

        return await self._database.transact(_TRY, work, tenants=[page.tenant_id])

    async def expire(self, tenant_id: UUID, page_id: UUID) -> str | None:
        """Close a page that is open; returns its attempt, None if there is no such page.

        Afterwards it never captures.
        """

        async def work(tx: Tx) -> str | None:
            row = await store.lock_page(tx, tenant_id, page_id)
            if row is None:
                return None
            if row.status == "open":
                changed = {
                    "tenant_id": tenant_id,
                    "id": page_id,
                    "tries": row.tries,
                    "status": "expired",
                    "saved_token": None,
                }
                await store.set_pages(tx, [changed])
                await tell(tx, row, "page.expired")
            return str(row.attempt_id)

        return await self._database.transact(_EXPIRE, work, tenants=[tenant_id])

    def _show(
        self, page: Any, language: str, *, error: str | None = None, status: int = 422
    ) -> Answer:
        if page.status == "completed" and not page.capture:
            shown = notice(language, "The money is set aside", page.return_url, page, text=_HELD)
            return html(200, language, shown)
        if page.status == "completed":
            return html(200, language, notice(language, "Payment received", page.return_url, page))
        if page.status == "expired":
            return html(410, language, notice(language, "This page has expired", page.return_url))
        return html(status if error else 200, language, _form(page, language, error))


async def _charged(tx: Tx, asked: Asked) -> Told:
    """What the bank said to a try, which takes the money or sets it aside."""
    if not asked.capture:
        return await authorizations.authorize(tx, asked, faulty=False)
    _, told = (await charge_all(tx, [asked], faulty=False))[asked.tenant_id, asked.key]
    return told


def _first(form: Mapping[str, list[str]], name: str) -> str:
    """The first value of a field, empty if it was not sent."""
    return next(iter(form.get(name, ())), "")


def _form(page: Any, language: str, error: str | None) -> str:
    say = texts.catalogue(language).gettext
    total = texts.amount(page.amount_minor, page.currency, language)
    keep = say(_CONSENT)
    kept = (
        f'<label class="keep"><input type="checkbox" name="keep" checked> {escape(keep)}</label>'
        if page.save
        else ""
    )
    problem = f'<p class="bad" role="alert">{escape(say(error))}</p>' if error else ""
    held = "" if page.capture else f"<p>{escape(say(_ONLY_HELD))}</p>"
    return f"""{switch(language)}<h1>{escape(page.description or say("Payment"))}</h1>
<div class="sum">{escape(total)}</div>{held}
<form method="post" action="?lang={language}">
<input type="hidden" name="try" value="{page.tries}">
<label for="card_number">{escape(say("Card number"))}</label>
<input type="text" id="card_number" name="card_number" inputmode="numeric" autocomplete="off"
 maxlength="23" required autofocus placeholder="4242 4242 4242 4242">{kept}{problem}
<button type="submit">{escape(say("Pay"))} {escape(total)}</button></form>
{card_table(language)}"""
