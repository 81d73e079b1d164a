"""A device's transport: samples in, messages with losses, delays and clock errors out. Pure, seeded.

A :class:`Transport` stands between what one station measures and the line. It keeps the device's clock, its memory, its
numbering and its supply, and decides which message is lost, late, doubled or overtaken. Everything runs in event time:
the caller says what time it is, and gets what leaves the device by then. So all of it is tested without a broker, and
a run of the same seed puts the same messages onto the wire.
"""

import hashlib
import heapq
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from infra.times import DAY_MS, rfc3339
from sensors.wire.telemetry import MAX_SAMPLES, Sample, Telemetry, encode
from simulator.scenario import Trouble, TroubleKind

MAX_KEPT_SAMPLES: Final = 10_000
"""Samples a device remembers while it cannot send: a week at one a minute. The oldest go first when it is full, as in
the ring memory of most loggers (engineering choice)."""

READINGS_A_MESSAGE: Final = 8_000
"""So that a burst stays below the 256 KiB of a message: a reading takes about 20 bytes, a sample 45 more."""

BATTERY_EVENTS: Final = ((50, "battery"), (20, "battery_low"), (5, "battery_critical"))
"""Battery charge at which a device reports it, per cent (engineering choice)."""
BATTERY_LASTS: Final = 0.9
"""Share of a battery trouble in which it still carries the device; then the device is off until it is replaced."""
BATTERY_EMPTY: Final = 10.5 / 12.6
"""Of a full battery's volts: where a lead battery counts as empty (from memory, unverified)."""
START_S: Final = 30
"""How long a device takes to start, where its reboot does not say (engineering choice)."""


# -- what comes out -------------------------------------------------------------------------------------------------


class TransmissionKind(StrEnum):
    """Kind of transmission. CUT is a connection lost without a disconnect, BACK its return."""

    TELEMETRY = "telemetry"
    EVENT = "event"
    CUT = "cut"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class Transmission:
    """One thing put onto the wire of ``station`` at ``at_ms``, the true time; ``message`` only of telemetry."""

    station: str
    at_ms: int
    kind: TransmissionKind
    payload: bytes = b""
    message: Telemetry | None = None


class Fate(StrEnum):
    """Outcome of a sample."""

    SENT = "sent"
    """Given to the line."""
    LOST = "lost"
    """In a message that never arrived."""
    DROPPED = "dropped"
    """Pushed out of the device's full memory."""
    OFF = "off"
    """Never measured: the device had no power."""
    UNSENT = "unsent"
    """Still in the device's memory when the run ended."""


@dataclass(frozen=True, slots=True)
class SampleOutcome:
    """A sample whose fate is known. ``sample.at_ms`` is the true time, ``reported_ms`` what the device wrote."""

    station: str
    sample: Sample
    reported_ms: int
    fate: Fate
    boot: int | None = None
    seq: int | None = None


# -- the device between both ----------------------------------------------------------------------------------------


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
        "_clock",
        "_delayed",
        "_events",
        "_first_boot",
        "_held",
        "_memory",
        "_memory_size",
        "_message_troubles",
        "_off",
        "_outages",
        "_outgoing",
        "_seed",
        "_sequence",
        "_settled",
        "_timeline",
        "boot",
        "per_message",
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
        memory: int = MAX_KEPT_SAMPLES,
        per_message: int = 1,
        settled: Callable[[SampleOutcome], object] | None = None,
    ) -> None:
        if not 1 <= per_message <= MAX_SAMPLES:
            raise ValueError(f"per_message is {per_message}; a message carries 1 to {MAX_SAMPLES} samples")
        self.station = station
        self.boot = self._first_boot = boot
        self.seq = 0
        self.readings = 0
        self.reachable = True
        own_troubles = [t for t in troubles if station in t.stations]
        self._message_troubles = [t for t in own_troubles if t.kind in _MESSAGE_TROUBLES]
        self._clock = [t for t in own_troubles if t.kind in _CLOCKS]
        self._timeline = deque(sorted(_timeline(own_troubles), key=lambda step: step[0]))
        self._seed = seed
        self._memory_size = memory
        self.per_message = per_message
        self._settled = settled
        self._memory: deque[tuple[Sample, int]] = deque()
        self._events: deque[bytes] = deque()
        self._delayed: list[tuple[int, int, Transmission]] = []
        self._held: list[Transmission] = []
        self._sequence = 0
        self._off = 0
        self._outages = 0
        self._outgoing: list[Transmission] = []

    @property
    def remembered(self) -> int:
        """Samples in memory, not sent yet."""
        return len(self._memory)

    @property
    def waits(self) -> bool:
        """Whether samples are in memory only because the real line does not take them."""
        return bool(self._memory) and not self.reachable and not (self._off or self._outages)

    @property
    def next_ms(self) -> int | None:
        """Time of the next step without a new sample; None when there is none."""
        step_ms = self._timeline[0][0] if self._timeline else None
        late_ms = self._delayed[0][0] if self._delayed else None
        if step_ms is None or late_ms is None:
            return late_ms if step_ms is None else step_ms
        return min(step_ms, late_ms)

    def device_time(self, at_ms: int) -> int:
        """Time on the device's clock at the true time ``at_ms``."""
        off_s = 0.0
        for t in self._clock:
            if t.start_ms <= at_ms < t.end_ms:
                off_s += t.clock_s + (at_ms - t.start_ms) / DAY_MS * t.drift_s_per_day
        return at_ms + round(off_s * 1000)

    def take(self, sample: Sample) -> list[Transmission]:
        """The sample measured at its true time; what leaves the device by then, oldest first.

        Samples come in the order of time. Raises ValueError for one that no message may carry (a value that is not a
        number).
        """
        at_ms = sample.at_ms
        self._run(at_ms)
        if self._off:
            self._settle(sample, at_ms, Fate.OFF)
        else:
            self._memory.append((sample, self.device_time(at_ms)))
            while len(self._memory) > self._memory_size:
                self._settle(*self._memory.popleft(), Fate.DROPPED)
            if len(self._memory) >= self.per_message:
                self._send(at_ms)
        return self._drain()

    def advance(self, now_ms: int) -> list[Transmission]:
        """Transmissions until ``now_ms`` without a new sample: bursts, late messages, events."""
        self._run(now_ms)
        self._send(now_ms, samples=len(self._memory) >= self.per_message)
        return self._drain()

    def finish(self, now_ms: int) -> list[Transmission]:
        """The end of the run: what is under way arrives now, and what the line lets through is sent."""
        self._run(now_ms)
        self._send(now_ms)
        self._outgoing += [put for _, _, put in sorted(self._delayed)] + self._held
        self._delayed, self._held = [], []
        while self._memory:
            self._settle(*self._memory.popleft(), Fate.UNSENT)
        return self._drain()

    # -- inside

    def _drain(self) -> list[Transmission]:
        transmissions, self._outgoing = self._outgoing, []
        return transmissions

    def _settle(self, sample: Sample, reported_ms: int, fate: Fate, seq: int | None = None) -> None:
        if self._settled is not None:
            boot = None if seq is None else self.boot
            self._settled(SampleOutcome(self.station, sample, reported_ms, fate, boot, seq))

    def _run(self, now_ms: int) -> None:
        """Let happen what is due by ``now_ms``, in its order."""
        while (due := self.next_ms) is not None and due <= now_ms:
            if self._delayed and self._delayed[0][0] == due:
                self._outgoing.append(heapq.heappop(self._delayed)[2])
            else:
                self._step(*self._timeline.popleft())

    def _step(self, at_ms: int, step: str, more: dict[str, Any]) -> None:
        if step == "event":
            if not self._off:
                self._events.append(json.dumps({**more, "at": rfc3339(self.device_time(at_ms))}).encode())
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
            self._outgoing.append(Transmission(self.station, at_ms, TransmissionKind.CUT))
        elif not (self._off + self._outages):
            self._outgoing.append(Transmission(self.station, at_ms, TransmissionKind.BACK))
            self._send(at_ms)

    def _send(self, now_ms: int, *, samples: bool = True) -> None:
        if self._off or self._outages or not self.reachable:
            return
        while self._events:
            self._outgoing.append(Transmission(self.station, now_ms, TransmissionKind.EVENT, self._events.popleft()))
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
        samples = tuple(s if reported == s.at_ms else Sample(reported, s.values, s.status) for s, reported in carried)
        message = Telemetry(samples, self.seq, self.boot, self.readings + readings, self.device_time(now_ms))
        put = Transmission(self.station, now_ms, TransmissionKind.TELEMETRY, encode(message), message)
        self.seq += 1
        self.readings += readings
        lost = self._drawn_trouble(TroubleKind.LOST, now_ms)
        for sample, reported in carried:
            self._settle(sample, reported, Fate.LOST if lost else Fate.SENT, message.seq)
        before, self._held = self._held, []
        if not lost:
            self._deliver(put, now_ms)
        self._outgoing += before  # what was overtaken comes behind

    def _deliver(self, put: Transmission, now_ms: int) -> None:
        copies = 2 if self._drawn_trouble(TroubleKind.DUPLICATED, now_ms) else 1
        if late := self._drawn_trouble(TroubleKind.DELAYED, now_ms):
            due_ms = now_ms + max(1, round(-1000 * late.delay_s * math.log(1.0 - self._random("late"))))
            for _ in range(copies):
                self._sequence += 1
                heapq.heappush(self._delayed, (due_ms, self._sequence, put))
        elif self._drawn_trouble(TroubleKind.REORDERED, now_ms):
            self._held += [put] * copies
        else:
            self._outgoing += [put] * copies

    def _drawn_trouble(self, kind: TroubleKind, now_ms: int) -> Trouble | None:
        """The trouble of this kind that hits the message just numbered."""
        for t in self._message_troubles:
            if t.kind is kind and t.start_ms <= now_ms < t.end_ms and self._random(kind) < t.share:
                return t
        return None

    def _random(self, what: str) -> float:
        """A number in 0…1 that depends on seed, station, number of the start, message and purpose alone."""
        text = f"{self._seed}/{self.station}/{self.boot - self._first_boot}/{self.seq}/{what}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


_MESSAGE_TROUBLES = (TroubleKind.LOST, TroubleKind.DUPLICATED, TroubleKind.REORDERED, TroubleKind.DELAYED)
_CLOCKS = (TroubleKind.CLOCK_ERROR, TroubleKind.CLOCK_DRIFT)

_Step = tuple[int, str, dict[str, Any]]


def _timeline(troubles: Iterable[Trouble]) -> Iterator[_Step]:
    """(when, step, more) of everything that happens at an instant."""
    for t in troubles:
        match t.kind:
            case TroubleKind.OUTAGE:
                yield t.start_ms, "out", {}
                yield t.end_ms, "in", {}
            case TroubleKind.REBOOT:
                back_ms = max(t.end_ms, t.start_ms + 1000 * START_S)
                yield t.start_ms, "off", {}
                yield back_ms, "on", {}
                yield back_ms, "event", {"event": "restarted"}
            case TroubleKind.DOOR:
                yield t.start_ms, "event", {"event": "door_open"}
                if t.end_ms > t.start_ms:
                    yield t.end_ms, "event", {"event": "door_closed"}
            case TroubleKind.BATTERY:
                yield from _battery(t)


def _battery(t: Trouble) -> Iterator[_Step]:
    empty_ms = t.start_ms + round((t.end_ms - t.start_ms) * BATTERY_LASTS)
    for percent, name in BATTERY_EVENTS:
        when = t.start_ms + round((empty_ms - t.start_ms) * (1 - percent / 100))
        volts = t.volts * (BATTERY_EMPTY + (1 - BATTERY_EMPTY) * percent / 100)
        yield when, "event", {"event": name, "percent": percent, "volts": round(volts, 2)}
    yield empty_ms, "off", {}
    yield t.end_ms, "on", {}
    yield t.end_ms, "event", {"event": "battery_replaced", "percent": 100, "volts": t.volts}
