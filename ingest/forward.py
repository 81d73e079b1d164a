"""Forward the spool to the time-series server, in order."""

from collections.abc import Callable, Iterator, Sequence

import structlog

from infra.database import Database
from infra.errors import StorageUnavailable
from infra.texts import say
from ingest import quarantine
from ingest.quarantine_limits import Limits
from ingest.sending import BACKOFF_S, POLL_S, SendingState, SendingWorker
from ingest.storage import downsampling, lineprotocol, schema, spool
from ingest.storage import registry as registry_store
from ingest.storage.downsampling import DELAY_MS, Due
from ingest.storage.spool import Entry, Spool, SpoolKind
from ingest.storage.timeseries import RefusedLine, TimeSeriesServer
from sensors.parameters import Catalogue

log = structlog.get_logger(__name__)

MAX_ROWS = 60_000
"""Readings of one request: about 1.5 MB, 5,000 to 10,000 lines as InfluxDB recommends."""

FORWARDING = 0x7269_7665_7206
"""PostgreSQL advisory lock of a round."""


class Forwarder(SendingWorker):
    """A thread that empties the spool; one for each database, so that values arrive in order."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        server: TimeSeriesServer,
        catalogue: Catalogue,
        *,
        clock_ms: Callable[[], int],
        poll_s: float = POLL_S,
        backoff_s: Sequence[float] = BACKOFF_S,
        limits: Limits = Limits(),
    ) -> None:
        super().__init__("forwarder", database, FORWARDING, poll_s=poll_s, backoff_s=backoff_s)
        self._spool = spool
        self._server = server
        self._limits = limits
        self._catalogue = catalogue
        self._clock_ms = clock_ms
        self._reaches = registry_store.Reaches(database, catalogue)

    def send(self) -> int:
        """Send the oldest entries; the number of entries the server now has."""
        entries = self._spool.next(MAX_ROWS)
        if not entries:
            return 0
        now_ms = self._clock_ms()
        lines = [line for entry in entries for line in self._lines(entry)]
        marker = _marker(entries[-1].id, now_ms)
        refused = self._send_verified(lines, marker)
        with self._database.write() as connection:
            spool.delete(connection, [entry.id for entry in entries])
            if self._server.settings.kind in downsampling.SERVERS:
                downsampling.schedule_days(connection, (day for e in entries for day in _days(e)), now_ms + DELAY_MS)
            quarantine.add_lines(
                connection, [(_station(r.line), r.line, r.reason) for r in refused], now_ms, self._limits
            )
        if refused:
            log.error("the time-series server refused lines; they are in quarantine", lines=len(refused))
        rows = sum(len(entry.batch) + len(entry.lines) for entry in entries)
        self.state = SendingState(
            sent_rows=self.state.sent_rows + rows, refused_lines=self.state.refused_lines + len(refused)
        )
        return len(entries)

    def _send_verified(self, lines: list[bytes], marker: bytes) -> list[RefusedLine]:
        """Send and verify; the lines (or parts of lines) that the server will never accept.

        Each request carries a marker point that is read back, which detects an answer of a proxy that stored nothing.
        """
        refused = self._server.send([*lines, marker])
        if refused:  # a line is refused as a whole, often for one of its parameters
            refused = self._server.send(_by_parameter([r.line for r in refused]))
        if lost := self._server.verify([marker]):
            raise StorageUnavailable(say("time_series_server.lost", lost=len(lost)))
        return refused

    def _lines(self, entry: Entry) -> Sequence[bytes]:
        if entry.kind is SpoolKind.LINES:
            return entry.lines
        encode = lineprotocol.encode if entry.kind is SpoolKind.READINGS else lineprotocol.encode_reflag
        return encode(entry.stations, self._reaches.of(entry.stations), entry.batch, entry.packed, self._catalogue)


def _marker(entry: int, now_ms: int) -> bytes:
    """The marker point of a request; the newest of each minute remains."""
    return lineprotocol.point(schema.SPOOL, {}, {schema.ENTRY: entry}, now_ms - now_ms % 60_000)


def _by_parameter(lines: Sequence[bytes]) -> list[bytes]:
    """The lines split by parameter and grouped by it, so that a parameter that is refused as a whole takes few
    requests.

    Lines that cannot be parsed stay as they are.
    """
    parts: dict[str, list[bytes]] = {}
    for line in lines:
        try:
            for part in lineprotocol.by_parameter(line):
                parts.setdefault(next(iter(lineprotocol.parse(part).fields)), []).append(part)
        except ValueError:
            parts.setdefault("", []).append(line)
    return [part for group in parts.values() for part in group]


def _days(entry: Entry) -> Iterator[Due]:
    """The days of an entry's readings."""
    if entry.kind is not SpoolKind.LINES:
        yield from downsampling.days_of_readings(entry.stations, entry.batch.station, entry.batch.at, entry.id)
        return
    for line in entry.lines:  # readings only where they were replayed from quarantine
        if line.startswith(f"{schema.WATER},".encode()):
            point = lineprotocol.parse(line)
            if point.at is not None:
                yield Due(point.tags.get(schema.STATION, ""), downsampling.day_of(point.at), entry.id)


def _station(line: bytes) -> str:
    """The station of a refused line, "" where it cannot be parsed."""
    try:
        return lineprotocol.parse(line).tags.get(schema.STATION, "")
    except ValueError:
        return ""
