"""Texts of public pages (gettext catalogues beside the code that shows them), amounts by locale."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_currency
from babel.support import NullTranslations, Translations

from subledger.core import money

LANGUAGES = ("en", "ru")
_CODE_BEFORE_DIGIT = re.compile(r"(?<=[A-Za-z])(?=[0-9])")


@lru_cache(maxsize=16)
def catalogue(folder: Path, language: str) -> NullTranslations:
    """The translations of a language below ``folder``; English is the source text itself."""
    path = folder / language / "LC_MESSAGES" / "messages.po"
    if not path.exists():
        return NullTranslations()
    with path.open("rb") as source:
        compiled = BytesIO()
        write_mo(compiled, read_po(source, locale=language))
    compiled.seek(0)
    return Translations(compiled)


def choose(asked: str, accepted: str | None, otherwise: str) -> str:
    """The language of a page: the reader's choice, then the browser's, then the merchant's."""
    for candidate in (asked, *_by_weight(accepted or ""), otherwise):
        tag = candidate.strip().lower()[:2]
        if tag in LANGUAGES:
            return tag
    return LANGUAGES[0]


def _by_weight(accepted: str) -> list[str]:
    """The languages of an Accept-Language header, the best first; ``q=0`` is a refusal."""
    found = []
    for part in accepted.split(",")[:20]:
        tag, _, weight = part.partition(";")
        try:
            q = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            q = 0.0
        if q > 0:
            found.append((-q, tag))
    return [tag for _, tag in sorted(found, key=lambda each: each[0])]


def amount(amount_minor: int, currency: str, language: str) -> str:
    """An amount as people of the language write it, with the currency's own decimals."""
    decimals = money.exponent(currency)
    value = Decimal(amount_minor).scaleb(-decimals)
    text = format_currency(value, currency, locale=language, currency_digits=True)
    # CLDR sets a code (not a sign) apart from its digits; babel does not.
    return _CODE_BEFORE_DIGIT.sub("\N{NO-BREAK SPACE}", text)
