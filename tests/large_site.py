"""A large site: 5,000 stations, 100,000 incidents, 30 days of thinned history; made by SQL, served under a watch.

``python -m tests.large_site FOLDER PORT`` serves what `seed` laid down, open to all. ``/measured`` answers what the
process has computed since it was asked before: processor time, which a busy machine does not change.
"""

import asyncio
import gc
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.app import create_app
from api.context import Context
from governance.audit import trail as audit_trail
from governance.audit.merkle import AuditEntry
from governance.incidents import store as incident_store
from governance.incidents.model import Action, Assignment, Order
from governance.notify import oncall
from governance.notify.oncall import Shift
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import Role
from governance.people import store as people_store
from governance.verification import roots
from infra.database import Database, insert_many
from infra.times import DAY_MS
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from riverchief import files, logs
from riverchief.settings import LogSection
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water
from tests.cases import OPERATOR, a_finding
from tests.databases import stored, with_tables

HOUR_MS = 3_600_000
STATIONS, INCIDENTS, OPEN, DAYS = 5_000, 100_000, 2_000, 30
PAST, TRAIL = 3 * 365, 90
"""Days over which the incidents lie, and of which the trail tells: as far back as an assessment looks."""
REACHES, STREETS = 200, 40
PARAMETERS = ("nh3n", "do", "codmn")
SOURCE = "/riverchief/test"
KEY = Ed25519PrivateKey.from_private_bytes(b"a key of a site made up for test"[:32])
CHIEF, OFFICE = "陈河长（示例）", "李调度（示例）"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def station_key(i: int) -> str:
    return f"s{i:04d}"


def seed(folder: Path) -> None:
    """The database of the site, filled."""
    database = with_tables(Database(f"sqlite:///{folder / 'river.db'}"))
    known, now = catalogue(), now_ms()
    district = Region("d", "示例区", "District", Level.DISTRICT)
    streets = [Region(f"d/{i}", f"{i}街", f"Street {i}", Level.STREET, "d") for i in range(STREETS)]
    reaches = [
        Reach(f"r{i}", f"{i}涌", f"Creek {i}", Water.CREEK, ((113.0 + i / 500, 22.9), (113.0 + i / 500, 23.1)))
        for i in range(REACHES)
    ]
    stations = [
        Station(
            station_key(i),
            f"{i}号站",
            f"Station {i}",
            113.0 + i % REACHES / 500,
            22.9 + 0.2 * (i // REACHES) / (STATIONS // REACHES),
            reach=f"r{i % REACHES}",
            region=f"d/{i % STREETS}",
            interval_s=3600,
            parameters=PARAMETERS,
        )
        for i in range(STATIONS)
    ]
    regions = Regions([district, *streets], stations)
    with database.write() as connection:
        registry_store.save(connection, Registry(stations, (), reaches, known, regions=[district, *streets]))
        for i in range(200):
            role = (Role.GRID_WORKER, Role.CHIEF)[i % 2]
            people_store.add(
                connection, f"示例{i}", role, region=f"d/{i % STREETS}", by="test", now_ms=now, regions=regions
            )
        people_store.add(connection, CHIEF, Role.GENERAL_CHIEF, region="d", by="test", now_ms=now, regions=regions)
        people_store.add(connection, OFFICE, Role.OFFICE, region="d", by="test", now_ms=now, regions=regions)
        shifts = [Shift("duty", now + (i - 100) * DAY_MS, now + (i - 99) * DAY_MS, 1, 0) for i in range(200)]
        oncall.add(connection, shifts, by=OFFICE, now_ms=now)
    _readings(database, now)
    _cases(database, now)
    _rest(database, now)
    with database.write() as connection:
        roots.seal(connection, KEY, origin=SOURCE, now_ms=now)
        connection.exec_driver_sql("ANALYZE")
    database.close()


def _readings(database: Database, now: int) -> None:
    store = SqlReadings(database, catalogue())
    names = [station_key(i) for i in range(STATIONS)]
    rng = np.random.default_rng(1)
    thin = np.arange(now - DAYS * DAY_MS, now, 12 * HOUR_MS) + 11 * HOUR_MS
    full = np.arange(now - DAYS * DAY_MS, now, HOUR_MS // 6)
    series = {}
    for i in range(STATIONS):
        at = full if i < 5 else thin
        for parameter in PARAMETERS:
            series[i, parameter] = (at, np.round(rng.uniform(0.5, 6.0, len(at)), 3))
    stored(database, store, names, series)


def _cases(database: Database, now: int) -> None:
    """Two incidents as they come about, an open one and a closed one, and copies of them."""
    with database.write() as connection:
        made = []
        for i in (0, 1):
            began = now - 5 * HOUR_MS
            finding = a_finding(began, cause=f"p{i}", station=station_key(i))
            place = Place(f"d/{i}", f"r{i}", 113.0, 23.0)
            found = incident_store.record_findings(
                connection, [finding], began, source=SOURCE, place=lambda _, p=place: p
            )
            made.append(found.ids[0])
        for number, orders in (
            (made[0], (Order(Action.ACCEPT), Order(Action.DISPATCH, assignment=Assignment("d/0", CHIEF)))),
            (made[1], (Order(Action.ACCEPT), Order(Action.FALSE_ALARM, comment="示例", reason="sensor_fault"))),
        ):
            for order in orders:
                incident_store.apply_action(
                    connection, number, order, OPERATOR, now_ms=now - 4 * HOUR_MS, source=SOURCE
                )
    numbers = f"WITH RECURSIVE n(i) AS (SELECT {made[1] + 1} UNION ALL SELECT i + 1 FROM n WHERE i < {INCIDENTS})"
    is_open = f"(n.i % {INCIDENTS // OPEN} = 0)"
    pattern = f"p.id = CASE WHEN {is_open} THEN {made[0]} ELSE {made[1]} END"
    ago = f"(CASE WHEN {is_open} THEN (n.i % 20) ELSE {INCIDENTS} - n.i END * {PAST * DAY_MS // INCIDENTS})"
    special = {
        "id": "n.i",
        "cause": "'c' || n.i",
        "open_cause": f"CASE WHEN {is_open} THEN 'c' || n.i END",
        "station": f"'s' || printf('%04d', n.i % {STATIONS})",
        "region": f"'d/' || (n.i % {STREETS})",
        "reach": f"'r' || (n.i % {REACHES})",
        "lon": f"113.0 + (n.i % {REACHES}) / 500.0",
        "lat": f"22.9 + 0.2 * (n.i % {STATIONS} / {REACHES}) / {STATIONS // REACHES}",
        "colour": "CASE n.i % 4 WHEN 0 THEN 'red' WHEN 1 THEN 'orange' WHEN 2 THEN 'yellow' ELSE 'blue' END",
    }
    _copy(database, "incident", special, f"{numbers} SELECT {{}} FROM n JOIN incident p ON {pattern}", ago)
    pattern = pattern.replace("p.id", "p.incident_id")
    for table, columns in (
        ("incident_entry", {"id": "NULL", "incident_id": "n.i", "finding_id": "NULL"}),
        ("incident_condition", {"incident_id": "n.i", "station": special["station"]}),
    ):
        _copy(database, table, columns, f"{numbers} SELECT {{}} FROM n JOIN {table} p ON {pattern}", ago)
    pattern += " AND p.attempts = 0"
    outbox = {"id": "NULL", "event_id": "p.event_id || n.i", "incident_id": "n.i", "status": "'delivered'"}
    _copy(
        database, "outbox", outbox, f"{numbers} SELECT {{}} FROM n JOIN outbox p ON {pattern} AND p.attempts = 0", ago
    )


def _copy(database: Database, table: str, special: dict[str, str], query: str, ago: str) -> None:
    """Copies of rows, all times as much earlier as their incident is, some columns set to other expressions."""
    with database.write() as connection:
        names = [one["name"] for one in sa.inspect(connection).get_columns(table)]
        chosen = []
        for name in names:
            earlier = f'p."{name}" - {ago}' if name.endswith("_ms") else f'p."{name}"'
            chosen.append(special.get(name, earlier))
        columns = ", ".join(f'"{name}"' for name in names)
        connection.exec_driver_sql(f"INSERT INTO {table} ({columns}) {query.format(', '.join(chosen))}")


def _rest(database: Database, now: int) -> None:
    """Ledger, visits, checks, quarantine, reports, patrols, messages, live classes and the trail."""

    def many(count: int, statement: str) -> None:
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1}) "
        table, _, values = statement.partition(": ")
        connection.exec_driver_sql(f"INSERT INTO {table} {numbers}SELECT {values} FROM n")

    key = f"'s' || printf('%04d', n.i % {STATIONS})"
    day = "strftime('%Y-%m-%d', {} / 1000 + 28800, 'unixepoch')"
    with database.write() as connection:
        many(
            STATIONS * DAYS,
            "ledger (station, day, messages, messages_duplicate, messages_unnumbered, messages_quarantined, readings, "
            f"stored, duplicate, quarantined): {key}, {day.format(f'({now} - (n.i / {STATIONS}) * {DAY_MS})')}, "
            "24, 0, 0, 0, 72, 72, 0, 0",
        )
        many(
            20_000,
            "quarantine (status, reason, detail, source, station, topic, received_at_ms, account, day, payload, "
            f"payload_bytes): 'open', 'not_registered', 'x', 'mqtt', {key}, 't', {now} - n.i * 1000, '', "
            f"{day.format(now)}, x'7b7d', 2",
        )
        many(
            4 * STATIONS,
            'visit (station, since_ms, until_ms, parameters, "by", note): '
            f"{key}, {now} - (n.i / {STATIONS} + 1) * {7 * DAY_MS}, {now} - (n.i / {STATIONS} + 1) * {7 * DAY_MS} "
            f"+ {HOUR_MS}, '[]', '示例', '清洗'",
        )
        many(
            4 * STATIONS,
            'calibration (station, parameter, kind, at_ms, standard, reading, span, "limit", device, lot, "by", note, '
            f"void): {key}, 'do', 'standard', {now} - (n.i / {STATIONS} + 1) * {7 * DAY_MS}, 8.0, 8.1, 20.0, 1.0, "
            "'', '', '示例', '', 0",
        )
        many(
            STATIONS,
            "live_class (kind, key, at_ms, class, deciding, judged, expected, text_zh, text_en): "
            f"'station', {key}, {now}, 1 + n.i % 6, 'nh3n', 3, 3, 'x', 'x'",
        )
        many(
            REACHES,
            "live_class (kind, key, at_ms, class, deciding, judged, expected, text_zh, text_en): "
            f"'reach', 'r' || n.i, {now}, 1 + n.i % 6, 'nh3n', 25, 25, 'x', 'x'",
        )
        many(
            5_000,
            "report (ticket, incident_id, at_ms, contact, sender, unsolved, follows): "
            f"'T' || n.i, n.i + 3, {now} - n.i * 60000, '', 'x', 0, 0",
        )
        many(
            20_000,
            "notice (contact, bucket, urgency, status, created_at_ms, due_at_ms, expires_at_ms, attempts, body, "
            f"sent_at_ms, sent_by): 'duty', 'd/' || (n.i % {STREETS}), 1, 'sent', {now} - n.i * 60000, "
            f"{now} - n.i * 60000, {now}, 1, 'x', {now} - n.i * 60000, 'sms'",
        )
        many(
            20_000,
            "notice_item (notice_id, incident_id, kind, colour, at_ms, place_zh, place_en, text_zh, text_en): "
            f"n.i + 1, n.i + 3, 'opened', 'orange', {now} - n.i * 60000, 'x', 'x', 'x', 'x'",
        )
        many(
            2_000,
            'patrol (key, "by", role, reach, region, started_ms, ended_ms, uploaded_ms, metres, minutes, jumps, valid, '
            "reason_zh, reason_en, way, note, chief, problems, covered, track): "
            f"'p' || n.i, '示例0', 'grid_worker', 'r0', 'd/0', {now} - n.i * {HOUR_MS}, "
            f"{now} - n.i * {HOUR_MS} + 1200000, {now}, 1200, 20, 0, 1, '', '', 'walk', '', '', "
            "'[]', '{}', '[]'",
        )
    _trail(database, now)


def _trail(database: Database, now: int) -> None:
    """The class of each water for each day, and what the closed incident of `_cases` left, for the newest ones."""
    told = {"class": "IV", "target": "V", "met": True, "deciding": ["nh3n"]}
    classes = {"reaches": {f"r{i}": told for i in range(REACHES)}}
    with database.write() as connection:
        for i in range(DAYS):
            at_ms = now - (DAYS - i) * DAY_MS
            audit_trail.append(
                connection, "water.classes", kind="water", id="reaches", body=classes, by="riverchief", at_ms=at_ms
            )
        pattern = audit_trail.list_entries(connection, kind="incident", id="2", limit=10)[::-1]
        n, prev = audit_trail.head(connection)
        rows = []
        for i in range(INCIDENTS - INCIDENTS * TRAIL // PAST, INCIDENTS):
            earlier_ms = (INCIDENTS - i) * (PAST * DAY_MS // INCIDENTS)
            for one in pattern:
                n += 1
                body = one.body.replace('"cause":"p1"', f'"cause":"c{i}"')
                opened = re.search(r'"opened_at_ms":(\d+)', body)
                assert opened is not None
                body = body.replace(opened[0], f'"opened_at_ms":{int(opened[1]) - earlier_ms}')
                at_ms = one.at_ms - earlier_ms
                line = AuditEntry(n, at_ms, one.by, one.role, one.what, one.kind, str(i), body, prev, "")
                rows.append((n, at_ms, one.by, one.role, one.what, one.kind, str(i), body, prev, line.expected_hash()))
                prev = rows[-1][-1]
        insert_many(
            connection,
            'INSERT INTO audit (n, at_ms, "by", role, what, kind, subject, body, prev_hash, hash)',
            rows,
            "",
        )


# -- serving under a watch -------------------------------------------------------------------------------------------


class EventCounters:
    """What the process and the thread of the event loop have computed, in ms of processor time.

    Pauses of the garbage collector are left out of the callbacks they happen to fall into: they grow with the pages
    that are open, not with what a callback does.
    """

    def __init__(self) -> None:
        self._began = time.process_time()
        self._collecting = self._collected = 0.0
        self._longest_ms, self._longest = 0.0, ""

    def install(self) -> None:
        """Time every callback of the event loop; of asyncio's own, whose private method does the work."""
        run = asyncio.Handle._run
        gc.callbacks.append(self._collector)

        def timed(handle: asyncio.Handle) -> None:
            began, collected = time.thread_time(), self._collected
            run(handle)
            took_ms = 1000 * (time.thread_time() - began - (self._collected - collected))
            if took_ms > self._longest_ms:
                self._longest_ms, self._longest = took_ms, repr(handle)[:300]

        asyncio.Handle._run = timed  # type: ignore[method-assign]

    def _collector(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._collected += time.thread_time() - self._collecting

    def measured(self) -> dict[str, Any]:
        """What was computed since it was asked before."""
        now = time.process_time()
        found = {"cpu_ms": 1000 * (now - self._began), "longest_ms": self._longest_ms, "longest": self._longest}
        self._began, self._longest_ms, self._longest = now, 0.0, ""
        return found


def serve(folder: Path, port: int) -> None:
    logs.configure(LogSection())
    database = Database(f"sqlite:///{folder / 'river.db'}")
    context = Context(
        database=database,
        store=SqlReadings(database, catalogue()),
        catalogue=catalogue(),
        source=SOURCE,
        clock_ms=now_ms,
        open=True,
        photos=folder / "photos",
        processes=files.read_processes(None),
        audit_keys=(KEY.public_key(),),
        reports_an_hour=1000,
    )
    watch = EventCounters()
    watch.install()
    app = create_app(context)
    app.add_api_route("/measured", watch.measured)
    app.router.routes.insert(0, app.router.routes.pop())
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", loop="asyncio")


if __name__ == "__main__":
    if sys.argv[2] == "seed":
        seed(Path(sys.argv[1]))
    else:
        serve(Path(sys.argv[1]), int(sys.argv[2]))
