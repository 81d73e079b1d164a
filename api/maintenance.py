"""The care of stations: what was done there, what the visits showed, and what is due."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from api.context import Context
from api.registries import find
from governance.incidents import queries as incident_queries
from governance.incidents.finding import FindingKind
from governance.incidents.lifecycle import in_jurisdiction
from governance.incidents.model import Incident
from governance.organisation.roles import Actor
from infra.times import DAY_MS
from ingest.rejudge.visits import medians_around_visit
from ingest.storage import maintenance as store
from ingest.storage.port import Latest
from sensors.maintenance import Check, CheckDue, Visit, checks_due
from sensors.reading import QualityTest
from sensors.standards import hj915
from sensors.stations import Deployment, Registry, Station

FINDINGS = (FindingKind.DEVICE, FindingKind.NO_DATA)
"""What sends somebody to a station: what its devices say or show of themselves, and silence."""
AT_MOST = 1000
"""Open findings looked at."""
DOUBTED_MS = 6 * 3_600_000
"""A sensor whose readings were all suspect for so long is in doubt; an engineering choice."""
MOST_STOPS = 25
"""Stations of one day's route: more than anybody does."""
LOOKED_INTO = 5
"""Number of newest visits of a station whose effect is computed."""


@dataclass(frozen=True, slots=True)
class MaintenanceSummary:
    """How a station stands: who works there now, what was found, when its sensors are to be checked.

    ``newest_at_ms`` is its newest reading, ``visited_ms`` the end of its last visit, None for none. ``visit_due_ms``
    is when somebody has to be there again; None where nobody ever was, as far as anybody wrote it down. ``doubted`` are
    the sensors whose readings are suspect throughout, ``latest`` the newest usable values.
    """

    station: Station
    working: tuple[int, Visit] | None
    findings: tuple[Incident, ...]
    due: tuple[CheckDue, ...]
    newest_at_ms: int | None
    visited_ms: int | None
    doubted: tuple[str, ...] = ()
    latest: tuple[Latest, ...] = ()

    @property
    def visit_due_ms(self) -> int | None:
        return None if self.visited_ms is None else self.visited_ms + hj915.visit_days() * DAY_MS


@dataclass(frozen=True, slots=True)
class Jump:
    """What a sensor showed before a visit and after it (medians in the canonical unit; None where they cannot be
    computed).

    ``doubtful_since_ms``: the jump is unusual for that time of the day, so that the readings since then are doubtful.
    """

    parameter: str
    medians: tuple[float, float] | None
    doubtful_since_ms: int | None


@dataclass(frozen=True, slots=True)
class VisitResult:
    """A visit that is over, or goes on, with what it changed."""

    number: int
    visit: Visit
    jumps: tuple[Jump, ...]


@dataclass(frozen=True, slots=True)
class StationMaintenance:
    """A station with what was done there, newest first; ``sensors`` are the parameters that it has."""

    care: MaintenanceSummary
    sensors: tuple[str, ...]
    visits: tuple[VisitResult, ...]
    checks: tuple[tuple[int, Check], ...]


def of_all(
    context: Context, registry: Registry, who: Actor, only: Collection[str] | None = None
) -> list[MaintenanceSummary]:
    """How every station stands, or those with these keys. Raises StorageUnavailable."""
    return _summaries(context, registry, who, [one for one in registry.stations if only is None or one.key in only])


def of_station(context: Context, registry: Registry, who: Actor, key: str) -> StationMaintenance:
    """A station and what was done there. Raises NotFound, StorageUnavailable."""
    station = find(registry, key)
    (summary,) = _summaries(context, registry, who, [station])
    with context.database.read() as connection:
        visits = store.visits(connection, key)[::-1]
        checks = store.checks(connection, key)[::-1]
        doubtful_since = {
            (span.parameter, span.end_ms): span.start_ms
            for span in store.marks(connection)
            if span.station == key and span.test is QualityTest.DRIFT
        }
    sensors = tuple(one.parameter for one in summary.due)
    done = []
    for i, (number, visit) in enumerate(visits):
        touched = [one for one in sensors if not visit.parameters or one in visit.parameters]
        medians = medians_around_visit(visit, touched, context.store) if i < LOOKED_INTO else {}
        jumps = [
            Jump(one, medians.get(one), doubtful_since.get((one, visit.since_ms)))
            for one in touched
            if one in medians or (one, visit.since_ms) in doubtful_since
        ]
        done.append(VisitResult(number, visit, tuple(jumps)))
    return StationMaintenance(summary, sensors, tuple(done), tuple(checks))


def _summaries(
    context: Context, registry: Registry, who: Actor, stations: Collection[Station]
) -> list[MaintenanceSummary]:
    now_ms = context.clock_ms()
    only = next(iter(stations)).key if len(stations) == 1 else None
    with context.database.read() as connection:
        ended = store.ended_visits(connection, now_ms, only)
        going = store.current_visits(connection, now_ms, only)
        checks = store.newest_checks(connection, only)
        found = incident_queries.list_incidents(connection, open_only=True, station=only, kinds=FINDINGS, limit=AT_MOST)
    newest: dict[str, dict[str, int]] = defaultdict(dict)
    doubted: dict[str, list[str]] = defaultdict(list)
    latest: dict[str, list[Latest]] = defaultdict(list)
    for row in context.store.latest([one.key for one in stations]) if stations else ():
        latest[row.station].append(row)
        newest[row.station][row.parameter] = row.newest_at_ms
        if row.at_ms is not None and row.newest_at_ms - row.at_ms > DOUBTED_MS:
            doubted[row.station].append(row.parameter)
    wanted: dict[str, list[Incident]] = defaultdict(list)
    for incident in found:
        if in_jurisdiction(incident, who):
            for key in {c.station for c in incident.conditions} | {incident.station}:
                wanted[key].append(incident)
    checked: dict[str, list[Check]] = defaultdict(list)
    for check in checks:
        checked[check.station].append(check)
    deployed: dict[str, list[Deployment]] = defaultdict(list)
    for one in registry.deployments:
        deployed[one.station].append(one)
    views = []
    for station in stations:
        key = station.key
        hung = deployed[key]
        hangs = {d.parameter for d in hung if d.since_ms <= now_ms and (d.until_ms is None or d.until_ms > now_ms)}
        sensors = sorted({*newest[key], *hangs}, key=context.catalogue.index.__getitem__)
        views.append(
            MaintenanceSummary(
                station=station,
                working=going.get(key),
                findings=tuple(wanted[key]),
                due=tuple(checks_due(sensors, checked[key], hung, now_ms)),
                newest_at_ms=max(newest[key].values(), default=None),
                visited_ms=ended.get(key),
                doubted=tuple(doubted[key]),
                latest=tuple(latest[key]),
            )
        )
    return views
