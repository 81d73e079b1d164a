"""A month of simulated water comes to what was recorded: late data, corrections, reviews, visits and failed checks.

``tests/data/recorded_month.json`` holds the outcome. A change that is meant to alter it records it again with
``python -m tests.contract.test_recorded_month``, and its commit says what differs and why.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from governance import incidents
from ingest import backtest
from ingest.storage import registry as registry_store
from ingest.storage import upkeep
from ingest.storage.changes import Author
from riverchief import files, score
from sensors.errors import Refused
from sensors.parameters import catalogue
from sensors.standards.hj915 import CheckKind
from sensors.times import DAY_MS, rfc3339
from sensors.upkeep import Check, Review, Verdict
from tests import rivers
from tests.world import message

RECORDED = Path(__file__).parent.parent / "data" / "recorded_month.json"
HOUR_MS = 3_600_000
SLICE_MS = 900_000
"""Messages of a quarter of an hour are handed in at once, which takes a third of the time."""
WHO = "复核员（示例）"


class Month(score.Run):
    """The scenario, and what people do meanwhile: reviews and their withdrawal, corrections, checks that fail."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._chance = random.Random(7)
        self._reviews: list[tuple[str, int]] = []

    def _visited(self, from_ms: int, to_ms: int) -> None:
        super()._visited(from_ms, to_ms)
        if to_ms % (6 * HOUR_MS) or to_ms < self.asked.start_ms + 15 * DAY_MS:
            return
        what = self._chance.random()
        station, since_ms = self._somewhere(to_ms)
        until_ms = min(since_ms + self._chance.randrange(1, 6) * HOUR_MS, to_ms)
        try:
            if what < 0.35:
                self._review(station, since_ms, until_ms, to_ms)
            elif what < 0.5 and self._reviews:
                key, number = self._reviews.pop(self._chance.randrange(len(self._reviews)))
                with self.database.write() as connection:
                    upkeep.void_review(connection, key, number, Author(WHO, to_ms))
                self.site.follow_registry()
            elif what < 0.8:
                self._correct(station, since_ms, until_ms, to_ms)
            else:
                self._fail(station, to_ms)
        except Refused:
            pass

    def _somewhere(self, now_ms: int) -> tuple[str, int]:
        """A station and an instant of the last days; every other time those of an incident."""
        with self.database.read() as connection:
            found = incidents.list_incidents(connection, limit=3)
        if found and self._chance.random() < 0.5:
            one = self._chance.choice(found)
            return one.station, min(one.since_ms - HOUR_MS, now_ms - HOUR_MS)
        return self._chance.choice(self.registry.stations).key, now_ms - self._chance.randrange(2, 30) * HOUR_MS

    def _review(self, station: str, since_ms: int, until_ms: int, now_ms: int) -> None:
        parameter = self._chance.choice(["", "nh3n", "do", "turbidity"])
        one = Review(station, parameter, since_ms, until_ms, Verdict.BAD, "气泡", WHO, now_ms)
        with self.database.write() as connection:
            self._reviews.append((station, upkeep.add_review(connection, one, Author(WHO, now_ms))))
        self.site.follow_registry()

    def _correct(self, station: str, since_ms: int, until_ms: int, now_ms: int) -> None:
        window = self.store.window(station, since_ms, until_ms)
        which = self._chance.choice(["nh3n", "do", "turbidity"])
        rows = window.parameter == self.catalogue.index[which]
        factor = self._chance.choice([0.5, 2.0, 4.0])
        values = {
            int(at): {which: round(float(value) * factor, 3)}
            for at, value in zip(window.at[rows], window.value[rows], strict=True)
        }
        if values:
            said = message(station, values, sent_at_ms=now_ms - 500, received=now_ms)
            self.findings += self.site.process([said], now_ms).findings

    def _fail(self, station: str, now_ms: int) -> None:
        check = Check(station, "nh3n", CheckKind.SPAN, now_ms - HOUR_MS, 2.0, 3.1, by=WHO)
        with self.database.write() as connection:
            upkeep.add_check(connection, check, Author(WHO, now_ms))
        self.site.follow_registry()


@contextmanager
def month() -> Iterator[Month]:
    known = catalogue()
    site = files.read_stations(None, known)
    asked = rivers.scenario_of("month", site)
    with backtest.throw_away() as database:
        registry = asked.registry(site)
        with database.write() as connection:
            registry_store.save(connection, registry)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(score, "SLICE_MS", SLICE_MS)
            run = Month(database, asked, registry, files.read_rules(None, known), seed=1, lead_days=0)
            run.fill()
            run.play()
        yield run


def outcome(run: Month) -> dict[str, Any]:
    """Flags by station, and every incident with its history, as plain values."""
    with run.database.read() as connection:
        found = incidents.list_incidents(connection, limit=10_000)[::-1]
        histories = [incidents.history(connection, one.id) for one in found]
    flags: dict[str, Any] = {}
    for station in run.registry.stations:
        window = run.store.window(station.key, 0, 2**53)
        columns = (window.parameter.astype("<i8"), window.at.astype("<i8"), window.value.astype("<f8"))
        flags[station.key] = {
            "readings": len(window.at),
            "values": hashlib.sha256(b"".join(c.tobytes() for c in columns)).hexdigest()[:16],
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


def test_a_month_comes_to_what_was_recorded() -> None:
    with month() as run:
        found = outcome(run)
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert found["stations"] == recorded["stations"]
    assert found["incidents"] == recorded["incidents"]


if __name__ == "__main__":
    with month() as played:
        RECORDED.parent.mkdir(exist_ok=True)
        RECORDED.write_text(json.dumps(outcome(played), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
