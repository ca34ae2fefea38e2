"""Starting, finding, sharing and stopping the embedded server.

The first process starts it; others find and share it; the last one to leave stops it. A process
that is killed leaves the server running, and the next start finds it again. Locks are flocks, so
they end with their process.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal
from urllib.parse import quote

import asyncpg

from subledger.platform.postgres import binaries, cluster, files, postmaster, privileges, sockets
from subledger.platform.postgres.problems import PostgresProblem

DATABASE = "subledger"
_READY_WITHIN_S = 60
_RECOVERED_WITHIN_S = 600
_TURN_WITHIN_S = 120


@dataclass(slots=True)
class Server:
    """A running PostgreSQL that this process uses; leave it by ``stop`` or as a context.

    ``home`` is the server's folder inside the data folder; ``secret_key`` is the installation's.
    """

    home: Path
    socket_dir: Path
    major: int
    pid: int
    password: str = field(repr=False)
    secret_key: str = field(repr=False)
    _holder: int = field(repr=False)
    _pg_ctl: Path = field(repr=False)
    _user: privileges.RunAs = field(repr=False)
    _process: subprocess.Popen[bytes] | None = field(repr=False)

    @property
    def data_dir(self) -> Path:
        """PostgreSQL's own folder."""
        return cluster.data_of(self.home)

    @property
    def admin_url(self) -> str:
        """The superuser's URL of the database ``subledger``, over the socket."""
        return (
            f"postgresql+asyncpg://{cluster.SUPERUSER}:{quote(self.password, safe='')}@/{DATABASE}"
            f"?host={quote(str(self.socket_dir), safe='/')}&port={sockets.PORT}"
        )

    async def stop(self) -> bool:
        """Leave the server; the last one stops it. Returns whether it was stopped."""
        if self._holder < 0:
            return False
        return await asyncio.to_thread(self._leave)

    def _leave(self) -> bool:
        lock = _take_turn(self.home, self._user)
        try:
            last = _is_last(self._holder)
            os.close(self._holder)
            self._holder = -1
            if last:
                postmaster.stop(data=self.data_dir, pg_ctl=self._pg_ctl, user=self._user)
                with suppress(OSError):
                    self.socket_dir.rmdir()
                if self._process is not None:
                    self._process.wait(timeout=10)
            return last
        finally:
            os.close(lock)

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


async def start(folder: Path, *, prefer: str = "wheel") -> Server:
    """Start the embedded server of a data folder, or share the one that runs.

    ``prefer`` names the source of the programs, ``wheel`` or ``installed``. Returns when a query
    was answered. Raises PostgresProblem with what to do.
    """
    user = privileges.choose()
    try:
        home = privileges.make_home(folder, user)
        lock = await asyncio.to_thread(_take_turn, home, user)
        try:
            return await _start(folder, home, user, prefer)
        finally:
            os.close(lock)
    except OSError as error:
        raise PostgresProblem(f"the data folder {folder} cannot be used: {error}") from error


async def _start(folder: Path, home: Path, user: privileges.RunAs, prefer: str) -> Server:
    found = await asyncio.to_thread(_programs, home, user, prefer)
    password = await asyncio.to_thread(cluster.ensure, home, found, user)
    data = cluster.data_of(home)
    process = None
    running = postmaster.find(data)
    socket_dir = running.socket_dir if running else None
    if socket_dir is None:
        socket_dir = sockets.preferred(home, user)
    if running is None:
        sockets.make(socket_dir, user)
        process = await asyncio.to_thread(
            _spawn, home, data=data, socket_dir=socket_dir, programs=found, user=user
        )
    await _until_ready(home, socket_dir=socket_dir, password=password, process=process)
    await _ensure_database(socket_dir, password)
    running = postmaster.find(data)
    if running is None:
        raise PostgresProblem(f"PostgreSQL ended at once:\n{postmaster.last_words(home)}")
    holder = files.open_private(home / "holders.lock", os.O_RDWR, user)
    fcntl.flock(holder, fcntl.LOCK_SH)
    return Server(
        home=home,
        socket_dir=socket_dir,
        major=found.major,
        pid=running.pid,
        password=password,
        secret_key=secret_key(folder),
        _holder=holder,
        _pg_ctl=found.path("pg_ctl"),
        _user=user,
        _process=process,
    )


def secret_key(folder: Path) -> str:
    """The installation's generated key: ``secret.key`` in the data folder, 0600, made once.

    It stays with whoever runs us: the user under which root runs PostgreSQL cannot read it.
    """
    if not folder.exists():
        folder.mkdir(parents=True, mode=0o700)
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    ours = privileges.RunAs(os.geteuid(), os.getegid(), "", {})
    return files.secret(folder / "secret.key", ours, secrets.token_urlsafe(32))


def _programs(home: Path, user: privileges.RunAs, prefer: str) -> binaries.Binaries:
    found = binaries.find(prefer, major=cluster.major_of(home))
    return privileges.reachable(found, home, user)


def _spawn(
    home: Path,
    *,
    data: Path,
    socket_dir: Path,
    programs: binaries.Binaries,
    user: privileges.RunAs,
) -> subprocess.Popen[bytes]:
    return postmaster.spawn(
        home=home, data=data, socket_dir=socket_dir, binaries=programs, user=user
    )


def _take_turn(home: Path, user: privileges.RunAs) -> int:
    """Hold the folder's lock: of two starts at once the second finds the first's server."""
    path = home / "launch.lock"
    descriptor = files.open_private(path, os.O_RDWR, user)
    deadline = time.monotonic() + _TURN_WITHIN_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise PostgresProblem(
                    f"another process has been starting PostgreSQL for {_TURN_WITHIN_S} s"
                    f" ({path}). End it, or wait."
                ) from None
            time.sleep(0.05)


def _is_last(holder: int) -> bool:
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# --- readiness -----------------------------------------------------------------------------------


async def _until_ready(
    home: Path, *, socket_dir: Path, password: str, process: subprocess.Popen[bytes] | None
) -> None:
    """Wait for the first answer; longer while the server says that it recovers from a crash."""
    began = time.monotonic()
    while True:
        state = await _probe(socket_dir, password)
        if state == "ready":
            return
        if state == "stranger":
            raise PostgresProblem(
                f"PostgreSQL runs in {home} but does not take the password in"
                f" {home / 'superuser.password'}: put back the file that belongs to the data."
            )
        if process is not None and process.poll() is not None:
            said = postmaster.last_words(home)
            raise PostgresProblem(f"PostgreSQL ended while starting:\n{said}")
        limit_s = _RECOVERED_WITHIN_S if state == "recovering" else _READY_WITHIN_S
        if time.monotonic() - began > limit_s:
            said = postmaster.last_words(home)
            raise PostgresProblem(f"PostgreSQL did not answer within {limit_s} s:\n{said}")
        await asyncio.sleep(0.03)


async def _probe(
    socket_dir: Path, password: str
) -> Literal["ready", "recovering", "silent", "stranger"]:
    """Ask a real query."""
    try:
        connection = await _connect(socket_dir, password, "postgres")
    except asyncpg.CannotConnectNowError:
        return "recovering"
    except asyncpg.InvalidAuthorizationSpecificationError:
        return "stranger"
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        return "silent"
    try:
        return "ready" if await connection.fetchval("SELECT 1") == 1 else "silent"
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return "silent"
    finally:
        await connection.close(timeout=5)


async def _connect(
    socket_dir: Path, password: str, database: str, *, timeout_s: float = 5
) -> asyncpg.Connection[asyncpg.Record]:
    return await asyncpg.connect(
        host=str(socket_dir),
        port=sockets.PORT,
        user=cluster.SUPERUSER,
        password=password,
        database=database,
        timeout=timeout_s,
        statement_cache_size=0,
    )


async def _ensure_database(socket_dir: Path, password: str) -> None:
    # Asked once, unlike the probe: a machine that is busy gets its time.
    connection = await _connect(socket_dir, password, "postgres", timeout_s=_READY_WITHIN_S)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close(timeout=_READY_WITHIN_S)
