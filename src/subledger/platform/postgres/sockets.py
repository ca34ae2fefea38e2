"""Where the server's socket lives: a private folder whose path fits into a socket's address."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from subledger.platform.postgres.privileges import RunAs, closed_to
from subledger.platform.postgres.problems import PostgresProblem

PORT = 5432
MOST_BYTES = 107
"""sockaddr_un.sun_path holds 108 bytes with its end (unix(7))."""


def path_fits(folder: Path) -> bool:
    """Whether the server's socket can be in the folder, and every client can name it there.

    A space, comma or quote would have to be escaped differently in the server's setting, in URLs
    and in libpq's connection strings.
    """
    whole = len(f"{folder}/.s.PGSQL.{PORT}".encode())
    return (
        whole <= MOST_BYTES and str(folder).isprintable() and not set(str(folder)) & set(" ,'\"\\@")
    )


def preferred(home: Path, user: RunAs) -> Path:
    """The folder for the socket: in ``home`` if its path fits, else a short one of the user's."""
    if path_fits(home / "socket"):
        return home / "socket"
    name = f"subledger-{user.uid}-{hashlib.sha256(str(home).encode()).hexdigest()[:16]}"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    bases = [Path(runtime)] if runtime and not user.switch else []
    for base in [*bases, Path(tempfile.gettempdir()), Path("/tmp")]:
        if path_fits(base / name) and base.is_dir() and closed_to(user, base) is None:
            return base / name
    raise PostgresProblem(
        f"there is no folder with a path short enough for a socket: {home} is too long, and so is"
        " the temporary folder. Set SUBLEDGER_DATA_DIR to a shorter path."
    )


def make(folder: Path, user: RunAs) -> None:
    """See that the folder is there, the user's, and closed to others.

    Raises PostgresProblem if someone else made it first.
    """
    try:
        folder.mkdir(mode=0o700)
        user.own(folder)
    except FileExistsError:
        pass
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != user.uid or info.st_mode & 0o077:
        raise PostgresProblem(
            f"the socket's folder {folder} belongs to someone else or is open to others."
            " Remove it, or set SUBLEDGER_DATA_DIR to a shorter path."
        )
