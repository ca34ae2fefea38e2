"""In words instead of data: whether they are asked for, and in which language."""

from __future__ import annotations

from typing import Literal

from fastapi import Request
from fastapi.responses import PlainTextResponse

from subledger.services.billing.texts import Language


def words_asked(
    request: Request, form: Literal["json", "text"] | None, locale: Language | None
) -> Language | None:
    """The language of the words, by ``locale`` or Accept-Language; None if data is asked for."""
    prefers_text = request.headers.get("accept", "").strip().lower().startswith("text/plain")
    if form == "json" or (form is None and not prefers_text):
        return None
    wanted = request.headers.get("accept-language", "").strip().lower()
    return locale or ("ru" if wanted.startswith("ru") else "en")


def in_words(text: str, language: Language) -> PlainTextResponse:
    """The answer in words."""
    return PlainTextResponse(text, headers={"Content-Language": language})
