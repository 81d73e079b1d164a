"""Sensors that creep away from their neighbours or seem overgrown: somebody should clean and check them, a finding of
the device.

What is found stands in the state of the series (:data:`sensors.quality.detectors.daily_pattern.DUE`) and changes with
the UTC day of its readings. It says nothing of the water and flags nothing by itself; a visit that sets the sensor
right shows whether it was so (:mod:`ingest.rejudge.visits`). When somebody last looked at the sensor counts, too:
evidence that is too weak for a walk is enough where nobody was there for four visits, and what goes on right after a
cleaning is the water.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from governance.incidents.finding import Change, Colour, Finding
from governance.incidents.headline import Headline
from infra.texts import Text, say
from infra.times import DAY_MS, beijing
from ingest.rules import device_reports
from ingest.rules.alarm_state import Alarm, Key
from ingest.rules.sentences import name
from ingest.rules.sentences import parameter as parameter_name
from sensors.maintenance import MaintenanceRecords, last_maintained
from sensors.parameters import Catalogue
from sensors.quality import SeriesState, StateUpdate
from sensors.quality.detectors.daily_pattern import CLOUDED, DUE, PERHAPS
from sensors.standards import hj915
from sensors.stations import Registry

RULE: Final = "device-care"
VERSION: Final = "2"
"""Grows with every change of what makes a sensor due."""

MISSED: Final = 4
"""Whoever was there within the days from one visit to the next (:func:`sensors.standards.hj915.visit_days`) would have
seen it. Without anybody there for so many times as long, less evidence is enough (engineering choice)."""


def findings(
    carried: StateUpdate,
    memory: SeriesState,
    registry: Registry,
    catalogue: Catalogue,
    alarms: Mapping[Key, Alarm],
    upkeep: Callable[[], MaintenanceRecords],
) -> list[Finding]:
    """What begins and what ends with the new day of the series that entered one; what goes on tells nothing new.

    ``upkeep`` is asked for what was done at the stations only where a sensor may be due.
    """
    if carried.turned is None:
        return []
    turned, told = carried.turned, []
    days = carried.day[np.searchsorted(carried.series, turned.series)]
    done: MaintenanceRecords | None = None
    for series, doubt, day in zip(turned.series.tolist(), turned.doubt.tolist(), days.tolist(), strict=True):
        station, parameter = registry.stations[memory.station[series]], catalogue.parameters[memory.parameter[series]]
        firing = alarms.get((RULE, station.key, parameter.key))
        at_ms, seen_ms = day * DAY_MS, None
        if doubt & (DUE | PERHAPS):
            done = upkeep() if done is None else done
            seen_ms = max(
                last_maintained(done, registry.deployments, station.key, parameter.key, at_ms + DAY_MS), default=None
            )
        if _due(doubt, at_ms, seen_ms, firing is not None) == (firing is not None):
            continue
        if firing is None:
            text = say(
                "device.care_lens" if doubt & CLOUDED or parameter.optical else "device.care",
                station=name(station),
                at=beijing(at_ms),
                parameter=parameter_name(parameter),
                seen=_seen(at_ms, seen_ms),
            )
        else:
            text = device_reports.over(station, "care", at_ms)
        change = Change.FIRED if firing is None else Change.RESOLVED
        since_ms = at_ms if firing is None else firing.since_ms
        one = device_reports.finding(station, "care", change, (since_ms, at_ms), Colour.BLUE, text, VERSION)
        about = Headline(name(station), say("headline.care", parameter=parameter_name(parameter)))
        told.append(replace(one, parameter=parameter.key, headline=about if firing is None else None))
    return told


def _due(doubt: int, at_ms: int, seen_ms: int | None, firing: bool) -> bool:
    """Whether somebody should go there, by what the days say and by when somebody did (None: nobody wrote it down)."""
    if not doubt & (DUE | PERHAPS):
        return False
    visits = None if seen_ms is None else (at_ms - seen_ms) / (hj915.visit_days() * DAY_MS)
    if visits is not None and visits < 1:
        return False
    return bool(doubt & DUE) or firing or (visits is not None and visits >= MISSED)


def _seen(at_ms: int, seen_ms: int | None) -> Text:
    if seen_ms is None:
        return say("device.care_never")
    return say("device.care_seen", days=(at_ms - seen_ms) // DAY_MS)
