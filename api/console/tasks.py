"""The work list ``/worklist`` (待办): what waits for who looks, most urgent first, and the actions for it."""

from dataclasses import dataclass
from functools import partial

from api.console import menu, orders
from api.console.elements import button, link, pennant, tag
from api.console.frame import Page
from api.console.models.orders import IN_A_ROW, ON
from governance import incidents
from governance.incident import Incident
from sensors.texts import say
from sensors.times import beijing

LIMIT = 200
SHOWN = 30
"""Rows at first; the rest, less urgent, waits behind a button."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits, most urgent first."""

    rows: tuple[Incident, ...]


class TasksPage(Page[Waiting]):
    """One person's work list."""

    entry = menu.TASKS
    all_rows = False

    def read(self) -> Waiting:
        with self.context.database.read() as connection:
            found = incidents.worklist(connection, self.actor, self.context.clock_ms(), limit=LIMIT)
        return Waiting(tuple(incident for incident, _ in found))

    def draw(self, model: Waiting) -> None:
        with tag("section", "rc-panel rc-incidents", label=self.say("tasks")):
            with tag("div", "rc-head"):
                tag("h1", text=self.say("tasks"))
            with tag("ul", "rc-list", testid="tasks-list"):
                if not model.rows:
                    tag("li", "rc-empty", self.say("no_tasks"), testid="tasks-empty")
                for incident in model.rows if self.all_rows else model.rows[:SHOWN]:
                    with tag("li", "rc-row", testid=f"tasks-{incident.id}"):
                        pennant(incident.colour)
                        self._task(incident)
            if len(model.rows) > SHOWN and not self.all_rows:
                words = self.say("more", count=len(model.rows) - SHOWN)
                button(words, self._all_rows, "rc-button", testid="tasks-more")

    def _all_rows(self) -> None:
        self.all_rows = True
        self.redraw()

    def _task(self, incident: Incident) -> None:
        due_ms = incident.case.due_ms
        with tag("div", "rc-row-body"):
            link(self.of(incident.title), self.to(f"/incidents/{incident.id}"), "rc-row-title rc-link")
            with tag("div", "rc-row-foot"):
                tag("span", "rc-number", f"#{incident.id}")
                tag("span", text=self.of(say(f"state.{incident.state}")))
                if due_ms is not None:
                    overdue = due_ms < self.context.clock_ms()
                    words = self.say("overdue_since" if overdue else "due_at", at=beijing(due_ms))
                    tag("span", "rc-tag" if overdue else "", words)
                with tag("span", "rc-actions"):
                    possible = orders.open_to(self, incident)
                    for action in (a for a in IN_A_ROW if a in possible):
                        kind = "rc-button rc-main-button" if action in ON else "rc-button rc-quiet-button"
                        act = partial(orders.ask, self, incident, action, self.again)
                        button(orders.label(self, action), act, kind, testid=f"tasks-{incident.id}-{action}")
