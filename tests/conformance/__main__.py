"""``python -m tests.conformance --cases PATH… --json``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.conformance.run import CASES, deviations, run


def main() -> int:
    """Print what passed. Exit code 1 if a case neither passes nor is a listed deviation."""
    options = argparse.ArgumentParser(prog="python -m tests.conformance")
    options.add_argument("--cases", nargs="+", type=Path, default=sorted(CASES.glob("*.jsonl")))
    options.add_argument("--json", action="store_true", help="the totals as the last line")
    given = options.parse_args()
    report = run(given.cases)
    for line in report.lines():
        print(line)
    known = deviations()
    unlisted = sorted(case for case in report.reasons if case not in known)
    print(f"{len(report.reasons) - len(unlisted)} listed deviations, {len(unlisted)} unlisted")
    if given.json:
        print(json.dumps(report.totals()))
    return 1 if unlisted else 0


if __name__ == "__main__":
    sys.exit(main())
