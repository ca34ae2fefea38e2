"""Every word of the payers' pages is there in Russian."""

from __future__ import annotations

import ast
from pathlib import Path

from subledger.platform.http import texts
from subledger.services.payments import pages

_FOLDER = Path(pages.__file__).parent


def _said() -> set[str]:
    """Texts with a blank and a capital letter in front: what pages say to people."""
    found = set()
    for name in ("status.py", "link.py", "app.py", "render.py"):
        tree = ast.parse((_FOLDER / name).read_text(encoding="utf-8"))
        documented = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and isinstance(node.body[0], ast.Expr)
        }
        loose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            and id(node) not in documented | loose
            and node.value[:1].isupper() and (" " in node.value or name == "link.py")
        }  # fmt: skip
    return (
        found
        - {"GET, POST", "A page is read.", "The form is larger than 16 KiB."}
        - {"Open the address again."}
    )


def test_all_that_pages_say_is_translated() -> None:
    say = texts.catalogue(_FOLDER.parent / "locale", "ru").gettext
    said = _said()
    assert len(said) > 25
    assert {each for each in said if say(each) == each} == set()
