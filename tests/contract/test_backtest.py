"""Rules tried on the past: what they say must be what they would have said, and what it costs must be plain."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from governance.incidents.finding import Finding
from infra.errors import ConfigurationError, NotFound
from infra.times import rfc3339
from ingest.analysis import backtest, backtest_requests
from ingest.analysis.backtest import BacktestInput, Label
from ingest.pipeline import Site
from ingest.rules import rule_file
from ingest.storage import registry as registry_store
from riverchief import backtest_report
from riverchief.cli.app import app
from riverchief.database import open_database
from riverchief.services.backtester import Backtester
from riverchief.settings import Settings
from riverchief.stores import open_stores
from sensors.stations import Registry
from tests.says import says
from tests.world import (
    CATALOGUE,
    DAY,
    HOUR,
    MINUTE,
    QICHA,
    RULES,
    SHIWAN,
    STEP,
    T0,
    World,
    bad,
    calm,
    message,
    river,
)

STRICTER = RULES.replace("limit = 2.0\nclear = 1.8", "limit = 1.4\nclear = 1.3", 1)
END = T0 + 2 * DAY


def told(findings: list[Finding]) -> list[tuple[Any, ...]]:
    return sorted(
        (f.observed_at_ms, f.station, f.parameter or "", f.rule, f.change.value, f.since_ms, f.value or 0, f.flapping)
        for f in findings
    )


def episodes() -> dict[int, dict[str, float]]:
    """Two days at Shiwan.

    An exceedance, a spike, flapping, a long silence, a pH sensor that jumps alone, acid that comes over half an hour, a
    rising temperature.
    """
    nh3n = [*calm(30), *bad(12), *calm(40), 9.0, *calm(20), *[*bad(3), *calm(4)] * 5, *calm(100)]
    found = river(T0, nh3n)
    for i, at in enumerate(found):
        found[at]["ph"] = 7.0 + 0.01 * (i % 9)
        found[at]["water_temp"] = round(20 + 0.005 * (i % 11) + max(0, i - 200) * 0.1, 3)
    for i in range(180, 190):
        found[T0 + i * STEP]["ph"] = 5.0 + 0.01 * (i - 180)
    for i in range(212, 224):
        found[T0 + i * STEP]["ph"] = round(5.0 + 0.3 * abs(i - 218), 2) + 0.01 * (i % 3)
    return {at: values for at, values in found.items() if not T0 + 110 * STEP <= at < T0 + 122 * STEP}


def live(world: World, values: dict[int, dict[str, float]], station: str = "shiwan") -> list[Finding]:
    """As it happens: each message when it was measured, the clock once a minute."""
    found: list[Finding] = []
    last = max(values)
    for now in range(min(values), last + MINUTE, MINUTE):
        if now in values:
            found += world.take(message(station, {now: values[now]}), now=now + 1000).findings
        found += world.tick(now + 2000)
    return found


def past(world: World, since: int = T0, until: int = END) -> BacktestInput:
    with world.database.read() as connection:
        registry = registry_store.load(connection, CATALOGUE)
    return backtest.load_input(registry, world.store, since, until)


def attempt(text: str, of: BacktestInput, since: int = T0, until: int = END, **other: Any) -> backtest.BacktestResult:
    return backtest.run_rules(rule_file.read(text, CATALOGUE), of, CATALOGUE, since, until, **other)


# -- the same code -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_series_is_new")
@pytest.mark.parametrize("slice_ms", [HOUR, 6 * HOUR])
def test_the_same_readings_give_the_same_findings_as_live(
    world: World, slice_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = episodes()
    happened = live(world, values)
    assert {f.rule for f in happened} == {"nh3n-high", "ph-acid", "temp-rising", "silent", "device-fault"}
    assert any(f.flapping for f in happened)
    monkeypatch.setattr(backtest, "SLICE_MS", slice_ms)
    tried = attempt(RULES, past(world), until=max(values) + MINUTE, closed_after_ms=None)
    assert told(list(tried.findings)) == told(happened)
    assert tried.pages == world.pages()


def test_trying_changes_nothing_at_the_site(world: World) -> None:
    world.feed(river(T0, [*calm(10), *bad(5)]))
    before = world.everything()
    attempt(STRICTER, past(world))
    assert world.everything() == before


def test_what_was_before_the_range_is_known_and_not_told(world: World) -> None:
    world.feed(river(T0, [*calm(10), *bad(20), *calm(20)]))
    tried = attempt(RULES, past(world, T0 + 20 * STEP), since=T0 + 20 * STEP)
    assert [f.change.value for f in tried.findings if f.rule == "nh3n-high"] == ["resolved"]
    assert not [one for one in tried.raised if one.kind == "threshold"]


def test_an_incident_that_was_over_for_hours_is_closed_and_the_next_is_another(world: World) -> None:
    world.feed(river(T0, [*bad(4), *calm(100), *bad(4), *calm(4)]))
    water = [one for one in attempt(RULES, past(world)).raised if one.kind == "threshold"]
    assert [one.pages for one in water] == [1, 1]
    assert [one.findings for one in water] == [1, 1]


# -- what it says ------------------------------------------------------------------------------------------------------


def test_differences_are_by_incident_and_pages_by_week(world: World) -> None:
    world.feed(river(T0, [*calm(60, 1.5), *bad(5), *calm(5, 1.0)]))
    found = past(world)
    tried, in_force = attempt(STRICTER, found), attempt(RULES, found)
    difference = backtest.compare(tried, in_force)
    assert [one.rule for one in difference.new] == [], "the stricter rule sees the same water, only earlier"
    assert difference.both == len(in_force.raised)
    gone = backtest.compare(attempt('[[no_data]]\nid = "silent"\ncolour = "blue"\n', found), in_force).gone
    assert [one.rule for one in gone] == ["nh3n-high"]
    assert in_force.pages_a_week == pytest.approx(in_force.pages * 7 / 2)


def test_an_incident_that_only_becomes_more_urgent_is_neither_new_nor_gone_but_changed(world: World) -> None:
    world.feed(river(T0, [*calm(20), *bad(5), *calm(5)]))
    orange, red = (rule_file.read(text, CATALOGUE) for text in (RULES, RULES.replace('"orange"', '"red"')))
    tried, in_force = backtest.compare_rule_sets(red, orange, past(world), CATALOGUE, T0, END)
    difference = backtest.compare(tried, in_force)
    assert (difference.new, difference.gone) == ((), ())
    assert [(was.colour, now.colour) for was, now in difference.changed] == [("orange", "red")]
    assert (tried.by_colour["red"], in_force.by_colour["red"]) == (1, 0)
    assert tried == attempt(RULES.replace('"orange"', '"red"'), past(world)), "what is shared changes nothing"


def test_rules_beside_themselves_are_tried_once(world: World) -> None:
    world.feed(river(T0, [*calm(20), *bad(5), *calm(5)]))
    same, progress = [rule_file.read(RULES, CATALOGUE) for _ in range(2)], []
    tried, in_force = backtest.compare_rule_sets(*same, past(world), CATALOGUE, T0, END, on_progress=progress.append)
    assert tried is in_force
    assert progress[-1] == pytest.approx(1.0)


def test_labels_are_found_or_missed_and_what_meets_none_is_a_false_alarm(world: World) -> None:
    world.feed(river(T0, [*calm(20), *bad(5), *calm(100), *bad(5), *calm(30)]))
    labels = (
        Label("shiwan", T0 + 19 * STEP, T0 + 26 * STEP),
        Label("shiwan", T0 + 60 * STEP, T0 + 63 * STEP),
    )
    found = replace(past(world), labels=labels, labelled=frozenset({"shiwan"}))
    score = attempt(RULES, found, until=T0 + 160 * STEP).score
    assert score is not None
    assert (score.events, score.hits, score.false_alarms) == (2, 1, 1)
    assert score.misses == labels[1:]
    assert score.delay_s == pytest.approx(3 * 300)


def test_no_reading_and_too_many_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=says("backtest.nothing")):
        attempt(RULES, past(world))
    world.feed(river(T0, calm(20)))
    monkeypatch.setattr(backtest, "MAX_READINGS", 10)
    with pytest.raises(ConfigurationError, match=says("backtest.many", most=10)):
        past(world)
    with pytest.raises(ConfigurationError, match=says("registry.station_unknown", station="nobody")):
        backtest.load_input(Registry((SHIWAN, QICHA)), world.store, T0, END, stations=["nobody"])


# -- the command -------------------------------------------------------------------------------------------------------


def table(folder: Path) -> Path:
    n = 24 * 12
    nh3n = np.array([*calm(100), *bad(20), *calm(n - 120)])
    event = np.zeros(n)
    event[99:121] = 1
    frame = pl.DataFrame(
        {
            "time": [rfc3339(T0 + i * STEP) for i in range(n)],
            "station": ["某站 <b>"] * n,
            "nh3n_mg_L": nh3n,
            "event": event,
        }
    )
    frame.write_csv(folder / "t.csv")
    return folder / "t.csv"


def test_a_table_with_labels_is_scored_by_the_command_and_drawn(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    none = tmp_path / "none.toml"
    none.write_text('[[no_data]]\nid = "silent"\ncolour = "blue"\n', encoding="utf-8")
    page = tmp_path / "page.html"
    command = ["backtest", str(tmp_path / "rules.toml"), str(table(tmp_path)), "--against", str(none), "--json"]
    result = CliRunner().invoke(app, [*command, "--html", str(page)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["tried"]["score"] | {"delay_s": 0} == {
        "events": 1,
        "hits": 1,
        "misses": [],
        "delay_s": 0,
        "false_alarms": 0,
    }
    assert found["in_force"]["score"]["hits"] == 0
    assert [one["rule"] for one in found["difference"]["new"]] == ["nh3n-high"]
    drawn = page.read_text(encoding="utf-8")
    assert drawn.count("<rect") >= 2
    assert "<b>" not in drawn, "names from a file are text"
    assert "http" not in drawn


def test_the_chart_has_its_days_at_midnight_in_beijing_and_names_only_stations_that_have_something(
    world: World,
) -> None:
    world.feed(river(T0, [*calm(20), *bad(5), *calm(300)]))
    world.feed(river(T0, calm(300)), station="qicha")
    found = past(world)
    tried = attempt(RULES, found, until=T0 + 24 * HOUR)
    drawn = backtest_report.page(tried, tried, found)
    first = T0 + (16 * HOUR - T0 % (24 * HOUR)) % (24 * HOUR)  # midnight in Beijing is 16:00 UTC
    at = backtest_report.LEFT + (first - T0) / (24 * HOUR) * (backtest_report.WIDTH - backtest_report.LEFT)
    assert f"<text x='{at:.1f}'" in drawn
    assert ">石湾<" in drawn
    assert ">奇槎<" not in drawn
    assert "1 other stations have none" in drawn


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--since"),
        (["--since", "yesterday"], "yesterday"),
        (["nowhere.csv"], "nowhere.csv"),
    ],
)
def test_what_cannot_be_tried_is_refused_in_one_sentence(tmp_path: Path, arguments: list[str], named: str) -> None:
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    result = CliRunner().invoke(app, ["backtest", str(tmp_path / "rules.toml"), "--data", str(tmp_path), *arguments])
    assert result.exit_code != 0
    assert named in str(result.exception)


# -- asked for over the API --------------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


def test_a_backtest_that_was_asked_for_is_done_beside_and_its_number_answers(settings: Settings) -> None:
    database = open_database(settings)
    try:
        with database.write() as connection:
            registry_store.save(connection, Registry((SHIWAN,), catalogue=CATALOGUE))
        store = open_stores(settings, database, CATALOGUE).readings
        site = Site(database, store, rule_file.read("", CATALOGUE), CATALOGUE)
        for at, value in river(T0, [*calm(20), *bad(6)]).items():
            site.process([message("shiwan", {at: value})], at + 1000)
        good = {"rules": RULES, "since_ms": T0, "until_ms": END, "stations": []}
        with database.write() as connection:
            first = backtest_requests.add(connection, good, "示例", T0)
            second = backtest_requests.add(connection, good | {"since_ms": T0 - DAY, "until_ms": T0 - HOUR}, "", T0)
        runner = Backtester(database, settings)
        assert [runner.next_round() for _ in range(3)] == [0, 0, 1.0]
        with database.read() as connection:
            done, failed = backtest_requests.get(connection, first), backtest_requests.get(connection, second)
            with pytest.raises(NotFound):
                backtest_requests.get(connection, 99)
        assert (done.state, done.progress, done.error) == ("done", 1.0, "")
        assert done.result is not None
        assert [one["rule"] for one in done.result["tried"]["incidents"] if one["kind"] == "threshold"] == ["nh3n-high"]
        assert failed.state == "failed"
        assert "no reading" in failed.error
        with database.write() as connection:
            third = backtest_requests.add(connection, good, "", T0)
            assert backtest_requests.claim_next(connection) is not None
            backtest_requests.requeue_running(connection)  # its process was killed
            assert backtest_requests.get(connection, third).state == "waiting"
    finally:
        database.close()
