"""What a service is to its host: routes, steps, due sources, what counts as unquiet, invariants.

A host asks nothing else of a service, so any set of services can share a process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import APIRouter

from subledger.platform.db import Database
from subledger.platform.eventlog.consumer import Consumer
from subledger.platform.http.middleware import App

StepFunction = Callable[[int], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of a worker's work: claim, do, commit, say how much (0: nothing to do).

    ``run(limit)`` takes at most ``limit`` units. Loops, sleeps and signals live in the hosts;
    no work exists only in memory. ``pause_s`` bounds how often an idle step is tried: housekeeping
    asks for long pauses, everything else is woken by commits.
    """

    name: str
    run: StepFunction
    limit: int = 500
    pause_s: float = 1.0
    types: frozenset[str] | None = None
    """Events, or work (``Tx.work``), of these types wake it. A step that names none is woken by
    the commits of its own service (its name's head) and of identity (a clock that was moved)."""
    by_clock: bool = False
    """Beside its types the commits of identity wake it: it follows the clocks themselves. (A moment
    that has come is work of its own kind, ``due_work``.)"""
    hears_all: bool = False
    """Every commit wakes it, and it never waits longer than 20 ms while ``hurry`` says so."""
    hurry: Callable[[], bool] | None = None
    tasks: int = 1
    """How many loops a process runs of it: claims keep them apart, as they do processes."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """A query that counts what keeps a tenant busy: ``:tenant`` and ``:now`` (its clock) in,
    one row per kind of work out, ``(what text, count bigint)``, count > 0.

    It runs as the role ``subledger_clock_mover`` under the tenant's own rows.
    """

    name: str
    query: str


@dataclass(frozen=True, slots=True)
class Invariant:
    """A query that must return no row, as the service's own role over the tenants given.

    It returns ``(tenant_id uuid, detail text)`` for every violation.
    """

    name: str
    query: str


@dataclass(frozen=True, slots=True)
class Service:
    """One service, built by its ``wiring.py`` from its dependencies."""

    name: str
    database: Database
    routers: Sequence[APIRouter] = ()
    ahead: Mapping[str, App] = field(default_factory=dict)
    """Plain ASGI applications by the prefix of their paths, answered ahead of all routes: for what
    comes too often for a framework. They take no API key and are not in the document."""
    consumers: Sequence[Consumer] = ()
    steps: Sequence[Step] = ()
    due: str | None = None
    """Schema of its due table, a due source of sandbox clocks."""
    quiet: Sequence[Quiet] = ()
    waits: Sequence[Quiet] = ()
    """Asked like ``quiet`` when a clock move ends: what waits for a person or a deadline. It does
    not hold the clock; it is listed in the move's result."""
    invariants: Sequence[Invariant] = ()
    attributes: Mapping[str, object] = field(default_factory=dict)
    """What its host wires into others: the local answers to the Protocols of ``contracts``."""

    def all_steps(self) -> list[Step]:
        """Consumers' steps first, then the service's own."""
        consumed = [
            Step(
                f"{each.group.name}.consume",
                each.step,
                types=frozenset(each.group.handlers),
                tasks=each.group.tasks,
            )
            for each in self.consumers
        ]
        return [*consumed, *self.steps]
