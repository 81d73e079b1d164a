"""A scenario played over real lines: what arrives is what the truth says, whatever befalls devices and broker."""

import csv
import gzip
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from infra.texts import say
from infra.times import rfc3339, to_ms
from ingest import ledger
from ingest.storage import registry as registry_store
from riverchief import files, simulate, simulate_table
from riverchief import settings as settings_
from riverchief.cli.simulate import ProgressReporter
from riverchief.settings import Settings
from sensors import table_columns
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.wire import telemetry
from sensors.wire.hj212.readings import Logger
from sensors.wire.sl651.readings import Gauge
from simulator.devices.fleet import Connection
from simulator.devices.gateways import Trunks
from simulator.devices.transport import Fate
from simulator.run_record import RunRecord
from tests import preloaded
from tests.hj212_site import PASSWORD, Site212
from tests.mosquitto import MOSQUITTO, PATIENCE_S, Broker, Subscriber, retained_status, until
from tests.rig import Running
from tests.says import shows
from tests.sl651_site import ADDRESS, Site651

pytestmark = [pytest.mark.broker, pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")]

KNOWN = catalogue()
WATCHED = ("dph-shiwan-1", "qcc-huanhu-1", "shiwan-lake-1")

SCENARIO = f"""
[scenario]
zh = "试"
en = "A try"
see_zh = "一切麻烦"
see_en = "every trouble"
start = 2026-05-01
days = "3h"
step = "1min"
spin_up = "1h"
stations = {json.dumps(WATCHED)}
"""

TROUBLES = """
[[trouble]]
kind = "lost"
at = "0s"
for = "3h"
share = 0.05
[[trouble]]
kind = "duplicated"
at = "0s"
for = "3h"
share = 0.1
[[trouble]]
kind = "reordered"
at = "0s"
for = "3h"
share = 0.1
[[trouble]]
kind = "delayed"
at = "0s"
for = "3h"
share = 0.1
delay = "90s"
[[trouble]]
kind = "outage"
station = "qcc-huanhu-1"
at = "30min"
for = "30min"
[[trouble]]
kind = "reboot"
station = "shiwan-lake-1"
at = "45min"
for = "2min"
[[trouble]]
kind = "clock_error"
station = "dph-shiwan-1"
at = "1h"
for = "20min"
ahead = "-40s"
[[trouble]]
kind = "door"
station = "dph-shiwan-1"
at = "10min"
for = "5min"
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    yield made
    made.stop()


class Stage:
    """A scenario file, settings that name the broker, and a run of both."""

    def __init__(self, folder: Path, port: int, text: str, **login: str) -> None:
        self.folder = folder
        self.file = folder / "try.toml"
        self.file.write_text(text, encoding="utf-8")
        self.settings: Settings = settings_.load(None, mqtt={"port": port, **login}, data=folder)
        self.witness = RunRecord()
        self.stop = threading.Event()
        self.told: list[str] = []

    def play(self, *, on_progress=lambda progress: None, **order):
        self.options = simulate.RunOptions(str(self.file), **order)
        self.plan = simulate.plan_run(self.settings, self.options, time.time_ns() // 1_000_000)
        self.river = simulate.spin_up(self.options, self.plan)
        teller = ProgressReporter()

        def progress(now):
            self.told.extend(teller.connection_changes(now, time.monotonic()))
            on_progress(now)

        self.played = simulate.play_scenario(
            self.settings,
            self.options,
            self.plan,
            self.river,
            stop=self.stop,
            settled=self.witness,
            on_progress=progress,
        )
        return self.played

    def truth(self) -> list[dict[str, str]]:
        path = self.folder / "truth.csv"
        simulate.write_truth(path, self.plan, self.river, self.witness, self.played.until_ms)
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def readings_of(rows: list[dict[str, str]], fate: str = "sent") -> dict[tuple[str, str, str], float]:
    """(station, time the device wrote, parameter) → value of the rows of one fate."""
    found = {}
    named = table_columns.find_columns(list(rows[0])[: list(rows[0]).index("anomaly")], KNOWN).columns
    for row in rows:
        for column in named:
            if row["fate"] == fate and row[column.name]:
                found[row["station"], row["sent_time"] or row["time"], column.parameter] = float(row[column.name])
    return found


def decoded(received: list[tuple[str, bytes]]) -> dict[tuple[str, str, str], float]:
    """What an ingest reads out of the messages, each key once."""
    messages = [
        Message(topic.split("/")[2], payload, 0, topic=topic)
        for topic, payload in received
        if topic.endswith("/telemetry")
    ]
    read = telemetry.decode(messages, KNOWN)
    assert not read.rejected
    batch = read.batch
    return {
        (messages[m].station, rfc3339(at), KNOWN.parameters[p].key): value
        for m, at, p, value in zip(
            batch.message.tolist(), batch.at.tolist(), batch.parameter.tolist(), batch.value.tolist(), strict=True
        )
    }


def count(received: list[tuple[str, bytes]]) -> int:
    return sum(topic.endswith("/telemetry") for topic, _ in received)


@pytest.mark.parametrize("own", [10, 1])
def test_the_messages_of_a_live_run_decoded_equal_the_table(broker, tmp_path, own):
    watcher = Subscriber(broker.port)
    stage = Stage(tmp_path, broker.port, SCENARIO + TROUBLES)
    played = stage.play(speed=simulate.speed("max"), seed=7, own=own)
    until(lambda: count(watcher.received) >= played.messages, "all messages have arrived")  # QoS 1 may deliver twice
    watcher.close()
    rows = stage.truth()
    assert played.answered
    assert played.fates == stage.witness.fates
    assert sum(played.fates.values()) == 3 * 180, "every sample has a fate"
    assert set(played.fates) == {Fate.SENT, Fate.LOST, Fate.OFF}
    assert len(rows) == 3 * 180
    assert decoded(watcher.received) == readings_of(rows)
    wrong = [row for row in rows if row["sent_time"]]
    assert {row["station"] for row in wrong} == {"dph-shiwan-1"}
    assert len(wrong) == 20
    assert {_ms(row["time"]) - _ms(row["sent_time"]) for row in wrong} == {40_000}, "true time beside the device's"
    assert len({payload for topic, payload in watcher.received if topic.endswith("/telemetry")}) < played.messages
    events = [json.loads(payload)["event"] for topic, payload in watcher.received if topic.endswith("/event")]
    assert sorted(events) == ["door_closed", "door_open", "restarted"]
    boots = {m.boot for m in watcher.telemetry("shiwan-lake-1")}
    assert len(boots) == 2
    longest = max(len(m.samples) for m in watcher.telemetry("qcc-huanhu-1"))
    assert 29 <= longest <= 31, "the burst after the outage"


def test_a_live_run_and_the_table_of_out_are_the_same_numbers(broker, tmp_path):
    stage = Stage(tmp_path, broker.port, SCENARIO)
    stage.play(speed=simulate.speed("max"), seed=3)
    live = stage.truth()
    began = rfc3339(stage.plan.scenario.start_ms)
    fixed = tmp_path / "fixed.toml"
    fixed.write_text(SCENARIO.replace("start = 2026-05-01", f"start = {began}"), encoding="utf-8")
    out = tmp_path / "out.csv"
    simulate_table.write(str(fixed), out, stage.settings, seed=3)
    with out.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [{k: v for k, v in row.items() if k in table[0]} for row in live] == table


def test_a_run_that_is_stopped_writes_the_truth_of_the_part_that_was_played(broker, tmp_path):
    watcher = Subscriber(broker.port)
    stage = Stage(tmp_path, broker.port, SCENARIO)

    def stop_soon(now) -> None:
        if now.messages > 60:
            stage.stop.set()

    played = stage.play(speed=2400.0, seed=1, on_progress=stop_soon)
    until(lambda: count(watcher.received) >= played.messages, "all messages have arrived")  # QoS 1 may deliver twice
    watcher.close()
    rows = stage.truth()
    assert 60 < played.messages < 3 * 180
    assert len(rows) == played.messages
    assert decoded(watcher.received) == readings_of(rows)


def listens(site: Running) -> bool:
    """Whether the ingest is connected to its broker."""
    process = psutil.Process(site.process.pid)
    return any(c.raddr and c.raddr.port == site.broker.port for c in process.net_connections())


def command(stage: Stage, *more: str) -> subprocess.Popen[str]:
    settings = stage.folder / "settings.toml"
    settings.write_text(f"[mqtt]\nport = {stage.settings.mqtt.port}\n[log]\nlevel = 'error'\n", encoding="utf-8")
    words = [sys.executable, "-m", "riverchief", "simulate", str(stage.file), "--settings", str(settings), *more]
    return preloaded.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_ends_the_command_and_leaves_the_truth_of_what_was_played(broker, tmp_path):
    watcher = Subscriber(broker.port)
    stage = Stage(tmp_path, broker.port, SCENARIO)
    truth = tmp_path / "truth.csv.gz"
    process = command(stage, "--speed", "600", "--truth", str(truth), "--json")
    until(lambda: count(watcher.received) > 20, "some messages have arrived")
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, complained
    told = json.loads(said)
    until(lambda: count(watcher.received) >= told["messages"], "all messages have arrived")  # QoS 1 may deliver twice
    watcher.close()
    with gzip.open(truth, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert 20 < len(rows) < 3 * 180
    assert decoded(watcher.received) == readings_of(rows)


def test_without_any_broker_the_command_says_so_in_words_and_fails(broker, tmp_path):
    broker.stop()
    stage = Stage(tmp_path, broker.port, SCENARIO.replace("3h", "20min"))
    process = command(stage, "--speed", "max")
    assert process.stderr is not None
    complained = ""
    while not shows(complained, "simulate.silent"):
        line = process.stderr.readline()
        assert line, complained
        complained += line
    process.send_signal(signal.SIGINT)
    _, more = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    silent = say("simulate.silent", name=f"127.0.0.1:{broker.port}")
    assert silent.zh in complained
    assert silent.en in complained
    assert "Traceback" not in complained + more


def test_a_broker_that_comes_late_and_goes_in_between_costs_no_sample_and_is_told(broker, tmp_path):
    broker.stop()
    stage = Stage(tmp_path, broker.port, SCENARIO)
    watchers: list[Subscriber] = []
    steps = iter(("start", "stop", "start again", "over"))
    step = next(steps)

    def progress(now) -> None:
        nonlocal step
        if step == "start" and stage.told:
            broker.start()
            watchers.append(Subscriber(broker.port))
            step = next(steps)
        elif step == "stop" and now.lines[0].acked > 20 and now.share > 0.3:
            broker.stop()
            step = next(steps)
        elif step == "start again" and len(stage.told) == 3:
            broker.start()
            step = next(steps)

    played = stage.play(speed=900.0, seed=1, on_progress=progress)
    (watcher,) = watchers
    rows = stage.truth()
    until(lambda: len(decoded(watcher.received)) >= len(readings_of(rows)), "all readings have arrived")
    watcher.close()
    assert step == "over"
    assert played.fates == {Fate.SENT: 3 * 180}
    assert decoded(watcher.received) == readings_of(rows)
    assert played.messages < 3 * 180, "what was kept came in bursts"
    assert [("does not answer" in told, "answers again" in told) for told in stage.told] == [
        (True, False),
        (False, True),
    ] * 2


def test_one_run_speaks_mqtt_and_hj212_and_both_arrive(broker, tmp_path):
    site = Site212(tmp_path / "site")
    site.register(Logger("MN1", "shiwan-lake-1", PASSWORD))
    site.start()
    watcher = Subscriber(broker.port)
    stage = Stage(
        tmp_path,
        broker.port,
        SCENARIO.replace("3h", "30min").replace("1min", "2min")
        + '[[trouble]]\nkind = "outage"\nstation = "shiwan-lake-1"\nat = "6min"\nfor = "10min"\n',
    )
    try:
        played = stage.play(
            speed=simulate.speed("max"),
            seed=5,
            platform=("127.0.0.1", site.gateway.port),
            loggers=simulate.loggers(["shiwan-lake-1=MN1"], PASSWORD),
        )
        assert played.answered
        until(lambda: count(watcher.received) >= 30, "the MQTT stations have arrived")
        rows = stage.truth()
        wanted: dict[str, dict[int, float]] = {}
        for (station, at, parameter), value in readings_of(rows).items():
            if station == "shiwan-lake-1" and KNOWN[parameter].code:
                wanted.setdefault(parameter, {})[_ms(at)] = value
        assert len(wanted["do"]) == 15
        for parameter, values in wanted.items():
            assert site.stored("shiwan-lake-1", parameter) == pytest.approx(values), parameter
        over_mqtt = {key: value for key, value in readings_of(rows).items() if key[0] != "shiwan-lake-1"}
        assert decoded(watcher.received) == over_mqtt
    finally:
        watcher.close()
        site.stop()


def test_a_registered_sl651_station_plays_its_part_over_sl651(broker, tmp_path):
    site = Site651(tmp_path / "site")
    site.register(Gauge(ADDRESS, "shiwan-lake-1"))
    site.start()
    stage = Stage(tmp_path, broker.port, SCENARIO.replace("3h", "30min").replace("1min", "2min"))
    try:
        played = stage.play(
            speed=simulate.speed("max"),
            seed=5,
            centre=("127.0.0.1", site.gateway.port),
            gauges={"shiwan-lake-1": Gauge(ADDRESS, "shiwan-lake-1")},
        )
        assert played.answered
        wanted = {
            _ms(at): value
            for (station, at, parameter), value in readings_of(stage.truth()).items()
            if (station, parameter) == ("shiwan-lake-1", "do")
        }
        assert len(wanted) == 15
        assert site.stored("shiwan-lake-1", "do") == pytest.approx(wanted, abs=0.06)
    finally:
        site.stop()


def _ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text))


def noticeable(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Without what no numbering can tell: what was sent before the first message heard of a station, and what after the
    last one of a start."""
    first: dict[str, tuple[int, int]] = {}
    last: dict[tuple[str, int], int] = {}
    numbered = [(row, int(row["boot"]), int(row["seq"])) for row in rows if row["boot"]]
    for row, boot, seq in numbered:
        if row["fate"] == "sent":
            first.setdefault(row["station"], (boot, seq))
            last[row["station"], boot] = max(seq, last.get((row["station"], boot), 0))
    return [
        row
        for row, boot, seq in numbered
        if first[row["station"]] < (boot, seq) < (boot, last.get((row["station"], boot), -1))
    ]


def test_the_ledger_of_a_site_misses_exactly_what_the_truth_says_was_lost(running, tmp_path):
    """From the devices' troubles to the account: the books know what nobody told them."""
    site = running("mosquitto")
    text = SCENARIO + TROUBLES[: TROUBLES.index('[[trouble]]\nkind = "clock_error"')]
    login = site.broker.device
    stage = Stage(tmp_path, site.broker.port, text, user=login.user, password=login.password)
    with site.database.write() as connection:
        registry_store.save(connection, files.read_stations(None, KNOWN))
    site.start()
    until(lambda: listens(site), "the ingest has subscribed")
    stage.play(speed=simulate.speed("max"), seed=11)
    rows = stage.truth()
    stored, lost = readings_of(rows), readings_of(noticeable(rows), "lost")
    until(lambda: site.booked("stored") >= len(stored), "all readings are stored")
    assert len(lost) > 50
    assert site.booked("stored") == len(stored)
    with site.database.read() as connection:
        accounts = ledger.accounts(connection, limit=1000)
    assert sum(a.missing for a in accounts) == len(lost)
    assert sum(a.duplicate for a in accounts) > 0
    assert sum(a.quarantined for a in accounts) == 0
    assert all(a.closed for a in accounts)


def test_a_fast_run_ends_in_the_present_and_never_in_the_future(broker, tmp_path):
    stage = Stage(tmp_path, broker.port, SCENARIO)
    now_ms = time.time_ns() // 1_000_000
    played = stage.play(speed=3600.0, seed=1)
    ended_ms = time.time_ns() // 1_000_000
    assert now_ms < played.until_ms <= ended_ms
    assert max(one.sample.at_ms for one in stage.witness) <= ended_ms


def test_mass_devices_share_connections_and_lose_nothing_when_the_broker_dies(broker, tmp_path):
    watcher = Subscriber(broker.port)
    stations = [f"s-{i}" for i in range(300)]
    with Trunks(stations, Connection(port=broker.port), connections=3) as trunks:
        until(lambda: trunks.connected == 3)
        assert trunks.flush(PATIENCE_S)
        until(lambda: all(watcher.status(key) == [True] for key in stations))
        for i in range(20):
            for key in stations:
                trunks.send(key, "telemetry", b'{"seq": %d, "readings": []}' % i)
            if i == 5:
                broker.freeze()
            if i == 10:
                broker.stop()  # in the middle, messages under way
            if i == 15:
                broker.start()
        assert trunks.flush(PATIENCE_S)
        assert trunks.acked == 6000
        until(lambda: all({m.seq for m in watcher.telemetry(key)} == set(range(20)) for key in stations[:5]))
    assert retained_status(broker.port, "s-7") is False
    watcher.close()


def test_a_broker_that_refuses_says_why(tmp_path):
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    try:
        with Trunks(["a"], Connection(port=broker.port, user="nobody", password="wrong"), connections=1) as trunks:
            until(lambda: trunks.refusal)
            assert trunks.refusal.endswith("not allowed")
            assert "wrong" not in trunks.refusal
    finally:
        broker.stop()


def test_more_connections_than_the_system_allows_are_refused_in_words(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 300))
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
    assert simulate.allow_connections(5000) == 100
    assert asked == [(300, 300)]
    assert simulate.allow_connections(20) == 20
