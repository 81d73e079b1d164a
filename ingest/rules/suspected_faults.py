"""Sensors whose readings look like a fault: somebody should look at the device, and no pollution incident is opened.

The quality tests have made the readings suspect already: rules, classes and means leave them out. Here the same flags
become a finding of the device. It begins with a suspect reading and ends once :data:`CALM` accepted readings in a row
are free of it. A reading is looked at when its :data:`SUCCESSORS` are there, so that the findings are the same however
the readings were cut into batches. While somebody works at the sensor nothing begins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from governance.incidents.finding import Change, Colour, Finding
from infra.texts import say
from infra.times import beijing
from ingest.rules import device_reports
from ingest.rules.alarm_state import Alarm, Key
from ingest.rules.sentences import name
from ingest.rules.sentences import parameter as parameter_name
from sensors.parameters import Catalogue, Parameter
from sensors.quality import QualityResult, SeriesState
from sensors.quality.explanations import test_names
from sensors.quality.state import KEEP
from sensors.reading import Codes, Flag, Floats, Ints, QualityTest, pack
from sensors.stations import Registry, Station

RULE: Final = "device-fault"
VERSION: Final = "1"
"""Grows with every change of what makes a sensor suspect of a fault."""

FAULTS: Final = int(QualityTest.FLAT_LINE | QualityTest.UNIT_MISTAKE | QualityTest.JUMPED_ALONE)
"""Tests that last as long as the fault does; a spike or a step is over with its reading."""
CALM: Final = 3
"""Readings in a row without any of them before it is over: as many as a threshold rule waits for."""


SUCCESSORS: Final = 2
"""Readings after which the flags of one no longer change: the third after a jump confirms it for all three."""


@dataclass(frozen=True, slots=True)
class _Line:
    """The accepted readings of one series: what is remembered, and from ``first`` on the new ones. (n,) each."""

    at: Ints
    value: Floats
    tests: Ints
    first: int


def findings(
    rows: tuple[Codes, Ints, Floats],
    live: QualityResult,
    memory: SeriesState,
    registry: Registry,
    catalogue: Catalogue,
    alarms: Mapping[Key, Alarm],
) -> list[Finding]:
    """What begins and what ends with the readings just judged; what goes on tells nothing new.

    ``rows`` are the series, instants (ms) and values (n,) that ``live`` judged; ``memory`` is that of before them.
    """
    series, at, value = rows
    if not len(series):
        return []
    firing = {key[1:]: alarm for key, alarm in alarms.items() if key[0] == RULE}
    packed = pack(live.flag, live.tests)
    starts = np.flatnonzero(np.diff(series, prepend=-1))
    touched = series[starts]
    suspect = (memory.packed[touched] >> 4 & FAULTS).any(axis=1) | np.isin(touched, live.reflag_series)
    suspect |= np.bitwise_or.reduceat(packed >> 4 & FAULTS, starts) != 0
    told: list[Finding] = []
    for i, (number, start, end) in enumerate(
        zip(touched.tolist(), starts.tolist(), [*starts[1:].tolist(), len(series)], strict=True)
    ):
        station, parameter = registry.stations[memory.station[number]], catalogue.parameters[memory.parameter[number]]
        alarm = firing.get((station.key, parameter.key))
        if suspect[i] or alarm is not None:
            line = _line(number, at[start:end], value[start:end], packed[start:end], live, memory)
            told += _told(line, station, parameter, None if alarm is None else alarm.since_ms)
    return told


def _line(series: int, at: Ints, value: Floats, packed: Ints, live: QualityResult, memory: SeriesState) -> _Line:
    known = memory.packed[series].copy()
    mine = live.reflag_series == series
    earlier = dict(zip(live.reflag_at[mine].tolist(), live.reflag_packed[mine].tolist(), strict=True))
    for place, when in enumerate(memory.at[series].tolist()):
        known[place] = earlier.get(when, known[place])
    there = ~np.isnan(memory.value[series]) & ((known & 15) < Flag.BAD)
    good = (packed & 15) < Flag.BAD
    return _Line(
        np.append(memory.at[series][there], at[good]),
        np.append(memory.value[series][there], value[good]),
        np.append(known[there], packed[good]) >> 4,
        int(there.sum()),
    )


def _told(line: _Line, station: Station, parameter: Parameter, since_ms: int | None) -> list[Finding]:
    """Reading by reading; ``since_ms`` is when what is on began, None where nothing is."""
    faulty, at_work = (line.tests & FAULTS) != 0, (line.tests & int(QualityTest.MAINTENANCE)) != 0
    told = []
    for newest in range(max(line.first, SUCCESSORS), len(line.at)):
        place, at_ms = newest - SUCCESSORS, int(line.at[newest])
        if since_ms is None and faulty[place] and not at_work[newest]:
            first = place
            while first > max(newest + 1 - KEEP, 0) and faulty[first - 1]:
                first -= 1
            since_ms = int(line.at[first])
            text = say(
                "device.fault",
                station=name(station),
                parameter=parameter_name(parameter),
                value=parameter.show(float(line.value[newest])),
                at=beijing(at_ms),
                reasons=test_names(int(line.tests[place] & FAULTS)),
            )
            change, begun_ms = Change.FIRED, since_ms
        elif since_ms is not None and place + 1 >= CALM and not faulty[place + 1 - CALM : place + 1].any():
            text = device_reports.over(station, "fault", at_ms)
            change, begun_ms, since_ms = Change.RESOLVED, since_ms, None
        else:
            continue
        one = device_reports.finding(station, "fault", change, (begun_ms, at_ms), Colour.BLUE, text, VERSION)
        told.append(replace(one, parameter=parameter.key, value=float(line.value[newest])))
    return told
