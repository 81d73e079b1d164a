"""The power fails: what was not synced is gone, and still everything that was acknowledged is there.

The data lie on a file system of their own that is shut down without a flush (tests/disk.py). kill -9 proves less: the
kernel keeps what a killed process wrote.
"""

import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from governance.incidents import queries as incident_queries
from infra.clock import now_ms
from ingest.storage import spool
from ingest.storage.spool import Spool, SpoolKind
from riverchief import setup
from riverchief.brokers.local import free_port
from riverchief.brokers.mosquitto_admin import DynamicSecurity, device_role, ingest_role
from sensors.parameters import catalogue
from sensors.stations import Station
from sensors.wire.telemetry import Sample, topic
from simulator.devices.fleet import Connection, Fleet
from tests.disk import Disk
from tests.rig import Running, eventually
from tests.stack import NATS, Session, ShippedBroker, ShippedNats, plugin

pytestmark = [pytest.mark.fault, pytest.mark.power_loss]

CUTS = 3
STATION = "qc-01"


@pytest.fixture
def volume() -> Iterator[Disk]:
    made = Disk()
    try:
        yield made
    finally:
        made.close()


def test_what_was_not_synced_is_lost(volume: Disk) -> None:
    """Without this the other tests prove nothing."""
    synced, not_synced = volume.path / "synced", volume.path / "not-synced"
    with synced.open("wb") as file:
        file.write(b"kept")
        file.flush()
        os.fsync(file.fileno())
        not_synced.write_bytes(b"lost")
        file.write(b" and lost")
    volume.lose_power()
    assert synced.read_bytes() == b"kept"
    assert not not_synced.exists()


# -- riverchief ------------------------------------------------------------------------------------------------------


@pytest.mark.broker
@pytest.mark.timeout(280)
def test_readings_incidents_and_spool_are_there_after_each_power_loss_of_the_ingest(
    volume: Disk, running: Callable[..., Running]
) -> None:
    """The broker stands elsewhere and delivers again what the ingest did not acknowledge: nothing may be missing."""
    site = running("mosquitto", f"sqlite:///{volume.path / 'river.db'}")
    site.more = f'[influx]\nurl = "http://127.0.0.1:{free_port()}"\n[ingest]\nlinger_ms = 4\n'  # nobody answers there
    site.register(*(Station(name, name, name, 113.1, 23.0, interval_s=60) for name in (STATION, "probe")))
    device = Connection(site.broker.host, site.broker.port, site.broker.device.user, site.broker.device.password)
    site.database.close()
    os.sync()
    number, rng = 0, random.Random(14)
    sent: set[tuple[str, str, int]] = set()

    def publish(values: dict[str, float]) -> None:
        at_ms = now_ms()
        fleet[STATION].publish([Sample(at_ms, values)], at_ms)
        sent.update((STATION, parameter, at_ms) for parameter in values)

    with Fleet([STATION, "probe"], device, boot=1) as fleet:
        site.start()
        eventually("the ingest subscribes", lambda: _subscribed(site, fleet))
        for _ in range(CUTS):
            end = time.monotonic() + rng.uniform(1.0, 2.0)
            while time.monotonic() < end:
                values = {"water_temp": 25.0, "ph": 7.1, "nh3n": 0.9 if number < 30 else 6.0}
                noisy = {key: value + rng.gauss(0, value / 200) for key, value in values.items()}
                publish(noisy)
                number += 1
                time.sleep(0.01)
            _cut(volume, site)
            site.start()
        publish({"ph": 7.1})
        assert fleet.flush(60)
        eventually("everything is stored", lambda: site.booked() >= len(sent), 90)
        _cut(volume, site)
        assert site.booked() == len(sent) == fleet.readings_sent
        assert _spooled(site) == sent
        with site.database.read() as connection:
            found = incident_queries.list_incidents(connection, limit=100)
            pages = connection.exec_driver_sql("SELECT count(*) FROM outbox WHERE notify = 'page'").scalar_one()
        assert len([i for i in found if i.cause.startswith("water:") and i.station == STATION]) == 1
        assert 1 <= pages <= 2
        site.database.close()


def _spooled(site: Running) -> set[tuple[str, str, int]]:
    """The readings that wait for the time-series server: station, parameter, time. Verdicts that changed wait again."""
    waiting = Spool(site.database, catalogue(), clock_ms=now_ms, most_bytes=2**30)
    found: set[tuple[str, str, int]] = set()
    while entries := waiting.next(10**6):
        for entry in (one for one in entries if one.kind is SpoolKind.READINGS):
            b = entry.batch
            rows = zip(b.station.tolist(), b.parameter.tolist(), b.at.tolist(), strict=True)
            found |= {(entry.stations[s], catalogue().parameters[p].key, at_ms) for s, p, at_ms in rows}
        with site.database.write() as connection:
            spool.delete(connection, [entry.id for entry in entries])
    return found


def _subscribed(site: Running, fleet: Fleet) -> bool:
    fleet["probe"].publish([], now_ms())
    fleet.flush(5)
    return _peek(site, "messages") > 0


def _peek(site: Running, column: str) -> int:
    found = site.booked(column)
    site.database.close()  # nothing of this process may hold the file when the power fails
    return found


def _cut(volume: Disk, site: Running) -> None:
    site.database.close()
    volume.lose_power(site.kill)


# -- brokers ---------------------------------------------------------------------------------------------------------


class Publisher:
    """A device that publishes numbers as fast as the broker acknowledges them."""

    def __init__(self, session: Session, first: int) -> None:
        self._session = session
        self._next = itertools.count(first)
        self._numbers: dict[int, int] = {}
        self._answered: list[int] = []
        session.client.on_publish = self._answer
        for _ in range(20):
            self._publish()

    @property
    def acknowledged(self) -> list[int]:
        """The numbers the broker acknowledged. Its answer may come before ``publish`` has said which number it was."""
        return [self._numbers[mid] for mid in list(self._answered) if mid in self._numbers]

    def _publish(self) -> None:
        number = next(self._next)
        self._numbers[self._session.client.publish(topic(STATION), str(number).encode(), qos=1).mid] = number

    def _answer(self, _client: object, _userdata: object, mid: int, _reason: object, _properties: object) -> None:
        # No lock of ours here: the client calls this with its own lock held, and takes the same one to publish.
        self._answered.append(mid)
        self._publish()


@pytest.mark.skipif(not NATS.exists(), reason="no nats-server here (the extra demo installs it)")
@pytest.mark.timeout(280)
def test_nats_has_every_message_it_acknowledged(volume: Disk, tmp_path: Path) -> None:
    nats = ShippedNats(tmp_path, volume.path / "data")
    login = ("simulator", nats.secret("simulator/mqtt_password"))
    client_id = nats.secret("riverchief/mqtt_client_id")
    ingest = ("ingest", nats.secret("riverchief/mqtt_password"))
    acknowledged: list[int] = []
    try:
        nats.start()
        reader = Session(nats.outside, client_id, *ingest)
        reader.subscribe(topic("+"))
        reader.close()
        for cut in range(CUTS):
            device = Publisher(Session(nats.outside, f"device-{cut}", *login), cut * 1_000_000)
            eventually("messages are acknowledged", lambda one=device: len(one.acknowledged) >= 200)
            acknowledged += list(device.acknowledged)
            volume.lose_power(lambda: nats.stop(signal.SIGKILL))
            nats.start()
        reader = Session(nats.outside, client_id, *ingest)
        eventually("all that was acknowledged", lambda: set(acknowledged) <= {int(one) for one in reader.received}, 60)
        reader.close()
    finally:
        nats.stop(signal.SIGKILL)


def _written_ns(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


@pytest.mark.broker
@pytest.mark.skipif(plugin() is None, reason="no dynamic-security plugin here (it comes with mosquitto)")
@pytest.mark.timeout(280)
def test_mosquitto_has_everything_up_to_its_last_snapshot(volume: Disk) -> None:
    """More it cannot promise: it acknowledges first and writes its state once a second."""
    broker = ShippedBroker(volume.path / "data")
    snapshot = volume.path / "data" / "mosquitto.db"
    try:
        broker.start()
        password = broker.secret("riverchief/broker_admin_password")
        setup.broker(broker.inside, password, "ingest", "示例", ingest_role())
        with DynamicSecurity(broker.inside, password) as admin:
            admin.ensure_role(device_role(STATION))
            admin.ensure_client(STATION, "示例", [f"device-{STATION}"])
        reader = Session(broker.inside, "riverchief-ingest", "ingest", "示例")
        reader.subscribe(topic("+"))
        reader.close()
        kept: list[int] = []
        for cut in range(CUTS):
            device = Publisher(Session(broker.outside, "", STATION, "示例", clean=True), cut * 1_000_000)
            eventually("messages are acknowledged", lambda one=device: len(one.acknowledged) >= 200)
            written = list(device.acknowledged)
            for _ in range(2):  # the one being written now may have begun before
                before = _written_ns(snapshot)
                eventually("a snapshot", lambda at=before: _written_ns(snapshot) != at)
            kept += written
            volume.lose_power(lambda: broker.stop(signal.SIGKILL))
            broker.start()
        reader = Session(broker.inside, "riverchief-ingest", "ingest", "示例")
        assert reader.present
        eventually("all of the snapshots", lambda: set(kept) <= {int(one) for one in reader.received}, 60)
        reader.close()
    finally:
        broker.close()
