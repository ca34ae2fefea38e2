"""Where a payer may be sent: the origin of a web address, and whether a merchant allowed it."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

MOST_ADDRESS: Final = 2_000
_PORTS: Final = {"http": 80, "https": 443}
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST: Final = re.compile(r"(?!-)[a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\]")
# What a browser reads otherwise than a parser does: `\` is `/` to it, and it drops control signs.
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")


def origin(address: str) -> str:
    """The origin of an address of http or https: ``https://shop.example:8443``, lower case, a usual
    port left out. Raises ValueError for anything else, for one with a user's name or a password,
    and for one that browsers read in another way."""
    if len(address) > MOST_ADDRESS or _UNSAFE.search(address):
        raise ValueError("an address has no blanks, no backslashes, and at most 2000 characters")
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ValueError("this is no web address") from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not parts.hostname or not address[len(scheme) :].startswith("://"):
        raise ValueError("an address begins with https:// or http:// and names a host")
    if "@" in parts.netloc:
        raise ValueError("an address names no user")
    host = parts.hostname.lower()
    host = f"[{host}]" if ":" in host else host
    if not _HOST.fullmatch(host):
        raise ValueError("a host is written in ASCII (an international one as xn--…)")
    return f"{scheme}://{host}" + ("" if port in {None, _PORTS[scheme]} else f":{port}")


def is_local(given: str) -> bool:
    """True if the origin is on the payer's own machine, whatever its port."""
    host = given.partition("://")[2]
    return re.sub(r":[0-9]+$", "", host) in _LOCAL


def permits(address: str, *, own: str, allowed: Collection[str], is_test: bool) -> bool:
    """Whether a payer may be sent to ``address``: to our own origin, to one that the merchant
    listed, and from a test tenant to the developer's own machine. What is no address never."""
    try:
        given = origin(address)
    except ValueError:
        return False
    return given == own or given in allowed or (is_test and is_local(given))
