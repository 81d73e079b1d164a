"""The time-series servers as they are: what is sent is there or comes back with a reason, whatever happens on the way.

InfluxDB 1.6 is real. 2.7 is a stand-in that answers as a recorded server did
(``tests/contract/test_influx2.py``). No server of 3.x is to be had here: it is tested by what is sent and how published
answers are taken. What a real one would say besides is not known from here.
"""

import gzip
import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from typer.testing import CliRunner

from infra.errors import ConfigurationError, StorageUnavailable
from infra.texts import say
from ingest.storage import influx_setup
from ingest.storage.influx import InfluxReadings
from ingest.storage.influx_setup import Plan, Step, StepResult, set_up
from ingest.storage.lineprotocol import point
from ingest.storage.timeseries import AccessDenied, NotSetUp, ServerError, ServerKind, ServerSettings, TimeSeriesServer
from riverchief.cli.app import app
from sensors.parameters import catalogue
from sensors.reading import PLAIN, Batch, Flag, Ints, QualityTest
from tests.influx import RealServer, real_server
from tests.influx2 import TOKEN, Influx2
from tests.proxy import (
    PATIENCE_S,
    CutAnswer,
    CutRequest,
    Endless,
    Forward,
    HangUp,
    Proxy,
    Silent,
    Slow,
    Status,
    TooLarge,
)
from tests.says import says

T0 = 1_790_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
CATALOGUE = catalogue()
SUSPECT = int(Flag.SUSPECT) | int(QualityTest.SPIKE) << 4
BAD = int(Flag.BAD) | int(QualityTest.SENTINEL) << 4


@pytest.fixture
def influx() -> RealServer:
    return real_server(ServerKind.INFLUXDB1)


def lines(n: int, start_ms: int = T0, station: str = "shiwan") -> list[bytes]:
    return [point("water", {"station": station}, {"ph": 7 + i / 1024, "ph_flag": 1}, start_ms + i) for i in range(n)]


def stored(server: TimeSeriesServer, measurement: str = "water") -> int:
    """How many points the server has."""
    (tables,) = server.influxql(f'SELECT * FROM "{measurement}"')
    return sum(len(table.rows) for table in tables)


def batch(readings: dict[tuple[int, str, int], float], marks: dict[tuple[int, str, int], int]) -> tuple[Batch, Ints]:
    keys = list(readings)
    columns = [[s for s, _, _ in keys], [CATALOGUE.index[k] for _, k, _ in keys], [at for _, _, at in keys]]
    packed = np.array([marks.get(key, PLAIN) for key in keys], np.int64)
    return Batch.of(*columns, list(readings.values())), packed


# -- sending ---------------------------------------------------------------------------------------------------------


@pytest.mark.influx
def test_what_was_sent_is_there_when_send_returns(influx: RealServer):
    server = influx.fresh()
    assert server.send(lines(5000)) == []
    assert server.verify(lines(5000)) == []


@pytest.mark.influx
def test_what_was_sent_survives_the_server_being_killed():
    server = RealServer(ServerKind.INFLUXDB1)
    try:
        server.start()
        client = server.fresh()
        client.send(lines(200))
        server.kill()
        with pytest.raises(ServerError):
            client.send(lines(1))
        server.start()
        assert stored(client) == 200
    finally:
        server.stop()


@pytest.mark.influx
def test_only_the_refused_lines_come_back_and_each_with_the_servers_reason(influx: RealServer):
    server = influx.fresh()
    server.send(lines(1))
    good = lines(400)
    text = [b'water,station=a ph="seven" 1790000000000', b"water,station=b ph=true 1790000000000"]
    broken = [b"no line at all", b"water,station=c ph= 1790000000000"]
    refused = server.send([*good[:150], text[0], *good[150:260], broken[0], text[1], *good[260:], broken[1]])
    reasons = {one.line: one.reason for one in refused}
    assert set(reasons) == {*text, *broken}
    assert all("conflict" in reasons[line] for line in text)
    assert "unable to parse" in reasons[broken[0]]
    assert len(refused) == 4
    assert server.verify(good) == []


@pytest.mark.influx
def test_points_older_than_the_retention_come_back_without_asking_for_each_of_them(influx: RealServer):
    with Proxy(influx.url) as proxy:
        server = influx.fresh(proxy.url)
        influx.query(f'ALTER RETENTION POLICY "autogen" ON "{server.settings.bucket}" DURATION 30d')
        old, new = lines(1000, start_ms=1_600_000_000_000), lines(1000, start_ms=int(time() * 1000) - 2000)
        refused = server.send(old + new)
        assert [one.line for one in refused] == old
        assert "retention" in refused[0].reason
        assert server.verify(new) == []
        assert len(proxy.writes) < 30


@pytest.mark.influx
def test_two_types_of_one_field_in_one_request_cost_one_of_them_only(influx: RealServer):
    server = influx.fresh()
    floats = [point("m", {"t": str(i)}, {"f": 1.0}, T0) for i in range(5)]
    texts = [point("m", {"t": str(i)}, {"f": "x"}, T0 + 1) for i in range(2)]
    refused = [one.line for one in server.send([*floats, *texts])]
    assert sorted(refused) in (sorted(texts), sorted(floats))
    assert stored(server, "m") == 7 - len(refused)


@pytest.mark.influx
def test_a_body_too_large_is_halved_until_it_fits(influx: RealServer):
    with Proxy(influx.url) as proxy:
        server = influx.fresh(proxy.url)
        proxy.script = lambda seen: TooLarge(1500)
        giant = point("m", {}, {"text": "".join(chr(33 + i * 7919 % 1000) for i in range(20_000))}, T0)
        refused = server.send([*lines(1000), giant])
        assert [one.line for one in refused] == [giant]
        assert "larger" in refused[0].reason
        assert stored(server) == 1000
        assert max(len(seen.body) for seen in proxy.writes[-5:]) <= 1500 or len(proxy.writes) > 5


@pytest.mark.influx
@pytest.mark.parametrize(
    "trouble", [Status(503), Status(500, b'{"error": "timeout"}'), Status(429), CutRequest(), CutAnswer(), HangUp()]
)
def test_what_fails_on_the_way_is_sent_again_and_is_there_once(influx: RealServer, trouble: Any):
    with Proxy(influx.url) as proxy:
        server = influx.fresh(proxy.url)
        proxy.script = [trouble]
        with pytest.raises(ServerError) as caught:
            server.send(lines(100) if not isinstance(trouble, CutAnswer) else [*lines(100), b"broken"])
        assert isinstance(caught.value, StorageUnavailable)
        assert caught.value.retryable
        assert not caught.value.needs_intervention
        assert server.send(lines(100)) == []
        assert stored(server) == 100


@pytest.mark.influx
def test_the_servers_wish_to_be_left_alone_is_handed_on(influx: RealServer):
    with Proxy(influx.url) as proxy:
        server = influx.fresh(proxy.url)
        proxy.script = [
            Status(429, retry_after="17"),
            Status(503, retry_after=formatdate(time() + 600, usegmt=True)),
            Status(503, retry_after="soon"),
            Status(503),
        ]
        waits = []
        for _ in range(4):
            with pytest.raises(ServerError) as caught:
                server.send(lines(1))
            waits.append(caught.value.retry_after_s)
        assert waits[0] == 17
        assert waits[1] == pytest.approx(600, abs=60)
        assert waits[2:] == [None, None]


@pytest.mark.influx
def test_a_server_that_does_not_answer_in_time_is_not_waited_for(influx: RealServer):
    release = threading.Event()
    with Proxy(influx.url) as proxy:
        server = influx.fresh(proxy.url, timeout_s=0.3)
        proxy.script = [Slow(release)]
        with pytest.raises(ServerError, match=says("time_series_server.no_answer", server=server.name, seconds="0.3")):
            server.send(lines(1))
        release.set()


@pytest.mark.parametrize(
    ("piece", "pause_s"), [pytest.param(b"x" * 65_536, 0.0, id="large"), pytest.param(b"x", 0.02, id="slow")]
)
def test_an_error_answer_without_end_costs_neither_memory_nor_time(piece: bytes, pause_s: float):
    hung_up = threading.Event()
    with Proxy("http://127.0.0.1:1") as proxy:
        proxy.script = [Endless(piece, pause_s, hung_up)]
        server = TimeSeriesServer(ServerSettings(proxy.url, ServerKind.INFLUXDB2, org="o", timeout_s=0.5))
        with pytest.raises(ServerError):
            server.send(lines(1))
        assert hung_up.wait(PATIENCE_S), "the rest of the answer was not waited for"


def test_a_page_of_a_proxy_in_another_encoding_keeps_its_status():
    page = "<html>服务器繁忙</html>".encode("gbk")

    def answers(seen: Any) -> Any:
        return Silent() if len(gzip.decompress(seen.body).split(b"\n")) == 1 else Status(413, page)

    with Proxy("http://127.0.0.1:1") as proxy:
        server = TimeSeriesServer(ServerSettings(proxy.url, ServerKind.INFLUXDB2, org="o"))
        proxy.script = [Status(503, page, retry_after="17", content_type="text/html")]
        with pytest.raises(ServerError) as caught:
            server.send(lines(1))
        assert caught.value.retry_after_s == 17
        proxy.script = answers
        assert server.send(lines(2)) == [], "too large together, not each alone"


def test_a_server_that_is_not_there_is_told_by_its_name():
    server = TimeSeriesServer(ServerSettings("http://127.0.0.1:1", ServerKind.INFLUXDB1))
    for use in (lambda: server.send(lines(1)), server.ping, lambda: server.verify(lines(1))):
        with pytest.raises(ServerError, match=says("time_series_server.away", server="127.0.0.1:1")):
            use()


@pytest.mark.influx
@pytest.mark.parametrize("status", [401, 403])
def test_who_is_refused_is_told_to_look_at_the_token_and_never_shown_it(influx: RealServer, status: int):
    with Proxy(influx.url) as proxy:
        server = influx.fresh(proxy.url, token="topsecret", password="alsosecret", user="u")
        proxy.script = lambda seen: Status(status, b'{"error": "topsecret alsosecret is no good"}')
        for use in (lambda: server.send(lines(1)), server.ping, lambda: server.influxql("SHOW DATABASES")):
            with pytest.raises(
                AccessDenied,
                match=says(
                    "time_series_server.unknown" if status == 401 else "time_series_server.denied", status=status
                ),
            ) as caught:
                use()
            assert "secret" not in str(caught.value)
            assert caught.value.needs_intervention
    assert "secret" not in repr(server.settings)


@pytest.mark.influx
def test_a_server_that_asks_for_a_password_gets_ours():
    server = RealServer(ServerKind.INFLUXDB1, asks_for_password=True)
    try:
        server.start()
        server.query("CREATE USER admin WITH PASSWORD 'pw' WITH ALL PRIVILEGES")
        client = server.client("water", user="admin", password="pw")
        client.influxql(
            "CREATE DATABASE water", "CREATE USER reader WITH PASSWORD 'pw'", "GRANT READ ON water TO reader"
        )
        assert client.send(lines(3)) == []
        for user, password in (("admin", "wrong"), ("reader", "pw"), (None, None)):
            with pytest.raises(AccessDenied):
                server.client("water", user=user, password=password).send(lines(1))
        assert stored(server.client("water", user="reader", password="pw")) == 3
    finally:
        server.stop()


@pytest.mark.influx
def test_a_database_that_is_not_there_is_a_case_for_setup(influx: RealServer):
    server = influx.client("never_made")
    for use in (lambda: server.send(lines(1)), lambda: server.verify(lines(1))):
        with pytest.raises(
            NotSetUp,
            match=says("time_series_server.not_there", where="never_made")
            + "|"
            + says("time_series_server.no_database", database="never_made"),
        ):
            use()


@pytest.mark.influx
@pytest.mark.parametrize(
    "answer",
    [
        Status(400, b"<html>Bad Request</html>", content_type="text/html"),
        Status(400),
        Status(400, b"[1]"),
        Status(422, b'{"error": 5}'),
        Status(405, b'{"error": "no"}'),
        Status(302, b'{"error": "moved"}'),
    ],
)
def test_an_answer_that_blames_no_line_costs_no_line(influx: RealServer, answer: Status):
    with Proxy(influx.url) as proxy:
        server = influx.fresh(proxy.url)
        proxy.script = lambda seen: answer
        with pytest.raises(ServerError):
            server.send(lines(10))
        assert len(proxy.seen) == 1, "no redirect is followed and nothing is halved"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"url": "influx:8086"}, says("time_series_server.scheme")),
        ({"url": "http://"}, says("time_series_server.scheme")),
        ({"url": "http://user:hidden@server:8086"}, says("time_series_server.password")),
        ({"url": "https://server", "ca_file": Path("/nowhere/ca.pem")}, says("time_series_server.ca")),
    ],
)
def test_an_address_that_cannot_be_used_is_said_at_once(settings: dict[str, Any], what: str):
    with pytest.raises(ConfigurationError, match=what) as caught:
        TimeSeriesServer(ServerSettings(**settings))
    assert "hidden" not in str(caught.value)


# -- the write paths of servers that are not here --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path", "asked", "scheme"),
    [
        (ServerKind.INFLUXDB1, "/write", {"db": "water", "precision": "ms"}, "Token t"),
        (ServerKind.INFLUXDB2, "/api/v2/write", {"org": "o", "bucket": "water", "precision": "ms"}, "Token t"),
        (ServerKind.INFLUXDB3, "/api/v2/write", {"org": "o", "bucket": "water", "precision": "ms"}, "Bearer t"),
    ],
)
def test_each_server_is_written_to_in_its_own_way(kind: ServerKind, path: str, asked: dict[str, str], scheme: str):
    with Proxy("http://127.0.0.1:1") as proxy:
        proxy.script = [Silent()]
        server = TimeSeriesServer(ServerSettings(proxy.url, kind, org="o", bucket="water", token="t"))
        assert server.send(lines(3)) == []
        (seen,) = proxy.seen
        assert urlsplit(seen.path).path == path
        assert {key: value for key, (value,) in parse_qs(urlsplit(seen.path).query).items()} == asked
        assert seen.headers["Authorization"] == scheme
        assert gzip.decompress(seen.body).split(b"\n") == lines(3)


def test_lines_that_a_partial_write_of_3_x_numbers_are_not_searched_for():
    listed = [{"original_line": "x", "line_number": n, "error_message": f"bad {n}"} for n in (2, 5)]
    answer = json.dumps({"error": "partial write of line protocol occurred", "data": listed}).encode()
    with Proxy("http://127.0.0.1:1") as proxy:
        proxy.script = [Status(400, answer), Silent()]
        server = TimeSeriesServer(ServerSettings(proxy.url, ServerKind.INFLUXDB3))
        sent = lines(6)
        assert [(one.line, one.reason) for one in server.send(sent)] == [(sent[1], "bad 2"), (sent[4], "bad 5")]
        assert gzip.decompress(proxy.seen[1].body).split(b"\n") == [sent[i] for i in (0, 2, 3, 5)]


def test_lines_that_2_x_refuses_are_found_by_halving():
    bad = {lines(64)[7], lines(64)[40]}

    def answers(seen: Any) -> Any:
        if bad & set(gzip.decompress(seen.body).split(b"\n")):
            return Status(422, b'{"code": "unprocessable entity", "message": "failure writing points to database"}')
        return Silent()

    with Proxy("http://127.0.0.1:1") as proxy:
        proxy.script = answers
        server = TimeSeriesServer(ServerSettings(proxy.url, ServerKind.INFLUXDB2, org="o"))
        refused = server.send(lines(64))
        assert {one.line for one in refused} == bad
        assert {one.reason for one in refused} == {"failure writing points to database"}
        accepted: set[bytes] = set()
        for seen in proxy.seen:
            content = set(gzip.decompress(seen.body).split(b"\n"))
            accepted |= content if not bad & content else set()
        assert accepted == set(lines(64)) - bad


# -- asking back -----------------------------------------------------------------------------------------------------


@pytest.mark.influx
def test_an_answer_of_204_that_stored_nothing_is_found_out(influx: RealServer):
    with Proxy(influx.url) as proxy:
        server = influx.fresh(proxy.url)
        proxy.script = lambda seen: Silent() if seen.is_write else Forward()
        assert server.send(lines(50)) == []
        assert server.verify(lines(50)) == lines(50)
        proxy.script = []
        server.send(lines(25))
        assert server.verify(lines(50)) == lines(50)[25:]


@pytest.mark.influx
def test_hundreds_of_series_are_asked_back_for_in_a_few_requests(influx: RealServer):
    sent = [point("water", {"station": f"s-{i}"}, {"ph": i / 8, "ph_flag": 1}, T0 + i) for i in range(450)]
    sent += [point("water", {"station": f"s-{i}"}, {"ph": 1.0}, T0 - 9 * DAY) for i in range(50)]
    missing = [sent[3], sent[299], sent[449], sent[460]]
    with Proxy(influx.url) as proxy:
        server = influx.fresh(proxy.url)
        server.send([line for line in sent if line not in missing])
        proxy.seen.clear()
        assert server.verify(sent) == missing
        assert len(proxy.seen) <= 6


@pytest.mark.influx
def test_another_value_or_another_series_is_not_what_was_sent(influx: RealServer):
    server = influx.fresh()
    tags = {"station": "a"}
    there = point("water", tags, {"ph": 7.0, "ph_flag": 1, "s": '河 "x" \\'}, T0)
    server.send([there, point("water", {"station": "b", "reach": "r"}, {"ph": 7.0}, T0)])
    assert server.verify([there]) == []
    for other in (
        point("water", tags, {"ph": 7.5}, T0),
        point("water", tags, {"ph_flag": 3}, T0),
        point("water", tags, {"s": "other"}, T0),
        point("water", tags, {"ph": 7.0}, T0 + 1),
        point("water", {"station": "b"}, {"ph": 7.0}, T0),
        point("water", {"station": "b", "reach": "q"}, {"ph": 7.0}, T0),
        point("air", tags, {"ph": 7.0}, T0),
        b"nonsense",
    ):
        assert server.verify([there, other]) == [other]


@pytest.mark.influx
def test_what_a_later_line_overwrote_is_not_missed(influx: RealServer):
    server = influx.fresh()
    first = point("water", {"station": "a"}, {"ph": 7.0, "ph_flag": 1}, T0)
    later = point("water", {"station": "a"}, {"ph_flag": 3, "ph_tests": 8}, T0)
    server.send([first, later])
    assert server.verify([first, later]) == []
    assert server.verify([later, first]) == [first], "now the flag should be 1 again"


# -- readings whose station changed its reach ------------------------------------------------------------------------


@pytest.fixture
def moved(influx: RealServer) -> InfluxReadings:
    """Ten readings under one reach; then the station moves, one is judged bad, one corrected upwards, two are added."""
    server = influx.fresh()
    before, after = (InfluxReadings(server, CATALOGUE, lambda station, reach=reach: reach) for reach in ("zuo", "an"))
    before.write(None, ["s"], *batch({(0, "ph", T0 + i * MINUTE): 1.0 + i for i in range(10)}, {}))
    after.reflag(None, ["s"], *batch({(0, "ph", T0 + 9 * MINUTE): 0.0}, {(0, "ph", T0 + 9 * MINUTE): BAD}))
    after.write(None, ["s"], *batch({(0, "ph", T0 + i * MINUTE): 100.0 + i for i in (4, 10, 11)}, {}))
    after.reflag(None, ["s"], *batch({(0, "ph", T0 + 12 * MINUTE): 0.0}, {(0, "ph", T0 + 12 * MINUTE): BAD}))
    return after


EXPECTED = [1.0, 2.0, 3.0, 4.0, 104.0, 6.0, 7.0, 8.0, 9.0, 10.0, 110.0, 111.0]


@pytest.mark.influx
def test_a_station_that_moved_has_one_row_a_time_and_the_reach_of_today_wins(moved: InfluxReadings):
    found = moved.window("s", T0, T0 + HOUR)
    assert found.at.tolist() == [T0 + i * MINUTE for i in range(12)]
    assert found.value.tolist() == EXPECTED
    assert found.packed.tolist() == [PLAIN] * 9 + [BAD] + [PLAIN] * 2
    assert moved.raw("s", "ph", T0, T0 + HOUR, 5).value.tolist() == EXPECTED[:5]
    assert moved.before("s", "ph", T0 + HOUR, 4).value.tolist() == EXPECTED[-4:]


@pytest.mark.influx
def test_a_station_that_moved_is_counted_and_thinned_once(moved: InfluxReadings):
    assert moved.count() == {"s": 12}
    assert moved.count(before_ms=T0 + 5 * MINUTE) == {"s": 5}
    found = moved.thinned("s", "ph", T0, T0 + 13 * MINUTE, 3 * MINUTE)
    assert found.at.tolist() == [T0 + i * 3 * MINUTE for i in range(4)]
    assert found.count.tolist() == [3, 3, 3, 2]
    assert found.high.tolist() == [3.0, 104.0, 9.0, 111.0]
    assert found.value.tolist() == [2.0, 38.0, 8.0, 110.5]
    assert found.packed.tolist() == [PLAIN, PLAIN, PLAIN, BAD]


@pytest.mark.influx
def test_the_latest_of_a_station_that_moved_is_not_what_was_since_judged_bad(moved: InfluxReadings):
    (row,) = moved.latest()
    assert (row.at_ms, row.value, row.newest_at_ms) == (T0 + 11 * MINUTE, 111.0, T0 + 11 * MINUTE)
    times = [T0 + 10 * MINUTE, T0 + 11 * MINUTE]
    moved.reflag(None, ["s"], *batch({(0, "ph", at): 0.0 for at in times}, {(0, "ph", at): BAD for at in times}))
    (row,) = moved.latest()
    assert (row.at_ms, row.value, row.newest_at_ms) == (T0 + 8 * MINUTE, 9.0, T0 + 11 * MINUTE)


# -- the rest of reading ---------------------------------------------------------------------------------------------


@pytest.mark.influx
def test_a_verdict_without_a_reading_is_in_no_bucket(influx: RealServer):
    store = InfluxReadings(influx.fresh(), CATALOGUE)
    store.write(None, ["s"], *batch({(0, "ph", T0): 7.0, (0, "ph", T0 + 5 * MINUTE): 7.0}, {}))
    for at in (T0 + 1, T0 + 12 * MINUTE):
        store.reflag(None, ["s"], *batch({(0, "ph", at): 0.0}, {(0, "ph", at): BAD}))
    found = store.thinned("s", "ph", T0, T0 + 20 * MINUTE, 4 * MINUTE)
    assert found.at.tolist() == [T0, T0 + 4 * MINUTE]
    assert found.packed.tolist() == [PLAIN, PLAIN]


@pytest.mark.influx
def test_the_tests_of_a_verdict_that_was_lifted_are_in_no_bucket(influx: RealServer):
    store = InfluxReadings(influx.fresh(), CATALOGUE)
    readings = {(0, "ph", T0 + i * MINUTE): 7.0 for i in range(4)}
    store.write(None, ["s"], *batch(readings, {(0, "ph", T0): SUSPECT, (0, "ph", T0 + 3 * MINUTE): SUSPECT}))
    store.reflag(None, ["s"], *batch({(0, "ph", T0): 0.0}, {}))
    assert store.thinned("s", "ph", T0, T0 + 4 * MINUTE, 2 * MINUTE).packed.tolist() == [PLAIN, SUSPECT]


@pytest.mark.influx
def test_every_bit_of_a_value_comes_back(influx: RealServer):
    store = InfluxReadings(influx.fresh(), CATALOGUE)
    values = [-0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 123456789.123456789, -1e-300, 2.0**53 + 2]
    store.write(None, ["s"], *batch({(0, "ph", T0 + i): value for i, value in enumerate(values)}, {}))
    found = store.window("s", T0, T0 + HOUR).value
    assert [struct.pack("<d", value) for value in found] == [struct.pack("<d", value) for value in values]


@pytest.mark.influx
def test_a_name_is_never_taken_for_a_command(influx: RealServer):
    store = InfluxReadings(influx.fresh(), CATALOGUE)
    names = ["s", "a' OR '1'='1", 'b" OR "x"="x', "c\\' OR 'x'='x", "d'; DROP SERIES FROM water; --"]
    store.write(None, names, *batch({(i, "ph", T0): float(i) for i in range(len(names))}, {}))
    for i, name in enumerate(names):
        assert store.window(name, T0, T0).value.tolist() == [float(i)]
    assert [row.station for row in store.latest(names)] == sorted(names)
    assert store.count() == dict.fromkeys(names, 1)


@pytest.mark.influx
def test_an_answer_in_many_pieces_is_read_whole(influx: RealServer):
    store = InfluxReadings(influx.fresh(), CATALOGUE)
    n = 23_456
    store.write(None, ["s"], *batch({(0, "ph", T0 + i): float(i) for i in range(n)}, {}))
    assert store.window("s", T0, T0 + HOUR).value.tolist() == [float(i) for i in range(n)]


@pytest.mark.influx
def test_an_answer_cut_in_the_middle_is_no_answer(influx: RealServer):
    with Proxy(influx.url) as proxy:
        store = InfluxReadings(influx.fresh(proxy.url), CATALOGUE)
        store.write(None, ["s"], *batch({(0, "ph", T0 + i): 7.0 for i in range(100)}, {}))
        for trouble in (CutAnswer(), HangUp(), Status(200, b'{"results": [{"statement_id": 0, "error": "timeout"}]}')):
            proxy.script = [trouble]
            with pytest.raises(StorageUnavailable):
                store.window("s", T0, T0 + HOUR)
        assert len(store.window("s", T0, T0 + HOUR)) == 100


@pytest.mark.influx
def test_the_latest_of_two_thousand_stations_takes_two_requests(influx: RealServer):
    with Proxy(influx.url) as proxy:
        store = InfluxReadings(influx.fresh(proxy.url), CATALOGUE)
        names = [f"s-{i}" for i in range(2000)]
        readings = {(i, key, T0 + j): i + j / 2 for i in range(2000) for key in ("ph", "do") for j in range(3)}
        store.write(None, names, *batch(readings, {key: BAD for key in readings if key[2] == T0 + 2}))
        proxy.seen.clear()
        found = store.latest()
        assert len(proxy.seen) == 2
        assert len(found) == 4000
        assert {(row.at_ms, row.newest_at_ms) for row in found} == {(T0 + 1, T0 + 2)}
        assert all(row.value == int(row.station[2:]) + 0.5 for row in found)


@pytest.mark.influx
def test_more_stations_are_asked_for_than_a_query_can_name(influx: RealServer):
    store = InfluxReadings(influx.fresh(), CATALOGUE)
    names = [f"a-station-with-a-rather-long-name-{i:04d}" for i in range(700)]
    store.write(None, names, *batch({(i, "ph", T0 + i): float(i) for i in range(700)}, {}))
    asked = names[50:650]
    assert [(row.station, row.value) for row in store.latest(asked)] == list(zip(asked, range(50, 650), strict=True))
    assert store.count(asked) == dict.fromkeys(asked, 1)


# -- setting up 1.x --------------------------------------------------------------------------------------------------


def done(steps: Iterator[Step]) -> dict[str, StepResult]:
    return {step.what: step.did for step in steps}


def policies(server: TimeSeriesServer) -> dict[str, tuple[str, str]]:
    """Retention policy → duration and duration of its shard groups."""
    (tables,) = server.influxql(f'SHOW RETENTION POLICIES ON "{server.settings.bucket}"')
    return {str(row[0]): (str(row[1]), str(row[2])) for row in tables[0].rows}


@pytest.mark.influx
def test_setting_up_twice_changes_nothing_and_a_changed_setting_changes_that_alone(influx: RealServer):
    server = influx.client("setup_twice")
    plan = Plan(730, 3650, 0)
    first = done(set_up(server, plan))
    assert set(first.values()) == {StepResult.MADE, StepResult.CHANGED}
    assert set(done(set_up(server, plan)).values()) == {StepResult.KEPT}
    changed = done(set_up(server, replace(plan, raw_days=365, daily_days=7300)))
    assert {what for what, did in changed.items() if did is not StepResult.KEPT} == {
        "setup_twice.autogen",
        "setup_twice.daily",
    }
    kept = {name: duration for name, (duration, _) in policies(server).items()}
    assert kept == {"autogen": "8760h0m0s", "hourly": "87600h0m0s", "daily": "175200h0m0s"}


@pytest.mark.influx
@pytest.mark.parametrize(("days", "shard"), [(1, "1h0m0s"), (3, "24h0m0s"), (7, "24h0m0s")])
def test_a_retention_shorter_than_the_shards_of_1_x_shortens_them_too(influx: RealServer, days: int, shard: str):
    server = influx.client(f"short_{days}")
    list(set_up(server, Plan(730, 3650, 0)))
    list(set_up(server, Plan(days, days, days)))
    assert policies(server) == dict.fromkeys(("autogen", "hourly", "daily"), (f"{24 * days}h0m0s", shard))
    fresh = influx.client(f"short_from_empty_{days}")
    list(set_up(fresh, Plan(days, days, days)))
    assert {duration for duration, _ in policies(fresh).values()} == {f"{24 * days}h0m0s"}


@pytest.mark.influx
def test_continuous_queries_of_an_earlier_version_are_removed_from_our_database_alone(influx: RealServer):
    ours, other = influx.fresh(), influx.fresh()
    for server in (ours, other):
        list(set_up(server, PLAN))
        for name in ("riverchief_hourly_ph", "theirs"):
            source = 'SELECT mean("ph") INTO "hourly"."water_hourly" FROM "water" GROUP BY time(1h)'
            server.influxql(f'CREATE CONTINUOUS QUERY "{name}" ON "{server.settings.bucket}" BEGIN {source} END')
    assert StepResult.REMOVED in done(set_up(ours, PLAN)).values()
    (tables,) = ours.influxql("SHOW CONTINUOUS QUERIES")
    left = {table.name: [row[0] for row in table.rows] for table in tables}
    assert left[ours.settings.bucket] == ["theirs"]
    assert left[other.settings.bucket] == ["riverchief_hourly_ph", "theirs"]
    assert set(done(set_up(ours, PLAN)).values()) == {StepResult.KEPT}


@pytest.mark.influx
def test_setup_on_the_command_line_tells_each_step(influx: RealServer, tmp_path: Path):
    settings = tmp_path / "settings.toml"
    settings.write_text(f"[influx]\nurl = '{influx.url}'\nkind = 'influxdb1'\nbucket = 'by_command'\n")
    first = CliRunner().invoke(app, ["setup", "influx", "--settings", str(settings)])
    assert first.exit_code == 0, first.output
    assert "by_command.hourly" in first.output
    again = CliRunner().invoke(app, ["setup", "influx", "-c", str(settings), "--json"])
    assert {step["did"] for step in json.loads(again.output)["steps"]} == {"kept"}


# -- setting up 2.x and 3.x ------------------------------------------------------------------------------------------


def client2(fake: Influx2, **settings: Any) -> TimeSeriesServer:
    given = {"org": "riverchief", "bucket": "water", "token": TOKEN} | settings
    return TimeSeriesServer(ServerSettings(fake.url, ServerKind.INFLUXDB2, **given))


PLAN = Plan(730, 3650, 0)


def test_buckets_and_mappings_of_2_x_are_made_from_empty_and_once():
    with Influx2() as fake:
        assert set(done(set_up(client2(fake), PLAN)).values()) == {StepResult.KEPT, StepResult.MADE}
        seconds = {name: bucket["retentionRules"][0]["everySeconds"] for name, bucket in fake.named("buckets").items()}
        assert seconds == {"water": 730 * 86400, "water_hourly": 3650 * 86400, "water_daily": 0}
        assert mapped(fake, "water") == {
            ("autogen", "water", True),
            ("hourly", "water_hourly", False),
            ("daily", "water_daily", False),
        }
        fake.changes.clear()
        assert set(done(set_up(client2(fake), PLAN)).values()) == {StepResult.KEPT}
        assert fake.changes == []


def mapped(fake: Influx2, database: str) -> set[tuple[str, str, bool]]:
    """The mappings of a database: policy, bucket, whether it is the default."""
    names = {bucket["id"]: name for name, bucket in fake.named("buckets").items()}
    return {
        (one["retention_policy"], names[one["bucketID"]], one["default"])
        for one in fake.things["dbrps"].values()
        if one["database"] == database
    }


def test_two_sites_on_one_2_x_server_have_their_own_buckets_and_leave_each_other_alone():
    with Influx2() as fake:
        list(set_up(client2(fake), PLAN))
        before = json.dumps(fake.things)
        second = done(set_up(client2(fake, bucket="lake"), replace(PLAN, raw_days=30)))
        assert second["lake"] is StepResult.MADE
        for kind, things in json.loads(before).items():
            assert things.items() <= fake.things[kind].items()
        assert {policy for policy, _, _ in mapped(fake, "lake")} == {"autogen", "hourly", "daily"}
        assert set(done(set_up(client2(fake), PLAN)).values()) == {StepResult.KEPT}


def task(name: str, bucket: str) -> dict[str, str]:
    flux = f'option task = {{name: "{name}", every: 1h}}\nfrom(bucket: "{bucket}") |> range(start: -2h)'
    return {"name": name, "flux": flux, "status": "inactive"}


def test_tasks_of_an_earlier_version_are_removed_and_those_of_others_stay():
    with Influx2() as fake:
        list(set_up(client2(fake), PLAN))
        theirs = [task("riverchief_hourly_ph", "lake"), *(task(f"theirs {i}", "water") for i in range(600))]
        ours = [task(f"riverchief_{tier}_{key}", "water") for tier in ("hourly", "daily") for key in ("ph", "do")]
        for i, one in enumerate([*theirs, *ours]):
            fake.things["tasks"][f"{i:016x}"] = {"id": f"{i:016x}", "orgID": fake.org_id, **one}
        steps = [step for step in set_up(client2(fake), PLAN) if step.did is not StepResult.KEPT]
        assert [step.did for step in steps] == [StepResult.REMOVED]
        assert "4" in steps[0].note.zh
        left = [{key: one[key] for key in ("name", "flux", "status")} for one in fake.things["tasks"].values()]
        assert left == theirs
        assert set(done(set_up(client2(fake), PLAN)).values()) == {StepResult.KEPT}


def test_what_differs_on_2_x_is_changed():
    with Influx2() as fake:
        list(set_up(client2(fake), PLAN))
        elsewhere = next(
            mapping for mapping in fake.things["dbrps"].values() if mapping["retention_policy"] == "hourly"
        )
        elsewhere["bucketID"] = fake.named("buckets")["water"]["id"]
        changed = done(set_up(client2(fake), replace(PLAN, raw_days=90)))
        assert {what: did for what, did in changed.items() if did is not StepResult.KEPT} == {
            "water": StepResult.CHANGED,
            "InfluxQL water.hourly": StepResult.MADE,
        }


@pytest.mark.parametrize(
    ("days", "shard"), [(1, 3600), (3, 86400), (7, 86400), (90, 86400), (365, 604800), (0, 604800)]
)
def test_a_retention_shorter_than_the_shards_of_2_x_shortens_them_too(days: int, shard: int):
    with Influx2() as fake:
        list(set_up(client2(fake), PLAN))
        assert done(set_up(client2(fake), replace(PLAN, raw_days=days)))["water"] is StepResult.CHANGED
        (rule,) = fake.named("buckets")["water"]["retentionRules"]
        assert (rule["everySeconds"], rule["shardGroupDurationSeconds"]) == (days * 86400, shard)
        assert set(done(set_up(client2(fake), replace(PLAN, raw_days=days))).values()) == {StepResult.KEPT}


def test_a_set_up_that_2_x_does_not_allow_says_so_without_the_token():
    with Influx2() as fake:
        with pytest.raises(AccessDenied) as caught:
            list(set_up(client2(fake, token="wrong-and-secret"), PLAN))
        assert "secret" not in str(caught.value)
        with pytest.raises(NotSetUp, match=says("time_series_server.no_org", org="'elsewhere'")):
            list(set_up(client2(fake, org="elsewhere"), PLAN))
        with pytest.raises(ConfigurationError, match=says("time_series_server.token")):
            list(set_up(client2(fake, token=None), PLAN))
        assert fake.changes == []
    with pytest.raises(ServerError, match=says("time_series_server.away")):
        list(set_up(client2(fake), PLAN))


@pytest.mark.influx
def test_a_server_of_1_x_taken_for_2_x_is_told(influx: RealServer):
    settings = ServerSettings(influx.url, ServerKind.INFLUXDB2, org="riverchief", token="t")
    with pytest.raises(NotSetUp, match=r"influx\.kind"):
        list(set_up(TimeSeriesServer(settings), PLAN))


def test_the_programs_of_the_stack_get_tokens_that_can_do_no_more_than_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "influxdb").mkdir()
    (tmp_path / "influxdb" / "admin_token").write_text(f"{TOKEN}\n")
    with Influx2() as fake:
        monkeypatch.setenv("RIVERCHIEF_INFLUX__URL", fake.url)
        command = ["setup", "influx", "--secrets", str(tmp_path)]
        ran = CliRunner().invoke(app, command)
        assert ran.exit_code == 0, ran.output
        given = fake.tokens()
        assert (tmp_path / "grafana" / "influx_token").read_text() == given["riverchief: grafana"]["token"]
        assert (tmp_path / "riverchief" / "influx_token").read_text() == given["riverchief: riverchief"]["token"]
        assert {one["action"] for one in given["riverchief: grafana"]["permissions"]} == {"read"}
        ours = {bucket["id"] for bucket in fake.named("buckets").values()}
        assert may(given["riverchief: riverchief"], "write") == may(given["riverchief: riverchief"], "read") == ours
        assert may(given["riverchief: grafana"], "read") == ours
        assert not any(one["token"] in ran.output for one in given.values())
        CliRunner().invoke(app, command)
        assert fake.tokens() == given, "who has a token keeps it"


def may(token: dict[str, Any], action: str) -> set[str]:
    """The buckets a token may read or write."""
    permissions = [one for one in token["permissions"] if one["resource"]["type"] == "buckets"]
    return {one["resource"]["id"] for one in permissions if one["action"] == action}


def test_after_a_lost_bucket_the_programs_get_tokens_for_the_new_one_and_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "influxdb").mkdir()
    (tmp_path / "influxdb" / "admin_token").write_text(TOKEN)
    command = ["setup", "influx", "--secrets", str(tmp_path), "--json"]
    with Influx2() as fake:
        monkeypatch.setenv("RIVERCHIEF_INFLUX__URL", fake.url)

        def write() -> None:
            server = client2(fake, token=(tmp_path / "riverchief" / "influx_token").read_text())
            for policy in ("", "hourly", "daily"):
                assert server.send(lines(1), policy) == []
                assert server.verify(lines(1), policy) == []

        assert CliRunner().invoke(app, command).exit_code == 0
        write()
        before = fake.tokens()
        for bucket in ("water", "water_daily"):
            fake.drop(bucket)
            with pytest.raises(NotSetUp):
                write()
            ran = CliRunner().invoke(app, command)
            assert sorted(json.loads(ran.stdout)["written"]) == ["grafana/influx_token", "riverchief/influx_token"]
            write()
        assert len(fake.things["authorizations"]) == 3, "the tokens that were replaced are withdrawn"
        assert {one["token"] for one in fake.tokens().values()}.isdisjoint(one["token"] for one in before.values())
        assert json.loads(CliRunner().invoke(app, command).stdout)["written"] == []

        fake.tokens()["riverchief: grafana"]["status"] = "inactive"
        assert json.loads(CliRunner().invoke(app, command).stdout)["written"] == ["grafana/influx_token"]


def test_a_token_without_a_right_is_told_which_right_it_lacks(tmp_path: Path):
    with Influx2() as fake:
        list(set_up(client2(fake), PLAN))
        tokens: dict[str, str] = {}
        for name, may_write in (("reader", False), ("writer", True)):
            influx_setup.ensure_token_v2(
                client2(fake),
                name,
                held=None,
                may_write=may_write,
                keep=lambda token, name=name: tokens.update({name: token}),  # type: ignore[misc]
            )
        reader, writer = (client2(fake, token=tokens[name]) for name in ("reader", "writer"))
        with pytest.raises(
            AccessDenied,
            match=says(
                "time_series_server.denied",
                status=403,
                reason="insufficient permissions for write",
                right=say("time_series_server.right_write", bucket="water_hourly"),
            ),
        ):
            reader.send(lines(1), "hourly")
        list(set_up(client2(fake, bucket="lake"), PLAN))
        with pytest.raises(
            NotSetUp, match=says("time_series_server.no_database", reason="database not found: lake", database="lake")
        ):
            client2(fake, bucket="lake", token=tokens["reader"]).influxql('SELECT * FROM "water"')
        with pytest.raises(NotSetUp, match=says("time_series_server.no_org", org="'riverchief'")):
            list(set_up(writer, PLAN))
        manages_nothing = next(
            one for one in fake.things["authorizations"].values() if one["token"] == tokens["writer"]
        )
        manages_nothing["permissions"].append({"action": "read", "resource": {"type": "orgs"}})
        fake.drop("water")
        with pytest.raises(
            AccessDenied,
            match=says(
                "time_series_server.denied",
                status=401,
                reason="write:orgs/b88b7bb6b71c0001/buckets is unauthorized",
                right=say("time_series_server.right_manage", org="riverchief"),
            ),
        ) as caught:
            list(set_up(writer, PLAN))
        assert tokens["writer"] not in str(caught.value)
        with pytest.raises(AccessDenied, match=says("time_series_server.unknown", status=401, reason="Unauthorized")):
            client2(fake, token="wrong").influxql("SHOW FIELD KEYS")


def test_the_organisation_is_named_to_2_x_in_every_call():
    with Proxy("http://127.0.0.1:1") as proxy:
        proxy.script = lambda seen: Status(200, b'{"results": []}')
        for kind, named in ((ServerKind.INFLUXDB2, ["o"]), (ServerKind.INFLUXDB1, []), (ServerKind.INFLUXDB3, [])):
            proxy.seen.clear()
            TimeSeriesServer(ServerSettings(proxy.url, kind, org="o", token="t")).influxql("SHOW FIELD KEYS")
            assert parse_qs(urlsplit(proxy.seen[0].path).query).get("org", []) == named


def test_the_database_of_3_x_is_made_once_with_its_retention():
    listed = json.dumps([{"iox::database": "_internal"}]).encode()
    with Proxy("http://127.0.0.1:1") as proxy:
        server = TimeSeriesServer(ServerSettings(proxy.url, ServerKind.INFLUXDB3, bucket="water", token="t"))
        proxy.script = [Status(200, listed), Status(200, b"")]
        assert done(set_up(server, PLAN))["water"] is StepResult.MADE
        assert (proxy.seen[1].method, proxy.seen[1].path) == ("POST", "/api/v3/configure/database")
        assert json.loads(proxy.seen[1].body) == {"db": "water", "retention_period": "730d"}
        proxy.script = [Status(200, json.dumps([{"iox::database": "water"}]).encode())]
        assert done(set_up(server, PLAN)) == {"water": StepResult.KEPT, "water_hourly, water_daily": StepResult.BY_HAND}
