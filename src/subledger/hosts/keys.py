"""Keys derived from the installation's secret key."""

from __future__ import annotations

import base64
import hashlib
import hmac


def fernet_key(secret_key: str) -> str:
    """The key under which secrets are encrypted at rest when no other is configured."""
    digest = hmac.new(secret_key.encode(), b"encryption", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode()


def page_secret(secret_key: str) -> bytes:
    """The key of the addresses of payers' pages."""
    return hmac.new(secret_key.encode(), b"payers' pages", hashlib.sha256).digest()
