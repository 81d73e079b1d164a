"""Rain, level and flow beside what the sensors of the water say: bars, loads, what a gauge explains. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from api.duration import duration
from governance.incidents.headline import Row
from infra.texts import Text, say
from infra.times import BEIJING_OFFSET_MS, DAY_MS, HOUR_MS, MINUTE_MS
from ingest.storage.port import Latest, Series
from sensors.network import distance_km
from sensors.parameters import Catalogue
from sensors.reading import Floats, Ints
from sensors.stations import Registry, Station

RAIN_KM = 10.0
"""A rain gauge outside the catchment that is farther away tells nothing of the rain here."""
MOST_BARS = 60
_BARS = tuple(m * MINUTE_MS for m in (5, 10, 30, 60, 180, 360, 720, 1440, 7200, 14400, 43200, 129600))
STORM_MM, DRY_MM = 5.0, 0.5
"""Rain of six hours from which it runs off, and below which it explains nothing."""
STEADY_M = 0.05
"""A level that moved less within three hours counts as steady."""
SUDDEN_MS = 20 * MINUTE_MS
GATE_M, GATE_SHARE = 0.15, 0.6
"""A level that moved so far within `SUDDEN_MS`, the share of its whole move, was moved by a gate or a pump."""
MORE = 1.5
"""The factor by which a flow grows or falls so that it is said."""
_WASHED_IN = frozenset({"turbidity", "codmn", "tp", "tn", "nh3n"})
_THINNED = frozenset({"conductivity", "salinity"})
LOADED = ("codmn", "nh3n", "tp", "tn")
"""Parameters whose load is shown, where they are measured."""
_GRAMS = {"mg/L": 1.0, "µg/L": 0.001}
"""g/m³ of a unit."""
KG_A_DAY = 86.4
"""kg/d of a g/s."""
FLOW_MS, RESULT_MS = HOUR_MS, 6 * HOUR_MS
"""Age from which a flow, and a concentration (analysers measure every four hours), make no load of now."""


def rain_gauges(registry: Registry, reach: str, here: tuple[float, float]) -> list[tuple[float, Station]]:
    """(km, station) of what measures rain for a place of a reach: in its catchment first, then near, nearest first."""
    hung = {one.station for one in registry.deployments if one.parameter == "rain"}
    gauges = [one for one in registry.stations if "rain" in one.parameters or one.key in hung]
    drained = _drained(registry, reach) if gauges and reach else set()
    ranked = [(one.reach not in drained, distance_km(here, (one.lon, one.lat)), one.key) for one in gauges]
    return [(km, registry[key]) for outside, km, key in sorted(ranked) if not outside or km <= RAIN_KM]


def _drained(registry: Registry, reach: str) -> set[str]:
    """A reach and all whose water comes to it."""
    above: dict[str | None, list[str]] = {}
    for one in registry.reaches:
        above.setdefault(one.downstream, []).append(one.key)
    found, ahead = {reach}, [reach]
    while ahead:
        new = [key for key in above.get(ahead.pop(), ()) if key not in found]
        found.update(new)
        ahead += new
    return found


# -- rain --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rain:
    """Rain in bars of ``bar_ms`` that begin ``at``; none stands where nothing was measured."""

    station: str
    name: str
    bar_ms: int
    at: list[int]
    mm: list[float]
    title: str
    sentence: str


def bar_ms(span_ms: int, interval_s: int) -> int:
    """The width of the bars of rain over a span."""
    return next((one for one in _BARS if one >= 1000 * interval_s and span_ms <= MOST_BARS * one), _BARS[-1])


def bars_from(start_ms: int, width_ms: int) -> int:
    """Where the first bar begins, so that bars begin at full hours and days in Beijing."""
    return start_ms - (start_ms + BEIJING_OFFSET_MS) % min(width_ms, DAY_MS)


def rain(found: Series, station: Station, km: float, language: str) -> Rain | None:
    """The bars of a series that the store thinned; None where nothing usable was measured."""
    known = np.flatnonzero(found.count > 0)
    if not len(known) or found.bucket_ms is None:
        return None
    mm = [round(float(found.value[i] * found.count[i]), 2) for i in known]
    width, name = duration(found.bucket_ms), Text(station.zh, station.en)
    if km >= 1:
        name = say("station.rain_from", station=name, km=f"{km:.1f}")
    values = {"station": name, "total": f"{sum(mm):.1f}", "most": f"{max(mm):.1f}", "width": width}
    if sum(mm) < 0.05:
        sentence = say("station.rain_none", **values)
    else:
        sentence = say("station.rain_sentence", **values)
    return Rain(
        station=station.key,
        name=getattr(name, language),
        bar_ms=found.bucket_ms,
        at=[int(found.at[i]) for i in known],
        mm=mm,
        title=getattr(say("station.rain_title", **values), language),
        sentence=getattr(sentence, language),
    )


# -- loads -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """What a flow carries of a parameter; ``kg_day`` None where one of the two is too old to say."""

    parameter: str
    value: float
    at_ms: int
    kg_day: float | None


@dataclass(frozen=True, slots=True)
class LoadRow:
    """The loads at a station by a flow, of its own gauge or of the nearest on the river; a flow below 0 runs back."""

    station: str
    gauge: str
    flow: float
    flow_at_ms: int
    fresh: bool
    loads: tuple[Load, ...]

    @property
    def by(self) -> Mapping[str, Load]:
        """By parameter."""
        return {one.parameter: one for one in self.loads}


def loads(
    places_km: Mapping[str, float], latest: Iterable[Latest], catalogue: Catalogue, now_ms: int
) -> tuple[LoadRow, ...]:
    """The loads at the stations of a river, in their order; ``places_km``: station → where it lies along the river."""
    newest: dict[tuple[str, str], tuple[float, int]] = {}
    for row in latest:
        if row.value is not None and row.at_ms is not None:
            newest[row.station, row.parameter] = row.value, row.at_ms
    gauges = [key for key in places_km if (key, "flow") in newest]
    found = []
    for key, km in places_km.items():
        measured = [one for one in LOADED if (key, one) in newest and one in catalogue]
        if not gauges or not measured:
            continue
        gauge = min(gauges, key=lambda other: (other != key, abs(places_km[other] - km)))
        flow, flow_at_ms = newest[gauge, "flow"]
        fresh = now_ms - flow_at_ms <= FLOW_MS
        carried = []
        for one in measured:
            value, at_ms = newest[key, one]
            grams = _GRAMS.get(catalogue[one].unit)
            shown = fresh and grams is not None and now_ms - at_ms <= RESULT_MS
            carried.append(Load(one, value, at_ms, value * (grams or 0) * flow * KG_A_DAY if shown else None))
        found.append(LoadRow(key, gauge, flow, flow_at_ms, fresh, tuple(carried)))
    return tuple(found)


def kilograms(kg_day: float) -> str:
    """A load in the three digits that concentration and flow are good for."""
    return f"{float(f'{kg_day:.3g}'):,.10g}"


# -- what a gauge explains ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Level:
    """How far a level moved in three hours, in m; ``sudden`` the furthest within `SUDDEN_MS`, None where it is read
    more seldom."""

    station: Text
    moved: float
    sudden: float | None


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow three hours ago and now, in m³/s."""

    station: Text
    before: float
    now: float


@dataclass(frozen=True, slots=True)
class Hydrology:
    """What the gauges near say of the hours before something happened; ``rain_mm`` of six hours."""

    rain_station: Text | None = None
    rain_mm: float = 0.0
    level: Level | None = None
    flow: Flow | None = None


NOTHING: Final = Hydrology()


def level_of(station: Text, at: Ints, value: Floats) -> Level | None:
    """The level of some readings in order; None for fewer than three."""
    if len(value) < 3:
        return None
    last = np.searchsorted(at, at + SUDDEN_MS, side="right") - 1
    sudden = float(np.abs(value[last] - value).max()) if np.median(np.diff(at)) <= SUDDEN_MS else None
    return Level(station, float(value[-1] - value[0]), sudden)


def of_rain(found: Hydrology, rows: Sequence[Row], catalogue: Catalogue) -> Text | None:
    """The rain before, and whether it explains what decided; None where nothing measures it."""
    if found.rain_station is None:
        return None
    said = say("verdict.rain_at", station=found.rain_station, mm=f"{found.rain_mm:.1f}")
    up, down = _moved(rows)
    if found.rain_mm < DRY_MM:
        return _with(said, say("verdict.rain_no_cause"))
    if found.rain_mm < STORM_MM:
        return said
    fits = [key for key in up if key in _WASHED_IN] + [key for key in down if key in _THINNED]
    against = [key for key in up if key in _THINNED]
    for keys, words in ((fits, "verdict.rain_explains"), (against, "verdict.rain_contradicts")):
        if keys:
            return _with(said, say(words, names=_names(keys, catalogue)))
    return said


def of_water(found: Hydrology) -> Iterator[Text]:
    """What level and flow did before: a tide, a gate, more water from above, or nothing."""
    if (level := found.level) is not None:
        if abs(level.moved) < STEADY_M and (level.sudden is None or level.sudden < GATE_M):
            yield _with(say("verdict.level_steady", station=level.station), say("verdict.level_no_cause"))
        else:
            words = "verdict.level_rose" if level.moved > 0 else "verdict.level_fell"
            said = say(words, station=level.station, metres=f"{abs(level.moved):.2f}")
            if level.sudden is not None:
                gate = level.sudden >= max(GATE_M, GATE_SHARE * abs(level.moved))
                said = _with(said, say("verdict.level_gate" if gate else "verdict.level_tide"))
            yield said
    if (flow := found.flow) is not None:
        said = say("verdict.flow_moved", station=flow.station, before=f"{flow.before:.2f}", now=f"{flow.now:.2f}")
        words = ""
        if flow.before * flow.now < 0:
            words = "verdict.flow_turned"
        elif abs(flow.now) >= MORE * abs(flow.before):
            words = "verdict.flow_more"
        elif abs(flow.before) >= MORE * abs(flow.now):
            words = "verdict.flow_less"
        yield _with(said, say(words)) if words else said


def _moved(rows: Iterable[Row]) -> tuple[list[str], list[str]]:
    """The parameters that went up, and those that went down, from before or beyond their limit."""
    up: list[str] = []
    down: list[str] = []
    for row in rows:
        start = row.limit if row.before is None else row.before
        if row.value is not None and start is not None:
            (up if row.value > start else down).append(row.parameter)
    return up, down


def _with(said: Text, more: Text) -> Text:
    return Text(f"{said.zh}，{more.zh}", f"{said.en}, {more.en}")


def _names(keys: Iterable[str], catalogue: Catalogue) -> Text:
    found = [catalogue[key] for key in keys]
    return Text("、".join(one.zh for one in found), ", ".join(one.en for one in found))
