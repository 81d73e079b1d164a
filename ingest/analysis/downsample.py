"""Compute hourly and daily values from the readings and write them to the time-series server."""

import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from infra.database import Database
from infra.errors import StorageUnavailable
from infra.texts import say
from infra.times import DAY_MS
from ingest.sending import BACKOFF_S, SendingState, SendingWorker, kept_since
from ingest.storage import downsampling
from ingest.storage import registry as registry_store
from ingest.storage.downsampling import TIERS, Tier
from ingest.storage.port import ReadingStore
from ingest.storage.timeseries import TimeSeriesServer
from sensors.parameters import Catalogue

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

DAYS_PER_ROUND = 200
"""Station-days of one round: at most 5,000 points, as InfluxDB recommends for a request."""
POLL_S = 10.0
"""Interval of the check for days that are due."""
LOCK = 0x7269_7665_7205
"""PostgreSQL advisory lock of a round."""


class Downsampler(SendingWorker):
    """A thread that computes the hourly and daily values of each station's day that is due; one for each database.

    A killed round is repeated and overwrites its points.

    Parameters
    ----------
    readings : the store of all readings, including those that have left the database
    keep_days : retention of each tier (0: for ever); older values are not sent
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
        poll_s: float = POLL_S,
        backoff_s: Sequence[float] = BACKOFF_S,
    ) -> None:
        super().__init__("downsampling", database, LOCK, poll_s=poll_s, backoff_s=backoff_s)
        self._readings = readings
        self._server = server
        self._catalogue = catalogue
        self._keep_days = keep_days
        self._clock_ms = clock_ms
        self._reaches = registry_store.Reaches(database, catalogue)

    def next_round(self) -> float:
        """Pause for as long as a round took, so that other work continues where much is due."""
        began = time.monotonic()
        return super().next_round() or time.monotonic() - began

    def send(self) -> int:
        """Compute and send the longest due days; how many."""
        now_ms = self._clock_ms()
        with self._database.read() as connection:
            days = downsampling.due_days(connection, now_ms, DAYS_PER_ROUND)
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
                downsampling.delete_computed(connection, days)
        return len(days)

    def _write(self, tier: Tier, lines: Sequence[bytes]) -> None:
        """Write points and read back the last one, which detects an answer of a proxy that stored nothing."""
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
        refused_lines = {one.line for one in refused}
        accepted = [line for line in lines if line not in refused_lines]
        if accepted and (lost := self._server.verify(accepted[-1:], tier.policy)):
            raise StorageUnavailable(say("time_series_server.lost", lost=len(lost)))
        self.state = SendingState(
            self.state.error, self.state.sent_rows + len(accepted), self.state.refused_lines + len(refused)
        )
