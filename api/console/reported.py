"""What one reported oneself ``/reported``: the words, the photos, and where it stands as the public is told it.

Whoever reports something in another region than their own does not see its case; this they see.
"""

from dataclasses import dataclass
from datetime import datetime

from api.console import menu
from api.console.elements import link, tag
from api.console.frame import Page
from api.routes.reports import OwnReport, reported_by
from infra.times import to_ms

SHOWN = 100


@dataclass(frozen=True, slots=True)
class Reported:
    """Own reports, newest first."""

    rows: tuple[OwnReport, ...]


class ReportedPage(Page[Reported]):
    """The list of own reports."""

    entry = menu.REPORTED
    section = "own_reports"

    def title(self, model: Reported) -> str:
        return self.say("title")

    def read(self) -> Reported:
        return Reported(tuple(reported_by(self.context, self.actor, SHOWN)))

    def draw(self, model: Reported) -> None:
        with tag("div", "rc-head"):
            tag("h1", text=self.say("title"))
            with tag("div", "rc-tools"):
                link(
                    self.say("report_page.title"),
                    self.to(menu.REPORT.path),
                    "rc-button rc-main-button",
                    testid="report-new",
                )
                link(self.say("all"), self.to("/incidents"), "rc-button")
        tag("p", "rc-quiet", self.say("note"))
        if (new := self.query.get("new", "")) in {str(one.incident) for one in model.rows}:
            with tag("section", "rc-panel rc-part", label=self.say("thanks", id=new), testid="reported-thanks"):
                tag("strong", text=self.say("thanks", id=new))
                tag("p", "rc-quiet", self.say("thanks_next"))
        with tag("section", "rc-panel rc-incidents", label=self.say("title")):
            if not model.rows:
                self.empty("none", "none_next", testid="reported-empty")
            with tag("ul", "rc-list", testid="reported-list"):
                for one in model.rows:
                    with tag("li", "rc-row" + (" rc-closed" if one.over else ""), testid=f"reported-{one.incident}"):
                        self._row(one)

    def _row(self, one: OwnReport) -> None:
        with tag("div", "rc-row-body"):
            tag("p", "rc-said", one.words)
            with tag("div", "rc-row-foot"):
                link(f"#{one.incident}", self.to(f"/incidents/{one.incident}"))
                tag("span", text=self.say("sent", at=self._at(one.at)))
                tag("strong", text=self.of(one.text))
                tag("span", text=self.say("console.since", at=self._at(one.since)))
            if one.photos:
                with tag("p", "rc-line-photos"):
                    for photo in one.photos:
                        with link("", f"/api/v1/attachments/{photo}"):
                            image = tag("img")
                            image.props["src"] = f"/api/v1/attachments/{photo}"
                            image.props["alt"], image.props["loading"] = self.say("photo"), "lazy"

    def _at(self, at: str) -> str:
        return self.moment(to_ms(datetime.fromisoformat(at)))
