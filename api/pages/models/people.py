"""Who is who: the five levels with the people in each, and who answers for each reach. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from api.pages.models.messages import midnight
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import ROLES_WITH_TERMS, Actor, Role
from governance.organisation.terms import Appointment, responsible
from governance.people.store import Person
from infra.errors import ConfigurationError
from infra.texts import Text, say
from sensors.stations import Registry


@dataclass(frozen=True, slots=True)
class TermRow:
    """A term: ``reach`` "" for all water of the region; ``sort`` is ``now``, ``ahead`` or ``over``."""

    region: str
    reach: str
    deputy_of: str
    since_ms: int
    until_ms: int | None
    sort: str


@dataclass(frozen=True, slots=True)
class PersonRow:
    """Somebody with the terms of a place, those in force first."""

    person: Person
    terms: tuple[TermRow, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """A region of the tree, ``depth`` steps below the highest that is shown, with those who belong right there."""

    code: str
    name: Text
    level: str
    depth: int
    people: tuple[PersonRow, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """Who answers for a reach now, until when the first of these terms lasts, and whether nobody does."""

    key: str
    name: Text
    chiefs: tuple[str, ...]
    until_ms: int | None


@dataclass(frozen=True, slots=True)
class PeoplePage:
    """The tree, those without a place in it, and the reaches."""

    branches: tuple[Branch, ...]
    unplaced: tuple[PersonRow, ...]
    reaches: tuple[Answers, ...]
    everybody: tuple[Person, ...]
    regions: tuple[tuple[str, Text, int], ...]


def page(
    everybody: Sequence[Person],
    terms: Sequence[Appointment],
    registry: Registry,
    now_ms: int,
    actor: Actor,
) -> PeoplePage:
    """The page over those whom ``actor`` may see, with the regions and reaches within their reach."""
    regions = Regions(registry.regions)
    waters = {code for _, code in actor.waters}
    shown = [r for r in registry.regions if actor.covers(r.code) or waters & {r.code, ""}]
    order = sorted(shown, key=lambda r: tuple(reversed(regions.up(r.code))))
    top = min((len(regions.up(r.code)) for r in shown), default=1)
    branches, placed = [], set()
    for region in order:
        here = []
        for person in everybody:
            mine = _terms(terms, person.name, now_ms, region.code)
            held = [t for t in mine if t.sort != "over"]
            at_home = person.region == region.code and person.role not in ROLES_WITH_TERMS
            if held or at_home:
                here.append(PersonRow(person, tuple(held)))
                placed.add(person.name)
        here.sort(key=lambda row: (list(Role).index(row.person.role), row.person.name))
        branches.append(
            Branch(
                region.code,
                Text(region.zh, region.en),
                region.level.key,
                len(regions.up(region.code)) - top,
                tuple(here),
            )
        )
    unplaced = tuple(PersonRow(p, tuple(_terms(terms, p.name, now_ms))) for p in everybody if p.name not in placed)
    return PeoplePage(
        branches=tuple(branches),
        unplaced=unplaced,
        reaches=answers(terms, registry, regions, now_ms, actor),
        everybody=tuple(everybody),
        regions=tuple((b.code, b.name, b.depth) for b in branches),
    )


def first(branches: Sequence[Branch], rows: int) -> list[Branch]:
    """The first branches with so many rows together, the last one cut short; a branch and each person are a row."""
    found = []
    for branch in branches:
        if rows <= 0:
            break
        found.append(replace(branch, people=branch.people[: rows - 1]))
        rows -= 1 + len(branch.people)
    return found


def answers(
    terms: Sequence[Appointment], registry: Registry, regions: Regions, now_ms: int, actor: Actor
) -> tuple[Answers, ...]:
    """Who answers for each reach whose stations lie here; those for which nobody does come first."""
    found = []
    for reach in registry.reaches:
        places = {s.region for s in registry.stations if s.reach == reach.key}
        if actor.regions is not None and not any(actor.covers(code, reach.key) for code in places):
            continue
        names = {responsible(terms, Place(code, reach.key), regions, now_ms) for code in places} - {""}
        ends = [
            t.until_ms
            for t in terms
            if t.name in names and t.in_force(now_ms) and t.reach in ("", reach.key) and t.until_ms is not None
        ]
        found.append(Answers(reach.key, Text(reach.zh, reach.en), tuple(sorted(names)), min(ends, default=None)))
    return tuple(sorted(found, key=lambda one: (bool(one.chiefs), one.key)))


def _terms(terms: Iterable[Appointment], name: str, now_ms: int, region: str | None = None) -> list[TermRow]:
    rows = [
        TermRow(
            t.region,
            t.reach,
            t.deputy_of,
            t.since_ms,
            t.until_ms,
            "now" if t.in_force(now_ms) else "ahead" if t.since_ms > now_ms else "over",
        )
        for t in terms
        if t.name == name and (region is None or t.region == region)
    ]
    return sorted(rows, key=lambda t: (("now", "ahead", "over").index(t.sort), t.since_ms))


def day(text: str, otherwise: int | None) -> int | None:
    """The first instant in Beijing of a day of a form (``2026-10-01``); ``otherwise`` for none. ConfigurationError."""
    if not text:
        return otherwise
    try:
        return midnight(date.fromisoformat(text))
    except ValueError:
        raise ConfigurationError(say("request.no_day", text=text[:20])) from None
