"""Write chart annotations (incidents, visits, calibrations, sensor swaps) and update the live classes.

Annotations are written once a minute; each change of one writes its point again under the same key (beginning, station,
kind). Live classes are judged as readings arrive, and all of them once a minute.
"""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import sqlalchemy as sa
import structlog

from governance.tables import incident, incident_entry
from infra.database import Database, lock_inserts
from infra.periodic import PeriodicWorker
from infra.texts import Text, join_on_line, say
from ingest.analysis import live_classes
from ingest.pipeline import Outcome
from ingest.storage import lineprotocol, schema
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.port import ReadingStore
from ingest.storage.spool import Spool
from ingest.storage.tables import calibration, deployment, registry_change, spool_progress, visit
from ingest.storage.tables import station as station_table
from sensors.parameters import Catalogue
from sensors.reading import Message
from sensors.stations import Registry

log = structlog.get_logger(__name__)

EVERY_S = 60.0
GATHER_S = 0.5
"""Delay after new readings before their stations are judged, so that more can be judged together."""
MAX_STATIONS = 200
"""Stations judged at once between two full rounds, which takes some tenths of a second."""
REST = 4.0
"""Pause between two judgements, in times of what the last one took: in a backlog all stations report at once again and
again, and without a pause this took half of a processor from the ingest (docs/performance.md)."""
CHANGES_PER_TRANSACTION = 500
_INCIDENTS, _MAINTENANCE = "incident_entry", "registry_change"
ANNOTATED = (_INCIDENTS, _MAINTENANCE)
"""The names of the progress marks; without them everything is annotated again."""


class AnnotationWriter(PeriodicWorker):
    """A thread that updates live classes and writes annotations; one for each database.

    All stations are judged once a minute, since time alone changes a class; those passed to ``on_batch`` at once.
    """

    def __init__(
        self,
        database: Database,
        store: ReadingStore,
        catalogue: Catalogue,
        *,
        clock_ms: Callable[[], int],
        spool: Spool | None = None,
    ) -> None:
        super().__init__("outlook")
        self._database = database
        self._store = store
        self._catalogue = catalogue
        self._clock_ms = clock_ms
        self._spool = spool
        self._next_at = self._took_s = 0.0
        self._reported: dict[str, None] = {}
        self._lock = threading.Lock()
        self._registry: Registry | None = None
        self.last_round_ms: int | None = None

    def on_batch(self, messages: Sequence[Message], _: Outcome) -> None:
        """Note that readings of these stations were stored; thread-safe, never blocks."""
        with self._lock:
            self._reported |= dict.fromkeys(message.station for message in messages)
        self.wake()

    def round(self) -> None:
        """One round; raises StorageUnavailable."""
        now_ms = self._clock_ms()
        with self._lock:
            self._reported.clear()
        with self._database.read() as connection:
            self._registry = registry_store.load(connection, self._catalogue)
        update = partial(live_classes.update_classes, self._database, self._store, self._catalogue)
        update(now_ms, self._spool, registry=self._registry)
        if self._spool is not None:
            annotate(self._database, self._spool)
            annotate_maintenance(self._database, self._spool, self._catalogue)
        self.last_round_ms, self.last_error = now_ms, ""

    def judge_reported(self) -> None:
        """Judge the stations with new readings; raises StorageUnavailable."""
        with self._lock:
            keys = list(self._reported)[:MAX_STATIONS]
            for key in keys:
                del self._reported[key]
        if keys and self._registry is not None:
            update = partial(live_classes.update_classes, self._database, self._store, self._catalogue)
            update(self._clock_ms(), self._spool, registry=self._registry, only=keys)

    def next_round(self) -> float:
        full = time.monotonic() >= self._next_at
        with self.outlive("live classes"):
            if full:
                self._next_at = time.monotonic() + EVERY_S
                self.round()
            elif not self._stopping.wait(max(GATHER_S, REST * self._took_s)):
                began = time.monotonic()
                self.judge_reported()
                self._took_s = time.monotonic() - began
        return GATHER_S if self._reported else max(0.0, self._next_at - time.monotonic())


def annotate(database: Database, spool: Spool) -> int:
    """Queue a point for each incident that changed since the last call; how many.

    The progress mark moves in the same transaction. Raises StorageUnavailable.
    """
    changed = 0
    while True:
        with database.write() as connection:
            # else an entry with a lower id could be committed after the mark moved
            lock_inserts(connection, incident_entry)
            mark = connection.execute(
                sa.select(spool_progress.c.position).where(spool_progress.c.name == _INCIDENTS)
            ).scalar()
            entries = connection.execute(
                sa.select(incident_entry.c.id, incident_entry.c.incident_id)
                .where(incident_entry.c.id > (mark or 0))
                .order_by(incident_entry.c.id)
                .limit(CHANGES_PER_TRANSACTION)
            ).all()
            if not entries:
                return changed
            ids = sorted({row.incident_id for row in entries})
            spool.add_lines(connection, _points(connection, ids))
            _move_mark(connection, _INCIDENTS, mark, entries[-1].id)
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


def annotate_maintenance(database: Database, spool: Spool, catalogue: Catalogue) -> int:
    """Queue a point for each visit, calibration and swap that changed since the last call; how many.

    The progress mark moves in the same transaction. Raises StorageUnavailable.
    """
    changed = 0
    while True:
        with database.write() as connection:
            mark = connection.execute(
                sa.select(spool_progress.c.position).where(spool_progress.c.name == _MAINTENANCE)
            ).scalar()
            rows = connection.execute(
                sa.select(registry_change.c.id, registry_change.c.what, registry_change.c.key)
                .where(registry_change.c.id > (mark or 0))
                .order_by(registry_change.c.id)
                .limit(CHANGES_PER_TRANSACTION)
            ).all()
            if not rows:
                return changed
            # the key ends in the instant; changes of several sensors of a station at one instant are one annotation
            parts = [(row.what, *row.key.partition("/")[::2]) for row in rows if row.what in _POINT_OF]
            places = {(what, station, int(rest.rpartition("/")[2])) for what, station, rest in parts}
            points = [_POINT_OF[what](connection, catalogue, station, at_ms) for what, station, at_ms in sorted(places)]
            if points:
                spool.add_lines(connection, points)
            _move_mark(connection, _MAINTENANCE, mark, rows[-1].id)
            changed += len(places)


def _move_mark(connection: sa.Connection, name: str, mark: int | None, to: int) -> None:
    if mark is None:
        connection.execute(sa.insert(spool_progress).values(name=name, position=to))
    else:
        connection.execute(sa.update(spool_progress).where(spool_progress.c.name == name).values(position=to))


def _visit(connection: sa.Connection, catalogue: Catalogue, station: str, at_ms: int) -> bytes:
    where = (visit.c.station == station) & (visit.c.since_ms == at_ms)
    row = connection.execute(sa.select(visit).where(where)).one()
    sensors = _names(catalogue, row.parameters) if row.parameters else say("maintenance.whole_station")
    text = say("maintenance.visit", by=row.by or "—", sensors=sensors)
    return _event(connection, "visit", station, row.id, text, at_ms, row.until_ms or 0)


def _calibration(connection: sa.Connection, catalogue: Catalogue, station: str, at_ms: int) -> bytes:
    where = (calibration.c.station == station) & (calibration.c.at_ms == at_ms)
    numbers = [n for (n,) in connection.execute(sa.select(calibration.c.id).where(where).order_by(calibration.c.id))]
    texts = [
        say(
            f"maintenance.{'void' if check.void else 'passed' if check.judged().left_right else 'failed'}",
            parameter=_names(catalogue, [check.parameter]),
            kind=say(f"maintenance.kind_{check.kind}"),
        )
        for number, check in maintenance_store.checks(connection, station)
        if number in numbers
    ]
    return _event(connection, "calibration", station, numbers[0], _joined(texts), at_ms, at_ms)


def _swap(connection: sa.Connection, catalogue: Catalogue, station: str, at_ms: int) -> bytes:
    where = deployment.c.station == station
    rows = connection.execute(sa.select(deployment).where(where).order_by(deployment.c.since_ms)).all()
    texts = []
    for row in rows:
        if row.since_ms == at_ms:
            before = [r for r in rows if r.parameter == row.parameter and r.since_ms < at_ms]
            texts.append(
                say(
                    "maintenance.swap" if before else "maintenance.hung",
                    parameter=_names(catalogue, [row.parameter]),
                    old=before[-1].device or before[-1].unit if before else "",
                    new=row.device or row.unit,
                )
            )
    number = next(row.id for row in rows if row.since_ms == at_ms)
    return _event(connection, "swap", station, number, _joined(texts), at_ms, at_ms)


_POINT_OF = {"visit": _visit, "calibration": _calibration, "deployment": _swap}


def _event(
    connection: sa.Connection, kind: str, station: str, number: int, text: Text, at_ms: int, until_ms: int
) -> bytes:
    reach = connection.execute(sa.select(station_table.c.reach).where(station_table.c.key == station)).scalar()
    return lineprotocol.point(
        schema.EVENT,
        {schema.KIND: kind, schema.STATION: station, schema.REACH: reach or ""},
        {schema.ID: number, schema.TITLE: join_on_line(text), schema.UNTIL: until_ms},
        at_ms,
    )


def _names(catalogue: Catalogue, parameters: Sequence[str]) -> Text:
    found = [catalogue[key] for key in parameters]
    return Text("、".join(p.zh for p in found), ", ".join(p.en for p in found))


def _joined(texts: Sequence[Text]) -> Text:
    return Text("；".join(t.zh for t in texts), "; ".join(t.en for t in texts))
