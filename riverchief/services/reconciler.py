"""Daily reconciliation: fetch the list of each external platform and compare it with ours."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from governance.platforms import callbacks, reconciliation
from governance.platforms.model import Platform
from governance.platforms.reconciliation import StoredReport
from infra.database import Database
from infra.errors import WaterError
from infra.periodic import PeriodicWorker
from infra.times import BEIJING, from_ms, to_ms

log = structlog.get_logger(__name__)

RETRY_S = 900.0
"""A platform that does not answer is asked again after this."""
POLL_S = 60.0


class Reconciler(PeriodicWorker):
    """A thread that compares with every platform of ``platforms`` daily at ``at`` (HH:MM, Beijing time)."""

    def __init__(
        self, database: Database, platforms: Sequence[Platform], *, at: str, clock_ms: Callable[[], int]
    ) -> None:
        super().__init__("reconciler")
        self._database = database
        self._platforms = platforms
        self._at = tuple(int(part) for part in at.split(":"))
        self._clock_ms = clock_ms
        self._not_before: dict[str, int] = {}
        self.last_error = ""

    def next_round(self) -> float:
        troubles = []
        for platform in self._platforms:
            try:
                self.round(platform)
            except WaterError as error:
                troubles.append(str(error))
                log.warning("a platform cannot be compared with yet", platform=platform.name, error=str(error))
                self._not_before[platform.name] = self._clock_ms() + round(RETRY_S * 1000)
            except Exception as error:
                troubles.append(f"{platform.name}: {type(error).__name__}")
                log.exception("a comparison failed and is tried again", platform=platform.name)
                self._not_before[platform.name] = self._clock_ms() + round(RETRY_S * 1000)
        if troubles or all(self._clock_ms() >= at for at in self._not_before.values()):
            self.last_error = "; ".join(troubles)
        return POLL_S

    def round(self, platform: Platform) -> StoredReport | None:
        """Compare if the day's comparison is due and not made; raises what the fetching raises."""
        now_ms = self._clock_ms()
        if now_ms < self._not_before.get(platform.name, 0):
            return None
        with self._database.read() as connection:
            last = reconciliation.list_reports(connection, platform=platform.name, limit=1)
        if last and last[0].at_ms >= self._due_ms(now_ms):
            return None
        return compare(self._database, platform, self._clock_ms, by="riverchief")

    def _due_ms(self, now_ms: int) -> int:
        """The last instant at which a comparison was due."""
        now = from_ms(now_ms).astimezone(BEIJING)
        due = now.replace(hour=self._at[0], minute=self._at[1], second=0, microsecond=0)
        return to_ms(due if due <= now else due - timedelta(days=1))


def compare(database: Database, platform: Platform, clock_ms: Callable[[], int], *, by: str) -> StoredReport:
    """Fetch a platform's list, compare, and keep the report. Raises PlatformUnavailable and StorageUnavailable."""
    items = reconciliation.fetch(platform, clock_ms)
    with database.write() as connection:
        callbacks.delete_old(connection, clock_ms())
        return reconciliation.reconcile(connection, platform, items, clock_ms(), by=by)
