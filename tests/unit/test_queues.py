"""Every queue of the product stands in the table of docs/operations/overload.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("sensors", "ingest", "governance", "api", "dashboards", "riverchief", "infra")
"""The simulator stands in for devices, which are not ours."""
KINDS = {"Queue", "SimpleQueue", "LifoQueue", "PriorityQueue", "JoinableQueue", "deque"}
PAGE = Path("docs/operations/overload.md")


def queues(source: str) -> Iterator[int]:
    """The lines on which a queue is made, also where its class is handed on as a factory."""
    tree = ast.parse(source)
    from_modules = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in {"queue", "asyncio", "collections", "multiprocessing"}
        for alias in node.names
        if alias.name in KINDS
    }
    modules = {"queue", "asyncio", "collections", "multiprocessing"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for made in (node.func, *(keyword.value for keyword in node.keywords if keyword.arg == "default_factory")):
                by_name = isinstance(made, ast.Name) and made.id in from_modules
                by_module = isinstance(made, ast.Attribute) and made.attr in KINDS
                if by_name or (by_module and isinstance(made.value, ast.Name) and made.value.id in modules):
                    yield node.lineno


def test_every_queue_of_the_code_has_a_row_with_its_bound() -> None:
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    described = {name for row in rows for name in re.findall(r"\(`([\w/]+\.py)`\)", row[1]) if row[2].strip(" –")}
    made = {
        str(path): line
        for package in PACKAGES
        for path in sorted(Path(package).rglob("*.py"))
        for line in queues(path.read_text(encoding="utf-8"))
    }
    assert made.keys() - described == set(), "a queue without a bound and a policy in docs/operations/overload.md"
    assert described - made.keys() == set(), "a row for a queue that is gone"


@pytest.mark.parametrize(
    "source",
    [
        "import queue\nx = queue.Queue()",
        "import asyncio\nx: asyncio.Queue[int] = asyncio.Queue()",
        "from collections import deque\nx = deque()",
        "from collections import deque as line\nx = line(maxlen=3)",
        "from collections import deque\nx = field(default_factory=deque)",
    ],
)
def test_a_queue_is_found_however_it_is_made(source: str) -> None:
    assert list(queues(source)) == [2]
