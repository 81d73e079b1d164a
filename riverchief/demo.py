"""The demo: broker, platform, ingest, console and a simulated Chancheng in one process tree on free ports.

It runs the very programs a site runs: ``riverchief serve`` as its own process, fed over MQTT by devices that publish
like real ones, delivering to a small receiving platform. With a time limit it checks its own books at the end.
"""

import base64
import json
import os
import secrets
import struct
import sys
import tempfile
import threading
import time
import webbrowser
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import sqlalchemy as sa
import uvicorn
from rich.console import Console

from api.access import AS_COOKIE, packed
from governance.assessment.model import CLASSES_ACTION
from governance.audit import trail as audit_trail
from governance.incidents import queries as incident_queries
from governance.incidents.finding import FindingKind
from governance.incidents.model import EntryKind, Notify
from governance.notify import oncall
from governance.organisation.regions import Regions
from governance.organisation.roles import PERSON_ROLES, Department, Role, role_name
from governance.people import store as people_store
from infra import clock
from infra.database import Database
from infra.errors import WaterError, text_of
from infra.texts import joined, line, same, say
from infra.times import BEIJING_OFFSET_MS, DAY_MS, beijing_day, rfc3339
from ingest import ledger
from ingest.analysis import live_classes
from ingest.storage import late_queue
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from ingest.storage.sql import SqlReadings
from riverchief import demo_devices, files, migrations, recorded
from riverchief.brokers.local import Broker, free_port, running
from riverchief.demo_devices import EVERY_S, AfterHistory, DemoDevices
from riverchief.guard import child_process
from riverchief.receiver import create_receiver
from riverchief.signals import on_signal
from riverchief.simulate import play_present
from riverchief.terminal import aligned, save
from sensors.network import length_km, point_at_km
from sensors.parameters import catalogue
from sensors.stations import Registry
from simulator import showcase
from simulator.continuous_run import ContinuousSource
from simulator.devices.fleet import Connection
from simulator.play import Line, Pace, Progress, RunResult
from simulator.replay import Table, replay_stations

HISTORY_DAYS = 14.0
HISTORY_STEP_S = 900
INTERVAL_S = 5
SETTLE_S = 30.0
"""How long the ingest may take to work off what is under way when the time is up."""


class DemoFailed(WaterError):
    """A part of the demo did not come up, or the books do not close."""


@dataclass(frozen=True, slots=True)
class Report:
    """Totals of a run; ``latency_ms`` from publish to delivered page (:func:`delays_ms`)."""

    messages_sent: int
    readings_sent: int
    readings_stored: int
    duplicates: int
    quarantined: int
    missing: int
    incidents_opened: int
    incidents_delivered: int
    latency_ms: dict[str, float | None]
    ledger_closed: bool
    incidents_retrospective: int
    paged: int
    broker: str
    seconds: float


def run(  # noqa: PLR0913  (an option of the command each)
    *,
    seconds: float | None,
    report: Path | None,
    browser: bool,
    replay: Sequence[Path],
    port: int | None,
    seed: int,
    console: Console,
    data: Path | None = None,
    broker_kind: str | None = None,
) -> Report:
    """Run the demo until interrupted or for ``seconds``; raises DemoFailed when it cannot or the books do not close."""
    parameters = catalogue()
    stop = threading.Event()
    tables = [recorded.read_table(path, parameters) for path in replay]
    with ExitStack() as stack:
        stack.enter_context(on_signal(lambda *_: stop.set()))
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="riverchief-demo-")))
        broker = stack.enter_context(
            running(folder / "broker", kind=broker_kind, administered=True, uplinks=demo_devices.UPLINKS)
        )
        devices = DemoDevices()
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        inbox, receiving = stack.enter_context(platform(secret))
        database, registry = _prepare(folder, tables, devices)
        stack.callback(database.close)
        address = f"http://127.0.0.1:{port or free_port()}/"
        settings = _settings(folder, broker, address, f"{receiving}events", secret, devices)
        stack.enter_context(_serve(settings, folder, address, console, stop))
        if not stop.is_set():
            _create_sample_cases(address, receiving, registry)
        days = threading.Thread(
            target=_record_daily_classes, args=(database, registry, clock.now_ms(), stop), daemon=True
        )
        stack.callback(days.join, 10)
        stack.callback(stop.set)
        days.start()
        at = {"console": f"[bold]{address}[/]", "platform": receiving}
        at |= {"broker": f"{broker.kind}, mqtt://127.0.0.1:{broker.port}"}
        console.print("\n".join(["", *aligned({f"demo.{name}": where for name, where in at.items()}), ""]))
        if browser and _has_screen():
            webbrowser.open(address)
        began = time.monotonic()
        played, live_from_ms = _simulate(registry, broker, tables, devices, seconds, seed, console, stop)
        result = _settle(database, played, live_from_ms, inbox, broker.kind, time.monotonic() - began)
    _print_report(result, console)
    if report is not None:
        save(report, json.dumps(asdict(result), ensure_ascii=False, indent=2) + "\n")
    if not result.ledger_closed:
        raise DemoFailed(say("demo.ledger_open"))
    return result


def _prepare(folder: Path, tables: Sequence[Table], devices: DemoDevices) -> tuple[Database, Registry]:
    """A database with the stations of Chancheng and of the recorded tables, promising the demo's interval."""
    book = files.read_book(files.shipped("stations.toml"), catalogue())
    registry = _registry(book.registry, tables)
    database = Database(f"sqlite:///{folder / 'riverchief.db'}")
    migrations.upgrade(database)
    now_ms = clock.now_ms()
    with database.write() as connection:
        author = Author("demo", now_ms)
        registry_store.save(connection, registry, author)
        maintenance_store.save(connection, book.maintenance, author)
        devices.register(connection, author)
        _add_people(connection, Regions(registry.regions), now_ms)
        _add_shifts(connection, now_ms)
    return database, registry


def _registry(registry: Registry, tables: Sequence[Table]) -> Registry:
    registry = registry.with_stations(
        [replace(s, interval_s=EVERY_S.get(s.key, INTERVAL_S)) for s in registry.stations]
    )
    placed = 0
    for table in tables:
        played = replay_stations(table, first=placed)
        placed += len(played)
        registry = registry.with_stations([replace(s, interval_s=INTERVAL_S) for s in played])
    return showcase.shortened(registry)


def _add_people(connection: sa.Connection, regions: Regions, now_ms: int) -> None:
    """One person of each role, as whom one may sign in at /login."""
    for role in PERSON_ROLES:
        people_store.add(
            connection,
            _person(role),
            role,
            region="chancheng/shiwan" if role in (Role.CHIEF, Role.DEPUTY) else "chancheng",
            department=Department.ENVIRONMENT if role is Role.HANDLER else None,
            by="demo",
            now_ms=now_ms,
            regions=regions,
        )


def _add_shifts(connection: sa.Connection, now_ms: int) -> None:
    """On-call shifts of the next weeks, unless there are some."""
    if oncall.shifts(connection, now_ms, now_ms + DAY_MS):
        return
    begins = midnight(now_ms) - DAY_MS + HANDOVER_MS
    turns = [
        oncall.Shift(_person(ON_CALL_ROLES[i % 2]), begins + i * 7 * DAY_MS, begins + (i + 1) * 7 * DAY_MS, 1, 0)
        for i in range(WEEKS_PLANNED)
    ]
    oncall.add(connection, turns, by="demo", now_ms=now_ms)


HANDOVER_MS = round(8.5 * 3_600_000)
"""After midnight in Beijing."""
ON_CALL_ROLES = (Role.OFFICE, Role.OPERATOR)
WEEKS_PLANNED = 4
"""Two people take turns on call, a week each."""
REACHABLE_ROLES = (*ON_CALL_ROLES, Role.CHIEF, Role.GENERAL_CHIEF, Role.REVIEWER)
"""Roles whose people get messages; who they are is invented."""
PHONE = "0757-0000 000{number}"
PATROL_REACH, PATROL_MINUTES, WALK_M_S = "qichachong-huanhu", 30, 1.2
PATROL_NOTE = "示例：沿岸巡查，未见异常排水"
REPORT_TEXT = "示例：环湖花园桥下有成片漂浮垃圾"


def _person(role: Role) -> str:
    """The name of the person of a role."""
    return f"{role_name(role).zh}（示例）"


def _create_sample_cases(address: str, receiving: str, registry: Registry) -> None:
    """What people do before the water does anything: they leave their numbers, walk a patrol, report something.

    Their messages go to the receiving platform, as to an SMS gateway.
    """
    now_ms = clock.now_ms()
    host = receiving.removeprefix("http://").rstrip("/")
    with httpx.Client(base_url=f"{address}api/v1/", timeout=30) as client:
        answers = [
            client.put(
                f"people/{quote(_person(role), safe='')}/contact",
                json={
                    "channels": [{"url": f"json://{host}/messages/{role}", "short": True}],
                    "phone": PHONE.format(number=number),
                },
            )
            for number, role in enumerate(REACHABLE_ROLES, 1)
        ]
        as_worker = {"Cookie": f"{AS_COOKIE}={packed(_person(Role.GRID_WORKER))}"}
        answers.append(client.post("patrols", json=_patrol(registry, now_ms), headers=as_worker))
        place = point_at_km(_line(registry), 0.3)
        report = {"text": REPORT_TEXT, "lon": str(place[0]), "lat": str(place[1]), "reach": PATROL_REACH}
        answers.append(client.post("reports", data=report, files={"photos": ("example.png", _photo(), "image/png")}))
    for answer in answers:
        if answer.is_error:
            raise DemoFailed(joined([say("demo.not_started"), same(answer.text[:300])]))


def _line(registry: Registry) -> Sequence[tuple[float, float]]:
    return next(reach.line for reach in registry.reaches if reach.key == PATROL_REACH)


def _patrol(registry: Registry, now_ms: int) -> dict[str, Any]:
    """A walk along the creek and back, as a phone uploads it, that ended an hour ago."""
    line = _line(registry)
    along_km, start_ms = length_km(line), now_ms - 3_600_000 - PATROL_MINUTES * 60_000
    track = []
    for second in range(0, PATROL_MINUTES * 60 + 1, 30):
        walked_km = WALK_M_S * second / 1000 % (2 * along_km)
        lon, lat = point_at_km(line, min(walked_km, 2 * along_km - walked_km))
        track.append([rfc3339(start_ms + 1000 * second), round(lon, 6), round(lat, 6)])
    ends = {"started_at": track[0][0], "ended_at": track[-1][0]}
    return {"id": f"demo-{start_ms}", "reach": PATROL_REACH, "track": track, "note": PATROL_NOTE, **ends}


def _photo() -> bytes:
    """An invented photo: a PNG with bands of sky, bank and water."""
    width, height = 320, 240
    bands = ((205, 222, 232), (108, 128, 92), (86, 120, 118))
    rows = b"".join(b"\0" + bytes(bands[min(2, 3 * y // height)]) * width for y in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _secret_file(path: Path, text: str) -> Path:
    """A file readable by us alone."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return path


def _record_daily_classes(database: Database, registry: Registry, start_ms: int, stop: threading.Event) -> None:
    """Once the history is stored: the class of every reach as each of its days began, as a site writes it daily."""
    store = SqlReadings(database, catalogue())
    simulated = {s.key for s in registry.stations if s.reach}
    while not stop.wait(1.0):
        newest = {row.station: row.newest_at_ms for row in store.latest()}
        if all(newest.get(key, 0) >= start_ms - 2000 * HISTORY_STEP_S for key in simulated):
            break
    with database.read() as connection:
        recorded = {
            beijing_day(line.at_ms) for line in audit_trail.list_entries(connection, what=CLASSES_ACTION, limit=100)
        }
    first_ms = start_ms - round(HISTORY_DAYS * DAY_MS)
    for at_ms in range(midnight(first_ms) + DAY_MS, start_ms, DAY_MS):
        if stop.is_set():
            return
        if beijing_day(at_ms) in recorded:
            continue
        body = {
            "reaches": {
                key: live_classes.audit_entry(one)
                for key, one in live_classes.classes_at(registry, store, catalogue(), at_ms).items()
            }
        }
        with database.write() as connection:
            audit_trail.append(
                connection, CLASSES_ACTION, kind="water", id="reaches", body=body, by="demo", at_ms=at_ms
            )


def midnight(at_ms: int) -> int:
    """The beginning of the Beijing day of an instant, ms UTC."""
    return (at_ms + BEIJING_OFFSET_MS) // DAY_MS * DAY_MS - BEIJING_OFFSET_MS


def _settings(folder: Path, broker: Broker, address: str, events: str, secret: str, devices: DemoDevices) -> Path:
    """The settings file that ``riverchief serve`` is started with; readable by us alone, it holds passwords."""
    port = address.rstrip("/").rsplit(":", 1)[1]
    admin = "\n".join(f"{name} = {json.dumps(value)}" for name, value in (broker.admin or {}).items())
    text = f"""
data = {json.dumps(str(folder))}
[site]
name = "禅城示例 / Chancheng example"
box = [112.0, 21.5, 114.8, 24.0]
[mqtt]
host = "{broker.host}"
port = {broker.port}
user = "{broker.ingest.user}"
password = "{broker.ingest.password}"
[broker_admin]
{admin}
[outbox]
url = "{events}"
secret = "{secret}"
[notices]
public_url = "{address.rstrip("/")}"
secret = "{secrets.token_hex(24)}"
[api]
port = {port}
[access]
open = true
[log]
level = "warning"
[cap]
sender = "demo.riverchief.example"
status = "Exercise"
{devices.settings()}"""
    return _secret_file(folder / "settings.toml", text)


@contextmanager
def platform(secret: str) -> Iterator[tuple[Any, str]]:
    """The receiving platform in a thread; yields its inbox and address."""
    port = free_port()
    app = create_receiver(secret, clock.now_ms)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, name="platform", daemon=True)
    thread.start()
    try:
        yield app.state.inbox, f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def _serve(settings: Path, folder: Path, address: str, console: Console, stop: threading.Event) -> Iterator[None]:
    """``riverchief serve`` in its own process, in a session of its own as the broker: Ctrl-C is for us."""
    command = [sys.executable, "-m", "riverchief", "serve", "--settings", str(settings)]
    log = folder / "serve.log"
    with (
        log.open("ab") as output,
        child_process(command, stdout=output, stderr=output, start_new_session=True) as process,
    ):
        with console.status(line("demo.starting")), httpx.Client(timeout=2) as client:
            until = time.monotonic() + 60
            while not _answers(client, address) and not stop.is_set():
                if process.poll() is not None or time.monotonic() > until:
                    tail = log.read_text("utf-8", "replace").splitlines()[-8:]
                    raise DemoFailed(joined([say("demo.not_started"), *map(same, tail)]))
                time.sleep(0.1)
        yield


def _answers(client: httpx.Client, address: str) -> bool:
    try:
        return client.get(f"{address}readyz").status_code == 200
    except httpx.HTTPError:
        return False


def _simulate(
    registry: Registry,
    broker: Broker,
    tables: Sequence[Table],
    devices: DemoDevices,
    seconds: float | None,
    seed: int,
    console: Console,
    stop: threading.Event,
) -> tuple[RunResult, int | None]:
    """Fourteen days of late history, then live readings, until the time is up or somebody presses Ctrl-C.

    Returns what was played, and when the live readings began, ms UTC; None where they never did.
    """
    about = Connection(broker.host, broker.port, broker.device.user, broker.device.password)
    with (
        ContinuousSource(
            registry,
            start_ms=clock.now_ms(),
            history_days=HISTORY_DAYS,
            step_s=HISTORY_STEP_S,
            interval_s=INTERVAL_S,
            seed=seed,
            replay=tables,
            every_s=EVERY_S,
        ) as source,
        ThreadPoolExecutor(1, thread_name_prefix="devices") as player,
        console.status(line("demo.history", days=HISTORY_DAYS)) as status,
    ):
        until = None if seconds is None else time.monotonic() + seconds
        live_ms = source.pace.hurry_until_ms or 0

        def others(line: Line) -> dict[str, Line]:
            return {key: AfterHistory(own, line, live_ms) for key, own in devices.lines(about).items()}

        playing = player.submit(
            play_present,
            source,
            registry,
            about,
            seed=seed,
            stop=stop,
            clock_ms=clock.now_ms,
            others=others,
            on_progress=lambda now: status.update(_phase(now, source.pace, until)),
        )
        while not stop.wait(0.5) and not playing.done() and (until is None or time.monotonic() < until):
            pass
        status.update(line("demo.stopping"))
        stop.set()
        try:
            return playing.result(60), source.live_from_ms
        except TimeoutError:
            raise DemoFailed(say("simulate.not_stopped")) from None
        except Exception as error:
            raise DemoFailed(say("simulate.failed", error=text_of(error))) from error


def _phase(now: Progress, pace: Pace, until: float | None) -> str:
    if pace.hurry_until_ms is not None and now.at_ms < pace.hurry_until_ms:
        share = (now.at_ms - pace.start_ms) / max(1, pace.hurry_until_ms - pace.start_ms)
        return line("demo.past", share=share, readings=now.readings)
    if until is None:
        return line("demo.live", readings=now.readings)
    return line("demo.live_until", readings=now.readings, seconds=max(0, until - time.monotonic()))


def _settle(
    database: Database, played: RunResult, live_from_ms: int | None, inbox: Any, broker: str, seconds: float
) -> Report:
    """Wait until the ingest has worked everything off, then compare both ends."""
    until = time.monotonic() + SETTLE_S
    while True:
        with database.read() as connection:
            late = late_queue.waiting(connection)
        over = time.monotonic() > until
        if over or not late:  # the report reads every account; meanwhile it would slow down the ingest
            result = _report(database, played, live_from_ms, inbox, broker, seconds)
            if over or (result.ledger_closed and result.incidents_delivered >= result.incidents_opened):
                return result
        time.sleep(0.2)


def _report(
    database: Database, played: RunResult, live_from_ms: int | None, inbox: Any, broker: str, seconds: float
) -> Report:
    with database.read() as connection:
        accounts = ledger.accounts(connection, limit=1_000_000)
        found = incident_queries.list_incidents(connection, limit=10_000)
    stored = sum(a.stored for a in accounts)
    duplicate = sum(a.duplicate for a in accounts)
    quarantined = sum(a.quarantined for a in accounts)
    missing = sum(a.missing or 0 for a in accounts)
    counted = sum(SqlReadings(database, catalogue()).count().values())
    closed = (
        all(a.closed for a in accounts)
        and played.readings == stored + duplicate + quarantined + missing
        and stored == counted
    )
    events = [(r.received_at_ms, r.event) for r in list(inbox.events.values())]
    opened = {e["data"]["incident"] for _, e in events if e["type"] == "river.incident.opened"}
    pages = [e for _, e in events if e["data"].get("notify") == Notify.PAGE]
    delays = delays_ms(events, live_from_ms)
    return Report(
        messages_sent=played.messages,
        readings_sent=played.readings,
        readings_stored=stored,
        duplicates=duplicate,
        quarantined=quarantined,
        missing=missing,
        incidents_opened=len(found),
        incidents_delivered=len(opened),
        latency_ms={"p50": _percentile(delays, 50), "p99": _percentile(delays, 99)},
        ledger_closed=closed,
        incidents_retrospective=sum(i.retrospective for i in found),
        paged=len(pages),
        broker=broker,
        seconds=round(seconds, 1),
    )


def delays_ms(events: Iterable[tuple[int, Mapping[str, Any]]], live_from_ms: int | None) -> list[int]:
    """Delays of pages raised by readings, from publish to delivery, ms.

    ``events`` are (received at, event). A live reading is published at the instant it is observed; one of the history
    is not. A page for a deadline that has passed carries the reading that opened the incident, and is not counted.
    """
    found = []
    for at_ms, event in events:
        data = event["data"]
        by_reading = data["what"] in (EntryKind.FIRED, EntryKind.PROMOTED) and data["kind"] == FindingKind.THRESHOLD
        if data["notify"] == Notify.PAGE and by_reading and live_from_ms is not None:
            observed_ms = _ms(data["observed_at"])
            if observed_ms >= live_from_ms:
                found.append(at_ms - observed_ms)
    return found


def _percentile(values: Sequence[float], q: float) -> float | None:
    return round(float(np.percentile(values, q)), 1) if values else None


def _ms(moment: str) -> int:
    return int(np.datetime64(moment.rstrip("Z"), "ms").astype(np.int64))


def _print_report(result: Report, console: Console) -> None:
    mark, verdict = ("[green]✓[/]", "closed") if result.ledger_closed else ("[red]✗[/]", "not_closed")
    times = {name: "—" if ms is None else f"{ms:g} ms" for name, ms in result.latency_ms.items()}
    counts = asdict(result)
    console.print(f"{mark} {line('demo.ledger', verdict=say(f'demo.ledger_{verdict}'), **counts)}", highlight=False)
    console.print(f"  {line('demo.incidents', **counts, **times)}", highlight=False)


def _has_screen() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
