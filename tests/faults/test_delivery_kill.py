"""Kill -9 of a worker with deliveries and messages on their way: what was committed arrives, once by its id."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from governance.incidents import cloudevents
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, Finding
from governance.notify.tables import notice as notices_
from governance.notify.tables import notice_mark
from governance.tables import outbox
from infra import clock
from infra.database import Database
from infra.texts import Text
from ingest.storage import registry as registry_store
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from tests import preloaded
from tests.cases import a_finding
from tests.databases import with_tables
from tests.rig import eventually

pytestmark = pytest.mark.fault

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class World:
    """A platform and a phone in one server; ``hold`` keeps every answer back until it is set."""

    events: list[tuple[int, int, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def start(self) -> ThreadingHTTPServer:
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                body = json.loads(raw)
                if self.path == "/events":
                    cloudevents.verify(SECRET, dict(self.headers.items()), raw, clock.now_ms() // 1000)
                    world.events.append((body["data"]["incident"], body["data"]["seq"], body["id"]))
                else:
                    world.texts.append(body["message"])
                world.hold.wait(60)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A sender that was killed is part of the test."""

        server = Server(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    server = made.start()
    yield made
    made.hold.set()
    server.shutdown()
    server.server_close()


@contextmanager
def worker(settings: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """``riverchief worker``, ended by its id."""
    process = preloaded.Popen([sys.executable, "-m", "riverchief", "worker", "--settings", str(settings)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def fired(cause: str, number: int) -> Finding:
    at_ms = clock.now_ms()
    return a_finding(
        at_ms,
        rule=f"{cause}-{number}",
        cause=cause,
        station="s1",
        value=8.4,
        colour=Colour.RED,
        text=Text(f"氨氮 {cause}", f"ammonia {cause}"),
    )


@pytest.mark.timeout(120)
def test_what_was_committed_before_a_kill_reaches_platform_and_people_after_it(world: World, tmp_path: Path) -> None:
    (tmp_path / "contacts.toml").write_text(
        f'[[contact]]\nkey = "duty"\nname = "示例"\nroles = ["office"]\n'
        f'channels = [{{ url = "json://127.0.0.1:{world.port}/phone" }}]\n'
    )
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f"data = '{tmp_path}'\n[mqtt]\nenabled = false\n[log]\nlevel = 'warning'\n"
        f"[outbox]\nurl = 'http://127.0.0.1:{world.port}/events'\nsecret = '{SECRET}'\ngather_s = 0\n"
        f"[notices]\ncontacts = '{tmp_path}/contacts.toml'\n"
    )
    database = Database(f"sqlite:///{tmp_path / 'riverchief.db'}")
    with_tables(database)
    with database.write() as connection:
        station = Station("s1", "环湖", "Lake", 113.1, 23.0)
        registry_store.save(connection, Registry((station,), catalogue=catalogue()))
        connection.execute(sa.insert(notice_mark).values(name="outbox", mark=0))
        findings = [fired(cause, n) for n in range(3) for cause in ("a", "b")]
        incident_store.record_findings(connection, findings, clock.now_ms(), source="/test")
    with worker(settings) as first:
        eventually("both are on their way", lambda: len(world.events) >= 2 and world.texts)
        first.kill()
        first.wait()
    with database.write() as connection:  # nobody waits for the dead
        connection.execute(sa.update(outbox).values(claimed_until_ms=1))
        connection.execute(sa.update(notices_).values(claimed_until_ms=1))
    world.hold.set()
    with worker(settings):
        eventually("all is delivered", lambda: _count(database, outbox, "pending") == 0)
        eventually("people are told", lambda: _count(database, notices_, "sent") == 1)
    for number in (1, 2):
        told = [(seq, event) for incident, seq, event in world.events if incident == number]
        seqs = [seq for seq, _ in told]
        assert len(seqs) > 2
        assert seqs == [1] * (len(seqs) - 1) + [3], "sent again after the kill (or a slow answer), and then the newest"
        assert len({event for _, event in told}) == 2
    assert (_count(database, outbox, "delivered"), _count(database, outbox, "superseded")) == (4, 2)
    assert len(set(world.texts)) == 1, "if told twice, in the same words"
    database.close()


def _count(database: Database, table: sa.Table, status: str) -> int:
    with database.read() as connection:
        query = sa.select(sa.func.count()).select_from(table).where(table.c.status == status)
        return int(connection.execute(query).scalar_one())
