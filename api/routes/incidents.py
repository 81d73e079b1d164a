"""Incidents: what is wrong in the water, what happened since, and what people do about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import Field

from api import problems
from api.access import Keeping, Who, on_behalf
from api.context import Context
from api.entity_tags import IfMatch, headers, tags
from api.incident_actions import known_matter, perform, suggestion
from api.problems import Problem
from api.registries import site_box
from api.requests import (
    By,
    Cursor,
    Limit,
    RequestContext,
    RequestRegistries,
    Strict,
    Words,
    cut,
    instant,
    one_of,
    place_by_number,
)
from api.responses import answer, viewed, when
from api.routes.router import subject_router
from api.titles import titles
from governance.incidents import attachments, lifecycle
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour
from governance.incidents.model import (
    COMMENT_LIMIT,
    Action,
    Assignment,
    Conflict,
    Entry,
    Evidence,
    FalseAlarm,
    Incident,
    NotAllowedNow,
    Order,
    PauseReason,
    Source,
    State,
    action_names,
)
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import Actor, Department, Forbidden
from governance.reports import citizen_reports
from governance.verification import comparison
from governance.verification.comparison import Difference
from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import Text, say
from ingest.analysis import source_attribution
from sensors.stations import Registry

router = subject_router("incidents", "/incidents")
tasks = subject_router("incidents", "/worklist")

SEEN_BY_PEOPLE = (Source.PERSON, Source.PATROL, Source.HOTLINE)
"""What somebody may file here: sensors, devices, platforms and citizens have ways of their own."""


Id = Annotated[Words, Field(min_length=1, max_length=128)]
Code = Annotated[Words, Field(max_length=64)]


class NewAssignment(Strict):
    """To whom: a grid cell (code), a chief (name), the leading department and those that take part."""

    region: Code = ""
    responsible: Words = Field("", max_length=80)
    department: Code | None = Field(None, examples=list(Department))
    joint: list[Code] = Field(default_factory=list, max_length=8)


class Name(Strict):
    """A condition of an incident, by what names it; `parameter` is "" where the rule has none."""

    rule: Words
    station: Words
    parameter: Words = ""


class NewAction(Strict):
    """What somebody does with an incident, and what they show for it.

    `to` goes with accept, dispatch and transfer; a dispatch without it takes the suggestion. `reason` is the code of a
    false alarm or a pause, `grade` (I to IV) that of an emergency, `score` (0 to 100) the evaluation's, `into` the
    incident to merge into, `conditions` those to split off.
    """

    action: Words = Field(max_length=64, examples=list(Action))
    by: By = None
    comment: Words | None = Field(None, max_length=COMMENT_LIMIT, description="why; asked for by most actions")
    attachments: list[Id] = Field(default_factory=list, max_length=50, description="ids of stored photos and files")
    measurement: dict[Code, float] = Field(default_factory=dict, description="values by parameter, canonical units")
    to: NewAssignment | None = None
    matter: Code = Field("", description="key of the process that fits")
    reason: Code = Field("", examples=[*FalseAlarm, *PauseReason])
    grade: Code = ""
    score: float | None = None
    into: int | None = None
    conditions: list[Name] = Field(default_factory=list, max_length=1000)


class NewReport(Strict):
    """What somebody has seen: in words, with a place, and photos stored before."""

    text: Words = Field(max_length=COMMENT_LIMIT)
    colour: Code = Field("yellow", examples=list(Colour))
    source: Code = Field("person", examples=["person", "patrol", "hotline"])
    matter: Code = ""
    region: Code = Field("", description="code of the grid cell; found from the place when left out")
    reach: Code = ""
    lon: float | None = Field(None, ge=-180, le=180)
    lat: float | None = Field(None, ge=-90, le=90)
    attachments: list[Id] = Field(default_factory=list, max_length=50)
    by: By = None


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An incident as it stands; ``version`` is its ETag, ``active`` the number of conditions not over yet.

    ``allowed`` are the actions it would accept now from the caller; ``due_at`` is when the present step must be done; a
    part that nobody filled in is "" or null. Values are in the parameter's canonical unit. ``title`` names the present
    value while the incident goes on; ``headline`` is what it is made of: place, matter and rows of evidence.
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
    headline: Mapping[str, Any] | None
    rule: str
    rule_version: str
    value: float | None
    limit: float | None
    observed_at: str | None
    since: str | None
    last_observed_at: str | None
    opened_at: str | None
    accepted_at: str | None
    accepted_by: str | None
    recovered_at: str | None
    closed_at: str | None
    active: int
    allowed: tuple[Action, ...]
    version: int
    source: Source
    matter: str
    region: str
    reach: str
    lon: float | None
    lat: float | None
    responsible: str
    department: Department | None
    joint: tuple[Department, ...]
    contributed: tuple[Department, ...]
    handler: str
    verifier: str
    due_at: str | None
    overdue: bool
    escalated_to: str
    paused_at: str | None
    pause_reason: str
    supervised_at: str | None
    supervised_by: str
    emergency: str
    emergency_due_at: str | None
    emergency_calls: int
    emergency_reported_at: str | None
    merged_into: int | None
    reason: str
    score: float | None


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
    role: str
    attachments: tuple[str, ...]
    measurement: Mapping[str, float]
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DifferenceView:
    """A field that is not what entry `n` of the trail says (0: no entry about the row); both values as JSON."""

    n: int
    part: str
    field: str
    trail: str | None
    found: str | None


@dataclass(frozen=True, slots=True)
class IncidentInFull:
    """An incident with its conditions and everything that happened to it, oldest first.

    `differences` are where the database is not what the trail proves; none where both agree.
    """

    incident: IncidentView
    conditions: list[ConditionView]
    history: list[EntryView]
    differences: list[DifferenceView]


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
    computed_at: str | None
    text: Text
    seen: list[SeenView]
    quiet: list[str]
    rises: tuple[str, ...]
    falls: tuple[str, ...]
    candidates: list[CandidateView]


@dataclass(frozen=True, slots=True)
class SuggestionView:
    """To whom, and how; "" and null for what nobody can say."""

    matter: str
    name: Text | None
    region: str
    responsible: str
    department: Department | None
    joint: tuple[Department, ...]
    handle: str | None
    evidence: tuple[Evidence, ...]
    steps: tuple[Text, ...]
    checklist: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class RuleView:
    """A version of a rule: incidents, how many of them false alarms, and these by reason."""

    rule: str
    version: str
    incidents: int
    false_alarms: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RuleStatistics:
    """Rules, those with most incidents first."""

    items: list[RuleView]


@dataclass(frozen=True, slots=True)
class Task:
    """An incident that waits for the caller; `actions` are those that carry it on."""

    incident: IncidentView
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Worklist:
    """What waits for the caller, most urgent first."""

    items: list[Task]


@tasks.get("", response_model=Worklist)
def worklist(context: RequestContext, who: Who, limit: Limit = 100) -> Response:
    """What waits for the caller: emergencies to be reported, then what is overdue, then by urgency and deadline."""
    now_ms = context.clock_ms()
    with context.database.read() as connection:
        found = incident_queries.worklist(connection, who, now_ms, limit=limit)
    title_of = titles(context, [i for i, _ in found])
    return answer(Worklist([Task(_view(i, who, now_ms, title_of[i.id]), actions) for i, actions in found]))


@router.get("", response_model=IncidentPage)
def list_incidents(  # noqa: PLR0913, PLR0917  (a parameter of the request each)
    context: RequestContext,
    who: Who,
    keeper: Keeping,
    state: State | None = None,
    open_: Annotated[bool | None, Query(alias="open", description="true: not over; false: over")] = None,
    region: Annotated[str | None, Query(description="code of a region; what lies below it, too")] = None,
    colour: Colour | None = None,
    station: Annotated[str | None, Query(description="that has or had a condition in it")] = None,
    retrospective: Annotated[bool | None, Query(description="found in late data only")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Incidents within reach of the caller, newest first."""
    before = place_by_number("incidents", cursor)
    below = None
    if region is not None:
        below = keeper.regions().within(region) if region in keeper.regions() else frozenset({region})
    with context.database.read() as connection:
        found = incident_queries.list_incidents(
            connection,
            state=state,
            open_only=open_,
            station=station,
            retrospective=retrospective,
            colour=colour,
            regions=below,
            within=incident_queries.jurisdiction_filter(who, theirs=region is None),
            limit=limit + 1,
            before_id=before,
        )
    page, following = cut("incidents", found, limit, lambda one: one.id)
    title_of = titles(context, page)
    now_ms = context.clock_ms()
    return answer(IncidentPage([_view(i, who, now_ms, title_of[i.id]) for i in page], following))


@router.post("", status_code=201, response_model=IncidentInFull)
def report_incident(
    context: RequestContext, who: Who, keeper: Keeping, registries: RequestRegistries, new: NewReport
) -> Response:
    """Report something seen; it waits to be accepted."""
    made = file_report(context, keeper.regions(), registries.recent(), on_behalf(who, new.by), new)
    with context.database.read() as connection:
        history = incident_store.history(connection, made.id)
    return _in_full(made, history, who, context, 201)


def file_report(
    context: Context, regions: Regions, registry: Registry, actor: Actor, new: NewReport, *, unique: bool = False
) -> Incident:
    """File what somebody has seen; what is sent twice is one incident, unless it is known to be ``unique``.

    Raises Forbidden, Refused, NotFound for an unknown water or photo, ConfigurationError for what is no place here.
    """
    if (new.lon is None) != (new.lat is None):
        raise ConfigurationError(say("request.lon_lat"))
    place = Place(new.region, new.reach, new.lon, new.lat)
    if place.lon is not None and place.lat is not None:
        if (box := site_box(context.box, registry)) is not None:
            box.check(place.lon, place.lat)
        place = replace(place, region=place.region or regions.at(place.lon, place.lat))
    place = replace(place, region=place.region or regions.along(place.reach))
    if new.region and new.region not in regions:
        raise ConfigurationError(say("registry.no_region", region=new.region))
    if new.reach and new.reach not in {one.key for one in registry.reaches}:
        raise NotFound(say("registry.no_reach", reach=new.reach))
    origin = one_of(SEEN_BY_PEOPLE, "source", new.source)
    known_matter(context, new.matter)
    order = Order(Action.ACCEPT, comment=new.text, attachments=tuple(new.attachments), matter=new.matter)
    with context.database.write() as connection:
        citizen_reports.lock_sender(connection, actor.name)
        attachments.get(connection, new.attachments, actor)
        now_ms = context.clock_ms()
        before = None
        if not unique:
            before = citizen_reports.find_repetition_of_person(connection, actor.name, order, place, now_ms)
        if before is not None:
            return incident_store.get(connection, before)
        made = incident_store.file_report(
            connection,
            order,
            actor,
            colour=one_of(Colour, "colour", new.colour),
            origin=origin,
            place=place,
            now_ms=now_ms,
            source=context.source,
            policy=context.processes.policy,
        )
    context.wake()
    return made


@router.get("/statistics", response_model=RuleStatistics)
def statistics(
    context: RequestContext,
    who: Who,
    since: Annotated[str | None, Query(description="opened since, RFC 3339; always when left out")] = None,
) -> Response:
    """How often each rule was right: incidents by rule, how many were false alarms, and why; within reach."""
    since_ms = 0 if since is None else instant("since", since)
    with context.database.read() as connection:
        found = incident_queries.counts_by_rule(
            connection, since_ms=since_ms, within=incident_queries.jurisdiction_filter(who, theirs=False)
        )
    return answer(RuleStatistics([RuleView(*one) for one in found]))


@router.get("/{incident_id}", response_model=IncidentInFull)
def get_incident(
    context: RequestContext,
    who: Who,
    incident_id: int,
    as_of: Annotated[str | None, Query(description="as it stood at this instant, RFC 3339; from the trail")] = None,
) -> Response:
    """One incident with its conditions and its history; the ETag is what `If-Match` of an action wants."""
    with context.database.read() as connection:
        if as_of is not None:
            incident, history = incident_store.as_of(connection, incident_id, instant("as_of", as_of))
        else:
            incident = incident_store.get(connection, incident_id)
            history = incident_store.history(connection, incident_id)
        check_visible(incident, who)
        differences = comparison.of_incident(connection, incident_id)
    return _in_full(incident, history, who, context, differences=differences)


@router.get("/{incident_id}/trace", response_model=TraceOfIncident)
def get_source_attribution(context: RequestContext, who: Who, incident_id: int) -> Response:
    """Where it may have come from: outfalls and stretches ranked by travel time and tide, with the reasoning.

    404 for an incident without a source (no data, a trend, a forecast), and until the worker has traced it.
    """
    with context.database.read() as connection:
        check_visible(incident_store.get(connection, incident_id), who)
        found = source_attribution.require_stored_trace(connection, incident_id)
    body = viewed(
        TraceOfIncident,
        found,
        incident=incident_id,
        seen=[SeenView(s.station, when(s.onset_ms), s.spread_ms / 1000) for s in found.seen],
        quiet=[q.station for q in found.quiet],
        candidates=[
            viewed(
                CandidateView,
                c,
                from_km=round(c.from_km, 2),
                to_km=round(c.to_km, 2),
                probability=round(c.probability, 3),
            )
            for c in found.candidates
        ],
    )
    return answer(body)


@router.get("/{incident_id}/suggestion", response_model=SuggestionView)
def suggest(context: RequestContext, who: Who, keeper: Keeping, incident_id: int) -> Response:
    """To whom a dispatch without arguments would go, and the standard process with its steps and checklist."""
    with context.database.read() as connection:
        incident = incident_store.get(connection, incident_id)
    check_visible(incident, who)
    found = suggestion(context, incident, keeper.regions())
    process, to = found.process, found.assignment
    view = viewed(
        SuggestionView,
        found,
        to,
        name=Text(process.zh, process.en) if process else None,
        handle=str(process.handle) if process and process.handle else None,
        evidence=process.evidence if process else (),
        steps=process.steps if process else (),
        checklist=process.checklist if process else (),
    )
    return answer(view)


@router.post("/{incident_id}/actions", response_model=IncidentInFull)
def apply_action(
    context: RequestContext,
    who: Who,
    keeper: Keeping,
    incident_id: int,
    new: NewAction,
    if_match: IfMatch = None,
) -> Response:
    """Do something with an incident; answers the incident after it.

    403 where role, region or department forbid it and 409 where the state does, both naming what is allowed now; 412
    when the incident is no longer the one that `If-Match` names.
    """
    wanted = tags(if_match)
    actor = on_behalf(who, new.by)
    with context.database.read() as connection:
        before = incident_store.get(connection, incident_id)
    check_visible(before, actor)
    if wanted is not None and str(before.version) not in wanted:
        expected = ", ".join(sorted(wanted))[:80]
        raise Conflict(say("incident.changed", id=incident_id, version=before.version, expected=expected))
    try:
        order = _order(new, before, actor)
        after = perform(context, incident_id, order, actor, keeper.regions, None if wanted is None else before.version)
    except (Conflict, NotAllowedNow, Forbidden):
        raise
    except Refused as error:
        raise Problem(problems.REFUSED, error.text, {"allowed": lifecycle.allowed(before, actor)}) from None
    context.wake()
    with context.database.read() as connection:
        history = incident_store.history(connection, incident_id)
    return _in_full(after, history, who, context)


def _order(new: NewAction, incident: Incident, actor: Actor) -> Order:
    """What is wanted, in our words; raises Refused for an unknown action and ConfigurationError for unknown codes."""
    try:
        action = Action(new.action)
    except ValueError:
        allowed = action_names(lifecycle.allowed(incident, actor))
        raise Refused(say("incident.unknown_action", action=new.action, allowed=allowed)) from None
    to = None
    if new.to is not None:
        to = Assignment(
            new.to.region,
            new.to.responsible,
            None if new.to.department is None else one_of(Department, "department", new.to.department),
            tuple(one_of(Department, "department", one) for one in new.to.joint),
        )
    return Order(
        action,
        comment=new.comment,
        attachments=tuple(new.attachments),
        measurement=new.measurement,
        assignment=to,
        matter=new.matter,
        reason=new.reason,
        grade=new.grade,
        score=new.score,
        into=new.into,
        conditions=tuple((c.rule, c.station, c.parameter) for c in new.conditions),
    )


def check_visible(incident: Incident, who: Actor) -> None:
    """Raises Forbidden for an incident that does not concern the caller."""
    if not lifecycle.in_jurisdiction(incident, who):
        raise Forbidden(lifecycle.outside_jurisdiction_text(incident))


def _in_full(
    incident: Incident,
    history: list[Entry],
    who: Actor,
    context: Context,
    status: int = 200,
    differences: Sequence[Difference] = (),
) -> Response:
    conditions = [viewed(ConditionView, c, parameter=c.parameter or None) for c in incident.conditions]
    (title,) = titles(context, [incident]).values()
    body = IncidentInFull(
        _view(incident, who, context.clock_ms(), title),
        conditions,
        [_entry(e) for e in history],
        [viewed(DifferenceView, one) for one in differences],
    )
    return answer(body, status, headers=headers(incident.version))


def _entry(e: Entry) -> EntryView:
    return viewed(EntryView, e)


def _view(i: Incident, who: Actor, now_ms: int, title: Text) -> IncidentView:
    case = i.case
    return viewed(
        IncidentView,
        i,
        case,
        i.place,
        open=i.is_open,
        title=title,
        headline=i.headline.as_json() if i.headline else None,
        active=len(i.active),
        allowed=lifecycle.allowed(i, who),
        overdue=case.due_ms is not None and case.due_ms < now_ms and case.paused_at_ms is None,
    )
