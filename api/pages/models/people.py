"""Who is who: the regions with the people in each, who answers for each river, and how people are reached. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time

from api.pages.models.action_bar import reach_of
from api.pages.models.messages import midnight
from api.requests import whole_number
from governance.notify.contacts import Contact, Directory
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import PERSON_ROLES, ROLES_WITH_TERMS, Actor, Role
from governance.organisation.terms import Appointment, responsible
from governance.people.store import Person
from infra.errors import ConfigurationError
from infra.texts import Text, say
from infra.times import DAY_MS, beijing
from sensors.stations import Registry

ROWS = 30
MOST_ROWS = 3000
SOON_MS = 30 * DAY_MS
"""A term that ends within so long is pointed out."""
REACHABLE = ("ok", "none", "failed")
"""Whether messages reach somebody: a working channel, none at all, or the newest message failed."""
UNREACHED = "unreached"
"""A choice of those of whom there is none or it failed, of roles that get messages."""
UNTOLD = (Role.AUDITOR, Role.ADMINISTRATOR, Role.PUBLIC)
"""Roles that get no messages by what they are."""
TERMS = ("soon", "over", "none")
"""Terms that end within SOON_MS, roles with terms of which the last is over, and those never appointed."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the address narrows the list to; ``rows`` people are shown."""

    q: str = ""
    role: str = ""
    region: str = ""
    channel: str = ""
    term: str = ""
    rows: int = ROWS

    @property
    def asked(self) -> bool:
        """Whether anybody is left out by choice."""
        return bool(self.q or self.role or self.region or self.channel or self.term)


@dataclass(frozen=True, slots=True)
class PersonRow:
    """Somebody with the terms of a place, those in force first.

    ``reach`` is one of REACHABLE, "" where that is not known; ``term`` is one of TERMS, or "".
    """

    person: Person
    terms: tuple[Appointment, ...]
    reach: str
    term: str

    @property
    def until_ms(self) -> int | None:
        """When the first of the terms ends."""
        return min((t.until_ms for t in self.terms if t.until_ms is not None), default=None)


@dataclass(frozen=True, slots=True)
class Branch:
    """A region of the tree, ``depth`` steps below the highest that is shown, with those who belong right there.

    ``code`` is "" for those who belong to none.
    """

    code: str
    name: Text
    level: str
    depth: int
    people: tuple[PersonRow, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """Who answers for a river now, and until when the first of these terms lasts."""

    key: str
    name: Text
    chiefs: tuple[str, ...]
    until_ms: int | None


@dataclass(frozen=True, slots=True)
class Tallies:
    """How many rivers have no chief, terms end soon, and people of a role that gets messages cannot be reached."""

    vacant: int
    soon: int
    unreached: int


@dataclass(frozen=True, slots=True)
class PeopleList:
    """The regions with people, the rivers, and how many people there are and fit; ``more`` are not shown."""

    branches: tuple[Branch, ...]
    reaches: tuple[Answers, ...]
    tallies: Tallies
    all: int
    chosen: int
    more: bool


def choice(query: Mapping[str, str]) -> Choice:
    """What an address asks for; unknown values narrow nothing."""

    def among(name: str, known: Collection[str]) -> str:
        return query.get(name, "") if query.get(name, "") in known else ""

    rows = query.get("rows", "")
    return Choice(
        query.get("q", "").strip()[:80],
        among("role", {role.value for role in PERSON_ROLES}),
        query.get("region", "")[:64],
        among("channel", (*REACHABLE, UNREACHED)),
        among("term", TERMS),
        max(ROWS, min(whole_number(rows, 5) or 0, MOST_ROWS)),
    )


def listing(
    everybody: Sequence[Person],
    terms: Sequence[Appointment],
    registry: Registry,
    now_ms: int,
    actor: Actor,
    chosen: Choice = Choice(),
    reach: Mapping[str, str] | None = None,
) -> PeopleList:
    """The list over those whom ``actor`` may see; ``reach`` has one of REACHABLE by name, None where nobody sees it."""
    regions = Regions(registry.regions, registry.stations)
    held: dict[str, list[Appointment]] = {}
    for term in terms:
        held.setdefault(term.name, []).append(term)
    rows = {one.name: _rows(one, held.get(one.name, []), now_ms, (reach or {}).get(one.name, "")) for one in everybody}
    below = regions.within(chosen.region) if chosen.region else None
    rivers = answers(terms, registry, regions, now_ms, actor)
    names = {one.code: Text(one.zh, one.en) for one in registry.regions}
    water = {one.key: Text(one.zh, one.en) for one in registry.reaches}

    def fits(code: str, row: PersonRow) -> bool:
        words = [row.person.name, *(water[t.reach].zh for t in row.terms if t.reach in water)]
        words += [text for one in (names.get(code),) if one for text in (one.zh, one.en)]
        return (
            (not chosen.q or any(chosen.q.lower() in word.lower() for word in words))
            and chosen.role in ("", row.person.role)
            and (below is None or code in below)
            and (chosen.channel in ("", row.reach) or (chosen.channel == UNREACHED and _unreached(row)))
            and chosen.term in ("", row.term)
        )

    by_region: dict[str, list[PersonRow]] = {}
    found: set[str] = set()
    for parts in rows.values():
        for code, row in parts:
            if fits(code, row):
                by_region.setdefault(code, []).append(row)
                found.add(row.person.name)
    order = sorted(
        (r for r in registry.regions if r.code in by_region), key=lambda r: tuple(reversed(regions.up(r.code)))
    )
    top = min((regions.depth(r.code) for r in order), default=0)
    branches = [
        Branch(r.code, names[r.code], r.level.key, regions.depth(r.code) - top, _ordered(by_region[r.code]))
        for r in order
    ]
    rest = [row for code, some in by_region.items() if code not in names for row in some]
    if rest:
        branches.append(Branch("", Text("", ""), "", 0, _ordered(rest)))
    first = [part for parts in rows.values() for _, part in parts[:1]]
    tallies = Tallies(
        sum(not one.chiefs for one in rivers),
        sum(row.term == "soon" for row in first),
        sum(map(_unreached, first)),
    )
    shown, more = cut(branches, chosen.rows)
    return PeopleList(tuple(shown), rivers, tallies, len(everybody), len(found), more)


def _rows(one: Person, held: Sequence[Appointment], now_ms: int, reach: str) -> list[tuple[str, PersonRow]]:
    """Where somebody stands in the tree: in the regions of their terms, or in their own; "" for none."""
    if one.role not in ROLES_WITH_TERMS:
        return [(one.region, PersonRow(one, (), reach, ""))]
    running = [t for t in held if t.until_ms is None or t.until_ms > now_ms]
    places: dict[str, list[Appointment]] = {}
    for term in sorted(running, key=lambda t: (t.since_ms > now_ms, t.since_ms)):
        places.setdefault(term.region, []).append(term)
    if not places:
        return [("", PersonRow(one, (), reach, "over" if held else "none"))]
    return [(code, PersonRow(one, tuple(some), reach, _soon(some, now_ms))) for code, some in places.items()]


def _unreached(row: PersonRow) -> bool:
    return row.reach in ("none", "failed") and row.person.role not in UNTOLD


def _soon(terms: Sequence[Appointment], now_ms: int) -> str:
    return "soon" if any(t.until_ms is not None and t.until_ms - now_ms < SOON_MS for t in terms) else ""


def _ordered(rows: Iterable[PersonRow]) -> tuple[PersonRow, ...]:
    return tuple(sorted(rows, key=lambda row: (list(Role).index(row.person.role), row.person.name)))


def cut(branches: Sequence[Branch], rows: int) -> tuple[list[Branch], bool]:
    """The first branches with so many people together, the last one cut short, and whether some are left."""
    found: list[Branch] = []
    for branch in branches:
        if rows <= 0:
            return found, True
        people = branch.people[:rows]
        found.append(Branch(branch.code, branch.name, branch.level, branch.depth, people))
        rows -= len(people)
        if len(people) < len(branch.people):
            return found, True
    return found, False


def answers(
    terms: Sequence[Appointment], registry: Registry, regions: Regions, now_ms: int, actor: Actor
) -> tuple[Answers, ...]:
    """Who answers for each river whose stations lie here; those for which nobody does come first."""
    places: dict[str, dict[str, None]] = {}
    for station in registry.stations:
        places.setdefault(station.reach, {})[station.region] = None
    in_force: dict[str, list[Appointment]] = {}
    for term in terms:
        if term.in_force(now_ms):
            in_force.setdefault(term.region, []).append(term)
    found = []
    for reach in registry.reaches:
        here = places.get(reach.key, {})
        if actor.regions is not None and not any(actor.covers(code, reach.key) for code in here):
            continue
        names, ends = set(), []
        for code in here:
            above = [term for up in regions.up(code) for term in in_force.get(up, ())]
            name = responsible(above, Place(code, reach.key), regions, now_ms)
            if name:
                names.add(name)
                ends += [t.until_ms for t in above if t.name == name and t.reach in ("", reach.key)]
        until_ms = min((at_ms for at_ms in ends if at_ms is not None), default=None)
        found.append(Answers(reach.key, Text(reach.zh, reach.en), tuple(sorted(names)), until_ms))
    return tuple(sorted(found, key=lambda one: (bool(one.chiefs), one.key)))


def reachability(everybody: Iterable[Person], directory: Directory, failed: Collection[str]) -> dict[str, str]:
    """One of REACHABLE by name; ``failed`` are the keys of contacts whose newest message was given up."""
    by_name: dict[str, Contact] = {}
    for known in directory.contacts:
        by_name.setdefault(known.name, known)
        by_name.setdefault(known.key, known)
    found = {}
    for one in everybody:
        contact: Contact | None = by_name.get(one.name)
        found[one.name] = reach_of(
            contact is not None and bool(contact.channels), failed, contact.key if contact else ""
        )
    return found


def not_people(directory: Directory, everybody: Iterable[Person]) -> list[Contact]:
    """The contacts of the file that are nobody in the record."""
    names = {one.name for one in everybody}
    return [one for one in directory.contacts if one.in_file and one.name not in names and one.key not in names]


def day(text: str, otherwise: int | None) -> int | None:
    """The first instant in Beijing of a day of a form (``2026-10-01``); ``otherwise`` for none. ConfigurationError."""
    if not text:
        return otherwise
    try:
        return midnight(date.fromisoformat(text))
    except ValueError:
        raise ConfigurationError(say("request.no_day", text=text[:20])) from None


def day_of(at_ms: int | None) -> str:
    """A day as a form has it; "" for None."""
    return "" if at_ms is None else beijing(at_ms, "%Y-%m-%d")


def quiet(begin: str, end: str) -> tuple[time, time] | None:
    """Quiet hours of a form; None for two empty fields. Raises ConfigurationError."""
    if not begin and not end:
        return None
    try:
        found = time.fromisoformat(begin), time.fromisoformat(end)
    except ValueError:
        raise ConfigurationError(say("people_page.no_quiet")) from None
    if found[0] == found[1]:
        raise ConfigurationError(say("people_page.no_quiet"))
    return found
