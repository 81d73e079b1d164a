"""Deadlines of cases: reminders, escalation and succession in office.

What fires is written together with when it fires next (`governance.incidents.store.apply_reminders`): a worker killed
at any moment says nothing twice and forgets nothing.
"""

from collections.abc import Callable

import structlog

from governance.incidents import store as incident_store
from governance.incidents.deadlines import DeadlinePolicy
from governance.organisation.regions import Regions
from governance.people import store as people_store
from infra.database import Database
from infra.periodic import PeriodicWorker
from ingest.storage import registry as registry_store
from sensors.parameters import Catalogue

log = structlog.get_logger(__name__)

EVERY_S = 15.0


class Reminders(PeriodicWorker):
    """A thread that fires due reminders and escalations; ``wake`` is called when the outbox has new entries."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        policy: DeadlinePolicy,
        *,
        source: str,
        clock_ms: Callable[[], int],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__("reminders")
        self._database = database
        self._catalogue = catalogue
        self._policy = policy
        self._source = source
        self._clock_ms = clock_ms
        self._wake = wake
        self.last_round_ms: int | None = None

    def round(self) -> int:
        """Fire what is due; how many entries were written. Raises StorageUnavailable."""
        now_ms = self._clock_ms()
        with self._database.read() as connection:
            registry = registry_store.load(connection, self._catalogue)
        regions = Regions(registry.regions)
        total = 0
        while True:
            with self._database.write() as connection:
                entries = incident_store.apply_reminders(
                    connection, now_ms, up=regions.parent, source=self._source, policy=self._policy
                )
            total += len(entries)
            if len(entries) < incident_store.FINDINGS_PER_PART:
                break
        with self._database.write() as connection:
            total += len(
                people_store.hand_over_ended_terms(connection, now_ms=now_ms, source=self._source, regions=regions)
            )
        if total:
            self._wake()
        self.last_round_ms, self.last_error = now_ms, ""
        return total

    def next_round(self) -> float:
        with self.outlive("reminders"):
            self.round()
        return EVERY_S
