"""Refill a time-series server that lost its data from the database and the archive.

Everything goes through the spool. Readings are queued in the transaction that reads and locks them, so that no old
value overtakes a new one. Readings older than the server's retention are left out; their hourly and daily values, which
it keeps longer, are computed again.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from infra.database import Database
from ingest.analysis.chart_annotations import ANNOTATED
from ingest.sending import kept_since
from ingest.storage import downsampling
from ingest.storage.archive import ParquetArchive, month_bounds_ms
from ingest.storage.port import Window
from ingest.storage.spool import Spool, SpoolKind
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import spool_progress
from ingest.storage.tables import station as station_table
from sensors.reading import Batch

INSTANTS_PER_TRANSACTION = 1000
"""Instants of one transaction, which ingest waits for a few milliseconds."""
PAUSE_S = 1.0
"""Pause while the spool has no room to spare."""
_BOUNDARY_NAME = "refill"
_FIRST_MS, _END_MS = -(2**53), 2**53


@dataclass(frozen=True, slots=True)
class Refill:
    """Queue all readings again, station by station; an interrupted run continues where it was.

    Chart annotations are sent again, too. The history of the live classes is stored nowhere else and is lost.

    Parameters
    ----------
    archive : ParquetArchive or None
        The months that have left the database.
    wait : callable
        Called with seconds while the spool has no room to spare.
    keep_days : int
        Retention of the readings; 0 for ever.
    downsampled : bool
        Whether the server has hourly and daily values.
    """

    database: Database
    readings: SqlReadings
    spool: Spool
    archive: ParquetArchive | None
    wait: Callable[[float], None]
    clock_ms: Callable[[], int]
    keep_days: int
    downsampled: bool

    def run(self) -> Iterator[tuple[float, int]]:
        """Yield the share that is done (0 to 1) and the readings queued, after each transaction.

        Raises StorageUnavailable, and Refused while readings are being moved into the archive.
        """
        with self.database.read() as connection:
            stations = connection.execute(sa.select(station_table.c.id, station_table.c.key).order_by("id")).all()
            done = connection.execute(
                sa.select(spool_progress.c.position).where(spool_progress.c.name == _BOUNDARY_NAME)
            ).scalar()
        total = 0
        for place, (id_, key) in enumerate(stations):
            if done is None or id_ > done:
                with nullcontext() if self.archive is None else self.archive.alone():
                    for readings in self._station(key):
                        total += readings
                        yield place / len(stations), total
                self._save_progress(id_)
        with self.database.write() as connection:
            connection.execute(sa.delete(spool_progress).where(spool_progress.c.name.in_([_BOUNDARY_NAME, *ANNOTATED])))
        yield 1.0, total

    def _station(self, station: str) -> Iterator[int]:
        """Queue a station's readings from the archive, then from the database; yields their number."""
        if self.archive is not None:
            for month in self.archive.months():
                yield from self._month(self.archive, station, month)
        start_ms = _FIRST_MS
        while True:
            self._make_room()
            with self.database.write() as connection:
                found = self.readings.stretch(connection, station, start_ms, _END_MS, INSTANTS_PER_TRANSACTION)
                put = self._enqueue(connection, station, found)
            if not len(found):
                return
            yield put
            start_ms = int(found.at.max()) + 1

    def _month(self, archive: ParquetArchive, station: str, month: str) -> Iterator[int]:
        """Queue an archived month; readings of it in the database are newer and follow."""
        start, end = month_bounds_ms(month)
        archived = archive.window(station, start, end - 1)
        instants = np.unique(archived.at)
        for first in range(0, len(instants), INSTANTS_PER_TRANSACTION):
            some = instants[first : first + INSTANTS_PER_TRANSACTION]
            part = archived.take(np.flatnonzero((archived.at >= some[0]) & (archived.at <= some[-1])))
            self._make_room()
            with self.database.write() as connection:
                put = self._enqueue(connection, station, part)
            yield put

    def _enqueue(self, connection: sa.Connection, station: str, readings: Window) -> int:
        """Queue the readings within the retention; how many."""
        now_ms = self.clock_ms()
        recent = readings.at >= kept_since(self.keep_days, now_ms)
        old, readings = readings.take(np.flatnonzero(~recent)), readings.take(np.flatnonzero(recent))
        if self.downsampled:
            days = downsampling.days_of_readings([station], np.zeros(len(old), np.int32), old.at, 0)
            downsampling.schedule_days(connection, days, now_ms)
        n = len(readings)
        device_status, message = np.full(n, ord("N"), np.uint8), np.zeros(n, np.int32)
        batch = Batch(np.zeros(n, np.int32), readings.parameter, readings.at, readings.value, device_status, message)
        self.spool.add(connection, SpoolKind.READINGS, [station], batch, readings.packed)
        return n

    def _make_room(self) -> None:
        while not self.spool.has_room_to_spare():
            self.wait(PAUSE_S)

    def _save_progress(self, station: int) -> None:
        with self.database.write() as connection:
            connection.execute(sa.delete(spool_progress).where(spool_progress.c.name == _BOUNDARY_NAME))
            connection.execute(sa.insert(spool_progress).values(name=_BOUNDARY_NAME, position=station))
