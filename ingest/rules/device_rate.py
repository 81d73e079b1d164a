"""Detect devices that send far more than they are registered for, and tell which of their messages are beyond that.

A message counts in the minute in which its newest reading was observed, whenever it arrives. What a device held back
during an outage spreads over the minutes of the outage; a broken device repeats a time, or fills each minute.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from infra.texts import Text, say
from infra.times import MINUTE_MS, beijing
from ingest.rules.device_faults import DeviceFaults, Fault
from ingest.rules.device_reports import PREFIX
from ingest.rules.sentences import duration_text, station_name
from sensors.reading import Batch, Bools, Floats, Ints, Places
from sensors.stations import Registry, Station

KIND: Final = "flood"
RULE: Final = PREFIX + KIND
VERSION: Final = "1"
"""Increased with every change of these criteria."""

WINDOW_MS: Final = 10 * MINUTE_MS
"""Counts begin anew after so long, so that a clock that stands still is no flood, however long it does."""
FREE_MESSAGES_PER_MINUTE: Final = 3_000
"""Messages of one minute that every device may send: fifty a second, above any instrument and a
twentieth of a device that sends a thousand (our choice)."""
RATE_FACTOR: Final = WINDOW_MS / MINUTE_MS
"""So many times the registered rate may come in addition: all that a device sends in a window whose clock stands."""
MAX_COUNTS: Final = 100_000
"""Minutes counted at once, about 10 MB; all begin anew beyond. Forty devices that send a day each have 60,000."""


class RateMonitor:
    """Counts the messages of each device, and knows which send too much. ``flooding`` may be read by any thread."""

    def __init__(self) -> None:
        self.faults = DeviceFaults(KIND, VERSION, _text)
        self._registry: Registry | None = None
        self._counts_from_ms = 0
        self._received: Ints = np.zeros(0, np.int64)
        self._allowed: Floats = np.zeros(0)
        self._counts: dict[int, int] = {}

    def forget(self) -> None:
        """Begin to count anew: a batch that failed comes again."""
        self._registry = None

    def beyond(self, batch: Batch, counted: Bools, registry: Registry, now_ms: int) -> Places:
        """The messages beyond the rates of their devices, in order; ``counted`` (messages,) are those that count."""
        self._begin_anew(registry, now_ms)
        station, parameter, newest = _of_messages(batch, len(counted))
        rows = np.flatnonzero(counted & (station >= 0))
        self._received += np.bincount(station[rows], minlength=len(self._received))
        rows = rows[self._received[station[rows]] > FREE_MESSAGES_PER_MINUTE]  # of all others no minute can be full
        if not len(rows):
            return rows
        if len(self._counts) > MAX_COUNTS:
            self._counts.clear()
        series = station[rows] * len(registry.catalogue.parameters) + parameter[rows]
        minutes = (series << 32 | newest[rows] // MINUTE_MS).tolist()
        found = []
        for row, minute, allowed in zip(rows.tolist(), minutes, self._allowed[station[rows]].tolist(), strict=True):
            count = self._counts[minute] = self._counts.get(minute, 0) + 1
            if count > allowed:
                found.append(row)
        beyond = np.array(found, np.intp)
        for place, messages in zip(*np.unique(station[beyond], return_counts=True), strict=True):
            self.faults.note(registry.stations[place].key, int(messages), now_ms)
        return beyond

    @property
    def flooding(self) -> Mapping[str, Fault]:
        """The devices that send too much."""
        return self.faults.current

    def _begin_anew(self, registry: Registry, now_ms: int) -> None:
        if self._registry is registry and 0 <= now_ms - self._counts_from_ms < WINDOW_MS:
            return
        self._registry, self._counts_from_ms = registry, now_ms
        self._received = np.zeros(len(registry.stations), np.int64)
        self._allowed = np.array([_allowed(station) for station in registry.stations])
        self._counts.clear()


def _of_messages(batch: Batch, messages: int) -> tuple[Ints, Ints, Ints]:
    """Station, least parameter and newest instant (ms) of each message; the station is -1 without readings."""
    station, newest = np.full(messages, -1, np.int64), np.zeros(messages, np.int64)
    parameter = np.full(messages, np.iinfo(np.int32).max, np.int64)
    station[batch.message] = batch.station
    np.minimum.at(parameter, batch.message, batch.parameter)
    np.maximum.at(newest, batch.message, batch.at)
    return station, parameter, newest


def _allowed(station: Station) -> float:
    """Messages of one minute that a device may send."""
    return FREE_MESSAGES_PER_MINUTE + RATE_FACTOR * MINUTE_MS / (1000 * station.interval_s)


def _text(station: Station, since_ms: int) -> Text:
    return say(
        f"device.{KIND}",
        station=station_name(station),
        at=beijing(since_ms),
        count=f"{_allowed(station):,.0f}",
        interval=duration_text(station.interval_s * 1000),
    )
