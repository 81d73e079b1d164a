"""What people look at beside readings, made once a minute: live classes, and incidents as annotations of the charts.

Each change of an incident writes its point again; the point's key (time of the first reading, station, kind) does not
change, so that the newest word overwrites the one before.
"""

import threading
from collections.abc import Callable

import sqlalchemy as sa
import structlog

from governance.database import Database
from governance.tables import incident, incident_entry
from ingest import classes
from ingest.storage import lineprotocol, schema
from ingest.storage.port import ReadingStore
from ingest.storage.spool import Spool
from ingest.storage.tables import spool_mark
from ingest.storage.tables import station as station_table
from sensors.errors import StorageUnavailable
from sensors.parameters import Catalogue

log = structlog.get_logger(__name__)

EVERY_S = 60.0
AT_ONCE = 500
"""Changes of one transaction."""
SETTLED_MS = 5_000
"""Entries are looked at when they are so old: numbers are given before transactions commit, in whichever order."""
_NAME = "incident_entry"


class Outlook:
    """A thread that judges all classes and writes the annotations once a minute; one for a database."""

    def __init__(
        self,
        database: Database,
        store: ReadingStore,
        catalogue: Catalogue,
        *,
        clock_ms: Callable[[], int],
        spool: Spool | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._database = database
        self._store = store
        self._catalogue = catalogue
        self._clock_ms = clock_ms
        self._spool = spool
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.last_round_ms: int | None = None
        self.last_error = ""

    def start(self) -> None:
        """Begin, also after a stop."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="outlook", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 15.0) -> bool:
        """End after the round under way; false when that took longer."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.alive

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def round(self) -> None:
        """One round; raises StorageUnavailable."""
        now_ms = self._clock_ms()
        classes.update(self._database, self._store, self._catalogue, now_ms, self._spool)
        if self._spool is not None:
            annotate(self._database, self._spool, now_ms)
        self.last_round_ms, self.last_error = now_ms, ""

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.round()
            except StorageUnavailable as error:
                self.last_error = str(error)
                log.warning("live classes wait for the database", error=str(error))
            except Exception as error:
                self.last_error = f"{type(error).__name__}: {error}"
                log.exception("a round of live classes failed")
            self._stopping.wait(self._every_s)


def annotate(database: Database, spool: Spool, now_ms: int) -> int:
    """Put a point into the spool for each incident that changed since the last call; how many did.

    The mark moves in the same transaction as the points are put by. Raises StorageUnavailable.
    """
    changed = 0
    while True:
        with database.write() as connection:
            mark = connection.execute(sa.select(spool_mark.c.mark).where(spool_mark.c.name == _NAME)).scalar()
            entries = connection.execute(
                sa.select(incident_entry.c.id, incident_entry.c.incident_id)
                .where(incident_entry.c.id > (mark or 0), incident_entry.c.at_ms <= now_ms - SETTLED_MS)
                .order_by(incident_entry.c.id)
                .limit(AT_ONCE)
            ).all()
            if not entries:
                return changed
            ids = sorted({row.incident_id for row in entries})
            spool.add_lines(connection, _points(connection, ids))
            newest = entries[-1].id
            if mark is None:
                connection.execute(sa.insert(spool_mark).values(name=_NAME, mark=newest))
            else:
                connection.execute(sa.update(spool_mark).where(spool_mark.c.name == _NAME).values(mark=newest))
            changed += len(ids)


def _points(connection: sa.Connection, ids: list[int]) -> list[bytes]:
    query = (
        sa.select(incident, station_table.c.reach)
        .outerjoin(station_table, station_table.c.key == incident.c.station)
        .where(incident.c.id.in_(ids))
    )
    return [
        lineprotocol.point(
            schema.EVENT,
            {schema.KIND: "incident", schema.STATION: row.station, schema.REACH: row.reach or ""},
            {
                schema.ID: row.id,
                schema.COLOUR: row.colour,
                schema.TITLE: f"{row.title_zh} · {row.title_en}",
                schema.UNTIL: row.closed_at_ms or 0,
            },
            row.since_ms,
        )
        for row in connection.execute(query)
    ]
