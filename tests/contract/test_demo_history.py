"""The demo's history as the ingest takes it in: devices that were long away send whole days at once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from governance.incidents import queries as incident_queries
from governance.incidents.model import Incident
from infra.database import Database
from ingest.pipeline import Site
from ingest.rules import rule_file
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from riverchief import demo, files
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Registry
from sensors.wire import telemetry
from sensors.wire.telemetry import Sample, Telemetry
from simulator import showcase
from simulator.continuous_run import ContinuousSource
from simulator.play import CATCH_UP_SAMPLES
from tests.databases import with_tables

CATALOGUE = catalogue()
NOW = 1_796_144_400_000


def creek() -> Registry:
    """奇槎涌 and what drains into it, with the demo's travel times."""
    whole = showcase.shortened(files.read_book(files.shipped("stations.toml"), CATALOGUE).registry)
    reach = next(s for s in whole.stations if showcase.QICHACHONG in s.zh).reach
    near = {reach, *(one.key for one in whole.reaches if one.downstream == reach)}
    stations = tuple(s for s in whole.stations if s.reach in near)
    keys = {s.key for s in stations}
    return replace(whole, stations=stations, deployments=tuple(d for d in whole.deployments if d.station in keys))


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    """The history in the messages of the demo's devices, in the order of time."""
    registry, sent = creek(), []
    waiting: dict[str, list[Sample]] = {}

    def send(station: str) -> None:
        body = telemetry.encode(Telemetry(tuple(waiting.pop(station))))
        sent.append(Message(station, body, NOW, topic=f"rivers/v1/{station}/telemetry"))

    with ContinuousSource(
        registry,
        start_ms=NOW,
        history_days=demo.HISTORY_DAYS,
        step_s=demo.HISTORY_STEP_S,
        interval_s=demo.INTERVAL_S,
        seed=1,
    ) as source:
        for station, sample in source.advance(NOW):
            waiting.setdefault(station, []).append(sample)
            if len(waiting[station]) == CATCH_UP_SAMPLES:
                send(station)
    for station in list(waiting):
        send(station)
    return sent


def taken(folder: Path, sent: Sequence[Message]) -> list[Incident]:
    database = Database(f"sqlite:///{folder / 'riverchief.db'}")
    with_tables(database)
    with database.write() as connection:
        registry_store.save(connection, creek())
    known = rule_file.read(files.shipped("rules.toml").read_text(encoding="utf-8"), CATALOGUE)
    site = Site(database, SqlReadings(database, CATALOGUE), known, CATALOGUE)
    for start in range(0, len(sent), 5):
        site.process(sent[start : start + 5], NOW)
    with database.read() as connection:
        found = incident_queries.list_incidents(connection, limit=100)
    database.close()
    return found


@pytest.mark.parametrize("order", ["as time goes", "the lowest station first"])
def test_the_plume_of_the_history_is_one_incident_of_three_stations(
    tmp_path: Path, messages: list[Message], order: str
) -> None:
    sent = messages if order == "as time goes" else sorted(messages, key=lambda m: m.station, reverse=True)
    (incident,) = taken(tmp_path, sent)
    assert incident.retrospective
    assert {c.station for c in incident.conditions} == {"qcc-huanhu-1", "qcc-huanhu-2", "qcc-huanhu-3"}
    assert incident.active == (), "what came down has passed everywhere"
