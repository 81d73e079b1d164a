"""Signing in by password, second factor or identity provider: the steps, the same for every page and process.

A step answers with what comes next. Wrong attempts are counted and stand in the audit trail; an answer does not show
whether a name exists, nor does its time.
"""

import json
import secrets
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from api.context import Context
from governance.organisation.roles import Role
from governance.people import accounts, attempts, one_time_codes, passwords, sessions, totp
from governance.people import store as people_store
from governance.people.attempts import Subjects
from governance.people.one_time_codes import OneTimeCode, Purpose
from governance.people.sessions import Device
from governance.people.store import Person
from governance.tables import person as people_
from infra.database import lock_inserts
from infra.errors import InvalidValue, NotFound, Refused, WaterError
from infra.texts import Text, say
from infra.times import MINUTE_MS


class Next(StrEnum):
    """What comes after a step."""

    DONE = "done"
    FACTOR = "factor"
    ENROL = "enrol"


@dataclass(frozen=True, slots=True)
class Progress:
    """What comes next, and the cookie for it: the session's id when done, else the code of the next step."""

    next: Next
    cookie: str
    method: str = "password"
    person: str = ""


class NotSignedIn(WaterError):
    """What was given does not sign anybody in; ``wait_ms``: nothing will for so long."""

    def __init__(self, text: Text, wait_ms: int = 0) -> None:
        super().__init__(text)
        self.wait_ms = wait_ms


class StepOver(WaterError):
    """The step, or the link, is over: it was used, or took too long."""

    def __init__(self, text: Text | None = None) -> None:
        super().__init__(text or say("login.step_over"))


def by_password(context: Context, name: str, password: str, device: Device) -> Progress:
    """The first factor. Raises NotSignedIn."""
    with context.database.read() as connection:
        known = accounts.find(connection, name)
    subjects = Subjects(known[0] if known else passwords.folded(name), device.network)
    _take(context, subjects)
    right = passwords.matches(password, known[1] or None if known else None)
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        if known is None or not right:
            wait_ms = attempts.remaining_ms(connection, subjects, now_ms)
            _tell_failure(connection, known[0] if known else "", "password", device, wait_ms, now_ms)
        else:
            attempts.undo_attempt(connection, subjects)
            return proceed(context, connection, people_store.get(connection, known[0]), "password", device)
    raise _wrong(say("login.wrong"), wait_ms)


def by_factor(context: Context, code: str, given: str, device: Device) -> Progress:
    """The second factor, after a first. Raises NotSignedIn, StepOver."""
    step, one = _step(context, Purpose.FACTOR, code)
    subjects = Subjects(one.name, device.network)
    _take(context, subjects)
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        if accounts.check_factor(connection, one, given, context.vault, now_ms) is None:
            wait_ms = attempts.remaining_ms(connection, subjects, now_ms)
            _tell_failure(connection, one.name, "factor", device, wait_ms, now_ms)
        else:
            if not one_time_codes.use(connection, Purpose.FACTOR, code, now_ms):
                raise StepOver
            attempts.undo_attempt(connection, subjects)
            return _begin(context, connection, one, step.data, device)
    raise _wrong(say("account.code_wrong"), wait_ms)


def enrolment(context: Context, code: str) -> tuple[Person, str]:
    """Who sets a second factor up before the first session, and the secret for the app. Raises StepOver."""
    step, one = _step(context, Purpose.ENROL, code)
    return one, str(json.loads(context.vault.open(step.data))["secret"])


def by_enrolment(context: Context, code: str, given: str, device: Device) -> tuple[Progress, tuple[str, ...]]:
    """Set the second factor up and sign in; also the recovery codes. Raises StepOver, InvalidValue for a wrong code."""
    step, one = _step(context, Purpose.ENROL, code)
    begun = json.loads(context.vault.open(step.data))
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        codes = accounts.enrol(connection, one, begun["secret"], given, context.vault, by=one.name, now_ms=now_ms)
        if not one_time_codes.use(connection, Purpose.ENROL, code, now_ms):
            raise StepOver
        return _begin(context, connection, one, begun["method"], device), codes


def by_provider(context: Context, name: str, device: Device) -> Progress:
    """Somebody whom the identity provider knows by this name. Raises NotSignedIn for who is not registered here."""
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        known = accounts.find(connection, name)
        if known is None:
            _tell_failure(connection, "", "oidc", device, 0, now_ms)
        else:
            one = people_store.get(connection, known[0])
            return proceed(context, connection, one, "oidc", device)
    raise NotSignedIn(say("login.oidc_unknown", name=name[:80]))


def proceed(context: Context, connection: sa.Connection, one: Person, method: str, device: Device) -> Progress:
    """After the first factor: ask for the second, have one set up where the role needs it, or begin the session."""
    now_ms = context.clock_ms()
    provider = context.oidc
    checked = method == "oidc" and provider is not None and provider.settings.checks_factor
    if not checked and accounts.get(connection, one).has_factor:
        code = one_time_codes.make(connection, Purpose.FACTOR, person_id=one.id, now_ms=now_ms, data=method)
        return Progress(Next.FACTOR, code, method, one.name)
    if not checked and accounts.needs_factor(one):
        data = context.vault.lock(json.dumps({"secret": totp.new_secret(), "method": method}))
        code = one_time_codes.make(connection, Purpose.ENROL, person_id=one.id, now_ms=now_ms, data=data)
        return Progress(Next.ENROL, code, method, one.name)
    return _begin(context, connection, one, method, device)


def _begin(context: Context, connection: sa.Connection, one: Person, method: str, device: Device) -> Progress:
    now_ms = context.clock_ms()
    made = sessions.begin(
        connection,
        person_id=one.id,
        method=method,
        now_ms=now_ms,
        expires_at_ms=now_ms + context.session_ms,
        device=device,
    )
    attempts.reset(connection, one.name)
    accounts.record_event(connection, "login.begun", one.name, device.details(method), one.name, now_ms)
    return Progress(Next.DONE, made, method, one.name)


# -- links -------------------------------------------------------------------------------------------------------------


def holder(context: Context, code: str) -> Person:
    """Whose password a link sets. Raises StepOver."""
    return _step(context, Purpose.PASSWORD, code)[1]


def set_by_link(context: Context, code: str, password: str, device: Device) -> Progress:
    """Set a password by a link and go on to sign in. Raises StepOver, InvalidValue for a password that cannot be."""
    _, one = _step(context, Purpose.PASSWORD, code)
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        if not one_time_codes.use(connection, Purpose.PASSWORD, code, now_ms):
            raise StepOver(say("login.link_over"))
        accounts.set_password(connection, one, password, by=one.name, now_ms=now_ms)
        return proceed(context, connection, one, "link", device)


def check_welcome(context: Context, code: str) -> None:
    """Raises StepOver unless the code makes the first administrator."""
    with context.database.read() as connection:
        found = one_time_codes.find(connection, Purpose.WELCOME, code, context.clock_ms())
        if found is None or people_store.list_people(connection, removed=True):
            raise StepOver(say("login.link_over"))


def welcome(context: Context, code: str, name: str, password: str, device: Device) -> Progress:
    """Make the first administrator. Raises StepOver, InvalidValue, ConfigurationError for a name that cannot be."""
    check_welcome(context, code)
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        lock_inserts(connection, people_)
        nobody = not people_store.list_people(connection, removed=True)
        if not nobody or not one_time_codes.use(connection, Purpose.WELCOME, code, now_ms):
            raise StepOver(say("login.link_over"))
        one = people_store.add(connection, name, Role.ADMINISTRATOR, by=name.strip(), now_ms=now_ms)
        accounts.set_password(connection, one, password, by=one.name, now_ms=now_ms)
        return proceed(context, connection, one, "link", device)


# -- identity provider -------------------------------------------------------------------------------------------------


def to_provider(context: Context, back: str, after: str) -> tuple[str, str]:
    """Where to send the browser, and the code for its cookie. Raises NotFound without a provider, and its errors."""
    if context.oidc is None:
        raise NotFound(say("login.no_oidc"))
    begun = context.oidc.begin(back)
    kept = {"state": begun.state, "nonce": begun.nonce, "verifier": begun.verifier, "after": after}
    with context.database.write() as connection:
        now_ms, data = context.clock_ms(), context.vault.lock(json.dumps(kept))
        return begun.address, one_time_codes.make(connection, Purpose.OIDC, person_id=None, now_ms=now_ms, data=data)


def from_provider(
    context: Context, cookie: str, state: str, code: str, back: str, device: Device
) -> tuple[Progress, str]:
    """Back from the provider; also where the browser wanted to go. Raises StepOver, Refused, NotSignedIn."""
    if context.oidc is None:
        raise NotFound(say("login.no_oidc"))
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        found = one_time_codes.find(connection, Purpose.OIDC, cookie, now_ms)
        if found is None or not one_time_codes.use(connection, Purpose.OIDC, cookie, now_ms):
            raise StepOver
    kept = json.loads(context.vault.open(found.data))
    if not secrets.compare_digest(kept["state"].encode(), state.encode()):
        raise StepOver
    if not code:
        raise Refused(say("login.oidc_refused"))
    name = context.oidc.person(code, kept["verifier"], kept["nonce"], back)
    return by_provider(context, name, device), kept["after"]


# -- parts -------------------------------------------------------------------------------------------------------------


def _step(context: Context, purpose: Purpose, code: str) -> tuple[OneTimeCode, Person]:
    over = say("login.link_over") if purpose is Purpose.PASSWORD else None
    with context.database.read() as connection:
        found = one_time_codes.find(connection, purpose, code, context.clock_ms()) if code else None
        name = None if found is None else accounts.by_id(connection, found.person_id)
        if found is None or name is None:
            raise StepOver(over)
        return found, people_store.get(connection, name)


def _take(context: Context, subjects: Subjects) -> None:
    with context.database.write() as connection:
        wait_ms = attempts.count_attempt(connection, subjects, context.clock_ms())
    if wait_ms > 0:
        raise _wrong(say("login.closed"), wait_ms)


def _wrong(text: Text, wait_ms: int) -> NotSignedIn:
    if wait_ms <= 0:
        return NotSignedIn(text)
    minutes = -(-wait_ms // MINUTE_MS)
    return NotSignedIn(say("login.wait", minutes=minutes), wait_ms)


def _tell_failure(connection: sa.Connection, name: str, method: str, device: Device, wait_ms: int, now_ms: int) -> None:
    """A name that nobody has is not recorded: it may be a password in the wrong field."""
    what = "login.closed" if wait_ms else "login.failed"
    details = device.details(method) | {"closed_for_s": wait_ms // 1000}
    accounts.record_event(connection, what, name or "?", details, name, now_ms)


def check_new(password: str, again: str) -> None:
    """Raises InvalidValue where a password and its repetition differ."""
    if password != again:
        raise InvalidValue(say("account.password_differs"))


def confirm(context: Context, one: Person, password: str, device: Device) -> None:
    """Whether who is signed in knows the password, where there is one. Raises NotSignedIn."""
    with context.database.read() as connection:
        known = accounts.find(connection, one.name)
    if known is None or not known[1]:
        return
    subjects = Subjects(one.name, device.network)
    _take(context, subjects)
    right = passwords.matches(password, known[1])
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        if right:
            attempts.undo_attempt(connection, subjects)
            return
        wait_ms = attempts.remaining_ms(connection, subjects, now_ms)
        _tell_failure(connection, one.name, "password", device, wait_ms, now_ms)
    raise _wrong(say("account.password_wrong"), wait_ms)


def begin_enrolment(context: Context, one: Person) -> str:
    """The code of the step in which who is signed in sets a second factor up."""
    data = context.vault.lock(json.dumps({"secret": totp.new_secret(), "method": "enrol"}))
    with context.database.write() as connection:
        return one_time_codes.make(
            connection, Purpose.ENROL, person_id=one.id, now_ms=context.clock_ms(), data=data, alone=True
        )


def finish_enrolment(context: Context, one: Person, code: str, given: str) -> tuple[str, ...]:
    """Set the second factor of who is signed in up; the recovery codes. Raises StepOver, InvalidValue."""
    step, owner = _step(context, Purpose.ENROL, code)
    if owner.id != one.id:
        raise StepOver
    secret = json.loads(context.vault.open(step.data))["secret"]
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        codes = accounts.enrol(connection, one, secret, given, context.vault, by=one.name, now_ms=now_ms)
        one_time_codes.use(connection, Purpose.ENROL, code, now_ms)
        return codes
