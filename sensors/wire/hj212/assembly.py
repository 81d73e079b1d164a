"""Assemble split packets by device and command, with a time-out and bounds.

By the standard every part holds whole items and repeats DataTime, and with bit A each is answered by itself: such a
part is complete alone, must not wait for the others (a logger that waits for the answer would never send them), and is
handed on at once. Older loggers cut CP without repeating DataTime; those parts are held until the rest is there.

Pure: the time is an argument. What is held is bounded in sets and bytes; the oldest set gives way.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeVar

from sensors.wire.hj212.packet import Packet

WAIT_MS: Final = 60_000
"""How long parts wait for the others: three resends of 10 s each, and as much again."""
MAX_PARTS: Final = 100
MAX_SETS: Final = 2000
MAX_BYTES: Final = 16 * 1024 * 1024

Owner = TypeVar("Owner")


@dataclass(frozen=True, slots=True)
class Part(Generic[Owner]):
    """One packet with its bytes, and the owner who waits for its answer."""

    packet: Packet
    raw: bytes
    owner: Owner


@dataclass(frozen=True, slots=True)
class Bundle(Generic[Owner]):
    """Parts to be used together, in order. ``waiting`` are those of them that nobody has been answered yet."""

    parts: tuple[Part[Owner], ...]
    waiting: tuple[Part[Owner], ...]

    @property
    def raw(self) -> bytes:
        """All frames in one: what is stored and replayed."""
        return b"".join(part.raw for part in self.parts)


@dataclass(slots=True)
class _Set(Generic[Owner]):
    since_ms: int
    parts: dict[int, Part[Owner]] = field(default_factory=dict)

    @property
    def held(self) -> tuple[Part[Owner], ...]:
        return tuple(p for _, p in sorted(self.parts.items()) if not stands_alone(p.packet))

    @property
    def size(self) -> int:
        return sum(len(part.raw) for part in self.parts.values())


class Assembler(Generic[Owner]):
    """Holds parts until their set is complete, their time is up, or room is needed."""

    def __init__(self, wait_ms: int = WAIT_MS, most_sets: int = MAX_SETS, most_bytes: int = MAX_BYTES) -> None:
        self._wait_ms = wait_ms
        self._most_sets = most_sets
        self._most_bytes = most_bytes
        self._sets: OrderedDict[tuple[str | None, str | None, int], _Set[Owner]] = OrderedDict()
        self._bytes = 0

    def add(self, packet: Packet, raw: bytes, owner: Owner, now_ms: int) -> list[Bundle[Owner]]:
        """Add a packet; returns what can be used now: itself, a completed set, an older set that gives way."""
        part = Part(packet, raw, owner)
        if not packet.is_part or packet.pnum is None or packet.pno is None:
            return [Bundle((part,), (part,))]
        if packet.pnum > MAX_PARTS or not 1 <= packet.pno <= packet.pnum:
            return [Bundle((part,), (part,))]
        found: list[Bundle[Owner]] = []
        key = (packet.mn, packet.cn, packet.pnum)
        if self._begins_anew(key, packet):
            found += self._release(key)
        if key not in self._sets:
            self._sets[key] = _Set(now_ms)
        parts = self._sets[key].parts
        known = parts.get(packet.pno)
        if known is not None:
            self._bytes -= len(known.raw)
        parts[packet.pno] = part
        self._bytes += len(raw)
        if stands_alone(packet):
            found.append(Bundle((part,), (part,)))
        if len(parts) == packet.pnum:
            whole = self._remove(key)
            if whole.held:
                found.append(Bundle(tuple(p for _, p in sorted(whole.parts.items())), whole.held))
        while len(self._sets) > self._most_sets or self._bytes > self._most_bytes:
            found += self._release(next(iter(self._sets)))
        return found

    def expire(self, now_ms: int) -> list[Bundle[Owner]]:
        """The sets whose time is up and of which parts still wait to be used."""
        found: list[Bundle[Owner]] = []
        for key in [k for k, held in self._sets.items() if now_ms - held.since_ms > self._wait_ms]:
            found += self._release(key)
        return found

    def _begins_anew(self, key: tuple[str | None, str | None, int], packet: Packet) -> bool:
        """Whether this part belongs to another set than the one that is open under its key."""
        open_ = self._sets.get(key)
        if open_ is None or packet.pno is None:
            return False
        mine = packet.fields.get("DataTime")
        theirs = {t for p in open_.parts.values() if (t := p.packet.fields.get("DataTime")) is not None}
        if mine is not None and theirs and mine not in theirs:
            return True
        known = open_.parts.get(packet.pno)
        return known is not None and known.packet.cp != packet.cp

    def _release(self, key: tuple[str | None, str | None, int]) -> list[Bundle[Owner]]:
        """Release an incomplete set: its waiting parts are handed on as they are."""
        held = self._remove(key).held
        return [Bundle(held, held)] if held else []

    def _remove(self, key: tuple[str | None, str | None, int]) -> _Set[Owner]:
        removed = self._sets.pop(key)
        self._bytes -= removed.size
        return removed


def stands_alone(packet: Packet) -> bool:
    """Whether a part can be used without the others."""
    return "DataTime" in packet.fields or packet.encrypted


def join(packets: Iterable[Packet]) -> list[Packet]:
    """The packets of one bundle as they are to be read: parts that cannot stand alone become one packet.

    Raises ValueError when parts are missing.
    """
    parts = list(packets)
    if all(not p.is_part or stands_alone(p) for p in parts):
        return parts
    first = parts[0]
    have = sorted(p.pno for p in parts if p.pno is not None)
    if have != list(range(1, (first.pnum or 0) + 1)):
        raise ValueError(f"{len(have)} of {first.pnum} packets came in time: {', '.join(map(str, have))}")
    ordered = sorted(parts, key=lambda p: p.pno or 0)
    return [replace(first, cp=tuple(entry for p in ordered for entry in p.cp), problems=_all_problems(ordered))]


def _all_problems(packets: Sequence[Packet]) -> tuple[str, ...]:
    return tuple(problem for packet in packets for problem in packet.problems)
