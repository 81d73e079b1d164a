"""The pure parts around the time-series servers: InfluxQL quoted and answered, asking back."""

import math

import numpy as np
import pytest

from ingest.storage import influxql, readback
from ingest.storage.lineprotocol import point
from ingest.storage.port import Window, thin
from ingest.storage.readback import Span
from sensors.reading import PLAIN, Flag, QualityTest

T0 = 1_790_000_000_000
HOUR = 3_600_000


# -- InfluxQL --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "as_identifier", "as_text"),
    [
        ("ph", '"ph"', "'ph'"),
        ('a"b', r'"a\"b"', "'a\"b'"),
        ("a'b", '"a\'b"', r"'a\'b'"),
        ("a\\", r'"a\\"', r"'a\\'"),
        ("东平河", '"东平河"', "'东平河'"),
    ],
)
def test_a_name_is_quoted_so_that_it_ends_where_it_ends(name: str, as_identifier: str, as_text: str):
    assert influxql.identifier(name) == as_identifier
    assert influxql.text(name) == as_text


def test_a_control_character_is_in_no_query():
    for quote in (influxql.identifier, influxql.text):
        with pytest.raises(ValueError, match="control character"):
            quote("a\nb")


def test_times_beyond_what_a_server_counts_are_drawn_in():
    assert influxql.between(-(2**53), 2**53) == "time >= -9223372036854ms AND time <= 9223372036854ms"


def test_pieces_of_a_series_are_joined_and_others_kept_apart():
    first = b'{"results":[{"series":[{"name":"w","tags":{"s":"a"},"columns":["time","v"],"values":[[1,2]]}]}]}'
    second = b'{"results":[{"series":[{"name":"w","tags":{"s":"a"},"columns":["time","v"],"values":[[2,null]]},'
    second += b'{"name":"w","tags":{"s":"b"},"columns":["time","v"],"values":[[1,3]]}]}]}'
    third = b'{"results":[{"statement_id":2,"series":[{"columns":["name"],"values":[["x"]]}]}]}'
    answers = influxql.tables([first, b"", second, third])
    assert [[(table.tags, table.rows) for table in tables] for tables in answers] == [
        [({"s": "a"}, [[1.0, 2.0], [2.0, None]]), ({"s": "b"}, [[1.0, 3.0]])],
        [],
        [({}, [["x"]])],
    ]


def test_minus_zero_keeps_its_sign():
    ((table,),) = influxql.tables(
        [b'{"results":[{"series":[{"columns":["time","v","w"],"values":[[1,-0,-0],[2,-0.5,-0]]}]}]}']
    )
    assert [math.copysign(1, float(str(cell))) for row in table.rows for cell in row[1:]] == [-1, -1, -1, -1]


@pytest.mark.parametrize("answer", [b'{"error": "no such"}', b'{"results": [{"statement_id": 0, "error": "no such"}]}'])
def test_an_error_in_an_answer_is_an_error(answer: bytes):
    with pytest.raises(influxql.QueryRefused, match="no such"):
        influxql.tables([answer])


@pytest.mark.parametrize(
    "answer", [b"<html>", b"[]", b'{"results": 5}', b'{"results": [{"series": [{"values": [1]}]}]}']
)
def test_an_answer_that_is_none_is_told(answer: bytes):
    with pytest.raises(ValueError, match="InfluxQL"):
        influxql.tables([answer])


# -- asking back -----------------------------------------------------------------------------------------------------


def test_a_late_reading_does_not_make_us_ask_for_all_that_lies_between():
    asked: list[Span] = []

    def ask(spans):
        asked.extend(spans)
        return [{(at, "f"): 1 for at in (span.first_ms, span.last_ms)} for span in spans]

    sent = [point("m", {"t": "a"}, {"f": 1}, at) for at in (T0, T0 - 30 * 24 * HOUR, T0 + HOUR, T0 + 2 * HOUR + 1)]
    assert readback.lost_lines(sent, ask) == []
    assert [(span.first_ms, span.last_ms) for span in asked] == [
        (T0 - 30 * 24 * HOUR, T0 - 30 * 24 * HOUR),
        (T0, T0 + HOUR),
        (T0 + 2 * HOUR + 1, T0 + 2 * HOUR + 1),
    ]


def test_lost_lines_come_back_in_their_order_with_those_that_cannot_be_asked_for():
    sent = [b"broken", point("m", {}, {"f": 1, "g": 2}, T0), b"m f=1", point("m", {}, {"f": 3}, T0)]
    held = {(T0, "f"): 3, (T0, "g"): 5}
    assert readback.lost_lines(sent, lambda spans: [held for _ in spans]) == sent[:3]
    held = {(T0, "f"): 3, (T0, "g"): 2}
    assert readback.lost_lines(sent, lambda spans: [held for _ in spans]) == [sent[0], sent[2]]
    assert readback.lost_lines([], lambda spans: []) == []


# -- thinning --------------------------------------------------------------------------------------------------------


def test_thinning_counts_buckets_from_the_start_and_rests_on_usable_readings():
    spike = int(Flag.SUSPECT) | int(QualityTest.SPIKE) << 4
    flat = int(Flag.BAD) | int(QualityTest.FLAT_LINE) << 4
    at = np.array([5, 6, 14, 15, 40], np.int64)
    packed = np.array([PLAIN, spike, PLAIN, flat, flat], np.int64)
    found = thin(Window(np.zeros(5, np.int32), at, np.array([1.0, 99.0, 3.0, -99.0, 7.0]), packed), 5, 10)
    assert found.at.tolist() == [5, 15, 35]
    assert found.value.tolist()[:1] == [2.0]
    assert (found.low.tolist()[0], found.high.tolist()[0], found.count.tolist()) == (1.0, 3.0, [2, 0, 0])
    assert np.isnan(found.value[1:]).all()
    assert found.packed.tolist() == [spike, flat, flat]
