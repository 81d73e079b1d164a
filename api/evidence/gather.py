"""Everything an evidence pack shows of an incident, gathered from the stores at one instant."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from governance.audit import trail as audit_trail
from governance.audit.merkle import AuditEntry, Root
from governance.incidents import attachments
from governance.incidents import store as incident_store
from governance.incidents.model import Entry, Incident
from governance.verification import comparison, roots
from governance.verification.comparison import Difference
from infra.database import Database
from infra.errors import LongTermUnavailable
from infra.texts import Text
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.photos import Photos
from ingest.storage.port import ReadingStore, Series
from ingest.storage.port import series as series_of
from sensors.network import distance_km
from sensors.parameters import Catalogue, Parameter
from sensors.reading import Flag, unpack
from sensors.stations import Registry, Station

BEFORE_MS = AFTER_MS = 6 * 3_600_000
"""What a chart shows before and after the event."""
RAIN_BEFORE_MS = 24 * 3_600_000
POINTS = 800
AROUND = 60
"""Stations of a large site that the pack is about."""
CHARTS = 4
PHOTOS = 8


@dataclass(frozen=True, slots=True)
class Chart:
    """A series around the event; ``limit`` None where the condition has none that is known."""

    station: Station
    parameter: Parameter
    series: Series
    start_ms: int
    end_ms: int
    limit: float | None


@dataclass(frozen=True, slots=True)
class Rain:
    """The sum of a gauge's usable readings, in mm, from ``start_ms`` to ``end_ms``."""

    station: Station
    readings: int
    mm: float
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Rule:
    """The version of the rule that raised the incident: its sentence, and the entry that has it."""

    id: str
    version: str
    text: Text | None
    entry: int | None


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo, or another file of the case: ``sha256`` of its bytes, ``at_ms`` when it was taken or brought."""

    sha256: str
    at_ms: int
    by: str
    note: str
    file: Path


@dataclass(frozen=True, slots=True)
class Sources:
    """What a pack is made from: the stores of a site, its photos, what it is called, and what proves its trail.

    ``keys`` and ``outside`` are as `governance.verification.roots.verify` takes them.
    """

    database: Database
    store: ReadingStore
    catalogue: Catalogue
    origin: str
    site: str = ""
    photos: Path | None = None
    keys: Sequence[Ed25519PublicKey] = ()
    outside: Sequence[Root] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of an incident at ``at_ms``; ``unanswered`` says that older readings could not be asked for.

    Incident and history are those of the trail where it has them. ``differences`` are where the tables say otherwise;
    ``fits`` false: a signed root over its entries is not that of the trail. Either way nothing is proven.
    """

    at_ms: int
    by: str
    origin: str
    incident: Incident
    history: Sequence[Entry]
    registry: Registry
    charts: Sequence[Chart]
    rain: Sequence[Rain]
    rule: Rule
    pictures: Sequence[Picture]
    trail: Sequence[AuditEntry]
    root: Root | None
    differences: Sequence[Difference]
    fits: bool
    unanswered: bool

    @property
    def proven(self) -> bool:
        """Whether the trail has the incident, and nothing speaks against it."""
        return bool(self.trail) and self.fits and not self.differences


def gather(sources: Sources, incident_id: int, by: str, now_ms: int) -> Evidence:
    """What the stores know of an incident. Raises NotFound and StorageUnavailable."""
    store, catalogue = sources.store, sources.catalogue
    with sources.database.read() as connection:
        incident = incident_store.get(connection, incident_id)
        history = incident_store.history(connection, incident_id)
        registry = _around(registry_store.load(connection, catalogue), catalogue, incident)
        trail = audit_trail.entries_of(connection, "incident", incident_id)
        differences = comparison.of_incident(connection, incident_id)
        root, fits = (
            roots.newest_covering(connection, trail[-1].n, sources.keys, sources.outside) if trail else (None, True)
        )
        if trail and not any(one.part in ("body", "hash") for one in differences):
            incident, history = incident_store.as_of(connection, incident_id, max(line.at_ms for line in trail))
        rule = _rule(connection, incident)
        pictures = _pictures(connection, incident, history, sources.photos, now_ms)
    start_ms = incident.since_ms - BEFORE_MS
    end_ms = max(start_ms + 1, min(incident.last_observed_at_ms + AFTER_MS, now_ms))
    charts: list[Chart] = []
    rain: list[Rain] = []
    unanswered = False
    try:
        charts = _charts(store, catalogue, registry, incident, start_ms, end_ms)
        rain = _rain(store, catalogue, registry, incident.since_ms - RAIN_BEFORE_MS, end_ms)
    except LongTermUnavailable:
        unanswered = True
    return Evidence(
        at_ms=now_ms,
        by=by,
        origin=sources.origin,
        incident=incident,
        history=history,
        registry=registry,
        charts=charts,
        rain=rain,
        rule=rule,
        pictures=pictures,
        trail=trail,
        root=root,
        differences=differences,
        fits=fits,
        unanswered=unanswered,
    )


def _around(registry: Registry, catalogue: Catalogue, incident: Incident) -> Registry:
    """The stations of the incident and those nearest to it, with their reaches, for the map and the rain."""
    own = {incident.station, *(condition.station for condition in incident.conditions)}
    if len(registry.stations) <= AROUND or incident.station not in registry:
        return registry
    here = registry[incident.station]
    nearest = sorted(registry.stations, key=lambda s: distance_km((here.lon, here.lat), (s.lon, s.lat)))
    kept = tuple(s for place, s in enumerate(nearest) if place < AROUND or s.key in own)
    on = {s.reach for s in kept}
    reaches = tuple(reach for reach in registry.reaches if reach.key in on)
    return Registry(kept, (), reaches, catalogue, regions=registry.regions)


def _charts(
    store: ReadingStore, catalogue: Catalogue, registry: Registry, incident: Incident, start_ms: int, end_ms: int
) -> list[Chart]:
    """The series the incident rests on, its own first."""
    stations = {station.key: station for station in registry.stations}
    wanted = [(incident.station, incident.parameter or "")]
    wanted += [(condition.station, condition.parameter) for condition in incident.conditions]
    wanted += [(incident.station, row.parameter) for row in (incident.headline.rows if incident.headline else ())]
    found: list[Chart] = []
    for key, name in dict.fromkeys(wanted):
        if len(found) == CHARTS or key not in stations or name not in catalogue.index:
            continue
        parameter = catalogue.parameters[catalogue.index[name]]
        limit = incident.limit if (key, name) == wanted[0] else None
        series = series_of(store, key, name, start_ms, end_ms, POINTS)
        found.append(Chart(stations[key], parameter, series, start_ms, end_ms, limit))
    return found


def _rain(store: ReadingStore, catalogue: Catalogue, registry: Registry, start_ms: int, end_ms: int) -> list[Rain]:
    if "rain" not in catalogue.index:
        return []
    found = []
    for station in registry.stations:
        window = store.window(station.key, start_ms, end_ms, ["rain"])
        usable = unpack(window.packed)[0] < Flag.SUSPECT
        if usable.any():
            found.append(Rain(station, int(usable.sum()), float(window.value[usable].sum()), start_ms, end_ms))
    return found


def _rule(connection: sa.Connection, incident: Incident) -> Rule:
    """The rule's own words, from the entry of the trail that put this version of it in force."""
    for line in reversed(audit_trail.entries_of(connection, "rule", incident.rule)):
        body = json.loads(line.body)
        if body["version"] == incident.rule_version and "toml" in body:
            text = Text(body["text"]["zh"], body["text"]["en"])
            return Rule(incident.rule, incident.rule_version, text, line.n)
    return Rule(incident.rule, incident.rule_version, None, None)


def _pictures(
    connection: sa.Connection, incident: Incident, history: Sequence[Entry], folder: Path | None, now_ms: int
) -> list[Picture]:
    """What was attached to its entries, then photos of its stations taken while it lasted."""
    if folder is None:
        return []
    kept = Photos(folder)
    brought = [
        Picture(one.id, one.at_ms, one.by, one.name, kept.path(one.id))
        for one in attachments.find(
            connection, [id_ for entry in history for id_ in entry.attachments], {entry.by for entry in history}
        )
        if kept.holds(one.id)
    ]
    until_ms = incident.closed_at_ms or now_ms
    stations = dict.fromkeys([incident.station, *(condition.station for condition in incident.conditions)])
    taken = [
        Picture(photo.sha256, photo.taken_ms, photo.by, photo.note, kept.path(photo.sha256))
        for key in stations
        for photo in maintenance_store.photos(connection, key)
        if incident.since_ms <= photo.taken_ms <= until_ms
        and kept.holds(photo.sha256)  # not so where a database was restored without its photos
    ]
    return [*brought, *taken][:PHOTOS]
