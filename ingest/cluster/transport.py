"""What a cluster needs of a log that other people wrote: JetStream or Kafka (:mod:`ingest.cluster.engines`).

A partition is a log of its own with growing positions. ``publish`` returns once every body is synced on a majority of
the replicas. Readers begin after a position and keep no state in the engine: the position stands in our database
(:mod:`ingest.cluster.leases`), written after the commit of what was read. A crash costs a redelivery.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from sensors.reading import Message

FORMAT_VERSION = b"\x01"
"""First byte of a body; whoever changes its form changes it."""
MAX_BODY_BYTES = 512 * 1024
"""A body is closed at this size; the largest message of a device is half of it, and brokers take a MiB by default."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A body of a partition's log and its position."""

    position: int
    body: bytes


class Reader(Protocol):
    """Reads one partition in order. For one thread."""

    def fetch(self, most: int, timeout_s: float) -> list[Entry]:
        """The next entries, at most so many; empty when none arrives in time. Raises StorageUnavailable."""

    @property
    def caught_up(self) -> bool:
        """Whether, as of the last fetch, nothing newer is stored."""

    def close(self) -> None: ...


class Transport(Protocol):
    """The streams of a cluster. Thread-safe."""

    def ensure(self, partitions: int) -> None:
        """Create the partitions that are missing, replicated and synced. Raises StorageUnavailable."""

    def publish(self, bodies: Sequence[tuple[int, bytes]]) -> None:
        """Append (partition, body), those of one partition in the order given; returns once all are durable.

        Raises StorageUnavailable; some may be stored then, and the same ones may be handed in again.
        """

    def reader(self, partition: int, after: int) -> Reader:
        """Read what follows a position; 0 begins at the oldest entry."""

    def discard(self, partition: int, through: int) -> None:
        """Allow the engine to forget entries up to a position. Raises StorageUnavailable."""

    def close(self) -> None: ...


class _Row(msgspec.Struct, array_like=True):
    route: str
    station: str
    payload: bytes
    received_at_ms: int
    source: str
    topic: str
    kind: str
    by: str
    packet_id: int
    redelivered: bool
    only: list[tuple[int, str]] | None
    replay_of: int | None


@dataclass(frozen=True, slots=True)
class Routed:
    """A message and the station that determines its partition; "" where it is unknown."""

    route: str
    message: Message


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Row]).decode


def pack(routed: Iterable[Routed]) -> list[bytes]:
    """Messages as bodies, in order."""
    bodies: list[bytes] = []
    rows: list[_Row] = []
    size = 0
    for one in routed:
        m = one.message
        only = None if m.only is None else sorted(m.only)
        fields = (m.station, m.payload, m.received_at_ms, m.source, m.topic, m.kind, m.by, m.packet_id, m.redelivered)
        rows.append(_Row(one.route, *fields, only, m.replay_of))
        size += len(m.payload)
        if size >= MAX_BODY_BYTES:
            bodies.append(FORMAT_VERSION + _encode(rows))
            rows, size = [], 0
    if rows:
        bodies.append(FORMAT_VERSION + _encode(rows))
    return bodies


def unpack(body: bytes) -> list[Routed]:
    """The messages of a body. Raises ValueError for other content."""
    if body[:1] != FORMAT_VERSION:
        raise ValueError(f"unknown edition {body[:1]!r}")
    return [Routed(row.route, _message(row)) for row in _decode(memoryview(body)[1:])]


def _message(row: _Row) -> Message:
    return Message(
        row.station,
        row.payload,
        row.received_at_ms,
        row.source,
        row.topic,
        only=None if row.only is None else frozenset(row.only),
        replay_of=row.replay_of,
        kind=row.kind,
        by=row.by,
        packet_id=row.packet_id,
        redelivered=row.redelivered,
    )
