#!/usr/bin/env python3
"""Set up .venv: Python's standard library only, so that it can say what is missing.

``python3 bootstrap.py`` installs what running needs, ``--dev`` also what checking and testing
need. Running it again when nothing changed takes a moment. It ends with 1 and one clear text when
something is missing: Python 3.11, the venv module, pip, a writable folder, space, or the network.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

# Old Pythons have to be able to read this file up to the line that refuses them.
OLDEST = (3, 11)
NEEDED_MB = 700
ROOT = Path(__file__).resolve().parent
INSTALL_WITHIN_S = 600
LOST = (
    *("name resolution", "name or service not known", "no address associated", "dns error"),
    *("network is unreachable", "network unreachable", "connection refused", "timed out"),
    *("max retries exceeded", "error sending request", "failed to fetch", "newconnectionerror"),
    *("proxy", "no matching distribution found", "could not connect", "tunnel"),
)


class Missing(Exception):
    """Something is missing; the text says what and how to get it."""


def check_python():
    if sys.version_info[:2] < OLDEST:
        raise Missing(
            "Python 3.11 or newer is needed, and this is {}.{}. Install it, then:"
            " python3.11 bootstrap.py, or: make PYTHON=python3.11 demo".format(*sys.version_info)
        )


def check_platform():
    if sys.platform == "win32":
        raise Missing("Windows is not supported: use the Windows Subsystem for Linux.")


def check_venv_module():
    try:
        import ensurepip  # noqa: F401  # Debian ships Python without it
        import venv  # noqa: F401
    except ImportError as error:
        version = "{}.{}".format(*sys.version_info)
        raise Missing(
            f"Python's module {error.name} is not installed. Debian and Ubuntu:"
            f" apt-get install python3-venv (or python{version}-venv). Fedora and others have it"
            " in their python3 package."
        ) from error


def check_folder(root):
    if not os.access(root, os.W_OK):
        raise Missing(f"the folder {root} cannot be written to. Clone into one of your own.")
    free_mb = shutil.disk_usage(root).free // 2**20
    if free_mb < NEEDED_MB:
        raise Missing(
            f"{NEEDED_MB} MB are needed in {root}, and {free_mb} MB are free. Free some space."
        )


def run(*command, what, root):
    """Run one step of the installation; Missing with its last words if it fails."""
    # Someone else's virtual environment or target folder must not receive our packages.
    unset = {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_USER"}
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=root,
            env={name: value for name, value in os.environ.items() if name not in unset},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Missing(
            f"{what} took more than {INSTALL_WITHIN_S} s. Is the network up? Running this again"
            " goes on where it stopped."
        ) from None
    if done.returncode != 0:
        raise Missing(f"{what} failed. {advice(done.stderr + done.stdout)}")


def advice(said):
    """What to do about a step's output, and its last lines."""
    lower, shown = said.lower(), 6
    if "no space left" in lower:
        hint = "The disk is full: free some space."
    elif "hash" in lower and "mismatch" in lower:
        hint = "A package is not the one that was locked: do not use it, and tell us."
    elif any(word in lower for word in LOST):
        shown = 1
        hint = (
            "Packages cannot be fetched: is there a network, and is the proxy or mirror of pip"
            " set (pip config list)? The network is needed for this step only."
        )
    else:
        hint = "Its last words:"
    tail = [line for line in said.strip().splitlines() if line.strip()][-shown:]
    return "\n  ".join([hint, *tail])


def stamp_of(lock, root):
    """What an installation was made from: locked packages, our metadata, Python and the place."""
    parts = [lock.read_bytes(), (root / "pyproject.toml").read_bytes(), place_of(root)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def place_of(root):
    """The Python and the folder, whose absolute paths the scripts in .venv hold."""
    return b"\0".join([sys.version.encode(), os.fsencode(root / ".venv")])


def is_ready(root, *, dev):
    """Whether .venv holds what was asked for, or more."""
    stamp = root / ".venv" / ".installed"
    known = stamp.read_text().split() if stamp.exists() else []
    name = "requirements-dev.lock" if dev else "requirements.lock"
    return stamp_of(root / name, root) in known and (root / ".venv/bin/python").exists()


def set_up(root, *, dev):
    """Make .venv whole, whatever state it is in; the stamp is written last."""
    venv, locks = root / ".venv", ["requirements.lock"]
    # What developing needs contains what running needs, and is kept once it was asked for.
    if dev or (venv / ".dev").exists():
        locks.append("requirements-dev.lock")
    stamp, place = venv / ".installed", venv / ".place"
    print("setting up .venv …", file=sys.stderr, flush=True)
    python, uv = venv / "bin" / "python", venv / "bin" / "uv"
    moved = place.exists() and place.read_bytes() != place_of(root)
    if moved or not works(python, "-m", "pip", root=root):
        run(sys.executable, "-m", "venv", "--clear", venv, what="making .venv", root=root)
    stamp.unlink(missing_ok=True)
    place.write_bytes(place_of(root))
    if len(locks) > 1:
        (venv / ".dev").touch()
    if not works(uv, root=root):
        pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
        run(*pip, "--retries", "2", "--force-reinstall", "uv", what="installing uv", root=root)
    sync = (uv, "pip", "sync", "-q", "--require-hashes", "--python", python)
    run(*sync, root / locks[-1], what="installing the packages", root=root)
    own = (uv, "pip", "install", "-q", "--no-deps", "--python", python, "-e", root)
    run(*own, what="installing subledger", root=root)
    stamp.write_text("\n".join(stamp_of(root / name, root) for name in locks))


def works(*program, root):
    """Whether a program of .venv runs; not in one that is half made, or whose Python went away."""
    try:
        shown = subprocess.run(
            [*map(str, program), "--version"],
            cwd=root,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return shown.returncode == 0


@contextlib.contextmanager
def one_at_a_time(root):
    """Two terminals that set up the same clone take turns; the second finds it done."""
    import fcntl

    with (root / "pyproject.toml").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def main(arguments):
    dev = "--dev" in arguments
    try:
        check_python()
        check_platform()
        with one_at_a_time(ROOT):
            if not is_ready(ROOT, dev=dev):
                check_venv_module()
                check_folder(ROOT)
                set_up(ROOT, dev=dev)
    except (Missing, OSError) as missing:
        print(f"subledger cannot be set up: {missing}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
