"""What all pages share: who looks, in which language, how things are said, and rendering a template or its fragments.

A page is rendered whole, or, where the request names blocks of its template in ``X-Fragments``, these blocks alone:
the browser fetches what the live channel announced and puts it in place of the old.
"""

import gzip
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

import jinja2
import msgspec
import structlog
from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from api import problems
from api.access import MACHINE, Keeper
from api.context import Context
from api.duration import duration
from api.names import channel_name, who
from api.pages import assets, drafts
from api.pages.live import LivePicture
from api.pages.menu import ENTRIES, INCIDENTS, MAP, Entry, menu
from api.pages.models.overview import Model
from api.registries import Registries
from governance.incidents.headline import format_value
from governance.organisation.roles import LOCAL_NAME, Actor, Right, Role
from infra.errors import WaterError
from infra.texts import Text, say
from infra.times import beijing, beijing_day, rfc3339
from sensors.standards.gb3838 import WaterClass

LANGUAGES = ("zh", "en")
THEMES = ("light", "dark", "auto")
LANGUAGE_COOKIE, THEME_COOKIE = "language", "theme"
HTML_LANGUAGE = {"zh": "zh-CN", "en": "en"}
FRAGMENTS = "x-fragments"
SIGNS = "parts/signs.html"
"""The signs that mean the same on every page, as macros; templates have them as ``signs``."""
IN_BAR = 8
"""Entries of the menu that a desk's bar has room for beside person and language, in English too."""
KEPT_RENDERINGS = 256
"""Renderings of fragments that are kept for others who look at the same."""
PACKED, PACKED_FROM = 4, 500
"""How hard they are compressed, and from how many bytes on."""
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

NOBODY = Actor("", Role.PUBLIC, frozenset())
"""Who looks at a page before signing in."""

log = structlog.get_logger(__name__)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("api.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals["asset"] = assets.url
    environment.globals["shared"] = assets.shared
    environment.globals["water_classes"] = (*WaterClass, None)
    return environment


TEMPLATES = _environment()


class _Body:
    """Fragments as they are sent, compressed once for all who get them."""

    def __init__(self, text: str) -> None:
        self._plain = text.encode()

    @cached_property
    def _packed(self) -> bytes:
        return gzip.compress(self._plain, PACKED, mtime=0)

    def answer(self, status: int, packed: bool) -> Response:
        if not packed or len(self._plain) < PACKED_FROM:
            return HTMLResponse(self._plain, status, HEADERS)
        return HTMLResponse(self._packed, status, {**HEADERS, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"})


_renderings: dict[tuple[object, ...], _Body] = {}


@dataclass(frozen=True)
class View:
    """One request for a page: who looks at what, in which language and theme, at ``now_ms``."""

    request: Request
    context: Context
    keeper: Keeper
    registries: Registries
    live: LivePicture
    actor: Actor
    language: str
    theme: str
    now_ms: int
    query: Mapping[str, str] = field(default_factory=dict)

    # -- words -------------------------------------------------------------------------------------------------------

    def say(self, key: str, /, **values: object) -> str:
        """A sentence of the catalogue in the page's language."""
        return self.of(say(key, **values))

    def sign(self, key: str) -> str:
        """The first character of a Chinese word, as a sign that is the same in both languages (红)."""
        return say(key).zh[0]

    def of(self, text: Text) -> str:
        """A text in the page's language."""
        return text.en if self.language == "en" else text.zh

    @property
    def remembered(self) -> str:
        """The language that this browser chose once; an address names another one."""
        chosen = self.request.cookies.get(LANGUAGE_COOKIE, "")
        return chosen if chosen in LANGUAGES else LANGUAGES[0]

    @property
    def html_language(self) -> str:
        return HTML_LANGUAGE[self.language]

    def moment(self, at_ms: int | None, seconds: bool = False) -> str:
        """Beijing time, with the date when it is not today, and the year when it is another; "—" for None."""
        if at_ms is None:
            return "—"
        now, day = beijing_day(self.now_ms), beijing_day(at_ms)
        date = "" if day == now else "%m-%d " if day.year == now.year else "%Y-%m-%d "
        return beijing(at_ms, date + ("%H:%M:%S" if seconds else "%H:%M"))

    def ago(self, ms: int) -> str:
        """A span of time in words, such as 9小时."""
        return self.of(duration(ms))

    def utc(self, at_ms: int) -> str:
        """UTC as a machine reads it, for ``<time datetime>``."""
        return rfc3339(at_ms)

    def number(self, value: float, parameter: str | None = None) -> str:
        """A value as it is shown: in decimals and unit of its parameter, else in three significant digits."""
        catalogue = self.context.catalogue
        return catalogue[parameter].show(value) if parameter and parameter in catalogue else f"{value:.3g}"

    def short(self, value: float, parameter: str) -> str:
        """A value with its unit in three significant digits, as titles have it."""
        known = self.context.catalogue
        return (
            known[parameter].with_unit(format_value(value, known[parameter])) if parameter in known else f"{value:.3g}"
        )

    def channel(self, kind: str) -> str:
        """What a kind of channel is called."""
        return self.of(channel_name(kind))

    def who(self, name: str) -> str:
        """Who did something, by the name that was recorded."""
        return self.of(who(name, ""))

    def parameter(self, key: str) -> Text:
        """The name of a parameter; its key where the catalogue does not have it."""
        catalogue = self.context.catalogue
        return Text(catalogue[key].zh, catalogue[key].en) if key in catalogue else Text(key, key)

    @property
    def site(self) -> str:
        """What the site is called; "" where it has no name."""
        zh, _, en = self.context.site.partition(" / ")
        return self.of(Text(zh, en or zh))

    # -- addresses ---------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        return self.request.url.path

    def to(self, path: str, **query: object) -> str:
        """A path of ours in the page's language."""
        given = {name: value for name, value in query.items() if value not in ("", None)}
        if self.language != self.remembered:
            given.setdefault("lang", self.language)
        return f"{path}?{urlencode(given)}" if given else path

    def here(self, **changes: object) -> str:
        """This page with another choice; None and "" leave one out."""
        given: dict[str, object] = {**self.query, **changes}
        if self.language == self.remembered or "lang" in changes:
            given = {name: value for name, value in given.items() if (name, value) != ("lang", self.remembered)}
        given = {name: value for name, value in given.items() if value not in ("", None)}
        return f"{self.path}?{urlencode(given)}" if given else self.path

    # -- people ------------------------------------------------------------------------------------------------------

    @property
    def signed_in(self) -> bool:
        """Whether somebody is signed in, or need not be."""
        return self.actor is not NOBODY

    @property
    def person(self) -> str:
        """Who is signed in; "" where nobody is by name."""
        return "" if self.actor.name in (LOCAL_NAME, MACHINE) else self.actor.name

    def present(self, number: int) -> tuple[str, ...]:
        """Who else has an incident open now, for ``parts/presence.html``."""
        return self.live.present(number, self.actor)

    @cached_property
    def menu(self) -> tuple[Entry, ...]:
        """The pages this person may open."""
        return menu(self.actor) if self.signed_in else ()

    @property
    def current(self) -> str:
        """The path of the menu's entry that the page belongs to; a station's page belongs to the map."""
        under = [entry.path for entry in ENTRIES if f"{self.path}/".startswith(f"{entry.path}/")]
        return max(under, key=len) if under else MAP.path if self.path.startswith("/stations/") else ""

    @property
    def menu_first(self) -> tuple[Entry, ...]:
        """The entries of the menu that stand in the bar; the others open below it."""
        return self.menu[:IN_BAR]

    @property
    def menu_more(self) -> tuple[Entry, ...]:
        """The entries that open below the bar."""
        return self.menu[IN_BAR:]

    @property
    def sees_incidents(self) -> bool:
        """Whether the role sees incidents at all."""
        return self.actor.may(INCIDENTS.right)

    def require(self, right: Right, work: Text | None = None) -> None:
        """Raises Forbidden where who looks lacks a right; ``work`` is what the page needs it for."""
        self.actor.must(right, work)

    def marks(self, picture: Model, topics: Collection[str]) -> str:
        """The marks of the topics in a picture, for the page's script."""
        return msgspec.json.encode(self.live.marks(picture, topics)).decode()

    # -- rendering ---------------------------------------------------------------------------------------------------

    def render(self, template: str, key: object = None, status: int = 200, **values: object) -> Response:
        """The page, or the fragments that the request names.

        ``key``: equal keys look the same to everybody of a role that is bound to no region, and to one person who is
        bound (whose cases and waters are their own), so one rendering serves them; None: not kept.
        """
        page = TEMPLATES.get_template(template)
        named = self.request.headers.get(FRAGMENTS, "").split(",")
        names = tuple(name for name in named if name in page.blocks)
        if not names:
            return HTMLResponse(page.render(self._values(values)), status, self._headers)
        mark = (template, names, self.language, self.theme, self.alike, self.query_key, key)
        body = _renderings.get(mark) if key is not None else None
        if body is None:
            body = _Body("".join(self._fragment(page, name, self._values(values)) for name in names))
            if key is not None:
                if len(_renderings) >= KEPT_RENDERINGS:
                    _renderings.pop(next(iter(_renderings)))
                _renderings[mark] = body
        return body.answer(status, "gzip" in self.request.headers.get("accept-encoding", ""))

    @property
    def _headers(self) -> Mapping[str, str]:
        """The headers of a page; pictures may come from the host of the map's tiles, too."""
        if not self.tiles_host:
            return HEADERS
        return {**HEADERS, "Content-Security-Policy": POLICY.replace("blob:;", f"blob: {self.tiles_host};")}

    @property
    def tiles_host(self) -> str:
        """Where the tiles of the map come from, for a policy; "" where there are none."""
        tiles = urlsplit(self.context.map_tiles)
        host = "*." + tiles.netloc.partition(".")[2] if "{s}" in tiles.netloc else tiles.netloc
        return f"{tiles.scheme}://{host}" if tiles.netloc else ""

    @property
    def alike(self) -> object:
        """Equal for those who see the same: a role that is bound to no region, or one person who is bound."""
        return self.actor.role if self.actor.regions is None else self.actor

    def _values(self, values: Mapping[str, object]) -> dict[str, object]:
        return {"v": self, "signs": TEMPLATES.get_template(SIGNS).make_module({"v": self}), **values}

    def _fragment(self, page: jinja2.Template, name: str, values: dict[str, object]) -> str:
        context = page.new_context(values)
        next(page.root_render_func(context), None)  # macros and imports of the page stand before its first output
        inner = "".join(page.blocks[name](context))
        return f'<div data-fragment="{name}">{inner}</div>'

    @property
    def query_key(self) -> tuple[tuple[str, str], ...]:
        """The choices of the address, in order."""
        return tuple(sorted(self.query.items()))


def view_of(request: Request) -> View:
    """The view of a request that passed the guard."""
    state = request.app.state
    query = dict(request.query_params)
    language = query.get("lang") or request.cookies.get(LANGUAGE_COOKIE, "")
    theme = query.get("theme") or request.cookies.get(THEME_COOKIE, "")
    return View(
        request=request,
        context=state.context,
        keeper=state.keeper,
        registries=state.registries,
        live=state.live,
        actor=request.scope.get("actor", NOBODY),
        language=language if language in LANGUAGES else LANGUAGES[0],
        theme=theme if theme in THEMES else "auto",
        now_ms=state.context.clock_ms(),
        query=query,
    )


async def _viewing(request: Request) -> View:
    return view_of(request)


Viewing = Annotated[View, Depends(_viewing)]
"""The view, for a page's route."""


class PageRoute(APIRoute):
    """A route whose failures are pages: what was refused in words, what broke under a number."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                answer = await handle(request)
                if answer.status_code == 303 and drafts.FORM in request.headers:
                    return await drafts.accepted(request, answer)
                return answer
            except WaterError as error:
                problem = problems.of(error)
                return failed(request, problem.sort.status, error.text, "")
            except HTTPException:
                raise
            except RequestValidationError:
                return failed(request, 404, say("page_frame.no_page"), "")
            except Exception as error:
                number = problems.fault(error).members["instance"]
                return failed(request, 500, say("page_frame.broken"), str(number))

        return guarded


def failed(request: Request, status: int, text: Text, number: str) -> Response:
    """The page that says what failed, and the way on."""
    view = view_of(request)
    return view.render("failed.html", status=status, text=text, number=number)


def new_id() -> str:
    """An id for a form: sent twice, it is filed once."""
    return secrets.token_urlsafe(9)


def markup(svg: str) -> Markup:
    """A drawing of ours, in which every text is escaped already."""
    return Markup(svg)  # noqa: S704  (drawn by api.svg, which escapes)
