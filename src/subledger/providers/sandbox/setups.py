"""The page on which a payer saves a card without paying: opened, completed or expired."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from sqlalchemy import Row

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import cards, methods_store, setups_store, store, texts
from subledger.providers.sandbox.callbacks import Owed, owe
from subledger.providers.sandbox.frame import Agreed, Answer, card_table, html, notice, switch
from subledger.providers.sandbox.secure import Addresses

_READ = story("sandbox.read_setup_page", reads=True)
_SAVE = story("sandbox.save_method")
_EXPIRE = story("sandbox.expire_setup")
MOST_TRIES = 20
_CONSENT = "I agree that this card is kept and charged at each renewal until I cancel."
_DECLINED = "The bank declined this card. Try another one."
_NO_TEST_CARD = "This is not one of the test cards. Never enter a real card here."


class SetupPages:
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
        """The page, or what a try led to."""
        async with self._database.transaction(_READ) as tx:
            row = await setups_store.of_secret(tx, hashlib.sha256(token.encode()).digest())
        asked = parse_qs(query.decode("latin-1"), max_num_fields=10)
        given = next(iter(asked.get("lang", ())), "")
        language = texts.choose(given, headers.get("accept-language"), "en")
        if row is None:
            return html(404, language, notice(language, "There is no such page", None))
        if method != "POST" or row.state != "open":
            return _show(row, language)
        form = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20)
        number = "".join(next(iter(form.get("card_number", ())), "").split())
        if number not in cards.CARDS:
            return _show(row, language, error=_NO_TEST_CARD)
        agreed = Agreed(texts.catalogue(language).gettext(_CONSENT), language, address)
        row = await self._save(row, cards.CARDS[number][0], agreed)
        if row.state == "open":
            return _show(row, language, error=_DECLINED)
        return 303, {"location": f"?lang={language}", "cache-control": "no-store"}, b""

    async def _save(self, row: Row[Any], kind: str, agreed: Agreed) -> Row[Any]:
        """Save the card unless its bank declines it, once, with its webhook; the setup then."""
        tenant = row.tenant_id
        token = f"tok_{hashlib.sha256(f'{row.id}:{kind}'.encode()).hexdigest()[:32]}"

        async def work(tx: Tx) -> Row[Any]:
            now = await setups_store.of_id(tx, tenant, row.id, lock=True)
            assert now is not None
            if now.state != "open" or now.tries >= MOST_TRIES:
                return now
            changed: dict[str, Any] = {"tries": now.tries + 1}
            # Nothing is charged: a card that pays at some later try is a good card.
            verdict = cards.judge(kind, 98 if kind.startswith("insufficient") else 0)
            if verdict.captured or verdict.asks:
                await store.add_methods(tx, [methods_store.made(tenant, token, kind)])
                at = await tx.now(tenant)
                await methods_store.agree(tx, tenant, token, agreed.at(at))
                changed |= {"state": "completed", "saved_token": token}
                await _tell(tx, now, "method.setup_completed")
            await setups_store.change(tx, now, **changed)
            return await setups_store.of_id(tx, tenant, row.id) or now

        return await self._database.transact(_SAVE, work, tenants=[tenant])

    async def expire(self, tenant_id: UUID, setup_id: UUID) -> bool:
        """Close a setup that is open; False if there is none. Afterwards it saves nothing."""

        async def work(tx: Tx) -> bool:
            row = await setups_store.of_id(tx, tenant_id, setup_id, lock=True)
            if row is not None and row.state == "open":
                await setups_store.change(tx, row, state="expired")
                await _tell(tx, row, "method.setup_expired")
            return row is not None

        return await self._database.transact(_EXPIRE, work, tenants=[tenant_id])


async def _tell(tx: Tx, row: Row[Any], kind: str) -> None:
    data = {"method_id": ids.text("st", row.id)}
    await owe(tx, [Owed(row.tenant_id, kind, row.id, data, await tx.now(row.tenant_id))])


def _show(row: Row[Any], language: str, *, error: str | None = None) -> Answer:
    if row.state == "completed":
        text = "You may close this page."
        return html(200, language, notice(language, "Card saved", row.return_url, text=text))
    if row.state == "expired":
        return html(410, language, notice(language, "This page has expired", row.return_url))
    return html(422 if error else 200, language, _form(language, error))


def _form(language: str, error: str | None) -> str:
    say = texts.catalogue(language).gettext
    problem = f'<p class="bad" role="alert">{escape(say(error))}</p>' if error else ""
    free = say("Nothing is charged now.")
    return f"""{switch(language)}<h1>{escape(say("Save a card"))}</h1>
<p>{escape(free)}</p><form method="post" action="?lang={language}">
<label for="card_number">{escape(say("Card number"))}</label>
<input type="text" id="card_number" name="card_number" inputmode="numeric" autocomplete="off"
 maxlength="23" required autofocus placeholder="4242 4242 4242 4242">{problem}
<p>{escape(say(_CONSENT))}</p>
<button type="submit">{escape(say("Save"))}</button></form>{card_table(language)}"""
