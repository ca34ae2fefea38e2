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
from typing import Any

from subledger.platform.postgres.binaries import Binaries
from subledger.platform.postgres.problems import PostgresProblem

_CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class RunAs:
    """The user under which PostgreSQL runs. ``switch`` holds for subprocess; empty if it is us."""

    uid: int
    gid: int
    switch: dict[str, Any]

    def own(self, path: Path) -> None:
        """Give a file or folder that we have just made to the user."""
        if self.switch:
            os.chown(path, self.uid, self.gid)


def choose() -> RunAs:
    """Ourselves, or an unprivileged user if we are root. Raises PostgresProblem if none exists."""
    if os.geteuid() != 0:
        return RunAs(os.geteuid(), os.getegid(), {})
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        switch = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        return RunAs(entry.pw_uid, entry.pw_gid, switch)
    raise PostgresProblem(
        "as root PostgreSQL needs an unprivileged user (postgres or nobody), and there is none."
        " Run subledger as another user."
    )


def can_pass(path: Path, user: RunAs) -> Path | None:
    """The first folder on the way to ``path`` that the user cannot pass, or None."""
    for folder in [*reversed(path.absolute().parents), path.absolute()]:
        if not folder.exists():
            return None
        info = folder.stat()
        if not stat.S_ISDIR(info.st_mode):
            continue
        if info.st_uid == user.uid:
            needed = stat.S_IXUSR
        elif info.st_gid == user.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not info.st_mode & needed:
            return folder
    return None


def make_folder(path: Path, user: RunAs) -> None:
    """The data folder: made with mode 0700 for the user, or an existing one that is its own.

    Raises PostgresProblem if the way there is closed to the user, if it cannot be written, or if
    it belongs to someone else (it is left as it is).
    """
    try:
        if not path.exists():
            path.mkdir(parents=True, mode=0o755)
            path.chmod(0o700)
            user.own(path)
        elif path.stat().st_uid == os.geteuid() and user.switch and not any(path.iterdir()):
            path.chmod(0o700)
            user.own(path)
    except OSError as error:
        raise PostgresProblem(
            f"the data folder {path} cannot be used ({error.strerror}). Set SUBLEDGER_DATA_DIR to"
            " a folder that you may write to."
        ) from error
    closed = can_pass(path, user)
    if closed is not None:
        raise PostgresProblem(
            f"the user {pwd.getpwuid(user.uid).pw_name}, under which PostgreSQL runs, cannot pass"
            f" {closed}. Set SUBLEDGER_DATA_DIR to a folder that it can reach, such as"
            " /var/lib/subledger."
        )
    if path.stat().st_uid != user.uid:
        raise PostgresProblem(
            f"the data folder {path} belongs to another user. Set SUBLEDGER_DATA_DIR to a folder"
            " of your own."
        )


def reachable(binaries: Binaries, folder: Path, user: RunAs) -> Binaries:
    """The programs, copied into ``folder`` if the user cannot reach them where they are."""
    if can_pass(binaries.folder, user) is None:
        return binaries
    root = binaries.folder.parent
    copy = folder / f"postgresql-{binaries.major}-{int(root.stat().st_mtime)}"
    if not copy.exists():
        partial = copy.with_name(copy.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(root, partial, symlinks=True)
        for each in [partial, *partial.rglob("*")]:
            if not each.is_symlink():
                user.own(each)
        partial.rename(copy)
    return Binaries(copy / "bin", binaries.major, binaries.source)
