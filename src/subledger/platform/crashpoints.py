"""Named places at which a process may die, so that dying there can be tested.

``CRASH_AT=name:2`` in the environment kills the process by SIGKILL the second time that it reaches
``name``; a simulation installs its own reaction instead. Without either, a point costs one
attribute read.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_points: dict[str, Crashpoint] = {}


class Crashed(BaseException):
    """The process is taken for dead (simulation only): nothing may catch this and go on."""


class Crashpoint:
    """One named place. ``hit()`` is called each time that the code passes it."""

    __slots__ = ("hits", "name")
    reaction: Callable[[Crashpoint], None] | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.hits = 0

    def hit(self) -> None:
        if Crashpoint.reaction is not None:
            self.hits += 1
            Crashpoint.reaction(self)


def point(name: str) -> Crashpoint:
    """Declare the place ``name`` (``service.story.place``); each name is declared once."""
    assert name not in _points, f"crash point {name} is declared twice"
    _points[name] = Crashpoint(name)
    return _points[name]


def names() -> list[str]:
    """Every place declared by the modules imported so far, sorted."""
    return sorted(_points)


def install(reaction: Callable[[Crashpoint], None] | None) -> None:
    """Replace what happens when a point is passed (None: nothing) and start the counts anew."""
    for each in _points.values():
        each.hits = 0
    Crashpoint.reaction = reaction


def install_from_environment() -> None:
    """Arm the place named by ``CRASH_AT=name:n``. Raises ValueError for an unknown name."""
    wanted = os.environ.get("CRASH_AT")
    if not wanted:
        return
    name, _, count = wanted.rpartition(":")
    if name not in _points:
        raise ValueError(f"CRASH_AT names no crash point: {name!r} (subledger crashpoints --list)")
    nth = int(count)

    def die(reached: Crashpoint) -> None:
        if reached.name == name and reached.hits == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    install(die)
