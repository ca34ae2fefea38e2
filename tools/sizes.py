"""Files have at most 500 lines, functions 70: what is longer has more than one subject.

Exits 1 with file, line and size otherwise. A function is counted from its ``def`` to its last line,
texts and inner functions too, since someone has to read them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("src", "tests", "benchmarks", "tools", "examples")
MOST_IN_FILE = 500
MOST_IN_FUNCTION = 70
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def findings(source: str, name: str) -> Iterator[str]:
    """What is too long in a module's source, as ``name:line: what``."""
    lines = len(source.splitlines())
    if lines > MOST_IN_FILE:
        yield f"{name}:1: {lines} lines, more than {MOST_IN_FILE}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _FUNCTIONS) and (own := _lines(node)) > MOST_IN_FUNCTION:
            yield f"{name}:{node.lineno}: {node.name}: {own} lines, more than {MOST_IN_FUNCTION}"


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def main() -> int:
    found: list[str] = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            found += findings(path.read_text(encoding="utf-8"), name)
    for line in found:
        sys.stderr.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
