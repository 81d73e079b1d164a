"""Signing in and out: name and password, second factor, identity provider, token, and links that set a password."""

import re
from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Form, Request, Response
from starlette.responses import RedirectResponse

from api import qr_code, sign_in, user_agents
from api.access import (
    AS_COOKIE,
    COOKIE,
    RESUME,
    STEP_COOKIE,
    WANTED,
    cookie_name,
    is_secure,
    packed,
    unpacked,
)
from api.pages.view import PageRoute, View, Viewing
from api.sign_in import Next, NotSignedIn, Progress, StepOver
from governance.organisation.roles import LOCAL_NAME, Role, role_name
from governance.people import one_time_codes, passwords, totp
from governance.people import store as people_store
from governance.people.sessions import Device
from infra.errors import ConfigurationError, InvalidValue, Refused, WaterError
from infra.texts import Text, say
from infra.throttle import network_of

router = APIRouter(include_in_schema=False, route_class=PageRoute)

BACK = "/login/oidc/back"
MOST_KEPT = 200
"""Fields of a form that are kept for after signing in."""
SECRETS = frozenset({"password", "old", "again", "token", "code"})
"""Fields that are never shown again."""
_WORD = re.compile(r"[A-Za-z0-9_.:/-]*")
"""A value that a form chose, not somebody's words."""
LONGEST = 1000
"""Letters of a field that are looked at."""

Field = Annotated[str, Form()]


def inside(path: str) -> str:
    """A path of ours, nothing that leads elsewhere."""
    plain = "".join(path.split()) == path and path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") and not urlsplit(path).netloc else "/"


def _after(v: View, path: str) -> str:
    """Where to go after signing in: a page of ours, in the language of the page one signs in on."""
    kept = inside(path)
    parts = urlsplit(kept)
    asked = parse_qsl(parts.query, keep_blank_values=True)
    if dict(asked).get("lang", v.remembered) == v.language:
        return kept
    query = [(name, value) for name, value in asked if name != "lang"]
    if v.language != v.remembered:
        query.append(("lang", v.language))
    return parts._replace(query=urlencode(query)).geturl()


def device_of(request: Request) -> Device:
    """With what, and from where, somebody asks."""
    agent = user_agents.words(request.headers.get("user-agent", ""))
    return Device(agent, network_of(request.client.host if request.client else ""))


def set_cookie(response: Response, request: Request, name: str, value: str, age_s: int, *, lax: bool = False) -> None:
    """A cookie that no script can read; over https with the prefix that ties it to this host."""
    secure = is_secure(request.scope)
    response.set_cookie(
        cookie_name(name, secure),
        value,
        max_age=age_s,
        path="/",
        httponly=True,
        samesite="lax" if lax else "strict",
        secure=secure,
    )


def cookie(request: Request, name: str) -> str:
    """The value of a cookie of ours, "" without one."""
    return request.cookies.get(cookie_name(name, is_secure(request.scope)), "")


def drop_cookie(response: Response, request: Request, name: str) -> None:
    """Take a cookie of ours away."""
    secure = is_secure(request.scope)
    response.delete_cookie(cookie_name(name, secure), path="/", secure=secure, httponly=True)


# -- password and token ------------------------------------------------------------------------------------------------


@router.get("/login")
def show(v: Viewing, next: str = "/") -> Response:
    """The page to sign in; on an open site the list of people whose part one may play."""
    return _login(v, _after(v, next))


@router.post("/login")
def post(
    v: Viewing,
    name: Field = "",
    password: Field = "",
    token: Field = "",
    next: Field = "/",
    part: Annotated[str, Form(alias="as")] = "",
) -> Response:
    """Sign in with name and password, or with a token; on an open site as a person of the list."""
    after = _after(v, next)
    if v.keeper.open and part:
        response = RedirectResponse(after, 303)
        secure = is_secure(v.request.scope)
        response.set_cookie(AS_COOKIE, packed(part[:LONGEST]), httponly=True, samesite="strict", secure=secure)
        return response
    try:
        if token.strip():
            return _by_token(v, token.strip(), after)
        found = sign_in.by_password(v.context, name[:LONGEST], password[:LONGEST], device_of(v.request))
    except (NotSignedIn, Refused) as error:
        return _login(v, after, name=name[:80], error=error.text, by_token=bool(token))
    return advance(v, found, after)


def _by_token(v: View, token: str, after: str) -> Response:
    session = v.keeper.sign_in(token[:LONGEST], device_of(v.request))
    if session is None:
        raise NotSignedIn(say("login.token_wrong"))
    return advance(v, Progress(Next.DONE, session, "token"), after)


def advance(v: View, found: Progress, after: str) -> Response:
    """The way to what comes next, with its cookie; the id that the browser had before ends."""
    if found.next is Next.DONE:
        response: Response = RedirectResponse(after, 303)
        begin(v, response, found)
        return response
    path = "/login/code" if found.next is Next.FACTOR else "/login/enrol"
    response = RedirectResponse(v.to(path, next=after), 303)
    set_cookie(response, v.request, STEP_COOKIE, found.cookie, one_time_codes.STEP_MS // 1000)
    return response


def begin(v: View, response: Response, found: Progress) -> None:
    """Give the browser its session; one that it had before is closed."""
    v.keeper.sign_out(v.request.cookies, is_secure(v.request.scope))
    set_cookie(response, v.request, COOKIE, found.cookie, v.context.session_ms // 1000)
    drop_cookie(response, v.request, STEP_COOKIE)


def _login(v: View, after: str, *, name: str = "", error: Text | None = None, by_token: bool = False) -> Response:
    if v.keeper.open:
        return v.render(
            "login_open.html",
            after=after,
            parts=_parts(v),
            playing=unpacked(v.request.cookies.get(AS_COOKIE, "")) or LOCAL_NAME,
        )
    status = 200 if error is None else 401
    provider = v.context.oidc.button() if v.context.oidc else None
    return v.render(
        "login.html", status=status, after=after, name=name, error=error, by_token=by_token, provider=provider
    )


def _parts(v: View) -> list[tuple[str, Text, Text]]:
    """Whose part may be played: name, role and place."""
    with v.context.database.read() as connection:
        everybody = people_store.list_people(connection)
    regions, order, nowhere = v.keeper.regions(), list(Role), Text("", "")
    parts = [(LOCAL_NAME, say("login.everything"), nowhere)]
    for one in sorted(everybody, key=lambda p: (order.index(p.role), p.name)):
        place = Text(regions[one.region].zh, regions[one.region].en) if one.region in regions else nowhere
        parts.append((one.name, role_name(one.role), place))
    return parts


@router.post("/logout")
def sign_out(v: Viewing) -> Response:
    """End the session of this browser."""
    v.keeper.sign_out(v.request.cookies, is_secure(v.request.scope))
    response = RedirectResponse(v.to("/login"), 303)
    for name in (COOKIE, STEP_COOKIE):
        drop_cookie(response, v.request, name)
    response.delete_cookie(AS_COOKIE)
    return response


@router.post(RESUME)
async def resume(v: Viewing) -> Response:
    """A form was sent without a session: what was typed is shown and can be sent again after signing in."""
    wanted = v.request.scope.get(WANTED)
    if wanted is None:
        return RedirectResponse(v.to("/login"), 303)
    query = v.request.url.query
    body = (await v.request.body()).decode("utf-8", "replace")
    fields = parse_qsl(body, keep_blank_values=True)[:MOST_KEPT]
    action = f"{wanted}?{query}" if query else wanted
    if SECRETS & {name for name, _ in fields}:
        return RedirectResponse(v.to("/login"), 303)
    typed = [value for _, value in fields if not _WORD.fullmatch(value)]
    return v.render("login_resume.html", status=401, action=inside(action), fields=fields, typed=typed)


# -- second factor -----------------------------------------------------------------------------------------------------


@router.get("/login/code")
def ask_code(v: Viewing, next: str = "/") -> Response:
    """The page that asks for the second factor."""
    if not cookie(v.request, STEP_COOKIE):
        return RedirectResponse(v.to("/login"), 303)
    return v.render("login_code.html", after=_after(v, next), error=None)


@router.post("/login/code")
def check_code(v: Viewing, code: Field = "", next: Field = "/") -> Response:
    """Sign in with the second factor."""
    after = _after(v, next)
    try:
        found = sign_in.by_factor(v.context, cookie(v.request, STEP_COOKIE), code[:LONGEST], device_of(v.request))
    except NotSignedIn as error:
        return v.render("login_code.html", status=401, after=after, error=error.text)
    except StepOver as error:
        return _login(v, after, error=error.text)
    return advance(v, found, after)


@router.get("/login/enrol")
def ask_enrolment(v: Viewing, next: str = "/") -> Response:
    """The page to set a second factor up, which the role needs."""
    return _enrolment(v, _after(v, next))


@router.post("/login/enrol")
def enrol(v: Viewing, code: Field = "", next: Field = "/") -> Response:
    """Set the second factor up, sign in, and show the recovery codes this once."""
    after, step = _after(v, next), cookie(v.request, STEP_COOKIE)
    try:
        found, codes = sign_in.by_enrolment(v.context, step, code[:LONGEST], device_of(v.request))
    except InvalidValue as error:
        return _enrolment(v, after, error.text)
    except StepOver as error:
        return _login(v, after, error=error.text)
    response = v.render("recovery_codes.html", codes=codes, after=after)
    begin(v, response, found)
    return response


def _enrolment(v: View, after: str, error: Text | None = None) -> Response:
    try:
        one, secret = sign_in.enrolment(v.context, cookie(v.request, STEP_COOKIE))
    except StepOver as over:
        return _login(v, after, error=over.text)
    return v.render(
        "login_enrol.html",
        status=200 if error is None else 400,
        after=after,
        error=error,
        **enrolment_values(v, one.name, secret),
    )


def enrolment_values(v: View, name: str, secret: str) -> dict[str, object]:
    """What the part of a page that sets a second factor up is given."""
    issuer = v.site or v.say("page.product")
    groups = " ".join(secret[i : i + 4] for i in range(0, len(secret), 4))
    return {"qr": qr_code.svg(totp.address(secret, name, issuer)), "secret": groups}


# -- links -------------------------------------------------------------------------------------------------------------


@router.get("/password/{code}")
def ask_password(v: Viewing, code: str) -> Response:
    """The page to set one's password; opening it changes nothing."""
    return _password(v, code)


@router.post("/password/{code}")
def set_password(v: Viewing, code: str, password: Field = "", again: Field = "") -> Response:
    """Set the password and go on to sign in."""
    try:
        sign_in.check_new(password, again)
        found = sign_in.set_by_link(v.context, code, password, device_of(v.request))
    except InvalidValue as error:
        return _password(v, code, error.text)
    except StepOver as error:
        return _over(v, error)
    v.keeper.forget()
    return advance(v, found, _after(v, "/"))


def _password(v: View, code: str, error: Text | None = None) -> Response:
    try:
        one = sign_in.holder(v.context, code)
    except StepOver as over:
        return _over(v, over)
    status = 200 if error is None else 400
    return v.render("password.html", status=status, code=code, name=one.name, error=error, least=passwords.MIN_LENGTH)


@router.get("/welcome/{code}")
def ask_welcome(v: Viewing, code: str) -> Response:
    """The page for the first administrator."""
    return _welcome(v, code)


@router.post("/welcome/{code}")
def welcome(v: Viewing, code: str, name: Field = "", password: Field = "", again: Field = "") -> Response:
    """Make the first administrator, and go on to the second factor."""
    try:
        sign_in.check_new(password, again)
        found = sign_in.welcome(v.context, code, name, password, device_of(v.request))
    except (InvalidValue, ConfigurationError) as error:
        return _welcome(v, code, name=name[:80], error=error.text)
    except StepOver as error:
        return _over(v, error)
    v.keeper.forget()
    return advance(v, found, _after(v, "/"))


def _welcome(v: View, code: str, *, name: str = "", error: Text | None = None) -> Response:
    try:
        sign_in.check_welcome(v.context, code)
    except StepOver as over:
        return _over(v, over)
    status = 200 if error is None else 400
    return v.render("welcome.html", status=status, code=code, name=name, error=error, least=passwords.MIN_LENGTH)


def _over(v: View, error: WaterError) -> Response:
    return v.render("login_over.html", status=410, text=error.text)


# -- identity provider -------------------------------------------------------------------------------------------------


@router.get("/login/oidc")
def to_provider(v: Viewing, next: str = "/") -> Response:
    """Send the browser to the identity provider."""
    try:
        address, code = sign_in.to_provider(v.context, _back(v.request), _after(v, next))
    except WaterError as error:
        return _login(v, _after(v, next), error=error.text)
    response = RedirectResponse(address, 303)
    set_cookie(response, v.request, STEP_COOKIE, code, one_time_codes.STEP_MS // 1000, lax=True)
    return response


@router.get(BACK)
def from_provider(v: Viewing, state: str = "", code: str = "") -> Response:
    """Back from the provider. The way on is a page of ours, so that the browser sends it our strict cookie."""
    try:
        found, after = sign_in.from_provider(
            v.context, cookie(v.request, STEP_COOKIE), state, code, _back(v.request), device_of(v.request)
        )
    except WaterError as error:
        return _login(v, "/", error=error.text)
    way = advance(v, found, after)
    response = v.render("login_on.html", after=way.headers["location"])
    for name, value in way.raw_headers:
        if name == b"set-cookie":
            response.raw_headers.append((name, value))
    return response


def _back(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers.get('host', '')}{BACK}"
