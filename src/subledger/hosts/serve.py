"""``subledger serve``: the chosen services, their HTTP and their loops, in one process."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from subledger.hosts.assembly import Assembly
from subledger.hosts.loops import STOP_WITHIN_S, Loops
from subledger.hosts.problems import HostProblem
from subledger.hosts.running import assembled, first_tenant, interruptible, place
from subledger.platform.http.middleware import App
from subledger.platform.settings import Settings
from subledger.services.identity.usecases.create_tenants import Opened

_BACKLOG = 2048
_ANSWERS_WITHIN_S = 5


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the host decides in which order things stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run(settings: Settings, *, only: Sequence[str] = ()) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises HostProblem for what a person has to mend.

    The first start opens the tenant ``default`` and prints its keys, once.
    """
    with listening(settings) as listener:
        async with (
            interruptible() as stop,
            place(settings) as where,
            assembled(settings, where, only=only) as assembly,
        ):
            opened = await first_tenant(assembly, settings.folder())
            async with serving(assembly, listener) as failed:
                _greet(settings, assembly, opened)
                stopped = asyncio.create_task(stop.wait())
                both: set[asyncio.Future[Any]] = {stopped, failed}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                stopped.cancel()
                if failed.done():
                    raise failed.result()
            print("Subledger has stopped.", flush=True)


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The port, taken before anything else is started. Raises HostProblem if it is not free."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        yield listener
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise HostProblem(
                f"port {settings.port} on {settings.host} is taken by another process."
                f" Choose another: subledger serve --port {settings.port % 65535 + 1}"
            ) from None
        if error.errno in {errno.EACCES, errno.EADDRNOTAVAIL}:
            raise HostProblem(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror}."
                " Choose another with --host and --port."
            ) from None
        raise
    finally:
        listener.close()


@asynccontextmanager
async def serving(
    assembly: Assembly, listener: socket.socket
) -> AsyncIterator[asyncio.Future[BaseException]]:
    """The loops and the HTTP server run while the block does; both stop at its end, in order:
    no new requests, answers under way, then the steps under way.

    Yields a future that is done only if one of them ended by itself, with the reason.
    """
    if any(each.name == "entitlements" for each in assembly.running):
        await assembly.memory.catch_up()
    server = _Server(_config(assembly.app))
    loops = Loops(assembly.steps, wakeup=assembly.wakeup, watched=assembly.databases["identity"])
    loops.start()
    answering = asyncio.create_task(server.serve(sockets=[listener]), name="hosts.http")
    failed = asyncio.ensure_future(_failure(loops.failed, answering))
    try:
        while not server.started and not answering.done():  # noqa: ASYNC110  # nothing to wait for
            await asyncio.sleep(0.01)
        yield failed
    finally:
        failed.cancel()
        server.should_exit = True
        await asyncio.wait({answering}, timeout=STOP_WITHIN_S)
        answering.cancel()
        await loops.stop()


async def _failure(
    loops_failed: Callable[[], Coroutine[object, object, BaseException]],
    answering: asyncio.Task[None],
) -> BaseException:
    loops = asyncio.ensure_future(loops_failed())
    try:
        done, _ = await asyncio.wait({loops, answering}, return_when=asyncio.FIRST_COMPLETED)
        if answering in done:
            return answering.exception() or RuntimeError("the HTTP server ended")
        return loops.result()
    finally:
        loops.cancel()


def _config(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_ANSWERS_WITHIN_S,
    )


def _greet(settings: Settings, assembly: Assembly, opened: Sequence[Opened]) -> None:
    base = settings.base_url
    print(f"Subledger serves {', '.join(each.name for each in assembly.running)} at {base}")
    print(f"  reference  {base}/docs")
    if opened:
        print(f"  The tenant “{opened[0].name}” is new. Its keys, shown this once:")
        for each in opened:
            print(f"  {each.mode:<9}  {each.key}")
        print(f"  They are also in {settings.folder() / 'keys'} (readable by you only).")
    print("  Ctrl-C ends it.", flush=True)
