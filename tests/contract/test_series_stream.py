"""Long series leave the API as they are read: complete, in order, in bounded memory, while somebody listens."""

import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
import uvicorn

import governance.tables  # noqa: F401 - names its tables in the metadata
import ingest.storage.tables  # noqa: F401 - the same
from api import exports, series
from api.app import create_app
from api.context import Context
from infra.database import Database
from infra.errors import StorageUnavailable
from infra.texts import same
from ingest.storage import registry as registry_store
from ingest.storage.port import Series
from ingest.storage.sql import SqlReadings
from riverchief.brokers.local import free_port
from sensors.parameters import catalogue
from sensors.reading import Batch, Flag, QualityTest, pack
from sensors.stations import Registry, Station
from tests.databases import with_tables
from tests.postgres import lasting
from tests.rig import eventually
from tests.says import shows

START = 1_746_057_600_000  # 2025-05-01T00:00:00Z
MINUTE = 60_000
ROWS = 86_400  # two months of minutes
END = START + ROWS * MINUTE
MIB = 2**20
CSV, ARROW = "text/csv", "application/vnd.apache.arrow.stream"
SPAN = {"parameter": "do", "start": "2025-05-01T00:00:00Z", "end": "2025-06-30T00:00:00Z"}


def values() -> Any:
    return np.round(7 + 2 * np.sin(np.arange(ROWS) / 229), 3)


@pytest.fixture(scope="module")
def store(dialect: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlReadings]:
    """Two months of minutes of one series, every 1,000th reading a spike."""
    database = Database(lasting(dialect, tmp_path_factory.mktemp("series")))
    with_tables(database)
    known = catalogue()
    with database.write() as connection:
        registry_store.save(connection, Registry((Station("s1", "站一", "station one", 113.1, 23.0),), catalogue=known))
    readings = SqlReadings(database, known)
    flag = np.full(ROWS, Flag.GOOD, np.uint8)
    tests = np.zeros(ROWS, np.uint32)
    flag[::1000], tests[::1000] = Flag.SUSPECT, QualityTest.SPIKE
    code = known.index["do"]
    at, value, packed = START + np.arange(ROWS, dtype=np.int64) * MINUTE, values(), pack(flag, tests)
    zeros = np.zeros(ROWS, np.int32)
    batch = Batch(zeros, np.full(ROWS, code, np.int32), at, value, np.full(ROWS, ord("N"), np.uint8), zeros)
    for begin in range(0, ROWS, 50_000):
        rows = np.arange(begin, min(begin + 50_000, ROWS))
        with database.write() as connection:
            readings.write(connection, ["s1"], batch.take(rows), packed[rows])
    yield readings
    database.close()


class Counting:
    """The store, and how often it was asked for raw readings; from the ``broken_after``th time on it is away."""

    def __init__(self, store: SqlReadings, broken_after: int | None = None) -> None:
        self._store = store
        self._broken_after = broken_after
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def raw(self, *arguments: Any) -> Series:
        self.asked += 1
        if self._broken_after is not None and self.asked > self._broken_after:
            raise StorageUnavailable(same("the database answers: disk I/O error"))
        return self._store.raw(*arguments)


class Served:
    """The API on a port of its own, as a site serves it."""

    def __init__(self, store: SqlReadings, broken_after: int | None = None) -> None:
        self.store = Counting(store, broken_after)
        context = Context(store._database, self.store, catalogue(), "/test", clock_ms=lambda: END, open=True)
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        app = create_app(context)
        self.exports: exports.Exports = app.state.exports
        self._server = uvicorn.Server(
            uvicorn.Config(app, port=port, log_level="critical", timeout_graceful_shutdown=20)
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> "Served":
        self._thread.start()
        eventually("the API listens", lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the server is held by a request"

    def get(self, accept: str, **more: Any) -> httpx.Response:
        path = f"{self.address}/api/v1/stations/s1/series"
        return httpx.get(path, params=SPAN | more, headers={"Accept": accept}, timeout=120)

    def stream(self, accept: str) -> Any:
        path = f"{self.address}/api/v1/stations/s1/series"
        return httpx.stream("GET", path, params=SPAN, headers={"Accept": accept}, timeout=120)


@pytest.mark.both_databases
def test_months_of_minutes_are_complete_and_the_same_as_csv_and_as_arrow(store: SqlReadings) -> None:
    with Served(store) as api:
        table = pl.read_ipc_stream(api.get(ARROW).content)
        lines = api.get(CSV).text.splitlines()
    assert len(table) == len(lines) - 1 == ROWS
    assert np.array_equal(table["value"].to_numpy(), values())
    at = table["at"].cast(pl.Int64).to_numpy()
    assert np.array_equal(at, START + np.arange(ROWS, dtype=np.int64) * MINUTE)
    cells = [line.split(",") for line in lines[1:]]
    assert [float(row[1]) for row in cells] == values().tolist()
    assert [row[3] for row in cells] == table["flag"].to_list()
    assert [row[4].split() for row in cells] == table["tests"].to_list()
    assert [row[0] for row in cells[:2]] == ["2025-05-01T00:00:00Z", "2025-05-01T00:01:00Z"]
    assert (cells[0][3], cells[0][4]) == ("suspect", "spike")


@pytest.mark.parametrize("form", ["csv", "arrow"])
def test_the_memory_of_a_long_series_does_not_grow_with_its_length(store: SqlReadings, form: str) -> None:
    what = catalogue()["do"]

    def peak(rows: int) -> float:
        found = series.pieces(store, "s1", "do", START, START + rows * MINUTE)
        sent = series.csv_of(what, found) if form == "csv" else series.arrow_of("s1", what, found)
        tracemalloc.start()
        size = sum(len(piece) for piece in sent)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size > rows * 15
        return most / MIB

    peak(20_000)  # what is imported and remembered once
    short, long = peak(20_000), peak(80_000)
    assert long < 1.5 * short, (short, long)
    assert long < 16


def test_with_points_a_table_is_thinned_as_json_is(store: SqlReadings) -> None:
    with Served(store) as api:
        thinned = api.get(CSV, points=12).text.splitlines()
        assert len(thinned) == 13
        assert thinned[0].endswith(",min,max,count")
        assert api.get("application/json").json()["bucket_ms"] is not None


@pytest.mark.parametrize("accept", [CSV, ARROW])
def test_a_client_that_leaves_half_way_frees_the_server(store: SqlReadings, accept: str) -> None:
    with Served(store) as api:
        with api.stream(accept) as response:
            assert response.status_code == 200
            next(response.iter_bytes(1000))
        left = eventually("nothing more is read for nobody", lambda: _settled(api.store))
        assert left < ROWS // series.ROWS, "the whole series was read for somebody who had gone"
        eventually("its place is free", lambda: api.exports.open == 0)
        assert httpx.get(f"{api.address}/healthz", timeout=60).status_code == 200


def test_people_are_answered_while_exports_are_under_way_and_one_more_export_is_told_to_wait(
    store: SqlReadings, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, raw = threading.Event(), SqlReadings.raw

    def held_up(self: SqlReadings, station: str, parameter: str, start_ms: int, *more: Any) -> Series:
        if start_ms > START and more[-1] == series.ROWS:  # a piece, and not the first one
            assert go.wait(60)
        return raw(self, station, parameter, start_ms, *more)

    monkeypatch.setattr(SqlReadings, "raw", held_up)
    with Served(store) as api, ThreadPoolExecutor(exports.MAX_EXPORTS) as pool:
        under_way = [pool.submit(api.get, accept) for accept in (CSV, ARROW) * (exports.MAX_EXPORTS // 2)]
        eventually("all have begun", lambda: api.exports.open == exports.MAX_EXPORTS)
        for path in ("/", "/api/v1/stations", "/api/v1/stations/s1/series?parameter=do"):
            assert httpx.get(f"{api.address}{path}", timeout=60, follow_redirects=True).status_code == 200, path
        refused = api.get(CSV)
        assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (503, True)
        assert shows(refused.json()["detail"], "request.exports_busy", count=exports.MAX_EXPORTS)
        go.set()
        assert [one.result(120).status_code for one in under_way] == [200] * exports.MAX_EXPORTS
        assert len(under_way[0].result().text.splitlines()) == ROWS + 1
        eventually("all places are free", lambda: api.exports.open == 0)
        assert api.get(CSV).status_code == 200


def _settled(store: Counting) -> int | None:
    """How often the store was asked, once that does not grow any more."""
    before = store.asked
    threading.Event().wait(0.5)
    return before if store.asked == before else None


def test_a_store_that_is_away_at_the_start_is_a_503_and_later_a_broken_answer_never_a_short_one(
    store: SqlReadings,
) -> None:
    with Served(store, broken_after=0) as api:
        assert api.get(CSV).status_code == 503
    with Served(store, broken_after=3) as api, pytest.raises(httpx.RemoteProtocolError):
        api.get(CSV)


def test_a_time_with_milliseconds_keeps_them_beside_times_without(store: SqlReadings) -> None:
    what = catalogue()["do"]
    minute = Series(*(np.array([v]) for v in (START, 7.0, 7.0, 7.0, 1, 1)), None)
    moment = Series(*(np.array([v]) for v in (START + 61_234, 7.0, 7.0, 7.0, 1, 1)), None)
    lines = b"".join(series.csv_of(what, [minute, moment, minute])).decode().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [
        "2025-05-01T00:00:00Z",
        "2025-05-01T00:01:01.234Z",
        "2025-05-01T00:00:00.000Z",
    ]
