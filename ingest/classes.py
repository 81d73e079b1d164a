"""The live GB 3838 class of every station and reach: judged once a minute, kept in the database, told to the charts.

What is shown must not flicker, so each station carries what it was like (:mod:`sensors.standards.live`); it is kept in
the database and survives a restart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from governance.database import Database, insert_many
from ingest.storage import lineprotocol, schema
from ingest.storage import registry as registry_store
from ingest.storage.port import ReadingStore
from ingest.storage.spool import Spool
from ingest.storage.tables import live_class as table
from sensors.parameters import Catalogue
from sensors.standards import live
from sensors.standards.gb3838 import WaterClass
from sensors.standards.live import Carried, LiveClass, LiveReach, Newest, Watched
from sensors.stations import Registry, Station
from sensors.texts import Text

STATION, REACH = "station", "reach"
_MINUTE_MS = 60_000
_COLUMNS = tuple(column.name for column in table.columns)
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_INTO = f"INSERT INTO live_class ({_NAMES})"
_AGAIN = "ON CONFLICT (kind, key) DO UPDATE SET " + ", ".join(
    f'"{name}" = excluded."{name}"' for name in _COLUMNS if name not in ("kind", "key")
)


@dataclass(frozen=True, slots=True)
class Shown:
    """The class a station or reach shows. ``water_class`` None: it cannot be judged; ``met``: whether the target is."""

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


def shown(connection: sa.Connection, kind: str) -> dict[str, Shown]:
    """What the stations (or the reaches) show now, by key; those never judged are absent."""
    rows = connection.execute(sa.select(table).where(table.c.kind == kind))
    return {row.key: _shown(row) for row in rows}


def update(
    database: Database, store: ReadingStore, catalogue: Catalogue, now_ms: int, spool: Spool | None = None
) -> list[Shown]:
    """Judge every station and reach at ``now_ms``, keep it, and put a point for each into the spool.

    Raises StorageUnavailable; then nothing has changed.
    """
    with database.read() as connection:
        registry = registry_store.load(connection, catalogue)
        carried = _carried(connection)
    newest: dict[str, dict[str, Newest]] = {}
    for row in store.latest():
        if row.at_ms is not None and row.value is not None:
            newest.setdefault(row.station, {})[row.parameter] = Newest(row.at_ms, row.value, row.packed & 15)
    targets = {reach.key: reach.target for reach in registry.reaches}
    cycles_s = registry.cycles_s(now_ms)
    watched = [Watched.of(s, targets.get(s.reach), cycles_s.get(s.key)) for s in registry.stations]
    states, judged = live.stations(carried, watched, newest, now_ms)
    on: dict[str, list[LiveClass]] = {}
    for station, one in zip(registry.stations, judged, strict=True):
        on.setdefault(station.reach, []).append(one)
    called = {station.key: Text(station.zh, station.en) for station in registry.stations}
    reaches = {reach.key: live.reach(on.get(reach.key, []), reach.target, called) for reach in registry.reaches}
    told = [_of_station(one) for one in judged]
    told += [_of_reach(key, one, now_ms) for key, one in reaches.items()]
    rows = [_row(one, states.get(one.key) if one.kind == STATION else None) for one in told]
    with database.write() as connection:
        insert_many(connection, _INTO, rows, _AGAIN)
        if spool is not None:
            spool.add_lines(connection, list(_points(told, registry, now_ms - now_ms % _MINUTE_MS)))
    return told


def _carried(connection: sa.Connection) -> dict[str, Carried]:
    """What stations were like; one that an older version wrote differently begins anew."""
    carried = {}
    for row in connection.execute(sa.select(table.c.key, table.c.carried).where(table.c.kind == STATION)):
        try:
            carried[row.key] = _decoder.decode(row.carried)
        except (msgspec.DecodeError, TypeError):
            continue
    return carried


_decoder = msgspec.json.Decoder(Carried)


def _of_station(one: LiveClass) -> Shown:
    evidence = one.evidence
    return Shown(
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
    )


def _of_reach(key: str, one: LiveReach, now_ms: int) -> Shown:
    """A reach counts its stations: how many could be judged, of how many."""
    judged = sum(station.water_class is not None for station in one.stations)
    counts = judged, len(one.stations)
    return Shown(
        REACH, key, now_ms, one.water_class, one.deciding, *counts, one.target, one.met, one.text.zh, one.text.en
    )


def _row(one: Shown, carried: Carried | None) -> list[object]:
    values: Mapping[str, object] = {
        "kind": one.kind,
        "key": one.key,
        "at_ms": one.at_ms,
        "class": None if one.water_class is None else int(one.water_class),
        "deciding": ",".join(one.deciding),
        "judged": one.judged,
        "expected": one.expected,
        "target": None if one.target is None else int(one.target),
        "text_zh": one.text_zh,
        "text_en": one.text_en,
        "carried": None if carried is None else msgspec.json.encode(carried).decode(),
    }
    return [values[name] for name in _COLUMNS]


def _shown(row: sa.Row[tuple[object, ...]]) -> Shown:
    values = dict(row._mapping)
    water_class = None if values["class"] is None else WaterClass(values["class"])
    target = None if values["target"] is None else WaterClass(values["target"])
    return Shown(
        values["kind"],
        values["key"],
        values["at_ms"],
        water_class,
        tuple(key for key in values["deciding"].split(",") if key),
        values["judged"],
        values["expected"],
        target,
        None if water_class is None or target is None else water_class <= target,
        values["text_zh"],
        values["text_en"],
    )


def _points(told: Sequence[Shown], registry: Registry, at_ms: int) -> Iterable[bytes]:
    for one in told:
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


def _tags(one: Shown, station: Station | None) -> dict[str, str]:
    if station is None:
        return {schema.REACH: one.key}
    return {schema.STATION: one.key, schema.REACH: station.reach}
