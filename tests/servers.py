"""More real servers for tests: a PostgreSQL with chosen settings of the run's own, and PgBouncer.

Everything listens on 127.0.0.1 on a free port, keeps its files in a fresh folder and is stopped by
its own pid. Ready means that a real query was answered.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import asyncpg
from sqlalchemy.engine import make_url

from tests.postgres import NoServer, Server, by_tcp, start_server, stop_server

# The test run sweeps folders with this name whose owner was killed.
_PREFIX = f"subledger-test-{os.getpid()}-"
_READY_WITHIN_S = 15
_STOPPED_WITHIN_S = 10


@contextmanager
def postgres_server(*, fsync: bool = False) -> Iterator[Server]:
    """A PostgreSQL of its own, empty. ``SUBLEDGER_TEST_PG`` chooses ``apt`` (15 where it is
    installed) or ``wheel``. Raises NoServer where there is none."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=os.environ.get("SUBLEDGER_TEST_RUN")))
    folder.chmod(0o711)  # as root the server is another user, who has to pass
    server = start_server(folder, fsync=fsync)
    try:
        yield server
    finally:
        stop_server(server)


@contextmanager
def pgbouncer(server: Server, users: dict[str, str], *, pool_size: int = 1) -> Iterator[int]:
    """PgBouncer in transaction mode before ``server``, with ``pool_size`` connections for each
    pair of user and database; its port.

    ``users`` maps the names that may log in to their passwords. Raises NoServer where PgBouncer is
    not installed.
    """
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        raise NoServer("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    behind = make_url(by_tcp(server.admin_url))
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=os.environ.get("SUBLEDGER_TEST_RUN")))
    folder.chmod(0o711)
    listed = folder / "users.txt"
    listed.write_text("".join(f'"{name}" "{users[name]}"\n' for name in users))
    config = folder / "pgbouncer.ini"
    config.write_text(
        "[databases]\n"
        f"* = host={behind.host} port={behind.port}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {listed}\n"
        f"pool_mode = transaction\ndefault_pool_size = {pool_size}\nmax_client_conn = 500\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    become = unprivileged()
    for path in (listed, config):
        path.chmod(0o600)
        if become is not None:
            os.chown(path, become.pw_uid, become.pw_gid)
    log = folder / "pgbouncer.log"
    with log.open("wb") as target:
        process = subprocess.Popen(
            [program, str(config)],
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            cwd="/",
            start_new_session=True,
            user=None if become is None else become.pw_uid,
            group=None if become is None else become.pw_gid,
            extra_groups=None if become is None else [],
        )
    try:
        _wait_for_pgbouncer(process, behind.set(port=port).render_as_string(False), users, log)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def unprivileged() -> pwd.struct_passwd | None:
    """Whom servers that refuse root run as; None if we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoServer("running as root, and there is no user postgres or nobody to become")


def _wait_for_pgbouncer(
    process: subprocess.Popen[bytes], url: str, users: dict[str, str], log: Path
) -> None:
    name = next(iter(users))
    plain = make_url(url).set(drivername="postgresql", username=name, password=users[name])
    deadline = time.monotonic() + _READY_WITHIN_S
    thread = ThreadPoolExecutor(max_workers=1)
    while True:
        try:
            # In a thread: the test that waits may have a loop of its own.
            return thread.submit(asyncio.run, _ask(plain.render_as_string(False))).result()
        except (OSError, asyncpg.PostgresError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-800:]
                raise NoServer(f"PgBouncer did not answer ({error}): {said}") from error
            time.sleep(0.05)


async def _ask(url: str) -> None:
    connection = await asyncpg.connect(url, statement_cache_size=0, timeout=5)
    try:
        await connection.fetchval("SELECT 1")
    finally:
        await connection.close()
