"""Incidents: what is wrong in the water, what happened since, and what people do about it."""

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api import problems
from api.answers import answer, when
from api.asking import Asked, Cursor, Limit, Words, mark, place_by_number
from api.problems import Problem
from governance import incidents, lifecycle
from governance.lifecycle import Action, Conflict, Entry, Incident, State
from ingest import traces
from sensors.errors import ConfigurationError, Refused
from sensors.texts import Text

router = APIRouter(prefix="/incidents", tags=["incidents"])

_TAG = re.compile(r'\s*(?:W/)?"([^"]*)"\s*')


class NewAction(BaseModel):
    """What somebody does with an incident."""

    model_config = ConfigDict(extra="forbid", strict=True)

    action: Words = Field(max_length=64, examples=list(Action))
    by: Words = Field(max_length=200, description="the name of who does it")
    comment: Words | None = Field(None, description="why; asked for by most actions")


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An incident as it stands; ``version`` is its ETag, ``active`` the number of conditions not over yet.

    ``allowed`` are the actions it would accept now. Values are in the parameter's canonical unit.
    """

    id: int
    cause: str
    state: State
    open: bool
    colour: str
    kind: str
    retrospective: bool
    station: str
    parameter: str | None
    title: Text
    rule: str
    rule_version: str
    value: float | None
    limit: float | None
    observed_at: str | None
    since: str | None
    last_observed_at: str | None
    opened_at: str | None
    acknowledged_at: str | None
    acknowledged_by: str | None
    recovered_at: str | None
    closed_at: str | None
    active: int
    allowed: tuple[Action, ...]
    version: int


@dataclass(frozen=True, slots=True)
class ConditionView:
    """What a rule found at a station; ``resolved_at`` is null while it lasts. Times of observation."""

    rule: str
    station: str
    parameter: str | None
    since: str | None
    fired_at: str | None
    resolved_at: str | None


@dataclass(frozen=True, slots=True)
class EntryView:
    """One change of an incident; ``at`` by our clock, ``observed_at`` by the reading's, null for what people did."""

    seq: int
    at: str | None
    observed_at: str | None
    what: str
    by: str
    from_state: State | None
    to_state: State
    text: Text
    comment: str | None
    value: float | None
    limit: float | None


@dataclass(frozen=True, slots=True)
class IncidentInFull:
    """An incident with its conditions and everything that happened to it, oldest first."""

    incident: IncidentView
    conditions: list[ConditionView]
    history: list[EntryView]


@dataclass(frozen=True, slots=True)
class IncidentPage:
    """Incidents, newest first."""

    items: list[IncidentView]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class SeenView:
    """A station that saw the event, since when, give or take ``spread_s``."""

    station: str
    onset_at: str | None
    spread_s: float


@dataclass(frozen=True, slots=True)
class CandidateView:
    """An outfall or a stretch (``from_km`` to ``to_km`` down its reach) it may have come from.

    ``probability`` is its share of all places; released between ``early_at`` and ``late_at`` with 80 %.
    """

    kind: str
    key: str
    name: Text
    reach: str
    from_km: float
    to_km: float
    probability: float
    early_at: str | None
    likely_at: str | None
    late_at: str | None
    reasons: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class TraceOfIncident:
    """Where an incident may have come from, likeliest first; ``quiet`` are stations that were well and saw nothing."""

    incident: int
    station: str
    since: str | None
    made_at: str | None
    text: Text
    seen: list[SeenView]
    quiet: list[str]
    rises: tuple[str, ...]
    falls: tuple[str, ...]
    candidates: list[CandidateView]


@router.get("", response_model=IncidentPage)
def list_incidents(
    asked: Asked,
    state: State | None = None,
    open_: Annotated[bool | None, Query(alias="open", description="true: not closed; false: closed")] = None,
    station: Annotated[str | None, Query(description="that has or had a condition in it")] = None,
    retrospective: Annotated[bool | None, Query(description="found in late data only")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Incidents, newest first."""
    before = place_by_number("incidents", cursor)
    if open_ is False:
        if state not in {None, State.CLOSED}:
            return answer(IncidentPage([], None))
        state = State.CLOSED
    with asked.database.read() as connection:
        found = incidents.list_incidents(
            connection,
            state=state,
            open_only=bool(open_),
            station=station,
            retrospective=retrospective,
            limit=limit + 1,
            before_id=before,
        )
    page = found[:limit]
    following = mark("incidents", page[-1].id) if len(found) > limit else None
    return answer(IncidentPage([_view(i) for i in page], following))


@router.get("/{incident_id}", response_model=IncidentInFull)
def get_incident(asked: Asked, incident_id: int) -> Response:
    """One incident with its conditions and its history; the ETag is what `If-Match` of an action wants."""
    with asked.database.read() as connection:
        incident = incidents.get(connection, incident_id)
        history = incidents.history(connection, incident_id)
    return _in_full(incident, history)


@router.get("/{incident_id}/trace", response_model=TraceOfIncident)
def trace_incident(asked: Asked, incident_id: int) -> Response:
    """Where it may have come from: outfalls and stretches ranked by travel time and tide, with the reasoning.

    The trace that is kept, else one made now; 404 for an incident without a source (no data, a trend, a forecast).
    """
    found = traces.of_incident(asked.database, asked.store, asked.catalogue, incident_id, asked.clock_ms())
    body = TraceOfIncident(
        incident=incident_id,
        station=found.station,
        since=when(found.since_ms),
        made_at=when(found.made_ms),
        text=found.text,
        seen=[SeenView(s.station, when(s.onset_ms), s.spread_ms / 1000) for s in found.seen],
        quiet=[q.station for q in found.quiet],
        rises=found.rises,
        falls=found.falls,
        candidates=[
            CandidateView(
                kind=c.kind,
                key=c.key,
                name=c.name,
                reach=c.reach,
                from_km=round(c.from_km, 2),
                to_km=round(c.to_km, 2),
                probability=round(c.probability, 3),
                early_at=when(c.early_ms),
                likely_at=when(c.likely_ms),
                late_at=when(c.late_ms),
                reasons=c.reasons,
            )
            for c in found.candidates
        ],
    )
    return answer(body)


@router.post("/{incident_id}/actions", response_model=IncidentInFull)
def act(
    asked: Asked,
    incident_id: int,
    new: NewAction,
    if_match: Annotated[str | None, Header(description="the ETag the decision rests on")] = None,
) -> Response:
    """Do something with an incident; answers the incident after it.

    409 names what is allowed now; 412 when the incident is no longer the one that `If-Match` names.
    """
    tags = None if if_match is None else _tags(if_match)
    with asked.database.write() as connection:
        before = incidents.get(connection, incident_id)
        if tags is not None and str(before.version) not in tags:
            expected = ", ".join(sorted(tags))[:80]
            raise Conflict(
                lifecycle.sentence("incident.changed", id=incident_id, version=before.version, expected=expected)
            )
        try:
            after = incidents.act(
                connection,
                incident_id,
                new.action,
                by=new.by,
                comment=new.comment,
                now_ms=asked.clock_ms(),
                expected_version=None if tags is None else before.version,
                source=asked.source,
            )
        except Conflict:
            raise
        except Refused as error:
            raise Problem(problems.REFUSED, str(error), {"allowed": lifecycle.allowed(before)}) from None
        history = incidents.history(connection, incident_id)
    asked.wake()
    return _in_full(after, history)


def _tags(text: str) -> frozenset[str] | None:
    """The entity tags of an If-Match header; None for ``*``, which every incident there is fits."""
    if text.strip() == "*":
        return None
    found = [_TAG.fullmatch(part) for part in text.split(",")]
    tags = frozenset(match[1] for match in found if match)
    if len(tags) == 0 or not all(found):
        raise ConfigurationError(f'If-Match {text[:80]!r} is no list of entity tags such as "3"')
    return tags


def _in_full(incident: Incident, history: list[Entry]) -> Response:
    conditions = [
        ConditionView(
            c.rule, c.station, c.parameter or None, when(c.since_ms), when(c.fired_at_ms), when(c.resolved_at_ms)
        )
        for c in incident.conditions
    ]
    body = IncidentInFull(_view(incident), conditions, [_entry(e) for e in history])
    return answer(body, headers={"ETag": f'"{incident.version}"'})


def _entry(e: Entry) -> EntryView:
    return EntryView(
        seq=e.seq,
        at=when(e.at_ms),
        observed_at=when(e.observed_at_ms),
        what=e.what,
        by=e.by,
        from_state=e.from_state,
        to_state=e.to_state,
        text=e.text,
        comment=e.comment,
        value=e.value,
        limit=e.limit,
    )


def _view(i: Incident) -> IncidentView:
    return IncidentView(
        id=i.id,
        cause=i.cause,
        state=i.state,
        open=i.is_open,
        colour=i.colour,
        kind=i.kind,
        retrospective=i.retrospective,
        station=i.station,
        parameter=i.parameter,
        title=i.title,
        rule=i.rule,
        rule_version=i.rule_version,
        value=i.value,
        limit=i.limit,
        observed_at=when(i.observed_at_ms),
        since=when(i.since_ms),
        last_observed_at=when(i.last_observed_at_ms),
        opened_at=when(i.opened_at_ms),
        acknowledged_at=when(i.acknowledged_at_ms),
        acknowledged_by=i.acknowledged_by,
        recovered_at=when(i.recovered_at_ms),
        closed_at=when(i.closed_at_ms),
        active=len(i.active),
        allowed=lifecycle.allowed(i),
        version=i.version,
    )
