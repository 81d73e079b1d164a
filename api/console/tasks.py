"""The work list ``/worklist`` (待办): what waits for who looks, most urgent first, and the actions for it."""

from functools import partial

from fastapi import Request
from nicegui import ui

from api.access import Keeper
from api.console.live import Live
from api.console.model import IncidentView
from api.console.start import BUTTONS, StartPage, button, page_css, pennant, tag
from api.context import Context
from governance.lifecycle import urgency, waiting_for
from sensors.texts import say
from sensors.times import beijing


def register(context: Context, live: Live, keeper: Keeper) -> None:
    """Make ``/worklist`` answer with this page."""

    @ui.page("/worklist")
    async def tasks(request: Request) -> None:
        await TasksPage(context, live, dict(request.query_params), request.scope["actor"], keeper).build()


class TasksPage(StartPage):
    """One client's work list; acting on a row is the start page's."""

    async def build(self) -> None:
        self.model = await self.live.now()
        ui.page_title(self.say("tasks"))
        ui.colors(primary="#0b5a5e")
        ui.add_css(page_css())
        ui.context.client.content.classes("rc-page")
        with tag("header", "rc-bar"):
            tag("h1", text=self.say("tasks"))
            with tag("div", "rc-bar-state"):
                tag("span", text=self.actor.name, testid="tasks-name")
                tag("a", "rc-language", self.say("to_map"), testid="tasks-map").props["href"] = "/"
        with tag("main", "rc-panel"):
            self.list = tag("ul", "rc-list", testid="tasks-list")
        self._show_tasks()
        ui.timer(2.0, self._tick)

    async def _tick(self) -> None:
        self.live.look()
        if self.live.model is not None and self.live.model is not self.model:
            self.model = self.live.model
            self._show_tasks()

    def _show_tasks(self) -> None:
        now_ms = self.context.clock_ms()
        rows = [row for row in self._mine(self.model) if waiting_for(row.incident, self.actor)]
        rows.sort(key=lambda row: urgency(row.incident, now_ms))
        self.list.clear()
        with self.list:
            if not rows:
                tag("li", "rc-empty", self.say("no_tasks"), testid="tasks-empty")
            for row in rows:
                with tag("li", "rc-row", testid=f"tasks-{row.id}"):
                    pennant(row.colour)
                    self._task(row, now_ms)

    def _task(self, row: IncidentView, now_ms: int) -> None:
        due = row.incident.case.due_ms
        with tag("div", "rc-row-body"):
            tag("strong", text=self.of(row.sentence))
            with tag("div", "rc-row-foot"):
                tag("span", "rc-number", f"#{row.id}")
                tag("span", text=self.of(say(f"state.{row.state}")))
                if due is not None:
                    key = "overdue_since" if due < now_ms else "due_at"
                    tag("span", "rc-tag" if due < now_ms else "", self.say(key, at=beijing(due)))
                with tag("span", "rc-actions"):
                    possible = row.open_to(self.actor)
                    for action in (a for a in BUTTONS if a in possible):
                        name = f"tasks-{row.id}-{action}"
                        button(self._label(action), partial(self._act, row, action), "rc-button", testid=name)
