"""What every reading store promises (:class:`ingest.storage.port.ReadingStore`): one suite, every adapter."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import governance.tables  # noqa: F401
import ingest.storage.tables  # noqa: F401
from infra.database import Database
from ingest.state.recent_readings import RecentReadings
from ingest.storage import registry
from ingest.storage.influx import InfluxReadings
from ingest.storage.port import Latest, ReadingStore, Series, Window, gaps, series
from ingest.storage.sql import SqlReadings
from ingest.storage.timeseries import ServerKind, TimeSeriesServer
from sensors.parameters import catalogue
from sensors.reading import PLAIN, Batch, Flag, Ints, QualityTest, pack
from sensors.stations import Registry, Station
from tests.databases import with_tables
from tests.influx import real_server
from tests.postgres import fresh

T0 = 1_790_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
CATALOGUE = catalogue()
STATIONS = ("shiwan", "qicha-1", "1-lake")


@lru_cache(maxsize=4)
def server_beside(database: Database, kind: ServerKind) -> TimeSeriesServer:
    """An empty database on the time-series server, the same one for as long as the shelf stands."""
    return real_server(kind).fresh()


ADAPTERS: dict[str, Callable[[Database], ReadingStore]] = {
    "sqlite": lambda d: SqlReadings(d, CATALOGUE),
    "postgresql": lambda d: SqlReadings(d, CATALOGUE),
    "influxdb1": lambda d: InfluxReadings(server_beside(d, ServerKind.INFLUXDB1), CATALOGUE),
}
SERVERS = {"postgresql": pytest.mark.postgres, "influxdb1": pytest.mark.influx}
EVERY = [pytest.param(name, marks=SERVERS.get(name, ())) for name in ADAPTERS]

OUTSIDE = "the store is another server: it is durable when write returns, the database's transaction does not bind it"
EXEMPT = {
    ("influxdb1", "test_a_transaction_rolled_back_leaves_no_reading_and_the_next_one_succeeds"): OUTSIDE,
}
"""(adapter, test) → why that adapter need not pass it."""

SUSPECT = int(Flag.SUSPECT) | int(QualityTest.SPIKE) << 4
BAD = int(Flag.BAD) | int(QualityTest.SENTINEL) << 4
UNKNOWN = int(Flag.UNKNOWN)

Key = tuple[str, str, int]


class Shelf:
    """A store of its own, written to and read from in words."""

    def __init__(self, folder: Path, adapter: str) -> None:
        self.database = Database(fresh("postgresql" if adapter == "postgresql" else "sqlite", folder))
        with_tables(self.database)
        with self.database.write() as connection:
            stations = tuple(Station(key, key, key, 113.1, 23.0) for key in STATIONS)
            registry.save(connection, Registry(stations, catalogue=CATALOGUE))
        self._adapter = ADAPTERS[adapter]
        self.store = self._adapter(self.database)

    def open_again(self) -> ReadingStore:
        """The same content through an adapter that remembers nothing."""
        self.store = self._adapter(self.database)
        return self.store

    def write(self, readings: Mapping[Key, float], marks: Mapping[Key, int] | None = None) -> None:
        batch, packed = _batch(readings, marks or {})
        with self.database.write() as connection:
            self.store.write(connection, STATIONS, batch, packed)

    def reflag(self, marks: Mapping[Key, int]) -> None:
        batch, packed = _batch(dict.fromkeys(marks, 0.0), marks)
        with self.database.write() as connection:
            self.store.reflag(connection, STATIONS, batch, packed)

    def everything(self) -> dict[Key, tuple[float, int]]:
        found = {}
        for station in STATIONS:
            for (parameter, at), content in rows(self.store.window(station, 0, 2**53)).items():
                found[station, parameter, at] = content
        return found


def _batch(readings: Mapping[Key, float], marks: Mapping[Key, int]) -> tuple[Batch, Ints]:
    keys = list(readings)
    batch = Batch.of(
        [STATIONS.index(station) for station, _, _ in keys],
        [CATALOGUE.index[parameter] for _, parameter, _ in keys],
        [at for _, _, at in keys],
        list(readings.values()),
    )
    return batch, np.array([marks.get(key, PLAIN) for key in keys], np.int64)


def rows(window: Window) -> dict[tuple[str, int], tuple[float, int]]:
    keys = [(CATALOGUE.parameters[p].key, at) for p, at in zip(window.parameter, window.at.tolist(), strict=True)]
    assert len(set(keys)) == len(keys), "a key occurs twice"
    order = list(zip(window.parameter.tolist(), window.at.tolist(), strict=True))
    assert order == sorted(order), "a window is sorted by (parameter, at)"
    return dict(zip(keys, zip(window.value.tolist(), window.packed.tolist(), strict=True), strict=True))


def columns(series: Series) -> list[tuple[float, ...]]:
    parts = (series.at, series.value, series.low, series.high, series.count, series.packed)
    return list(zip(*(part.tolist() for part in parts), strict=True))


@pytest.fixture(params=EVERY)
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    if reason := EXEMPT.get((request.param, request.function.__name__)):
        pytest.skip(reason)
    shelf = Shelf(tmp_path, request.param)
    yield shelf
    shelf.database.close()


def test_a_reading_written_is_read_back_to_the_last_digit_and_the_millisecond(shelf: Shelf):
    content = {("shiwan", "ph", T0 + 1): 7.1 + 1e-15, ("shiwan", "do", T0 + 1): 1 / 3, ("qicha-1", "ph", T0): -1e300}
    shelf.write(content, {("shiwan", "do", T0 + 1): SUSPECT})
    expected = {key: (value, SUSPECT if key[1] == "do" else PLAIN) for key, value in content.items()}
    assert shelf.everything() == expected
    shelf.open_again()
    assert shelf.everything() == expected


def test_what_was_read_at_once_and_what_is_older_together_are_what_the_store_has(shelf: Shelf):
    minutes = [T0 + i * MINUTE for i in range(9)]
    shelf.write({("shiwan", key, at): at / MINUTE for key in ("do", "ph") for at in minutes})
    recent = RecentReadings(shelf.store, CATALOGUE, "shiwan", minutes[4], minutes[6])
    for parameters in (None, ["do"]):
        for first in range(9):
            for last in range(first, 9):
                window = minutes[first], minutes[last], parameters
                found = rows(recent.window(*window))
                assert found == rows(shelf.store.window("shiwan", *window)), window
                assert {at for _, at in found} == set(minutes[first : last + 1]), window


def test_an_empty_batch_changes_nothing(shelf: Shelf):
    shelf.write({})
    shelf.reflag({})
    assert shelf.everything() == {}
    assert dict(shelf.store.count()) == {}


def test_the_same_reading_written_again_is_one_reading_with_the_newer_value_and_flag(shelf: Shelf):
    key = ("shiwan", "ph", T0)
    shelf.write({key: 7.0}, {key: SUSPECT})
    shelf.write({key: 7.5})
    assert shelf.everything() == {key: (7.5, PLAIN)}
    shelf.write({key: 7.25}, {key: BAD})
    assert shelf.everything() == {key: (7.25, BAD)}
    assert dict(shelf.store.count()) == {"shiwan": 1}


def test_ammonia_that_comes_later_joins_the_five_parameters_of_its_instant(shelf: Shelf):
    five = {("shiwan", p, T0): i + 0.5 for i, p in enumerate(("water_temp", "ph", "do", "conductivity", "turbidity"))}
    shelf.write(five, {("shiwan", "do", T0): BAD})
    shelf.write({("shiwan", "nh3n", T0): 0.87}, {("shiwan", "nh3n", T0): SUSPECT})
    expected = {key: (value, BAD if key[1] == "do" else PLAIN) for key, value in five.items()}
    assert shelf.everything() == {**expected, ("shiwan", "nh3n", T0): (0.87, SUSPECT)}
    assert dict(shelf.store.count()) == {"shiwan": 6}


def test_one_batch_may_hold_other_parameters_for_every_station_and_instant(shelf: Shelf):
    content = {
        ("shiwan", "ph", T0): 7.0,
        ("shiwan", "do", T0 + MINUTE): 6.0,
        ("qicha-1", "do", T0): 5.0,
        ("1-lake", "nh3n", T0 + MINUTE): 1.0,
        ("1-lake", "ph", T0): 8.0,
    }
    shelf.write(content)
    assert shelf.everything() == {key: (value, PLAIN) for key, value in content.items()}
    assert dict(shelf.store.count()) == {"shiwan": 2, "qicha-1": 1, "1-lake": 2}


def test_another_verdict_changes_the_flag_and_never_the_value(shelf: Shelf):
    shelf.write({("shiwan", "ph", T0): 7.0, ("shiwan", "do", T0): 5.0, ("shiwan", "ph", T0 + MINUTE): 7.1})
    shelf.reflag({("shiwan", "ph", T0): SUSPECT})
    assert shelf.everything() == {
        ("shiwan", "ph", T0): (7.0, SUSPECT),
        ("shiwan", "do", T0): (5.0, PLAIN),
        ("shiwan", "ph", T0 + MINUTE): (7.1, PLAIN),
    }
    shelf.reflag({("shiwan", "ph", T0): PLAIN, ("shiwan", "do", T0): BAD, ("shiwan", "ph", T0 + MINUTE): UNKNOWN})
    assert {key: mark for key, (_, mark) in shelf.everything().items()} == {
        ("shiwan", "ph", T0): PLAIN,
        ("shiwan", "do", T0): BAD,
        ("shiwan", "ph", T0 + MINUTE): UNKNOWN,
    }


def test_a_verdict_on_a_reading_that_is_not_there_makes_none(shelf: Shelf):
    shelf.write({("shiwan", "ph", T0): 7.0, ("qicha-1", "do", T0): 5.0})
    shelf.reflag({("shiwan", "do", T0): BAD, ("shiwan", "ph", T0 + 1): BAD})
    assert shelf.everything() == {("shiwan", "ph", T0): (7.0, PLAIN), ("qicha-1", "do", T0): (5.0, PLAIN)}
    shelf.write({("shiwan", "do", T0): 5.5})
    assert shelf.everything()["shiwan", "do", T0] == (5.5, PLAIN)


def test_a_flag_with_all_tests_survives_the_store(shelf: Shelf):
    every = int(pack(np.array([Flag.MISSING], np.uint8), np.array([sum(QualityTest)], np.uint32))[0])
    shelf.write({("shiwan", "ph", T0): 7.0}, {("shiwan", "ph", T0): every})
    assert shelf.everything()["shiwan", "ph", T0] == (7.0, every)


def test_a_transaction_rolled_back_leaves_no_reading_and_the_next_one_succeeds(shelf: Shelf):
    batch, packed = _batch({("shiwan", "ph", T0): 7.0, ("shiwan", "chla", T0): 7.0}, {})

    def fail() -> None:
        with shelf.database.write() as connection:
            shelf.store.write(connection, STATIONS, batch, packed)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    shelf.store.forget()
    assert shelf.everything() == {}
    assert shelf.store.latest() == []
    assert len(shelf.store.before("shiwan", "chla", T0 + 1, 9)) == 0
    shelf.write({("shiwan", "ph", T0): 7.0, ("shiwan", "chla", T0): 3.0})
    assert {row.parameter for row in shelf.store.latest()} == {"ph", "chla"}
    assert dict(shelf.store.newest("shiwan")) == {"ph": T0, "chla": T0}


def test_newest_is_the_newest_observed_of_each_parameter_whatever_its_flag(shelf: Shelf):
    shelf.write({("shiwan", "ph", T0 + HOUR): 7.0, ("shiwan", "do", T0): 5.0})
    shelf.write({("shiwan", "ph", T0): 7.0, ("shiwan", "do", T0 + 1): 5.0}, {("shiwan", "do", T0 + 1): BAD})
    assert dict(shelf.store.newest("shiwan")) == {"ph": T0 + HOUR, "do": T0 + 1}
    assert dict(shelf.store.newest("qicha-1")) == {}


def test_a_window_includes_both_ends_and_nothing_beyond(shelf: Shelf):
    shelf.write({("shiwan", "ph", T0 + i): float(i) for i in range(5)})
    assert list(rows(shelf.store.window("shiwan", T0 + 1, T0 + 3))) == [("ph", T0 + i) for i in (1, 2, 3)]
    assert list(rows(shelf.store.window("shiwan", T0 + 2, T0 + 2))) == [("ph", T0 + 2)]
    assert len(shelf.store.window("shiwan", T0 + 3, T0 + 2)) == 0


def test_a_window_may_be_limited_to_parameters(shelf: Shelf):
    shelf.write({("shiwan", p, T0 + i): 1.0 for p in ("ph", "do", "nh3n", "as") for i in range(2)})
    names = {p for p, _ in rows(shelf.store.window("shiwan", T0, T0 + 9, ["nh3n", "ph", "tp", "no such"]))}
    assert names == {"ph", "nh3n"}
    assert len(shelf.store.window("shiwan", T0, T0 + 9, [])) == 0


def test_before_gives_the_newest_earlier_readings_oldest_first_and_not_the_moment_itself(shelf: Shelf):
    shelf.write({("shiwan", "ph", T0 + i * MINUTE): float(i) for i in range(10)})
    shelf.write({("shiwan", "do", T0 + i): 5.0 for i in range(10)})
    found = rows(shelf.store.before("shiwan", "ph", T0 + 5 * MINUTE, 3))
    assert {at: value for (_, at), (value, _) in found.items()} == {T0 + i * MINUTE: float(i) for i in (2, 3, 4)}
    assert len(shelf.store.before("shiwan", "ph", T0 + 5 * MINUTE, 100)) == 5
    assert len(shelf.store.before("shiwan", "ph", T0, 3)) == 0


def test_a_parameter_that_another_process_stores_first_is_read_at_once(shelf: Shelf):
    writing, reading = shelf.store, shelf.open_again()
    shelf.store = writing
    assert len(reading.before("shiwan", "nh3n", T0 + 1, 9)) == 0
    shelf.write({("shiwan", "nh3n", T0): 1.0})
    assert rows(reading.before("shiwan", "nh3n", T0 + 1, 9)) == {("nh3n", T0): (1.0, PLAIN)}
    shelf.write({("shiwan", "ph", T0): 7.0})
    assert rows(reading.window("shiwan", T0, T0, ["ph"])) == {("ph", T0): (7.0, PLAIN)}


def test_latest_goes_by_the_time_observed_and_not_by_the_order_of_arrival(shelf: Shelf):
    shelf.write({("shiwan", "ph", T0 + HOUR): 7.5})
    shelf.write({("shiwan", "ph", T0): 7.0})
    assert shelf.store.latest() == [Latest("shiwan", "ph", T0 + HOUR, 7.5, PLAIN, T0 + HOUR)]


def test_latest_skips_readings_nobody_may_rest_on_and_tells_how_old_they_are(shelf: Shelf):
    content = {("shiwan", "ph", T0 + i): float(i) for i in range(5)}
    marks = {("shiwan", "ph", T0 + i): mark for i, mark in ((2, UNKNOWN), (3, SUSPECT), (4, BAD))}
    shelf.write(content, marks)
    assert shelf.store.latest() == [Latest("shiwan", "ph", T0 + 2, 2.0, UNKNOWN, T0 + 4)]
    shelf.reflag({("shiwan", "ph", T0 + 3): PLAIN})
    assert shelf.store.latest() == [Latest("shiwan", "ph", T0 + 3, 3.0, PLAIN, T0 + 4)]


def test_a_series_without_any_usable_reading_has_a_newest_and_no_latest(shelf: Shelf):
    shelf.write({("shiwan", "ph", T0): -9999.0}, {("shiwan", "ph", T0): BAD})
    (row,) = shelf.store.latest()
    assert (row.station, row.parameter, row.at_ms, row.value, row.newest_at_ms) == ("shiwan", "ph", None, None, T0)


def test_latest_may_be_asked_for_some_stations_only(shelf: Shelf):
    shelf.write({(station, p, T0): 1.0 for station in STATIONS for p in ("ph", "do")})
    found = shelf.store.latest(["1-lake", "shiwan", "nobody"])
    assert [(row.station, row.parameter) for row in found] == [
        (station, parameter) for station in ("1-lake", "shiwan") for parameter in ("do", "ph")
    ]
    assert shelf.store.latest([]) == []
    assert len(shelf.store.latest()) == 6


def test_a_short_series_is_told_reading_by_reading_whatever_its_flag(shelf: Shelf):
    shelf.write({("shiwan", "ph", T0 + i): i / 2 for i in range(6)}, {("shiwan", "ph", T0 + 2): BAD})
    found = series(shelf.store, "shiwan", "ph", T0 + 1, T0 + 4, 3)
    assert found.bucket_ms is None
    assert columns(found) == [
        (T0 + i, i / 2, i / 2, i / 2, 1, mark) for i, mark in ((1, PLAIN), (2, BAD), (3, PLAIN))
    ], "start is included, end is not"


def test_a_long_series_is_thinned_to_mean_extremes_and_count_of_its_usable_readings(shelf: Shelf):
    spike = int(Flag.SUSPECT) | int(QualityTest.SPIKE | QualityTest.RATE_OF_CHANGE) << 4
    flat = int(Flag.SUSPECT) | int(QualityTest.FLAT_LINE) << 4
    content = {("shiwan", "ph", T0 + i * MINUTE): float(v) for i, v in enumerate((1, 2, 90, -90, 5, 6, 7, 8))}
    content |= {("shiwan", "ph", T0 + (20 + i) * MINUTE): 50.0 for i in range(2)}
    marks = {("shiwan", "ph", T0 + i * MINUTE): m for i, m in ((2, spike), (3, BAD), (7, flat), (20, BAD), (21, BAD))}
    shelf.write(content, marks)
    found = series(shelf.store, "shiwan", "ph", T0, T0 + 24 * MINUTE, 6)
    assert found.bucket_ms == 4 * MINUTE
    worst = int(Flag.BAD) | int(QualityTest.SPIKE | QualityTest.RATE_OF_CHANGE | QualityTest.SENTINEL) << 4
    first, second, third = columns(found)
    assert first == (T0, 1.5, 1.0, 2.0, 2, worst), "the flags of a bucket are merged, its bad readings are left out"
    assert second == (T0 + 4 * MINUTE, 6.0, 5.0, 7.0, 3, flat)
    assert (third[0], third[4], third[5]) == (T0 + 20 * MINUTE, 0, BAD), "the buckets of the gap are absent"
    assert np.isnan(third[1:4]).all()


def test_nobody_asks_for_a_series_without_room(shelf: Shelf):
    for start, end, points in ((T0, T0 + 1, 0), (T0, T0, 5), (T0 + 1, T0, 5)):
        with pytest.raises(ValueError, match="series"):
            series(shelf.store, "shiwan", "ph", start, end, points)


def test_gaps_are_told_with_the_ends_of_the_range(shelf: Shelf):
    shelf.write({("shiwan", "ph", T0 + i * MINUTE): 7.0 for i in (10, 11, 12, 20, 21)})
    shelf.write({("shiwan", "do", T0 + i * MINUTE): 7.0 for i in range(60)})
    found = gaps(shelf.store, "shiwan", "ph", T0, T0 + 30 * MINUTE, 2 * MINUTE)
    minutes = [((a - T0) // MINUTE, (b - T0) // MINUTE) for a, b in found]
    assert minutes == [(0, 10), (12, 20), (21, 30)]
    assert gaps(shelf.store, "shiwan", "ph", T0, T0 + 30 * MINUTE, 8 * MINUTE) == [
        (T0, T0 + 10 * MINUTE),
        (T0 + 21 * MINUTE, T0 + 30 * MINUTE),
    ], "a pause of exactly the limit is none"
    assert gaps(shelf.store, "shiwan", "tp", T0, T0 + HOUR, MINUTE) == [(T0, T0 + HOUR)]


def test_count_counts_readings_and_not_instants(shelf: Shelf):
    shelf.write({("shiwan", "ph", T0): 7.0, ("shiwan", "do", T0): 5.0, ("shiwan", "ph", T0 + 1): 7.0})
    shelf.write({("1-lake", "ph", T0): -9999.0}, {("1-lake", "ph", T0): BAD})
    assert dict(shelf.store.count()) == {"shiwan": 3, "1-lake": 1}
    assert dict(shelf.store.count(["1-lake", "qicha-1"])) == {"1-lake": 1}


@pytest.mark.parametrize("stored", [False, True], ids=["an empty store", "a store with others"])
def test_an_unknown_station_or_parameter_has_empty_answers(shelf: Shelf, stored: bool):
    if stored:
        shelf.write({("shiwan", "ph", T0): 7.0})
    store = shelf.store
    for station, parameter in (("nobody", "ph"), ("qicha-1", "ph"), ("shiwan", "tp"), ("shiwan", "no such"), ("", "")):
        assert len(store.window(station, 0, 2**53, [parameter])) == 0
        assert len(store.before(station, parameter, 2**53, 5)) == 0
        assert len(series(store, station, parameter, 0, 2**53, 5).at) == 0
        assert gaps(store, station, parameter, 0, 9, 10) == []
    assert len(store.window("nobody", 0, 2**53)) == 0
    assert dict(store.newest("nobody")) == {}
    assert store.latest(["nobody"]) == []
    assert dict(store.count(["nobody"])) == {}


@pytest.mark.parametrize("parameter", ["do", "as", "f", "cn"])
def test_a_parameter_whose_key_is_a_word_of_the_query_language_is_one_like_any_other(shelf: Shelf, parameter: str):
    here = {("shiwan", parameter, T0 + i): float(i) for i in range(4)}
    shelf.write(here, {("shiwan", parameter, T0 + 3): BAD})
    shelf.reflag({("shiwan", parameter, T0): SUSPECT})
    store = shelf.open_again()
    assert shelf.everything() == {
        key: (value, {T0: SUSPECT, T0 + 3: BAD}.get(key[2], PLAIN)) for key, value in here.items()
    }
    assert dict(store.newest("shiwan")) == {parameter: T0 + 3}
    assert store.latest() == [Latest("shiwan", parameter, T0 + 2, 2.0, PLAIN, T0 + 3)]
    assert len(store.before("shiwan", parameter, T0 + 3, 9)) == 3
    assert series(store, "shiwan", parameter, T0, T0 + 4, 2).count.tolist() == [1, 1]
    assert dict(store.count()) == {"shiwan": 4}


# -- properties ------------------------------------------------------------------------------------------------------

READING = st.tuples(
    st.sampled_from(STATIONS),
    st.sampled_from(("ph", "do", "nh3n", "as")),
    st.integers(0, 6).map(lambda i: T0 + i * MINUTE),
)
MARK = st.sampled_from((PLAIN, UNKNOWN, SUSPECT, BAD))
VALUE = st.floats(-1e6, 1e6, allow_nan=False)
WRITE = st.dictionaries(READING, st.tuples(VALUE, MARK), max_size=12)


@pytest.mark.parametrize("adapter", EVERY)
@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.booleans(), WRITE), max_size=6))
def test_whatever_is_written_in_whatever_order_the_content_is_that_of_a_dictionary(
    adapter: str, steps: Sequence[tuple[bool, Mapping[Key, tuple[float, int]]]]
):
    truth: dict[Key, tuple[float, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder), adapter)
        for is_write, readings in steps:
            marks = {key: mark for key, (_, mark) in readings.items()}
            if is_write:
                shelf.write({key: value for key, (value, _) in readings.items()}, marks)
                truth |= readings
            else:
                shelf.reflag({key: mark for key, mark in marks.items() if key in truth})
                truth |= {key: (truth[key][0], mark) for key, mark in marks.items() if key in truth}
        assert shelf.everything() == truth
        by_series: dict[tuple[str, str], list[int]] = {}
        for station, parameter, at in truth:
            by_series.setdefault((station, parameter), []).append(at)
        for station in STATIONS:
            expected = {p: max(ats) for (s, p), ats in by_series.items() if s == station}
            assert dict(shelf.store.newest(station)) == expected
        for row in shelf.store.latest():
            usable = [
                at for at in by_series[row.station, row.parameter] if truth[row.station, row.parameter, at][1] < 3
            ]
            assert row.newest_at_ms == max(by_series[row.station, row.parameter])
            assert row.at_ms == max(usable, default=None)
            if usable:
                assert (row.value, row.packed) == truth[row.station, row.parameter, max(usable)]
        assert {(row.station, row.parameter) for row in shelf.store.latest()} == set(by_series)
        counts: dict[str, int] = {}
        for station, _, _ in truth:
            counts[station] = counts.get(station, 0) + 1
        assert dict(shelf.store.count()) == counts
        shelf.database.close()


@pytest.mark.parametrize("adapter", EVERY)
@settings(max_examples=10, deadline=None)
@given(
    st.dictionaries(st.integers(0, 400), st.tuples(st.floats(-50, 50), MARK), min_size=1, max_size=60),
    st.integers(1, 20),
    st.integers(0, 50),
    st.integers(60, 420),
)
def test_a_thinned_series_keeps_count_extremes_and_mean_of_what_is_usable(
    adapter: str, readings: Mapping[int, tuple[float, int]], points: int, start: int, end: int
):
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder), adapter)
        content = {("shiwan", "do", T0 + at): value for at, (value, _) in readings.items()}
        shelf.write(content, {("shiwan", "do", T0 + at): mark for at, (_, mark) in readings.items()})
        inside = {at: content for at, content in readings.items() if start <= at < end}
        found = series(shelf.store, "shiwan", "do", T0 + start, T0 + end, points)
        shelf.database.close()
    assert len(found.at) <= points + 1
    assert np.all(np.diff(found.at) > 0)
    if len(inside) <= points:
        assert found.bucket_ms is None
        assert columns(found) == [(T0 + at, v, v, v, 1, mark) for at, (v, mark) in sorted(inside.items())]
        return
    assert found.bucket_ms is not None
    usable = [value for value, mark in inside.values() if mark & 15 < Flag.SUSPECT]
    assert int(found.count.sum()) == len(usable)
    assert int((found.packed & 15).max()) == max(mark & 15 for _, mark in inside.values())
    if usable:
        assert np.nanmin(found.low) == min(usable)
        assert np.nanmax(found.high) == max(usable)
        mean = np.nansum(np.where(found.count > 0, found.value, 0) * found.count) / len(usable)
        assert mean == pytest.approx(np.mean(usable), abs=1e-9)
    for at, low, high, count, packed in zip(
        found.at.tolist(), found.low, found.high, found.count, found.packed.tolist(), strict=True
    ):
        members = [m for t, m in inside.items() if at <= T0 + t < at + found.bucket_ms]
        good = [value for value, mark in members if mark & 15 < Flag.SUSPECT]
        assert members, "a bucket of a gap is absent"
        assert count == len(good)
        assert packed >> 4 == np.bitwise_or.reduce([mark >> 4 for _, mark in members])
        assert packed & 15 == max(mark & 15 for _, mark in members)
        if good:
            assert (low, high) == (min(good), max(good))
        else:
            assert np.isnan(low)
            assert np.isnan(high)
