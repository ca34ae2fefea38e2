"""What a check of a connection found, by code and in words."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from subledger.providers import port

Language = Literal["en", "ru"]

_TEXTS: Final[dict[str, tuple[str, str]]] = {
    "credentials_rejected": (
        "The provider does not accept these credentials ({}). Copy them from its cabinet again.",
        "Провайдер не принимает эти реквизиты ({}). Скопируйте их из его кабинета ещё раз.",
    ),
    "not_reached": (
        "The provider could not be reached ({}). Try again later; nothing is wrong with the"
        " credentials as far as is known.",
        "Связаться с провайдером не удалось ({}). Повторите позже; о реквизитах это ничего не"
        " говорит.",
    ),
    "no_clear_answer": (
        "The provider gave no clear answer ({}). Try again later.",
        "Провайдер не дал понятного ответа ({}). Повторите позже.",
    ),
    "webhook_secret_missing": (
        "Without the webhook secret the provider's notifications are refused. Enter webhook_url in"
        " the provider's cabinet, then add the secret that it shows.",
        "Без секрета вебхука уведомления провайдера отклоняются. Укажите webhook_url в кабинете"
        " провайдера и добавьте секрет, который он покажет.",
    ),
    "currency_not_offered": (
        "The provider does not take {}.",
        "Провайдер не принимает {}.",
    ),
    "closed": (
        "The connection is closed: nothing new goes through it.",
        "Подключение закрыто: новые платежи через него не идут.",
    ),
}


def in_words(code: str, what: str, language: Language) -> str:
    """A finding's text."""
    return _TEXTS[code][0 if language == "en" else 1].format(what)


def findings(
    answer: port.Checked | port.Declined | port.NotExecuted | port.Unknown,
    *,
    is_closed: bool,
    currencies: Collection[str],
    offered: Collection[str] | None,
    has_secret: bool,
    wants_secret: bool,
) -> list[tuple[str, str]]:
    """``(code, what it is about)`` of everything that stands in the way, the worst first."""
    found: list[tuple[str, str]] = []
    match answer:
        case port.Declined():
            found.append(("credentials_rejected", answer.code))
        case port.NotExecuted():
            found.append(("not_reached", answer.reason))
        case port.Unknown():
            found.append(("no_clear_answer", answer.reason))
        case port.Checked():
            told = answer.currencies if answer.currencies is not None else offered
            if told is not None:
                found += [
                    ("currency_not_offered", each) for each in sorted(set(currencies) - set(told))
                ]
    if wants_secret and not has_secret:
        found.append(("webhook_secret_missing", ""))
    if is_closed:
        found.append(("closed", ""))
    return found
