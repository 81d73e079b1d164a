"""The whole system on a scenario whose truth is known: what is found, what is missed, and what is left alone.

``tests/scenarios/three-days.toml``, after three days in which nothing happens.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from governance.tables import incident, incident_entry, outbox
from infra.times import DAY_MS, beijing
from ingest.analysis.backtest import WATER_KINDS
from riverchief import files
from sensors.parameters import catalogue
from simulator.scenario import FaultKind
from tests import rivers
from tools.score import run as score
from tools.score.run import Run, Score

MISSED = {
    FaultKind.CLOCK: "a clock two hours behind gives plausible values at plausible times",
    FaultKind.DRIFT: "within days a drift stays inside what the water does by itself; failed checks find it",
    FaultKind.FOULING: "as drift, and the daily swing it flattens is judged over weeks",
}
"""Kinds of fault that may be missed, and why; every other kind has to be found."""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    known = catalogue()
    site = files.read_stations(None, known)
    asked = rivers.scenario_of("three-days", site)
    rules = files.read_rules(None, known)
    with score.played(asked, asked.registry(site), rules, seed=1, lead_days=3) as played:
        yield played


@pytest.fixture(scope="module")
def scored(run: Run) -> Score:
    return run.score()


def test_every_kind_of_fault_is_found_or_its_miss_is_listed(scored: Score) -> None:
    found = {kind for kind, things in score.by_kind(scored.faults) if any(t.found for t in things)}
    assert {t.kind for t in scored.faults} == {str(kind) for kind in FaultKind}
    assert {str(kind) for kind in FaultKind} - found <= {str(kind) for kind in MISSED}


def test_no_fault_of_a_sensor_becomes_an_event_of_the_water(scored: Score) -> None:
    assert [(t.kind, t.station) for t in scored.faults if t.event] == []


def test_good_readings_of_a_rain_keep_their_good_name(scored: Score) -> None:
    assert scored.natural_samples > 1000
    assert scored.natural_flagged < 0.01 * scored.natural_samples


def test_a_night_of_sewage_is_one_incident_below_its_outfall(scored: Score) -> None:
    passed = [t for t in scored.events if t.kind == "sewage"]
    assert {t.station for t in passed} == {"qcc-huanhu-2", "qcc-huanhu-3"}
    assert all(t.found and not t.fault for t in passed)
    begin_ms, end_ms = min(t.span.start_ms for t in passed), max(t.span.end_ms for t in passed)
    raised = [
        one
        for one in scored.incidents
        if one.kind in {kind.value for kind in WATER_KINDS}
        and {"qcc-huanhu-1", "qcc-huanhu-2", "qcc-huanhu-3"} & set(one.stations)
        and begin_ms <= one.since_ms <= end_ms + DAY_MS // 12
    ]
    assert [one.station for one in raised] == ["qcc-huanhu-2"], [(one.title, beijing(one.since_ms)) for one in raised]
    assert not raised[0].retrospective
    assert "qcc-huanhu-3" in raised[0].stations


def test_the_outfall_is_among_the_first_three_candidates(scored: Score) -> None:
    assert [(t.outfall, t.place is not None and t.place <= 3) for t in scored.traced] == [("pk-qcc-02", True)]


def test_the_ledger_misses_what_the_line_lost_and_nothing_else(scored: Score) -> None:
    account = scored.account
    assert account.lost > 100
    assert account.right, account
    assert account.quarantined > 0, "what a clock hours ahead tells lies in the future"
    assert account.stored + account.quarantined == account.sent
    assert account.duplicate > 100


def test_the_score_reads_as_plain_values(scored: Score) -> None:
    told = score.as_json(scored)
    assert told["faults"]["spike"]["found"] >= 1
    assert told["ledger"]["right"] is True
    assert told["events"]["sewage"]["separate_found"] == 1


def test_the_messages_handed_in_again_change_nothing(run: Run) -> None:
    def stands() -> tuple[Any, ...]:
        with run.database.read() as connection:
            tables = [list(connection.execute(sa.select(table)).all()) for table in (incident, incident_entry, outbox)]
        readings = []
        for station in run.registry.stations:
            window = run.store.window(station.key, run.asked.start_ms, run.asked.end_ms)
            readings.append((window.at.tobytes(), window.value.tobytes(), window.packed.tobytes()))
        return *tables, readings

    before = stands()
    again = [m for m in run.messages if m.received_at_ms > run.asked.end_ms - 2 * DAY_MS and m.station[:3] == "qcc"]
    assert len(again) > 1000
    outcome = run.site.process(again, run.asked.end_ms)
    assert int(outcome.stored.sum()) == 0
    assert outcome.findings == ()
    assert stands() == before
