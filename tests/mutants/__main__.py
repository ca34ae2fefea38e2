"""``python -m tests.mutants [--only TEXT]``: take each guard away and see its killer go red.

Each mutant is a copy of the repository's sources with one text replaced; nothing here is changed.
First the killers run on the sources as they are, and have to be green. Exits with 1 if a mutant
survives, or fails otherwise than by a failing test.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.guards import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
AT_ONCE = 2
WITHIN_S = 180


def mutated(mutant: Mutant, folder: Path) -> None:
    """Copy the sources to ``folder`` without the guard. Raises ValueError if it is not found."""
    for part in ("src", "tests", "tools", "examples", "docs", "benchmarks", "pyproject.toml"):
        if (ROOT / part).is_dir():
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / part, folder / part)
    path = folder / "src/subledger" / mutant.file
    path.write_text(without(mutant, path.read_text()))


def without(mutant: Mutant, source: str) -> str:
    """The source without the guard. Raises ValueError unless its text is there exactly once."""
    if source.count(mutant.text) != 1:
        raise ValueError(f"{mutant.guard}: its text is in {mutant.file} not once")
    return source.replace(mutant.text, mutant.instead)


def run(killers: list[str], folder: Path) -> tuple[int, str]:
    """pytest's exit code and the last of what it said."""
    environment = os.environ | {"PYTHONPATH": f"{folder / 'src'}{os.pathsep}{folder}"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *killers],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.strip()[-1500:]


def judge(mutant: Mutant) -> bool:
    """One line of the table; true if the mutant was killed."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The server of the tests is another user's.
        folder.chmod(0o755)
        mutated(mutant, folder)
        try:
            code, said = run([mutant.killer], folder)
        except subprocess.TimeoutExpired:
            code, said = -1, f"not over within {WITHIN_S} s"
    # What cannot be imported or set up is no test that failed.
    killed = code == 1 and "\nFAILED " in said
    word = "killed" if killed else f"SURVIVED ({code})"
    print(f"{word:<13} {time.monotonic() - began:5.1f} s  {mutant.guard}", flush=True)
    print(f"{'':<22} by {mutant.killer.rpartition('/')[2]}", flush=True)
    if not killed:
        print(said)
    return killed


def main() -> int:
    parser = argparse.ArgumentParser(description="Take each guard away; something goes red.")
    parser.add_argument("--only", default="", help="guards whose name contains this")
    asked = parser.parse_args()
    chosen = [each for each in MUTANTS if asked.only in each.guard]
    began = time.monotonic()
    code, said = run(sorted({each.killer for each in chosen}), ROOT)
    if code != 0:
        print(f"The killers are not green by themselves.\n{said}")
        return 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        killed = list(pool.map(judge, chosen))
    print(f"{sum(killed)} of {len(chosen)} killed, {time.monotonic() - began:.0f} s")
    return 0 if all(killed) else 1


if __name__ == "__main__":
    sys.exit(main())
