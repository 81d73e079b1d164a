"""Who is notified of an open incident next if nobody acts, by the planning of the messages themselves. Pure."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from governance.incidents import cloudevents
from governance.incidents.deadlines import DeadlinePolicy, Phase
from governance.incidents.model import PHASE_OF_STATE, EntryKind, Incident
from governance.incidents.reminders import RegionAbove, remind
from governance.notify import contacts
from governance.notify.message import NoticeRequest
from governance.notify.planning import REGION_KEY_PREFIX, Circumstances, OutboxEvent, plan_escalation, plan_notices
from governance.notify.store import Watch
from governance.organisation.regions import Regions
from infra.texts import Text
from sensors.stations import Registry

MOST = 4
"""Steps that are shown: what lies further ahead will have changed by then."""

Duty = Callable[[int], Sequence[Sequence[str]]]
"""Who is on call at an instant, by rank."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A message to come: when, why (``unconfirmed``, ``reminder``, ``overdue`` or ``emergency``), of which step.

    ``names`` are those who get it, none where nobody can be reached; ``raised_to`` is the region it then goes up to.
    """

    at_ms: int
    why: str
    phase: Phase
    names: tuple[str, ...]
    raised_to: str = ""


_WHY: Mapping[EntryKind, str] = {
    EntryKind.REMINDED: "reminder",
    EntryKind.OVERDUE: "overdue",
    EntryKind.EMERGENCY_UNREPORTED: "emergency",
}


def ahead(
    incident: Incident, watch: Watch | None, now: Circumstances, duty: Duty, up: RegionAbove, policy: DeadlinePolicy
) -> tuple[Ahead, ...]:
    """What is sent if nobody does anything, earliest first."""
    found = [*_unconfirmed(incident, watch, now, duty), *_deadlines(incident, now, duty, up, policy)]
    return tuple(sorted(found, key=lambda one: one.at_ms)[:MOST])


def places(incident: Incident, registry: Registry, regions: Regions) -> dict[str, contacts.Place]:
    """Where an incident lies, as the planning of messages wants it."""
    found = {}

    def named(code: str) -> Text | None:
        return Text(regions[code].zh, regions[code].en) if code in regions else None

    if incident.station in registry:
        station = registry[incident.station]
        name = Text(station.zh, station.en)
        found[station.key] = contacts.Place(name, regions.up(station.region), station.reach, named(station.region))
    if (name_of := named(incident.place.region)) is not None:
        code = incident.place.region
        found[f"{REGION_KEY_PREFIX}{code}"] = contacts.Place(name_of, regions.up(code), "", name_of)
    return found


def _unconfirmed(incident: Incident, watch: Watch | None, now: Circumstances, duty: Duty) -> list[Ahead]:
    """Who is called in turn while nobody confirms."""
    found: list[Ahead] = []
    due_ms = watch.due_at_ms if watch is not None and incident.is_open else None
    step = watch.step if watch is not None else 0
    while watch is not None and due_ms is not None and len(found) < MOST:
        at_ms, step = max(due_ms, now.now_ms), step + 1
        then = replace(now, now_ms=at_ms, duty=duty(at_ms))
        requests, due_ms = plan_escalation(incident, watch.colour, step, watch.since_ms, then)
        found.append(Ahead(at_ms, "unconfirmed", PHASE_OF_STATE[incident.state], _names(requests, now)))
        if not requests:
            break
    return found


def _deadlines(
    incident: Incident, now: Circumstances, duty: Duty, up: RegionAbove, policy: DeadlinePolicy
) -> list[Ahead]:
    """What the deadline of the present step sends."""
    found: list[Ahead] = []
    while incident.is_open and len(found) < MOST:
        case = incident.case
        running = case.alert_at_ms if case.paused_at_ms is None else None
        times = [at for at in (running, case.emergency_alert_at_ms) if at is not None]
        if not times:
            break
        at_ms = max(min(times), now.now_ms)
        done = remind(incident, at_ms, up=up, policy=policy)
        if done is None:
            break
        before, (incident, effects) = incident.case.escalated_to, done
        data = json.loads(cloudevents.build(incident, effects, source="").body)["data"]
        then = replace(now, now_ms=at_ms, duty=duty(at_ms))
        requests = plan_notices([OutboxEvent(incident.id, effects.notify, at_ms, data)], then).requests
        why = _WHY.get(effects.entry.what, "reminder")
        raised = incident.case.escalated_to if incident.case.escalated_to != before else ""
        notified_ms = min((one.due_at_ms for one in requests), default=at_ms)
        found.append(Ahead(notified_ms, why, PHASE_OF_STATE[incident.state], _names(requests, now), raised))
    return found


def _names(requests: Sequence[NoticeRequest], now: Circumstances) -> tuple[str, ...]:
    found = (now.directory.get(one.contact) for one in requests)
    return tuple(dict.fromkeys(one.name for one in found if one is not None and one.channels))
