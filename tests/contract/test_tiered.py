"""Database and long-term store together answer as one store that never let anything go."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import governance.tables  # noqa: F401
import ingest.storage.tables  # noqa: F401
from infra.database import Database
from infra.errors import StorageUnavailable
from ingest.storage import registry, spool
from ingest.storage.port import Series, Window, gaps, series
from ingest.storage.spool import Spool, SpoolKind
from ingest.storage.sql import SqlReadings
from ingest.storage.tiered import TieredReadings
from sensors.parameters import catalogue
from sensors.reading import PLAIN, Batch, Flag, Ints, QualityTest
from sensors.stations import Registry, Station
from tests.databases import with_tables
from tests.says import says

CATALOGUE = catalogue()
PARAMETERS = ("ph", "do")
SUSPECT = int(Flag.SUSPECT) | int(QualityTest.SPIKE) << 4
BAD = int(Flag.BAD) | int(QualityTest.SENTINEL) << 4
MARKS = st.sampled_from([PLAIN, PLAIN, SUSPECT, BAD])
CONTENT = st.dictionaries(
    st.tuples(st.sampled_from(PARAMETERS), st.integers(0, 120)),
    st.tuples(st.floats(-50, 50), MARKS),
    max_size=60,
)

Content = Mapping[tuple[str, int], tuple[float, int]]


class Store(SqlReadings):
    """A store of its own, which can also stand for a long-term store."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.database = Database(f"sqlite:///{folder / 'river.db'}")
        with_tables(self.database)
        with self.database.write() as connection:
            registry.save(connection, Registry((Station("s", "示例", "example", 113.1, 23.0),), catalogue=CATALOGUE))
        super().__init__(self.database, CATALOGUE)

    def put(self, content: Content) -> None:
        batch, packed = _batch(content)
        with self.database.write() as connection:
            self.write(connection, ["s"], batch, packed)


class Older(Store):
    """The long-term side: it answers as well how much it holds before a moment."""

    def count(self, stations: object = None, before_ms: int | None = None) -> Mapping[str, int]:
        found = len(self.window("s", -1, 2**53 if before_ms is None else before_ms - 1))
        return {"s": found} if found else {}


def _batch(content: Content) -> tuple[Batch, Ints]:
    keys = list(content)
    batch = Batch.of(
        [0] * len(keys),
        [CATALOGUE.index[parameter] for parameter, _ in keys],
        [at for _, at in keys],
        [value for value, _ in content.values()],
    )
    return batch, np.array([mark for _, mark in content.values()], np.int64)


def told(window: Window) -> list[tuple[float, ...]]:
    parts = window.parameter, window.at, window.value, window.packed
    return list(zip(*(part.tolist() for part in parts), strict=True))


def columns(found: Series) -> list[tuple[float, ...]]:
    parts = (found.at, found.count, found.packed)
    return list(zip(*(part.tolist() for part in parts), strict=True))


@settings(max_examples=15, deadline=None)
@given(
    old=CONTENT,
    new=CONTENT,
    edge=st.integers(0, 130),
    start=st.integers(0, 60),
    length=st.integers(1, 100),
    points=st.integers(1, 15),
    limit=st.integers(1, 30),
)
def test_where_the_edge_lies_makes_no_difference(
    old: Content, new: Content, edge: int, start: int, length: int, points: int, limit: int
) -> None:
    """``old`` was moved where it lies before the edge; ``new`` came after that, some of it late."""
    with tempfile.TemporaryDirectory() as folder:
        whole, recent, older = Store(Path(folder) / "w"), Store(Path(folder) / "r"), Older(Path(folder) / "o")
        tiered = TieredReadings(recent, CATALOGUE, older=older, boundary_ms=lambda: edge)
        whole.put(old)
        older.put({key: content for key, content in old.items() if key[1] < edge})
        recent.put({key: content for key, content in old.items() if key[1] >= edge})
        # what is written again without a mark keeps its mark; a verdict for the moved ones comes with its value
        for store in (whole, recent):
            store.put(new)
        new_plain = {k for k, (_, mark) in new.items() if mark == PLAIN and k in old and old[k][1] != PLAIN}
        if any(k[1] < edge for k in new_plain):
            return  # the mark of a moved reading is the long-term store's; judged anew it is never silently plain
        end = start + length
        for parameter in PARAMETERS:
            raw, expected = (s.raw("s", parameter, start, end, limit) for s in (tiered, whole))
            assert columns(raw) == columns(expected)
            assert raw.value.tolist() == expected.value.tolist()
            thin, thick = (series(s, "s", parameter, start, end, points) for s in (tiered, whole))
            assert columns(thin) == columns(thick)
            assert thin.bucket_ms == thick.bucket_ms
            for name in ("value", "low", "high"):
                assert getattr(thin, name) == pytest.approx(getattr(thick, name), nan_ok=True, abs=1e-9)
            assert told(tiered.before("s", parameter, end, limit)) == told(whole.before("s", parameter, end, limit))
            assert gaps(tiered, "s", parameter, start, end, 5) == gaps(whole, "s", parameter, start, end, 5)
        assert told(tiered.window("s", start, end)) == told(whole.window("s", start, end))
        assert dict(tiered.count()) == dict(whole.count())
        for store in (whole, recent, older):
            store.database.close()


def test_a_verdict_on_a_reading_that_has_left_brings_it_back_with_its_value(tmp_path: Path) -> None:
    recent, older = Store(tmp_path / "r"), Older(tmp_path / "o")
    older.put({("do", 10): (5.5, PLAIN)})
    tiered = TieredReadings(recent, CATALOGUE, older=older, boundary_ms=lambda: 50)
    batch, packed = _batch({("do", 10): (0.0, SUSPECT), ("do", 11): (0.0, SUSPECT)})
    with recent.database.write() as connection:
        tiered.reflag(connection, ["s"], batch, packed)
    assert told(tiered.window("s", 0, 100)) == [(CATALOGUE.index["do"], 10, 5.5, SUSPECT)]


def test_what_is_written_stands_in_the_spool_with_it_or_not_at_all(tmp_path: Path) -> None:
    recent = Store(tmp_path / "r")
    waiting = Spool(recent.database, CATALOGUE, clock_ms=lambda: 77, most_bytes=10**6)
    tiered = TieredReadings(recent, CATALOGUE, spool=waiting)
    batch, packed = _batch({("do", 10): (5.5, SUSPECT), ("ph", 11): (7.0, PLAIN)})
    with recent.database.write() as connection:
        tiered.write(connection, ["s"], batch, packed)

    def crash() -> None:
        with recent.database.write() as connection:
            tiered.write(connection, ["s"], *_batch({("do", 99): (1.0, PLAIN)}))
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        crash()
    with recent.database.write() as connection:
        tiered.reflag(connection, ["s"], *_batch({("do", 10): (0.0, PLAIN)}))
        waiting.add_lines(connection, [b"event title=1 5", b"event title=2 6"])
    first, second, third = waiting.next(10**6)
    assert first.kind is SpoolKind.READINGS
    assert first.stations == ("s",)
    stored = zip(first.batch.parameter, first.batch.at, first.batch.value, first.packed, strict=True)
    assert sorted((CATALOGUE.parameters[p].key, at, v, m) for p, at, v, m in stored) == [
        ("do", 10, 5.5, SUSPECT),
        ("ph", 11, 7.0, PLAIN),
    ]
    assert (second.kind, second.batch.at.tolist(), second.packed.tolist()) == (SpoolKind.VERDICTS, [10], [PLAIN])
    assert third.lines == (b"event title=1 5", b"event title=2 6")
    counted = waiting.waiting()
    assert (counted.entries, counted.rows, counted.oldest_ms) == (3, 5, 77)
    with recent.database.write() as connection:
        spool.delete(connection, [first.id, second.id])
    assert [entry.id for entry in waiting.next(1)] == [third.id]


def test_a_full_spool_takes_nothing_and_leaves_the_batch_with_its_sender(tmp_path: Path) -> None:
    recent = Store(tmp_path / "r")
    waiting = Spool(recent.database, CATALOGUE, clock_ms=lambda: 0, most_bytes=400)
    tiered = TieredReadings(recent, CATALOGUE, spool=waiting)
    content = {("do", at): (float(at), PLAIN) for at in range(5)}

    def write(times: int) -> None:
        for _ in range(times):
            with recent.database.write() as connection:
                tiered.write(connection, ["s"], *_batch(content))

    with pytest.raises(StorageUnavailable, match=says("store.spool_full")):
        write(20)
    held = waiting.next(10**6)
    assert 1 <= len(held) < 20
    with recent.database.write() as connection:
        spool.delete(connection, [entry.id for entry in held])
    write(1)
    assert len(waiting.next(10**6)) == 1
