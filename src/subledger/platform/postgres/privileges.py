"""Running as root: PostgreSQL refuses to, so its programs run as an unprivileged user.

Only folders that we made are ever given to that user; what it cannot reach is copied or refused.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from subledger.platform.postgres.binaries import Binaries
from subledger.platform.postgres.problems import PostgresProblem

_CANDIDATES = ("postgres", "nobody")


class Switch(TypedDict, total=False):
    """The arguments with which subprocess becomes another user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class RunAs:
    """The user under which PostgreSQL runs. ``switch`` is empty if it is the one who asks."""

    uid: int
    gid: int
    name: str
    switch: Switch

    def own(self, path: Path) -> None:
        """Give a file or folder that we have just made to the user."""
        if self.switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def choose() -> RunAs:
    """Ourselves, or an unprivileged user if we are root. Raises PostgresProblem if none exists."""
    uid = os.geteuid()
    if uid != 0:
        try:
            return RunAs(uid, os.getegid(), pwd.getpwuid(uid).pw_name, {})
        except KeyError:
            raise PostgresProblem(
                f"the user id {uid} has no name on this system, and PostgreSQL wants one. Add it"
                " to /etc/passwd, or set SUBLEDGER_DATABASE_URL to a server that runs already."
            ) from None
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        switch = Switch(user=entry.pw_uid, group=entry.pw_gid, extra_groups=[])
        return RunAs(entry.pw_uid, entry.pw_gid, name, switch)
    raise PostgresProblem(
        "as root PostgreSQL needs an unprivileged user (postgres or nobody), and there is none."
        " Run subledger as another user."
    )


def closed_to(user: RunAs, path: Path) -> Path | None:
    """The first folder on the way to ``path``, itself included, that the user cannot pass; None
    if the way is open as far as it exists."""
    for folder in [*reversed(path.absolute().parents), path.absolute()]:
        try:
            info = folder.stat()
        except FileNotFoundError:
            return None
        except OSError:
            return folder
        if info.st_uid == user.uid:
            needed = stat.S_IXUSR
        elif info.st_gid == user.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if stat.S_ISDIR(info.st_mode) and not info.st_mode & needed:
            return folder
    return None


def make_home(folder: Path, user: RunAs) -> Path:
    """The server's own folder inside the data folder, 0700 and the user's; made if missing.

    The data folder is made too (0700; as root 0711, so that the server's user can pass). A folder
    that was there keeps its owner and mode. Raises PostgresProblem if it cannot be used.
    """
    home = folder.absolute() / "postgresql"
    try:
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700)
            folder.chmod(0o711 if user.switch else 0o700)
        if not home.exists():
            home.mkdir(mode=0o700)
            user.own(home)
    except OSError as error:
        raise PostgresProblem(
            f"the data folder {folder} cannot be used ({error.strerror}). Set SUBLEDGER_DATA_DIR"
            " to a folder that you may write to."
        ) from error
    closed = closed_to(user, home)
    if closed is not None:
        raise PostgresProblem(
            f"the user {user.name}, under which PostgreSQL runs, cannot pass {closed}. Set"
            " SUBLEDGER_DATA_DIR to a folder that it can reach, such as /var/lib/subledger."
        )
    info = home.lstat()
    if info.st_uid != user.uid or not stat.S_ISDIR(info.st_mode):
        raise PostgresProblem(
            f"{home} belongs to another user than {user.name}. Set SUBLEDGER_DATA_DIR to a folder"
            " of your own, or run subledger as the user who made it."
        )
    return home


def reachable(binaries: Binaries, home: Path, user: RunAs) -> Binaries:
    """The programs, copied into ``home`` if the user cannot reach them where they are.

    Only root may need that: its virtual environment may lie in a private folder, which stays
    private. Raises PostgresProblem if installed programs, which are not ours to copy, are closed.
    """
    closed = closed_to(user, binaries.folder) if user.switch else None
    if closed is None:
        return binaries
    if binaries.source != "wheel":
        raise PostgresProblem(
            f"the user {user.name}, under which PostgreSQL runs, cannot pass {closed} on the way"
            f" to {binaries.folder}."
        )
    site = binaries.folder.parents[2]
    stamp = int(binaries.folder.stat().st_mtime)
    copy = home / f"programs-{binaries.major}-{stamp}"
    if not copy.exists():
        partial = home / f"{copy.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        for needed in binaries.needs:
            shutil.copytree(needed, partial / needed.relative_to(site), symlinks=True)
        for each in [partial, *partial.rglob("*")]:
            user.own(each)
        partial.rename(copy)
    folder = copy / binaries.folder.relative_to(site)
    return Binaries(folder, binaries.major, binaries.source, (copy,))
