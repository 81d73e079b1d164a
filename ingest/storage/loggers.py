"""The registered HJ 212 loggers: MN, station, password, and the time of their newest reading."""

from collections.abc import Mapping

import sqlalchemy as sa

from infra.errors import ConfigurationError, NotFound
from infra.records import from_row
from infra.texts import say
from ingest.storage import changes
from ingest.storage.changes import UNKNOWN_AUTHOR, Author
from ingest.storage.newest import advance
from ingest.storage.tables import hj212_device as table
from ingest.storage.tables import station as station_table
from sensors.wire.hj212.packet import Edition
from sensors.wire.hj212.readings import MN, Logger


def load(connection: sa.Connection) -> dict[str, Logger]:
    """All loggers by MN."""
    rows = connection.execute(sa.select(table).order_by(table.c.mn))
    return {row.mn: from_row(Logger, row) for row in rows}


def save(connection: sa.Connection, logger: Logger, author: Author = UNKNOWN_AUTHOR) -> None:
    """Register or change a logger and record the change; the time of its newest reading stays.

    Raises ConfigurationError naming an invalid value, NotFound for an unregistered station.
    """
    if not MN.fullmatch(logger.mn):
        raise ConfigurationError(say("registry.no_mn", mn=logger.mn[:80]))
    if not (logger.st.isascii() and logger.st.isdigit() and len(logger.st) == 2):
        raise ConfigurationError(say("registry.no_st", mn=logger.mn, st=logger.st))
    if logger.edition not in list(Edition):
        raise ConfigurationError(say("registry.no_edition", mn=logger.mn, edition=logger.edition))
    if logger.password is not None and not (logger.password.isascii() and logger.password.isalnum()):
        raise ConfigurationError(say("registry.no_password", mn=logger.mn))
    if connection.execute(sa.select(station_table.c.id).where(station_table.c.key == logger.station)).first() is None:
        raise NotFound(say("registry.station_unknown", station=logger.station))
    before = _record(connection, logger.mn)
    values = {"station": logger.station, "password": logger.password, "st": logger.st, "edition": logger.edition}
    changed = connection.execute(sa.update(table).where(table.c.mn == logger.mn).values(**values))
    if not changed.rowcount:
        connection.execute(sa.insert(table).values(mn=logger.mn, **values))
    after = _record(connection, logger.mn) or {}
    changes.record_change(connection, "hj212_device", logger.mn, after, before=before, author=author)


def remove(connection: sa.Connection, mn: str, author: Author = UNKNOWN_AUTHOR) -> None:
    """Delete a logger; its readings stay. Raises NotFound."""
    before = _record(connection, mn)
    if not connection.execute(sa.delete(table).where(table.c.mn == mn)).rowcount:
        raise NotFound(say("registry.no_logger", mn=mn[:80]))
    changes.record_change(connection, "hj212_device", mn, {"removed": True}, before=before, author=author)


def update_newest(connection: sa.Connection, newest: Mapping[str, int]) -> None:
    """Store the time of each logger's newest reading (MN → ms); an older time is ignored."""
    advance(connection, table.c.mn, newest)


def _record(connection: sa.Connection, mn: str) -> dict[str, object] | None:
    """What a change records of a logger: never its password, only whether one is checked."""
    row = connection.execute(sa.select(table).where(table.c.mn == mn)).one_or_none()
    if row is None:
        return None
    return {"station": row.station, "st": row.st, "edition": row.edition, "password_checked": row.password is not None}
