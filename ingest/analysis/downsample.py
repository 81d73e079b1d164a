"""Hourly and daily values are computed from the readings and written to the time-series server."""

import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from infra.database import Database
from infra.errors import StorageUnavailable
from infra.texts import sentence
from infra.times import DAY_MS
from ingest.sending import BACKOFF_S, SendingState, SendingWorker, kept_since
from ingest.storage import downsampling
from ingest.storage import registry as registry_store
from ingest.storage.downsampling import TIERS, Tier
from ingest.storage.port import ReadingStore
from ingest.storage.timeseries import TimeSeriesServer
from sensors.parameters import Catalogue

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

DAYS_A_ROUND = 200
"""Station-days of one round: at most 5,000 points, as many as InfluxDB recommends for a request."""
LOOK_EVERY_S = 10.0
"""How often it is looked whether a day has become due."""
DOWNSAMPLING = 0x7269_7665_7205
"""The advisory lock of a round, PostgreSQL."""


class Downsampler(SendingWorker):
    """A thread that computes the hours and the day of each station's day that is due; one for a database.

    One station's day of readings is in memory at a time, and the points of :data:`DAYS_A_ROUND`. A killed round is made
    again: the same points are written over themselves.

    Parameters
    ----------
    readings : the store that answers for all readings, whatever has left the database
    keep_days : for how many days the server keeps a tier (0: for ever); what is older is not sent
    """

    def __init__(
        self,
        database: Database,
        readings: ReadingStore,
        server: TimeSeriesServer,
        catalogue: Catalogue,
        *,
        keep_days: Mapping[Tier, int],
        clock_ms: Callable[[], int],
        poll_s: float = LOOK_EVERY_S,
        backoff_s: Sequence[float] = BACKOFF_S,
    ) -> None:
        super().__init__("downsampling", database, DOWNSAMPLING, poll_s=poll_s, backoff_s=backoff_s)
        self._readings = readings
        self._server = server
        self._catalogue = catalogue
        self._keep_days = keep_days
        self._clock_ms = clock_ms
        self._reaches = registry_store.Reaches(database, catalogue)

    def next_round(self) -> float:
        """Half of the time is left to others where much is due at once."""
        began = time.monotonic()
        return super().next_round() or time.monotonic() - began

    def send(self) -> int:
        """Compute and send the days that are due longest; how many they were."""
        now_ms = self._clock_ms()
        with self._database.read() as connection:
            days = downsampling.due(connection, now_ms, DAYS_A_ROUND)
        lines: dict[Tier, list[bytes]] = {tier: [] for tier in TIERS}
        reaches = self._reaches.of([day.station for day in days])
        for day, reach in zip(days, reaches, strict=True):
            found = self._readings.window(day.station, day.day_ms, day.day_ms + DAY_MS - 1)
            for tier in TIERS:
                since_ms = kept_since(self._keep_days[tier], now_ms)
                lines[tier] += downsampling.points(tier, day.station, reach, found, self._catalogue, since_ms=since_ms)
        for tier in TIERS:
            self._write(tier, lines[tier])
        if days:
            with self._database.write() as connection:
                downsampling.done(connection, days)
        return len(days)

    def _write(self, tier: Tier, lines: Sequence[bytes]) -> None:
        """Write points and ask back for the last one: an answer from something in between stores nothing."""
        if not lines:
            return
        refused = self._server.send(lines, tier.policy)
        if refused:
            log.error(
                "the time-series server refused downsampled points",
                measurement=tier.measurement,
                points=len(refused),
                reason=refused[0].reason,
            )
        never = {one.line for one in refused}
        taken = [line for line in lines if line not in never]
        if taken and (lost := self._server.verify(taken[-1:], tier.policy)):
            raise StorageUnavailable(sentence("series.lost", lost=len(lost)))
        self.state = SendingState(
            self.state.error, self.state.sent_rows + len(taken), self.state.refused_lines + len(refused)
        )
