"""The server's process: starting it, finding it by its pid file, stopping it."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from subledger.platform.postgres import files, sockets
from subledger.platform.postgres.binaries import Binaries
from subledger.platform.postgres.cluster import environment
from subledger.platform.postgres.privileges import RunAs
from subledger.platform.postgres.problems import PostgresProblem, disk_hint

_ORPHANS_WITHIN_S = 10
_STOP_WITHIN_S = 60
_LOG_AT_MOST_BYTES = 16 * 2**20
_PROC = Path("/proc")
_SETTINGS = {
    "listen_addresses": "",
    "port": str(sockets.PORT),
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
    # The folder around the socket is 0700, so that only the owner (and root) reaches it.
    "unix_socket_permissions": "0777",
}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs on the data. ``socket_dir`` is None while it is too young to have one."""

    pid: int
    socket_dir: Path | None


def find(data: Path) -> Running | None:
    """The server that runs on the data, by its pid file; None if there is none.

    The pid file of a killed server stays behind, and its pid may be someone else's by now; so
    what counts is a process with that pid which works in the data folder.
    """
    lines = _pid_file(data)
    if not lines or not lines[0].isdigit() or not _works_in(int(lines[0]), data):
        return None
    named = lines[4].strip() if len(lines) > 4 else ""
    return Running(int(lines[0]), Path(named) if named else None)


def spawn(
    *, home: Path, data: Path, socket_dir: Path, binaries: Binaries, user: RunAs
) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own, so that neither Ctrl-C nor our end reaches it."""
    _clear_stale(data, socket_dir)
    settings = {**_SETTINGS, "unix_socket_directories": str(socket_dir)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = log_of(home)
    if log.exists() and log.stat().st_size > _LOG_AT_MOST_BYTES:
        log.rename(log.with_suffix(".log.1"))
    with os.fdopen(files.open_private(log, os.O_WRONLY | os.O_APPEND, user), "ab") as target:
        return subprocess.Popen(
            [str(binaries.path("postgres")), "-D", str(data), *options],
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            cwd="/",
            start_new_session=True,
            env=environment(),
            **user.switch,
        )


def stop(*, data: Path, pg_ctl: Path, user: RunAs) -> None:
    """Stop the server; open connections are ended. Returns when it is gone.

    Raises PostgresProblem if it is still there after a minute.
    """
    done = subprocess.run(
        [str(pg_ctl), "-D", str(data), "-m", "fast", "-w", "-t", str(_STOP_WITHIN_S), "stop"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=environment(),
        **user.switch,
    )
    if done.returncode != 0 and find(data) is not None:
        raise PostgresProblem(f"PostgreSQL could not be stopped: {done.stderr.strip()[-600:]}")


def log_of(home: Path) -> Path:
    """The server's log."""
    return home / "postgresql.log"


def last_words(home: Path) -> str:
    """The end of the server's log, and what to do if it speaks of a full disk."""
    log = log_of(home)
    text = log.read_text(errors="replace")[-4000:].splitlines() if log.exists() else []
    return "\n".join(text[-8:]) + disk_hint("\n".join(text[-20:]))


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _works_in(pid: int, data: Path) -> bool:
    """Whether the process lives and its current folder is the data folder, as every server
    process's is. Without /proc a process that lives has to be taken for the server."""
    if not (_PROC / "self").exists():
        return _exists(pid)
    try:
        return os.path.samefile(_PROC / str(pid) / "cwd", data)
    except OSError:
        return False


def _clear_stale(data: Path, socket_dir: Path) -> None:
    """Remove what a killed server left, where PostgreSQL itself would not.

    It refuses to start if the pid in an old lock file is anybody's. We know better, but only
    after every process of the killed server, which ends by itself, is out of the data.
    Raises PostgresProblem if one stays.
    """
    if not (_PROC / "self").exists():
        return
    deadline = time.monotonic() + _ORPHANS_WITHIN_S
    while inside := [pid for pid in _pids() if _works_in(pid, data)]:
        if time.monotonic() > deadline:
            raise PostgresProblem(
                f"processes of a killed PostgreSQL still work on {data}: {inside}. End them."
            )
        time.sleep(0.05)
    for left in (data / "postmaster.pid", socket_dir / f".s.PGSQL.{sockets.PORT}.lock"):
        left.unlink(missing_ok=True)


def _pids() -> list[int]:
    return [int(each.name) for each in _PROC.iterdir() if each.name.isdigit()]
