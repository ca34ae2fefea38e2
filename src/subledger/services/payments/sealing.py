"""Credentials at rest: sealed with the installation's newest key, opened with any of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography.fernet import MultiFernet
from sqlalchemy import Row

from subledger.platform import ids
from subledger.providers import port

SHOWN_FROM = 12
"""A shorter secret shows nothing of itself; a longer one its last four characters."""


def seal(fernet: MultiFernet, credentials: Mapping[str, str]) -> tuple[bytes, bytes]:
    """All fields as one ciphertext, and the webhook secret as one of its own."""
    secret = credentials.get("webhook_secret", "")
    return (
        fernet.encrypt(msgspec.json.encode(dict(credentials))),
        fernet.encrypt(secret.encode()),
    )


def shown(credentials: Mapping[str, str]) -> dict[str, str]:
    """What may be told of credentials: the last four characters of each."""
    return {
        name: f"…{value[-4:]}" if len(value) >= SHOWN_FROM else "…"
        for name, value in credentials.items()
        if value
    }


def seal_mandate(fernet: MultiFernet, mandate: port.Mandate | None) -> bytes | None:
    """What a payer agreed to, as one ciphertext."""
    return None if mandate is None else fernet.encrypt(msgspec.json.encode(mandate))


def open_mandate(fernet: MultiFernet, sealed: bytes) -> port.Mandate:
    """A stored mandate. Raises InvalidToken if no key opens it any more."""
    return msgspec.json.decode(fernet.decrypt(sealed), type=port.Mandate)


def opened(fernet: MultiFernet, row: Row[Any]) -> port.Connection:
    """A stored connection with its secrets in the clear (never logged). The first release kept the
    API key alone. Raises InvalidToken if no key opens it any more."""
    text = fernet.decrypt(bytes(row.credentials_encrypted))
    secret = fernet.decrypt(bytes(row.webhook_secret_encrypted)).decode()
    credentials = (
        msgspec.json.decode(text, type=dict[str, str])
        if text.startswith(b"{")
        else {"api_key": text.decode(), "webhook_secret": secret}
    )
    return port.Connection(
        id=ids.text("conn", row.id),
        provider=row.provider,
        api_key=credentials.get("api_key", ""),
        webhook_secret=secret,
        credentials=credentials,
    )
