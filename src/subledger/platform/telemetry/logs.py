"""Structured logs: one JSON object a line on standard error, secrets and personal data masked.

``request_id``, ``tenant`` and ``cause`` come from structlog's context variables. Provider answers
are logged under the one event name ``PROVIDER_RESPONSE``, masked. Lines of the standard library's
loggers (the server's, the driver's) take the same way out.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec
import structlog

PROVIDER_RESPONSE = "provider.response"
MASK = "***"

_SECRET_WORDS = frozenset(
    {"authorization", "password", "passwd", "secret", "secrets", "token", "tokens", "apikey"}
    | {"credential", "credentials", "signature", "cookie", "card", "pan", "cvc", "cvv", "iban"}
    | {"email", "mail", "phone", "mandate"}
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_CARD_NUMBER = re.compile(
    r"(?<![\w-])(?:[0-9]{12,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,7})(?![\w-])"
)
_EMAIL = re.compile(r"[^\s@<>\"'(),:;]+@[^\s@<>\"'(),:;]+\.[^\s@<>\"'(),:;]+")
_API_KEY = re.compile(r"\bsk_(?:live|test)_[A-Za-z0-9_-]+")
_URL_PASSWORD = re.compile(r"(?<=://)([^\s:/@]+):[^\s/@]+@")
_BOUND_VALUES = re.compile(r"^\[parameters: .*$|^DETAIL: .*$", re.M)
_OWN = frozenset({"level", "timestamp", "logger", "exception", "exc_info"})


@lru_cache(maxsize=4_096)
def is_secret(name: str) -> bool:
    """Whether a field of this name holds something that no log may: a word of it says so
    (``cardNumber``, ``api_key``; not ``company`` or ``discard``)."""
    words = [word.lower() for word in _WORD.findall(name)]
    pairs = {f"{first}{second}" for first, second in pairwise(words)}
    return not _SECRET_WORDS.isdisjoint(words) or bool(pairs & {"apikey", "email"})


def masked(value: Any) -> Any:
    """A copy of plain data with secret and personal fields, and digits that could be a card's
    number, replaced. For logs and stored provider responses."""
    if isinstance(value, Mapping):
        return {
            str(key): MASK if is_secret(str(key)) else masked(each) for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(each) for each in value]
    if isinstance(value, str):
        return _masked_text(value)
    return value


def _masked_text(value: str) -> str:
    if len(value) >= 12:
        value = _CARD_NUMBER.sub(MASK, value)
    if "sk_" in value:
        value = _API_KEY.sub(MASK, value)
    if "@" in value:
        value = _EMAIL.sub(MASK, _URL_PASSWORD.sub(rf"\1:{MASK}@", value))
    return value


def _redact(_logger: Any, _name: str, event: Any) -> Any:
    for key, value in event.items():
        if key in _OWN:
            continue
        if is_secret(key):
            event[key] = MASK
        elif not isinstance(value, int | float | None):
            event[key] = masked(value)
    return event


def _redact_error(_logger: Any, _name: str, event: Any) -> Any:
    """A traceback's text without the values that a failed statement was run with."""
    text = event.get("exception")
    if isinstance(text, str):
        event["exception"] = _masked_text(_BOUND_VALUES.sub(f"[{MASK}]", text))
    return event


def _json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def configure(*, level: str = "info", console: bool = False) -> None:
    """Set up the process's logs: level ``debug`` to ``error``, JSON or console lines."""
    number = logging.getLevelNamesMapping()[level.upper()]
    # Never with local variables: they hold what the masks cannot find.
    renderer: Any = (
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        )
        if console
        else structlog.processors.JSONRenderer(serializer=_json)
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact,
        structlog.processors.format_exc_info,
        _redact_error,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    _configure_standard(shared, renderer, number)


def _configure_standard(shared: list[Any], renderer: Any, number: int) -> None:
    """Loggers of libraries: warnings and worse, in the same form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for each in list(root.handlers):
        if isinstance(each.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(each)
    root.addHandler(handler)
    root.setLevel(max(number, logging.WARNING))
