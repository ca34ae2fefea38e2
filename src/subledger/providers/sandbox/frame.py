"""What the payer's pages share: their looks, their language, and what keeps them safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any
from urllib.parse import urlsplit

import msgspec

from subledger.providers.sandbox import cards, texts


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a payer agreed to: the text that was shown, its language, from which address."""

    text: str
    language: str
    address: str

    def at(self, now: datetime) -> str:
        """The mandate as JSON, given at ``now`` of the tenant's clock."""
        return msgspec.json.encode(
            {
                "text": self.text,
                "language": self.language,
                "address": self.address,
                "at": now.isoformat(),
            }
        ).decode()


Answer = tuple[int, Mapping[str, str], bytes]

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
font-size:17px;font-weight:600;text-align:center;text-decoration:none;cursor:pointer}
button.no{background:transparent;color:var(--ink);border:1px solid var(--line);margin-top:10px}
.leave{display:block;text-align:center;margin-top:16px;color:var(--mute);font-size:14px}.bad{color:var(--bad);
margin:10px 0 0}.hint{font-size:13px;color:var(--mute);margin-top:20px;border-top:1px solid
var(--line);padding-top:12px}td{padding:2px 10px 2px 0;vertical-align:top}td:first-child{
font-family:ui-monospace,monospace;white-space:nowrap}.lang{float:right;font-size:13px}
.lang a{color:var(--mute)}:focus-visible{outline:3px solid var(--on);outline-offset:2px}
"""


def notice(
    language: str,
    title: str,
    return_url: str | None,
    page: Any = None,
    *,
    text: str | None = None,
    to: str = "Back to the shop",
) -> str:
    """What there is to say and the way back; ``page`` (what was paid) shows its amount."""
    say = texts.catalogue(language).gettext
    total = ""
    if page is not None:
        shown = texts.amount(page.amount_minor, page.currency, language)
        total = f'<div class="sum">{escape(shown)}</div>'
        text = text or "You may close this page."
    text = text or "Go back to the shop and start again."
    back = ""
    if return_url and urlsplit(return_url).scheme in {"http", "https"}:
        back = f'<a class="back" href="{escape(return_url)}">{escape(say(to))}</a>'
    return f"{switch(language)}<h1>{escape(say(title))}</h1>{total}<p>{escape(say(text))}</p>{back}"


def card_table(language: str) -> str:
    """The test cards and what each does."""
    say = texts.catalogue(language).gettext
    rows = "".join(
        f"<tr><td>{' '.join(n[i : i + 4] for i in range(0, 16, 4))}</td>"
        f"<td>{escape(say(does))}</td></tr>"
        for n, (_, does) in cards.CARDS.items()
    )
    hint = say("Sandbox: no real money moves. Only these test cards are accepted:")
    return f'<div class="hint">{escape(hint)}<table>{rows}</table></div>'


def switch(language: str) -> str:
    """The way to the other language."""
    other = "ru" if language == "en" else "en"
    name = {"ru": "Русский", "en": "English"}[other]
    return f'<span class="lang"><a href="?lang={other}" lang="{other}">{name}</a></span>'


def html(status: int, language: str, body: str) -> Answer:
    """A whole page around ``body``, which is escaped already."""
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
