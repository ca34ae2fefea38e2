"""The API describes itself: every operation, every problem, without a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

import subledger
from subledger.hosts import assembly, reference
from subledger.hosts.openapi import METHODS
from subledger.platform import migrate
from subledger.platform.http import problems

NOWHERE = "postgresql+asyncpg://nobody:x@127.0.0.1:1/none"
PROBLEM = {"$ref": "#/components/schemas/Problem"}


@pytest.fixture(scope="module")
async def pages() -> dict[str, Any]:
    """What the whole installation's gateway shows of itself; no connection is opened."""
    options = assembly.Options(
        url_of=lambda name: migrate.service_url(NOWHERE, name, "k"), secret_key="k"
    )
    assembled = assembly.assemble(options)
    transport = httpx.ASGITransport(app=assembled.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        shown: dict[str, Any] = {
            path: await client.get(path) for path in ("/openapi.json", "/docs", "/docs/problems")
        }
    await assembled.close()
    return shown


def _operations(pages: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    document = pages["/openapi.json"].json()
    return [
        (method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in METHODS
    ]


async def test_every_operation_is_described_with_examples(pages: dict[str, Any]) -> None:
    operations = _operations(pages)
    assert len(operations) > 40
    for method, path, operation in operations:
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["tags"], where
        assert operation["operationId"], where
        holders = [operation.get("requestBody", {}), *operation["responses"].values()]
        for holder in holders:
            for kind, content in holder.get("content", {}).items():
                if kind == "application/json":
                    assert content.get("example") or content.get("examples"), where


async def test_errors_are_problems_and_posts_take_keys(pages: dict[str, Any]) -> None:
    for method, path, operation in _operations(pages):
        where = f"{method} {path}"
        for status, response in operation["responses"].items():
            if status[0] in "45d":
                assert set(response["content"]) == {problems.MEDIA_TYPE}, where
                assert response["content"][problems.MEDIA_TYPE]["schema"] == PROBLEM, where
        assert {"401", "default"} <= set(operation["responses"]), where
        headers = (
            [each["name"] for each in operation["parameters"] if each["in"] == "header"]
            if ("parameters" in operation)
            else []
        )
        assert ("Idempotency-Key" in headers) == (method == "post"), where


async def test_an_operation_keeps_the_codes_of_its_service(pages: dict[str, Any]) -> None:
    document = pages["/openapi.json"].json()
    responses = document["paths"]["/v1/subscriptions"]["post"]["responses"]
    refused = responses["422"]["content"][problems.MEDIA_TYPE]["examples"]

    assert set(refused) >= {
        "invalid_request",
        "idempotency_key_reused",
        "price_missing_for_currency",
    }


async def test_operation_ids_are_unique(pages: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in _operations(pages)]

    assert sorted(names) == sorted(set(names))


async def test_the_pages_need_nothing_from_outside(pages: dict[str, Any]) -> None:
    for path in ("/docs", "/docs/problems"):
        answer = pages[path]
        assert answer.status_code == 200
        assert re.findall(r"(?:src|href)=['\"](?!/|#)", answer.text) == []
        assert not re.search(r"<script|@import|url\(", answer.text)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    text = pages["/docs"].text
    for _, path, operation in _operations(pages):
        assert f'id="{operation["operationId"]}"' in text, path
    assert not re.search(r'curl[^<]*"\$SUBLEDGER[^"&]*\{', text)
    for each in problems.kinds():
        assert f'id="{each.code}"' in pages["/docs/problems"].text


async def test_the_list_of_problems_is_complete(pages: dict[str, Any]) -> None:
    """``python -m subledger.hosts.reference > docs/problems.md`` writes it anew."""
    written = Path(subledger.__file__).parents[2] / "docs/problems.md"

    assert written.read_text() == reference.problems_markdown()
