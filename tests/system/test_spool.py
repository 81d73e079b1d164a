"""The time-series server may be away or lie: devices are acknowledged, alarms go out, and nothing is lost."""

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from governance.incidents import queries as incident_queries
from infra.clock import now_ms
from infra.database import Database
from infra.errors import StorageUnavailable
from ingest import ledger
from ingest.forward import Forwarder
from ingest.storage import registry, schema, spool
from ingest.storage.influx import InfluxReadings
from ingest.storage.spool import Spool
from ingest.storage.sql import SqlReadings
from ingest.storage.tiered import TieredReadings
from ingest.storage.timeseries import ServerKind
from riverchief.brokers.local import free_port
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water
from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Connection, Fleet
from tests.databases import stored, with_tables
from tests.influx import RealServer, real_server
from tests.proxy import Forward, HangUp, Proxy, Silent, Status
from tests.rig import Running, eventually
from tests.says import says

CATALOGUE = catalogue()
STATIONS = ("s0", "s1", "s2")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy(real_server(ServerKind.INFLUXDB1).url) as made:
        yield made


def waiting(site: Running) -> int:
    with site.database.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM spool").scalar_one())


def opened(site: Running) -> list[str]:
    with site.database.read() as connection:
        return sorted(
            i.station for i in incident_queries.list_incidents(connection, limit=100) if i.cause.startswith("water:")
        )


@pytest.mark.influx
@pytest.mark.broker
@pytest.mark.fault
@pytest.mark.timeout(200)
def test_while_the_server_is_away_devices_are_acknowledged_and_alarms_go_out_and_nothing_is_lost(
    running: Callable[[str], Running], proxy: Proxy
) -> None:
    real: RealServer = real_server(ServerKind.INFLUXDB1)
    direct = real.fresh()
    site = running("mosquitto")
    site.more = f'[influx]\nurl = "{proxy.url}"\nkind = "influxdb1"\nbucket = "{direct.settings.bucket}"\n'
    site.more += f"[api]\nport = {free_port()}\n"
    stations = tuple(Station(key, key, key, 113.1, 23.0, reach="r", interval_s=60) for key in (*STATIONS, "probe"))
    reach = Reach("r", "示例涌", "example creek", Water.CREEK, ((113.1, 23.0), (113.2, 23.0)))
    with site.database.write() as connection:
        registry.save(connection, Registry(stations, (), (reach,), CATALOGUE))
    rng = random.Random(3)
    answers: list[object] = [Status(503), Silent(), HangUp()]
    proxy.script = lambda seen: rng.choice(answers) if seen.is_write else Forward()  # type: ignore[return-value]
    device = Connection(site.broker.host, site.broker.port, site.broker.device.user, site.broker.device.password)
    with Fleet(list(STATIONS), device, boot=1) as fleet:
        site.start("serve")
        minute = 0

        def publish(times: int, nh3n: float) -> None:
            nonlocal minute
            for _ in range(times):
                for key in STATIONS:
                    values = {"ph": rng.gauss(7.1, 0.02), "do": rng.gauss(5, 0.05), "nh3n": rng.gauss(nh3n, 0.05)}
                    fleet[key].publish([Sample(now_ms() - 600_000 + 1000 * minute, values)], now_ms())
                minute += 1

        def settled() -> None:
            assert fleet.flush(30)
            eventually("all is booked", lambda: site.booked() >= fleet.readings_sent)

        eventually("the ingest listens", lambda: _heard(device, site))
        publish(5, 0.8)
        publish(20, 6.0)
        settled()
        eventually("the alarm is there", lambda: opened(site) == sorted(STATIONS))
        assert waiting(site) > 0, "nothing has reached the server yet"
        site.kill()
        publish(5, 6.0)
        site.start("serve")
        publish(5, 6.0)
        settled()
        proxy.script = []
        eventually("the spool is empty", lambda: waiting(site) == 0)
        assert site.stop() == 0, site.log()
    with site.database.read() as connection:
        assert all(account.closed for account in ledger.accounts(connection))
    ours, theirs = SqlReadings(site.database, CATALOGUE), InfluxReadings(direct, CATALOGUE, lambda key: "r")
    for key in STATIONS:
        here, there = (store.window(key, 0, 2**53) for store in (ours, theirs))
        assert len(here) > 0
        assert here.at.tolist() == there.at.tolist()
        assert here.value.tolist() == there.value.tolist()
        assert here.packed.tolist() == there.packed.tolist()
    assert dict(theirs.count()) == dict(ours.count())
    assert opened(site) == sorted(STATIONS), "nobody is called twice"
    with_class = list(direct.ask("POST", "/query", params=_asked(direct.settings.bucket, schema.RIVER_CLASS)))
    assert b'"series"' in b"".join(with_class), "the live class is there"
    direct.close()


def _heard(device: Connection, site: Running) -> bool:
    """A message published before the first subscription belongs to nobody: wait for the session to exist."""
    with Fleet(["probe"], device, boot=0) as fleet:
        fleet["probe"].publish([], now_ms())
        fleet.flush(5)
    return site.booked("messages") > 0


def _asked(bucket: str, measurement: str) -> dict[str, str]:
    return {"db": bucket, "q": f'SELECT * FROM "{measurement}"'}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.influx
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk is the administrator's")
def test_a_full_disk_stops_the_acknowledgements_in_time_to_be_emptied_again(
    small_disk: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "COUNT_MAX_AGE_S", 0.0)
    real = real_server(ServerKind.INFLUXDB1)
    direct = real.fresh()
    database = Database(f"sqlite:///{small_disk / 'riverchief.db'}")
    with_tables(database)
    with database.write() as connection:
        registry.save(connection, Registry((Station("s", "s", "s", 113.1, 23.0),), catalogue=CATALOGUE))
    held = Spool(database, CATALOGUE, clock_ms=now_ms, most_bytes=2**30, headroom=8 * 2**20)
    store = TieredReadings(SqlReadings(database, CATALOGUE), CATALOGUE, spool=held)
    rng = np.random.default_rng(1)
    written = 0
    start = now_ms() - 86_400_000

    def write(batches: int) -> None:
        nonlocal written
        for _ in range(batches):
            at = range(start + written, start + written + 5000)
            values = rng.normal(7, 1, 5000).round(6)
            stored(database, store, ["s"], {(0, "ph"): (at, values)})
            written += 5000

    with pytest.raises(StorageUnavailable, match=says("store.disk_full", needed=8.0)):
        write(1000)
    forwarder = Forwarder(database, held, direct, CATALOGUE, clock_ms=now_ms, poll_s=0.01)
    forwarder.start()
    eventually("the spool is empty", lambda: held.waiting().entries == 0, 90)
    write(1)
    eventually("what came afterwards is sent, too", lambda: held.waiting().entries == 0)
    assert forwarder.stop()
    assert dict(InfluxReadings(direct, CATALOGUE).count()) == {"s": written}
    assert dict(store.count()) == {"s": written}
    database.close()
    direct.close()


@pytest.mark.influx
def test_a_spool_that_is_full_keeps_the_next_batch_with_its_sender_until_there_is_room(
    tmp_path: Path, proxy: Proxy
) -> None:
    direct = real_server(ServerKind.INFLUXDB1).fresh()
    database = Database(f"sqlite:///{tmp_path / 'riverchief.db'}")
    with_tables(database)
    with database.write() as connection:
        registry.save(connection, Registry((Station("s", "s", "s", 113.1, 23.0),), catalogue=CATALOGUE))
    held = Spool(database, CATALOGUE, clock_ms=now_ms, most_bytes=3000)
    store = TieredReadings(SqlReadings(database, CATALOGUE), CATALOGUE, spool=held)
    taken = 0
    refused = 0
    forwarder: Forwarder | None = None
    until = time.monotonic() + 60
    while taken < 40 and time.monotonic() < until:
        at = range(taken * 50, taken * 50 + 50)
        try:
            stored(database, store, ["s"], {(0, "ph"): (at, [7.0 + taken] * 50)})
        except StorageUnavailable:
            refused += 1
            if forwarder is None:
                forwarder = Forwarder(database, held, direct, CATALOGUE, clock_ms=now_ms, poll_s=0.01)
                forwarder.start()
            time.sleep(0.01)
            continue
        taken += 1
    assert refused > 0
    assert taken == 40
    assert forwarder is not None
    eventually("the spool is empty", lambda: held.waiting().entries == 0)
    assert forwarder.stop()
    assert dict(InfluxReadings(direct, CATALOGUE).count()) == {"s": 2000}
    database.close()
    direct.close()
