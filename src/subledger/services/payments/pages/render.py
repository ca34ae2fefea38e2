"""What payers see: short pages in English and Russian, without a script, that look again by
themselves a bounded number of times."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from subledger.platform.http import texts

_LOCALE = Path(__file__).parent.parent / "locale"
HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
    # No form-action: browsers hold it against the redirect too that follows a form, and the button
    # of a payment link leads on to the provider's page.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline';"
    " frame-ancestors 'none'; base-uri 'none'",
}
MOST_LOOKS = 40
"""How often a page looks again by itself; then the payer is asked to."""
_QUICK_LOOKS, _QUICK_S, _SLOW_S = 10, 2, 6


@dataclass(frozen=True, slots=True)
class Told:
    """A page's content: ``title`` and ``text`` are message ids; ``tone`` is ``good``, ``bad`` or
    ``wait``; ``onward`` and ``back`` are addresses; ``details`` are pairs of a label and a text."""

    title: str
    text: str
    tone: str
    amount_minor: int | None = None
    currency: str | None = None
    details: tuple[tuple[str, str], ...] = ()
    onward: str | None = None
    onward_label: str = "Go on to the payment"
    form: str | None = None
    """The label of a button that posts to this very address."""
    hidden: tuple[tuple[str, str], ...] = ()
    """Fields that the form carries."""
    back: str | None = None
    looks_again: bool = False


_STYLE = """
:root{color-scheme:light dark;--ink:#17202b;--mute:#5d6a79;--line:#d9e0e8;--on:#0a66c2;--bg:#f2f5f9;
--card:#fff;--bad:#b3261e;--good:#1b7a3d}@media(prefers-color-scheme:dark){:root{--ink:#e8edf3;
--mute:#9aa7b6;--line:#313c49;--on:#2f7fd6;--bg:#0f141a;--card:#18202a;--bad:#ff8a80;
--good:#6fd08c}}*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;
place-items:center;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,'Liberation Sans',
sans-serif}main{width:min(440px,94vw);background:var(--card);border:1px solid var(--line);
border-radius:14px;padding:28px 28px 24px;margin:20px 0}h1{font-size:21px;margin:0 0 4px}
.good h1{color:var(--good)}.bad h1{color:var(--bad)}.sum{font-size:34px;font-weight:650;
margin:4px 0 10px}dl{display:grid;grid-template-columns:auto 1fr;gap:2px 14px;margin:0 0 12px;
font-size:15px}dt{color:var(--mute)}dd{margin:0}p{margin:8px 0}button,.to{display:block;width:100%;
margin-top:16px;padding:12px;border:0;border-radius:8px;background:var(--on);color:#fff;
font-family:inherit;font-size:17px;font-weight:600;text-align:center;text-decoration:none;
cursor:pointer}.to.quiet{background:transparent;color:var(--on);border:1px solid var(--line)}
.lang{float:right;font-size:13px}.lang a{color:var(--mute)}
:focus-visible{outline:3px solid var(--on);outline-offset:2px}
"""


def page(told: Told, language: str, *, looks: int = 0) -> bytes:
    """The page as HTML; ``looks`` is how often it has looked again by itself."""
    say = texts.catalogue(_LOCALE, language).gettext
    again, parts = "", [f"<h1>{escape(say(told.title))}</h1>"]
    if told.amount_minor is not None and told.currency is not None:
        shown = texts.amount(told.amount_minor, told.currency, language)
        parts.append(f'<div class="sum">{escape(shown)}</div>')
    if told.details:
        rows = "".join(
            f"<dt>{escape(say(name))}</dt><dd>{escape(text)}</dd>" for name, text in told.details
        )
        parts.append(f"<dl>{rows}</dl>")
    parts.append(f'<p role="status">{escape(say(told.text))}</p>')
    if told.looks_again and looks < MOST_LOOKS:
        after_s = _QUICK_S if looks < _QUICK_LOOKS else _SLOW_S
        to = f"?lang={language}&amp;n={looks + 1}"
        again = f'<meta http-equiv="refresh" content="{after_s};url={to}">'
    elif told.looks_again:
        parts.append(_to(f"?lang={language}", say("Look again"), quiet=True))
    if told.form is not None:
        parts.append(
            f'<form method="post" action="?lang={language}">{_hidden(told.hidden)}'
            f'<button type="submit">{escape(say(told.form))}</button></form>'
        )
    if told.onward is not None:
        parts.append(_to(told.onward, say(told.onward_label)))
    if told.back is not None:
        quiet = told.onward is not None or told.form is not None
        parts.append(_to(told.back, say("Back to the shop"), quiet=quiet))
    other = "ru" if language == "en" else "en"
    name = {"ru": "Русский", "en": "English"}[other]
    switch = f'<span class="lang"><a href="?lang={other}" lang="{other}">{name}</a></span>'
    return (
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width,initial-scale=1">{again}<title>{escape(say(told.title))}'
        f'</title><style>{_STYLE}</style><main class="{told.tone}">{switch}{"".join(parts)}</main>'
        "</html>"
    ).encode()


def _to(address: str, label: str, *, quiet: bool = False) -> str:
    name = "to quiet" if quiet else "to"
    return f'<a class="{name}" href="{escape(address)}">{escape(label)}</a>'


def _hidden(fields: tuple[tuple[str, str], ...]) -> str:
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in fields
    )
