"""``bench store``: insert, newest of all stations, a month thinned, bytes a reading.

Batches as the ingest writes them, each committed and synced. The same batches are written once more with the spool of
a time-series server beside them, so that the cost of feeding one is a ratio of the same run; where InfluxDB 1.x is
installed, how fast the spool empties into it is measured, too.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from infra.clock import now_ms
from infra.database import Database
from infra.texts import line, say
from infra.times import DAY_MS
from ingest.forward import Forwarder
from ingest.storage.port import series
from ingest.storage.spool import Spool
from ingest.storage.sql import SqlReadings
from ingest.storage.tiered import TieredReadings
from ingest.storage.timeseries import ServerKind, ServerSettings, TimeSeriesServer
from sensors.parameters import catalogue
from sensors.reading import PLAIN, Batch
from tools.bench.load import BASE
from tools.bench.rig import BUCKET, BenchFailed, Plan, database, influxdb1, machine, wait_for

CATALOGUE = catalogue()
ROWS = 2000
"""Instants of one batch, as many as the messages of a full batch of the ingest."""
MONTH_MS = 30 * DAY_MS
POINTS = 500
SPOOLED = 2_000_000
"""Readings the spool is measured with."""


def run(plan: Plan, console: Console) -> dict[str, Any]:
    """The figures, machine and versions; raises BenchFailed when a reading is missing at the end."""
    with tempfile.TemporaryDirectory(prefix="riverchief-bench-") as name:
        folder = Path(name)
        with console.status(line("bench.writing", readings=plan.readings)):
            figures = _database(folder / "plain", plan)
        with console.status(line("bench.spooling")):
            figures |= _spooled(folder, plan)
    return {"bench": "store", "machine": machine(), "stations": plan.stations, **figures}


def _database(folder: Path, plan: Plan) -> dict[str, Any]:
    folder.mkdir()
    db = database(folder, plan.stations)
    store = SqlReadings(db, CATALOGUE)
    readings, seconds = _fill(db, store, plan, plan.readings)
    end_ms = write_month(db, store, plan.stations)
    stored = sum(store.count().values())
    if stored != readings + 30 * 1440 * len(BASE):
        raise BenchFailed(say("bench.stored", stored=stored, readings=readings))
    with db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    size = (folder / "riverchief.db").stat().st_size
    fresh = SqlReadings(db, CATALOGUE)
    month = _best_ms(lambda: series(fresh, "bench-0", "do", end_ms - MONTH_MS, end_ms, POINTS))
    latest = _best_ms(fresh.latest)
    db.close()
    return {
        "readings": stored,
        "insert_readings_per_s": round(readings / seconds),
        "latest_ms": latest,
        "month_thinned_ms": month,
        "bytes_per_reading": round(size / stored, 2),
    }


def _spooled(folder: Path, plan: Plan) -> dict[str, Any]:
    """The same batches without and with the spool, and how fast it empties."""
    wanted = min(plan.readings, SPOOLED)
    rates = {}
    for name in ("alone", "spooled"):
        (folder / name).mkdir()
        db = database(folder / name, plan.stations)
        spool = Spool(db, CATALOGUE, clock_ms=now_ms, most_bytes=2**40)
        store = TieredReadings(SqlReadings(db, CATALOGUE), CATALOGUE, spool=spool if name == "spooled" else None)
        readings, seconds = _fill(db, store, plan, wanted)
        rates[name] = readings / seconds
        if name == "alone":
            db.close()
    waiting = spool.waiting()
    found: dict[str, Any] = {
        "insert_with_spool_share": round(rates["spooled"] / rates["alone"], 3),
        "spool_bytes_per_reading": round(waiting.bytes / waiting.rows, 2),
    }
    with _server(folder / "influxdb1") as server:
        if server is not None:
            found["forward_readings_per_s_influxdb1"] = round(_emptied(folder / "copy-influxdb1", db, server))
    db.close()
    return found


def _emptied(folder: Path, source: Database, server: TimeSeriesServer) -> float:
    """Readings a second from a copy of the spool into the server, each request read back."""
    folder.mkdir()
    with source.engine.connect() as connection:
        connection.exec_driver_sql("VACUUM INTO ?", (str(folder / "riverchief.db"),))
    db = Database(f"sqlite:///{folder / 'riverchief.db'}")
    spool = Spool(db, CATALOGUE, clock_ms=now_ms, most_bytes=2**40)
    waiting = spool.waiting()
    forwarder = Forwarder(db, spool, server, CATALOGUE, clock_ms=now_ms)
    began = time.perf_counter()
    forwarder.start()
    wait_for("the spool did not empty", lambda: spool.waiting().entries == 0, 600)
    seconds = time.perf_counter() - began
    forwarder.stop()
    db.close()
    if forwarder.state.refused_lines:
        raise BenchFailed(say("bench.refused", refused_lines=forwarder.state.refused_lines))
    return waiting.rows / seconds


def _fill(db: Database, store: TieredReadings | SqlReadings, plan: Plan, wanted: int) -> tuple[int, float]:
    """Write ``wanted`` readings in full batches, a minute apart at each station; how many, and the seconds it took."""
    start_ms = now_ms() // 60_000 * 60_000 - 60_000 * (wanted // (plan.stations * len(BASE)) + 2)
    batches = max(1, wanted // (ROWS * len(BASE)))
    seconds = write_batches(db, store, plan.stations, range(batches), start_ms)
    return batches * ROWS * len(BASE), seconds


def write_batches(
    db: Database,
    store: TieredReadings | SqlReadings,
    stations: int,
    numbers: range,
    start_ms: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Write these batches of ``ROWS`` instants, each committed; what the clock counted meanwhile."""
    names = [f"bench-{i}" for i in range(stations)]
    codes = np.array([CATALOGUE.index[key] for key in BASE], np.int32)
    rng = np.random.default_rng(numbers.start)
    base = np.array(list(BASE.values()))
    seconds = 0.0
    for number in numbers:
        row = np.arange(number * ROWS, (number + 1) * ROWS)
        values = (base * (1 + rng.normal(0, 0.01, (ROWS, len(base))))).round(3)
        batch = Batch.of(
            np.repeat(row % stations, len(base)).tolist(),
            np.tile(codes, ROWS).tolist(),
            np.repeat(start_ms + row // stations * 60_000, len(base)).tolist(),
            values.ravel().tolist(),
        )
        packed = np.full(len(batch), PLAIN, np.int64)
        began = clock()
        with db.write() as connection:
            store.write(connection, names, batch, packed)
        seconds += clock() - began
    return seconds


def write_month(db: Database, store: SqlReadings, stations: int) -> int:
    """A month of minutes before everything else at the first station; the instant it ends."""
    names = [f"bench-{i}" for i in range(stations)]
    end_ms = now_ms() // 60_000 * 60_000 - 400 * DAY_MS
    at = np.arange(end_ms - MONTH_MS, end_ms, 60_000)
    for key, value in BASE.items():
        wave = (value * (1 + 0.1 * np.sin(at / 7e6))).round(3)
        batch = Batch.of([0] * len(at), [CATALOGUE.index[key]] * len(at), at.tolist(), wave.tolist())
        with db.write() as connection:
            store.write(connection, names, batch, np.full(len(at), PLAIN, np.int64))
    return end_ms


def _best_ms(ask: Callable[[], object], times: int = 5) -> float:
    """The shortest of some runs, ms."""
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        ask()
        best = min(best, time.perf_counter() - began)
    return round(best * 1000, 1)


@contextmanager
def _server(folder: Path) -> Iterator[TimeSeriesServer | None]:
    """A server of its own on a loopback port; None where it is not installed."""
    with influxdb1(folder) as influx:
        if influx is None:
            yield None
            return
        with TimeSeriesServer(ServerSettings(influx.url, ServerKind.INFLUXDB1, bucket=BUCKET, timeout_s=60)) as server:
            yield server
