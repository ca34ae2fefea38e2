"""A payer's browser at the installation's own pages: no key, only an address."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.stories.shop import Shop


async def visit(
    shop: Shop, address: str, *, method: str = "GET", data: Any = None, **headers: str
) -> httpx.Response:
    """What a browser is shown there, while the process's steps run."""
    asked = browse(shop, address, method=method, data=data, **headers)
    return await shop.pump.during(asked, reads=method == "GET")


async def browse(
    shop: Shop, address: str, *, method: str = "GET", data: Any = None, **headers: str
) -> httpx.Response:
    """The same while no step runs."""
    parts = urlsplit(address)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(shop.assembly.app), base_url="http://shop.test", timeout=60
    ) as browser:
        return await browser.request(
            method, path, data=data, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )


async def told(shop: Shop, address: str) -> Any:
    """The same page as data."""
    answer = await visit(shop, address, accept="application/json")
    return answer.json()


def heading(page: httpx.Response) -> str:
    found = re.search(r"<h1>(.*?)</h1>", page.text)
    assert found is not None, page.text
    return found[1]
