"""Scenarios say what they mean; what cannot be meant is refused with file, line and reason before anything starts."""

from dataclasses import replace
from pathlib import Path

import pytest

from infra.errors import ConfigurationError
from sensors.network import Outfall
from sensors.parameters import catalogue
from sensors.registry_toml import read
from simulator import scenario
from simulator.scenario import EventKind, FaultKind, TroubleKind
from tests.says import says

SITE = read((Path(__file__).parents[2] / "config" / "stations.toml").read_text(encoding="utf-8"), catalogue())
HEAD = '[scenario]\nstart = 2026-05-11\ndays = "7d"\n'
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MAY = 1_778_428_800_000  # midnight in Beijing


def parsed(text: str, site=SITE):
    return scenario.parse(HEAD + text, site, key="test", source="my.toml")


@pytest.mark.parametrize("key", scenario.shipped())
def test_every_shipped_scenario_can_be_read_and_says_what_one_should_see(key):
    found = scenario.load(key, SITE)
    assert found.days > 0
    assert found.zh
    assert found.en
    assert len(found.see_zh) > 30
    assert len(found.see_en) > 80


def test_the_scenarios_promised_are_there():
    promised = "calm-week night-discharge storm-overflow salt-tide bloom sensor-troubles gateway-outage everything"
    assert {*promised.split(), "city", "province"} <= set(scenario.shipped())


def test_everything_holds_every_event_and_every_fault():
    found = scenario.load("everything", SITE)
    assert {e.kind for e in found.events} == set(EventKind) - {EventKind.OVERFLOW}
    assert {f.kind for f in found.faults} == set(FaultKind)
    assert {t.kind for t in scenario.load("gateway-outage", SITE).troubles} == set(TroubleKind)


BAD = [
    (
        '[[event]]\nkind = "sewage"\noutfal = "pk-qcc-02"\nat = "1h"\nfor = "1h"\n',
        6,
        "'outfal'; did you mean outfall?",
    ),
    ("[weather]\nclouds = 0.5\n", 5, "unknown key 'clouds'"),
    ("[wether]\ncloud = 0.5\n", 4, "unknown table 'wether'; did you mean weather?"),
    ('[[event]]\nkind = "bloom"\nreach = "fengshouchang"\nat = "1h"\nfor = "1h"\n', 6, "did you mean fengshouchong"),
    (
        '[[event]]\nkind = "gate"\nreach = "dongpinghe-shiwan"\nat = "1h"\nfor = "1h"\n',
        6,
        "dongpinghe-shiwan has no gate",
    ),
    ('[[event]]\nkind = "sewage"\noutfall = "pk-nowhere"\nat = "1h"\nfor = "1h"\n', 6, "outfall 'pk-nowhere'"),
    ('[[event]]\nkind = "sewage"\nstation = "nowhere"\nat = "1h"\nfor = "1h"\n', 6, "station 'nowhere'"),
    ('[[event]]\nkind = "bloom"\nreach = "nowhere"\nat = "1h"\nfor = "1d"\n', 6, "reach 'nowhere'"),
    ('[[event]]\nkind = "sewage"\nreach = "fengshouchong"\nat = "1h"\nfor = "1h"\n', 6, "km is missing"),
    ('[[event]]\nkind = "sewage"\noutfall = "pk-qcc-02"\nat = "1h"\nfor = "-2h"\n', 8, "must not be negative"),
    ('[[event]]\nkind = "sewage"\noutfall = "pk-qcc-02"\nat = "1h"\nfor = "soon"\n', 8, "must be a duration"),
    ('[[event]]\nkind = "sewage"\noutfall = "pk-qcc-02"\nat = "8d"\nfor = "1h"\n', 7, "begins after the end"),
    ('[[event]]\nkind = "sewage"\noutfall = "pk-qcc-02"\nclock = "25:00"\nfor = "1h"\n', 7, "clock"),
    ('[[event]]\nkind = "sewage"\noutfall = "pk-qcc-02"\nat = "1h"\nfor = "1h"\nsize = -1\n', 9, "must be a number"),
    ('[[event]]\nkind = "overflow"\noutfall = "pk-qcc-02"\nat = "1h"\nfor = "1h"\n', 5, "not written down"),
    ('[[event]]\nkind = "flood"\nat = "1h"\nfor = "1h"\n', 5, "kind 'flood' is unknown"),
    (
        '[[fault]]\nkind = "drift"\nstation = "fsc-gate"\nparameter = "ph"\nat = "1h"\nfor = "1d"\n',
        7,
        "not measure",
    ),
    ('[[fault]]\nkind = "supply"\nstation = "fsc-1"\nparameter = "ph"\nat = "1h"\nfor = "1d"\n', 7, "whole station"),
    ('[[trouble]]\nkind = "lost"\ngateway = "gw-nowhere"\nat = "1h"\nfor = "1d"\n', 6, "gw-nowhere"),
    ('[[trouble]]\nkind = "lost"\nshare = 1.5\nat = "1h"\nfor = "1d"\n', 6, "from 0 to 1"),
    ('[[trouble]]\nkind = "outage"\nvolts = 11\nat = "1h"\nfor = "1d"\n', 6, "says nothing about outage"),
    ('[[visit]]\nstation = "fsc-1"\nat = "1h"\nparameters = ["pH"]\n', 7, "unknown parameter 'pH'"),
]


@pytest.mark.parametrize(("text", "line", "reason"), BAD, ids=[reason for _, _, reason in BAD])
def test_what_cannot_be_meant_is_refused_with_file_line_and_reason(text, line, reason):
    with pytest.raises(ConfigurationError) as refused:
        parsed(text)
    assert str(refused.value).startswith(f"my.toml:{line}: ")
    assert reason in str(refused.value)


def test_all_that_is_wrong_is_told_at_once():
    gate = '[[event]]\nkind = "gate"\nreach = "fengshouchong"\nstate = "{}"\nat = "1h"\nfor = "3h"\n'
    wrong = '[[event]]\nkind = "flood"\nat = "1h"\n[[fault]]\nkind = "spike"\nstation = "moon"\nat = "1h"\n'
    with pytest.raises(ConfigurationError) as refused:
        parsed(wrong + gate.format("open") + gate.format("closed"))
    told = str(refused.value).splitlines()
    assert [line.split(": ")[:2] for line in told] == [
        ["my.toml:5", "event 1"],
        ["my.toml:9", "fault 1"],
        ["my.toml:17", "gate-3"],
    ]


def test_gates_that_contradict_each_other_are_refused_and_both_lines_named():
    gate = '[[event]]\nkind = "gate"\nreach = "fengshouchong"\nstate = "{}"\nat = "{}"\nfor = "3h"\n'
    with pytest.raises(ConfigurationError) as refused:
        parsed(gate.format("open", "1h") + gate.format("closed", "2h"))
    assert str(refused.value).startswith("my.toml:10: gate-2: ")
    assert "the gate of fengshouchong is closed" in str(refused.value)
    assert "while gate-1 (line 4) has it open" in str(refused.value)
    assert len(parsed(gate.format("open", "1h") + gate.format("closed", "4h")).events) == 2
    assert len(parsed(gate.format("closed", "1h") + gate.format("closed", "2h")).events) == 2


def test_an_outfall_on_no_reach_or_beyond_its_end_is_refused():
    event = '[[event]]\nkind = "sewage"\noutfall = "pk-x"\nat = "1h"\nfor = "1h"\n'
    lost = replace(SITE, outfalls=(Outfall("pk-x", "排口", "x", "nowhere", 0.5),))
    with pytest.raises(
        ConfigurationError, match=r"my\.toml:6: event 1: " + says("scenario.outfall_reach", key="pk-x", reach="nowhere")
    ):
        parsed(event, lost)
    beyond = replace(SITE, outfalls=(Outfall("pk-x", "排口", "x", "fengshouchong", 50.0),))
    with pytest.raises(
        ConfigurationError,
        match=r"my\.toml:6: event 1: " + says("scenario.outfall_beyond", key="pk-x", km=50.0, length=4.423415139615981),
    ):
        parsed(event, beyond)


def test_broken_toml_is_refused_with_its_line():
    with pytest.raises(ConfigurationError, match=r"my\.toml:5: " + says("file.no_toml")):
        parsed('[weather]\ncloud = = "x"\n')


def test_an_event_at_an_hour_of_the_day_in_beijing_comes_every_night():
    text = '[[event]]\nkind = "sewage"\noutfall = "pk-qcc-02"\nfor = "3h"\n'
    text += 'day = 2\nclock = "01:30"\nevery = "1d"\ntimes = 3\n'
    starts = [e.start_ms - MAY for e in parsed(text).events]
    assert starts == [DAY_MS * day + HOUR_MS * 3 // 2 for day in (1, 2, 3)]
    assert [e.name for e in parsed(text).events] == ["sewage-1.1", "sewage-1.2", "sewage-1.3"]


def test_a_scenario_can_begin_at_another_time():
    text = HEAD + '[[event]]\nkind = "rain"\nat = "2h"\nfor = "1h"\n'
    later = scenario.parse(text, SITE, key="test", source="my.toml", start_ms=MAY + 12_345)
    assert later.start_ms == MAY + 12_345
    assert later.events[0].start_ms == MAY + 12_345 + 2 * HOUR_MS


def test_troubles_find_their_stations_by_gateway_or_pattern():
    text = '[[trouble]]\nkind = "{}"\n{}\nat = "1h"\nfor = "2h"\n'
    assert parsed(text.format("outage", 'gateway = "gw-nandou"')).troubles[0].stations == ("pynd-1", "pynd-2", "pynd-3")
    assert parsed(text.format("lost", 'stations = ["fsc-*"]')).troubles[0].stations == ("fsc-1", "fsc-2", "fsc-gate")
    assert len(parsed(text.format("lost", "share = 0.2")).troubles[0].stations) == len(SITE.stations)


def test_a_scenario_of_some_stations_takes_only_what_hangs_there():
    found = parsed('stations = ["fsc-1", "qcc-huanhu-3"]\n').registry(SITE)
    assert [s.key for s in found.stations] == ["fsc-1", "qcc-huanhu-3"]
    assert {d.station for d in found.deployments} <= {"fsc-1", "qcc-huanhu-3"}
    assert any(d.station == "fsc-1" for d in SITE.deployments) == any(d.station == "fsc-1" for d in found.deployments)
    assert found.outfalls == SITE.outfalls
