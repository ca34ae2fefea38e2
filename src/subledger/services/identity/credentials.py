"""API keys as text: how they are made, recognised and remembered.

``sk_live_`` or ``sk_test_`` shows the tenant's mode; 43 letters and digits follow (256 random
bits). Only the SHA-256 is stored: with so many random bits a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from dataclasses import dataclass

PREFIXES = {"live": "sk_live_", "sandbox": "sk_test_"}
_LETTERS = string.digits + string.ascii_letters
_LENGTH = 43


@dataclass(frozen=True, slots=True)
class Credential:
    """A new key: the text to show once, and what is kept of it."""

    text: str
    digest: bytes
    last_four: str

    def __repr__(self) -> str:
        return f"Credential(…{self.last_four})"


def create(mode: str) -> Credential:
    """A new key for a tenant of this mode (``live`` or ``sandbox``)."""
    tail = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
    text = PREFIXES[mode] + tail
    return Credential(text=text, digest=digest_of(text), last_four=text[-4:])


def digest_of(text: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(text.encode()).digest()


def mode_of(text: str) -> str | None:
    """The mode that the key claims by its prefix; None if it cannot be a key at all."""
    for mode, prefix in PREFIXES.items():
        if text.startswith(prefix):
            tail = text[len(prefix) :]
            return mode if len(tail) == _LENGTH and tail.isascii() and tail.isalnum() else None
    return None
