"""Files have at most 500 lines, functions 70: what is longer has more than one subject.

Exits 1 with file, line and size otherwise. A function is counted from its ``def`` to its last line,
texts in it too, since someone has to read them. A function inside another (a route among those that
``_add_reads`` adds) is counted for itself and not for the outer one.
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
HELD = {"tests/walk/test_tenant_walk.py"}
"""Too long, and being rewritten elsewhere. One that has become short is to be taken out."""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def findings(source: str, name: str) -> Iterator[str]:
    """What is too long in a module's source, as ``name:line: what``."""
    lines = len(source.splitlines())
    if lines > MOST_IN_FILE:
        yield f"{name}:1: {lines} lines, more than {MOST_IN_FILE}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _FUNCTIONS) and (own := _lines(node) - _inner(node)) > MOST_IN_FUNCTION:
            yield f"{name}:{node.lineno}: {node.name}: {own} lines, more than {MOST_IN_FUNCTION}"


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef, *, decorated: bool = False) -> int:
    first = min([node.lineno, *(each.lineno for each in node.decorator_list if decorated)])
    return (node.end_lineno or node.lineno) - first + 1


def _inner(node: ast.AST) -> int:
    """The lines of the functions that are defined right inside this one."""
    return sum(
        _lines(each, decorated=True) if isinstance(each, _FUNCTIONS) else _inner(each)
        for each in ast.iter_child_nodes(node)
    )


def main() -> int:
    found: list[str] = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            lines = list(findings(path.read_text(encoding="utf-8"), name))
            if name not in HELD:
                found += lines
            elif not lines:
                found.append(f"{name}:1: it is short now: take it out of HELD")
    for line in found:
        sys.stderr.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
