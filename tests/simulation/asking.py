"""Requests of a simulated shop: sent again until they are answered, every outcome written down."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx

from subledger.platform import ids
from tests.simulation.life import Died, Life
from tests.simulation.people import Person, Request

OK = "ok"
LATER = frozenset({"customer_not_ready", "idempotency_in_progress"})
"""What is asked again with the same key."""


class Asking(ABC):
    """A seed's shop as far as it speaks to the API."""

    def __init__(self, *, seed: int, life: Life) -> None:
        self.seed = seed
        self.draw = random.Random(seed)
        self.life = life
        self.trace: list[tuple[str, int]] = []
        """What was done and how much it did; of a request, its status; of a death, which one."""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """How often each operation (with its variant) was answered how: ``ok`` or a problem's
        code."""
        self.people: list[Person] = []
        self.asked: set[str] = set()
        """The operations that were asked for, for nobody in particular."""
        self.tenant_id: UUID
        self.key = ""
        self._asked = 0
        self._waiting: list[Request] = []

    # --- what operations use ---------------------------------------------------------------------

    async def ask(
        self, what: str, who: Person | None, path: str, body: Any, *, how: str = "",
        method: str = "POST",
    ) -> None:  # fmt: skip
        """Send it, and until it is answered again and again. Raises Died."""
        self._asked += 1
        key = f"{self.seed}-{self._asked}"
        request = Request(what, how, who, method, path, body, key)
        (self.asked if who is None else who.asked).add(request.name)
        self._waiting.append(request)
        await self.send(request)

    def waits(self, what: str, who: Person | None = None) -> bool:
        """Whether such a request is not answered yet."""
        return any(each.what == what and each.who is who for each in self._waiting)

    def nothing(self, what: str) -> None:
        """The operation has nothing to act on."""
        self.trace.append((f"nothing to {what}", 0))

    async def now(self) -> datetime:
        """The tenant's clock."""
        return datetime.fromisoformat((await self.get("/v1/clock"))["now_at"])

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.raw("GET", path, params=query)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def get_all(self, path: str, **query: Any) -> list[Any]:
        """Every page of a list."""
        found: list[Any] = []
        while True:
            page = await self.get(path, limit=100, **query)
            found += page["data"]
            if not page["has_more"]:
                return found
            query["cursor"] = page["next_cursor"]

    async def must(self, path: str, *, expect: int = 201, method: str = "POST", **body: Any) -> Any:
        """A request that is no part of what is drawn."""
        answer = await self.raw(method, path, json=body)
        assert answer.status_code == expect, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    # --- sending ---------------------------------------------------------------------------------

    async def send(self, request: Request) -> None:
        """Raises Died, and then the request waits to be sent again."""
        answer = await self.raw(
            request.method, request.path, json=request.body or {}, key=request.key
        )
        said = self.heard(request.name, answer)
        code = said.get("code", OK) if answer.status_code >= 400 else OK
        if code in LATER:
            return
        self._waiting.remove(request)
        self.outcomes[request.name, code] += 1
        self.answered(request, answer.status_code, said)

    @abstractmethod
    def answered(self, request: Request, status: int, said: Any) -> None:
        """Remember what a request has made."""

    def heard(self, what: str, answer: httpx.Response) -> Any:
        """Write an answer down. Raises AssertionError for one that never should be given, and Died
        for one that is none: the database hung up, and the request may be sent again."""
        self.trace.append((what, answer.status_code))
        if self.life.excuses(answer):
            raise Died("the database hung up")
        assert answer.status_code < 500, f"{what}: {answer.status_code} {answer.text}"
        kind = answer.headers.get("content-type", "").partition(";")[0]
        return answer.json() if answer.content and kind.endswith("json") else {}

    async def raw(
        self, method: str, path: str, *, key: str | None = None, **given: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}", "prefer": "wait=0"}
        if key is not None:
            headers["idempotency-key"] = key
        return await self.life.lives(self.life.http.request(method, path, headers=headers, **given))

    def person(self, customer_id: str) -> Person:
        """Whose id it is."""
        return next(each for each in self.people if each.id == customer_id)

    def subject(self, who: Person) -> UUID:
        """The customer's id as events name it."""
        return ids.parse("cus", who.id)
