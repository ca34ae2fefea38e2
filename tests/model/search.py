"""A breadth-first search of a model, and what has to hold in every state that it reaches.

A model yields moves: those of the system once nothing is in its way any more (``heals``), and
those of its surroundings (faults, payers, people). What has to hold:

- ``wrong`` finds nothing in any state;
- the healing moves go round in no circle, so that every fair path ends, whatever happened before;
- where they end ``unsettled`` finds nothing: no money that is not known, nothing that waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)


class Move(NamedTuple, Generic[S]):
    """One thing that may happen."""

    name: str
    heals: bool
    to: S


class Model(Protocol[S]):
    """What is searched."""

    def start(self) -> S:
        """The first state."""
        ...

    def moves(self, state: S) -> Iterator[Move[S]]:
        """All that may happen in a state."""
        ...

    def wrong(self, state: S) -> str | None:
        """What must never be, or None."""
        ...

    def unsettled(self, state: S) -> str | None:
        """What must not be left once everything has healed, or None."""
        ...


class Broken(AssertionError):
    """The model reaches what must not be; the message tells the way there."""


@dataclass(frozen=True)
class Found:
    """How much was searched."""

    states: int
    transitions: int
    settled: int
    longest: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.states:,} states, {self.transitions:,} transitions, {self.settled:,} settled"
            f" states, healed within {self.longest} moves, {self.seconds:.1f} s"
        )


def explore(model: Model[S], *, most: int = 5_000_000) -> Found:
    """Every reachable state. Raises Broken with the shortest way to what is wrong."""
    began = time.perf_counter()
    first = model.start()
    number: dict[S, int] = {first: 0}
    came: list[tuple[int, str]] = [(-1, "")]
    healing: list[list[int]] = []
    ends: dict[int, str | None] = {}
    waiting, transitions = deque([first]), 0
    while waiting:
        state = waiting.popleft()
        mine = number[state]
        wrong = model.wrong(state)
        if wrong is not None:
            raise Broken(f"{wrong}, by: {_way(came, mine)}; {state}")
        heals: list[int] = []
        for name, helps, to in model.moves(state):
            transitions += 1
            there = number.get(to)
            if there is None:
                there = number[to] = len(came)
                came.append((mine, name))
                waiting.append(to)
                assert there < most, "more states than can be searched"
            if helps:
                heals.append(there)
        healing.append(heals)
        if not heals:
            ends[mine] = model.unsettled(state)
            if ends[mine] is not None:
                raise Broken(f"{ends[mine]} in the end, by: {_way(came, mine)}; {state}")
    longest = _longest(healing, came)
    return Found(len(came), transitions, len(ends), longest, time.perf_counter() - began)


def _way(came: list[tuple[int, str]], at: int) -> str:
    names: list[str] = []
    while came[at][0] >= 0:
        at, name = came[at]
        names.append(name)
    return " > ".join(reversed(names))


def _longest(healing: list[list[int]], came: list[tuple[int, str]]) -> int:
    """The longest healing path. Raises Broken if there is a circle."""
    height = [-1] * len(healing)
    open_ = bytearray(len(healing))
    for root in range(len(healing)):
        stack = [root] if height[root] < 0 else []
        while stack:
            at = stack[-1]
            if height[at] >= 0:
                stack.pop()
                continue
            open_[at] = 1
            below = [each for each in healing[at] if height[each] < 0]
            if below:
                if any(open_[each] for each in below):
                    raise Broken(f"it may heal for ever, by: {_way(came, at)}")
                stack.append(below[0])
                continue
            height[at] = max((height[each] + 1 for each in healing[at]), default=0)
            open_[at] = 0
            stack.pop()
    return max(height)
