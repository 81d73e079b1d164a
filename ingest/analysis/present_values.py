"""The present values of the series that titles and messages name."""

from collections.abc import Collection, Mapping

import structlog

from infra.errors import WaterError
from ingest.storage.port import ReadingStore

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def present_values(store: ReadingStore, wanted: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], float]:
    """(station, parameter) → newest usable value; series without one, or that cannot be read, are left out."""
    if not wanted:
        return {}
    try:
        rows = store.latest(sorted({station for station, _ in wanted}))
    except WaterError as error:
        log.warning("the newest readings cannot be read: titles keep the value that decided", error=str(error))
        return {}
    found = {(row.station, row.parameter): row.value for row in rows if row.value is not None}
    return {key: found[key] for key in wanted if key in found}
