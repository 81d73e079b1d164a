"""Store of people: accounts, tokens, terms of office, and the actor that somebody is at an instant.

Every function takes an open connection and never commits. A person's name is their key in all records, so that it is
never given twice, not even after a removal. Tokens are random; only their SHA-256 is kept.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.incidents import store as incident_store
from governance.incidents.model import FINAL_STATES, Incident
from governance.organisation.regions import Regions
from governance.organisation.roles import (
    PERSON_ROLES,
    RIGHTS,
    ROLES_WITH_TERMS,
    Actor,
    Department,
    Forbidden,
    Right,
    Role,
    role_name,
)
from governance.organisation.terms import Appointment
from governance.tables import appointment as appointments_
from governance.tables import draft as drafts_
from governance.tables import incident as incidents_
from governance.tables import login_session as sessions_
from governance.tables import one_time_code as one_time_codes_
from governance.tables import person as people_
from governance.tables import person_account as accounts_
from governance.tables import person_contact as contacts_
from governance.tables import recovery_code as recovery_codes_
from governance.tables import token as tokens_
from infra.errors import ConfigurationError, NotFound, Refused
from infra.records import from_row
from infra.texts import say
from infra.times import DAY_MS

PREFIX = "rc_"
"""Makes a token recognisable where it should not be, as in a log or a mail."""
NAME_LIMIT = 80
TOKEN_MS = 365 * DAY_MS
"""How long a token is valid by default."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person with a role; ``region`` is the code of where it counts, "" everywhere."""

    id: int
    name: str
    role: Role
    region: str
    department: Department | None
    created_at_ms: int
    removed_at_ms: int | None


def add(
    connection: sa.Connection,
    name: str,
    role: Role,
    *,
    region: str = "",
    department: Department | None = None,
    by: str,
    now_ms: int,
    regions: Regions | None = None,
) -> Person:
    """Add a person; a chief or deputy with a region is appointed to it at once, and who held the office leaves it.

    Raises ConfigurationError for a name, region or department that cannot be, Refused for a name given before.
    """
    name = name.strip()
    _check(name, role, region, department, regions)
    if connection.execute(sa.select(people_.c.id).where(people_.c.name == name)).first():
        raise Refused(say("person.person_exists", name=name))
    row = {
        "name": name,
        "role": role.value,
        "region": region,
        "department": department.value if department else None,
        "created_at_ms": now_ms,
        "created_by": by,
    }
    number = connection.execute(sa.insert(people_).values(row).returning(people_.c.id)).scalar_one()
    predecessors: list[str] = []
    if role in ROLES_WITH_TERMS and region:
        for held in appointments(connection):
            same = (held.region, held.reach) == (region, "") and held.role is role and role is not Role.DEPUTY
            if same and held.in_force(now_ms):  # `inherit` hands the open cases over
                _end_terms(connection, appointments_.c.id == held.id, now_ms)
                predecessors.append(held.name)
        term = {"region": region, "reach": "", "deputy_of": "", "since_ms": now_ms, "until_ms": None}
        connection.execute(sa.insert(appointments_).values(person_id=number, **term))
    body = {"role": role.value, "region": region, "department": row["department"], "instead_of": predecessors}
    _record(connection, "person.added", name, body, by, now_ms)
    return get(connection, name)


def _check(name: str, role: Role, region: str, department: Department | None, regions: Regions | None) -> None:
    """Raises ConfigurationError for a name, role, region or department that cannot be."""
    if not name or len(name) > NAME_LIMIT or any(not letter.isprintable() for letter in name):
        raise ConfigurationError(say("person.no_name", name=name[:NAME_LIMIT], most=NAME_LIMIT))
    if role not in PERSON_ROLES:
        raise ConfigurationError(say("person.no_person_is", role=role_name(role)))
    if region and regions is not None and region not in regions:
        raise ConfigurationError(say("registry.no_region", region=region))
    if (role is Role.HANDLER) != (department is not None):
        raise ConfigurationError(say("person.handler_only", name=name))


def get(connection: sa.Connection, name: str) -> Person:
    """The person of this name, unless removed; raises NotFound."""
    query = sa.select(people_).where(people_.c.name == name.strip(), people_.c.removed_at_ms.is_(None))
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(say("person.no_person", name=name[:NAME_LIMIT]))
    return _person(row)


def list_people(connection: sa.Connection, *, removed: bool = False) -> list[Person]:
    """All people by name; with ``removed`` also those removed."""
    query = sa.select(people_).order_by(people_.c.name)
    if not removed:
        query = query.where(people_.c.removed_at_ms.is_(None))
    return [_person(row) for row in connection.execute(query).mappings()]


def visible_people(
    actor: Actor, everybody: Iterable[Person], terms: Sequence[Appointment], regions: Regions, now_ms: int
) -> list[Person]:
    """The people whom an actor may see: themselves, and those that their role and region show them.

    Chiefs, deputies, the office and administrators see who has a region or a term in their own; an operator sees who
    can be assigned a case there, also from above. Auditors and programs see all.
    """
    if actor.role in (Role.AUDITOR, Role.MACHINE):
        return list(everybody)
    held: dict[str, set[tuple[str, str]]] = {}
    for term in terms:
        if term.in_force(now_ms):
            held.setdefault(term.name, set()).add((term.region, term.reach))

    def shown(one: Person) -> bool:
        places = held.get(one.name, set()) if one.role in ROLES_WITH_TERMS else {(one.region, "")}
        if actor.role is not Role.OPERATOR:
            return actor.regions is None or any(actor.covers(*place) for place in places)
        if one.role not in ROLES_WITH_TERMS and (
            Right.HANDLE not in RIGHTS[one.role] or one.role is Role.ADMINISTRATOR
        ):
            return False
        reached = [regions.within(region) for region, _ in places]
        return actor.regions is None or any(reach is None or reach & actor.regions for reach in reached)

    return [one for one in everybody if one.name == actor.name or shown(one)]


def remove(connection: sa.Connection, name: str, *, by: str, now_ms: int) -> None:
    """Remove a person with their terms, tokens and contact; the record keeps the name.

    Raises NotFound, and Refused for the last administrator and for who is responsible for open incidents.
    """
    one = get(connection, name)
    _require_other_administrator(connection, one)
    _require_no_cases(connection, one)
    connection.execute(sa.update(people_).where(people_.c.id == one.id).values(removed_at_ms=now_ms))
    _end_terms(connection, appointments_.c.person_id == one.id, now_ms)
    _revoke(connection, one.id, now_ms)
    for table in (sessions_, accounts_, recovery_codes_, one_time_codes_):
        connection.execute(sa.delete(table).where(table.c.person_id == one.id))
    connection.execute(sa.delete(contacts_).where(contacts_.c.person_id == one.id))
    connection.execute(sa.delete(drafts_).where(drafts_.c.person == one.name))
    _record(connection, "person.removed", one.name, {"role": one.role.value, "region": one.region}, by, now_ms)


def change(
    connection: sa.Connection,
    name: str,
    role: Role,
    *,
    region: str,
    department: Department | None,
    by: str,
    now_ms: int,
    regions: Regions,
) -> Person:
    """Change role, region or department of a person.

    A new role ends the terms of office that the old one held, all sessions (the new role may have to sign in with a
    second factor), and the tokens of all rights, or of a right that the new role has not.

    Raises NotFound, ConfigurationError for what cannot be, and Refused for the last administrator and, where the role
    changes, for who is responsible for open incidents.
    """
    one = get(connection, name)
    if role in ROLES_WITH_TERMS:
        region = one.region  # where they count stands in their terms
    _check(one.name, role, region, department, regions)
    if (role, region, department) == (one.role, one.region, one.department):
        return one
    body: dict[str, Any] = {"before": {"role": one.role.value, "region": one.region, "department": one.department}}
    if (role, region) != (one.role, one.region):
        _require_other_administrator(connection, one)
    if role is not one.role:
        _require_no_cases(connection, one)
        _end_terms(connection, appointments_.c.person_id == one.id, now_ms)
        ended = connection.execute(sa.delete(sessions_).where(sessions_.c.person_id == one.id)).rowcount
        body |= {"sessions_ended": ended, "tokens_revoked": _revoke_beyond(connection, one, role, now_ms)}
    row = {"role": role.value, "region": region, "department": department.value if department else None}
    connection.execute(sa.update(people_).where(people_.c.id == one.id).values(row))
    _record(connection, "person.changed", one.name, row | body, by, now_ms)
    return get(connection, name)


def _require_other_administrator(connection: sa.Connection, one: Person) -> None:
    """Raises Refused for the last administrator, and for the last one of all regions.

    The administrators are locked, so that two cannot take the role from each other at once.
    """
    if one.role is not Role.ADMINISTRATOR:
        return
    query = sa.select(people_.c.id, people_.c.region).where(
        people_.c.role == Role.ADMINISTRATOR.value, people_.c.removed_at_ms.is_(None)
    )
    others = [row for row in connection.execute(query.order_by(people_.c.id).with_for_update()) if row.id != one.id]
    if not any(one.region or not row.region for row in others):
        raise Refused(say("person.last_administrator", name=one.name))


def require_giving(actor: Actor, role: Role, places: Iterable[tuple[str, str]]) -> None:
    """Raises Forbidden unless an actor may give this role, or take it away, at these places (region, reach).

    Nobody gives a right that they do not have themselves, nor beyond their regions; region "" is everywhere.
    """
    if beyond := RIGHTS[role] - actor.rights:
        raise Forbidden(say("person.gives_no_more", right=say(f"right.{min(beyond)}")), tuple(sorted(actor.rights)))
    if actor.regions is not None and not all(actor.covers(*place) for place in places):
        raise Forbidden(say("person.beyond_reach", name=actor.name), tuple(sorted(actor.rights)))


def require_authority(connection: sa.Connection, actor: Actor, name: str, now_ms: int) -> None:
    """Raises Forbidden unless an actor may give and take what somebody is now (`require_giving`), NotFound."""
    one = get(connection, name)
    places = [(one.region, "")]
    if one.role in ROLES_WITH_TERMS:
        held = appointments(connection, one.name)
        places = [(term.region, term.reach) for term in held if term.until_ms is None or term.until_ms > now_ms]
    require_giving(actor, one.role, places)


def open_cases(connection: sa.Connection, name: str) -> list[int]:
    """The open incidents a person is responsible for, oldest first."""
    cases = sa.select(incidents_.c.id).where(incidents_.c.responsible == name, incidents_.c.open_cause.is_not(None))
    return list(connection.execute(cases.order_by(incidents_.c.id)).scalars())


def _require_no_cases(connection: sa.Connection, one: Person) -> None:
    """Raises Refused for who is responsible for open incidents."""
    if ids := open_cases(connection, one.name):
        raise Refused(say("person.has_cases", name=one.name, count=len(ids), incidents=_numbers(ids)))


# -- tokens ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenTerm:
    """When a token was issued and when it expires; None for one issued before tokens expired."""

    issued_at_ms: int
    expires_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Token:
    """A valid token without its secret; ``scopes`` None: all rights of its owner."""

    id: int
    person_id: int
    label: str
    scopes: frozenset[Right] | None
    created_at_ms: int
    expires_at_ms: int | None
    used_at_ms: int | None


@dataclass(frozen=True, slots=True)
class TokenWish:
    """What a new token is called, and the rights it is limited to (None: all of its owner's)."""

    label: str = ""
    scopes: frozenset[Right] | None = None


NO_WISH = TokenWish()


def issue_token(
    connection: sa.Connection, name: str, *, by: str, now_ms: int, good_ms: int = TOKEN_MS, wish: TokenWish = NO_WISH
) -> str:
    """Issue a token, valid for ``good_ms``, and return it; it cannot be shown again.

    Raises NotFound, Refused for a scope that its owner does not have or none at all.
    """
    one = get(connection, name)
    beyond = set() if wish.scopes is None else wish.scopes - RIGHTS[one.role]
    if beyond or wish.scopes == frozenset():
        raise Refused(say("account.scope_beyond"))
    made = PREFIX + secrets.token_urlsafe(32)
    expires_at_ms = now_ms + good_ms
    scopes = None if wish.scopes is None else sorted(wish.scopes)
    row = {
        "person_id": one.id,
        "hash": token_hash(made),
        "label": wish.label.strip()[:NAME_LIMIT],
        "scopes": scopes,
        "created_at_ms": now_ms,
        "expires_at_ms": expires_at_ms,
    }
    connection.execute(sa.insert(tokens_).values(row))
    body = {"expires_at_ms": expires_at_ms, "label": row["label"], "scopes": scopes}
    _record(connection, "token.issued", one.name, body, by, now_ms)
    return made


def revoke_tokens(connection: sa.Connection, name: str, *, by: str, now_ms: int) -> int:
    """Revoke all tokens of a person; returns how many there were. Raises NotFound."""
    ended = _revoke(connection, get(connection, name).id, now_ms)
    _record(connection, "token.revoked", name, {"count": ended}, by, now_ms)
    return ended


def revoke_token(connection: sa.Connection, name: str, number: int, *, by: str, now_ms: int) -> None:
    """Revoke one token of a person. Raises NotFound."""
    where = (tokens_.c.person_id == get(connection, name).id) & (tokens_.c.id == number)
    valid = tokens_.c.revoked_at_ms.is_(None)
    if connection.execute(sa.update(tokens_).where(where, valid).values(revoked_at_ms=now_ms)).rowcount != 1:
        raise NotFound(say("account.no_token"))
    _record(connection, "token.revoked", name, {"count": 1, "token": number}, by, now_ms)


def _revoke(connection: sa.Connection, person_id: int, now_ms: int) -> int:
    where = (tokens_.c.person_id == person_id) & tokens_.c.revoked_at_ms.is_(None)
    return connection.execute(sa.update(tokens_).where(where).values(revoked_at_ms=now_ms)).rowcount


def _revoke_beyond(connection: sa.Connection, one: Person, role: Role, now_ms: int) -> int:
    """Revoke the tokens that a new role ends: those of all rights of the old one, and those limited to others."""
    beyond = [
        token.id
        for token in tokens_of(connection, one.name, now_ms)
        if token.scopes is None or token.scopes - RIGHTS[role]
    ]
    connection.execute(sa.update(tokens_).where(tokens_.c.id.in_(beyond)).values(revoked_at_ms=now_ms))
    return len(beyond)


def find_by_token(connection: sa.Connection, token_hash: str, now_ms: int) -> Person | None:
    """The person whose token has this hash; None for one that is unknown, revoked, expired, or of somebody removed."""
    query = sa.select(people_).join(tokens_, tokens_.c.person_id == people_.c.id)
    row = connection.execute(query.where(tokens_.c.hash == token_hash, _is_valid(now_ms))).mappings().first()
    return None if row is None else _person(row)


def token_of(connection: sa.Connection, token_hash: str, now_ms: int) -> Token | None:
    """The valid token that has this hash."""
    query = sa.select(tokens_).join(people_, tokens_.c.person_id == people_.c.id)
    row = connection.execute(query.where(tokens_.c.hash == token_hash, _is_valid(now_ms))).mappings().first()
    return None if row is None else _token(row)


def tokens_of(connection: sa.Connection, name: str, now_ms: int) -> list[Token]:
    """The valid tokens of a person, the newest at the front."""
    query = sa.select(tokens_).join(people_, tokens_.c.person_id == people_.c.id)
    query = query.where(people_.c.name == name, _is_valid(now_ms)).order_by(tokens_.c.id.desc())
    return [_token(row) for row in connection.execute(query).mappings()]


def record_token_use(connection: sa.Connection, number: int, now_ms: int) -> None:
    """Note that a token was used."""
    connection.execute(sa.update(tokens_).where(tokens_.c.id == number).values(used_at_ms=now_ms))


def _token(row: sa.RowMapping) -> Token:
    scopes = row["scopes"]
    return Token(
        id=row["id"],
        person_id=row["person_id"],
        label=row["label"],
        scopes=None if scopes is None else frozenset(Right(one) for one in scopes if one in set(Right)),
        created_at_ms=row["created_at_ms"],
        expires_at_ms=row["expires_at_ms"],
        used_at_ms=row["used_at_ms"],
    )


def valid_tokens(connection: sa.Connection, now_ms: int) -> dict[str, list[TokenTerm]]:
    """The valid tokens by name, the one that expires first at the front."""
    query = (
        sa.select(people_.c.name, tokens_.c.created_at_ms, tokens_.c.expires_at_ms)
        .join(people_, tokens_.c.person_id == people_.c.id)
        .where(_is_valid(now_ms))
        .order_by(people_.c.name, tokens_.c.expires_at_ms.is_(None), tokens_.c.expires_at_ms)
    )
    found: dict[str, list[TokenTerm]] = {}
    for row in connection.execute(query):
        found.setdefault(row.name, []).append(TokenTerm(row.created_at_ms, row.expires_at_ms))
    return found


def _is_valid(now_ms: int) -> sa.ColumnElement[bool]:
    return (
        tokens_.c.revoked_at_ms.is_(None)
        & (tokens_.c.expires_at_ms.is_(None) | (tokens_.c.expires_at_ms > now_ms))
        & people_.c.removed_at_ms.is_(None)
    )


def token_hash(token: str) -> str:
    """The hash under which a token is kept; its 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()


# -- terms -----------------------------------------------------------------------------------------------------------


def appoint(  # noqa: PLR0913  (a field of the person each)
    connection: sa.Connection,
    name: str,
    *,
    region: str,
    reach: str = "",
    deputy_of: str = "",
    since_ms: int,
    until_ms: int | None = None,
    by: str,
    now_ms: int,
    source: str,
    regions: Regions,
) -> list[int]:
    """Begin a term. The term of whoever held the same office ends then; the successor takes over the open cases.

    Returns the incidents that went over. Raises NotFound, ConfigurationError for an unknown region or a term that ends
    before it begins, Refused for a role without terms.
    """
    one = get(connection, name)
    if one.role not in ROLES_WITH_TERMS:
        raise Refused(say("person.not_a_chief", name=one.name, role=role_name(one.role)))
    if region not in regions:
        raise ConfigurationError(say("registry.no_region", region=region))
    if until_ms is not None and until_ms <= since_ms:
        raise ConfigurationError(say("person.term_backwards", name=one.name))
    if deputy_of:
        get(connection, deputy_of)
    same = appointments_.c.deputy_of.in_(["", deputy_of])
    here = (appointments_.c.region == region) & (appointments_.c.reach == reach)
    _end_terms(
        connection, (appointments_.c.person_id == one.id) & here & same, since_ms
    )  # a new term of the same office
    before = [] if one.role is Role.DEPUTY else _terms_of_office(connection, one, region, reach, since_ms)
    for held in before:
        _end_terms(connection, appointments_.c.id == held.id, since_ms)
    term = {"region": region, "reach": reach, "deputy_of": deputy_of, "since_ms": since_ms, "until_ms": until_ms}
    connection.execute(sa.insert(appointments_).values(person_id=one.id, **term))
    body = term | {"instead_of": [held.name for held in before]}
    _record(connection, "person.appointed", one.name, body, by, now_ms)
    if since_ms > now_ms:
        return []  # `inherit` hands over when the day has come
    moved: list[int] = []
    for held in before:
        moved += _hand_over(connection, held, one.name, by, now_ms, source, regions)
    return moved


@dataclass(frozen=True, slots=True)
class Succession:
    """What an appointment would change: whose terms end, and the open incidents that go over."""

    predecessors: tuple[str, ...]
    incidents: tuple[int, ...]


def succession(
    connection: sa.Connection, name: str, *, region: str, reach: str, since_ms: int, regions: Regions
) -> Succession:
    """What `appoint` would change; nothing is written. Raises NotFound."""
    one = get(connection, name)
    before = [] if one.role is Role.DEPUTY else _terms_of_office(connection, one, region, reach, since_ms)
    moved = {
        number for held in before for number in incident_store.in_hand(connection, held.name, _within(held, regions))
    }
    return Succession(tuple(dict.fromkeys(held.name for held in before)), tuple(sorted(moved)))


def end_term(connection: sa.Connection, name: str, term_id: int, until_ms: int, *, by: str, now_ms: int) -> Appointment:
    """End a term of office; open cases go over when somebody holds the office (`hand_over_ended_terms`).

    Raises NotFound for a term that is over, ConfigurationError for an end before its beginning.
    """
    one = get(connection, name)
    held = next((a for a in appointments(connection, one.name) if a.id == term_id), None)
    if held is None or (held.until_ms is not None and held.until_ms <= now_ms):
        raise NotFound(say("person.no_such_term"))
    if until_ms <= held.since_ms:
        raise ConfigurationError(say("person.term_backwards", name=one.name))
    this = sa.update(appointments_).where(appointments_.c.id == term_id)
    connection.execute(this.values(until_ms=until_ms))
    body = {"region": held.region, "reach": held.reach, "since_ms": held.since_ms, "until_ms": until_ms}
    _record(connection, "person.term_ended", one.name, body, by, now_ms)
    return held


def succeed(  # noqa: PLR0913  (a field of the term each)
    connection: sa.Connection,
    name: str,
    term_id: int,
    successor: str,
    since_ms: int,
    *,
    by: str,
    now_ms: int,
    source: str,
    regions: Regions,
) -> list[int]:
    """End a term and appoint who follows in the same office; the open cases go over, at once or when the day has come.

    Returns the incidents that went over. Raises as `end_term` and `appoint` do, and Refused for one of another role.
    """
    one, heir = get(connection, name), get(connection, successor)
    if heir.role is not one.role or heir.name == one.name:
        raise Refused(say("person.no_successor", name=heir.name, role=role_name(one.role)))
    held = end_term(connection, one.name, term_id, since_ms, by=by, now_ms=now_ms)
    moved = appoint(
        connection, heir.name, region=held.region, reach=held.reach, deputy_of=held.deputy_of, since_ms=since_ms,
        by=by, now_ms=now_ms, source=source, regions=regions,
    )  # fmt: skip
    if since_ms <= now_ms and one.role is not Role.DEPUTY:
        moved += _hand_over(connection, held, heir.name, by, now_ms, source, regions)
    return moved


def _terms_of_office(
    connection: sa.Connection, one: Person, region: str, reach: str, since_ms: int
) -> list[Appointment]:
    """Other people's terms in an office that have not ended at ``since_ms``."""
    return [
        a
        for a in appointments(connection)
        if (a.region, a.reach) == (region, reach)
        and a.role is one.role
        and a.name != one.name
        and (a.until_ms is None or a.until_ms > since_ms)
    ]


def hand_over_ended_terms(connection: sa.Connection, *, now_ms: int, source: str, regions: Regions) -> list[int]:
    """Hand over the open cases of chiefs whose term has ended to who holds the office now; returns the incidents."""
    terms = appointments(connection)
    moved: list[int] = []
    for held in terms:
        if held.until_ms is None or held.until_ms > now_ms or held.role is Role.DEPUTY:
            continue
        heirs = [
            a
            for a in terms
            if (a.region, a.reach, a.role) == (held.region, held.reach, held.role) and a.in_force(now_ms)
        ]
        if heirs and all(a.name != held.name for a in heirs):
            moved += _hand_over(connection, held, heirs[-1].name, heirs[-1].name, now_ms, source, regions)
    return moved


def _hand_over(
    connection: sa.Connection, held: Appointment, new: str, by: str, now_ms: int, source: str, regions: Regions
) -> list[int]:
    return incident_store.hand_over(
        connection, held.name, new, by=by, now_ms=now_ms, source=source, within=_within(held, regions)
    )


def _within(held: Appointment, regions: Regions) -> Callable[[Incident], bool]:
    """Whether an incident lies on the water of a term."""
    below = regions.within(held.region)

    def within(incident: Incident) -> bool:
        here = below is None or incident.place.region in below
        return here and held.reach in ("", incident.place.reach)

    return within


def appointments(connection: sa.Connection, name: str | None = None) -> list[Appointment]:
    """All terms, past and future, oldest first; with ``name`` those of one person."""
    query = (
        sa.select(appointments_, people_.c.name, people_.c.role)
        .join(people_, people_.c.id == appointments_.c.person_id)
        .order_by(appointments_.c.since_ms, appointments_.c.id)
    )
    if name is not None:
        query = query.where(people_.c.name == name)
    return [from_row(Appointment, row, role=Role(row.role)) for row in connection.execute(query)]


def actor_of(connection: sa.Connection, one: Person, regions: Regions, now_ms: int) -> Actor:
    """The actor that a person is now. The regions of chiefs and deputies are those of their terms in force."""
    if one.role not in ROLES_WITH_TERMS:
        depth = regions.depth(one.region)
        return Actor(one.name, one.role, regions.within(one.region), one.department, depth=depth)
    everywhere, codes = False, set[str]()
    waters: set[tuple[str, str]] = set()
    terms = [term for term in appointments(connection, one.name) if term.in_force(now_ms)]
    for term in terms:
        below = regions.within(term.region)
        if term.reach:
            waters |= {(term.reach, code) for code in below or ("",)}
        elif below is None:
            everywhere = True
        else:
            codes |= below
    return Actor(
        one.name,
        one.role,
        None if everywhere else frozenset(codes),
        one.department,
        frozenset(term.deputy_of for term in terms if term.deputy_of),
        frozenset(waters),
        min((regions.depth(term.region) + bool(term.reach) for term in terms), default=0),
    )


def require_no_open_cases(connection: sa.Connection, region: str, regions: Regions) -> None:
    """Raises Refused, with the list, when incidents are open in a region or below it."""
    below = regions.within(region)
    query = sa.select(incidents_.c.id).where(incidents_.c.state.not_in([state.value for state in FINAL_STATES]))
    if below is not None:
        query = query.where(incidents_.c.region.in_(sorted(below)))
    left = list(connection.execute(query.order_by(incidents_.c.id)).scalars())
    if left:
        raise Refused(say("person.region_has_cases", region=region, count=len(left), incidents=_numbers(left)))


def _end_terms(connection: sa.Connection, which: sa.ColumnElement[bool], at_ms: int) -> None:
    later = appointments_.c.until_ms.is_(None) | (appointments_.c.until_ms > at_ms)
    connection.execute(sa.update(appointments_).where(which, later).values(until_ms=at_ms))


def read_states(connection: sa.Connection, names: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """The rows of people with all their terms, by name; with ``names`` those of these people."""
    query = sa.select(people_).order_by(people_.c.id)
    terms = sa.select(appointments_).order_by(appointments_.c.id)
    if names is not None:
        query = query.where(people_.c.name.in_(list(names)))
        terms = terms.where(appointments_.c.person_id.in_(query.with_only_columns(people_.c.id).order_by(None)))
    held: dict[int, list[dict[str, Any]]] = {}
    for row in connection.execute(terms).mappings():
        held.setdefault(row["person_id"], []).append({name: row[name] for name in _TERM_COLUMNS})
    return {
        row["name"]: {name: row[name] for name in _PERSON_COLUMNS} | {"terms": held.get(row["id"], [])}
        for row in connection.execute(query).mappings()
    }


_PERSON_COLUMNS = ("role", "region", "department", "created_at_ms", "created_by", "removed_at_ms")
_TERM_COLUMNS = ("region", "reach", "deputy_of", "since_ms", "until_ms")


def _record(connection: sa.Connection, what: str, name: str, body: dict[str, Any], by: str, now_ms: int) -> None:
    """Append a change of people to the audit trail, with the state after it of everybody it concerns (``people``).

    Tokens are left out.
    """
    after = read_states(connection, [name, *body.get("instead_of", ())])
    audit_trail.append_many(
        connection, [audit_trail.NewEntry(what, "person", name, body | {"people": after}, by, now_ms)]
    )


def _numbers(ids: list[int]) -> str:
    shown = ", ".join(f"#{number}" for number in ids[:20])
    return shown if len(ids) <= 20 else f"{shown} …"


def _person(row: sa.RowMapping) -> Person:
    return Person(
        id=row["id"],
        name=row["name"],
        role=Role(row["role"]),
        region=row["region"],
        department=None if row["department"] is None else Department(row["department"]),
        created_at_ms=row["created_at_ms"],
        removed_at_ms=row["removed_at_ms"],
    )
