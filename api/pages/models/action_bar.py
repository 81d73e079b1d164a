"""What somebody may do with an incident, legal actions first, and why the other steps are closed. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from api.pages.models.incident_actions import BUTTONS, Asks, Evidences, Need, asks
from governance.incidents import lifecycle
from governance.incidents.attachments import Attachment
from governance.incidents.deadlines import Phase
from governance.incidents.lifecycle import ADVANCING_ACTIONS, TABLE, TRANSITIONS
from governance.incidents.model import PHASE_OF_STATE, Action, Condition, Entry, EntryKind, Incident, State
from governance.organisation.regions import Regions
from governance.organisation.roles import Actor, Department, Role
from governance.organisation.terms import Appointment
from governance.people.store import Person
from infra.texts import Text, say

KEYS: Mapping[Action, str] = {Action.ACCEPT: "a", Action.DISPATCH: "d", Action.COMMENT: "c"}
"""The keys that open or do them."""
AT_ONCE = frozenset({Action.ACCEPT, Action.START, Action.RESUME, Action.RELEASE})
"""Actions that need no input: one button."""
ENDING = frozenset({Action.REJECT, Action.FALSE_ALARM})
STEPS = (
    Action.ACCEPT,
    Action.DISPATCH,
    Action.START,
    Action.RETURN,
    Action.TRANSFER,
    Action.FINISH,
    Action.VERIFY,
    Action.CLOSE,
)
"""Actions that are named with a reason while they are closed."""
_ENDS_WITH: Mapping[Action, Phase] = {
    Action.ACCEPT: Phase.ACCEPT,
    Action.DISPATCH: Phase.START,
    Action.START: Phase.START,
    Action.RETURN: Phase.HANDLE,
    Action.TRANSFER: Phase.HANDLE,
    Action.FINISH: Phase.HANDLE,
    Action.VERIFY: Phase.VERIFY,
    Action.CLOSE: Phase.CLOSE,
}
"""The last phase in which an action may still come; after it nobody asks for it."""
_AFTER: Mapping[Action, Action] = {
    Action.DISPATCH: Action.ACCEPT,
    Action.START: Action.DISPATCH,
    Action.RETURN: Action.DISPATCH,
    Action.TRANSFER: Action.DISPATCH,
    Action.FINISH: Action.START,
    Action.VERIFY: Action.FINISH,
    Action.CLOSE: Action.VERIFY,
}
"""What comes before an action on the straight way."""
UNDONE_BY: Mapping[Action, Action] = {
    Action.FALSE_ALARM: Action.REOPEN,
    Action.REJECT: Action.REOPEN,
    Action.CLOSE: Action.REOPEN,
    Action.VERIFY: Action.REWORK,
    Action.SUPERVISE: Action.RELEASE,
    Action.PAUSE: Action.RESUME,
}
"""What takes an action back; both stay in the history."""
BY_MACHINE = frozenset(
    {
        EntryKind.FIRED,
        EntryKind.RESOLVED,
        EntryKind.PROMOTED,
        EntryKind.REMINDED,
        EntryKind.OVERDUE,
        EntryKind.EMERGENCY_UNREPORTED,
        EntryKind.CLOCK_CORRECTED,
    }
)
"""Changes that nobody made and that decide nothing: what somebody typed meanwhile still holds."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An action that is open: what it asks, whether it is the next step, whether its form is open.

    ``elsewhere``: it needs photos or a choice that the incident's own page has.
    """

    action: Action
    asks: Asks
    main: bool
    elsewhere: bool

    @property
    def key(self) -> str:
        return KEYS.get(self.action, "")

    @property
    def at_once(self) -> bool:
        return self.action in AT_ONCE

    @property
    def ends(self) -> bool:
        return self.action in ENDING


@dataclass(frozen=True, slots=True)
class Closed:
    """An action that is not open now, and why."""

    action: Action
    why: Text


@dataclass(frozen=True, slots=True)
class Given:
    """What stands in a form, as somebody sent it."""

    action: str = ""
    version: int = 0
    region: str = ""
    responsible: str = ""
    other: str = ""
    department: str = ""
    joint: tuple[str, ...] = ()
    matter: str = ""
    comment: str = ""
    reason: str = ""
    name: str = ""
    attachments: tuple[str, ...] = ()
    parameter: str = ""
    value: str = ""
    grade: str = ""
    score: str = ""
    into: str = ""
    conditions: tuple[str, ...] = ()
    previewed: str = ""

    @property
    def chosen(self) -> str:
        """What a merge or a split is about; its result has to be shown for just this before it is done."""
        return self.into if self.action == Action.MERGE else ",".join(self.conditions)

    @property
    def person(self) -> str:
        """The chief that was chosen."""
        return self.other if self.responsible == "*" else self.responsible


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who can be made responsible: ``place`` and code of the ``region`` of their office, their open cases.

    ``reach``: ``ok``, ``none`` (no channel), ``failed`` (the newest message did not arrive) or "" (unknown).
    """

    name: str
    role: Role
    place: Text
    open: int
    reach: str
    suggested: bool
    region: str = ""


@dataclass(frozen=True, slots=True)
class To:
    """To whom it may go: candidates near the place and everybody else, regions (with depth), processes, departments."""

    candidates: tuple[Candidate, ...] = ()
    others: tuple[str, ...] = ()
    regions: tuple[tuple[str, Text, int], ...] = ()
    matters: tuple[tuple[str, Text], ...] = ()
    departments: tuple[Department, ...] = tuple(Department)


@dataclass(frozen=True, slots=True)
class Choices:
    """What the forms of the incident's own page offer: incidents to merge into, conditions to split off (by their
    place), parameters that can be measured; ``photos`` are kept already, ``preview`` says what would come of it.
    """

    targets: tuple[tuple[int, Text], ...] = ()
    conditions: tuple[Text, ...] = ()
    measurable: tuple[tuple[str, Text], ...] = ()
    photos: tuple[Attachment, ...] = ()
    preview: Text | None = None


@dataclass(frozen=True, slots=True)
class ActionBar:
    """All that the component shows. ``given`` is what was typed, by the action whose form is open.

    ``refused`` says why it was not done, ``wrong`` what is wrong with a field, ``meanwhile`` what others did since the
    form was drawn. Without ``choices`` what needs photos or a choice leads to the incident's own page.
    """

    incident: Incident
    offers: tuple[Offer, ...]
    closed: tuple[Closed, ...]
    to: To | None
    given: Given
    suggested: Given
    opened: str = ""
    refused: Text | None = None
    meanwhile: Sequence[Entry] = field(default=())
    by_name: bool = False
    choices: Choices | None = None
    wrong: Mapping[str, tuple[Text, ...]] = field(default_factory=dict)
    undo: Action | None = None

    def filled(self, action: Action) -> Given:
        """What the form of an action begins with."""
        if self.given.action == action:
            return self.given
        return self.suggested if action is Action.DISPATCH else Given()


def offers(incident: Incident, actor: Actor, needs: Evidences | None = None) -> tuple[Offer, ...]:
    """What is open to somebody, the next step first; ``needs`` is the evidence that the process asks of finishing."""
    open_now = set(lifecycle.allowed(incident, actor))
    again = incident.state in (State.DISPATCHED, State.TRANSFERRED)
    found: list[Offer] = []
    for action in (one for one in BUTTONS if one in open_now):
        asked = asks(incident, action, needs)
        elsewhere = (
            bool(asked.into or asked.conditions or asked.score or asked.grades or asked.departments)
            or asked.proof is Need.REQUIRED
        )
        leads = action in ADVANCING_ACTIONS and not (again and action is Action.DISPATCH)
        found.append(Offer(action, asked, leads and not any(one.main for one in found), elsewhere))
    return tuple(sorted(found, key=lambda one: not one.main))


def closed(incident: Incident, actor: Actor, name: Callable[[Condition], Text] | None = None) -> tuple[Closed, ...]:
    """The steps that are closed to somebody now and may still come, and why; ``name`` words a condition."""
    open_now = set(lifecycle.allowed(incident, actor))
    phase = PHASE_OF_STATE.get(incident.state)
    if phase is None:
        return ()
    order = tuple(Phase)
    ahead = (one for one in STEPS if order.index(_ENDS_WITH[one]) >= order.index(phase))
    refused = lifecycle.refusals(incident, actor)
    if name is not None and Action.CLOSE in refused and incident.active:
        names = tuple(dict.fromkeys(name(one) for one in incident.active))
        listed_ = Text("、".join(one.zh for one in names[:2]), ", ".join(one.en for one in names[:2]))
        refused[Action.CLOSE] = say("action_bar.still_active", count=len(incident.active), conditions=listed_)
    return tuple(Closed(one, _why(incident, one, actor, refused)) for one in ahead if one not in open_now)


def why_closed(incident: Incident, action: Action, actor: Actor) -> Text | None:
    """Why one action is not open to somebody; None where it is."""
    if action in lifecycle.allowed(incident, actor):
        return None
    return _why(incident, action, actor, lifecycle.refusals(incident, actor))


def _why(incident: Incident, action: Action, actor: Actor, refused: Mapping[Action, Text]) -> Text:
    """Why an action is closed, in a few words."""
    right = lifecycle.right_of(action)
    if not actor.may(right):
        return say("action_bar.no_right", right=say(f"right.{right}"))
    if not lifecycle.in_jurisdiction(incident, actor):
        return say("action_bar.elsewhere")
    if (incident.state, action) not in TRANSITIONS and action in _AFTER:
        return say("action_bar.after", action=say(f"action.{_AFTER[action]}"))
    if action in refused:
        return refused[action]
    return say("action_bar.not_you")


def decisive(history: Iterable[Entry], given: Given) -> tuple[Entry, ...]:
    """What people did to an incident since a form was drawn; a remark does not depend on it."""
    if given.action == Action.COMMENT:
        return ()
    return tuple(one for one in history if one.seq > given.version and one.what not in BY_MACHINE)


def missing(offer: Offer, given: Given) -> dict[str, tuple[Text, ...]]:
    """What a form lacks, by field."""
    found: dict[str, tuple[Text, ...]] = {}
    asked = offer.asks
    if asked.comment is Need.REQUIRED and not given.comment:
        found["comment"] = (say("action_bar.needs_comment"),)
    if asked.reasons and not given.reason:
        found["reason"] = (say("action_bar.needs_reason"),)
    if asked.proof is Need.REQUIRED and not given.attachments and not given.value:
        found["photo"] = (say("action_bar.needs_proof"),)
    if asked.departments and not given.department:
        found["department"] = (say("action_bar.needs_choice"),)
    for name, value in (("value", given.value), ("score", given.score)):
        if value and number(value) is None:
            found[name] = (say("action_bar.needs_number", value=value[:20]),)
    if asked.score and not given.score:
        found["score"] = (say("action_bar.needs_choice"),)
    if given.value and not given.parameter:
        found["value"] = (say("action_bar.needs_parameter"),)
    return found


def number(text: str) -> float | None:
    """A number as people type it; None for what is none."""
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if isfinite(value) else None


def done_already(history: Iterable[Entry], given: Given, by: str) -> bool:
    """Whether a form that is sent again has been taken: an entry since the version it was drawn with is its own."""
    row = next((row for row in TABLE if row.action == given.action), None)
    own = None if row is None else (row.what, by.strip(), given.comment.strip())
    return any((one.what, one.by, one.comment or "") == own for one in history if one.seq > given.version)


def candidates(
    incident: Incident,
    suggested: str,
    terms: Iterable[Appointment],
    people: Iterable[Person],
    regions: Regions,
    now_ms: int,
) -> list[tuple[str, Role, str]]:
    """Who answers for the place, as (name, role, region): the suggestion, then from the cell upwards; no ranking."""
    way = regions.up(incident.place.region)
    known = {one.name: one for one in people}
    found: dict[str, tuple[str, Role, str]] = {}
    held = [term for term in terms if term.in_force(now_ms) and term.role in (Role.CHIEF, Role.GENERAL_CHIEF)]
    for code in way:
        for term in held:
            if term.region == code and term.reach in ("", incident.place.reach):
                found.setdefault(term.name, (term.name, term.role, code))
        for one in known.values():
            if one.role is Role.GRID_WORKER and one.region == code:
                found.setdefault(one.name, (one.name, one.role, code))
    if suggested and suggested not in found:
        role = known[suggested].role if suggested in known else Role.CHIEF
        found[suggested] = (suggested, role, incident.place.region)
    return sorted(found.values(), key=lambda one: one[0] != suggested)


def reach_of(has_channel: bool, failed: Collection[str], key: str) -> str:
    """Whether a message would arrive: ``none`` without a channel, ``failed`` where the newest one did not."""
    return "none" if not has_channel else "failed" if key in failed else "ok"
