"""The spool: a queue in the database of what InfluxDB has not received yet.

Entries are written in the transaction of the batch; :mod:`ingest.forward` sends them in order and deletes them once the
server has them. The server may be slow, away or full without delaying acknowledgements or losing a reading; a kill -9
costs a repetition that overwrites itself (docs/decisions/0004).
"""

import shutil
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec
import numpy as np
import sqlalchemy as sa

from infra.database import Database
from infra.errors import StorageUnavailable
from infra.texts import say
from ingest.storage.tables import spool as table
from sensors.parameters import Catalogue
from sensors.reading import Batch, Ints

COUNT_MAX_AGE_S = 1.0
"""How long a count of the waiting bytes is used before it is counted again."""
MIN_FREE_BYTES = 64 * 2**20
"""Free disk space that SQLite must keep: emptying the spool needs some for the write-ahead log."""


class SpoolKind(StrEnum):
    """What an entry holds."""

    READINGS = "readings"
    VERDICTS = "verdicts"
    LINES = "lines"


@dataclass(frozen=True, slots=True)
class Entry:
    """A waiting entry: readings or verdicts (``stations`` are the keys that the batch's station column indexes,
    ``packed`` (n,) flags and tests), or ``lines`` of line protocol."""

    id: int
    kind: SpoolKind
    stations: tuple[str, ...]
    batch: Batch
    packed: Ints
    lines: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """The number of waiting entries, of their readings or lines, their bytes, and the time of the oldest (ms UTC)."""

    entries: int
    rows: int
    bytes: int
    oldest_ms: int | None


class Spool:
    """The ``spool`` table; it takes at most ``most_bytes``, then the senders keep their messages."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        *,
        clock_ms: Callable[[], int],
        most_bytes: int,
        headroom: int = MIN_FREE_BYTES,
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._clock_ms = clock_ms
        self._most_bytes = most_bytes
        self._headroom = headroom
        self._bytes = 0
        self._counted_at = -COUNT_MAX_AGE_S

    # -- adding, in the batch's transaction ----------------------------------------------------------------------------

    def add(
        self, connection: sa.Connection, kind: SpoolKind, stations: Sequence[str], batch: Batch, packed: Ints
    ) -> None:
        """Queue readings or verdicts; raises StorageUnavailable where the spool is full."""
        if len(batch):
            self._insert(connection, kind, _encode(stations, batch, packed, self._catalogue), len(batch))

    def add_lines(self, connection: sa.Connection, lines: Sequence[bytes]) -> None:
        """Queue lines of line protocol; raises StorageUnavailable where the spool is full."""
        if lines:
            self._insert(
                connection, SpoolKind.LINES, _packer.encode(lines), len(lines)
            )  # text in a line may hold line breaks

    def _insert(self, connection: sa.Connection, kind: SpoolKind, content: bytes, rows: int) -> None:
        body = zlib.compress(content, 1)
        self._reserve(connection, len(body))
        values = {"created_at_ms": self._clock_ms(), "kind": kind.value, "rows": rows, "bytes": len(body), "body": body}
        connection.execute(sa.insert(table), values)

    def _reserve(self, connection: sa.Connection, more: int) -> None:
        now = time.monotonic()
        if now - self._counted_at > COUNT_MAX_AGE_S or self._bytes + more > self._most_bytes:
            self._bytes, self._counted_at = _waiting(connection).bytes, now
            self._check_disk(connection)
        if self._bytes + more > self._most_bytes:
            raise StorageUnavailable(
                say("store.spool_full", waiting=self._bytes / 2**20, most=self._most_bytes / 2**20)
            )
        self._bytes += more

    def _check_disk(self, connection: sa.Connection) -> None:
        """Raise StorageUnavailable on a nearly full disk: on a full one entries could not even be deleted."""
        if not self._database.is_sqlite:
            return
        file = Path(self._database.url.database or ".")
        unused, pages, size = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("freelist_count", "page_count", "page_size")
        )
        to_grow = max(0, pages * size - file.stat().st_size)  # pages that are only in the write-ahead log
        free = shutil.disk_usage(file.parent).free - to_grow + unused * size
        if free < self._headroom:
            raise StorageUnavailable(say("store.disk_full", free=max(0, free) / 2**20, needed=self._headroom / 2**20))

    # -- sending -------------------------------------------------------------------------------------------------------

    def next(self, most_rows: int) -> list[Entry]:
        """The oldest entries, in order, with at most ``most_rows`` rows together, but at least one entry."""
        with self._database.read() as connection:
            sizes = connection.execute(sa.select(table.c.id, table.c.rows).order_by(table.c.id).limit(200)).all()
            ids: list[int] = []
            rows = 0
            for id_, n in sizes:
                if ids and rows + n > most_rows:
                    break
                ids.append(id_)
                rows += n
            wanted = sa.select(table.c.id, table.c.kind, table.c.body).where(table.c.id.in_(ids)).order_by(table.c.id)
            found = connection.execute(wanted).all()
        return [self._entry(id_, SpoolKind(kind), zlib.decompress(body)) for id_, kind, body in found]

    def _entry(self, id_: int, kind: SpoolKind, content: bytes) -> Entry:
        if kind is SpoolKind.LINES:
            none = Batch.empty()
            return Entry(id_, kind, (), none, none.at, tuple(_line_unpacker.decode(content)))
        stations, batch, packed = _decode(content, self._catalogue)
        return Entry(id_, kind, stations, batch, packed, ())

    def has_room_to_spare(self) -> bool:
        """Whether less than half of the spool is used; :mod:`ingest.refill` leaves the other half for new readings."""
        return self.waiting().bytes < self._most_bytes // 2

    def waiting(self) -> Waiting:
        with self._database.read() as connection:
            return _waiting(connection)


def delete(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Delete entries that the server has."""
    connection.execute(sa.delete(table).where(table.c.id.in_(ids)))


def _waiting(connection: sa.Connection) -> Waiting:
    columns = sa.func.count(), sa.func.sum(table.c.rows), sa.func.sum(table.c.bytes), sa.func.min(table.c.created_at_ms)
    entries, rows, bytes_, oldest = connection.execute(sa.select(*columns)).one()
    return Waiting(int(entries), int(rows or 0), int(bytes_ or 0), None if oldest is None else int(oldest))


class _Columns(msgspec.Struct, array_like=True):
    """A batch with keys instead of indices, so that an entry stays valid when registry or catalogue change."""

    stations: list[str]
    parameters: list[str]
    station: bytes
    parameter: bytes
    at: bytes
    value: bytes
    packed: bytes


_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(_Columns)
_line_unpacker = msgspec.msgpack.Decoder(list[bytes])


def _encode(stations: Sequence[str], batch: Batch, packed: Ints, catalogue: Catalogue) -> bytes:
    places, station = np.unique(batch.station, return_inverse=True)
    codes, parameter = np.unique(batch.parameter, return_inverse=True)
    return _packer.encode(
        _Columns(
            [stations[i] for i in places],
            [catalogue.parameters[code].key for code in codes],
            station.astype("<i4").tobytes(),
            parameter.astype("<i2").tobytes(),
            batch.at.astype("<i8").tobytes(),
            batch.value.astype("<f8").tobytes(),
            packed.astype("<i8").tobytes(),
        )
    )


def _decode(content: bytes, catalogue: Catalogue) -> tuple[tuple[str, ...], Batch, Ints]:
    """Stations, batch and packed flags; readings of a parameter that left the catalogue are dropped."""
    columns = _unpacker.decode(content)
    codes = np.array([catalogue.index.get(key, -1) for key in columns.parameters], np.int32)
    parameter = codes[np.frombuffer(columns.parameter, "<i2")]
    at = np.frombuffer(columns.at, "<i8").astype(np.int64)
    n = len(at)
    batch = Batch(
        np.frombuffer(columns.station, "<i4").astype(np.int32),
        parameter,
        at,
        np.frombuffer(columns.value, "<f8").astype(np.float64),
        np.full(n, ord("N"), np.uint8),
        np.zeros(n, np.int32),
    )
    decoded = np.flatnonzero(parameter >= 0)
    packed = np.frombuffer(columns.packed, "<i8").astype(np.int64)
    return tuple(columns.stations), batch.take(decoded), packed[decoded]
