"""What works: the parts of this process and the database, asked now, and since when one does not work."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from api.context import Context, Part
from infra.errors import StorageUnavailable
from infra.texts import say

log = structlog.get_logger(__name__)

DATABASE = "database"
PARTS = "parts"
"""The part that stands for those that cannot be asked."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The parts as they were at ``at_ms``; ``since_ms`` by name: when one that does not work was first seen so."""

    at_ms: int
    parts: tuple[Part, ...]
    since_ms: Mapping[str, int]

    @property
    def ready(self) -> bool:
        """Whether every vital part works."""
        return all(part.ok or not part.vital for part in self.parts)


class Health:
    """Asks the parts, and remembers since when one does not work."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._since_ms: dict[str, int] = {}
        self._lock = threading.Lock()

    def probe(self) -> Probe:
        """Ask all parts; one that cannot be asked does not work."""
        parts = (_database(self._context), *_parts(self._context))
        now_ms = self._context.clock_ms()
        with self._lock:
            before = self._since_ms
            self._since_ms = {
                part.name: part.since_ms or before.get(part.name, now_ms) for part in parts if not part.ok
            }
            return Probe(now_ms, parts, dict(self._since_ms))


def _database(context: Context) -> Part:
    try:
        with context.database.read() as connection:
            stations = connection.execute(sa.text("SELECT count(*) FROM station")).scalar_one()
    except (StorageUnavailable, sa.exc.SQLAlchemyError) as error:
        log.warning("the database does not answer", error=str(error))
        return Part(DATABASE, False, "the database does not answer; the log says why")
    detail = f"answers; {stations} stations are registered"
    return Part(DATABASE, True, detail, text=say("health.database", count=stations))


def _parts(context: Context) -> list[Part]:
    try:
        return context.parts()
    except Exception as error:  # a part that cannot even be asked is not well
        log.exception("the parts cannot be asked")
        return [Part(PARTS, False, f"cannot be asked: {type(error).__name__}")]
