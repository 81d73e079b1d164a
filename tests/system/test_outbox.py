"""Deliveries to a real receiver over HTTP: down, slow, refusing, redirecting; and what arrives in the end."""

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import uvicorn
from structlog.testing import capture_logs

from governance.incidents import cloudevents
from governance.incidents import store as incident_store
from governance.incidents.finding import ConditionChange, Finding
from governance.incidents.model import Action, Order
from governance.notify import clock_correction
from governance.notify.outbox import (
    Deliverer,
    Delivery,
    PendingCounts,
    Status,
    Verdict,
    dead_letters,
    pending_counts,
    replay,
    retry_after,
    verdict,
)
from governance.organisation.roles import administrator
from governance.platforms import reconciliation
from governance.tables import outbox
from infra.database import Database
from infra.errors import ConfigurationError, NotFound, Refused, StorageUnavailable
from infra.texts import Text, same, say
from riverchief.brokers.local import free_port
from riverchief.receiver import create_receiver
from tests import preloaded
from tests.cases import a_finding
from tests.databases import with_tables
from tests.says import says

pytestmark = pytest.mark.both_databases

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
T = 1_778_580_000_000
PATIENCE_S = 120


def clock() -> int:
    return time.time_ns() // 1_000_000


def until(true: Callable[[], bool]) -> None:
    """Wait for something to become true; fail when it does not."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def fired(cause: str, number: int) -> Finding:
    return a_finding(
        T + number * 60_000,
        since_ms=T,
        rule=f"{cause}-{number}",
        cause=cause,
        text=Text(f"第{number}次 <b>", f"number {number} <b>"),
    )


@dataclass
class Receiver:
    """A platform whose answers the test decides: by default 200, or what ``script`` says of an event's (cause, seq)."""

    script: Callable[[str, int], tuple[int, dict[str, str]]] = lambda cause, seq: (200, {})
    got: list[tuple[str, int, str]] = field(default_factory=list)
    """(cause, seq, event id) of everything sent here, in the order it came."""
    taken: list[tuple[str, int, str]] = field(default_factory=list)
    """The same of what was answered with 2xx."""
    bad_signatures: int = 0
    answer: bytes = b"{}"
    hold: threading.Event | None = None
    server: ThreadingHTTPServer | None = None
    port: int = field(default_factory=free_port)

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                event = json.loads(body)
                told = (event["data"]["cause"], event["data"]["seq"], event["id"])
                receiver.got.append(told)
                try:
                    cloudevents.verify(SECRET, dict(self.headers.items()), body, clock() // 1000)
                except cloudevents.SignatureInvalid:
                    receiver.bad_signatures += 1
                if receiver.hold is not None:
                    receiver.hold.wait(PATIENCE_S)
                status, headers = receiver.script(told[0], told[1])
                if status < 300:
                    receiver.taken.append(told)
                self.send_response(status)
                for name, value in ({"content-length": str(len(receiver.answer))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(receiver.answer)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A sender that went away is part of the test."""

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    with_tables(database)
    yield database
    database.close()


@pytest.fixture
def deliver(database: Database, receiver: Receiver) -> Iterator[Callable[..., Deliverer]]:
    """Starts a Deliverer with short waits; stopped at the end."""
    started: list[Deliverer] = []

    def start(url: str | None = None, **other: Any) -> Deliverer:
        settings: dict[str, Any] = {"clock": clock, "rng": random.Random(7), "backoff_s": 0.02, "backoff_cap_s": 0.1}
        settings |= {"poll_s": 0.1, "timeout_s": PATIENCE_S}  # else a slow machine would be a slow receiver
        deliverer = Deliverer(database, url or receiver.url, SECRET, **(settings | other))
        deliverer.start()
        started.append(deliverer)
        return deliverer

    yield start
    if receiver.hold is not None:
        receiver.hold.set()
    for deliverer in started:
        assert deliverer.stop(PATIENCE_S)


def record(database: Database, *findings: Finding) -> None:
    """Findings whose events are to be sent each for itself, as if each changed its incident."""
    with database.write() as connection:
        incident_store.record_findings(connection, findings, clock(), source="/riverchief/test")
        connection.execute(sa.update(outbox).where(outbox.c.repeats).values(repeats=False))  # its own: others have it


def rows(database: Database) -> list[Delivery]:
    with database.read() as connection:
        found = connection.execute(sa.select(outbox).order_by(outbox.c.id)).mappings().all()
    return [Delivery(**{**row, "status": Status(row["status"])}) for row in found]


def attempts(database: Database) -> int:
    """How often anything was tried."""
    with database.read() as connection:
        return int(connection.execute(sa.select(sa.func.sum(outbox.c.attempts))).scalar_one())


def settled(database: Database) -> bool:
    with database.read() as connection:
        return pending_counts(connection).pending == 0


# What an answer means -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "meaning"),
    [
        ((200, 201, 202, 204, 409), Verdict.DELIVERED),
        ((400, 405, 410, 413, 415, 422, 451), Verdict.REFUSED),
        ((408, 425, 429, 500, 501, 502, 503, 504, 599), Verdict.LATER),
        ((301, 302, 304, 307, 308, 401, 403, 404), Verdict.MISCONFIGURED),
    ],
)
def test_every_answer_has_one_meaning(statuses: tuple[int, ...], meaning: Verdict):
    assert {verdict(status) for status in statuses} == {meaning}


def test_the_receiver_says_when_to_come_again_in_seconds_or_as_a_date_and_at_most_an_hour():
    date = datetime(2026, 5, 12, 10, 0, tzinfo=UTC)
    at = format_datetime(date + timedelta(seconds=90), usegmt=True)
    now_ms = round(date.timestamp() * 1000)
    assert retry_after("120", now_ms) == 120
    assert retry_after(at, now_ms) == 90
    assert retry_after(at, now_ms + 600_000) == 0
    assert [retry_after(text, now_ms) for text in ("7200", "9" * 400)] == [3600, 3600]
    assert [retry_after(text, now_ms) for text in (None, "", "soon", "-5", "1.5", "٣")] == [None] * 6


@pytest.mark.parametrize("address", ["", "platform/events", "ftp://platform/events", "http://", "http://[::1"])
def test_an_address_that_cannot_be_sent_to_is_refused_at_once(database: Database, address: str):
    with pytest.raises(ConfigurationError):
        Deliverer(database, address, SECRET, clock=clock, rng=random.Random(1))


# What arrives -------------------------------------------------------------------------------------------------------


def test_an_incident_is_delivered_signed_once_and_settled(database: Database, receiver: Receiver, deliver):
    deliverer = deliver()
    record(database, fired("a", 1))
    deliverer.wake()
    until(lambda: settled(database))
    (row,) = rows(database)
    assert (row.status, row.attempts, row.last_status, row.last_error) == (Status.DELIVERED, 1, 200, None)
    assert row.delivered_at_ms is not None
    assert receiver.taken == [("a", 1, row.event_id)]
    assert receiver.bad_signatures == 0
    assert deliverer.last_round_at_ms is not None


def test_what_another_process_wrote_is_found_without_being_woken(database: Database, receiver: Receiver, deliver):
    deliver()
    record(database, fired("a", 1))
    until(lambda: settled(database))
    assert len(receiver.taken) == 1


def test_without_a_deliverer_everything_waits(database: Database):
    record(database, fired("a", 1), fired("a", 2))
    with database.read() as connection:
        counts = pending_counts(connection)
    assert (counts.pending, counts.refused) == (2, 0)
    assert counts.oldest_pending_at_ms == rows(database)[0].created_at_ms


def test_while_the_receiver_is_down_everything_waits_and_then_arrives_once_and_in_order(
    database: Database, receiver: Receiver, deliver
):
    receiver.stop()
    with capture_logs() as logs:
        deliver()
        record(database, *(fired(cause, n) for n in range(1, 6) for cause in "abc"))
        until(lambda: min(row.attempts for row in rows(database) if '"seq":1,' in row.body) >= 3)
        assert receiver.got == []
        assert {row.attempts for row in rows(database) if '"seq":1,' not in row.body} == {0}
        receiver.start()
        until(lambda: settled(database))
    assert {row.status for row in rows(database)} == {Status.DELIVERED}
    assert len(receiver.taken) == 15
    for cause in "abc":
        assert [seq for c, seq, _ in receiver.taken if c == cause] == [1, 2, 3, 4, 5]
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert len(warnings) == 1, "one warning for one outage"
    assert warnings[0]["host"] == "127.0.0.1"


def test_a_failing_incident_holds_back_its_own_later_events_and_no_other_incident(
    database: Database, receiver: Receiver, deliver
):
    mended = threading.Event()
    receiver.script = lambda cause, seq: (500, {}) if cause == "a" and not mended.is_set() else (200, {})
    deliver()
    record(database, *(fired(cause, n) for n in range(1, 4) for cause in "ab"))
    until(lambda: len(receiver.taken) == 3 and sum(c == "a" for c, *_ in receiver.got) >= 3)
    assert {(c, seq) for c, seq, _ in receiver.got} == {("a", 1), ("b", 1), ("b", 2), ("b", 3)}
    mended.set()
    until(lambda: settled(database))
    assert [seq for c, seq, _ in receiver.taken if c == "a"] == [1, 2, 3]


def test_a_slow_answer_does_not_hold_up_another_incident(database: Database, receiver: Receiver, deliver):
    release = threading.Event()

    def script(cause: str, seq: int) -> tuple[int, dict[str, str]]:
        if cause == "slow":
            release.wait(PATIENCE_S)
        return 200, {}

    receiver.script = script
    deliver()
    record(database, fired("slow", 1))
    until(lambda: len(receiver.got) == 1)
    record(database, fired("quick", 1), fired("quick", 2), fired("slow", 2))
    until(lambda: [c for c, *_ in receiver.taken] == ["quick", "quick"])
    assert [c for c, *_ in receiver.got].count("slow") == 1
    release.set()
    until(lambda: settled(database))
    assert [seq for c, seq, _ in receiver.taken if c == "slow"] == [1, 2]


def test_a_receiver_that_answers_too_late_is_asked_again_under_the_same_id(
    database: Database, receiver: Receiver, deliver
):
    receiver.hold = threading.Event()
    deliver(timeout_s=0.1)
    record(database, fired("a", 1))
    until(lambda: len(receiver.got) >= 2)
    receiver.hold.set()
    until(lambda: settled(database))
    assert len({event_id for *_, event_id in receiver.got}) == 1
    assert rows(database)[0].status is Status.DELIVERED


@pytest.mark.parametrize("status", [400, 410, 422])
def test_what_the_receiver_refuses_for_good_is_a_dead_letter_and_the_next_event_goes_on(
    database: Database, receiver: Receiver, deliver, status: int
):
    receiver.answer = "缺少字段".encode()
    receiver.script = lambda cause, seq: (status if seq == 1 else 200, {})
    deliver()
    record(database, fired("a", 1), fired("a", 2))
    until(lambda: settled(database))
    with database.read() as connection:
        (letter,) = dead_letters(connection)
        assert pending_counts(connection) == PendingCounts(0, 1, None)
    assert (letter.attempts, letter.last_status, letter.last_error) == (1, status, f"HTTP {status} 缺少字段")
    assert [(seq, e) for _, seq, e in receiver.taken] == [(2, rows(database)[1].event_id)]


def test_a_dead_letter_can_be_sent_again_under_the_same_id(database: Database, receiver: Receiver, deliver):
    receiver.script = lambda cause, seq: (400, {})
    deliverer = deliver()
    record(database, fired("a", 1))
    until(lambda: settled(database))
    receiver.script = lambda cause, seq: (200, {})
    (letter,) = rows(database)
    with database.write() as connection:
        replay(connection, letter.id, clock())
    deliverer.wake()
    until(lambda: settled(database))
    assert rows(database)[0].status is Status.DELIVERED
    assert [e for *_, e in receiver.taken] == [letter.event_id]


def test_only_a_dead_letter_can_be_sent_again(database: Database):
    record(database, fired("a", 1))
    with (
        pytest.raises(
            Refused, match=says("incident.delivery_not_refused", id=1, status=say("incident.delivery_pending"))
        ),
        database.write() as connection,
    ):
        replay(connection, 1, T)
    with pytest.raises(NotFound, match=says("incident.delivery_unknown", id=99)), database.write() as connection:
        replay(connection, 99, T)


def test_after_a_day_down_busy_slow_and_saying_yes_twice_nothing_is_lost_doubled_or_out_of_order(
    database: Database, receiver: Receiver, deliver
):
    now = [clock()]
    answers: list[tuple[int, dict[str, str]]] = [(503, {})] * 6 + [(429, {"retry-after": "3600"}), (410, {})]
    asked = iter(answers)
    receiver.script = lambda cause, seq: next(asked, (200, {})) if cause == "a" else (200, {})
    with database.write() as connection:
        incident_store.record_findings(
            connection, [fired("a", n) for n in (1, 2, 3)], now[0], source="/riverchief/test"
        )
        connection.execute(sa.update(outbox).where(outbox.c.repeats).values(repeats=False))  # its own: others have it
    deliver(clock=lambda: now[0], backoff_s=3600.0, backoff_cap_s=4 * 3600.0)
    until(lambda: len(receiver.got) == 1)
    for tries in range(2, 9):
        until(lambda tries=tries: rows(database)[0].attempts == tries - 1)
        now[0] += 4 * 3_600_000
        until(lambda tries=tries: len(receiver.got) >= tries)
    until(lambda: settled(database))
    assert now[0] - rows(database)[0].created_at_ms > 24 * 3_600_000
    assert [r.status for r in rows(database)] == [Status.REFUSED, Status.DELIVERED, Status.DELIVERED]
    assert [seq for _, seq, _ in receiver.got] == [1] * 8 + [2, 3]
    with database.write() as connection:
        replay(connection, rows(database)[0].id, now[0])
    until(lambda: settled(database))
    assert sorted(seq for _, seq, _ in receiver.taken) == [1, 2, 3]
    assert len({event_id for *_, event_id in receiver.got}) == 3


def test_already_there_counts_as_delivered(database: Database, receiver: Receiver, deliver):
    receiver.script = lambda cause, seq: (409, {})
    deliver()
    record(database, fired("a", 1))
    until(lambda: settled(database))
    assert (rows(database)[0].status, rows(database)[0].last_status) == (Status.DELIVERED, 409)


def test_a_busy_receiver_is_left_alone_for_as_long_as_it_asks(database: Database, receiver: Receiver, deliver):
    receiver.script = lambda cause, seq: (429, {"retry-after": "900"})
    deliver()
    began = clock()
    record(database, fired("a", 1))
    until(lambda: rows(database)[0].attempts == 1)
    (row,) = rows(database)
    assert (row.status, row.last_status) == (Status.PENDING, 429)
    assert began + 900_000 <= row.next_attempt_at_ms <= clock() + 900_000
    record(database, fired("b", 1))
    until(lambda: rows(database)[1].attempts == 1)
    assert len(receiver.got) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 302, 308])
def test_a_wrong_address_or_secret_loses_nothing_and_is_told_once_by_host_and_status(
    database: Database, receiver: Receiver, deliver, status: int
):
    mended = threading.Event()
    elsewhere = {"location": f"{receiver.url}/elsewhere"}
    receiver.script = lambda cause, seq: (200, {}) if mended.is_set() else (status, elsewhere)
    receiver.answer = b"Cannot POST /events?token=hidden"
    with capture_logs() as logs:
        deliver(receiver.url.replace("127.0.0.1", "user:hidden@127.0.0.1") + "?token=hidden")
        record(database, fired("a", 1))
        until(lambda: rows(database)[0].attempts >= 3)
        mended.set()
        until(lambda: settled(database))
    assert len(receiver.got) == rows(database)[0].attempts, "a redirect is not followed"
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [(w["host"], w["status"]) for w in warnings] == [("127.0.0.1", status)]
    assert "check the address and the secret" in warnings[0]["event"]
    assert rows(database)[0].status is Status.DELIVERED
    assert "hidden" not in repr(logs) + repr(rows(database))
    assert SECRET not in repr(logs) + repr(rows(database))


def test_an_error_that_names_the_address_is_kept_without_it(
    database: Database, deliver, monkeypatch: pytest.MonkeyPatch
):
    def fail(client: httpx.Client, delivery: Delivery) -> None:
        raise RuntimeError("no way to http://user:hidden@127.0.0.1:1/events?token=hidden")

    deliverer = deliver("http://user:hidden@127.0.0.1:1/events?token=hidden")
    monkeypatch.setattr(deliverer, "_send", fail)
    record(database, fired("a", 1))
    until(lambda: rows(database)[0].attempts >= 1)
    assert rows(database)[0].last_error == "RuntimeError: no way to 127.0.0.1"


def test_after_days_of_failing_a_delivery_is_given_up_and_visible_until_somebody_sends_it_again(
    database: Database, receiver: Receiver, deliver
):
    receiver.script = lambda cause, seq: (503, {})
    ahead_ms = [0]
    deliverer = deliver(clock=lambda: clock() + ahead_ms[0], give_up_after_s=86_400.0)
    record(database, fired("a", 1))
    until(lambda: rows(database)[0].attempts >= 2)
    assert rows(database)[0].status is Status.PENDING
    with capture_logs() as logs:
        ahead_ms[0] = 2 * 86_400_000
        until(lambda: settled(database))
    assert [(e["log_level"], e["reason"]) for e in logs if "reason" in e] == [("error", "given up")]
    assert (rows(database)[0].status, rows(database)[0].last_status) == (Status.REFUSED, 503)
    with database.write() as connection:
        replay(connection, 1, clock() + ahead_ms[0])
    deliverer.wake()
    until(lambda: rows(database)[0].attempts >= 2)
    assert rows(database)[0].status is Status.PENDING, "the days count anew"


def test_an_endless_answer_is_not_read_to_its_end(database: Database, receiver: Receiver, deliver):
    receiver.answer = b"x" * 20_000_000
    receiver.script = lambda cause, seq: (400, {})
    deliver()
    record(database, fired("a", 1))
    until(lambda: settled(database))
    assert len(rows(database)[0].last_error or "") <= 300


def test_waits_double_up_to_a_limit_and_are_spread(database: Database):
    deliverer = Deliverer(database, "http://platform/events", SECRET, clock=clock, rng=random.Random(3))
    for attempts, full_s in [(1, 1), (2, 2), (3, 4), (10, 512), (11, 600), (5000, 600)]:
        waits = [deliverer._wait_s(attempts, None) for _ in range(50)]
        assert full_s / 2 <= min(waits) < max(waits) <= full_s
    assert deliverer._wait_s(1, 30.0) == 30.0
    assert deliverer._wait_s(1, 0.0) >= 0.5


def test_a_database_that_is_away_is_waited_for(
    database: Database, receiver: Receiver, deliver, monkeypatch: pytest.MonkeyPatch
):
    away = threading.Event()
    tried: list[str] = []
    real = {"read": database.read, "write": database.write}

    def attempt(name: str):
        if away.is_set():
            tried.append(name)
            raise StorageUnavailable(same("the disk is full"))
        return real[name]()

    deliverer = deliver(poll_s=0.01)
    for name in real:
        monkeypatch.setattr(database, name, lambda name=name: attempt(name))
    receiver.hold = threading.Event()
    record(database, fired("a", 1))
    until(lambda: len(receiver.got) == 1)
    with capture_logs() as logs:
        away.set()
        receiver.hold.set()
        until(lambda: "write" in tried and len(tried) > 3)
    away.clear()
    assert {(e["log_level"], e["error"]) for e in logs} == {("warning", "the disk is full")}
    until(lambda: settled(database))
    assert len(receiver.got) == 1, "the answer was kept, not asked for again"
    seen = deliverer.last_round_at_ms
    until(lambda: (deliverer.last_round_at_ms or 0) > (seen or 0))


def test_a_process_that_dies_between_sending_and_settling_sends_again_under_the_same_id(
    database: Database, receiver: Receiver, deliver, monkeypatch: pytest.MonkeyPatch
):
    dying = deliver()
    monkeypatch.setattr(dying, "_settle", lambda: 0.1)
    record(database, fired("a", 1))
    until(lambda: len(receiver.taken) == 1)
    assert dying.stop(0.2) in {True, False}
    assert rows(database)[0].status is Status.PENDING
    deliver()
    until(lambda: settled(database))
    assert len(receiver.taken) == 2
    assert len({event_id for *_, event_id in receiver.taken}) == 1


def test_stopping_settles_what_is_on_its_way_and_sends_nothing_new(database: Database, receiver: Receiver, deliver):
    receiver.hold = threading.Event()
    deliverer = deliver()
    record(database, fired("a", 1), fired("a", 2))
    until(lambda: len(receiver.got) == 1)
    stopping = threading.Thread(target=deliverer.stop, args=(PATIENCE_S,))
    stopping.start()
    until(deliverer._stopping.is_set)
    receiver.hold.set()
    stopping.join(PATIENCE_S)
    assert [row.status for row in rows(database)] == [Status.DELIVERED, Status.PENDING]
    deliverer.start()
    until(lambda: settled(database))
    assert [seq for _, seq, _ in receiver.taken] == [1, 2]


# The receiving platform of the demo ----------------------------------------------------------------------------------


@pytest.fixture
def platform() -> Iterator[str]:
    """The demo's receiving platform on a free port; gives its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_receiver(SECRET, clock, keep=50)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(PATIENCE_S)
    listening.close()


def signed(event: object, secret: str = SECRET, age_s: int = 0) -> dict[str, Any]:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return {"content": body, "headers": cloudevents.sign(secret, "e", clock() // 1000 - age_s, body)}


EVENT = {"specversion": "1.0", "id": "e-1", "source": "/test", "type": "river.incident.opened"}


def test_the_demo_platform_gets_every_incident_once_and_shows_the_newest_first_in_both_languages(
    database: Database, platform: str, deliver
):
    deliver(f"{platform}/events")
    for findings in ([fired("a", 1), fired("b", 1)], [fired("a", 2)]):  # of two incidents, either may be first
        record(database, *findings)
        until(lambda: settled(database))
    events = httpx.get(f"{platform}/events", timeout=60).json()
    assert sorted((e["event"]["data"]["cause"], e["event"]["data"]["seq"]) for e in events) == [
        ("a", 1),
        ("a", 2),
        ("b", 1),
    ]
    assert [e["received_at_ms"] for e in events] == sorted(e["received_at_ms"] for e in events)
    page = httpx.get(platform, timeout=60)
    assert page.text.index("第2次 &lt;b&gt;") < page.text.index("number 1 &lt;b&gt;")
    assert "<b>" not in page.text
    assert say("state.reported").zh in page.text
    assert 'http-equiv="refresh"' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_demo_platform_keeps_a_repeated_event_once_and_counts_the_repeat(platform: str):
    answers = [httpx.post(f"{platform}/events", **signed(EVENT), timeout=60).status_code for _ in range(3)]
    assert answers == [202, 200, 200]
    (kept,) = httpx.get(f"{platform}/events", timeout=60).json()
    assert (kept["event"], kept["repeats"]) == (EVENT, 2)
    assert "重复送达2次" in httpx.get(platform, timeout=60).text


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(lambda: {"content": b"{}"}, 401, id="unsigned"),
        pytest.param(lambda: signed(EVENT, "another"), 401, id="wrong secret"),
        pytest.param(lambda: signed(EVENT, age_s=400), 401, id="old"),
        pytest.param(lambda: signed(EVENT) | {"content": b"{}"}, 401, id="tampered"),
        pytest.param(lambda: signed({"specversion": "1.0"}), 400, id="no CloudEvent"),
        pytest.param(lambda: signed(b"water"), 400, id="no JSON"),
        pytest.param(lambda: signed(b" " * 1_100_000), 413, id="too large"),
    ],
)
def test_the_demo_platform_turns_away_what_it_cannot_believe_or_read(
    platform: str, sent: Callable[[], dict[str, Any]], status: int
):
    answer = httpx.post(f"{platform}/events", **sent(), timeout=60)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert httpx.get(f"{platform}/events", timeout=60).json() == []


def test_the_demo_platform_shows_odd_events_without_believing_them_and_keeps_the_newest(platform: str):
    odd = [
        {"colour": ["red"], "state": "<i>", "text": 5, "comment": {"a": "<script>"}},
        "text",
        None,
        {"notify": "red"},
    ]
    for number in range(60):
        event = EVENT | {"id": f"e-{number}", "data": odd[number % 4]}
        assert httpx.post(f"{platform}/events", **signed(event), timeout=60).status_code == 202
    events = [e["event"]["id"] for e in httpx.get(f"{platform}/events", timeout=60).json()]
    assert (len(events), events[0], events[-1]) == (50, "e-10", "e-59")
    page = httpx.get(platform, timeout=60)
    assert page.status_code == 200
    assert "<script>" not in page.text
    assert "<i>" not in page.text


def test_a_storm_through_a_faltering_receiver_loses_nothing_doubles_nothing_and_keeps_the_order(
    database: Database, receiver: Receiver, deliver
):
    dice = random.Random(11)
    moods = [(200, {}), (200, {}), (500, {}), (429, {"retry-after": "0"}), (503, {}), (401, {})]
    receiver.script = lambda cause, seq: dice.choice(moods)
    deliverer = deliver()
    for number in range(1, 8):
        record(database, *(fired(f"c{c}", number) for c in range(12)))
        deliverer.wake()
    until(lambda: settled(database))
    assert len(receiver.taken) == len({e for *_, e in receiver.taken}) == 84
    for c in range(12):
        assert [seq for cause, seq, _ in receiver.taken if cause == f"c{c}"] == list(range(1, 8))
    assert receiver.bad_signatures == 0


# A flood of findings is no flood of events --------------------------------------------------------------------------


def again(cause: str, number: int, change: ConditionChange = ConditionChange.FIRED) -> Finding:
    """One more finding of a few rules of a cause."""
    return replace(fired(cause, number), rule=f"{cause}-{number % 5}", change=change)


def told(database: Database, *findings: Finding, at_ms: int) -> None:
    with database.write() as connection:
        incident_store.record_findings(connection, findings, at_ms, source="/riverchief/test")


def gathered(database: Database) -> bool:
    """Whether all that waits is a repetition nobody has tried to send, and nothing is on its way."""
    held = outbox.c.repeats & (outbox.c.attempts == 0) & outbox.c.claimed_by.is_(None)
    with database.read() as connection:
        query = sa.select(sa.literal(1)).where(outbox.c.status == "pending", ~held).limit(1)
        return connection.execute(query).first() is None


def waiting(database: Database) -> list[Delivery]:
    return [row for row in rows(database) if row.status is Status.PENDING]


def test_of_1000_findings_in_a_minute_a_handful_of_events_leave_and_each_incident_ends_as_it_stands(
    database: Database, receiver: Receiver, deliver
):
    now = [T]
    deliverer = deliver(clock=lambda: now[0], poll_s=0.02)
    for batch in range(10):
        numbers = range(batch * 20, batch * 20 + 20)
        told(database, *(again(cause, n) for n in numbers for cause in "abcde"), at_ms=now[0])
        if batch == 5:
            with database.write() as connection:
                office = administrator("受理员甲（示例）")
                incident_store.apply_action(
                    connection, 1, Order(Action.ACCEPT), office, now_ms=now[0], source="/riverchief/test"
                )
        deliverer.wake()
        until(lambda: gathered(database))
        now[0] += 6_000
    assert sorted((cause, seq) for cause, seq, _ in receiver.taken) == [("a", 1), ("a", 121), *((c, 1) for c in "bcde")]
    now[0] += 60_000
    until(lambda: settled(database))
    seqs = {cause: [seq for c, seq, _ in receiver.taken if c == cause] for cause in "abcde"}
    assert seqs == {"a": [1, 121, 201]} | {cause: [1, 200] for cause in "bcde"}
    statuses = [row.status for row in rows(database)]
    assert (statuses.count(Status.DELIVERED), statuses.count(Status.SUPERSEDED)) == (11, 990)


def test_who_is_called_again_is_told_before_the_minute_is_over_and_by_no_mere_repetition(
    database: Database, receiver: Receiver, deliver
):
    now = [T]
    deliver(clock=lambda: now[0], poll_s=0.02)
    told(database, again("a", 5), at_ms=now[0])
    until(lambda: len(receiver.taken) == 1)
    told(database, again("a", 10, ConditionChange.RESOLVED), again("a", 15), again("a", 16), at_ms=now[0])
    until(lambda: gathered(database))
    assert [row.notify for row in waiting(database)] == ["inform", "page", "inform"]
    now[0] += 15_000
    until(lambda: len(receiver.taken) == 2 and gathered(database))
    now[0] += 59_000
    until(lambda: gathered(database))
    assert [seq for _, seq, _ in receiver.taken] == [1, 3]
    now[0] += 1_000
    until(lambda: settled(database))
    assert [seq for _, seq, _ in receiver.taken] == [1, 3, 4]


def test_after_a_day_of_findings_with_the_receiver_down_it_hears_what_was_tried_and_how_things_stand(
    database: Database, receiver: Receiver, deliver
):
    now, up = [T], threading.Event()
    receiver.script = lambda cause, seq: (200, {}) if seq == 1 or up.is_set() else (503, {})
    deliverer = deliver(clock=lambda: now[0], poll_s=0.02, backoff_s=600.0, backoff_cap_s=600.0)
    told(database, *(again(cause, 1) for cause in "ab"), at_ms=now[0])
    until(lambda: settled(database))
    for hour in range(24):
        tried = attempts(database)
        assert deliverer.stop(PATIENCE_S)  # else the hour before would be tried again before this one is told
        now[0] += 3_600_000
        told(database, *(again(cause, 10 * hour + n) for n in range(2, 12) for cause in "ab"), at_ms=now[0])
        deliverer.start()
        until(lambda tried=tried: attempts(database) == tried + 2)
    assert len(waiting(database)) == 480 - 18, "what came in one go was told by its last"
    up.set()
    now[0] += 3_600_000
    until(lambda: len(receiver.taken) == 4 and gathered(database))
    now[0] += 60_000
    until(lambda: settled(database))
    for cause in "ab":
        assert [seq for c, seq, _ in receiver.taken if c == cause] == [1, 11, 241]
    assert len({event_id for *_, event_id in receiver.taken}) == len(receiver.taken) == 6


def test_what_was_superseded_is_not_sent_again_with_the_others_and_a_dead_letter_is(
    database: Database, receiver: Receiver, deliver
):
    now = [T]
    receiver.script = lambda cause, seq: (410 if seq > 1 else 200, {})
    deliver(clock=lambda: now[0], poll_s=0.02)
    told(database, *(again("a", n) for n in range(1, 5)), at_ms=now[0])
    until(lambda: gathered(database))
    now[0] += 60_000
    until(lambda: settled(database))
    assert [row.status.value for row in rows(database)] == ["delivered", "superseded", "superseded", "refused"]
    receiver.script = lambda cause, seq: (200, {})
    with database.write() as connection:
        assert reconciliation.resend(connection, [1], now[0]) == 2
    until(lambda: len(receiver.taken) == 2 and gathered(database))
    now[0] += 60_000
    until(lambda: settled(database))
    assert [seq for _, seq, _ in receiver.taken] == [1, 1, 4]


def test_two_workers_that_gather_keep_the_order_send_nothing_twice_and_end_with_the_newest(
    database: Database, receiver: Receiver, deliver
):
    workers = [deliver(gather_s=0.1, poll_s=0.02) for _ in range(2)]
    for number in range(1, 21):
        told(database, *(again(f"c{c}", number) for c in range(20)), at_ms=clock())
        for one in workers:
            one.wake()
    until(lambda: settled(database))
    for c in range(20):
        seqs = [seq for cause, seq, _ in receiver.taken if cause == f"c{c}"]
        assert seqs == sorted(set(seqs))
        assert (seqs[0], seqs[-1]) == (1, 20)
    delivered = {row.event_id for row in rows(database) if row.status is Status.DELIVERED}
    assert sorted(delivered) == sorted(event_id for *_, event_id in receiver.taken)


# Several workers ----------------------------------------------------------------------------------------------------

WORKER = """
import random, structlog, sys, time
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
from infra.database import Database
from governance.notify.outbox import Deliverer
from infra import outgoing
url, receiver, secret, seed = sys.argv[1:]
outgoing.allow(named=[outgoing.endpoint_of(receiver)])
deliverer = Deliverer(
    Database(url), receiver, secret, clock=lambda: time.time_ns() // 1_000_000, rng=random.Random(int(seed)),
    concurrency=8, backoff_s=0.02, backoff_cap_s=0.1, poll_s=0.05, lease_s=6.0,
)
deliverer.start()
print("ready", flush=True)
sys.stdin.read()
deliverer.stop(30)
"""


@pytest.fixture
def worker(database: Database, receiver: Receiver) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Starts processes that deliver; ended at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(seed: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WORKER, database.url.render_as_string(False), receiver.url, SECRET, str(seed)]
        started.append(
            preloaded.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        )
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == b"ready\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_two_workers_send_every_event_of_150_incidents_in_order_and_one_that_is_killed_is_stood_in_for(
    database: Database, receiver: Receiver, worker
):
    dice = random.Random(11)

    def script(cause: str, seq: int) -> tuple[int, dict[str, str]]:
        time.sleep(dice.uniform(0, 0.02))  # long enough for a second worker to meet a row that is being sent
        return (200 if dice.random() < 0.9 else 503), {}

    receiver.script = script
    first, second = worker(1), worker(2)  # before there is work: else one may have done it before the other has started
    record(database, *(fired(f"c{i}", n) for n in (1, 2, 3) for i in range(150)))
    workers: set[str] = set()

    def both_at_work() -> bool:
        with database.read() as connection:
            claims = sa.select(outbox.c.claimed_by).where(outbox.c.claimed_by.is_not(None)).distinct()
            workers.update(connection.execute(claims).scalars())
        return len(workers) == 2 and len(receiver.taken) > 80

    until(both_at_work)
    first.kill()
    held = len(receiver.taken)
    until(lambda: settled(database))
    assert second.poll() is None
    assert {row.status for row in rows(database)} == {Status.DELIVERED}
    assert {row.claimed_by for row in rows(database)} == {None}
    assert len(receiver.taken) > held
    by_incident: dict[str, list[int]] = {}
    for cause, seq, _ in receiver.taken:
        by_incident.setdefault(cause, []).append(seq)
    assert {cause: list(dict.fromkeys(seqs)) for cause, seqs in by_incident.items()} == {
        f"c{i}": [1, 2, 3] for i in range(150)
    }
    twice = len(receiver.taken) - 450
    assert twice <= 8, "only what the killed worker had not written down yet"


def test_a_claim_holds_while_its_worker_lives_however_slow_the_receiver(
    database: Database, receiver: Receiver, deliver
):
    now = [clock()]
    receiver.hold = threading.Event()
    deliver(clock=lambda: now[0], lease_s=60.0)
    told(database, fired("a", 1), at_ms=now[0])
    until(lambda: len(receiver.got) == 1)
    other = deliver(clock=lambda: now[0], lease_s=60.0)
    for _ in range(5):
        now[0] += 40_000  # less than the claim lasts, more than half of it: it is held on to
        until(lambda: rows(database)[0].claimed_until_ms == now[0] + 60_000 and other.last_round_at_ms == now[0])
    assert len(receiver.got) == 1, "nobody else sends what is being sent"
    receiver.hold.set()
    until(lambda: settled(database))
    assert (len(receiver.got), rows(database)[0].attempts) == (1, 1)


def test_what_was_tried_while_the_clock_was_hours_ahead_is_sent_once_the_clock_is_right(
    database: Database, receiver: Receiver, deliver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(clock_correction, "INTERVAL_S", 0.0)
    hours, up = [6], threading.Event()
    receiver.script = lambda cause, seq: (200, {}) if up.is_set() else (500, {})
    deliver(clock=lambda: clock() + hours[0] * 3_600_000, poll_s=0.02, backoff_s=1.0, backoff_cap_s=2.0)
    told(database, fired("a", 1), fired("b", 1), at_ms=clock())
    until(lambda: min(row.attempts for row in rows(database)) > 0)
    told(database, fired("c", 1), at_ms=clock() + hours[0] * 3_600_000)
    with database.write() as connection:  # of a worker that died meanwhile
        dead = {"claimed_by": "another worker", "claimed_until_ms": clock() + 6 * 3_600_000 + 20_000}
        connection.execute(sa.update(outbox).where(outbox.c.incident_id == 2).values(dead))
    up.set()
    hours[0] = 0
    until(lambda: settled(database))
    assert {cause for cause, _, _ in receiver.taken} == {"a", "b", "c"}


def test_a_wait_that_a_right_clock_has_written_is_kept(database: Database):
    now = clock()
    with database.write() as connection:
        incident_store.record_findings(connection, [fired(c, 1) for c in "abc"], now, source="/test")
        for number, attempts, status, wait_s in ((1, 3, None, 4), (2, 1, 503, 3600), (3, 1, None, 4)):
            waits = {"attempts": attempts, "last_status": status, "next_attempt_at_ms": now + wait_s * 1000 + 30_000}
            connection.execute(sa.update(outbox).where(outbox.c.id == number).values(waits))
        claim = {"claimed_by": "another worker", "claimed_until_ms": now + 20_000}
        connection.execute(sa.update(outbox).where(outbox.c.id == 1).values(claim))
        before = connection.execute(sa.select(outbox)).all()
        limits: Any = {"backoff_s": 1.0, "cap_s": 600.0, "asked_most_s": 3600.0, "lease_most_ms": 40_000}
        clock_correction.deliveries(connection, now, **limits)
        assert connection.execute(sa.select(outbox)).all() == before
        clock_correction.deliveries(connection, now - 6 * 3_600_000, **limits)
        after = connection.execute(sa.select(outbox).order_by(outbox.c.id)).all()
        assert [row.next_attempt_at_ms for row in after] == [now - 6 * 3_600_000] * 3
        assert {row.claimed_by for row in after} == {None}


def test_a_failure_told_by_a_worker_that_lost_its_claim_changes_nothing_for_the_one_that_has_it(
    database: Database, receiver: Receiver, deliver
):
    receiver.hold = threading.Event()
    receiver.script = lambda cause, seq: (500, {})
    late = deliver(lease_s=60.0)
    record(database, fired("a", 1))
    until(lambda: len(receiver.got) == 1)
    taken_over = {"claimed_by": "another worker", "claimed_until_ms": clock() + 60_000}
    with database.write() as connection:
        connection.execute(sa.update(outbox).values(taken_over))
    receiver.hold.set()
    assert late.stop(PATIENCE_S)
    (row,) = rows(database)
    assert (row.claimed_by, row.attempts, row.status) == ("another worker", 0, Status.PENDING)
