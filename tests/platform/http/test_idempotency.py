"""The same request twice has one effect and one answer."""

from __future__ import annotations

import asyncio
import time

from shelf import KEYS, Shelf

from subledger.platform.db import story

_EXPIRE = story("tests.expire_keys")


async def test_a_repeat_answers_the_same_and_does_nothing(shelf: Shelf) -> None:
    first = await shelf.put("Solaris", idempotency_key="k-1", amount_minor=1000)
    again = await shelf.put("Solaris", idempotency_key="k-1", amount_minor="1000")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert await shelf.titles() == ["Solaris"]


async def test_without_a_key_every_request_counts(shelf: Shelf) -> None:
    for _ in range(2):
        answer = await shelf.ask("POST", "/v1/books", json={"title": "Solaris"})
        assert answer.status_code == 201

    assert await shelf.titles() == ["Solaris", "Solaris"]


async def test_a_key_reused_with_other_input_is_refused(shelf: Shelf) -> None:
    await shelf.put("Solaris", idempotency_key="k-1")
    other = await shelf.put("Stalker", idempotency_key="k-1")

    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await shelf.titles() == ["Solaris"]


async def test_principals_have_keys_of_their_own(shelf: Shelf) -> None:
    for key in ("admin", "admin2", "other"):
        answer = await shelf.put(f"By {key}", idempotency_key="k-1", key=key)
        assert answer.status_code == 201, answer.text

    assert await shelf.titles() == ["By admin", "By admin2"]
    assert len({each.id for each in shelf.ring.principals.values()}) == 4


async def test_what_was_refused_does_not_use_up_its_key(shelf: Shelf) -> None:
    for title, status in (("refused", 409), ("core", 422), ("broken", 500), ("", 422)):
        answer = await shelf.put(title, idempotency_key="k-1")
        assert answer.status_code == status, answer.text

    answer = await shelf.put("Solaris", idempotency_key="k-1")

    assert answer.status_code == 201
    assert await shelf.titles() == ["Solaris"]


async def test_a_duplicate_of_a_running_request_waits_two_seconds(shelf: Shelf) -> None:
    first = asyncio.create_task(shelf.put("slow", idempotency_key="k-1"))
    await asyncio.wait_for(shelf.held.wait(), 5)
    started = time.monotonic()

    twin = await shelf.put("slow", idempotency_key="k-1")

    waited_s = time.monotonic() - started
    assert (twin.status_code, twin.json()["code"]) == (409, "idempotency_in_progress")
    assert twin.headers["retry-after"] == "1"
    assert 1.8 <= waited_s < 4
    shelf.hold.set()
    assert (await first).status_code == 201
    later = await shelf.put("slow", idempotency_key="k-1")
    assert (later.status_code, later.json()) == (201, first.result().json())
    assert await shelf.titles() == ["slow"]


async def test_a_duplicate_gets_the_answer_of_the_first_when_it_ends_in_time(shelf: Shelf) -> None:
    first = asyncio.create_task(shelf.put("slow", idempotency_key="k-1"))
    await asyncio.wait_for(shelf.held.wait(), 5)
    twin = asyncio.create_task(shelf.put("slow", idempotency_key="k-1"))
    await asyncio.sleep(0.3)
    shelf.hold.set()

    assert (await twin).json() == (await first).json()
    assert twin.result().headers["idempotent-replayed"] == "true"
    assert await shelf.titles() == ["slow"]


async def test_twenty_at_once_make_one(shelf: Shelf) -> None:
    answers = await asyncio.gather(
        *(shelf.put("Solaris", idempotency_key="k-1") for _ in range(20))
    )

    assert {each.status_code for each in answers} == {201}
    assert len({each.json()["id"] for each in answers}) == 1
    assert sum("idempotent-replayed" not in each.headers for each in answers) == 1
    assert await shelf.titles() == ["Solaris"]


async def test_the_longest_key_and_a_key_too_long(shelf: Shelf) -> None:
    longest = await shelf.put("Solaris", idempotency_key="k" * 255)
    assert longest.status_code == 201
    for bad in ("k" * 300, "k" * 256, "with space", "k\tk"):
        answer = await shelf.put("Stalker", idempotency_key=bad)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key"), bad

    assert await shelf.titles() == ["Solaris"]


async def test_keys_are_forgotten_after_72_hours(
    shelf: Shelf, admin: object, module_database_url: str
) -> None:
    await shelf.put("Solaris", idempotency_key="old")
    await shelf.put("Stalker", idempotency_key="young")
    connection = await admin(module_database_url)  # type: ignore[operator]  # a fixture
    await connection.execute(
        "UPDATE identity.idempotency_keys SET created_at = created_at - CASE key"
        " WHEN 'old' THEN interval '73 hours' ELSE interval '71 hours' END WHERE tenant_id = $1",
        shelf.tenant_id,
    )
    await connection.close()

    async with shelf.database.transaction(_EXPIRE, tenants=[shelf.tenant_id]) as tx:
        forgotten = await KEYS.expire(tx, [shelf.tenant_id], 100)

    assert forgotten == 1
    assert (await shelf.put("Other", idempotency_key="old")).status_code == 201
    assert (await shelf.put("Other", idempotency_key="young")).status_code == 422
