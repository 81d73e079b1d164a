"""The glossary is the dictionary of identifiers: each of its rows names something that is in the code."""

import re
from functools import cache
from pathlib import Path

import pytest

GLOSSARY = Path("docs/glossary.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!term \|)([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", GLOSSARY, re.MULTILINE)
PACKAGES = ("sensors", "ingest", "governance", "api", "simulator", "riverchief", "infra")


@cache
def words_of_the_code() -> frozenset[str]:
    texts = (path.read_text(encoding="utf-8") for package in PACKAGES for path in Path(package).rglob("*.py"))
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


@pytest.mark.parametrize(("term", "identifiers"), [(row[0], row[2]) for row in ROWS])
def test_every_identifier_of_the_glossary_is_in_the_code(term: str, identifiers: str) -> None:
    names = re.findall(r"`([\w.]+)`", identifiers)
    assert names, term
    assert [name for name in names if not set(name.split(".")) <= words_of_the_code()] == []


def test_every_row_of_the_glossary_has_a_term_in_both_languages_and_a_meaning() -> None:
    assert len(ROWS) > 100
    assert all(re.search(r"[a-zA-Z]", term) and re.search(r"[\u4e00-\u9fff]", chinese) for term, chinese, *_ in ROWS)
    assert all(meaning.strip() for *_, meaning in ROWS)
