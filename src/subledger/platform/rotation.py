"""Encrypting anew what is kept encrypted, after a new key came first in the settings."""

from __future__ import annotations

from typing import TypeVar

from cryptography.fernet import InvalidToken, MultiFernet

Sealed = TypeVar("Sealed", bytes, bytes | None)


def rotated(fernet: MultiFernet, *sealed: Sealed) -> list[Sealed] | None:
    """The ciphertexts of one row, encrypted with the newest key (None stays None); None if one of
    them is opened by no key: then the row is left as it is, for a key that may come back."""
    try:
        return [None if each is None else fernet.rotate(bytes(each)) for each in sealed]
    except InvalidToken:
        return None
