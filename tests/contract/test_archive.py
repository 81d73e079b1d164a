"""What has left the database for the archive is answered as if it had never left, and is there for anybody to read."""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import governance.tables  # noqa: F401
import ingest.storage.tables  # noqa: F401
from infra.database import Database
from infra.errors import ConfigurationError, Refused, StorageUnavailable
from infra.times import DAY_MS
from ingest.storage import registry, retention
from ingest.storage.archive import ParquetArchive, month_bounds_ms, month_of
from ingest.storage.port import LongTermStore, ReadingStore, Series, Window
from ingest.storage.retention import ArchiveKeeper, Moved, Retention, ServerKeeper, move_out
from ingest.storage.sql import SqlReadings
from ingest.storage.tiered import TieredReadings
from riverchief.cli.app import app
from sensors.parameters import catalogue
from sensors.reading import PLAIN, Batch, Flag, QualityTest
from sensors.stations import Registry, Station
from tests.databases import with_tables
from tests.postgres import fresh
from tests.rig import eventually
from tests.says import says

pytestmark = pytest.mark.both_databases

CATALOGUE = catalogue()
STATIONS = ("shiwan", "qicha-1")
PARAMETERS = ("ph", "do", "nh3n")
MINUTE, HOUR = 60_000, 3_600_000
MAY = month_bounds_ms("2026-05")[0]
JUNE = month_bounds_ms("2026-06")[0]
JULY = month_bounds_ms("2026-07")[0]
SUSPECT = int(Flag.SUSPECT) | int(QualityTest.SPIKE) << 4
BAD = int(Flag.BAD) | int(QualityTest.SENTINEL | QualityTest.DEVICE_STATUS) << 4

Key = tuple[str, str, int]
Content = Mapping[Key, tuple[float, int]]

CONTENT = st.dictionaries(
    st.tuples(
        st.sampled_from(STATIONS), st.sampled_from(PARAMETERS), st.integers(0, 9_000).map(lambda i: MAY + i * HOUR // 6)
    ),
    st.tuples(st.floats(-1e6, 1e6), st.sampled_from([PLAIN, PLAIN, int(Flag.UNKNOWN), SUSPECT, BAD])),
    max_size=80,
)
MOMENT = st.integers(MAY - HOUR, MAY + 1501 * HOUR)


class Shelf:
    """A database and an archive beside it."""

    def __init__(self, folder: Path, dialect: str) -> None:
        self.database = Database(fresh(dialect, folder))
        with_tables(self.database)
        with self.database.write() as connection:
            stations = tuple(Station(key, key, key, 113.1, 23.0) for key in STATIONS)
            registry.save(connection, Registry(stations, catalogue=CATALOGUE))
        self.store = SqlReadings(self.database, CATALOGUE)
        self.archive = ParquetArchive(folder / "archive", CATALOGUE)
        self.keeper = ArchiveKeeper(self.archive)
        self.both = TieredReadings(self.store, CATALOGUE, older=self.archive, boundary_ms=self.edge)

    def edge(self) -> int:
        with self.database.read() as connection:
            return retention.read_boundary_ms(connection) or 0

    def write(self, content: Content) -> None:
        batch = Batch.of(
            [STATIONS.index(station) for station, _, _ in content],
            [CATALOGUE.index[parameter] for _, parameter, _ in content],
            [at for _, _, at in content],
            [value for value, _ in content.values()],
        )
        with self.database.write() as connection:
            self.store.write(connection, STATIONS, batch, np.array([mark for _, mark in content.values()], np.int64))

    def move_out(self, boundary_ms: int, keeper: retention.Keeper | None = None) -> Moved:
        return move_out(self.database, CATALOGUE, keeper or self.keeper, boundary_ms, pause_share=0)


def told(store: ReadingStore | LongTermStore) -> dict[Key, tuple[float, int]]:
    return {
        (station, CATALOGUE.parameters[p].key, at): (value, packed)
        for station in STATIONS
        for p, at, value, packed in rows(store.window(station, 0, 2**52))
    }


def rows(window: Window) -> list[tuple[int, int, float, int]]:
    parts = window.parameter, window.at, window.value, window.packed
    return list(zip(*(part.tolist() for part in parts), strict=True))


def exactly(a: Series, b: Series) -> None:
    assert a.bucket_ms == b.bucket_ms
    for name in ("at", "low", "high", "count", "packed"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    np.testing.assert_allclose(a.value, b.value, rtol=1e-12, atol=1e-9)  # a mean depends on the order of its sum


def steady(station: str, start: int, end: int, every: int = HOUR) -> dict[Key, tuple[float, int]]:
    return {(station, "ph", at): (7 + (at // every % 100) / 1000, PLAIN) for at in range(start, end, every)}


@contextmanager
def on_sqlite() -> Iterator[Shelf]:
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder), "sqlite")
        yield shelf
        shelf.database.close()


@pytest.fixture
def shelf(dialect: str, tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path, dialect)
    yield shelf
    shelf.database.close()


@settings(max_examples=10, deadline=None)
@given(
    content=CONTENT,
    start=MOMENT,
    length=st.integers(1, 1500 * HOUR),
    limit=st.integers(1, 40),
    buckets=st.integers(1, 50),
)
def test_the_archive_answers_every_question_as_the_database_did(
    content: Content, start: int, length: int, limit: int, buckets: int
) -> None:
    with on_sqlite() as shelf:
        shelf.write(content)
        for station in STATIONS:
            for month in ("2026-05", "2026-06", "2026-07"):
                first, following = month_bounds_ms(month)
                shelf.archive.add(station, month, shelf.store.window(station, first, following - 1))
        end = start + length
        assert told(shelf.archive) == told(shelf.store) == dict(content)
        assert dict(shelf.archive.count()) == dict(shelf.store.count())
        until = {s: len(shelf.store.window(s, 0, end - 1)) for s in STATIONS}
        assert dict(shelf.archive.count(before_ms=end)) == {s: n for s, n in until.items() if n}
        for station in (*STATIONS, "nobody", "../shiwan"):
            for only in (None, ["do"], ["ph", "no such"]):
                asked = station, start, end, only
                assert rows(shelf.archive.window(*asked)) == rows(shelf.store.window(*asked))
            for parameter in (*PARAMETERS, "tp"):
                series = station, parameter
                assert rows(shelf.archive.before(*series, end, limit)) == rows(shelf.store.before(*series, end, limit))
                exactly(shelf.archive.raw(*series, start, end, limit), shelf.store.raw(*series, start, end, limit))
                bucket = -(-length // buckets)
                exactly(
                    shelf.archive.thinned(*series, start, end, bucket), shelf.store.thinned(*series, start, end, bucket)
                )


@settings(max_examples=12, deadline=None)
@given(content=CONTENT, late=CONTENT, start=MOMENT, length=st.integers(1, 1500 * HOUR))
def test_moving_months_out_changes_no_answer_and_late_data_find_their_place(
    content: Content, late: Content, start: int, length: int
) -> None:
    with on_sqlite() as shelf:
        shelf.write(content)
        shelf.move_out(JUNE)
        shelf.write(late)
        shelf.move_out(JUNE)
        shelf.move_out(JULY)
        everything = {**content, **late}
        assert told(shelf.both) == everything
        counts = {s: sum(1 for key in everything if key[0] == s) for s in STATIONS}
        assert dict(shelf.both.count()) == {s: n for s, n in counts.items() if n}
        with on_sqlite() as untouched:
            untouched.write(everything)
            for station in STATIONS:
                assert dict(shelf.both.newest(station)) == dict(untouched.store.newest(station))
                for parameter in PARAMETERS:
                    asked = station, parameter, start, start + length, length // 20 + 1
                    exactly(shelf.both.thinned(*asked), untouched.store.thinned(*asked))
            assert shelf.both.latest() == untouched.store.latest()


def test_a_month_leaves_the_database_and_the_days_to_keep_stay(shelf: Shelf) -> None:
    content = steady("shiwan", MAY, JULY + 20 * DAY_MS)
    shelf.write(content)
    moved = shelf.move_out(JULY)
    assert moved == Moved(("2026-05", "2026-06"), 61 * 24, (), JULY)
    assert set(told(shelf.store)) == {key for key in content if key[2] >= JULY}
    assert set(told(shelf.archive)) == {key for key in content if key[2] < JULY}
    assert shelf.move_out(JULY) == Moved((), 0, (), JULY)


def test_a_silent_station_keeps_its_last_week_and_its_latest_usable_value(shelf: Shelf) -> None:
    usable_until, silent_since = MAY + 5 * DAY_MS, MAY + 28 * DAY_MS
    content = steady("shiwan", MAY, silent_since)
    content = {k: (v, m if k[2] <= usable_until else SUSPECT) for k, (v, m) in content.items()}
    shelf.write(content | steady("qicha-1", MAY, JULY))
    before = shelf.store.latest()
    shelf.move_out(JULY)
    assert shelf.store.latest() == before, "the database alone still knows what was last"
    times = [at for station, _, at in told(shelf.store) if station == "shiwan"]
    last = silent_since - HOUR
    assert set(range(last - 8 * DAY_MS, silent_since, HOUR)) <= set(times), "the tests look back on these"
    assert usable_until in times
    assert silent_since - 10 * DAY_MS not in times
    assert told(shelf.both) == content | steady("qicha-1", MAY, JULY)


def test_a_monthly_analysis_keeps_enough_behind_it_to_be_judged(shelf: Shelf) -> None:
    days = [MAY + i * 7 * DAY_MS for i in range(9)]
    samples = {("shiwan", "nh3n", at): (0.5, PLAIN) for at in days}
    shelf.write(samples | steady("shiwan", MAY, JULY))
    shelf.move_out(JULY)
    assert samples.keys() <= told(shelf.store).keys()
    assert ("shiwan", "ph", MAY + HOUR) not in told(shelf.store)


def test_what_changes_while_its_month_is_archived_is_not_deleted(shelf: Shelf) -> None:
    content = steady("shiwan", MAY, JULY)
    content |= {("shiwan", "do", at): (5.0, PLAIN) for at in range(JUNE, JUNE + 2 * DAY_MS, HOUR)}
    shelf.write(content)
    corrected = ("shiwan", "ph", MAY + HOUR)
    changed = {corrected: (9.5, BAD), ("shiwan", "do", MAY + 20 * DAY_MS): (3.0, PLAIN)}

    class Meanwhile(ArchiveKeeper):
        def held(self, station: str, month: str) -> Window | None:
            found = super().held(station, month)
            shelf.write(changed)  # after the comparison, before the deletion
            return found

    shelf.move_out(JUNE, Meanwhile(shelf.archive))
    assert told(shelf.both) == content | changed
    assert changed.keys() <= told(shelf.store).keys()
    shelf.move_out(JUNE)
    assert told(shelf.both) == content | changed
    assert told(shelf.archive)[corrected] == (9.5, BAD)
    assert not changed.keys() & told(shelf.store).keys()


def test_a_file_that_reads_back_otherwise_stops_the_move_and_leaves_everything(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = steady("shiwan", MAY, JULY)
    shelf.write(content)
    write = pl.DataFrame.write_parquet

    def careless(frame: pl.DataFrame, *arguments: Any, **options: Any) -> None:
        write(frame.slice(0, len(frame) - 1), *arguments, **options)

    monkeypatch.setattr(pl.DataFrame, "write_parquet", careless)
    with pytest.raises(StorageUnavailable, match=r"shiwan\.parquet.* reads back other values"):
        shelf.move_out(JUNE)
    assert told(shelf.store) == content
    assert told(shelf.archive) == {}
    assert not [p for p in shelf.archive.folder.rglob("*") if p.is_file() and p.name != ".lock"]


def test_a_damaged_file_is_named_and_not_taken_for_an_empty_month(shelf: Shelf) -> None:
    shelf.write(steady("shiwan", MAY, JULY))
    shelf.move_out(JUNE)
    file = shelf.archive.folder / "2026-05" / "shiwan.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    for ask in (lambda: shelf.archive.window("shiwan", MAY, JUNE), shelf.archive.count):
        with pytest.raises(StorageUnavailable, match=says("archive.unreadable", path=file)):
            ask()


def archive_of(folder: Path, content: bytes) -> ParquetArchive:
    """An archive of one file, May of Shiwan."""
    (folder / "2026-05").mkdir(parents=True, exist_ok=True)
    (folder / "2026-05" / "shiwan.parquet").write_bytes(content)
    return ParquetArchive(folder, CATALOGUE)


def test_an_archive_that_pyarrow_wrote_is_read_and_continued(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, Path("tests/data/archive-pyarrow-26.0.1.parquet").read_bytes())
    content = {("shiwan", "ph", MAY + i * 8 * HOUR): (7 + i / 1000, BAD if i % 10 == 3 else PLAIN) for i in range(93)}
    content |= {
        ("shiwan", "do", MAY + i * DAY_MS + 1): (0.0 if i == 4 else 5 + i / 7, PLAIN if i % 5 else SUSPECT)
        for i in range(31)
    }
    assert told(archive) == content
    assert archive.count() == {"shiwan": 124}
    days = MAY + 20 * DAY_MS, MAY + 22 * DAY_MS
    assert archive.raw("shiwan", "do", *days, 10).at.tolist() == [days[0] + 1, days[0] + DAY_MS + 1]
    ph = CATALOGUE.index["ph"]
    late = Window(np.array([ph], np.int32), np.array([MAY + 1]), np.array([6.5]), np.array([PLAIN], np.int64))
    archive.add("shiwan", "2026-05", late)
    assert told(archive) == content | {("shiwan", "ph", MAY + 1): (6.5, PLAIN)}


def test_a_file_with_any_bit_wrong_is_named_and_ends_no_process(tmp_path: Path) -> None:
    readings = steady("shiwan", MAY, MAY + 2 * DAY_MS)
    window = Window(
        np.full(len(readings), CATALOGUE.index["ph"], np.int32),
        np.array([at for _, _, at in readings]),
        np.array([value for value, _ in readings.values()]),
        np.array([packed for _, packed in readings.values()], np.int64),
    )
    whole = ParquetArchive(tmp_path / "whole", CATALOGUE)
    whole.add("shiwan", "2026-05", window)
    content = (tmp_path / "whole" / "2026-05" / "shiwan.parquet").read_bytes()
    pages = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert pages > 400
    for place in range(4, pages):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        archive = archive_of(tmp_path / "damaged", bytes(damaged))
        with pytest.raises(StorageUnavailable, match=r"2026-05/shiwan\.parquet"):
            archive.window("shiwan", MAY, JUNE)


def test_a_short_range_decodes_its_row_groups_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = Path("tests/data/archive-pyarrow-26.0.1.parquet").read_bytes()
    first = content.index(b"\x28\xb5\x2f\xfd", 200)  # a page of the first of four row groups, in Zstandard
    archive = archive_of(tmp_path, content[: first + 4] + bytes(16) + content[first + 20 :])
    with pytest.raises(StorageUnavailable):
        archive.window("shiwan", MAY, JUNE)
    assert len(archive.window("shiwan", MAY + 24 * DAY_MS, JUNE))


def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path: Path) -> None:
    old = Path("tests/data/archive-pyarrow-26.0.1.parquet").read_bytes()
    archive = archive_of(tmp_path, old)
    ph = CATALOGUE.index["ph"]
    late = Window(np.array([ph], np.int32), np.array([MAY + 1]), np.array([6.5]), np.array([PLAIN], np.int64))
    file = tmp_path / "2026-05" / "shiwan.parquet"
    file.with_name("shiwan.parquet.part").symlink_to("/dev/full")
    with pytest.raises(StorageUnavailable, match=r"shiwan\.parquet.*No space left"):
        archive.add("shiwan", "2026-05", late)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == old


def test_one_process_writes_to_an_archive_at_a_time(shelf: Shelf) -> None:
    with shelf.archive.alone(), pytest.raises(Refused, match=says("archive.another", folder=shelf.archive.folder)):
        shelf.move_out(JUNE)


def test_readings_a_time_series_server_does_not_have_stay(shelf: Shelf) -> None:
    shelf.write(steady("shiwan", MAY, JULY) | steady("qicha-1", MAY, JULY))
    for station in STATIONS:  # the archive stands for a server; of one station it lacks the last reading of the month
        there = shelf.store.window(station, MAY, JUNE - 1)
        shelf.archive.add(station, "2026-05", there.take(np.arange(len(there) - (station == "qicha-1"))))
    moved = shelf.move_out(JUNE, ServerKeeper(shelf.archive))
    assert (moved.readings, moved.refused) == (31 * 24, (("qicha-1", "2026-05"),))
    assert {(s, at < JUNE) for s, _, at in told(shelf.store)} == {
        ("shiwan", False),
        ("qicha-1", True),
        ("qicha-1", False),
    }


def test_what_comes_while_its_month_moves_to_a_server_stays_until_the_server_has_it(shelf: Shelf) -> None:
    shelf.write(steady("shiwan", MAY, JULY))
    shelf.archive.add("shiwan", "2026-05", shelf.store.window("shiwan", MAY, JUNE - 1))
    late = {("shiwan", "ph", MAY + 1): (6.5, PLAIN), ("shiwan", "ph", MAY + HOUR): (8.5, SUSPECT)}

    class Late(ServerKeeper):
        """Late readings come when the server has been asked for the first time; they wait in the spool."""

        def keep(self, station: str, month: str, readings: Window) -> bool:
            kept = super().keep(station, month, readings)
            shelf.write(late)
            return kept

    assert shelf.move_out(JUNE, Late(shelf.archive)).readings < 31 * 24
    assert late.items() <= told(shelf.store).items()
    assert {key: content for key, content in told(shelf.both).items() if key[2] < JUNE} == steady(
        "shiwan", MAY, JUNE
    ) | late


def test_any_tool_reads_the_archive_without_us(shelf: Shelf) -> None:
    shelf.write(
        steady("shiwan", MAY, JULY) | {("qicha-1", "do", MAY): (5.25, PLAIN), ("qicha-1", "ph", MAY + 1): (7.0, BAD)}
    )
    shelf.write({("qicha-1", "ph", JULY): (7.0, PLAIN), ("qicha-1", "do", JULY): (7.0, PLAIN)})
    for station in STATIONS:
        shelf.archive.add(station, "2026-05", shelf.store.window(station, MAY, JUNE - 1))
    file = shelf.archive.folder / "2026-05" / "qicha-1.parquet"
    schema = {
        "station": pl.Categorical,
        "time": pl.Datetime("ms", "UTC"),
        "ph": pl.Float64,
        "ph_q": pl.Int32,
        "do": pl.Float64,
        "do_q": pl.Int32,
    }
    frame = pl.scan_parquet(file).collect()
    assert dict(frame.schema) == schema
    assert frame["station"].cast(pl.String).to_list() == ["qicha-1", "qicha-1"]
    assert frame["time"].dt.epoch("ms").to_list() == [MAY, MAY + 1]
    assert frame.select("ph", "ph_q", "do", "do_q").rows() == [(None, None, 5.25, PLAIN), (7.0, BAD, None, None)]
    about = json.loads(pl.read_parquet_metadata(file)["riverchief"])
    assert about == {"layout": 1, "station": "qicha-1", "month": "2026-05", "units": {"ph": "1", "do": "mg/L"}}
    whole = pl.scan_parquet(
        shelf.archive.folder / "*" / "*.parquet", schema=schema, missing_columns="insert", extra_columns="ignore"
    )
    assert whole.select(pl.len(), pl.col("do").count()).collect().row(0) == (31 * 24 + 2, 1)


def test_the_example_of_the_manual_works(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.write(
        steady("shiwan", MAY, MAY + DAY_MS) | {("qicha-1", "nh3n", MAY + i): (1.0 + i, PLAIN) for i in range(2)}
    )
    shelf.write({("qicha-1", "nh3n", MAY + 2): (50.0, SUSPECT)})
    shelf.move_out(JUNE)
    example = re.search(r"```python\n(.*?)```", Path("docs/operations/backup.md").read_text("utf-8"), re.DOTALL)
    assert example
    monkeypatch.chdir(shelf.archive.folder.parent)
    found: dict[str, pl.DataFrame] = {}
    exec(example[1], found)
    assert [(str(s), d, v) for s, d, v in found["good"].rows()] == [("qicha-1", date(2026, 5, 1), 1.5)]


def test_a_month_is_a_beijing_month() -> None:
    assert MAY == 1_777_564_800_000  # 2026-04-30T16:00:00Z
    assert [month_of(at) for at in (MAY - 1, MAY, JUNE - 1, JUNE)] == ["2026-04", "2026-05", "2026-05", "2026-06"]
    assert month_bounds_ms("2026-12")[1] == month_bounds_ms("2027-01")[0]
    for wrong in ("2026-13", "2026", "2026-05-01", "../etc"):
        with pytest.raises(ConfigurationError, match=says("archive.month")):
            month_bounds_ms(wrong)


def test_a_reading_of_another_month_is_not_filed_wrongly(shelf: Shelf) -> None:
    shelf.write(steady("shiwan", MAY, MAY + DAY_MS))
    with pytest.raises(ValueError, match="outside 2026-06"):
        shelf.archive.add("shiwan", "2026-06", shelf.store.window("shiwan", MAY, JUNE))


def test_fewer_days_than_the_checks_look_back_on_are_refused_with_the_reason() -> None:
    retention.check_keep_days(8, 0)
    with pytest.raises(ConfigurationError, match=says("archive.too_few", keep_days=7, least=8)):
        retention.check_keep_days(7, 0)
    with pytest.raises(ConfigurationError, match=says("archive.too_few", keep_days=30, least=31)):
        retention.check_keep_days(30, 30 * 86_400)
    retention.check_keep_days(31, 30 * 86_400)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), says("command.before")),
        (("--before", "2026-13"), says("archive.month", month="2026-13")),
        (("--before", "2999-01"), says("archive.too_few", keep_days=0, least=8)),
        (("--before", "2020-01"), says("command.no_archive")),
    ],
)
def test_the_command_moves_nothing_it_was_not_told_about(
    tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        CliRunner().invoke(app, ["archive", "--data", str(tmp_path), *arguments], catch_exceptions=False)


def test_the_days_to_keep_are_rounded_up_to_whole_months() -> None:
    assert retention.edge_for_days(31, JULY + 15 * DAY_MS) == JUNE
    assert retention.edge_for_days(31, JULY + DAY_MS - 1) == MAY
    assert retention.edge_for_days(30, JULY) == JUNE


def test_the_worker_moves_out_what_has_become_old_enough_by_itself(shelf: Shelf) -> None:
    content = steady("shiwan", MAY, JULY)
    shelf.write(content)
    now = JUNE + 20 * DAY_MS
    worker = Retention(shelf.database, CATALOGUE, shelf.keeper, keep_days=20, clock_ms=lambda: now, round_s=0.01)
    worker.start()
    eventually("May has left", lambda: shelf.edge() == JUNE)
    now = JULY + 20 * DAY_MS
    eventually("June has left", lambda: shelf.edge() == JULY)
    assert worker.stop()
    assert worker.last_error == ""
    assert told(shelf.both) == content


def test_the_worker_tells_what_is_wrong_and_goes_on_when_it_is_mended(shelf: Shelf) -> None:
    shelf.write(steady("shiwan", MAY, JULY))
    shelf.archive.folder.write_text("a file where the folder should be")
    worker = Retention(shelf.database, CATALOGUE, shelf.keeper, keep_days=20, clock_ms=lambda: JULY, round_s=0.01)
    worker.start()
    assert "archive" in eventually("it says so", lambda: worker.last_error)
    shelf.archive.folder.unlink()
    eventually("the months have left", lambda: shelf.edge() == JUNE)
    assert worker.stop()
