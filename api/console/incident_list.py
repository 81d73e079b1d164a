"""All incidents ``/incidents``: whatever was found or reported within reach, by state, colour and region."""

from dataclasses import dataclass

from api.console import menu
from api.console.elements import link, pennant, tag
from api.console.frame import Page
from api.console.models import incident as models
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour
from governance.incidents.model import Incident, State
from infra.texts import Text, say

SHOWN = 30
SHOWS = ("open", "over", "all")


@dataclass(frozen=True, slots=True)
class Cases:
    """A page of incidents, newest first; ``more``: the number that the next page begins below."""

    rows: tuple[Incident, ...]
    more: int | None
    regions: tuple[tuple[str, Text, int], ...]


class CasesPage(Page[Cases]):
    """The list of incidents, by what the address says."""

    entry = menu.INCIDENTS
    section = "incident_list"

    def _one(self, name: str, known: frozenset[str]) -> str:
        """A choice of the address; "" for none that is known."""
        value = self.query.get(name, "").strip()
        return value if value in known else ""

    @property
    def show(self) -> str:
        """Open ones, those that are over, or all."""
        return self._one("show", frozenset(SHOWS)) or "open"

    def read(self) -> Cases:
        regions = self.keeper.regions()
        registry = self.shared.registries.recent()
        region = self._one("region", frozenset(r.code for r in registry.regions))
        mine = self.actor.regions
        state, colour = self._one("state", frozenset(State)), self._one("colour", frozenset(Colour))
        before = self.query.get("before", "")
        with self.context.database.read() as connection:
            found = incident_store.list_incidents(
                connection,
                state=State(state) if state else None,
                open_only={"open": True, "over": False, "all": None}[self.show],
                colour=Colour(colour) if colour else None,
                regions=regions.within(region),
                within=incident_store.jurisdiction_filter(self.actor, theirs=not region),
                limit=SHOWN + 1,
                before_id=int(before) if before.isdecimal() and len(before) < 10 else None,
            )
        self.read_titles(found)
        shown = [r for r in registry.regions if mine is None or r.code in mine]
        return Cases(
            rows=tuple(found[:SHOWN]),
            more=found[SHOWN - 1].id if len(found) > SHOWN else None,
            regions=tuple(
                (r.code, Text(r.zh, r.en), len(regions.up(r.code)))
                for r in sorted(shown, key=lambda r: tuple(reversed(regions.up(r.code))))
            ),
        )

    def draw(self, model: Cases) -> None:
        with tag("div", "rc-head"):
            tag("h1", text=self.say("page_frame.incidents"))
            if self.actor.may(menu.REPORTED.right):
                with tag("div", "rc-tools"):
                    words = self.say("report_page.title")
                    link(words, self.to(menu.REPORT.path), "rc-button rc-main-button", testid="cases-report")
                    link(
                        self.say("own_reports.title"), self.to(menu.REPORTED.path), "rc-button", testid="cases-reported"
                    )
        self._filter(model)
        with tag("section", "rc-panel rc-incidents", label=self.say("page_frame.incidents")):
            if not model.rows:
                with tag("div", "rc-empty", testid="cases-empty"):
                    tag("p", text=self.say("none"))
                    tag("p", "rc-quiet", self.say("none_next"))
            with tag("ul", "rc-list", testid="cases-list"):
                for incident in model.rows:
                    with tag("li", "rc-row" + ("" if incident.is_open else " rc-closed"), testid=f"case-{incident.id}"):
                        pennant(incident.colour, self.language)
                        self._row(incident)
        if model.more is not None:
            kept = {name: self.query.get(name, "") for name in ("show", "state", "colour", "region")}
            link(self.say("older"), self.to("/incidents", **kept, before=model.more), "rc-button")

    def _row(self, incident: Incident) -> None:
        with tag("div", "rc-row-body"):
            into = link("", self.to(f"/incidents/{incident.id}"), "rc-row-title rc-link")
            self.tick(into, lambda _: self.headline(incident))
            with tag("div", "rc-row-foot"):
                tag("span", "rc-number", f"#{incident.id}")
                tag("span", text=self.of(say(f"state.{incident.state}")))
                tag("span", text=self.say("console.since", at=self.moment(incident.since_ms)))
                if incident.is_open and (incident.case.due_ms or incident.case.paused_at_ms):
                    sort, _ = models.deadline(incident, self.context.clock_ms())
                    due = tag("span", f"rc-due rc-due-{sort}")
                    self.tick(due, lambda now_ms: self.of(models.deadline(incident, now_ms)[1]))
                if incident.case.responsible:
                    tag("span", text=incident.case.responsible)
                if incident.retrospective:
                    tag("span", "rc-tag", self.say("console.retrospective"))

    def _filter(self, model: Cases) -> None:
        indented = [(code, "　" * (deep - 1) + self.of(name)) for code, name, deep in model.regions]
        choices = (
            ("show", [(one, self.say(f"show_{one}")) for one in SHOWS], self.show),
            ("colour", [("", self.say("any"))] + [(c.value, self.say(f"incident.{c}")) for c in Colour], ""),
            ("state", [("", self.say("any"))] + [(s.value, self.say(f"state.{s}")) for s in State], ""),
            ("region", [("", self.say("any")), *indented], ""),
        )
        with tag("form", "rc-panel rc-filter", testid="cases-filter") as form:
            form.props["method"], form.props["action"] = "get", "/incidents"
            for name, options, otherwise in choices:
                with tag("label", "rc-field"):
                    tag("span", text=self.say(f"filter_{name}"))
                    with tag("select", testid=f"cases-{name}") as select:
                        select.props["name"] = name
                        for value, words in options:
                            option = tag("option", text=words)
                            option.props["value"] = value
                            if value == (self.query.get(name, "") or otherwise):
                                option.props["selected"] = True
            if self.language != "zh":
                field = tag("input")
                field.props["type"], field.props["name"], field.props["value"] = "hidden", "lang", self.language
            go = tag("button", "rc-button rc-main-button", self.say("audit_page.filter"), testid="cases-go")
            go.props["type"] = "submit"
