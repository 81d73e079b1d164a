"""The pages of who looks after the stations: ``/care`` what is due where, ``/care/{station}`` to work there.

They stand for the visits and calibrations of the API and ask for the same right. On a phone the buttons lie at the
thumb.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from api import maintenance as maintenance_views
from api.access import author
from api.console import menu
from api.console.dialogs import Dialog
from api.console.elements import button, link, one_language, pennant, tag
from api.console.frame import SHOWN, Page
from api.console.models import maintenance as models
from api.console.models.maintenance import DRIFTS, Row
from api.console.models.overview import Data
from api.console.models.trail import moment
from api.duration import duration
from api.maintenance import Jump, MaintenanceSummary, StationMaintenance, VisitResult
from api.responses import when
from api.routes import maintenance as maintenance_routes
from api.routes.maintenance import Correction, EndOfVisit, NewCheck, NewVisit
from infra.errors import ConfigurationError, Refused, WaterError
from infra.texts import Text, say
from infra.times import beijing
from ingest.storage.changes import Author
from sensors.maintenance import Check, CheckDue, Visit
from sensors.standards.hj915 import CheckKind

WORK = ("cleaned", "calibrated", "reagent", "swapped", "repaired", "looked")
"""What is mostly done at a station, offered to be tapped."""


class _CarePage(Page[Any]):
    """What both pages say of stations and sensors."""

    section = "maintenance_page"
    every_s = 15.0

    def parameter(self, key: str) -> str:
        """A parameter's name in the page's language."""
        one = self.context.catalogue[key]
        return self.of(Text(one.zh, one.en))

    def listed(self, keys: Sequence[str]) -> str:
        """Parameters one after the other."""
        return ("、" if self.language == "zh" else ", ").join(self.parameter(one) for one in keys)

    def findings(self, one: MaintenanceSummary) -> None:
        """What was found of the station's devices, each leading to its incident."""
        for incident in one.findings:
            with tag("p", "rc-finding"):
                pennant(incident.colour, self.language)
                link(self.of(incident.titled()), self.to(f"/incidents/{incident.id}"))


@dataclass(frozen=True, slots=True)
class Stations:
    """All stations, those that call for somebody first."""

    rows: tuple[Row, ...]


class CareList(_CarePage):
    """Which station needs somebody."""

    entry = menu.CARE
    wanted = ""

    def read(self) -> Stations:
        registry = self.shared.registries.recent()
        return Stations(
            models.rows(maintenance_views.of_all(self.context, registry, self.actor), self.context.clock_ms())
        )

    def draw(self, model: Stations) -> None:
        with tag("div", "rc-head"):
            tag("h1", text=self.say("title"))
            self.count = tag("span", "rc-quiet", testid="care-count")
        tag("p", "rc-quiet", self.say("note"))
        with tag("label", "rc-field rc-find"):
            tag("span", text=self.say("find"))
            find = ui.input(on_change=self._find).props("outlined dense clearable debounce=300 maxlength=80")
            find.props["data-testid"], find.props["aria-label"] = "care-find", self.say("find")
        self.lists = tag("div", "rc-stack")
        self.redraw()

    def redraw(self) -> None:
        """Draw the lists anew; what is looked for stays where it is typed."""
        model = self.model
        calling = [one for one in model.rows if one.calls or one.care.working]
        quiet = [one for one in model.rows if not (one.calls or one.care.working)]
        self.count.set_text(self.say("count", calling=len(calling), all=len(model.rows)))
        calling, quiet = ([one for one in rows if models.is_called(one, self.wanted)] for rows in (calling, quiet))
        self.lists.clear()
        with self.lists:
            self._list(calling, "calling", "care-list")
            if quiet:
                self._list(quiet, "quiet", "care-quiet", before=len(calling))
            self.more(len(calling) + len(quiet))

    def _list(self, rows: Sequence[Row], key: str, testid: str, before: int = 0) -> None:
        """A list under its heading, of which as much is drawn as the lists ``before`` leave."""
        with tag("section", "rc-panel rc-incidents", label=self.say(key)):
            with tag("div", "rc-head"):
                tag("h2", text=self.say(key))
            if not self.model.rows:
                self.empty("no_stations", "no_stations_next", testid="care-empty")
            elif self.wanted and not rows:
                self.empty("not_found", testid="care-not-found")
            elif not rows:
                self.empty("nothing_due", "nothing_due_next", testid="care-nothing")
            with tag("ul", "rc-list", testid=testid):
                for one in rows[: max(0, self.shown - before)]:
                    self._row(one)

    def _find(self, event: ValueChangeEventArguments[Any]) -> None:
        self.wanted, self.shown = (event.value or "").strip(), SHOWN
        self.redraw()

    def _row(self, one: Row) -> None:
        station = one.care.station
        with tag("li", "rc-row", testid=f"care-{station.key}"), tag("div", "rc-row-body"):
            link(self.of(Text(station.zh, station.en)), self.to(f"/care/{station.key}"), "rc-row-title rc-link")
            if one.care.working is not None:
                tag("strong", "rc-good", self._working(one.care.working[1]))
            self.findings(one.care)
            for key, sensors in (("wrong", one.wrong), ("overdue", one.overdue)):
                if sensors:
                    tag("span", "rc-missed" if key == "wrong" else "", self.say(key, sensors=self.listed(sensors)))
            with tag("div", "rc-row-foot"):
                tag("span", text=self.say(f"console.{one.state}"))
                tag("span", text=self._visited(one))

    def _working(self, visit: Visit) -> str:
        return self.say("working", by=visit.by or "—", since=self.moment(visit.since_ms))

    def _visited(self, one: Row) -> str:
        if one.care.visited_ms is None:
            return self.say("never_visited")
        ago = duration(self.context.clock_ms() - one.care.visited_ms)
        return self.say("visit_late" if one.visit_late else "visited", ago=ago)


class CareOfStation(_CarePage):
    """What is due at a station and what was done there; visits and checks are recorded here."""

    entry = menu.CARE_OF

    def read(self) -> StationMaintenance:
        registry = self.shared.registries.recent()
        return maintenance_views.of_station(self.context, registry, self.actor, str(self.request.path_params["key"]))

    def title(self, model: StationMaintenance) -> str:
        return self.say("title_of", name=Text(model.care.station.zh, model.care.station.en))

    def draw(self, model: StationMaintenance) -> None:
        self._head(model)
        self._actions(model)
        with tag("div", "rc-two rc-case"):
            with tag("div", "rc-stack"):
                self._due(model)
                self._checks(model)
            with tag("div", "rc-stack"):
                self._visits(model)

    def _head(self, model: StationMaintenance) -> None:
        one = models.row(model.care, self.context.clock_ms())
        station = model.care.station
        with tag("section", "rc-panel rc-part", label=self.say("station")):
            with tag("div", "rc-head"):
                tag("h1", text=self.of(Text(station.zh, station.en)), testid="care-name")
            with tag("p", "rc-facts"):
                tag("span", text=self.say(f"console.{one.state}"))
                if model.care.newest_at_ms is not None and one.state is not Data.NORMAL:
                    ago = duration(self.context.clock_ms() - model.care.newest_at_ms)
                    tag("span", text=self.say("newest", ago=ago))
                link(self.say("chart"), self.to("/", station=station.key))
                link(self.say("all"), self.to("/care"))
            if model.care.working is not None:
                _, visit = model.care.working
                words = self.say("working", by=visit.by or "—", since=self.moment(visit.since_ms))
                tag("strong", "rc-good", words, testid="care-working")
                tag("p", "rc-quiet", self.say("muted", sensors=self._touched(visit)))

    def _actions(self, model: StationMaintenance) -> None:
        with (
            tag("section", "rc-panel rc-do", label=self.say("actions"), testid="care-actions"),
            tag("div", "rc-do-row"),
        ):
            if model.care.working is None:
                button(self.say("begin"), self._begin, "rc-button rc-main-button", testid="care-begin")
            else:
                button(self.say("end"), self._end, "rc-button rc-main-button", testid="care-end")
            button(self.say("check"), self._check, "rc-button", testid="care-check")
            button(self.say("record"), partial(self._begin, over=True), "rc-button", testid="care-record")

    # -- what is there -----------------------------------------------------------------------------------------------

    def _due(self, model: StationMaintenance) -> None:
        with self.panel("due", testid="care-due"):
            self.findings(model.care)
            if not model.care.due:
                self.empty("no_sensors", "no_sensors_next")
                return
            with tag("ul", testid="care-sensors"):
                for one in model.care.due:
                    with tag("li", "rc-sensor", testid=f"care-due-{one.parameter}"):
                        with tag("div", "rc-card-body"):
                            tag("strong", text=self.parameter(one.parameter))
                            if one.last_ms is not None:
                                tag("span", "rc-quiet", self.say("last", at=self.moment(one.last_ms)))
                        late = one.overdue(self.context.clock_ms())
                        tag("span", "rc-missed" if late else "rc-quiet", self._when(one))
            if model.care.visit_due_ms is not None:
                late = model.care.visit_due_ms <= self.context.clock_ms()
                words = self.say("next_visit", at=beijing(model.care.visit_due_ms, "%Y-%m-%d"))
                tag("p", "rc-missed" if late else "rc-quiet", words)
            tag("p", "rc-quiet", self.say("due_note"))

    def _when(self, one: CheckDue) -> str:
        if one.wrong:
            return self.say("at_once")
        if one.due_ms is None:
            return self.say("no_interval")
        if not one.due_ms:
            return self.say("now")
        late_ms = self.context.clock_ms() - one.due_ms
        day = beijing(one.due_ms, "%Y-%m-%d")
        return day if late_ms < 0 else self.say("late", day=day, ago=duration(late_ms))

    def _visits(self, model: StationMaintenance) -> None:
        with self.panel("visits", testid="care-visits"):
            if not model.visits:
                self.empty("no_visits", "no_visits_next")
            with tag("ol", "rc-timeline"):
                for done in model.visits:
                    with tag("li", "rc-line", testid=f"care-visit-{done.number}"):
                        self._visit(done)
            if model.visits:
                tag("p", "rc-quiet", self.say("jump_note"))

    def _visit(self, done: VisitResult) -> None:
        visit = done.visit
        with tag("div", "rc-line-head"):
            tag("strong", text=self._span(visit))
            tag("span", text=visit.by)
        tag("p", text=self._touched(visit))
        if visit.note:
            tag("p", "rc-said", visit.note)
        for jump in done.jumps:
            tag("p", "rc-missed" if jump.doubtful_since_ms is not None else "rc-quiet", self._jump(jump))
            if jump.doubtful_since_ms is not None:
                tag("p", "rc-missed", self.say("doubted", since=self.moment(jump.doubtful_since_ms)))

    def _jump(self, jump: Jump) -> str:
        one, name = self.context.catalogue[jump.parameter], self.parameter(jump.parameter)
        if jump.medians is None:
            return name
        before, after = jump.medians
        change = f"{after - before:+.{one.decimals}f}"
        return self.say("jump", sensor=name, before=one.show(before), after=one.show(after), change=change)

    def _span(self, visit: Visit) -> str:
        since = self.moment(visit.since_ms)
        if visit.until_ms is None:
            return self.say("goes_on", since=since)
        same = beijing(visit.since_ms, "%Y%m%d") == beijing(visit.until_ms, "%Y%m%d")
        return f"{since} – {beijing(visit.until_ms, '%H:%M') if same else self.moment(visit.until_ms)}"

    def _touched(self, visit: Visit) -> str:
        return self.listed(visit.parameters) if visit.parameters else self.say("maintenance.whole_station")

    def _checks(self, model: StationMaintenance) -> None:
        with self.panel("checks", testid="care-checks"):
            if not model.checks:
                self.empty("no_checks", "no_checks_next")
            with tag("ol", "rc-timeline"):
                for number, check in model.checks:
                    with tag("li", "rc-line" + (" rc-void" if check.void else ""), testid=f"care-check-{number}"):
                        self._kept(number, check)

    def _kept(self, number: int, check: Check) -> None:
        one = self.context.catalogue[check.parameter]
        with tag("div", "rc-line-head"):
            tag("strong", text=f"{self.parameter(check.parameter)} · {self.say(f'maintenance.kind_{check.kind}')}")
            tag("span", text=self.moment(check.at_ms))
            tag("span", text=check.by)
        read = self.say("read", standard=one.show(check.standard), reading=one.show(check.reading))
        tag("p", text=read if check.after is None else read + self.say("read_after", after=one.show(check.after)))
        judged = check.judged()
        tag("p", "" if judged.passed and judged.left_right else "rc-missed", self.of(models.verdict(check, self.known)))
        for key, text in (("lot", check.lot), ("device", check.device)):
            if text:
                tag("p", "rc-quiet", self.say(key, text=text))
        if check.note:
            tag("p", "rc-said", check.note)
        if check.void:
            tag("span", "rc-tag", self.say("void"))
        else:
            take = partial(self._void, number, check)
            button(self.say("void_it"), take, "rc-link-button rc-screen", testid=f"care-void-{number}")

    @property
    def known(self) -> Any:
        """The catalogue."""
        return self.context.catalogue

    # -- what is recorded --------------------------------------------------------------------------------------------

    def _whose(self, dialog: Dialog) -> Callable[[], Author]:
        """Who records it, asked for only where nobody signed in."""
        field = None if self.named else dialog.text("name", self.say("console.your_name"), self.name)

        def author_() -> Author:
            actor = self.allowed_to(self.entry.right)
            if field is not None:
                self.name = (field.value or "").strip()
                if not self.name:
                    raise Refused(say("maintenance_page.whose"))
            return author(actor, self.name, self.context.clock_ms(), self.model.care.station)

        return author_

    async def _begin(self, *, over: bool = False) -> None:
        """A visit that begins now, or one that is over."""
        model = self.model
        station = model.care.station
        dialog = Dialog(self, self.say("record" if over else "begin"), self.of(Text(station.zh, station.en)))
        whose = self._whose(dialog)
        names = dict(enumerate(self.parameter(one) for one in model.sensors))
        touched = dialog.several("sensors", self.say("which"), names)
        since = dialog.moment("since", self.say("since" if over else "since_now"))
        until = dialog.moment("until", self.say("until")) if over else None
        note = self._what_was_done(dialog) if over else None
        if not over:
            with dialog.form:
                tag("p", "rc-quiet", self.say("begin_note"))

        def work() -> None:
            said = NewVisit(
                since=self._instant(since.value),
                until=None if until is None else self._instant(until.value),
                parameters=[model.sensors[i] for i in touched.value],
                note="" if note is None else note(),
            )
            if over and (said.since is None or said.until is None):
                raise ConfigurationError(say("maintenance_page.both_times"))
            maintenance_routes.record_visit_start(self.context, station.key, whose(), said)

        async def submit() -> None:
            await self.do(work, self.say("recorded" if over else "begun"))

        dialog.open(self.say("keep" if over else "begin"), submit)

    async def _end(self) -> None:
        """The visit that goes on is over."""
        model = self.model
        station = model.care.station
        if model.care.working is None:
            return
        number, visit = model.care.working
        dialog = Dialog(self, self.say("end"), self.say("working", by=visit.by, since=self.moment(visit.since_ms)))
        whose = self._whose(dialog)
        note = self._what_was_done(dialog, visit.note)
        until = dialog.moment("until", self.say("until_now"))

        def work() -> None:
            end = EndOfVisit(until=self._instant(until.value), note=note())
            maintenance_routes.record_visit_end(self.context, station.key, number, whose(), end)

        async def submit() -> None:
            await self.do(work, self.say("ended"))

        dialog.open(self.say("end"), submit)

    def _what_was_done(self, dialog: Dialog, said: str = "") -> Callable[[], str]:
        """What was done, to be tapped and typed; as one line."""
        words = {i: self.say(f"did_{key}") for i, key in enumerate(WORK)}
        done = dialog.several("done", self.say("done"), words)
        more = dialog.text("note", self.say("note_more"), said, long=True)

        def line() -> str:
            parts = [*(words[i] for i in done.value), *([more.value.strip()] if (more.value or "").strip() else [])]
            return ("；" if self.language == "zh" else "; ").join(parts)

        return line

    async def _check(self) -> None:
        """A check or calibration; it says at once whether it passes."""
        model = self.model
        station = model.care.station
        if not model.sensors:
            ui.notify(self.say("no_sensors"), position="bottom", color="dark", timeout=4000)
            return
        dialog = Dialog(self, self.say("check"), self.of(Text(station.zh, station.en)))
        whose = self._whose(dialog)
        late = [one.parameter for one in model.care.due if one.overdue(self.context.clock_ms())]
        first = (late or list(model.sensors))[0]
        sensors = {one: self._unit(one) for one in model.sensors}
        kind_words = {str(kind): self.say(f"maintenance.kind_{kind}") for kind in CheckKind}
        parameter = dialog.choice("parameter", self.say("column_sensor"), sensors, first)
        kind = dialog.choice("kind", self.say("kind"), kind_words, str(models.kinds(first)[0]))
        standard = dialog.number("standard", self.say("standard"))
        reading = dialog.number("reading", self.say("reading"))
        after = dialog.number("after", self.say("after"))
        before = dialog.number("before", self.say("before"))
        span = dialog.number("span", self.say("span"), 0)
        limit = dialog.number("limit", self.say("limit"), 0)
        lot = dialog.text("lot", self.say("lot_field"))
        note = dialog.text("note", self.say("note_optional"))
        drift = [field.parent_slot.parent for field in (before, span)]

        def fit() -> None:
            """Show what this kind of check asks for."""
            for field in drift:
                field.set_visibility(kind.value in DRIFTS)

        def chosen() -> None:
            kind.set_value(str(models.kinds(str(parameter.value))[0]))

        parameter.on_value_change(lambda _: chosen())
        kind.on_value_change(lambda _: fit())
        fit()

        def said() -> NewCheck:
            if parameter.value is None or kind.value is None or standard.value is None or reading.value is None:
                raise ConfigurationError(say("maintenance_page.needs"))
            return NewCheck(
                parameter=str(parameter.value),
                type=str(kind.value),  # type: ignore[arg-type]
                standard=float(standard.value),
                reading=float(reading.value),
                after=after.value,
                before=before.value,
                span=span.value,
                limit=limit.value,
                lot=lot.value or "",
                note=note.value or "",
            )

        def preview() -> str:
            registry = self.shared.registries.recent()
            try:
                made = maintenance_routes.as_check(self.context, registry, station.key, Author("", None), said())
            except WaterError as error:
                return one_language(error.text, self.language)
            return self.of(models.verdict(made, self.context.catalogue))

        dialog.preview(preview, parameter, kind, standard, reading, after, before, span, limit)

        async def submit() -> None:
            new = said()
            await self.do(
                lambda: maintenance_routes.record_check(self.context, station.key, whose(), new), self.say("checked")
            )

        dialog.open(self.say("keep"), submit)

    async def _void(self, number: int, check: Check) -> None:
        """A check was entered in error: it stays on record and counts for nothing."""
        station = self.model.care.station.key
        named = f"{self.parameter(check.parameter)} · {self.moment(check.at_ms)}"
        dialog = Dialog(self, self.say("void_it"), named)
        whose = self._whose(dialog)
        with dialog.form:
            tag("p", "rc-quiet", self.say("void_note"))

        async def submit() -> None:
            change = Correction(void=True)
            await self.do(
                lambda: maintenance_routes.update_check(self.context, station, number, whose(), change),
                self.say("voided"),
            )

        dialog.open(self.say("void_it"), submit)

    def _unit(self, key: str) -> str:
        unit = self.context.catalogue[key].unit
        return self.parameter(key) + ("" if unit == "1" else f" ({unit})")

    def _instant(self, text: str | None) -> str | None:
        """A form's Beijing time as the API wants it; None for what was left empty."""
        return when(moment(text)) if text else None
