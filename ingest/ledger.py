"""The loss ledger: for every station and Beijing day, sent = stored + duplicate + quarantined + missing.

What arrived is counted reading by reading. What was sent is known from the device's numbering: a gap in ``seq`` is a
missing message, and ``total`` gives the number of its readings (without it the number is unknown).
"""

from bisect import bisect_right, insort
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from threading import Lock

import numpy as np
import sqlalchemy as sa

from infra.database import insert_many
from infra.records import from_row
from infra.times import DAY_MS, HOUR_MS, beijing_day
from ingest.storage.tables import ledger as table
from ingest.storage.tables import message_sequence as stream_table
from ingest.storage.tables import quarantine_discard as discard_table
from ingest.storage.tables import sequence_gap as gap_table
from sensors.reading import Ints, Message, Rejected
from sensors.stations import Registry
from sensors.wire.telemetry import Header

UNREGISTERED = "?"
"""The account of messages from unregistered stations."""

_COUNTS = (
    "messages",
    "messages_duplicate",
    "messages_unnumbered",
    "messages_quarantined",
    "readings",
    "stored",
    "duplicate",
    "quarantined",
    "messages_dropped",
)
(
    _MESSAGES,
    _AGAIN,
    _UNNUMBERED,
    _M_QUARANTINED,
    _READINGS,
    _STORED,
    _DUPLICATE,
    _QUARANTINED,
    _LEFT_OUT,
) = range(len(_COUNTS))
_MAX_QUEUED_MS = 7 * DAY_MS
_CLOCK_AHEAD_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Account:
    """One station and day. ``missing`` is None where messages are missing whose number of readings is unknown.

    ``messages_dropped`` came from unauthenticated senders beyond their limit and are in no other count. ``discarded``
    of the ``quarantined`` readings were beyond the limits of the quarantine: their content is not kept.
    """

    station: str
    day: str
    messages: int
    messages_duplicate: int
    messages_unnumbered: int
    messages_quarantined: int
    messages_missing: int
    readings: int
    stored: int
    duplicate: int
    quarantined: int
    missing: int | None
    messages_dropped: int = 0
    discarded: int = 0

    @property
    def sent(self) -> int | None:
        """Readings that the device sent, by its numbering."""
        return None if self.missing is None else self.readings + self.missing

    @property
    def closed(self) -> bool:
        """Whether every reading has exactly one fate and every gap a known size."""
        return self.missing is not None and self.readings == self.stored + self.duplicate + self.quarantined

    @property
    def complete(self) -> bool:
        """Whether the account is closed and nothing is missing."""
        return self.closed and self.missing == 0


@dataclass(slots=True)
class _Stream:
    next_seq: int
    total: int | None


class Ledger:
    """Counts batches in the transaction that stores them; caches the numbering of each device."""

    def __init__(self) -> None:
        self._streams: dict[str, dict[int, _Stream]] = {}
        self._left_out: dict[str, int] = {}
        self._lock = Lock()

    def count_left_out_message(self, day: str, count: int = 1) -> None:
        """Count dropped messages of unauthenticated senders; thread-safe."""
        with self._lock:
            self._left_out[day] = self._left_out.get(day, 0) + count

    def take_left_out_counts(self) -> dict[str, int]:
        """Messages left out by day since the last call."""
        with self._lock:
            taken, self._left_out = self._left_out, {}
        return taken

    def forget(self) -> None:
        """Clear the cache; it is read again from the database."""
        self._streams.clear()

    def count(  # noqa: PLR0913  (a column of the ledger each)
        self,
        connection: sa.Connection,
        registry: Registry,
        messages: Sequence[Message],
        headers: Sequence[Header | None],
        stored: Ints,
        duplicate: Ints,
        rejected: Iterable[Rejected],
        *,
        repeated: Container[int] = (),
        later: Container[int] = (),
    ) -> None:
        """Enter a batch.

        Parameters
        ----------
        stored, duplicate : (messages,) numbers of readings
        repeated : indices into ``rejected`` of what was in quarantine before; its readings are duplicates
        later : indices of messages that are entered when they are processed
        """
        duplicate = duplicate.copy()
        quarantined = np.zeros(len(messages), np.int64)
        touched = np.zeros(len(messages), np.bool_)
        unread: set[int] = set()  # refused as a whole: their seq stays missing until they come again or are replayed
        for i, r in enumerate(rejected):
            if r.readings is None:
                unread.add(r.message)
            (duplicate if i in repeated else quarantined)[r.message] += len(r.readings or ())
            touched[r.message] |= i not in repeated
        self._read(connection, {message.station for message in messages} & registry.index.keys())
        size = stored + duplicate + quarantined
        first = np.array([message.replay_of is None for message in messages], np.bool_)
        counts = np.zeros((len(messages), len(_COUNTS)), np.int64)
        counts[:, _READINGS], counts[:, _STORED] = size, stored
        counts[:, _DUPLICATE], counts[:, _QUARANTINED] = duplicate, quarantined
        counts[:, _MESSAGES], counts[:, _M_QUARANTINED] = first, first & touched
        entered = [i for i in range(len(messages)) if i not in later]
        accounts: dict[tuple[str, str], int] = {}
        account: list[int] = []  # of each message entered
        dirty: dict[tuple[str, int], _Stream] = {}
        gaps = _BatchGaps(connection, ((m.station, header) for m, header in zip(messages, headers, strict=True)))
        sizes, news = size.tolist(), stored.tolist()
        for i in entered:
            message, header = messages[i], headers[i]
            station, day = account_of(registry, message), day_of(header, message)
            account.append(accounts.setdefault((station, day), len(accounts)))
            if header is None or header.seq is None or station == UNREGISTERED or i in unread:
                counts[i, _UNNUMBERED] = first[i]
            elif self._follow_numbering(gaps, station, header, sizes[i], news[i], day, dirty):
                counts[i, _AGAIN] = first[i]
        totals = np.zeros((len(accounts), len(_COUNTS)), np.int64)
        np.add.at(totals, account, counts[entered])
        _add(connection, dict(zip(accounts, totals.tolist(), strict=True)))
        gaps.save()
        self._save(connection, dirty)

    def count_left_out(self, connection: sa.Connection, by_day: Mapping[str, int]) -> None:
        """Enter messages that were left out, under :data:`UNREGISTERED`."""
        rows = {}
        for day, count in by_day.items():
            rows[UNREGISTERED, day] = row = [0] * len(_COUNTS)
            row[_LEFT_OUT] = count
        _add(connection, rows)

    def undo(self, connection: sa.Connection, station: str, day: str, refused: int) -> None:
        """Subtract readings that a replay takes out of quarantine; the replayed batch counts them again."""
        row = [0] * len(_COUNTS)
        row[_READINGS] = row[_QUARANTINED] = -refused
        _add(connection, {(station, day): row})

    # -- numbering ---------------------------------------------------------------------------------------------------

    def _follow_numbering(
        self,
        gaps: "_BatchGaps",
        station: str,
        header: Header,
        size: int,
        new: int,
        day: str,
        dirty: dict[tuple[str, int], _Stream],
    ) -> bool:
        """Apply a message's number to the device's numbering; true for a repeated number."""
        seq, boot = header.seq, header.boot or 0
        assert seq is not None
        streams = self._streams[station]
        stream = streams.get(boot)
        before = None if header.total is None else header.total - size
        if stream is None:
            first_contact = not streams or boot < min(streams)  # nothing is known of earlier starts
            stream = streams[boot] = _Stream(seq, before if first_contact else 0)
            if not first_contact and seq > 0:
                gaps.open((station, boot), (0, seq - 1), (0, before), day)
        elif seq > stream.next_seq:
            gaps.open((station, boot), (stream.next_seq, seq - 1), (stream.total, before), day)
        elif seq < stream.next_seq:
            if gaps.fill((station, boot), seq, (before, header.total)):
                return False
            if not (seq == 0 and header.boot is None and new):
                return True
            # numbering began again without a boot count: new readings prove it
        stream.next_seq, stream.total = seq + 1, header.total
        dirty[station, boot] = stream
        return False

    def _read(self, connection: sa.Connection, stations: Set[str]) -> None:
        """Read the numbering of devices that is not known yet."""
        new = sorted(stations - self._streams.keys())
        self._streams.update((station, {}) for station in new)
        if new:
            for row in connection.execute(sa.select(stream_table).where(stream_table.c.station.in_(new))):
                self._streams[row.station][row.boot] = _Stream(row.next_seq, row.total)

    def _save(self, connection: sa.Connection, dirty: Mapping[tuple[str, int], _Stream]) -> None:
        rows = [(station, boot, stream.next_seq, stream.total) for (station, boot), stream in dirty.items()]
        insert_many(connection, _STREAM, rows, _STREAM_AGAIN)


GAPS_PER_STATEMENT = 500
"""Gaps that one statement deletes; older versions of SQLite take 999 values."""
_GAP = "INSERT INTO sequence_gap (station, boot, first_seq, last_seq, total_before, total_after, day)"
_STREAM = "INSERT INTO message_sequence (station, boot, next_seq, total)"
_STREAM_AGAIN = "ON CONFLICT (station, boot) DO UPDATE SET next_seq = excluded.next_seq, total = excluded.total"
_LEDGER = f"INSERT INTO ledger (station, day, {', '.join(_COUNTS)})"
_LEDGER_AGAIN = (
    f"ON CONFLICT (station, day) DO UPDATE SET {', '.join(f'{c} = ledger.{c} + excluded.{c}' for c in _COUNTS)}"
)


def account_of(registry: Registry, message: Message) -> str:
    """The account (station) of a message."""
    return message.station if message.station in registry.index else UNREGISTERED


def day_of(header: Header | None, message: Message) -> str:
    """The Beijing day of a message: of its sending time where that is plausible, else of its receipt."""
    at = message.received_at_ms
    if (
        header is not None
        and header.sent_at_ms is not None
        and -_CLOCK_AHEAD_MS <= at - header.sent_at_ms <= _MAX_QUEUED_MS
    ):
        at = header.sent_at_ms
    return day_of_hour(at // HOUR_MS)


@lru_cache(10_000)
def day_of_hour(hour: int) -> str:
    """The Beijing day of an hour since the epoch."""
    return beijing_day(hour * HOUR_MS).isoformat()


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers missing in the messages of a device since one of its starts; ``readings`` None: nobody counted them."""

    boot: int
    first_seq: int
    last_seq: int
    readings: int | None

    @property
    def messages(self) -> int:
        return self.last_seq - self.first_seq + 1


def gaps(connection: sa.Connection, station: str, day: str, limit: int = 200) -> list[Gap]:
    """The gaps of one account, in order."""
    g = gap_table.c
    query = sa.select(gap_table).where(g.station == station, g.day == day).order_by(g.boot, g.first_seq).limit(limit)
    return [
        Gap(
            row.boot,
            row.first_seq,
            row.last_seq,
            None if row.total_before is None or row.total_after is None else row.total_after - row.total_before,
        )
        for row in connection.execute(query)
    ]


def accounts(
    connection: sa.Connection,
    *,
    day: str | None = None,
    days: tuple[str, str] | None = None,
    station: str | None = None,
    limit: int = 10_000,
) -> list[Account]:
    """The accounts of a day, of the first to the last of ``days``, or of a station; newest day first, then by
    station.
    """
    d = discard_table.c
    discarded = sa.select(sa.func.sum(d.readings)).where(d.account == table.c.station, d.day == table.c.day)
    columns = (table, sa.func.coalesce(discarded.scalar_subquery(), 0).label("discarded"))
    query = sa.select(*columns).order_by(table.c.day.desc(), table.c.station).limit(limit)
    holes = sa.select(gap_table)
    if day is not None:
        query, holes = query.where(table.c.day == day), holes.where(gap_table.c.day == day)
    if days is not None:
        query, holes = query.where(table.c.day.between(*days)), holes.where(gap_table.c.day.between(*days))
    if station is not None:
        query, holes = query.where(table.c.station == station), holes.where(gap_table.c.station == station)
    missing: dict[tuple[str, str], tuple[int, int | None]] = {}
    for row in connection.execute(holes):
        messages, readings = missing.get((row.station, row.day), (0, 0))
        counted = readings is not None and row.total_before is not None and row.total_after is not None
        readings = readings + row.total_after - row.total_before if counted else None
        missing[row.station, row.day] = (messages + row.last_seq - row.first_seq + 1, readings)
    found = []
    for row in connection.execute(query):
        messages, readings = missing.get((row.station, row.day), (0, 0))
        found.append(from_row(Account, row, messages_missing=messages, missing=readings))
    return found


def _add(connection: sa.Connection, rows: dict[tuple[str, str], list[int]]) -> None:
    insert_many(connection, _LEDGER, [(*key, *counts) for key, counts in rows.items()], _LEDGER_AGAIN)


@dataclass(frozen=True, slots=True)
class _Hole:
    """A gap as it is stored; ``id`` None: not yet."""

    first_seq: int
    last_seq: int
    total_before: int | None
    total_after: int | None
    day: str
    id: int | None = None


_first_seq = attrgetter("first_seq")


class _BatchGaps:
    """The gaps of the devices of one batch: read once of each device with a repeated number, written once."""

    def __init__(self, connection: sa.Connection, headers: Iterable[tuple[str, Header | None]]) -> None:
        self._connection = connection
        self._headers = headers
        self._ranges: dict[tuple[str, int], tuple[int, int]] | None = None
        self._read: set[tuple[str, int]] = set()
        self._holes: dict[tuple[str, int], list[_Hole]] = {}
        self._filled: list[int] = []

    def open(
        self, device: tuple[str, int], seqs: tuple[int, int], totals: tuple[int | None, int | None], day: str
    ) -> None:
        """Note that these numbers of a device (station, boot) are missing."""
        before, after = totals
        if before is not None and after is not None and after < before:  # decreasing totals are unusable
            before = after = None
        insort(self._holes.setdefault(device, []), _Hole(*seqs, before, after, day), key=_first_seq)

    def fill(self, device: tuple[str, int], seq: int, totals: tuple[int | None, int | None]) -> bool:
        """Remove a message from its gap, which is split; false where it is in no gap."""
        holes = self._of(device)
        place = bisect_right(holes, seq, key=_first_seq) - 1
        if place < 0 or holes[place].last_seq < seq:
            return False
        gap = holes.pop(place)
        if gap.id is not None:
            self._filled.append(gap.id)
        before, after = totals
        if seq > gap.first_seq:
            self.open(device, (gap.first_seq, seq - 1), (gap.total_before, before), gap.day)
        if seq < gap.last_seq:
            self.open(device, (seq + 1, gap.last_seq), (after, gap.total_after), gap.day)
        return True

    def save(self) -> None:
        """Write what was opened and filled."""
        for first in range(0, len(self._filled), GAPS_PER_STATEMENT):
            some = self._filled[first : first + GAPS_PER_STATEMENT]
            self._connection.execute(sa.delete(gap_table).where(gap_table.c.id.in_(some)))
        rows = [
            (*device, one.first_seq, one.last_seq, one.total_before, one.total_after, one.day)
            for device, holes in self._holes.items()
            for one in holes
            if one.id is None
        ]
        insert_many(self._connection, _GAP, rows)

    def _of(self, device: tuple[str, int]) -> list[_Hole]:
        """The gaps of a device that the numbers of the batch can be in, in order."""
        holes = self._holes.setdefault(device, [])
        if device in self._read:
            return holes
        self._read.add(device)
        if self._ranges is None:
            self._ranges = _ranges_of(self._headers)
        low, high = self._ranges[device]
        g = gap_table.c
        columns = (g.first_seq, g.last_seq, g.total_before, g.total_after, g.day, g.id)
        where = (g.station == device[0], g.boot == device[1], g.last_seq >= low, g.first_seq <= high)
        holes += [_Hole(*row) for row in self._connection.execute(sa.select(*columns).where(*where))]
        holes.sort(key=_first_seq)
        return holes


def _ranges_of(headers: Iterable[tuple[str, Header | None]]) -> dict[tuple[str, int], tuple[int, int]]:
    """The least and greatest number of each device in a batch."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for station, header in headers:
        if header is not None and header.seq is not None:
            device, seq = (station, header.boot or 0), header.seq
            low, high = found.get(device, (seq, seq))
            found[device] = min(low, seq), max(high, seq)
    return found
