"""Detect wrong device clocks: the time that messages state against the time they were received.

A delayed message arrives late, too. The difference of a wrong clock is large and stays the same from message to
message, while that of a backlog shrinks as it is sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from governance.incidents.finding import Colour, ConditionChange, Finding
from infra.texts import say
from infra.times import FUTURE_MS, beijing
from ingest.rules.alarm_state import Alarm, AlarmKey
from ingest.rules.device_reports import PREFIX, device_finding, ended_text
from ingest.rules.sentences import duration_text, station_name
from sensors.reading import Ints, Message
from sensors.stations import Registry, Station
from sensors.wire.telemetry import Decoded, sending_times

KIND: Final = "clock"
RULE: Final = PREFIX + KIND
VERSION: Final = "1"
"""Increased with every change of these criteria."""

MIN_BEHIND_MS: Final = 90 * 60_000
"""A clock is behind where even the newest reading of a message is older than this: an analyser's result is of water
sampled up to an hour before it is sent."""

MAX_SPREAD_MS: Final = 20 * 60_000
"""Differences within this are the same: the newest reading is at most a quarter of an hour old when a device sends it,
and a backlog shrinks by at least a third of the time that it takes to send."""

MIN_DURATION_MS: Final = 3_600_000
MIN_MESSAGES: Final = 4
"""The difference must stay the same over this time and so many messages (engineering choice)."""

MIN_STATIONS_FOR_SILENCE: Final = 3
LAG_INTERVALS: Final = 3
"""Where most of so many stations that were heard within these intervals sent nothing so recent, they are not silent:
our clock is ahead, or they send what a long outage held back (engineering choice; of two a single one would decide)."""

MIN_STATIONS_FOR_OWN_CLOCK: Final = 10
"""From so many stations on, where most of those heard differ, our own clock or queue is wrong."""

_UPLOADED: Final = frozenset({"http"})
"""Sources whose messages may be of any age: only a stated sending time counts."""


@dataclass(frozen=True, slots=True)
class ClockError:
    """A clock that seems wrong: since when, the last message (ms), the least and largest difference (ms, positive:
    behind), and the number of messages."""

    since_ms: int
    last_seen_ms: int
    least_ms: int
    most_ms: int
    messages: int

    def continues(self, off_ms: int) -> bool:
        """Whether a message with this difference shows the same error."""
        least, most = min(self.least_ms, off_ms), max(self.most_ms, off_ms)
        if (least < 0) != (most < 0):
            return False
        return most - least <= MAX_SPREAD_MS

    @property
    def is_established(self) -> bool:
        return self.messages >= MIN_MESSAGES and self.last_seen_ms - self.since_ms >= MIN_DURATION_MS


class ClockMonitor:
    """The clocks that seem wrong, by the messages received.

    ``off`` are those from before a restart. The other stations heard are not stored, so that after a restart a wrong
    clock of our own shows only once they sent again.
    """

    def __init__(self, off: Mapping[str, ClockError] | None = None) -> None:
        self._off: dict[str, ClockError] = dict(off or {})
        self._last_seen: dict[str, int] = {}  # station → when it was heard last, ms
        self._changed: set[str] = set()

    def changed(self, now_ms: int) -> dict[str, ClockError | None]:
        """The clock errors that changed since the last call, to be stored; None: the clock is right.

        Empty while our own clock seems wrong, since every message would change a row.
        """
        if self._own_clock_wrong(now_ms):
            return {}
        changed, self._changed = self._changed, set()
        return {station: self._off.get(station) for station in changed}

    def follow(
        self, decoded: Decoded, messages: Sequence[Message], registry: Registry, alarms: Mapping[AlarmKey, Alarm]
    ) -> list[Finding]:
        """The findings of the messages of a batch; a clock that stays wrong makes none."""
        offsets = _offsets(decoded, messages, registry)
        self._last_seen.update((station, at_ms) for station, at_ms, _ in offsets)
        firing = {station: alarm.since_ms for (rule, station, _), alarm in alarms.items() if rule == RULE}
        wrong = {station for station, _, off_ms in offsets if not _is_right(off_ms)}
        concerned = wrong.union(self._off, firing)
        found: list[Finding] = []
        for station, at_ms, off_ms in offsets:
            if station not in concerned:
                continue
            earlier = self._off.get(station)
            if earlier is not None and at_ms <= earlier.last_seen_ms:
                continue  # delivered again
            if _is_right(off_ms):
                if self._off.pop(station, None) is not None:
                    self._changed.add(station)
                if (since_ms := firing.pop(station, None)) is not None:
                    found.append(_finding(registry[station], ConditionChange.RESOLVED, since_ms, at_ms, off_ms))
                continue
            error = self._off[station] = _updated(earlier, off_ms, at_ms)
            self._changed.add(station)
            if error.is_established and station not in firing and not self._own_clock_wrong(at_ms):
                firing[station] = error.since_ms
                found.append(_finding(registry[station], ConditionChange.FIRED, error.since_ms, at_ms, off_ms))
        return found

    def all_seem_old(self, registry: Registry, newest_ms: Ints, now_ms: int) -> bool:
        """Whether most stations that were just heard seem to have sent nothing recent; ``newest_ms`` by position."""
        count = old = 0
        for station, at_ms in self._last_seen.items():
            place = registry.index.get(station)
            if place is None:
                continue
            recent_ms = LAG_INTERVALS * registry.stations[place].interval_s * 1000
            if 0 <= now_ms - at_ms <= recent_ms:
                count += 1
                old += now_ms - int(newest_ms[place]) > recent_ms
        return count >= MIN_STATIONS_FOR_SILENCE and 2 * old > count

    def _own_clock_wrong(self, now_ms: int) -> bool:
        """Whether most stations heard in the last hour differ."""
        if len(self._off) < MIN_STATIONS_FOR_OWN_CLOCK:
            return False
        reported = sum(now_ms - at_ms <= MIN_DURATION_MS for at_ms in self._last_seen.values())
        return 2 * len(self._off) > reported


def _updated(earlier: ClockError | None, off_ms: int, at_ms: int) -> ClockError:
    if earlier is None or not earlier.continues(off_ms):
        return ClockError(at_ms, at_ms, off_ms, off_ms, 1)
    return ClockError(
        earlier.since_ms, at_ms, min(earlier.least_ms, off_ms), max(earlier.most_ms, off_ms), earlier.messages + 1
    )


def _is_right(off_ms: int) -> bool:
    """Whether a clock that is so far behind (ms) counts as right."""
    return -FUTURE_MS <= off_ms <= MIN_BEHIND_MS


def _offsets(decoded: Decoded, messages: Sequence[Message], registry: Registry) -> list[tuple[str, int, int]]:
    """Of each message: station, when it was received (ms), and how far its device's clock is behind (ms).

    The stated sending time counts, else the newest reading. Averages, which carry the beginning of their period, and
    replayed messages are left out.
    """
    stated, stations = sending_times(decoded.headers), registry.index
    if None in stated:
        newest = np.full(len(messages), -1, np.int64)
        np.maximum.at(newest, decoded.batch.message, decoded.batch.at)
        for i in np.flatnonzero(newest >= 0).tolist():
            if stated[i] is None and messages[i].source not in _UPLOADED and i not in decoded.periods:
                stated[i] = int(newest[i])
    return [
        (message.station, message.received_at_ms, message.received_at_ms - at_ms)
        for message, at_ms in zip(messages, stated, strict=True)
        if at_ms is not None and message.replay_of is None and message.station in stations
    ]


def _finding(station: Station, change: ConditionChange, since_ms: int, at_ms: int, off_ms: int) -> Finding:
    if change is ConditionChange.RESOLVED:
        text = ended_text(station, KIND, at_ms)
    else:
        key = "device.clock_behind" if off_ms > 0 else "device.clock_ahead"
        text = say(key, station=station_name(station), at=beijing(since_ms), off=duration_text(_rounded(abs(off_ms))))
    return device_finding(station, KIND, change, (since_ms, at_ms), Colour.YELLOW, text, VERSION)


def _rounded(ms: int) -> int:
    """Rounded to tenths of an hour, below an hour to minutes."""
    part = 360_000 if ms >= 3_600_000 else 60_000
    return round(ms / part) * part
