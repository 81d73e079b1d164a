"""Backtests: run rules over past readings through the live pipeline, on a temporary database.

Messages go through :class:`~ingest.pipeline.Site` in slices of event time, and the result is read from its incidents.
Since nobody handles them, an incident is closed once it was over for :data:`CLOSED_AFTER_MS`.
"""

import tempfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import event

import governance.tables as governed
import ingest.storage.tables  # noqa: F401  (registers its tables)
from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from infra.database import Database, metadata
from infra.errors import ConfigurationError
from infra.texts import say
from infra.times import DAY_MS, rfc3339
from ingest.pipeline import Site
from ingest.rules.engine import LATE_AFTER_S
from ingest.rules.model import NoData, Rules
from ingest.rules.no_data import cycle_of
from ingest.rules.places import Places
from ingest.state.series_history import stored_status
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.port import ReadingStore, Window
from ingest.storage.sql import SqlReadings
from sensors.maintenance import MaintenanceRecords
from sensors.parameters import Catalogue
from sensors.reading import Ints, Message
from sensors.stations import Registry
from sensors.wire import telemetry
from sensors.wire.telemetry import Sample, Telemetry

SLICE_MS = 2 * 3_600_000
"""Event time of one slice; silence is evaluated at the instant it begins, whatever the slices."""
SAMPLES_PER_MESSAGE = 500
CLOSED_AFTER_MS = 6 * 3_600_000
"""Time after its end at which an incident is closed (our assumption, half a shift)."""
MAX_READINGS = 20_000_000
WARM_UP_MS = 7 * DAY_MS
"""Readings before the range that are processed for trends and daily patterns; their findings do not count."""
HIT_AFTER_MS = 2 * 3_600_000
"""An alarm up to this long after the end of a labelled event counts as a hit."""
WATER_KINDS = frozenset(
    {
        FindingKind.THRESHOLD,
        FindingKind.RATE,
        FindingKind.CLASS,
        FindingKind.TARGET,
        FindingKind.BLACK_ODOROUS,
        FindingKind.TREND,
        FindingKind.EVENT,
    }
)
"""Kinds of findings about the water, which are compared with labels; silence and lost patterns are not."""

Progress = Callable[[float], object]


@dataclass(frozen=True, slots=True)
class Label:
    """A known change of the water at a station from ``start_ms`` to ``end_ms``."""

    station: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class BacktestInput:
    """The registry, the readings of each station in canonical units, and the maintenance records.

    ``labels`` are the known events of the stations in ``labelled``; for other stations none are known.
    """

    registry: Registry
    readings: Mapping[str, Window]
    maintenance: MaintenanceRecords = field(default_factory=MaintenanceRecords)
    labels: tuple[Label, ...] = ()
    labelled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class BacktestIncident:
    """An incident that the rules would have raised; times in ms, ``pages`` is the number of notifications that page."""

    id: int
    cause: str
    station: str
    stations: tuple[str, ...]
    rule: str
    version: str
    kind: str
    colour: str
    since_ms: int
    fired_ms: int
    last_ms: int
    findings: int
    pages: int
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Score:
    """Comparison with labels: events found, median delay, and alarms without an event."""

    events: int
    hits: int
    misses: tuple[Label, ...]
    delay_s: float | None
    false_alarms: int


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """The result of one set of rules between two instants; ``fired`` counts findings by rule."""

    since_ms: int
    until_ms: int
    readings: int
    raised: tuple[BacktestIncident, ...]
    findings: tuple[Finding, ...]
    fired: Mapping[str, int]
    score: Score | None

    @property
    def weeks(self) -> float:
        return (self.until_ms - self.since_ms) / (7 * DAY_MS)

    @property
    def pages(self) -> int:
        return sum(one.pages for one in self.raised)

    @property
    def by_colour(self) -> dict[str, int]:
        """Incidents by colour, the most urgent first."""
        return {colour.value: sum(one.colour == colour for one in self.raised) for colour in Colour}

    @property
    def pages_a_week(self) -> float:
        return self.pages / self.weeks


@dataclass(frozen=True, slots=True)
class Difference:
    """Incidents only of the tried rules (``new``), only of those in force (``gone``), and the number of both.

    ``changed`` are those of both with another colour: (in force, tried).
    """

    new: tuple[BacktestIncident, ...]
    gone: tuple[BacktestIncident, ...]
    changed: tuple[tuple[BacktestIncident, BacktestIncident], ...]
    both: int


# -- input -------------------------------------------------------------------------------------------------------------


def load_input(
    registry: Registry,
    store: ReadingStore,
    since_ms: int,
    until_ms: int,
    *,
    maintenance: MaintenanceRecords = MaintenanceRecords(),
    stations: Sequence[str] = (),
) -> BacktestInput:
    """The stored readings of a range and of the warm-up before it; raises ConfigurationError for too many."""
    if unknown := sorted(set(stations) - set(registry.index)):
        raise ConfigurationError(say("registry.station_unknown", station=unknown[0]))
    if not until_ms - since_ms > 0:
        raise ConfigurationError(say("request.until_since", until=rfc3339(until_ms), since=rfc3339(since_ms)))
    found: dict[str, Window] = {}
    total = 0
    for station in registry.stations:
        if stations and station.key not in stations:
            continue
        window = store.window(station.key, since_ms - WARM_UP_MS, until_ms - 1)
        if len(window):
            found[station.key] = window
            total += len(window)
        if total > MAX_READINGS:
            raise ConfigurationError(say("backtest.many", most=MAX_READINGS))
    return BacktestInput(registry, found, maintenance)


# -- running -----------------------------------------------------------------------------------------------------------


def compare_rule_sets(
    rules: Rules,
    other: Rules,
    stored: BacktestInput,
    catalogue: Catalogue,
    since_ms: int,
    until_ms: int,
    *,
    on_progress: Progress = lambda share: None,
) -> tuple[BacktestResult, BacktestResult]:
    """Run two sets of rules; equal sets are run once. Raises ConfigurationError."""
    feeds = _feeds(stored, catalogue)
    same = tuple(rules) == tuple(other)

    def attempted(one: Rules, done: float) -> BacktestResult:
        def report(share: float) -> None:
            on_progress(share if same else (done + share) / 2)

        return run_rules(one, stored, catalogue, since_ms, until_ms, on_progress=report, feeds=feeds)

    tried = attempted(rules, 0.0)
    return tried, tried if same else attempted(other, 1.0)


def run_rules(
    rules: Rules,
    stored: BacktestInput,
    catalogue: Catalogue,
    since_ms: int,
    until_ms: int,
    *,
    on_progress: Progress = lambda share: None,
    closed_after_ms: int | None = CLOSED_AFTER_MS,
    feeds: Sequence["_Feed"] | None = None,
) -> BacktestResult:
    """Run rules over the readings from ``since_ms`` to ``until_ms``; ``feeds`` are those of ``stored`` where made
    already.

    Raises ConfigurationError where there are no readings.
    """
    readings = sum(len(window) for window in stored.readings.values())
    if not readings:
        raise ConfigurationError(say("backtest.nothing", since=rfc3339(since_ms), until=rfc3339(until_ms)))
    first_ms = min(int(window.at.min()) for window in stored.readings.values() if len(window))
    feeds = _feeds(stored, catalogue) if feeds is None else feeds
    with temporary_database() as database:
        _prepare(database, stored, catalogue)
        store = SqlReadings(database, catalogue)
        site = Site(database, store, rules, catalogue, late_s=SLICE_MS // 1000 + LATE_AFTER_S)
        findings: list[Finding] = []
        cuts = _slice_ends(first_ms, until_ms, _silences(rules, stored))
        for start_ms, end_ms in pairwise(cuts):
            messages = [m for feed in feeds for m in feed.messages(start_ms, end_ms)]
            if messages:
                findings += site.process(messages, end_ms).findings
            findings += site.tick(first_ms, end_ms)
            if closed_after_ms is not None:
                close_ended_incidents(database, end_ms - closed_after_ms, end_ms)
            on_progress((end_ms - first_ms) / (until_ms - first_ms))
        raised = _incidents_since(database, since_ms)
    counted = tuple(one for one in findings if one.observed_at_ms >= since_ms)
    fired = Counter(one.rule for one in counted if one.change is ConditionChange.FIRED)
    score = _score(counted, stored, since_ms, until_ms) if stored.labelled else None
    return BacktestResult(since_ms, until_ms, readings, raised, counted, dict(fired), score)


def compare(tried: BacktestResult, in_force: BacktestResult) -> Difference:
    """Compare two results; incidents of the same sort at the same station and time are the same."""
    new = tuple(one for one in tried.raised if not _has_match(one, in_force.raised))
    gone = tuple(one for one in in_force.raised if not _has_match(one, tried.raised))
    pairs = (
        (next((other for other in in_force.raised if _has_match(one, [other])), None), one) for one in tried.raised
    )
    changed = tuple((was, one) for was, one in pairs if was is not None and was.colour != one.colour)
    return Difference(new, gone, changed, len(tried.raised) - len(new))


def _has_match(one: BacktestIncident, others: Iterable[BacktestIncident]) -> bool:
    return any(
        set(one.stations) & set(other.stations)
        and one.cause.partition(":")[0] == other.cause.partition(":")[0]
        and one.since_ms <= other.last_ms
        and other.since_ms <= one.last_ms
        for other in others
    )


class _Feed:
    """One station's readings as messages of a logger."""

    def __init__(self, key: str, window: Window, catalogue: Catalogue) -> None:
        self._key = key
        rows = np.lexsort((window.parameter, window.at))
        rows = rows[~np.isnan(window.value[rows])]
        at = window.at[rows]
        names = [p.key for p in catalogue.parameters]
        keys, values = [names[p] for p in window.parameter[rows].tolist()], window.value[rows].tolist()
        starts = np.flatnonzero(np.diff(at, prepend=-1))
        ends = np.append(starts[1:], len(at)).tolist()
        self._at = at[starts].tolist()
        status_by_sample: list[dict[str, str]] = [{} for _ in ends]
        status = stored_status(window)[rows]
        for row in np.flatnonzero(status != ord("N")).tolist():
            status_by_sample[int(np.searchsorted(starts, row, side="right")) - 1][keys[row]] = chr(status[row])
        self._samples = [
            Sample(when, dict(zip(keys[a:b], values[a:b], strict=True)), status)
            for when, a, b, status in zip(self._at, starts.tolist(), ends, status_by_sample, strict=True)
        ]
        self._sent: dict[tuple[int, int], bytes] = {}

    def messages(self, start_ms: int, end_ms: int) -> Iterator[Message]:
        """The messages of what was observed in (start, end]."""
        first, last = bisect_left(self._at, start_ms + 1), bisect_left(self._at, end_ms + 1)
        for i in range(first, last, SAMPLES_PER_MESSAGE):
            piece = i, min(i + SAMPLES_PER_MESSAGE, last)
            if piece not in self._sent:
                self._sent[piece] = telemetry.encode(Telemetry(tuple(self._samples[slice(*piece)])))
            body = self._sent[piece]
            yield Message(self._key, body, end_ms, source="backtest", topic=f"rivers/v1/{self._key}/telemetry")


def _feeds(stored: BacktestInput, catalogue: Catalogue) -> list[_Feed]:
    return [_Feed(key, window, catalogue) for key, window in stored.readings.items()]


@contextmanager
def temporary_database() -> Iterator[Database]:
    """A temporary database without disk synchronisation."""
    with tempfile.TemporaryDirectory(prefix="riverchief-backtest-") as folder:
        database = Database(f"sqlite:///{Path(folder) / 'tried.db'}")
        event.listen(database.engine, "connect", _without_sync)
        try:
            metadata.create_all(database.engine)
            yield database
        finally:
            database.close()


def _without_sync(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def _prepare(database: Database, stored: BacktestInput, catalogue: Catalogue) -> None:
    """Save the registry without unit conversions, since stored readings are canonical."""
    registry = stored.registry
    plain = tuple(
        replace(d, unit=catalogue[d.parameter].unit, gain=1.0, offset=0.0, device="") for d in registry.deployments
    )
    bare = Registry(
        registry.stations, plain, registry.reaches, catalogue, (), registry.outfalls, registry.travels, registry.regions
    )
    with database.write() as connection:
        registry_store.save(connection, bare)
        maintenance_store.save(connection, stored.maintenance)


def _silences(rules: Rules, stored: BacktestInput) -> list[int]:
    """The instants at which silence begins to count at a station, and at which it sends again."""
    places, found = Places(stored.registry), []
    cycles_s = stored.registry.cycles_s(max(int(w.at.max()) for w in stored.readings.values() if len(w)))
    names = [p.key for p in stored.registry.catalogue.parameters]
    for key, window in stored.readings.items():
        station = stored.registry[key]
        for rule in rules.applicable(station, places):
            if isinstance(rule, NoData) and rule.sensors:
                for code in np.unique(window.parameter).tolist():
                    cycle_s = cycle_of(station, names[code], cycles_s.get(key, {}))
                    found += _pauses(window.at[window.parameter == code], _patience_ms(rule, cycle_s))
            elif isinstance(rule, NoData):
                found += _pauses(np.unique(window.at), _patience_ms(rule, station.interval_s))
    return found


def _pauses(at: Ints, patience_ms: int) -> list[int]:
    silent = np.flatnonzero(np.diff(at, append=at[-1] + 2 * patience_ms) > patience_ms)
    return [*(at[silent] + patience_ms + 1000).tolist(), *at[silent[silent < len(at) - 1] + 1].tolist()]


def _patience_ms(rule: NoData, cycle_s: int) -> int:
    return int(1000 * max(rule.intervals * cycle_s, rule.at_least_s))


def _slice_ends(first_ms: int, until_ms: int, also: Iterable[int]) -> list[int]:
    """The ends of the slices in order; the first is just before the first reading."""
    hours = range(first_ms - 1 + SLICE_MS, until_ms, SLICE_MS)
    return sorted({first_ms - 1, until_ms, *hours, *(at for at in also if first_ms <= at < until_ms)})


def close_ended_incidents(database: Database, over_ms: int, now_ms: int) -> None:
    """Close the incidents that were over before ``over_ms``."""
    table = governed.incident
    done = sa.update(table).where(
        table.c.open_cause.is_not(None), table.c.recovered_at_ms.is_not(None), table.c.recovered_at_ms < over_ms
    )
    with database.write() as connection:
        connection.execute(done.values(open_cause=None, state="closed", closed_at_ms=now_ms))


def count_pages(connection: sa.Connection) -> Counter[int]:
    """Incident id → number of paging notifications."""
    outbox = governed.outbox
    return Counter(connection.execute(sa.select(outbox.c.incident_id).where(outbox.c.notify == "page")).scalars())


def incident_stations(connection: sa.Connection) -> dict[int, tuple[str, ...]]:
    """Incident id → the stations of its conditions, sorted."""
    found: dict[int, set[str]] = {}
    conditions = governed.incident_condition
    for id_, station in connection.execute(sa.select(conditions.c.incident_id, conditions.c.station)):
        found.setdefault(id_, set()).add(station)
    return {id_: tuple(sorted(stations)) for id_, stations in found.items()}


def _incidents_since(database: Database, since_ms: int) -> tuple[BacktestIncident, ...]:
    """The incidents that fired from ``since_ms`` on, oldest first."""
    table, entries = governed.incident, governed.incident_entry
    with database.read() as connection:
        rows = connection.execute(sa.select(table).order_by(table.c.id)).mappings().all()
        fired = entries.c.what.in_(("fired", "promoted"))
        firings: dict[int, list[int]] = {}
        for id_, at_ms in connection.execute(
            sa.select(entries.c.incident_id, entries.c.observed_at_ms).where(fired).order_by(entries.c.seq)
        ):
            firings.setdefault(id_, []).append(at_ms)
        pages, stations = count_pages(connection), incident_stations(connection)
    return tuple(
        BacktestIncident(
            id=row["id"],
            cause=row["cause"],
            station=row["station"],
            stations=stations.get(row["id"], (row["station"],)),
            rule=row["rule"],
            version=row["rule_version"],
            kind=row["kind"],
            colour=row["colour"],
            since_ms=row["since_ms"],
            fired_ms=firings[row["id"]][0],
            last_ms=row["last_observed_at_ms"],
            findings=len(firings[row["id"]]),
            pages=pages[row["id"]],
            zh=row["title_zh"],
            en=row["title_en"],
        )
        for row in rows
        if row["id"] in firings and firings[row["id"]][0] >= since_ms
    )


def _score(findings: Sequence[Finding], stored: BacktestInput, since_ms: int, until_ms: int) -> Score:
    """Compare the alarms of the labelled stations with the labels."""
    labels = [one for one in stored.labels if one.end_ms >= since_ms and one.start_ms < until_ms]
    alarms = [
        f
        for f in findings
        if f.change is ConditionChange.FIRED and f.kind in WATER_KINDS and f.station in stored.labelled
    ]
    delays, misses = [], []
    met: set[str] = set()
    for label in labels:
        found = [
            f
            for f in alarms
            if f.station == label.station
            and f.observed_at_ms >= label.start_ms
            and f.since_ms <= label.end_ms + HIT_AFTER_MS
        ]
        met |= {f.id for f in found}
        if found:
            delays.append((min(f.observed_at_ms for f in found) - label.start_ms) / 1000)
        else:
            misses.append(label)
    delay_s = float(np.median(delays)) if delays else None
    return Score(len(labels), len(delays), tuple(misses), delay_s, sum(f.id not in met for f in alarms))


# -- JSON --------------------------------------------------------------------------------------------------------------


def as_json(
    tried: BacktestResult, in_force: BacktestResult | None = None, *, most: int | None = None
) -> dict[str, Any]:
    """The result as JSON values, times as RFC 3339; at most ``most`` incidents in each list."""
    found: dict[str, Any] = {
        "since": rfc3339(tried.since_ms),
        "until": rfc3339(tried.until_ms),
        "readings": tried.readings,
        "tried": _result_json(tried, most),
    }
    if in_force is not None:
        difference = compare(tried, in_force)
        found["in_force"] = _result_json(in_force, most)
        found["difference"] = {
            "new": [_incident_json(one) for one in difference.new[:most]],
            "gone": [_incident_json(one) for one in difference.gone[:most]],
            "changed": [{"was": was.colour} | _incident_json(one) for was, one in difference.changed[:most]],
            "both": difference.both,
            "counts": {name: len(getattr(difference, name)) for name in ("new", "gone", "changed")},
        }
    return found


def _result_json(tried: BacktestResult, most: int | None) -> dict[str, Any]:
    score = tried.score
    return {
        "incidents": [_incident_json(one) for one in tried.raised[:most]],
        "count": len(tried.raised),
        "pages": tried.pages,
        "pages_a_week": round(tried.pages_a_week, 2),
        "by_colour": tried.by_colour,
        "fired": dict(sorted(tried.fired.items())),
        "score": None
        if score is None
        else {
            "events": score.events,
            "hits": score.hits,
            "misses": [
                {"station": m.station, "start": rfc3339(m.start_ms), "end": rfc3339(m.end_ms)} for m in score.misses
            ],
            "delay_s": score.delay_s,
            "false_alarms": score.false_alarms,
        },
    }


def _incident_json(one: BacktestIncident) -> dict[str, Any]:
    found = {name: getattr(one, name) for name in one.__slots__ if not name.endswith("_ms") and name != "id"}
    times = {"since": one.since_ms, "fired": one.fired_ms, "last": one.last_ms}
    return found | {"stations": list(one.stations)} | {name: rfc3339(at_ms) for name, at_ms in times.items()}
