"""On call ``/oncall``: who of the office is on call now; for who leads or dispatches also the next weeks, changes."""

import json
from dataclasses import replace

from api.access import needed_right
from api.console import menu
from api.console.dialogs import Dialog
from api.console.elements import button, tag
from api.console.frame import Page, cell
from api.console.models import messages as models
from api.console.models.messages import CalendarDay, OnCallPage
from api.routes.notices import contact_names, plan_shifts
from governance.audit import trail as audit_trail
from governance.notify import oncall
from infra.times import DAY_MS, beijing

CHANGES = 8
_PLAN = needed_right("POST", "/oncall/shifts")
_CALENDAR = needed_right("GET", "/oncall")


class OnCall(Page[OnCallPage]):
    """The calendar of the office."""

    entry = menu.ONCALL
    section = "oncall"
    every_s = 30.0

    def read(self) -> OnCallPage:
        context, now_ms = self.context, self.context.clock_ms()
        start_ms = models.midnight(models.first_day(now_ms))
        end_ms = start_ms + 7 * models.WEEKS * DAY_MS
        with context.database.read() as connection:
            planned = oncall.shifts(connection, start_ms, end_ms)
            told = audit_trail.list_entries(connection, kind="oncall", limit=CHANGES)
        name = contact_names(context)
        known = context.notifications.directory().contacts if context.notifications else ()
        lines = ((line.at_ms, line.by, line.what, json.loads(line.body)["shifts"]) for line in told)
        return OnCallPage(
            now=tuple(tuple(map(name, keys)) for keys in oncall.ranks(planned, now_ms)),
            weeks=models.calendar(planned, now_ms, name),
            gap_ms=oncall.uncovered(planned, now_ms, end_ms),
            changes=tuple(
                replace(one, shifts=tuple((name(key), begin, end) for key, begin, end in one.shifts))
                for one in models.changes(lines)
            ),
            contacts=tuple((one.key, one.name) for one in known),
        )

    def draw(self, model: OnCallPage) -> None:
        with tag("div", "rc-head"):
            tag("h1", text=self.say("page_frame.oncall"))
            if self.actor.may(_PLAN) and model.contacts:
                button(self.say("change"), self._change, "rc-button rc-main-button", testid="oncall-change")
        with tag("section", "rc-panel rc-part", label=self.say("now"), testid="oncall-now"):
            tag("h2", text=self.say("now"))
            if model.now:
                with tag("p", "rc-now"):
                    for rank, people in enumerate(model.now, 1):
                        words = "、".join(people) if self.language == "zh" else ", ".join(people)
                        tag("strong", text=words)
                        if len(model.now) > 1:
                            tag("span", "rc-quiet", self.say("rank", rank=rank))
            else:
                self.empty("nobody" if model.contacts else "no_contacts", testid="oncall-nobody")
            if model.gap_ms is not None and model.now and self.actor.may(_CALENDAR):
                tag("p", "rc-missed", self.say("gap", at=self.moment(model.gap_ms)), testid="oncall-gap")
        if self.actor.may(_CALENDAR):
            self._calendar(model)
            self._changes(model)

    def _calendar(self, model: OnCallPage) -> None:
        with self.panel("calendar", testid="oncall-calendar"):
            if model.gap_ms is not None and not any(
                duty.people for week in model.weeks for d in week for duty in d.duties
            ):
                mine = "nobody_next" if self.actor.may(_PLAN) else "nobody_office"
                known = model.contacts or not self.actor.may(_PLAN)
                self.empty("none_planned", mine if known else "no_contacts_next")
                return
            with tag("div", "rc-calendar"):
                for i in range(7):
                    tag("span", "rc-weekday", self.say(f"day_{i}"))
                for week in model.weeks:
                    for day in week:
                        self._day(day)
            tag("p", "rc-quiet", self.say("calendar_note"))

    def _changes(self, model: OnCallPage) -> None:
        with self.panel("changes", testid="oncall-changes"):
            if not model.changes:
                self.empty("no_changes", "no_changes_next")
                return
            heads = {name: self.say(f"column_{name}") for name in ("when", "by", "what")}
            with self.table(heads):
                for one in model.changes:
                    with tag("tr"):
                        cell(heads["when"], self.moment(one.at_ms))
                        cell(heads["by"], one.by)
                        with cell(heads["what"]), tag("div", "rc-card-body"):
                            tag("span", text=self.say("replaced" if one.what.endswith("replaced") else "added"))
                            for person, begin, end in one.shifts[:4]:
                                span = f"{beijing(begin)} – {beijing(end)}"
                                tag("span", "rc-quiet", f"{person} {span}")
                            if len(one.shifts) > 4:
                                tag("span", "rc-quiet", self.say("messages_page.and_more", count=len(one.shifts) - 4))

    def _day(self, day: CalendarDay) -> None:
        changed = any(duty.changed for duty in day.duties)
        with tag("div", f"rc-day rc-day-{day.sort}" + (" rc-day-changed" if changed else "")) as box:
            if day.sort == "today":
                box.props["aria-current"] = "date"
            tag(
                "span",
                "rc-day-name",
                f"{day.day:%m-%d}" if day.day.day == 1 or day.sort == "today" else f"{day.day:%d}",
            )
            tag("span", "rc-day-long", f"{day.day:%m-%d} {self.say(f'day_{day.day.weekday()}')}")
            for duty in day.duties:
                with tag("span", "rc-duty" + ("" if duty.people or day.sort == "past" else " rc-missed")):
                    if duty.from_time:
                        tag("small", text=duty.from_time)
                    words = " / ".join(("、" if self.language == "zh" else ", ").join(names) for names in duty.people)
                    tag("span", text=words or self.say("gap_short"))
                    if duty.changed:
                        tag("small", "rc-tag", self.say("changed"))

    async def _change(self) -> None:
        dialog = Dialog(self, self.say("change"), self.say("change_note"))
        person = dialog.choice("person", self.say("person"), dict(self.model.contacts))
        begins = dialog.moment("begins", self.say("begins"))
        until = dialog.moment("until", self.say("until"))
        rank = dialog.number("rank", self.say("rank_field"), 1, 9, whole=True)
        rank.value = 1

        def work() -> None:
            made = models.shift(str(person.value or ""), begins.value or "", until.value or "", rank.value)
            plan_shifts(self.context, self.allowed_to(_PLAN), [made])

        async def submit() -> None:
            await self.do(work, self.say("change_made"))

        dialog.open(self.say("change_go"), submit)
