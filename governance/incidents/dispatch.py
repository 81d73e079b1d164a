"""Standard processes (一门式): read them, find that of an incident, suggest the assignment. Pure.

``config/processes.toml`` documents the format.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from governance.incidents.deadlines import (
    DEFAULT_POLICY,
    DeadlinePolicy,
    Emergencies,
    Limit,
    Phase,
    parse_limit,
    parse_office_hours,
)
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.model import Assignment, Evidence, Incident
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import Department
from governance.organisation.terms import Appointment, responsible
from infra import toml_text
from infra.errors import ConfigurationError, text_of
from infra.texts import Text, at, joined, say
from infra.times import DAY_MS, HOUR_MS
from sensors.network import Level

_LEVELS = {level.key: level for level in Level}


@dataclass(frozen=True, slots=True)
class Process:
    """Process for one kind of incident; a result must show a text and one of ``evidence``."""

    key: str
    zh: str
    en: str
    kinds: tuple[FindingKind, ...] = ()
    parameters: tuple[str, ...] = ()
    department: Department | None = None
    joint: tuple[Department, ...] = ()
    level: Level = Level.GRID
    handle: Limit | None = None
    close_after: int | None = None
    evidence: tuple[Evidence, ...] = (Evidence.PHOTO, Evidence.MEASUREMENT)
    steps: tuple[Text, ...] = ()
    checklist: tuple[Text, ...] = ()

    @property
    def needs(self) -> tuple[frozenset[Evidence], ...]:
        """The evidence that finishing requires, as in the table of transitions."""
        text = (frozenset({Evidence.TEXT}),)
        return (*text, frozenset(self.evidence)) if self.evidence else text


@dataclass(frozen=True, slots=True)
class Processes:
    """All processes in the order of the file, and the deadlines that stand with them."""

    known: tuple[Process, ...] = ()
    policy: DeadlinePolicy = DEFAULT_POLICY

    def named(self, key: str) -> Process | None:
        return next((p for p in self.known if p.key == key), None)

    def of(self, incident: Incident) -> Process | None:
        """The process of an incident: the one somebody chose, else the first that fits."""
        if incident.case.matter:
            return self.named(incident.case.matter)
        for one in self.known:
            if incident.kind in one.kinds and (not one.parameters or incident.parameter in one.parameters):
                return one
        return None


@dataclass(frozen=True, slots=True)
class Suggestion:
    """To whom an incident could be dispatched, and as what; ``process`` is None where none fits."""

    process: Process | None
    assignment: Assignment
    matter: str = ""


def suggest(
    incident: Incident, processes: Processes, terms: Iterable[Appointment], regions: Regions, now_ms: int
) -> Suggestion:
    """Grid cell, chief and department from the place, the kind and the process.

    The cell is the incident's own, else that of its point; the chief the one in force at the process's level or the
    nearest above.
    """
    process = processes.of(incident)
    place = incident.place
    region = place.region
    if not region and place.lon is not None and place.lat is not None:
        region = regions.at(place.lon, place.lat)
    way = regions.up(region)
    wanted = process.level if process else Level.GRID
    start = next((code for code in way if code not in regions or regions[code].level <= wanted), region)
    path = [*way[way.index(start) :]] if start in way else []
    chief = ""
    terms = list(terms)
    for code in path:
        chief = responsible(terms, Place(code, place.reach), regions, now_ms)
        if chief:
            break
    return Suggestion(
        process,
        Assignment(
            region=region,
            responsible=chief,
            department=process.department if process else None,
            joint=process.joint if process else (),
        ),
        process.key if process else "",
    )


def read(text: str) -> Processes:
    """The processes of a file; raises ConfigurationError naming every row that is wrong."""
    try:
        tables = toml_text.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(say("file.no_toml", error=error)) from error
    faults = [say("process.unknown", known=name) for name in tables if name not in ("deadlines", "process")]
    found: dict[str, Process] = {}
    rows = tables.get("process", [])
    if not isinstance(rows, list):
        raise ConfigurationError(say("process.unknown", known="process"))
    for number, row in enumerate(rows, 1):
        try:
            one = _process(row)
            if one.key in found:
                raise ConfigurationError(say("process.twice"))
            found[one.key] = one
        except (ConfigurationError, ValueError, TypeError, AttributeError) as error:
            key = row.get("key", "?") if isinstance(row, Mapping) else "?"
            faults.append(at(f"process {number} ({key})", text_of(error)))
    policy = DEFAULT_POLICY
    try:
        policy = _policy(tables.get("deadlines", {}), found.values())
    except (ConfigurationError, ValueError, TypeError, AttributeError) as error:
        faults.append(at("deadlines", text_of(error)))
    if faults:
        raise ConfigurationError(joined(faults, "; "))
    return Processes(tuple(found.values()), policy)


def _process(row: Mapping[str, Any]) -> Process:
    keys = set(Process.__slots__)
    if unknown := sorted(set(row) - keys):
        raise ConfigurationError(say("process.unknown", known=", ".join(unknown)))
    for name in ("key", "zh", "en"):
        if not isinstance(row.get(name), str) or not row[name]:
            raise ConfigurationError(say("process.missing", name=name))
    level = row.get("level", "grid")
    if level not in _LEVELS:
        raise ConfigurationError(say("process.level", level=level, known=", ".join(_LEVELS)))
    after = row.get("close_after")
    if after is not None and (not isinstance(after, int) or after < 1):
        raise ConfigurationError(say("process.close_after", after=after))
    evidence = tuple(Evidence(e) for e in row.get("evidence", ["photo", "measurement"]))
    return Process(
        key=row["key"],
        zh=row["zh"],
        en=row["en"],
        kinds=tuple(FindingKind(kind) for kind in row.get("kinds", [])),
        parameters=tuple(row.get("parameters", [])),
        department=Department(row["department"]) if "department" in row else None,
        joint=tuple(Department(d) for d in row.get("joint", [])),
        level=_LEVELS[level],
        handle=parse_limit(row["handle"]) if "handle" in row else None,
        close_after=after,
        evidence=evidence,
        steps=tuple(_text(one) for one in row.get("steps", [])),
        checklist=tuple(_text(one) for one in row.get("checklist", [])),
    )


def _text(one: str | Mapping[str, str]) -> Text:
    """A step or check: ``{ zh = …, en = … }``, or one text for both languages."""
    if isinstance(one, str):
        return Text(one, one)
    for name in ("zh", "en"):
        if not isinstance(one, Mapping) or not isinstance(one.get(name), str):
            raise ConfigurationError(say("process.missing", name=name))
    return Text(one["zh"], one["en"])


MAX_POLICY_NUMBER = 10_000
"""Hours, days or readings of a policy: more is a slip of the pen."""
_POLICY_KEYS = {"emergency", "office", "remind_at", "again_h", "reopen_days", "close_after"}


def _policy(row: Mapping[str, Any], processes: Iterable[Process]) -> DeadlinePolicy:
    limits = dict(DEFAULT_POLICY.limits)
    for name, colours in row.items():
        if name in _POLICY_KEYS:
            continue
        phase = Phase(name)
        for colour, text in colours.items():
            limits[phase, Colour(colour)] = parse_limit(text)
    processes = list(processes)
    remind_at = float(row.get("remind_at", DEFAULT_POLICY.remind_at))
    if not 0 < remind_at < 1:
        raise ConfigurationError(say("process.remind_at", remind_at=remind_at))
    numbers = {name: row[name] for name in ("again_h", "reopen_days", "close_after") if name in row}
    if any(type(number) is not int or not 1 <= number <= MAX_POLICY_NUMBER for number in numbers.values()):
        raise ConfigurationError(say("process.whole", known=", ".join(numbers), most=MAX_POLICY_NUMBER))
    policy = DeadlinePolicy(
        limits=limits,
        emergencies=_emergencies(row.get("emergency", {})),
        handle={p.key: p.handle for p in processes if p.handle is not None},
        office=parse_office_hours(row["office"]) if "office" in row else DEFAULT_POLICY.office,
        remind_at=remind_at,
        again_ms=numbers.get("again_h", 24) * HOUR_MS,
        reopen_within_ms=numbers.get("reopen_days", 30) * DAY_MS,
        close_after=numbers.get("close_after", DEFAULT_POLICY.close_after),
        proof={p.key: p.close_after for p in processes if p.close_after is not None},
    )
    for phase in Phase:  # a more urgent colour never has more time
        for colour, less in zip(list(Colour), list(Colour)[1:], strict=False):
            if _approximate_hours(policy.limits[phase, colour]) > _approximate_hours(policy.limits[phase, less]):
                raise ConfigurationError(say("process.order", phase=phase, colour=colour, less=less))
    return policy


def _emergencies(row: Mapping[str, Any]) -> Emergencies:
    """The hours of reporting an emergency and its calls; minutes and hours, day and night."""
    found = Emergencies()
    spans = {name: parse_limit(text) for name, text in row.items()}
    for name, span in spans.items():
        if name not in (*found.within, "answer", "again"):
            raise ConfigurationError(say("process.emergency_unknown", name=name))
        if span.unit not in ("m", "h"):
            raise ConfigurationError(say("process.emergency_span", name=name, span=span))
    within = {grade: spans.get(grade, span) for grade, span in found.within.items()}
    return Emergencies(within, spans.get("answer", found.answer), spans.get("again", found.again))


def _approximate_hours(span: Limit) -> float:
    """A limit in hours for comparison: a working day counts as a day, an office hour as an hour."""
    return span.amount * {"m": 1 / 60, "h": 1.0, "wh": 1.0, "wd": 24.0}[span.unit]


NO_PROCESSES = Processes()
