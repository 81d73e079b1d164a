"""A move to the archive killed at any of its steps loses and doubles nothing, and the next one finishes it."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sqlalchemy import event

from infra.database import Database
from ingest.storage import archive, registry, retention
from ingest.storage.archive import ParquetArchive, month_bounds_ms
from ingest.storage.sql import SqlReadings
from ingest.storage.tiered import TieredReadings
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from tests.databases import stored, with_tables

pytestmark = pytest.mark.fault

STATIONS = ("shiwan", "qicha-1")
START, MIDDLE, END = (month_bounds_ms(month)[0] for month in ("2026-05", "2026-06", "2026-07"))
EVERY_MS = 6 * 3_600_000
PROCESSES = multiprocessing.get_context("forkserver")
"""Its processes are forked from one that has loaded everything, so that a kill at each step costs no start."""
PROCESSES.set_forkserver_preload(["tests.faults.test_archive_kill"])


def move_and_die(url: str, folder: Path, boundary_ms: int, left: int) -> None:
    """Move out what is older than ``edge_ms``, but die after so many steps. In a process of its own."""

    def step(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def after_a_step(call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **named: (step(), call(*arguments, **named))[1]

    archive.fsync = after_a_step(archive.fsync)
    pl.DataFrame.write_parquet = after_a_step(pl.DataFrame.write_parquet)
    Path.replace = after_a_step(Path.replace)  # type: ignore[method-assign]
    Path.mkdir = after_a_step(Path.mkdir)  # type: ignore[method-assign]
    retention.INSTANTS_PER_TRANSACTION = 100
    database = Database(url)
    writes = ("INSERT", "UPDATE", "DELETE")
    event.listen(database.engine, "before_cursor_execute", lambda c, k, sql, *_: sql.startswith(writes) and step())
    event.listen(database.engine, "commit", step)
    known = catalogue()
    keeper = retention.ArchiveKeeper(archive.ParquetArchive(folder, known))
    retention.move_out(database, known, keeper, boundary_ms, pause_share=0)


class Site:
    """A database with a month to move, late data of an archived one, and the archive beside it."""

    def __init__(self, folder: Path) -> None:
        self.known = catalogue()
        self.database = Database(f"sqlite:///{folder / 'river.db'}")
        with_tables(self.database)
        self.store = SqlReadings(self.database, self.known)
        self.archive = ParquetArchive(folder / "archive", self.known)
        self.both = TieredReadings(self.store, self.known, older=self.archive, boundary_ms=self.edge)

    def edge(self) -> int:
        with self.database.read() as connection:
            return retention.read_boundary_ms(connection) or 0

    def fill(self) -> None:
        with self.database.write() as connection:
            stations = tuple(Station(key, key, key, 113.1, 23.0) for key in STATIONS)
            registry.save(connection, Registry(stations, catalogue=self.known))
        for station in range(len(STATIONS)):
            for parameter in ("ph", "do"):
                self.write(station, parameter, range(START, END + 10 * 86_400_000, EVERY_MS), 7.0)
        self.move_out(MIDDLE)
        self.write(0, "ph", range(START, START + 3 * EVERY_MS, EVERY_MS // 2), 8.0)  # late data of an archived month

    def write(self, station: int, parameter: str, times: range, value: float) -> None:
        values = [value + t % 97 / 8 for t in times]
        stored(self.database, self.store, STATIONS, {(station, parameter): (times, values)})

    def move_out(self, boundary_ms: int) -> None:
        retention.move_out(self.database, self.known, retention.ArchiveKeeper(self.archive), boundary_ms, pause_share=0)

    def everything(self) -> list[object]:
        """Every reading of every station, and how many there are said to be."""
        windows = [self.both.window(station, 0, 2**52) for station in STATIONS]
        columns = [c.tolist() for w in windows for c in (w.parameter, w.at, w.value, w.packed)]
        return [*columns, dict(self.both.count())]


@pytest.mark.timeout(280)
def test_a_move_killed_before_any_of_its_steps_keeps_every_reading_once(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.mkdir()
    first = Site(original)
    first.fill()
    before = first.everything()
    first.database.close()
    steps = 0
    while True:
        folder = tmp_path / str(steps)
        shutil.copytree(original, folder)
        site = Site(folder)
        mover = PROCESSES.Process(
            target=move_and_die, args=(str(site.database.url), site.archive.folder, END, steps), daemon=True
        )
        mover.start()
        mover.join()
        assert mover.exitcode in (0, -signal.SIGKILL)
        assert site.everything() == before, f"killed after {steps} steps"
        site.move_out(END)
        assert site.everything() == before, f"finished after a kill after {steps} steps"
        assert site.edge() == END
        assert all(site.store.window(station, 0, END - 1).at.size == 0 for station in STATIONS)
        assert not list(site.archive.folder.rglob("*.part"))
        site.database.close()
        if mover.exitcode == 0:
            break
        steps += 1
    assert steps > 20, "the kills hit every file, the edge and the deletions"
