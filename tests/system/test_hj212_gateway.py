"""The HJ 212 gateway over real sockets: answered by the standard after storing, whatever devices and networks do."""

import resource
import select
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.context import Context
from infra.clock import now_ms
from infra.errors import NotFound
from infra.times import from_ms
from ingest import ledger, quarantine
from ingest.intake import PendingMessage
from ingest.sources import hj212 as gateway_module
from ingest.sources import line_server, sender_limits
from ingest.sources.hj212 import Answer, NoAnswer
from ingest.storage import device_events, maintenance
from ingest.storage import loggers as logger_store
from riverchief.brokers import certificates
from riverchief.brokers.local import free_port
from sensors.parameters import catalogue
from sensors.reading import Message, QualityTest, Reason
from sensors.wire import telemetry
from sensors.wire.hj212 import exchange, frame
from sensors.wire.hj212.codes import Cn, QnRtn
from sensors.wire.hj212.packet import Edition, write_qn, write_time
from sensors.wire.hj212.readings import Logger
from sensors.wire.telemetry import Sample, Telemetry
from simulator.devices import hj212_logger as simulated
from tests import preloaded, rig
from tests.hj212_frames import EXAMPLE, MN
from tests.hj212_site import PASSWORD, Site212, Wire
from tests.long import LONG
from tests.says import says

LINE_ANSWER_S = 1.0
MINUTE = 60_000
OTHER = "B" * 24
eventually = partial(rig.eventually, timeout_s=30)
"""For what happens within this process: as long as `Wire` waits. A new process may take longer to start."""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Site212]]:
    made: list[Site212] = []

    def start(*more: Logger, **settings: Any) -> Site212:
        site = Site212(tmp_path / f"site-{len(made)}", **settings)
        site.register(Logger(MN, "shiwan", PASSWORD), *more)
        site.start()
        made.append(site)
        return site

    yield start
    for one in made:
        one.stop()


def whole_minute(ago: int = 0) -> int:
    return (now_ms() // MINUTE - ago) * MINUTE


def packet_of(cp: str, at: int, cn: str = "2011", **other: str) -> bytes:
    """A frame asking for an answer; its DataTime is ``at``."""
    head = {"QN": write_qn(now_ms()), "ST": "21", "CN": cn, "PW": PASSWORD, "MN": MN, "Flag": "5"} | other
    text = "".join(f"{name}={value};" for name, value in head.items())
    return frame.build(f"{text}CP=&&DataTime={write_time(at)};{cp}&&".encode("gbk"))


def qn_of(raw: bytes) -> str:
    return raw[9:26].decode()


def logger(site: Site212, mn: str = MN, **other: Any) -> simulated.Logger:
    line = simulated.Line("127.0.0.1", site.gateway.port, answer_s=LINE_ANSWER_S)
    return simulated.Logger(line, mn, other.pop("password", PASSWORD), now_ms, **other)


def held(site: Site212, reason: Reason) -> list[quarantine.QuarantineEntry]:
    with site.database.read() as connection:
        return quarantine.listing(connection, reason=reason)


# -- answered by the standard, after storing ---------------------------------------------------------------------------


def test_data_are_answered_by_9014_once_they_are_stored(make: Callable[..., Site212]) -> None:
    site = make()
    at = whole_minute()
    raw = packet_of("w01009-Rtd=3.6,w01009-Flag=N;w20111-Rtd=0.05,w20111-Flag=N", at)
    wire = Wire(site.gateway.port)
    wire.send(raw)
    assert wire.answer() == ("9014", qn_of(raw), None)
    assert site.stored("shiwan", "do") == {at: 3.6}
    assert site.stored("shiwan", "hg") == {at: pytest.approx(0.00005)}
    wire.close()


def test_who_asks_for_no_answer_gets_none(make: Callable[..., Site212]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    asking = packet_of("w01009-Rtd=2", whole_minute())
    wire.send(packet_of("w01009-Rtd=1", whole_minute(1), Flag="4") + asking)
    assert wire.answer() == ("9014", qn_of(asking), None)
    assert len(site.stored("shiwan", "do")) == 2
    wire.close()


def test_nothing_is_answered_before_the_commit_and_a_resend_after_a_kill_is_stored_once(tmp_path: Path) -> None:
    port = free_port()
    site = Site212(tmp_path)
    site.register(Logger(MN, "shiwan", PASSWORD))
    program = [sys.executable, "-m", "tests.hj212_site", str(tmp_path), str(port)]
    at = whole_minute()
    process = preloaded.Popen([*program, "hold"])
    try:
        rig.eventually("the gateway listens", (tmp_path / "ready").exists)
        line = simulated.Line("127.0.0.1", port, answer_s=LINE_ANSWER_S)
        with simulated.Logger(line, MN, PASSWORD, now_ms) as sender:
            sender.report(Sample(at, {"do": 3.6, "ph": 7.1}))
            rig.eventually("the readings are written and not committed", (tmp_path / "held").exists)
            rig.eventually("the logger sends again", lambda: sender.resent > 0)
            assert sender.unanswered == 1
            process.kill()
            process.wait()
            assert site.stored("shiwan", "do") == {}
            process = preloaded.Popen(program)
            assert sender.flush(60)
        assert site.stored("shiwan", "do") == {at: 3.6}
        with site.database.read() as connection:
            (account,) = ledger.accounts(connection)
        assert (account.stored, account.quarantined, account.closed) == (2, 0, True)
    finally:
        process.kill()
        process.wait()
        site.database.close()


def test_what_is_refused_is_told_by_the_standard_kept_with_its_reason_and_the_next_frame_is_read(
    make: Callable[..., Site212],
) -> None:
    site = make()
    at = whole_minute()
    good = packet_of("w01009-Rtd=3.6", at)
    sealed = good[6:-6].split(b"CP=")[0].replace(b"Flag=5", b"Flag=9").replace(b"ST=21", b"ST=32")
    bad: list[tuple[bytes, Reason, QnRtn]] = [
        (packet_of("w01009-Rtd=1", at, PW="654321"), Reason.WRONG_PASSWORD, QnRtn.REFUSED),
        (packet_of("w01009-Rtd=1", at, MN=OTHER), Reason.UNKNOWN_STATION, QnRtn.REFUSED),
        (good[:-6] + b"0000\r\n", Reason.BAD_FRAME, QnRtn.CRC),
        (b"##9999" + good[6:], Reason.BAD_FRAME, QnRtn.UNKNOWN),
        (b"##0x01" + good[6:], Reason.BAD_FRAME, QnRtn.UNKNOWN),
        (b"##0100" + good[6:], Reason.BAD_FRAME, QnRtn.UNKNOWN),
        (packet_of("w01009-Rtd=1", at, CN="3011"), Reason.WRONG_SHAPE, QnRtn.CN),
        (frame.build(sealed + b"CP=&&9F3A&&"), Reason.ENCRYPTED, QnRtn.REFUSED),
    ]  # fmt: skip
    for raw, reason, told in bad:
        before = len(held(site, reason))
        wire = Wire(site.gateway.port)
        wire.send(raw + good)
        answers = {wire.answer() for _ in range(2)}
        assert ("9011", qn_of(raw), str(int(told))) in answers, raw
        assert ("9014", qn_of(good), None) in answers, raw
        assert len(held(site, reason)) == before + 1
        assert held(site, reason)[0].payload == raw
        wire.close()
    assert site.stored("shiwan", "do") == {at: 3.6}
    with site.database.read() as connection:
        accounts = ledger.accounts(connection)
    assert all(a.closed for a in accounts)
    assert sum(a.messages_quarantined for a in accounts) == len(bad)


def test_single_bad_values_are_kept_and_the_frame_is_acknowledged(make: Callable[..., Site212]) -> None:
    site = make()
    at = whole_minute()
    wire = Wire(site.gateway.port)
    for cp, reason in (
        ("w01009-Rtd=3;w01008-Rtd=1", Reason.UNKNOWN_PARAMETER),
        ("w01009-Rtd=3;w21003-Rtd=--", Reason.NOT_A_NUMBER),
        ("w01009-Rtd=3;w21003-Rtd=1;w21003-Rtd=2", Reason.WRONG_SHAPE),
    ):
        wire.send(packet_of(cp, at))
        assert wire.answer()[0] == "9014"
        assert len(held(site, reason)) == 1
    raw = packet_of("w01009-Rtd=3", at).replace(write_time(at).encode(), b"20160824003817000")
    wire.send(frame.build(raw[6:-6]))
    assert wire.answer()[0] == "9014"
    assert "17 digits" in held(site, Reason.BAD_TIME)[0].detail
    assert site.stored("shiwan", "do") == {at: 3.0}
    wire.close()


def test_a_frame_of_an_unknown_logger_is_replayed_once_it_is_registered(make: Callable[..., Site212]) -> None:
    site = make()
    at = whole_minute()
    wire = Wire(site.gateway.port)
    raw = packet_of("w01009-Rtd=3.6;w21003-Rtd=0.4", at, MN=OTHER)
    wire.send(raw)
    assert wire.answer() == ("9011", qn_of(raw), str(int(QnRtn.REFUSED)))
    wire.close()
    site.register(Logger(OTHER, "qicha", PASSWORD))
    (entry,) = held(site, Reason.UNKNOWN_STATION)
    assert entry.station == OTHER
    receipt = site.intake.submit(entry.message()).result(30)
    assert (receipt.stored, receipt.rejected) == (2, ())
    assert site.stored("qicha", "do") == {at: 3.6}
    assert held(site, Reason.UNKNOWN_STATION) == []
    with site.database.read() as connection:
        assert all(a.closed for a in ledger.accounts(connection))


def test_notices_and_states_are_answered_and_kept_once(make: Callable[..., Site212]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    started = packet_of("RestartTime=20260512100000", whole_minute(), CN="2081")
    wire.send(started + started)
    assert [wire.answer()[0] for _ in range(2)] == ["9014", "9014"]
    wire.send(frame.build(started[6:-6].replace(b"CN=2081", b"CN=9015")))
    assert wire.answer()[0] == "9013"
    with site.database.read() as connection:
        (event,) = device_events.listing(connection, "shiwan")
    assert '"logger_started"' in event["body"]
    wire.close()


def test_a_check_that_failed_is_a_calibration_record_and_marks_the_readings_since_the_last_one(
    make: Callable[..., Site212],
) -> None:
    site = make()
    site.site.hj212_unverified = True
    wire = Wire(site.gateway.port)
    passed, between, failed = (whole_minute(ago) for ago in (180, 120, 60))
    spike = "w21003-Check=1.5,w21003-Water=0.5,w21003-Chroma=100,w21003-Volume=1,w21003-DVolume=100"
    for cn, at, cp in (
        ("2062", passed, "w21003-Check=1.02,w21003-StandardValue=1"),
        ("2061", between, "w21003-Avg=0.9,w21003-Flag=N"),
        ("2062", failed, "w21003-Check=1.5,w21003-StandardValue=1;w01001-Check=7,w01001-StandardValue=7"),
        ("2062", failed, "w21003-Check=1.1,w21003-StandardValue=1"),
        ("2065", failed, "w21003-Check=0.01,w21003-StandardValue=0,w21003-SpanValue=2"),
        ("2066", failed, "w21003-Check=1.9,w21003-StandardValue=2,w21003-Flag=D"),
        ("2063", failed, spike),
    ):
        wire.send(packet_of(cp, at, cn, Flag="9"))
        assert wire.answer()[0] == "9014"
    wire.close()
    with site.database.read() as connection:
        checks = [(one.kind, one.at_ms, one.reading, one.by) for _, one in maintenance.checks(connection, "shiwan")]
    by = f"HJ 212 {MN}"
    assert checks == [
        ("standard", passed, 1.02, by),
        ("standard", failed, 1.5, by),  # what is told again, or of the same instant, replaces no record
        ("zero", failed, 0.01, by),
        ("spike", failed, 1.0, by),
    ]
    eventually(
        "the reading between the checks is marked",
        lambda: (site.store.window("shiwan", 0, 2**52, ["nh3n"]).packed >> 4).tolist() == [QualityTest.CALIBRATION],
    )
    assert site.stored("shiwan", "nh3n") == {between: 0.9}


def test_a_logger_of_hj_1404_has_the_clock_of_its_own_commands(make: Callable[..., Site212]) -> None:
    site = make(unverified=True)
    with logger(site, edition=Edition.E2025) as sender:
        sender.report(Sample(whole_minute(), {"do": 5.0}))
        assert sender.flush(30)
        assert site.gateway.command("shiwan", exchange.ask_time()).result(30).fields["SystemTime"]
        assert site.gateway.command("shiwan", exchange.set_time()).result(30).done
        assert sender.done[-2:] == [Cn.LOGGER_TIME, Cn.SET_LOGGER_TIME]
    wire = Wire(site.gateway.port)
    wrong = packet_of("w01009-Rtd=1", whole_minute(), Flag="9")[:-6] + b"0000\r\n"
    wire.send(wrong)
    assert wire.answer() == ("9011", qn_of(wrong), str(int(QnRtn.CRC_HJ1404)))
    wire.close()


# -- senders that are not ours -----------------------------------------------------------------------------------------


def test_guesses_lock_a_peer_out_for_known_and_unknown_mns_alike_and_no_logger_that_has_spoken(
    make: Callable[..., Site212],
) -> None:
    site = make()
    at = whole_minute()
    ours, guesser = Wire(site.gateway.port), Wire(site.gateway.port)
    ours.send(packet_of("w01009-Rtd=1", at))
    assert ours.answer()[0] == "9014"
    answers = []
    for i in range(sender_limits.MAX_GUESSES):
        guesser.send(packet_of("w01009-Rtd=1", at, PW=f"00000{i}", MN=MN if i % 2 else OTHER))
        answers.append(guesser.answer()[::2])
    assert answers == [("9011", str(int(QnRtn.REFUSED)))] * sender_limits.MAX_GUESSES
    guesser.send(packet_of("w01009-Rtd=2", at))  # the right password, too late
    assert guesser.answer()[::2] == answers[0]
    with pytest.raises(ConnectionError):
        guesser.handle_device_messages()
    assert site.stored("shiwan", "do") == {at: 1.0}
    ours.send(packet_of("w01009-Rtd=3", at + MINUTE))
    assert ours.answer()[0] == "9014"
    assert site.gateway.counters.locked == 1
    ours.close()
    guesser.close()


def test_strangers_fill_the_quarantine_up_to_a_bound_and_the_ledger_counts_the_rest(
    make: Callable[..., Site212], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_limits, "QUARANTINE_MESSAGES", 3)
    site = make()
    at = whole_minute()
    stranger = Wire(site.gateway.port)
    for i in range(5):
        stranger.send(packet_of("w01009-Rtd=1", at + i * MINUTE, MN=OTHER))
        assert stranger.answer()[::2] == ("9011", str(int(QnRtn.REFUSED)))
    stranger.send(b"rubbish")  # not kept either
    stranger.close()
    assert len(held(site, Reason.UNKNOWN_STATION)) == 3
    eventually("all is counted", lambda: site.gateway.counters.left_out == 3)

    def left_out() -> int:
        with site.database.read() as connection:
            return sum(a.messages_dropped for a in ledger.accounts(connection, station=ledger.UNREGISTERED))

    eventually("the ledger has the rest", lambda: left_out() == 3)
    assert held(site, Reason.BAD_FRAME) == []
    ours = Wire(site.gateway.port)
    ours.send(packet_of("w01009-Rtd=1", at))  # from the same address
    assert ours.answer()[0] == "9014"
    ours.close()


# -- networks ----------------------------------------------------------------------------------------------------------


def test_frames_arrive_in_any_pieces_and_among_garbage(make: Callable[..., Site212]) -> None:
    site = make()
    raws = [packet_of(f"w01009-Rtd={i}", whole_minute(i)) for i in range(1, 6)]
    wire = Wire(site.gateway.port)
    stream = b"\xff\x00rubbish" + raws[0] + raws[1][:40] + raws[1] + raws[2][:-2] + raws[3] + b"##" + raws[4]
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in range(0, len(stream), 7):
        wire.send(stream[i : i + 7])
    assert {wire.answer()[1] for _ in raws} == {qn_of(raw) for raw in raws}
    assert sorted(site.stored("shiwan", "do").values()) == [1.0, 2.0, 3.0, 4.0, 5.0]
    wire.close()


def test_text_in_gbk_is_read(make: Callable[..., Site212]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    wire.send(packet_of("i11001-Info=更换试剂", whole_minute(), CN="3020"))
    assert wire.answer()[0] == "9014"
    with site.database.read() as connection:
        (event,) = device_events.listing(connection, "shiwan")
    assert "更换试剂" in event["body"]
    wire.close()


def test_split_packets_are_answered_each_and_put_together(make: Callable[..., Site212]) -> None:
    site = make()
    at = whole_minute(5)
    parts = [packet_of(f"w0100{i}-Avg=7", at, "2051", Flag="7", PNUM="2", PNO=str(i)) for i in (1, 9)]
    whole = [parts[0], frame.build(parts[1][6:-6].replace(b"PNO=9", b"PNO=2"))]
    older = frame.build(
        whole[1][6:-6].replace(f"DataTime={write_time(at)};".encode(), b"").replace(b"w01009", b"w01010")
    )
    wire = Wire(site.gateway.port)
    wire.send(whole[0] + whole[1])
    assert {wire.answer()[0] for _ in range(2)} == {"9014"}
    assert (site.stored("shiwan", "ph"), site.stored("shiwan", "do")) == ({at: 7.0}, {at: 7.0})
    wire.send(older + whole[0])  # the second part says no time and waits for the first
    assert {wire.answer()[0] for _ in range(2)} == {"9014"}
    assert site.stored("shiwan", "water_temp") == {at: 7.0}
    wire.close()


def test_parts_whose_rest_never_comes_are_kept_with_the_reason(
    make: Callable[..., Site212],
) -> None:
    site = make()
    site.gateway.assembler = type(site.gateway.assembler)(wait_ms=100)
    raw = packet_of("w01009-Avg=3", whole_minute(), "2051", Flag="7", PNUM="3", PNO="2")
    raw = frame.build(raw[6:-6].replace(f"DataTime={write_time(whole_minute())};".encode(), b""))
    wire = Wire(site.gateway.port)
    wire.send(raw)
    assert wire.answer()[0] == "9014"
    (entry,) = held(site, Reason.INCOMPLETE)
    assert entry.payload == raw
    wire.close()


def test_many_loggers_at_once_among_slow_and_silent_ones(
    make: Callable[..., Site212], monkeypatch: pytest.MonkeyPatch
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 8000:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 8000), hard))
    count, slow = (2000, 200) if LONG else (300, 30)
    site = make(*(Logger(f"{i:024X}", f"s{i % 50}", PASSWORD) for i in range(count)), max_connections=count + 2 * slow)
    at = whole_minute(1)
    silent = [Wire(site.gateway.port) for _ in range(slow)]
    trickling = [Wire(site.gateway.port) for _ in range(slow)]
    for one in trickling:
        one.send(b"##0500QN=")
    wires = [Wire(site.gateway.port) for _ in range(count)]
    eventually("all are connected", lambda: site.gateway.connections == count + 2 * slow)
    for one in trickling:
        one.send(b"2")
    for i, wire in enumerate(wires):
        wire.send(packet_of(f"w01009-Rtd={i}", at + i // 50, MN=f"{i:024X}"))
    assert [wire.answer()[0] for wire in wires] == ["9014"] * count
    eventually("all are known", lambda: len(site.gateway.by_mn) == count)
    extra = Wire(site.gateway.port)
    with pytest.raises(ConnectionError):  # closed at once, or reset
        silent[0].handle_device_messages()
    assert site.gateway.connections == count + 2 * slow, "the oldest that said nothing made room"
    monkeypatch.setattr(gateway_module._Connection, "hello_s", 0)
    eventually("who says nothing whole is dropped", lambda: site.gateway.connections == count)
    for one in (*silent, *trickling, *wires, extra):
        one.close()


def test_rubbish_upon_rubbish_ends_a_connection_and_no_other(make: Callable[..., Site212]) -> None:
    site = make()
    good, bad = Wire(site.gateway.port), Wire(site.gateway.port)
    bad.send(b"##0005hello0000\r\n" * 20)
    with pytest.raises(ConnectionError):
        bad.handle_device_messages()
    good.send(packet_of("w01009-Rtd=3", whole_minute()))
    assert good.answer()[0] == "9014"
    assert [one.times for one in held(site, Reason.BAD_FRAME)] == [20], "the same bytes are one entry"
    good.close()
    bad.close()


def test_a_logger_is_not_read_any_further_while_the_intake_is_behind(
    make: Callable[..., Site212], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make()
    waiting: list[PendingMessage] = []
    with monkeypatch.context() as patch:
        patch.setattr(site.gateway.lane, "put", waiting.append)
        wire = Wire(site.gateway.port)
        wire.socket.setblocking(False)
        stream = b"".join(packet_of(f"w01009-Rtd={i}", whole_minute(i)) for i in range(1000)) * 200
        sent = 0
        while sent < len(stream):
            try:
                sent += wire.socket.send(stream[sent : sent + 65_536])
            except BlockingIOError:
                if not select.select([], [wire.socket], [], 1.0)[1]:
                    break  # nobody reads any more
        eventually("frames are waiting", lambda: len(waiting) >= line_server.IN_FLIGHT)
        most = line_server.IN_FLIGHT + line_server.READ_BYTES // 100
        assert len(waiting) <= most
        assert sent < len(stream)
    for one in waiting:
        site.gateway.lane.put(one)
    wire.socket.setblocking(True)
    wire.socket.settimeout(30)
    assert wire.answer()[0] == "9014"
    eventually("reading goes on", lambda: site.gateway.counters.frames > 2 * most)
    wire.close()


def test_a_logger_that_connects_anew_replaces_its_half_open_connection(make: Callable[..., Site212]) -> None:
    site = make()
    first, second = Wire(site.gateway.port), Wire(site.gateway.port)
    for wire in (first, second):
        wire.send(packet_of("w01009-Rtd=3", whole_minute()))
        assert wire.answer()[0] == "9014"
    with pytest.raises(ConnectionError):
        first.handle_device_messages()
    assert site.gateway.connections == 1
    second.close()


def test_a_logger_that_has_said_all_still_gets_its_answer(make: Callable[..., Site212]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    wire.send(packet_of("w01009-Rtd=3", whole_minute()))
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.answer()[0] == "9014"
    with pytest.raises(ConnectionError):
        wire.handle_device_messages()
    wire.close()


# -- loggers -----------------------------------------------------------------------------------------------------------


def test_a_212_logger_and_an_mqtt_device_on_one_pole_are_one_station(make: Callable[..., Site212]) -> None:
    site = make()
    at = whole_minute()
    body = telemetry.encode(Telemetry((Sample(at, {"ph": 7.1}),), 0, 1, 1, at))
    published = site.intake.submit(Message("shiwan", body, now_ms(), topic="rivers/v1/shiwan/telemetry"))
    with logger(site) as sender:
        sender.report(Sample(at, {"do": 3.6}))
        assert sender.flush(30)
    assert published.result(30).stored == 1
    assert {row.parameter: row.value for row in site.store.latest(["shiwan"])} == {"ph": 7.1, "do": 3.6}
    with site.database.read() as connection:
        (account,) = ledger.accounts(connection)
    assert (account.stored, account.closed, account.messages) == (2, True, 2)


def test_a_mean_fills_a_hole_and_never_replaces_what_it_is_the_mean_of(make: Callable[..., Site212]) -> None:
    site = make()
    hour = whole_minute() // (60 * MINUTE) * 60 * MINUTE - 2 * 60 * MINUTE
    with logger(site) as sender:
        sender.report(Sample(hour, {"do": 5.0}))
        sender.report(Sample(hour, {"do": 4.0, "ph": 7.5}), Cn.HOUR)
        sender.report(Sample(hour, {"do": 4.1, "ph": 7.5}), Cn.HOUR)
        assert sender.flush(30)
    assert site.stored("shiwan", "do") == {hour: 5.0}
    assert site.stored("shiwan", "ph") == {hour: 7.5}
    with site.database.read() as connection:
        assert all(a.closed for a in ledger.accounts(connection))
        assert sum(a.duplicate for a in ledger.accounts(connection)) == 3


def test_after_an_outage_history_is_sent_again_and_a_hole_is_asked_for(make: Callable[..., Site212]) -> None:
    site = make()
    start = whole_minute(120)
    with logger(site) as sender:
        sender.report(Sample(start, {"do": 5.0}))
        assert sender.flush(30)
        sender.away(True)
        eventually("the line is down", lambda: site.gateway.connections == 0)
        for i in range(1, 12):
            sender.report(Sample(start + i * 10 * MINUTE, {"do": 5.0 + i}), Cn.MINUTE, send=i % 2 == 1)
        sender.away(False)
        assert sender.flush(30)
        eventually("what was only remembered is fetched", lambda: len(site.stored("shiwan", "do")) == 12)
        assert Cn.MINUTE in sender.done
    assert site.stored("shiwan", "do") == {start + i * 10 * MINUTE: 5.0 + i for i in range(12)}


def test_where_a_logger_keeps_no_minute_data_the_hours_of_a_hole_are_asked_for(make: Callable[..., Site212]) -> None:
    site = make()
    hour = whole_minute() // (60 * MINUTE) * 60 * MINUTE
    with logger(site) as sender:
        sender.report(Sample(hour - 180 * MINUTE, {"do": 5.0}))
        sender.report(Sample(hour - 120 * MINUTE, {"do": 4.5}), Cn.HOUR, send=False)
        sender.report(Sample(whole_minute(), {"do": 4.0}))
        eventually("the hole is filled", lambda: hour - 120 * MINUTE in site.stored("shiwan", "do"))
        assert sender.done == [Cn.MINUTE, Cn.HOUR]


def test_a_hole_is_asked_for_again_when_the_logger_left_before_it_answered(make: Callable[..., Site212]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    now = whole_minute()
    for at in (now - 60 * MINUTE, now):
        wire.send(packet_of("w01009-Rtd=3", at))
        assert wire.answer()[0] == "9014"
    first = wire.handle_device_messages()
    assert first.cn == "2051"
    assert first.fields == {"BeginTime": write_time(now - 60 * MINUTE), "EndTime": write_time(now)}
    wire.close()
    again = Wire(site.gateway.port)
    again.send(packet_of("w01009-Rtd=3", whole_minute()))
    assert again.answer()[0] == "9014"
    assert again.handle_device_messages().fields == first.fields
    again.close()


def test_a_logger_that_falls_silent_is_disconnected(make: Callable[..., Site212]) -> None:
    site = make(idle_s=0)
    wire = Wire(site.gateway.port)
    with pytest.raises(ConnectionError):
        wire.handle_device_messages()
    wire.close()
    assert site.gateway.counters.dropped == 1


def test_a_hole_is_known_after_a_restart_of_ours(make: Callable[..., Site212], tmp_path: Path) -> None:
    site = make()
    start = whole_minute(90)
    with logger(site) as sender:
        sender.report(Sample(start, {"do": 5.0}))
        assert sender.flush(30)
    with site.database.read() as connection:
        assert logger_store.load(connection)[MN].last_at_ms == start
    again = Site212(tmp_path / "site-0")
    again.start()
    try:
        with logger(again) as sender:
            sender.report(Sample(start + 30 * MINUTE, {"do": 6.0}), Cn.MINUTE, send=False)
            sender.report(Sample(start + 60 * MINUTE, {"do": 7.0}))
            eventually("the hole is filled", lambda: len(again.stored("shiwan", "do")) == 3)
    finally:
        again.stop()


def test_a_clock_that_is_off_is_set(make: Callable[..., Site212]) -> None:
    site = make()
    with logger(site) as sender:
        sender.clock_off_ms = -3 * 60 * MINUTE
        sender.report(Sample(whole_minute(), {"do": 5.0}))
        assert sender.flush(30)
        eventually("the clock is set", lambda: Cn.SET_TIME in sender.done)
        assert abs(sender.clock_off_ms) < 10_000
    quiet = make(set_clock=False)
    with logger(quiet) as sender:
        sender.clock_off_ms = -3 * 60 * MINUTE
        sender.report(Sample(whole_minute(), {"do": 5.0}))
        assert sender.flush(30)
        assert quiet.gateway.command("shiwan", exchange.ask_time()).result(30).done
        assert Cn.SET_TIME not in sender.done


def test_commands_reach_the_logger_and_their_result_comes_back(make: Callable[..., Site212]) -> None:
    site = make()
    ask = site.gateway.command
    with logger(site) as sender:
        sender.report(Sample(whole_minute(), {"do": 5.0}))
        assert sender.flush(30)
        assert ask("shiwan", exchange.set_realtime_interval(300)).result(30).done
        assert sender.realtime_s == 300
        many: list[Future[Answer]] = [ask("shiwan", exchange.sample_now("w21003")) for _ in range(5)]
        assert all(one.result(30).done for one in many)
        assert ask("shiwan", exchange.keep_sample()).result(30).exe_rtn == 1
        nothing = ask("shiwan", exchange.fetch(Cn.DAY, 0, 1)).result(30)
        assert (nothing.qn_rtn, nothing.exe_rtn, nothing.done) == (1, 100, False)
    with pytest.raises(NotFound, match=says("device.no_logger", station="nowhere")):
        ask("nowhere", exchange.sample_now()).result(30)


def test_a_logger_that_does_not_answer_is_asked_again_and_given_up(
    make: Callable[..., Site212], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "ANSWER_TIMEOUT_S", 0)
    site = make()
    wire = Wire(site.gateway.port)
    wire.send(packet_of("w01009-Rtd=3", whole_minute()))
    assert wire.answer()[0] == "9014"
    asked = site.gateway.command("shiwan", exchange.sample_now())
    with pytest.raises(NoAnswer, match=says("device.logger_no_answer", cn="3012")):
        asked.result(30)
    heard = [wire.handle_device_messages() for _ in range(1 + gateway_module.MAX_RESENDS)]
    assert {one.cn for one in heard} == {"3012"}
    assert len({one.qn for one in heard}) == 1
    left = site.gateway.command("shiwan", exchange.sample_now())
    wire.close()
    with pytest.raises((NoAnswer, NotFound)):
        left.result(30)


@pytest.mark.parametrize("edition", [Edition.E2005, Edition.E2017, Edition.E2025])
def test_every_edition_is_spoken(make: Callable[..., Site212], edition: Edition) -> None:
    site = make()
    at = whole_minute()
    with logger(site, edition=edition) as sender:
        sender.report(Sample(at, {"ph": 7.1, "nh3n": 0.4, "flow": 0.012}))
        assert sender.flush(30)
        assert site.gateway.command("shiwan", exchange.set_time()).result(30).done
    assert site.stored("shiwan", "nh3n") == {at: 0.4}
    assert site.stored("shiwan", "flow") == {at: pytest.approx(0.012)}
    assert sender.refused == []


def test_a_long_packet_is_split_and_arrives_whole(make: Callable[..., Site212]) -> None:
    site = make()
    at = whole_minute()
    metals = {key: 0.001 * (i + 1) for i, key in enumerate(("cu", "zn", "se", "as", "hg", "cd", "cr6", "pb"))}
    others = {"water_temp": 26.4, "ph": 7.1, "do": 3.6, "conductivity": 412.5, "turbidity": 48.2, "codmn": 4.4}
    others |= {"codcr": 20.0, "nh3n": 1.9, "tp": 0.2, "tn": 5.2, "cn": 0.01, "phenol": 0.001, "oil": 0.05, "las": 0.1}
    others |= {"sulfide": 0.1, "f": 0.5, "bod5": 3.0, "chla": 12.0}
    metals, others = ({key: value * 1.0123456 for key, value in of.items()} for of in (metals, others))
    with logger(site) as sender:
        sender.report(Sample(at, metals | others))
        assert sender.flush(30)
    assert site.gateway.counters.frames >= 2
    newest = {key: site.stored("shiwan", key)[at] for key in metals | others}
    assert newest == {key: pytest.approx(value) for key, value in (metals | others).items()}


def test_a_wrong_password_is_refused_and_the_right_one_taken(make: Callable[..., Site212]) -> None:
    site = make()
    with logger(site, password="000000") as sender:
        sender.report(Sample(whole_minute(), {"do": 5.0}))
        assert sender.flush(30)
        assert sender.refused == [QnRtn.REFUSED]
    assert site.stored("shiwan", "do") == {}
    assert site.gateway.by_mn == {}


def test_a_line_may_be_encrypted(make: Callable[..., Site212], tmp_path: Path) -> None:
    now = from_ms(now_ms())
    authority = certificates.authority("示例 CA", now)
    pair = certificates.server(authority, ["127.0.0.1"], now)
    for name, text in (("ca", authority.certificate), ("cert", pair.certificate), ("key", pair.key)):
        (tmp_path / name).write_bytes(text)
    site = make(cert_file=str(tmp_path / "cert"), key_file=str(tmp_path / "key"))
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca"))
    at = whole_minute()
    line = simulated.Line("127.0.0.1", site.gateway.port, tls=trusting, answer_s=10)
    with simulated.Logger(line, MN, PASSWORD, now_ms) as sender:
        sender.report(Sample(at, {"do": 3.6}))
        assert sender.flush(30)
        assert site.gateway.command("shiwan", exchange.ask_time()).result(30).done
    assert site.stored("shiwan", "do") == {at: 3.6}


def test_the_example_of_the_standard_from_a_logger_nobody_knows(make: Callable[..., Site212]) -> None:
    site = make()
    wire = Wire(site.gateway.port)
    wire.send(b"##0101" + EXAMPLE + b"1C80\r\n")
    assert wire.answer() == ("9011", "20160801085857223", "2")  # MN is ours, the password is not
    wire.close()


def test_the_api_asks_a_logger_and_tells_how_it_went(make: Callable[..., Site212]) -> None:
    site = make()
    context = Context(
        site.database,
        site.store,
        catalogue(),
        "/test",
        now_ms,
        site.intake.submit,
        command=site.gateway.command,
        open=True,
    )
    api = TestClient(create_app(context))

    def ask(station: str = "shiwan", **body: object) -> Any:
        return api.post(f"/api/v1/stations/{station}/commands", json=body)

    with logger(site) as sender:
        sender.report(Sample(whole_minute(), {"do": 5.0}))
        assert sender.flush(30)
        assert ask(command="sample_now", factor="w21003").json()["done"] is True
        assert ask(command="set_interval", seconds=300).json() == {
            "station": "shiwan",
            "command": "set_interval",
            "by": "hj212",
            "done": True,
            "qn_rtn": 1,
            "exe_rtn": 1,
            "fields": {},
        }
        nothing = ask(command="send_history", of="day", start="2020-01-01T00:00:00Z", end="2020-01-02T00:00:00Z")
        assert (nothing.status_code, nothing.json()["done"], nothing.json()["exe_rtn"]) == (200, False, 100)
        assert Cn.SAMPLE in sender.done
        for wrong, named in (
            ({"command": "set_interval"}, "seconds"),
            ({"command": "set_interval", "seconds": 5}, "30 to 3600"),
            ({"command": "sample_now", "seconds": 300}, "takes no seconds"),
            (
                {
                    "command": "send_history",
                    "of": "day",
                    "start": "2020-01-02T00:00:00Z",
                    "end": "2020-01-01T00:00:00Z",
                },
                "end",
            ),
            ({"command": "explode"}, "command"),
        ):
            refused = ask(**wrong)
            assert refused.status_code in (400, 422), refused.text
            assert named in refused.text
    assert ask("nowhere", command="sample_now").status_code == 404
    eventually("the logger has left", lambda: site.gateway.connections == 0)
    assert ask(command="sample_now").status_code == 404
    alone = TestClient(create_app(replace(context, command=None)))
    answer = alone.post("/api/v1/stations/shiwan/commands", json={"command": "sample_now"})
    assert (answer.status_code, "gateway" in answer.text) == (503, True)
