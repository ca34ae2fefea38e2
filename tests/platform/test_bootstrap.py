"""What a stranger meets before anything is installed: the bootstrap script, run as they run it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("bootstrap.py", "pyproject.toml", "requirements.lock", "requirements-dev.lock")
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can set this up")


@pytest.fixture
def clone() -> Iterator[Path]:
    """A clone as far as the script reads it, in a folder with a space in its name."""
    with tempfile.TemporaryDirectory(prefix="subledger-clone-") as folder:
        os.chmod(folder, 0o755)
        copy = Path(folder) / "my clone"
        copy.mkdir(mode=0o755)
        for name in NEEDED:
            shutil.copy2(ROOT / name, copy)
        yield copy


def run(
    clone: Path, *arguments: str, before: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """``python3 bootstrap.py`` with the interpreter beneath our own environment."""
    python = Path(sys.base_prefix) / "bin/python3"
    return subprocess.run(
        [*before, str(python), str(clone / "bootstrap.py"), *arguments],
        cwd="/",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def loaded(clone: Path) -> ModuleType:
    """The clone's script as a module."""
    spec = importlib.util.spec_from_file_location("bootstrap_of_clone", clone / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_needs_the_standard_library_only(clone):
    lines = (clone / "bootstrap.py").read_text().splitlines()
    imported = {
        each.split()[1].partition(".")[0]
        for each in lines
        if each.strip().startswith(("import ", "from "))
    }
    assert imported <= sys.stdlib_module_names


def test_an_old_python_is_told_what_to_do(clone, monkeypatch):
    bootstrap = loaded(clone)
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(bootstrap.Missing, match=r"Python 3\.11 .* this is 3\.9"):
        bootstrap.check_python()


def test_a_python_without_venv_is_told_which_package_brings_it(clone):
    (clone / "ensurepip.py").write_text("raise ImportError('not here', name='ensurepip')\n")
    done = run(clone)
    assert done.returncode == 1
    assert "Python's module ensurepip is not installed" in done.stderr
    assert "apt-get install python3-venv" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (clone / ".venv").exists()


def test_without_a_network_it_says_so_and_names_no_cure_that_does_not_help(clone):
    nowhere = f"http://127.0.0.1:{free_port()}/simple"
    done = run(clone, PIP_INDEX_URL=nowhere, PIP_FIND_LINKS="", PIP_NO_CACHE_DIR="1")
    assert done.returncode == 1
    assert "installing uv failed. Packages cannot be fetched: is there a network" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (clone / ".venv/.installed").exists()


@NEEDS_ROOT
def test_a_folder_of_somebody_else_is_told(clone):
    become = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    done = run(clone, before=(*become, *reading))
    assert done.returncode == 1
    assert f"the folder {clone} cannot be written to" in done.stderr


@NEEDS_ROOT
def test_a_full_disk_is_told(clone):
    small = clone.parent / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount here")
    try:
        for name in NEEDED:
            shutil.copy2(clone / name, small)
        done = run(small)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert done.returncode == 1
    assert f"700 MB are needed in {small}" in done.stderr


def test_nothing_is_done_when_nothing_changed(clone):
    bootstrap = loaded(clone)
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/python").symlink_to(Path(sys.base_prefix) / "bin/python3")
    said = subprocess.run(
        [str(Path(sys.base_prefix) / "bin/python3"), "-c", _STAMP, str(clone)],
        capture_output=True,
        text=True,
        check=True,
    )
    (clone / ".venv/.installed").write_text(said.stdout)

    began = time.monotonic()
    done = run(clone)

    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 5
    assert bootstrap.is_ready(clone, dev=True) is False
    (clone / "requirements.lock").write_text("changed")
    assert bootstrap.is_ready(clone, dev=False) is False


_STAMP = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import bootstrap
print(bootstrap.stamp_of(Path(sys.argv[1]) / "requirements.lock", Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk is full: free some space."),
        ("error: Failed to fetch: dns error", "Packages cannot be fetched"),
        ("THESE PACKAGES DO NOT MATCH: Hash mismatch for", "not the one that was locked"),
        ("something else", "Its last words:"),
    ],
)
def test_each_failure_has_its_advice(clone, said, advice):
    assert advice in loaded(clone).advice(said)


@pytest.mark.long
def test_a_clone_is_set_up_twice_and_after_a_move(clone):
    shutil.copytree(ROOT / "src", clone / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE"):
        shutil.copy2(ROOT / name, clone)
    first = run(clone)
    if "Packages cannot be fetched" in first.stderr:
        pytest.skip("no network")
    assert (first.returncode, first.stderr) == (0, "setting up .venv …\n")
    second = run(clone)
    assert (second.returncode, second.stderr) == (0, "")

    moved = clone.rename(clone.parent / "moved")
    assert run(moved).returncode == 0
    for program in ("subledger", "alembic"):  # one is ours, one a package's
        shown = subprocess.run(
            [moved / ".venv/bin" / program, "--help"], capture_output=True, text=True, check=False
        )
        assert shown.returncode == 0, shown.stderr
