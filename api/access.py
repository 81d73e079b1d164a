"""Who is asking, and whether they may: enforced by method and path before a body is read.

One table says which right each route needs, so that a new route cannot forget it: a path that the table does not know
is the administrator's alone. Where a right counts, in which region, is for the routes: they are given the `Actor`.
"""

import hashlib
import hmac
import re
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any, cast
from urllib.parse import parse_qsl, quote, urlsplit

import sqlalchemy as sa
import structlog
from anyio import to_thread
from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api import problems
from api.context import Context
from api.problems import Problem
from api.registries import Registries
from governance.organisation.regions import Regions
from governance.organisation.roles import LOCAL_NAME, Actor, Forbidden, Right, Role, administrator
from governance.people import accounts, phones, sessions
from governance.people import store as people_store
from governance.people.phones import Phone
from governance.people.sessions import NO_DEVICE, Device
from infra import base64url
from infra.errors import NotFound, Refused, StorageUnavailable, WaterError
from infra.texts import Text, say
from ingest.storage.changes import Author
from sensors.stations import Station

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

COOKIE = "rc-session"
"""A browser's login: the id of its session, for our pages only and out of reach of scripts; see `cookie_name`."""
STEP_COOKIE = "rc-step"
"""A browser on its way to sign in: the code of the step that is next."""
AS_COOKIE = "rc-as"
"""On an open site: whose part the browser plays."""
RECENT_S = 2.0
MACHINE = "api"
"""The name under which the token of the settings acts."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SCHEME = "bearer"

NEEDS: tuple[tuple[str, str, Right], ...] = (
    ("GET", r"/(openapi\.json|me)", Right.VIEW),
    ("GET", r"/me/reports", Right.REPORT),
    ("GET", r"/me/views", Right.INCIDENTS),
    ("*", r"/me/views/[^/]+", Right.INCIDENTS),
    ("GET", r"/me/(sessions|tokens)", Right.VIEW),
    ("*", r"/me/(sessions|tokens)(/[^/]+)?", Right.VIEW),
    ("GET", r"/people/[^/]+/(sessions|tokens)", Right.PEOPLE),
    ("GET", r"/stations/[^/]+/credentials", Right.DEVICES),
    ("GET", r"/stations/[^/]+/(mutes|reviews)", Right.INCIDENTS),
    ("GET", r"/sta/.*", Right.VIEW),
    ("*", r"/sta/[^/]+/(.+/)?(Observations|CreateObservations)", Right.SEND),
    ("*", r"/sta/[^/]+/\$batch", Right.VIEW),
    ("*", r"/sta/.*", Right.REGISTRY),
    ("GET", r"/(stations|reaches|regions|outfalls|travels)(/.*)?", Right.VIEW),
    ("GET", r"/photos/.*", Right.VIEW),
    ("GET", r"/attachments/.*", Right.INCIDENTS),
    ("GET", r"/patrols(/.*)?", Right.INCIDENTS),
    ("GET", r"/registry/.*", Right.ACCOUNT),
    ("GET", r"/(ledger|quarantine)(/.*)?", Right.ACCOUNT),
    ("GET", r"/field/phones", Right.VIEW),
    ("GET", r"/field/(records|bundle)", Right.INCIDENTS),
    ("GET", r"/field/records/[^/]+/photos/[^/]+/original", Right.ACCOUNT),
    ("*", r"/field/phones(/[^/]+)?", Right.COMMENT),
    ("*", r"/field/records/.+", Right.COMMENT),
    ("GET", r"/(incidents|field-points|worklist|processes|rules)(/.*)?", Right.INCIDENTS),
    ("GET", r"/people/[^/]+/contact", Right.PEOPLE),
    ("GET", r"/people(/.*)?", Right.STAFF),
    ("GET", r"/audit(/.*)?", Right.AUDIT),
    ("GET", r"/assessments(/.*)?", Right.ASSESS),
    ("GET", r"/backtests(/.*)?", Right.INCIDENTS),
    ("GET", r"/oncall/now", Right.INCIDENTS),
    ("GET", r"/oncall", Right.STAFF),
    ("GET", r"/schemas/.*", Right.VIEW),
    ("GET", r"/(deliveries|callbacks|notices|reconciliations)(/.*)?", Right.ACCOUNT),
    ("*", r"/assessments/appeals", Right.ASSESS),
    ("*", r"/assessments/(appeals/[^/]+/decision|periods(/[^/]+)?)", Right.EVALUATE),
    ("*", r"/attachments", Right.COMMENT),
    ("*", r"/(incidents|patrols)", Right.REPORT),
    ("*", r"/incidents/[^/]+/actions", Right.INCIDENTS),
    ("*", r"/incidents/[^/]+/(public-photos|contacts)", Right.ACCEPT),
    ("*", r"/people(/.*)?", Right.PEOPLE),
    ("*", r"/readings", Right.SEND),
    ("*", r"/reaches/[^/]+/plan", Right.DISPATCH),
    ("*", r"/backtests", Right.REVIEW),
    ("*", r"/(deliveries|notices|oncall|reconciliations)(/.*)?", Right.ACCEPT),
    ("*", r"/rules/trials(/[^/]+/withdraw)?", Right.REVIEW),
    ("*", r"/rules(/.*)?", Right.REGISTRY),
    ("*", r"/quarantine/.*", Right.REVIEW),
    ("*", r"/stations/[^/]+/credentials(/.*)?", Right.DEVICES),
    ("*", r"/stations/[^/]+/commands(/.*)?", Right.DEVICES),
    ("*", r"/stations/[^/]+/(visits|calibrations|checks|photos|reviews|mutes)(/.*)?", Right.REVIEW),
    ("*", r"/(visits|calibrations|checks|photos)/.*", Right.REVIEW),
    ("*", r"/(stations|regions)(/.*)?", Right.REGISTRY),
)
"""Method (``*``: one that changes something), path below the prefix, and the right it needs; the first that fits."""

_COMPILED = tuple((method, re.compile(path), right) for method, path, right in NEEDS)

PAGES_FOR_ALL = (
    "/login",
    "/login/",
    "/logout",
    "/welcome/",
    "/password/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/assets/",
    "/favicon.ico",
    "/look",
    "/a/",
    "/report",
    "/report/",
    "/r/",
    "/public",
    "/public/",
    "/subscription/",
    "/field",
    "/field/",
)
"""Pages and files that nobody has to sign in for; what ends with a slash stands for all below it."""


FIELD_IMPORT = "/field/import"
"""Below the field app, which is open as it shows nobody's data: the page that takes records from a file."""
SIGNED = "/api/v1/field/"
"""Where a phone may sign a request instead of a session."""
PHONE, SIGNER = "x-phone", "riverchief.signer"
"""The header that names the phone, and whoever it belongs to in the scope: to be checked against the signature."""

RESUME = "/login/resume"
"""The page that answers a form which was sent without a session: it keeps what was typed."""
WANTED = "riverchief.wanted"
"""In the scope of a request for `RESUME`: where the form was sent to."""


def right_of(method: str, path: str) -> Right | None:
    """The right that a route below the prefix needs; None for one the table does not know."""
    kind = "GET" if method in _SAFE else "*"
    return next((right for known, pattern, right in _COMPILED if known == kind and pattern.fullmatch(path)), None)


def needed_right(method: str, path: str) -> Right:
    """The right that a route below the prefix needs; one the table does not know is the administrator's."""
    return right_of(method, path) or Right.PEOPLE


@dataclass(frozen=True, slots=True)
class Signer:
    """A phone that a request names, and who acts where its signature fits."""

    actor: Actor
    phone: Phone


class Keeper:
    """Knows people by what they show. Asks the database; an answer stands for ``RECENT_S``."""

    def __init__(self, context: Context, registries: Registries) -> None:
        self._context = context
        self._registries = registries
        self._token = None if context.token is None else context.token.encode()
        self.open = context.open and context.token is None
        self._lock = threading.Lock()
        self._recent: dict[str, tuple[float, Actor]] = {}

    def regions(self) -> Regions:
        """The tree of regions, and the stations in it, as of a moment ago."""
        registry = self._registries.recent()
        return Regions(registry.regions, registry.stations)

    def by_token(self, token: str) -> Actor | None:
        """Whose token it is; None for one that is not valid. Raises StorageUnavailable."""
        if self._token is not None and hmac.compare_digest(token.encode("utf-8", "replace"), self._token):
            return Actor(MACHINE, Role.MACHINE)
        key = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        known = self._fresh(key)
        if known is None and token.startswith(people_store.PREFIX):
            now_ms = self._context.clock_ms()
            with self._context.database.read() as connection:
                kept = people_store.token_of(connection, key, now_ms)
                known = None if kept is None else self._holder(connection, key, now_ms)
            if kept is not None and known is not None:
                known = replace(known, scopes=kept.scopes)
                if now_ms - (kept.used_at_ms or 0) >= sessions.USED_INTERVAL_MS:
                    self._note(lambda connection: people_store.record_token_use(connection, kept.id, now_ms))
                self._keep(key, known)
        return known

    def _holder(self, connection: sa.Connection, token_hash: str, now_ms: int) -> Actor | None:
        one = people_store.find_by_token(connection, token_hash, now_ms)
        return None if one is None else people_store.actor_of(connection, one, self.regions(), now_ms)

    def _note(self, write: Callable[[sa.Connection], None]) -> None:
        """Write when something was used; where the database cannot, nobody is kept out for it."""
        try:
            with self._context.database.write() as connection:
                write(connection)
        except StorageUnavailable as error:
            log.warning("a use could not be noted", error=str(error))

    def sign_in(self, token: str, device: Device = NO_DEVICE) -> str | None:
        """Begin a session with a token; the id for the browser's cookie, None for a token that is not valid.

        Raises Refused for one that is limited: the pages show all that its owner may.
        """
        actor = self.by_token(token)
        if actor is None:
            return None
        if actor.scopes is not None:
            raise Refused(say("account.token_for_programs"))
        now_ms = self._context.clock_ms()
        with self._context.database.write() as connection:
            kept = people_store.token_of(connection, people_store.token_hash(token), now_ms)
            made = sessions.begin(
                connection,
                person_id=None if kept is None else kept.person_id,
                method="token",
                now_ms=now_ms,
                expires_at_ms=now_ms + self._context.session_ms,
                token=token,
                device=device,
            )
            accounts.record_event(connection, "login.begun", actor.name, device.details("token"), actor.name, now_ms)
        return made

    def sign_out(self, cookies: dict[str, str], secure: bool = False) -> None:
        """End the session of a browser, in whichever process it is asked after."""
        if session := cookies.get(cookie_name(COOKIE, secure)):
            actor, now_ms = self.by_session(session), self._context.clock_ms()
            with self._context.database.write() as connection:
                sessions.end(connection, session)
                if actor is not None:
                    accounts.record_event(connection, "login.ended", actor.name, {"count": 1}, actor.name, now_ms)
            self.forget()

    def by_session(self, session: str) -> Actor | None:
        """Whose session it is; None for one that is over. Raises StorageUnavailable."""
        key = people_store.token_hash(session)
        known = self._fresh(key)
        if known is not None:
            return known
        now_ms = self._context.clock_ms()
        with self._context.database.read() as connection:
            found = sessions.find(connection, session, now_ms, self._context.idle_ms)
            if found is None:
                return None
            if found.token_hash is None:
                name = accounts.by_id(connection, found.person_id)
                if name is not None:
                    one = people_store.get(connection, name)
                    known = people_store.actor_of(connection, one, self.regions(), now_ms)
            elif self._token is not None and found.token_hash == hashlib.sha256(self._token).hexdigest():
                known = Actor(MACHINE, Role.MACHINE)
            else:
                known = self._holder(connection, found.token_hash, now_ms)
        if known is not None:
            if now_ms - found.used_at_ms >= sessions.USED_INTERVAL_MS:
                self._note(lambda connection: sessions.record_use(connection, found, now_ms))
            self._keep(key, known)
        return known

    def by_name(self, name: str) -> Actor | None:
        """Somebody as they may act now; None for nobody."""
        now_ms = self._context.clock_ms()
        with self._context.database.read() as connection:
            try:
                one = people_store.get(connection, name)
            except NotFound:
                return None
            return people_store.actor_of(connection, one, self.regions(), now_ms)

    def require_authority(self, actor: Actor, name: str) -> None:
        """Raises Forbidden where somebody's role or place is more than the actor may give, NotFound for nobody."""
        try:
            with self._context.database.read() as connection:
                people_store.require_authority(connection, actor, name, self._context.clock_ms())
        except Forbidden:
            actor.must_be_whole()  # what a limited token lacks is said of the token, not of its owner
            raise

    def by_phone(self, number: str) -> "Signer | None":
        """Whose phone it is, as they may act now; None for one that is not registered.

        Raises Forbidden for a phone that was revoked or whose person was removed.
        """
        now_ms = self._context.clock_ms()
        with self._context.database.read() as connection:
            phone = phones.find(connection, number)
            if phone is None:
                return None
            if phone.revoked_at_ms is not None:
                raise Forbidden(say("field_server.revoked"))
            if phone.person is None:
                raise Forbidden(say("field_server.person_ended"))
            one = people_store.get(connection, phone.person)
            actor = people_store.actor_of(connection, one, self.regions(), now_ms)
        if now_ms - (phone.used_at_ms or 0) >= phones.USED_INTERVAL_MS:
            self._note(lambda connection: phones.record_use(connection, number, now_ms))
        return Signer(actor, phone)

    def forget(self) -> None:
        """People were changed through this API."""
        with self._lock:
            self._recent.clear()

    def by_cookies(self, cookies: dict[str, str], secure: bool = False) -> Actor | None:
        """Who signed in with this browser, over https if ``secure``."""
        if self.open and (part := cookies.get(AS_COOKIE)):
            return self.by_name(unpacked(part))
        session = cookies.get(cookie_name(COOKIE, secure))
        return self.by_session(session) if session else None

    def _fresh(self, key: str) -> Actor | None:
        kept = self._recent.get(key)
        return kept[1] if kept is not None and time.monotonic() - kept[0] < RECENT_S else None

    def _keep(self, key: str, actor: Actor) -> None:
        with self._lock:
            if len(self._recent) > 10_000:
                self._recent.clear()
            self._recent[key] = time.monotonic(), actor


class Guard:
    """ASGI: authenticates and authorises requests below ``prefixes``; elsewhere sends browsers to sign in.

    Nobody is asked at the paths ``open_to_all`` (one that ends with a slash stands for all below it), which check for
    themselves, and on an open site (loopback only). A web page of another origin is turned away where the browser, not
    a token, says who it is: it would use the reach of its reader's browser, not its own.
    """

    def __init__(
        self, app: ASGIApp, keeper: Keeper, prefixes: tuple[str, ...], open_to_all: Collection[str] = ()
    ) -> None:
        self._app = app
        self._open = tuple(open_to_all)
        self._keeper = keeper
        self._prefixes = prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        headers = Headers(scope=scope)
        if scope["type"] == "http" and path.startswith(self._prefixes):
            try:
                problem = await self._api(scope, path, headers)
            except WaterError as error:
                problem = problems.of(error)
            if problem is not None:
                await problem.response()(scope, receive, send)
                return
        elif scope["type"] == "http" and scope["method"] not in _SAFE and (refused := foreign(headers)) is not None:
            await refused.response()(scope, receive, send)
            return
        elif path == FIELD_IMPORT or not _is_open(path, PAGES_FOR_ALL):
            try:
                actor = await to_thread.run_sync(self._keeper.by_cookies, _cookies(headers), is_secure(scope))
            except WaterError as error:
                await problems.of(error).response()(scope, receive, send)
                return
            if actor is None and self._keeper.open:
                actor = administrator(LOCAL_NAME)
            if actor is None and _is_form(scope, headers):
                scope = {**scope, "path": RESUME, "raw_path": RESUME.encode(), WANTED: path}
            elif actor is None:
                await _sign_in(scope, path, headers, receive, send)
                return
            else:
                scope["actor"] = actor
        await self._app(scope, receive, send)

    async def _api(self, scope: Scope, path: str, headers: Headers) -> Problem | None:
        method = scope["method"]
        if _is_open(path, self._open):
            return foreign(headers) if method not in _SAFE else None
        if PHONE in headers and path.startswith(SIGNED):
            return await self._signed(scope, path, headers[PHONE])
        given = headers.getlist("authorization")
        if given:
            scheme, _, shown = given[0].partition(" ")
            if len(given) > 1 or scheme.lower() != _SCHEME:
                return _unauthorized(say("request.token_once"), "")
            actor = await to_thread.run_sync(self._keeper.by_token, _text(shown.strip()))
            if actor is None:
                return _unauthorized(say("request.token_invalid"), ', error="invalid_token"')
        else:
            if method not in _SAFE and (refused := foreign(headers)) is not None:
                return refused
            actor = await to_thread.run_sync(self._keeper.by_cookies, _cookies(headers), is_secure(scope))
            if actor is None and self._keeper.open:
                actor = administrator(LOCAL_NAME)
            if actor is None:
                return _unauthorized(say("request.token_needed"), "")
        scope["actor"] = actor
        return self._refused(scope, path, actor)

    async def _signed(self, scope: Scope, path: str, phone: str) -> Problem | None:
        """Who a phone's request would act for. The route reads the body and, where the signature fits, lets them."""
        signer = await to_thread.run_sync(self._keeper.by_phone, phone)
        if signer is None:
            return _unauthorized(say("field_server.unknown_phone"), "")
        scope[SIGNER] = signer
        return self._refused(scope, path, signer.actor)

    def _refused(self, scope: Scope, path: str, actor: Actor) -> Problem | None:
        try:
            actor.must(needed_right(scope["method"], path.removeprefix("/api/v1")))
        except Forbidden as error:
            return problems.of(error)
        return None


async def while_signed_in(request: Request, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What a channel sends, until the session that it was opened with ends."""
    keeper: Keeper = request.app.state.keeper
    secure = is_secure(request.scope)
    async with aclosing(cast("AsyncGenerator[bytes, None]", events)):
        async for event in events:
            if not keeper.open and await to_thread.run_sync(keeper.by_cookies, request.cookies, secure) is None:
                return
            yield event


async def _asking(request: Request) -> Actor:
    actor: Actor = request.scope["actor"]
    return actor


async def _keeping(request: Request) -> Keeper:
    keeper: Keeper = request.app.state.keeper
    return keeper


Who = Annotated[Actor, Depends(_asking)]
"""Who is asking, for a route."""
Keeping = Annotated[Keeper, Depends(_keeping)]


def _over(actor: Who, keeper: Keeping, name: str) -> None:
    keeper.require_authority(actor, name)


OVER = Depends(_over)
"""The caller may change the person whom the path names."""


def on_behalf(actor: Actor, by: str | None) -> Actor:
    """The name recorded for a change: a person's own; a machine or an open site names the person it acts for.

    Raises Forbidden when a person gives another name.
    """
    if not by or by.strip() == actor.name:
        return actor
    if actor.name in (MACHINE, LOCAL_NAME):
        return replace(actor, name=by.strip())
    raise Forbidden(
        say("person.not_yourself", name=actor.name, by=by[:80]),
        tuple(sorted(actor.rights)),
    )


def author(actor: Actor, by: str | None, now_ms: int, *stations: Station) -> Author:
    """The author of a change at these stations, resolved by `on_behalf`.

    Raises Forbidden, also for a station out of reach: one that moves is given as it was and as it will be.
    """
    for station in stations:
        reaches(actor, station)
    one = on_behalf(actor, by)
    return Author(one.name, now_ms, one.role.value)


def reaches(actor: Actor, station: Station) -> None:
    """Raises Forbidden for a station that is not within somebody's reach."""
    region = station.region
    if not actor.covers(region, station.reach):
        reach = ", ".join(sorted(actor.regions or ())) or "no region"
        raise Forbidden(
            say("registry.elsewhere", station=station.key, region=region or "(none)", name=actor.name, reach=reach)
        )


def reaches_all(actor: Actor) -> None:
    """Raises Forbidden for somebody who is bound to regions, where something concerns the whole site."""
    if actor.regions is not None:
        raise Forbidden(say("person.bound", name=actor.name), tuple(sorted(actor.rights)))


def packed(text: str) -> str:
    """Text as a cookie can hold it."""
    return base64url.encode(text.encode())


def unpacked(text: str) -> str:
    """What `packed` made it from; "" for what it did not make."""
    try:
        return base64url.decode(text).decode()
    except ValueError:
        return ""


def describe(schema: dict[str, Any], open_to_all: Collection[str] = ()) -> None:
    """Tell the OpenAPI document which operations ask for the token."""
    schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes[_SCHEME] = {"type": "http", "scheme": _SCHEME}
    for name, path in schema["paths"].items():
        for operation in path.values():
            if not _is_open(name, open_to_all):
                operation["security"] = [{_SCHEME: []}]


async def _sign_in(scope: Scope, path: str, headers: Headers, receive: Receive, send: Send) -> None:
    """A browser that asked for a page is shown the way; everything else is refused."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "not signed in"})
        return
    if scope["method"] in _SAFE and "text/html" in headers.get("accept", ""):
        query = scope.get("query_string", b"").decode("latin-1")
        wanted = quote(f"{path}?{query}" if query else path, safe="")
        language = dict(parse_qsl(query)).get("lang", "")
        spoken = f"&lang={quote(language, safe='')}" if language else ""
        await RedirectResponse(f"/login?next={wanted}{spoken}", 303)(scope, receive, send)
        return
    await _unauthorized(say("request.sign_in"), "").response()(scope, receive, send)


def _is_form(scope: Scope, headers: Headers) -> bool:
    """Whether a person sent a form that can be kept for after signing in: text, no files."""
    kind = headers.get("content-type", "").partition(";")[0].strip()
    form = kind == "application/x-www-form-urlencoded" and "text/html" in headers.get("accept", "")
    return scope["type"] == "http" and scope["method"] == "POST" and form


def is_secure(scope: Scope) -> bool:
    """Whether a request came over TLS, as this server or a trusted proxy says."""
    return scope.get("scheme") in ("https", "wss")


def cookie_name(name: str, secure: bool) -> str:
    """The name of a cookie: over https with the prefix that keeps other hosts from setting it."""
    return f"__Host-{name}" if secure else name


def _cookies(headers: Headers) -> dict[str, str]:
    return cookie_parser(headers.get("cookie", ""))


def _text(header: str) -> str:
    """A header's bytes as the UTF-8 they mostly are."""
    return header.encode("latin-1").decode("utf-8", "replace")


def _is_open(path: str, open_to_all: Collection[str]) -> bool:
    return any(path.startswith(one) if one.endswith("/") else path == one for one in open_to_all)


def unauthorized(detail: Text) -> Problem:
    """401: who asks is not who they say."""
    return _unauthorized(detail, "")


def _unauthorized(detail: Text, error: str) -> Problem:
    challenge = f'Bearer realm="riverchief"{error}'
    return Problem(problems.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})


def foreign(headers: Headers) -> Problem | None:
    """Why a change that a web page of another origin asks for is refused; None for our own pages and for programs."""
    origin = headers.get("origin")
    site = headers.get("sec-fetch-site", "none")
    if site in ("cross-site", "same-site") or (origin is not None and urlsplit(origin).netloc != headers.get("host")):
        return Problem(problems.FORBIDDEN, say("request.foreign", origin=(origin or site)[:120]))
    return None
