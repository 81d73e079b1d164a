"""The SL 651 gateway over real sockets: confirmed by the standard after storing, whatever stations and networks do."""

import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.context import Context
from infra.clock import now_ms
from infra.times import rfc3339
from ingest import ledger, quarantine
from ingest.storage import device_events, sl651_stations
from ingest.storage.sql import SqlReadings
from riverchief.brokers.local import free_port
from sensors.parameters import catalogue
from sensors.reading import Reason
from sensors.wire.sl651 import assembly
from sensors.wire.sl651.frame import End
from sensors.wire.sl651.readings import Gauge
from sensors.wire.telemetry import Sample
from simulator.devices.sl651_station import Line, Quirks, Station
from tests import preloaded, rig
from tests.sl651_site import ADDRESS, Site651, Wire, body, frame, packets

MINUTE = 60_000
OTHER = "003A00BEEF"
eventually = partial(rig.eventually, timeout_s=30)
"""For what happens within this process: as long as `Wire` waits. A new process may take longer to start."""
QUIET_S = 0.4
"""Nobody answers within this time who will not answer at all."""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Site651]]:
    made: list[Site651] = []

    def start(*gauges: Gauge, **settings: Any) -> Site651:
        site = Site651(tmp_path / f"site-{len(made)}", **settings)
        site.register(*(gauges or (Gauge(ADDRESS, "shiwan"),)))
        site.start()
        made.append(site)
        return site

    yield start
    for one in made:
        one.stop()


def whole_minute(ago: int = 0) -> int:
    return (now_ms() // MINUTE - ago) * MINUTE


def quiet(wire: Wire) -> bool:
    return not select.select([wire.socket], [], [], QUIET_S)[0]


def reasons(site: Site651) -> list[str]:
    with site.database.read() as connection:
        return [one.reason for one in quarantine.groups(connection)]


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_a_message_is_confirmed_once_it_is_stored(make: Callable[..., Site651], udp: bool) -> None:
    site = make()
    wire = Wire(site.gateway.port, udp=udp)
    at = whole_minute()
    wire.send(frame(body(7, at)))
    got = wire.answer()
    assert (got.station, got.function, got.end, got.body[:2]) == (ADDRESS, 0x34, End.EOT, b"\0\7")
    assert site.stored("shiwan", "level") == {at: 28.96}
    wire.close()


def test_link_keeping_is_never_answered_and_a_test_is_confirmed_without_readings(make: Callable[..., Site651]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    at = whole_minute()
    wire.send(frame(body(1, at)[:8], 0x2F) + frame(body(2, at), 0x30))
    assert wire.answer().function == 0x30
    assert quiet(wire)
    assert site.stored("shiwan", "level") == {}


def test_a_message_that_comes_again_is_stored_once(make: Callable[..., Site651]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    at = whole_minute()
    for function in (0x34, 0x34, 0x32, 0x33):
        wire.send(frame(body(7, at), function))
        assert wire.answer().end is End.EOT
    assert site.stored("shiwan", "level") == {at: 28.96}


NOTHING = {"messages": 0, "messages_quarantined": 0, "stored": 0, "duplicate": 0, "quarantined": 0}
ONE = NOTHING | {"messages": 1}


def test_each_bad_input_is_counted_in_the_ledger_and_the_next_message_goes_through(
    make: Callable[..., Site651],
) -> None:
    site = make(set_clock=False)
    wire, at = Wire(site.gateway.port), whole_minute(60)
    lying, wrong = bytearray(frame(body(2, at))), bytearray(frame(body(2, at)))
    lying[12] += 40
    wrong[-1] ^= 1
    long_ago = frame(body(3, 946_656_000_000, sent_ms=946_656_000_000))  # 2000-01-01 in Beijing
    text = body(4, at)[:8] + bytes.fromhex("F2F2") + "水位正常".encode("gbk")
    held, refused = ONE | {"messages_quarantined": 1}, ONE | {"messages_quarantined": 1, "quarantined": 1}
    cases: list[tuple[bytes, str, str, dict[str, int], int]] = [
        (b"", "shiwan", "", NOTHING, 0),
        (b"AT+CSQ\r\n\x7e", "shiwan", "bad_frame", held, 0),
        (bytes(lying), "shiwan", "bad_frame", held, 0),
        (bytes(wrong), "shiwan", "bad_frame", held, 0),
        (frame(body(5, at, "391B7E7E02")), "shiwan", "not_a_number", refused, 1),
        (frame(body(5, at, address=OTHER), address=OTHER), "?", "unknown_station", held, 0),
        (long_ago, "shiwan", "time_before_2000", refused, 1),
        (frame(text, 0x35), "shiwan", "", ONE, 1),
        (frame(body(1000, at - MINUTE)), "shiwan", "", ONE | {"stored": 1}, 1),  # a serial that is used again
        (frame(body(1000, at - MINUTE)), "shiwan", "", ONE | {"duplicate": 1}, 1),
    ]
    for n, (bad, account, reason, counted, answered) in enumerate(cases):
        before = ledger_of(site)
        good = {"shiwan": ONE | {"stored": 1}}
        wire.send(bad + frame(body(1000, at + n * MINUTE)))
        for _ in range(answered + 1):
            assert wire.answer().end is End.EOT
        expected = good | {account: {k: v + good.get(account, NOTHING)[k] for k, v in counted.items()}}
        assert {k: v for k, v in differences(before, ledger_of(site)).items() if v != NOTHING} == expected, n
        assert reason in ["", *reasons(site)]
    with site.database.read() as connection:
        assert "水位正常" in next(one["body"] for one in device_events.listing(connection, "shiwan"))


def ledger_of(site: Site651) -> dict[str, dict[str, int]]:
    """Account → the counts of all its days."""
    found: dict[str, dict[str, int]] = {}
    with site.database.read() as connection:
        for one in ledger.accounts(connection):
            sums = found.setdefault(one.station, dict(NOTHING))
            for name in NOTHING:
                sums[name] += getattr(one, name)
    return found


def differences(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {key: {n: v - before.get(key, NOTHING)[n] for n, v in one.items()} for key, one in after.items()}


def test_a_stranger_is_quarantined_and_not_answered_until_it_is_registered(make: Callable[..., Site651]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    at = whole_minute()
    raw = frame(body(1, at, address=OTHER), address=OTHER)
    wire.send(raw)
    assert quiet(wire)
    eventually("it is in quarantine", lambda: reasons(site) == [Reason.UNKNOWN_STATION.key])
    with site.database.write() as connection:
        sl651_stations.save(connection, Gauge(OTHER, "shiwan"))
    wire.send(raw)
    assert wire.answer().station == OTHER
    assert site.stored("shiwan", "level") == {at: 28.96}


def test_a_wrong_password_is_not_answered(make: Callable[..., Site651]) -> None:
    site = make(Gauge(ADDRESS, "shiwan", "4321"))
    wire = Wire(site.gateway.port)
    wire.send(frame(body(1, whole_minute())))
    assert quiet(wire)
    eventually("it is in quarantine", lambda: reasons(site) == [Reason.WRONG_PASSWORD.key])
    wire.send(frame(body(1, whole_minute()), password="4321"))
    assert wire.answer().end is End.EOT


def test_two_addresses_on_one_line_and_in_one_frame(make: Callable[..., Site651]) -> None:
    site = make(Gauge(ADDRESS, "shiwan"), Gauge(OTHER, "lanshi"))
    wire = Wire(site.gateway.port)
    at = whole_minute()
    wire.send(frame(body(1, at - MINUTE)) + frame(body(1, at - MINUTE, address=OTHER), address=OTHER))
    assert {wire.answer().station, wire.answer().station} == {ADDRESS, OTHER}
    wire.send(frame(body(2, at) + body(2, at, "392300001000", OTHER)[8:]))
    assert wire.answer().body[:2] == b"\0\2"
    assert site.stored("shiwan", "level") == {at - MINUTE: 28.96, at: 28.96}
    assert site.stored("lanshi", "level") == {at - MINUTE: 28.96, at: 1.0}


def test_a_clock_of_2000_is_set_by_two_commands(make: Callable[..., Site651]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    wrong = 946_656_000_000  # 2000-01-01 in Beijing
    wire.send(frame(body(1, wrong, sent_ms=wrong)))
    assert wire.answer().end is End.ESC
    for _ in range(2):
        asked = wire.answer()
        assert (asked.function, asked.end) == (0x4A, End.ENQ)
        wire.send(frame(body(0, now_ms())[:8] + bytes.fromhex(f"F1F1{ADDRESS}"), 0x4A))
        done = wire.answer()
        assert done.function == 0x4A
    assert done.end is End.EOT


def test_missing_hours_are_asked_for_and_stored(make: Callable[..., Site651]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    at = whole_minute()
    wire.send(frame(body(1, at - 180 * MINUTE)))
    assert wire.answer().end is End.EOT
    wire.send(frame(body(2, at)))
    assert wire.answer().end is End.ESC
    asked = wire.answer()
    assert (asked.function, asked.end, asked.body[-5:]) == (0x38, End.ENQ, bytes.fromhex("0000053923"))
    begin = at - 120 * MINUTE
    wire.send(frame(body(0, begin, "041800000539230000100000002000"), 0x38))
    assert wire.answer().end is End.EOT
    got = site.stored("shiwan", "level")
    assert (got[begin], got[begin + 5 * MINUTE]) == (1.0, 2.0)


def test_a_missing_packet_is_asked_for_by_its_number(make: Callable[..., Site651]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    at = whole_minute()
    sent = packets(body(9, at), 4)
    wire.send(sent[0] + sent[2] + sent[3])
    asked = wire.answer()
    assert (asked.end, asked.packet, asked.packets, asked.body[:2]) == (End.NAK, 2, 4, b"\0\x09")
    wire.send(sent[1])
    done = wire.answer()
    assert (done.end, done.packet) == (End.EOT, 4)
    assert site.stored("shiwan", "level") == {at: 28.96}


def test_a_message_that_stays_incomplete_is_quarantined(
    make: Callable[..., Site651], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "ANSWER_S", 0.2)
    site = make()
    wire = Wire(site.gateway.port)
    sent = packets(body(9, whole_minute()), 3)
    wire.send(sent[0] + sent[2])
    assert [wire.answer().end for _ in range(2)] == [End.NAK, End.NAK]
    eventually("it is in quarantine", lambda: reasons(site) == [Reason.INCOMPLETE.key])
    assert quiet(wire)


def test_only_a_change_of_the_status_is_an_event(make: Callable[..., Site651]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    at = whole_minute(5)
    for minute, bits in enumerate(("00000000", "00000000", "00000081")):
        wire.send(frame(body(minute + 1, at + minute * MINUTE, "4520" + bits)))
        wire.answer()
    with site.database.read() as connection:
        events = [one["body"] for one in device_events.listing(connection, "shiwan")]
    assert sorted(one.split('"event": "')[1].split('"')[0] for one in events) == ["door_closed", "power_lost"]


def test_idle_lines_make_room_for_one_that_speaks(make: Callable[..., Site651]) -> None:
    site = make(max_connections=20)
    wire = Wire(site.gateway.port)
    wire.send(frame(body(1, whole_minute(5))))
    assert wire.answer().end is End.EOT
    idle = [Wire(site.gateway.port) for _ in range(200)]
    eventually("all came", lambda: site.gateway.counters.connected == 201)
    assert site.gateway.connections == 20
    wire.send(frame(body(2, whole_minute())))
    assert wire.answer().end is End.EOT, "what a registered station has is never taken"
    assert site.gateway.counters.dropped == 181
    late = Wire(site.gateway.port)
    late.send(frame(body(3, whole_minute())))
    assert late.answer().body[:2] == b"\0\3"
    for one in idle:
        one.close()


def test_a_line_is_turned_away_where_all_others_are_of_registered_stations(make: Callable[..., Site651]) -> None:
    site = make(max_connections=1)
    wire = Wire(site.gateway.port)
    wire.send(frame(body(1, whole_minute())))
    assert wire.answer().end is End.EOT
    with pytest.raises(ConnectionError):
        Wire(site.gateway.port).answer()
    assert site.gateway.counters.turned_away == 1
    wire.send(frame(body(2, whole_minute())))
    assert wire.answer().body[:2] == b"\0\2"


def test_killed_before_the_commit_the_message_comes_again_and_is_stored_once(tmp_path: Path) -> None:
    folder, port = tmp_path / "site", free_port()
    site = Site651(folder)
    site.register(Gauge(ADDRESS, "shiwan"))
    at = whole_minute()
    raw = frame(body(1, at))
    program = [sys.executable, "-m", "tests.sl651_site", str(folder), str(port)]
    process = preloaded.Popen([*program, "hold"])
    try:
        rig.eventually("it is ready", (folder / "ready").exists)
        wire = Wire(port)
        wire.send(raw)
        rig.eventually("it holds the transaction", (folder / "held").exists)
        assert quiet(wire)
        process.kill()
        process.wait()
        (folder / "ready").unlink()
        process = preloaded.Popen(program)
        rig.eventually("it is ready again", (folder / "ready").exists)
        again = Wire(port)
        again.send(raw)
        assert again.answer().end is End.EOT
        assert site.stored("shiwan", "level") == {at: 28.96}
    finally:
        process.kill()
        process.wait()
        site.database.close()


# -- the whole program and a simulated station -------------------------------------------------------------------------


def samples(count: int) -> list[Sample]:
    now = whole_minute()
    return [Sample(now - n * 5 * MINUTE, {"level": 1.5 + n / 1000, "flow": 12.25}) for n in reversed(range(count))]


class Serve:
    """``riverchief serve`` with nothing but the gateway and its own database."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.port, self.api = free_port(), free_port()
        self._settings = folder / "settings.toml"
        self._settings.write_text(
            f"data = '{folder}'\n[log]\nlevel = 'warning'\n[access]\nopen = true\n[mqtt]\nenabled = false\n"
            f"[api]\nport = {self.api}\n[sl651]\nenabled = true\nhost = '127.0.0.1'\nport = {self.port}\n"
        )
        site = Site651(folder)
        site.register(Gauge(ADDRESS, "shiwan", "1234"))
        self.database = site.database
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = preloaded.Popen([sys.executable, "-m", "riverchief", "serve", "--settings", str(self._settings)])
        rig.answers(f"http://127.0.0.1:{self.api}", self.process)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stored(self, parameter: str) -> dict[int, float]:
        found = SqlReadings(self.database, catalogue()).window("shiwan", 0, 2**52, [parameter])
        assert len(set(found.at.tolist())) == len(found.at)
        return dict(zip(found.at.tolist(), found.value.tolist(), strict=True))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    made = Serve(tmp_path / "serve")
    try:
        made.start()
        yield made
    finally:
        made.kill()
        made.database.close()


def test_stations_over_tcp_and_udp_lose_nothing_when_the_program_is_killed(serve: Serve) -> None:
    told = samples(40)
    with (
        Station(Line("127.0.0.1", serve.port, answer_s=1), ADDRESS, now_ms, password="1234") as tcp,
        Station(
            Line("127.0.0.1", serve.port, udp=True, answer_s=1),
            ADDRESS,
            now_ms,
            password="1234",
            quirks=Quirks(trailing=True),
        ) as udp,
    ):
        for sample in told[:10]:
            tcp.report(sample)
        assert tcp.flush(30)
        for sample in told[10:25]:
            tcp.report(sample)
        for sample in told[25:]:
            udp.report(sample)
        serve.kill()
        serve.start()
        assert tcp.flush(60)
        assert udp.flush(60)
    assert serve.stored("level") == {one.at_ms: one.values["level"] for one in told}
    assert set(serve.stored("flow").values()) == {12.25}
    ready = httpx.get(f"http://127.0.0.1:{serve.api}/readyz", timeout=30).text
    assert "sl651" in ready
    metrics = httpx.get(f"http://127.0.0.1:{serve.api}/metrics", timeout=30).text
    assert "riverchief_sl651_frames_total" in metrics


def test_packets_lost_on_the_way_are_sent_again(make: Callable[..., Site651]) -> None:
    site = make()
    quirks = Quirks(packets=3, lost_once=frozenset({1, 2}), trailing=True)
    line = Line("127.0.0.1", site.gateway.port, answer_s=5)
    (sample,) = samples(1)
    with Station(line, ADDRESS, now_ms, password="0000", quirks=quirks) as station:
        station.report(sample, 0x34)
        assert station.flush(20)
        assert station.resent == 0
    assert site.stored("shiwan", "level") == {sample.at_ms: 1.5}


def test_a_station_with_a_wrong_clock_is_set_right_and_a_serial_that_starts_anew_harms_nothing(
    make: Callable[..., Site651],
) -> None:
    site = make()
    told = samples(3)
    with Station(Line("127.0.0.1", site.gateway.port), ADDRESS, now_ms, password="0000") as station:
        station.clock_off_ms = -90_000
        station.report(told[0])
        assert station.flush(20)
        eventually("its clock is right", lambda: abs(station.clock_off_ms) < 2_000)
        assert 0x4A in station.asked
        station.restart()
        station.clock_off_ms = 0
        station.report(told[1])
        station.report(told[2])
        assert station.flush(20)
    assert {told[1].at_ms, told[2].at_ms} <= set(site.stored("shiwan", "level"))


def test_a_gap_is_filled_from_the_memory_of_the_station(make: Callable[..., Site651]) -> None:
    site = make()
    hour = now_ms() // 3_600_000 * 3_600_000
    old = [Sample(hour - (12 - n) * 5 * MINUTE, {"level": 1.0 + n / 1000}) for n in range(12)]
    with Station(Line("127.0.0.1", site.gateway.port), ADDRESS, now_ms, password="0000") as station:
        station.report(old[0])
        assert station.flush(20)
        for sample in old[1:]:
            station.report(sample, send=False)
        station.report(Sample(hour, {"level": 2.0}))
        assert station.flush(20)
        wanted = {one.at_ms: one.values["level"] for one in old} | {hour: 2.0}
        eventually("the gap is filled", lambda: wanted.items() <= site.stored("shiwan", "level").items())


def test_the_api_asks_a_station_and_its_answer_in_packets_is_stored(make: Callable[..., Site651]) -> None:
    site = make()
    context = Context(
        site.database, site.store, catalogue(), "/test", now_ms, sl651_query=site.gateway.query, open=True
    )
    api = TestClient(create_app(context))

    def ask(**body: object) -> Any:
        return api.post("/api/v1/stations/shiwan/commands", json=body)

    assert ask(command="get_time").status_code == 404
    hour = now_ms() // 3_600_000 * 3_600_000
    line = Line("127.0.0.1", site.gateway.port)
    quirks = Quirks(packets=3)
    with Station(line, ADDRESS, now_ms, password="0000", quirks=quirks) as station:
        station.report(Sample(hour - 60 * MINUTE, {"level": 1.5, "ph": 7.2}))
        assert station.flush(20)
        for n in range(1, 4):
            station.report(Sample(hour - 60 * MINUTE + 5 * n * MINUTE, {"level": 2.0 + n, "ph": 7.0}), send=False)
        start, end = rfc3339(hour - 60 * MINUTE), rfc3339(hour)
        past = ask(command="send_history", of="minute", start=start, end=end, factor="w01001")
        assert past.json()["fields"]["pH"].startswith("7.20,7.00,")
        assert ask(command="send_now").json() | {"fields": {}} == {
            "station": "shiwan", "command": "send_now", "by": "sl651", "done": True,
            "qn_rtn": None, "exe_rtn": None, "fields": {},
        }  # fmt: skip
        assert site.stored("shiwan", "level")[hour - 45 * MINUTE] == 5.0
        for body, name, value in (
            ({"command": "send_now", "factor": "w01001"}, "pH", "7.00"),
            ({"command": "get_version"}, "software", "V1.0.20220420"),
            ({"command": "get_status"}, "status_bits", "7"),
            ({"command": "get_counters"}, "ERC13", "12"),
            ({"command": "send_text"}, "text", "水位正常"),
            ({"command": "get_settings", "of": "running", "settings": ["2008"]}, "20", "01"),
        ):
            assert ask(**body).json()["fields"][name] == value
        assert "03" not in ask(command="get_settings", of="basic", settings=["0228"]).json()["fields"]
        assert ask(command="set_time").json()["done"] is True
        assert ask(command="get_time").json()["fields"].keys() == {"sent_at"}
        for wrong in ({"command": "sample_now"}, {"command": "send_now", "factor": "w01019"}):
            assert ask(**wrong).status_code == 409
        assert ask(command="get_settings", of="basic", settings=["0310"]).status_code == 400
        assert set(station.asked) >= {0x37, 0x38, 0x39, 0x3A, 0x41, 0x43, 0x45, 0x46, 0x4A, 0x50, 0x51}
