"""The readings of rain, level and flow that stand beside charts, rivers and incidents."""

from collections.abc import Sequence

import numpy as np

from api.pages.models import gauges as models
from api.pages.models.gauges import Hydrology, Rain
from api.pages.view import View
from infra.errors import WaterError
from infra.texts import Text
from infra.times import DAY_MS, HOUR_MS
from ingest.rules.engine import usable
from ingest.storage.port import Window
from sensors.stations import Reach, Registry, Station

MOST_GAUGES = 2
"""Gauges that are asked, the best first, until one has readings."""
RAIN_BEFORE_MS, LEVEL_BEFORE_MS = 6 * HOUR_MS, 3 * HOUR_MS


def rain(v: View, registry: Registry, station: Station, span: tuple[int, int]) -> Rain | None:
    """The rain of the catchment of a station; None where nothing measures it."""
    return _rain(v, models.rain_gauges(registry, station.reach, (station.lon, station.lat)), span)


def rain_days(v: View, registry: Registry, reach: Reach, start_ms: int) -> Rain | None:
    """The rain of the days since, in Beijing, in the catchment of a reach."""
    if not reach.line:
        return None
    middle = reach.line[len(reach.line) // 2]
    return _rain(v, models.rain_gauges(registry, reach.key, middle), (start_ms, v.now_ms + 1), DAY_MS)


def _rain(
    v: View, gauges: Sequence[tuple[float, Station]], span: tuple[int, int], width_ms: int | None = None
) -> Rain | None:
    for km, gauge in gauges[:MOST_GAUGES]:
        width = width_ms or models.bar_ms(span[1] - span[0], gauge.interval_s)
        start_ms = models.bars_from(span[0], width)
        try:
            found = v.context.store.thinned(gauge.key, "rain", start_ms, span[1], width)
        except WaterError:
            continue
        if (bars := models.rain(found, gauge, km, v.language)) is not None:
            return bars
    return None


def hydrology(v: View, registry: Registry, station: Station, at_ms: int) -> Hydrology:
    """What the gauges of the reach, and of rain nearby, say of the hours before an instant."""
    rain_station, rain_mm = None, 0.0
    for _, gauge in models.rain_gauges(registry, station.reach, (station.lon, station.lat))[:MOST_GAUGES]:
        fallen = _good(v, gauge.key, "rain", at_ms - RAIN_BEFORE_MS, at_ms)
        if fallen is not None and len(fallen):
            rain_station, rain_mm = Text(gauge.zh, gauge.en), float(fallen.value.sum())
            break
    level, flow = None, None
    for gauge in _of_reach(registry, station, "level"):
        seen = _good(v, gauge.key, "level", at_ms - LEVEL_BEFORE_MS, at_ms)
        level = None if seen is None else models.level_of(Text(gauge.zh, gauge.en), seen.at, seen.value)
        if level is not None:
            break
    for gauge in _of_reach(registry, station, "flow"):
        seen = _good(v, gauge.key, "flow", at_ms - LEVEL_BEFORE_MS, at_ms)
        if seen is not None and len(seen) > 1:
            flow = models.Flow(Text(gauge.zh, gauge.en), float(seen.value[0]), float(seen.value[-1]))
            break
    return Hydrology(rain_station, rain_mm, level, flow)


def _of_reach(registry: Registry, station: Station, parameter: str) -> list[Station]:
    """The gauges of the reach, the station's own first."""
    gauges = [one for one in registry.stations if parameter in one.parameters]
    same = [one for one in gauges if one.key == station.key or one.reach == station.reach != ""]
    return sorted(same, key=lambda other: other.key != station.key)[:MOST_GAUGES]


def _good(v: View, station: str, parameter: str, start_ms: int, end_ms: int) -> Window | None:
    try:
        window = v.context.store.window(station, start_ms, end_ms, [parameter])
    except WaterError:
        return None
    return window.take(np.flatnonzero(usable(window.packed)))
