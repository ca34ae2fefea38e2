"""3-D Secure: the page of the payer's bank, where a charge is confirmed, refused or left alone."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import (
    authorizations,
    cards,
    methods_store,
    secure_store,
    store,
    texts,
)
from subledger.providers.sandbox.callbacks import owe, tell_of_page
from subledger.providers.sandbox.frame import Answer, html, notice, switch
from subledger.providers.sandbox.journal import settled

_READ = story("sandbox.read_challenge", reads=True)
_DECIDE = story("sandbox.decide_challenge")
_CANCEL = story("sandbox.cancel_charge")


class Addresses:
    """Where payers go: addresses that nobody can guess, derived from the provider's secret."""

    def __init__(self, *, secret: bytes, public_url: str) -> None:
        self._secret = secret
        self._public_url = public_url

    def token(self, what: str, tenant_id: UUID, name: str) -> str:
        """The unguessable part for one object of a merchant."""
        digest = hmac.new(self._secret, f"{what}:{tenant_id}:{name}".encode(), hashlib.sha256)
        return digest.hexdigest()

    def of(self, what: str, tenant_id: UUID, name: str) -> str:
        """A page of this kind, for one object of a merchant."""
        return f"{self._public_url}/{what}/{self.token(what, tenant_id, name)}"

    def hash_of(self, what: str, tenant_id: UUID, name: str) -> bytes:
        """By what that page is found."""
        return hashlib.sha256(self.token(what, tenant_id, name).encode()).digest()

    def of_page(self, tenant_id: UUID, attempt_id: str) -> str:
        """The hosted page of an attempt."""
        return f"{self._public_url}/pay/{self.token('page', tenant_id, attempt_id)}"

    def of_challenge(self, tenant_id: UUID, key: str) -> str:
        """The bank's page for the charge of an idempotency key."""
        return self.of("secure", tenant_id, key)

    def secret_hash(self, tenant_id: UUID, key: str) -> bytes:
        """By what that page is found."""
        return self.hash_of("secure", tenant_id, key)


class Challenges:
    """The bank's pages by their unguessable token."""

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
        """The page, or what the payer's decision led to."""
        row = await self._found(hashlib.sha256(token.encode()).digest())
        asked = parse_qs(query.decode("latin-1"), max_num_fields=10)
        given = next(iter(asked.get("lang", ())), "")
        language = texts.choose(given, headers.get("accept-language"), "en")
        if row is None:
            return html(404, language, notice(language, "There is no such page", None))
        if method != "POST" or row.state != "open":
            return self._show(row, language)
        form = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20)
        wish = next(iter(form.get("do", ())), "")
        if wish in {"confirm", "decline"}:
            row = await self._decide(row, confirmed=wish == "confirm")
        where = f"?lang={language}"
        if row.page_id is not None:
            where = f"{self._addresses.of_page(row.tenant_id, row.attempt_id)}{where}"
            if row.state == "declined":
                where += "&declined=1"
        return 303, {"location": where, "cache-control": "no-store"}, b""

    async def _found(self, secret_hash: bytes) -> Row[Any] | None:
        async with self._database.transaction(_READ) as tx:
            return await secure_store.of_secret(tx, secret_hash)

    async def _decide(self, row: Row[Any], *, confirmed: bool) -> Row[Any]:
        """Once and for all, in one transaction under the page's and the charge's lock; the
        challenge as it is then. A page that is over takes no money any more."""

        async def work(tx: Tx) -> Row[Any]:
            page = None
            if row.page_id is not None:
                page = await store.lock_page(tx, row.tenant_id, row.page_id)
            now = await secure_store.lock(tx, row.tenant_id, row.id)
            assert now is not None
            if now.state != "open":
                return now
            if page is not None and page.status != "open":
                await secure_store.set_state(tx, now, "expired")
            elif confirmed:
                await _end(tx, now, "confirmed", "ok", tells=page is None)
                if page is not None:
                    await _complete(tx, page, now)
            else:
                await _end(tx, now, "declined", cards.NOT_CONFIRMED, tells=page is None)
            return await secure_store.lock(tx, row.tenant_id, row.id) or now

        return await self._database.transact(_DECIDE, work, tenants=[row.tenant_id])

    async def cancel(self, tenant_id: UUID, charge_id: UUID) -> str | None:
        """Stop waiting for the payer; returns the attempt, None if there is no such charge.

        What was decided before stands, and what the bank is checking goes on; a charge whose
        verdict is still to come is canceled.
        """

        async def work(tx: Tx) -> str | None:
            row = await secure_store.lock(tx, tenant_id, charge_id)
            if row is None:
                charge = await store.charge_of_id(tx, tenant_id, charge_id)
                if charge is None:
                    return None
                changed = await store.cancel_charge(
                    tx, tenant_id, charge_id, code=cards.CANCELED, at=await tx.now(tenant_id)
                )
                await owe(tx, [settled(each._asdict()) for each in changed])
                return str(charge.attempt_id)
            if row.state == "open" and row.page_id is None:
                await _end(tx, row, "expired", cards.GONE, tells=True)
            return str(row.attempt_id)

        return await self._database.transact(_CANCEL, work, tenants=[tenant_id])

    def _show(self, row: Row[Any], language: str) -> Answer:
        back = row.return_url or None
        match row.state:
            case "open":
                away, to = back, "Back to the shop without deciding"
                if row.page_id is not None:
                    page = self._addresses.of_page(row.tenant_id, row.attempt_id)
                    away, to = f"{page}?lang={language}", "Back without deciding"
                return html(200, language, _form(row, language, away, to))
            case "checking":
                text = "Your bank is still checking this payment. You may close this page."
                shown = notice(language, "One moment", back, row, text=text)
                return html(200, language, shown)
            case "confirmed":
                return html(200, language, notice(language, "Payment confirmed", back, row))
            case "declined":
                text = "You refused this payment. Nothing was charged."
                return html(200, language, notice(language, "Payment refused", back, text=text))
            case _:
                return html(410, language, notice(language, "This page has expired", back))


async def _end(tx: Tx, row: Row[Any], state: str, code: str, *, tells: bool) -> None:
    """Write what became of a locked challenge into the journal, or set its money aside; its
    merchant is told unless its page will say so."""
    charge = {
        "tenant_id": row.tenant_id,
        "idempotency_key": row.idempotency_key,
        "id": row.id,
        "attempt_id": row.attempt_id,
        "token": row.token,
        "amount_minor": row.amount_minor,
        "currency": row.currency,
        "status": "succeeded" if code == "ok" else "declined",
        "code": code,
        "request_hash": row.request_hash,
        "at": await tx.now(row.tenant_id),
        "settles_at": None,
    }
    kept = code == "ok" and not row.capture
    if kept:
        await authorizations.set_aside(tx, charge)
    else:
        added = await store.add_charges(tx, [charge])
        assert added == 1, "a challenge that is open has no charge yet"
    await secure_store.set_state(tx, row, state)
    if tells:
        told = settled(charge)
        await owe(tx, [replace(told, kind="charge.authorized") if kept else told])


async def _complete(tx: Tx, page: Row[Any], row: Row[Any]) -> None:
    changed = {
        "tenant_id": page.tenant_id,
        "id": page.id,
        "tries": page.tries,
        "status": "completed",
        "saved_token": None if row.mandate is None else row.token,
    }
    await store.set_pages(tx, [changed])
    if row.mandate is not None:
        await methods_store.agree(tx, row.tenant_id, row.token, row.mandate)
    await tell_of_page(tx, page, "page.completed")


def _form(row: Row[Any], language: str, away: str | None, to: str) -> str:
    say = texts.catalogue(language).gettext
    total = texts.amount(row.amount_minor, row.currency, language)
    leave = f'<a class="leave" href="{escape(away)}">{escape(say(to))}</a>' if away else ""
    asks = say("Your bank asks you to confirm this payment. Nothing is charged before.")
    hint = say("Sandbox: this is a test bank. A real one would ask for a code or a fingerprint.")
    return f"""{switch(language)}<h1>{escape(say("Test bank: 3-D Secure"))}</h1>
<div class="sum">{escape(total)}</div><p>{escape(asks)}</p>
<form method="post" action="?lang={language}">
<button type="submit" name="do" value="confirm">{escape(say("Confirm"))}</button>
<button type="submit" name="do" value="decline" class="no">{escape(say("Refuse"))}</button>
</form>{leave}<div class="hint">{escape(hint)}</div>"""
