"""Messages in several packets (M3): collect them, and say which one to ask for again.

Only packet 1 has the serial number: the packets of a station and function belong together until packet 1 changes.
Pure: the time is an argument, in seconds of a monotonic clock.
"""

from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from sensors.wire.sl651.frame import End, Received

ANSWER_S: Final = 10.0
"""Without a further packet for so long the lowest missing one is asked for."""
ASKED_TWICE: Final = 2
MAX_BYTES: Final = 512 * 1024
"""Bytes of one message; a picture of a station has about 50 kB."""
MAX_OPEN: Final = 500
"""Messages that are being collected at once; of more the oldest is given up."""

T = TypeVar("T")


@dataclass(slots=True)
class Collection(Generic[T]):
    """The packets of one message that came so far, and the line on which the newest came."""

    line: T
    last_s: float
    parts: dict[int, Received] = field(default_factory=dict)
    asked: dict[int, int] = field(default_factory=dict)

    @property
    def newest(self) -> Received:
        return next(reversed(self.parts.values()))

    @property
    def missing(self) -> int | None:
        """The lowest missing packet; None when all are there."""
        return next((n for n in range(1, self.newest.frame.packets + 1) if n not in self.parts), None)

    @property
    def size(self) -> int:
        return sum(len(one.raw) for one in self.parts.values())

    @property
    def in_order(self) -> list[Received]:
        return [self.parts[n] for n in sorted(self.parts)]


@dataclass(frozen=True, slots=True)
class Complete(Generic[T]):
    """All packets are there."""

    of: Collection[T]


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """A packet is to be asked for."""

    of: Collection[T]
    packet: int


@dataclass(frozen=True, slots=True)
class GivenUp(Generic[T]):
    """The message stays incomplete."""

    of: Collection[T]


Step = Complete[T] | Ask[T] | GivenUp[T]


class Assembler(Generic[T]):
    """Collects packets by station and function."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int, int], Collection[T]] = {}

    def add(self, received: Received, line: T, now_s: float) -> list[Step[T]]:
        """Add a packet; returns what is to be done."""
        frame, steps = received.frame, list[Step[T]]()
        key = (frame.station, frame.function, frame.packets)
        one = self._open.get(key)
        if one is not None and frame.packet == 1 and 1 in one.parts and one.parts[1].frame.body != frame.body:
            steps.append(GivenUp(self._open.pop(key)))  # the station went on to its next message
            one = None
        if one is None:
            if len(self._open) >= MAX_OPEN:
                steps.append(GivenUp(self._open.pop(next(iter(self._open)))))
            one = self._open[key] = Collection(line, now_s)
        one.parts.pop(frame.packet, None)
        one.parts[frame.packet] = received
        one.line, one.last_s = line, now_s
        if one.missing is None:
            steps.append(Complete(self._open.pop(key)))
        elif one.size > MAX_BYTES:
            steps.append(GivenUp(self._open.pop(key)))
        elif frame.end is End.ETX:
            steps.append(self._ask(key, one))
        return steps

    def due(self, now_s: float) -> list[Step[T]]:
        """What is to be done for messages to which nothing came for :data:`ANSWER_S`."""
        late = [(key, one) for key, one in self._open.items() if now_s - one.last_s >= ANSWER_S]
        for _, one in late:
            one.last_s = now_s
        return [self._ask(key, one) for key, one in late]

    def _ask(self, key: tuple[str, int, int], one: Collection[T]) -> Step[T]:
        packet = one.missing
        assert packet is not None
        if one.asked.get(packet, 0) >= ASKED_TWICE:
            return GivenUp(self._open.pop(key))
        one.asked[packet] = one.asked.get(packet, 0) + 1
        return Ask(one, packet)
