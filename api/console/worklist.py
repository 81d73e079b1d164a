"""The work list ``/worklist`` (待办): what waits for who looks, most urgent first, and the actions for it."""

from dataclasses import dataclass
from functools import partial

from api.console import incident_actions, menu
from api.console.elements import button, link, pennant, tag
from api.console.frame import Page
from api.console.models import incident as models
from api.console.models.incident_actions import IN_A_ROW, ON
from governance.incidents import store as incident_store
from governance.incidents.model import Incident
from infra.texts import say

LIMIT = 200
SHOWN = 30
"""Rows at first; the rest, less urgent, waits behind a button."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits, most urgent first."""

    rows: tuple[Incident, ...]
    others: int = 0
    """Open incidents within reach that wait for others; counted where nothing waits for who looks."""


class TasksPage(Page[Waiting]):
    """One person's work list."""

    entry = menu.TASKS
    all_rows = False

    def read(self) -> Waiting:
        with self.context.database.read() as connection:
            found = incident_store.worklist(connection, self.actor, self.context.clock_ms(), limit=LIMIT)
            if found:
                rows = tuple(incident for incident, _ in found)
                self.read_titles(rows)
                return Waiting(rows)
            others = incident_store.list_incidents(
                connection, open_only=True, within=incident_store.jurisdiction_filter(self.actor), limit=LIMIT
            )
        return Waiting((), len(others))

    def draw(self, model: Waiting) -> None:
        with tag("section", "rc-panel rc-incidents", label=self.say("tasks")):
            with tag("div", "rc-head"):
                tag("h1", text=self.say("tasks"))
            with tag("ul", "rc-list", testid="tasks-list"):
                if not model.rows:
                    with tag("li", "rc-empty", testid="tasks-empty"):
                        tag("p", text=self.say("no_tasks"))
                        tag(
                            "p",
                            "rc-quiet",
                            self.say("with_others" if model.others else "nothing_open", count=model.others),
                        )
                        if model.others:
                            link(self.say("see_them"), self.to("/incidents"))
                for incident in model.rows if self.all_rows else model.rows[:SHOWN]:
                    with tag("li", "rc-row", testid=f"tasks-{incident.id}"):
                        pennant(incident.colour, self.language)
                        self._task(incident)
            if len(model.rows) > SHOWN and not self.all_rows:
                words = self.say("more", count=len(model.rows) - SHOWN)
                button(words, self._all_rows, "rc-button", testid="tasks-more")

    def _all_rows(self) -> None:
        self.all_rows = True
        self.redraw()

    def _task(self, incident: Incident) -> None:
        with tag("div", "rc-row-body"):
            into = link("", self.to(f"/incidents/{incident.id}"), "rc-row-title rc-link")
            self.tick(into, lambda _: self.headline(incident))
            with tag("div", "rc-row-foot"):
                tag("span", "rc-number", f"#{incident.id}")
                tag("span", text=self.of(say(f"state.{incident.state}")))
                tag("span", text=self.say("since", at=self.moment(incident.since_ms)))
                if incident.case.due_ms is not None or incident.case.paused_at_ms is not None:
                    sort, _ = models.deadline(incident, self.context.clock_ms())
                    due = tag("span", f"rc-due rc-due-{sort}", testid=f"tasks-{incident.id}-due")
                    self.tick(due, lambda now_ms: self.of(models.deadline(incident, now_ms)[1]))
                if incident.retrospective:
                    tag("span", "rc-tag", self.say("retrospective"))
                with tag("span", "rc-actions"):
                    possible = incident_actions.open_to(self, incident)
                    for action in (a for a in IN_A_ROW if a in possible):
                        kind = "rc-button rc-main-button" if action in ON else "rc-button rc-quiet-button"
                        act = partial(incident_actions.ask, self, incident, action, self.again)
                        button(incident_actions.label(self, action), act, kind, testid=f"tasks-{incident.id}-{action}")
