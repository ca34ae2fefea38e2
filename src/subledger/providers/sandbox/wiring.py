"""The sandbox provider, built from its dependencies."""

from __future__ import annotations

import time
from collections.abc import Callable

from subledger.platform.db import Database
from subledger.platform.service import Invariant, Quiet, Service, Step
from subledger.providers.port import Transport
from subledger.providers.sandbox import settlements, settlements_store, store
from subledger.providers.sandbox.app import SandboxApp
from subledger.providers.sandbox.callbacks import Callbacks

INVARIANTS = (
    Invariant(
        "no attempt is captured twice",
        "SELECT tenant_id, format('attempt %s: %s captures', attempt_id, count(*)) AS detail"
        " FROM sandbox.charges WHERE status = 'succeeded' GROUP BY tenant_id, attempt_id"
        " HAVING count(*) > 1",
    ),
    Invariant(
        "of no attempt more is given back than was captured",
        "SELECT r.tenant_id, format('attempt %s: %s back', r.attempt_id, sum(r.amount_minor))"
        " AS detail FROM sandbox.refunds r WHERE r.status = 'succeeded'"
        " GROUP BY r.tenant_id, r.attempt_id HAVING sum(r.amount_minor) > ("
        " SELECT coalesce(sum(c.amount_minor), 0) FROM sandbox.charges c"
        " WHERE c.tenant_id = r.tenant_id AND c.attempt_id = r.attempt_id"
        " AND c.status = 'succeeded')",
    ),
)
QUIET = (
    Quiet(
        "callbacks under way",
        "SELECT 'provider callbacks' AS what, count(*) AS count FROM sandbox.callbacks"
        " WHERE tenant_id = :tenant AND state IN ('ready', 'sending') HAVING count(*) > 0",
    ),
)


def build(
    *,
    database: Database,
    secret_key: str,
    public_url: str,
    transport: Transport,
    clock_s: Callable[[], int] = lambda: int(time.time()),
) -> Service:
    """The provider as a host sees it: ``attributes["app"]`` is its ASGI application (to be mounted
    or served by itself at ``public_url``), ``transport`` carries its webhooks, signed at
    ``clock_s`` (the wall clock)."""
    app = SandboxApp(database, secret_key=secret_key, public_url=public_url)
    callbacks = Callbacks(
        database,
        app.credentials,
        transport,
        clock_s,
        others={settlements_store.PAYOUT: settlements.pay_out_due},
    )
    app.tell_now = callbacks.tell_now
    return Service(
        name="sandbox",
        database=database,
        steps=[
            Step(
                "sandbox.callbacks_due",
                callbacks.become_due,
                types=frozenset({store.due.work}),
            ),
            Step("sandbox.deliver", callbacks.deliver, limit=50, types=frozenset({store.READY})),
        ],
        due="sandbox",
        quiet=QUIET,
        invariants=INVARIANTS,
        attributes={"app": app},
    )
