"""A time-series server that lost its data is filled again with what the database and the archive hold.

Everything goes through the spool, as it did when it was new. Readings are put by in the transaction that reads them,
and nobody changes them meanwhile: what is written later stands later in the spool, so that no old value overtakes a new
one. Readings that the server would refuse as older than it keeps are left out; their hours and days, which it keeps
longer, are computed again.
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
from ingest.storage.archive import ParquetArchive, bounds
from ingest.storage.port import Window
from ingest.storage.spool import Kind, Spool
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import spool_mark
from ingest.storage.tables import station as station_table
from sensors.reading import Batch

INSTANTS = 1000
"""Instants of one transaction, some thousand readings: the ingest waits a few milliseconds behind it."""
PAUSE_S = 1.0
"""How long is waited before it is looked again whether there is room in the spool."""
_NAME = "refill"
_FIRST_MS, _END_MS = -(2**53), 2**53


@dataclass(frozen=True, slots=True)
class Refill:
    """Puts all readings into the spool once more, station by station; an interrupted one goes on where it was.

    What charts are annotated with is sent anew as well. The past of the live classes is kept nowhere else.

    Parameters
    ----------
    archive : ParquetArchive or None
        Where the months are that have left the database.
    wait : callable
        Called with seconds as long as the spool has no room to spare: the ingest needs some, too.
    keep_days : int
        How long the server keeps readings; 0 for ever.
    downsampled : bool
        Whether the server has hours and days.
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
        """The share that is done (0 to 1) and the readings put by, told after each transaction.

        Raises StorageUnavailable, and Refused while readings are being moved into the archive.
        """
        with self.database.read() as connection:
            stations = connection.execute(sa.select(station_table.c.id, station_table.c.key).order_by("id")).all()
            done = connection.execute(sa.select(spool_mark.c.mark).where(spool_mark.c.name == _NAME)).scalar()
        total = 0
        for place, (id_, key) in enumerate(stations):
            if done is None or id_ > done:
                with nullcontext() if self.archive is None else self.archive.alone():
                    for readings in self._station(key):
                        total += readings
                        yield place / len(stations), total
                self._remember(id_)
        with self.database.write() as connection:
            connection.execute(sa.delete(spool_mark).where(spool_mark.c.name.in_([_NAME, *ANNOTATED])))
        yield 1.0, total

    def _station(self, station: str) -> Iterator[int]:
        """Put by what the archive has of a station, then what the database has; the readings of each transaction."""
        if self.archive is not None:
            for month in self.archive.months():
                yield from self._month(self.archive, station, month)
        start_ms = _FIRST_MS
        while True:
            self._make_room()
            with self.database.write() as connection:
                found = self.readings.stretch(connection, station, start_ms, _END_MS, INSTANTS)
                put = self._put(connection, station, found)
            if not len(found):
                return
            yield put
            start_ms = int(found.at.max()) + 1

    def _month(self, archive: ParquetArchive, station: str, month: str) -> Iterator[int]:
        """An archived month; what of it the database has, too, is newer and follows."""
        start, end = bounds(month)
        archived = archive.window(station, start, end - 1)
        instants = np.unique(archived.at)
        for first in range(0, len(instants), INSTANTS):
            some = instants[first : first + INSTANTS]
            part = archived.take(np.flatnonzero((archived.at >= some[0]) & (archived.at <= some[-1])))
            self._make_room()
            with self.database.write() as connection:
                put = self._put(connection, station, part)
            yield put

    def _put(self, connection: sa.Connection, station: str, readings: Window) -> int:
        """Put by what the server keeps; how many readings that are."""
        now_ms = self.clock_ms()
        kept = readings.at >= kept_since(self.keep_days, now_ms)
        old, readings = readings.take(np.flatnonzero(~kept)), readings.take(np.flatnonzero(kept))
        if self.downsampled:
            days = downsampling.touched([station], np.zeros(len(old), np.int32), old.at, 0)
            downsampling.enter(connection, days, now_ms)
        n = len(readings)
        said, message = np.full(n, ord("N"), np.uint8), np.zeros(n, np.int32)
        batch = Batch(np.zeros(n, np.int32), readings.parameter, readings.at, readings.value, said, message)
        self.spool.add(connection, Kind.READINGS, [station], batch, readings.packed)
        return n

    def _make_room(self) -> None:
        while not self.spool.has_room_to_spare():
            self.wait(PAUSE_S)

    def _remember(self, station: int) -> None:
        with self.database.write() as connection:
            connection.execute(sa.delete(spool_mark).where(spool_mark.c.name == _NAME))
            connection.execute(sa.insert(spool_mark).values(name=_NAME, mark=station))
