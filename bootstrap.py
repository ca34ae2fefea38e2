#!/usr/bin/env python3
"""Set up .venv: Python's standard library only, so that it can say what is missing.

``python3 bootstrap.py`` installs what running needs, ``--dev`` also what checking and testing
need. Running it again when nothing changed takes a moment. It ends with 1 and one clear text when
something is missing: Python 3.11, the venv module, a writable folder, space, or the network.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
NEEDED_MB = 500
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
INSTALL_WITHIN_S = 600


class Missing(Exception):
    """Something is missing; the text says what and how to get it."""


def check_python(version=sys.version_info):
    if tuple(version[:2]) < OLDEST:
        raise Missing(
            f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, and this is"
            f" {version[0]}.{version[1]}. Install it and run: python3.11 bootstrap.py"
        )


def check_venv_module():
    try:
        import ensurepip  # noqa: F401  # Debian ships Python without it
        import venv  # noqa: F401
    except ImportError as error:
        raise Missing(
            f"Python's module {error.name} is not installed. Debian and Ubuntu:"
            " apt-get install python3-venv"
        ) from error


def check_folder(folder=ROOT):
    if not os.access(folder, os.W_OK):
        raise Missing(f"the folder {folder} cannot be written to. Clone into one of your own.")
    free_mb = shutil.disk_usage(folder).free // 2**20
    if free_mb < NEEDED_MB and not (folder / ".venv").exists():
        raise Missing(f"{NEEDED_MB} MB are needed in {folder}, and {free_mb} MB are free.")


def run(*command, what):
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=INSTALL_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{what} took more than {INSTALL_WITHIN_S} s: is the network up?") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        tail = "\n  ".join(said[-6:])
        lost = any(
            word in done.stderr.lower()
            for word in ("resolve", "connect", "network", "timed out", "dns", "unreachable")
        )
        hint = "Packages cannot be fetched: check the network and the proxy." if lost else ""
        raise Missing(f"{what} failed. {hint}\n  {tail}")


def stamp_of(lock):
    parts = [lock.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), sys.version.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def set_up(*, dev):
    lock = ROOT / ("requirements-dev.lock" if dev else "requirements.lock")
    stamp, wanted = VENV / ".installed", stamp_of(lock)
    if stamp.exists():
        # What testing needs contains what running needs.
        known = stamp.read_text().split()
        if wanted in known:
            return
    print("setting up .venv …", file=sys.stderr, flush=True)
    python = VENV / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", VENV, what="making .venv")
    uv = VENV / "bin" / "uv"
    if not uv.exists():
        run(
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "uv",
            what="installing uv",
        )
    run(
        uv,
        "pip",
        "sync",
        "-q",
        "--require-hashes",
        "--python",
        python,
        lock,
        what="installing the packages",
    )
    run(
        uv,
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--python",
        python,
        "-e",
        ROOT,
        what="installing subledger",
    )
    known = [wanted]
    if dev:
        known.append(stamp_of(ROOT / "requirements.lock"))
    stamp.write_text("\n".join(known))


def main():
    try:
        check_python()
        check_venv_module()
        check_folder()
        set_up(dev="--dev" in sys.argv[1:])
    except Missing as missing:
        print(f"subledger cannot be set up: {missing}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"subledger cannot be set up: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
