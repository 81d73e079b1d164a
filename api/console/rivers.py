"""All reaches ``/reaches``, and one river, one file (一河一档) ``/reaches/{key}``: to read in the morning, to print."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from nicegui import ui

from api import citizen, river_file
from api.access import needed_right
from api.console import menu, svg
from api.console.dialogs import Dialog
from api.console.elements import badge, button, link, pennant, picture, tag
from api.console.frame import Page, cell
from api.console.models import reach as models
from api.console.models.reach import GoalRow, ReachPage, ReachRow
from api.duration import duration
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour
from governance.incidents.lifecycle import in_jurisdiction
from governance.incidents.model import Conflict
from governance.organisation.roles import Right
from governance.reports import river_plans
from governance.reports.river_plans import Goal
from infra.texts import Text, say
from infra.times import beijing
from sensors.standards.gb3838 import WaterClass

OPEN_LIMIT = 1000
_PLAN = needed_right("PUT", "/reaches/-/plan")


@dataclass(frozen=True, slots=True)
class Reaches:
    """All reaches, the worst water first."""

    rows: tuple[ReachRow, ...]


class ReachesPage(Page[Reaches]):
    """Every reach with its class, its target and its open incidents."""

    entry = menu.REACHES
    section = "river"

    def read(self) -> Reaches:
        registry = self.shared.registries.recent()
        reach_of = {station.key: station.reach for station in registry.stations}
        open_: Counter[str] = Counter()
        if self.actor.may(Right.INCIDENTS):
            with self.context.database.read() as connection:
                found = incident_store.list_incidents(connection, open_only=True, limit=OPEN_LIMIT)
            open_.update(
                i.place.reach or reach_of.get(i.station, "")
                for i in found
                if in_jurisdiction(i, self.actor) and not i.retrospective
            )
        return Reaches(models.rows(registry, river_file.classes_of(self.context), open_))

    def draw(self, model: Reaches) -> None:
        tag("h1", text=self.say("page_frame.reaches"))
        if not model.rows:
            self.empty("none", "none_next", testid="reaches-empty")
        with tag("ul", "rc-cards", testid="reaches-list"):
            for row in model.rows[: self.shown]:
                with tag("li"), tag("a", "rc-panel rc-card", testid=f"reach-{row.key}") as card:
                    card.props["href"] = self.to(f"/reaches/{row.key}")
                    badge(row.live_class, 40)
                    with tag("div", "rc-card-body"):
                        tag("strong", text=self.of(row.name))
                        if row.target is None:
                            tag("span", "rc-quiet", self.say("no_target"))
                        else:
                            key = "target_unknown" if row.met is None else "target_met" if row.met else "target_missed"
                            words = self.say(key, target=class_word(row.target))
                            tag("span", "rc-missed" if row.met is False else "rc-quiet", words)
                        parts = self.say("stations_count", count=row.stations)
                        if row.open:
                            parts += " · " + self.say("open_count", count=row.open)
                        tag("span", "rc-quiet", parts)
        self.more(len(model.rows))


class ReachFile(Page[ReachPage]):
    """One river, one file."""

    entry = menu.REACH
    section = "river"
    every_s = 30.0

    def read(self) -> ReachPage:
        registry = self.shared.registries.recent()
        key = str(self.request.path_params["key"])
        file = river_file.gather(self.context, registry, self.actor, key)
        return models.page(file, registry, self.context.clock_ms())

    def title(self, model: ReachPage) -> str:
        return self.of(model.name)

    def draw(self, model: ReachPage) -> None:
        self._head(model)
        self._classes(model)
        with tag("div", "rc-two"):
            with tag("div", "rc-stack"):
                self._people(model)
                self._plan(model)
                self._outfalls(model)
                self._sign(model)
            with tag("div", "rc-stack"):
                self._stations(model)
                self._incidents(model)
        tag("p", "rc-quiet rc-printed", self.say("printed", at=beijing(self.context.clock_ms(), "%Y-%m-%d %H:%M")))

    def _head(self, model: ReachPage) -> None:
        with tag("section", "rc-panel rc-river-head", label=self.of(model.name)):
            badge(model.live_class, 64)
            with tag("div", "rc-river-words"):
                tag("p", "rc-quiet", self.say("file"))
                tag("h1", text=self.of(model.name), testid="river-name")
                if model.live is None:
                    tag("p", text=self.say("never_judged"))
                else:
                    tag("p", text=model.live.zh if self.language == "zh" else model.live.en, testid="river-live")
                facts = [self.say(f"water_{model.water}"), self.say("length", km=f"{model.length_km:.1f}")]
                facts.append(
                    self.say("target", target=class_word(model.target)) if model.target else self.say("no_target")
                )
                if model.month_told:
                    facts.append(self.say("month", met=model.month_met, judged=model.month_told))
                with tag("p", "rc-facts"):
                    for fact in facts:
                        tag("span", text=fact)
                    if model.downstream_name is not None:
                        words = self.say("flows_into", name=model.downstream_name)
                        link(words, self.to(f"/reaches/{model.downstream}"))
                if model.note:
                    tag("p", "rc-quiet", model.note)
            with tag("div", "rc-river-do rc-screen"):
                button(
                    self.say("print"), lambda: ui.run_javascript("window.print()"), "rc-button", testid="river-print"
                )
                link(self.say("all"), self.to("/reaches"), "rc-button")

    def _people(self, model: ReachPage) -> None:
        with self.panel("chiefs", testid="river-chiefs"):
            if not model.levels:
                self.empty("no_chiefs", "no_chiefs_next")
            for level in model.levels:
                with tag("div", "rc-level"):
                    place = self.of(level.region)
                    tag("h3", text=f"{place} · {self.say(f'level_{level.level}')}" if level.level else place)
                    with tag("ul"):
                        for held in level.people:
                            with tag("li", "rc-person"):
                                tag("strong", text=held.name)
                                role = self.say(f"person.{held.role}")
                                if held.deputy_of:
                                    role += " · " + self.say("helps", name=held.deputy_of)
                                tag("span", text=role)
                                if held.since is None:  # not for who looks: the sign does not tell it
                                    continue
                                since = self.moment_day(held.since)
                                until = self.moment_day(held.until)
                                words = (
                                    self.say("term", since=since, until=until)
                                    if held.until
                                    else self.say("term_open", since=since)
                                )
                                tag("span", "rc-quiet", words)
            if model.complaints:
                with tag("p", "rc-facts"):
                    tag("span", text=self.say("complaints"))
                    link(model.complaints, f"tel:{model.complaints}", testid="river-complaints")

    def moment_day(self, at: str | None) -> str:
        """The Beijing day of an instant of the answer."""
        at_ms = models.instant_ms(at)
        return "—" if at_ms is None else beijing(at_ms, "%Y-%m-%d")

    def _stations(self, model: ReachPage) -> None:
        with self.panel("stations", testid="river-stations"):
            if not model.stations:
                self.empty("no_stations", "no_stations_next")
            else:
                now_ms = self.context.clock_ms()
                with tag("ul", "rc-way"):
                    for row in model.stations:
                        with tag("li", "rc-way-stop"):
                            badge(row.water_class, 30)
                            with tag("div", "rc-card-body"):
                                link(self.of(row.name), self.to("/", station=row.key))
                                words = self.say("at_km", km=f"{row.km:.1f}") + " · " + self.say(f"console.{row.state}")
                                if row.newest_at_ms is not None:
                                    ago = duration(now_ms - row.newest_at_ms)
                                    words += " · " + self.say("newest", ago=ago)
                                tag("span", "rc-quiet", words)
                                if row.evidence is not None:
                                    tag("span", "rc-quiet", self.of(row.evidence))
            places = [svg.Place((lon, lat), self.of(name), "station") for _, name, lon, lat in model.places]
            if len(model.outline) > 1:
                picture(svg.sketch([model.outline], places, label=self.say("sketch")), "rc-sketch")

    def _classes(self, model: ReachPage) -> None:
        with self.panel("classes", testid="river-classes"):
            if not model.days:
                self.empty("no_classes", "no_classes_next")
                return
            target = class_word(model.target) if model.target else "—"
            words = self.say("classes_label", days=len(model.days), target=target)
            picture(svg.classes_by_day(model.days, model.target, words, words), "rc-days", testid="river-days")
            tag("p", "rc-quiet", self.say("classes_note", target=target))
            with tag("details", "rc-more"):
                tag("summary", text=self.say("as_table"))
                heads = {name: self.say(f"column_{name}") for name in ("day", "class", "deciding")}
                with self.table(heads, testid="river-days-table"):
                    for row in model.told[:90]:
                        with tag("tr"):
                            for words, text in zip(heads.values(), self._told(row), strict=True):
                                cell(words, text)

    def _told(self, row: tuple[str, str, str]) -> tuple[str, str, str]:
        day, name, deciding = row
        known = self.context.catalogue
        words = [
            self.of(Text(known[key].zh, known[key].en)) if key in known else key for key in deciding.split(", ") if key
        ]
        shown = "—" if name == "—" else class_word(WaterClass.of(name))
        return day, shown, "、".join(words) if self.language == "zh" else ", ".join(words)

    def _plan(self, model: ReachPage) -> None:
        with self.panel("plan", testid="river-plan"):
            may = self.actor.may(_PLAN)
            if model.problem:
                tag("p", text=model.problem)
            if not model.goals:
                self.empty("no_plan", "no_plan_mine" if may else "no_plan_next")
            with tag("ul", "rc-goals"):
                for index, goal in enumerate(model.goals):
                    self._goal(goal, index, may)
            if model.plan_changed is not None:
                at, by = model.plan_changed
                tag("p", "rc-quiet", self.say("plan_changed" if by else "plan_changed_at", at=self.moment(at), by=by))
            if may:
                with tag("div", "rc-do-row rc-screen"):
                    button(self.say("goal_add"), self._change_goal, "rc-button", testid="river-goal-add")
                    button(self.say("problem_change"), self._change_problem, "rc-button", testid="river-problem")

    async def _change_goal(self, index: int | None = None) -> None:
        """Add a goal, change one, or take it away by emptying its words."""
        old = Goal("") if index is None else self._goals()[index]
        version = self.model.plan_version
        dialog = Dialog(self, self.say("goal_add" if index is None else "goal_change"), self.of(self.model.name))
        goal = dialog.text("goal", self.say("goal_goal"), old.goal)
        measure = dialog.text("measure", self.say("goal_measure"), old.measure, long=True)
        responsible = dialog.text("responsible", self.say("goal_responsible"), old.responsible)
        due = dialog.moment("due", self.say("goal_until"), day=True)
        due.value = old.due
        progress = dialog.number("progress", self.say("goal_progress"), 0, 100, whole=True)
        progress.value = round(100 * old.progress)
        gone = dialog.check("gone", self.say("goal_remove")) if index is not None else None

        def work() -> None:
            share = min(1.0, max(0.0, (progress.value or 0) / 100))
            new = Goal(goal.value or "", measure.value or "", responsible.value or "", due.value or "", share)
            taken = gone is not None and gone.value
            self._put(version, lambda plan: (plan[0], models.with_goal(plan[1], index, None if taken else new)))

        async def submit() -> None:
            await self.do(work, self.say("plan_kept"))

        dialog.open(self.say("keep"), submit)

    async def _change_problem(self) -> None:
        version = self.model.plan_version
        dialog = Dialog(self, self.say("problem_change"), self.of(self.model.name))
        problem = dialog.text("problem", self.say("problem"), self.model.problem, long=True)

        async def submit() -> None:
            await self.do(
                lambda: self._put(version, lambda plan: (problem.value or "", plan[1])), self.say("plan_kept")
            )

        dialog.open(self.say("keep"), submit)

    def _goals(self) -> list[Goal]:
        return [Goal(g.goal, g.measure, g.responsible, g.due, g.progress) for g in self.model.goals]

    def _put(self, version: int, change: Callable[[tuple[str, list[Goal]]], tuple[str, list[Goal]]]) -> None:
        """Replace the plan that was seen; raises Conflict where somebody else changed it meanwhile."""
        actor = self.allowed_to(_PLAN)
        with self.context.database.write() as connection:
            plan = river_plans.get(connection, self.model.key)
            if (plan.version if plan else 0) != version:
                raise Conflict(say("river.plan_conflict"))
            problem, goals = change((plan.problem, list(plan.goals)) if plan else ("", []))
            now_ms = self.context.clock_ms()
            role = actor.role.value
            river_plans.put(connection, self.model.key, problem, goals, by=actor.name, role=role, now_ms=now_ms)

    def _goal(self, goal: GoalRow, index: int, may: bool) -> None:
        with tag("li", "rc-goal"):
            with tag("div", "rc-goal-head"):
                tag("strong", text=goal.goal)
                tag("span", text=f"{goal.progress:.0%}")
            bar = tag("progress", label=goal.goal)
            bar.props["max"], bar.props["value"] = 1, goal.progress
            if goal.measure:
                tag("p", text=goal.measure)
            parts = [goal.responsible] if goal.responsible else []
            if goal.due:
                parts.append(self.say("goal_late" if goal.late else "goal_due", due=goal.due))
            with tag("div", "rc-goal-head"):
                tag("p", "rc-missed" if goal.late else "rc-quiet", " · ".join(parts))
                if may:
                    change = partial(self._change_goal, index)
                    button(self.say("goal_update"), change, "rc-link-button rc-screen", testid=f"river-goal-{index}")

    def _incidents(self, model: ReachPage) -> None:
        with self.panel("incidents", testid="river-incidents"):
            if not model.incidents:
                self.empty("no_incidents")
                return
            with tag("ul", "rc-list rc-short"):
                for one in model.incidents[:12]:
                    with tag("li", "rc-row" + ("" if one["open"] else " rc-closed")):
                        pennant(Colour(one["colour"]), self.language)
                        with tag("div", "rc-row-body"):
                            href = self.to(f"/incidents/{one['id']}")
                            link(self.of(one["title"]), href, "rc-row-title rc-link")
                            state = self.of(say(f"state.{one['state']}"))
                            since = self.say("console.since", at=self.moment(models.instant_ms(one["since"])))
                            tag("span", "rc-quiet", f"#{one['id']} · {state} · {since}")

    def _outfalls(self, model: ReachPage) -> None:
        with self.panel("outfalls", testid="river-outfalls"):
            if not model.outfalls:
                self.empty("no_outfalls")
                return
            with tag("ul", "rc-way"):
                for one in model.outfalls:
                    with tag("li", "rc-way-stop"):
                        name = one["zh"] if self.language == "zh" else one["en"]
                        tag("strong", text=name)
                        kind = self.say(f"outfall_{one['kind']}")
                        at = self.say("at_km", km=f"{one['km']:.1f}")
                        tag("span", "rc-quiet", f"{kind} · {at}")

    def _sign(self, model: ReachPage) -> None:
        with self.panel("sign", testid="river-sign"):
            tag("p", text=self.say("sign_says"))
            links = (
                self.context.notifications.links if self.context.notifications else None
            )  # knows our address as phones reach it
            address = (links.base if links else str(self.request.base_url)).rstrip(
                "/"
            ) + f"{citizen.PATH}?reach={model.key}"
            with tag("div", "rc-sign"):
                picture(svg.code(address, self.say("sign_code")), "rc-code")
                link(address, address, "rc-link rc-address")


def class_word(water_class: WaterClass) -> str:
    """``Ⅲ``, ``劣Ⅴ``: as signs and reports print it."""
    return svg.LETTERS[int(water_class)]
