"""One's own account: password, second factor, sessions, tokens, language."""

from typing import Annotated

from fastapi import APIRouter, Form, Response
from starlette.responses import RedirectResponse

from api import sign_in
from api.access import COOKIE, STEP_COOKIE
from api.field import phones as field_phones
from api.pages.login import Field, cookie, device_of, drop_cookie, enrolment_values, set_cookie
from api.pages.view import PageRoute, View, Viewing
from api.requests import Number
from api.responses import answer
from api.routes import me
from api.sign_in import NotSignedIn, StepOver
from governance.organisation.roles import RIGHTS, Right, role_name
from governance.people import accounts, one_time_codes, passwords, sessions
from governance.people import phones as phone_store
from governance.people import store as people_store
from governance.people.store import Person, TokenWish
from governance.reports import personal_data
from infra.errors import InvalidValue, Refused
from infra.texts import Text, say
from infra.times import DAY_MS

router = APIRouter(include_in_schema=False, route_class=PageRoute)

PATH = "/account"
DAYS = (7, 30, 90, 365)
"""For how long a token may be asked for."""


@router.get(PATH)
def show(v: Viewing) -> Response:
    """The account of who is signed in."""
    return _page(v)


@router.post("/account/password")
def change_password(v: Viewing, old: Field = "", password: Field = "", again: Field = "") -> Response:
    """Change the password; all other sessions end."""
    one, session = _me(v), cookie(v.request, COOKIE)
    try:
        with v.context.database.read() as connection:
            if not accounts.get(connection, one).has_password:
                raise Refused(say("account.password_by_link"))
        sign_in.check_new(password, again)
        sign_in.confirm(v.context, one, old, device_of(v.request))
        with v.context.database.write() as connection:
            accounts.set_password(connection, one, password, by=one.name, now_ms=v.now_ms, keep_session=session or None)
    except (InvalidValue, NotSignedIn, Refused) as error:
        return _page(v, "password", error.text)
    v.keeper.forget()
    return _done(v, "password")


@router.post("/account/login-name")
def change_login_name(v: Viewing, login_name: Field = "") -> Response:
    """Choose the short name to sign in with."""
    one = _me(v)
    try:
        with v.context.database.write() as connection:
            accounts.set_login_name(connection, one, login_name[:200], by=one.name, now_ms=v.now_ms)
    except (InvalidValue, Refused) as error:
        return _page(v, "login_name", error.text, typed=login_name[:80])
    return _done(v, "login_name")


# -- second factor -----------------------------------------------------------------------------------------------------


@router.post("/account/factor")
def begin_factor(v: Viewing, password: Field = "") -> Response:
    """Begin to set a second factor up, or another one in its place."""
    one = _me(v)
    try:
        sign_in.confirm(v.context, one, password, device_of(v.request))
    except NotSignedIn as error:
        return _page(v, "factor", error.text)
    response = RedirectResponse(v.to("/account/factor"), 303)
    set_cookie(
        response, v.request, STEP_COOKIE, sign_in.begin_enrolment(v.context, one), one_time_codes.STEP_MS // 1000
    )
    return response


@router.get("/account/factor")
def ask_factor(v: Viewing) -> Response:
    """The QR code for the app, and the field for its first code."""
    return _enrolment(v)


@router.post("/account/factor/confirm")
def confirm_factor(v: Viewing, code: Field = "") -> Response:
    """Take the app as second factor; the recovery codes are shown this once."""
    try:
        codes = sign_in.finish_enrolment(v.context, _me(v), cookie(v.request, STEP_COOKIE), code[:100])
    except InvalidValue as error:
        return _enrolment(v, error.text)
    except StepOver as error:
        return _page(v, "factor", error.text)
    response = v.render("recovery_codes.html", codes=codes, after=v.to(PATH))
    drop_cookie(response, v.request, STEP_COOKIE)
    return response


@router.post("/account/factor/remove")
def remove_factor(v: Viewing, password: Field = "") -> Response:
    """Take the second factor away, where the role does not need it."""
    one = _me(v)
    try:
        if accounts.needs_factor(one):
            raise Refused(say("account.factor_needed", role=role_name(one.role)))
        sign_in.confirm(v.context, one, password, device_of(v.request))
    except (NotSignedIn, Refused) as error:
        return _page(v, "factor", error.text)
    with v.context.database.write() as connection:
        accounts.remove_factor(connection, one, by=one.name, now_ms=v.now_ms)
    return _done(v, "factor")


@router.post("/account/factor/codes")
def new_codes(v: Viewing, password: Field = "") -> Response:
    """New recovery codes in place of the old."""
    one = _me(v)
    try:
        sign_in.confirm(v.context, one, password, device_of(v.request))
    except NotSignedIn as error:
        return _page(v, "factor", error.text)
    with v.context.database.write() as connection:
        codes = accounts.new_recovery_codes(connection, one, by=one.name, now_ms=v.now_ms)
    return v.render("recovery_codes.html", codes=codes, after=v.to(PATH))


def _enrolment(v: View, error: Text | None = None) -> Response:
    try:
        one, secret = sign_in.enrolment(v.context, cookie(v.request, STEP_COOKIE))
        if one.name != v.actor.name:
            raise StepOver
    except StepOver as over:
        return _page(v, "factor", over.text)
    values = enrolment_values(v, one.name, secret)
    return v.render("account_factor.html", status=200 if error is None else 400, error=error, **values)


# -- sessions and tokens -----------------------------------------------------------------------------------------------


@router.post("/account/sessions/end")
def end_sessions(v: Viewing) -> Response:
    """Sign out everywhere else."""
    one = _me(v)
    me.end_sessions(v.context, one.name, by=one.name, but=cookie(v.request, COOKIE) or None)
    v.keeper.forget()
    return _done(v, "sessions")


@router.post("/account/sessions/{number}/end")
def end_session(v: Viewing, number: Number) -> Response:
    """Sign out in one browser."""
    me.end_session(v.context, _me(v).name, number)
    v.keeper.forget()
    return _done(v, "sessions")


@router.post("/account/phones/{number}/revoke")
def revoke_phone(v: Viewing, number: str) -> Response:
    """A phone of the field app was lost."""
    one = _me(v)
    field_phones.revoke(v.context, v.actor, number, one.name)
    return _done(v, "phones")


@router.post("/account/tokens")
def new_token(
    v: Viewing,
    label: Field = "",
    days: Field = "90",
    scope: Annotated[list[str], Form()] = [],  # noqa: B006
) -> Response:
    """A new token, shown this once."""
    one = _me(v)
    scopes = None if "all" in scope else frozenset(right for right in Right if right.value in scope)
    good_days = int(days) if days in {str(day) for day in DAYS} else DAYS[0]
    good_ms = min(good_days * DAY_MS, max(v.context.token_ms, DAY_MS))
    try:
        if not label.strip():
            raise InvalidValue(say("account.token_unnamed"))
        if scopes == frozenset():
            raise InvalidValue(say("account.token_no_scope"))
        with v.context.database.write() as connection:
            wish = TokenWish(label[: people_store.NAME_LIMIT], scopes)
            token = people_store.issue_token(
                connection, one.name, by=one.name, now_ms=v.now_ms, good_ms=good_ms, wish=wish
            )
    except (InvalidValue, Refused) as error:
        return _page(v, "tokens", error.text, typed=label[:80], scopes=tuple(scope))
    return v.render("account_token.html", token=token, label=label.strip()[:80], until_ms=v.now_ms + good_ms)


@router.post("/account/tokens/{number}/revoke")
def revoke_token(v: Viewing, number: Number) -> Response:
    """End one token."""
    one = _me(v)
    with v.context.database.write() as connection:
        people_store.revoke_token(connection, one.name, number, by=one.name, now_ms=v.now_ms)
    v.keeper.forget()
    return _done(v, "tokens")


@router.post("/account/data")
def own_data(v: Viewing) -> Response:
    """What is kept of who is signed in, as a file."""
    one = _me(v)
    with v.context.database.write() as connection:
        found = personal_data.of_staff(connection, v.context.vault, one.name, v.now_ms)
        personal_data.record_export(connection, "person", one.name, one.name, v.now_ms)
    headers = {"Content-Disposition": 'attachment; filename="personal-data.json"', "Cache-Control": "no-store"}
    return answer(found, headers=headers)


# -- parts -------------------------------------------------------------------------------------------------------------


def _me(v: View) -> Person:
    """Who is signed in. Raises NotFound where that is nobody by name."""
    with v.context.database.read() as connection:
        return people_store.get(connection, v.person)


def _done(v: View, part: str) -> Response:
    return RedirectResponse(f"{v.to(PATH, done=part)}#{part}", 303)


def _page(
    v: View, part: str = "", error: Text | None = None, *, typed: str = "", scopes: tuple[str, ...] = ()
) -> Response:
    status = 200 if error is None else 400
    if not v.person:
        return v.render("account_nobody.html", status=status)
    one, idle_ms = _me(v), v.context.idle_ms
    with v.context.database.read() as connection:
        account = accounts.get(connection, one)
        found = sessions.list_sessions(connection, one.id, v.now_ms, idle_ms)
        here = sessions.find(connection, cookie(v.request, COOKIE), v.now_ms, idle_ms)
        tokens = people_store.tokens_of(connection, one.name, v.now_ms)
        phones = phone_store.of_person(connection, one)
    return v.render(
        "account.html",
        status=status,
        one=one,
        role=role_name(one.role),
        account=account,
        needs_factor=accounts.needs_factor(one),
        sessions=found,
        here=here.id if here else None,
        tokens=tokens,
        phones=phones,
        rights=[right for right in Right if right in RIGHTS[one.role]],
        days=DAYS,
        least=passwords.MIN_LENGTH,
        wrong=part if error else "",
        error=error,
        typed=typed,
        scopes=scopes,
        done=v.query.get("done", ""),
    )
