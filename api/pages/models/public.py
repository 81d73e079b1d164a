"""What the public is told of a water and of a report: no names but the chiefs', no words of others. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from governance.incidents.finding import Colour
from governance.incidents.model import Entry, EntryKind, Incident, State
from infra.texts import say
from ingest.analysis.live_classes import ShownClass

KINDS: Mapping[str, str] = {"smell": "discharge", "litter": "litter", "outfall": "discharge", "shore": "occupation"}
"""What people see, and the process that fits; anything else the office sorts."""
STAGES = ("received", "working", "result")
_STAGE: Mapping[State, int] = {State.REPORTED: 0} | dict.fromkeys(
    (State.HANDLED, State.VERIFIED, State.CLOSED, State.REJECTED, State.FALSE_ALARM), 2
)
_STEPS: Mapping[EntryKind, str] = {
    EntryKind.FIRED: "found",
    EntryKind.PROMOTED: "found",
    EntryKind.REPORTED: "received",
    EntryKind.ACCEPTED: "accepted",
    EntryKind.DISPATCHED: "dispatched",
    EntryKind.STARTED: "started",
    EntryKind.FINISHED: "finished",
    EntryKind.REWORKED: "reworked",
    EntryKind.CLOSED: "closed",
    EntryKind.REJECTED: "refused",
    EntryKind.FALSE_ALARM: "refused",
    EntryKind.REOPENED: "reopened",
}
"""What of a case the public is told, by the name of its sentence."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was done, and when: ``key`` names its sentence."""

    key: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Known:
    """A problem that somebody reported already, by its kind (a process key, "" for none) and when."""

    number: int
    matter: str
    at_ms: int
    done_ms: int | None
    working: bool


def worded(kind: str, text: str) -> str:
    """What goes into the record: what kind of thing it is, in words, and what was typed."""
    named = say(f"citizen.kind_{kind}").zh if kind in (*KINDS, "other") else ""
    text = text.strip()
    return text if kind == "other" else "：".join(part for part in (named, text) if part)


def matter_of(kind: str, known: Iterable[str]) -> str:
    """The key of the process that fits what was seen; "" where the site has none."""
    matter = KINDS.get(kind, "")
    return matter if matter in set(known) else ""


def stage(state: State) -> int:
    """How far a report has come: an index of ``STAGES``."""
    return _STAGE.get(state, 1)


def steps(history: Iterable[Entry]) -> list[Step]:
    """What was done in a case, newest first; each kind at its first time since it was opened last."""
    found: list[Step] = []
    for entry in history:
        key = _STEPS.get(entry.what)
        if key == "reopened":
            found = [one for one in found if one.key in ("received", "found")]
        if key is not None and all(one.key != key for one in found):
            found.append(Step(key, entry.at_ms))
    return found[::-1]


def known(case: Incident) -> Known:
    """A reported problem as others may read of it."""
    done_ms = case.closed_at_ms if case.state is State.CLOSED else None
    return Known(case.id, case.case.matter, case.opened_at_ms, done_ms, stage(case.state) > 0)


def alarm(live: ShownClass | None, going_on: Sequence[Incident]) -> tuple[str, int | None]:
    """The most urgent colour that goes on at a water and since when; ``calm`` where none does; "" where that is not
    known: no data is no good news."""
    if going_on:
        worst = min((one.colour for one in going_on), key=lambda one: one.rank)
        return worst.value, min(one.since_ms for one in going_on if one.colour is worst)
    if live is not None and live.water_class is not None and live.silent < live.stations:
        return "calm", None
    return "", None


def is_warning(colour: str) -> bool:
    """Whether the page begins with a warning: the water is not as usual, and contact may harm."""
    return colour in (Colour.RED, Colour.ORANGE, Colour.YELLOW)
