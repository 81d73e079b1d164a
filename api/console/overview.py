"""The start page ``/``: the map, what is open, and the chart of the station one looks at.

Everything a person chose stands in the URL (language, station, parameter, range), so that a reload or a colleague sees
the same. Live news come from the one shared picture of :mod:`api.console.live`.
"""

import asyncio
import time
from functools import partial
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from api import citizen, river_file
from api.console import chart, incident_actions, menu
from api.console.components.river_map import RiverMap
from api.console.elements import HTML_LANGUAGE, badge, button, link, one_language, pennant, pressed, tag
from api.console.frame import Framed, Shared, SignedOut
from api.console.live import Trouble
from api.console.models.incident_actions import IN_A_ROW, ON
from api.console.models.overview import Data, IncidentView, Model, StationView, delta
from api.console.models.reach import rows
from api.duration import duration
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.lifecycle import in_jurisdiction
from governance.incidents.model import Action, State
from governance.organisation.roles import Right
from infra.errors import WaterError
from infra.texts import Text, say
from infra.times import beijing, rfc3339
from ingest.analysis.forecasts import StoredForecast, stored_forecasts
from ingest.storage.port import series as series_of

SHOWN = 20
"""Incident rows of one page; the rest waits behind a button."""

_STILL_IN = 5
"""Ticks after which it is asked again whether who looks is still signed in."""

ANNOUNCE_S = 60.0
"""The reader aloud is told of new incidents at most this often."""

_SHOWN = 3
"""Buttons of a row of the list; the rest stands on the work list and on the incident's page."""


async def respond(shared: Shared, request: Request) -> None:
    """Build the page."""
    await StartPage(shared, request).build()


class StartPage(Framed):
    """One client's page: what it chose, what it was last shown, and the elements to change."""

    entry = menu.MAP

    def __init__(self, shared: Shared, request: Request) -> None:
        super().__init__(shared, request)
        query = self.query
        self.station = query.get("station", "")
        self.parameter = query.get("parameter", "")
        self.range = query.get("range", "24h") if query.get("range") in chart.RANGES else "24h"
        self.chosen = set(query) & {"station", "parameter", "range", "lang"}
        self.model: Model | None = None
        self.trouble: Trouble | None = None
        self.rows: dict[int, tuple[IncidentView, Element]] = {}
        self.all_rows = False
        self.as_table = False
        self.charted: tuple[object, ...] = ()
        self.chips: dict[str, tuple[Element, TextElement]] = {}
        self.announced = float("-inf")
        self.ticks = 0
        self.cases = self.actor.may(Right.INCIDENTS)

    # -- building ----------------------------------------------------------------------------------------------------

    async def build(self) -> None:
        self.model = self._seen(await self.live.now())
        self._choose_first()
        skips = [("start-chart-panel", self.say("skip_chart"))]
        if self.cases:
            skips.insert(0, ("start-incidents", self.say("skip_incidents")))
        self.open_frame("", *skips)
        with tag("main", "rc-main"):
            tag("h1", "rc-only-heard", self.say("title"))
            with tag("section", "rc-panel rc-map-panel", label=self.say("map_name")):
                self.map = RiverMap(
                    self.language,
                    lambda: self._seen(self.live.model),
                    self._station_chosen,
                    self._reach_chosen,
                    field=self.cases,
                )
                self.map.props["data-testid"] = "start-map"
            with tag("aside", "rc-rail"):
                self._counts()
                if self.cases:
                    self._incidents()
                else:
                    self._waters()
                    self._report()
            self._chart_panel()
        self.announcer = tag("div", "rc-only-heard", testid="start-announce")
        self.announcer.props["aria-live"] = "polite"
        self._show_counts()
        self._show_incidents()
        self._show_trouble()
        await self._show_chart()
        self.timer = ui.timer(1.0, self._tick)

    def fill_bar(self) -> None:
        """Whether the picture is alive, and of when it is."""
        tag("span", "rc-alive", testid="start-live").props["title"] = self.say("live")
        tag("span", "rc-bar-word rc-when-live", self.say("live"))
        tag("span", "rc-bar-word rc-when-cut", self.say("not_live"))
        self.clock = tag("time", "rc-clock", self._clock(), testid="start-as-of")

    def _counts(self) -> None:
        with tag("section", "rc-panel rc-counts", label=self.say("counts"), testid="start-counts"):
            self.figures: dict[str, TextElement] = {}
            with tag("div", "rc-colours") as colours:
                for colour in Colour:
                    with tag("div", "rc-colour", testid=f"start-counts-{colour}") as cell:
                        cell.props["title"] = self.say("open_of_colour", colour=say(f"incident.{colour}"))
                        pennant(colour, self.language)
                        self.figures[colour] = tag("b")
            colours.set_visibility(self.cases)
            with tag("div", "rc-devices" if self.cases else "rc-devices rc-alone"):
                for state in Data:
                    with tag("div", "rc-device", testid=f"start-counts-{state}") as cell:
                        cell.props["title"] = self.say(f"{state}_means")
                        tag("i", f"rc-dot rc-dot-{state}")
                        tag("span", text=self.say(state))
                        self.figures[state] = tag("b")
            self.book = tag("p", "rc-book", testid="start-ledger")
            self.book.set_visibility(self.cases)

    def _incidents(self) -> None:
        with tag("section", "rc-panel rc-incidents", label=self.say("incidents")):
            with tag("div", "rc-head"):
                tag("h2", text=self.say("incidents"))
                self.past = tag("span", "rc-quiet", testid="start-retrospective")
            self.list = tag("ul", "rc-list", testid="start-incidents")
            self.list.props["id"] = "start-incidents"
            self.list.props["tabindex"] = "-1"
            self.no_rows = tag("div", "rc-empty", testid="start-incidents-empty")
            self.more = button("", self._all_rows, "rc-button", testid="start-incidents-more")

    def _waters(self) -> None:
        """The class of each water, worst first, for who sees no incidents."""
        registry = self.shared.registries.recent()
        classes = river_file.classes_of(self.context)
        at_ms = max((one.at_ms for one in classes.values()), default=None)
        with tag("section", "rc-panel rc-part", label=self.say("waters"), testid="start-waters"):
            tag("h2", text=self.say("waters"))
            with tag("ul", "rc-way"):
                for row in rows(registry, classes, {}):
                    with tag("li", "rc-way-stop"):
                        badge(row.live_class, 30)
                        link(self.of(row.name), self.to(f"/reaches/{row.key}"))
            if at_ms is not None:
                tag("p", "rc-quiet", self.say("as_of", at=self.moment(at_ms)))

    def _report(self) -> None:
        """What who sees no incidents can do: report one."""
        with tag("section", "rc-panel rc-part", label=self.say("report"), testid="start-report"):
            tag("h2", text=self.say("report"))
            tag("p", "rc-quiet", self.say("report_note"))
            link(self.say("report_go"), self.to(citizen.PATH), "rc-button rc-main-button")

    def _chart_panel(self) -> None:
        with tag("section", "rc-panel rc-chart-panel", label=self.say("chart"), testid="start-chart-panel") as panel:
            panel.props["id"] = "start-chart-panel"
            panel.props["tabindex"] = "-1"
            with tag("div", "rc-head"):
                with tag("div", "rc-chart-title"):
                    self.title = tag("h2", testid="start-chart-station")
                    self.title_state = tag("span", "rc-quiet")
                    self.reach = link("", "", testid="start-chart-reach")
                    self.care = link("", "", testid="start-chart-care")
                with tag("div", "rc-tools"):
                    with tag("div", "rc-group", label=self.say("range")) as group:
                        group.props["role"] = "group"
                        self.range_buttons = {
                            name: button(
                                self.say(f"range_{name}"),
                                partial(self._range_chosen, name),
                                "rc-choice",
                                testid=f"start-range-{name}",
                            )
                            for name in chart.RANGES
                        }
                    self.table_button = button(
                        self.say("table"), self._table_toggled, "rc-choice", testid="start-table"
                    )
            self.parameters = tag("div", "rc-parameters", label=self.say("parameter"), testid="start-parameters")
            self.parameters.props["role"] = "group"
            self.sentence = tag("p", "rc-sentence", testid="start-sentence")
            self.body = tag("div", "rc-chart-body")
        self.echart: ui.echart | None = None

    # -- the shared picture ------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        self.ticks += 1
        if self.ticks % _STILL_IN == 0:
            try:
                await asyncio.to_thread(self.acting)
            except SignedOut:
                self.signed_out()
                self.timer.deactivate()
                return
        self.live.look()
        self.clock.set_text(self._clock())
        self._show_trouble()
        model, before = self._seen(self.live.model), self.model
        if model is None or model is before:
            return
        self.model = model
        if before is None:
            self.map.run_method("load")
        else:
            self.map.show(delta(before, model))
        if not self.station:
            self._choose_first()
        self._show_counts()
        self._show_incidents()
        self._announce(before)
        await self._show_chart()

    def _seen(self, model: Model | None) -> Model | None:
        """What of the picture is for who looks."""
        return model if model is None or self.cases else model.water

    def _clock(self) -> str:
        return self.say("as_of", at=beijing(self.live.read_at_ms, "%H:%M:%S")) if self.live.read_at_ms else ""

    def _show_trouble(self) -> None:
        trouble = self.live.trouble
        if trouble == self.trouble:
            return
        self.trouble = trouble
        self.trouble_bar.clear()
        self.trouble_bar.classes(remove="rc-on")
        if trouble is not None:
            with self.trouble_bar.classes(add="rc-on"):
                tag("strong", text=self.say("trouble", since=beijing(trouble.since_ms, "%H:%M")))
                tag("span", text=self.say("trouble_detail", detail=trouble.detail, number=trouble.number))
                button(self.say("retry"), self.live.refresh, "rc-button")

    def _show_counts(self) -> None:
        model = self.model
        if model is None:
            return
        for colour in Colour:
            number = self._open_of(model, colour)
            self.figures[colour].set_text(str(number))
            self.figures[colour].classes(**{"remove" if number else "add": "rc-none"})
        for state in Data:
            self.figures[state].set_text(str(model.by_state[state]))
        book = model.book
        if not book.stored and not book.missing and not book.quarantined:
            words = self.say("ledger_none")
        elif book.missing is None or not book.closed:
            words = self.say("ledger_open", stored=f"{book.stored:,}")
        elif book.missing:
            words = self.say("ledger_missing", stored=f"{book.stored:,}", missing=f"{book.missing:,}")
        else:
            words = self.say("ledger_closed", stored=f"{book.stored:,}")
        if book.quarantined:
            words += self.say("ledger_quarantined", count=f"{book.quarantined:,}")
        self.book.set_text(words)
        if not self.cases:
            return
        self.past.set_text(self.say("retrospective_count", count=model.open_retrospective))
        self.past.set_visibility(bool(model.open_retrospective))

    def _mine(self, model: Model | None) -> tuple[IncidentView, ...]:
        """The rows within reach of who looks."""
        rows = model.incidents if model else ()
        return rows if self.actor.regions is None else tuple(r for r in rows if in_jurisdiction(r.incident, self.actor))

    def _open_of(self, model: Model, colour: Colour) -> int:
        if self.actor.regions is None:
            return model.open_by_colour.get(colour, 0)
        mine = (r for r in self._mine(model) if r.incident.is_open)
        return sum(r.colour is colour for r in mine)

    def _announce(self, before: Model | None) -> None:
        model = self.model
        if model is None or before is None or time.monotonic() - self.announced < ANNOUNCE_S:
            return
        known = {row.id for row in before.incidents}
        fresh = [r for r in self._mine(model) if r.id not in known and not r.retrospective and r.incident.is_open]
        if fresh:
            worst = min(fresh, key=lambda row: row.colour.rank)
            self.announced = time.monotonic()
            self.announcer.props["aria-live"] = "assertive" if worst.colour is Colour.RED else "polite"
            self.announcer.set_text(f"{self.say('new_incident')} {self.of(worst.sentence)}")
            self.announcer.update()

    # -- incidents ---------------------------------------------------------------------------------------------------

    def _show_incidents(self) -> None:
        """Bring the list up to date row by row: what did not change is not touched and keeps its focus."""
        if not self.cases:
            return
        rows = self._mine(self.model)
        open_ = sum(row.incident.is_open for row in rows)
        shown = rows if self.all_rows else (*rows[: min(SHOWN, open_)], *rows[open_:])
        for gone in self.rows.keys() - {row.id for row in shown}:
            self.rows.pop(gone)[1].delete()
        for place, row in enumerate(shown):
            known = self.rows.get(row.id)
            if known is None:
                element: Element
                with self.list:
                    element = tag("li", testid=f"start-incident-{row.id}")
                self._fill_row(element, row)
                if place < len(self.rows):
                    element.move(self.list, place)
            else:
                element = known[1]
                if known[0] != row:
                    element.clear()
                    self._fill_row(element, row)
                if self.list.default_slot.children.index(element) != place:
                    element.move(self.list, place)
            self.rows[row.id] = (row, element)
        self.more.set_text(self.say("more", count=len(rows) - len(shown)))
        self.more.set_visibility(len(rows) > len(shown))
        self.no_rows.set_visibility(not open_)
        self.no_rows.clear()
        if not open_:
            last = max((row.closed_at_ms or 0 for row in rows), default=0)
            with self.no_rows:
                if self.actor.regions is not None:
                    tag("p", text=self.say("nothing_here"), testid="start-nothing-here")
                    tag("p", "rc-quiet", self.say("map_of_all"))
                    return
                tag("p", text=self.say("nothing_open"))
                ago = duration(self.context.clock_ms() - last)
                never = "nothing_yet" if self.actor.regions is None else "nothing_yet_here"
                tag("p", "rc-quiet", self.say("last_closed", ago=ago) if last else self.say(never))

    def _fill_row(self, element: Element, row: IncidentView) -> None:
        closed = not row.incident.is_open
        element.classes(
            replace=" ".join(
                ["rc-row", *(["rc-past"] if row.retrospective else []), *(["rc-closed"] if closed else [])]
            )
        )
        element.props["data-colour"] = row.colour.value
        element.props["data-state"] = row.state.value
        element.update()
        with element:
            pennant(row.colour, self.language)
            with tag("div", "rc-row-body"):
                title = button(
                    "", partial(self._incident_chosen, row), "rc-row-title", testid=f"start-incident-{row.id}-open"
                )
                with title:
                    name, sentence = self.of(row.name), self.of(row.sentence)
                    if sentence.startswith(name):
                        tag("strong", text=name)
                        sentence = sentence.removeprefix(name)
                    tag("span", text=sentence)
                title.props["lang"] = HTML_LANGUAGE[self.language]
                if row.source is not None:
                    tag("p", "rc-quiet", self.of(row.source), testid=f"start-incident-{row.id}-source")
                with tag("div", "rc-row-foot"):
                    if row.retrospective:
                        tag("span", "rc-tag", self.say("retrospective"))
                    number = link(f"#{row.id}", self.to(f"/incidents/{row.id}"), testid=f"start-incident-{row.id}-page")
                    number.props["title"] = self.say("page_frame.open_incident")
                    since = tag("time", text=self.say("since", at=self.moment(row.since_ms)))
                    since.props["datetime"] = rfc3339(row.since_ms)
                    since.props["title"] = f"{rfc3339(row.since_ms)} (UTC)"
                    tag("span", text=self._state(row))
                    self._row_buttons(row)

    def _state(self, row: IncidentView) -> str:
        state = self.of(say(f"state.{row.state}"))
        if row.accepted_by and row.state is State.ACCEPTED:
            state = self.say("by", state=state, by=row.accepted_by)
        if not row.incident.is_open:
            return state
        return state if row.active or row.kind is FindingKind.REPORT else self.say("recovered", state=state)

    def _row_buttons(self, row: IncidentView) -> None:
        with tag("span", "rc-actions"):
            possible = row.open_to(self.actor)
            for action in [a for a in IN_A_ROW if a in possible][:_SHOWN]:
                kind = "rc-button rc-main-button" if action in ON else "rc-button rc-quiet-button"
                button(
                    incident_actions.label(self, action),
                    partial(self._act, row, action),
                    kind,
                    testid=f"start-incident-{row.id}-{action}",
                )
            if row.state is State.VERIFIED and Action.CLOSE not in row.actions:
                tag("span", "rc-why", self.say("not_yet")).props["title"] = self.say("not_yet_why", count=row.active)

    def _all_rows(self) -> None:
        self.all_rows = True
        self._show_incidents()

    async def _act(self, row: IncidentView, action: Action) -> None:
        await incident_actions.ask(self, row.incident, action, self._acted)

    async def _acted(self) -> None:
        await self.live.refresh()
        await self._tick()

    # -- choosing ----------------------------------------------------------------------------------------------------

    def _choose_first(self) -> None:
        """Without a choice: the station of the most urgent open incident, else the first that ever reported."""
        if self.model is None or self.station:
            return
        live = [r for r in self._mine(self.model) if r.incident.is_open and r.station in self.model.index]
        if live:
            row = min(live, key=lambda r: (r.retrospective, r.colour.rank, -r.id))
            self.station, self.parameter = row.station, self.parameter or row.parameter or ""
        else:
            heard = [s for s in self.model.stations if s.headline]
            self.station = next((s.key for s in heard if s.reach), heard[0].key if heard else "")

    async def _station_chosen(self, key: str) -> None:
        await self._choose(station=key)

    def _reach_chosen(self, key: str) -> None:
        ui.navigate.to(self.to(f"/reaches/{key}"))

    async def _incident_chosen(self, row: IncidentView) -> None:
        if self.model is not None and row.station in self.model.index:
            await self._choose(station=row.station, parameter=row.parameter or self.parameter)

    async def _range_chosen(self, name: str) -> None:
        await self._choose(range=name)

    async def _choose(self, **what: str) -> None:
        for name, value in what.items():
            setattr(self, name, value)
        self.chosen |= {"station", "parameter", "range"}
        await self._show_chart()
        ui.navigate.history.replace(self._url(self.language))
        self.link_languages()

    def _url(self, language: str) -> str:
        query = {"lang": language} if language != "zh" or "lang" in self.chosen else {}
        query |= {name: getattr(self, name) for name in ("station", "parameter", "range") if name in self.chosen}
        return "/?" + urlencode({name: value for name, value in query.items() if value}) if query else "/"

    def link_languages(self) -> None:
        for language, item in self.links.items():
            item.props["href"] = (
                self._url(language) if language == "zh" and "lang" not in self.chosen else (self._url_in(language))
            )
            item.update()

    def _url_in(self, language: str) -> str:
        url = self._url(language)
        return url if "lang=" in url else f"{url}{'&' if '?' in url else '?'}lang={language}"

    # -- the chart ---------------------------------------------------------------------------------------------------

    def _table_toggled(self) -> Any:
        self.as_table = not self.as_table
        self.charted = ()
        return self._show_chart()

    async def _show_chart(self) -> None:
        """Draw again if the choice, the newest reading or the limit changed; otherwise leave it alone."""
        station = self.model.station(self.station) if self.model else None
        parameters = self._parameters(station)
        if parameters and self.parameter not in parameters:
            self.parameter = "nh3n" if "nh3n" in parameters else parameters[0]
        rows = station.headline if station else ()
        latest = next((r for r in rows if r.parameter == self.parameter), None)
        newest = latest.newest_at_ms if latest else None
        limit = self._limit()
        ahead = await asyncio.to_thread(self._forecast)
        now = (station, self.parameter, self.range, newest, limit, self.as_table, ahead and ahead.issued_ms)
        if now == self.charted:
            return
        self.charted = now
        self._show_station(station, parameters)
        if station is None:
            self.sentence.set_text("")
            key = "choose_station" if not self.station else "unknown_station"
            self._instead_of_chart("start-chart-empty", self.say(key, station=self.station), self.say("choose_how"))
            return
        if latest is None or newest is None:
            self.sentence.set_text("")
            topic = f"rivers/v1/{station.key}/telemetry"
            self._instead_of_chart("start-chart-empty", self.say("waiting"), self.say("waiting_for", topic=topic))
            return
        end_ms = self.context.clock_ms()
        start_ms = end_ms - chart.RANGES[self.range]
        try:
            series = await asyncio.to_thread(
                series_of, self.context.store, station.key, self.parameter, start_ms, end_ms + 1, chart.POINTS
            )
        except WaterError as error:
            self.charted = ()
            self._instead_of_chart(
                "start-chart-error", self.say("chart_failed"), one_language(error.text, self.language)
            )
            return
        view = chart.View(
            series=series,
            parameter=self.context.catalogue[self.parameter],
            latest=latest,
            interval_s=station.interval_s,
            start_ms=start_ms,
            end_ms=end_ms,
            limit=limit,
            language=self.language,
            forecast=ahead,
        )
        if not len(series.at):
            self.sentence.set_text("")
            at = self.moment(newest)
            self._instead_of_chart("start-chart-empty", self.say("nothing_in_range", at=at), self.say("wider"))
        else:
            self.sentence.set_text(chart.sentence(view))
            self._draw(view)

    def _forecast(self) -> StoredForecast | None:
        """What was last forecast of the series one looks at; None where nothing was, or the store does not answer."""
        if not self.station or not self.parameter:
            return None
        try:
            with self.context.database.read() as connection:
                found = stored_forecasts(connection, self.station, self.parameter)
        except WaterError:
            return None
        return found[0] if found else None

    def _draw(self, view: chart.View) -> None:
        if self.as_table:
            self.echart = None
            self.body.clear()
            with self.body:
                _table(chart.table(view), view)
        elif self.echart is None:
            self.body.clear()
            with self.body:
                self.echart = ui.echart(chart.options(view)).classes("rc-echart")
                self.echart.props["data-testid"] = "start-chart"
        else:
            self.echart.options.clear()
            self.echart.options.update(chart.options(view))
            self.echart.update()

    def _instead_of_chart(self, testid: str, *words: str) -> None:
        self.echart = None
        self.body.clear()
        with self.body, tag("div", "rc-empty", testid=testid):
            for i, word in enumerate(words):
                tag("p", "rc-quiet" if i else "", word)

    def _show_station(self, station: StationView | None, parameters: list[str]) -> None:
        self.map.select(self.station)
        self.title.set_text(self.of(station.name) if station else self.say("chart"))
        self.title_state.set_text(self._age(station) if station else "")
        reach = station.reach if station else ""
        self.reach.set_text(self.say("page_frame.river_file") if reach else "")
        self.reach.props["href"] = self.to(f"/reaches/{reach}")
        self.reach.set_visibility(bool(reach))
        self.reach.update()
        self.care.set_text(self.say("page_frame.care"))
        self.care.props["href"] = self.to(f"/care/{self.station}")
        self.care.set_visibility(station is not None and self.actor.may(menu.CARE.right))
        self.care.update()
        for name, choice in self.range_buttons.items():
            pressed(choice, name == self.range)
        pressed(self.table_button, self.as_table)
        if list(self.chips) != parameters:  # otherwise they stay, and with them the keyboard's place
            self.parameters.clear()
            with self.parameters:
                self.chips = {key: self._chip(key) for key in parameters}
        values = {row.parameter: row for row in station.headline} if station else {}
        for key, (chip, figure) in self.chips.items():
            row = values.get(key)
            shown = row is not None and row.value is not None
            figure.set_text(self.context.catalogue[key].show(row.value) if row and row.value is not None else "—")
            old = bool(row and station and (row.at_ms or 0) < (station.newest_at_ms or 0) - 3000 * station.interval_s)
            figure.classes(**{"add" if old and shown else "remove": "rc-old"})
            chip.props["title"] = f"{self.moment(row.at_ms)} · {rfc3339(row.at_ms)} (UTC)" if row and row.at_ms else ""
            pressed(chip, key == self.parameter)

    def _chip(self, key: str) -> tuple[Element, TextElement]:
        parameter = self.context.catalogue[key]
        with button("", partial(self._choose, parameter=key), "rc-chip", testid=f"start-parameter-{key}") as chip:
            tag("span", text=self.of(Text(parameter.zh, parameter.en)))
            return chip, tag("b")

    def _parameters(self, station: StationView | None) -> list[str]:
        """What the station sends, in the catalogue's order."""
        if station is None:
            return []
        return sorted({row.parameter for row in station.headline}, key=self.context.catalogue.index.__getitem__)

    def _limit(self) -> float | None:
        """The rule limit of this series, from its newest incident; the slope of a trend rule is no limit of values."""
        for row in self.model.incidents if self.model else ():
            if row.station == self.station and row.parameter == self.parameter and row.kind is FindingKind.THRESHOLD:
                return row.limit
        return None

    def _age(self, station: StationView) -> str:
        if station.newest_at_ms is None:
            return self.say(Data.NEVER)
        at = self.moment(station.newest_at_ms)
        return self.say("station_state", state=say(f"console.{station.state}"), at=at)


# -- elements --------------------------------------------------------------------------------------------------------


def _table(rows: list[dict[str, Any]], view: chart.View) -> None:
    unit = "" if view.parameter.unit == "1" else f" ({view.parameter.unit})"
    names = ("time", "value", "low", "high", "count", "flag") if view.series.bucket_ms else ("time", "value", "flag")
    columns = [
        {
            "name": name,
            "field": "at" if name == "time" else name,
            ":format": "(v, row) => row.time" if name == "time" else "v => v",
            "label": view.say(f"column_{name}") + (unit if name == "value" else ""),
            "align": "left" if name in ("time", "flag") else "right",
            "sortable": name == "time",
        }
        for name in names
    ]
    table = ui.table(columns=columns, rows=rows, row_key="at", pagination=50).classes("rc-table")
    table.props("flat dense :rows-per-page-options=[50]").props["data-testid"] = "start-chart-table"
