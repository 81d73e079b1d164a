"""The page of an incident: where it stands, what happened, what may be done, whom it was told. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.duration import duration
from api.names import by_whom
from api.svg import Place as Spot
from api.svg import Stretch
from governance.incidents.attachments import Attachment
from governance.incidents.dispatch import Process
from governance.incidents.model import Action, Entry, EntryKind, Incident, State
from governance.notify.message import Item
from governance.notify.store import Notice
from governance.notify.wording import item_text
from governance.reports.citizen_reports import Report
from governance.verification.comparison import Difference
from infra.texts import Text, say
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

SOON = 0.2
"""The part of a limit that is left when its reminder goes out."""

_STANDS_AT: Mapping[State, State] = {
    State.RETURNED: State.ACCEPTED,
    State.REOPENED: State.REPORTED,
    State.TRANSFERRED: State.DISPATCHED,
    State.REWORK: State.DISPATCHED,
}
"""Up to where on the straight way a case on a branch has come."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A state on the way: ``done``, ``now`` or ``ahead``; ``at_ms`` when it was last reached."""

    state: State
    sort: str
    at_ms: int | None


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of the timeline; ``times`` so many findings in a row that said the same, the newest of them shown."""

    seq: int
    at_ms: int
    who: Text
    role: str
    text: Text
    comment: str
    moved: tuple[State, State] | None
    photos: tuple[str, ...]
    measured: tuple[tuple[str, float], ...]
    times: int


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


@dataclass(frozen=True, slots=True)
class CasePage:
    """What the page shows. ``notices`` None: not for who looks; ``trace`` None: there is no source to be traced.

    ``audited``: the trail has entries of it, and who looks may read them. ``differences``: where the database is not
    what the trail says.
    """

    incident: Incident
    name: Text | None
    region: Text | None
    reach: tuple[str, Text] | None
    stops: tuple[Stop, ...]
    lines: tuple[Line, ...]
    allowed: tuple[Action, ...]
    hindered: tuple[tuple[Action, Text], ...]
    files: tuple[Attachment, ...]
    notices: tuple[NoticeRow, ...] | None
    reports: tuple[Report, ...]
    similar: tuple[Incident, ...]
    process: Process | None
    trace: StoredAttribution | None
    sources: tuple[Source, ...]
    audited: bool
    differences: tuple[Difference, ...]


def stops(incident: Incident, history: Sequence[Entry]) -> tuple[Stop, ...]:
    """The way of the case: the straight one, with the branch it is on in its place."""
    reached = {entry.to_state: entry.at_ms for entry in history if entry.from_state is not entry.to_state}
    state = incident.state
    if state in PATH:
        here = PATH.index(state)

        def sort(i: int) -> str:
            return "done" if i < here or not incident.is_open else "now" if i == here else "ahead"

        return tuple(Stop(one, sort(i), reached.get(one) if i <= here else None) for i, one in enumerate(PATH))
    if not incident.is_open:  # rejected, false alarm: the way ends here
        been = [one for one in PATH if one in reached]
        return (*(Stop(one, "done", reached[one]) for one in been), Stop(state, "done", reached.get(state)))
    here = PATH.index(_STANDS_AT[state])
    before = tuple(Stop(one, "done", reached.get(one)) for one in PATH[: here + 1])
    after = tuple(Stop(one, "ahead", None) for one in PATH[here + 1 :])
    return (*before, Stop(state, "now", reached.get(state)), *after)


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
