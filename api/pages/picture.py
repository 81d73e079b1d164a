"""The one picture all clients look at, read again at most once a second and only while somebody looks."""

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass

from api.context import Context
from api.pages.models.overview import Classes, Model, build
from api.registries import Registries
from governance.incidents import queries as incident_queries
from infra.errors import WaterError
from infra.texts import Text, same
from infra.times import MINUTE_MS, beijing_day
from ingest import ledger
from ingest.analysis import source_attribution
from ingest.analysis.live_classes import REACH, STATION, current_classes, shown_classes

EVERY_S = 1.0
FRESH_S = 0.9 * EVERY_S
"""A reading that began so short a time ago is not repeated by another loop; below ``EVERY_S`` by the wakers' jitter."""
NOBODY_LOOKS_S = 5.0
SHARE = 5
"""Reading takes at most one part in so many of the time: a large site is read less often instead of all the time."""


OPEN_LIMIT = 1000
CLOSED_SHOWN = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the picture cannot be read: since when (ms), what failed, and a number to quote."""

    since_ms: int
    detail: Text
    number: str


class Live:
    """Reads the stores in a thread and keeps the last picture; ``model`` is replaced when it looks different, and each
    minute, since the times that are left are worded from its ``at_ms``.
    """

    def __init__(self, context: Context, registries: Registries) -> None:
        self._context = context
        self.model: Model | None = None
        self.read_at_ms = 0
        self.trouble: Trouble | None = None
        self._looked = self._tried = float("-inf")
        self._lock = asyncio.Lock()
        self._registries = registries
        self._accounts: tuple[ledger.Account, ...] = ()
        self._accounts_mark: tuple[object, ...] = ()

    def look(self) -> None:
        """Say that somebody looks; without this for a few seconds the stores are left alone."""
        self._looked = time.monotonic()

    async def step(self) -> None:
        """Read again where somebody looks and the last reading began a second ago, then pause.

        Several loops of steps read no more often than one.
        """
        started = time.monotonic()
        if started - self._looked < NOBODY_LOOKS_S and started - self._tried >= FRESH_S:
            await self.refresh()
        took = time.monotonic() - started
        await asyncio.sleep(max(EVERY_S - took, (SHARE - 1) * took))

    async def now(self) -> Model | None:
        """The picture for a page that is being built; None when it could never be read."""
        self.look()
        if self.model is None or self._context.clock_ms() - self.read_at_ms > 2000 * EVERY_S:
            await self.refresh()
        return self.model

    async def refresh(self) -> None:
        """Read once; on failure the last picture stays and ``trouble`` says why."""
        async with self._lock:
            self._tried = time.monotonic()
            try:
                model = await asyncio.to_thread(self._read)
            except Exception as error:  # whatever it is, the page must say so and go on trying
                if self.trouble is None:
                    _log.exception("the pages cannot read their stores")
                    detail = error.text if isinstance(error, WaterError) else same(type(error).__name__)
                    now_ms = self._context.clock_ms()
                    number = hashlib.sha256(f"{detail.en}{now_ms}".encode()).hexdigest()[:6].upper()
                    self.trouble = Trouble(now_ms, detail, number)
                return
            self.trouble = None
            self.read_at_ms = model.at_ms
            if model != self.model or model.at_ms // MINUTE_MS != self.model.at_ms // MINUTE_MS:
                self.model = model

    def _read(self) -> Model:
        context, now_ms = self._context, self._context.clock_ms()
        with context.database.read() as connection:
            open_ = incident_queries.list_incidents(connection, open_only=True, limit=OPEN_LIMIT)
            closed = incident_queries.list_incidents(connection, open_only=False, limit=4 * CLOSED_SHOWN)
            closed = sorted(closed, key=lambda i: i.closed_at_ms or 0, reverse=True)[:CLOSED_SHOWN]
            counts = incident_queries.counts(connection)
            sources = source_attribution.likeliest_sources(connection, [one.id for one in open_])
            classes = Classes(current_classes(connection, REACH), shown_classes(connection, STATION))
            day = beijing_day(now_ms).isoformat()
            if (day, now_ms // 10_000) != self._accounts_mark:
                self._accounts = tuple(ledger.accounts(connection, day=day))
                self._accounts_mark = (day, now_ms // 10_000)
        registry = self._registries.recent()
        incidents = [*open_, *closed]
        latest = context.store.latest()
        return build(registry, latest, incidents, counts, self._accounts, now_ms, sources, classes)
