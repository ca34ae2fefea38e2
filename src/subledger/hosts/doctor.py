"""``subledger doctor``: what is configured, reachable and wrong, and how to mend it.

It looks and changes nothing: no folder is made, no server started, no row written.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import os
import shutil
import socket
import ssl
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg
import httpx
from rich import box
from rich.console import Console
from rich.table import Table
from sqlalchemy.engine import make_url

from subledger.platform import migrate
from subledger.platform.postgres import (
    PostgresProblem,
    binaries,
    cluster,
    postmaster,
    privileges,
    sockets,
)
from subledger.platform.settings import Settings, unknown_variables

Verdict = Literal["ok", "warn", "fail"]

_NEEDED_MB = 500
_TIGHT_MB = 2_000
_CLOCK_OFF_BY_AT_MOST_S = 5
_SHORTEST_KEY = 16
_CONNECT_WITHIN_S = 5
_ANSWER_WITHIN_S = 2
_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[bold red]fail[/]"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``fix`` is empty only where all is well."""

    verdict: Verdict
    subject: str
    said: str
    fix: str = ""

    def __post_init__(self) -> None:
        assert self.verdict == "ok" or self.fix, self.subject


async def run(settings: Settings) -> int:
    """Print every finding; 1 if something would keep Subledger from running, else 0."""
    findings = await examine(settings)
    Console(soft_wrap=False).print(_table(findings))
    failed = [each for each in findings if each.verdict == "fail"]
    warned = [each for each in findings if each.verdict == "warn"]
    if failed:
        print(f"{len(failed)} wrong, {len(warned)} to look at.")
        return 1
    print(f"Ready to run{f', {len(warned)} to look at' if warned else ''}.")
    return 0


async def examine(settings: Settings) -> list[Finding]:
    """Every finding, in the order in which things are needed."""
    findings = [
        *_python(),
        _user(),
        *_variables(settings),
        _time_zones(),
        await _port(settings),
    ]
    if settings.database_url is None and not settings.service_urls:
        findings += await _embedded(settings)
    else:
        findings += await _given(settings)
    return [*findings, _network()]


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in findings:
        fix = f"\n[dim]→[/] {_plain(each.fix)}" if each.fix else ""
        table.add_row(_MARKS[each.verdict], each.subject, f"{_plain(each.said)}{fix}")
    return table


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


# --- this process --------------------------------------------------------------------------------


def _python() -> Iterable[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < (3, 11):  # noqa: UP036  # an environment may have been made by hand
        yield Finding("fail", "python", version, "Use Python 3.11 or newer.")
    else:
        yield Finding("ok", "python", f"{version}, {sys.executable}")
    if sys.prefix == sys.base_prefix:
        yield Finding(
            "warn",
            "environment",
            "not in a virtual environment",
            "Run python3 bootstrap.py, then .venv/bin/subledger.",
        )
    else:
        shown = importlib.metadata.version("subledger")
        yield Finding("ok", "environment", f"subledger {shown} in {sys.prefix}")
    try:
        import ensurepip  # noqa: F401  # Debian ships Python without it
        import venv  # noqa: F401
    except ImportError as error:
        yield Finding(
            "warn",
            "venv module",
            f"Python's module {error.name} is missing; it is needed to install anew",
            "Debian and Ubuntu: apt-get install python3-venv",
        )


def _user() -> Finding:
    try:
        user = privileges.choose()
    except PostgresProblem as problem:
        return Finding("warn", "user", str(problem), "See there.")
    if user.switch:
        return Finding("ok", "user", f"root; an embedded PostgreSQL runs as {user.name}")
    return Finding("ok", "user", user.name)


def _variables(settings: Settings) -> Iterable[Finding]:
    for name in unknown_variables():
        yield Finding(
            "warn",
            "settings",
            f"{name} is set, and nothing reads it",
            "Look for a slip of the pen, or unset it.",
        )
    key = settings.secret_key
    if key is not None and len(key.get_secret_value()) < _SHORTEST_KEY:
        yield Finding(
            "warn",
            "secret key",
            f"SUBLEDGER_SECRET_KEY is shorter than {_SHORTEST_KEY} characters",
            "The services' passwords come from it: take 32 random characters.",
        )


def _time_zones() -> Finding:
    try:
        ZoneInfo("Europe/Berlin")
        release = importlib.metadata.version("tzdata")
    except (ZoneInfoNotFoundError, importlib.metadata.PackageNotFoundError):
        return Finding(
            "fail", "time zones", "there is no time zone database", "Run python3 bootstrap.py."
        )
    return Finding("ok", "time zones", f"tzdata {release}")


async def _port(settings: Settings) -> Finding:
    where = f"{settings.host}:{settings.port}"
    problem = await asyncio.to_thread(_listening_problem, settings)
    if problem is None:
        return Finding("ok", "port", f"{where} is free; people reach it as {settings.base_url}")
    if problem.errno == errno.EADDRINUSE and await _is_subledger(where):
        return Finding("ok", "port", f"{where}: Subledger answers there already")
    fixes = {
        errno.EADDRINUSE: "Stop whoever listens there, or set SUBLEDGER_PORT to a free port.",
        errno.EACCES: "Ports under 1024 are root's: set SUBLEDGER_PORT to a higher one.",
    }
    fix = fixes.get(problem.errno or 0, "Set SUBLEDGER_HOST to an address of this machine.")
    return Finding("fail", "port", f"{where}: {problem.strerror}", fix)


def _listening_problem(settings: Settings) -> OSError | None:
    """What binding the port says; None if it could be ours."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


async def _is_subledger(where: str) -> bool:
    """Whether our own API answers on the port."""
    try:
        async with httpx.AsyncClient(timeout=_ANSWER_WITHIN_S, trust_env=False) as client:
            answer = await client.get(f"http://{where}/openapi.json")
            return str(answer.json()["info"]["title"]).startswith("Subledger")
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False


def _network() -> Finding:
    try:
        # Connecting a datagram socket sends nothing: it only asks for a route.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
    except OSError:
        return Finding("ok", "network", "none; not needed once installed")
    return Finding("ok", "network", "there is a route; not needed once installed")


# --- the embedded PostgreSQL ---------------------------------------------------------------------


async def _embedded(settings: Settings) -> list[Finding]:
    """What starting the embedded server would meet."""
    try:
        user = privileges.choose()
    except PostgresProblem as problem:
        return [Finding("fail", "embedded", str(problem), "Set SUBLEDGER_DATABASE_URL.")]
    folder = settings.folder()
    home = folder / "postgresql"
    findings = [_folder(folder, home, user), _space(folder), _socket(home, user)]
    try:
        major = cluster.major_of(home)
        found = await asyncio.to_thread(binaries.find, major=major)
    except PostgresProblem as problem:
        return [*findings, Finding("fail", "embedded", *_halves(str(problem)))]
    except PermissionError:
        return findings  # the folder was found closed already
    findings.append(_programs(found, major))
    running = postmaster.find(cluster.data_of(home))
    if running is not None:
        findings.append(await _running(home, running))
    elif major is not None:
        findings.append(Finding("ok", "embedded", "stopped; serve, demo and worker start it"))
    return findings


def _halves(text: str) -> tuple[str, str]:
    """What is wrong, and what to do: our problems say both, in this order."""
    said, _, fix = text.partition(". ")
    return said, fix or "See there."


def _folder(folder: Path, home: Path, user: privileges.RunAs) -> Finding:
    """Whether the data folder could be made, or is ours."""
    subject, mend = "data folder", "Set SUBLEDGER_DATA_DIR to a folder that you may write to."
    nearest = _nearest(folder)
    if not nearest.is_dir():
        return Finding("fail", subject, f"{nearest} is not a folder", mend)
    closed = privileges.closed_to(user, home)
    if closed is not None:
        return Finding(
            "fail",
            subject,
            f"{user.name}, under which PostgreSQL runs, cannot pass {closed}",
            "Set SUBLEDGER_DATA_DIR to a folder that it can reach, such as /var/lib/subledger.",
        )
    existing = home if home.exists() else nearest
    if home.exists() and home.stat().st_uid != user.uid:
        owner = home.stat().st_uid
        return Finding("fail", subject, f"{home} belongs to user id {owner}", mend)
    if os.statvfs(existing).f_flag & os.ST_RDONLY:
        return Finding("fail", subject, f"{existing} is on a read-only file system", mend)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("fail", subject, f"{existing} cannot be written to", mend)
    said = str(folder) if folder.exists() else f"{folder}, made at the first start"
    return Finding("ok", subject, said)


def _nearest(folder: Path) -> Path:
    """The folder itself, or the first one above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _space(folder: Path) -> Finding:
    nearest = _nearest(folder)
    free_mb = shutil.disk_usage(nearest).free // 2**20
    said = f"{free_mb:,} MB free in {nearest}"
    if free_mb < _NEEDED_MB:
        fix = f"Free {_NEEDED_MB} MB, or set SUBLEDGER_DATA_DIR to another disk."
        return Finding("fail", "disk", said, fix)
    if free_mb < _TIGHT_MB:
        return Finding("warn", "disk", said, "The write-ahead log alone may take 2 GB: free some.")
    return Finding("ok", "disk", said)


def _socket(home: Path, user: privileges.RunAs) -> Finding:
    try:
        chosen = sockets.preferred(home, user)
    except PostgresProblem as problem:
        return Finding("fail", "socket", *_halves(str(problem)))
    if chosen.parent == home:
        return Finding("ok", "socket", str(chosen))
    why = f"the data folder's path has a space or is over {sockets.MOST_BYTES} bytes"
    return Finding("ok", "socket", f"{chosen} ({why})")


def _programs(found: binaries.Binaries, major: int | None) -> Finding:
    said = f"PostgreSQL {found.major} from {found.folder} ({found.source})"
    if major is None or major == found.major:
        return Finding("ok", "programs", said)
    return Finding(
        "fail",
        "programs",
        f"{said}, but the data were written by PostgreSQL {major}",
        f"Install PostgreSQL {major}, or dump with it and restore into a new data folder.",
    )


async def _running(home: Path, running: postmaster.Running) -> Finding:
    """Ask the running embedded server."""
    secret = home / "superuser.password"
    try:
        connection = await asyncpg.connect(
            host=str(running.socket_dir or home / "socket"),
            port=sockets.PORT,
            user=cluster.SUPERUSER,
            password=secret.read_text().strip(),
            database="postgres",
            timeout=_CONNECT_WITHIN_S,
        )
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        return Finding(
            "fail",
            "embedded",
            f"runs (pid {running.pid}) and does not answer: {_words(error)}",
            f"Read {postmaster.log_of(home)}; stop it with kill -INT {running.pid}.",
        )
    try:
        version = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    return Finding("ok", "embedded", f"runs, PostgreSQL {version}, pid {running.pid}")


# --- a given PostgreSQL --------------------------------------------------------------------------


async def _given(settings: Settings) -> list[Finding]:
    """Ask the servers that the settings name."""
    findings = []
    if settings.secret_key is None:
        findings.append(
            Finding(
                "fail",
                "secret key",
                "a database is set, but no secret key",
                "Set SUBLEDGER_SECRET_KEY to a long random text, the same for every process.",
            )
        )
    admin = settings.database_url
    if admin is not None:
        findings += await _database("database", admin.get_secret_value(), is_service=False)
        if settings.secret_key is not None:
            for service in sorted(set(migrate.SERVICES) - settings.service_urls.keys())[:1]:
                url = migrate.service_url(
                    admin.get_secret_value(), service, settings.secret_key.get_secret_value()
                )
                findings += await _database("service role", url, is_service=True)
    for service, own in sorted(settings.service_urls.items()):
        findings += await _database(service, own.get_secret_value(), is_service=True)
    return findings


async def _database(subject: str, url: str, *, is_service: bool) -> list[Finding]:
    """Whether a server answers, is new enough, and gives the role neither too much nor too little.

    Passwords never show: a server is named by host, port and database.
    """
    parsed = make_url(url).set(drivername="postgresql")
    host = parsed.host or parsed.query.get("host", "socket")
    port = parsed.port or parsed.query.get("port", "5432")
    where = f"{parsed.username}@{host}:{port}/{parsed.database}"
    try:
        connection = await asyncpg.connect(
            parsed.render_as_string(False), timeout=_CONNECT_WITHIN_S, statement_cache_size=0
        )
    except (OSError, ssl.SSLError, asyncpg.PostgresError, TimeoutError, ValueError) as error:
        return [Finding("fail", subject, f"{where}: {_words(error)}", _mend(error, is_service))]
    try:
        row = await connection.fetchrow(
            "SELECT current_setting('server_version') AS version,"
            " current_setting('server_version_num')::int / 10000 AS major,"
            " rolsuper, rolbypassrls, rolcreaterole, clock_timestamp() AS now"
            " FROM pg_catalog.pg_roles WHERE rolname = current_user"
        )
    finally:
        await connection.close()
    assert row is not None, "the current user is a role"
    findings = [_version(subject, where, row), _clock(subject, row["now"])]
    return [*findings, *_rights(subject, row, is_service=is_service)]


def _version(subject: str, where: str, row: asyncpg.Record) -> Finding:
    said = f"{where}: PostgreSQL {row['version']}"
    if row["major"] < binaries.OLDEST:
        return Finding("fail", subject, said, f"PostgreSQL {binaries.OLDEST} or newer is needed.")
    return Finding("ok", subject, said)


def _clock(subject: str, now: datetime) -> Finding:
    """Leases and token times compare this machine's clock with the server's."""
    off_s = abs((datetime.now(UTC) - now).total_seconds())
    if off_s > _CLOCK_OFF_BY_AT_MOST_S:
        said = f"this machine and the server of {subject} differ by {off_s:.0f} s"
        return Finding("warn", "clock", said, "Let both keep time by NTP.")
    return Finding("ok", "clock", f"this machine and the server of {subject} agree")


def _rights(subject: str, row: asyncpg.Record, *, is_service: bool) -> Iterable[Finding]:
    if is_service and (row["rolsuper"] or row["rolbypassrls"]):
        yield Finding(
            "fail",
            subject,
            "a service must not log in as superuser or with BYPASSRLS: nothing would keep tenants"
            " apart",
            "Give the service's own role, which subledger migrate makes.",
        )
    if not is_service and not (row["rolsuper"] or row["rolcreaterole"]):
        yield Finding(
            "warn",
            subject,
            "this role may not create roles, which subledger migrate has to do once",
            "Migrate with an administrator's URL in SUBLEDGER_DATABASE_URL.",
        )


def _words(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text.splitlines()[0]


def _mend(error: BaseException, is_service: bool) -> str:
    """What to do about a server that did not let us in."""
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        if is_service:
            return "Run subledger migrate with the same SUBLEDGER_SECRET_KEY; it sets the password."
        return "Check name and password in the URL (special characters as %xx)."
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return "Create the database: createdb NAME."
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return "Raise max_connections, or lower SUBLEDGER_POOL_SIZE."
    if isinstance(error, socket.gaierror):
        return "Check the host's name in the URL."
    return "Start the server, and check host, port and firewall."
