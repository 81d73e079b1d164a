"""Sudden changes of the water, live: from the moves of a batch to findings.

What an event is stands in :mod:`sensors.quality.events`; here it gets a beginning, an end and a sentence. It ends when
the station has spoken for six hours without another alarm: silence ends nothing (design rule 5).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from governance.finding import Change, Colour, Finding, Kind
from ingest.checks.alarms import Alarm, Key
from ingest.checks.upstream import River
from ingest.checks.wording import name
from sensors.quality.events import Seen, meaning
from sensors.quality.wording import event as sentence
from sensors.stations import Registry, Station
from sensors.texts import say
from sensors.times import beijing

WATER: Final = "water:"
"""One cause is one water (decision 0006)."""

RULE: Final = "sudden-change"
VERSION: Final = "1"
"""Grows with every change of what an event is."""

QUIET_MS: Final = 6 * 3_600_000
SURE: Final = 0.7
"""From this confidence on an event is orange, below yellow."""


def edges(registry: Registry, river: River) -> tuple[tuple[int, int, int], ...]:
    """Which station lies above which, by position, and the usual travel time between them in ms."""
    index = registry.index
    return tuple(
        (index[above], i, way.typical_ms)
        for i, station in enumerate(registry.stations)
        if river.has_above(station.key)
        for above, way in river.above(station).items()
    )


def findings(
    seen: Seen, stations: Sequence[Station], alarms: Mapping[Key, Alarm], late_ms: int, now_ms: int
) -> list[Finding]:
    """What begins and what ends with a batch; an alarm that goes on tells nothing new."""
    told: list[Finding] = []
    firing: dict[int, tuple[int, int, bool]] = {}  # station → (since, last alarm, past)
    for row in range(len(seen.stations)):
        i = int(seen.stations[row])
        if alarm := alarms.get((RULE, stations[i].key, "")):
            firing[i] = (alarm.since_ms, int(seen.memory.alarmed[row]), alarm.past)
    found = seen.alarms
    for a in np.argsort(found.at, kind="stable").tolist():
        i, at_ms = int(found.station[a]), int(found.at[a])
        # the verdict on an instant waits for the next one
        past = at_ms < now_ms - late_ms - 2000 * stations[i].interval_s
        if i in firing and at_ms - firing[i][1] <= QUIET_MS:
            since_ms, last_ms, was_past = firing[i]
            firing[i] = (since_ms, max(last_ms, at_ms), was_past and past)
            if past or not was_past:
                continue  # an alarm that goes on; but what was found in the past and goes on now is told again
        elif i in firing:
            told.append(_ended(stations[i], *firing[i], firing[i][1] + QUIET_MS))
        told.append(_begun(seen, a, stations[i], past=past))
        firing[i] = (at_ms, max(at_ms, firing[i][1]) if i in firing else at_ms, past)
    for row in range(len(seen.stations)):
        i = int(seen.stations[row])
        newest = int(seen.memory.at[row, 1])
        if i in firing and newest - firing[i][1] > QUIET_MS:
            told.append(_ended(stations[i], *firing[i], newest))
    return told


def _begun(seen: Seen, a: int, station: Station, *, past: bool) -> Finding:
    found = seen.alarms
    total, needed = float(found.total[a]), float(found.needed[a])
    supported, alone = bool(found.supported[a]), bool(found.alone[a])
    what = meaning(found.moves[a], total, needed, supported=supported, alone=alone)
    at_ms = int(found.at[a])
    text = say(
        "finding.event",
        station=name(station),
        at=beijing(at_ms),
        what=sentence(what, total, needed, supported=supported, alone=alone),
    )
    return Finding(
        rule=RULE,
        version=VERSION,
        kind=Kind.EVENT,
        change=Change.FIRED,
        cause=f"{WATER}{station.key}",
        station=station.key,
        parameter=None,
        observed_at_ms=at_ms,
        since_ms=at_ms,
        value=round(total, 2),
        limit=round(needed, 2),
        colour=Colour.ORANGE if what.confidence >= SURE else Colour.YELLOW,
        retrospective=past,
        text=text,
    )


def _ended(station: Station, since_ms: int, last_ms: int, past: bool, at_ms: int) -> Finding:
    text = say("finding.event_over", station=name(station), since=beijing(last_ms), at=beijing(at_ms))
    return Finding(
        rule=RULE,
        version=VERSION,
        kind=Kind.EVENT,
        change=Change.RESOLVED,
        cause=f"{WATER}{station.key}",
        station=station.key,
        parameter=None,
        observed_at_ms=at_ms,
        since_ms=since_ms,
        value=None,
        limit=None,
        colour=Colour.YELLOW,
        retrospective=past,
        text=text,
    )
