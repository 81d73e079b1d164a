"""The live GB 3838 class of every station and reach, stored in the database and written for the charts.

The class is judged by :mod:`sensors.live_class`, whose state for each station prevents flicker and is stored as well.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import sqlalchemy as sa

from infra.database import Database, insert_many
from infra.records import from_row, to_row
from infra.texts import Text
from infra.times import MINUTE_MS
from ingest.storage import lineprotocol, schema
from ingest.storage import registry as registry_store
from ingest.storage.port import ReadingStore
from ingest.storage.spool import Spool
from ingest.storage.tables import live_class as table
from sensors import live_class
from sensors.live_class import ClassState, JudgedStation, LatestReading, LiveClass, LiveReach
from sensors.parameters import Catalogue
from sensors.reading import Flag
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry, Station

STATION, REACH = "station", "reach"
SILENT_INTERVALS = 3
"""Reporting intervals without a reading after which a station is silent, as in the no-data rule."""
_COLUMNS = tuple(column.name for column in table.columns)
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_INTO = f"INSERT INTO live_class ({_NAMES})"
_ON_CONFLICT = "ON CONFLICT (kind, key) DO UPDATE SET " + ", ".join(
    f'"{name}" = excluded."{name}"' for name in _COLUMNS if name not in ("kind", "key")
)


@dataclass(frozen=True, slots=True)
class ShownClass:
    """The shown class of a station or reach; ``water_class`` None: it cannot be judged; ``met``: whether it meets the
    target.

    ``at_ms`` is when it was judged, ``measured_ms`` the newest deciding reading; ``silent`` of ``stations`` are silent.
    """

    kind: str
    key: str
    at_ms: int
    water_class: WaterClass | None
    deciding: tuple[str, ...]
    judged: int
    expected: int
    target: WaterClass | None
    met: bool | None
    text_zh: str
    text_en: str
    measured_ms: int | None = None
    silent: int = 0
    stations: int = 1


def current_classes(connection: sa.Connection, kind: str, only: Collection[str] | None = None) -> dict[str, ShownClass]:
    """Key → shown class of the stations (or reaches), of ``only`` these where given; those never judged are absent."""
    query = sa.select(table).where(table.c.kind == kind)
    if only is not None:
        query = query.where(table.c.key.in_(sorted(only)))
    return {row.key: _class_from_row(row) for row in connection.execute(query)}


def shown_classes(connection: sa.Connection, kind: str) -> dict[str, WaterClass | None]:
    """Key → the class shown, without how it came about."""
    rows = connection.execute(sa.select(table.c.key, table.c["class"]).where(table.c.kind == kind))
    return {key: None if value is None else WaterClass(value) for key, value in rows}


def current_class(connection: sa.Connection, kind: str, key: str) -> ShownClass | None:
    """The shown class of one station or reach; None for one never judged."""
    row = connection.execute(sa.select(table).where(table.c.kind == kind, table.c.key == key)).one_or_none()
    return None if row is None else _class_from_row(row)


def update_classes(
    database: Database,
    store: ReadingStore,
    catalogue: Catalogue,
    now_ms: int,
    spool: Spool | None = None,
    *,
    registry: Registry | None = None,
    only: Collection[str] | None = None,
) -> list[ShownClass]:
    """Judge every station and reach at ``now_ms``, store it, and queue a point for each.

    ``only`` restricts this to these stations and all others on their reaches; ``registry`` saves reading it. All
    readings since the last call count, by observed_at. Raises StorageUnavailable; then nothing has changed.
    """
    with database.read() as connection:
        registry = registry_store.load(connection, catalogue) if registry is None else registry
        chosen = registry.stations
        if only is not None:
            near = {registry[key].reach for key in only if key in registry}
            chosen = tuple(s for s in registry.stations if s.key in only or (s.reach and s.reach in near))
        carried = _carried(connection, None if only is None else [s.key for s in chosen])
    newest: dict[str, dict[str, LatestReading]] = {}
    newest_by_station: dict[str, int] = {}
    for row in store.latest(None if only is None else [s.key for s in chosen]):
        newest_by_station[row.station] = max(newest_by_station.get(row.station, 0), row.newest_at_ms)
        if row.at_ms is not None and row.value is not None:
            newest.setdefault(row.station, {})[row.parameter] = LatestReading(row.at_ms, row.value, row.packed & 15)
    targets = {reach.key: reach.target for reach in registry.reaches}
    cycles_s = registry.cycles_s(now_ms)
    judged_stations = [JudgedStation.of(s, targets.get(s.reach), cycles_s.get(s.key)) for s in chosen]
    with store.snapshot():  # one connection for all stations
        fresh = _fresh(chosen, store, catalogue, carried, newest, now_ms)
    states, judged = live_class.station_classes_over_readings(carried, judged_stations, fresh, newest, now_ms)
    silent = {
        s.key
        for s in chosen
        if s.key not in registry.retired
        and now_ms - newest_by_station.get(s.key, 0) > SILENT_INTERVALS * 1000 * s.interval_s
    }
    on: dict[str, list[LiveClass]] = {}
    for station, one in zip(chosen, judged, strict=True):
        if station.key not in registry.retired:
            on.setdefault(station.reach, []).append(one)
    names = {station.key: Text(station.zh, station.en) for station in chosen}
    reaches = {
        reach.key: live_class.reach_class(on.get(reach.key, []), reach.target, names)
        for reach in registry.reaches
        if only is None or reach.key in on
    }
    shown = [replace(_of_station(one), silent=int(one.station in silent)) for one in judged]
    for key, found in reaches.items():
        quiet = sum(station.station in silent for station in found.stations)
        shown.append(replace(_of_reach(key, found, now_ms), silent=quiet, stations=len(found.stations)))
    rows = [_row(one, states.get(one.key) if one.kind == STATION else None) for one in shown]
    with database.write() as connection:
        insert_many(connection, _INTO, rows, _ON_CONFLICT)
        if spool is not None:
            spool.add_lines(connection, list(_points(shown, registry, now_ms - now_ms % MINUTE_MS)))
    return shown


def classes_at(registry: Registry, store: ReadingStore, catalogue: Catalogue, at_ms: int) -> dict[str, LiveReach]:
    """The class of every reach at a past instant, by the usable readings that were current then."""
    cycles_s, targets = registry.cycles_s(at_ms), {reach.key: reach.target for reach in registry.reaches}
    judged_stations = [JudgedStation.of(s, targets.get(s.reach), cycles_s.get(s.key)) for s in registry.stations]
    newest: dict[str, dict[str, LatestReading]] = {}
    for one in judged_stations:
        reach_ms = max(one.current_for_ms(key, live_class.DEFAULT_POLICY) for key in live_class.DEFAULT_POLICY.items)
        window = store.window(one.key, at_ms - reach_ms, at_ms)
        for row in np.flatnonzero(window.packed & 15 < Flag.SUSPECT).tolist():
            key = catalogue.parameters[int(window.parameter[row])].key
            newest.setdefault(one.key, {})[key] = LatestReading(int(window.at[row]), float(window.value[row]))
    _, judged = live_class.station_classes({}, judged_stations, newest, at_ms)
    on: dict[str, list[LiveClass]] = {}
    for station, found in zip(registry.stations, judged, strict=True):
        on.setdefault(station.reach, []).append(found)
    return {reach.key: live_class.reach_class(on.get(reach.key, []), reach.target) for reach in registry.reaches}


def shown_at(registry: Registry, store: ReadingStore, catalogue: Catalogue, at_ms: int) -> list[ShownClass]:
    """The classes of every reach and of the stations on them at a past instant."""
    found = classes_at(registry, store, catalogue, at_ms)
    shown = [_of_reach(key, one, at_ms) for key, one in found.items()]
    return shown + [_of_station(station) for one in found.values() for station in one.stations]


def audit_entry(one: ShownClass | LiveReach) -> dict[str, object]:
    """The content of a reach in the daily audit entry."""
    return {
        "class": None if one.water_class is None else one.water_class.roman,
        "target": None if one.target is None else one.target.roman,
        "met": one.met,
        "deciding": one.deciding,
    }


def _fresh(
    stations: Sequence[Station],
    store: ReadingStore,
    catalogue: Catalogue,
    carried: Mapping[str, ClassState],
    newest: Mapping[str, Mapping[str, LatestReading]],
    now_ms: int,
) -> dict[str, dict[str, list[LatestReading]]]:
    """The usable readings since each station was last judged, where there may be more than the newest one."""
    found: dict[str, dict[str, list[LatestReading]]] = {}
    for station in stations:
        before = carried.get(station.key, ClassState())
        keys = [key for key in newest.get(station.key, {}) if key in live_class.DEFAULT_POLICY.items]
        latest_ms = max((newest[station.key][key].at_ms for key in keys), default=0)
        one_more = latest_ms - before.seen_ms <= 1000 * station.interval_s
        if not before.seen_ms or one_more:
            continue  # the newest readings are enough
        start_ms = max(before.seen_ms + 1, latest_ms - 1000 * live_class.MAX_FOLLOWED_S)
        window = store.window(station.key, start_ms, now_ms, keys)
        usable = window.take(np.flatnonzero(window.packed & 15 < Flag.SUSPECT))
        rows = zip(usable.parameter.tolist(), usable.at.tolist(), usable.value.tolist(), strict=True)
        for parameter, at_ms, value in rows:
            key = catalogue.parameters[parameter].key
            found.setdefault(station.key, {}).setdefault(key, []).append(LatestReading(at_ms, value))
    return found


def _carried(connection: sa.Connection, keys: Sequence[str] | None) -> dict[str, ClassState]:
    """The stored state of the stations; unreadable states of older versions are dropped."""
    carried = {}
    query = sa.select(table.c.key, table.c.carried).where(table.c.kind == STATION)
    if keys is not None:
        query = query.where(table.c.key.in_(keys))
    for row in connection.execute(query):
        try:
            carried[row.key] = _decoder.decode(row.carried)
        except (msgspec.DecodeError, TypeError):
            continue
    return carried


_decoder = msgspec.json.Decoder(ClassState)


def _of_station(one: LiveClass) -> ShownClass:
    evidence = one.evidence
    return ShownClass(
        STATION,
        one.station,
        one.at_ms,
        one.water_class,
        one.deciding,
        len(evidence.judged),
        len(evidence.expected),
        one.target,
        one.met,
        one.text.zh,
        one.text.en,
        one.measured_ms,
    )


def _of_reach(key: str, one: LiveReach, now_ms: int) -> ShownClass:
    judged = sum(station.water_class is not None for station in one.stations)
    counts = judged, len(one.stations)
    return ShownClass(
        REACH,
        key,
        now_ms,
        one.water_class,
        one.deciding,
        *counts,
        one.target,
        one.met,
        one.text.zh,
        one.text.en,
        one.measured_ms,
    )


def _row(one: ShownClass, carried: ClassState | None) -> list[object]:
    values = to_row(
        one,
        deciding=",".join(one.deciding),
        target=None if one.target is None else int(one.target),
        carried=None if carried is None else msgspec.json.encode(carried).decode(),
    ) | {"class": None if one.water_class is None else int(one.water_class)}
    return [values[name] for name in _COLUMNS]


def _class_from_row(row: sa.Row[tuple[object, ...]]) -> ShownClass:
    values = row._mapping
    water_class = None if values["class"] is None else WaterClass(values["class"])
    target = None if values["target"] is None else WaterClass(values["target"])
    return from_row(
        ShownClass,
        row,
        water_class=water_class,
        deciding=tuple(key for key in values["deciding"].split(",") if key),
        target=target,
        met=None if water_class is None or target is None else water_class <= target,
    )


def _points(shown: Sequence[ShownClass], registry: Registry, at_ms: int) -> Iterable[bytes]:
    for one in shown:
        station = registry[one.key] if one.kind == STATION else None
        fields: dict[str, float | int | str | bool] = {
            schema.DECIDING: ",".join(one.deciding),
            schema.JUDGED: one.judged,
            schema.EXPECTED: one.expected,
        }
        if one.water_class is not None:
            fields[schema.CLASS] = int(one.water_class)
        if one.target is not None:
            fields[schema.TARGET] = int(one.target)
        yield lineprotocol.point(schema.RIVER_CLASS, _tags(one, station), fields, at_ms)


def _tags(one: ShownClass, station: Station | None) -> dict[str, str]:
    if station is None:
        return {schema.REACH: one.key}
    return {schema.STATION: one.key, schema.REACH: station.reach}
