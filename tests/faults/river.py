"""Devices that publish a known set of readings all the time, each remembered as it was sent."""

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from ingest.storage.archive import month_bounds_ms
from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Device, Fleet
from tests.faults.parts import SiteClock

CLEAN = {"water_temp": 25.0, "ph": 7.1, "do": 5.0, "nh3n": 0.9}
POLLUTED = {"nh3n": 6.0}
"""Over the limit of a red rule, so that people are called out."""
ROUND_S = 0.2
HOUR_MS = 3_600_000
LATE_SAMPLES, LATE_MESSAGES = 200, 3
OLD_YEAR, OLD_SAMPLES = 2025, 50
"""A year with readings of every month, for the archive."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A reading as a device sent it: its values, the number of its message, and when (monotonic seconds)."""

    values: dict[str, float]
    seq: int
    sent_at: float


@dataclass
class River:
    """Publishes a sample of each station five times a second between ``with`` and its end.

    ``steady`` stations stay clean; those of ``turning`` are polluted one after another and stay so; ``late`` ones come
    with old data, a station each time.
    """

    fleet: Fleet
    clock: SiteClock
    rng: random.Random
    steady: list[str]
    turning: list[str]
    late: list[str]
    sent: dict[tuple[str, int], Sent] = field(default_factory=dict)
    polluted: list[str] = field(default_factory=list)
    flooded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._newest: dict[str, int] = {}
        self._archived, self._files = 1, -1
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def round(self) -> None:
        """A message of each station."""
        with self._lock:
            for station in (*self.steady, *self.turning):
                self._publish(station, [self.clock.now_ms()])

    def pollute(self) -> None:
        """The next station that turns is polluted from now on."""
        left = [station for station in self.turning if station not in self.polluted]
        if left:
            self.polluted.append(left[0])

    def flood(self) -> None:
        """Days that a logger kept, with an alarm inside."""
        left = [station for station in self.late if station not in self.flooded]
        if not left:
            return
        with self._lock:
            self.flooded.append(left[0])
            begin_ms = self.clock.now_ms() - 40 * HOUR_MS
            for number in range(LATE_MESSAGES):
                first_ms = begin_ms + number * LATE_SAMPLES * 60_000
                times = [first_ms + i * 60_000 for i in range(LATE_SAMPLES)]
                self._publish(left[0], times, POLLUTED if number == 1 else {})

    def fill_old_months(self) -> None:
        """Readings of last year, a message a month."""
        with self._lock:
            for month in range(1, 13):
                first_ms = month_bounds_ms(f"{OLD_YEAR}-{month:02d}")[0]
                self._publish("old", [first_ms + i * HOUR_MS for i in range(OLD_SAMPLES)])

    def next_old_month(self) -> str:
        """The month before which readings are to be archived next."""
        self._archived = min(self._archived + 1, 12)
        return f"{OLD_YEAR}-{self._archived:02d}"

    def next_file(self) -> int:
        """The number of the next file among those uploaded."""
        self._files += 1
        return self._files

    def remember(self, station: str, samples: list[Sample], seq: int) -> None:
        """Readings that somebody else sends, a file."""
        for sample in samples:
            self.sent[station, sample.at_ms] = Sent(dict(sample.values), seq, time.monotonic())

    def samples(self, station: str, times: list[int], other: dict[str, float] | None = None) -> list[Sample]:
        """Ordinary water, but for what is given, at these times and never twice at one."""
        found, base = [], CLEAN | (other or {})
        for wanted_ms in times:
            at_ms = self._newest[station] = max(wanted_ms, self._newest.get(station, 0) + 1)
            values = {key: round(one * (1 + self.rng.gauss(0, 0.005)), 3) for key, one in base.items()}
            found.append(Sample(at_ms, values))
        return found

    def _publish(self, station: str, times: list[int], other: dict[str, float] | None = None) -> None:
        device: Device = self.fleet[station]
        samples = self.samples(station, times, POLLUTED if station in self.polluted else other)
        self.remember(station, samples, device.messages_sent)
        device.publish(samples, self.clock.now_ms())

    def _run(self) -> None:
        while not self._ended.wait(ROUND_S):
            self.round()
