"""Play a run: samples go through each device's transport onto real lines, in event time.

The clock of the machine is never touched. A run has a *pace*: live, faster, or as fast as the lines take it; what is
played carries the event time it belongs to. A faster run lies in the past so far that it ends now: a reading from the
future is refused by every ingest.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Fleet
from simulator.devices.gateways import Trunks
from simulator.devices.transport import MAX_KEPT_SAMPLES, Fate, SampleOutcome, Transmission, TransmissionKind, Transport
from simulator.scenario import Trouble

LIVE_TICK_S: Final = 0.05
SHORTEST_STEP_MS, LONGEST_STEP_MS = 1000, 3_600_000
SAMPLES_A_STEP: Final = 4000
"""A step of a run as fast as possible is cut so that about so many samples come out of it."""
MAX_UNANSWERED: Final = 20_000
"""Messages on the lines that the other side has not answered; a run as fast as possible then waits."""
MAX_LOGGER_WAITING: Final = 1000
CATCH_UP_SAMPLES: Final = 250
"""Samples a message on the way up to the present, as of devices that were long away; far below both limits of the
contract: 250 samples of ten values are about 40 KiB."""
STOP_TIMEOUT_S: Final = 2.0
"""How long a run that was stopped before its end waits for answers."""
CONNECT_S: Final = 3.0
"""How long a run waits at its start for its devices to be connected before it goes on without."""

AS_FAST_AS_POSSIBLE: Final = math.inf


class Source(Protocol):
    """The water as its sensors see it."""

    def advance(self, to_ms: int) -> Iterable[tuple[str, Sample]]:
        """(station, sample in canonical units) since the last call and before ``to_ms``; each station's in order."""


class Line(Protocol):
    """A real way to the other side for some of the stations."""

    def reachable(self, station: str) -> bool: ...

    def put(self, put: Transmission) -> None: ...

    def state(self) -> "LineState": ...

    def flush(self, timeout_s: float) -> bool: ...

    def close(self, timeout_s: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class LineState:
    """State of a line: connections established of those wanted, messages pending and acknowledged, refusal."""

    name: str
    connected: int
    wanted: int
    under_way: int
    acked: int
    refusal: str = ""


class MqttLine:
    """Devices with a connection of their own (session, last will) and mass devices that share a few."""

    def __init__(self, fleet: Fleet | None, trunks: Trunks | None = None, *, name: str = "MQTT") -> None:
        self._name = name
        self._fleet, self._trunks = fleet, trunks
        self._own: Mapping[str, object] = fleet.devices if fleet is not None else {}

    def reachable(self, station: str) -> bool:
        if self._fleet is not None and station in self._own:
            return self._fleet[station].reachable
        return self._trunks is not None and self._trunks.reachable(station)

    def put(self, put: Transmission) -> None:
        if self._fleet is not None and put.station in self._own:
            device = self._fleet[put.station]
            if put.kind in (TransmissionKind.CUT, TransmissionKind.BACK):
                device.away(put.kind is TransmissionKind.CUT)
            else:
                device.send(put.kind, put.payload, _readings(put))
        elif self._trunks is not None:
            if put.kind in (TransmissionKind.CUT, TransmissionKind.BACK):
                self._trunks.say(put.station, online=put.kind is TransmissionKind.BACK)
            else:
                self._trunks.send(put.station, put.kind, put.payload)

    def state(self) -> LineState:
        fleet, trunks = self._fleet, self._trunks
        refusal = next((d.refusal for d in fleet if d.refusal), "") if fleet is not None else ""
        return LineState(
            self._name,
            (fleet.connected if fleet is not None else 0) + (trunks.connected if trunks is not None else 0),
            (len(fleet) if fleet is not None else 0) + (len(trunks) if trunks is not None else 0),
            (sum(d.unacknowledged for d in fleet) if fleet is not None else 0)
            + (trunks.unacknowledged if trunks is not None else 0),
            (fleet.acked if fleet is not None else 0) + (trunks.acked if trunks is not None else 0),
            refusal or (trunks.refusal if trunks is not None else ""),
        )

    def flush(self, timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        done = self._fleet is None or self._fleet.flush(timeout_s)
        return (self._trunks is None or self._trunks.flush(max(0.0, end - time.monotonic()))) and done

    def close(self, timeout_s: float) -> bool:
        done = self._fleet is None or self._fleet.close(timeout_s)
        return (self._trunks is None or self._trunks.close(timeout_s)) and done


class Reporter(Protocol):
    """A device with a connection of its own that repeats what is not answered: an HJ 212 logger, an SL 651 station."""

    @property
    def connected(self) -> bool: ...

    @property
    def unanswered(self) -> int: ...

    def report(self, sample: Sample) -> None: ...

    def away(self, away: bool) -> None: ...

    def flush(self, timeout_s: float) -> bool: ...

    def close(self) -> None: ...


class FramedLine:
    """Stations whose device speaks HJ 212 or SL 651: one connection a device, each frame answered before the next.

    A message of several samples is several frames, because a frame of current data has one time. Events of the cabinet
    are left out: HJ 212 has no packet for a door or a battery.
    """

    def __init__(self, loggers: Mapping[str, Reporter], *, name: str = "HJ 212") -> None:
        self._name = name
        self._loggers = loggers
        self._put = 0

    def reachable(self, station: str) -> bool:
        return self._loggers[station].unanswered < MAX_LOGGER_WAITING

    def put(self, put: Transmission) -> None:
        logger = self._loggers[put.station]
        if put.kind in (TransmissionKind.CUT, TransmissionKind.BACK):
            logger.away(put.kind is TransmissionKind.CUT)
        elif put.message is not None:
            for sample in put.message.samples:
                logger.report(sample)
                self._put += 1

    def state(self) -> LineState:
        under_way = sum(logger.unanswered for logger in self._loggers.values())
        connected = sum(logger.connected for logger in self._loggers.values())
        return LineState(self._name, connected, len(self._loggers), under_way, max(0, self._put - under_way))

    def flush(self, timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        return min((logger.flush(max(0.0, end - time.monotonic())) for logger in self._loggers.values()), default=True)

    def close(self, timeout_s: float) -> bool:
        done = self.flush(timeout_s)
        for logger in self._loggers.values():
            logger.close()
        return done


@dataclass(frozen=True, slots=True)
class Pace:
    """Event time of a run: ``start_ms`` of it is due at ``wall_ms``, and ``speed`` seconds of it pass in a second.

    What lies before ``hurry_until_ms`` is played as fast as the lines take it.
    """

    start_ms: int
    wall_ms: int
    speed: float = 1.0
    hurry_until_ms: int | None = None

    @classmethod
    def ending_now(cls, now_ms: int, length_ms: int, speed: float) -> "Pace":
        """For a run of ``length_ms``: live it begins now; a faster one begins so early that it ends in the present.

        As fast as possible, the whole length lies before now: its duration is unknown.
        """
        if not speed > 0:
            raise ValueError(f"a speed of {speed:g} is none; it must be above zero")
        if speed == AS_FAST_AS_POSSIBLE:
            return cls(now_ms - length_ms, now_ms, speed)
        return cls(now_ms - length_ms + math.ceil(length_ms / max(speed, 1.0)), now_ms, speed)

    def hurries(self, at_ms: int) -> bool:
        """Whether what comes after ``at_ms`` of event time is played as fast as possible."""
        return self.speed == AS_FAST_AS_POSSIBLE or (self.hurry_until_ms is not None and at_ms < self.hurry_until_ms)

    def due_ms(self, wall_ms: int) -> int:
        """The event time that is due at ``wall_ms``; not for a run as fast as possible."""
        return self.start_ms + round((wall_ms - self.wall_ms) * self.speed)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is. ``remembered`` samples wait in devices' memories; ``waiting`` says that the run stands still
    until a line takes more."""

    at_ms: int
    start_ms: int
    end_ms: int | None
    messages: int
    readings: int
    remembered: int
    lines: tuple[LineState, ...]
    waiting: bool = False

    @property
    def share(self) -> float | None:
        """0…1 of the event time played; None for a run without an end."""
        if self.end_ms is None:
            return None
        return (self.at_ms - self.start_ms) / max(1, self.end_ms - self.start_ms)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run put onto the lines. ``until_ms``: event time reached; what was not played is not in it.

    ``answered``: the other side took everything that a device could send.
    """

    start_ms: int
    until_ms: int
    stations: int
    messages: int
    readings: int
    events: int
    acked: int
    fates: Mapping[Fate, int]
    answered: bool
    seconds: float


def play(  # noqa: PLR0913  (a part of the run each)
    source: Source,
    stations: Sequence[str],
    lines: Mapping[str, Line],
    pace: Pace,
    *,
    end_ms: int | None,
    stop: threading.Event,
    clock: Callable[[], int],
    troubles: Iterable[Trouble] = (),
    seed: int = 0,
    boot: int,
    memory: int = MAX_KEPT_SAMPLES,
    per_message: int = 1,
    report: Callable[[str, Sample], Sample] = lambda station, sample: sample,
    settled: Callable[[SampleOutcome], object] | None = None,
    on_progress: Callable[[Progress], object] = lambda progress: None,
    goodbye_s: float = 10.0,
) -> RunResult:
    """Play ``source`` until ``end_ms`` of event time, or until ``stop`` is set; the lines are closed in the end.

    Parameters
    ----------
    lines : mapping
        Each station's line.
    clock : callable
        The time in ms since the epoch; only asked, never set.
    report : callable
        A sample in canonical units → as the station's sensors report it
        (:class:`simulator.devices.reported_values.Reporting`).
    settled : callable
        Told the fate of each sample.
    on_progress : callable
        Called about twice a second.
    """
    run = _Run(source, stations, lines, pace, end_ms, stop, clock, report, settled, on_progress)
    run.prepare(troubles, seed, boot, memory, per_message)
    began = time.monotonic()
    answered = False
    try:
        run.connect()
        run.go()
        if stop.is_set() and end_ms is not None:  # somebody waits for us to end
            goodbye_s = min(goodbye_s, STOP_TIMEOUT_S)
        run.finish(goodbye_s)
        answered = min((line.flush(goodbye_s) for line in run.distinct), default=True)
    finally:
        closed = [line.close(goodbye_s) for line in run.distinct]
    acked = sum(line.state().acked for line in run.distinct)
    return RunResult(
        pace.start_ms,
        run.at_ms,
        len(stations),
        run.messages,
        run.readings,
        run.events,
        acked,
        dict(run.fates),
        answered and all(closed) and not run.left and not run.never_connected,
        time.monotonic() - began,
    )


@dataclass
class _Run:
    source: Source
    stations: Sequence[str]
    lines: Mapping[str, Line]
    pace: Pace
    end_ms: int | None
    stop: threading.Event
    clock: Callable[[], int]
    report: Callable[[str, Sample], Sample]
    settled: Callable[[SampleOutcome], object] | None
    on_progress: Callable[[Progress], object]
    at_ms: int = 0
    messages: int = 0
    readings: int = 0
    events: int = 0
    left: int = 0
    fates: Counter[Fate] = field(default_factory=Counter)

    def prepare(self, troubles: Iterable[Trouble], seed: int, boot: int, memory: int, per_message: int) -> None:
        self.at_ms = self.pace.start_ms
        of: dict[str, list[Trouble]] = {}
        for trouble in troubles:
            for key in trouble.stations:
                of.setdefault(key, []).append(trouble)
        self.transports = {
            key: Transport(
                key,
                of.get(key, ()),
                seed=seed,
                boot=boot,
                memory=memory,
                per_message=CATCH_UP_SAMPLES if self.to_the_present() else per_message,
                settled=self._settle,
            )
            for key in self.stations
        }
        self.per_message = per_message
        self.troubled = [self.transports[key] for key in self.stations if key in of]
        self.unsent: set[Transport] = set()
        self.distinct = list({id(line): line for line in self.lines.values()}.values())
        self.never_connected = {line.state().name for line in self.distinct}
        """Lines that have never stood."""
        self._reported_at = self._checked_at = 0.0
        self._checked_messages = 0

    def connect(self) -> None:
        """Wait a moment for the lines, so that a run does not begin with a burst of what it measured meanwhile."""
        until = time.monotonic() + CONNECT_S
        while time.monotonic() < until and not self.stop.wait(LIVE_TICK_S):
            if all(state.connected == state.wanted for state in self._states()):
                return
            self._report_progress(waiting=True)

    def go(self) -> None:
        step_ms = SHORTEST_STEP_MS
        while not self.stop.is_set() and (self.end_ms is None or self.at_ms < self.end_ms):
            fast, coming = self.pace.hurries(self.at_ms), self.to_the_present()
            to_ms = self.at_ms + step_ms if fast else self.pace.due_ms(self.clock())
            for last_ms in (self.end_ms, self.pace.hurry_until_ms if coming else None):
                to_ms = to_ms if last_ms is None else min(to_ms, last_ms)
            if to_ms > self.at_ms:
                count = self._step(to_ms)
                if fast:
                    factor = 2.0 if count < SAMPLES_A_STEP / 2 else 0.5 if count > SAMPLES_A_STEP else 1.0
                    step_ms = int(min(max(step_ms * factor, SHORTEST_STEP_MS), LONGEST_STEP_MS))
                    self._wait_for_room()
                if coming and not self.to_the_present():
                    self._arrive()
            if not fast:
                self.stop.wait(LIVE_TICK_S)
            self._report_progress()

    def to_the_present(self) -> bool:
        """Whether the run hurries through what lies before the present."""
        return self.pace.hurry_until_ms is not None and self.at_ms < self.pace.hurry_until_ms

    def _arrive(self) -> None:
        """The present has come: what devices gathered for a long message leaves, and messages are short again."""
        for transport in self.transports.values():
            transport.per_message = self.per_message
            if transport.remembered:
                self.unsent.add(transport)
        self._send_unsent()

    def finish(self, patience_s: float) -> None:
        """Send what is in memory, as soon as the lines allow it or patience ends."""
        until = time.monotonic() + patience_s
        while self.unsent and time.monotonic() < until:
            self._send_unsent()
            if not any(transport.waits for transport in self.unsent):
                break
            self._report_progress(waiting=True)
            time.sleep(LIVE_TICK_S)
        self._states()
        self.left = sum(transport.remembered for transport in self.unsent if transport.waits)
        for transport in self.transports.values():
            transport.reachable = self.lines[transport.station].reachable(transport.station)
            self._put(transport.finish(self.at_ms))
        self._report_progress(now=True)

    def _step(self, to_ms: int) -> int:
        count = 0
        for key, sample in self.source.advance(to_ms):
            count += 1
            transport = self.transports[key]
            transport.reachable = self.lines[key].reachable(key)
            if transmissions := transport.take(self.report(key, sample)):
                self._put(transmissions)
            if transport.remembered:
                self.unsent.add(transport)
        self.at_ms = to_ms
        for transport in self.troubled:
            if (due := transport.next_ms) is not None and due <= to_ms:
                self._put(transport.advance(to_ms))
        self._send_unsent()
        return count

    def _send_unsent(self) -> None:
        """A line may be back."""
        for transport in [*self.unsent]:
            transport.reachable = self.lines[transport.station].reachable(transport.station)
            self._put(transport.advance(self.at_ms))
            if not transport.remembered:
                self.unsent.discard(transport)

    def _states(self) -> tuple[LineState, ...]:
        states = tuple(line.state() for line in self.distinct)
        self.never_connected -= {state.name for state in states if state.connected or not state.wanted}
        return states

    def _wait_for_room(self) -> None:
        """As fast as possible is as fast as the other side answers; when it is away, time stands still."""
        if (
            time.monotonic() < self._checked_at + LIVE_TICK_S
            and self.messages < self._checked_messages + SAMPLES_A_STEP
        ):
            return
        while not self.stop.is_set():
            states = self._states()
            if sum(s.under_way for s in states) < MAX_UNANSWERED and all(s.connected or not s.wanted for s in states):
                break
            self._report_progress(waiting=True)
            self.stop.wait(LIVE_TICK_S)
        self._checked_at, self._checked_messages = time.monotonic(), self.messages

    def _put(self, transmissions: Iterable[Transmission]) -> None:
        for put in transmissions:
            self.lines[put.station].put(put)
            if put.kind is TransmissionKind.TELEMETRY:
                self.messages += 1
                self.readings += _readings(put)
            elif put.kind is TransmissionKind.EVENT:
                self.events += 1

    def _settle(self, settled: SampleOutcome) -> None:
        self.fates[settled.fate] += 1
        if self.settled is not None:
            self.settled(settled)

    def _report_progress(self, *, waiting: bool = False, now: bool = False) -> None:
        moment = time.monotonic()
        if not now and moment - self._reported_at < 0.5:
            return
        self._reported_at = moment
        lines = self._states()
        remembered = sum(t.remembered for t in self.unsent)
        self.on_progress(
            Progress(
                self.at_ms, self.pace.start_ms, self.end_ms, self.messages, self.readings, remembered, lines, waiting
            )
        )


def _readings(put: Transmission) -> int:
    return 0 if put.message is None else sum(len(s.values) for s in put.message.samples)
