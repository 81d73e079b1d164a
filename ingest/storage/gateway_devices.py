"""What the tables of HJ 212 loggers and SL 651 stations share: changes on record, the time of the newest reading."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from infra.errors import NotFound
from infra.texts import say
from ingest.storage import changes
from ingest.storage.changes import Author
from ingest.storage.tables import station as station_table


@dataclass(frozen=True, slots=True)
class DeviceTable:
    """A table of registered devices: ``key`` is the column that names them, ``columns`` what a registration says."""

    table: sa.Table
    key: sa.Column[str]
    columns: tuple[str, ...]

    def save(self, connection: sa.Connection, device: object, author: Author) -> None:
        """Register or change a device and record the change; the other columns stay.

        Raises NotFound for an unregistered station.
        """
        values = {name: getattr(device, name) for name in self.columns}
        station, key = values["station"], getattr(device, self.key.name)
        if connection.execute(sa.select(station_table.c.id).where(station_table.c.key == station)).first() is None:
            raise NotFound(say("registry.station_unknown", station=station))
        before = self._record(connection, key)
        if before is None:
            connection.execute(sa.insert(self.table).values({self.key.name: key} | values))
        else:
            connection.execute(sa.update(self.table).where(self.key == key).values(values))
        after = self._record(connection, key) or {}
        changes.record_change(connection, self.table.name, key, after, before=before, author=author)

    def remove(self, connection: sa.Connection, key: str, author: Author) -> bool:
        """Delete a device and record it; its readings stay. False where there is none."""
        before = self._record(connection, key)
        if before is None:
            return False
        connection.execute(sa.delete(self.table).where(self.key == key))
        changes.record_change(connection, self.table.name, key, {"removed": True}, before=before, author=author)
        return True

    def update_newest(self, connection: sa.Connection, newest: Mapping[str, int]) -> None:
        """Store the time of each device's newest reading (key → ms); an older time is ignored."""
        if newest:
            last = self.table.c.last_at_ms
            later = last.is_(None) | (last < sa.bindparam("at"))
            update = sa.update(self.table).where((self.key == sa.bindparam("of")) & later)
            parameters = [{"of": one, "at": at} for one, at in sorted(newest.items())]
            connection.execute(update.values(last_at_ms=sa.bindparam("at")), parameters)

    def _record(self, connection: sa.Connection, key: str) -> dict[str, Any] | None:
        """What a change records of a device: never its password, only whether one is checked."""
        row = connection.execute(sa.select(self.table).where(self.key == key)).mappings().one_or_none()
        if row is None:
            return None
        shown = {name: row[name] for name in self.columns if name != "password"}
        return shown | {"password_checked": row["password"] is not None}
