"""What a run of faults found."""

from collections import Counter
from dataclasses import dataclass, field

from tests.faults.checks import Reading, Readings
from tests.faults.kinds import KILL_BROKER, Kind

PROGRESS_S = 10.0
"""Within so many seconds after a fault new readings are stored and the API answers."""
MEMORY_MB = 400.0
"""No process of the product may have had more; each begins with about 150 MB of libraries."""
BEFORE_S = 1.5
"""What a broker lost that writes its state once a second was sent shortly before it was killed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that happened: when it began (monotonic seconds), and how long it took afterwards until new progress."""

    kind: Kind
    begun_at: float
    recovered_s: float


@dataclass
class Report:
    """``wrong`` is empty where everything holds. ``events`` and ``texts`` were accepted by the receiver, some again."""

    seed: int
    dialect: str
    left_out: list[str]
    faults: list[Fault] = field(default_factory=list)
    readings: Readings = field(default_factory=Readings)
    sent: int = 0
    redelivered: int = 0
    """Messages that came again, most of them to an ingest that was killed before it acknowledged them."""
    sent_at: dict[tuple[str, int], float] = field(default_factory=dict)
    ended_by_itself: Counter[str] = field(default_factory=Counter)
    peak_mb: dict[str, float] = field(default_factory=dict)
    incidents: int = 0
    events: int = 0
    events_again: int = 0
    texts: int = 0
    texts_again: int = 0
    wrong: list[str] = field(default_factory=list)

    def fault_of(self, reading: Reading) -> str:
        """The kind of the fault that concerns a reading: the last that had begun when it was sent."""
        at = self.sent_at.get((reading[0], reading[2]), 0.0)
        killed = [one for one in self.faults if one.kind is KILL_BROKER and 0 <= one.begun_at - at <= BEFORE_S]
        begun = killed or [one for one in self.faults if one.begun_at <= at]
        return begun[-1].kind.name if begun else ""
