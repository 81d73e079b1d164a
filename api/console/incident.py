"""The page of an incident ``/incidents/{number}``: what, how sure, who, until when, and what to do now."""

from dataclasses import replace
from functools import partial

from nicegui import ui
from nicegui.element import Element

from api.access import needed_right
from api.console import chart, incident_actions, menu, svg
from api.console.elements import button, link, one_language, pennant, picture, stored, tag
from api.console.frame import Framed, Page, cell
from api.console.models import incident as models
from api.console.models.incident import CasePage, Line, NoticeRow, Stop
from api.console.models.incident_actions import BUTTONS, ON, condition_name
from api.console.models.names import who
from api.routes.incidents import check_visible
from api.routes.notices import contact_names
from governance.audit import trail as audit_trail
from governance.incidents import attachments, lifecycle
from governance.incidents import store as incident_store
from governance.incidents.attachments import Attachment
from governance.incidents.headline import COLUMNS, summary, table
from governance.incidents.model import Action, Incident
from governance.notify import store as notice_store
from governance.organisation.roles import Right
from governance.organisation.roles import Role as RoleOf
from governance.reports import citizen_reports
from governance.verification import comparison
from governance.verification.comparison import Difference
from infra.errors import NotFound, WaterError
from infra.texts import Text, say
from infra.times import rfc3339
from ingest.analysis import forecasts, source_attribution
from ingest.analysis.source_attribution import StoredAttribution
from ingest.storage.port import series as series_of
from sensors.stations import Registry

AROUND_MS = 6 * 3_600_000
"""What the chart shows before and after the event."""
NOTICES = 60
DIFFERENCES = 20
"""Differences shown; `audit verify` names all."""
LINES = 25
"""Entries of the timeline; the older ones wait behind a button."""
_NOTICES = needed_right("GET", "/notices")
_PROOF = needed_right("GET", "/audit/-/proof")


class IncidentPage(Page[CasePage]):
    """One incident, for whoever has it to deal with."""

    entry = menu.INCIDENT
    section = "incident_page"
    view: chart.View | None = None
    graph: Element | None = None
    unread: str = ""
    past: tuple[int, tuple[Stop, ...], tuple[Line, ...], tuple[Attachment, ...]] | None = None
    differences: tuple[Difference, ...] = ()
    all_lines = False

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self) -> CasePage:
        number = self.number()
        context, now_ms = self.context, self.context.clock_ms()
        with context.database.read() as connection:
            incident = incident_store.get(connection, number)
            check_visible(incident, self.actor)
            if self.past is None or self.past[0] != incident.version:  # read again only when something happened
                history = incident_store.history(connection, number)
                ids = [one for entry in history for one in entry.attachments]
                shown = attachments.known(connection, ids, {entry.by for entry in history})
                self.past = incident.version, models.stops(incident, history), models.lines(history), tuple(shown)
                self.differences = tuple(comparison.of_incident(connection, number))
            _, stops, lines, files = self.past
            notices = notice_store.list_notices(
                connection, incident=number, limit=NOTICES, within=incident_store.visible_incident_ids(self.actor)
            )
            items = notice_store.items(connection, [one.id for one in notices])
            behind = citizen_reports.of_incident(connection, number)
            near = citizen_reports.similar_incidents(connection, incident, now_ms, context.near)
            near = [one for one in near if lifecycle.in_jurisdiction(one, self.actor)]
            traced = source_attribution.stored_trace(connection, number)
            entry = audit_trail.list_entries(connection, kind="incident", id=str(number), limit=1)
        registry = self.shared.registries.recent()
        self._read_chart(incident, registry, now_ms)
        self.read_titles([incident, *near])
        rows = models.notice_rows(notices, items, contact_names(self.context), number)
        return CasePage(
            incident=incident,
            name=_name(incident, registry),
            region=next((Text(r.zh, r.en) for r in registry.regions if r.code == incident.place.region), None),
            reach=_reach(incident, registry),
            stops=stops,
            lines=lines,
            allowed=lifecycle.allowed(incident, self.actor),
            hindered=tuple(lifecycle.refusals(incident, self.actor).items()),
            files=files,
            notices=rows if self.actor.may(_NOTICES) else None,
            reports=tuple(behind),
            similar=tuple(near),
            process=context.processes.of(incident),
            trace=traced,
            sources=models.sources(traced),
            audited=bool(entry) and self.actor.may(_PROOF),
            differences=self.differences,
        )

    def number(self) -> int:
        """The incident of the address. Raises NotFound for what is no number."""
        text = str(self.request.path_params["number"])
        if not text.isdecimal() or len(text) > 9:
            raise NotFound(say("incident.unknown", id=text[:20]))
        return int(text)

    def _read_chart(self, incident: Incident, registry: Registry, now_ms: int) -> None:
        """The readings around the event, and what was forecast of them; ``unread`` says why there are none."""
        self.view, self.unread = None, ""
        context = self.context
        if incident.station not in registry or not incident.parameter or incident.parameter not in context.catalogue:
            return
        key, parameter = incident.station, incident.parameter
        start_ms = incident.since_ms - AROUND_MS
        end_ms = max(start_ms + 1, min(incident.last_observed_at_ms + AROUND_MS, now_ms))
        try:
            series = series_of(context.store, key, parameter, start_ms, end_ms + 1, chart.POINTS)
            latest = next((row for row in context.store.latest([key]) if row.parameter == parameter), None)
            with context.database.read() as connection:
                ahead = forecasts.stored_forecasts(connection, key, parameter)
        except WaterError as error:
            self.unread = str(error)
            return
        if latest is None:
            return
        if now_ms - end_ms > AROUND_MS:  # of another day: the newest value says nothing of it
            latest = replace(latest, value=None)
        self.view = chart.View(
            series=series,
            parameter=context.catalogue[parameter],
            latest=latest,
            interval_s=registry[key].interval_s,
            start_ms=start_ms,
            end_ms=end_ms,
            limit=incident.limit if incident.kind.value == "threshold" else None,
            language=self.language,
            forecast=ahead[0] if ahead else None,
        )

    # -- drawing -----------------------------------------------------------------------------------------------------

    def title(self, model: CasePage) -> str:
        return f"#{model.incident.id} {self.headline(model.incident)}"

    async def again(self) -> None:
        await super().again()
        self._show_chart()

    def draw(self, model: CasePage) -> None:
        if model.differences:
            self._differences(model)
        self._head(model)
        self._actions(model)
        with tag("div", "rc-two rc-case"):
            with tag("div", "rc-stack"):
                if model.incident.parameter:
                    self._chart(model)
                self._photos(model)
                if model.trace is not None:
                    self._trace(model, model.trace)
                else:
                    self._place(model)
            with tag("div", "rc-stack"):
                self._timeline(model)
                self._messages(model)
                self._process(model)
                self._origins(model)

    def _differences(self, model: CasePage) -> None:
        """Where the case and the trail disagree, above everything else."""
        with tag("section", "rc-panel rc-part", testid="case-differs") as panel:
            panel.props["role"] = "alert"
            tag("strong", "rc-missed", self.say("differs"))
            for one in model.differences[:DIFFERENCES]:
                part = f"{one.part} {one.field}".rstrip()
                values = {"n": one.n, "part": part, "trail": one.trail or "—", "found": one.found or "—"}
                tag("p", text=self.say("difference", **values))

    def _head(self, model: CasePage) -> None:  # noqa: C901, PLR0912  (one branch a part of the page)
        incident = model.incident
        case = incident.case
        with tag("section", "rc-panel rc-part rc-case-head", label=self.say("head", id=incident.id)):
            with tag("div", "rc-case-title"):
                pennant(incident.colour, self.language)
                with tag("div", "rc-card-body"):
                    head = tag("h1", testid="case-title")
                    self.tick(head, lambda _: self.headline(incident))
                    if incident.headline is not None and (more := summary(incident.headline)):
                        tag("p", "rc-quiet", " · ".join(self.of(one) for one in more), testid="case-summary")
                with tag("div", "rc-river-do rc-screen"):
                    for language, words in (("zh", "pdf_zh"), ("en", "pdf_en")):
                        href = f"/api/v1/incidents/{incident.id}/evidence?lang={language}"
                        link(self.say(words), href, "rc-button", testid=f"case-pdf-{language}")
                    if model.audited:
                        href = self.to("/trail", kind="incident", id=incident.id)
                        link(self.say("trail"), href, "rc-button", testid="case-trail")
            with tag("ol", "rc-stops", label=self.say("way"), testid="case-stops"):
                for stop in model.stops:
                    with tag("li", f"rc-stop rc-stop-{stop.sort}") as item:
                        if stop.sort == "now":
                            item.props["aria-current"] = "step"
                        tag("span", text=self.say(f"state.{stop.state}"))
                        tag("small", text=self.moment(stop.at_ms) if stop.at_ms else "")
            with tag("p", "rc-facts", testid="case-facts"):
                sort, _ = models.deadline(incident, self.context.clock_ms())
                due = tag("strong", f"rc-due rc-due-{sort}", testid="case-deadline")
                self.tick(due, lambda now_ms: self.of(models.deadline(incident, now_ms)[1]))
                if case.due_ms is not None and incident.is_open:
                    due.props["title"] = f"{self.moment(case.due_ms)} · {rfc3339(case.due_ms)} (UTC)"
                    tag("span", text=self.say("console.due_at", at=self.moment(case.due_ms)))
                tag("span", text=self.say("number", id=incident.id))
                tag("span", text=self.say("console.since", at=self.moment(incident.since_ms)))
                tag("span", text=self.say(f"source_{case.source}"))
                if incident.retrospective:
                    tag("span", "rc-tag", self.say("console.retrospective"))
                if case.emergency:
                    tag("strong", "rc-missed", self.say("emergency", grade=case.emergency))
                if case.supervised_at_ms is not None:
                    tag("strong", text=self.say("supervised", by=who(case.supervised_by, "")))
            with tag("p", "rc-facts"):
                if model.reach is not None:
                    link(self.of(model.reach[1]), self.to(f"/reaches/{model.reach[0]}"))
                if model.name is not None:
                    link(self.of(model.name), self.to("/", station=incident.station, parameter=incident.parameter))
                if model.region is not None:
                    tag("span", text=self.of(model.region))
                if case.responsible:
                    tag("span", text=self.say("responsible", name=case.responsible))
                if case.department is not None:
                    tag("span", text=self.say("department", name=say(f"department.{case.department}")))
                if case.handler:
                    tag("span", text=self.say("handler", name=case.handler))
                if case.merged_into is not None:
                    link(self.say("merged", id=case.merged_into), self.to(f"/incidents/{case.merged_into}"))
            self._evidence(incident)

    def _evidence(self, incident: Incident) -> None:
        """What it rests on: the table of parameters, and the rule that spoke."""
        about = incident.headline
        if about is None and not incident.rule:
            return
        with tag("details", "rc-more", testid="case-evidence") as why:
            why.props["id"] = "evidence"
            tag("summary", text=self.say("headline.why"))
            if about is not None and about.rows:
                heads = {name: self.say(f"headline.column_{name}") for name in COLUMNS}
                with self.table(heads, figures=len(heads) - 1):
                    for row in table(about):
                        with tag("tr"):
                            for words, one in zip(heads.values(), row, strict=True):
                                cell(words, self.of(one))
            if about is not None and about.score is not None:
                said = {"score": f"{about.score:g}", "threshold": f"{about.threshold:g}"}
                tag("p", "rc-quiet", self.say("headline.score", **said))
            if incident.rule:
                tag("p", "rc-quiet", self.say("rule", rule=incident.rule, version=incident.rule_version))

    def _actions(self, model: CasePage) -> None:
        with tag("section", "rc-panel rc-do", label=self.say("actions"), testid="case-actions"):
            on = [a for a in BUTTONS if a in model.allowed and a in ON]
            more = [a for a in BUTTONS if a in model.allowed and a not in ON]
            with tag("div", "rc-do-row"):
                for action in on:
                    self._action(model, action, "rc-button rc-main-button")
                for action, why in model.hindered:
                    closed = self._action(model, action, "rc-button")
                    closed.props["disabled"] = True
                    closed.props["title"] = one_language(why, self.language)
                if more:
                    with tag("details", "rc-menu"):
                        tag("summary", "rc-button", self.say("more_actions"), testid="case-more")
                        with tag("div", "rc-menu-list"):
                            for action in more:
                                self._action(model, action, "rc-button rc-quiet-button")
            for _, why in model.hindered[:1]:
                tag("p", "rc-quiet rc-wide" if on else "rc-quiet", one_language(why, self.language))
            if not model.allowed and not model.hindered:
                tag("p", "rc-quiet", self.say("nothing_to_do"))

    def _action(self, model: CasePage, action: Action, kind: str) -> ui.element:
        act = partial(incident_actions.ask, self, model.incident, action, self.again)
        return button(incident_actions.label(self, action), act, kind, testid=f"case-{action}")

    def _chart(self, model: CasePage) -> None:
        with self.panel("chart", testid="case-chart-panel"):
            self.sentence = tag("p", "rc-sentence")
            self.graph = tag("div", "rc-graph")
            self.echart: ui.echart | None = None
            self.drawn: object = None
            if model.incident.conditions:
                heads = {name: self.say(f"column_{name}") for name in ("condition", "from", "to")}
                with tag("details", "rc-more"):
                    tag("summary", text=self.say("conditions", count=len(model.incident.conditions)))
                    with self.table(heads):
                        for one in model.incident.conditions:
                            with tag("tr"):
                                name = condition_name(one, self.shared.registries.recent(), self.context.catalogue)
                                cell(heads["condition"], self.of(name))
                                cell(heads["from"], self.moment(one.since_ms))
                                ended = self.moment(one.resolved_at_ms) if one.resolved_at_ms else self.say("lasts")
                                cell(heads["to"], ended)
        self._show_chart()

    def _show_chart(self) -> None:
        """Bring the chart up to date without drawing the page again."""
        view = self.view
        newest = None if view is None else (view.latest.newest_at_ms, view.end_ms // 60_000, len(view.series.at))
        if self.graph is None or self.graph.is_deleted or self.drawn == (newest, self.unread):
            return
        self.drawn = (newest, self.unread)
        if view is None or not len(view.series.at):
            self.echart = None
            self.graph.clear()
            self.sentence.set_text("")
            with self.graph:
                key = "chart_failed" if self.unread else "no_chart"
                self.empty(key, "" if self.unread else "no_chart_next", testid="case-no-chart")
            return
        self.sentence.set_text(chart.sentence(view))
        if self.echart is None:
            self.graph.clear()
            with self.graph:
                self.echart = ui.echart(chart.options(view)).classes("rc-echart")
                self.echart.props["data-testid"] = "case-chart"
        else:
            self.echart.options.clear()
            self.echart.options.update(chart.options(view))
            self.echart.update()

    def _photos(self, model: CasePage) -> None:
        with self.panel("files", testid="case-files"):
            if not model.files:
                self.empty("no_files", "no_files_next")
            else:
                with tag("ul", "rc-gallery"):
                    for one in model.files:
                        href = f"/api/v1/attachments/{one.id}"
                        words = one.name or one.id[:8]
                        with tag("li"), link("", href) as into:
                            into.props["title"] = f"{words} · {one.by} · {self.moment(one.at_ms)}"
                            if one.media_type.startswith("image/"):
                                image = tag("img")
                                image.props["src"], image.props["alt"] = href, words
                                image.props["loading"] = "lazy"
                            else:
                                tag("span", "rc-photo-paper", "PDF")
                            tag("small", text=f"{one.by} · {self.moment(one.at_ms)}")
            if Action.COMMENT in model.allowed:
                add = partial(incident_actions.ask, self, model.incident, Action.COMMENT, self.again)
                button(self.say("add_file"), add, "rc-button rc-screen", testid="case-add-file")

    def _place(self, model: CasePage) -> None:
        """Where it is, of what has no source to be traced."""
        registry = self.shared.registries.recent()
        here = models.where(model.incident, registry, self.of)
        if here is None:
            return
        with self.panel("place", testid="case-place"):
            lines = [reach.line for reach in registry.reaches if len(reach.line) > 1]
            picture(svg.sketch(lines, here, label=self.say("place")), "rc-sketch")

    def _trace(self, model: CasePage, traced: StoredAttribution) -> None:
        with self.panel("sources", testid="case-sources"):
            tag("p", text=self.of(traced.text))
            if not model.sources:
                return
            shown = models.on_the_map(traced, self.shared.registries.recent(), self.of)
            picture(svg.sketch(**shown, label=self.say("sources_map")), "rc-sketch", testid="case-map")
            with tag("ol", "rc-sources"):
                for one in model.sources:
                    with tag("li"):
                        tag("span", "rc-rank", str(one.rank))
                        with tag("div", "rc-card-body"):
                            tag("strong", text=f"{self.of(one.name)} · {one.share:.0%}")
                            when = self.say("released", early=self.moment(one.early_ms), late=self.moment(one.late_ms))
                            tag("span", text=when)
                            for reason in one.reasons[:3]:
                                tag("span", "rc-quiet", self.of(reason))
            tag("p", "rc-quiet", self.say("sources_note", at=self.moment(traced.computed_at_ms)))

    def _process(self, model: CasePage) -> None:
        if model.process is None or not (model.process.steps or model.process.checklist):
            return
        with self.panel("process", testid="case-process"):
            tag("p", text=self.of(Text(model.process.zh, model.process.en)))
            with tag("ol", "rc-steps"):
                for step in model.process.steps:
                    tag("li", text=self.of(step))
            if model.process.checklist:
                with tag("ul", "rc-checks"):
                    for check in model.process.checklist:
                        tag("li", text=self.of(check))

    def _timeline(self, model: CasePage) -> None:
        with self.panel("timeline", testid="case-timeline"):
            shown = model.lines if self.all_lines else model.lines[:LINES]
            with tag("ol", "rc-timeline"):
                for line in shown:
                    self._line(line, model)
            if len(shown) < len(model.lines):
                button(self.say("older", count=len(model.lines) - len(shown)), self._all, "rc-button")

    def _all(self) -> None:
        self.all_lines = True
        self.redraw()

    def _line(self, line: Line, model: CasePage) -> None:
        with tag("li", "rc-line"):
            with tag("p", "rc-line-head"):
                at = tag("time", text=self.moment(line.at_ms))
                at.props["datetime"] = rfc3339(line.at_ms)
                at.props["title"] = f"{rfc3339(line.at_ms)} (UTC)"
                tag("span", text=self.of(line.who))
            tag("p", text=self.of(line.text))
            if line.times > 1:
                tag("p", "rc-quiet", self.say("times", count=line.times))
            if line.moved:
                words = [self.say(f"state.{state}") for state in line.moved]
                tag("p", "rc-quiet", " → ".join(words))
            if line.comment:  # the system's own remarks are in both languages
                own = line.role == RoleOf.SYSTEM
                tag("blockquote", text=stored(line.comment, self.language) if own else line.comment)
            for key, value in line.measured:
                if key in self.context.catalogue:
                    known = self.context.catalogue[key]
                    shown = f"{self.of(Text(known.zh, known.en))} {known.show(value)}"
                    tag("p", text=self.say("measured", shown=shown))
            images = [one for one in model.files if one.id in line.photos and one.media_type.startswith("image/")]
            if images:
                with tag("p", "rc-line-photos"):
                    for one in images:
                        with link("", f"/api/v1/attachments/{one.id}"):
                            image = tag("img")
                            image.props["src"], image.props["alt"] = f"/api/v1/attachments/{one.id}", one.name
                            image.props["loading"] = "lazy"

    def _messages(self, model: CasePage) -> None:
        if model.notices is None:
            return
        with self.panel("messages", testid="case-messages"):
            if not model.notices:
                self.empty("no_messages", "no_messages_next")
                return
            with tag("ul", "rc-timeline"):
                for row in model.notices:
                    with tag("li", "rc-line"):
                        self._message(row)

    def _message(self, row: NoticeRow) -> None:
        with tag("p", "rc-line-head"):
            tag("strong", text=row.name)
            tag("span", f"rc-told rc-told-{'confirmed' if row.confirmed_at_ms else row.status}", fate(self, row))
        words = self.say(f"messages_page.kind_{row.kind}")
        if row.channel:
            words += " · " + self.say("messages_page.through", channel=row.channel)
        tag("p", "rc-quiet", words)
        if row.error and row.status != "sent":
            tag("p", "rc-missed", stored(row.error, self.language))

    def _origins(self, model: CasePage) -> None:
        if not model.reports and not model.similar:
            return
        with self.panel("origins", testid="case-origins"):
            office = self.actor.may(Right.ACCEPT)
            with tag("ul", "rc-way"):
                for one in model.reports:
                    with tag("li", "rc-card-body"):
                        tag("strong", text=self.say("ticket", ticket=one.ticket, at=self.moment(one.at_ms)))
                        if office and one.contact:
                            tag("span", text=self.say("contact", contact=self.context.vault.open(one.contact)))
                        if one.unsolved:
                            tag("span", "rc-missed", self.say("unsolved", count=one.unsolved))
                for near in model.similar:
                    with tag("li", "rc-card-body"):
                        link(f"#{near.id} {self.headline(near)}", self.to(f"/incidents/{near.id}"))
                        tag("span", "rc-quiet", self.say("similar", state=say(f"state.{near.state}")))


def fate(page: Framed, row: NoticeRow) -> str:
    """What became of a message, with the time."""
    if row.confirmed_at_ms:
        return page.say("messages_page.confirmed", at=page.moment(row.confirmed_at_ms))
    if row.status == "sent":
        return page.say("messages_page.sent", at=page.moment(row.sent_at_ms))
    if row.status == "pending":
        return page.say("messages_page.pending", at=page.moment(row.due_at_ms))
    return page.say(f"messages_page.{row.status}", count=row.attempts)


def _name(incident: Incident, registry: Registry) -> Text | None:
    if incident.station not in registry:
        return None
    station = registry[incident.station]
    return Text(station.zh, station.en)


def _reach(incident: Incident, registry: Registry) -> tuple[str, Text] | None:
    key = incident.place.reach or (registry[incident.station].reach if incident.station in registry else "")
    return next(((one.key, Text(one.zh, one.en)) for one in registry.reaches if one.key == key), None)
