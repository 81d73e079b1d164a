"""What an incident rests on, read from the stores: its series, its neighbours, the instruments, the weather."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from api.pages import gauges
from api.pages.models import series
from api.pages.models import series_chart as chart
from api.pages.models.gauges import NOTHING
from api.pages.models.station import MOST_PANELS
from api.pages.models.verdict import Checked, Measured, Observed, has_moved, steps_to
from api.pages.view import View
from governance.incidents.finding import FindingKind
from governance.incidents.headline import Row, class_of
from governance.incidents.model import Entry, EntryKind, Incident
from infra.errors import ConfigurationError
from infra.texts import Text
from infra.times import HOUR_MS
from ingest.analysis.source_attribution import StoredAttribution
from ingest.rules.engine import usable
from ingest.storage import maintenance as maintenance_store
from ingest.storage.port import Latest
from ingest.storage.port import series as series_of
from sensors.reading import Flag, unpack
from sensors.source_attribution import RiverTree
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry, Station

AROUND_MS = 6 * HOUR_MS
"""The most that is shown before and after, while that is at least `LEAST_READINGS`."""
TIMES_AROUND = 3
"""Before and after an event so many times its own length is shown: it is a fifth of the picture or more, and what was
usual is still seen."""
LEAST_AROUND_MS, LEAST_READINGS = HOUR_MS, 12
"""The least before and after: an hour, and so many readings of the station."""
MOST_RINGED = 12
"""Deciding samples that are ringed."""

_OF_DEVICES = (FindingKind.DEVICE, FindingKind.NO_DATA)


@dataclass(frozen=True, slots=True)
class Measure:
    """A parameter of the incident: its value now, or when it was decided, with its class."""

    parameter: str
    value: float | None
    water_class: WaterClass | None


@dataclass(frozen=True, slots=True)
class Beside:
    """A station up or down the water that measures the same: its newest value, its class, how long the water takes."""

    station: Station
    side: str
    travel_ms: int
    value: float | None
    at_ms: int | None
    water_class: WaterClass | None


@dataclass(frozen=True, slots=True)
class Charted:
    """What can be drawn: the station, the parameters to choose from, those chosen, the span, the neighbours."""

    station: Station
    measures: tuple[Measure, ...]
    chosen: tuple[str, ...]
    start_ms: int
    end_ms: int
    beside: tuple[Beside, ...]
    range: str = ""
    """None of the usual spans; `parts/series_chart.html` asks."""

    @property
    def lead(self) -> str:
        return self.chosen[0]


def station_of(incident: Incident, registry: Registry) -> Station | None:
    """The station whose readings an incident is about."""
    named = incident.headline.station if incident.headline is not None else ""
    return next((registry[key] for key in (named or incident.station,) if key in registry), None)


def rows_of(incident: Incident, history: Iterable[Entry], station: str) -> tuple[Row, ...]:
    """The values that decided, by parameter: the headline's, and of other findings at the station the newest."""
    found: dict[str, Row] = {}
    if incident.headline is not None:
        found = {row.parameter: row for row in incident.headline.rows}
    for entry in history:
        details = entry.details
        if entry.what is not EntryKind.FIRED or details.get("station") != station:
            continue
        for row in (details.get("headline") or {}).get("rows", ()):
            found.setdefault(row["parameter"], Row(**row))
    return tuple(found.values())


def span_of(incident: Incident, interval_s: int, now_ms: int) -> tuple[int, int]:
    """The event and what is around it: `TIMES_AROUND` its length on either side, as far as time has come.

    While a condition holds, the event goes on until now, at most `AROUND_MS` after it was decided.
    """
    last_ms = max(incident.since_ms, incident.observed_at_ms)
    if incident.active:
        last_ms = max(last_ms, min(now_ms, last_ms + AROUND_MS))
    least_ms = max(LEAST_AROUND_MS, LEAST_READINGS * 1000 * interval_s)
    around_ms = max(least_ms, min(AROUND_MS, TIMES_AROUND * (last_ms - incident.since_ms)))
    start_ms = incident.since_ms - around_ms
    return start_ms, max(start_ms + 1, min(now_ms, last_ms + around_ms))


def charted(v: View, incident: Incident, station: Station, rows: Sequence[Row], registry: Registry) -> Charted | None:
    """What there is to draw of an incident; None where its station measured none of it. Raises WaterError."""
    newest = {row.parameter: row for row in v.context.store.latest([station.key])}
    keys = [row.parameter for row in rows if row.parameter in newest]
    if incident.parameter and incident.parameter not in keys and incident.parameter in newest:
        keys.insert(0, incident.parameter)
    if not keys:  # of no parameter: whatever the station measures
        keys = [one for one in v.context.catalogue.index if one in newest]
    keys = [one for one in keys if one in v.context.catalogue][:MOST_PANELS]
    if not keys:
        return None
    decided = {row.parameter: row.value for row in rows}
    measures = []
    for key in keys:
        value = newest[key].value if incident.shows_present else decided.get(key)
        measures.append(Measure(key, value, class_of(Row(key, value), station.water)))
    asked = v.query.get("parameter", "")
    chosen = tuple(keys) if asked == "all" else (asked,) if asked in keys else (keys[0],)
    start_ms, end_ms = span_of(incident, station.interval_s, v.now_ms)
    beside = _beside(v, station, chosen[0], registry)
    return Charted(station, tuple(measures), chosen, start_ms, end_ms, beside)


def _beside(v: View, station: Station, parameter: str, registry: Registry) -> tuple[Beside, ...]:
    try:
        found = chart.neighbours(RiverTree(registry), station.key)
    except ConfigurationError:  # the reaches flow in a circle
        return ()
    latest = v.context.store.latest([one.station for one in found.values()])
    newest = {row.station: row for row in latest if row.parameter == parameter}
    beside = []
    for side, one in found.items():
        other = registry[one.station]
        if (row := newest.get(one.station)) is not None:
            judged = class_of(Row(parameter, row.value), other.water)
            beside.append(Beside(other, side, one.travel_ms, row.value, row.at_ms, judged))
    return tuple(beside)


def series_view(v: View, station: Station, parameter: str, span: tuple[int, int]) -> series.View:
    """One parameter over the span; no newest value belongs to it."""
    start_ms, end_ms = span
    return series.View(
        series=series_of(v.context.store, station.key, parameter, start_ms, end_ms + 1, series.POINTS),
        parameter=v.context.catalogue[parameter],
        latest=Latest(station.key, parameter, None, None, 0, end_ms),
        interval_s=station.interval_s,
        start_ms=start_ms,
        end_ms=end_ms,
        limit=None,
        language=v.language,
    )


def ringed(v: View, incident: Incident, station: str, parameter: str, rows: Iterable[Row]) -> list[tuple[int, float]]:
    """The samples that decided, as (ms, value): of an event that of its instant, else those since it began."""
    if incident.kind in (FindingKind.NO_DATA, FindingKind.REPORT, FindingKind.FORECAST):
        return []
    if incident.kind is FindingKind.EVENT:
        return [
            (incident.observed_at_ms, row.value) for row in rows if row.parameter == parameter and row.value is not None
        ]
    mine = [c for c in incident.conditions if (c.station, c.parameter) == (station, parameter)]
    if not mine:
        return []
    decisive = next((c for c in mine if c.rule == incident.rule), mine[0])
    window = v.context.store.before(station, parameter, decisive.fired_at_ms + 1, MOST_RINGED)
    good = window.take(np.flatnonzero(usable(window.packed) & (window.at >= decisive.since_ms)))
    return [(int(at), float(value)) for at, value in zip(good.at, good.value, strict=True)]


def observed(
    v: View,
    incident: Incident,
    history: Sequence[Entry],
    rows: tuple[Row, ...],
    trace: StoredAttribution | None,
    view: series.View | None,
    registry: Registry,
    others: Iterable[Incident],
) -> Observed:
    """What speaks for pollution and for a fault, beside the finding itself; ``others`` are of the same station."""
    station = station_of(incident, registry)

    def name(key: str) -> Text:
        return Text(registry[key].zh, registry[key].en) if key in registry else Text(key, key)

    seen = [(name(s.station), s.onset_ms) for s in (trace.seen if trace else ()) if s.station != incident.station]
    quiet = [name(q.station) for q in (trace.quiet if trace else ())]
    visiting, checked = (False, None) if station is None else _instrument(v, station, rows, incident)
    steps, flagged, readings = _shape(view, incident)
    moved, unmoved = ((), ()) if station is None else _others(v, station, incident, rows)
    return Observed(
        rows=rows,
        seen=tuple(seen),
        quiet=tuple(quiet),
        visiting=visiting,
        checked=checked,
        steps=steps,
        flagged=flagged,
        readings=readings,
        hydrology=NOTHING if station is None else gauges.hydrology(v, registry, station, incident.observed_at_ms),
        by_hand=_by_hand(history, rows),
        moved=moved,
        unmoved=unmoved,
        faults=tuple(one.titled() for one in others if one.is_open and one.kind in _OF_DEVICES),
    )


def _by_hand(history: Iterable[Entry], rows: Sequence[Row]) -> tuple[Measured, ...]:
    """What people measured, and whether it lies beyond the limit that the finding had."""
    decided = {row.parameter: row for row in rows if row.limit is not None and row.value is not None}
    found = []
    for entry in history:
        for key, value in entry.measurement.items():
            row, beyond = decided.get(key), None
            if row is not None and row.limit is not None and row.value is not None:
                beyond = value > row.limit if row.value > row.limit else value < row.limit
            found.append(Measured(entry.at_ms, entry.by, Row(key, value), beyond))
    return tuple(found)


def _instrument(v: View, station: Station, rows: Sequence[Row], incident: Incident) -> tuple[bool, Checked | None]:
    """Whether somebody was at the sensors when it began, and the newest check of the lead sensor."""
    parameter = rows[0].parameter if rows else incident.parameter
    with v.context.database.read() as connection:
        visits = maintenance_store.visits(connection, station.key)
        checks = maintenance_store.newest_checks(connection, station.key)
    visiting = any(
        visit.since_ms <= incident.observed_at_ms and (visit.until_ms is None or visit.until_ms >= incident.since_ms)
        for _, visit in visits
    )
    mine = [one for one in checks if one.parameter == parameter]
    if not mine:
        return visiting, None
    newest = max(mine, key=lambda one: one.at_ms)
    try:
        passed: bool | None = newest.judged().passed
    except ConfigurationError:
        passed = None
    return visiting, Checked(newest.at_ms, passed)


def _shape(view: series.View | None, incident: Incident) -> tuple[int, int, int]:
    """In how many readings the value got where it decided, and how many of the hour around are flagged, of how many."""
    if view is None or not len(view.series.at):
        return 0, 0, 0
    at = view.series.at
    flag, _ = unpack(view.series.packed)
    around = abs(at - incident.observed_at_ms) <= HOUR_MS
    until = view.usable & (at <= incident.observed_at_ms)
    steps = steps_to(view.series.value[until].tolist()) if view.series.bucket_ms is None else 0
    return steps, int((flag[around] >= Flag.SUSPECT).sum()), int(around.sum())


def _others(
    v: View, station: Station, incident: Incident, rows: Sequence[Row]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The other parameters of the station that moved since it began, and those that did not."""
    if incident.kind in (FindingKind.NO_DATA, FindingKind.REPORT, FindingKind.DEVICE, FindingKind.FORECAST):
        return (), ()
    catalogue, since_ms = v.context.catalogue, incident.since_ms
    end_ms = max(since_ms, incident.observed_at_ms) + HOUR_MS
    window = v.context.store.window(station.key, since_ms - AROUND_MS, end_ms)
    good = window.take(np.flatnonzero(usable(window.packed)))
    found: dict[bool, list[str]] = {True: [], False: []}
    decided = {row.parameter for row in rows} | {incident.parameter}
    for code in np.unique(good.parameter).tolist():
        one = catalogue.parameters[code]
        mine = good.parameter == code
        before, since = good.value[mine & (good.at < since_ms)], good.value[mine & (good.at >= since_ms)]
        moved = has_moved(before.tolist(), since.tolist(), 10.0**-one.decimals)
        if moved is not None and one.event and one.key not in decided:
            found[moved].append(one.key)
    return tuple(found[True]), tuple(found[False])
