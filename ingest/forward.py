"""What stands in the spool goes to the time-series server, in order, until the server has it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from governance.database import Database
from governance.rounds import Rounds
from ingest import quarantine
from ingest.storage import lineprotocol, schema, spool
from ingest.storage import registry as registry_store
from ingest.storage.spool import Entry, Kind, Spool
from ingest.storage.timeseries import Refused, ServerTrouble, TimeSeriesServer
from sensors.errors import StorageUnavailable
from sensors.parameters import Catalogue
from sensors.texts import sentence

log = structlog.get_logger(__name__)

POLL_S = 0.5
"""How long a reading waits at most before it is sent; charts are drawn once a minute."""
MOST_ROWS = 60_000
"""Readings of one request, about 1.5 MB of line protocol: InfluxDB recommends 5,000 to 10,000 lines."""
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
DENIED_S = 30.0
"""A refused login or a missing bucket is not mended by asking often."""
UNCONFIRMED = 3
"""So often may the server accept lines and not have them, before the lines are quarantined and the rest goes on."""


@dataclass(frozen=True, slots=True)
class State:
    """How forwarding goes; ``error`` is empty while it goes well."""

    error: str = ""
    sent_rows: int = 0
    refused_lines: int = 0


FORWARDING = 0x7269_7665_7204
"""The advisory lock held during a round, PostgreSQL: a worker that lost its session may not know yet that another one
keeps house."""


class Forwarder(Rounds):
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
        super().__init__("forwarder")
        self._database = database
        self._spool = spool
        self._server = server
        self._catalogue = catalogue
        self._clock_ms = clock_ms
        self._poll_s = poll_s
        self._backoff_s = backoff_s
        self._reaches = registry_store.Reaches(database, catalogue)
        self._failures = 0
        self._unconfirmed = 0
        self.state = State()

    def next_round(self) -> float:
        try:
            sent = self.round()
        except StorageUnavailable as error:
            wait_s = self._backoff_s[min(self._failures, len(self._backoff_s) - 1)]
            if isinstance(error, ServerTrouble):
                wait_s = max(wait_s, error.retry_after_s or 0.0, DENIED_S if error.needs_somebody else 0.0)
            return self._failed(str(error), wait_s)
        except Exception as error:
            log.exception("forwarding to the time-series server failed")
            return self._failed(f"{type(error).__name__}: {error}", self._backoff_s[-1])
        if self._failures:
            log.info("the time-series server takes readings again", after_failures=self._failures)
        self._failures = 0
        return 0.0 if sent else self._poll_s

    def _failed(self, error: str, wait_s: float) -> float:
        if error != self.state.error or self._failures % 20 == 0:
            log.warning("readings wait in the spool for the time-series server", error=error, next_try_s=wait_s)
        self._failures += 1
        self.state = replace(self.state, error=error)
        return wait_s

    def round(self) -> int:
        """Send the oldest entries; the number of entries the server now has.

        Raises StorageUnavailable when the server cannot take them now; they stay.
        """
        with self._alone() as alone:
            return self._send_oldest() if alone else 0

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other forwarder of the database is at work, and none will be while this lasts."""
        if self._database.is_sqlite:  # workers are of one machine there, and the file's lock ends with its process
            yield True
            return
        with self._database.read() as connection:
            yield bool(connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({FORWARDING})").scalar_one())

    def _send_oldest(self) -> int:
        entries = self._spool.next(MOST_ROWS)
        if not entries:
            self.state = replace(self.state, error="")
            return 0
        now_ms = self._clock_ms()
        lines = [line for entry in entries for line in self._lines(entry)]
        marker = _marker(entries[-1].id, now_ms)
        refused = self._sent(lines, marker)
        with self._database.write() as connection:
            spool.delete(connection, [entry.id for entry in entries])
            quarantine.keep_lines(connection, [(_station(r.line), r.line, r.reason) for r in refused], now_ms)
        if refused:
            log.error("the time-series server refused lines; they are in quarantine", lines=len(refused))
        rows = sum(len(entry.batch) + len(entry.lines) for entry in entries)
        self.state = State("", self.state.sent_rows + rows, self.state.refused_lines + len(refused))
        return len(entries)

    def _sent(self, lines: list[bytes], marker: bytes) -> list[Refused]:
        """Send, and see that it arrived; the lines (or the parts of lines) the server will never take.

        Each request carries a marker that is read back: an answer that came from something in between, which stored
        nothing, is found out. A server that drops single lines in silence is asked for each of them.
        """
        refused = self._server.send([*lines, marker])
        whole = {r.line for r in refused}
        if refused:  # a line is refused whole, and often one parameter of it is to blame
            refused = self._server.send(_by_parameter([r.line for r in refused]))
        asked = [line for line in lines if line not in whole] if self._server.drops_silently else []
        lost = self._server.verify([*asked, marker])
        if not lost:
            self._unconfirmed = 0
            return refused
        self._unconfirmed = 0 if marker in lost else self._unconfirmed + 1
        if self._unconfirmed < UNCONFIRMED:
            raise StorageUnavailable(sentence("series.lost", lost=len(lost)))
        self._unconfirmed = 0
        return refused + [Refused(line, "accepted, but not there when read back") for line in lost]

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


def _station(line: bytes) -> str:
    """The station a refused line speaks of, if it can be made out."""
    try:
        return lineprotocol.parse(line).tags.get(schema.STATION, "")
    except ValueError:
        return ""
