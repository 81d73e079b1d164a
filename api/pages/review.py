"""The review of readings ``/review``: the station-days that need a person, and one station-day with its actions.

What the record cannot hold is not offered: there is neither a corrected value nor a publication.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import quote

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError
from starlette.responses import RedirectResponse

from api import problems, requests
from api.access import author, needed_right
from api.pages.menu import REVIEW
from api.pages.models import review as models
from api.pages.view import PageRoute, View, Viewing
from api.registries import find
from api.requests import MINUTE_FORM, whole_number
from api.routes.rules import NewReview, agree_with_review, record_reviews, withdraw_review
from governance.incidents import queries as incident_queries
from governance.incidents.lifecycle import in_jurisdiction
from governance.incidents.model import Incident
from governance.tables import incident as incident_table
from infra.errors import ConfigurationError, Refused, WaterError
from infra.texts import Text, say
from infra.times import BEIJING, beijing, beijing_day, beijing_day_span, to_ms
from ingest.storage import maintenance as store
from ingest.storage.changes import Author
from sensors.maintenance import END_OF_TIME_MS, Check, MarkSpan, Review, Visit
from sensors.standards import gb3838
from sensors.stations import Registry, Station

PATH = REVIEW.path
ACT = needed_right("POST", "/stations/-/reviews")
MOST_STATIONS = 300
"""Station-days that are read at once; on a larger site one water is looked at at a time."""
MOST_INCIDENTS = 1000
MOST_FIELDS, MOST_BYTES = 60, 20_000
LONGEST_NOTE = 500
WAITING = 30
"""Reviews that wait for a second person and are listed."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True)
class Typed:
    """What stands in the form, as somebody typed it, and what is wrong with it by field."""

    since: str = ""
    until: str = ""
    parameters: tuple[str, ...] = ()
    reason: str = ""
    note: str = ""
    wrong: Mapping[str, Text] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The reason as it is kept: the chosen one and what was typed."""
        chosen = say(f"review.reason_{self.reason}").zh if self.reason in models.REASONS else ""
        return "；".join(part for part in (chosen, self.note.strip()) if part)


class Refusal(Exception):
    """A form that cannot be taken; ``wrong`` says why, by field."""

    def __init__(self, wrong: Mapping[str, Text], status: int = 400) -> None:
        super().__init__()
        self.wrong, self.status = wrong, status


# -- the queue ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """The station-days looked at: of a day, of a water or all; ``limited``: the site has too many for all at once."""

    day: date
    reach: str
    stations: tuple[Station, ...]
    reaches: tuple[tuple[str, str], ...]
    limited: bool


@router.get(PATH)
def show(v: Viewing) -> Response:
    """The station-days of a day, most suspicious first."""
    v.require(REVIEW.right)
    registry = v.registries.recent()
    choice = _choice(v, registry)
    queue = _queue(v, choice)
    today = beijing_day(v.now_ms)
    keys = {one.key for one in registry.stations if v.actor.covers(one.region, one.reach)}
    with v.context.database.read() as connection:
        waiting = [(n, one) for n, one in store.reviews(connection) if one.pending and not one.void]
    waiting = [(n, one) for n, one in waiting if one.station in keys]
    return v.render(
        "review.html",
        waiting=waiting[:WAITING],
        waiting_count=len(waiting),
        day_of=lambda at_ms: beijing_day(at_ms).isoformat(),
        station_names={one.key: Text(one.zh, one.en) for one in registry.stations},
        choice=choice,
        queue=queue,
        today=today,
        one_day=timedelta(days=1),
        most=MOST_STATIONS,
    )


@router.get(PATH + "/next")
def following(v: Viewing) -> Response:
    """Leads to the station-day to look at next; to the queue where no other needs anybody."""
    v.require(REVIEW.right)
    choice = _choice(v, v.registries.recent())
    found = _queue(v, choice).after(v.query.get("after", ""))
    day = choice.day.isoformat()
    if found is None:
        return RedirectResponse(v.to(PATH, day=day, reach=choice.reach), 303)
    return RedirectResponse(v.to(f"{PATH}/{quote(found.station.key)}/{day}", reach=choice.reach), 303)


def _choice(v: View, registry: Registry) -> Choice:
    given = v.query.get("day", "")
    day = _day(v, given) if given else beijing_day(v.now_ms) - timedelta(days=1)
    mine = [one for one in registry.stations if v.actor.covers(one.region, one.reach)]
    named = {one.key: v.of(Text(one.zh, one.en)) for one in registry.reaches}
    reaches = [(key, named[key]) for key in dict.fromkeys(one.reach for one in mine) if key in named]
    reach = v.query.get("reach", "")
    if reach not in named:
        reach = reaches[0][0] if len(mine) > MOST_STATIONS and reaches else ""
    stations = [one for one in mine if not reach or one.reach == reach][:MOST_STATIONS]
    return Choice(day, reach, tuple(stations), tuple(reaches), len(mine) > MOST_STATIONS)


def _day(v: View, text: str) -> date:
    """A day of the address, not after today; raises ConfigurationError."""
    day = date.fromisoformat(requests.day(text))
    if day > beijing_day(v.now_ms):
        raise ConfigurationError(say("review.not_yet", day=text))
    return day


def _queue(v: View, choice: Choice) -> models.Queue:
    start_ms, end_ms = beijing_day_span(choice.day)
    with v.context.database.read() as connection:
        incidents = _incidents(v, connection, start_ms, end_ms)
        marks, reviews = store.marks(connection), [one for _, one in store.reviews(connection)]
    days = []
    for station in choice.stations:
        mine = [one for one in reviews if one.station == station.key]
        readings, _ = _readings(v, station, (start_ms, end_ms), marks, mine)
        days.append(models.station_day(station, readings, models.of_station(incidents, station.key, start_ms, end_ms)))
    return models.queue(days)


def _incidents(v: View, connection: sa.Connection, start_ms: int, end_ms: int) -> list[Incident]:
    """The incidents of a day that are within reach."""
    i = incident_table.c
    during = sa.and_(i.since_ms < end_ms, sa.or_(i.last_observed_at_ms >= start_ms, i.open_cause.is_not(None)))
    found = incident_queries.list_incidents(connection, within=during, limit=MOST_INCIDENTS)
    return [one for one in found if in_jurisdiction(one, v.actor)]


def _readings(
    v: View, station: Station, span: tuple[int, int], marks: set[MarkSpan], reviews: Sequence[Review]
) -> tuple[list[models.Readings], set[MarkSpan]]:
    """The readings of a station, with the reviews as they stand now, and the marks that they carry."""
    catalogue = v.context.catalogue
    spans = models.spans_in_force(marks, reviews, station.key)
    found = models.by_parameter(v.context.store.window(station.key, span[0], span[1] - 1), catalogue)
    return [models.marked(one, station.key, spans, catalogue) for one in found], spans


# -- a station-day -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """One parameter of the day: its picture with the table beside it."""

    readings: models.Readings
    figures: models.Figures
    flagged: int
    stretches: tuple[models.Stretch, ...]
    hours: tuple[models.Hour, ...]
    picture: models.Picture
    trend: tuple[str, float]
    limit: float | None

    @property
    def at_least(self) -> bool:
        """Whether the limit is a lower one, as that of oxygen."""
        return gb3838.direction(self.readings.parameter) is gb3838.Direction.AT_LEAST


@dataclass(frozen=True)
class Neighbour:
    """A neighbouring station: its figures that day by parameter, and the number of flagged readings."""

    station: Station
    figures: Mapping[str, models.Figures]
    flagged: int


@router.get(PATH + "/{station}/{day}")
def show_day(v: Viewing, station: str, day: str) -> Response:
    """One station in one day."""
    v.require(REVIEW.right)
    query = v.request.query_params
    return _page(v, station, day, _typed(query, query.getlist("parameter")))


def _page(v: View, key: str, day_text: str, typed: Typed, status: int = 200) -> Response:
    station, day = find(v.registries.recent(), key), _day(v, day_text)
    registry, catalogue = v.registries.recent(), v.context.catalogue
    start_ms, end_ms = span = beijing_day_span(day)
    with v.context.database.read() as connection:
        incidents = models.of_station(_incidents(v, connection, start_ms, end_ms), key, start_ms, end_ms)
        marks, history = store.marks(connection), store.reviews(connection, key)[::-1]
        visits = [one for _, one in store.visits(connection, key) if _meets(one, span)]
        checks = [(n, one) for n, one in store.checks(connection, key) if start_ms <= one.at_ms < end_ms]
    readings, spans = _readings(v, station, span, marks, [one for _, one in history])
    chosen = _span(typed)
    wanted = typed.parameters or tuple(one.parameter for one in readings)
    reach = registry.reach(station.reach)
    target = None if reach is None else reach.target
    panels = []
    for one in readings:
        limit = None
        if target is not None and one.parameter in gb3838.PARAMETERS:
            limit = gb3838.limit(one.parameter, gb3838.Water.of(station.water), target)
        drawn = models.picture(
            one,
            start_ms,
            station.interval_s,
            decimals=catalogue[one.parameter].decimals,
            chosen=chosen if chosen and one.parameter in wanted else None,
            visits=[_visit_span(visit, end_ms) for visit in visits],
            limit=limit,
        )
        found = tuple(models.stretches(one, station.interval_s))
        table = tuple(models.hours(one, start_ms))
        panels.append(
            Panel(one, models.figures(one), int(one.open.sum()), found, table, drawn, models.trend(one), limit)
        )
    panels.sort(key=lambda one: -one.flagged)
    mine = [(n, one) for n, one in history if one.by == v.actor.name and _covers(one, span)]
    return v.render(
        "review_day.html",
        status=status,
        station=station,
        day=day,
        today=beijing_day(v.now_ms),
        one_day=timedelta(days=1),
        summary=models.station_day(station, readings, incidents),
        panels=panels,
        stretches=sorted((s for one in panels for s in one.stretches), key=lambda s: (-s.count, s.since_ms)),
        effects=models.effects(station, readings, wanted, chosen, spans, catalogue) if chosen else [],
        clash=_clash(history, wanted, chosen),
        incidents=incidents,
        visits=visits,
        checks=[_worded(n, one) for n, one in checks],
        history=history,
        latest=max((n for n, one in mine if not one.void), default=None),
        again=models.to_redo(mine),
        neighbours=[_neighbour(v, one, span, marks) for one in models.neighbours(registry, station)],
        typed=typed,
        reasons=models.REASONS,
        may=v.actor.may(ACT),
        within=v.actor.covers(station.region, station.reach),
        fill=lambda at_ms: beijing(at_ms, MINUTE_FORM),
        path=f"{PATH}/{quote(key)}/{day.isoformat()}",
    )


def _meets(visit: Visit, span: tuple[int, int]) -> bool:
    return visit.since_ms < span[1] and (END_OF_TIME_MS if visit.until_ms is None else visit.until_ms) > span[0]


def _covers(review: Review, span: tuple[int, int]) -> bool:
    return review.since_ms < span[1] and review.until_ms > span[0]


def _visit_span(visit: Visit, end_ms: int) -> tuple[int, int]:
    return visit.since_ms, end_ms if visit.until_ms is None else visit.until_ms


def _worded(number: int, check: Check) -> tuple[int, Check, bool]:
    """A check, and whether it passed."""
    return number, check, check.judged().passed


def _clash(history: Sequence[tuple[int, Review]], wanted: Sequence[str], chosen: tuple[int, int] | None) -> int | None:
    """The number of a review in force that says something of the same readings already."""
    if chosen is None:
        return None
    for number, one in history:
        if not one.void and _covers(one, chosen) and (not one.parameter or one.parameter in wanted):
            return number
    return None


def _neighbour(v: View, station: Station, span: tuple[int, int], marks: set[MarkSpan]) -> Neighbour:
    with v.context.database.read() as connection:
        reviews = [one for _, one in store.reviews(connection, station.key)]
    readings, _ = _readings(v, station, span, marks, reviews)
    return Neighbour(
        station, {one.parameter: models.figures(one) for one in readings}, sum(int(one.open.sum()) for one in readings)
    )


# -- what is done ------------------------------------------------------------------------------------------------------


async def _form(request: Request) -> Mapping[str, Any]:
    """The fields of the form; of those named ``parameter`` all."""
    async with request.form(max_files=0, max_fields=MOST_FIELDS, max_part_size=MOST_BYTES) as given:
        fields: dict[str, Any] = {name: value for name, value in given.items() if isinstance(value, str)}
        return fields | {"parameter": [str(one) for one in given.getlist("parameter")]}


Form = Annotated[Mapping[str, Any], Depends(_form)]


def _typed(given: Mapping[str, str], parameters: Sequence[str]) -> Typed:
    """What an address or a form says."""
    return Typed(
        since=given.get("since", "")[:40],
        until=given.get("until", "")[:40],
        parameters=tuple(one[:40] for one in parameters[:MOST_FIELDS]),
        reason=given.get("reason", "")[:40],
        note=given.get("note", "").replace("\x00", "")[:LONGEST_NOTE],
    )


def _see(v: View, key: str, day: str, **query: object) -> Response:
    """The way back to a station-day after something was done."""
    return RedirectResponse(v.to(f"{PATH}/{quote(key)}/{_day(v, day)}", **query, reach=v.query.get("reach")), 303)


@router.post(PATH + "/{station}/{day}")
def mark(v: Viewing, form: Form, station: str, day: str) -> Response:
    """Call a stretch good or bad. Sent twice, it is kept once."""
    v.require(ACT)
    typed = _typed(form, form["parameter"])
    try:
        number = _marked(v, station, day, typed, form.get("verdict", ""))
    except Refusal as refusal:
        return _page(v, station, day, replace(typed, wrong=refusal.wrong), refusal.status)
    return _see(v, station, day, done=number)


def _marked(v: View, key: str, day: str, typed: Typed, verdict: str) -> int:
    """Keep what the form says; the number of the (last) review. Raises Refusal."""
    station = find(v.registries.recent(), key)
    by = author(v.actor, None, v.now_ms, station)
    span, wrong = _span(typed), {}
    if span is None:
        wrong["span"] = say("review.wrong_span")
    if not typed.parameters:
        wrong["parameters"] = say("review.wrong_parameters")
    if not models.specific(typed.words):
        wrong["reason"] = say("review.wrong_reason")
    kinds: Mapping[str, Literal["good", "suspect", "bad"]] = {"good": "good", "suspect": "suspect", "bad": "bad"}
    if verdict not in kinds:
        wrong[""] = say("review.wrong_verdict")
    if wrong or span is None:
        raise Refusal(wrong)
    try:
        meant = _meant(v, station, day, typed.parameters)
        new = [_review(parameter, span, kinds[verdict], typed.words) for parameter in meant]
        if (number := _kept_already(v, key, new, span, by.by)) is not None:
            return number
        return record_reviews(v.context, key, by, new)[-1][0]
    except ValidationError:
        raise Refusal({"reason": say("request.letters")}) from None
    except WaterError as error:
        raise Refusal({"": error.text}, problems.of(error).sort.status) from None


def _meant(v: View, station: Station, day: str, parameters: Sequence[str]) -> Sequence[str]:
    """The parameters of the reviews: one for the whole station where all that it measured that day are chosen."""
    start_ms, end_ms = beijing_day_span(_day(v, day))
    window = v.context.store.window(station.key, start_ms, end_ms - 1)
    measured = {one.parameter for one in models.by_parameter(window, v.context.catalogue)}
    return ("",) if measured and set(parameters) >= measured else tuple(dict.fromkeys(parameters))


def _kept_already(v: View, key: str, new: Sequence[NewReview], span: tuple[int, int], by: str) -> int | None:
    """The number of the review that says just this in the same name: the form was sent twice."""
    with v.context.database.read() as connection:
        history = store.reviews(connection, key)
    same = {
        one.parameter: number
        for number, one in history
        if not one.void
        and one.since_ms == span[0]
        and (one.until_ms == span[1] or one.until_ms == one.at_ms < span[1])
        and (one.verdict.value, one.reason, one.by) == (new[0].verdict, new[0].reason, by)
    }
    numbers = [same.get(one.parameter) for one in new]
    return None if None in numbers else numbers[-1]


def _given(v: View, key: str, form: Mapping[str, Any]) -> tuple[Author, int, Review | None]:
    """Who acts on which review of a station, and the review as it is; None where there is none."""
    v.require(ACT)
    by = author(v.actor, None, v.now_ms, find(v.registries.recent(), key))
    number = whole_number(form.get("number", ""))
    if number is None:
        raise ConfigurationError(say("review.no_number"))
    with v.context.database.read() as connection:
        return by, number, dict(store.reviews(connection, key)).get(number)


@router.post(PATH + "/{station}/{day}/confirm")
def confirm(v: Viewing, form: Form, station: str, day: str) -> Response:
    """Agree with a review that waits for a second person. Sent twice, it is done once."""
    by, number, before = _given(v, station, form)
    if before is None or not before.second:
        try:
            agree_with_review(v.context, station, by, number)
        except Refused as error:
            return _page(v, station, day, Typed(wrong={"confirm": error.text}), 409)
    return _see(v, station, day, agreed=number)


@router.post(PATH + "/{station}/{day}/undo")
def undo(v: Viewing, form: Form, station: str, day: str) -> Response:
    """Take a review back: the readings get their own verdicts again. Sent twice, it is done once."""
    by, number, before = _given(v, station, form)
    if before is None or not before.void:
        withdraw_review(v.context, station, by, number)
    return _see(v, station, day, undone=number)


@router.post(PATH + "/{station}/{day}/redo")
def redo(v: Viewing, form: Form, station: str, day: str) -> Response:
    """Give a review that was taken back again, as a new one. Sent twice, it is kept once."""
    by, number, before = _given(v, station, form)
    if before is None or not before.void:
        raise Refused(say("review.not_undone", number=number))
    span = before.since_ms, before.until_ms
    new = _review(before.parameter, span, before.verdict.value, before.reason)
    made = _kept_already(v, station, [new], span, by.by)
    if made is None:
        ((made, _),) = record_reviews(v.context, station, by, [new])
    return _see(v, station, day, done=made)


def _review(
    parameter: str, span: tuple[int, int], verdict: Literal["good", "suspect", "bad"], reason: str
) -> NewReview:
    since, until = (datetime.fromtimestamp(one / 1000, BEIJING).isoformat() for one in span)
    return NewReview(parameter=parameter, since=since, until=until, verdict=verdict, reason=reason)


def _span(typed: Typed) -> tuple[int, int] | None:
    """The stretch that is typed, in ms; None where it is none."""
    try:
        since, until = (
            to_ms(datetime.strptime(one[:16], MINUTE_FORM).replace(tzinfo=BEIJING))
            for one in (typed.since, typed.until)
        )
    except ValueError:
        return None
    return (since, until) if since < until else None
