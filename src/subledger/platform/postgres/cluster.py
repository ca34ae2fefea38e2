"""The cluster on disk: made once, whole or not at all, with a generated password."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

from subledger.platform.postgres import files
from subledger.platform.postgres.binaries import Binaries
from subledger.platform.postgres.privileges import RunAs
from subledger.platform.postgres.problems import PostgresProblem, disk_hint

SUPERUSER = "postgres"
_INITDB_WITHIN_S = 120
_BUILTIN_LOCALE_SINCE = 17
_PARTIAL = "cluster.partial-"


def data_of(home: Path) -> Path:
    """PostgreSQL's own folder."""
    return home / "cluster"


def major_of(home: Path) -> int | None:
    """The version that wrote the data; None if there are none yet.

    Raises PostgresProblem if there is a cluster whose version cannot be read.
    """
    data = data_of(home)
    if not data.exists():
        return None
    try:
        return int((data / "PG_VERSION").read_text().strip())
    except (OSError, ValueError) as error:
        raise PostgresProblem(
            f"{data} is damaged: its PG_VERSION cannot be read. Restore it from a backup, or move"
            " it away to begin anew."
        ) from error


def ensure(home: Path, binaries: Binaries, user: RunAs) -> str:
    """See that there is a cluster which these programs can run; the superuser's password.

    initdb works in a folder aside that is renamed when it is complete, so that an interrupted one
    leaves nothing behind. Raises PostgresProblem if the data belong to another major version.
    """
    password = files.secret(home / "superuser.password", user, secrets.token_urlsafe(32))
    found = major_of(home)
    if found is None:
        _initdb(home, binaries, user)
    elif found != binaries.major:
        raise PostgresProblem(
            f"the data in {data_of(home)} were written by PostgreSQL {found}, and the programs"
            f" found here are {binaries.major}'s. They are left as they are. Either install"
            f" PostgreSQL {found} (Debian: apt-get install postgresql-{found}): it is then used;"
            f" or dump with {found}'s pg_dumpall and restore into a new data folder"
            " (SUBLEDGER_DATA_DIR); or move the folder away to begin anew."
        )
    return password


def _initdb(home: Path, binaries: Binaries, user: RunAs) -> None:
    for left in home.glob(f"{_PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)
    # A name of its own: an initdb whose parent was killed may still be at work on the last one.
    aside = home / f"{_PARTIAL}{secrets.token_hex(4)}"
    locale = ["--locale=C.UTF-8", "--encoding=UTF8"]
    if binaries.major >= _BUILTIN_LOCALE_SINCE:
        locale = ["--locale-provider=builtin", *locale]
    command = [
        *(str(binaries.path("initdb")), "-D", str(aside), "-U", SUPERUSER),
        *("--auth=scram-sha-256", f"--pwfile={home / 'superuser.password'}", "--data-checksums"),
        *locale,
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
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
        said = done.stderr.strip()[-600:]
        raise PostgresProblem(f"initdb failed: {said}{disk_hint(said)}")
    aside.rename(data_of(home))
    files.sync_folder(home)


def environment() -> dict[str, str]:
    """What PostgreSQL's programs see of ours: nothing that could change where they work."""
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
