"""The registered HJ 212 loggers: MN, station, password, and the time of their newest reading."""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from infra.errors import ConfigurationError, NotFound
from infra.records import from_row
from infra.texts import say
from ingest.storage.changes import UNKNOWN_AUTHOR, Author
from ingest.storage.gateway_devices import DeviceTable
from ingest.storage.tables import hj212_device
from sensors.wire.hj212.packet import Edition
from sensors.wire.hj212.readings import MN, Logger

DEVICES: Final = DeviceTable(hj212_device, hj212_device.c.mn, ("station", "password", "st", "edition"))


def load(connection: sa.Connection) -> dict[str, Logger]:
    """All loggers by MN."""
    rows = connection.execute(sa.select(hj212_device).order_by(hj212_device.c.mn))
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
    DEVICES.save(connection, logger, author)


def remove(connection: sa.Connection, mn: str, author: Author = UNKNOWN_AUTHOR) -> None:
    """Delete a logger; its readings stay. Raises NotFound."""
    if not DEVICES.remove(connection, mn, author):
        raise NotFound(say("registry.no_logger", mn=mn[:80]))


def update_newest(connection: sa.Connection, newest: Mapping[str, int]) -> None:
    """Store the time of each logger's newest reading (MN → ms); an older time is ignored."""
    DEVICES.update_newest(connection, newest)
