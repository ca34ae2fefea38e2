"""Starting, finding, sharing and stopping the embedded server.

The first process starts it; others find and share it; the last one to leave stops it. A process
that is killed leaves the server running, and the next start finds it again. Locks are flocks, so
they end with their process.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import asyncpg

from subledger.platform.postgres import binaries, cluster, privileges
from subledger.platform.postgres.problems import PostgresProblem

PORT = 5432
DATABASE = "subledger"
MOST_SOCKET_BYTES = 107
_READY_WITHIN_S = 60
_STOP_WITHIN_S = 30
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "max_connections": "120",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "jit": "off",
    "unix_socket_permissions": "0777",
}
"""The socket's own folder is 0700, so that only the owner (and root) reaches the socket."""


@dataclass(slots=True)
class Server:
    """A running PostgreSQL that this process uses; leave it by ``stop`` or as a context."""

    folder: Path
    socket_dir: Path
    password: str
    secret_key: str
    pid: int
    _holder: int
    _pg_ctl: Path
    _user: privileges.RunAs

    @property
    def admin_url(self) -> str:
        """The superuser's URL of the database ``subledger``, over the socket."""
        return (
            f"postgresql+asyncpg://{cluster.SUPERUSER}:{quote(self.password, safe='')}@/{DATABASE}"
            f"?host={quote(str(self.socket_dir), safe='/')}&port={PORT}"
        )

    async def stop(self) -> bool:
        """Leave the server; the last one stops it. Returns whether it was stopped."""
        if self._holder < 0:
            return False
        lock = _lock(self.folder / "launch.lock")
        try:
            last = _only_holder(self._holder)
            os.close(self._holder)
            self._holder = -1
            if last:
                await asyncio.to_thread(self._shut_down)
            return last
        finally:
            os.close(lock)

    def _shut_down(self) -> None:
        subprocess.run(
            [str(self._pg_ctl), "-D", str(self.folder / "cluster"), "-m", "fast", "-w", "stop"],
            capture_output=True,
            timeout=_STOP_WITHIN_S,
            check=False,
            cwd="/",
            env=cluster.environment(),
            **self._user.switch,
        )

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

    Returns when a query was answered. Raises PostgresProblem with what to do.
    """
    user = privileges.choose()
    await asyncio.to_thread(privileges.make_folder, folder, user)
    lock = await asyncio.to_thread(_lock, folder / "launch.lock")
    try:
        found = await asyncio.to_thread(
            partial(binaries.find, prefer, major=cluster.major_of(folder))
        )
        programs = await asyncio.to_thread(privileges.reachable, found, folder, user)
        data, password = await asyncio.to_thread(cluster.ensure, folder, programs, user)
        secret_key = cluster.private_file(folder / "secret.key", user, secrets.token_urlsafe(32))
        sockets = socket_folder(folder, user)
        if not await _answers(sockets, password):
            await _launch(folder, data, sockets, programs, user, password)
        await _ensure_database(sockets, password)
        holder = os.open(folder / "holders.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(holder, fcntl.LOCK_SH)
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        return Server(
            folder, sockets, password, secret_key, pid, holder, programs.path("pg_ctl"), user
        )
    finally:
        os.close(lock)


def _lock(path: Path) -> int:
    """Hold a file's lock: two starts at once take turns, the second finds the first's server."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _READY_WITHIN_S * 2
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise PostgresProblem(
                    f"another process has been starting PostgreSQL for two minutes ({path})."
                    " End it, or wait."
                ) from None
            time.sleep(0.05)


def _only_holder(holder: int) -> bool:
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def socket_folder(folder: Path, user: privileges.RunAs) -> Path:
    """Where the socket lives: in the data folder, or, if its path is too long for a socket (107
    bytes) or holds a comma, quote or space, in a private folder with a short path."""
    here = folder / "socket"
    if _fits(here):
        chosen = here
    else:
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        base = os.environ.get("XDG_RUNTIME_DIR", "") if not user.switch else ""
        chosen = Path(base or tempfile.gettempdir()) / f"subledger-{user.uid}-{name}"
        if not _fits(chosen):
            chosen = Path("/tmp") / f"subledger-{user.uid}-{name}"
    if not chosen.exists():
        chosen.mkdir(mode=0o700)
        user.own(chosen)
    info = chosen.lstat()
    if info.st_uid != user.uid or info.st_mode & 0o077:
        raise PostgresProblem(
            f"the socket's folder {chosen} belongs to someone else or is open to others."
            " Remove it, or set SUBLEDGER_DATA_DIR to a shorter path."
        )
    return chosen


def _fits(folder: Path) -> bool:
    text = str(folder)
    whole = len(f"{text}/.s.PGSQL.{PORT}".encode())
    return whole <= MOST_SOCKET_BYTES and not set(text) & set(" ,'\"\\")


async def _launch(
    folder: Path,
    data: Path,
    sockets: Path,
    programs: binaries.Binaries,
    user: privileges.RunAs,
    password: str,
) -> None:
    """Start the server as a session of its own, and wait for its first answer."""
    log = folder / "postgresql.log"
    process = None
    if not _alive(data):
        process = await asyncio.to_thread(_spawn, log, data, sockets, programs, user)
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        if await _answers(sockets, password):
            return
        if process is not None and process.poll() is not None:
            raise PostgresProblem(f"PostgreSQL ended while starting:\n{_tail(log)}")
        await asyncio.sleep(0.03)
    raise PostgresProblem(f"PostgreSQL did not answer within {_READY_WITHIN_S} s:\n{_tail(log)}")


def _spawn(
    log: Path,
    data: Path,
    sockets: Path,
    programs: binaries.Binaries,
    user: privileges.RunAs,
) -> subprocess.Popen[bytes]:
    settings = {**_SETTINGS, "unix_socket_directories": str(sockets)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with log.open("ab") as target:
        log.chmod(0o600)
        return subprocess.Popen(
            [str(programs.path("postgres")), "-D", str(data), *options],
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            cwd="/",
            start_new_session=True,
            env=cluster.environment(),
            **user.switch,
        )


def _alive(data: Path) -> bool:
    """Whether the postmaster that wrote the pid file still runs on this data."""
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, 0)
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except PermissionError:
        return True
    except (OSError, ValueError, IndexError):
        return False
    return b"postgres" in command and str(data).encode() in command


def _tail(log: Path) -> str:
    text = log.read_text(errors="replace").splitlines() if log.exists() else []
    full = any("No space left on device" in line for line in text[-20:])
    hint = "\nThe disk is full: free some space." if full else ""
    return "\n".join(text[-8:]) + hint


async def _connect(sockets: Path, password: str, database: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=str(sockets),
        port=PORT,
        user=cluster.SUPERUSER,
        password=password,
        database=database,
        timeout=5,
        statement_cache_size=0,
    )


async def _answers(sockets: Path, password: str) -> bool:
    """A real query, answered."""
    try:
        connection = await _connect(sockets, password, "postgres")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        return False
    try:
        return bool(await connection.fetchval("SELECT 1") == 1)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    finally:
        await connection.close(timeout=5)


async def _ensure_database(sockets: Path, password: str) -> None:
    connection = await _connect(sockets, password, "postgres")
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close(timeout=5)
