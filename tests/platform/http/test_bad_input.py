"""Input that nobody should send: each a clear problem, and nothing happened."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from shelf import Shelf

DEEP = b'{"title":' + b"[" * 1000 + b"]" * 1000 + b"}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"title":"a","title":"b"}', "stands twice"),
        (b'{"title":"a","authors":[{"name":"a","name":"b"}]}', "stands twice"),
        (b'{"title":NaN}', "NaN"),
        (b'{"title":"a","amount_minor":Infinity}', "Infinity"),
        (b'{"title":"a","amount_minor":-Infinity}', "-Infinity"),
        (b'{"title":"a","amount_minor":1e999}', "out of range"),
        (b'{"title":"a","amount_minor":' + b"9" * 39 + b"}", "38 digits"),
        (b'{"title":"a\\u0000b"}', "NUL"),
        (b'{"title":"a\x00b"}', "control character"),
        (b'{"title":"\\ud800"}', "surrogate"),
        (b'{"title":"\xff"}', "not UTF-8"),
        (DEEP, "64 levels"),
        (b"[" * 100_000, "64 levels"),
        (b'{"title":', "line 1, column 10"),
        (b"title=a", "line 1"),
        (b"\xef\xbb\xbf{}", ""),
    ],
)
async def test_json_that_can_be_read_two_ways_is_refused(
    shelf: Shelf, body: bytes, said: str
) -> None:
    answer = await shelf.raw(body)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (400, "invalid_json"), problem
    assert said in problem["detail"]
    assert await shelf.titles() == []


async def test_a_text_may_speak_of_nul_and_hold_brackets(shelf: Shelf) -> None:
    title = "\\u0000 " + "[" * 100
    answer = await shelf.raw(json.dumps({"title": title}).encode())

    assert (answer.status_code, answer.json()["title"]) == (201, title)


async def test_a_pointer_leads_to_the_nul(shelf: Shelf) -> None:
    answer = await shelf.raw(b'{"title":"a","authors":[{"name":"b"},{"name":"\\u0000"}]}')

    assert answer.json()["pointer"] == "/authors/1/name"


async def test_checking_a_hostile_mebibyte_is_quick(shelf: Shelf) -> None:
    pairs = b",".join(b'"%d":1' % n for n in range(90_000))
    hostile = [
        b"{" + pairs + b',"7":1}',
        b'"' * 1_000_000,
        b'"' + b"\\" * 1_000_000,
        b"[" * 64 * 99,
    ]
    for body in hostile:
        started = time.perf_counter()
        assert (await shelf.raw(body)).status_code == 400
        assert time.perf_counter() - started < 1


async def test_ten_megabytes_are_not_read(shelf: Shelf) -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(160):
            given += 65_536
            yield b" " * 65_536

    declared = await shelf.raw(b" " * 10_000_000)
    streamed = await shelf.ask(
        "POST", "/v1/books", content=endless(), headers={"content-type": "application/json"}
    )

    for answer in (declared, streamed):
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"
    assert given <= 1_048_576 + 2 * 65_536


async def test_a_body_that_is_not_json_is_refused(shelf: Shelf) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await shelf.raw(b'{"title":"a"}', **{"content-type": kind})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")

    charset = await shelf.raw(b'{"title":"a"}', **{"content-type": "Application/JSON; charset=x"})
    assert charset.status_code == 201


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("surprise", 1),
        ("currency", "eur"),
        ("currency", "EUX"),
        ("timezone", "Mars"),
        ("timezone", "../etc/passwd"),
        ("amount_minor", "10.00"),
        ("amount_minor", 10.5),
        ("amount_minor", 1e3),
        ("amount_minor", "1e3"),
        ("amount_minor", True),
        ("amount_minor", 10**16),
        ("amount_minor", str(10**16)),
        ("amount_minor", "٣"),
        ("amount_minor", " 1"),
        ("amount_minor", "NaN"),
        ("amount_minor", [1]),
        ("price_minor", 0),
        ("quantity", "NaN"),
        ("quantity", "Infinity"),
        ("quantity", "1_000"),
        ("quantity", 1.5),
        ("quantity", "9" * 39),
        ("email", "a\rb@example.com"),
        ("email", "a\u0085b@example.com"),
        ("email", "a b@example.com"),
        ("email", "a\u2003b@example.com"),
        ("email", "nobody"),
        ("external_id", " "),
        ("external_id", "x" * 201),
        ("printed_at", "2026-03-01T00:00:00"),
        ("printed_at", "2026-02-30T00:00:00Z"),
        ("printed_at", "0001-01-01T00:00:00+14:00"),
        ("printed_at", "20260301T000000Z"),
        ("printed_at", 1700000000),
        ("pages", True),
        ("pages", "3"),
        ("pages", 3.0),
        ("bound", "yes"),
        ("bound", 1),
        ("previous_id", "inv_01h455vb4pex5vsknk084sn02q"),
        ("previous_id", "book_8zzzzzzzzzzzzzzzzzzzzzzzzz"),
        ("previous_id", "01890a5d-ac96-774b-bcce-b302099a8057"),
    ],
)
async def test_a_bad_value_is_named_by_its_pointer(shelf: Shelf, field: str, value: Any) -> None:
    answer = await shelf.put("Solaris", idempotency_key="k", **{field: value})

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_request"), problem
    assert problem["pointer"] == f"/{field}"
    assert problem["detail"]
    assert problem["fix"]
    assert await shelf.titles() == []


async def test_all_findings_are_told_and_unions_leave_no_trace(shelf: Shelf) -> None:
    answer = await shelf.ask(
        "POST", "/v1/books", json={"authors": [{"name": "a"}, {"name": ""}], "a/b~c": 1}
    )

    pointers = [each["pointer"] for each in answer.json()["errors"]]
    assert sorted(set(pointers)) == ["/authors/1", "/authors/1/name", "/a~1b~0c", "/title"]


@pytest.mark.parametrize(
    ("address", "status", "pointer"),
    [
        ("/v1/books?limit=0", 422, "/query/limit"),
        ("/v1/books?limit=101", 422, "/query/limit"),
        ("/v1/books?limit=x", 422, "/query/limit"),
        ("/v1/books?cursor=!!!", 422, "/query/cursor"),
        ("/v1/books?cursor=eyJhIjoxfQ", 422, "/query/cursor"),
        ("/v1/books?cursor=%00", 422, None),
        ("/v1/books?limit=5&title=x", 422, "/query/title"),
        ("/v1/books?Limit=5", 422, "/query/Limit"),
        ("/v1/books?a/b=", 422, "/query/a~1b"),
        ("/v1/books/book_01h455vb4pex5vsknk084sn02q?expand=all", 422, "/query/expand"),
        ("/v1/books/%00", 422, None),
        ("/v1/books/book_nonsense", 404, None),
        ("/v1/books/book_01h455vb4pex5vsknk084sn02q", 404, None),
        ("/v1/books/book_01h455vb4pex5vsknk084sn02q/", 404, None),
        ("/v1/nothing", 404, None),
        ("/", 404, None),
    ],
)
async def test_a_bad_address(shelf: Shelf, address: str, status: int, pointer: str | None) -> None:
    answer = await shelf.ask("GET", address)

    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem.get("pointer")) == (
        status,
        status,
        pointer,
    ), problem
