"""Four days of simulated water come to what was recorded: late data, corrections, reviews, visits and failed checks.

``tests/data/recorded_days.json`` holds the outcome. A change that is meant to alter it records it again with
``python -m tests.contract.test_recorded_days``, and its commit says what differs and why.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from infra.errors import Refused
from infra.times import DAY_MS, rfc3339
from ingest.analysis import backtest
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from riverchief import files
from sensors.maintenance import Check, Review, Verdict
from sensors.parameters import catalogue
from sensors.standards.hj915 import CheckKind
from tests import rivers
from tests.world import HOUR, message
from tools.score import run as score

RECORDED = Path(__file__).parent.parent / "data" / "recorded_days.json"
RULES = Path(__file__).parents[2] / "config" / "rules.toml"
SLICE_MS = HOUR
"""Messages of an hour are handed in at once, to save time."""
PEOPLE_FROM_MS = DAY_MS + 12 * HOUR
"""Since when people act, after the start: the detectors know the water by then."""
BY = "复核员（示例）"


class RecordedRun(score.Run):
    """The scenario, and what people do meanwhile: reviews and their withdrawal, corrections, checks that fail."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._random = random.Random(7)
        self._reviews: list[tuple[str, int]] = []

    def _visited(self, from_ms: int, to_ms: int) -> None:
        super()._visited(from_ms, to_ms)
        if to_ms == self.asked.start_ms + PEOPLE_FROM_MS - HOUR:
            self._review_first_incident(to_ms)
        if to_ms == self.asked.start_ms + PEOPLE_FROM_MS + DAY_MS:
            self._void_review(0, to_ms)
        if to_ms % (2 * HOUR) or to_ms < self.asked.start_ms + PEOPLE_FROM_MS:
            return
        action = self._random.random()
        station, since_ms = self._choose_place(to_ms)
        until_ms = min(since_ms + self._random.randrange(1, 6) * HOUR, to_ms)
        try:
            if action < 0.35:
                self._review(station, since_ms, until_ms, to_ms)
            elif action < 0.5 and len(self._reviews) > 1:
                self._void_review(self._random.randrange(1, len(self._reviews)), to_ms)
            elif action < 0.8:
                self._correct(station, since_ms, until_ms, to_ms)
            else:
                self._fail_check(station, to_ms)
        except Refused:
            pass

    def _choose_place(self, now_ms: int) -> tuple[str, int]:
        """A station and an instant of the last days; every other time those of an incident."""
        with self.database.read() as connection:
            found = incident_queries.list_incidents(connection, limit=3)
        if found and self._random.random() < 0.5:
            one = self._random.choice(found)
            return one.station, min(one.since_ms - HOUR, now_ms - HOUR)
        return self._random.choice(self.registry.stations).key, now_ms - self._random.randrange(2, 30) * HOUR

    def _review(self, station: str, since_ms: int, until_ms: int, now_ms: int) -> None:
        parameter = self._random.choice(["", "nh3n", "do", "turbidity"])
        one = Review(station, parameter, since_ms, until_ms, Verdict.BAD, "气泡", BY, now_ms)
        with self.database.write() as connection:
            self._reviews.append((station, maintenance_store.add_review(connection, one, Author(BY, now_ms))))
        self.site.follow_registry()

    def _review_first_incident(self, now_ms: int) -> None:
        """Call all readings of the first incident bad."""
        with self.database.read() as connection:
            one = incident_queries.list_incidents(connection, limit=100)[-1]
        until_ms = one.last_observed_at_ms + HOUR
        review = Review(one.station, "nh3n", one.since_ms - 2 * HOUR, until_ms, Verdict.BAD, "气泡", BY, now_ms)
        with self.database.write() as connection:
            number = maintenance_store.add_review(connection, review, Author(BY, now_ms))
        self._reviews.insert(0, (one.station, number))
        self.site.follow_registry()

    def _void_review(self, which: int, now_ms: int) -> None:
        station, number = self._reviews.pop(which)
        with self.database.write() as connection:
            maintenance_store.void_review(connection, station, number, Author(BY, now_ms))
        self.site.follow_registry()

    def _correct(self, station: str, since_ms: int, until_ms: int, now_ms: int) -> None:
        window = self.store.window(station, since_ms, until_ms)
        parameter = self._random.choice(["nh3n", "do", "turbidity"])
        rows = window.parameter == self.catalogue.index[parameter]
        factor = self._random.choice([0.5, 2.0, 4.0])
        values = {
            int(at): {parameter: round(float(value) * factor, 3)}
            for at, value in zip(window.at[rows], window.value[rows], strict=True)
        }
        if values:
            correction = message(station, values, sent_at_ms=now_ms - 500, received=now_ms)
            self.findings += self.site.process([correction], now_ms).findings

    def _fail_check(self, station: str, now_ms: int) -> None:
        check = Check(station, "nh3n", CheckKind.SPAN, now_ms - HOUR, 2.0, 3.1, by=BY)
        with self.database.write() as connection:
            maintenance_store.add_check(connection, check, Author(BY, now_ms))
        self.site.follow_registry()


@contextmanager
def recorded_run() -> Iterator[RecordedRun]:
    known = catalogue()
    scenario = rivers.scenario_of("recorded-days")
    with backtest.temporary_database() as database, pytest.MonkeyPatch.context() as patch:
        registry = scenario.registry(rivers.SITE)
        with database.write() as connection:
            registry_store.save(connection, registry)
        patch.setattr(score, "SLICE_MS", SLICE_MS)
        run = RecordedRun(database, scenario, registry, files.read_rules(RULES, known), seed=1, lead_days=0)
        run.fill()
        run.play()
        yield run


def outcome(run: RecordedRun) -> dict[str, Any]:
    """Flags by station, and every incident with its history, as plain values."""
    with run.database.read() as connection:
        found = incident_queries.list_incidents(connection, limit=10_000)[::-1]
        histories = [incident_store.history(connection, one.id) for one in found]
    flags: dict[str, Any] = {}
    for station in run.registry.stations:
        window = run.store.window(station.key, 0, 2**53)
        flags[station.key] = {
            "readings": len(window.at),
            "flags": hashlib.sha256(window.packed.astype("<i8").tobytes()).hexdigest()[:16],
            "suspect": int(((window.packed & 15) >= 3).sum()),
        }
    return {
        "stations": flags,
        "incidents": [
            {
                "what": f"{one.kind} {one.colour} {one.station} {one.parameter}{' retrospective' * one.retrospective}",
                "state": f"{one.state} {'active' if one.active else 'over'}",
                "times": f"{rfc3339(one.since_ms)} to {rfc3339(one.last_observed_at_ms)}",
                "conditions": [f"{c.rule} {c.station} {c.parameter}" for c in one.conditions],
                "history": [
                    f"{rfc3339(e.at_ms)} {e.what}{'' if e.observed_at_ms is None else ' ' + rfc3339(e.observed_at_ms)}"
                    for e in entries
                ],
            }
            for one, entries in zip(found, histories, strict=True)
        ],
    }


def test_four_days_of_late_data_corrections_and_reviews_come_to_what_was_recorded() -> None:
    with recorded_run() as run:
        found = outcome(run)
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert found["stations"] == recorded["stations"]
    assert found["incidents"] == recorded["incidents"]


if __name__ == "__main__":
    with recorded_run() as played:
        RECORDED.write_text(json.dumps(outcome(played), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
