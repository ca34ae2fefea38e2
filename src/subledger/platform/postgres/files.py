"""Files and folders that belong to us alone, also where another user could write beside them."""

from __future__ import annotations

import os
from pathlib import Path

from subledger.platform.postgres.privileges import RunAs


def open_private(path: Path, flags: int, user: RunAs) -> int:
    """A descriptor of a 0600 file of the user's, made if it is missing.

    A symbolic link is refused with OSError: as root we must not write where a link leads.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if user.switch:
        os.fchown(descriptor, user.uid, user.gid)
    os.fchmod(descriptor, 0o600)
    return descriptor


def secret(path: Path, user: RunAs, make: str) -> str:
    """The content of a 0600 file, written once, whole, with ``make`` if it is not there."""
    if not path.exists():
        partial = path.with_name(path.name + ".partial")
        with os.fdopen(open_private(partial, os.O_WRONLY | os.O_TRUNC, user), "w") as target:
            target.write(make)
            target.flush()
            os.fsync(target.fileno())
        partial.rename(path)
        sync_folder(path.parent)
    return path.read_text(encoding="ascii").strip()


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
