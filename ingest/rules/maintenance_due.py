"""Findings that a sensor is due for cleaning and checking: it drifts, seems overgrown, or reads below zero.

The evidence stands in the state of the series (:data:`sensors.quality.constants.CHECK_DUE`) and changes with
the UTC day of its readings. It flags no reading by itself; the next visit shows whether it was right
(:mod:`ingest.rejudge.visits`). The last visit counts, too: weak evidence is enough where the sensor was not visited for
four visit intervals, and a departure right after a cleaning is attributed to the water. Values below zero never are.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from governance.incidents.finding import Colour, ConditionChange, Finding
from governance.incidents.headline import Headline
from infra.texts import Text, say
from infra.times import DAY_MS, beijing
from ingest.rules import device_reports
from ingest.rules.alarm_state import Alarm, AlarmKey
from ingest.rules.sentences import parameter_name, station_name
from sensors.maintenance import MaintenanceRecords, last_maintained
from sensors.parameters import Catalogue, Parameter
from sensors.quality import SeriesState, StateUpdate
from sensors.quality.constants import BELOW_ZERO, CHECK_DUE, CHECK_DUE_IF_UNVISITED, LENS_FOULED
from sensors.standards import hj915
from sensors.stations import Registry

RULE: Final = "device-maintenance_due"
VERSION: Final = "3"
"""Increased with every change of these criteria."""

EVIDENCE: Final = CHECK_DUE | CHECK_DUE_IF_UNVISITED | BELOW_ZERO

MISSED_VISITS: Final = 4
"""Visit intervals (:func:`sensors.standards.hj915.visit_days`) without a visit after which weak evidence is enough
(engineering choice)."""


def findings(
    carried: StateUpdate,
    memory: SeriesState,
    registry: Registry,
    catalogue: Catalogue,
    alarms: Mapping[AlarmKey, Alarm],
    maintenance: Callable[[], MaintenanceRecords],
) -> list[Finding]:
    """The findings that begin or end with a new day of a series.

    ``upkeep`` gives the maintenance records; it is called only where a sensor may be due.
    """
    if carried.turned is None:
        return []
    turned, found = carried.turned, []
    days = carried.recent["day"][np.searchsorted(carried.recent.series, turned.series)]
    done: MaintenanceRecords | None = None
    for series, daily_tests, median, day in zip(
        turned.series.tolist(), turned["daily_tests"].tolist(), turned["median"], days.tolist(), strict=True
    ):
        station, parameter = registry.stations[memory.station[series]], catalogue.parameters[memory.parameter[series]]
        firing = alarms.get((RULE, station.key, parameter.key))
        at_ms, visited_ms = day * DAY_MS, None
        if daily_tests & EVIDENCE:
            done = maintenance() if done is None else done
            visited_ms = max(
                last_maintained(done, registry.deployments, station.key, parameter.key, at_ms + DAY_MS), default=None
            )
        if _is_due(daily_tests, at_ms, visited_ms, firing is not None) == (firing is not None):
            continue
        if firing is None:
            text = say(
                f"device.{_reason(daily_tests, parameter)}",
                station=station_name(station),
                at=beijing(at_ms),
                parameter=parameter_name(parameter),
                seen=_visit_text(at_ms, visited_ms),
                offset=parameter.show(-float(np.median(median[median < 0]))) if daily_tests & BELOW_ZERO else "",
            )
        else:
            text = device_reports.ended_text(station, "maintenance_due", at_ms)
        change = ConditionChange.FIRED if firing is None else ConditionChange.RESOLVED
        since_ms = at_ms if firing is None else firing.since_ms
        one = device_reports.device_finding(
            station, "maintenance_due", change, (since_ms, at_ms), Colour.BLUE, text, VERSION
        )
        about = Headline(station_name(station), say("headline.maintenance_due", parameter=parameter_name(parameter)))
        found.append(replace(one, parameter=parameter.key, headline=about if firing is None else None))
    return found


def _reason(daily_tests: int, parameter: Parameter) -> str:
    """Why a sensor is due, as the texts name it."""
    if daily_tests & BELOW_ZERO:
        return "below_zero"
    return "maintenance_due_lens" if daily_tests & LENS_FOULED or parameter.optical else "maintenance_due"


def _is_due(daily_tests: int, at_ms: int, visited_ms: int | None, firing: bool) -> bool:
    """Whether the sensor is due, by its evidence and its last recorded visit (None: none recorded)."""
    if daily_tests & BELOW_ZERO:
        return True
    if not daily_tests & EVIDENCE:
        return False
    visits = None if visited_ms is None else (at_ms - visited_ms) / (hj915.visit_days() * DAY_MS)
    if visits is not None and visits < 1:
        return False
    return bool(daily_tests & CHECK_DUE) or firing or (visits is not None and visits >= MISSED_VISITS)


def _visit_text(at_ms: int, visited_ms: int | None) -> Text:
    if visited_ms is None:
        return say("device.no_visit")
    return say("device.last_visit", days=(at_ms - visited_ms) // DAY_MS)
