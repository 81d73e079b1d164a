"""A message keeps its name from the publishing to the incident it raises: in the log, in the event, in the delivery."""

import http.server
import json
import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from governance.notify.outbox import Deliverer
from infra.database import Database
from ingest import batch_log
from ingest.intake import Intake
from ingest.pipeline import Outcome, Site
from ingest.rules import rule_file
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from riverchief import logs
from riverchief.settings import LogSection
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Registry, Station
from sensors.wire.telemetry import Header, Sample, Telemetry, encode, message_id
from tests.databases import with_tables
from tests.rig import eventually

RULES = """
[[threshold]]
id = "ph-acid"
parameter = "ph"
side = "below"
limit = 6.0
clear = 6.2
samples = 3
keep_firing_s = 600
colour = "red"
"""


def now_ms() -> int:
    return int(time.time() * 1000)


class Rig:
    """An ingest with its journal, a deliverer, and the platform that takes what is delivered."""

    def __init__(self, folder: Path) -> None:
        self.events: list[Any] = []
        rig = self

        class Platform(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                rig.events.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._platform = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Platform)
        threading.Thread(target=self._platform.serve_forever, daemon=True).start()
        self.database = Database(f"sqlite:///{folder / 'riverchief.db'}")
        with_tables(self.database)
        known = catalogue()
        with self.database.write() as connection:
            registry_store.save(connection, Registry((Station("s1", "站一", "one", 113.1, 23.0),), catalogue=known))
        url = f"http://127.0.0.1:{self._platform.server_port}/"
        self.deliverer = Deliverer(self.database, url, "secret", clock=now_ms, rng=random.Random(1))
        site = Site(
            self.database,
            SqlReadings(self.database, known),
            rule_file.read(RULES, known),
            known,
            on_findings=self.deliverer.wake,
        )
        self.intake = Intake(site, clock_ms=now_ms)
        self.intake.watch(batch_log.log_batch)
        self.told = 0
        self.intake.watch(self._count)  # after the journal
        self.intake.start()
        self.deliverer.start()

    def _count(self, messages: Sequence[Message], outcome: Outcome) -> None:
        self.told += len(messages)

    def send(self, *payloads: bytes, source: str = "http") -> None:
        """Hand messages over, and wait until the journal has told of them: they are answered before."""
        told = self.told + len(payloads)
        for payload in payloads:
            self.intake.submit(Message("s1", payload, now_ms(), source))
        eventually("the journal has told of them", lambda: self.told == told)

    def close(self) -> None:
        self.intake.stop()
        self.deliverer.stop(10)
        self._platform.shutdown()
        self._platform.server_close()
        self.database.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    one = Rig(tmp_path)
    yield one
    one.close()


def acid(at_ms: int, seq: int) -> bytes:
    return encode(Telemetry((Sample(at_ms, {"ph": 5.0}),), seq=seq, boot=3))


def test_the_message_that_decided_is_named_in_the_log_of_the_incident_and_of_its_delivery(rig: Rig) -> None:
    with capture_logs() as lines:
        for seq in range(3):
            rig.send(acid(now_ms() - 120_000 + 30_000 * seq, seq))
        eventually("it was delivered", lambda: [line for line in lines if line["event"] == "delivered"])
    incident = next(line for line in lines if line["event"] == "incident")
    delivered = next(line for line in lines if line["event"] == "delivered")
    assert incident["message_id"] == delivered["message_id"] == "s1/3/2"
    assert incident["incident_id"] == delivered["incident_id"]
    assert incident["event_id"] == delivered["event_id"]
    assert (incident["rule"], incident["change"], incident["log_level"]) == ("ph-acid", "fired", "info")
    assert rig.events[0]["data"]["message"] == "s1/3/2"


def test_a_message_that_is_refused_is_named_with_the_reason_once_for_many(rig: Rig) -> None:
    garbage = [b"{ not json %d" % i for i in range(20)]
    with capture_logs() as lines:
        rig.send(*garbage, source="mqtt")
    told = [line for line in lines if line["event"] == "quarantined"]
    assert sum(line["entries"] for line in told) == 20
    assert {line["reason"] for line in told} == {"not_json"}
    names = {message_id(Message("s1", body, 0), None) for body in garbage}
    assert all(set(line["message_ids"]) <= names and len(line["message_ids"]) <= 5 for line in told)


def test_ordinary_messages_are_silent_until_debug_where_each_has_a_line(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    body = encode(Telemetry((Sample(now_ms() - 5000, {"ph": 7.0}),), seq=7, boot=3))
    logs.configure(LogSection(level="info", json_lines=True))
    rig.send(body)
    assert capsys.readouterr().err == ""
    logs.configure(LogSection(level="debug", json_lines=True))
    rig.send(body)
    line = json.loads(eventually("a line", lambda: capsys.readouterr().err).splitlines()[0])
    assert (line["event"], line["message_id"], line["station"], line["source"]) == ("message", "s1/3/7", "s1", "http")
    assert (line["stored"], line["duplicate"], line["level"], line["logger"]) == (0, 1, "debug", "ingest.batch_log")


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (Header(seq=5, boot=2), "s1/2/5"),
        (Header(seq=5), "s1/0/5"),
        (Header(boot=2), "s1/~44136fa355b3"),
        (None, "s1/~44136fa355b3"),
    ],
)
def test_a_message_is_named_by_its_number_or_by_its_bytes(header: Header | None, named: str) -> None:
    assert message_id(Message("s1", b"{}", 0), header) == named


def test_what_libraries_log_is_one_json_line_too_and_their_requests_are_not_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(LogSection(level="debug", json_lines=True))
    logging.getLogger("httpx").info("HTTP Request: GET https://watch.example/ping/secret")
    logging.getLogger("alembic.runtime").error("no room")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["event"], line["level"]) for line in lines] == [
        ("alembic.runtime", "no room", "error")
    ]
    assert lines[0]["timestamp"].endswith("Z")
