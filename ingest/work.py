"""One micro-batch on its way through the stages, and what became of it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from governance.incidents.finding import Finding
from governance.incidents.store import EnqueuedEvent, Recorded
from ingest.quarantine import QuarantineEntry
from ingest.rejudge.corrections import Correction, Senders
from ingest.rejudge.late_readings import LateVerdict
from ingest.rules.alarm_state import AlarmKey
from ingest.site_state import SiteState
from sensors.quality import QualityResult
from sensors.quality.detectors.doubtful_events import CombinedDetection
from sensors.reading import Batch, Bytes, Codes, Floats, Ints, Message, Places, Rejected
from sensors.stations import Registry
from sensors.wire.telemetry import Decoded, Header


@dataclass(frozen=True, slots=True)
class SortedBatch:
    """Readings ordered by (series, observed_at), one of each key.

    ``live`` are the rows that continue their series, ``late`` the rows of series that have late readings.
    """

    batch: Batch
    series: Ints
    live: Places
    late: Places

    def live_columns(self) -> tuple[Ints, Codes, Ints, Floats, Bytes]:
        """Series, parameter, observed_at, value and device status of the live rows."""
        rows, batch = self.live, self.batch
        return self.series[rows], batch.parameter[rows], batch.at[rows], batch.value[rows], batch.status[rows]


@dataclass(frozen=True, slots=True)
class CrossCheckNotes:
    """Verdicts that only the cross-check gave: series, observed_at and verdict of readings to be remembered."""

    series: Ints
    at: Ints
    packed: Ints


@dataclass(frozen=True, slots=True)
class NewReadings:
    """Readings that were not there before, with their verdicts; the registry says what ``batch.station`` counts."""

    registry: Registry
    batch: Batch
    packed: Ints


@dataclass(slots=True)
class Work:
    """A micro-batch. An attribute exists once the stage that writes it has run; the stage stands beside it."""

    site: SiteState
    messages: Sequence[Message]
    now_ms: int
    seconds: dict[str, float] = field(default_factory=dict)

    replayed: list[QuarantineEntry] = field(init=False)  # Decode: quarantine entries that are handed in again
    decoded: Decoded = field(init=False)  # Decode
    accepted: Batch = field(init=False)  # Validate: all readings that can be used
    rejected: tuple[Rejected, ...] = field(init=False)  # Validate
    pending: Batch = field(init=False)  # DropCoveredMeans, QueueLate: accepted readings to be judged now
    queued: frozenset[int] = field(init=False)  # QueueLate: messages that are judged later
    senders: Senders = field(init=False)  # Deduplicate
    sorted: SortedBatch = field(init=False)  # Deduplicate
    corrected: list[Correction] = field(init=False)  # Deduplicate: within the batch
    live: QualityResult = field(init=False)  # AssessQuality, CrossCheck: verdicts of the live rows
    detection: CombinedDetection = field(init=False)  # AssessQuality: events at the stations of the live rows
    late: LateVerdict = field(init=False)  # RejudgeLate: verdicts of the late rows, and what they changed
    cross_notes: CrossCheckNotes = field(init=False)  # CrossCheck
    packed: Ints = field(init=False)  # CrossCheck: verdicts of all rows
    live_findings: list[Finding] = field(init=False)  # EvaluateRules
    trial_findings: list[Finding] = field(init=False)  # EvaluateRules: of the rules on trial
    findings: list[Finding] = field(init=False)  # GroupByCause, Commit
    changed_alarms: set[AlarmKey] = field(init=False)  # GroupByCause, Commit
    device_findings: list[Finding] = field(init=False)  # CheckDevices
    new: NewReadings = field(init=False)  # Commit
    stored: Ints = field(init=False)  # Commit: new readings by message
    duplicate: Ints = field(init=False)  # Commit: readings that were there already, by message
    resumed: dict[int, int] = field(init=False)  # Commit: stations that report again after a pause, and when
    recorded: Recorded = field(init=False)  # Commit

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add the seconds that the block takes to those of the stage."""
        began = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch.

    ``stored`` and ``duplicate`` (messages,) count readings by message. ``headers`` (messages,) are those of the
    messages, empty where none was decoded. ``enqueued`` was put into the outbox. ``seconds`` are those of each stage.
    ``new`` are the readings that are stored for the first time.
    """

    messages: int
    stored: Ints
    duplicate: Ints
    rejected: tuple[Rejected, ...]
    suspect: int
    findings: tuple[Finding, ...]
    opened: int
    seconds: dict[str, float] = field(default_factory=dict)
    headers: Sequence[Header | None] = ()
    enqueued: tuple[EnqueuedEvent, ...] = ()
    new: NewReadings | None = None

    def receipt(self, message: int) -> "Receipt":
        """What became of one message of the batch."""
        rejected = tuple(r for r in self.rejected if r.message == message) if self.rejected else ()
        return Receipt(int(self.stored[message]), int(self.duplicate[message]), rejected)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one message: readings stored, readings that were there already, and what was refused."""

    stored: int
    duplicate: int
    rejected: tuple[Rejected, ...]
