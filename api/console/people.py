"""People and regions ``/people``: five levels, chiefs of each reach, terms; the administrator appoints successors."""

from functools import partial

from api.access import needed_right
from api.console import menu
from api.console.dialogs import Dialog
from api.console.elements import button, link, tag
from api.console.frame import Page, cell
from api.console.models import people as models
from api.console.models.people import PeoplePage, PersonRow, TermRow
from governance.incidents.finding import Colour
from governance.notify import person_contacts
from governance.notify.contacts import Channel
from governance.notify.person_contacts import ContactDetails
from governance.organisation.roles import PERSON_ROLES, ROLES_WITH_TERMS, Department, Role
from governance.people import store as people_store
from governance.people.store import Person
from infra.errors import ConfigurationError
from infra.texts import say
from infra.times import DAY_MS, beijing

_CHANGE = needed_right("POST", "/people")
SOON_MS = 30 * DAY_MS
"""A term that ends within so long is pointed out."""


class PeopleOfTheSite(Page[PeoplePage]):
    """Who is who, within reach of who looks."""

    entry = menu.PEOPLE
    section = "people_page"
    shown = 20  # of three lists on one page, each person with a menu
    every_s = 30.0

    def read(self) -> PeoplePage:
        context, now_ms = self.context, self.context.clock_ms()
        registry = self.shared.registries.recent()
        with context.database.read() as connection:
            terms = people_store.appointments(connection)
            everybody = people_store.list_people(connection)
        shown = people_store.visible_people(self.actor, everybody, terms, self.keeper.regions(), now_ms)
        return models.page(shown, terms, registry, now_ms, self.actor)

    def draw(self, model: PeoplePage) -> None:
        may = self.actor.may(_CHANGE)
        with tag("div", "rc-head"):
            tag("h1", text=self.say("page_frame.people"))
            if may:
                with tag("div", "rc-do-row"):
                    button(self.say("appoint"), self._appoint, "rc-button rc-main-button", testid="people-appoint")
                    button(self.say("add"), self._add, "rc-button", testid="people-add")
        with tag("div", "rc-two rc-case"):
            with self.panel("levels", testid="people-levels"):
                if not model.branches:
                    self.empty("no_regions", "no_regions_next")
                for branch in models.first(model.branches, self.shown):
                    with tag("div", "rc-branch") as row:
                        row.style(f"--depth:{branch.depth}")
                        with tag("p", "rc-branch-name"):
                            tag("strong", text=self.of(branch.name))
                            level = self.say(f"river.level_{branch.level}")
                            tag("span", "rc-quiet", level if branch.people else f"{level} · {self.say('nobody_here')}")
                        for one in branch.people:
                            self._person(one, may)
            with tag("div", "rc-stack"):
                self._reaches(model)
                if model.unplaced:
                    with self.panel("unplaced", testid="people-unplaced"):
                        tag("p", "rc-quiet", self.say("unplaced_note"))
                        for one in model.unplaced[: self.shown]:
                            self._person(one, may)
        rows = sum(1 + len(branch.people) for branch in model.branches)
        self.more(max(rows, len(model.unplaced), len(model.reaches)))

    def _person(self, row: PersonRow, may: bool) -> None:
        person = row.person
        with tag("div", "rc-member", testid=f"person-{person.id}"):
            with tag("div", "rc-card-body"):
                with tag("span"):
                    tag("strong", text=person.name)
                    role = self.say(f"person.{person.role}")
                    if person.department:
                        role += " · " + self.say(f"department.{person.department}")
                    tag("span", "rc-member-role", role)
                for term in row.terms:
                    tag("span", "rc-missed" if self._ends(term) else "rc-quiet", self._term(term))
            if may:
                with tag("details", "rc-menu"):
                    summary = tag("summary", "rc-button rc-quiet-button", self.say("more"))
                    summary.props["aria-label"] = self.say("more_of", name=person.name)
                    with tag("div", "rc-menu-list rc-menu-right"):
                        if person.role in ROLES_WITH_TERMS:
                            appoint = partial(self._appoint, person.name)
                            button(self.say("appoint"), appoint, "rc-button rc-quiet-button")
                        button(self.say("contact"), partial(self._contact, person), "rc-button rc-quiet-button")
                        button(self.say("token"), partial(self._token, person), "rc-button rc-quiet-button")
                        button(self.say("remove"), partial(self._remove, person), "rc-button rc-quiet-button")

    def _ends(self, term: TermRow) -> bool:
        return term.until_ms is not None and term.until_ms - self.context.clock_ms() < SOON_MS

    def _term(self, term: TermRow) -> str:
        names = {r.key: r for r in self.shared.registries.recent().reaches}
        water = names.get(term.reach)
        parts = [self.say("all_water") if water is None else water.zh if self.language == "zh" else water.en]
        if term.deputy_of:
            parts.append(self.say("river.helps", name=term.deputy_of))
        since = beijing(term.since_ms, "%Y-%m-%d")
        if term.until_ms is None:
            parts.append(self.say("river.term_open", since=since))
        else:
            parts.append(self.say("river.term", since=since, until=beijing(term.until_ms, "%Y-%m-%d")))
        return " · ".join(parts)

    def _reaches(self, model: PeoplePage) -> None:
        with self.panel("of_reaches", testid="people-reaches"):
            if not model.reaches:
                self.empty("no_reaches")
                return
            heads = {name: self.say(f"column_{name}") for name in ("reach", "chiefs", "until")}
            with self.table(heads):
                for one in model.reaches[: self.shown]:
                    with tag("tr"):
                        with cell(heads["reach"]):
                            link(self.of(one.name), self.to(f"/reaches/{one.key}"))
                        names = ("、" if self.language == "zh" else ", ").join(one.chiefs)
                        cell(heads["chiefs"], names or self.say("vacant"), "" if names else "rc-missed")
                        until = "—" if one.until_ms is None else beijing(one.until_ms, "%Y-%m-%d")
                        soon = one.until_ms is not None and one.until_ms - self.context.clock_ms() < SOON_MS
                        cell(heads["until"], until, "rc-missed" if soon else "")

    # -- what the administrator does ---------------------------------------------------------------------------------

    async def _add(self) -> None:
        dialog = Dialog(self, self.say("add"), self.say("add_note"))
        name = dialog.text("name", self.say("name"))
        role = dialog.choice(
            "role", self.say("role"), {r.value: self.say(f"person.{r}") for r in Role if r in PERSON_ROLES}
        )
        region = dialog.choice("region", self.say("region"), self._regions())
        department = dialog.choice(
            "department", self.say("department"), {d.value: self.say(f"department.{d}") for d in Department}
        )

        def work() -> None:
            actor = self.allowed_to(_CHANGE)
            if not role.value:
                raise ConfigurationError(say("people_page.no_role"))
            with self.context.database.write() as connection:
                people_store.add(
                    connection,
                    name.value or "",
                    Role(role.value),
                    region=region.value or "",
                    department=Department(department.value) if department.value else None,
                    by=actor.name,
                    now_ms=self.context.clock_ms(),
                    regions=self.keeper.regions(),
                )
            self.keeper.forget()

        async def submit() -> None:
            await self.do(work, self.say("added"))

        dialog.open(self.say("add"), submit)

    async def _appoint(self, who: str = "") -> None:
        dialog = Dialog(self, self.say("appoint"), self.say("appoint_note"))
        options = {
            p.name: f"{p.name} · {self.say(f'person.{p.role}')}"
            for p in self.model.everybody
            if p.role in ROLES_WITH_TERMS
        }
        person = dialog.choice("person", self.say("who"), options, who or None)
        region = dialog.choice("region", self.say("region"), self._regions())
        reaches = {r.key: r.zh if self.language == "zh" else r.en for r in self.shared.registries.recent().reaches}
        reach = dialog.choice("reach", self.say("reach"), reaches)
        helped = {p.name: p.name for p in self.model.everybody if p.role in (Role.CHIEF, Role.GENERAL_CHIEF)}
        deputy_of = dialog.choice("deputy_of", self.say("deputy_of"), helped)
        since = dialog.moment("since", self.say("since"), day=True)
        until = dialog.moment("until", self.say("until"), day=True)
        moved: list[int] = []

        def work() -> None:
            actor, now_ms = self.allowed_to(_CHANGE), self.context.clock_ms()
            with self.context.database.write() as connection:
                moved.extend(
                    people_store.appoint(
                        connection,
                        str(person.value or ""),
                        region=region.value or "",
                        reach=reach.value or "",
                        deputy_of=deputy_of.value or "",
                        since_ms=models.day(since.value or "", now_ms) or now_ms,
                        until_ms=models.day(until.value or "", None),
                        by=actor.name,
                        now_ms=now_ms,
                        source=self.context.source,
                        regions=self.keeper.regions(),
                    )
                )
            self.keeper.forget()

        async def submit() -> None:
            moved.clear()
            await self.do(work, self.say("appointed"))
            if moved:
                told = Dialog(self, self.say("inherited", count=len(moved)), self.say("inherited_note"))
                with told.form, tag("p", testid="people-inherited"):
                    for number in moved[:30]:
                        link(f"#{number} ", self.to(f"/incidents/{number}"))
                told.open(self.say("good"), _nothing)

        dialog.open(self.say("appoint"), submit)

    async def _remove(self, person: Person) -> None:
        dialog = Dialog(self, self.say("remove_ask", name=person.name), self.say("remove_note"))

        def work() -> None:
            actor = self.allowed_to(_CHANGE)
            with self.context.database.write() as connection:
                people_store.remove(connection, person.name, by=actor.name, now_ms=self.context.clock_ms())
            self.keeper.forget()

        async def submit() -> None:
            await self.do(work, self.say("removed"))

        dialog.open(self.say("remove"), submit)

    async def _contact(self, person: Person) -> None:
        """How somebody is reached; addresses that are kept are not shown, and stay while the fields are empty."""
        with self.context.database.read() as connection:
            kept = person_contacts.read_all(connection, self.context.vault, (person.name,)).get(person.name)
        note = self.say("contact_note")
        if kept:
            kinds = ", ".join(one.kind for one in kept.channels)
            note = f"{self.say('contact_kept', kinds=kinds)} {note}"
        dialog = Dialog(self, self.say("contact_of", name=person.name), note)
        hint = self.say("contact_hint")
        first = dialog.text("channel", self.say("contact_first"), hint=hint)
        second = dialog.text("second", self.say("contact_second"))
        short = dialog.check("short", self.say("contact_short"))
        colours = {c.value: self.say(f"incident.{c}") for c in Colour}
        least = dialog.choice("least", self.say("contact_least"), colours, str(kept.least if kept else Colour.BLUE))
        forget = dialog.check("forget", self.say("contact_forget")) if kept else None

        def work() -> None:
            actor, now_ms = self.allowed_to(_CHANGE), self.context.clock_ms()
            urls = [text for text in ((first.value or "").strip(), (second.value or "").strip()) if text]
            ways = tuple(Channel(url, bool(short.value)) for url in urls) or (kept.channels if kept else ())
            reach = ContactDetails(kept.language if kept else "zh", Colour(least.value or Colour.BLUE), ways)
            with self.context.database.write() as connection:
                if forget is not None and forget.value:
                    person_contacts.remove(connection, person.name, by=actor.name, now_ms=now_ms)
                else:
                    vault = self.context.vault
                    person_contacts.put(connection, person.name, reach, vault, by=actor.name, now_ms=now_ms)

        async def submit() -> None:
            await self.do(work, self.say("contact_done"))

        dialog.open(self.say("contact_keep"), submit)

    async def _token(self, person: Person) -> None:
        dialog = Dialog(self, self.say("token_ask", name=person.name), self.say("token_note"))
        made: list[str] = []

        def work() -> None:
            actor = self.allowed_to(_CHANGE)
            with self.context.database.write() as connection:
                now_ms, good_ms = self.context.clock_ms(), self.context.token_ms
                made.append(
                    people_store.issue_token(connection, person.name, by=actor.name, now_ms=now_ms, good_ms=good_ms)
                )

        async def submit() -> None:
            await self.do(work, self.say("token_made"))
            told = Dialog(self, self.say("token_once", name=person.name), self.say("token_keep"))
            with told.form:
                tag("code", "rc-token", made[-1], testid="people-token")
            told.open(self.say("good"), _nothing)

        dialog.open(self.say("token"), submit)

    def _regions(self) -> dict[str, str]:
        return {code: "　" * depth + self.of(name) for code, name, depth in self.model.regions}


async def _nothing() -> None:
    """A dialog that only tells something."""
