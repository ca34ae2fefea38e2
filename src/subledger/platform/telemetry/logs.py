"""Structured logs: one JSON object a line on standard error, secrets and personal data masked."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

import structlog

_SECRET = re.compile(
    r"authorization|password|secret|token|api_?key|card|pan|cvc|cvv|e-?mail|signature", re.I
)
_DIGITS = re.compile(r"\b\d{12,19}\b")
MASK = "***"


def masked(value: Any) -> Any:
    """A copy of plain data with secret and personal fields, and digits that could be a card's
    number, replaced. For logs and stored provider responses."""
    if isinstance(value, Mapping):
        return {
            str(key): MASK if _SECRET.search(str(key)) else masked(each)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(each) for each in value]
    if isinstance(value, str):
        return _DIGITS.sub(MASK, value)
    return value


def _redact(_logger: Any, _name: str, event: Any) -> Any:
    for key in event:
        if key not in {"event", "level", "timestamp"} and _SECRET.search(key):
            event[key] = MASK
    return event


def configure(*, level: str = "info", console: bool = False) -> None:
    """Set up structlog for the process: level ``debug`` to ``error``, JSON or console lines."""
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=False)
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redact,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
