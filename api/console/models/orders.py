"""What a dialog asks for before somebody acts on an incident, from the same table that judges the action. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from governance.deadlines import EMERGENCY
from governance.incident import Action, Evidence, FalseAlarm, Incident, PauseReason
from governance.lifecycle import CARRIES_ON, STEPS, Step


class Need(StrEnum):
    """Whether a field is there, and whether it must be filled in."""

    NO = "no"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Asks:
    """The fields of a dialog; ``reasons`` are the codes to choose from, ``conditions`` those that can be split off.

    ``departments``: of several that have not done their part yet, the one that has to be named.
    """

    comment: Need
    proof: Need
    reasons: tuple[str, ...] = ()
    grades: tuple[str, ...] = ()
    to: bool = False
    into: bool = False
    score: bool = False
    conditions: tuple[tuple[str, str, str], ...] = ()
    departments: tuple[str, ...] = ()


_SHOWS_MORE = frozenset(
    {Action.COMMENT, Action.VERIFY, Action.REWORK, Action.RETURN, Action.REOPEN, Action.EMERGENCY, Action.SUPERVISE}
)
"""Actions that may bring a photo or a measurement though they need not."""

BUTTONS = (
    *CARRIES_ON,
    Action.REOPEN,
    Action.COMMENT,
    Action.RESUME,
    Action.REWORK,
    Action.RETURN,
    Action.TRANSFER,
    Action.PAUSE,
    Action.REJECT,
    Action.FALSE_ALARM,
    Action.SUPERVISE,
    Action.RELEASE,
    Action.MERGE,
    Action.SPLIT,
    Action.EMERGENCY,
    Action.EVALUATE,
)
"""All actions in the order of a row: first what carries the case on."""

ON = frozenset((*CARRIES_ON, Action.REOPEN))
"""What carries a case on; the rest is quieter."""
_ALSO = (Action.REWORK, Action.RETURN, Action.REJECT, Action.FALSE_ALARM)
IN_A_ROW = (*CARRIES_ON, *_ALSO)
"""What a row of a list offers; the incident's page offers everything."""


def asks(incident: Incident, action: Action) -> Asks:
    """What to ask before ``action``; raises KeyError for one that the state does not know."""
    step: Step = STEPS[incident.state, action]
    text = any(kinds == {Evidence.TEXT} for kinds in step.evidence)
    waiting = tuple(str(d) for d in incident.case.joint if d not in incident.case.contributed)
    shown = any(Evidence.TEXT not in kinds for kinds in step.evidence)
    return Asks(
        comment=Need.REQUIRED if text else Need.OPTIONAL,
        proof=Need.REQUIRED if shown else Need.OPTIONAL if action in _SHOWS_MORE else Need.NO,
        reasons=tuple(_REASONS.get(action, ())),
        grades=tuple(EMERGENCY) if action is Action.EMERGENCY else (),
        to=action in (Action.DISPATCH, Action.TRANSFER),
        into=action is Action.MERGE,
        score=action is Action.EVALUATE,
        conditions=tuple(c.key for c in incident.conditions) if action is Action.SPLIT else (),
        departments=waiting if action is Action.CONTRIBUTE and len(waiting) > 1 else (),
    )


_REASONS = {Action.FALSE_ALARM: tuple(FalseAlarm), Action.PAUSE: tuple(PauseReason)}
