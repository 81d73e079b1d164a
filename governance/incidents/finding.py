"""What a check found out: the noun that ingest hands to governance."""

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


class Kind(StrEnum):
    """Which check speaks."""

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
    """No check of ours: the device says it of itself."""
    FORECAST = "forecast"
    """What has not come yet: informs, and pages nobody until it comes."""
    REPORT = "report"
    """No check: somebody reported it."""


class Change(StrEnum):
    """What happened to the condition the rule watches."""

    FIRED = "fired"
    RESOLVED = "resolved"
    WITHDRAWN = "withdrawn"
    """It rested on readings that turned out to be wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One change of one rule's condition, in event time.

    ``cause`` groups findings into incidents: while an incident of that cause is open, findings are appended to it.
    ``observed_at_ms`` is the reading that decided, ``since_ms`` when the condition began. A ``retrospective`` finding
    comes from data too old to act on: it informs and never pages. ``value`` and ``limit`` are in the canonical unit;
    None where the rule has none (no data). ``text`` is the sentence that explains the decision with its numbers;
    ``headline`` is what it is about in figures, None of what only ends or withdraws something.
    ``message`` is the id of the message that brought the deciding reading; None where no message did (silence).
    ``held``: the condition keeps coming back, so that it ends only after a longer calm. ``explained``: what is known
    already explains it, such as water polluted upstream that arrives; by itself it wakes nobody again. ``turn``: how
    often it was taken back before it was told again (of one that takes back: how often it was told), 0 the first time.
    """

    rule: str
    version: str
    kind: Kind
    change: Change
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
    held: bool = False
    explained: bool = False
    turn: int = 0
    headline: Headline | None = None

    @property
    def id(self) -> str:
        """The same finding has the same id however often it is found: a replay or a restart appends nothing twice."""
        said = identity(
            self.rule, self.change, self.station, self.parameter or "", self.observed_at_ms, self.retrospective
        )
        return f"{said}.{self.turn}" if self.turn else said


def identity(rule: str, change: Change, station: str, parameter: str, observed_at_ms: int, retrospective: bool) -> str:
    """What tells one finding from another."""
    parts = (rule, change, station, parameter, str(observed_at_ms), "past" if retrospective else "live")
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
