"""The journey of a micro-batch from bytes to incidents, as a list of stages.

All writes of a batch happen in one database transaction; the caller acknowledges its messages afterwards. A crash at
any moment costs a redelivery, never a reading.
"""

from collections.abc import Sequence
from typing import Protocol

from governance.incidents.finding import Finding
from ingest import device_messages, late_messages, setting_aside, ticks
from ingest.rules.engine import usable
from ingest.site_state import SiteState
from ingest.stages.assess_quality import AssessQuality
from ingest.stages.check_devices import CheckDevices
from ingest.stages.commit import Commit
from ingest.stages.cross_check import CrossCheck
from ingest.stages.decode import Decode
from ingest.stages.deduplicate import Deduplicate
from ingest.stages.drop_covered_means import DropCoveredMeans
from ingest.stages.evaluate_rules import EvaluateRules
from ingest.stages.group_by_cause import GroupByCause
from ingest.stages.limit_devices import LimitDevices
from ingest.stages.load_history import LoadHistory
from ingest.stages.queue_late import QueueLate
from ingest.stages.rejudge_late import RejudgeLate
from ingest.stages.remember import Remember
from ingest.stages.validate import Validate
from ingest.work import Outcome, Receipt, Work
from sensors.reading import Message

__all__ = ["PIPELINE", "Outcome", "Receipt", "Site", "Stage", "Work", "process"]


class Stage(Protocol):
    """One step: reads attributes of the work that earlier stages wrote, and writes its own."""

    @property
    def name(self) -> str:
        """What its time is booked under."""

    def run(self, work: Work) -> None:
        """Take the step. Raises StorageUnavailable; then nothing of the batch has happened."""


PIPELINE: Sequence[Stage] = (
    Decode(),
    Validate(),
    DropCoveredMeans(),
    LimitDevices(),
    LoadHistory(),
    QueueLate(),
    Deduplicate(),
    AssessQuality(),
    RejudgeLate(),
    CrossCheck(),
    EvaluateRules(),
    GroupByCause(),
    CheckDevices(),
    Commit(),
    Remember(),
)


def process(work: Work, stages: Sequence[Stage] = PIPELINE) -> Outcome:
    """Run a micro-batch through the stages; return once its readings are durable."""
    for stage in stages:
        with work.timing(stage.name):
            stage.run(work)
    return Outcome(
        messages=len(work.messages),
        stored=work.stored,
        duplicate=work.duplicate,
        rejected=work.rejected,
        suspect=int((~usable(work.packed)).sum()),
        findings=tuple(work.findings),
        opened=work.recorded.opened,
        seconds=work.seconds,
        headers=work.decoded.headers,
        enqueued=work.recorded.enqueued,
        new=work.new,
    )


class Site(SiteState):
    """One ingest worker of a site: what its loop calls. Each call is atomic in the database."""

    def process(self, messages: Sequence[Message], now_ms: int) -> Outcome:
        """Process a micro-batch; return once its readings are durable.

        Raises StorageUnavailable when the stores cannot take it; then nothing of the batch has happened and the same
        messages may be handed in again.
        """
        self.ensure_fresh()
        with self.invalidated_on_error():
            return process(Work(self, messages, now_ms))

    def late_batch(self) -> list[Message]:
        """The next queued late messages, to be handed to ``process``; empty when none wait."""
        self.ensure_fresh()
        return late_messages.next_batch(self)

    def handle_device_messages(self, messages: Sequence[Message], now_ms: int) -> Outcome:
        """Store connection states and events of devices. Raises StorageUnavailable."""
        self.ensure_fresh()
        return device_messages.handle(self, messages, now_ms)

    def set_aside(self, message: Message, error: Exception, now_ms: int) -> Outcome:
        """Quarantine a message that cannot be processed now. Raises StorageUnavailable."""
        self.ensure_fresh()
        return setting_aside.set_aside(self, message, error, now_ms)

    def tick(self, connected_since_ms: int | None, now_ms: int) -> list[Finding]:
        """Look for silent stations and changed maintenance records. Raises StorageUnavailable."""
        self.ensure_fresh()
        return ticks.tick(self, connected_since_ms, now_ms)
