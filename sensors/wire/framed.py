"""What decoding HJ 212 and SL 651 share: whose a message is, and the columns of decoded frames while they grow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from sensors.parameters import Catalogue
from sensors.reading import Batch, Message, Reason, Rejected
from sensors.wire.telemetry import Decoded, Header, StatusWord


class Columns:
    """Readings, refusals and events; ``message`` is the one that is being read."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.message = 0
        self.rows: list[tuple[int, int, float, int, int]] = []
        self.unknown: dict[int, str] = {}
        self.rejected: list[Rejected] = []
        self.periods: dict[int, int] = {}
        self.notices: dict[int, str] = {}
        self.status: dict[int, StatusWord] = {}

    def refuse(self, reason: Reason, detail: str, readings: tuple[tuple[int, str], ...] | None = None) -> None:
        self.rejected.append(Rejected(self.message, reason, detail[:500], readings))

    def add(self, key: str, at_ms: int, value: float, status: int) -> None:
        parameter = self.catalogue.index.get(key, -1)
        if parameter < 0:
            self.unknown[len(self.rows)] = key
        self.rows.append((parameter, at_ms, value, status, self.message))

    def decoded(self, headers: list[Header | None]) -> Decoded:
        parameter, at, value, status, message = zip(*self.rows, strict=True) if self.rows else ((),) * 5
        batch = Batch.of([-1] * len(self.rows), parameter, at, value, status, message)
        rejected = tuple(self.rejected)
        return Decoded(batch, tuple(headers), self.unknown, rejected, self.periods, self.notices, self.status)


class StreamReader(Protocol):
    """Finds frames in a stream of bytes."""

    def feed(self, data: bytes | memoryview) -> Sequence[Any]:
        """The frames that are complete now, and what is none."""

    def close(self) -> Sequence[Any]:
        """What is left at the end of the stream."""


class Device(Protocol):
    """What sends frames, as it is registered."""

    @property
    def station(self) -> str:
        """The key of the station it belongs to."""


def sender_of(message: Message) -> str:
    """The sender in a message's topic, ``SOURCE/SENDER``; empty where none was ever read."""
    return message.topic.partition("/")[2]


def addressed(
    messages: Sequence[Message], source: str, devices: Mapping[str, Device], key_of: Callable[[str], str]
) -> Sequence[Message]:
    """The messages with the station of each frame of a source, as the registry has it now.

    An unknown sender stands for the station. What a replay is limited to is named by ``key_of``, as names are known
    today: one that has entered the catalogue since has a key now.
    """
    if all(m.source != source for m in messages):
        return messages
    found = []
    for message in messages:
        if message.source == source:
            device = devices.get(sender_of(message))
            only = message.only
            if only is not None:
                only = frozenset((at, key_of(name)) for at, name in only)
            station = device.station if device else sender_of(message)
            message = replace(message, station=station, only=only)  # noqa: PLW2901
        found.append(message)
    return found


def decode(
    messages: Sequence[Message], catalogue: Catalogue, read: Callable[[Message, Columns], Header | None]
) -> Decoded:
    """Read each message into columns; ``read`` answers its header and never raises for what is in it."""
    columns = Columns(catalogue)
    headers: list[Header | None] = []
    for i, message in enumerate(messages):
        columns.message = i
        headers.append(read(message, columns))
    return columns.decoded(headers)
