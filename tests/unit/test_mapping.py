"""Payloads of other senders: a LoRaWAN server's uplink, a logger's flat object, bad mappings, and any bytes at all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import ConfigurationError
from infra.times import rfc3339
from riverchief import files
from sensors.parameters import catalogue
from sensors.reading import Message, Reason
from sensors.wire import mapping
from sensors.wire.mapping import SOURCE, Mappings
from tests.says import says

KNOWN = catalogue()
PRESETS = files.presets()
SHIPPED = mapping.read(Path("config/mappings.toml").read_text(encoding="utf-8"), KNOWN, PRESETS)
ARRIVED = 1_778_581_800_000  # 2026-05-12T10:30:00Z
UP = "application/0d0a5f1e/device/24e124136b502217/event/up"

RECORDED = {
    file.stem: json.loads(file.read_text(encoding="utf-8")) for file in Path("tests/data/loggers").glob("*.json")
}
"""A message of each preset, and what is in it."""
UPLINK: dict[str, Any] = RECORDED["chirpstack-4"]["payload"]
FLAT = {
    "SN": "RTU-0417",
    "DateTime": "2026-05-12 18:20:00",
    "PH": "7.31",
    "DO": 5.98,
    "NH3N": 0.42,
    "TURB": 18,
    "BAT": 12.6,
}


def message(topic: str, body: Any, station: str = "") -> Message:
    payload = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Message(station, payload, ARRIVED, SOURCE, topic)


def values(topic: str, body: Any, mappings: Mappings = SHIPPED) -> dict[str, tuple[str, float]]:
    """{parameter: (time, value)} of a payload of which everything can be used."""
    read = mapping.decode([message(topic, body)], KNOWN, mappings)
    assert read.rejected == ()
    names = [KNOWN.parameters[i].key for i in read.batch.parameter]
    return {
        n: (rfc3339(at), float(v)) for n, at, v in zip(names, read.batch.at.tolist(), read.batch.value, strict=True)
    }


def refused(topic: str, body: Any, mappings: Mappings = SHIPPED) -> tuple[Reason, str, Any]:
    """The one thing that was refused."""
    (one,) = mapping.decode([message(topic, body)], KNOWN, mappings).rejected
    return one.reason, one.detail, one.readings


def of(text: str) -> Mappings:
    return mapping.read(text, KNOWN, PRESETS)


@pytest.mark.parametrize("preset", sorted(RECORDED.keys() | PRESETS.keys()))
def test_a_recorded_message_of_each_preset_becomes_readings(preset: str) -> None:
    recorded = RECORDED[preset]
    stations = json.dumps(recorded.get("stations", {}))[1:-1].replace(": ", " = ")
    preset_alone = of(f'[[mapping]]\ninclude = "{preset}"\nstations = {{ {stations} }}')
    one = message(recorded["topic"], recorded["payload"])
    assert [each.station for each in mapping.addressed([one], preset_alone)] == [recorded["station"]]
    read = mapping.decode([one], KNOWN, preset_alone)
    assert read.rejected == ()
    keys = [KNOWN.parameters[i].key for i in read.batch.parameter]
    instants = [rfc3339(at) for at in read.batch.at.tolist()]
    assert [
        [key, pytest.approx(value), KNOWN[key].unit, at]
        for key, value, at in zip(keys, read.batch.value.tolist(), instants, strict=True)
    ] == recorded["readings"], "a place where nothing stands, or NAN, is no reading"


def test_what_a_site_writes_comes_before_its_preset() -> None:
    text = 'include = "campbell-geojson"\ntopic = "cs/v2/data/+/Hourly"\nvalues = { ph = "PH_1" }\n'
    body: dict[str, Any] = {"properties": {"loggerID": "st-1", "observationNames": ["pH", "PH_1", "DO"]}}
    body["properties"]["observations"] = {"2026-05-12T10:30:00Z": [6.0, 7.0, 5.5]}
    found = values("cs/v2/data/st-1/Hourly", body, of("[[mapping]]\n" + text))
    assert {key: value for key, (_, value) in found.items()} == {"ph": 7.0, "do": 5.5}
    body["properties"]["observations"] = {"2026-05-12T10:30:00Z": [6.0, 7.0]}
    reason, detail, _ = refused("cs/v2/data/st-1/Hourly", body, of("[[mapping]]\n" + text))
    assert (reason, "a list of 3 is needed" in detail) == (Reason.WRONG_SHAPE, True), "no value moves to another name"


def test_a_flat_object_with_local_time_is_read_in_utc_and_its_logger_by_its_station() -> None:
    (addressed,) = mapping.addressed([message("loggers/RTU-0417/data", FLAT)], SHIPPED)
    assert addressed.station == "dph-shiwan-1"
    found = values("loggers/RTU-0417/data", FLAT)
    assert found["ph"] == ("2026-05-12T10:20:00Z", 7.31), "18:20 in Foshan is 10:20 UTC; the number came as text"
    assert {name: value for name, (_, value) in found.items()} == {
        "ph": 7.31,
        "do": 5.98,
        "nh3n": 0.42,
        "turbidity": 18,
    }


def test_messages_of_our_own_are_left_alone() -> None:
    own = Message("st-1", b"{}", ARRIVED, "mqtt", "rivers/v1/st-1/telemetry")
    assert mapping.addressed([own], SHIPPED)[0] is own
    assert [m.station for m in mapping.addressed([own, message(UP, UPLINK)], SHIPPED)] == ["st-1", "dph-shiwan-1"]


SAMPLES = """
[[mapping]]
name = "packed"
topic = "packed/#"
station = "sn"
samples = "data[].points[]"
time = { path = "t", format = "ms" }
[mapping.values]
ph = "v.ph"
water_temp = { path = "v.t", unit = "°F" }
"""


def test_a_payload_of_several_samples_keeps_each_with_its_own_time() -> None:
    body = {"sn": "st-1", "data": [{"points": [{"t": ARRIVED, "v": {"ph": 7.0, "t": 68}}]}]}
    body["data"].append({"points": [{"t": ARRIVED + 60_000, "v": {"ph": 7.1}}]})  # type: ignore[attr-defined]
    read = mapping.decode([message("packed/any/where", body)], KNOWN, of(SAMPLES))
    assert read.rejected == ()
    assert read.batch.at.tolist() == [ARRIVED, ARRIVED, ARRIVED + 60_000]
    assert read.batch.value.tolist() == pytest.approx([7.0, 20.0, 7.1])


def test_without_a_time_a_sample_was_taken_when_it_arrived() -> None:
    plain = of('[[mapping]]\nname = "a"\ntopic = "a/+"\nstation = { level = 2 }\nvalues = { ph = "ph" }')
    assert values("a/st-1", {"ph": 7}, plain) == {"ph": ("2026-05-12T10:30:00Z", 7.0)}


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("s", 1_778_581_800),
        ("s", "1778581800"),
        ("ms", 1_778_581_800_000),
        ("rfc3339", "2026-05-12T18:30:00+08:00"),
        ("%d/%m/%y %H:%M %z", "12/05/26 18:30 +0800"),
    ],
)
def test_times_are_read_as_the_mapping_says_they_are_written(form: str, written: Any) -> None:
    clock = mapping.Clock(form)
    assert clock.read(written) == ARRIVED


# -- what cannot be used -----------------------------------------------------------------------------------------------


def test_one_bad_value_costs_one_reading() -> None:
    body = FLAT | {"PH": "Err", "DO": float("nan")}
    read = mapping.decode([message("loggers/RTU-0417/data", body)], KNOWN, SHIPPED)
    (one,) = read.rejected
    assert (one.reason, len(read.batch)) == (Reason.NOT_A_NUMBER, 2)
    assert one.readings is not None
    assert [key for _, key in one.readings] == ["ph", "do"]
    assert "ph is Err" in one.detail


def test_a_number_of_more_digits_than_python_converts_costs_one_reading() -> None:
    body = json.dumps(FLAT | {"PH": "@"}).replace('"@"', "9" * 5000).encode()
    read = mapping.decode([message("loggers/RTU-0417/data", body)], KNOWN, SHIPPED)
    (one,) = read.rejected
    assert (one.reason, [key for _, key in one.readings or ()]) == (Reason.NOT_A_NUMBER, ["ph"])


@pytest.mark.parametrize(
    ("topic", "body", "reason", "named"),
    [
        (UP, b"\xff\x00", Reason.NOT_JSON, ""),
        (UP, b"[" * 100_000, Reason.NOT_JSON, "nested too deeply"),
        (UP, [1, 2], Reason.UNKNOWN_STATION, "deviceInfo.tags.station is nothing"),
        (UP, UPLINK | {"deviceInfo": {"tags": {"station": "石湾"}}}, Reason.UNKNOWN_STATION, "石湾"),
        (UP, UPLINK | {"object": None}, Reason.WRONG_SHAPE, "nothing stands at object.temperature"),
        (UP, UPLINK | {"time": "yesterday"}, Reason.BAD_TIME, "time: an RFC 3339 time with offset is needed"),
        (UP, UPLINK | {"time": "2026-05-12T10:29:58"}, Reason.BAD_TIME, "with offset"),
        ("loggers/RTU-0417/data", FLAT | {"DateTime": "12.05.2026"}, Reason.BAD_TIME, "%Y-%m-%d %H:%M:%S"),
        ("loggers/RTU-9999/data", FLAT, Reason.UNKNOWN_STATION, "level 2 of the topic is RTU-9999"),
        ("elsewhere", FLAT, Reason.BAD_TOPIC, "no mapping is for topic elsewhere"),
        (UP, b" " * 300_000, Reason.TOO_LARGE, "300000 bytes"),
    ],
)
def test_what_cannot_be_used_says_why_and_is_refused_as_a_whole(
    topic: str, body: Any, reason: Reason, named: str
) -> None:
    found, detail, readings = refused(topic, body)
    assert (found, readings) == (reason, None), "so that a replay after mending the mapping reads all of it"
    assert named in detail


def test_a_thousand_bad_samples_are_one_entry_for_each_holds_the_whole_payload() -> None:
    points = [{"t": None, "v": {"ph": 7}}] * 500 + [{"t": ARRIVED + i, "v": {"ph": "x"}} for i in range(500)]
    read = mapping.decode([message("packed/x", {"sn": "st-1", "data": [{"points": points}]})], KNOWN, of(SAMPLES))
    assert [one.reason for one in read.rejected] == [Reason.BAD_TIME, Reason.NOT_A_NUMBER]
    assert read.rejected[1].readings is not None
    assert len(read.rejected[1].readings) == 500
    too_many = {"sn": "st-1", "data": [{"points": points * 2}]}
    assert refused("packed/x", too_many, of(SAMPLES))[0] is Reason.TOO_MANY_SAMPLES


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
ODD = of("""
[[mapping]]
name = "odd"
topic = "odd/#"
station = "a || b.c"
samples = "not_null(d, [@])"
time = { path = "max(t)", format = "s" }
[mapping.values]
ph = "to_number(x)"
do = "sum(y)"
tp = "y[::0]"
tn = "length(z)"
nh3n = "x > y && x || avg(y)"
""")


@given(
    st.fixed_dictionaries(
        {}, optional={name: JSON | st.just("st-1") | st.just([1.0, 2]) for name in ("a", "b", "d", "t", "x", "y", "z")}
    )
    | JSON
)
@settings(max_examples=150, deadline=None)
def test_no_payload_whatever_raises(body: Any) -> None:
    for mappings, topic in ((ODD, "odd/x"), (SHIPPED, UP)):
        one = message(topic, body)
        mapping.addressed([one], mappings)
        read = mapping.decode([one], KNOWN, mappings)
        assert np.isfinite(read.batch.value).all()
        assert len(read.batch) or read.rejected
        for refusal in read.rejected:
            refusal.detail.encode()  # a store can keep it


# -- bad files ---------------------------------------------------------------------------------------------------------

GOOD = '[[mapping]]\nname = "a"\ntopic = "a/+"\nstation = { level = 2 }\ntime = "t"\nvalues = { ph = "ph" }\n'


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("[[mapping]]", "[[maping]]", says("mapping.unknown_table", name="maping")),
        ('topic = "a/+"', "", "mapping a: " + says("mapping.no_topic")),
        ('topic = "a/+"', 'topic = "a/b+"', says("mapping.wildcards", pattern="a/b+")),
        ('topic = "a/+"', 'topic = "#/a"', says("mapping.wildcards", pattern="#/a")),
        ('topic = "a/+"', 'topic = "$SYS/+"', says("mapping.no_pattern", pattern="$SYS/+")),
        ('topic = "a/+"', 'topic = "rivers/+/+/telemetry"', says("mapping.ours", topic="rivers/+/+/telemetry")),
        ('topic = "a/+"', 'topic = "#"\nstaton = 1', says("mapping.unknown", within="staton")),
        ("{ level = 2 }", "{ level = 1 }", says("mapping.level", level=1, pattern="a/+")),
        ("{ level = 2 }", '"a..b"', "station: " + says("mapping.expression", text="a..b")),
        ("station = { level = 2 }", "", says("mapping.no_station")),
        ('"t"', '{ path = "t", format = "%H:%M", zone = "+08:00" }', says("mapping.format_short", form="%H:%M")),
        ('"t"', '{ path = "t", format = "%Y-%m-%d %H:%M" }', says("mapping.zone_missing", form="%Y-%m-%d %H:%M")),
        ('"t"', '{ path = "t", format = "%Y-%m-%d %H:%M", zone = "CST" }', says("mapping.zone", given="CST")),
        ('"t"', '{ path = "t", format = "s", zone = "+08:00" }', says("mapping.zone_idle", zone="+08:00", form="s")),
        ('{ ph = "ph" }', "{}", says("mapping.no_values")),
        ('{ ph = "ph" }', '{ pH = "ph" }', says("mapping.no_parameter", key="pH")),
        ('{ ph = "ph" }', '{ ph = "a[" }', "values.ph: " + says("mapping.expression", text="a[")),
        (
            '{ ph = "ph" }',
            '{ do = { path = "a", unit = "furlong" } }',
            r"values\.do\.unit: " + says("registry.no_conversion_of", unit="furlong", parameter="do"),
        ),
        ('{ ph = "ph" }', '{ ph = "ph" }\nstations = { X = "Y Z" }', says("mapping.no_key", name="X", key="Y Z")),
        ('name = "a"', "", "mapping number 1: " + says("mapping.no_name")),
        ('"t"', "t", says("file.no_toml")),
        ('name = "a"', 'include = "cambell"', says("mapping.no_preset", name="cambell", known=", ".join(PRESETS))),
        ('name = "a"', 'name = "a"\ncolumns = { names = "n" }', says("mapping.columns")),
        ('name = "a"', 'name = "a"\nmissing = "NAN"', says("mapping.missing")),
    ],
)
def test_a_bad_mapping_is_refused_with_its_entry_and_the_reason(old: str, new: str, fault: str) -> None:
    assert of(GOOD).topics == ("a/+",)
    with pytest.raises(ConfigurationError, match=fault):
        of(GOOD.replace(old, new))


@pytest.mark.parametrize("other", ["a/+", "+/b", "#", "a/#", "a/b", "+/+"])
def test_two_mappings_for_one_topic_are_refused(other: str) -> None:
    ours = says("mapping.ours", topic="#")
    fault = ours if other == "#" else says("mapping.overlap", topic=other, topic_="a/+", name="a")
    second = f'[[mapping]]\nname = "b"\ntopic = "{other}"\nstation = "s"\nvalues = {{ ph = "ph" }}\n'
    with pytest.raises(ConfigurationError, match="mapping b: " + fault):
        of(GOOD + second)
    if other != "#":  # which takes in our own topics and is refused for that
        with pytest.raises(ConfigurationError, match=r"mapping a: " + says("mapping.overlap", topic="a/+", name="b")):
            of(second + GOOD)


def test_topics_that_cannot_meet_stand_beside_each_other() -> None:
    second = GOOD.replace('"a"', '"b"').replace("a/+", "b/+")
    third = GOOD.replace('"a"', '"c"').replace("a/+", "a/+/x")
    assert of(GOOD + second + third).topics == ("a/+", "b/+", "a/+/x")
    found = of(GOOD + second + third).of("a/st-1/x")
    assert found is not None
    assert found.name == "c"


def test_every_fault_of_a_file_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        of(GOOD.replace("ph =", "pH =") + GOOD.replace('"a"', '"b"').replace("a/+", "b/+").replace('"t"', "1"))
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["mapping a", "mapping b"]
