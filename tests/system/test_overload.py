"""More is sent than the ingest can process: nothing is lost, memory stays bounded, fresh alarms of other sources do not
wait for the backlog, and it recovers by itself.

A batch of a few messages makes the ingest slow enough for a test to exceed it about ten times. The figures are printed
(``-s``); with ``RIVERCHIEF_LONG=1`` the overload lasts longer.
"""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from infra.clock import now_ms
from infra.times import DAY_MS, rfc3339
from ingest import ledger
from ingest.storage.sql import SqlReadings
from riverchief.brokers.local import free_port
from sensors.parameters import catalogue
from sensors.stations import Station
from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Connection, Fleet
from tests.faults.test_kill import subscribed
from tests.long import LONG
from tests.rig import Running, eventually
from tests.system.test_outbox import SECRET, Receiver

pytestmark = pytest.mark.broker

STATIONS = [f"s{i}" for i in range(40)]
"""Those that send the backlog."""
ALARMS = [f"a{i}" for i in range(100 if LONG else 5)]
MESSAGES = 60_000 if LONG else 8_000
BATCH, HELD = 10, 1_000
OVERLOAD_S = int(os.environ.get("RIVERCHIEF_OVERLOAD_S", "60"))
"""How long ten times the sustainable rate is sent; ``make overload`` takes ten minutes."""
TIMES = 10
RUNS, SLICE_S = 0.1, 0.1
"""The part of each slice that a slowed process runs; without, the backlog of ten minutes would take ninety."""
MOST_GROWTH_MB = 48
"""Of the resident memory: ten times what the ingest may hold, and caches that every site fills."""
RULES = (
    '[[threshold]]\nid = "high"\nparameter = "nh3n"\nside = "above"\nlimit = 2.0\nclear = 1.5\n'
    'pending_s = 0\nsamples = 1\ncolour = "red"\n'
)


class Overloaded:
    """A served site whose ingest is slow, and the platform that takes its incidents."""

    def __init__(self, site: Running, receiver: Receiver) -> None:
        self.site = site
        self.receiver = receiver
        self.address = f"http://127.0.0.1:{(port := free_port())}"
        self.client = httpx.Client(base_url=self.address, timeout=60)
        rules = site.folder / "rules.toml"
        rules.write_text(RULES)
        site.more = (
            f"[api]\nport = {port}\n[site]\nrules = '{rules}'\n"
            f"[ingest]\nbatch_messages = {BATCH}\nhold_messages = {HELD}\n"
            f"[outbox]\nurl = '{receiver.url}'\nsecret = '{SECRET}'\n"
        )
        site.register(*(Station(name, name, name, 113.1, 23.0, interval_s=60) for name in (*STATIONS, *ALARMS)))

    def fleet(self) -> Fleet:
        broker = self.site.broker
        device = Connection(broker.host, broker.port, broker.device.user, broker.device.password)
        return Fleet(STATIONS, device, boot=1)

    def keeps_up(self) -> bool:
        """What the site, which stays ready, says of its pace."""
        answer = self.client.get("/readyz")
        assert answer.status_code == 200, answer.text
        detail: str = next(part["detail"] for part in answer.json()["parts"] if part["name"] == "ingest_lag")
        return detail.startswith("keeps up")

    def says_how_far_it_is_behind(self) -> bool:
        """Whether metrics and the part say how many messages wait, and the page of the health shows it."""
        waiting, lag_s = self.metric("behind_messages"), self.metric('lag_seconds{source="mqtt"}')
        parts = {one["name"]: one["detail"] for one in self.client.get("/readyz").json()["parts"]}
        page = self.client.get("/health").text
        return waiting > 0 and lag_s > 0 and "积压约" in parts["ingest_lag"] and "积压约" in page

    def metric(self, name: str) -> float:
        found = re.search(rf"^riverchief_{re.escape(name)} (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        assert found, name
        return float(found[1])

    def memory_mb(self, what: str = "VmRSS") -> float:
        assert self.site.process is not None
        status = Path(f"/proc/{self.site.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(rf"{what}:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def alarm(self, station: str) -> tuple[float, int]:
        """Send a reading above the limit over HTTP; after how long it was delivered (s), and what was stored then."""
        began = time.monotonic()
        body = {"station": station, "readings": [{"at": rfc3339(now_ms()), "values": {"nh3n": 6.0}}]}
        while (answer := self.client.post("/api/v1/readings", json=body)).status_code == 503:
            time.sleep(0.2)
        assert answer.status_code == 202, answer.text
        eventually(f"the alarm of {station} is delivered", lambda: self.delivered(station), every_s=0.01)
        return time.monotonic() - began, self.stored()

    def delivered(self, station: str) -> int:
        return sum(cause.endswith(f":{station}") for cause, _, _ in self.receiver.taken)

    def stored(self) -> int:
        """Readings of the backlog that are stored."""
        counts = SqlReadings(self.site.database, catalogue()).count()
        return sum(counts.get(name, 0) for name in STATIONS)


class Slowed:
    """Lets a process run a tenth of the time only."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._hold_up, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _hold_up(self) -> None:
        while not self._ended.is_set():
            os.kill(self._pid, signal.SIGSTOP)
            time.sleep(SLICE_S * (1 - RUNS))
            os.kill(self._pid, signal.SIGCONT)
            time.sleep(SLICE_S * RUNS)


class Sender:
    """Ordinary readings of all stations in turn, each a minute after the one before."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._start_ms, self.sent = fleet, now_ms() - 30 * DAY_MS, 0

    def send(self, messages: int) -> None:
        for _ in range(messages):
            at_ms = self._start_ms + self.sent // len(STATIONS) * 60_000
            self._fleet[STATIONS[self.sent % len(STATIONS)]].publish([Sample(at_ms, {"nh3n": 0.5})], now_ms())
            self.sent += 1

    def send_at(self, per_s: float, seconds: float) -> None:
        began, before = time.monotonic(), self.sent
        while (passed_s := time.monotonic() - began) < seconds:
            self.send(max(0, int(passed_s * per_s) - (self.sent - before)))
            time.sleep(0.01)


@pytest.fixture
def overloaded(running: Callable[..., Running]) -> Iterator[Overloaded]:
    receiver = Receiver()
    receiver.start()
    yield Overloaded(running("mosquitto"), receiver)
    receiver.stop()


@pytest.mark.timeout(3600 if LONG else 200)
def test_several_times_what_the_ingest_can_process_is_worked_off_and_alarms_over_http_come_first(
    overloaded: Overloaded,
) -> None:
    site = overloaded.site
    site.start("serve")
    with overloaded.fleet() as fleet:
        eventually("the ingest subscribes", lambda: subscribed(site))
        before_mb = overloaded.memory_mb()
        began, began_ms = time.monotonic(), now_ms() - MESSAGES
        for number in range(MESSAGES):
            at_ms = began_ms + number
            fleet[STATIONS[number % len(STATIONS)]].publish([Sample(at_ms, {"nh3n": 0.5})], now_ms())
        eventually("it says that it is behind", lambda: not overloaded.keeps_up())
        eventually("and by how much", overloaded.says_how_far_it_is_behind)
        with ThreadPoolExecutor(5) as pool:
            alarms = list(pool.map(overloaded.alarm, ALARMS))
        assert fleet.flush(600)
        sent_s = time.monotonic() - began
        eventually("the backlog is stored", lambda: overloaded.stored() == fleet.readings_sent, 3000 if LONG else 120)
        took_s = time.monotonic() - began
        eventually("it says that it has caught up", overloaded.keeps_up)
        assert overloaded.metric("behind_messages") == 0
        assert [stored for _, stored in alarms if stored >= fleet.readings_sent] == [], (
            "an alarm waited for the backlog"
        )
        assert {overloaded.delivered(name) for name in ALARMS} == {1}
        assert overloaded.metric("mqtt_unacknowledged_peak") <= HELD
        grown_mb = overloaded.memory_mb("VmHWM") - before_mb
        assert grown_mb <= MOST_GROWTH_MB
        with site.database.read() as connection:
            accounts = {one.station: one for one in ledger.accounts(connection)}
        assert [name for name in STATIONS if not accounts[name].closed or accounts[name].missing] == []
        waits = np.percentile([wait_s for wait_s, _ in alarms], (50, 99)).round(2).tolist()
        print(
            f"\n{MESSAGES} messages published in {sent_s:.1f} s and stored in {took_s:.1f} s; alarm to delivery "
            f"p50 {waits[0]} s, p99 {waits[1]} s; memory grew by {grown_mb:.0f} MB"
        )
    assert site.stop() == 0, site.log()


@pytest.mark.skipif(not LONG, reason="minutes: make overload")
@pytest.mark.timeout(7200)
def test_minutes_of_ten_times_the_sustainable_rate_are_worked_off_without_a_person(overloaded: Overloaded) -> None:
    site = overloaded.site
    site.start("serve")
    assert site.process is not None
    with overloaded.fleet() as fleet, ThreadPoolExecutor(1) as pool:
        eventually("the ingest subscribes", lambda: subscribed(site))
        sender, measured = Sender(fleet), 1_000
        with Slowed(site.process.pid):
            began = time.monotonic()
            sender.send(measured)
            eventually("the first ones are stored", lambda: overloaded.stored() == measured, 900, every_s=0.2)
            sustainable = measured / (time.monotonic() - began)
            before_mb = overloaded.memory_mb()
            sending = pool.submit(sender.send_at, TIMES * sustainable, OVERLOAD_S)
            eventually("it says that it is behind", lambda: not overloaded.keeps_up())
            eventually("and by how much", overloaded.says_how_far_it_is_behind)
            alarms = []
            while not sending.done() and len(alarms) < len(ALARMS):
                alarms.append(overloaded.alarm(ALARMS[len(alarms)]))
                time.sleep(OVERLOAD_S / len(ALARMS) / 2)
            sending.result()
            waiting = sender.sent - overloaded.stored()
        assert waiting > 0, "it was no overload"
        ended = time.monotonic()
        assert fleet.flush(600)
        eventually("the backlog is stored", lambda: overloaded.stored() == sender.sent, 3600, every_s=0.5)
        took_s = time.monotonic() - ended
        eventually("it says that it has caught up", overloaded.keeps_up)
        assert [stored for _, stored in alarms if stored >= sender.sent] == [], "an alarm waited for the backlog"
        grown_mb = overloaded.memory_mb("VmHWM") - before_mb  # also while the backlog was worked off
        assert grown_mb <= MOST_GROWTH_MB
        assert overloaded.metric("mqtt_unacknowledged_peak") <= HELD
        with site.database.read() as connection:
            accounts = [one for one in ledger.accounts(connection) if one.station in STATIONS]
        assert [one.station for one in accounts if not one.complete or one.quarantined] == []
        assert [overloaded.delivered(name) for name in ALARMS[: len(alarms)]] == [1] * len(alarms)
        assert overloaded.metric("behind_messages") == 0
        p50, p99 = np.percentile([wait_s for wait_s, _ in alarms], (50, 99)).round(2).tolist()
        print(
            f"\n{sender.sent} messages in {OVERLOAD_S} s, ten times {sustainable:.0f} a second; {waiting} waited, "
            f"stored {took_s:.0f} s later; {len(alarms)} alarms p50 {p50} s, p99 {p99} s; "
            f"memory grew by {grown_mb:.0f} MB"
        )
    assert site.stop() == 0, site.log()
