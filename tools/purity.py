"""The core is pure: no clock, no id, no float, no I/O. Exits 1 with file and line otherwise.

Division by ``/`` is refused too, since on integers it makes a float; exact code writes
``Fraction(a, b)`` or ``//``. ``round`` is refused because it rounds half to even, which no billing
system does. What the core must not call it must not name either: ``clock = datetime.now`` is a
clock as well.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

CORE = Path(__file__).resolve().parent.parent / "src/subledger/core"
CLOCKS = {"now", "today", "utcnow"}
FORBIDDEN_CALLS = {
    "now", "today", "utcnow", "time", "time_ns", "monotonic", "perf_counter", "uuid1", "uuid4",
    "uuid7", "random", "randint", "choice", "shuffle", "urandom", "token_hex", "open", "print",
    "input", "getenv", "sleep", "eval", "exec", "round", "timestamp", "total_seconds", "__import__",
    "import_module", "fromtimestamp", "utcfromtimestamp",
}  # fmt: skip
FORBIDDEN_MODULES = {
    "asyncio", "os", "io", "random", "secrets", "socket", "subprocess", "sys", "threading", "time",
    "uuid", "logging", "pathlib", "urllib", "http", "math", "statistics", "importlib", "shutil",
    "tempfile", "sqlite3", "multiprocessing", "concurrent", "builtins",
}  # fmt: skip


def findings(source: str, name: str) -> list[str]:
    """What is impure in a module's source, as ``name:line: what``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        what = _impure(node)
        if what:
            found.append(f"{name}:{getattr(node, 'lineno', 0)}: {what}")
    return found


def _impure(node: ast.AST) -> str | None:  # noqa: PLR0911  # one answer per kind of node
    match node:
        case ast.Constant(value=float() | complex()):
            return "a float"
        case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
            return "division by /: use Fraction or //"
        case ast.Name(id="float"):
            return "float"
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)) if (
            name in FORBIDDEN_CALLS
        ):
            return f"a call of {name}"
        case ast.Attribute(attr=name) if name in CLOCKS:
            return f"a clock: {name}"
        case ast.Import(names=names):
            bad = [each.name for each in names if each.name.split(".")[0] in FORBIDDEN_MODULES]
            return f"import of {bad[0]}" if bad else None
        case ast.ImportFrom(module=str(module)) if module.split(".")[0] in FORBIDDEN_MODULES:
            return f"import from {module}"
        case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith() | ast.Await():
            return "async"
    return None


def main() -> int:
    found = [
        line
        for path in sorted(CORE.rglob("*.py"))
        for line in findings(path.read_text(encoding="utf-8"), path.name)
    ]
    for line in found:
        sys.stderr.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
