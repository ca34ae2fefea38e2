"""The page's texts in English and Russian (gettext), amounts by locale (CLDR)."""

from __future__ import annotations

from pathlib import Path

from babel.support import NullTranslations

from subledger.platform.http import texts
from subledger.platform.http.texts import LANGUAGES, amount, choose

__all__ = ["LANGUAGES", "amount", "catalogue", "choose"]
_LOCALE = Path(__file__).parent / "locale"


def catalogue(language: str) -> NullTranslations:
    """The translations of a language; English is the source text itself."""
    return texts.catalogue(_LOCALE, language)
