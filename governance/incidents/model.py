"""Model of an incident: states, actions, evidence, the incident and its case, history entries. Pure.

Every change of an incident is exactly one history entry: ``Incident.version`` is also the ``seq`` of its newest entry.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from governance.incidents.deadlines import Phase
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.headline import TITLE_MAX_CHARS, Headline, truncated
from governance.incidents.headline import title as title_of
from governance.organisation.regions import NOWHERE, Place
from governance.organisation.roles import Department
from infra.errors import Refused
from infra.texts import Text, say

COMMENT_LIMIT = 4000
"""Characters of a comment."""
DEADLINE_ACTOR = "deadline"
"""Who is named in the record for what a deadline does by itself."""
SYSTEM_ACTOR = "riverchief"
"""Who is named in the record for what the program does by itself."""


class State(StrEnum):
    """State of an incident, from the report to the closed case."""

    REPORTED = "reported"
    ACCEPTED = "accepted"
    DISPATCHED = "dispatched"
    HANDLING = "handling"
    HANDLED = "handled"
    VERIFIED = "verified"
    CLOSED = "closed"
    REJECTED = "rejected"
    RETURNED = "returned"
    TRANSFERRED = "transferred"
    REWORK = "rework"
    REOPENED = "reopened"
    FALSE_ALARM = "false_alarm"


FINAL_STATES = frozenset({State.CLOSED, State.REJECTED, State.FALSE_ALARM})
"""Final states: the same cause opens a new incident, unless this one is reopened."""

PHASE_OF_STATE: Mapping[State, Phase] = {
    State.REPORTED: Phase.ACCEPT,
    State.ACCEPTED: Phase.DISPATCH,
    State.RETURNED: Phase.DISPATCH,
    State.REOPENED: Phase.DISPATCH,
    State.DISPATCHED: Phase.START,
    State.TRANSFERRED: Phase.START,
    State.REWORK: Phase.START,
    State.HANDLING: Phase.HANDLE,
    State.HANDLED: Phase.VERIFY,
    State.VERIFIED: Phase.CLOSE,
}
"""The phase that an open incident waits for: its limit is the deadline of the state."""


class Action(StrEnum):
    """Action of a person on an incident, in the usual order."""

    ACCEPT = "accept"
    REJECT = "reject"
    DISPATCH = "dispatch"
    START = "start"
    RETURN = "return"
    TRANSFER = "transfer"
    CONTRIBUTE = "contribute"
    FINISH = "finish"
    VERIFY = "verify"
    REWORK = "rework"
    CLOSE = "close"
    REOPEN = "reopen"
    FALSE_ALARM = "false_alarm"
    COMMENT = "comment"
    SUPERVISE = "supervise"
    RELEASE = "release"
    PAUSE = "pause"
    RESUME = "resume"
    MERGE = "merge"
    SPLIT = "split"
    EMERGENCY = "emergency"
    EMERGENCY_REPORTED = "emergency_reported"
    EVALUATE = "evaluate"


class EntryKind(StrEnum):
    """Kind of a history entry: what happened."""

    FIRED = "fired"
    RESOLVED = "resolved"
    WITHDRAWN = "withdrawn"
    PROMOTED = "promoted"
    REPORTED = "reported"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DISPATCHED = "dispatched"
    STARTED = "started"
    RETURNED = "returned"
    TRANSFERRED = "transferred"
    CONTRIBUTED = "contributed"
    FINISHED = "finished"
    VERIFIED = "verified"
    REWORKED = "reworked"
    CLOSED = "closed"
    REOPENED = "reopened"
    FALSE_ALARM = "false_alarm"
    COMMENTED = "commented"
    SUPERVISED = "supervised"
    RELEASED = "released"
    PAUSED = "paused"
    RESUMED = "resumed"
    MERGED = "merged"
    ABSORBED = "absorbed"
    SPLIT = "split"
    SPLIT_OFF = "split_off"
    REMINDED = "reminded"
    OVERDUE = "overdue"
    SUCCEEDED = "succeeded"
    EMERGENCY = "emergency"
    EMERGENCY_REPORTED = "emergency_reported"
    EMERGENCY_UNREPORTED = "emergency_unreported"
    CLOCK_CORRECTED = "clock_corrected"
    EVALUATED = "evaluated"
    MOVED = "moved"
    CORRECTED = "corrected"


class Source(StrEnum):
    """Origin of an incident."""

    RULE = "rule"
    EVENT = "event"
    FORECAST = "forecast"
    DEVICE = "device"
    PATROL = "patrol"
    CITIZEN = "citizen"
    HOTLINE = "hotline"
    PERSON = "person"
    PLATFORM = "platform"


class FalseAlarm(StrEnum):
    """Reason of a false alarm; counted for the rule that raised it."""

    SENSOR_FAULT = "sensor_fault"
    MAINTENANCE = "maintenance"
    CALIBRATION = "calibration"
    RULE_TOO_TIGHT = "rule_too_tight"
    NATURAL = "natural"
    DUPLICATE = "duplicate"
    TEST = "test"
    OTHER = "other"


class PauseReason(StrEnum):
    """Reason for pausing a deadline."""

    MAINTENANCE = "maintenance"
    OTHER_DEPARTMENT = "other_department"


class EventType(StrEnum):
    """CloudEvents type of a change."""

    OPENED = "river.incident.opened"
    UPDATED = "river.incident.updated"
    CLOSED = "river.incident.closed"


class Notify(StrEnum):
    """Whether a change pages or only informs."""

    PAGE = "page"
    INFORM = "inform"


class Conflict(Refused):
    """The incident has changed since the caller read it."""


class NotAllowedNow(Refused):
    """The state does not allow it; ``allowed`` is what it would allow this actor."""

    def __init__(self, text: Text, allowed: tuple[Action, ...] = ()) -> None:
        super().__init__(text)
        self.allowed = allowed


class Evidence(StrEnum):
    """Sort of evidence that an action may require."""

    TEXT = "text"
    PHOTO = "photo"
    MEASUREMENT = "measurement"


@dataclass(frozen=True, slots=True)
class Assignment:
    """To whom something is dispatched: grid cell, responsible chief, lead department, joint departments.

    An empty field is nobody; a later assignment keeps what it does not name.
    """

    region: str = ""
    responsible: str = ""
    department: Department | None = None
    joint: tuple[Department, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.region or self.responsible or self.department)


@dataclass(frozen=True, slots=True)
class Order:
    """A requested action with its evidence and arguments.

    ``attachments`` are the ids of stored photos and files; ``measurement`` holds values by parameter, canonical units.
    ``reason`` is the code that a false alarm or a pause needs, ``grade`` (I to IV) that of an emergency, ``score`` (0
    to 100) the evaluation's. ``matter`` is the key of the process that fits (`governance.incidents.dispatch`).
    """

    action: Action
    comment: str | None = None
    attachments: tuple[str, ...] = ()
    measurement: Mapping[str, float] = field(default_factory=dict)
    assignment: Assignment | None = None
    matter: str = ""
    reason: str = ""
    grade: str = ""
    score: float | None = None
    into: int | None = None
    conditions: tuple[tuple[str, str, str], ...] = ()

    @property
    def shown(self) -> frozenset[Evidence]:
        """The sorts of evidence that it brings."""
        found = set()
        if self.comment and self.comment.strip():
            found.add(Evidence.TEXT)
        if self.attachments:
            found.add(Evidence.PHOTO)
        if self.measurement:
            found.add(Evidence.MEASUREMENT)
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Condition:
    """One rule's condition within an incident, in event time (ms); ``parameter`` is '' where the rule has none.

    ``since_ms`` and ``fired_at_ms`` are the newest firing's; ``resolved_at_ms`` is None while active.
    """

    rule: str
    station: str
    parameter: str
    since_ms: int
    fired_at_ms: int
    resolved_at_ms: int | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.rule, self.station, self.parameter

    @property
    def active(self) -> bool:
        return self.resolved_at_ms is None


@dataclass(frozen=True, slots=True)
class Case:
    """The handling of an incident: who is responsible, by when, supervision, emergency, result.

    ``department`` leads and ``joint`` take part; ``contributed`` of these have done theirs. ``handlers`` are all who
    started, finished or did a part of it, in any round: none of them verifies it. ``supervised_level`` is the level
    (`Actor.level`) that put the 督办 on it, None where that is not recorded. ``due_ms`` is the deadline
    of the present state, which began at ``step_since_ms``; ``alert_at_ms`` is when somebody is told next, ``alerts``
    counts how often in this state, ``escalated_to`` is the region it went up to. While ``paused_at_ms`` is given the
    deadline does not run. An ``emergency`` (its grade) that ``emergency_by`` declared is reported upwards by
    ``emergency_due_ms``; until then it is called out at ``emergency_alert_at_ms``, so far ``emergency_calls`` times
    since. ``merged_into`` names the incident that goes on in its place.
    """

    source: Source = Source.RULE
    matter: str = ""
    responsible: str = ""
    department: Department | None = None
    joint: tuple[Department, ...] = ()
    contributed: tuple[Department, ...] = ()
    handler: str = ""
    handlers: tuple[str, ...] = ()
    verifier: str = ""
    step_since_ms: int = 0
    due_ms: int | None = None
    alert_at_ms: int | None = None
    alerts: int = 0
    escalated_to: str = ""
    paused_at_ms: int | None = None
    pause_reason: str = ""
    supervised_at_ms: int | None = None
    supervised_by: str = ""
    supervised_level: int | None = None
    emergency: str = ""
    emergency_by: str = ""
    emergency_due_ms: int | None = None
    emergency_alert_at_ms: int | None = None
    emergency_calls: int = 0
    emergency_reported_at_ms: int | None = None
    merged_into: int | None = None
    reason: str = ""
    score: float | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """An incident at one version. All times ms UTC; ``id`` is 0 until stored.

    The headline (kind, station, parameter, title, headline, rule, value, limit, ``observed_at_ms``) is that of the
    finding that gave the incident its colour; ``headline`` is None of what people report. ``since_ms`` and
    ``last_observed_at_ms`` span everything found so far.
    """

    id: int
    cause: str
    open_cause: str | None
    state: State
    colour: Colour
    kind: FindingKind
    retrospective: bool = False
    station: str = ""
    parameter: str | None = None
    title: Text
    rule: str = ""
    rule_version: str = ""
    value: float | None = None
    limit: float | None = None
    observed_at_ms: int
    since_ms: int
    last_observed_at_ms: int
    opened_at_ms: int
    accepted_at_ms: int | None = None
    accepted_by: str | None = None
    recovered_at_ms: int | None = None
    closed_at_ms: int | None = None
    version: int = 1
    conditions: tuple[Condition, ...] = ()
    place: Place = NOWHERE
    case: Case = Case()
    headline: Headline | None = None

    def titled(
        self,
        present: float | None = None,
        place: Text | None = None,
        most_chars: Mapping[str, int] = TITLE_MAX_CHARS,
    ) -> Text:
        """The title; of an open incident with the ``present`` value of its lead parameter.

        ``place`` is where somebody reported it from: the title of a report does not name it.
        """
        if self.headline is not None:
            return title_of(self.headline, present if self.shows_present else None, most_chars)
        where = place if place is not None and self.kind is FindingKind.REPORT else Text("", "")
        zh, en = f"{where.zh} {self.title.zh}".strip(), f"{where.en}: {self.title.en}".removeprefix(": ")
        return Text(truncated(zh, most_chars["zh"]), truncated(en, most_chars["en"]))

    @property
    def leading(self) -> tuple[str, str] | None:
        """Station and parameter whose present value the title shows; None where it shows none."""
        return self.headline.leading if self.headline is not None and self.shows_present else None

    @property
    def shows_present(self) -> bool:
        """Whether what is measured now still belongs to it."""
        return self.is_open and not self.retrospective

    @property
    def is_open(self) -> bool:
        return self.state not in FINAL_STATES

    @property
    def causes(self) -> tuple[str, ...]:
        """The causes whose findings it takes: its own, and those of incidents merged into it or split from."""
        return (self.cause, *self.case.also)

    @property
    def active(self) -> tuple[Condition, ...]:
        """The conditions that have not been resolved."""
        return tuple(c for c in self.conditions if c.active)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history: ``at_ms`` is the wall clock, ``observed_at_ms`` event time, None for what people did."""

    seq: int
    at_ms: int
    observed_at_ms: int | None
    what: EntryKind
    by: str
    from_state: State | None
    to_state: State
    text: Text
    finding_id: str | None = None
    comment: str | None = None
    value: float | None = None
    limit: float | None = None
    role: str = ""
    attachments: tuple[str, ...] = ()
    measurement: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effects:
    """What the store writes of one change: history entry, outward event, conditions touched and removed (``gone``).

    ``repeats``: one more finding after which state, colour and kind are the same, so that any later event of the
    incident supersedes this one.
    """

    entry: Entry
    event: EventType
    notify: Notify
    conditions: tuple[Condition, ...] = ()
    gone: tuple[tuple[str, str, str], ...] = ()
    repeats: bool = False


def action_name(action: Action) -> Text:
    """The name of an action as people read it."""
    return say(f"action.{action}")


def action_names(actions: Iterable[Action]) -> Text:
    """The names of actions as one list; "nothing" for none."""
    return listed([action_name(action) for action in actions] or [say("incident.nothing")])


def listed(texts: Iterable[Text]) -> Text:
    """Texts as a list in one line."""
    both = list(texts)
    return Text("、".join(one.zh for one in both), ", ".join(one.en for one in both))


def unique(names: tuple[str, ...], *others: str) -> tuple[str, ...]:
    """The names and the others, each once, in this order."""
    return tuple(dict.fromkeys((*names, *others)))


def with_condition(conditions: tuple[Condition, ...], condition: Condition) -> tuple[Condition, ...]:
    """The conditions with this one added or replaced, the order of the others kept."""
    merged = {c.key: c for c in conditions} | {condition.key: condition}
    return tuple(merged.values())


def recovery_time_ms(conditions: Iterable[Condition]) -> int | None:
    """When the last of the conditions ended; None while one is active, and of none."""
    ends = [c.resolved_at_ms for c in conditions]
    return max((e for e in ends if e is not None), default=None) if None not in ends else None
