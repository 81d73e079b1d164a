"""What devices say of themselves that somebody must look at: from an event of a device to a finding.

A device event is no reading: it says nothing of the water, and resolves nothing but itself. While somebody was at the
station (a visit) its door may have been open.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from governance.incidents.finding import Change, Colour, Finding, Kind
from governance.incidents.headline import Headline
from infra.texts import Text, say
from infra.times import YEAR_2000_MS, beijing, to_ms
from ingest.rules.alarm_state import Alarm, Key
from ingest.rules.sentences import name
from sensors.stations import Station

VERSION: Final = "1"
"""Grows with every change of what is told of a device."""
PREFIX: Final = "device-"

BEGINS: Final[Mapping[str, Colour]] = {
    "door_open": Colour.YELLOW,
    "intrusion": Colour.ORANGE,
    "leak": Colour.ORANGE,
    "power_lost": Colour.YELLOW,
    "battery_low": Colour.BLUE,
    "alarm": Colour.ORANGE,
    "alarm_event": Colour.ORANGE,
}
"""Events that need somebody, and how urgently (our choice). The last two are HJ/T 212-2005's 2071 and 2072."""
ENDS: Final[Mapping[str, str]] = {
    "door_closed": "door_open",
    "power_restored": "power_lost",
    "power_back": "power_lost",
    "battery_ok": "battery_low",
}
"""What ends which. An event that nothing ends is over as soon as it was told."""
EXCUSED: Final = frozenset({"door_open", "power_lost"})
"""Ordinary while somebody works at the station."""


_Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class _Body(msgspec.Struct):
    event: str
    at: Any = None


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """One event of a device: what, and when it was, ms UTC."""

    station: Station
    what: str
    at_ms: int


def parse_report(station: Station, body: bytes, received_at_ms: int) -> DeviceReport | None:
    """What an event's body says; None for one that says nothing known. ``at`` is when it was."""
    try:
        told = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if told.event not in BEGINS and told.event not in ENDS:
        return None
    try:
        at_ms = to_ms(msgspec.convert(told.at, _Instant))
    except (msgspec.ValidationError, OverflowError):
        at_ms = received_at_ms
    return DeviceReport(station, told.event, at_ms if YEAR_2000_MS < at_ms <= received_at_ms else received_at_ms)


def findings(
    events: Iterable[DeviceReport], alarms: Mapping[Key, Alarm], excused: Callable[[DeviceReport], bool], late_ms: int
) -> list[Finding]:
    """What begins and what ends; an event that goes on tells nothing new.

    ``excused`` says whether somebody was at work there; what was before ``late_ms`` informs and pages nobody.
    """
    firing = {key: alarm for key, alarm in alarms.items() if key[0].startswith(PREFIX)}
    told: list[Finding] = []
    for one in sorted(events, key=lambda e: e.at_ms):
        what = ENDS.get(one.what, one.what)
        key = (PREFIX + what, one.station.key, "")
        since = firing.get(key)
        if one.what in ENDS:
            if since is not None:
                told.append(_finding(one, what, Change.RESOLVED, since.since_ms, since.past))
                del firing[key]
        elif since is None and not (what in EXCUSED and excused(one)):
            begun = _finding(one, what, Change.FIRED, one.at_ms, one.at_ms < late_ms)
            told.append(begun)
            if what in ENDS.values():
                firing[key] = Alarm(begun.cause, one.at_ms, one.at_ms, begun.retrospective)
            else:
                told.append(_finding(one, what, Change.RESOLVED, one.at_ms, begun.retrospective))
    return told


def _finding(one: DeviceReport, what: str, change: Change, since_ms: int, past: bool) -> Finding:
    told = over(one.station, what, one.at_ms) if change is Change.RESOLVED else _begun(one, what)
    return finding(one.station, what, change, (since_ms, one.at_ms), BEGINS[what], told, VERSION, past)


def _begun(one: DeviceReport, what: str) -> Text:
    return say(f"device.{what}", station=name(one.station), at=beijing(one.at_ms))


def over(station: Station, what: str, at_ms: int) -> Text:
    """That something a device was told of is over."""
    return say("device.over", station=name(station), at=beijing(at_ms), what=say(f"device.{what}_short"))


def finding(
    station: Station,
    what: str,
    change: Change,
    span_ms: tuple[int, int],
    colour: Colour,
    text: Text,
    version: str,
    past: bool = False,
) -> Finding:
    """Something of a device: since when and until when, ms. All of a device is one cause."""
    about = Headline(name(station), say(f"device.{what}_short")) if change is Change.FIRED else None
    since_ms, at_ms = span_ms
    return Finding(
        rule=PREFIX + what,
        version=version,
        kind=Kind.DEVICE,
        change=change,
        cause=f"device:{station.key}",
        station=station.key,
        observed_at_ms=at_ms,
        since_ms=since_ms,
        colour=colour,
        retrospective=past,
        text=text,
        headline=about,
    )
