"""The form ``/reported/new`` by which who works here reports something seen, as citizens do on their page.

Nothing on it is drawn again by itself: what somebody types at the water stays.
"""

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from nicegui import ui
from nicegui.element import Element

from api import citizen
from api.access import on_behalf
from api.citizen import Typed
from api.console import menu
from api.console.components.photo_input import PhotoInput
from api.console.components.place_input import PlaceInput
from api.console.elements import link, one_language, pennant, tag
from api.console.frame import Page
from api.routes.incidents import SEEN_BY_PEOPLE, NewReport, file_report
from governance.incidents.finding import Colour
from governance.incidents.lifecycle import in_jurisdiction
from governance.incidents.model import Incident, Source
from governance.organisation.regions import Place
from governance.organisation.roles import Right, Role
from governance.reports import citizen_reports
from infra.errors import Refused, WaterError
from infra.texts import Text, say
from sensors.network import distance_to_line_km

BESIDE_KM = 0.5
"""A place so near a river is taken to be about it, unless somebody says otherwise (our choice)."""
LONGEST = 1900
ON_PATROL = (Role.CHIEF, Role.DEPUTY, Role.GENERAL_CHIEF, Role.GRID_WORKER)
"""Who mostly reports what they saw on a patrol."""


@dataclass(frozen=True, slots=True)
class Waters:
    """The rivers to choose from: key, name, line."""

    reaches: tuple[tuple[str, Text, tuple[tuple[float, float], ...]], ...]


class ReportForm(Page[Waters]):
    """What was seen, where, with photos."""

    entry = menu.REPORT
    section = "report_page"
    every_s: ClassVar[float] = 0.0

    def title(self, model: Waters) -> str:
        return self.say("title")

    def read(self) -> Waters:
        registry = self.shared.registries.recent()
        return Waters(tuple((one.key, Text(one.zh, one.en), one.line) for one in registry.reaches))

    def draw(self, model: Waters) -> None:
        with tag("div", "rc-head"):
            tag("h1", text=self.say("title"))
            link(self.say("own_reports.title"), self.to(menu.REPORTED.path), "rc-button")
        with tag("form", "rc-panel rc-part rc-report", testid="report-form") as form:
            if not self.named:
                self.who = self._line("console.your_name", "name")
            with tag("fieldset", "rc-several"):
                tag("legend", text=self.say("citizen.kind"))
                kinds = {kind: self.say(f"citizen.kind_{kind}") for kind in (*citizen.KINDS, "other")}
                self.kind = ui.radio(kinds).classes("rc-kinds")
                self.kind.props["data-testid"] = "report-kinds"
            with tag("label", "rc-field"):
                tag("span", text=self.say("citizen.text"))
                self.text = ui.textarea(placeholder=self.say("citizen.text_hint"))
                self.text.props(f"outlined dense autogrow maxlength={LONGEST}").props["data-testid"] = "report-text"
                self.text.props["aria-label"] = self.say("citizen.text")
            with tag("div", "rc-field"):
                tag("span", text=self.say("photos"))
                self.photos = PhotoInput(self.language)
            with tag("div", "rc-field"):
                tag("span", text=self.say("place"))
                self.place = PlaceInput(self.language, self._placed)
            with tag("label", "rc-field"):
                tag("span", text=self.say("citizen.where"))
                self.reach = self._choice({key: self.of(name) for key, name, _ in model.reaches}, None, "reach")
            self.near: Element = tag("div", "rc-near", testid="report-near")
            self.near.props["role"] = "status"
            with tag("div", "rc-report-more"):
                with tag("label", "rc-field"):
                    tag("span", text=self.say("source"))
                    usual = Source.PATROL if self.actor.role in ON_PATROL else Source.PERSON
                    sources = {str(one): self.say(f"source_{one}") for one in SEEN_BY_PEOPLE}
                    self.source = self._choice(sources, str(usual), "source")
                if self.actor.may(Right.ACCEPT):
                    with tag("label", "rc-field"):
                        tag("span", text=self.say("colour"))
                        colours = {str(one): self.say(f"incident.{one}") for one in Colour}
                        self.colour = self._choice(colours, str(Colour.YELLOW), "colour")
            self.problem = tag("p", "rc-problem", testid="report-problem")
            self.problem.props["role"] = "alert"
            with tag("div", "rc-do rc-report-do"):
                self.go_on = tag("button", "rc-button rc-main-button", self.say("go"), testid="report-go")
                self.go_on.props["type"] = "submit"
            form.on("submit.prevent", self._send)

    def _line(self, words: str, testid: str) -> ui.input:
        with tag("label", "rc-field"):
            tag("span", text=self.say(words))
            made = ui.input().props("outlined dense maxlength=200")
        made.props["data-testid"], made.props["aria-label"] = f"report-{testid}", self.say(words)
        return made

    def _choice(self, options: dict[str, str], value: str | None, testid: str) -> ui.select:
        made = ui.select(options, value=value).props("outlined dense options-dense behavior=menu")
        made.props["data-testid"] = f"report-{testid}"
        return made

    # -- the place ---------------------------------------------------------------------------------------------------

    async def _placed(self) -> None:
        """Where it is was chosen: the river beside it, and what is open near it."""
        if self.place.place is None:
            return
        lon, lat = self.place.place
        beside = min(((distance_to_line_km(line, lon, lat), key) for key, _, line in self.model.reaches), default=None)
        if beside is not None and beside[0] <= BESIDE_KM:
            self.reach.set_value(beside[1])
        try:
            found = await asyncio.to_thread(self._near, lon, lat)
        except WaterError as error:
            self.problem.set_text(one_language(error.text, self.language))
            return
        mine = [one for one in found if in_jurisdiction(one, self.actor)]
        self.near.clear()
        with self.near:
            if found:
                tag("strong", text=self.say("near", count=len(found)))
            for one in mine:
                with tag("p", "rc-finding"):
                    pennant(one.colour, self.language)
                    link(f"#{one.id} {self.headline(one)}", self.to(f"/incidents/{one.id}"))
                    tag("span", "rc-quiet", self.of(say(f"state.{one.state}")))
            if found:
                tag("p", "rc-quiet", self.say("near_note"))

    def _near(self, lon: float, lat: float) -> list[Incident]:
        place, now_ms = Place("", "", lon, lat), self.context.clock_ms()
        with self.context.database.read() as connection:
            found = citizen_reports.incidents_near(connection, place, now_ms, self.context.near)
        self.read_titles(found)
        return found

    # -- sending -----------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        self.problem.set_text("")
        self.go_on.props["disabled"] = True
        try:
            made = await asyncio.to_thread(self._filed)
        except WaterError as error:
            self.problem.set_text(one_language(error.text, self.language))
            return
        finally:
            self.go_on.props.pop("disabled", None)
            self.go_on.update()
        ui.navigate.to(self.to(menu.REPORTED.path, new=made.id))

    def _filed(self) -> Incident:
        actor = self.allowed_to(self.entry.right)
        if not self.named:
            self.name = (self.who.value or "").strip()
            if not self.name:
                raise Refused(say("maintenance_page.whose"))
        typed = Typed(kind=str(self.kind.value or ""), text=self.text.value or "")
        words = citizen.worded(typed)
        if not words:
            raise Refused(say("citizen.no_words"))
        if self.place.place is None and not self.reach.value:
            raise Refused(say("report_page.no_place"))
        if self.photos.sending:
            raise Refused(say("form.still_sending"))
        lon, lat = self.place.place or (None, None)
        new = NewReport(
            text=words,
            colour=str(self.colour.value) if self.actor.may(Right.ACCEPT) else str(Colour.YELLOW),
            source=str(self.source.value),
            matter=citizen.matter_of(self.context, typed.kind),
            reach=str(self.reach.value or ""),
            lon=lon,
            lat=lat,
            attachments=list(self.photos.ids),
        )
        registry = self.shared.registries.recent()
        return file_report(self.context, self.keeper.regions(), registry, on_behalf(actor, self.name), new)
