"""The sandbox provider, built from its dependencies."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from subledger.core.states import DUE_RANK
from subledger.platform import crashpoints
from subledger.platform.db import Database, Tx, assert_no_transaction, story
from subledger.platform.due import Due
from subledger.platform.service import Invariant, Quiet, Service, Step
from subledger.providers.port import HttpRequest, Transport
from subledger.providers.sandbox import store
from subledger.providers.sandbox.adapter import SIGNATURE, sign
from subledger.providers.sandbox.app import SandboxApp

MOST_TRIES = 10
_DUE = story("sandbox.callbacks_due")
_CLAIM = story("sandbox.claim_callbacks")
_RESULT = story("sandbox.record_callbacks")
_SENT = crashpoints.point("sandbox.callback.after_send")
_log = structlog.get_logger()


class Callbacks:
    """Signed webhooks to merchants, repeated until answered with 2xx, at most ten times."""

    def __init__(
        self,
        database: Database,
        app: SandboxApp,
        transport: Transport,
        clock_s: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        self._database = database
        self._app = app
        self._transport = transport
        self._clock_s = clock_s

    async def become_due(self, limit: int) -> int:
        """Callbacks whose moment has come (the tenant's clock) become ready to be sent."""
        async with self._database.transaction(_DUE) as tx:
            rows = await store.due.claim(tx, limit)
            await store.set_callbacks(
                tx,
                [
                    {
                        "tenant_id": row.tenant_id,
                        "id": row.id,
                        "state": "ready",
                        "tries": row.number,
                    }
                    for row in rows
                ],
            )
            await store.due.drop(tx, ((row.tenant_id, row.kind, row.id) for row in rows))
            return len(rows)

    async def deliver(self, limit: int) -> int:
        """Send what is ready; a failure is due again later, by the tenant's clock."""
        async with self._database.transaction(_CLAIM) as tx:
            rows = await store.claim_callbacks(tx, min(limit, 50))
            paths = await store.webhook_paths(tx, {row.tenant_id for row in rows}) if rows else {}
        results = []
        for row in rows:
            results.append((row, await self._send(row, paths[row.tenant_id])))
        _SENT.hit()
        if not results:
            return 0

        async def record(tx: Tx) -> None:
            clocks = await tx.clocks({row.tenant_id for row, _ in results})
            states, again = [], []
            for row, delivered in results:
                state = "delivered" if delivered else "waiting"
                if not delivered and row.tries >= MOST_TRIES:
                    state = "given_up"
                states.append(
                    {"tenant_id": row.tenant_id, "id": row.id, "state": state, "tries": row.tries}
                )
                if state == "waiting":
                    again.append(
                        Due(
                            tenant_id=row.tenant_id,
                            kind=store.CALLBACK,
                            id=row.id,
                            account_id=row.id,
                            rank=DUE_RANK[store.CALLBACK],
                            number=row.tries,
                            due_at=clocks[row.tenant_id] + timedelta(minutes=row.tries**3),
                        )
                    )
            await store.set_callbacks(tx, states)
            await store.due.put(tx, again)

        await self._database.transact(
            _RESULT, record, tenants={row.tenant_id for row, _ in results}
        )
        return len(results)

    async def _send(self, row: object, path: str) -> bool:
        assert_no_transaction("a webhook")
        body = row.body.encode()  # type: ignore[attr-defined]  # a row of sandbox.callbacks
        _, secret = self._app.credentials(row.tenant_id)  # type: ignore[attr-defined]
        headers = {
            "content-type": "application/json",
            SIGNATURE: sign(body, secret, self._clock_s()),
        }
        try:
            answer = await self._transport.send(HttpRequest("POST", path, headers, body))
        except Exception as error:
            _log.warning("sandbox.callback_failed", error=type(error).__name__)
            return False
        return 200 <= answer.status < 300


INVARIANTS = (
    Invariant(
        "no attempt is captured twice",
        "SELECT tenant_id, format('attempt %s: %s captures', attempt_id, count(*)) AS detail"
        " FROM sandbox.charges WHERE status = 'succeeded' GROUP BY tenant_id, attempt_id"
        " HAVING count(*) > 1",
    ),
)
QUIET = (
    Quiet(
        "callbacks under way",
        "SELECT 'provider callbacks' AS what, count(*) AS count FROM sandbox.callbacks"
        " WHERE tenant_id = :tenant AND state IN ('ready', 'sending') HAVING count(*) > 0",
    ),
)


def build(*, database: Database, secret_key: str, public_url: str, transport: Transport) -> Service:
    """The provider as a host sees it: ``attributes["app"]`` is its ASGI application (to be mounted
    or served by itself at ``public_url``), ``transport`` carries its webhooks."""
    app = SandboxApp(database, secret_key=secret_key, public_url=public_url)
    callbacks = Callbacks(database, app, transport)
    return Service(
        name="sandbox",
        database=database,
        steps=[
            Step("sandbox.callbacks_due", callbacks.become_due),
            Step("sandbox.deliver", callbacks.deliver, limit=50),
        ],
        due="sandbox",
        quiet=QUIET,
        invariants=INVARIANTS,
        attributes={"app": app},
    )
