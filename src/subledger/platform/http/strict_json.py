"""JSON that two readers cannot read in two ways, checked before a route sees it.

RFC 8259 leaves open what duplicate keys, huge numbers and lone surrogates mean, and Python's
reader takes NaN; all of them are refused (I-JSON, RFC 7493, and stricter about numbers).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from subledger.platform.http.problems import Problem, pointer_of

DEEPEST = 64
MOST_DIGITS = 38

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.S)


def check_json(body: bytes) -> None:
    """Raise invalid_json, saying what and where, for broken UTF-8 or JSON, duplicate keys, NaN,
    Infinity, NUL characters, lone surrogates, numbers of more than 38 digits or beyond a double,
    and nesting of more than 64 levels."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(f"Byte {error.start} is not UTF-8.") from None
    # Only a text with so many brackets can be so deep; the reader below recurses.
    if text.count("[") + text.count("{") > DEEPEST:
        _check_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_fraction,
        )
    except json.JSONDecodeError as error:
        raise _refused(f"{error.msg} at line {error.lineno}, column {error.colno}.") from None
    if "\\u" in text:
        _check_texts(value, "")


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        letter = text[token.start()]
        if letter in "[{":
            depth += 1
            if depth > DEEPEST:
                where = f"character {token.start() + 1}"
                raise _refused(f"It is nested more than {DEEPEST} levels deep at {where}.")
        elif letter != '"':
            depth -= 1


def _check_texts(value: Any, pointer: str) -> None:
    """PostgreSQL cannot keep NUL in a text, and a lone surrogate is no character."""
    if isinstance(value, str):
        if "\0" in value:
            raise _refused("A text holds a NUL character.", pointer)
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise _refused("A text holds half of a surrogate pair.", pointer)
    elif isinstance(value, dict):
        for key, each in value.items():
            _check_texts(key, pointer)
            _check_texts(each, pointer + pointer_of([key]))
    elif isinstance(value, list):
        for n, each in enumerate(value):
            _check_texts(each, f"{pointer}/{n}")


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise _refused(f"The number {text[:12]}… has more than {MOST_DIGITS} digits.")
    return int(text)


def _fraction(text: str) -> float:
    number = float(text)
    if len(text) > MOST_DIGITS + 2 or not math.isfinite(number):
        raise _refused(f"The number {text[:12]}… is out of range; send long numbers as text.")
    return number


def _constant(name: str) -> float:
    raise _refused(f"{name} is not JSON.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _refused(f"The key {name[:80]!a} stands twice in one object.")
            seen.add(name)
    return found


def _refused(detail: str, pointer: str = "") -> Problem:
    return Problem("invalid_json", detail=detail, pointer=pointer)
