"""Finding: one change of a rule's condition, which ingest passes to governance. Pure."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from governance.incidents.headline import Headline
from infra.texts import Text


class Colour(StrEnum):
    """Urgency (轻重缓急), most urgent first."""

    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    BLUE = "blue"

    @property
    def rank(self) -> int:
        """0 is the most urgent."""
        return list(Colour).index(self)


class FindingKind(StrEnum):
    """Kind of the check that made the finding."""

    THRESHOLD = "threshold"
    TREND = "trend"
    NO_DATA = "no_data"
    RATE = "rate"
    CLASS = "class"
    TARGET = "target"
    BLACK_ODOROUS = "black_odorous"
    DAILY_PATTERN = "daily_pattern"
    EVENT = "event"
    DEVICE = "device"
    """No check of this program: the device reports it."""
    FORECAST = "forecast"
    """Expected, not observed: informs, and pages nobody."""
    REPORT = "report"
    """Reported by a person."""


class ConditionChange(StrEnum):
    """Change of the condition that a rule watches."""

    FIRED = "fired"
    RESOLVED = "resolved"
    WITHDRAWN = "withdrawn"
    """The readings that it rested on turned out to be wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One change of one rule's condition, in event time.

    ``cause`` groups findings into incidents: while an incident of that cause is open, findings are appended to it.
    ``observed_at_ms`` is the reading that decided, ``since_ms`` when the condition began. A ``retrospective`` finding
    comes from data too old to act on: it informs and never pages. ``value`` and ``limit`` are in the canonical unit;
    None where the rule has none (no data). ``text`` is the sentence that explains the decision with its numbers;
    ``headline`` is what it is about in figures, None where it only ends or withdraws something.
    ``message`` is the id of the message that brought the deciding reading; None where no message did (silence).
    ``flapping``: the condition ends only after a longer calm. ``explained``: a known cause explains
    it, such as polluted water arriving from upstream; it pages nobody again. ``turn``: how often the finding was
    withdrawn before this record (of a withdrawal: how often it was recorded), 0 the first time.
    """

    rule: str
    version: str
    kind: FindingKind
    change: ConditionChange
    cause: str
    station: str
    observed_at_ms: int
    since_ms: int
    colour: Colour
    text: Text
    parameter: str | None = None
    value: float | None = None
    limit: float | None = None
    retrospective: bool = False
    message: str | None = None
    flapping: bool = False
    explained: bool = False
    turn: int = 0
    headline: Headline | None = None

    @property
    def id(self) -> str:
        """The same for the same finding: a replay or a restart records nothing twice."""
        base = finding_id(
            self.rule, self.change, self.station, self.parameter or "", self.observed_at_ms, self.retrospective
        )
        return f"{base}.{self.turn}" if self.turn else base


def finding_id(
    rule: str, change: ConditionChange, station: str, parameter: str, observed_at_ms: int, retrospective: bool
) -> str:
    """The id of a finding: a hash of what distinguishes it from others."""
    parts = (rule, change, station, parameter, str(observed_at_ms), "past" if retrospective else "live")
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
