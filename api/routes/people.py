"""People, their roles and terms, and their tokens; and who one is oneself."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import sqlalchemy as sa
from fastapi import Query, Response
from pydantic import Field

from api.access import OVER, Keeping, Who
from api.context import Context
from api.requests import Number, RequestContext, Strict, Words, instant, one_of
from api.responses import answer, when
from api.routes.router import subject_router
from governance.incidents.finding import Colour
from governance.notify import person_contacts
from governance.notify.contacts import Channel
from governance.notify.person_contacts import ContactDetails
from governance.organisation.roles import PERSON_ROLES, ROLES_WITH_TERMS, Department, Right, Role
from governance.organisation.terms import Appointment
from governance.people import store as people_store
from infra.times import DAY_MS

router = subject_router("people")

Days = Annotated[int | None, Query(ge=1, le=3650, description="how long it is good; the setting access.token_days")]


class NewPerson(Strict):
    """Somebody new. A handler names the department; a region's code narrows where the role counts."""

    name: Words = Field(max_length=people_store.NAME_LIMIT)
    role: Words = Field(max_length=32, examples=list(PERSON_ROLES))
    region: Words = Field("", max_length=64)
    department: Words | None = Field(None, max_length=32, examples=list(Department))


class NewTerm(Strict):
    """A term of office: of all water of a region, or of one reach in it."""

    region: Words = Field(max_length=64)
    reach: Words = Field("", max_length=64)
    deputy_of: Words = Field("", max_length=people_store.NAME_LIMIT, description="the chief whom a deputy helps")
    since: str | None = Field(None, description="RFC 3339; now when left out")
    until: str | None = None


class PersonChange(Strict):
    """What changes of somebody; what is left out stays. Roles with terms have the regions of their terms."""

    role: Words | None = Field(None, max_length=32, examples=list(PERSON_ROLES))
    region: Words | None = Field(None, max_length=64)
    department: Words | None = Field(None, max_length=32, examples=list(Department))


class TermEnd(Strict):
    """The end of a term, and who follows in the same office and takes over the open incidents."""

    until: str | None = Field(None, description="RFC 3339; now when left out")
    successor: Words = Field("", max_length=people_store.NAME_LIMIT)


@dataclass(frozen=True, slots=True)
class TermView:
    """A term; `until` is null while its end is open."""

    id: int
    region: str
    reach: str
    deputy_of: str
    since: str | None
    until: str | None


@dataclass(frozen=True, slots=True)
class TokenTermView:
    """When a token that is good was issued and when it expires; `expires_at` is null for one of before they did."""

    issued_at: str | None
    expires_at: str | None


@dataclass(frozen=True, slots=True)
class PersonView:
    """Somebody; `region` is "" where the role counts everywhere, `tokens` is null for who may not issue any."""

    name: str
    role: Role
    region: str
    department: Department | None
    terms: list[TermView]
    tokens: list[TokenTermView] | None


@dataclass(frozen=True, slots=True)
class People:
    """Everybody, by name."""

    items: list[PersonView]


@dataclass(frozen=True, slots=True)
class Appointed:
    """Somebody after an appointment, and the open incidents taken over with it."""

    person: PersonView
    inherited: list[int]


@dataclass(frozen=True, slots=True)
class TokenView:
    """A new token, shown this once."""

    name: str
    token: str
    expires_at: str | None


@dataclass(frozen=True, slots=True)
class Me:
    """Who one is here: role, rights, and the reach: the codes of regions (null: all), and single waters beside them."""

    name: str
    role: Role
    department: Department | None
    rights: list[Right]
    regions: list[str] | None
    reaches: list[str]


class NewChannel(Strict):
    """One way to somebody, as apprise writes it (`mailtos://…`, `wecombot://…`); ``short``: the first line only."""

    url: Words = Field(min_length=4, max_length=2000)
    short: bool = False


class NewContact(Strict):
    """How somebody is reached; channels are tried in their order. ``least``: nothing less urgent is sent."""

    language: Literal["zh", "en"] = "zh"
    least: Words = Field("blue", max_length=32, examples=list(Colour))
    channels: list[NewChannel] = Field(min_length=1, max_length=person_contacts.MAX_CHANNELS)
    phone: Words | None = Field(None, max_length=31, description="the number that others call; as it was when left out")


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel by its kind; its address is a secret and never shown."""

    kind: str
    short: bool


@dataclass(frozen=True, slots=True)
class ContactView:
    """How somebody is reached."""

    name: str
    language: str
    least: str
    channels: list[ChannelView]
    phone: str


@router.get("/me", response_model=Me)
def me(who: Who) -> Response:
    """Who one is, and what one may."""
    regions = None if who.regions is None else sorted(who.regions)
    reaches = sorted({reach for reach, _ in who.waters})
    return answer(Me(who.name, who.role, who.department, sorted(who.rights), regions, reaches))


@router.get("/people", response_model=People)
def list_people(context: RequestContext, who: Who, keeper: Keeping) -> Response:
    """Those whom role and region show to the caller, with roles and terms; when tokens expire, for who issues them."""
    now_ms = context.clock_ms()
    with context.database.read() as connection:
        terms = people_store.appointments(connection)
        everybody = people_store.list_people(connection)
        tokens = people_store.valid_tokens(connection, now_ms) if who.may(Right.PEOPLE) else None
    found = people_store.visible_people(who, everybody, terms, keeper.regions(), now_ms)
    return answer(People([_view(one, terms, tokens) for one in found]))


@router.post("/people", status_code=201, response_model=PersonView)
def add_person(context: RequestContext, who: Who, keeper: Keeping, new: NewPerson) -> Response:
    """Add a person. 409 for a name that was used before: the record refers to it."""
    role, department = (
        one_of(PERSON_ROLES, "role", new.role),
        None if new.department is None else one_of(Department, "department", new.department),
    )
    people_store.require_giving(who, role, [(new.region, "")])
    with context.database.write() as connection:
        made = people_store.add(
            connection,
            new.name,
            role,
            region=new.region,
            department=department,
            by=who.name,
            now_ms=context.clock_ms(),
            regions=keeper.regions(),
        )
        view = _view(made, people_store.appointments(connection, made.name), {})
    return answer(view, 201)


@router.patch("/people/{name}", response_model=PersonView, dependencies=[OVER])
def change_person(context: RequestContext, who: Who, keeper: Keeping, name: str, new: PersonChange) -> Response:
    """Give somebody another role, region or department. 409 for the last administrator and, where the role changes,
    while open incidents are theirs; a new role ends their terms, their sessions and the tokens that do not fit it."""
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        one = people_store.get(connection, name)
        role = one.role if new.role is None else one_of(PERSON_ROLES, "role", new.role)
        region = one.region if new.region is None else new.region
        department = one.department if role is one.role else None
        if new.department is not None:
            department = one_of(Department, "department", new.department)
        people_store.require_giving(who, role, [] if role in ROLES_WITH_TERMS else [(region, "")])
        people_store.change(
            connection, one.name, role, region=region, department=department, by=who.name, now_ms=now_ms,
            regions=keeper.regions(),
        )  # fmt: skip
        view = _seen(connection, one.name, now_ms)
    keeper.forget()
    return answer(view)


@router.delete("/people/{name}", status_code=204, dependencies=[OVER])
def remove_person(context: RequestContext, who: Who, keeper: Keeping, name: str) -> Response:
    """Take away role, terms and tokens; the name stays in the record. 409 while open incidents are theirs."""
    with context.database.write() as connection:
        people_store.remove(connection, name, by=who.name, now_ms=context.clock_ms())
    keeper.forget()
    return Response(status_code=204)


@router.post("/people/{name}/appointments", status_code=201, response_model=Appointed, dependencies=[OVER])
def appoint(context: RequestContext, who: Who, keeper: Keeping, name: str, new: NewTerm) -> Response:
    """Begin a term: the predecessor's ends, and the open incidents go over."""
    now_ms = context.clock_ms()
    people_store.require_giving(who, Role.PUBLIC, [(new.region, new.reach)])
    with context.database.write() as connection:
        moved = people_store.appoint(
            connection,
            name,
            region=new.region,
            reach=new.reach,
            deputy_of=new.deputy_of,
            since_ms=now_ms if new.since is None else instant("since", new.since),
            until_ms=None if new.until is None else instant("until", new.until),
            by=who.name,
            now_ms=now_ms,
            source=context.source,
            regions=keeper.regions(),
        )
        view = _seen(connection, name, now_ms)
    keeper.forget()
    context.wake()
    return answer(Appointed(view, moved), 201)


@router.post("/people/{name}/appointments/{number}/end", response_model=Appointed, dependencies=[OVER])
def end_appointment(
    context: RequestContext, who: Who, keeper: Keeping, name: str, number: Number, new: TermEnd
) -> Response:
    """End a term now or on a day, with or without a successor. 404 for a term that is over; `inherited` went over."""
    now_ms = context.clock_ms()
    until_ms = now_ms if new.until is None else instant("until", new.until)
    with context.database.write() as connection:
        moved: list[int] = []
        if new.successor:
            people_store.require_authority(connection, who, new.successor, now_ms)
            moved = people_store.succeed(
                connection, name, number, new.successor, until_ms,
                by=who.name, now_ms=now_ms, source=context.source, regions=keeper.regions(),
            )  # fmt: skip
        else:
            people_store.end_term(connection, name, number, until_ms, by=who.name, now_ms=now_ms)
        view = _seen(connection, name, now_ms)
    keeper.forget()
    context.wake()
    return answer(Appointed(view, moved))


@router.get("/people/{name}/contact", response_model=ContactView, dependencies=[OVER])
def get_contact(context: RequestContext, name: str) -> Response:
    """How somebody is reached, without the addresses; 404 where nothing is kept."""
    with context.database.read() as connection:
        return answer(_contact(name, person_contacts.get(connection, name, context.vault)))


@router.put("/people/{name}/contact", response_model=ContactView, dependencies=[OVER])
def put_contact(context: RequestContext, who: Who, name: str, new: NewContact) -> Response:
    """Keep how somebody is reached instead of what was kept; a contact of the same name in the file gives way to it."""
    ways = tuple(Channel(one.url.strip(), one.short) for one in new.channels)
    least = one_of(Colour, "least", new.least)
    with context.database.write() as connection:
        kept = person_contacts.read_all(connection, context.vault, (name,)).get(name, ContactDetails())
        phone = kept.phone if new.phone is None else new.phone
        reach = replace(kept, language=new.language, least=least, channels=ways, phone=phone)
        person_contacts.put(connection, name, reach, context.vault, by=who.name, now_ms=context.clock_ms())
    _contacts_changed(context)
    return answer(_contact(name, reach))


@router.delete("/people/{name}/contact", status_code=204, dependencies=[OVER])
def remove_contact(context: RequestContext, who: Who, name: str) -> Response:
    """Forget how somebody is reached; 404 where nothing is kept."""
    with context.database.write() as connection:
        person_contacts.remove(connection, name, by=who.name, now_ms=context.clock_ms())
    _contacts_changed(context)
    return Response(status_code=204)


@router.post("/people/{name}/tokens", status_code=201, response_model=TokenView, dependencies=[OVER])
def issue_token(context: RequestContext, who: Who, name: str, days: Days = None) -> Response:
    """A new token of somebody; shown this once. A limited token makes none."""
    who.must_be_whole()
    now_ms, good_ms = context.clock_ms(), context.token_ms if days is None else days * DAY_MS
    with context.database.write() as connection:
        token = people_store.issue_token(connection, name, by=who.name, now_ms=now_ms, good_ms=good_ms)
    return answer(TokenView(name, token, when(now_ms + good_ms)), 201, {"Cache-Control": "no-store"})


@router.delete("/people/{name}/tokens", status_code=204, dependencies=[OVER])
def revoke_tokens(context: RequestContext, who: Who, keeper: Keeping, name: str) -> Response:
    """End all tokens of somebody."""
    with context.database.write() as connection:
        people_store.revoke_tokens(connection, name, by=who.name, now_ms=context.clock_ms())
    keeper.forget()
    return Response(status_code=204)


def _contacts_changed(context: Context) -> None:
    if context.notifications is not None:
        context.notifications.changed()


def _contact(name: str, reach: ContactDetails) -> ContactView:
    ways = [ChannelView(one.kind, one.short) for one in reach.channels]
    return ContactView(name, reach.language, reach.least.value, ways, reach.phone)


def _seen(connection: sa.Connection, name: str, now_ms: int) -> PersonView:
    """Somebody as they are now, with when their tokens expire."""
    tokens = people_store.valid_tokens(connection, now_ms)
    return _view(people_store.get(connection, name), people_store.appointments(connection, name), tokens)


def _view(
    one: people_store.Person, terms: list[Appointment], tokens: Mapping[str, list[people_store.TokenTerm]] | None
) -> PersonView:
    mine = [
        TermView(t.id, t.region, t.reach, t.deputy_of, when(t.since_ms), when(t.until_ms))
        for t in terms
        if t.name == one.name
    ]
    good = None
    if tokens is not None:
        good = [TokenTermView(when(t.issued_at_ms), when(t.expires_at_ms)) for t in tokens.get(one.name, ())]
    return PersonView(one.name, one.role, one.region, one.department, mine, good)
