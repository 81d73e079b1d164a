"""The registry as the API reads it: as it stands now, or as it stood a moment ago where only speed matters."""

import threading
import time

from api.context import Context
from infra.errors import NotFound
from infra.texts import say
from ingest.storage import registry as registry_store
from ingest.storage.changes import fingerprint
from sensors.datum import Box
from sensors.stations import Registry, Station

RECENT_S = 2.0


class Registries:
    """Reading thousands of stations takes longer than answering most questions about one of them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._changes = 0
        self._kept: tuple[float, int, int, Registry] | None = None

    def now(self) -> Registry:
        """The registry as it stands."""
        with self._context.database.read() as connection:
            return registry_store.load(connection, self._context.catalogue)

    def recent(self) -> Registry:
        """The registry, at most ``RECENT_S`` old and never older than a change made through this API.

        What another process changed may show that much later: good for names and intervals, not for editing. It is
        the same object until something changes.
        """
        kept = self._fresh()
        if kept is None:
            with self._lock:  # one reads, the others wait for it instead of reading the same
                kept = self._fresh()
                if kept is None:
                    since, changes, before = time.monotonic(), self._changes, self._kept
                    with self._context.database.read() as connection:
                        mark = fingerprint(connection)
                        if before is not None and before[2] == mark:
                            registry = before[3]
                        else:
                            registry = registry_store.load(connection, self._context.catalogue)
                    self._kept = kept = since, changes, mark, registry
        return kept[3]

    def changed(self) -> None:
        """The registry was changed through this API."""
        self._changes += 1

    def _fresh(self) -> tuple[float, int, int, Registry] | None:
        kept = self._kept
        if kept is None or kept[1] != self._changes or time.monotonic() - kept[0] > RECENT_S:
            return None
        return kept


SITE_MARGIN_DEG = 0.5
"""A report may lie so far beyond the outermost stations, about 50 km: more than a district is wide. Our choice."""


def site_box(box: Box | None, registry: Registry) -> Box | None:
    """Where all places of the site lie: as set, else around its stations; None where there are none."""
    if box is not None or not registry.stations:
        return box
    lons, lats = [s.lon for s in registry.stations], [s.lat for s in registry.stations]
    more = SITE_MARGIN_DEG
    return Box(min(lons) - more, min(lats) - more, max(lons) + more, max(lats) + more)


def find(registry: Registry, key: str) -> Station:
    """The station called ``key``; raises NotFound naming it."""
    if key not in registry:
        raise NotFound(say("registry.no_station", key=key[:80]))
    return registry[key]
