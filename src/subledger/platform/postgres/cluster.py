"""The cluster on disk: made once, whole or not at all, with a generated password."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

from subledger.platform.postgres.binaries import Binaries
from subledger.platform.postgres.privileges import RunAs
from subledger.platform.postgres.problems import PostgresProblem

SUPERUSER = "postgres"
_INITDB_WITHIN_S = 120
_BUILTIN_LOCALE_SINCE = 17


def private_file(path: Path, user: RunAs, make: str) -> str:
    """The content of a 0600 file, written once with ``make`` if it is not there."""
    if not path.exists():
        partial = path.with_name(path.name + ".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as target:
            target.write(make)
            target.flush()
            os.fsync(target.fileno())
        user.own(partial)
        partial.rename(path)
    return path.read_text(encoding="ascii").strip()


def major_of(folder: Path) -> int | None:
    """The version that wrote the data of a data folder; None if there are none yet."""
    version = folder / "cluster" / "PG_VERSION"
    return int(version.read_text().strip()) if version.exists() else None


def ensure(folder: Path, binaries: Binaries, user: RunAs) -> tuple[Path, str]:
    """The cluster's folder and its superuser's password, made by initdb if they are missing.

    initdb works in a folder aside that is renamed when it is complete, so that an interrupted one
    leaves nothing behind. Raises PostgresProblem if the data belong to another major version.
    """
    password = private_file(folder / "superuser.password", user, secrets.token_urlsafe(32))
    cluster = folder / "cluster"
    if not cluster.exists():
        _initdb(folder, binaries, user)
    found = int((cluster / "PG_VERSION").read_text().strip())
    if found != binaries.major:
        raise PostgresProblem(
            f"the data in {cluster} are PostgreSQL {found}'s, and the programs in use are"
            f" {binaries.major}'s. Dump with {found} and restore into a new data folder"
            f" (SUBLEDGER_DATA_DIR), or use the programs of PostgreSQL {found}."
        )
    return cluster, password


def _initdb(folder: Path, binaries: Binaries, user: RunAs) -> None:
    aside = folder / "cluster.partial"
    shutil.rmtree(aside, ignore_errors=True)
    locale = ["--locale=C.UTF-8", "--encoding=UTF8"]
    if binaries.major >= _BUILTIN_LOCALE_SINCE:
        locale = ["--locale-provider=builtin", *locale]
    command = [
        str(binaries.path("initdb")),
        "-D",
        str(aside),
        "-U",
        SUPERUSER,
        "--auth=scram-sha-256",
        f"--pwfile={folder / 'superuser.password'}",
        "--data-checksums",
        *locale,
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_INITDB_WITHIN_S,
            check=False,
            cwd="/",
            env=environment(),
            **user.switch,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PostgresProblem(f"initdb did not run: {error}") from error
    if done.returncode != 0:
        raise PostgresProblem(f"initdb failed: {done.stderr.strip()[-600:]}")
    aside.rename(folder / "cluster")


def environment() -> dict[str, str]:
    """What PostgreSQL's programs see of ours: nothing that could change where they work."""
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
