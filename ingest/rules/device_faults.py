"""Faults of devices that last: who has one, since when, and the findings at its beginning and end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from governance.incidents.finding import Colour, ConditionChange, Finding
from infra.texts import Text, say
from infra.times import MINUTE_MS, beijing
from ingest.rules.alarm_state import Alarm, AlarmKey
from ingest.rules.device_reports import PREFIX, device_finding, ended_text
from ingest.rules.sentences import station_name
from sensors.stations import Registry, Station

QUIET_MS: Final = 10 * MINUTE_MS
"""A fault has ended once nothing was noted of it for so long."""

DISCARD_RULE: Final = PREFIX + "discard"
DISCARD_VERSION: Final = "1"
"""Increased with every change of what is discarded."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Since when a device has a fault, when it was noted last (ms UTC), and of how many messages."""

    since_ms: int
    last_ms: int
    messages: int


class DeviceFaults:
    """The devices with one kind of fault. ``current`` may be read by any thread."""

    def __init__(self, kind: str, version: str, text: Callable[[Station, int], Text]) -> None:
        """``text`` is that of a finding, of a station and since when (ms UTC)."""
        self.current: Mapping[str, Fault] = {}
        self._kind = kind
        self._version = version
        self._text = text
        self._began_ms: int | None = None

    def note(self, device: str, messages: int, now_ms: int) -> None:
        """Messages of a device show the fault now."""
        known = self.current.get(device, Fault(now_ms, now_ms, 0))
        self.current = {**self.current, device: replace(known, last_ms=now_ms, messages=known.messages + messages)}

    def begun(self, registry: Registry, alarms: Mapping[AlarmKey, Alarm], now_ms: int) -> list[Finding]:
        """The findings of registered devices that have the fault and no finding yet."""
        return [
            self._finding(registry[key], ConditionChange.FIRED, one.since_ms, now_ms)
            for key, one in self.current.items()
            if key in registry and now_ms - one.last_ms < QUIET_MS and (PREFIX + self._kind, key, "") not in alarms
        ]

    def ended(self, registry: Registry, alarms: Mapping[AlarmKey, Alarm], now_ms: int) -> list[Finding]:
        """The findings of devices that have the fault no more; after a start each is watched for a while."""
        if self._began_ms is None or now_ms < self._began_ms:
            self._began_ms = now_ms
        over = {key for key, one in self.current.items() if abs(now_ms - one.last_ms) >= QUIET_MS}
        if over:
            self.current = {key: one for key, one in self.current.items() if key not in over}
        watched = now_ms - self._began_ms >= QUIET_MS
        firing = {key[1]: alarm.since_ms for key, alarm in alarms.items() if key[0] == PREFIX + self._kind}
        return [
            self._finding(registry[station], ConditionChange.RESOLVED, since_ms, now_ms)
            for station, since_ms in firing.items()
            if station in registry and station not in self.current and (watched or station in over)
        ]

    def _finding(self, station: Station, change: ConditionChange, since_ms: int, at_ms: int) -> Finding:
        is_over = change is ConditionChange.RESOLVED
        text = ended_text(station, self._kind, at_ms) if is_over else self._text(station, since_ms)
        return device_finding(station, self._kind, change, (since_ms, at_ms), Colour.YELLOW, text, self._version)


def discarding() -> DeviceFaults:
    """Devices whose refused messages are beyond the limits of the quarantine."""

    def text(station: Station, since_ms: int) -> Text:
        return say("device.discard", station=station_name(station), at=beijing(since_ms))

    return DeviceFaults("discard", DISCARD_VERSION, text)
