"""People ``/people``: who is who in which region, terms of office, and how everybody is reached; all by plain forms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal
from urllib.parse import quote

import sqlalchemy as sa
from fastapi import APIRouter, Response
from starlette.responses import RedirectResponse

from api import problems
from api.access import needed_right
from api.names import channel_name
from api.pages import person_access
from api.pages.acting import known_contacts
from api.pages.forms import Fields
from api.pages.live import digest
from api.pages.menu import PEOPLE
from api.pages.models import channel_form
from api.pages.models import people as models
from api.pages.models.channel_form import FieldWrong
from api.pages.models.messages import gateway_failure, midnight, state_of
from api.pages.view import PageRoute, View, Viewing
from api.requests import one_of
from api.routes.notices import queue_test_message
from governance.incidents.finding import Colour
from governance.incidents.model import Conflict
from governance.notify import person_contacts
from governance.notify import store as notice_store
from governance.notify.contacts import Channel, Contact, ContactRole, Directory
from governance.notify.person_contacts import ContactDetails
from governance.notify.store import Notice
from governance.organisation.regions import Regions
from governance.organisation.roles import PERSON_ROLES, ROLES_WITH_TERMS, Department, Forbidden, Role
from governance.organisation.terms import Appointment
from governance.people import store as people_store
from governance.people.store import Person, Succession
from infra.errors import ConfigurationError, NotFound, Refused, WaterError
from infra.texts import Text, say
from infra.times import DAY_MS, beijing_day

PATH = PEOPLE.path
ONE = "/people/{name}"
CHANGE = needed_right("POST", "/people")
CONTACT = needed_right("GET", "/people/-/contact")
TEST = needed_right("POST", "/notices/test")
MOST_CASES = 30
SENT_TWICE_MS = 5 * 60_000
"""A form that says again what was done so long ago was sent twice."""
TEST_SHOWN_MS = 24 * 3_600_000
"""The outcome of a test message is shown for so long."""
DONE = frozenset(
    {"added", "saved", "appointed", "ended", "removed", "contact", "channel", "dropped", "imported", "tested"}
)

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True)
class Typed:
    """What somebody typed into which form, and why it was refused: ``wrong`` by field, "" for the whole of it."""

    do: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, Text] = field(default_factory=dict)
    status: int = 200


# -- the list ----------------------------------------------------------------------------------------------------------


@router.get(PATH)
def show(v: Viewing) -> Response:
    """The people that the address asks for, or the form of a new one."""
    v.require(PEOPLE.right)
    if v.query.get("add") == "1":
        v.require(CHANGE)
        return _new(v, Typed(given={name: v.query.get(name, "")[:80] for name in ("name", "role", "region")}))
    chosen = models.choice(v.query)
    directory = known_contacts(v)
    with v.context.database.read() as connection:
        terms = people_store.appointments(connection)
        everybody = people_store.list_people(connection)
        seen = people_store.visible_people(v.actor, everybody, terms, v.keeper.regions(), v.now_ms)
        reach = _reach(connection, directory, seen) if directory is not None else None
    found = models.listing(seen, terms, v.registries.recent(), v.now_ms, v.actor, chosen, reach)
    outside = models.not_people(directory, everybody) if directory and v.actor.may(CONTACT) else []
    return v.render(
        "people.html",
        found=found,
        chosen=chosen,
        outside=outside,
        done=_done(v),
        may=v.actor.may(CHANGE),
        told=directory is not None,
        step=models.ROWS,
        roles=_roles(v),
        regions=_regions(v),
        terms=models.TERMS,
        reachable=(*models.REACHABLE, models.UNREACHED),
        contact_roles=lambda one: _listed(v, [say(f"notice.role_{role}") for role in one.roles]),
        channels_of=lambda one: _listed(v, [channel_name(c.kind) for c in one.channels]),
        **_words(v),
    )


def _reach(connection: sa.Connection, directory: Directory, people: list[Person]) -> dict[str, str]:
    newest = notice_store.newest_to(connection, [one.key for one in directory.contacts])
    return models.reachability(people, directory, {key for key, one in newest.items() if one.status == "dead"})


@router.post(PATH)
def add(v: Viewing, given: Fields) -> Response:
    """Add somebody, or take a contact of the file over."""
    v.require(CHANGE)
    ways = {"add": _add_person, "import": _import}
    act = ways.get(given.get("do", ""))
    if act is None:
        raise Refused(say("people_page.no_action"))
    return act(v, given)


def _add_person(v: View, given: dict[str, str]) -> Response:
    name, region = given.get("name", ""), given.get("region", "")
    try:
        role, department = _role(given), _department(given)
        people_store.require_giving(v.actor, role, [(region, "")])
        with v.context.database.write() as connection:
            there = {one.name: one for one in people_store.list_people(connection)}.get(name)
            if not _sent_twice(there, role, region, department, v.now_ms):
                people_store.add(
                    connection,
                    name,
                    role,
                    region=region,
                    department=department,
                    by=v.actor.name,
                    now_ms=v.now_ms,
                    regions=v.keeper.regions(),
                )
    except WaterError as error:
        return _new(v, _refused("add", given, error))
    _changed(v)
    return RedirectResponse(_address(v, name, done="added"), 303)


def _sent_twice(there: Person | None, role: Role, region: str, department: Department | None, now_ms: int) -> bool:
    """Whether somebody was added just now as a form says."""
    if there is None or now_ms - there.created_at_ms > SENT_TWICE_MS:
        return False
    return (there.role, there.region, there.department) == (role, region, department)


def _import(v: View, given: dict[str, str]) -> Response:
    """Take a contact of the file over into the record: a person with these channels, of the role that is chosen."""
    directory = known_contacts(v) or Directory()
    contact = directory.named(given.get("key", ""))
    name = contact.name
    role, department = _role(given), _department(given)
    regions = v.keeper.regions()
    with v.context.database.write() as connection:
        if name not in {one.name for one in people_store.list_people(connection)}:
            region = next((code for code in contact.regions if code in regions), "")
            people_store.require_giving(v.actor, role, [(region, "")])
            people_store.add(
                connection, name, role, region=region, department=department, by=v.actor.name, now_ms=v.now_ms,
                regions=regions,
            )  # fmt: skip
        details = ContactDetails(contact.language, contact.least, contact.channels, contact.phone, contact.roles)
        person_contacts.put(connection, name, details, v.context.vault, by=v.actor.name, now_ms=v.now_ms)
    _changed(v)
    return RedirectResponse(_address(v, name, done="imported"), 303)


def _new(v: View, typed: Typed) -> Response:
    return v.render(
        "people_new.html",
        status=typed.status,
        typed=typed,
        roles=_roles(v),
        regions=_regions(v),
        departments=_departments(v),
    )


# -- a person ----------------------------------------------------------------------------------------------------------


@router.get(ONE)
def person(v: Viewing, name: str) -> Response:
    """Somebody: their terms, how they are reached, what they have in hand, and the forms that change it."""
    if v.person != name:
        v.require(PEOPLE.right)
    return _person(v, name, Typed())


@router.post(ONE)
def change(v: Viewing, name: str, given: Fields) -> Response:
    """Do what one of the page's forms asks for."""
    ways: dict[str, Callable[[View, str, dict[str, str]], Response]] = {
        "change": _change,
        "appoint": _appoint,
        "end": _end,
        "settings": _settings,
        "channel": _channel,
        "drop": _drop,
        "push": _push,
        "test": _test,
        "remove": _remove,
    }
    do = given.get("do", "")
    if do not in ways:
        raise Refused(say("people_page.no_action"))
    if do not in OWN or v.person != name:
        v.require(CHANGE)
    try:
        v.keeper.require_authority(v.actor, name)
        return ways[do](v, name, given)
    except WaterError as error:
        return _person(v, name, _refused(do, given, error))


def _change(v: View, name: str, given: dict[str, str]) -> Response:
    role, region = _role(given), given.get("region", "")
    people_store.require_giving(v.actor, role, [] if role in ROLES_WITH_TERMS else [(region, "")])
    with v.context.database.write() as connection:
        people_store.change(
            connection,
            name,
            role,
            region=region,
            department=_department(given),
            by=v.actor.name,
            now_ms=v.now_ms,
            regions=v.keeper.regions(),
        )
    _changed(v)
    return _see(v, name, "saved")


def _appoint(v: View, name: str, given: dict[str, str]) -> Response:
    """The form carries what the preview said, so that nobody is surprised by what goes over."""
    term = _term(v, given)
    people_store.require_giving(v.actor, Role.PUBLIC, [(term.region, term.reach)])
    with v.context.database.write() as connection:
        if _held(people_store.appointments(connection, name), term):  # sent twice
            return _see(v, name, "appointed")
        regions = v.keeper.regions()
        ahead = people_store.succession(
            connection, name, region=term.region, reach=term.reach, since_ms=term.since_ms, regions=regions
        )
        if given.get("seen") != _mark(ahead):
            raise Conflict(say("people_page.preview_changed"))
        moved = people_store.appoint(
            connection,
            name,
            region=term.region,
            reach=term.reach,
            deputy_of=term.deputy_of,
            since_ms=term.since_ms,
            until_ms=term.until_ms,
            by=v.actor.name,
            now_ms=v.now_ms,
            source=v.context.source,
            regions=regions,
        )
    _changed(v)
    v.context.wake()
    return RedirectResponse(_address(v, name, done="appointed", moved=len(moved) or None), 303)


def _end(v: View, name: str, given: dict[str, str]) -> Response:
    """End a term; a successor, where one is chosen, takes over the open incidents of its water."""
    number, successor = given.get("term", ""), given.get("successor", "")
    moved: list[int] = []
    with v.context.database.write() as connection:
        terms = {str(one.id): one for one in people_store.appointments(connection, name)}
        one = terms.get(number)
        if one is None:
            raise NotFound(say("person.no_such_term"))
        until_ms = models.day(given.get("until", ""), v.now_ms) or v.now_ms
        if one.until_ms is None or (one.until_ms > v.now_ms and one.until_ms != until_ms):
            if successor:
                people_store.require_authority(connection, v.actor, successor, v.now_ms)
                moved = people_store.succeed(
                    connection, name, one.id, successor, until_ms,
                    by=v.actor.name, now_ms=v.now_ms, source=v.context.source, regions=v.keeper.regions(),
                )  # fmt: skip
            else:
                people_store.end_term(connection, name, one.id, until_ms, by=v.actor.name, now_ms=v.now_ms)
    _changed(v)
    v.context.wake()
    return RedirectResponse(_address(v, name, done="ended", moved=len(moved) or None), 303)


def _remove(v: View, name: str, given: dict[str, str]) -> Response:
    with v.context.database.write() as connection:
        people_store.remove(connection, name, by=v.actor.name, now_ms=v.now_ms)
    _changed(v)
    return RedirectResponse(v.to(PATH, done="removed"), 303)


def _may_contact(v: View, name: str) -> bool:
    """Whether who looks may say how somebody is reached: the office, and everybody for themselves."""
    return v.actor.may(CONTACT) or v.person == name


def _own_choice(v: View, name: str, choice: ContactDetails) -> None:
    """Raises ConfigurationError for what a person may not choose away, and Forbidden for others than both."""
    if not v.actor.may(CONTACT):
        if v.person != name:
            v.require(CONTACT)
        contact = (known_contacts(v) or Directory()).called(name)
        person_contacts.check_own_choice(contact.roles if contact else (), choice)


def _settings(v: View, name: str, given: dict[str, str]) -> Response:
    roles = tuple(role for role in ContactRole if given.get(f"role_{role}"))
    try:
        quiet = models.quiet(given.get("quiet_from", ""), given.get("quiet_until", ""))
    except ConfigurationError as error:
        raise FieldWrong("quiet_from", error.text) from None
    language: Literal["zh", "en"] = "en" if given.get("language") == "en" else "zh"
    least = one_of(Colour, "least", given.get("least", ""))
    own = roles if given.get("reasons") == "own" else None
    with v.context.database.write() as connection:
        kept = _kept(v, connection, name)
        own = own if v.actor.may(CONTACT) else kept.roles
        after = replace(kept, language=language, least=least, phone=given.get("phone", ""), roles=own, quiet=quiet)
        _own_choice(v, name, after)
        _put(v, connection, name, kept, after)
    return _see(v, name, "contact")


def _channel(v: View, name: str, given: dict[str, str]) -> Response:
    if not v.actor.may(CONTACT):
        channel_form.check_own(given.get("kind", ""), given)
    return _add_channel(v, name, channel_form.channel(given.get("kind", ""), given, _others(v)))


def _push(v: View, name: str, given: dict[str, str]) -> Response:
    """The browser of who looks, which asked for messages: it comes first, being the quickest."""
    push = v.context.notifications.push if v.context.notifications else None
    if push is None or v.person != name:
        raise Refused(say("people_page.no_push"))
    return _add_channel(
        v, name, push.channel(given.get("endpoint", ""), given.get("p256dh", ""), given.get("auth", "")), 0
    )


def _add_channel(v: View, name: str, made: Channel, at: int | None = None) -> Response:
    with v.context.database.write() as connection:
        kept = _kept(v, connection, name)
        after = [*kept.channels]
        after.insert(len(after) if at is None else at, made)
        _own_choice(v, name, replace(kept, channels=tuple(after)))
        if made not in kept.channels:  # else sent twice
            _put(v, connection, name, kept, replace(kept, channels=tuple(after)))
    return _see(v, name, "channel")


def _drop(v: View, name: str, given: dict[str, str]) -> Response:
    with v.context.database.write() as connection:
        kept = _kept(v, connection, name)
        left = replace(kept, channels=tuple(one for one in kept.channels if digest(one.url) != given.get("channel")))
        _own_choice(v, name, left)
        _put(v, connection, name, kept, left)
    return _see(v, name, "dropped")


def _test(v: View, name: str, given: dict[str, str]) -> Response:
    """Send a test message through the worker, as any other; the page that follows says what came of it."""
    if v.person != name:
        v.require(TEST)
    contact = (known_contacts(v) or Directory()).called(name)
    if contact is None or not contact.channels:
        raise Refused(say("people_page.no_channel"))
    newest = _newest_test(v, contact.key)
    if newest is None or str(newest.id) == given.get("newest", ""):  # else sent twice
        queue_test_message(v.context, contact.key)
    return RedirectResponse(_address(v, name, done="tested") + "#contact", 303)


def _kept(v: View, connection: sa.Connection, name: str) -> ContactDetails:
    """How somebody is reached by what is stored; of somebody in the file alone, what the file says."""
    kept = person_contacts.read_all(connection, v.context.vault, (name,)).get(name)
    if kept is not None:
        return kept
    one = (known_contacts(v) or Directory()).called(name)
    return (
        ContactDetails(one.language, one.least, one.channels) if one is not None and one.in_file else ContactDetails()
    )


def _put(v: View, connection: sa.Connection, name: str, before: ContactDetails, after: ContactDetails) -> None:
    """Store a change; nothing is kept of who has nothing of their own any more."""
    if before == after:
        return
    by, now_ms = v.actor.name, v.now_ms
    if after != ContactDetails():
        person_contacts.put(connection, name, after, v.context.vault, by=by, now_ms=now_ms)
    elif name in person_contacts.read_all(connection, v.context.vault, (name,)):
        person_contacts.remove(connection, name, by=by, now_ms=now_ms)
    _changed(v)


def _others(v: View) -> list[Channel]:
    """The channels of everybody, whose sender or gateway a new one can share."""
    return [channel for one in (known_contacts(v) or Directory()).contacts for channel in one.channels]


def _newest_test(v: View, key: str) -> Notice | None:
    with v.context.database.read() as connection:
        return notice_store.newest_test(connection, key)


# -- what is shown -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reached:
    """How somebody is reached, for who may see it: the contact as it counts, where it comes from, the newest test."""

    details: ContactDetails
    contact: Contact | None
    origin: str
    reach: str
    tests: Notice | None
    test_state: str
    test_error: Text
    newest_test: str
    shared: Mapping[str, Any]


def _person(v: View, name: str, typed: Typed) -> Response:
    registry, regions = v.registries.recent(), v.keeper.regions()
    with v.context.database.read() as connection:
        one = people_store.get(connection, name)
        terms = people_store.appointments(connection)
        everybody = people_store.list_people(connection)
        if v.person != one.name and one not in people_store.visible_people(v.actor, [one], terms, regions, v.now_ms):
            raise Forbidden(say("people_page.not_yours"))
        cases = people_store.open_cases(connection, one.name)
    may = v.actor.may(CHANGE)
    held = [t for t in terms if t.name == one.name]
    asked = typed.given if typed.do == "appoint" else {name: v.query.get(name, "") for name in TERM}
    plan = _plan(v, one, asked, typed) if may and (v.query.get("do") == "appoint" or typed.do == "appoint") else None
    return v.render(
        "people_person.html",
        status=plan.status if plan is not None and typed.status == 200 else typed.status,
        person=one,
        terms=sorted(held, key=lambda t: (_sort(t, v.now_ms) == "over", -t.since_ms)),
        sort_of=lambda t: _sort(t, v.now_ms),
        soon=lambda t: t.until_ms is not None and 0 < t.until_ms - v.now_ms < models.SOON_MS,
        cases=cases if v.actor.regions is None or may else [],
        most_cases=MOST_CASES,
        typed=typed,
        may=may,
        with_terms=one.role in ROLES_WITH_TERMS,
        reached=_reached(v, one) if v.actor.may(CONTACT) or v.person == one.name else None,
        may_contact=_may_contact(v, one.name),
        may_reasons=v.actor.may(CONTACT),
        may_test=(v.actor.may(TEST) and v.actor.may(CONTACT)) or v.person == one.name,
        push_key=_push_key(v) if v.person == one.name else "",
        arrivals=_arrivals(v, one.name),
        plan=plan,
        asked=asked,
        chiefs=[p.name for p in everybody if p.role in (Role.CHIEF, Role.GENERAL_CHIEF) and p.name != one.name],
        heirs=[p.name for p in everybody if p.role is one.role and p.name != one.name] if may else [],
        roles=_roles(v),
        regions=_regions(v),
        departments=_departments(v),
        rivers=[(r.key, v.of(Text(r.zh, r.en))) for r in registry.reaches],
        kinds=channel_form.KINDS if v.actor.may(CONTACT) else channel_form.OWN_KINDS,
        kind=channel_form.BY_KEY.get(
            typed.given.get("kind", "") if typed.do == "channel" else v.query.get("kind", ""), channel_form.KINDS[0]
        ),
        contact_roles=tuple(ContactRole),
        day_of=models.day_of,
        person_access=person_access.of(v, one.name),
        digest=digest,
        done=_done(v),
        moved=v.query.get("moved", "") if v.query.get("moved", "").isdecimal() else "",
        **_words(v),
    )


OWN = frozenset({"settings", "channel", "drop", "push", "test"})
"""What people do on their own page."""
ARRIVAL_HOURS = (14, 2)
"""Hours of the day for which the page says when messages come: an afternoon and a night."""
TERM = ("region", "reach", "deputy_of", "since", "until")
"""Fields of the form of a term."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The preview of an appointment: what it changes, and its mark; ``wrong``: why it cannot be."""

    succession: Succession | None
    mark: str = ""
    since_ms: int = 0
    wrong: Text | None = None
    status: int = 200


def _plan(v: View, one: Person, asked: Mapping[str, str], typed: Typed) -> Planned:
    """What an appointment would change; nothing before a region is chosen."""
    if not asked.get("region"):
        return Planned(None)
    try:
        if one.role not in ROLES_WITH_TERMS:
            raise Refused(say("people_page.no_terms"))
        term = _term(v, asked)
        with v.context.database.read() as connection:
            ahead = people_store.succession(
                connection,
                one.name,
                region=term.region,
                reach=term.reach,
                since_ms=term.since_ms,
                regions=v.keeper.regions(),
            )
    except WaterError as error:
        return Planned(None, wrong=error.text, status=problems.of(error).sort.status)
    return Planned(ahead, _mark(ahead), term.since_ms)


def _mark(ahead: Succession) -> str:
    return digest((ahead.predecessors, ahead.incidents))


@dataclass(frozen=True, slots=True)
class _Term:
    region: str
    reach: str
    deputy_of: str
    since_ms: int
    until_ms: int | None


def _term(v: View, given: Mapping[str, str]) -> _Term:
    """The term that a form says; it begins now where it names today or nothing. Raises ConfigurationError."""
    regions = v.keeper.regions()
    if given.get("region", "") not in regions:
        raise ConfigurationError(say("people_page.no_region"))
    if given.get("reach") and given["reach"] not in {one.key for one in v.registries.recent().reaches}:
        raise ConfigurationError(say("people_page.no_river"))
    since_ms = models.day(given.get("since", ""), None)
    if since_ms is None or since_ms == midnight(beijing_day(v.now_ms)):
        since_ms = v.now_ms
    until_ms = models.day(given.get("until", ""), None)
    if until_ms is not None and until_ms <= since_ms:
        raise ConfigurationError(say("people_page.term_backwards"))
    return _Term(given["region"], given.get("reach", ""), given.get("deputy_of", ""), since_ms, until_ms)


def _held(terms: list[Appointment], term: _Term) -> bool:
    """Whether somebody holds this term already, begun within moments of it."""
    return any(
        (t.region, t.reach, t.deputy_of, t.until_ms) == (term.region, term.reach, term.deputy_of, term.until_ms)
        and abs(t.since_ms - term.since_ms) < SENT_TWICE_MS
        for t in terms
    )


def _sort(term: Appointment, now_ms: int) -> str:
    """``now``, ``ahead`` or ``over``."""
    return "now" if term.in_force(now_ms) else "ahead" if term.since_ms > now_ms else "over"


def _push_key(v: View) -> str:
    push = v.context.notifications.push if v.context.notifications else None
    return push.public_key if push else ""


def _arrivals(v: View, name: str) -> list[tuple[Colour, list[int | None]]]:
    """When a message of each colour would come: of something at 14:00 and at 02:00 next, None for never."""
    contact = (known_contacts(v) or Directory()).called(name)
    if contact is None or v.context.notifications is None:
        return []
    day = midnight(beijing_day(v.now_ms)) + DAY_MS
    policy = v.context.notifications.policy
    return [
        (
            colour,
            [
                policy.due(colour, day + hour * 3_600_000, on_duty=False, own=contact.quiet) - day
                if colour.rank <= contact.least.rank
                else None
                for hour in ARRIVAL_HOURS
            ],
        )
        for colour in Colour
    ]


def _reached(v: View, one: Person) -> Reached:
    directory = known_contacts(v) or Directory()
    contact = directory.called(one.name)
    with v.context.database.read() as connection:
        stored = person_contacts.read_all(connection, v.context.vault, (one.name,)).get(one.name)
        test = notice_store.newest_test(connection, contact.key) if contact else None
        reach = _reach(connection, directory, [one])
    in_file = contact is not None and contact.in_file
    details = _kept_of(stored, contact)
    shown = test if test is not None and v.now_ms - test.created_at_ms < TEST_SHOWN_MS else None
    others = _others(v)
    return Reached(
        details=details,
        contact=contact,
        origin="stored" if stored is not None and stored.channels else "file" if in_file else "",
        reach="ok" if details.channels and reach[one.name] == "none" else reach[one.name],
        tests=shown,
        test_state=state_of(shown) if shown else "",
        test_error=gateway_failure(shown.last_error if shown else None).text,
        newest_test=str(test.id) if test else "",
        shared={kind.key: channel_form.shared_with(kind, others) for kind in channel_form.KINDS},
    )


def _kept_of(stored: ContactDetails | None, contact: Contact | None) -> ContactDetails:
    if stored is not None and (stored.channels or contact is None or not contact.in_file):
        return stored
    base = stored or ContactDetails()
    if contact is None or not contact.in_file:
        return base
    return replace(base, language=contact.language, least=contact.least, channels=contact.channels)


# -- shared ------------------------------------------------------------------------------------------------------------


def _words(v: View) -> dict[str, Any]:
    registry = v.registries.recent()
    names = {one.code: v.of(Text(one.zh, one.en)) for one in registry.regions}
    rivers = {one.key: v.of(Text(one.zh, one.en)) for one in registry.reaches}
    return {
        "region_name": lambda code: names.get(code, code),
        "river_name": lambda key: rivers.get(key, key),
        "person_path": partial(_address, v),
        "listed": ("、" if v.language == "zh" else ", ").join,
    }


def _listed(v: View, texts: list[Text]) -> str:
    return ("、" if v.language == "zh" else ", ").join(dict.fromkeys(v.of(one) for one in texts))


def _address(v: View, name: str, **query: object) -> str:
    """The page of a person."""
    return v.to(f"{PATH}/{quote(name, safe='')}", **query)


def _see(v: View, name: str, done: str) -> Response:
    anchor = "#contact" if done in ("contact", "channel", "dropped") else ""
    return RedirectResponse(_address(v, name, done=done) + anchor, 303)


def _changed(v: View) -> None:
    """People or contacts are others: who asks next is told so."""
    v.keeper.forget()
    if v.context.notifications is not None:
        v.context.notifications.changed()


def _done(v: View) -> str:
    done = v.query.get("done", "")
    return done if done in DONE else ""


def _refused(do: str, given: Mapping[str, str], error: WaterError) -> Typed:
    name = error.name if isinstance(error, FieldWrong) else ""
    return Typed(do, given, {name: error.text}, problems.of(error).sort.status)


def _role(given: Mapping[str, str]) -> Role:
    if not given.get("role"):
        raise FieldWrong("role", say("people_page.no_role"))
    return one_of(PERSON_ROLES, "role", given["role"])


def _department(given: Mapping[str, str]) -> Department | None:
    """The department of a handler; nobody else has one, whatever a form says."""
    if given.get("role") != Role.HANDLER:
        return None
    if not given.get("department"):
        raise FieldWrong("department", say("people_page.needs_department"))
    return one_of(Department, "department", given["department"])


def _roles(v: View) -> list[tuple[str, str]]:
    return [(role.value, v.say(f"person.{role}")) for role in PERSON_ROLES]


def _departments(v: View) -> list[tuple[str, str]]:
    return [(one.value, v.say(f"department.{one}")) for one in Department]


def _regions(v: View) -> list[tuple[str, str]]:
    """The regions within reach, indented by level."""
    registry = v.registries.recent()
    regions = Regions(registry.regions, registry.stations)
    ordered = sorted(registry.regions, key=lambda one: regions.up(one.code)[::-1])
    return [
        (one.code, "　" * regions.depth(one.code) + v.of(Text(one.zh, one.en)))
        for one in ordered
        if v.actor.covers(one.code)
    ]
