"""The documents are tested, too: commands exist, links lead somewhere, generated files equal what the code makes."""

import builtins
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from governance import tables as governance_tables
from ingest.storage import tables as ingest_tables
from riverchief.cli.app import app
from sensors.reading import Reason
from tools import sbom

ROOT: Any = get_command(app)
DOCUMENTS = [
    Path("README.md"),
    Path("CHANGELOG.md"),
    *sorted(Path("docs").rglob("*.md")),
    Path("simulator/records/README.md"),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


CALLED = re.compile(r"(?:^|`|bin/|\$ |&& )riverchief ([a-z0-9][^`\n#|;]*)", re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_command_and_option_a_document_names_exists(document: Path) -> None:
    for told in CALLED.findall(document.read_text(encoding="utf-8")):
        command, words = ROOT, told.split()
        while words and hasattr(command, "list_commands"):
            found = command.get_command(None, words[0].rstrip(".,:)"))
            assert found is not None or command is not ROOT, told
            if found is None:
                break  # some of a group's, such as add|list
            command = found
            del words[0]
        options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        named = [word for word in words if re.fullmatch(r"--[a-z0-9-]+", word)]
        assert [name for name in named if name not in options] == [], told


PACKAGES = ("sensors", "ingest", "governance", "api", "riverchief", "dashboards", "simulator", "infra", "tools")


@pytest.mark.parametrize("document", DOCUMENTS[2:], ids=str)
def test_every_source_file_a_document_names_exists(document: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(PACKAGES)})/[\w/.]+\.(?:py|toml))", document.read_text(encoding="utf-8"))
    assert [name for name in named if not Path(name).exists()] == []


def test_every_error_that_a_docstring_announces_is_one_that_callers_can_catch() -> None:
    sources = [path.read_text(encoding="utf-8") for package in PACKAGES for path in Path(package).rglob("*.py")]
    errors = {name for source in sources for name in re.findall(r"^class (\w+)", source, re.MULTILINE)}
    announced = {name for source in sources for name in re.findall(r"\bRaises ([A-Z]\w+)(?=[ .,])", source)}
    assert sorted(announced - errors - set(dir(builtins))) == []


def test_every_reason_of_quarantine_is_explained() -> None:
    text = Path("docs/bad-input.md").read_text(encoding="utf-8")
    assert [reason.key for reason in Reason if f"`{reason.key}`" not in text] == []


def test_every_decision_is_listed_and_names_its_cost_and_the_tests_that_hold_it() -> None:
    listed = Path("docs/decisions/README.md").read_text(encoding="utf-8")
    for page in Path("docs/decisions").glob("0*.md"):
        text = page.read_text(encoding="utf-8")
        assert page.name in listed
        assert all(f"**{part}" in text for part in ("Context", "Decision", "Cost", "Tests")), page
        assert re.findall(r"`tests/[\w/]+\.py::\w+`", text), page  # test_promises.py tells whether they exist


NAMED_TEST = re.compile(r"`(?:tests/)?((?:unit|contract|system|faults)/test_\w+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("document", ["README.md", "docs/security.md"])
def test_every_promise_and_every_threat_names_a_test_that_exists(document: str) -> None:
    text = Path(document).read_text(encoding="utf-8")
    named = NAMED_TEST.findall(text)
    assert len(named) > 3
    for file, name in named:
        assert not name or f"def {name}(" in (Path("tests") / file).read_text(encoding="utf-8"), (file, name)
        assert (Path("tests") / file).exists(), file


def test_every_threat_has_its_attack_and_every_attack_its_threat() -> None:
    rows = [row.split("|") for row in Path("docs/security.md").read_text(encoding="utf-8").splitlines()]
    threats = [row for row in rows if len(row) == 7 and re.fullmatch(r" \d [STRIDE ]+", row[1])]
    assert len(threats) > 15
    assert [row[2] for row in threats if not NAMED_TEST.search(row[4]) and '"' not in row[4]] == []
    named = {name for row in threats for name in re.findall(r'"([^"]+)"', row[4])}
    attacks = re.findall(r'^    "([^"]+)": ', Path("tests/system/test_attacks.py").read_text(encoding="utf-8"), re.M)
    assert named - set(attacks) == set()


def test_the_bill_of_materials_has_every_library_that_is_needed() -> None:
    components = sbom.document()["components"]
    names = {one["name"] for one in components if one["purl"].startswith("pkg:pypi/")}
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[\[<>=!~; ]", one)[0].lower() for one in project["dependencies"]}
    assert needed - names == set()
    assert len({one["bom-ref"] for one in components}) == len(components)


def test_no_table_is_declared_twice() -> None:
    assert governance_tables.incident.metadata is ingest_tables.station.metadata
