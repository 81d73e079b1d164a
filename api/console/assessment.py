"""Assessment (考核) ``/assessment``: a month by street, chief or reach, the formula beside it, and the Excel file."""

import asyncio

from nicegui import ui

from api import assessment
from api.console import menu
from api.console.elements import button, link, one_language, tag
from api.console.frame import Page, cell
from api.console.models import assessment as models
from api.console.models.assessment import AssessmentPage, Line
from api.routes.assessments import spreadsheet
from governance.assessment import GroupBy, Indicator
from infra.errors import WaterError
from infra.texts import say
from infra.times import beijing


class AssessmentOfMonth(Page[AssessmentPage]):
    """A month's assessment, as far as who looks may see it."""

    entry = menu.ASSESSMENT
    section = "assessment"
    shown = 20  # a row has sixteen cells
    every_s = 0.0  # made anew for each look: it reads months of the trail

    @property
    def month(self) -> str:
        """The month of the address, else this one."""
        return self.query.get("month", "").strip() or models.month_now(self.context.clock_ms())

    @property
    def by(self) -> GroupBy:
        """What a row stands for."""
        return GroupBy(self.query["by"]) if self.query.get("by") in {*GroupBy} else GroupBy.STREET

    def read(self) -> AssessmentPage:
        context, now_ms = self.context, self.context.clock_ms()
        made, registry = assessment.make(
            context.database, context.catalogue, self.month, self.by, context.formula, now_ms=now_ms, who=self.actor
        )
        total = say("assessment.total")
        return models.page(made, lambda key: assessment.name_of(made.by, key, registry), total)

    def draw(self, model: AssessmentPage) -> None:
        with tag("div", "rc-head"):
            tag("h1", text=self.say("title", month=model.month, by=say(f"assessment.{model.by}")))
            button(
                self.say("assessment_page.excel"), self._excel, "rc-button rc-main-button", testid="assessment-excel"
            )
        with tag("form", "rc-panel rc-filter", testid="assessment-choice") as form:
            form.props["method"], form.props["action"] = "get", "/assessment"
            with tag("label", "rc-field"):
                tag("span", text=self.say("assessment_page.month"))
                with tag("select", testid="assessment-month") as select:
                    select.props["name"] = "month"
                    known = models.months(self.context.clock_ms())
                    for month in known if model.month in known else [model.month, *known]:
                        option = tag("option", text=month)
                        option.props["value"] = month
                        if month == model.month:
                            option.props["selected"] = True
            for name, value in (("by", str(model.by)), *((("lang", self.language),) if self.language != "zh" else ())):
                field = tag("input")
                field.props["type"], field.props["name"], field.props["value"] = "hidden", name, value
            go = tag("button", "rc-button", self.say("assessment_page.show"), testid="assessment-go")
            go.props["type"] = "submit"
            with tag("div", "rc-group", label=self.say("assessment_page.rows")) as group:
                group.props["role"] = "group"
                for by in GroupBy:
                    words = self.say(f"assessment.{by}")
                    choice = link(words, self.to("/assessment", month=model.month, by=by), "rc-choice")
                    choice.props["data-testid"] = f"assessment-by-{by}"
                    if by is model.by:
                        choice.props["aria-current"] = "true"
        notes = []
        if model.trial:
            notes.append(self.say("assessment_page.trial", until=self.moment(model.until_ms)))
        if model.example:
            notes.append(self.say("assessment.example"))
        if notes:
            tag("p", "rc-note", " · ".join(notes), testid="assessment-note")
        with tag("section", "rc-panel rc-part", label=self.say("assessment_page.table"), testid="assessment-table"):
            if not model.lines:
                self.empty("assessment_page.none", "assessment_page.none_next")
            else:
                heads = [self.say(f"assessment.{model.by}"), self.say("cases")]
                heads += [self.say(indicator.value) for indicator in Indicator]
                heads += [self.say("improvement"), self.say("score")]
                with self.table({str(i): words for i, words in enumerate(heads)}, figures=len(heads) - 1):
                    for line in model.lines[: self.shown]:
                        self._line(line, heads)
                    self._line(model.total, heads, total=True)
                self.more(len(model.lines))
                tag("p", "rc-quiet", self.say("assessment_page.table_note"))
        with tag("div", "rc-two"):
            with tag(
                "section", "rc-panel rc-part", label=self.say("assessment_page.formula"), testid="assessment-formula"
            ):
                tag("h2", text=self.say("assessment_page.formula"))
                with tag("ul", "rc-weights"):
                    for indicator, weight in model.weights:
                        with tag("li"):
                            tag("span", text=self.say(indicator.value))
                            tag("strong", text=f"{weight:.0%}")
                tag("p", "rc-quiet", self.say("assessment_page.how"))
                tag(
                    "p",
                    "rc-quiet",
                    self.say("assessment_page.terms", grace=model.grace_days, again=model.recurrence_days),
                )
            with tag("section", "rc-panel rc-part", label=self.say("assessment_page.basis")):
                tag("h2", text=self.say("assessment_page.basis"))
                tag("p", text=f"{self.say('until')} {beijing(model.until_ms, '%Y-%m-%d %H:%M')}")
                tag("p", text=f"{self.say('last_entry')} {model.last_n:,}")
                tag("p", "rc-quiet rc-hash", model.head)
                tag("p", "rc-quiet", self.say("reproduce"))

    def _line(self, line: Line, heads: list[str], *, total: bool = False) -> None:
        with tag("tr", "rc-total" if total else "", testid="assessment-total" if total else ""):
            cell(heads[0], self.of(line.name), "rc-row-name")
            cell(heads[1], str(line.cases), "rc-num")
            for words, one in zip(heads[2:], line.cells, strict=False):
                with cell(words, classes="rc-num"):
                    if not one.of:
                        tag("span", "rc-quiet", self.say("unavailable"))
                    else:
                        tag("span", text=one.text)
                        tag("small", text=f" {one.of}")
            cell(heads[-2], line.improvement, "rc-num")
            cell(heads[-1], line.score, "rc-num rc-score")

    async def _excel(self) -> None:
        """The file, which the trail tells of."""
        try:
            data = await asyncio.to_thread(
                lambda: spreadsheet(self.context, self.allowed_to(self.entry.right), self.month, self.by)
            )
        except WaterError as error:
            ui.notify(one_language(error.text, self.language), position="bottom", type="negative")
            return
        ui.download.content(data, f"assessment-{self.month}-{self.by}.xlsx", assessment.XLSX)
