"""What really goes onto the wire: a device's ideal samples in, its messages with all their troubles out. Pure, seeded.

A :class:`Transport` stands between what one station measures and the line. It keeps the device's clock, its memory, its
numbering and its supply, and decides which message is lost, late, doubled or overtaken. Everything runs in event time:
the caller says what time it is, and gets what leaves the device by then. So all of it is tested without a broker, and
a run of the same seed puts the same messages onto the wire.
"""

import hashlib
import heapq
import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sensors.times import DAY_MS, rfc3339
from sensors.wire.telemetry import MAX_SAMPLES, Sample, Telemetry, encode

MEMORY: Final = 10_000
"""Samples a device remembers while it cannot send: a week at one a minute. The oldest go first when it is full, as in
the ring memory of most loggers (engineering choice)."""

READINGS_A_MESSAGE: Final = 8_000
"""So that a burst stays below the 256 KiB of a message: a reading takes about 20 bytes, a sample 45 more."""

BATTERY_TOLD: Final = ((50.0, "battery"), (20.0, "battery_low"), (5.0, "battery_critical"))
"""Per cent of the battery at which a device says so (engineering choice)."""


# -- troubles ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something between ``start_ms`` and ``end_ms`` (event time, ms since the epoch) at one station."""

    station: str
    start_ms: int
    end_ms: int

    def during(self, at_ms: int) -> bool:
        return self.start_ms <= at_ms < self.end_ms


@dataclass(frozen=True, slots=True)
class Lost(Trouble):
    """A ``share`` (0…1) of the messages is counted by the device and never arrives."""

    share: float


@dataclass(frozen=True, slots=True)
class Duplicated(Trouble):
    """A ``share`` (0…1) of the messages is sent twice, byte for byte."""

    share: float


@dataclass(frozen=True, slots=True)
class Reordered(Trouble):
    """A ``share`` (0…1) of the messages is overtaken by the one after it."""

    share: float


@dataclass(frozen=True, slots=True)
class Delayed(Trouble):
    """A ``share`` (0…1) of the messages arrives up to ``longest_s`` late."""

    share: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Outage(Trouble):
    """No line: the device measures and remembers, and sends all of it when the line is back, oldest first."""


@dataclass(frozen=True, slots=True)
class Reboot(Trouble):
    """The device starts anew at ``start_ms`` and measures again from ``end_ms``, with a new ``boot`` and ``seq`` 0."""


@dataclass(frozen=True, slots=True)
class ClockError(Trouble):
    """The device's clock is ``off_s`` ahead (below zero: behind) until it is set."""

    off_s: float


@dataclass(frozen=True, slots=True)
class ClockDrift(Trouble):
    """The device's clock gains ``s_per_day`` (below zero: loses) until it is set."""

    s_per_day: float


@dataclass(frozen=True, slots=True)
class Battery(Trouble):
    """The battery is full at ``start_ms`` and empty at ``empty_ms``; from then to ``end_ms`` the device is off."""

    empty_ms: int


@dataclass(frozen=True, slots=True)
class PowerLoss(Trouble):
    """No mains: the device runs ``reserve_s`` on its battery and is off for the rest."""

    reserve_s: float


@dataclass(frozen=True, slots=True)
class Door(Trouble):
    """The door of the cabinet stands open."""


# -- what comes out -------------------------------------------------------------------------------------------------------


class Kind(StrEnum):
    """What leaves a device. CUT is the line lost without a goodbye, BACK the line there again."""

    TELEMETRY = "telemetry"
    EVENT = "event"
    CUT = "cut"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class Put:
    """One thing put onto the wire of ``station`` at ``at_ms``, the true time; ``message`` only of telemetry."""

    station: str
    at_ms: int
    kind: Kind
    payload: bytes = b""
    message: Telemetry | None = None


class Fate(StrEnum):
    """What became of a sample."""

    SENT = "sent"
    LOST = "lost"
    DROPPED = "dropped"
    OFF = "off"
    UNSENT = "unsent"


FATES: Final = {
    Fate.SENT: "given to the line",
    Fate.LOST: "in a message that never arrived",
    Fate.DROPPED: "pushed out of the device's full memory",
    Fate.OFF: "never measured: the device had no power",
    Fate.UNSENT: "still in the device's memory when the run ended",
}


@dataclass(frozen=True, slots=True)
class Settled:
    """A sample whose fate is known. ``sample.at_ms`` is the true time, ``told_ms`` what the device wrote instead."""

    station: str
    sample: Sample
    told_ms: int
    fate: Fate
    boot: int | None = None
    seq: int | None = None


# -- the device between both ----------------------------------------------------------------------------------------------


class Transport:
    """One device's way from a sample to the line.

    Parameters
    ----------
    boot : int
        Of the first start; each later start adds one.
    memory : int
        Samples kept while nothing can be sent; the oldest are dropped.
    per_message : int
        Samples gathered into one message, 1 … 1,000.
    settled : callable
        Told the fate of each sample, once.

    ``reachable`` is the real line: while the caller says False, samples stay in memory as in an outage.
    """

    __slots__ = (
        "_chances",
        "_clock",
        "_events",
        "_held",
        "_memory",
        "_memory_size",
        "_number",
        "_off",
        "_outages",
        "_per_message",
        "_puts",
        "_seed",
        "_settled",
        "_timeline",
        "_under_way",
        "boot",
        "reachable",
        "readings",
        "seq",
        "station",
    )

    def __init__(
        self,
        station: str,
        troubles: Iterable[Trouble] = (),
        *,
        seed: int,
        boot: int,
        memory: int = MEMORY,
        per_message: int = 1,
        settled: Callable[[Settled], object] | None = None,
    ) -> None:
        if not 1 <= per_message <= MAX_SAMPLES:
            raise ValueError(f"per_message is {per_message}; a message carries 1 to {MAX_SAMPLES} samples")
        self.station = station
        self.boot = boot
        self.seq = 0
        self.readings = 0
        self.reachable = True
        mine = [t for t in troubles if t.station == station]
        self._chances = [t for t in mine if isinstance(t, Lost | Duplicated | Reordered | Delayed)]
        self._clock = [t for t in mine if isinstance(t, ClockError | ClockDrift)]
        self._timeline = deque(sorted(_timeline(mine), key=lambda step: step[0]))
        self._seed = seed
        self._memory_size = memory
        self._per_message = per_message
        self._settled = settled
        self._memory: deque[tuple[Sample, int]] = deque()
        self._events: deque[bytes] = deque()
        self._under_way: list[tuple[int, int, Put]] = []
        self._held: list[Put] = []
        self._number = 0
        self._off = 0
        self._outages = 0
        self._puts: list[Put] = []

    @property
    def remembered(self) -> int:
        """Samples in memory, not sent yet."""
        return len(self._memory)

    @property
    def next_ms(self) -> int | None:
        """When something happens by itself next; None when nothing will."""
        step_ms = self._timeline[0][0] if self._timeline else None
        late_ms = self._under_way[0][0] if self._under_way else None
        if step_ms is None or late_ms is None:
            return late_ms if step_ms is None else step_ms
        return min(step_ms, late_ms)

    def told(self, at_ms: int) -> int:
        """What the device's clock shows at the true time ``at_ms``."""
        off_ms = 0.0
        for t in self._clock:
            if t.during(at_ms):
                off_ms += (
                    t.off_s * 1000 if isinstance(t, ClockError) else (at_ms - t.start_ms) / DAY_MS * t.s_per_day * 1000
                )
        return at_ms + round(off_ms)

    def take(self, sample: Sample) -> list[Put]:
        """The sample measured at its true time; what leaves the device by then, oldest first.

        Samples come in the order of time. Raises ValueError for one that no message may carry (a value that is not a
        number).
        """
        at_ms = sample.at_ms
        self._run(at_ms)
        if self._off:
            self._settle(sample, at_ms, Fate.OFF)
        else:
            self._memory.append((sample, self.told(at_ms)))
            while len(self._memory) > self._memory_size:
                self._settle(*self._memory.popleft(), Fate.DROPPED)
            if len(self._memory) >= self._per_message:
                self._send(at_ms)
        return self._drain()

    def advance(self, now_ms: int) -> list[Put]:
        """What leaves the device by ``now_ms`` without a new sample: bursts, late messages, events."""
        self._run(now_ms)
        self._send(now_ms, samples=len(self._memory) >= self._per_message)
        return self._drain()

    def finish(self, now_ms: int) -> list[Put]:
        """The end of the run: what is under way arrives now, and what the line lets through is sent."""
        self._run(now_ms)
        self._send(now_ms)
        self._puts += [put for _, _, put in sorted(self._under_way)] + self._held
        self._under_way, self._held = [], []
        while self._memory:
            self._settle(*self._memory.popleft(), Fate.UNSENT)
        return self._drain()

    # -- inside

    def _drain(self) -> list[Put]:
        puts, self._puts = self._puts, []
        return puts

    def _settle(self, sample: Sample, told_ms: int, fate: Fate, seq: int | None = None) -> None:
        if self._settled is not None:
            boot = None if seq is None else self.boot
            self._settled(Settled(self.station, sample, told_ms, fate, boot, seq))

    def _run(self, now_ms: int) -> None:
        """Let happen what is due by ``now_ms``, in its order."""
        while (due := self.next_ms) is not None and due <= now_ms:
            if self._under_way and self._under_way[0][0] == due:
                self._puts.append(heapq.heappop(self._under_way)[2])
            else:
                self._step(*self._timeline.popleft())

    def _step(self, at_ms: int, step: str, more: dict[str, Any]) -> None:
        if step == "event":
            if not self._off:
                self._events.append(json.dumps({**more, "at": rfc3339(self.told(at_ms))}).encode())
                self._send(at_ms, samples=False)
            return
        silent = self._off + self._outages
        if step == "out":
            self._outages += 1
        elif step == "in":
            self._outages -= 1
        elif step == "off":
            self._off += 1
        elif step == "on":
            self._off -= 1
            if not self._off:
                self.boot += 1
                self.seq = self.readings = 0
        if not silent:
            self._puts.append(Put(self.station, at_ms, Kind.CUT))
        elif not (self._off + self._outages):
            self._puts.append(Put(self.station, at_ms, Kind.BACK))
            self._send(at_ms)

    def _send(self, now_ms: int, *, samples: bool = True) -> None:
        if self._off or self._outages or not self.reachable:
            return
        while self._events:
            self._puts.append(Put(self.station, now_ms, Kind.EVENT, self._events.popleft()))
        while samples and self._memory:
            self._telemetry(now_ms)

    def _telemetry(self, now_ms: int) -> None:
        """One message from memory, as many samples as it may carry."""
        carried: list[tuple[Sample, int]] = []
        readings = 0
        while self._memory and len(carried) < MAX_SAMPLES:
            more = len(self._memory[0][0].values)
            if carried and readings + more > READINGS_A_MESSAGE:
                break
            carried.append(self._memory.popleft())
            readings += more
        samples = tuple(s if told == s.at_ms else Sample(told, s.values, s.status) for s, told in carried)
        message = Telemetry(samples, self.seq, self.boot, self.readings + readings, self.told(now_ms))
        put = Put(self.station, now_ms, Kind.TELEMETRY, encode(message), message)
        self.seq += 1
        self.readings += readings
        lost = self._happens(Lost, now_ms) is not None
        for sample, told in carried:
            self._settle(sample, told, Fate.LOST if lost else Fate.SENT, message.seq)
        before, self._held = self._held, []
        if not lost:
            self._line(put, now_ms)
        self._puts += before  # what was overtaken comes behind

    def _line(self, put: Put, now_ms: int) -> None:
        copies = 2 if self._happens(Duplicated, now_ms) else 1
        late = self._happens(Delayed, now_ms)
        for _ in range(copies):
            if isinstance(late, Delayed):
                due_ms = now_ms + max(1, round(1000 * late.longest_s * self._chance("late")))
                self._number += 1
                heapq.heappush(self._under_way, (due_ms, self._number, put))
            elif self._happens(Reordered, now_ms):
                self._held.append(put)
            else:
                self._puts.append(put)

    def _happens(self, kind: type[Trouble], now_ms: int) -> Trouble | None:
        """The trouble of this kind that hits the message just numbered."""
        for t in self._chances:
            if type(t) is kind and t.during(now_ms) and self._chance(kind.__name__) < t.share:
                return t
        return None

    def _chance(self, what: str) -> float:
        """A number in 0…1 that depends on seed, station, boot, message and purpose alone."""
        text = f"{self._seed}/{self.station}/{self.boot}/{self.seq}/{what}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def _timeline(troubles: Iterable[Trouble]) -> Iterable[tuple[int, str, dict[str, Any]]]:
    """(when, step, more) of everything that happens at an instant."""
    for t in troubles:
        match t:
            case Outage():
                yield t.start_ms, "out", {}
                yield t.end_ms, "in", {}
            case Reboot():
                yield t.start_ms, "off", {}
                yield t.end_ms, "on", {}
                yield t.end_ms, "event", {"event": "restarted"}
            case Door():
                yield t.start_ms, "event", {"event": "door_open"}
                yield t.end_ms, "event", {"event": "door_closed"}
            case PowerLoss():
                yield t.start_ms, "event", {"event": "power_lost"}
                if (off_ms := t.start_ms + round(1000 * t.reserve_s)) < t.end_ms:
                    yield off_ms, "off", {}
                    yield t.end_ms, "on", {}
                yield t.end_ms, "event", {"event": "power_restored"}
            case Battery():
                for percent, name in BATTERY_TOLD:
                    when = t.start_ms + round((t.empty_ms - t.start_ms) * (1 - percent / 100))
                    yield when, "event", {"event": name, "percent": percent}
                yield t.empty_ms, "off", {}
                yield t.end_ms, "on", {}
                yield t.end_ms, "event", {"event": "battery_replaced", "percent": 100}
