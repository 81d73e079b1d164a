"""Sign-in data of people: login name, password, second factor and recovery codes. Never commits.

Passwords are kept as Argon2id hashes, secrets of second factors encrypted, recovery codes as hashes. What changes is
told in the audit trail without any of them.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from governance.audit import trail as audit_trail
from governance.organisation.roles import Role
from governance.people import attempts, one_time_codes, passwords, sessions, totp
from governance.people.one_time_codes import Purpose
from governance.people.store import Person
from governance.people.store import token_hash as hashed
from governance.tables import person as people_
from governance.tables import person_account as table
from governance.tables import recovery_code as recovery_
from infra.errors import InvalidValue, Refused
from infra.texts import say
from infra.vault import Vault

SECOND_FACTOR_ROLES = frozenset({Role.ADMINISTRATOR, Role.OPERATOR, Role.GENERAL_CHIEF})
"""Roles that sign in with a second factor: they change people, or send others out."""
RECOVERY_CODE_COUNT = 10
LOGIN_NAME_LIMIT = 40
_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
"""Of recovery codes: none that is taken for another."""


@dataclass(frozen=True, slots=True)
class Account:
    """Sign-in data of a person; ``recovery_codes`` are those left."""

    person_id: int
    login_name: str | None
    has_password: bool
    password_at_ms: int | None
    has_factor: bool
    factor_at_ms: int | None
    recovery_codes: int


def needs_factor(one: Person) -> bool:
    """Whether the role requires a second factor."""
    return one.role in SECOND_FACTOR_ROLES


def get(connection: sa.Connection, one: Person) -> Account:
    """The sign-in data of a person."""
    row = connection.execute(sa.select(table).where(table.c.person_id == one.id)).first()
    count = sa.select(sa.func.count()).where(recovery_.c.person_id == one.id)
    left = connection.execute(count).scalar_one()
    if row is None:
        return Account(one.id, None, False, None, False, None, left)
    return Account(
        one.id,
        row.login_name,
        row.password_hash is not None,
        row.password_at_ms,
        row.factor_secret is not None,
        row.factor_at_ms,
        left,
    )


def find(connection: sa.Connection, name: str) -> tuple[str, str] | None:
    """The full name of who signs in under this name or login name, and the hash of the password ("": none)."""
    query = sa.select(people_.c.name, table.c.password_hash).outerjoin(table, table.c.person_id == people_.c.id)
    query = query.where(people_.c.removed_at_ms.is_(None))
    row = connection.execute(query.where(people_.c.name == name.strip())).first()
    if row is None:
        row = connection.execute(query.where(table.c.login_name == passwords.folded(name))).first()
    return None if row is None else (row.name, row.password_hash or "")


def by_id(connection: sa.Connection, person_id: int | None) -> str | None:
    """The name of a person who was not removed."""
    query = sa.select(people_.c.name).where(people_.c.id == person_id, people_.c.removed_at_ms.is_(None))
    return connection.execute(query).scalar_one_or_none()


# -- login name and password -------------------------------------------------------------------------------------------


def set_login_name(connection: sa.Connection, one: Person, name: str, *, by: str, now_ms: int) -> None:
    """Set a login name; "" removes it. Raises InvalidValue, Refused for a taken one."""
    chosen = passwords.folded(name)
    if len(chosen) > LOGIN_NAME_LIMIT or any(not letter.isprintable() or letter.isspace() for letter in chosen):
        raise InvalidValue(say("account.login_name_letters", most=LOGIN_NAME_LIMIT))
    if chosen:
        other = sa.select(table.c.person_id).where(table.c.login_name == chosen, table.c.person_id != one.id)
        namesake = sa.select(people_.c.id).where(people_.c.name == name.strip(), people_.c.id != one.id)
        if connection.execute(other).first() or connection.execute(namesake).first():
            raise Refused(say("account.login_name_taken"))
    _update(connection, one, login_name=chosen or None)
    record_event(connection, "account.login_name_changed", one.name, {"login_name": chosen}, by, now_ms)


def make_link(connection: sa.Connection, one: Person, *, by: str, now_ms: int) -> str:
    """Issue the code of a link for setting the password, once and within a day; an older one becomes invalid."""
    code = one_time_codes.make(
        connection, Purpose.PASSWORD, person_id=one.id, now_ms=now_ms, good_ms=one_time_codes.LINK_MS, alone=True
    )
    attempts.reset(connection, one.name)
    record_event(
        connection, "account.link_made", one.name, {"expires_at_ms": now_ms + one_time_codes.LINK_MS}, by, now_ms
    )
    return code


def set_password(
    connection: sa.Connection, one: Person, password: str, *, by: str, now_ms: int, keep_session: str | None = None
) -> None:
    """Set a password; all other sessions, links and pending sign-ins end. Raises InvalidValue."""
    passwords.check(password, names_of(connection, one))
    _update(connection, one, password_hash=passwords.hash_password(password), password_at_ms=now_ms)
    ended = sessions.end_all(connection, one.id, but=keep_session)
    one_time_codes.withdraw(connection, one.id)
    attempts.reset(connection, one.name)
    record_event(connection, "account.password_set", one.name, {"sessions_ended": ended}, by, now_ms)


def names_of(connection: sa.Connection, one: Person) -> tuple[str, ...]:
    """The names that the password of a person must not contain."""
    plain = one.name.partition("（")[0].strip()
    return tuple(name for name in (one.name, plain, get(connection, one).login_name) if name)


# -- second factor -----------------------------------------------------------------------------------------------------


def enrol(
    connection: sa.Connection, one: Person, secret: str, code: str, vault: Vault, *, by: str, now_ms: int
) -> tuple[str, ...]:
    """Take an app's secret as second factor, proved by its code; returns the recovery codes. Raises InvalidValue."""
    step = totp.step_of(secret, code, now_ms)
    if step is None:
        raise InvalidValue(say("account.code_wrong"))
    _update(connection, one, factor_secret=vault.lock(secret), factor_at_ms=now_ms, factor_step=step)
    made = _new_recovery_codes(connection, one)
    record_event(connection, "account.factor_added", one.name, {}, by, now_ms)
    return made


def new_recovery_codes(connection: sa.Connection, one: Person, *, by: str, now_ms: int) -> tuple[str, ...]:
    """New recovery codes; the old ones end."""
    made = _new_recovery_codes(connection, one)
    record_event(connection, "account.recovery_codes_made", one.name, {"count": len(made)}, by, now_ms)
    return made


def remove_factor(connection: sa.Connection, one: Person, *, by: str, now_ms: int) -> None:
    """Take the second factor and its recovery codes away."""
    _update(connection, one, factor_secret=None, factor_at_ms=None)
    connection.execute(sa.delete(recovery_).where(recovery_.c.person_id == one.id))
    record_event(connection, "account.factor_removed", one.name, {}, by, now_ms)


def check_factor(connection: sa.Connection, one: Person, given: str, vault: Vault, now_ms: int) -> str | None:
    """``code`` or ``recovery`` for a code that is right and was not used before, which uses it up; else None."""
    row = connection.execute(sa.select(table).where(table.c.person_id == one.id)).first()
    if row is None or row.factor_secret is None:
        return None
    secret = vault.open(row.factor_secret)
    step = totp.step_of(secret, given, now_ms, after=row.factor_step) if secret else None
    if step is not None:
        newer = (table.c.person_id == one.id) & (table.c.factor_step < step)
        used = connection.execute(sa.update(table).where(newer).values(factor_step=step)).rowcount
        return "code" if used == 1 else None
    where = (recovery_.c.person_id == one.id) & (recovery_.c.hash == _recovery_hash(one, given))
    if connection.execute(sa.delete(recovery_).where(where)).rowcount == 1:
        record_event(connection, "account.recovery_code_used", one.name, {}, one.name, now_ms)
        return "recovery"
    return None


def _new_recovery_codes(connection: sa.Connection, one: Person) -> tuple[str, ...]:
    connection.execute(sa.delete(recovery_).where(recovery_.c.person_id == one.id))
    made = tuple("".join(secrets.choice(_LETTERS) for _ in range(10)) for _ in range(RECOVERY_CODE_COUNT))
    rows = [{"person_id": one.id, "hash": _recovery_hash(one, code)} for code in made]
    connection.execute(sa.insert(recovery_), rows)
    return tuple(f"{code[:5]}-{code[5:]}" for code in made)


def _recovery_hash(one: Person, code: str) -> str:
    plain = "".join(letter for letter in passwords.folded(code) if letter.isalnum())
    return hashed(f"{one.id}:{plain}")


def _update(connection: sa.Connection, one: Person, **values: object) -> None:
    kind = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = kind.insert(table).values(person_id=one.id, **values)
    connection.execute(new.on_conflict_do_update(index_elements=[table.c.person_id], set_=values))


def record_event(
    connection: sa.Connection, what: str, name: str, body: Mapping[str, Any], by: str, now_ms: int
) -> None:
    """Append an event of an account to the audit trail; never a secret."""
    audit_trail.append(connection, what, kind="person", id=name, body=body, by=by, at_ms=now_ms)
