"""A site with a database of its own, what its stations send, and everything that can be seen from outside."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

import governance.tables  # noqa: F401
import ingest.storage.tables  # noqa: F401
from governance.incidents import queries as incident_queries
from governance.incidents.store import Incident
from governance.tables import outbox
from infra.database import Database, metadata
from ingest import ledger, quarantine
from ingest.pipeline import Outcome, Site
from ingest.quarantine import QuarantineEntry
from ingest.rules import rule_file
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.quality import SeriesReadings, SeriesState, check_quality
from sensors.reading import Message, pack
from sensors.stations import Deployment, Registry, Station
from sensors.wire import telemetry
from sensors.wire.telemetry import Sample, Telemetry
from tests.databases import with_tables
from tests.postgres import fresh

T0 = 1_790_000_100_000
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
STEP = 5 * MINUTE
CATALOGUE = catalogue()
SHIWAN = Station("shiwan", "石湾", "Shiwan", 113.07, 23.0, interval_s=300)
QICHA = Station("qicha", "奇槎", "Qicha", 113.13, 23.0, interval_s=300)

RULES = """
[[threshold]]
id = "nh3n-high"
parameter = "nh3n"
side = "above"
limit = 2.0
clear = 1.8
samples = 3
keep_firing_s = 600
colour = "orange"

[[threshold]]
id = "ph-acid"
parameter = "ph"
side = "below"
limit = 6.0
clear = 6.2
samples = 3
keep_firing_s = 600
colour = "red"

[[threshold]]
id = "do-low"
parameter = "do"
side = "below"
limit = 2.0
clear = 2.3
pending_s = 600
samples = 3
keep_firing_s = 1800
colour = "yellow"

[[trend]]
id = "temp-rising"
parameter = "water_temp"
side = "above"
per_hour = 1.0
window_s = 7200
bins = 6
min_bins = 4
samples = 2
colour = "yellow"

[[no_data]]
id = "silent"
colour = "blue"
"""

Values = Mapping[str, float]


def message(station: str, samples: Mapping[int, Values], **header: Any) -> Message:
    """A telemetry message of what was measured when; received a second after its newest sample unless told."""
    received = header.pop("received", max(samples, default=T0) + 1000)
    status = header.pop("status", {})
    body = Telemetry(tuple(Sample(at, values, status.get(at, {})) for at, values in samples.items()), **header)
    return raw(telemetry.encode(body), station, received)


def raw(payload: bytes, station: str = "shiwan", received: int = T0 + 1000, **other: Any) -> Message:
    return Message(station, payload, received, topic=f"rivers/v1/{station}/{other.get('kind', 'telemetry')}", **other)


@dataclass(frozen=True)
class IncidentSummary:
    """An incident as people see it: its sort, its span, whether it is over, and how often somebody was called."""

    retrospective: bool
    since: int
    last: int
    active: bool
    pages: int


class World:
    """A site with a database of its own, and everything that can be seen from outside."""

    def __init__(
        self,
        folder: Path,
        stations: Sequence[Station] = (SHIWAN, QICHA),
        text: str = RULES,
        dialect: str = "sqlite",
    ) -> None:
        self._url = fresh(dialect, folder)
        self._rules = rule_file.read(text, CATALOGUE)
        self.database = Database(self._url)
        with_tables(self.database)
        self.register(*stations)
        self.start()

    def start(self) -> None:
        """As after kill -9: nothing is left but the database."""
        self.database.close()
        self.database = Database(self._url)
        self.store = SqlReadings(self.database, CATALOGUE)
        self.site = Site(self.database, self.store, self._rules, CATALOGUE)

    def register(self, *stations: Station, deployments: Sequence[Deployment] = ()) -> None:
        with self.database.write() as connection:
            registry_store.save(connection, Registry(stations, tuple(deployments), catalogue=CATALOGUE))

    def take(self, *messages: Message, now: int | None = None) -> Outcome:
        return self.site.process(messages, max(m.received_at_ms for m in messages) if now is None else now)

    def feed(self, values: Mapping[int, Values], station: str = "shiwan", now: int | None = None) -> None:
        """One message a sample, in the order given, each taken at its own time unless told."""
        for at, measured in values.items():
            self.take(message(station, {at: measured}), now=now)

    def tick(self, now: int) -> list[Any]:
        return self.site.tick(0, now)

    def readings(self, station: str = "shiwan") -> dict[tuple[str, int], tuple[float, int]]:
        window = self.store.window(station, 0, 2**53)
        columns = zip(window.parameter, window.at.tolist(), window.value.tolist(), window.packed.tolist(), strict=True)
        return {(CATALOGUE.parameters[p].key, at): (value, packed) for p, at, value, packed in columns}

    def flags(self, station: str = "shiwan") -> dict[tuple[str, int], int]:
        return {key: packed & 15 for key, (_, packed) in self.readings(station).items()}

    def latest(self, parameter: str = "nh3n", station: str = "shiwan") -> tuple[int | None, float | None]:
        (row,) = (row for row in self.store.latest([station]) if row.parameter == parameter)
        return row.at_ms, row.value

    def incidents(self) -> list[Incident]:
        """Oldest first."""
        with self.database.read() as connection:
            return incident_queries.list_incidents(connection, limit=1000)[::-1]

    def pages(self, number: int | None = None) -> int:
        query = sa.select(sa.func.count()).where(outbox.c.notify == "page")
        if number is not None:
            query = query.where(outbox.c.incident_id == number)
        with self.database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def told(self) -> list[IncidentSummary]:
        return [
            IncidentSummary(i.retrospective, i.since_ms, i.last_observed_at_ms, bool(i.active), self.pages(i.id))
            for i in self.incidents()
        ]

    def held(self, status: str | None = quarantine.HELD) -> list[QuarantineEntry]:
        """Oldest first."""
        with self.database.read() as connection:
            return quarantine.listing(connection, status=status)[::-1]

    def accounts(self) -> list[ledger.Account]:
        with self.database.read() as connection:
            return ledger.accounts(connection)

    def totals(self) -> dict[str, int]:
        names = ("messages", "messages_duplicate", "readings", "stored", "duplicate", "quarantined")
        return {name: sum(getattr(account, name) for account in self.accounts()) for name in names}

    def everything(self) -> dict[str, list[Any]]:
        """All that is in the database, in an order of its own and without the numbers the database gave."""
        with self.database.read() as connection:
            tables = {
                t.name: [dict(row) for row in connection.execute(sa.select(t)).mappings()]
                for t in metadata.sorted_tables
            }
        names = {row["id"]: (row["cause"], row["retrospective"], row["opened_at_ms"]) for row in tables["incident"]}
        found: dict[str, list[Any]] = {}
        # its numbers and hashes are those of its order and of the numbers of incidents
        tables["audit"] = [self._without_numbers(row, names) for row in tables["audit"]]
        for table, rows in tables.items():
            for row in rows:
                row.pop("id", None)
                if table == "outbox":  # the body tells the number of the incident
                    row.pop("event_id")
                    row["body"] = json.loads(row["body"])["type"]
                if "incident_id" in row:
                    row["incident_id"] = names[row["incident_id"]]
            found[table] = sorted((sorted(row.items()) for row in rows), key=repr)
        for s in self.site.history.registry.stations:
            found[f"reading {s.key}"] = sorted(self.readings(s.key).items())
        return found

    @staticmethod
    def _without_numbers(row: dict[str, Any], names: Mapping[int, object]) -> dict[str, Any]:
        if row["kind"] != "incident":
            return {name: row[name] for name in ("what", "kind", "subject", "body")}
        body = json.loads(row["body"])
        for part in (body["entry"], *body["conditions"]):
            part["incident_id"] = names[part["incident_id"]]
        kept = {name: row[name] for name in ("what", "kind", "by", "role", "at_ms")}
        return kept | {"subject": names[int(row["subject"])], "body": body}


BOTH = pytest.mark.both_databases
"""For tests whose statements the two databases might understand differently."""


def river(start: int, values: Iterable[float], parameter: str = "nh3n", step: int = STEP) -> dict[int, Values]:
    return {start + i * step: {parameter: value} for i, value in enumerate(values)}


def calm(n: int, level: float = 1.5) -> list[float]:
    """Quiet water: small, never exactly repeating."""
    return [round(level + 0.01 * (i % 7) + 0.001 * (i % 3), 3) for i in range(n)]


def bad(n: int, level: float = 2.4) -> list[float]:
    return calm(n, level)


def judged_at_once(
    readings: Mapping[tuple[str, int], tuple[float, int]], *, learn: bool = True
) -> dict[tuple[str, int], int]:
    """The verdicts of the whole table judged in one go."""
    keys = sorted(readings, key=lambda key: (CATALOGUE.index[key[0]], key[1]))
    parameter = np.array([CATALOGUE.index[p] for p, _ in keys], np.int64)
    at = np.array([at for _, at in keys], np.int64)
    value = np.array([readings[key][0] for key in keys])
    status = np.full(len(keys), ord("N"), np.uint8)
    every = np.arange(len(CATALOGUE), dtype=np.int32)
    memory = SeriesState.of(np.zeros(len(CATALOGUE), np.int32), every)
    verdict = check_quality(SeriesReadings(parameter, parameter, at, value, status), memory, CATALOGUE, learn=learn)
    return dict(zip(keys, pack(verdict.flag, verdict.tests).tolist(), strict=True))


def differences(one: Mapping[str, list[Any]], other: Mapping[str, list[Any]]) -> dict[str, Any]:
    return {
        name: {
            "only here": [r for r in one[name] if r not in other[name]],
            "only there": [r for r in other[name] if r not in one[name]],
        }
        for name in one
        if one[name] != other[name]
    }
