"""The registry in the relational database: read as one immutable snapshot, written row by row."""

import json
from collections.abc import Iterable

import sqlalchemy as sa

from governance.database import Database, in_order
from ingest.storage.tables import deployment, reach, station
from ingest.storage.tables import registry_change as change
from sensors.parameters import Catalogue
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Deployment, Reach, Registry, Station, Water


def load(connection: sa.Connection, catalogue: Catalogue) -> Registry:
    """The registry as it stands, stations in the order they were registered."""
    stations = tuple(
        Station(
            key=row.key,
            zh=row.zh,
            en=row.en,
            lon=row.lon,
            lat=row.lat,
            reach=row.reach,
            water=Water(row.water),
            region=row.region,
            interval_s=row.interval_s,
            gateway=row.gateway,
            parameters=tuple(row.parameters),
            note=row.note,
        )
        for row in connection.execute(sa.select(station).order_by(station.c.id))
    )
    deployments = tuple(
        Deployment(row.station, row.parameter, row.since_ms, row.unit, row.gain, row.offset)
        for row in connection.execute(sa.select(deployment).order_by(deployment.c.id))
    )
    reaches = tuple(
        Reach(
            row.key,
            row.zh,
            row.en,
            Water(row.water),
            tuple((x, y) for x, y in row.line),
            row.downstream,
            row.note,
            None if row.target is None else WaterClass(row.target),
        )
        for row in connection.execute(sa.select(reach).order_by(reach.c.key))
    )
    return Registry(stations, deployments, reaches, catalogue)


def save(connection: sa.Connection, registry: Registry) -> None:
    """Make the database hold these stations, deployments and reaches; others stay as they are."""
    save_stations(connection, registry.stations)
    for r in registry.reaches:
        values: dict[str, object] = {"zh": r.zh, "en": r.en, "water": r.water.value, "line": r.line}
        values |= {"downstream": r.downstream, "note": r.note, "target": r.target}
        _put(connection, reach, {"key": r.key}, values)
    for d in registry.deployments:
        key = {"station": d.station, "parameter": d.parameter, "since_ms": d.since_ms}
        _put(connection, deployment, key, {"unit": d.unit, "gain": d.gain, "offset": d.offset})


def save_stations(connection: sa.Connection, stations: Iterable[Station]) -> None:
    """Insert or change stations; a station is never deleted, its readings would lose their name."""
    for s in stations:
        values: dict[str, object] = {
            "zh": s.zh,
            "en": s.en,
            "lon": s.lon,
            "lat": s.lat,
            "reach": s.reach,
            "water": s.water.value,
            "region": s.region,
            "interval_s": s.interval_s,
            "gateway": s.gateway,
            "parameters": list(s.parameters),
            "note": s.note,
        }
        _put(connection, station, {"key": s.key}, values)


def fingerprint(connection: sa.Connection) -> int:
    """Changes whenever a snapshot would; cheap enough to ask every second."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(change.c.id), 0))).scalar_one())


def set_online(connection: sa.Connection, key: str, online: bool, at_ms: int) -> None:
    """What the device, or the broker on its behalf, said of the connection; an older word changes nothing."""
    newer = station.c.online_at_ms.is_(None) | (station.c.online_at_ms <= at_ms)
    told = sa.update(station).where((station.c.key == key) & newer)
    connection.execute(told.values(online=online, online_at_ms=at_ms))


def online(connection: sa.Connection) -> dict[str, tuple[bool | None, int | None]]:
    """Connection state and since when, by station."""
    rows = connection.execute(sa.select(station.c.key, station.c.online, station.c.online_at_ms))
    return {row.key: (row.online, row.online_at_ms) for row in rows}


def _put(connection: sa.Connection, table: sa.Table, key: dict[str, object], values: dict[str, object]) -> None:
    """Insert or change a row, and write down that it changed; a row that is so already is left alone."""
    where = sa.and_(*(table.c[name] == value for name, value in key.items()))
    columns = [table.c[name] for name in values]
    known = connection.execute(sa.select(*columns).where(where)).one_or_none()
    plain = json.loads(json.dumps(values))  # as it comes back: a tuple is a list
    if known is not None and dict(known._mapping) == plain:
        return
    in_order(connection, change)  # or `fingerprint` could miss a change
    if known is None:
        connection.execute(sa.insert(table).values(**key, **values))
    else:
        connection.execute(sa.update(table).where(where).values(**values))
    named = "/".join(str(value) for value in key.values())
    connection.execute(sa.insert(change).values(what=table.name, key=named, body=plain))


class Reaches:
    """The reach each station belongs to, as the registry has it at the moment of asking; "" where it has none."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._catalogue = catalogue
        self._fingerprint: object = None
        self._reach: dict[str, str] = {}

    def of(self, stations: Iterable[str]) -> list[str]:
        with self._database.read() as connection:
            now = fingerprint(connection)
            if now != self._fingerprint:
                self._reach = {s.key: s.reach for s in load(connection, self._catalogue).stations}
                self._fingerprint = now
        return [self._reach.get(key, "") for key in stations]
