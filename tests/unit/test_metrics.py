"""The figures keep the written convention (docs/operations/monitoring.md), stay few, are told quickly and honestly."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as as_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read

from api.context import Part
from governance.notify.outbox import Attempt, Delivery, Status
from infra.database import Database
from infra.errors import StorageUnavailable
from infra.texts import same
from ingest.intake import Intake
from ingest.pipeline import Outcome, Site
from ingest.rules.model import Rules
from ingest.sources.hj212 import Counters as GatewayCounters
from ingest.sources.sl651 import Counters as Sl651Counters
from ingest.storage import registry as registry_store
from ingest.storage.spool import Waiting
from ingest.storage.sql import SqlReadings
from riverchief import metrics
from riverchief.metrics import FIGURES, LATENCY_S, EventCounters, Histogram, MetricsCollector, MetricSources
from riverchief.service import Service
from sensors.parameters import catalogue
from sensors.reading import Message, Reason, Rejected
from sensors.stations import Registry, Station
from sensors.wire.telemetry import Header
from tests.databases import with_tables

NOW = 1_778_580_000_000
STATIONS = 5000
DOC = Path(__file__).parents[2] / "docs/operations/monitoring.md"

BASE_UNITS = ("_seconds", "_bytes")
OTHER_UNITS = re.compile(r"_(ms|millis|milliseconds|minutes|hours|kb|mb|kilobytes|megabytes|percent)(_|$)")
UNBOUNDED = {"station", "device", "message", "incident", "event", "user", "id", "url", "path", "host"}
"""Never a label: each of its values would be a time series of its own, kept for good."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetricSources]:
    """Every part there is, with 5,000 stations; those with a network of their own stand in by what they would tell."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('metrics') / 'riverchief.db'}")
    with_tables(database)
    known = catalogue()
    rows = tuple(Station(f"s{i}", "站", "station", 113.1, 23.0, interval_s=60) for i in range(STATIONS))
    with database.write() as connection:
        registry_store.save(connection, Registry(rows, catalogue=known))
    site = Site(database, SqlReadings(database, known), Rules((), (), ()), known)
    watch = EventCounters(lambda: NOW)
    watch.batch(
        [Message("s1", b"", NOW - 30)], outcome(headers=(Header(sent_at_ms=NOW - 200),), seconds={"store": 0.02})
    )
    made: Any = SimpleNamespace
    source = made(connected_since_ms=1, received=2, unacknowledged=3, unacknowledged_peak=20, window=2000)
    counters = GatewayCounters(
        connected=9, turned_away=1, dropped=2, frames=40, broken=4, answered=30, refused=5, asked=6
    )
    figures = (
        partial(metrics.ingest, Intake(site, clock_ms=lambda: NOW), watch),
        partial(metrics.broker, source),
        partial(metrics.gateway, made(connections=3, counters=counters)),
        partial(metrics.sl651_gateway, made(connections=2, counters=Sl651Counters(confirmed=7, asked_again=1))),
        partial(metrics.notifying, made(published=4, left_out=0)),
        partial(metrics.republishing, made(published=1, waiting=0, connected_since_ms=1, last_error="")),
        partial(metrics.forwarding, made(state=made(error="", sent_rows=5, refused_lines=0))),
        partial(metrics.downsampling_points, made(state=made(error="", sent_rows=6, refused_lines=0))),
        lambda now_ms: [metrics.metric_by_label("notices", {"sent": 2, "failed": 1, "dead": 0})],
        partial(metrics.heartbeat, made(ok=True, last_ok_ms=NOW)),
    )
    health = Service(health=lambda now_ms: [Part("ingest", True, ""), Part("mqtt", False, "away")])
    yield MetricSources(
        database=database,
        watch=watch,
        clock_ms=lambda: NOW,
        services=(*(Service(metrics=one) for one in figures), health),
        spool=lambda: Waiting(1, 60, 1234, NOW - 5000),
        downsampling=True,
    )
    database.close()


def outcome(**more: Any) -> Outcome:
    nothing = np.zeros(1, np.int64)
    return Outcome(
        **{"messages": 1, "stored": nothing, "duplicate": nothing, "rejected": (), "suspect": 0}
        | more
        | {"findings": (), "opened": 0}
    )


def told(running: MetricSources) -> dict[str, Any]:
    return {family.name: family for family in read(metrics.exposition(running)().decode())}


def value(running: MetricSources, sample: str, **labels: str) -> float:
    found = [s for family in told(running).values() for s in family.samples if s.name == sample and s.labels == labels]
    assert len(found) == 1, (sample, labels, found)
    return float(found[0].value)


# -- the convention ----------------------------------------------------------------------------------------------------


def test_every_figure_of_the_table_is_told_and_none_beside_it(running: MetricSources) -> None:
    own = {name.removesuffix("_info") for name in told(running) if name.startswith("riverchief_")}
    assert own == {"riverchief_" + name for name in FIGURES}


def test_the_strict_reader_of_openmetrics_takes_all_of_it(running: MetricSources) -> None:
    registry = CollectorRegistry()
    registry.register(MetricsCollector(running))
    families = list(read_openmetrics(as_openmetrics(registry).decode()))
    assert len(families) == len(FIGURES)


def test_names_keep_the_convention() -> None:
    for figure in FIGURES.values():
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", figure.name), figure.name
        assert not OTHER_UNITS.search(figure.name), f"{figure.name}: seconds and bytes only"
        assert not figure.name.endswith(("_total", "_count", "_sum", "_bucket")), f"{figure.name}: made by the format"
        if "latency" in figure.name or "duration" in figure.name or "age" in figure.name.split("_"):
            assert figure.name.endswith("_seconds"), figure.name
        if figure.kind == "histogram" and figure.name != "batch_messages":
            assert figure.name.endswith(BASE_UNITS), figure.name


def test_every_figure_is_explained_in_english(running: MetricSources) -> None:
    families = told(running)
    for figure in FIGURES.values():
        assert re.search(r"[a-z]{2}", figure.help), figure.name
        assert not re.search(r"[\u4e00-\u9fff]", figure.help), figure.name
        name = "riverchief_" + figure.name + ("_info" if figure.kind == "info" else "")
        assert families[name].documentation == figure.help


def test_nothing_grows_with_the_number_of_stations(running: MetricSources) -> None:
    assert not UNBOUNDED & {label for figure in FIGURES.values() for label in figure.labels}
    assert len(metrics.exposition(running)().splitlines()) < 600
    for family in told(running).values():
        series = {tuple(sorted((k, v) for k, v in s.labels.items() if k != "le")) for s in family.samples}
        assert len(series) <= 24, family.name


def test_the_document_lists_every_figure_with_its_labels_and_no_other() -> None:
    section = DOC.read_text(encoding="utf-8").partition("### All metrics\n")[2].partition("\n## ")[0]
    found = re.findall(r"`(riverchief_\w+)(?:\{([a-z,]+)\})?`", section)
    assert len(found) == len(FIGURES)
    written = {name: tuple(filter(None, labels.split(","))) for name, labels in found}
    assert written == {figure.full_name: figure.labels for figure in FIGURES.values()}


# -- what they tell ----------------------------------------------------------------------------------------------------


def test_a_message_is_counted_in_the_bucket_of_its_delay(running: MetricSources) -> None:
    assert value(running, "riverchief_sent_to_stored_seconds_bucket", le="0.1") == 0
    assert value(running, "riverchief_sent_to_stored_seconds_bucket", le="0.25") == 1
    assert value(running, "riverchief_received_to_stored_seconds_sum") == pytest.approx(0.03)
    assert value(running, "riverchief_batch_stage_seconds_bucket", stage="store", le="0.025") == 1


def test_a_histogram_counts_boundaries_below_and_what_is_beyond_everything() -> None:
    counted = Histogram((1.0, 2.0))
    counted.observe([1.0, 1.5, 2.0, 99.0, -3.0])
    assert counted.sample() == ([("1", 2), ("2", 4), ("+Inf", 5)], 103.5)


def test_messages_that_do_not_say_when_they_were_sent_are_not_guessed() -> None:
    watch = EventCounters(lambda: NOW)
    watch.batch([Message("s1", b"", NOW), Message("s1", b"", NOW)], outcome(headers=(None, Header(seq=1))))
    assert watch.sent_to_stored.sample()[0][-1] == ("+Inf", 0)
    assert watch.received_to_stored.sample()[0][-1] == ("+Inf", 2)


def test_what_was_refused_is_counted_by_its_reason() -> None:
    watch = EventCounters(lambda: NOW)
    watch.batch([Message("s1", b"", NOW)], outcome(rejected=(Rejected(0, Reason.NOT_JSON, ""),)))
    assert watch.quarantined["not_json"] == 1
    assert set(watch.quarantined) == {reason.key for reason in Reason}


def attempt(status: Status, **data: Any) -> Attempt:
    row = Delivery(
        id=1,
        event_id="e-1",
        incident_id=7,
        type="river.incident.opened",
        body="{}",
        notify="page",
        created_at_ms=NOW - 300,
        pending_since_ms=NOW - 300,
        next_attempt_at_ms=NOW,
        attempts=0,
        status=status,
        delivered_at_ms=None,
        last_status=None,
        last_error=None,
        claimed_by=None,
        claimed_until_ms=None,
        repeats=False,
    )
    said = {"retrospective": False, "kind": "threshold", "observed_at": "2026-05-12T09:59:59.500Z"}
    return Attempt(row, NOW - 10, NOW, 200, status, said | data)


def test_what_the_gateway_counted_is_told(running: MetricSources) -> None:
    assert value(running, "riverchief_hj212_connections") == 3
    assert value(running, "riverchief_hj212_answers_total", outcome="accepted") == 30
    assert value(running, "riverchief_hj212_answers_total", outcome="refused") == 5
    assert value(running, "riverchief_hj212_rejected_connections_total", reason="full") == 1
    assert value(running, "riverchief_sl651_answers_total", outcome="confirmed") == 7
    assert value(running, "riverchief_sl651_requests_total", kind="packet") == 1


def test_only_what_could_page_counts_from_the_observation_to_the_delivery() -> None:
    watch = EventCounters(lambda: NOW)
    watch.delivery(attempt(Status.DELIVERED))
    watch.delivery(attempt(Status.DELIVERED, retrospective=True))
    watch.delivery(attempt(Status.DELIVERED, kind="no_data"))
    watch.delivery(attempt(Status.PENDING))
    watch.delivery(attempt(Status.REFUSED))
    assert watch.observed_to_delivered.sample() == (
        [(f"{bound:g}", int(bound >= 0.5)) for bound in LATENCY_S] + [("+Inf", 1)],
        0.5,
    )
    assert watch.decided_to_delivered.sample()[0][-1] == ("+Inf", 3)
    assert watch.deliveries == {"delivered": 3, "refused": 1, "retry": 1}


def test_all_stations_have_a_state(running: MetricSources) -> None:
    assert value(running, "riverchief_stations", state="never") == STATIONS


def test_a_database_that_is_away_costs_its_own_figures_only(
    running: MetricSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise StorageUnavailable(same("the database answers: disk I/O error"))

    monkeypatch.setattr(running.database, "read", away)
    families = told(running)
    assert families["riverchief_database_ok"].samples[0].value == 0
    assert "riverchief_messages" in families
    assert "riverchief_outbox_pending" not in families


def test_costly_counts_are_not_made_at_every_scrape(running: MetricSources, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []
    known = metrics.quarantine.counts
    monkeypatch.setattr(metrics.quarantine, "counts", lambda c: asked.append(None) or known(c))
    scrape = metrics.exposition(running)
    for _ in range(5):
        scrape()
    assert len(asked) == 1
