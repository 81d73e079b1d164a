"""Sensors whose readings look like a fault: somebody should look at the device, and no pollution incident is opened.

The quality tests have made the readings suspect already: rules, classes and means leave them out. Here the same flags
become a finding of the device. It begins with a suspect reading and ends once :data:`CALM` accepted readings in a row
are free of it. While somebody works at the sensor nothing begins.
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
from sensors.quality.wording import reasons
from sensors.reading import QualityTest
from sensors.stations import Registry
from sensors.texts import say
from sensors.times import beijing

RULE: Final = "device-fault"
VERSION: Final = "1"
"""Grows with every change of what makes a sensor suspect of a fault."""

FAULTS: Final = int(QualityTest.FLAT_LINE | QualityTest.UNIT_MISTAKE | QualityTest.JUMPED_ALONE)
"""Tests that last as long as the fault does; a spike or a step is over with its reading."""
CALM: Final = 3
"""Readings in a row without any of them before it is over: as many as a threshold rule waits for."""


def findings(
    carried: Carried, memory: Memory, registry: Registry, catalogue: Catalogue, alarms: Mapping[Key, Alarm]
) -> list[Finding]:
    """What begins and what ends with the readings just judged; what goes on tells nothing new."""
    tests = (carried.packed >> 4) & FAULTS
    at_work = (carried.packed[:, -1] >> 4 & int(QualityTest.MAINTENANCE)) != 0
    faulty = (tests[:, -1] != 0) & ~at_work
    over = (tests[:, -CALM:] == 0).all(axis=1)
    firing = {key[1:] for key in alarms if key[0] == RULE}
    told = []
    for row in np.flatnonzero(faulty | (over if firing else False)).tolist():
        series = int(carried.series[row])
        station, parameter = registry.stations[memory.station[series]], catalogue.parameters[memory.parameter[series]]
        if ((station.key, parameter.key) in firing) == bool(faulty[row]):
            continue
        at_ms = int(carried.at[row, -1])
        if faulty[row]:
            text = say(
                "device.fault",
                station=name(station),
                parameter=parameter_name(parameter),
                value=parameter.show(float(carried.value[row, -1])),
                at=beijing(at_ms),
                reasons=reasons(int(tests[row, -1])),
            )
            first = int(np.flatnonzero(np.append(True, tests[row] == 0))[-1])
            change, since_ms = Change.FIRED, int(carried.at[row, first])
        else:
            text = devices.over(station, "fault", at_ms)
            change, since_ms = Change.RESOLVED, alarms[RULE, station.key, parameter.key].since_ms
        one = devices.finding(station, "fault", change, (since_ms, at_ms), Colour.BLUE, text, VERSION)
        told.append(replace(one, parameter=parameter.key, value=float(carried.value[row, -1])))
    return told
