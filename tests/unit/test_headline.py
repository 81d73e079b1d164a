"""Titles of incidents: short, in one language, with the present value and its class; the rest is evidence."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.incidents.from_findings import apply_finding
from governance.incidents.headline import (
    TITLE_MAX_CHARS,
    Headline,
    Row,
    format_limit,
    format_value,
    headline_from_json,
    summary,
    table,
    title,
    title_parts,
    worst_first,
)
from governance.incidents.model import State
from infra.texts import Text, say
from sensors.parameters import catalogue
from sensors.quality.events import EventCause
from tests.cases import a_finding

UPSTREAM = Text("奇槎涌环湖花园段上游", "Qicha Creek, Huanhu Garden 1 (upstream)")
AMMONIA = Headline(UPSTREAM, rows=(Row("nh3n", 8.27, limit=4.0),), station="shiwan", water="creek")
PLACES = [
    Text(one["zh"], one["en"]) for one in tomllib.loads(Path("config/stations.toml").read_text("utf-8"))["station"]
]


def test_a_title_is_place_value_class_and_the_limit_of_the_standard_that_was_crossed() -> None:
    assert title(AMMONIA).zh == "奇槎涌环湖花园段上游 氨氮8.27（劣Ⅴ类，限值2.0）"
    assert title(AMMONIA).en == f"{UPSTREAM.en}: ammonia nitrogen 8.27 (worse than V)"


def test_a_title_of_an_event_names_what_it_looks_like_before_the_worst_value() -> None:
    rows = worst_first([Row("codmn", 11.59, 4.95, 16.1), Row("nh3n", 3.733, 0.705, 22.2)], "creek")
    about = Headline(UPSTREAM, say("event.sewage"), rows, water="creek", confidence=0.95, score=16.7, threshold=7.0)
    assert title(about).zh == "奇槎涌环湖花园段上游 疑似污水排入 · 氨氮3.73（劣Ⅴ类，限值2.0）"
    assert summary(about) == (say("headline.changed", count=2), say("headline.confidence", confidence=95))


def test_the_present_value_takes_the_place_of_the_one_that_decided() -> None:
    assert title(AMMONIA, 1.2).zh == "奇槎涌环湖花园段上游 氨氮1.20（Ⅳ类，限值2.0）"
    assert title(AMMONIA, float("nan")) == title(AMMONIA)
    step = apply_finding(None, a_finding(0, parameter="nh3n", headline=AMMONIA), 0)
    assert step is not None
    incident = replace(step[0], id=1)
    assert incident.title == title(AMMONIA)
    assert incident.leading == ("shiwan", "nh3n")
    assert incident.titled(1.2) == title(AMMONIA, 1.2)
    over = replace(incident, state=State.CLOSED)
    assert over.leading is None
    assert over.titled(1.2) == title(AMMONIA), "what is measured after its end is not its value"


@given(
    st.sampled_from(PLACES),
    st.sampled_from([None, *EventCause]),
    st.booleans(),
    st.sampled_from(catalogue().parameters),
    st.floats(0.0, 1.0),
    st.sampled_from(["river", "creek", "lake"]),
)
def test_every_title_fits_its_room_and_keeps_its_value(
    place: Text, cause: EventCause | None, doubtful: bool, parameter: object, share: float, water: str
) -> None:
    one = parameter
    low, high = one.instrument  # type: ignore[attr-defined]
    value = low + share * (high - low)
    matter = Text("", "") if cause is None else say(f"event.{cause}")
    if doubtful:
        matter = say("headline.doubtful", matter=matter)
    about = Headline(place, matter, (Row(one.key, value, limit=low),), water=water)  # type: ignore[attr-defined]
    for language in ("zh", "en"):
        line = getattr(title(about), language)
        assert len(line) <= TITLE_MAX_CHARS[language]
        assert title_parts(about, language).value in line
        assert line.startswith(getattr(place, language)[:2])
    assert headline_from_json(about.as_json()) == about
    doubted = replace(about, event="sewage", doubtful=True)
    assert headline_from_json(doubted.as_json()) == doubted


@pytest.mark.parametrize(
    ("value", "key", "shown"),
    [
        (8.2701, "nh3n", "8.27"),
        (0.0731, "nh3n", "0.073"),
        (11.594, "codmn", "11.6"),
        (1234.5, "conductivity", "1230"),
        (8.0, "turbidity", "8.0"),
        (0.0, "nh3n", "0.00"),
    ],
)
def test_people_read_three_significant_digits(value: float, key: str, shown: str) -> None:
    assert format_value(value, catalogue()[key]) == shown


def test_limits_are_printed_as_in_the_standard() -> None:
    assert [format_limit(one) for one in (2.0, 0.05, 15.0, 1.5)] == ["2.0", "0.05", "15", "1.5"]


def test_the_evidence_is_a_table_of_what_was_before_and_then() -> None:
    about = Headline(UPSTREAM, rows=(Row("nh3n", 3.733, 0.705, -22.24), Row("ph", 6.1)), water="creek")
    ammonia, ph = [[cell.zh for cell in row] for row in table(about)]
    assert ammonia == ["氨氮", "0.705 mg/L", "3.73 mg/L（劣Ⅴ类）", "22.2倍", "—"]
    assert ph[1] == "—", "what is not known is not made up"
    assert "1" not in ph[2].split("6.10")[1], "pH has no unit"
