"""Of several workers one keeps house; when it dies another one does. Real processes, real kill -9, both databases."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.clock import now_ms
from infra.database import Database
from ingest.storage import downsampling, registry
from ingest.storage.influx import InfluxReadings
from ingest.storage.influx_setup import Plan, set_up
from ingest.storage.spool import Spool
from ingest.storage.sql import SqlReadings
from ingest.storage.tiered import TieredReadings
from ingest.storage.timeseries import ServerKind
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from tests import postgres, preloaded
from tests.databases import stored, with_tables
from tests.influx import real_server
from tests.rig import eventually

CATALOGUE = catalogue()

pytestmark = [pytest.mark.influx, pytest.mark.fault]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[str, str], "subprocess.Popen[bytes]"]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(url: str, more: str) -> "subprocess.Popen[bytes]":
        settings = tmp_path / f"worker-{len(started)}.toml"
        settings.write_text(f'data = "{tmp_path}"\n[database]\nurl = "{url}"\n{more}')
        with (tmp_path / f"worker-{len(started)}.log").open("wb") as log:
            command = [sys.executable, "-m", "riverchief", "worker", "--settings", str(settings)]
            started.append(preloaded.Popen(command, stdout=log, stderr=log))
        return started[-1]

    yield start
    for one in started:
        if one.poll() is None:
            one.kill()
        one.wait()


@pytest.mark.parametrize("dialect", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
@pytest.mark.timeout(200)
def test_one_worker_forwards_and_another_takes_over_when_it_is_killed(
    dialect: str, tmp_path: Path, worker: Callable[[str, str], "subprocess.Popen[bytes]"]
) -> None:
    direct = real_server(ServerKind.INFLUXDB1).fresh()
    url = f"sqlite:///{tmp_path / 'river.db'}" if dialect == "sqlite" else postgres.server().database()
    database = Database(url)
    with_tables(database)
    with database.write() as connection:
        registry.save(connection, Registry((Station("s", "示例", "example", 113.1, 23.0),), catalogue=CATALOGUE))
    held = Spool(database, CATALOGUE, clock_ms=now_ms, most_bytes=2**30)
    store = TieredReadings(SqlReadings(database, CATALOGUE), CATALOGUE, spool=held)
    written = 0

    def write() -> None:
        nonlocal written
        at = now_ms() - 3_600_000 + written
        stored(database, store, ["s"], {(0, "ph"): ([at], [7.0])})
        written += 1

    settings = f'[influx]\nurl = "{direct.settings.url}"\nkind = "influxdb1"\nbucket = "{direct.settings.bucket}"\n'
    first = worker(url, settings)
    write()
    eventually("the first worker forwards", lambda: held.waiting().entries == 0)
    second = worker(url, settings)
    eventually("the second stands by", lambda: "standing by" in (tmp_path / "worker-1.log").read_text())
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    write()
    eventually("the second takes over", lambda: held.waiting().entries == 0)
    assert "keeping house from now on" in (tmp_path / "worker-1.log").read_text()
    second.terminate()
    assert second.wait(60) == 0
    write()
    assert held.waiting().entries >= 1  # at least the reading: a class may have been judged as the worker left
    list(set_up(direct, Plan(0, 0, 0)))
    with database.write() as connection:
        days = downsampling.schedule_since(connection, ["s"], now_ms() - 3_600_000, now_ms())
    third = worker(url, settings)
    eventually("a third finds the lock free", lambda: held.waiting().entries == 0)

    def computed() -> bool:
        with database.read() as connection:
            return not downsampling.due_days(connection, now_ms(), 10)

    assert days >= 1
    eventually("hours and days are computed", computed)
    third.terminate()
    assert third.wait(60) == 0
    (tables,) = direct.influxql('SELECT sum("ph_count") FROM "daily"."water_daily"')
    assert tables[0].rows[0][1] == written
    assert dict(InfluxReadings(direct, CATALOGUE).count()) == {"s": written}
    database.close()
    direct.close()
