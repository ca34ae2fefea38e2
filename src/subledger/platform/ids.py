"""Ids: UUIDv7 inside, TypeID text outside (``sub_01h455vb4pex5vsknk084sn02q``).

UUIDv7 is RFC 9562 section 5.7: 48 bits of wall-clock milliseconds, then random bits. Nothing in
Subledger sorts business facts by id; the time part only keeps indexes dense.
TypeID text is the 26-character Crockford base32 of the 128 bits behind a lower-case prefix
(TypeID specification 0.3).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from functools import lru_cache
from uuid import UUID

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_TEXT_LENGTH = 26
_ENTROPY = 8 * 512
"""Bytes drawn at once: a system call for each id would be a tenth of the work of an event."""


class Ids:
    """Makes new UUIDv7 ids, increasing within one process and millisecond.

    A simulation passes its own ``entropy`` (n bytes) and ``clock_ms`` so that ids come from a seed.
    """

    def __init__(
        self,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._entropy = entropy
        self._clock_ms = clock_ms
        self._last_ms = 0
        self._counter = 0
        self._drawn = b""
        self._used = 0

    @classmethod
    def seeded(cls, seed: int) -> Ids:
        """Ids drawn from ``seed`` alone: the same seed gives the same ids in the same order."""
        source = random.Random(seed)
        ticks = iter(range(1_700_000_000_000, 1 << 47))
        return cls(entropy=source.randbytes, clock_ms=lambda: next(ticks))

    def new(self) -> UUID:
        """A new id. Twelve bits of counter order ids made within the same millisecond."""
        now_ms = self._clock_ms()
        if now_ms <= self._last_ms:
            self._counter += 1
            if self._counter >> 12:
                self._last_ms += 1
                self._counter = 0
        else:
            self._last_ms = now_ms
            self._counter = 0
        if self._used == len(self._drawn):
            self._drawn, self._used = self._entropy(_ENTROPY), 0
        tail = int.from_bytes(self._drawn[self._used : self._used + 8], "big") >> 2
        self._used += 8
        value = self._last_ms << 80 | 0x7 << 76 | self._counter << 64 | 0b10 << 62 | tail
        return UUID(int=value)


@lru_cache(maxsize=200_000)
def text(prefix: str, value: UUID) -> str:
    """The public form of an id: ``prefix_`` and 26 characters."""
    number = value.int
    pairs = [_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)]
    return f"{prefix}_{''.join(pairs)}"


class InvalidId(ValueError):
    """The text is not an id of the wanted kind."""


@lru_cache(maxsize=200_000)
def parse(prefix: str, value: str) -> UUID:
    """Read a public id back. Raises InvalidId for another prefix, length, letter or overflow."""
    head, _, tail = value.rpartition("_")
    if head != prefix or len(tail) != _TEXT_LENGTH or tail[0] > "7":
        raise InvalidId(f"expected an id like {prefix}_ and 26 characters")
    number = 0
    for letter in tail:
        digit = _VALUES.get(letter)
        if digit is None:
            raise InvalidId(f"{letter!r} cannot be part of an id")
        number = number << 5 | digit
    return UUID(int=number)
