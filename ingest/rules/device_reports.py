"""Findings from the events that devices report: door, intrusion, leak, power, battery, alarm.

Such an event says nothing about the water and ends only findings of its own kind. During a visit an open door or lost
power is ordinary.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from governance.incidents.headline import Headline
from infra.texts import Text, say
from infra.times import YEAR_2000_MS, beijing, to_ms
from ingest.rules.alarm_state import Alarm, AlarmKey
from ingest.rules.sentences import station_name
from sensors.stations import Station

VERSION: Final = "1"
"""Increased with every change of these rules."""
PREFIX: Final = "device-"

COLOURS: Final[Mapping[str, Colour]] = {
    "door_open": Colour.YELLOW,
    "intrusion": Colour.ORANGE,
    "leak": Colour.ORANGE,
    "power_lost": Colour.YELLOW,
    "battery_low": Colour.BLUE,
    "alarm": Colour.ORANGE,
    "alarm_event": Colour.ORANGE,
}
"""Events that need attention, and how urgent they are (our choice); the last two are HJ/T 212-2005 2071 and 2072."""
ENDED_BY_EVENT: Final[Mapping[str, str]] = {
    "door_closed": "door_open",
    "power_restored": "power_lost",
    "power_back": "power_lost",
    "battery_ok": "battery_low",
}
"""Event → the event that it ends. An event that no other ends is published as fired and ended at once."""
ORDINARY_DURING_VISIT: Final = frozenset({"door_open", "power_lost"})


_Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class _Body(msgspec.Struct):
    event: str
    at: Any = None


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """One event of a device, and when it happened (ms UTC)."""

    station: Station
    what: str
    at_ms: int


def parse_report(station: Station, body: bytes, received_at_ms: int) -> DeviceReport | None:
    """Read the body of an event; None where it is not JSON or not a known event.

    An ``at`` that is missing or implausible is replaced by ``received_at_ms``.
    """
    try:
        report = msgspec.json.decode(body, type=_Body)
    except (ValueError, RecursionError):  # DecodeError and UnicodeDecodeError are ValueErrors
        return None
    if report.event not in COLOURS and report.event not in ENDED_BY_EVENT:
        return None
    try:
        at_ms = to_ms(msgspec.convert(report.at, _Instant))
    except (msgspec.ValidationError, OverflowError):
        at_ms = received_at_ms
    return DeviceReport(station, report.event, at_ms if YEAR_2000_MS < at_ms <= received_at_ms else received_at_ms)


def findings(
    events: Iterable[DeviceReport],
    alarms: Mapping[AlarmKey, Alarm],
    excused: Callable[[DeviceReport], bool],
    late_ms: int,
) -> list[Finding]:
    """The findings of new events; a repeated event that is already active makes none.

    ``excused`` tells whether somebody worked at the station then; events before ``late_ms`` are retrospective.
    """
    active = {key: alarm for key, alarm in alarms.items() if key[0].startswith(PREFIX)}
    found: list[Finding] = []
    for one in sorted(events, key=lambda e: e.at_ms):
        what = ENDED_BY_EVENT.get(one.what, one.what)
        key = (PREFIX + what, one.station.key, "")
        alarm = active.get(key)
        if one.what in ENDED_BY_EVENT:
            if alarm is not None:
                found.append(_finding(one, what, ConditionChange.RESOLVED, alarm.since_ms, alarm.retrospective))
                del active[key]
        elif alarm is None and not (what in ORDINARY_DURING_VISIT and excused(one)):
            fired = _finding(one, what, ConditionChange.FIRED, one.at_ms, one.at_ms < late_ms)
            found.append(fired)
            if what in ENDED_BY_EVENT.values():
                active[key] = Alarm(fired.cause, one.at_ms, one.at_ms, fired.retrospective)
            else:
                found.append(_finding(one, what, ConditionChange.RESOLVED, one.at_ms, fired.retrospective))
    return found


def _finding(one: DeviceReport, what: str, change: ConditionChange, since_ms: int, retrospective: bool) -> Finding:
    if change is ConditionChange.RESOLVED:
        text = ended_text(one.station, what, one.at_ms)
    else:
        text = say(f"device.{what}", station=station_name(one.station), at=beijing(one.at_ms))
    return device_finding(one.station, what, change, (since_ms, one.at_ms), COLOURS[what], text, VERSION, retrospective)


def ended_text(station: Station, what: str, at_ms: int) -> Text:
    """The text of a finding about a device that ended."""
    return say("device.over", station=station_name(station), at=beijing(at_ms), what=say(f"device.{what}_short"))


def device_finding(
    station: Station,
    what: str,
    change: ConditionChange,
    span_ms: tuple[int, int],
    colour: Colour,
    text: Text,
    version: str,
    retrospective: bool = False,
) -> Finding:
    """A finding about a device; ``span_ms`` is (since, observed at). All findings of a device have one cause."""
    headline = Headline(station_name(station), say(f"device.{what}_short")) if change is ConditionChange.FIRED else None
    since_ms, at_ms = span_ms
    return Finding(
        rule=PREFIX + what,
        version=version,
        kind=FindingKind.DEVICE,
        change=change,
        cause=f"device:{station.key}",
        station=station.key,
        observed_at_ms=at_ms,
        since_ms=since_ms,
        colour=colour,
        retrospective=retrospective,
        text=text,
        headline=headline,
    )
