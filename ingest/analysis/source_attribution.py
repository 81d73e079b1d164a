"""Source attribution of incidents: trace an event upstream and store the ranked sources.

A new incident of the water is traced at once, and again after one and six hours, when more stations detected it or did
not. The likeliest source is added to the incident's history, the whole result to the table. Incidents from past
readings are traced once, a few in each round, since a trace takes a second of processor time.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
import structlog

from governance.incidents import store as incident_store
from governance.incidents.finding import FindingKind
from governance.incidents.model import Action, Incident, Order
from governance.organisation.roles import Actor, Role
from governance.tables import incident as incident_table
from infra.database import Database
from infra.errors import ConfigurationError, LongTermUnavailable, NotFound, StorageUnavailable, WaterError
from infra.periodic import PeriodicWorker
from infra.texts import Text, both, say
from infra.times import DAY_MS, HOUR_MS, beijing
from ingest.rules.engine import usable
from ingest.storage import registry as registry_store
from ingest.storage.port import ReadingStore, Window
from ingest.storage.tables import source_attribution as table
from sensors import source_attribution
from sensors.parameters import Catalogue
from sensors.reading import Floats, Ints
from sensors.source_attribution import BACK_H, Candidate, Current, Detection, NonDetection, PlaceKind, RiverTree
from sensors.stations import Registry

log = structlog.get_logger(__name__)

EVERY_S = 30.0
TRACE_AFTER_H = (0, 1, 6)
"""Hours after its opening at which an incident is traced."""
MAX_AGE_DAYS = 30
"""Age up to which past incidents are traced."""
PAST_PER_ROUND = 4
"""Past incidents traced in a round, a bound on processor time."""
AUTHOR = "riverchief"
"""Author of the history entry."""
_KINDS_WITHOUT_SOURCE = (
    FindingKind.NO_DATA,
    FindingKind.TREND,
    FindingKind.FORECAST,
    FindingKind.DEVICE,
    FindingKind.REPORT,
)
"""Kinds of findings that are not traced: silence, slow trends, forecasts, devices, and reports away from stations."""


@dataclass(frozen=True, slots=True)
class StoredAttribution:
    """The possible sources of an event, as of ``made_ms``; without candidates ``text`` says why."""

    station: str
    since_ms: int
    computed_at_ms: int
    seen: tuple[Detection, ...]
    quiet: tuple[NonDetection, ...]
    rises: tuple[str, ...]
    falls: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    text: Text


def trace(
    store: ReadingStore, catalogue: Catalogue, registry: Registry, station: str, since_ms: int, now_ms: int
) -> StoredAttribution:
    """Trace an event that was found at ``station`` at ``since_ms`` from what is stored, as of ``now_ms``.

    Raises NotFound for a station that is unknown or lies on no reach, ConfigurationError where reaches flow in a circle
    or the event lies in the future, StorageUnavailable.
    """
    if since_ms > now_ms:
        raise ConfigurationError(say("source_attribution.ahead", at=beijing(since_ms)))
    river = RiverTree(registry)
    river.spot(station)
    end_ms = min(now_ms, since_ms + source_attribution.LOOK_H * HOUR_MS)
    start_ms = since_ms - (BACK_H + 6) * HOUR_MS
    readings: dict[str, dict[str, tuple[Ints, Floats]]] = {}
    currents: dict[str, Current] = {}
    for key in (station, *river.near(station)):
        lines = _lines(_window(store, key, start_ms, end_ms), catalogue)
        reach = registry[key].reach
        for name, current_of in (
            ("flow", source_attribution.current_of_flow),
            ("level", source_attribution.current_of_levels),
        ):
            if name in lines and reach not in currents:
                current = current_of(*lines[name], since_ms - BACK_H * HOUR_MS, end_ms)
                if current is not None:
                    currents[reach] = current
        readings[key] = {name: line for name, line in lines.items() if name in source_attribution.TRACED_PARAMETERS}
    evidence = source_attribution.evidence(readings, station, since_ms, end_ms)
    rain = _rained(store, catalogue, registry, station, since_ms)
    found = source_attribution.rank_sources(
        river, evidence.seen, evidence.quiet, currents, rises=evidence.rises, falls=evidence.falls, rain=rain
    )
    return StoredAttribution(
        station,
        since_ms,
        now_ms,
        evidence.seen,
        evidence.quiet,
        tuple(sorted(evidence.rises)),
        tuple(sorted(evidence.falls)),
        tuple(found),
        summary(found),
    )


def summary(found: list[Candidate]) -> Text:
    """The likeliest places and the release of the first, in one sentence."""
    if not found:
        return say("source_attribution.nothing")
    first = found[0]
    names = [say("source_attribution.place", name=c.name, share=f"{100 * c.probability:.0f}") for c in found[:3]]
    return say(
        "source_attribution.likeliest",
        places=Text("、".join(n.zh for n in names), ", ".join(n.en for n in names)),
        early=beijing(first.early_ms),
        late=beijing(first.late_ms),
    )


def stored_trace(connection: sa.Connection, incident_id: int) -> StoredAttribution | None:
    """The stored trace of an incident; None without one."""
    row = connection.execute(sa.select(table).where(table.c.incident_id == incident_id)).mappings().one_or_none()
    return None if row is None else _read(row)


def likeliest_sources(connection: sa.Connection, incident_ids: list[int]) -> dict[int, Text]:
    """Incident id → the sentence of its likeliest source, for those that have one."""
    query = sa.select(table.c.incident_id, table.c.text_zh, table.c.text_en, table.c.body)
    rows = connection.execute(query.where(table.c.incident_id.in_(incident_ids))) if incident_ids else ()
    return {row.incident_id: Text(row.text_zh, row.text_en) for row in rows if json.loads(row.body)["candidates"]}


def require_stored_trace(connection: sa.Connection, incident_id: int) -> StoredAttribution:
    """The stored trace of an incident. Raises NotFound, also where it has no source or was not traced yet."""
    incident = _with_source(connection, incident_id)
    found = stored_trace(connection, incident_id)
    if found is None:
        raise NotFound(say("source_attribution.not_yet", id=incident.id))
    return found


def trace_of_incident(
    database: Database, store: ReadingStore, catalogue: Catalogue, incident_id: int, now_ms: int
) -> StoredAttribution:
    """The stored trace of an incident, or one made now. Raises NotFound, also where it has no source."""
    with database.read() as connection:
        incident = _with_source(connection, incident_id)
        found = stored_trace(connection, incident_id)
        registry = registry_store.load(connection, catalogue)
    return found or trace(store, catalogue, registry, incident.station, _since(incident), now_ms)


def _with_source(connection: sa.Connection, incident_id: int) -> Incident:
    incident = incident_store.get(connection, incident_id)
    if incident.kind in _KINDS_WITHOUT_SOURCE:
        raise NotFound(say("source_attribution.no_source", id=incident_id, kind=incident.kind))
    return incident


class AttributionWorker(PeriodicWorker):
    """A thread that traces new incidents; one for each database."""

    def __init__(
        self,
        database: Database,
        store: ReadingStore,
        catalogue: Catalogue,
        *,
        clock_ms: Callable[[], int],
        source: str,
        on_entry: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__("traces")
        self._database = database
        self._store = store
        self._catalogue = catalogue
        self._clock_ms = clock_ms
        self._source = source
        self._on_entry = on_entry

    def next_round(self) -> float:
        with self.outlive("traces"):
            self.round()
            self.last_error = ""
        return EVERY_S

    def round(self) -> int:
        """Trace the due incidents; how many. Raises StorageUnavailable."""
        now_ms = self._clock_ms()
        with self._database.read() as connection:
            due = self._due(connection, now_ms)
            registry = registry_store.load(connection, self._catalogue) if due else Registry()
        for incident in due:
            if self._stopping.is_set():
                break
            try:
                found = trace(self._store, self._catalogue, registry, incident.station, _since(incident), now_ms)
            except StorageUnavailable:
                raise
            except WaterError as error:
                text = say("source_attribution.impossible", why=error.text)
                found = StoredAttribution(incident.station, _since(incident), now_ms, (), (), (), (), (), text)
            self._keep(incident, found)
        return len(due)

    def _due(self, connection: sa.Connection, now_ms: int) -> list[Incident]:
        """Open live incidents of the water whose next trace is due, and a few others that have none."""
        i = incident_table.c
        water = (
            sa.select(i.id, i.opened_at_ms, table.c.computed_at_ms)
            .outerjoin(table, table.c.incident_id == i.id)
            .where(i.kind.not_in([kind.value for kind in _KINDS_WITHOUT_SOURCE]))
        )
        live = i.open_cause.is_not(None) & i.retrospective.is_(False) & (i.opened_at_ms > now_ms - 24 * HOUR_MS)
        due = []
        for row in connection.execute(water.where(live).order_by(i.id)):
            at = [row.opened_at_ms + hours * HOUR_MS for hours in TRACE_AFTER_H]
            if any(one <= now_ms and (row.computed_at_ms is None or row.computed_at_ms < one) for one in at):
                due.append(row.id)
        untraced = water.where(~live, table.c.computed_at_ms.is_(None), i.opened_at_ms > now_ms - MAX_AGE_DAYS * DAY_MS)
        due += [row.id for row in connection.execute(untraced.order_by(i.id.desc()).limit(PAST_PER_ROUND))]
        return [incident_store.get(connection, number) for number in due]

    def _keep(self, incident: Incident, found: StoredAttribution) -> None:
        with self._database.write() as connection:
            before = stored_trace(connection, incident.id)
            same = table.c.incident_id == incident.id
            connection.execute(sa.delete(table).where(same))
            connection.execute(sa.insert(table).values(incident_id=incident.id, **_row(found)))
            first = found.candidates[0].key if found.candidates else None
            known = before.candidates[0].key if before is not None and before.candidates else None
            if first is None or first == known or incident.retrospective or not incident.is_open:
                return
            try:
                with connection.begin_nested():
                    incident_store.apply_action(
                        connection,
                        incident.id,
                        Order(Action.COMMENT, comment=both(found.text)),
                        Actor(AUTHOR, Role.SYSTEM),
                        now_ms=found.computed_at_ms,
                        source=self._source,
                    )
            except WaterError as error:  # closed meanwhile
                log.info("the source of an incident is not added to its history", incident=incident.id, why=str(error))
                return
        self._on_entry()


# -- helpers ---------------------------------------------------------------------------------------------------------


def _since(incident: Incident) -> int:
    """When the first condition of the incident's own station fired (ms)."""
    mine = [c.fired_at_ms for c in incident.conditions if c.station == incident.station]
    return min([*mine, incident.observed_at_ms])


def _window(store: ReadingStore, station: str, start_ms: int, end_ms: int) -> Window:
    try:
        return store.window(station, start_ms, end_ms)
    except LongTermUnavailable:
        return store.recent_store.window(station, start_ms, end_ms)


def _lines(window: Window, catalogue: Catalogue) -> dict[str, tuple[Ints, Floats]]:
    good = window.take(np.flatnonzero(usable(window.packed)))
    found = {}
    for code in np.unique(good.parameter).tolist():
        mine = good.parameter == code
        found[catalogue.parameters[code].key] = (good.at[mine], good.value[mine])
    return found


def _rained(store: ReadingStore, catalogue: Catalogue, registry: Registry, station: str, since_ms: int) -> bool | None:
    """Whether a rain gauge measured rain in the six hours before; None without readings of one."""
    gauges = [s.key for s in registry.stations if "rain" in s.parameters][:8]
    totals = []
    for gauge in gauges:
        line = _lines(_window(store, gauge, since_ms - 6 * HOUR_MS, since_ms), catalogue).get("rain")
        if line is not None:
            totals.append(float(line[1].sum()))
    return max(totals) >= 1.0 if totals else None


def _row(found: StoredAttribution) -> dict[str, Any]:
    body = {
        "seen": [asdict(s) for s in found.seen],
        "quiet": [asdict(q) for q in found.quiet],
        "rises": found.rises,
        "falls": found.falls,
        "candidates": [asdict(c) for c in found.candidates],
    }
    return {
        "station": found.station,
        "since_ms": found.since_ms,
        "computed_at_ms": found.computed_at_ms,
        "body": json.dumps(body, ensure_ascii=False),
        "text_zh": found.text.zh,
        "text_en": found.text.en,
    }


def _read(row: sa.RowMapping) -> StoredAttribution:
    body = json.loads(row["body"])
    candidates = []
    for one in body["candidates"]:
        texts = {"name": Text(**one["name"]), "reasons": tuple(Text(**r) for r in one["reasons"])}
        candidates.append(Candidate(**{**one, **texts, "kind": PlaceKind(one["kind"])}))
    return StoredAttribution(
        row["station"],
        row["since_ms"],
        row["computed_at_ms"],
        tuple(Detection(**s) for s in body["seen"]),
        tuple(NonDetection(**q) for q in body["quiet"]),
        tuple(body["rises"]),
        tuple(body["falls"]),
        tuple(candidates),
        Text(row["text_zh"], row["text_en"]),
    )
