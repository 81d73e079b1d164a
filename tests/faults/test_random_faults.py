"""Whatever fails: nothing is lost, doubled or altered, and nobody is called twice. `make faults` goes further."""

import os

import pytest

from tests.faults.kinds import KILL_INGEST
from tests.faults.report import Report
from tests.faults.runner import run

pytestmark = [pytest.mark.broker, pytest.mark.fault]

FAULTS, KILLS, BACKLOG = 25, 10, 2_000
SEED = int(os.environ.get("RIVERCHIEF_FAULT_SEED", "1"))


@pytest.mark.timeout(600)
def test_readings_incidents_and_calls_survive_ten_kills_of_the_ingest_and_fifteen_other_faults() -> None:
    report: Report = run(SEED, FAULTS, "sqlite", kills=KILLS, backlog=BACKLOG)
    assert report.wrong == [], f"seed {SEED}"
    assert sum(one.kind is KILL_INGEST for one in report.faults) >= KILLS
    assert len(report.faults) == FAULTS
    not_stored = map(report.fault_of, report.readings.held | report.readings.named)
    assert KILL_INGEST.name not in not_stored, "a kill of the ingest costs no reading, not even a named one"
    assert report.redelivered > 0, "no kill came in the middle of a batch"
    assert report.readings.stored > 0
    assert report.incidents > 0
    assert report.texts > 0
