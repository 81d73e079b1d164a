"""Sensors that creep away from their neighbours: somebody should clean and check them, a finding of the device.

What is found stands in the memory of the series (:data:`sensors.quality.daily.DUE`) and changes with the UTC day of its
readings. It says nothing of the water and flags nothing by itself; a visit that sets the sensor right shows whether it
was so (:mod:`ingest.returns`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from governance.finding import Change, Colour, Finding
from ingest.checks import devices
from ingest.checks.alarms import Alarm, Key
from ingest.checks.wording import name
from ingest.checks.wording import parameter as parameter_name
from sensors.parameters import Catalogue
from sensors.quality import Carried, Memory
from sensors.quality.daily import DUE
from sensors.stations import Registry
from sensors.texts import say
from sensors.times import DAY_MS, beijing

RULE: Final = "device-care"
VERSION: Final = "1"
"""Grows with every change of what makes a sensor due."""


def findings(
    carried: Carried, memory: Memory, registry: Registry, catalogue: Catalogue, alarms: Mapping[Key, Alarm]
) -> list[Finding]:
    """What begins and what ends with the new day of the series that entered one; what goes on tells nothing new."""
    if carried.turned is None:
        return []
    turned, told = carried.turned, []
    days = carried.day[np.searchsorted(carried.series, turned.series)]
    for series, doubt, day in zip(turned.series.tolist(), turned.doubt.tolist(), days.tolist(), strict=True):
        station, parameter = registry.stations[memory.station[series]], catalogue.parameters[memory.parameter[series]]
        firing = alarms.get((RULE, station.key, parameter.key))
        if bool(doubt & DUE) == (firing is not None):
            continue
        at_ms = day * DAY_MS
        text = (
            say("device.care", station=name(station), at=beijing(at_ms), parameter=parameter_name(parameter))
            if firing is None
            else devices.over(station, "care", at_ms)
        )
        change = Change.FIRED if firing is None else Change.RESOLVED
        since_ms = at_ms if firing is None else firing.since_ms
        one = devices.finding(station, "care", change, (since_ms, at_ms), Colour.BLUE, text, VERSION)
        told.append(replace(one, parameter=parameter.key))
    return told
