"""What providers answered, word for word, for whoever wants to keep it.

The engine tells; a caller that listens gets the answers of the calls made in its own task. Nothing
is masked or copied before somebody decides to keep it: most answers are thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import msgspec

from subledger.platform.telemetry.logs import masked

MOST_HEARD = 5
MOST_KEPT_BYTES = 4096
CUT = "(cut)"


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer. ``status`` is None if none came; ``data`` is None if it was no JSON object."""

    operation: str
    status: int | None = None
    data: Mapping[str, Any] | None = None
    note: str | None = None

    def kept(self) -> str | None:
        """The answer as JSON text, secrets and personal fields masked, at most 4 KiB: what is
        longer loses its longest fields."""
        if self.data is None:
            return None
        shown = dict(masked(self.data))
        text = msgspec.json.encode(shown)
        for name in sorted(shown, key=lambda each: -len(msgspec.json.encode(shown[each]))):
            if len(text) <= MOST_KEPT_BYTES:
                break
            shown[name] = CUT
            text = msgspec.json.encode(shown)
        return text.decode() if len(text) <= MOST_KEPT_BYTES else f'"{CUT}"'


_listening: ContextVar[list[Heard] | None] = ContextVar("listening", default=None)


@contextmanager
def hearing() -> Iterator[list[Heard]]:
    """The answers of the calls that are made inside, oldest first."""
    answers: list[Heard] = []
    before = _listening.set(answers)
    try:
        yield answers
    finally:
        _listening.reset(before)


def tell(heard: Heard) -> None:
    """Note an answer for the task's listener, if there is one."""
    answers = _listening.get()
    if answers is not None and len(answers) < MOST_HEARD:
        answers.append(heard)
