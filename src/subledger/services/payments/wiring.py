"""Payments, built from its dependencies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cryptography.fernet import MultiFernet

from subledger.contracts.books import Books
from subledger.contracts.collections import Collections
from subledger.contracts.endpoints import Endpoints
from subledger.contracts.refunds import Refunds
from subledger.platform.db import Database
from subledger.platform.eventlog.consumer import Consumer
from subledger.platform.service import Service, Step, StepFunction
from subledger.providers.engine import Gateway
from subledger.services.payments.addresses import PREFIX, Addresses
from subledger.services.payments.checkouts import Checkouts
from subledger.services.payments.consumers import GROUP
from subledger.services.payments.flows.ask import Asking
from subledger.services.payments.flows.attach import Attaching
from subledger.services.payments.flows.capture import Capturing
from subledger.services.payments.flows.collect import Collecting
from subledger.services.payments.flows.connect import Connecting
from subledger.services.payments.flows.dispute import Disputing
from subledger.services.payments.flows.link import Linking
from subledger.services.payments.flows.pay import Waiting
from subledger.services.payments.flows.reconcile import Reconciling
from subledger.services.payments.flows.refund import Refunding
from subledger.services.payments.flows.repair import Repairing
from subledger.services.payments.flows.returned import Returning
from subledger.services.payments.flows.tend import Tending
from subledger.services.payments.hints import Hints
from subledger.services.payments.http import routers
from subledger.services.payments.http.connections import Shown
from subledger.services.payments.http.public import Public
from subledger.services.payments.invariants import INVARIANTS, QUIET, WAITS
from subledger.services.payments.listing import Listings
from subledger.services.payments.method_calls import MethodCalls
from subledger.services.payments.pages.app import PublicPages
from subledger.services.payments.provider import Accounts, Providers
from subledger.services.payments.store import intents, methods, payments
from subledger.services.payments.store.holds import switch
from subledger.services.payments.usecases.returns import Returns
from subledger.services.payments.watching import Watching


@dataclass(frozen=True, slots=True)
class Limits:
    """Wall-clock limits. A call ends before its claim's lease does: ``lease_s / 3 + call_s`` is
    shorter than ``lease_s``. ``parallel`` is how many charges one step has in flight."""

    lease_s: float = 20.0
    call_s: float = 12.0
    parallel: int = 400

    def __post_init__(self) -> None:
        assert self.lease_s / 3 + self.call_s < self.lease_s, "a call outlives its lease"


def build(
    *,
    database: Database,
    collections: Collections,
    endpoints: Endpoints,
    refunds: Refunds,
    books: Books,
    gateways: Mapping[str, Gateway],
    accounts: Accounts,
    fernet: MultiFernet,
    page_secret: bytes,
    public_url: str,
    limits: Limits | None = None,
) -> Service:
    """The service. Attributes: ``checkouts`` answers billing, ``hints`` webhooks; ``connecting``
    opens a tenant's connection ahead of its first use, ``reseal`` encrypts connections anew.

    ``gateways`` are by provider name (``sandbox``); ``fernet`` encrypts credentials at rest;
    ``page_secret`` makes the addresses of payers' pages, ``public_url`` is where we are reached.
    """
    bounds = limits or Limits()
    providers = Providers(database=database, gateways=gateways, fernet=fernet, call_s=bounds.call_s)
    addresses, returns = Addresses(page_secret, public_url), Returns(public_url)
    flows = _flows(
        database=database,
        collections=collections,
        endpoints=endpoints,
        refunds=refunds,
        books=books,
        accounts=accounts,
        providers=providers,
        fernet=fernet,
        addresses=addresses,
        bounds=bounds,
    )
    shown = Shown(
        database,
        connecting=flows.connecting,
        providers=providers,
        fernet=fernet,
        public_url=public_url,
    )
    return _service(
        database,
        flows,
        shown,
        Public(addresses, returns),
        collections,
        parallel=bounds.parallel,
        fernet=fernet,
    )


class Flows(NamedTuple):
    """What works things off, step by step or for somebody who waits."""

    connecting: Connecting
    collecting: Collecting
    asking: Asking
    attaching: Attaching
    refunding: Refunding
    capturing: Capturing
    disputing: Disputing
    tending: Tending
    reconciling: Reconciling
    repairing: Repairing


def _flows(
    *,
    database: Database,
    collections: Collections,
    endpoints: Endpoints,
    refunds: Refunds,
    books: Books,
    accounts: Accounts,
    providers: Providers,
    fernet: MultiFernet,
    addresses: Addresses,
    bounds: Limits,
) -> Flows:
    connecting = Connecting(
        database=database,
        endpoints=endpoints,
        accounts=accounts,
        providers=providers,
        fernet=fernet,
    )
    collecting = Collecting(
        database=database,
        collections=collections,
        providers=providers,
        connecting=connecting,
        lease_s=bounds.lease_s,
        addresses=addresses,
    )
    asking = Asking(
        database=database, providers=providers, connecting=connecting, lease_s=bounds.lease_s
    )
    attaching = Attaching(database=database, providers=providers, lease_s=bounds.lease_s)
    refunding = Refunding(
        database=database, refunds=refunds, providers=providers, lease_s=bounds.lease_s
    )
    disputing = Disputing(
        database=database, providers=providers, lease_s=bounds.lease_s, call_s=bounds.call_s
    )
    tending = Tending(database=database, calls=MethodCalls(providers), lease_s=bounds.lease_s)
    reconciling = Reconciling(
        database=database,
        listings=Listings(providers, call_s=bounds.call_s),
        books=books,
        lease_s=bounds.lease_s,
    )
    repairing = Repairing(database=database, providers=providers, asking=asking)
    return Flows(
        connecting=connecting,
        collecting=collecting,
        asking=asking,
        attaching=attaching,
        refunding=refunding,
        capturing=Capturing(
            database=database, providers=providers, lease_s=2 * bounds.call_s + bounds.lease_s / 3
        ),
        disputing=disputing,
        tending=tending,
        reconciling=reconciling,
        repairing=repairing,
    )


def _service(
    database: Database,
    flows: Flows,
    shown: Shown,
    public: Public,
    collections: Collections,
    *,
    parallel: int,
    fernet: MultiFernet,
) -> Service:
    waiting = Waiting(
        database=database,
        collecting=flows.collecting,
        asking=flows.asking,
        attaching=flows.attaching,
        refunding=flows.refunding,
        capturing=flows.capturing,
        group=GROUP.name,
    )
    linking = Linking(database=database, collections=collections, waiting=waiting)
    returning = Returning(database=database, asking=flows.asking, waiting=waiting)
    pages = PublicPages(
        database,
        addresses=public.addresses,
        returns=public.returns,
        returning=returning,
        linking=linking,
    )
    return Service(
        name="payments",
        database=database,
        routers=routers(
            database,
            waiting=waiting,
            connecting=flows.connecting,
            refunding=flows.refunding,
            shown=shown,
            fernet=fernet,
            public=public,
            linking=linking,
        ),
        ahead={PREFIX: pages},
        consumers=[Consumer(database, GROUP)],
        steps=[
            *_steps(flows.collecting, flows.asking, flows.attaching, parallel=parallel),
            *flows.refunding.steps(),
            *flows.capturing.steps(),
            *flows.disputing.steps(),
            *flows.tending.steps(),
            *flows.reconciling.steps(),
            *Watching(database).steps(),
        ],
        due="payments",
        quiet=QUIET,
        waits=WAITS,
        invariants=INVARIANTS,
        attributes={
            "checkouts": Checkouts(database, public.returns),
            "hints": Hints(database),
            "repairs": flows.repairing,
            "connecting": flows.connecting,
            "reseal": flows.connecting.reseal,
        },
    )


def _steps(
    collecting: Collecting, asking: Asking, attaching: Attaching, *, parallel: int
) -> list[Step]:
    return [
        _step("reserve", collecting.reserve, payments.RESERVING),
        _step("charge", collecting.charge, payments.READY, limit=parallel),
        _step("checkout", collecting.checkout, payments.READY, limit=100),
        _step("answer", asking.answer, intents.ASKED, limit=100),
        _step("ask_due", asking.ask_due, intents.due.work),
        _step("attach", attaching.attach, methods.ATTACHING, limit=100),
        # Leases run out by themselves: no commit makes work for it.
        _step("give_up_waiting", collecting.give_up_waiting, pause_s=1),
        _step("let_go_holds", collecting.let_go_holds, switch.work),
    ]


def _step(name: str, run: StepFunction, *work: str, **more: Any) -> Step:
    """A step that is woken by these kinds of work."""
    return Step(f"payments.{name}", run, types=frozenset(work), **more)
