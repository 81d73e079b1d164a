"""``riverchief demo`` as a newcomer runs it: real broker, real processes, and its own books checked at the end."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from lxml import etree
from playwright.sync_api import expect

from governance.assessment.model import CLASSES_ACTION
from governance.audit import trail as audit_trail
from governance.incidents import queries as incident_queries
from governance.notify import oncall
from governance.notify import store as notice_store
from governance.tables import outbox
from infra.clock import now_ms
from infra.database import Database
from infra.errors import StorageUnavailable
from infra.times import beijing_day, to_ms
from ingest import ledger
from riverchief import settings
from riverchief.brokers.local import Broker, free_port
from tests import preloaded
from tests.browser import DESK, chromium
from tests.cap import cap_schema
from tests.long import LONG
from tests.rig import KINDS, eventually

pytestmark = pytest.mark.broker

REPORT = {
    "messages_sent",
    "readings_sent",
    "readings_stored",
    "duplicates",
    "quarantined",
    "missing",
    "incidents_opened",
    "incidents_delivered",
    "latency_ms",
    "ledger_closed",
}


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "riverchief", "demo", "--no-browser", *arguments]
    return preloaded.run(command, capture_output=True, text=True, timeout=200, check=False)


def called(site: Path) -> bool:
    """Whether the platform has a page about a limit that was passed."""
    if not (site / "riverchief.db").exists():
        return False
    database = Database(settings.load(None, data=site).database_url)
    try:
        with database.read() as connection:
            query = sa.select(outbox.c.body).where(outbox.c.notify == "page", outbox.c.status == "delivered")
            return any(json.loads(body)["data"]["kind"] == "threshold" for body in connection.execute(query).scalars())
    except StorageUnavailable:  # its tables are not made yet
        return False
    finally:
        database.close()


def told(site: Path) -> bool:
    """Whether somebody on call has got a message, and the days of the history have their classes."""
    database = Database(settings.load(None, data=site).database_url)
    try:
        with database.read() as connection:
            sent = notice_store.list_notices(connection, status="sent", limit=10)
            days = audit_trail.list_entries(connection, what=CLASSES_ACTION, limit=100)
            on_call = oncall.on_call(connection, now_ms())
        return bool(sent) and bool(on_call) and len({beijing_day(line.at_ms) for line in days}) >= 13
    finally:
        database.close()


FOUR = {"dph-shiwan-1": "sl651", "dph-shiwan-2": "hj212", "dph-shiwan-3": "lorawan", "dph-shiwan-4": "mqtt"}


def four_devices(address: str, site: Path, since_ms: int) -> bool:
    """Whether each of four protocols has brought a reading of now: in SensorThings, the ledger and on the map."""
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        frames = client.get("/metrics").text
        parts = {part["name"]: part["ok"] for part in client.get("/readyz").json()["parts"]}
        if not parts["hj212"] or not all(
            re.search(rf"^riverchief_{wire}_frames_total [1-9]", frames, re.M) for wire in ("hj212", "sl651")
        ):
            return False
        drawn = as_qgis_draws(client)
        newest = [to_ms(datetime.fromisoformat(drawn[one])) for one in FOUR if one in drawn]
        if len(newest) < len(FOUR) or min(newest) < since_ms - 60_000:  # SL 651 tells the minute
            return False
        stations = client.get("/api/v1/stations/latest").json()["items"]
        shown = {one["station"] for one in stations if one["state"] == "ok"}
    database = Database(settings.load(None, data=site).database_url)
    with database.read() as connection:
        accounts = {one.station for one in ledger.accounts(connection, limit=1000) if one.stored}
    database.close()
    return accounts & shown >= FOUR.keys()


def as_qgis_draws(client: httpx.Client) -> dict[str, str]:
    """The stations of a view of the map, as QGIS asks for them, each with the time of its newest pH."""
    newest = "Observations($orderby=phenomenonTime desc;$top=1)"
    streams = f"Datastreams($filter=endswith(id,'.ph');$orderby=id;$top=100;$expand={newest})"
    points = "location/type eq 'Point' or location/geometry/type eq 'Point'"
    area = "geo.intersects(location, geography'Polygon ((112 22, 114 22, 114 24, 112 24, 112 22))')"
    options = {"top": "200", "count": "false", "filter": f"({points}) and ({area})"}
    options["expand"] = f"Things($orderby=id;$top=100;$expand={streams})"
    found: dict[str, str] = {}
    answer = client.get("/sta/v2.0/Locations", params={f"${name}": value for name, value in options.items()})
    for place in answer.raise_for_status().json()["value"]:
        assert place["location"]["type"] == "Point"
        for thing in place["Things"]:
            times = [one["phenomenonTime"]["start"] for d in thing["Datastreams"] for one in d["Observations"]]
            if times:
                found[thing["id"]] = times[0]
    return found


def warned_of_red(address: str) -> bool:
    """Whether a warning for a red incident stands in the feed, and the schema of CAP 1.2 accepts it."""
    with httpx.Client(timeout=30, trust_env=False) as client:
        feed = client.get(f"{address}/cap/feed").text
        for name in re.findall(r"/cap/([^\"/<]+\.xml)", feed):
            alert = etree.fromstring(client.get(f"{address}/cap/{name}").content)
            of = {"cap": "urn:oasis:names:tc:emergency:cap:1.2"}
            if alert.findtext("cap:info/cap:severity", "", of) == "Extreme":
                cap_schema().assertValid(alert)
                return bool(alert.findtext("cap:status", "", of) == "Exercise")
    return False


def creek_is_red(address: str) -> None:
    """The newcomer's page shows the creek that turned red, and asks nobody else for anything."""
    with chromium() as browser:
        page = browser.new_page(viewport=DESK)
        foreign: list[str] = []
        page.on("request", lambda r: foreign.append(r.url) if not r.url.startswith((address, "data:")) else None)
        page.goto(address)
        red = page.get_by_test_id("map-incidents").locator("li:has(.pennant.red)")
        expect(red.filter(has_text=re.compile("氨氮.*劣Ⅴ类.*限值2.0")).first).to_be_visible(timeout=60_000)
        assert foreign == []


def test_a_demo_ends_by_itself_after_the_time_it_was_given_with_its_books_closed(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    done = demo("--for", "3", "--broker", "nats", "--report", str(file))
    assert done.returncode == 0, done.stderr
    assert json.loads(file.read_text(encoding="utf-8"))["ledger_closed"] is True


@pytest.mark.browser
@pytest.mark.parametrize("kind", KINDS if LONG else KINDS[:1])
@pytest.mark.timeout(350)
def test_the_demo_shows_an_incident_plays_a_recorded_table_and_closes_its_books(tmp_path: Path, kind: str) -> None:
    table = tmp_path / "my_creek.csv"
    rows = [
        f"my_creek,2026-03-{1 + i // 96:02d}T{i // 4 % 24:02d}:{15 * (i % 4):02d}:00Z,{7 + i % 3 / 10},{5 + i % 7 / 10}"
        for i in range(96 * 20)
    ]
    table.write_text("station,time,pH,do_mg_L\n" + "\n".join(rows) + "\n")
    file, site = tmp_path / "report.json", tmp_path / "site"
    kept = ("--report", str(file), "--replay", str(table), "--data", str(site))
    port = free_port()
    command = [sys.executable, "-m", "riverchief", "demo", "--no-browser", *kept, "--broker", kind, "--port", str(port)]
    began_ms = now_ms()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            eventually("a limit that is passed now has called somebody", lambda: called(site), 180, every_s=0.5)
            address = f"http://127.0.0.1:{port}"
            four = partial(four_devices, address, site, began_ms)
            eventually("four devices of four protocols are there", four, 60, every_s=0.5)
            warned = partial(warned_of_red, address)
            eventually("the red incident is a warning", warned, 60, every_s=0.5)
            creek_is_red(address)
            eventually("people have messages, and the days their classes", lambda: told(site), 60, every_s=0.5)
        finally:
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report.keys() >= REPORT
    assert report["ledger_closed"] is True
    accounted = report["readings_stored"] + report["duplicates"] + report["quarantined"] + report["missing"]
    assert report["readings_sent"] == accounted
    assert report["readings_sent"] > 100_000, "fourteen days of history travel through the broker"
    assert report["incidents_delivered"] == report["incidents_opened"]
    # the pollution of the past informs, the one that happens now pages
    assert 0 < report["incidents_retrospective"] < report["incidents_opened"]
    assert report["paged"] >= 1
    assert report["latency_ms"]["p99"] is not None

    database = Database(settings.load(None, data=site).database_url)
    with database.read() as connection:
        everything = ledger.accounts(connection)
        accounts = [a for a in everything if a.station == "my-creek"]
        past = [i for i in incident_queries.list_incidents(connection, limit=100) if i.retrospective]
        plume = [i for i in past if any(c.station.startswith("qcc-huanhu") for c in i.conditions)]
    database.close()
    assert len(plume) == 1, "one cause, one incident"
    assert not any("apalachicola" in a.station for a in everything), "no water of elsewhere among the stations"
    assert all(a.closed and a.stored == a.sent for a in accounts)
    stored = sum(a.stored for a in accounts)  # how much of its history fits into the time is the machine's affair
    assert stored > 0
    assert stored % 2 == 0, "two parameters a row"


@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_starts_in_a_folder_named_from_where_one_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    broker = Broker(Path("site") / "broker", kind=kind)
    broker.start()
    broker.stop()


def test_a_table_that_cannot_be_played_is_refused_by_name(tmp_path: Path) -> None:
    table = tmp_path / "nothing.csv"
    table.write_text("a,b\n1,2\n")
    done = demo("--for", "5", "--replay", str(table))
    assert done.returncode == 2
    assert "nothing.csv" in done.stderr
    assert "no column time" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def running_demo(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A demo that has said where it is."""
    command = [sys.executable, "-m", "riverchief", "demo", "--no-browser", "--data", str(tmp_path / "site")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        eventually("the demo says where it is", lambda: b"http://127.0.0.1" in (tmp_path / "log").read_bytes())
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def at_work(folder: Path) -> list[str]:
    """The processes of a demo: all carry the folder in their command line, whatever their session."""
    return subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True, check=False).stdout.split()


@pytest.mark.timeout(120)
def test_ctrl_c_ends_the_demo_and_everything_it_started(
    running_demo: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    os.killpg(running_demo.pid, signal.SIGINT)  # as a terminal does: to the whole tree
    assert running_demo.wait(60) == 0, (tmp_path / "log").read_text()
    assert at_work(tmp_path) == []


@pytest.mark.timeout(120)
def test_a_demo_that_is_killed_leaves_no_broker_and_no_service_behind(
    running_demo: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    assert len(at_work(tmp_path)) == 3
    running_demo.kill()
    running_demo.wait()
    eventually("all have ended", lambda: at_work(tmp_path) == [])
