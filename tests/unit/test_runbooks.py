"""Each alarm of ours has a runbook: parts that report their health, checks of the doctor, metrics that are watched."""

import re
from itertools import chain
from pathlib import Path

from api.pages.models.health import STEPS, runbook
from infra.texts import sections
from riverchief.doctor.examine import CHECKS
from tools import runbooks

ENTRIES = {key.partition(".")[2] for key in sections("runbook")}


def named(pattern: str, *folders: str) -> set[str]:
    """What the code passes to the calls of a pattern."""
    sources = (path.read_text(encoding="utf-8") for folder in folders for path in Path(folder).rglob("*.py"))
    return set(chain.from_iterable(re.findall(pattern, source) for source in sources))


def test_each_part_that_reports_its_health_has_a_runbook_and_a_place_on_the_page() -> None:
    parts = named(r'\b(?:Part|_\w+_health)\(\s*"(\w+)"', "api", "riverchief")
    parts |= named(r'_gateway_service\(\s*"(\w+)"', "riverchief") | {"database"}
    assert {"ingest", "mqtt", "hj212", "notices", "influx", "retention"} <= parts, "the pattern still finds them"
    assert parts - ENTRIES == set()
    assert parts ^ set(chain.from_iterable(STEPS.values())) == set()


def test_each_check_of_the_doctor_has_a_runbook() -> None:
    checks = set(CHECKS) | named(r'\b(?:warning|failure)\(\s*"(\w+)"', "riverchief/doctor")
    assert checks - ENTRIES == set()


def test_each_metric_that_is_watched_leads_to_a_runbook() -> None:
    text = Path("docs/operations/monitoring.md").read_text(encoding="utf-8")
    rows = [row for row in text.splitlines() if row.startswith("| `") and "riverchief_" in row]
    targets = [re.search(r"\(runbooks\.md#(\w+)\) \|$", row) for row in rows if "label `part`" not in row]
    assert len(targets) > 10
    assert [row for row, found in zip(rows, targets, strict=False) if found is None] == []
    assert {found[1] for found in targets if found} - ENTRIES == set()


def test_a_runbook_is_a_meaning_and_three_steps_and_the_document_is_what_the_page_says() -> None:
    for name in ENTRIES:
        text = runbook(name)
        assert text is not None
        assert len(text.zh.splitlines()) == len(text.en.splitlines()) == 4, name
    assert runbooks.PAGE.read_text(encoding="utf-8") == runbooks.page()
