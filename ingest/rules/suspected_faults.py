"""Findings about sensors with a suspected fault, from the flags of the quality tests.

Rules, classes and means leave such readings out already. The finding begins with a suspect reading and ends once
:data:`CLEAR_READINGS` accepted readings in a row are free of it. A reading is examined when its :data:`SUCCESSORS` are
there, so that the findings do not depend on how the readings were batched. During a visit nothing begins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from governance.incidents.finding import Colour, ConditionChange, Finding
from infra.texts import say
from infra.times import beijing
from ingest.rules import device_reports
from ingest.rules.alarm_state import Alarm, AlarmKey
from ingest.rules.sentences import parameter_name, station_name
from sensors.parameters import Catalogue, Parameter
from sensors.quality import QualityResult, SeriesState
from sensors.quality.explanations import test_names
from sensors.quality.state import REMEMBERED_READINGS
from sensors.reading import Codes, Flag, Floats, Ints, QualityTest, pack
from sensors.stations import Registry, Station

RULE: Final = "device-fault"
VERSION: Final = "1"
"""Increased with every change of these criteria."""

FAULT_TESTS: Final = int(QualityTest.FLAT_LINE | QualityTest.UNIT_MISTAKE | QualityTest.JUMPED_ALONE)
"""Tests that stay set as long as the fault lasts, unlike a spike or a step."""
CLEAR_READINGS: Final = 3
"""Readings in a row without any of these tests that end the finding: as many as a threshold rule waits for."""

SUCCESSORS: Final = 2
"""Later readings after which the flags of a reading no longer change: the third after a jump confirms all three."""


@dataclass(frozen=True, slots=True)
class _Readings:
    """The accepted readings of one series, (n,) each: the remembered ones, and from ``first`` on the new ones."""

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
    alarms: Mapping[AlarmKey, Alarm],
) -> list[Finding]:
    """The findings that begin or end with new readings.

    ``rows`` are the (n,) series, instants (ms) and values that ``live`` judged, ``memory`` the state before them.
    """
    series, at, value = rows
    if not len(series):
        return []
    firing = {key[1:]: alarm for key, alarm in alarms.items() if key[0] == RULE}
    packed = pack(live.flag, live.tests)
    starts = np.flatnonzero(np.diff(series, prepend=-1))
    touched = series[starts]
    suspect = (memory.packed[touched] >> 4 & FAULT_TESTS).any(axis=1) | np.isin(touched, live.reflag_series)
    suspect |= np.bitwise_or.reduceat(packed >> 4 & FAULT_TESTS, starts) != 0
    places = {(registry.index.get(station, -1), catalogue.index.get(name, -1)) for station, name in firing}
    whose = zip(memory.station[touched].tolist(), memory.parameter[touched].tolist(), strict=True) if places else ()
    for i, place in enumerate(whose):
        suspect[i] |= place in places
    found: list[Finding] = []
    ends = np.append(starts[1:], len(series))
    for i in np.flatnonzero(suspect).tolist():
        number, new = int(touched[i]), slice(int(starts[i]), int(ends[i]))
        station, parameter = registry.stations[memory.station[number]], catalogue.parameters[memory.parameter[number]]
        alarm = firing.get((station.key, parameter.key))
        readings = _accepted(number, at[new], value[new], packed[new], live, memory)
        found += _series_findings(readings, station, parameter, None if alarm is None else alarm.since_ms)
    return found


def _accepted(
    series: int, at: Ints, value: Floats, packed: Ints, live: QualityResult, memory: SeriesState
) -> _Readings:
    packed_now = memory.packed[series].copy()
    reflagged = live.reflag_series == series
    earlier = dict(zip(live.reflag_at[reflagged].tolist(), live.reflag_packed[reflagged].tolist(), strict=True))
    for place, when in enumerate(memory.at[series].tolist()):
        packed_now[place] = earlier.get(when, packed_now[place])
    usable = ~np.isnan(memory.value[series]) & ((packed_now & 15) < Flag.BAD)
    good = (packed & 15) < Flag.BAD
    return _Readings(
        np.append(memory.at[series][usable], at[good]),
        np.append(memory.value[series][usable], value[good]),
        np.append(packed_now[usable], packed[good]) >> 4,
        int(usable.sum()),
    )


def _series_findings(
    readings: _Readings, station: Station, parameter: Parameter, since_ms: int | None
) -> list[Finding]:
    """The findings of one series; ``since_ms`` is when the active one began, None without one."""
    faulty, during_visit = (readings.tests & FAULT_TESTS) != 0, (readings.tests & int(QualityTest.MAINTENANCE)) != 0
    found = []
    for newest in range(max(readings.first, SUCCESSORS), len(readings.at)):
        place, at_ms = newest - SUCCESSORS, int(readings.at[newest])
        if since_ms is None and faulty[place] and not during_visit[newest]:
            first = place
            while first > max(newest + 1 - REMEMBERED_READINGS, 0) and faulty[first - 1]:
                first -= 1
            since_ms = int(readings.at[first])
            text = say(
                "device.fault",
                station=station_name(station),
                parameter=parameter_name(parameter),
                value=parameter.show(float(readings.value[newest])),
                at=beijing(at_ms),
                reasons=test_names(int(readings.tests[place] & FAULT_TESTS)),
            )
            change, begun_ms = ConditionChange.FIRED, since_ms
        elif (
            since_ms is not None
            and place + 1 >= CLEAR_READINGS
            and not faulty[place + 1 - CLEAR_READINGS : place + 1].any()
        ):
            text = device_reports.ended_text(station, "fault", at_ms)
            change, begun_ms, since_ms = ConditionChange.RESOLVED, since_ms, None
        else:
            continue
        one = device_reports.device_finding(station, "fault", change, (begun_ms, at_ms), Colour.BLUE, text, VERSION)
        found.append(replace(one, parameter=parameter.key, value=float(readings.value[newest])))
    return found
