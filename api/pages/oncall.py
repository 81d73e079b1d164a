"""On call ``/oncall``: whom to call now; for who leads the calendar and who would be told of what; planning it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta

import sqlalchemy as sa
from fastapi import APIRouter, Response
from starlette.responses import RedirectResponse

from api import problems
from api.access import needed_right, reaches_all
from api.pages.acting import known_contacts
from api.pages.forms import Fields
from api.pages.menu import ONCALL
from api.pages.models import oncall as models
from api.pages.models.messages import midnight
from api.pages.models.oncall import CalendarDay, Change, Given, Previewed
from api.pages.view import PageRoute, View, Viewing
from api.requests import MINUTE_FORM, whole_number
from api.routes.notices import contact_names, known_people, plan_shifts
from governance.audit import trail as audit_trail
from governance.incidents.model import Conflict
from governance.notify import oncall
from governance.notify.contacts import Contact, Directory
from governance.notify.oncall import Shift
from governance.organisation.regions import Regions
from governance.organisation.roles import Right
from governance.people import store as people_store
from infra.errors import ConfigurationError, NotFound, Refused, WaterError
from infra.texts import Text, say
from infra.times import DAY_MS, beijing, beijing_day

PATH = ONCALL.path
CALENDAR = needed_right("GET", "/oncall")
PLAN = needed_right("POST", "/oncall/shifts")
CALL = Right.COMMENT
"""Who works on incidents may call who is on call; the number is not for others."""
CHANGES = 8
LOOK_BACK_MS = 40 * DAY_MS
"""A shift that began longer ago is not swapped any more."""
DONE = frozenset({"added", "changed", "removed", "swapped", "planned"})
FORMS = ("add", "plan")

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class OnDutyNow:
    """Somebody on call now: of which rank, until when, and the number to call; "" where it is not for who looks."""

    name: str
    rank: int
    until_ms: int
    phone: str
    reachable: bool


@dataclass(frozen=True, slots=True)
class Selected:
    """A shift that is being changed, and those it can be swapped with: number and person, and in words."""

    number: int
    shift: Shift
    name: str
    others: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What who leads sees beside who is on call."""

    weeks: tuple[tuple[CalendarDay, ...], ...]
    gaps: tuple[tuple[int, int], ...]
    changes: tuple[Change, ...]
    before: date
    after: date
    this_week: bool
    empty: bool


@router.get(PATH)
def show(v: Viewing) -> Response:
    """Who is on call; the calendar and its forms for whom they are."""
    v.require(ONCALL.right)
    return _page(v, Given(), None)


@router.post(PATH)
def act(v: Viewing, fields: Fields) -> Response:
    """Plan what one of the forms says; then the calendar again."""
    v.require(PLAN)
    given = _given(fields)
    number = whole_number(v.query.get("shift", "")) or 0
    ways: dict[str, Callable[[], str]] = {
        "add": lambda: _add(v, given),
        "plan": lambda: _plan(v, given),
        "change": lambda: _change(v, number, given),
        "remove": lambda: _remove(v, number, given),
        "swap": lambda: _swap(v, number, given),
    }
    try:
        reaches_all(v.actor)
        if given.do not in ways:
            raise Refused(say("oncall_page.no_action"))
        done = ways[given.do]()
    except WaterError as error:
        return _page(v, given, error)
    v.context.wake()
    return RedirectResponse(v.here(done=done, shift=None, form=None), 303)


def _given(fields: Mapping[str, str]) -> Given:
    def text(name: str) -> str:
        return fields.get(name, "")[:128]

    return Given(
        **{name: text(name) for name in ("do", "person", "begins", "until", "rank", "other")},
        was=fields.get("was", "")[:400],
        **{name: text(name) for name in ("kind", "days", "handover", "first", "weeks")},
        turns=tuple(text(f"turn{i}") for i in range(models.MOST_TURNS)),
        weekdays=tuple(text(f"day{i}") for i in range(7)),
    )


def _add(v: View, given: Given) -> str:
    made = models.shift(given.person, given.begins, given.until, given.rank)
    with v.context.database.read() as connection:
        there = oncall.shifts(connection, made.starts_at_ms, made.ends_at_ms)
    if made not in there:  # else sent twice
        plan_shifts(v.context, v.actor, [made])
    return "added"


def _plan(v: View, given: Given) -> str:
    made, begin_ms, end_ms = models.rotation(given, beijing_day(v.now_ms))
    known = known_people(v.context)
    for person in {one.person for one in made}:
        known.named(person)
    rank = made[0].rank
    with v.context.database.write() as connection:
        oncall.replan(connection, made, rank=rank, begin_ms=begin_ms, end_ms=end_ms, by=v.actor.name, now_ms=v.now_ms)
    return "planned"


def _change(v: View, number: int, given: Given) -> str:
    after = models.shift(given.person, given.begins, given.until, given.rank)
    known_people(v.context).named(after.person)
    with v.context.database.write() as connection:
        before = oncall.get(connection, number)
        after = replace(after, priority=before.priority)
        if before != after:
            _unchanged(before, given.was)
            _write(v, connection, {number: after}, "oncall.changed")
    return "changed"


def _remove(v: View, number: int, given: Given) -> str:
    with v.context.database.write() as connection:
        try:
            before = oncall.get(connection, number)
        except NotFound:  # sent twice
            return "removed"
        _unchanged(before, given.was)
        _write(v, connection, {number: None}, "oncall.removed")
    return "removed"


def _swap(v: View, number: int, given: Given) -> str:
    """Each takes the other's shift; ``was`` names both as they were drawn."""
    other, _, theirs = given.other.partition(":")
    with v.context.database.write() as connection:
        one, two = oncall.get(connection, number), oncall.get(connection, (whole_number(other) or 0))
        if (two.person, one.person) == (given.was.partition("|")[0], theirs):  # sent twice
            return "swapped"
        _unchanged(one, given.was)
        if two.person != theirs:
            raise Conflict(say("oncall_page.meanwhile"))
        after = {number: replace(one, person=two.person), (whole_number(other) or 0): replace(two, person=one.person)}
        _write(v, connection, after, "oncall.swapped")
    return "swapped"


def _write(v: View, connection: sa.Connection, after: Mapping[int, Shift | None], what: str) -> None:
    oncall.change(connection, after, by=v.actor.name, now_ms=v.now_ms, what=what)


def _unchanged(one: Shift, was: str) -> None:
    """Raises Conflict where a shift is not what the form was drawn with."""
    if models.mark(one) != was:
        raise Conflict(say("oncall_page.meanwhile"))


# -- what is shown -----------------------------------------------------------------------------------------------------


def _page(v: View, given: Given, error: WaterError | None) -> Response:
    directory = known_contacts(v) or Directory()
    name = contact_names(v.context)
    with v.context.database.read() as connection:
        around = oncall.shifts_by_number(connection, v.now_ms - LOOK_BACK_MS, v.now_ms + LOOK_BACK_MS)
        unreachable = _unreachable(connection, directory) if v.actor.may(Right.PEOPLE) else []
    may_plan = v.actor.may(PLAN) and v.actor.regions is None
    plan = _calendar(v, name) if v.actor.may(CALENDAR) else None
    selected = _selected(v, around, name) if may_plan else None
    asked = v.query.get("form", "")
    form = given.do if given.do in FORMS else asked if asked in FORMS else ""
    if plan is not None and plan.empty and may_plan and directory.contacts and not form:
        form = "plan"
    return v.render(
        "oncall.html",
        status=problems.of(error).sort.status if error else 200,
        error=error and error.text,
        done=v.query.get("done", "") if v.query.get("done") in DONE else "",
        now=_now(v, around, directory, name),
        plan=plan,
        selected=selected,
        form=form if may_plan else "",
        given=given if error else _blank(v, selected),
        people=[(one.key, one.name) for one in sorted(directory.contacts, key=_office_first) if one.channels],
        unreachable=unreachable,
        may_plan=may_plan,
        may_people=v.actor.may(Right.PEOPLE),
        may_call=v.actor.may(CALL),
        preview=_preview(v, directory) if v.actor.may(CALENDAR) else None,
        rivers=[(one.key, v.of(Text(one.zh, one.en))) for one in v.registries.recent().reaches],
        mark=models.mark,
        name=name,
        most_turns=models.MOST_TURNS,
        minute=lambda at_ms: beijing(at_ms, MINUTE_FORM),
    )


def _office_first(one: Contact) -> tuple[bool, str]:
    return "office" not in one.roles, one.name


def _unreachable(connection: sa.Connection, directory: Directory) -> list[str]:
    """People of the office who have no channel yet and can be on call once they do."""
    return [
        one.name
        for one in people_store.list_people(connection)
        if one.role in ("office", "operator") and directory.called(one.name) is None
    ]


def _now(v: View, around: Mapping[int, Shift], directory: Directory, name: Callable[[str], str]) -> list[OnDutyNow]:
    found = []
    for rank, keys in enumerate(oncall.ranks(around.values(), v.now_ms), 1):
        for key in keys:
            contact = directory.get(key)
            phone = contact.phone if contact is not None and v.actor.may(CALL) else ""
            until_ms = models.until_ms(around, key, v.now_ms)
            reachable = contact is not None and bool(contact.channels)
            found.append(OnDutyNow(name(key), rank, until_ms, phone, reachable))
    return found


def _calendar(v: View, name: Callable[[str], str]) -> Plan:
    start = models.first_day(v.query.get("from", ""), v.now_ms)
    span = timedelta(weeks=models.WEEKS)
    start_ms, end_ms = midnight(start), midnight(start + span)
    with v.context.database.read() as connection:
        known = oncall.shifts_by_number(connection, start_ms, end_ms)
        lines = audit_trail.list_entries(connection, kind="oncall", limit=CHANGES)
    told = ((line.at_ms, line.by, line.what, json.loads(line.body)["shifts"]) for line in lines)
    ahead_ms = max(start_ms, v.now_ms)
    return Plan(
        weeks=models.calendar(known, start, v.now_ms, name),
        gaps=tuple(oncall.gaps(list(known.values()), ahead_ms, end_ms)) if ahead_ms < end_ms else (),
        changes=models.changes(told),
        before=start - span,
        after=start + span,
        this_week=start == models.monday(beijing_day(v.now_ms)),
        empty=not any(one.ends_at_ms > v.now_ms for one in known.values()),
    )


def _selected(v: View, around: Mapping[int, Shift], name: Callable[[str], str]) -> Selected | None:
    number = whole_number(v.query.get("shift", "")) or 0
    if not number:
        return None
    try:
        with v.context.database.read() as connection:
            one = oncall.get(connection, number)
    except NotFound:
        return None
    others = tuple(
        (f"{n}:{s.person}", f"{name(s.person)} {v.moment(s.starts_at_ms)} – {v.moment(s.ends_at_ms)}")
        for n, s in around.items()
        if s.person != one.person and s.ends_at_ms > v.now_ms
    )
    return Selected(number, one, name(one.person), others)


def _blank(v: View, selected: Selected | None) -> Given:
    """What the fields of the open form begin with."""
    if selected is not None:
        one = selected.shift
        begins, until = beijing(one.starts_at_ms, MINUTE_FORM), beijing(one.ends_at_ms, MINUTE_FORM)
        return Given(person=one.person, begins=begins, until=until, rank=str(one.rank))
    today = beijing_day(v.now_ms)
    first = models.monday(today)
    first = today if first == today else first + timedelta(weeks=1)
    return Given(first=first.isoformat(), turns=("",) * models.MOST_TURNS, weekdays=("",) * 7)


def _preview(v: View, directory: Directory) -> tuple[str, tuple[Previewed, ...]] | None:
    """Who would be told of an incident on the chosen river, the first one where none is chosen; None without rivers."""
    registry, settings = v.registries.recent(), v.context.notifications
    regions = Regions(registry.regions, registry.stations)
    with_stations = {station.reach for station in registry.stations}
    keys = [one.key for one in registry.reaches if one.key in with_stations]
    if not keys or settings is None:
        return None
    river = v.query.get("river", "") if v.query.get("river", "") in keys else keys[0]
    place = models.place_on(registry, river, regions.up)
    if place is None:
        raise ConfigurationError(say("oncall_page.no_river"))
    with v.context.database.read() as connection:
        known = oncall.shifts(connection, v.now_ms, v.now_ms + 3 * DAY_MS)
    rows = models.previews(directory, place, v.now_ms, lambda at_ms: oncall.ranks(known, at_ms), settings.policy)
    return river, rows
