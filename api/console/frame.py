"""What every page shares: menu, language, user, the bar of a cut connection; reading in a thread, saying what failed.

A page gives ``read`` (runs in a thread, answers a model) and ``draw`` (elements from the model); it is drawn again when
the model looks different. What a person types stands in dialogs beside the body, so that no redraw takes it away.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Request, Response
from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from api import problems
from api.access import ANYBODY, MACHINE, Keeper
from api.console.elements import HTML_LANGUAGE, button, link, one_language, page_css, tag
from api.console.live import Live
from api.console.menu import INCIDENT, REPORTED, Entry, menu
from api.console.plain import broken
from api.context import Context
from api.registries import Registries
from api.titles import titles
from governance.incidents.model import Incident
from governance.organisation.roles import Actor, Forbidden, Right, role_name
from infra.errors import Refused, WaterError
from infra.texts import Text, say
from infra.times import beijing, beijing_day

M = TypeVar("M")
LANGUAGES = ("zh", "en")
RESPONSE_S = 30.0
"""How long a page may take to be built; within it a busy machine answers, and proxies wait for 60 s."""
SHOWN = 30
"""Rows of a list that are drawn at once: an element takes some 60 microseconds in which nobody else is answered."""
EVERY_S = 5.0
"""How often a page looks whether what it shows is still so."""

# The bar "connection lost" must appear when the server cannot say anything any more, so the browser decides it. A menu
# that is open closes once something in it or beside it is chosen; the page one is on stands within a menu that scrolls.
# The component library wraps all in a main of its own; the page's is within.
_WATCH = """<script>
addEventListener("click", ({ target }) => document.querySelectorAll("details.rc-menu[open]").forEach((menu) => {
  menu.open = menu.contains(target) && !target.closest(".rc-menu-list");
}));
addEventListener("keydown", ({ key, target }) => {
  const menu = key === "Escape" && target.closest("details.rc-menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
let scrolled = false;
addEventListener("load", () => setInterval(() => {
  const here = scrolled ? null : document.querySelector(".rc-nav-item[aria-current]");
  if (here) here.parentElement.scrollLeft = here.offsetLeft - (here.parentElement.clientWidth - here.offsetWidth) / 2;
  scrolled ||= Boolean(here);
  document.querySelector("main.q-page")?.setAttribute("role", "none");
  const cut = Boolean(window.socket) && !window.socket.connected;
  document.body.classList.toggle("rc-cut", cut);
}, 1000));
</script>"""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all pages work with."""

    context: Context
    live: Live
    keeper: Keeper
    registries: Registries


class SignedOut(Refused):
    """The login that a page was opened with is over: revoked, run out, or the person's who is gone."""


class Framed:
    """One client's page within the frame: who looks, in which language, and how things are said."""

    entry: ClassVar[Entry]
    section: ClassVar[str] = "console"

    def __init__(self, shared: Shared, request: Request) -> None:
        self.shared = shared
        self.context, self.keeper, self.live = shared.context, shared.keeper, shared.live
        self.request = request
        self.query = dict(request.query_params)
        self.language = self.query.get("lang", "zh") if self.query.get("lang") in LANGUAGES else "zh"
        self.actor: Actor = request.scope["actor"]
        self.named = self.actor.name not in (ANYBODY, MACHINE)
        self.name = self.actor.name if self.named else ""
        self.titles: dict[int, Text] = {}

    # -- words -------------------------------------------------------------------------------------------------------

    def say(self, key: str, /, **values: object) -> str:
        """A sentence of the page's section of the catalogue, or of the section that stands before the dot."""
        return self.of(say(key if "." in key else f"{self.section}.{key}", **values))

    def of(self, text: Text) -> str:
        """What is said in the page's language."""
        return str(getattr(text, self.language))

    def read_titles(self, found: Iterable[Incident]) -> None:
        """Look up what the titles of incidents say now; in a thread."""
        self.titles |= titles(self.context, found, self.shared.registries.recent())

    def headline(self, incident: Incident) -> str:
        """The title of an incident whose titles were read."""
        return self.of(self.titles[incident.id])

    def moment(self, at_ms: int | None) -> str:
        """Beijing time, with the date when it is not today, and the year when it is another."""
        if at_ms is None:
            return "—"
        now = beijing_day(self.context.clock_ms())
        day = beijing_day(at_ms)
        return beijing(at_ms, "%H:%M" if day == now else "%m-%d %H:%M" if day.year == now.year else "%Y-%m-%d %H:%M")

    def to(self, path: str, **query: object) -> str:
        """A path of ours in the page's language."""
        said = {name: value for name, value in query.items() if value not in ("", None)}
        if self.language != "zh":
            said["lang"] = self.language
        return f"{path}?{urlencode(said)}" if said else path

    def acting(self) -> Actor:
        """Who acts, as things stand now: a page may have been open for hours. Raises SignedOut."""
        if self.actor.name == ANYBODY:
            return self.actor
        actor = self.keeper.by_cookies(self.request.cookies)
        if actor is None:
            raise SignedOut(say("page_frame.signed_out"))
        return actor

    def allowed_to(self, right: Right) -> Actor:
        """Who acts, once the right is theirs now. Raises Forbidden and Refused."""
        actor = self.acting()
        actor.must(right)
        return actor

    def signed_out(self) -> None:
        """Say that nothing moves any more, and the way back; what was typed stays until the person leaves."""
        self.trouble_bar.clear()
        with self.trouble_bar.classes(add="rc-on"):
            tag("strong", text=self.say("page_frame.signed_out"))
            back = self.to(self.request.url.path, **{n: v for n, v in self.query.items() if n != "lang"})
            link(self.say("page_frame.sign_in_again"), f"/login?{urlencode({'next': back})}", "rc-button")

    # -- the frame ---------------------------------------------------------------------------------------------------

    def open_frame(self, title: str, *skips: tuple[str, str]) -> None:
        """Head, links to skip to (target, words), the bar with the menu; the page's own goes below."""
        ui.page_title(f"{title} · 河长" if title else "河长 Riverchief")
        ui.colors(primary="#0b5a5e")
        ui.add_css(page_css())
        ui.add_head_html(_WATCH)
        if self.language == "en":
            ui.run_javascript('document.documentElement.lang = "en"')  # the page's own language is for all clients
        ui.context.client.content.classes("rc-page")
        for target, words in skips or (("rc-body", self.say("page_frame.skip")),):
            tag("a", "rc-skip", words).props["href"] = f"#{target}"
        with tag("header", "rc-bar"):
            with tag("a", "rc-brand") as brand:
                brand.props["href"] = self.to("/")
                tag("span", text="河长").props["lang"] = "zh-CN"
                tag("span", "rc-bar-latin", text="Riverchief")
            self._menu()
            with tag("div", "rc-bar-state"):
                self.fill_bar()
                self._user()
            self._languages()
        with tag("div", "rc-stale", testid="start-stale") as bar:
            bar.props["role"] = "status"
            tag("strong", text=self.say("console.cut"))
            tag("span", text=self.say("console.cut_detail"))
        self.trouble_bar = tag("div", "rc-trouble", testid="start-error")
        self.trouble_bar.props["role"] = "alert"

    def fill_bar(self) -> None:
        """What the page has to say in the bar."""

    def _menu(self) -> None:
        with tag("nav", "rc-nav", label=self.say("page_frame.menu"), testid="menu"):
            for entry in menu(self.actor):
                item = tag("a", "rc-nav-item", self.say(f"page_frame.{entry.key}"), testid=f"menu-{entry.key}")
                item.props["href"] = self.to(entry.path)
                if entry.key == self.entry.key:
                    item.props["aria-current"] = "page"

    def _user(self) -> None:
        with tag("form", "rc-user") as form:
            form.props["method"], form.props["action"] = "post", "/logout"
            name = tag("span", "rc-user-name", self.actor.name, testid="tasks-name")
            name.props["title"] = self.of(role_name(self.actor.role))
            if self.keeper.open:
                switch = tag("a", "rc-language", self.say("page_frame.switch"))
                switch.props["href"] = f"/login?{urlencode({'next': self.to('/')})}"
            else:
                out = tag("button", "rc-language", self.say("page_frame.sign_out"), testid="sign-out")
                out.props["type"] = "submit"

    def _languages(self) -> None:
        with tag("nav", "rc-languages", label=self.say("console.language")):
            self.links: dict[str, TextElement] = {}
            for language, word in (("zh", "中"), ("en", "En")):
                item = tag("a", "rc-language", word, testid=f"start-lang-{language}")
                item.props["lang"] = HTML_LANGUAGE[language]
                if language == self.language:
                    item.props["aria-current"] = "true"
                self.links[language] = item
        self.link_languages()

    def link_languages(self) -> None:
        """Let the language links lead to this very view."""
        for language, item in self.links.items():
            query = {name: value for name, value in self.query.items() if name != "lang"}
            item.props["href"] = f"{self.request.url.path}?{urlencode({**query, 'lang': language})}"
            item.update()

    def refusal(self, problem: problems.Problem) -> None:
        """The page that says why there is none, with the way on."""
        title = self.of(problem.sort.title)
        self.open_frame(title)
        with tag("main", "rc-doc", testid="refused") as main:
            main.props["id"] = "rc-body"
            with tag("section", "rc-panel rc-refusal"):
                tag("h1", text=title)
                tag("p", text=one_language(problem.detail, self.language))
                if problem.sort is problems.FORBIDDEN:
                    tag("p", "rc-quiet", self.say("page_frame.ask_administrator", name=self.actor.name))
                    if self.entry is INCIDENT and self.actor.may(REPORTED.right):
                        tag("p", "rc-quiet", self.say("own_reports.elsewhere"))
                        link(
                            self.say("own_reports.title"),
                            self.to(REPORTED.path),
                            "rc-button",
                            testid="refused-reported",
                        )
                tag("a", "rc-button rc-main-button", self.say("page_frame.to_map")).props["href"] = self.to("/")
        ui.context.client.status_code = problem.sort.status


class Page(Framed, Generic[M]):
    """A page over one model."""

    every_s: ClassVar[float] = EVERY_S
    model: M
    shown: int = SHOWN
    """Rows of a long list that are drawn."""

    def read(self) -> M:
        """What the page shows, read from the stores; in a thread. Raises WaterError."""
        raise NotImplementedError

    def draw(self, model: M) -> None:
        """The page's body."""
        raise NotImplementedError

    def title(self, model: M) -> str:
        """What the browser calls the page."""
        return self.say(f"page_frame.{self.entry.key}")

    async def respond(self) -> None:
        """Build the page, or the one that says why not with the status it deserves."""
        try:
            self.actor.must(self.entry.right)
            self.model = await asyncio.to_thread(self.read)
        except WaterError as error:
            self.refusal(problems.of(error))
            return
        self.open_frame(self.title(self.model))
        self.ticking: list[tuple[TextElement, Callable[[int], str]]] = []
        self.body = tag("main", "rc-doc", testid=f"page-{self.entry.key}")
        self.body.props["id"] = "rc-body"
        self.body.props["tabindex"] = "-1"
        self.layer: Element = tag("div", "rc-layer")
        with self.body:
            self.draw(self.model)
        if self.every_s:
            ui.timer(self.every_s, self.again)

    def tick(self, element: TextElement, text: Callable[[int], str]) -> TextElement:
        """Keep a text that depends on the time of day (ms) up to date without drawing anything again."""
        element.set_text(text(self.context.clock_ms()))
        self.ticking.append((element, text))
        return element

    async def again(self) -> None:
        """Look again; say when that fails, and leave the last picture standing."""
        try:
            actor = await asyncio.to_thread(self.acting)
            actor.must(self.entry.right)
            self.actor = actor
            model = await asyncio.to_thread(self.read)
        except SignedOut:
            self.signed_out()
            return
        except (Forbidden, Refused):
            ui.navigate.reload()
            return
        except WaterError as error:
            self._trouble(error)
            return
        self.trouble_bar.classes(remove="rc-on")
        if model != self.model:
            self.model = model
            self.redraw()
            return
        for element, text in self.ticking:
            element.set_text(text(self.context.clock_ms()))

    def redraw(self) -> None:
        """Draw the body anew, from the model as it is or for another choice of the person."""
        self.ticking.clear()
        self.body.clear()
        with self.body:
            self.draw(self.model)

    def _trouble(self, error: WaterError) -> None:
        self.trouble_bar.clear()
        with self.trouble_bar.classes(add="rc-on"):
            tag("strong", text=self.say("page_frame.stale", at=beijing(self.context.clock_ms(), "%H:%M")))
            tag("span", text=one_language(error.text, self.language))
            button(self.say("console.retry"), self.again, "rc-button")

    async def do(self, work: Callable[[], object], done: str) -> None:
        """Do something in a thread, tell the person, and show what became of it. Raises WaterError."""
        await asyncio.to_thread(work)
        self.context.wake()
        ui.notify(done, position="bottom", color="dark", timeout=4000)
        await self.again()

    def panel(self, key: str, *, testid: str = "", classes: str = "") -> Element:
        """A part of the page under a heading, which also names it for who listens."""
        words = self.say(key)
        section = tag("section", f"rc-panel rc-part {classes}", label=words, testid=testid)
        with section:
            tag("h2", text=words)
        return section

    def empty(self, key: str, next_key: str = "", *, testid: str = "", **values: object) -> None:
        """Why there is nothing here, and the one thing to do about it."""
        with tag("div", "rc-empty", testid=testid):
            tag("p", text=self.say(key, **values))
            if next_key:
                tag("p", "rc-quiet", self.say(next_key, **values))

    def table(self, columns: Mapping[str, str], testid: str = "", figures: int = 0) -> Element:
        """A table of the given columns (key: words of its head), the last ``figures`` of them numbers; its body.

        Rows of `cell` go into it; on a phone each is a card.
        """
        with tag("div", "rc-scroll"), tag("table", "rc-rows", testid=testid):
            with tag("thead"), tag("tr"):
                for i, words in enumerate(columns.values()):
                    head = tag("th", "rc-num" if i >= len(columns) - figures else "", words)
                    head.props["scope"] = "col"
            return tag("tbody")

    def more(self, count: int) -> None:
        """Offer the next rows of a list of ``count`` where it has more than are shown."""
        if count > self.shown:
            button(
                self.say("page_frame.more_rows", count=count - self.shown), self._more, "rc-button", testid="more-rows"
            )

    def _more(self) -> None:
        self.shown += SHOWN
        self.redraw()

    def go(self, **choice: str) -> None:
        """Look at another choice: it stands in the address."""
        said = {**{n: v for n, v in self.query.items() if n != "lang"}, **choice}
        ui.navigate.to(self.to(self.request.url.path, **said))


def cell(words: str, text: str = "", classes: str = "") -> TextElement:
    """A cell that knows its column's words: on a phone they stand beside it."""
    element = tag("td", classes, text)
    element.props["data-label"] = words
    return element


def register(path: str, build: Callable[[Request], Awaitable[None]], within_s: float = RESPONSE_S) -> None:
    """Let a page answer at its path; where building it fails or takes longer than ``within_s``, an error page."""

    @ui.page(path, response_timeout=2 * within_s)  # the framework's own limit has words for programmers
    async def show(request: Request) -> Response | None:
        try:
            async with asyncio.timeout(within_s):
                await build(request)
        except Exception as error:
            return broken(request, error)
        return None
