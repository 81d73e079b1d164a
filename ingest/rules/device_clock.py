"""Is a device's clock right? What it says of the time, against when it was heard: a finding of the device, not of the
water.

A message that was held up arrives late, too. What tells a wrong clock is that the difference is large and stays the
same, message for message, while a backlog shrinks as it is sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from governance.incidents.finding import Change, Colour, Finding
from infra.texts import say
from infra.times import FUTURE_MS, beijing
from ingest.rules.alarm_state import Alarm, Key
from ingest.rules.device_reports import PREFIX, finding, over
from ingest.rules.sentences import duration, name
from sensors.reading import Message
from sensors.stations import Registry, Station
from sensors.wire.telemetry import Decoded

WHAT: Final = "clock"
RULE: Final = PREFIX + WHAT
VERSION: Final = "1"
"""Grows with every change of what a wrong clock is."""

BEHIND_MS: Final = 90 * 60_000
"""A clock is behind when even the newest reading of a message is older than this: a cabinet's result is of water taken
up to an hour before it is sent (domain notes, section 8)."""

STEADY_MS: Final = 20 * 60_000
"""The difference is the same while it stays within this: the newest reading is a quarter of an hour old or less when a
device sends it, and a backlog that is worked off shrinks by a third of the time it takes, or more."""

LASTS_MS: Final = 3_600_000
MESSAGES: Final = 4
"""It must stay the same over an hour and so many messages: four equal ones by chance are no queue any more (engineering
choice)."""

OURS: Final = 10
"""From so many stations on, where most of those heard say the same, it is our clock or our queue that is wrong."""

_UPLOADED: Final = frozenset({"http"})
"""Messages of these sources may be of any age; only what they say of when they were sent counts."""


@dataclass(frozen=True, slots=True)
class ClockError:
    """A clock that seems to be wrong: since when, the last message heard, by how much (ms, positive behind) at least
    and at most, and in how many messages."""

    since_ms: int
    heard_ms: int
    least_ms: int
    most_ms: int
    messages: int

    def goes_on(self, off_ms: int) -> bool:
        """Whether another message shows the same difference."""
        least, most = min(self.least_ms, off_ms), max(self.most_ms, off_ms)
        if (least < 0) != (most < 0):
            return False
        return most - least <= STEADY_MS

    @property
    def lasts(self) -> bool:
        return self.messages >= MESSAGES and self.heard_ms - self.since_ms >= LASTS_MS


class ClockMonitor:
    """What the messages of the last hours said of their devices' clocks.

    ``off`` are the clocks that seemed wrong before a restart. Who was heard is not kept: where many seem wrong, whether
    it is ours shows only once the others spoke again.
    """

    def __init__(self, off: Mapping[str, ClockError] | None = None) -> None:
        self._off: dict[str, ClockError] = dict(off or {})
        self._heard: dict[str, int] = {}  # station → when it was heard last, ms
        self._changed: set[str] = set()

    def changed(self, now_ms: int) -> dict[str, ClockError | None]:
        """The clocks that seem otherwise than when this was asked last, to be written down; None: right.

        While most seem wrong it is ours, nothing of it is told and it waits: every message would be a row.
        """
        if self._ours(now_ms):
            return {}
        changed, self._changed = self._changed, set()
        return {station: self._off.get(station) for station in changed}

    def follow(
        self,
        decoded: Decoded,
        messages: Sequence[Message],
        registry: Registry,
        alarms: Mapping[Key, Alarm],
    ) -> list[Finding]:
        """What the messages of a batch say; a clock that goes on being wrong tells nothing new."""
        said = _offsets(decoded, messages, registry)
        self._heard.update((messages[i].station, messages[i].received_at_ms) for i in said)
        spoke = {messages[i].station for i in said}
        firing = {station: alarms[RULE, station, ""].since_ms for station in spoke if (RULE, station, "") in alarms}
        told: list[Finding] = []
        for i, off_ms in said.items():
            station, at_ms = messages[i].station, messages[i].received_at_ms
            known = self._off.get(station)
            if known is not None and at_ms <= known.heard_ms:
                continue  # heard before what is known: it comes again
            if -FUTURE_MS <= off_ms <= BEHIND_MS:
                if self._off.pop(station, None) is not None:
                    self._changed.add(station)
                if (since_ms := firing.pop(station, None)) is not None:
                    told.append(_finding(registry[station], Change.RESOLVED, since_ms, at_ms, off_ms))
                continue
            now = self._off[station] = _followed(known, off_ms, at_ms)
            self._changed.add(station)
            if now.lasts and station not in firing and not self._ours(at_ms):
                firing[station] = now.since_ms
                told.append(_finding(registry[station], Change.FIRED, now.since_ms, at_ms, off_ms))
        return told

    def _ours(self, now_ms: int) -> bool:
        """Whether most stations that were heard in the last hour say the same: then it is not theirs."""
        if len(self._off) < OURS:
            return False
        heard = sum(now_ms - at_ms <= LASTS_MS for at_ms in self._heard.values())
        return 2 * len(self._off) > heard


def _followed(had: ClockError | None, off_ms: int, at_ms: int) -> ClockError:
    """With another message: the same error goes on, or another one begins."""
    if had is None or not had.goes_on(off_ms):
        return ClockError(at_ms, at_ms, off_ms, off_ms, 1)
    return ClockError(had.since_ms, at_ms, min(had.least_ms, off_ms), max(had.most_ms, off_ms), had.messages + 1)


def _offsets(decoded: Decoded, messages: Sequence[Message], registry: Registry) -> dict[int, int]:
    """Messages that say something of their device's clock, and by how many ms it is behind.

    A device that says when it sent the message is believed; of another one the newest reading counts. Means carry the
    beginning of their period, and what is replayed was heard long ago.
    """
    newest = np.full(len(messages), -1, np.int64)
    np.maximum.at(newest, decoded.batch.message, decoded.batch.at)
    found, known = {}, registry.index
    for i, (message, header, newest_ms) in enumerate(zip(messages, decoded.headers, newest.tolist(), strict=True)):
        if message.replay_of is not None or message.station not in known:
            continue
        said_ms = header.sent_at_ms if header is not None else None
        if said_ms is None and newest_ms >= 0 and message.source not in _UPLOADED and i not in decoded.periods:
            said_ms = newest_ms
        if said_ms is not None:
            found[i] = message.received_at_ms - said_ms
    return found


def _finding(station: Station, change: Change, since_ms: int, at_ms: int, off_ms: int) -> Finding:
    if change is Change.RESOLVED:
        text = over(station, WHAT, at_ms)
    else:
        key = "device.clock_behind" if off_ms > 0 else "device.clock_ahead"
        text = say(key, station=name(station), at=beijing(since_ms), off=duration(_rounded(abs(off_ms))))
    return finding(station, WHAT, change, (since_ms, at_ms), Colour.YELLOW, text, VERSION)


def _rounded(ms: int) -> int:
    """To tenths of an hour, or minutes: the last digits say nothing."""
    part = 360_000 if ms >= 3_600_000 else 60_000
    return round(ms / part) * part
