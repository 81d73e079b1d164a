"""The registry in the database: read as one immutable snapshot, written row by row."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from infra.database import Database
from infra.errors import NotFound, Refused
from infra.records import from_row, to_row
from infra.texts import say
from ingest.storage.changes import UNKNOWN_AUTHOR, Author, fingerprint, record_change, upsert
from ingest.storage.tables import deployment, device, mute, outfall, reach, region, station, travel
from sensors.maintenance import RETIRED_UNTIL_MS
from sensors.network import Level, Outfall, OutfallKind, Region, Travel
from sensors.parameters import Catalogue
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Deployment, Device, Reach, Registry, Station, Water


def load(connection: sa.Connection, catalogue: Catalogue) -> Registry:
    """The registry; stations in the order of registration."""
    stations = tuple(
        from_row(Station, row, water=Water(row.water), parameters=tuple(row.parameters))
        for row in connection.execute(sa.select(station).order_by(station.c.id))
    )
    deployments = tuple(
        from_row(Deployment, row) for row in connection.execute(sa.select(deployment).order_by(deployment.c.id))
    )
    reaches = tuple(
        from_row(
            Reach,
            row,
            water=Water(row.water),
            line=_tuples(row.line),
            target=None if row.target is None else WaterClass(row.target),
        )
        for row in connection.execute(sa.select(reach).order_by(reach.c.key))
    )
    devices = tuple(from_row(Device, row) for row in connection.execute(sa.select(device).order_by(device.c.serial)))
    outfalls = tuple(
        from_row(Outfall, row, kind=OutfallKind(row.kind))
        for row in connection.execute(sa.select(outfall).order_by(outfall.c.key))
    )
    travels = tuple(
        from_row(Travel, row) for row in connection.execute(sa.select(travel).order_by(travel.c.upper, travel.c.lower))
    )
    regions = tuple(
        from_row(Region, row, level=Level(row.level), outline=_tuples(row.outline))
        for row in connection.execute(sa.select(region).order_by(region.c.level, region.c.code))
    )
    retired = frozenset(
        connection.execute(sa.select(mute.c.station).where(mute.c.until_ms == RETIRED_UNTIL_MS)).scalars()
    )
    return Registry(stations, deployments, reaches, catalogue, devices, outfalls, travels, regions, retired)


def save(connection: sa.Connection, registry: Registry, author: Author = UNKNOWN_AUTHOR) -> None:
    """Insert or update all rows of this registry; other rows stay."""
    for one in registry.regions:
        _upsert(connection, region, one, ("code",), author, level=int(one.level))
    for r in registry.reaches:
        _upsert(connection, reach, r, ("key",), author, water=r.water.value, line=r.line)
    for t in registry.travels:
        _upsert(connection, travel, t, ("upper", "lower"), author)
    for o in registry.outfalls:
        _upsert(connection, outfall, o, ("key",), author, kind=o.kind.value)
    for instrument in registry.devices:
        _upsert(connection, device, instrument, ("serial",), author)
    save_stations(connection, registry.stations, author)
    save_deployments(connection, registry.deployments, author)


def save_deployments(
    connection: sa.Connection, deployments: Iterable[Deployment], author: Author = UNKNOWN_AUTHOR
) -> None:
    """Insert or update deployments; the caller checks that they do not overlap."""
    for d in deployments:
        _upsert(connection, deployment, d, ("station", "parameter", "since_ms"), author)


def save_stations(connection: sa.Connection, stations: Iterable[Station], author: Author = UNKNOWN_AUTHOR) -> None:
    """Insert or update stations. Stations are never deleted, since readings refer to them."""
    for s in stations:
        _upsert(connection, station, s, ("key",), author, water=s.water.value, parameters=list(s.parameters))


def remove_region(connection: sa.Connection, code: str, author: Author = UNKNOWN_AUTHOR) -> None:
    """Delete a region. Raises NotFound, and Refused while it contains stations or regions."""
    row = connection.execute(sa.select(region).where(region.c.code == code)).mappings().one_or_none()
    if row is None:
        raise NotFound(say("registry.no_region", region=code[:80]))
    below = list(connection.execute(sa.select(region.c.code).where(region.c.parent == code)).scalars())
    here = list(connection.execute(sa.select(station.c.key).where(station.c.region == code)).scalars())
    if below or here:
        raise Refused(say("registry.hangs", code=code, below=", ".join(sorted(below + here)[:20])))
    connection.execute(sa.delete(region).where(region.c.code == code))
    record_change(connection, "region", code, {}, before=dict(row), author=author)


def set_online(connection: sa.Connection, key: str, online: bool, at_ms: int) -> None:
    """Store the connection state of a station's device; a state older than the stored one is ignored."""
    newer = station.c.online_at_ms.is_(None) | (station.c.online_at_ms <= at_ms)
    update = sa.update(station).where((station.c.key == key) & newer)
    connection.execute(update.values(online=online, online_at_ms=at_ms))


def online(connection: sa.Connection) -> dict[str, tuple[bool | None, int | None]]:
    """Station → connection state and since when (ms)."""
    rows = connection.execute(sa.select(station.c.key, station.c.online, station.c.online_at_ms))
    return {row.key: (row.online, row.online_at_ms) for row in rows}


def _upsert(
    connection: sa.Connection, table: sa.Table, record: Any, key: tuple[str, ...], author: Author, **plain: object
) -> None:
    """Insert or update the row of a dataclass; ``plain`` replaces values that a column cannot hold."""
    values = to_row(record, **plain)
    upsert(connection, table, {name: values.pop(name) for name in key}, values, author)


def _tuples(value: Any) -> Any:
    """Nested lists as tuples."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


class Reaches:
    """The present reach of each station; "" where it has none."""

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
