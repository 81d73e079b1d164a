"""The trail ``/trail`` (审计): who changed what when, proof that nothing changed since, and how a case stood then."""

import asyncio

from nicegui import ui

from api.console import menu
from api.console.elements import button, link, one_language, pennant, tag
from api.console.frame import Page, cell
from api.console.models import trail as models
from api.console.models.names import by_whom
from api.console.models.trail import AsOf, EntryRow, TrailPage
from api.routes.audit import verify_trail
from governance.audit import trail as audit_trail
from governance.audit.trail import Verified
from governance.incidents import store as incident_store
from governance.verification import roots
from infra.errors import ConfigurationError, NotFound, WaterError
from infra.texts import Text, say
from infra.times import beijing, rfc3339

SHOWN = 30


class Trail(Page[TrailPage]):
    """The trail, for who audits."""

    entry = menu.TRAIL
    section = "audit_page"
    every_s = 0.0  # what one reads closely must not move

    def read(self) -> TrailPage:
        wanted = models.filter_of(self.query)
        with self.context.database.read() as connection:
            found = audit_trail.list_entries(
                connection,
                what=wanted.what,
                kind=wanted.kind,
                id=wanted.id,
                by=wanted.by,
                since_ms=wanted.since_ms,
                until_ms=wanted.until_ms,
                before_n=wanted.before_n,
                limit=SHOWN + 1,
            )
            entries, _ = audit_trail.head(connection)
            last = roots.newest(connection)
            signed = 0 if last is None else last.size
            then: AsOf | None = None
            problem: Text | None = None
            number, at = self.query.get("incident", "").strip(), self.query.get("at", "").strip()
            if number or at:
                try:
                    if not number.isdecimal() or len(number) > 9:
                        raise ConfigurationError(say("audit_page.give_incident"))
                    at_ms = models.moment(at) if at else self.context.clock_ms()
                    incident, history = incident_store.as_of(connection, int(number), at_ms)
                    then = AsOf(at_ms, incident, tuple(history))
                except (NotFound, ConfigurationError) as error:
                    problem = error.text
        return TrailPage(
            filter=wanted,
            rows=tuple(models.row(line, signed) for line in found[:SHOWN]),
            more=found[SHOWN - 1].n if len(found) > SHOWN else None,
            entries=entries,
            signed=signed,
            as_of=then,
            as_of_problem=problem,
        )

    def draw(self, model: TrailPage) -> None:
        with tag("div", "rc-head"):
            tag("h1", text=self.say("page_frame.trail"))
            self.verify = button(self.say("verify"), self._verify, "rc-button rc-main-button", testid="trail-verify")
        with tag("section", "rc-panel rc-part", label=self.say("verdict"), testid="trail-verdict"):
            tag("p", text=self.say("size", entries=f"{model.entries:,}", signed=f"{model.signed:,}"))
            self.verdict = tag("div", "rc-verdict")
            self.verdict.props["role"] = "status"
        self._filter(model)
        with self.panel("entries", testid="trail-entries"):
            if not model.rows:
                self.empty(
                    "nothing" if model.filter.used else "none", "nothing_next" if model.filter.used else "none_next"
                )
            else:
                heads = {name: self.say(f"column_{name}") for name in ("n", "when", "who", "what", "proof")}
                with self.table(heads):
                    for row in model.rows:
                        self._row(row, heads)
            if model.more is not None:
                kept = {name: self.query.get(name, "") for name in models.FIELDS}
                link(self.say("older"), self.to("/trail", **kept, before=model.more), "rc-button")
        self._then(model)

    def _filter(self, model: TrailPage) -> None:
        with tag("form", "rc-panel rc-filter", testid="trail-filter") as form:
            form.props["method"], form.props["action"] = "get", "/trail"
            for name in models.FIELDS:
                with tag("label", "rc-field"):
                    tag("span", text=self.say(f"filter_{name}"))
                    field = tag("input", testid=f"trail-{name}")
                    field.props["name"], field.props["value"] = name, self.query.get(name, "")
                    field.props["type"] = "date" if name in ("since", "until") else "text"
                    if name not in ("since", "until"):
                        field.props["placeholder"] = self.say(f"hint_{name}")
                    if name == "what":
                        field.props["list"] = "trail-codes"
            with tag("datalist") as known:  # words to choose by; what is looked for is the code
                known.props["id"] = "trail-codes"
                for code in audit_trail.action_codes():
                    option = tag("option", text=self.of(audit_trail.action_name(code)))
                    option.props["value"] = code
            self._language(form)
            go = tag("button", "rc-button rc-main-button", self.say("filter"), testid="trail-go")
            go.props["type"] = "submit"
            if model.filter.used:
                link(self.say("all"), self.to("/trail"), "rc-button")

    def _language(self, form: ui.element) -> None:
        if self.language != "zh":
            with form:
                field = tag("input")
                field.props["type"], field.props["name"], field.props["value"] = "hidden", "lang", self.language

    def _row(self, row: EntryRow, heads: dict[str, str]) -> None:
        with tag("tr", testid=f"trail-{row.n}"):
            cell(heads["n"], str(row.n))
            at = cell(heads["when"], self.moment(row.at_ms))
            at.props["title"] = f"{rfc3339(row.at_ms)} (UTC)"
            cell(heads["who"], self.of(row.who))
            with cell(heads["what"]), tag("div", "rc-card-body"):
                with tag("span"):
                    deed = tag("strong", text=self.of(audit_trail.action_name(row.what)))
                    deed.props["title"] = row.what
                    thing = f" {self.of(audit_trail.object_name(row.kind))} {row.id}"
                    if row.kind == "incident":
                        link(thing, self.to(f"/incidents/{row.id}"))
                    else:
                        tag("span", text=thing)
                with tag("details", "rc-more"):
                    tag("summary", text=self.say("body"))
                    tag("pre", "rc-json", row.body)
                    tag("p", "rc-quiet rc-hash", f"SHA-256 {row.hash}")
            with cell(heads["proof"]):
                if row.proven:
                    into = link(self.say("proof"), f"/api/v1/audit/{row.n}/proof", testid=f"trail-{row.n}-proof")
                    into.props["download"] = f"proof-{row.n}.json"
                else:
                    tag("span", "rc-quiet", self.say("not_proven"))

    def _walked(self) -> Verified:
        return verify_trail(self.context, self.context.outside_roots())

    async def _verify(self) -> None:
        """Walk the chain in a thread; the button waits, and the result stays until the next time."""
        self.verify.props["disabled"] = True
        self.verify.update()
        self.verdict.clear()
        with self.verdict:
            tag("p", "rc-quiet", self.say("walking"))
        try:
            found = await asyncio.to_thread(lambda: (self.allowed_to(self.entry.right), self._walked())[1])
        except WaterError as error:
            self.verdict.clear()
            with self.verdict:
                tag("p", "rc-missed", one_language(error.text, self.language))
            return
        finally:
            self.verify.props.pop("disabled", None)
            self.verify.update()
        self.verdict.clear()
        sort = models.verdict(found)
        with self.verdict:
            at = beijing(self.context.clock_ms(), "%H:%M:%S")
            words = self.say(sort, entries=f"{found.entries:,}", roots=found.roots, unsigned=found.unsigned, at=at)
            tag("strong", "rc-missed" if sort == "broken" else "rc-good", words, testid="trail-found")
            for fault in found.faults[:20]:
                tag(
                    "p",
                    "rc-missed",
                    f"{self.say(f'wrong_{fault.wrong.value}', n=fault.n, until=fault.until)} {fault.detail}",
                )
            tag("p", "rc-quiet rc-hash", self.say("head", hash=found.head))
            if not self.context.audit_keys:
                tag("p", "rc-quiet", self.say("no_keys"))

    def _then(self, model: TrailPage) -> None:
        with self.panel("as_of", testid="trail-as-of"):
            tag("p", "rc-quiet", self.say("as_of_note"))
            with tag("form", "rc-filter rc-filter-bare") as form:
                form.props["method"], form.props["action"] = "get", "/trail"
                for name, sort in (("incident", "text"), ("at", "datetime-local")):
                    with tag("label", "rc-field"):
                        tag("span", text=self.say(f"filter_{name}"))
                        field = tag("input", testid=f"trail-{name}")
                        field.props["name"], field.props["value"] = name, self.query.get(name, "")
                        field.props["type"] = sort
                self._language(form)
                go = tag("button", "rc-button", self.say("as_of_go"), testid="trail-as-of-go")
                go.props["type"] = "submit"
            if model.as_of_problem:
                tag("p", "rc-missed", one_language(model.as_of_problem, self.language)).props["role"] = "alert"
            if model.as_of is None:
                return
            then, incident = model.as_of, model.as_of.incident
            with tag("div", "rc-case-title", testid="trail-then"):
                pennant(incident.colour, self.language)
                with tag("div", "rc-card-body"):
                    tag("strong", text=self.of(incident.titled()))
                    state = self.of(say(f"state.{incident.state}"))
                    at = beijing(then.at_ms, "%Y-%m-%d %H:%M")
                    tag("span", text=self.say("then", at=at, state=state, count=len(then.history)))
                    if incident.case.responsible:
                        tag("span", "rc-quiet", self.say("incident_page.responsible", name=incident.case.responsible))
            with tag("ol", "rc-timeline"):
                for entry in reversed(then.history[-15:]):
                    with tag("li", "rc-line"):
                        with tag("p", "rc-line-head"):
                            tag("time", text=self.moment(entry.at_ms))
                            tag("span", text=self.of(by_whom(entry)))
                        tag("p", text=self.of(entry.text))
                        if entry.comment:
                            tag("blockquote", text=entry.comment)
