"""The page of an incident: where it stands, what happened, what may be done, whom it was told. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from api.duration import duration
from api.names import by_whom
from api.svg import Place as Spot
from api.svg import Stretch
from governance.incidents.model import Entry, EntryKind, Incident, State
from governance.notify.message import Item
from governance.notify.store import Notice
from governance.notify.wording import item_text
from governance.organisation.roles import PERSON_ROLES, Role
from infra.texts import Text, from_both, say
from ingest.analysis.source_attribution import StoredAttribution
from sensors.network import distance_km, point_at_km
from sensors.source_attribution import PlaceKind
from sensors.stations import Registry

PATH = (
    State.REPORTED,
    State.ACCEPTED,
    State.DISPATCHED,
    State.HANDLING,
    State.HANDLED,
    State.VERIFIED,
    State.CLOSED,
)
"""The straight way of a case; the rest are branches off it."""

UNFOLDED = 2
"""Entries of the system in a row that are all shown."""
SOON = 0.2
"""The part of a limit that is left when its reminder goes out."""

_ENDS = frozenset({State.REJECTED, State.FALSE_ALARM})
"""Where the way ends beside it."""
_STANDS_AT: Mapping[State, State] = {
    State.RETURNED: State.ACCEPTED,
    State.REOPENED: State.REPORTED,
    State.TRANSFERRED: State.DISPATCHED,
    State.REWORK: State.DISPATCHED,
}
"""Up to where on the straight way a case on a branch has come."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A state on the way: ``done``, ``now``, ``ahead`` or ``left out``; who brought it there when, and by when it is
    due where it comes next."""

    state: State
    sort: str
    at_ms: int | None = None
    who: str = ""
    due_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """A state beside the straight way: how often the case was there, when last, and whether it is now."""

    state: State
    count: int = 0
    at_ms: int | None = None
    now: bool = False


@dataclass(frozen=True, slots=True)
class MessageStatus:
    """What became of a message to somebody: read, sent, pending, dead or dropped."""

    name: str
    status: str
    channel: str = ""
    at_ms: int | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of the timeline; ``times`` so many findings in a row that said the same, the newest of them shown.

    ``folded`` are entries of the system that stand behind this one; ``sent_to`` whom a message went to.
    """

    seq: int
    at_ms: int
    who: Text
    role: str
    text: Text
    comment: str = ""
    moved: tuple[State, State] | None = None
    photos: tuple[str, ...] = ()
    measured: tuple[tuple[str, float], ...] = ()
    times: int = 1
    folded: tuple["Line", ...] = ()
    sent_to: tuple[MessageStatus, ...] = ()

    @property
    def by_person(self) -> bool:
        """Whether somebody did or wrote it."""
        return self.role not in ("", "rule", Role.SYSTEM)

    @property
    def remark(self) -> Text:
        """The comment; the system's own are stored in both languages."""
        return from_both(self.comment) if self.role == Role.SYSTEM else Text(self.comment, self.comment)


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """A message: to whom, of what sort, and what became of it when."""

    id: int
    contact: str
    name: str
    kind: str
    text: Text
    status: str
    created_at_ms: int
    due_at_ms: int
    sent_at_ms: int | None
    channel: str
    confirmed_at_ms: int | None
    attempts: int
    error: str
    incidents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A candidate of the trace, likeliest first."""

    rank: int
    name: Text
    share: float
    early_ms: int
    late_ms: int
    reasons: tuple[Text, ...]


BRANCHES = (State.RETURNED, State.TRANSFERRED, State.REWORK, State.REOPENED, State.FALSE_ALARM, State.REJECTED)
"""The states beside the straight way, in the order in which they are drawn."""


def stops(incident: Incident, history: Sequence[Entry]) -> tuple[Stop, ...]:
    """The straight way of the case; one on a branch stands where the branch leaves it."""
    reached = {entry.to_state: entry for entry in history if entry.from_state is not entry.to_state}
    over = not incident.is_open
    here = PATH.index(_STANDS_AT.get(incident.state, incident.state)) if incident.state not in _ENDS else -1
    found = []
    for i, state in enumerate(PATH):
        entry = reached.get(state)
        if over and entry is None:
            found.append(Stop(state, "left out"))
        elif i > here and not over:
            due_ms = incident.case.due_ms if i == here + 1 and incident.case.paused_at_ms is None else None
            found.append(Stop(state, "ahead", due_ms=due_ms))
        else:
            sort = "done" if over or i < here else "now"
            at_ms, who_ = (None, "") if entry is None else (entry.at_ms, _name_of(entry))
            found.append(Stop(state, sort, at_ms, who_))
    return tuple(found)


def branches(incident: Incident, history: Sequence[Entry]) -> tuple[Branch, ...]:
    """Where the case left the straight way, and where it still could."""
    entries = [entry for entry in history if entry.from_state is not entry.to_state]
    found = []
    for state in BRANCHES:
        been = [entry.at_ms for entry in entries if entry.to_state is state]
        found.append(Branch(state, len(been), been[-1] if been else None, incident.state is state))
    return tuple(found)


def _name_of(entry: Entry) -> str:
    return entry.by if entry.role in PERSON_ROLES else ""


def lines(history: Iterable[Entry]) -> tuple[Line, ...]:
    """The timeline, newest first; findings in a row that only say "still so" are one line."""
    found: list[Line] = []
    before: Entry | None = None
    for entry in history:
        same = (
            before is not None
            and entry.what is before.what is EntryKind.FIRED
            and entry.from_state is entry.to_state
            and not entry.comment
        )
        times = found.pop().times + 1 if same else 1
        found.append(
            Line(
                seq=entry.seq,
                at_ms=entry.at_ms,
                who=by_whom(entry),
                role=entry.role,
                text=entry.text,
                comment=entry.comment or "",
                moved=None
                if entry.from_state is None or entry.from_state is entry.to_state
                else (entry.from_state, entry.to_state),
                photos=entry.attachments,
                measured=tuple(entry.measurement.items()),
                times=times,
            )
        )
        before = entry
    return tuple(reversed(found))


def timeline(history: Iterable[Entry], notices: Iterable[NoticeRow], name: Callable[[str], Text]) -> tuple[Line, ...]:
    """Entries and messages, newest first: messages of one minute and sort are one line, and what the system found in
    between folds behind the newest of it. What people did or wrote is never folded. ``name`` words a sort of message.
    """
    merged = sorted((*lines(history), *_messages(notices, name)), key=lambda one: (-one.at_ms, -one.seq))
    found: list[Line] = []
    run: list[Line] = []
    for line in merged:
        if line.by_person or line.sent_to or line.moved:
            found += _folded(run)
            run = []
            found.append(line)
        else:
            run.append(line)
    return tuple(found + _folded(run))


def shown_lines(found: Sequence[Line], most: int) -> tuple[Line, ...]:
    """The newest lines, and of the older ones those of people and the first."""
    older = [line for line in found[most:-1] if line.by_person]
    return (*found[:most], *older, *found[most:][-1:])


def _folded(run: Sequence[Line]) -> list[Line]:
    if len(run) <= UNFOLDED:
        return list(run)
    return [replace(run[0], folded=tuple(run[1:-1])), run[-1]]


def _messages(notices: Iterable[NoticeRow], name: Callable[[str], Text]) -> Iterator[Line]:
    groups: dict[tuple[int, str], list[NoticeRow]] = {}
    for row in notices:
        groups.setdefault((row.created_at_ms // 60_000, row.kind), []).append(row)
    for (_, kind), rows in groups.items():
        statuses = tuple(
            MessageStatus(
                row.name,
                "read" if row.confirmed_at_ms is not None else row.status,
                row.channel,
                row.confirmed_at_ms or row.sent_at_ms,
                row.attempts,
            )
            for row in rows
        )
        at_ms = min(row.created_at_ms for row in rows)
        yield Line(0, at_ms, say("audit_entry.by_riverchief"), "", name(kind), sent_to=statuses)


def time_left(incident: Incident, now_ms: int) -> tuple[str, int]:
    """The sort of the present step's limit (``none``, ``paused``, ``left``, ``soon``, ``over``), and the ms that are
    left of it: negative once it is over, 0 where no clock runs.

    Soon: less than a fifth of the limit is left, as the reminder has it.
    """
    case = incident.case
    if incident.is_open and case.paused_at_ms is not None:
        return "paused", 0
    if not incident.is_open or case.due_ms is None:
        return "none", 0
    left_ms = case.due_ms - now_ms
    if left_ms < 0:
        return "over", left_ms
    return "soon" if left_ms < SOON * (case.due_ms - case.step_since_ms) else "left", left_ms


def deadline(incident: Incident, now_ms: int) -> tuple[str, Text]:
    """The sort and the words of the present step's limit."""
    sort, left_ms = time_left(incident, now_ms)
    if not incident.is_open:
        return sort, say("incident_page.ended")
    match sort:
        case "paused":
            return sort, say("incident_page.paused", reason=say(f"reason.{incident.case.pause_reason}"))
        case "none":
            return sort, say("incident_page.no_deadline")
        case "over":
            return sort, say("incident_page.overdue", time=duration(-left_ms))
        case _:
            return sort, say("incident_page.left", time=duration(left_ms))


def notice_rows(
    notices: Iterable[Notice], found: Mapping[int, Sequence[Item]], name: Callable[[str], str], incident: int = 0
) -> tuple[NoticeRow, ...]:
    """Messages as people read them; of an incident what they said of it, else of their most urgent one."""
    rows = []
    for one in notices:
        items = sorted(found.get(one.id, ()), key=lambda i: (i.incident_id != incident, i.colour.rank))
        if not items:
            continue
        rows.append(
            NoticeRow(
                id=one.id,
                contact=one.contact,
                name=name(one.contact),
                kind=items[0].kind.value,
                text=item_text(items[0]),
                status=one.status,
                created_at_ms=one.created_at_ms,
                due_at_ms=one.due_at_ms,
                sent_at_ms=one.sent_at_ms,
                channel=one.sent_by or "",
                confirmed_at_ms=one.acknowledged_at_ms,
                attempts=one.attempts,
                error=one.last_error or "",
                incidents=tuple(sorted({i.incident_id for i in items if i.incident_id})),
            )
        )
    return tuple(rows)


def sources(traced: StoredAttribution | None, most: int = 5) -> tuple[Source, ...]:
    """The likeliest places, ranked."""
    return tuple(
        Source(rank, c.name, c.probability, c.early_ms, c.late_ms, c.reasons)
        for rank, c in enumerate(traced.candidates[:most] if traced else (), 1)
    )


def where(incident: Incident, registry: Registry, word: Callable[[Text], str]) -> list[Spot] | None:
    """Where an incident lies, with the two stations nearest to it; None where nobody knows."""
    lon, lat = incident.place.lon, incident.place.lat
    if incident.station in registry:
        lon, lat = registry[incident.station].lon, registry[incident.station].lat
    if lon is None or lat is None:
        return None
    near = sorted(registry.stations, key=lambda s: distance_km((lon, lat), (s.lon, s.lat)))[:2]
    others = [Spot((s.lon, s.lat), word(Text(s.zh, s.en)), "station") for s in near if s.key != incident.station]
    return [Spot((lon, lat), f"#{incident.id}", "here"), *others]


def on_the_map(
    traced: StoredAttribution, registry: Registry, word: Callable[[Text], str], most: int = 5
) -> dict[str, Any]:
    """Lines, places and stretches of a sketch: the station, who else saw it, and the candidates with their ranks."""
    lines_ = {reach.key: reach.line for reach in registry.reaches}
    outfalls = {outfall.key: outfall for outfall in registry.outfalls}
    seen = {one.station for one in traced.seen} | {traced.station}
    places = [
        Spot((s.lon, s.lat), word(Text(s.zh, s.en)), "here" if s.key == traced.station else "station")
        for s in registry.stations
        if s.key in seen
    ]
    stretches = []
    for rank, c in enumerate(traced.candidates[:most], 1):
        line = lines_.get(c.reach, ())
        if len(line) < 2:
            continue
        if c.kind is PlaceKind.OUTFALL and c.key in outfalls:
            places.append(Spot(point_at_km(line, outfalls[c.key].km), word(c.name), "likely", rank))
        else:
            stretches.append(Stretch(line, c.from_km, c.to_km, rank))
    return {"lines": [line for line in lines_.values() if len(line) > 1], "places": places, "stretches": stretches}
