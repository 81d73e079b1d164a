"""Plan the messages of an event: content, recipients, times and who has to confirm. Pure.

`plan_notices` turns events of the outbox into a plan, `plan_escalation` an incident that nobody confirmed in time. The
messenger reads what they need and writes what they plan.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from governance.incidents import finding
from governance.incidents.finding import Colour
from governance.incidents.headline import Headline, headline_from_json
from governance.incidents.model import FINAL_STATES, PHASE_OF_STATE, Incident, State
from governance.notify.contacts import Directory, Place
from governance.notify.message import CALL_KINDS, FOLLOW_UP_KINDS, HANDLER_KINDS, Item, NoticeKind, NoticeRequest
from governance.notify.policy import STALE_MS, NoticePolicy
from infra.texts import Text
from infra.times import to_ms

REGION_KEY_PREFIX = "@"
"""Before a region's code where a station's key may stand, too."""
UNCONFIRMED_STATES = frozenset({State.REPORTED, State.REOPENED})
"""States in which no confirmation has been given yet."""

_KINDS: Mapping[str, NoticeKind] = {
    "reported": NoticeKind.OPENED,
    "promoted": NoticeKind.PROMOTED,
    "reopened": NoticeKind.REOPENED,
    "dispatched": NoticeKind.DISPATCHED,
    "transferred": NoticeKind.DISPATCHED,
    "reworked": NoticeKind.DISPATCHED,
    "succeeded": NoticeKind.DISPATCHED,
    "reminded": NoticeKind.REMINDER,
    "overdue": NoticeKind.OVERDUE,
    "supervised": NoticeKind.SUPERVISED,
    "emergency": NoticeKind.EMERGENCY,
    "emergency_unreported": NoticeKind.EMERGENCY,
    "withdrawn": NoticeKind.WITHDRAWN,
    "rejected": NoticeKind.CLOSED,
    "closed": NoticeKind.CLOSED,
    "false_alarm": NoticeKind.CLOSED,
}
"""The message of an entry of the history, where the entry alone decides."""

_SETTLING = frozenset(
    {
        "accepted",
        "rejected",
        "dispatched",
        "started",
        "returned",
        "transferred",
        "contributed",
        "finished",
        "verified",
        "reworked",
        "closed",
        "false_alarm",
        "absorbed",
        "paused",
    }
)
"""Actions of a person who has seen the incident: it calls nobody until it is raised anew."""


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """An event of the outbox: its incident, whether it pages, when it was put there, and its CloudEvents ``data``."""

    incident_id: int
    notify: str
    created_at_ms: int
    data: Mapping[str, Any]

    @property
    def kind(self) -> NoticeKind | None:
        return kind_of(self.data, self.notify)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What planning depends on beside the events.

    ``duty`` are the contacts on call by rank. ``places`` are by `place_keys`. ``states`` are the present ones of
    the incidents. ``baseless`` incidents rest on withdrawn findings alone. ``called`` and ``informed`` are the contacts
    that were called for an incident, and those that got any message about it.
    """

    now_ms: int
    policy: NoticePolicy
    directory: Directory
    duty: Sequence[Sequence[str]]
    places: Mapping[str, Place]
    states: Mapping[int, str] = field(default_factory=dict)
    baseless: Collection[int] = ()
    called: Mapping[int, Sequence[str]] = field(default_factory=dict)
    informed: Mapping[int, Sequence[str]] = field(default_factory=dict)

    @property
    def on_duty(self) -> frozenset[str]:
        """Who of the office is called first now."""
        return frozenset(key for keys in self.directory.office(self.duty)[:1] for key in keys)


@dataclass(slots=True)
class NoticePlan:
    """What to write: the messages wanted, the incidents to be confirmed by (colour, ms), and those settled."""

    requests: list[NoticeRequest] = field(default_factory=list)
    watched: dict[int, tuple[Colour, int]] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)

    def settle(self, incident_id: int) -> None:
        """A person has seen the incident: it calls nobody."""
        self.settled.add(incident_id)
        self.watched.pop(incident_id, None)
        self.requests = [
            one for one in self.requests if one.item.incident_id != incident_id or one.item.kind not in CALL_KINDS
        ]


def plan_notices(events: Sequence[OutboxEvent], now: Circumstances) -> NoticePlan:
    """Plan the messages of some events, in their order."""
    plan, on_duty = NoticePlan(), now.on_duty
    for event in events:
        kind, number = event.kind, event.incident_id
        if event.data["what"] in _SETTLING or (kind is NoticeKind.WITHDRAWN and number in now.baseless):
            plan.settle(number)
        if kind is None or not _is_current(event, kind, now):
            continue
        if kind is NoticeKind.EMERGENCY:  # called out again by its history; here it is only kept open to be confirmed
            plan.watched[number] = (_colour(kind, event.data), now.now_ms + STALE_MS + 1)
        place = place_of(now.places, event.data)
        item, confirm_by_ms = _item(event, kind, place, now)
        if confirm_by_ms is not None:
            plan.watched[number] = (item.colour, confirm_by_ms)
        for key in _recipients(event, kind, place, item.colour, now):
            due_ms = now.policy.due(item.colour, now.now_ms, on_duty=key in on_duty, own=now.directory.quiet_of(key))
            plan.requests.append(NoticeRequest(key, place.bucket, item, due_ms))
    return plan


def plan_escalation(
    incident: Incident, colour: Colour, step: int, called_since_ms: int, now: Circumstances
) -> tuple[list[NoticeRequest], int | None]:
    """Plan the call of the next ``step`` for an incident that nobody confirmed.

    Returns the messages, none where nobody is left, and by when (ms UTC) it goes further; None where it does not.
    """
    place = place_of(now.places, place_fields(incident))
    steps = now.directory.steps(place, colour, now.duty)
    if step >= len(steps):
        return [], None
    where = place.region or place.name
    item = Item(
        incident.id,
        NoticeKind.ESCALATED,
        colour,
        now.now_ms,
        where,
        incident.title,
        round((now.now_ms - called_since_ms) / 60_000),
        incident.headline or _reported_headline(incident.kind, where, incident.title),
        incident.since_ms,
    )
    requests = [NoticeRequest(key, place.bucket, item, now.now_ms) for key in steps[step]]
    return requests, now.policy.unconfirmed_at(colour, now.now_ms)


# -- what --------------------------------------------------------------------------------------------------------------


def kind_of(data: Mapping[str, Any], notify: str) -> NoticeKind | None:
    """The message of an outward event (its ``data``); None where it has none."""
    what = data.get("what")
    if what == "fired":
        if data.get("seq") == 1:
            return NoticeKind.PAST if data.get("retrospective") else NoticeKind.OPENED
        return NoticeKind.AGAIN if notify == "page" else None
    if what == "split_off":  # pages where it goes on by itself while people called the rest none
        return NoticeKind.OPENED if notify == "page" else None
    if what == "resolved":
        return NoticeKind.RECOVERED if data.get("recovered_at") else None
    return _KINDS.get(str(what))


def _is_current(event: OutboxEvent, kind: NoticeKind, now: Circumstances) -> bool:
    """Whether the message is still due: old ones are not, nor a call once the incident has been seen."""
    if now.now_ms - event.created_at_ms > STALE_MS:
        return False
    if kind not in CALL_KINDS:
        return True
    state = now.states.get(event.incident_id)
    return state in UNCONFIRMED_STATES if kind is NoticeKind.OPENED else state is not None and state not in FINAL_STATES


def _item(event: OutboxEvent, kind: NoticeKind, place: Place, now: Circumstances) -> tuple[Item, int | None]:
    """What a message says of an event, and by when (ms UTC) somebody has to confirm; None: nobody has to."""
    data, colour = event.data, _colour(kind, event.data)
    calls = kind in CALL_KINDS and event.notify == "page"
    confirm_by_ms = now.policy.unconfirmed_at(colour, now.now_ms) if calls else None
    where, (step, deadline_ms) = place.region or place.name, _deadline(kind, data)
    headline = headline_from_json(data.get("headline"))
    item = Item(
        event.incident_id,
        kind,
        colour,
        event.created_at_ms,
        where,
        Text(**data["text"]),
        now.policy.confirm.get(colour) if confirm_by_ms is not None else None,
        headline or _reported_headline(data["kind"], where, Text(**data["title"])),
        to_ms(datetime.fromisoformat(data["since"])),
        deadline_ms,
        step,
    )
    return item, confirm_by_ms


def _colour(kind: NoticeKind, data: Mapping[str, Any]) -> Colour:
    """The colour of a message: late data are blue, an emergency is red."""
    if kind is NoticeKind.EMERGENCY:
        return Colour.RED
    return Colour.BLUE if kind is NoticeKind.PAST else Colour(data["colour"])


def _deadline(kind: NoticeKind, data: Mapping[str, Any]) -> tuple[str, int | None]:
    """The step that waits and when it has to be done (ms)."""
    if kind is NoticeKind.EMERGENCY:
        return "report", (data.get("details") or {}).get("report_by")
    phase = PHASE_OF_STATE.get(State(data["state"]))
    due = data.get("due_at")
    return (phase.value, to_ms(datetime.fromisoformat(due))) if phase is not None and due else ("", None)


def _reported_headline(kind: str, place: Text, title: Text) -> Headline:
    """What an incident without evidence is about: its title, and of what people report where it is."""
    return Headline(place if kind == finding.FindingKind.REPORT else Text("", ""), title)


# -- who ---------------------------------------------------------------------------------------------------------------


def _recipients(
    event: OutboxEvent, kind: NoticeKind, place: Place, colour: Colour, now: Circumstances
) -> tuple[str, ...]:
    """The recipients, each once.

    News of what was called goes to who was called. A case that has somebody is that person's: the others are not told
    of the task, but who stands above is told of what is late.
    """
    number, data = event.incident_id, event.data
    if kind in FOLLOW_UP_KINDS:
        keys = tuple(now.called.get(number, ()))
    else:
        keys = _first_steps(kind, now.directory.steps(place, colour, now.duty), data)
    responsible = _responsible(data, kind, now.directory)
    if responsible is not None:
        above = now.directory.chiefs_of(data.get("escalated_to") or "") if kind is NoticeKind.OVERDUE else ()
        keys = (responsible, *above)
    if kind is NoticeKind.WITHDRAWN:
        keys = (*keys, *now.informed.get(number, ()))
    return tuple(dict.fromkeys(keys))


def _responsible(data: Mapping[str, Any], kind: NoticeKind, directory: Directory) -> str | None:
    """The contact of who answers for the case, where the message concerns that person."""
    name = data.get("responsible") if kind in HANDLER_KINDS else None
    contact = directory.called(name) if isinstance(name, str) and name else None
    return contact.key if contact is not None else None


def _first_steps(kind: NoticeKind, steps: Sequence[tuple[str, ...]], data: Mapping[str, Any]) -> tuple[str, ...]:
    """The first recipients: what is overdue or supervised goes one step up as well, an emergency one with each call."""
    if kind in {NoticeKind.OVERDUE, NoticeKind.SUPERVISED, NoticeKind.EMERGENCY}:
        calls = (data.get("details") or {}).get("calls", 0) if kind is NoticeKind.EMERGENCY else 0
        return tuple(key for step in steps[: 2 + calls] for key in step)
    return steps[0] if steps else ()


# -- where -------------------------------------------------------------------------------------------------------------


def place_fields(incident: Incident) -> Mapping[str, str]:
    """What of an incident says where it is, named as in the ``data`` of an event."""
    return {"station": incident.station, "region": incident.place.region, "reach": incident.place.reach}


def place_keys(data: Mapping[str, Any]) -> tuple[str, str]:
    """The keys of ``Circumstances.places`` that may say where something is: its station and its region."""
    return str(data["station"]), f"{REGION_KEY_PREFIX}{data.get('region') or ''}"


def place_of(places: Mapping[str, Place], data: Mapping[str, Any]) -> Place:
    """Where an incident is: its station's place in the incident's region, else where it was reported from."""
    station, region = place_keys(data)
    if station in places and region in places:
        return replace(places[station], regions=places[region].regions, region=places[region].region)
    if station in places:
        return places[station]
    place = places.get(region) or Place(Text(station, station))
    return replace(place, reach=str(data.get("reach") or ""))
