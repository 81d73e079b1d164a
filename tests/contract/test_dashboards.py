"""Every query of every dashboard, put to the real servers as Grafana puts it, over a simulated day.

A dashboard that names a field nobody writes shows an empty panel and no error: here it fails. Overrides, too, must find
the series or column they dress. The day goes through the real pipeline into a real PostgreSQL, from there through the
real encoder into a real InfluxDB; the metrics are those of a running ``riverchief serve``, kept by a real
Prometheus.
"""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from dashboards import catalogue as dashboards
from dashboards import parts
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour
from governance.incidents.model import Action, Order
from governance.tables import outbox
from infra.database import Database
from infra.texts import Text
from infra.times import BEIJING_OFFSET_MS
from ingest import ledger
from ingest.pipeline import Site
from ingest.storage import lineprotocol, schema
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from ingest.storage.sql import SqlReadings
from ingest.storage.timeseries import ServerKind as Server
from riverchief import files
from riverchief.brokers.local import free_port
from sensors.parameters import catalogue
from sensors.reading import Batch, Flag, Floats, Ints, Message, QualityTest, pack
from sensors.standards import gb3838
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Deployment, Registry, Station
from sensors.wire import telemetry
from sensors.wire.telemetry import Sample, Telemetry
from simulator.devices.sensor_faults import ANALYSED, Instruments
from simulator.physics.world import World
from simulator.scenario import Cycle, Event, EventKind, Scenario
from tests.cases import OPERATOR, a_finding
from tests.databases import with_tables
from tests.grafana import Frame, Servers, Window, joined
from tests.influx import real_server
from tests.postgres import server as postgres_server
from tests.prometheus import serving
from tests.rig import Running, eventually

pytestmark = [pytest.mark.influx, pytest.mark.postgres, pytest.mark.prometheus, pytest.mark.broker]

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
STEP = 5 * MINUTE
KNOWN = catalogue()
BOARDS = {board["uid"]: board for board in map(parts.plain, dashboards.build("https://console.example"))}
PANELS = [(uid, panel["id"]) for uid, board in BOARDS.items() for panel in board["panels"]]
TITLES = {(uid, panel["id"]): panel["title"] for uid, board in BOARDS.items() for panel in board["panels"]}

SEWER, SILENT, RESTARTED, SKIPPED, UNNUMBERED, LAKE, GAUGE = (
    "qcc-huanhu-1",
    "dph-shiwan-4",
    "dph-shiwan-2",
    "dph-shiwan-3",
    "qcc-huanhu-2",
    "shiwan-lake-1",
    "gauge-1",
)
"""Stations to which something happens on the day."""


def panel_of(uid: str, title: str) -> dict[str, Any]:
    """The panel of a dashboard whose title begins so."""
    (found,) = [panel for panel in BOARDS[uid]["panels"] if panel["title"].startswith(title)]
    return dict(found)


# -- the day ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Day:
    """What was simulated, and the servers that hold it."""

    servers: Servers
    window: Window
    registry: Registry
    database: Database

    def variables(self, uid: str, **chosen: str | list[str]) -> dict[str, str | list[str]]:
        return self.servers.variables(BOARDS[uid], self.window, chosen)

    def ask(self, uid: str, title: str, **chosen: str | list[str]) -> list[list[Frame]]:
        return self.servers.panel(panel_of(uid, title), self.variables(uid, **chosen), self.window)

    def sole(self, uid: str, title: str, **chosen: str | list[str]) -> Frame:
        """The one frame of a panel that has one."""
        ((frame,),) = self.ask(uid, title, **chosen)
        return frame


CHOSEN = {"rc-river": {"reach": "qichachong-huanhu", "parameter": "nh3n"}, "rc-station": {"station": SEWER}}
"""Where a single value is to be chosen, the place where something happened."""


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, str]]:
    """(seconds, exposition) of a running site: one look before and one after it stored readings."""
    site = Running(tmp_path_factory.mktemp("site"), "mosquitto")
    try:
        with _answering() as receiver:
            port = free_port()
            site.more = f"""[api]
port = {port}
[influx]
url = "{real_server(Server.INFLUXDB1).url}"
kind = "influxdb1"
bucket = "{real_server(Server.INFLUXDB1).fresh().settings.bucket}"
[watch]
heartbeat_url = "{receiver}"
heartbeat_s = 5
"""
            site.register(Station("s1", "站一", "station one", 113.1, 23.0))
            site.start("serve")
            address = f"http://127.0.0.1:{port}"
            eventually("it is ready", lambda: _status(f"{address}/readyz") == 200)

            def look() -> tuple[float, str]:
                return time.time(), httpx.get(f"{address}/metrics", timeout=10).text

            def send(minute: int) -> None:
                body = {"station": "s1", "readings": [{"at": f"2026-05-12T10:3{minute}:00Z", "values": {"ph": 7.1}}]}
                assert httpx.post(f"{address}/api/v1/readings", json=body, timeout=10).status_code == 202

            send(0)
            eventually("the batch is counted", lambda: "riverchief_readings_stored_total 1.0" in look()[1])
            looks = [look()]
            send(1)
            send(2)
            eventually(
                "silence was checked", lambda: "riverchief_last_silence_check_timestamp_seconds 0.0" not in look()[1]
            )
            eventually("a heartbeat was given", lambda: "riverchief_heartbeat_timestamp_seconds 0.0" not in look()[1])
            return [*looks, look()]
    finally:
        site.close()


@contextmanager
def _answering() -> Iterator[str]:
    """The address of somebody who takes everything: the outside platform of the heartbeats."""

    class Yes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Yes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def _status(address: str) -> int:
    try:
        return httpx.get(address, timeout=2).status_code
    except httpx.HTTPError:
        return 0


@pytest.fixture(scope="module")
def day(metrics: list[tuple[float, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    now = int(time.time() * 1000) // 1000 * 1000
    database = Database(postgres_server().database())
    with_tables(database)
    registry = _registry(now)
    with database.write() as connection:
        registry_store.save(connection, registry)
    store = SqlReadings(database, KNOWN)
    _live_through(Site(database, store, files.read_rules(Path("config/rules.toml"), KNOWN), KNOWN), registry, now)
    _work(database, now)
    influx = real_server(Server.INFLUXDB1)
    client = influx.fresh()
    lines = [*_water(store, registry, now), *_classes(store, registry, now), *_events(database, registry, now)]
    name = client.settings.bucket
    for start in range(0, len(lines), 5000):
        body = b"\n".join(lines[start : start + 5000])
        answer = httpx.post(f"{influx.url}/write?db={name}&precision=ms", content=body, trust_env=False, timeout=60)
        assert answer.status_code == 204, answer.text
    with serving(_scraped(metrics, now), tmp_path_factory.mktemp("prometheus")) as prometheus:
        servers = Servers((influx.url, name), _plain_url(database), prometheus)
        yield Day(servers, Window(now - DAY, now), registry, database)
    database.close()


def _plain_url(database: Database) -> str:
    """As libpq reads it."""
    return database.url.set(drivername="postgresql").render_as_string(hide_password=False)


def _registry(now: int) -> Registry:
    """The shipped example, a rain gauge beside it, and a probe that reports in another unit."""
    example = files.read_stations(Path("config/stations.toml"), KNOWN)
    gauge = Station(
        GAUGE,
        "雨量站",
        "rain gauge",
        113.15,
        23.02,
        reach="qichachong-huanhu",
        region="chancheng/zumiao",
        parameters=("rain",),
    )
    deployed = Deployment("qcc-huanhu-1", "conductivity", now - 30 * DAY, "mS/cm")
    return replace(example.with_stations([gauge]), deployments=(*example.deployments, deployed))


def _live_through(site: Site, registry: Registry, now: int) -> None:
    """Twenty-four hours as the devices lived them: sewage, silence, restarts, holes, nonsense."""
    place = {"reach": registry[SEWER].reach, "km": 0.4, "sudden": True}
    events = (
        Event("past", EventKind.SEWAGE, now - 6 * HOUR, now - 4 * HOUR, **place),
        Event("now", EventKind.SEWAGE, now - 40 * MINUTE, now + HOUR, **place),
    )
    at_once = Cycle(tuple(s.key for s in registry.stations), tuple(sorted(ANALYSED)), 0)
    day = Scenario("day", "", "", "", "", now - DAY - HOUR, 1.1, spin_up_days=1.0, events=events, cycles=(at_once,))
    probes = Instruments(registry, day, World(registry, day, seed=3), seed=3, known=KNOWN)
    at = np.arange(now - DAY - 30_000, now, STEP, dtype=np.int64)
    samples = {s.key: _samples(registry, s, at, probes) for s in registry.stations}
    sent = Counter[str]()
    messages: list[Message] = []
    for i, at_ms in enumerate(at.tolist()):
        for s in registry.stations:
            if s.key == SILENT and at_ms > now - 3 * HOUR:
                continue
            sample = samples[s.key][i]
            boot = 2 if s.key == RESTARTED and i >= len(at) // 2 else 1
            seq = i - (len(at) // 2 if boot == 2 else 0)
            sent[s.key] += len(sample.values)
            if s.key == SKIPPED and i in (50, 51, 52):
                continue
            numbered = {} if s.key == UNNUMBERED else {"seq": seq, "boot": boot}
            if s.key not in (RESTARTED, UNNUMBERED):
                numbered["total"] = sent[s.key]
            payload = telemetry.encode(Telemetry((sample,), **numbered, sent_at_ms=at_ms))
            messages.append(Message(s.key, payload, at_ms + 2000, topic=f"rivers/v1/{s.key}/telemetry"))
        if i % 3 == 2 or at_ms > now - 2 * HOUR:  # a batch takes long, however little is in it
            site.process(messages, at_ms + 2500)
            messages = []
        if i == len(at) // 3:
            _nonsense(site, at_ms)
    for station, online in ((SEWER, True), (SILENT, False)):
        status = json.dumps({"online": online}).encode()
        site.handle_device_messages(
            [Message(station, status, now - HOUR, topic=f"rivers/v1/{station}/status", kind="status")], now - HOUR
        )
    door = Message(SEWER, b'{"event": "door_open"}', now - 2 * HOUR, topic=f"rivers/v1/{SEWER}/event", kind="event")
    site.handle_device_messages([door], now - 2 * HOUR)
    site.tick(now - 20 * HOUR, now)


def _samples(registry: Registry, station: Station, at: Ints, probes: Instruments) -> list[Sample]:
    if station.key == GAUGE:
        return [Sample(ms, {"rain": float(i % 7 == 0)}) for i, ms in enumerate(at.tolist())]
    values = {key: said.value for key, said in probes.read(station, at, STEP).items()}
    if station.key == LAKE:
        values["do"] = np.where(
            np.arange(len(at)) % 40 == 20, -999.0, values["do"]
        )  # a logger's fault code, now and then
    rows = zip(*(_reported(registry, station.key, key, column) for key, column in values.items()), strict=True)
    return [Sample(ms, dict(zip(values, row, strict=True))) for ms, row in zip(at.tolist(), rows, strict=True)]


def _reported(registry: Registry, station: str, parameter: str, values: Floats) -> list[float]:
    in_milli = any((d.station, d.parameter, d.unit) == (station, parameter, "mS/cm") for d in registry.deployments)
    return [float(value) for value in (values / 1000 if in_milli else values)]


def _nonsense(site: Site, at_ms: int) -> None:
    """What goes to quarantine: a stranger, a word for a number, a parameter nobody knows."""
    good = {"at": "2026-05-12T10:30:00Z", "values": {"ph": 7.0}}
    for station, body in (
        ("stranger", json.dumps({"readings": [good]})),
        (SEWER, '{"readings": [{"at": "2026-05-12T10:30:00Z", "values": {"ph": "seven"}}]}'),
        (SEWER, '{"readings": [{"at": "2026-05-12T10:30:00Z", "values": {"gold": 1.0}}]}'),
        ("pynd-1", "not json"),
    ):
        site.process([Message(station, body.encode(), at_ms, topic=f"rivers/v1/{station}/telemetry")], at_ms)


def _work(database: Database, now: int) -> None:
    """What people and the outbox did: accepted, closed, called wolf; delivered, refused, one still waiting."""
    with database.write() as connection:
        for i, colour in enumerate(Colour):
            at_ms = now - (20 - i) * HOUR
            finding = a_finding(
                at_ms,
                rule=f"rule-{colour}",
                cause=f"cause-{i}",
                station=SEWER,
                parameter="ph",
                value=9.6,
                limit=9.0,
                colour=colour,
                text=Text("测试事件", "an incident"),
            )
            incident_store.record_findings(connection, [finding], at_ms, source="/riverchief")
    with database.read() as connection:
        made = {i.rule: i for i in incident_queries.list_incidents(connection, limit=100)}
    with database.write() as connection:

        def act(rule: str, action: Action, at_ms: int) -> None:
            order = Order(action, comment="示例", reason="other" if action is Action.FALSE_ALARM else "")
            incident_store.apply_action(connection, made[rule].id, order, OPERATOR, now_ms=at_ms, source="/riverchief")

        for colour, wait in ((Colour.RED, 4 * MINUTE), (Colour.ORANGE, 20 * MINUTE), (Colour.YELLOW, 90 * MINUTE)):
            act(f"rule-{colour}", Action.ACCEPT, made[f"rule-{colour}"].opened_at_ms + wait)
        act("rule-blue", Action.FALSE_ALARM, now - 2 * HOUR)
        # whenever the test runs, one of the calls was at two in the morning
        called = connection.execute(sa.select(sa.func.max(outbox.c.id)).where(outbox.c.notify == "page")).scalar_one()
        night_ms = now - (now + BEIJING_OFFSET_MS - 2 * HOUR) % DAY
        connection.execute(sa.update(outbox).where(outbox.c.id == called).values(created_at_ms=night_ms))
        for row in connection.execute(sa.select(outbox.c.id, outbox.c.created_at_ms)).all():
            took = 90 + 10 * (row.id % 9)
            values = {"status": "delivered", "delivered_at_ms": row.created_at_ms + took, "attempts": 1}
            connection.execute(sa.update(outbox).where(outbox.c.id == row.id).values(**values))
        newest = connection.execute(sa.select(sa.func.max(outbox.c.id))).scalar_one()
        waiting = {"status": "pending", "delivered_at_ms": None}
        connection.execute(sa.update(outbox).where(outbox.c.id == newest).values(**waiting))


def _water(store: SqlReadings, registry: Registry, now: int) -> Iterator[bytes]:
    """The day's readings as the encoder writes them; one station's oxygen has every verdict and test there is."""
    keys, reaches = [s.key for s in registry.stations], [s.reach for s in registry.stations]
    for i, s in enumerate(registry.stations):
        found = store.window(s.key, now - 2 * DAY, now)
        batch = Batch.of([i] * len(found), found.parameter.tolist(), found.at.tolist(), found.value.tolist())
        packed = found.packed.copy()
        if s.key == LAKE:
            verdicts = [
                (flag, test) for flag in (Flag.UNKNOWN, Flag.SUSPECT, Flag.BAD, Flag.MISSING) for test in QualityTest
            ]
            measured = (found.parameter == KNOWN.index["do"]) & (found.value > 0)  # a fault code keeps its own verdict
            rows = np.flatnonzero(measured)[-len(verdicts) :]
            for row, (flag, test) in zip(rows.tolist(), verdicts, strict=False):
                packed[row] = pack(np.array([flag], np.uint8), np.array([test], np.uint32))[0]
        yield from lineprotocol.encode(keys, reaches, batch, packed, KNOWN)


def _classes(store: SqlReadings, registry: Registry, now: int) -> Iterator[bytes]:
    """The class of every station and reach each five minutes; one reach could not be judged for a while."""
    targets = {r.key: 3 for r in registry.reaches}
    worst: dict[tuple[str, int], gb3838.Judgement] = {}
    for s in registry.stations:
        found = store.window(s.key, now - DAY, now)
        rows: dict[int, dict[str, float]] = {}
        for parameter, at_ms, value in zip(
            found.parameter.tolist(), found.at.tolist(), found.value.tolist(), strict=True
        ):
            rows.setdefault(at_ms, {})[KNOWN.parameters[parameter].key] = value
        for at_ms, values in rows.items():
            judged = gb3838.judge(values, gb3838.Water.of(s.water.value))
            yield _class_point({schema.STATION: s.key, schema.REACH: s.reach}, judged, at_ms, targets)
            key = s.reach, at_ms
            if key not in worst or (judged.water_class or 0) > (worst[key].water_class or 0):
                worst[key] = judged
    for (reach, at_ms), judged in worst.items():
        unjudged = reach == "shiwan-lake" and now - 8 * HOUR < at_ms < now - 7 * HOUR
        shown = replace(judged, water_class=None, deciding=(), classes={}) if unjudged else judged
        yield _class_point({schema.REACH: reach}, shown, at_ms, targets)


def _class_point(tags: Mapping[str, str], judged: gb3838.Judgement, at_ms: int, targets: Mapping[str, int]) -> bytes:
    fields: dict[str, int | str] = {
        schema.JUDGED: len(judged.classes),
        schema.EXPECTED: 5,
        schema.TARGET: targets[tags[schema.REACH]],
    }
    if judged.water_class is not None:
        fields |= {schema.CLASS: int(judged.water_class), schema.DECIDING: ",".join(judged.deciding)}
    return lineprotocol.point(schema.RIVER_CLASS, tags, fields, at_ms)


def _events(database: Database, registry: Registry, now: int) -> Iterator[bytes]:
    """Incidents as they are, and one event of every other kind."""
    reach = {s.key: s.reach for s in registry.stations}
    with database.read() as connection:
        found = incident_queries.list_incidents(connection, limit=100)
    for i in found:
        tags = {schema.KIND: "incident", schema.STATION: i.station, schema.REACH: reach.get(i.station, "")}
        fields = {
            schema.ID: i.id,
            schema.COLOUR: i.colour.value,
            schema.TITLE: i.title.zh,
            schema.UNTIL: i.closed_at_ms or 0,
        }
        yield lineprotocol.point(schema.EVENT, tags, fields, i.since_ms)
    for hours, kind in enumerate(("visit", "calibration", "swap", "rules"), start=3):
        tags = {schema.KIND: kind} | ({} if kind == "rules" else {schema.STATION: SEWER, schema.REACH: reach[SEWER]})
        fields = {
            schema.ID: hours,
            schema.COLOUR: "",
            schema.TITLE: f"示例 {kind}",
            schema.UNTIL: now - hours * HOUR + MINUTE,
        }
        yield lineprotocol.point(schema.EVENT, tags, fields, now - hours * HOUR)


def _scraped(metrics: list[tuple[float, str]], now: int) -> list[tuple[int, str]]:
    """The expositions as if they had been scraped each 15 seconds, the later one up to now: (ms, text)."""
    (_, before), (_, after) = metrics[0], metrics[-1]
    age_s = now / 1000 - metrics[-1][0]
    later = re.sub(  # the times the site tells are moved with it
        r"^(riverchief_\w*(?:last|timestamp)\w*_seconds) (\S+)$",
        lambda m: f"{m[1]} {float(m[2]) + age_s if float(m[2]) else 0}",
        after,
        flags=re.MULTILINE,
    )
    return [(now + s * 1000, before if s < -120 else later) for s in range(-300, 1, 15)]


# -- every query -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("uid", "panel_id"), PANELS, ids=str)
def test_every_panel_gets_what_it_shows(day: Day, uid: str, panel_id: int) -> None:
    panel = next(p for p in BOARDS[uid]["panels"] if p["id"] == panel_id)
    shown = day.servers.panel(panel, day.variables(uid, **CHOSEN.get(uid, {})), day.window)
    frames = [frame for answer in shown for frame in answer]
    assert any(value is not None for frame in frames for value in frame.values), "the panel would be empty"
    chosen = panel["options"].get("reduceOptions", {}).get("fields", "")
    if chosen:  # a stat shows these columns only
        seen = [(frame, name) for frame in frames for name in frame.columns if re.search(chosen.strip("/"), name)]
        assert any(value is not None for frame, name in seen for value in frame.column(name)), chosen


DRESSED = {**CHOSEN, "rc-station": {"station": LAKE}, "rc-quality": {"station": [LAKE]}}
"""Where a reading has every verdict there is."""


def dressed_names(panel: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(matcher, what it looks for) of each override that must find something.

    Those of :func:`parts.per_parameter` speak of every parameter there is, and the classes and letters of what may be.
    """
    found = []
    for override in panel["fieldConfig"]["overrides"]:
        kind, looked_for = override["matcher"]["id"], override["matcher"]["options"]
        if not (kind == "byRegexp" and looked_for.split(" ")[0][2:] in KNOWN):
            found.append((kind, looked_for))
    return found


@pytest.mark.parametrize(("uid", "panel_id"), PANELS, ids=str)
def test_every_override_finds_the_field_it_dresses(day: Day, uid: str, panel_id: int) -> None:
    """A misspelled column would lose its name, unit or link and nobody would be told."""
    panel = next(p for p in BOARDS[uid]["panels"] if p["id"] == panel_id)
    variables = day.variables(uid, **DRESSED.get(uid, CHOSEN.get(uid, {})))
    names = {name for answer in day.servers.panel(panel, variables, day.window) for f in answer for name in f.names}
    may_be = {one.sign for one in WaterClass} | {f"max_{schema.flag(p.key)}" for p in KNOWN.parameters}
    for kind, looked_for in dressed_names(panel):
        if kind == "byName":
            assert looked_for in names | may_be, (looked_for, sorted(names))
        else:
            pattern = re.compile(looked_for.strip("/"))
            assert any(pattern.search(name) for name in names), (looked_for, sorted(names))
    for transformation in panel.get("transformations", []):
        for column in transformed_columns(transformation):
            assert column in names, (transformation["id"], column, sorted(names))


def transformed_columns(transformation: Mapping[str, Any]) -> list[str]:
    """The columns a transformation names."""
    options = transformation["options"]
    match transformation["id"]:
        case "joinByField":
            return [options["byField"]]
        case "sortBy":
            return [one["field"] for one in options["sort"]]
        case "organize":
            return [*options["indexByName"], *options["excludeByName"]]
    raise AssertionError(f"the tests know no transformation {transformation['id']}")


@pytest.mark.parametrize("uid", BOARDS)
def test_every_variable_offers_something_and_the_registry_decides_what(day: Day, uid: str) -> None:
    variables = day.variables(uid)
    assert all(variables.values()), variables
    assert set(variables) == {variable["name"] for variable in BOARDS[uid]["templating"]["list"]}


@pytest.mark.parametrize(
    ("uid", "name"),
    [(uid, one["name"]) for uid, board in BOARDS.items() for one in board.get("annotations", {}).get("list", [])],
)
def test_every_annotation_marks_what_happened(day: Day, uid: str, name: str) -> None:
    (annotation,) = [one for one in BOARDS[uid]["annotations"]["list"] if one["name"] == name]
    variables = day.variables(uid, **CHOSEN.get(uid, {}))
    (frame,) = day.servers.annotation(annotation, variables, day.window)
    assert frame.rows
    for column in (annotation["textColumn"], annotation["tagsColumn"], annotation["timeEndColumn"]):
        assert column in frame.columns
    assert all(frame.column(annotation["textColumn"]))


# -- what the answers say --------------------------------------------------------------------------------------------


def test_the_classes_of_every_reach_add_up_at_every_moment(day: Day) -> None:
    """A reach that cannot be judged is shown as such and never left out of the sum."""
    frames = {frame.name: dict(frame.rows) for answer in day.ask("rc-overview", "类别构成") for frame in answer}
    assert set(frames) <= {*(one.sign for one in WaterClass), parts.NOTHING}
    assert len(frames) >= 3
    now = day.window.to_ms
    settled = [at for at in frames[parts.NOTHING] if now - DAY + HOUR < at < now - HOUR]
    assert len(settled) > 200
    for at in settled:
        assert sum(course.get(at) or 0 for course in frames.values()) == len(day.registry.reaches)
    blind = [at for at in settled if frames[parts.NOTHING][at]]
    assert blind
    assert all(now - 8 * HOUR - STEP <= at <= now - 7 * HOUR + STEP for at in blind)


def test_the_worst_water_has_its_name_and_what_decides(day: Day) -> None:
    (frames,) = day.ask("rc-overview", "各河段现状")
    rows = joined(frames, schema.REACH)
    assert sorted(rows.column("reach")) == sorted(reach.key for reach in day.registry.reaches)
    assert dict(zip(rows.column("reach"), rows.column("name"), strict=True))["shiwan-lake"] == "石湾公园湖"
    assert all(1 <= one <= 6 for one in rows.column("class"))
    assert all(set(one.split(",")) <= set(gb3838.PARAMETERS) for one in rows.column("deciding"))
    counts = zip(rows.column("judged"), rows.column("expected"), strict=True)
    assert all(0 < judged <= expected for judged, expected in counts)


def test_a_water_that_cannot_be_judged_now_shows_no_class_from_before(day: Day) -> None:
    """Minutes after the lake could last be judged its class is a dash, however good it was a moment ago."""
    then = day.window.to_ms - 8 * HOUR + 8 * MINUTE
    window = Window(then - DAY, then)
    variables = day.servers.variables(BOARDS["rc-river"], window, {"reach": "shiwan-lake"})
    ((shown,),) = day.servers.panel(panel_of("rc-river", "现状类别"), variables, window)
    assert shown.column("class") == [None]
    (frames,) = day.servers.panel(panel_of("rc-overview", "各河段现状"), day.variables("rc-overview"), window)
    rows = joined(frames, schema.REACH)
    classes = dict(zip(rows.column("reach"), rows.column("class"), strict=True))
    assert classes.pop("shiwan-lake") is None
    assert all(classes.values())


def test_a_class_that_is_no_longer_renewed_is_not_shown_as_the_state_of_now(day: Day) -> None:
    window = replace(day.window, to_ms=day.window.to_ms + HOUR)
    for title in ("现状类别", "参评/应评", "评价时间"):
        (frames,) = day.servers.panel(panel_of("rc-river", title), day.variables("rc-river"), window)
        assert frames == [], title


def test_stations_of_a_river_stand_in_the_order_the_water_passes_them(day: Day) -> None:
    shown = day.variables("rc-river", reach="dongpinghe-shiwan")["station"]
    assert shown == ["dph-shiwan-1", "dph-shiwan-2", "dph-shiwan-3", "dph-shiwan-4"]


def test_a_new_station_needs_no_edit(day: Day) -> None:
    place = {"reach": "dongpinghe-shiwan", "region": "chancheng/new", "parameters": ("ph",)}
    new = Station("dph-new", "新站", "new", 113.09, 22.989, **place)
    with day.database.write() as connection:
        registry_store.save(connection, registry_store.load(connection, KNOWN).with_stations([new]))
    try:
        assert "dph-new" in day.variables("rc-river", reach="dongpinghe-shiwan")["station"]
        assert "dph-new" in day.variables("rc-quality", region=["chancheng/new"])["station"]
        assert day.variables("rc-station", station="dph-new")["parameter"] == ["ph"]
        assert "chancheng/new" in day.variables("rc-fleet")["region"]
    finally:
        with day.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM station WHERE key = 'dph-new'")


def _curve(day: Day, station: str, parameter: str) -> dict[str, Frame]:
    """The lines of a parameter's chart on the station page, by the last word of their names."""
    (panel,) = [
        p for p in BOARDS["rc-station"]["panels"] if p.get("repeat") == "parameter" and p["type"] == "timeseries"
    ]
    variables = day.variables("rc-station", station=station, parameter=[parameter])
    (answer,) = day.servers.panel(panel, variables, day.window)
    return {frame.name.split(" ")[-1]: frame for frame in answer}


def test_a_silence_is_a_gap_and_no_line_is_drawn_across(day: Day) -> None:
    """The last three hours of a station that fell silent are empty buckets; a station that speaks has none."""
    now = day.window.to_ms
    for station, holes in ((SILENT, 15), (SEWER, 0)):  # buckets of ten minutes
        mean = _curve(day, station, "water_temp")["mean"]
        empty = [at for at, value in mean.rows[1:-1] if value is None]
        assert len(empty) >= holes
        assert all(at > now - 3 * HOUR - 2 * STEP for at in empty)
    for board in BOARDS.values():
        for panel in board["panels"]:
            if panel["type"] == "timeseries":
                assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False


def test_the_envelope_holds_the_mean_and_the_sewage_is_in_it(day: Day) -> None:
    lines = _curve(day, SEWER, "nh3n")
    least, greatest, mean = (dict(lines[what].rows) for what in ("min", "max", "mean"))
    there = [at for at, value in mean.items() if value is not None]
    assert all(least[at] <= mean[at] <= greatest[at] for at in there)
    assert max(greatest[at] for at in there) > 5 > min(least[at] for at in there)


def test_a_fault_code_is_a_mark_and_stays_out_of_the_curve(day: Day) -> None:
    lines = _curve(day, LAKE, "do")
    assert min(value for _, value in lines["min"].rows if value is not None) > 0
    assert -999.0 in [value for _, value in lines["bad"].rows]


def test_the_shares_of_the_verdicts_are_all_readings(day: Day) -> None:
    variables = day.variables("rc-quality", station=[LAKE], parameter=["do"])
    (frames,) = day.servers.panel(panel_of("rc-quality", "判定构成"), variables, day.window)
    assert {f.name for f in frames} == {name for name, _ in parts.FLAGS.values()}
    window = f"time >= {day.window.from_ms}ms AND time <= {day.window.to_ms}ms"
    (whole,) = day.servers.influxql(
        f"SELECT count(\"do\") FROM water WHERE station = '{LAKE}' AND {window}", "", table=False
    )
    assert sum(count for f in frames for _, count in f.rows) == whole.rows[0][1]


def test_the_account_says_unknown_where_nobody_knows_and_less_than_all_where_somebody_was_silent(day: Day) -> None:
    rows = day.sole("rc-quality", "账本")

    def told(station: str, column: str) -> list[Any]:
        values = zip(rows.column("station"), rows.column(column), strict=True)
        return [value for key, value in values if key == station]

    assert set(told(UNNUMBERED, "missing")) == {None}, "a device that does not number its messages"
    assert set(told(UNNUMBERED, "valid")) == {None}, "and so nobody knows whether all arrived"
    assert sum(told(SKIPPED, "messages")) == 3
    assert sum(value for value in told(SKIPPED, "missing") if value) == 3 * 7
    for column in ("valid", "arrived"):
        assert all(0 <= float(value) <= 100 for value in rows.column(column) if value is not None)
    # by day: on the day the record begins everybody's share is small
    sewer, silent = (dict(zip(told(key, "day"), told(key, "arrived"), strict=True)) for key in (SEWER, SILENT))
    assert all(float(silent[day]) <= float(sewer[day]) for day in silent)
    assert any(float(silent[day]) < float(sewer[day]) for day in silent)


def test_the_account_is_the_one_the_ledger_closes(day: Day) -> None:
    rows = day.sole("rc-quality", "账本")
    shown = {(row[1], row[2]): row for row in rows.rows}
    with day.database.read() as connection:
        kept = [one for one in ledger.accounts(connection) if one.station in day.registry]
    assert kept
    for one in kept:
        row = dict(zip(rows.columns, shown[one.station, one.day], strict=True))
        assert (row["stored"], row["duplicate"], row["quarantined"]) == (one.stored, one.duplicate, one.quarantined)
        assert row["messages"] == one.messages_missing
        assert row["missing"] == (None if one.messages_unnumbered else one.missing)


def test_who_is_silent_is_named_everywhere(day: Day) -> None:
    assert day.sole("rc-overview", "失联 · Blind").values == [1]
    assert day.sole("rc-overview", "失联站点").column("station") == [SILENT]
    table = day.sole("rc-fleet", "站点一览")
    states = dict(zip(table.column("station"), table.column("state"), strict=True))
    assert states[SILENT] == "silent"
    assert {state for station, state in states.items() if station != SILENT} == {"fine"}
    assert dict(zip(table.column("station"), table.column("online"), strict=True))[SILENT] == "offline"


def test_a_retired_station_is_not_called_silent(day: Day) -> None:
    with day.database.write() as connection:
        now_ms = int(time.time() * 1000)
        maintenance_store.retire(connection, SILENT, now_ms - 1, "河道改线", Author("示例", now_ms))
    try:
        assert day.sole("rc-overview", "失联 · Blind").values == [0]
        assert SILENT not in day.sole("rc-fleet", "站点一览").column("station")
    finally:
        with day.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM mute")


def test_counts_of_incidents_agree_with_the_governance_store(day: Day) -> None:
    frame = day.sole("rc-overview", "待处置事件")
    with day.database.read() as connection:
        found = [i for i in incident_queries.list_incidents(connection, limit=500) if i.closed_at_ms is None]
    live = Counter(i.colour.value for i in found if not i.retrospective)
    assert live["red"]
    assert dict(zip(frame.columns, frame.rows[0], strict=True)) == {s: live[c] for c, (s, _) in parts.URGENCY.items()}
    rows = day.sole("rc-incidents", "未结案事件")
    assert Counter(rows.column("colour")) == Counter(i.colour.value for i in found)
    past = {i.id: i.retrospective for i in found}
    urgency = list(parts.URGENCY)
    order = [(past[id_], urgency.index(c)) for id_, c in zip(rows.column("id"), rows.column("colour"), strict=True)]
    assert order == sorted(order), "the most urgent stand first, what is only found in late data last"


def test_half_are_accepted_sooner_than_nine_of_ten(day: Day) -> None:
    rows = day.sole("rc-incidents", "受理用时")
    by_colour = dict(zip(rows.column("colour"), zip(rows.column("p50"), rows.column("p90"), strict=True), strict=True))
    assert set(by_colour) >= {"red", "orange", "yellow"}
    assert all(p50 <= p90 for p50, p90 in by_colour.values())
    assert by_colour["yellow"][1] == pytest.approx(90 * 60)


def test_one_false_alarm_of_one_closed_is_all_of_them(day: Day) -> None:
    assert [float(value) for value in day.sole("rc-incidents", "误报率").values] == [100.0]


def test_restarts_are_counted(day: Day) -> None:
    rows = day.sole("rc-fleet", "重启次数")
    assert dict(zip(rows.column("station"), rows.column("restarts"), strict=True))[RESTARTED] == 1
    assert day.sole("rc-fleet", "重启设备").values == [1]


def test_delivery_is_told_in_milliseconds_and_the_share_in_per_cent(day: Day) -> None:
    (frames,) = day.ask("rc-platform", "提交到送达")
    assert all(90 <= value <= 170 for _, value in next(f for f in frames if f.name == "p50").rows)
    share, oldest = day.sole("rc-platform", "一秒内送达").rows[0]
    assert 50 <= float(share) < 100, "one still waits"
    assert float(oldest) > 0


def test_a_watcher_that_is_well_is_calm_and_one_that_is_not_there_is_alarming(day: Day) -> None:
    """No series, no value, no process: the panel must not show nothing, or zero, or an old figure."""
    for title, word in (("值守 ·", "失联"), ("最近入库", "失联"), ("对外心跳", "无心跳")):
        panel = panel_of("rc-platform", title)
        defaults = panel["fieldConfig"]["defaults"]
        alarming = defaults["thresholds"]["steps"][-1]
        assert alarming["color"] == parts.VIOLET
        seconds = day.sole("rc-platform", title).values[0]
        assert -1 < seconds < alarming["value"], f"{title}: the day ends on the last whole second"
        variables = {**day.variables("rc-platform"), "instance": ["nobody:1"]}
        ((gone,),) = day.servers.panel(panel, variables, day.window)
        (shown,) = [m["options"] for m in defaults["mappings"] if m["type"] == "range"]
        assert shown["from"] <= gone.values[0]
        assert word in shown["result"]["text"]
        assert shown["result"]["color"] == parts.VIOLET
        assert word in defaults["noValue"], "and when Prometheus itself is away"


# -- the day before anything -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nothing(day: Day) -> Iterator[tuple[Servers, Window]]:
    """A new installation: no station, no reading yet. Its metrics are asked for under a name nobody has."""
    database = Database(postgres_server().database())
    with_tables(database)
    SqlReadings(database, KNOWN)
    influx = real_server(Server.INFLUXDB1)
    name = influx.fresh().settings.bucket
    yield Servers((influx.url, name), _plain_url(database), day.servers.prometheus), day.window
    database.close()


@pytest.mark.parametrize("uid", BOARDS)
def test_a_new_installation_has_empty_panels_and_no_errors(nothing: tuple[Servers, Window], uid: str) -> None:
    servers, window = nothing
    variables = servers.variables(BOARDS[uid], window)
    if "instance" in variables:
        variables["instance"] = ["nobody:1"]
    for panel in BOARDS[uid]["panels"]:
        servers.panel(panel, variables, window)
    for annotation in BOARDS[uid].get("annotations", {}).get("list", []):
        assert servers.annotation(annotation, variables, window) == []


@pytest.mark.parametrize("days", [1 / 24, 30, 730])
@pytest.mark.parametrize("uid", BOARDS)
def test_short_and_long_windows_are_answered_with_few_points(day: Day, uid: str, days: float) -> None:
    window = replace(day.window, from_ms=day.window.to_ms - round(days * DAY))
    variables = day.servers.variables(BOARDS[uid], window, CHOSEN.get(uid, {}))
    for panel in BOARDS[uid]["panels"]:
        for answer in day.servers.panel(panel, variables, window):
            assert all(len(frame.rows) <= 1500 for frame in answer), panel["title"]
