"""The server of the access benchmark: the real application, and a bare answer beside it.

One uvicorn worker. ``/floor`` is answered by the outermost ASGI function with as many bytes as a
check has; everything else goes to the application. Prints one line of JSON when it is ready.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time

import uvicorn

from subledger.hosts.gateway import build_app
from subledger.platform.db import Database, Wakeup
from subledger.platform.eventlog.writer import append
from subledger.platform.http.middleware import App, Receive, Scope, Send
from subledger.platform.service import Step
from subledger.services.entitlements import http, wiring
from subledger.services.entitlements.memory import Memory
from subledger.services.identity.ring import Keys

FLOOR_BODY = b'{"allowed":true,"reason":"active","valid_until":"2026-01-01T00:00:00Z"}'
_FLOOR_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(FLOOR_BODY)).encode()),
]


def with_floor(app: App) -> App:
    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/floor":
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": _FLOOR_HEADERS})
        await send({"type": "http.response.body", "body": FLOOR_BODY})

    return outermost


async def keep_fresh(step: Step) -> None:
    """What a host does with the step: again at once after work, after a pause when idle."""
    while True:
        if not await step.run(step.limit):
            await asyncio.sleep(step.pause_s)


def _used_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def main(port: int) -> None:
    wakeup = Wakeup()
    databases = {
        name: Database(url=os.environ[f"BENCH_{name.upper()}_URL"], append=append, wakeup=wakeup)
        for name in ("identity", "entitlements")
    }
    service = wiring.build(database=databases["entitlements"])
    memory = service.attributes["memory"]
    assert isinstance(memory, Memory)
    ring = Keys(databases["identity"])
    access = http.access_route(memory, ring, max_stale_s=60, when_stale="problem")
    app = build_app([service], key_ring=ring, plain_routes={http.ROUTE: (access, http.OPERATION)})
    app = with_floor(http.ahead_of(app, access))

    before_mb, started = _used_mb(), time.monotonic()
    await memory.catch_up()
    took_s = time.monotonic() - started
    config = uvicorn.Config(
        app,
        port=port,
        log_level="warning",
        access_log=False,
        http="httptools",
        lifespan="off",
        timeout_keep_alive=120,
    )
    server = uvicorn.Server(config)
    refreshing = asyncio.create_task(keep_fresh(memory.tail_step()))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn offers nothing to wait for
        await asyncio.sleep(0.01)
    ready = {
        "customers": memory.customers(),
        "snapshot_s": round(took_s, 2),
        "memory_mb": round(_used_mb() - before_mb, 1),
    }
    print(json.dumps(ready), flush=True)
    await serving
    refreshing.cancel()
    for each in databases.values():
        await each.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1])))
