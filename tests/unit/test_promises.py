"""What a document promises names the test that holds it, and that test exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PAGES = (Path("README.md"), Path("docs/reliability.md"), Path("docs/bad-input.md"))
"""Pages whose tables with a column ``test`` make promises; those that exist. `test_docs` looks at security.md."""
DECISIONS = sorted(Path("docs/decisions").glob("0*.md"))
_NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_TEST_COLUMNS = ("test", "tests", "held by")


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def missing(text: str) -> list[str]:
    """What a text names as a test and is none."""
    return [
        f"{file}::{name}" if name else file
        for file, name in _NAMED.findall(text)
        if not Path(file).exists() or (name and name not in names_in(file))
    ]


def promises(text: str) -> list[str]:
    """The rows of all tables that have a column for tests."""
    found: list[str] = []
    promising = False
    for line in text.splitlines():
        if not line.startswith("|"):
            promising = False
        elif not promising:
            cells = [cell.strip().lower() for cell in line.strip("|").split("|")]
            promising = any(cell in _TEST_COLUMNS for cell in cells)
        elif not set(line) <= set("|-: "):
            found.append(line)
    return found


@pytest.mark.parametrize("page", [*(page for page in PAGES if page.exists()), *DECISIONS], ids=str)
def test_every_test_that_a_promise_names_exists_and_no_promise_is_without_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert missing(text) == []
    without = [row for row in promises(text) if not re.search(r"`(tests/|make )", row)]
    assert without == []


def test_the_readme_makes_its_promises_in_such_a_table() -> None:
    assert len(promises(Path("README.md").read_text(encoding="utf-8"))) >= 3


def test_a_promise_without_a_test_or_with_one_that_is_not_there_would_be_found() -> None:
    table = "| promise | test |\n|---|---|\n| a | `tests/unit/test_promises.py::test_nothing` |\n| b | soon |\n"
    assert missing(table) == ["tests/unit/test_promises.py::test_nothing"]
    assert promises(table)[1] == "| b | soon |"
