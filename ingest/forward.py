"""What stands in the spool goes to the time-series server, in order, until the server has it."""

from collections.abc import Callable, Iterator, Sequence

import structlog

from infra.database import Database
from infra.errors import StorageUnavailable
from infra.texts import sentence
from ingest import quarantine
from ingest.sending import BACKOFF_S, POLL_S, Sending, State
from ingest.storage import downsampling, lineprotocol, schema, spool
from ingest.storage import registry as registry_store
from ingest.storage.downsampling import DELAY_MS, Due
from ingest.storage.spool import Entry, Kind, Spool
from ingest.storage.timeseries import Refused, TimeSeriesServer
from sensors.parameters import Catalogue

log = structlog.get_logger(__name__)

MOST_ROWS = 60_000
"""Readings of one request, about 1.5 MB of line protocol: InfluxDB recommends 5,000 to 10,000 lines."""

FORWARDING = 0x7269_7665_7206
"""The advisory lock held during a round, PostgreSQL: a worker that lost its session may not know yet that another one
keeps house."""


class Forwarder(Sending):
    """A thread that empties the spool; one for a database, since a later value must not be overtaken by an earlier."""

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
    ) -> None:
        super().__init__("forwarder", database, FORWARDING, poll_s=poll_s, backoff_s=backoff_s)
        self._spool = spool
        self._server = server
        self._catalogue = catalogue
        self._clock_ms = clock_ms
        self._reaches = registry_store.Reaches(database, catalogue)

    def send(self) -> int:
        """Send the oldest entries; the number of entries the server now has."""
        entries = self._spool.next(MOST_ROWS)
        if not entries:
            return 0
        now_ms = self._clock_ms()
        lines = [line for entry in entries for line in self._lines(entry)]
        marker = _marker(entries[-1].id, now_ms)
        refused = self._sent(lines, marker)
        with self._database.write() as connection:
            spool.delete(connection, [entry.id for entry in entries])
            if self._server.settings.kind in downsampling.SERVERS:
                downsampling.enter(connection, (day for e in entries for day in _days(e)), now_ms + DELAY_MS)
            quarantine.keep_lines(connection, [(_station(r.line), r.line, r.reason) for r in refused], now_ms)
        if refused:
            log.error("the time-series server refused lines; they are in quarantine", lines=len(refused))
        rows = sum(len(entry.batch) + len(entry.lines) for entry in entries)
        self.state = State(sent_rows=self.state.sent_rows + rows, refused_lines=self.state.refused_lines + len(refused))
        return len(entries)

    def _sent(self, lines: list[bytes], marker: bytes) -> list[Refused]:
        """Send, and see that it arrived; the lines (or the parts of lines) the server will never take.

        Each request carries a marker that is read back: an answer that came from something in between, which stored
        nothing, is found out.
        """
        refused = self._server.send([*lines, marker])
        if refused:  # a line is refused whole, and often one parameter of it is to blame
            refused = self._server.send(_by_parameter([r.line for r in refused]))
        if lost := self._server.verify([marker]):
            raise StorageUnavailable(sentence("series.lost", lost=len(lost)))
        return refused

    def _lines(self, entry: Entry) -> Sequence[bytes]:
        if entry.kind is Kind.LINES:
            return entry.lines
        encode = lineprotocol.encode if entry.kind is Kind.READINGS else lineprotocol.encode_reflag
        return encode(entry.stations, self._reaches.of(entry.stations), entry.batch, entry.packed, self._catalogue)


def _marker(entry: int, now_ms: int) -> bytes:
    """The point that rides with a request; one a minute is kept, the newest."""
    return lineprotocol.point(schema.SPOOL, {}, {schema.ENTRY: entry}, now_ms - now_ms % 60_000)


def _by_parameter(lines: Sequence[bytes]) -> list[bytes]:
    """The lines in parts of one parameter each, one parameter after the other: where all of one are refused, the server
    says so at once and need not be asked line by line. What is no line stays as it is."""
    parts: dict[str, list[bytes]] = {}
    for line in lines:
        try:
            for part in lineprotocol.by_parameter(line):
                parts.setdefault(next(iter(lineprotocol.parse(part).fields)), []).append(part)
        except ValueError:
            parts.setdefault("", []).append(line)
    return [part for group in parts.values() for part in group]


def _days(entry: Entry) -> Iterator[Due]:
    """The days whose readings or verdicts an entry holds."""
    if entry.kind is not Kind.LINES:
        yield from downsampling.touched(entry.stations, entry.batch.station, entry.batch.at, entry.id)
        return
    for line in entry.lines:  # few are readings: those that come from the quarantine
        if line.startswith(f"{schema.WATER},".encode()):
            point = lineprotocol.parse(line)
            if point.at is not None:
                yield Due(point.tags.get(schema.STATION, ""), downsampling.day_of(point.at), entry.id)


def _station(line: bytes) -> str:
    """The station a refused line speaks of, if it can be made out."""
    try:
        return lineprotocol.parse(line).tags.get(schema.STATION, "")
    except ValueError:
        return ""
