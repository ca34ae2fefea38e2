"""Payments, built from its dependencies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import MultiFernet

from subledger.contracts.collections import Collections
from subledger.contracts.endpoints import Endpoints
from subledger.platform.db import Database
from subledger.platform.eventlog.consumer import Consumer
from subledger.platform.service import Service, Step, StepFunction
from subledger.providers.engine import Gateway
from subledger.services.payments.checkouts import Checkouts
from subledger.services.payments.consumers import GROUP
from subledger.services.payments.flows.ask import Asking
from subledger.services.payments.flows.attach import Attaching
from subledger.services.payments.flows.collect import Collecting
from subledger.services.payments.flows.connect import Connecting
from subledger.services.payments.flows.pay import Waiting
from subledger.services.payments.http import routers
from subledger.services.payments.invariants import INVARIANTS, QUIET, WAITS
from subledger.services.payments.provider import Accounts, Providers
from subledger.services.payments.store import intents, methods, payments
from subledger.services.payments.store.holds import switch


@dataclass(frozen=True, slots=True)
class Limits:
    """Wall-clock limits. A call ends before its claim's lease does: ``lease_s / 3 + call_s`` is
    shorter than ``lease_s``. ``parallel`` is how many charges one step has in flight."""

    lease_s: float = 20.0
    call_s: float = 12.0
    parallel: int = 500

    def __post_init__(self) -> None:
        assert self.lease_s / 3 + self.call_s < self.lease_s, "a call outlives its lease"


def build(
    *,
    database: Database,
    collections: Collections,
    endpoints: Endpoints,
    gateways: Mapping[str, Gateway],
    accounts: Accounts,
    fernet: MultiFernet,
    return_url: str,
    limits: Limits | None = None,
) -> Service:
    """The service. ``attributes["checkouts"]`` answers billing, ``attributes["connecting"]``
    opens a tenant's connection ahead of its first use.

    ``gateways`` are by provider name (``sandbox``); ``fernet`` encrypts credentials at rest;
    ``return_url`` is where payers go from the page when a request named no place.
    """
    bounds = limits or Limits()
    providers = Providers(database=database, gateways=gateways, fernet=fernet, call_s=bounds.call_s)
    connecting = Connecting(
        database=database, endpoints=endpoints, accounts=accounts, fernet=fernet
    )
    collecting = Collecting(
        database=database,
        collections=collections,
        providers=providers,
        connecting=connecting,
        lease_s=bounds.lease_s,
        return_url=return_url,
    )
    asking = Asking(
        database=database, providers=providers, connecting=connecting, lease_s=bounds.lease_s
    )
    attaching = Attaching(database=database, providers=providers, lease_s=bounds.lease_s)
    waiting = Waiting(
        database=database,
        collecting=collecting,
        asking=asking,
        attaching=attaching,
        group=GROUP.name,
    )
    return Service(
        name="payments",
        database=database,
        routers=routers(database, waiting=waiting, connecting=connecting),
        consumers=[Consumer(database, GROUP)],
        steps=[
            _step("reserve", collecting.reserve, payments.RESERVING),
            _step("charge", collecting.charge, payments.READY, limit=bounds.parallel),
            _step("checkout", collecting.checkout, payments.READY, limit=100),
            _step("answer", asking.answer, intents.ASKED, limit=100),
            _step("ask_due", asking.ask_due, intents.due.work, by_clock=True),
            _step("attach", attaching.attach, methods.ATTACHING, limit=100),
            # Leases run out by themselves: no commit makes work for it.
            _step("give_up_waiting", collecting.give_up_waiting, pause_s=1),
            _step("let_go_holds", collecting.let_go_holds, switch.work),
        ],
        due="payments",
        quiet=QUIET,
        waits=WAITS,
        invariants=INVARIANTS,
        attributes={"checkouts": Checkouts(database), "connecting": connecting},
    )


def _step(name: str, run: StepFunction, *work: str, **more: Any) -> Step:
    """A step that is woken by these kinds of work."""
    return Step(f"payments.{name}", run, types=frozenset(work), **more)
