"""The hosted page: a payer enters a test card, agrees to keep it, pays, and goes back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.providers.sandbox import cards, store, texts
from subledger.providers.sandbox.callbacks import Owed, owe
from subledger.providers.sandbox.journal import Asked, charge_all

_READ = story("sandbox.read_page", reads=True)
_TRY = story("sandbox.try_page")
_EXPIRE = story("sandbox.expire_page")
MOST_TRIES = 20
_DECLINED = "The bank declined the payment. Try another card."
_NO_TEST_CARD = "This is not one of the test cards. Never enter a real card here."
_TOO_MANY = "Too many tries. Ask the shop for a new page."

Answer = tuple[int, Mapping[str, str], bytes]


class HostedPages:
    """Pages by their unguessable token."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answer(
        self, method: str, token: str, query: bytes, headers: Mapping[str, str], body: bytes
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
            return _html(404, language, _notice(language, "There is no such page", None))
        if method != "POST" or page.status != "open":
            return self._show(page, language)
        form = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20)
        number = "".join(_first(form, "card_number").split())
        if number not in cards.CARDS:
            return self._show(page, language, error=_NO_TEST_CARD)
        page = await self._try(
            page, number, keep=page.save and "keep" in form, seen=_first(form, "try")
        )
        if page.status != "open":
            # Told by a page of its own, so that "reload" does not pay again.
            return 303, {"location": f"?lang={language}", "cache-control": "no-store"}, b""
        error = _DECLINED if page.tries < MOST_TRIES else _TOO_MANY
        return self._show(page, language, error=error)

    async def _page(self, digest: bytes) -> Any:
        async with self._database.transaction(_READ) as tx:
            tenant = await store.page_tenant(tx, digest)
            if tenant is None:
                return None
            await tx.use_tenants([tenant])
            return await store.page_of_token(tx, tenant, digest)

    async def _try(self, page: Any, number: str, *, keep: bool, seen: str) -> Any:
        """One try, in one transaction under the page's lock: the method, the charge, what it means
        for the page, the webhook. So a page that was expired never captures, and a capture is
        never without its webhook. Returns the page as it is then.

        ``seen`` is the number of tries that the payer's form knew of; a form that was sent twice
        is one try.
        """
        kind, _ = cards.CARDS[number]
        brand, last_four = cards.face(kind)
        token = f"tok_{hashlib.sha256(f'{page.id}:{kind}'.encode()).hexdigest()[:32]}"

        async def work(tx: Tx) -> Any:
            current = await store.lock_page(tx, page.tenant_id, page.id)
            assert current is not None
            stale = seen != "" and seen != str(current.tries)
            if current.status != "open" or current.tries >= MOST_TRIES or stale:
                return current
            method = {
                "tenant_id": page.tenant_id,
                "token": token,
                "kind": kind,
                "brand": brand,
                "last_four": last_four,
                "tries": 0,
            }
            await store.add_methods(tx, [method])
            asked = Asked(
                tenant_id=page.tenant_id,
                key=f"{ids.text('page', page.id)}:{current.tries}",
                attempt_id=page.attempt_id,
                token=token,
                amount_minor=page.amount_minor,
                currency=page.currency,
            )
            answers = await charge_all(tx, [asked], faulty=False)
            _, told = answers[asked.tenant_id, asked.key]
            captured = told.status == "succeeded"
            changed = {
                "tenant_id": page.tenant_id,
                "id": page.id,
                "tries": current.tries + 1,
                "status": "completed" if captured else "open",
                "saved_token": token if captured and keep else None,
            }
            await store.set_pages(tx, [changed])
            if captured:
                await _tell(tx, current, "page.completed")
            return await store.lock_page(tx, page.tenant_id, page.id)

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
                await _tell(tx, row, "page.expired")
            return str(row.attempt_id)

        return await self._database.transact(_EXPIRE, work, tenants=[tenant_id])

    def _show(self, page: Any, language: str, *, error: str | None = None) -> Answer:
        if page.status == "completed":
            return _html(
                200, language, _notice(language, "Payment received", page.return_url, page)
            )
        if page.status == "expired":
            return _html(410, language, _notice(language, "This page has expired", page.return_url))
        return _html(200 if error is None else 422, language, _form(page, language, error))


async def _tell(tx: Tx, page: Any, kind: str) -> None:
    """Owe the merchant a webhook about a page, due now by the tenant's clock."""
    data = {"attempt_id": page.attempt_id, "page_id": ids.text("page", page.id)}
    at = await tx.now(page.tenant_id)
    await owe(tx, [Owed(page.tenant_id, kind, page.id, data, at)])


def _first(form: Mapping[str, list[str]], name: str) -> str:
    """The first value of a field, empty if it was not sent."""
    return next(iter(form.get(name, ())), "")


_STYLE = """
:root{color-scheme:light dark;--ink:#17202b;--mute:#5d6a79;--line:#d9e0e8;--on:#0a66c2;--bg:#f2f5f9;
--card:#fff;--bad:#b3261e}@media(prefers-color-scheme:dark){:root{--ink:#e8edf3;--mute:#9aa7b6;
--line:#313c49;--on:#6cb2ff;--bg:#0f141a;--card:#18202a;--bad:#ff8a80}}
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;
background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,'Liberation Sans',sans-serif}
main{width:min(440px,94vw);background:var(--card);border:1px solid var(--line);border-radius:14px;
padding:28px 28px 22px;margin:20px 0}h1{font-size:20px;margin:0 0 2px}.sum{font-size:34px;
font-weight:650;margin:2px 0 16px}label{display:block;font-size:14px;color:var(--mute);
margin:8px 0 6px}
input[type=text]{width:100%;font:18px/1.2 ui-monospace,monospace;padding:11px 12px;border:1px solid
var(--line);border-radius:8px;background:transparent;color:inherit}.keep{display:flex;gap:9px;
align-items:flex-start;color:var(--ink)}button,.back{display:block;width:100%;margin-top:18px;
padding:12px;border:0;border-radius:8px;background:var(--on);color:#fff;font-family:inherit;
font-size:17px;font-weight:600;text-align:center;text-decoration:none;cursor:pointer}.bad{color:var(--bad);
margin:10px 0 0}.hint{font-size:13px;color:var(--mute);margin-top:20px;border-top:1px solid
var(--line);padding-top:12px}td{padding:2px 10px 2px 0;vertical-align:top}td:first-child{
font-family:ui-monospace,monospace;white-space:nowrap}.lang{float:right;font-size:13px}
.lang a{color:var(--mute)}:focus-visible{outline:3px solid var(--on);outline-offset:2px}
"""


def _form(page: Any, language: str, error: str | None) -> str:
    say = texts.catalogue(language).gettext
    total = texts.amount(page.amount_minor, page.currency, language)
    rows = "".join(
        f"<tr><td>{' '.join(n[i : i + 4] for i in range(0, 16, 4))}</td>"
        f"<td>{escape(say(does))}</td></tr>"
        for n, (_, does) in cards.CARDS.items()
    )
    keep = say(
        "Keep this card for the next payments."
        " I agree to be charged at each renewal until I cancel."
    )
    kept = (
        f'<label class="keep"><input type="checkbox" name="keep" checked> {escape(keep)}</label>'
        if page.save
        else ""
    )
    problem = f'<p class="bad" role="alert">{escape(say(error))}</p>' if error else ""
    hint = say("Sandbox: no real money moves. Only these test cards are accepted:")
    return f"""{_switch(language)}<h1>{escape(page.description or say("Payment"))}</h1>
<div class="sum">{escape(total)}</div>
<form method="post" action="?lang={language}">
<input type="hidden" name="try" value="{page.tries}">
<label for="card_number">{escape(say("Card number"))}</label>
<input type="text" id="card_number" name="card_number" inputmode="numeric" autocomplete="off"
 maxlength="23" required autofocus placeholder="4242 4242 4242 4242">{kept}{problem}
<button type="submit">{escape(say("Pay"))} {escape(total)}</button></form>
<div class="hint">{escape(hint)}<table>{rows}</table></div>"""


def _notice(language: str, title: str, return_url: str | None, page: Any = None) -> str:
    say = texts.catalogue(language).gettext
    total = ""
    text = "Go back to the shop and start again."
    if page is not None:
        shown = texts.amount(page.amount_minor, page.currency, language)
        total = f'<div class="sum">{escape(shown)}</div>'
        text = "You may close this page."
    back = ""
    if return_url and urlsplit(return_url).scheme in {"http", "https"}:
        back = f'<a class="back" href="{escape(return_url)}">{escape(say("Back to the shop"))}</a>'
    return (
        f"{_switch(language)}<h1>{escape(say(title))}</h1>{total}<p>{escape(say(text))}</p>{back}"
    )


def _switch(language: str) -> str:
    other = "ru" if language == "en" else "en"
    name = {"ru": "Русский", "en": "English"}[other]
    return f'<span class="lang"><a href="?lang={other}" lang="{other}">{name}</a></span>'


def _html(status: int, language: str, body: str) -> Answer:
    say = texts.catalogue(language).gettext
    page = (
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width,initial-scale=1"><title>{escape(say("Payment"))}</title>'
        f"<style>{_STYLE}</style><main>{body}</main></html>"
    )
    headers = {
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    }
    return status, headers, page.encode()
