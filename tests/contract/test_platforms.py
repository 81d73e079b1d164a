"""External platforms: callbacks that are believed, done once and refused in words; both sides' lists compared."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from typer.testing import CliRunner

from api.app import create_app
from api.context import Context
from governance.audit import trail as audit_trail
from governance.incidents import cloudevents
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, Finding
from governance.incidents.model import Action, Assignment, Order, State
from governance.notify.outbox import Status
from governance.organisation.regions import Place
from governance.platforms import callbacks, reconciliation
from governance.platforms import model as platform_model
from governance.platforms.callbacks import CallbackOutcome
from governance.platforms.model import Platform
from governance.platforms.reconciliation import LocalIncident, PlatformIncident, PlatformUnavailable, compare
from governance.tables import outbox
from infra.database import Database
from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import both, say
from infra.times import DAY_MS
from ingest.storage.sql import SqlReadings
from riverchief.cli.app import app as cli
from riverchief.services.reconciler import Reconciler
from sensors.parameters import catalogue
from tests.cases import OPERATOR, a_finding
from tests.databases import cases_are_in_the_trail, with_tables
from tests.postgres import fresh
from tests.says import says

pytestmark = pytest.mark.both_databases

NOW = 1_778_580_000_000  # 2026-05-12T10:00:00Z
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SHIPPED = Path("config/platforms.toml").read_text(encoding="utf-8")
HOUR = 3_600_000


def read(text: str = SHIPPED) -> platform_model.Platforms:
    return platform_model.read(text, lambda file: file.read_text(), SECRET)


def fired(cause: str, *, at_ms: int = NOW, colour: Colour = Colour.YELLOW) -> Finding:
    return a_finding(at_ms, rule=f"nh3n-{cause}", cause=cause, colour=colour)


@dataclass
class Site:
    """An API with one platform, and a way to call back as that platform."""

    database: Database
    context: Context
    client: TestClient
    clock: list[int]
    counted: list[CallbackOutcome] = field(default_factory=list)
    woken: list[None] = field(default_factory=list)

    def open(self, *causes: str) -> list[int]:
        with self.database.write() as connection:
            found = incident_store.record_findings(
                connection, [fired(c) for c in causes], self.clock[0] - HOUR, source="/test"
            )
        return list(found.ids)

    def call(self, event_id: str, body: Any, *, at_ms: int | None = None, secret: str = SECRET) -> httpx.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        stamp = (self.clock[0] if at_ms is None else at_ms) // 1000
        headers = cloudevents.sign(secret, event_id, stamp, raw)
        return self.client.post("/api/v1/callbacks/district", content=raw, headers=headers)

    def state(self, number: int) -> tuple[State, int]:
        with self.database.read() as connection:
            found = incident_store.get(connection, number)
        return found.state, found.version


def told(number: int, status: str, **more: Any) -> dict[str, Any]:
    return {"data": {"incident": number, "status": status, "handler": "张某（示例）", **more}}


@pytest.fixture
def site(url: str) -> Iterator[Site]:
    yield from make(url)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Site]:
    """On SQLite alone: what has nothing to do with the database."""
    yield from make(fresh("sqlite", tmp_path))


def make(url: str) -> Iterator[Site]:
    database = Database(url)
    with_tables(database)
    clock, counted, woken = [NOW], list[CallbackOutcome](), list[None]()
    context = Context(
        database=database,
        store=SqlReadings(database, catalogue()),
        catalogue=catalogue(),
        source="/test",
        clock_ms=lambda: clock[0],
        token="operator-token",
        platforms=read(),
        called_back=counted.append,
        wake=lambda: woken.append(None),
    )
    yield Site(database, context, TestClient(create_app(context), headers=AUTH), clock, counted, woken)
    cases_are_in_the_trail(database)
    database.close()


WOLF = Order(Action.FALSE_ALARM, comment="y", reason="other")
ACCEPTED = ["dispatch", "false_alarm", "comment"]
"""What the platform of the sample may ask for once an incident is accepted: its own words, no more."""

# -- callbacks ---------------------------------------------------------------------------------------------------------


def test_a_callback_becomes_an_action_under_the_name_of_who_did_it_there(site: Site) -> None:
    (number,) = site.open("a")
    answer = site.call("cb-1", told(number, "accepted"))
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "outcome": "applied",
        "incident": number,
        "action": "accept",
        "version": 2,
        "repeat": False,
    }
    with site.database.read() as connection:
        assert incident_store.get(connection, number).accepted_by == "区平台（示例） 张某（示例）"
    assert site.counted == [CallbackOutcome.APPLIED]
    assert len(site.woken) == 1


def test_in_history_and_trail_a_platform_is_a_platform_and_no_administrator(one: Site) -> None:
    (number,) = one.open("a")
    one.call("cb-1", told(number, "accepted"))
    with one.database.read() as connection:
        last = incident_store.history(connection, number)[-1]
        kept = audit_trail.list_entries(connection, what="incident.accepted", limit=1)[0]
    assert (last.by, last.role) == ("区平台（示例） 张某（示例）", "platform")
    assert (kept.by, kept.role) == (last.by, "platform")


def test_what_a_program_does_with_the_token_of_the_site_is_a_machines_and_no_administrators(one: Site) -> None:
    (number,) = one.open("a")
    body = {"action": "accept", "by": "受理程序（示例）"}
    assert one.client.post(f"/api/v1/incidents/{number}/actions", json=body).status_code == 200
    with one.database.read() as connection:
        last = incident_store.history(connection, number)[-1]
        kept = audit_trail.list_entries(connection, what="incident.accepted", limit=1)[0]
    assert (last.by, last.role, kept.role) == ("受理程序（示例）", "machine", "machine")


def test_a_platform_acts_in_its_own_region_and_nowhere_else(one: Site) -> None:
    local = read(SHIPPED.replace('# region = "chancheng/zumiao"', 'region = "chancheng/zumiao"'))
    one.client = TestClient(create_app(replace(one.context, platforms=local)), headers=AUTH)
    with one.database.write() as connection:
        here = partial(incident_store.record_findings, connection, now_ms=NOW - HOUR, source="/test")
        (theirs,) = here([fired("a")], place=lambda _: Place("chancheng/zumiao")).ids
        (ours,) = here([fired("b")], place=lambda _: Place("chancheng/shiwan")).ids
    assert one.call("cb-1", told(theirs, "accepted")).status_code == 200
    refused = one.call("cb-2", told(ours, "accepted"))
    assert (refused.status_code, refused.json()["allowed"]) == (409, [])
    assert refused.json()["detail"] == both(say("incident.elsewhere", id=ours))
    assert one.state(ours) == (State.REPORTED, 1)


def test_whoever_handled_a_case_there_does_not_verify_it_there(one: Site) -> None:
    def say(event_id: str, status: str, by: str) -> int:
        return one.call(event_id, told(number, status, handler=by, remark="示例")).status_code

    (number,) = one.open("a")
    assert say("cb-1", "accepted", "张某（示例）") == 200
    with one.database.write() as connection:
        order = Order(Action.DISPATCH, assignment=Assignment(responsible="示例河长"))
        incident_store.apply_action(connection, number, order, OPERATOR, now_ms=NOW, source="/test")
    assert say("cb-2", "handling", "张某（示例）") == 200
    assert say("cb-3", "handled", "李某（示例）") == 200
    assert (say("cb-4", "verified", "张某（示例）"), one.state(number)[0]) == (409, State.HANDLED)
    assert (say("cb-5", "verified", "王某（示例）"), one.state(number)[0]) == (200, State.VERIFIED)


def test_nobody_can_be_given_the_role_of_a_platform(one: Site) -> None:
    for role in ("platform", "system"):
        assert one.client.post("/api/v1/people", json={"name": "示例", "role": role}).status_code == 400


def test_the_same_callback_in_a_new_attempt_is_done_once_and_answered_as_the_first_time(site: Site) -> None:
    (number,) = site.open("a")
    site.call("cb-1", told(number, "remark", remark="去看了"))
    site.clock[0] += 60_000
    again = site.call("cb-1", told(number, "remark", remark="去看了"))
    assert again.status_code == 200
    assert again.json()["repeat"] is True
    assert again.json()["outcome"] == "applied"
    assert site.state(number) == (State.REPORTED, 2)
    assert site.counted == [CallbackOutcome.APPLIED, CallbackOutcome.REPEATED]


def test_a_copied_request_or_another_body_under_a_known_id_is_refused_and_logged(site: Site) -> None:
    (number,) = site.open("a")
    site.call("cb-1", told(number, "remark", remark="一"))
    with capture_logs() as logs:
        copied = site.call("cb-1", told(number, "remark", remark="一"))
        other = site.call("cb-1", told(number, "closed", remark="二"), at_ms=NOW + 1000)
    assert (copied.status_code, other.status_code) == (409, 409)
    assert [e["log_level"] for e in logs if e.get("outcome") == "replayed"] == ["warning", "warning"]
    assert site.state(number) == (State.REPORTED, 2)
    assert site.counted[1:] == [CallbackOutcome.REPLAYED, CallbackOutcome.REPLAYED]


def test_what_is_not_proved_or_too_old_is_refused_logged_and_not_remembered(one: Site) -> None:
    (number,) = one.open("a")
    for secret, off_ms in (("another secret", 0), (SECRET, -301_000), (SECRET, 301_000)):
        one.counted.clear()
        with capture_logs() as logs:
            answer = one.call("cb-1", told(number, "accepted"), secret=secret, at_ms=NOW + off_ms)
        assert answer.status_code == 401
        assert SECRET not in answer.text
        assert [e["outcome"] for e in logs if "outcome" in e] == ["forged"]
        assert one.counted == [CallbackOutcome.FORGED]
        assert one.state(number) == (State.REPORTED, 1)
    assert one.call("cb-1", told(number, "accepted")).status_code == 200, "a forger must not use up an id"


def test_a_callback_after_the_incident_moved_on_is_refused_with_what_is_allowed_now(site: Site) -> None:
    (number,) = site.open("a")
    site.call("cb-1", told(number, "accepted"))
    late = site.call("cb-2", told(number, "accepted"))
    assert late.status_code == 409
    assert late.json()["allowed"] == ACCEPTED
    again = site.call("cb-2", told(number, "accepted"), at_ms=NOW + 1000)
    assert again.status_code == 409
    assert again.json()["allowed"] == ACCEPTED
    assert site.state(number) == (State.ACCEPTED, 2)


def test_with_seq_a_callback_that_rests_on_an_older_state_is_stale(one: Site) -> None:
    strict = read(SHIPPED.replace('# seq = "data.seq"', 'seq = "data.seq"'))
    one.client = TestClient(create_app(replace(one.context, platforms=strict)), headers=AUTH)
    (number,) = one.open("a")
    assert one.call("cb-1", told(number, "remark", remark="x", seq=1)).status_code == 200
    stale = one.call("cb-2", told(number, "accepted", seq=1))
    assert stale.status_code == 409
    assert "accept" in stale.json()["allowed"]
    assert one.call("cb-3", told(number, "accepted", seq=2)).status_code == 200


def test_a_callback_that_cannot_be_used_says_what_is_wrong(one: Site) -> None:
    for body, status, said in (
        (b"{", 400, "JSON"),
        (b'{"data": {"incident": NaN}}', 400, "JSON"),
        ({"data": []}, 400, "incident"),
        (told(1, "exploded"), 400, "exploded"),
        (told(True, "accepted"), 400, "incident"),
        (told(2**31, "accepted"), 400, "incident"),
        (told(999, "accepted"), 404, "999"),
        (told(999, "received"), 404, "999"),
    ):
        answer = one.call(f"cb-{body!r}"[:99].encode("ascii", "replace").decode(), body)
        assert answer.status_code == status, body
        assert said in answer.json()["detail"]


def test_a_word_that_means_nothing_here_is_taken_and_changes_nothing(one: Site) -> None:
    (number,) = one.open("a")
    assert one.call("cb-1", told(number, "received")).json()["outcome"] == "unchanged"
    assert one.state(number) == (State.REPORTED, 1)


def test_what_came_of_callbacks_stands_in_the_trail_and_a_forger_cannot_fill_it(one: Site) -> None:
    (number,) = one.open("a")
    for n in range(3):
        one.call(f"x-{n}", told(number, "accepted"), secret="another")
    one.call("cb-1", told(number, "accepted"))
    one.call("cb-1", told(number, "accepted"))
    one.call("cb-2", told(number, "accepted"))
    one.call("cb-3", told(999, "accepted"))
    with one.database.read() as connection:
        found = [
            line.what for line in audit_trail.list_entries(connection, limit=99) if line.what.startswith("callback")
        ]
    outcomes = ("applied", "forged", "refused", "replayed", "unknown")
    assert sorted(found) == [f"callback.{outcome}" for outcome in outcomes]


def test_a_platform_nobody_set_up_is_not_found_and_the_token_guards_everything_else(one: Site) -> None:
    assert one.client.post("/api/v1/callbacks/elsewhere", content=b"{}").status_code == 404
    stranger = TestClient(one.client.app)
    assert stranger.post("/api/v1/reconciliations", json={}).status_code == 401
    assert stranger.post("/api/v1/callbacks", json={}).status_code == 401
    assert stranger.get("/api/v1/reconciliations").status_code == 401


def test_what_was_taken_down_is_listed_and_forgotten_after_three_months(one: Site) -> None:
    (number,) = one.open("a")
    one.call("cb-1", told(number, "accepted"))
    one.call("cb-2", told(number, "accepted"))
    found = one.client.get("/api/v1/callbacks").json()["items"]
    assert {(c["event_id"], c["outcome"], c["incident"]) for c in found} == {
        ("cb-1", "applied", number),
        ("cb-2", "refused", number),
    }
    with one.database.write() as connection:
        assert callbacks.delete_old(connection, NOW + 89 * DAY_MS) == 0
        assert callbacks.delete_old(connection, NOW + 91 * DAY_MS) == 2


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["data", "incident", "status", "remark"]), inner, max_size=4)
        ),
    ).map(lambda x: json.dumps(x).encode())
)
def test_whatever_a_platform_sends_is_answered(body: bytes) -> None:
    words = read().named("district").callback
    assert words is not None
    try:
        wish = callbacks._read_request(words, body, "x")
    except Refused:
        return
    assert 0 < wish.incident_id < 2**31


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"accept"', '"explode"'), says("platforms.no_action", name="district", action="explode", word="accepted")),
        (
            ('"accept"', '"evaluate"'),
            says("platform.not_theirs", name="district", word="accepted", action="evaluate"),
        ),  # for our office alone
        (
            ('"accept"', '"merge"'),
            says("platform.not_theirs", name="district", word="accepted", action="merge"),
        ),  # a callback cannot say into which
        (
            ('["reported", "reopened"]', '["ajar"]'),
            says("platforms.no_state", name="district", strange="ajar", word="received"),
        ),
        (('name = "district"', 'name = "District!"'), "platform.0.name"),
        (('incident = "data.incident"', 'incident = "data["'), "JMESPath"),
        (('items = "items"', 'itms = "items"'), "itms"),
        (
            ("# secret_file", "secret = 'whsec_!'\n#"),
            says("platforms.wrong", name="district", error=say("platform.secret_base64")),
        ),
        (("[[platform]]", "[[platform]"), says("file.no_toml")),
    ],
)
def test_a_mistake_in_the_file_is_named_and_no_secret_shown(change: tuple[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        read(SHIPPED.replace(*change))
    assert "whsec_!" not in str(caught.value)


def test_a_platform_without_any_secret_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=says("platforms.no_secret", name="district")):
        platform_model.read(SHIPPED, lambda file: "", None)


# -- reconciliation ----------------------------------------------------------------------------------------------------

STATES = {"new": frozenset({State.REPORTED}), "closed": frozenset({State.CLOSED})}


def test_what_each_side_lacks_and_what_differs_is_told_and_what_is_on_its_way_is_no_difference() -> None:
    ours = [
        LocalIncident(1, State.REPORTED, NOW - HOUR),
        LocalIncident(2, State.REPORTED, NOW - HOUR),
        LocalIncident(3, State.CLOSED, NOW - HOUR),
        LocalIncident(4, State.REPORTED, NOW - HOUR, waiting=True),
        LocalIncident(5, State.CLOSED, NOW - 1000),
    ]
    theirs = [
        PlatformIncident(1, "new"),
        PlatformIncident(3, "new", "yesterday"),
        PlatformIncident(5, "new"),
        PlatformIncident(77, "new"),
    ]
    found = compare(ours, theirs, STATES, NOW)
    assert (found.same, found.they_lack, found.we_lack, found.on_the_way) == (1, (2,), (77,), (4, 5))
    assert [(d.incident, d.ours, d.theirs, d.their_time) for d in found.differing] == [
        (3, "closed", "new", "yesterday")
    ]
    assert not found.closed


def test_a_list_that_fits_closes() -> None:
    found = compare([LocalIncident(1, State.REPORTED, NOW - HOUR)], [PlatformIncident(1, "new")], STATES, NOW)
    assert found.closed


def delivered(site: Site) -> None:
    with site.database.write() as connection:
        connection.execute(sa.update(outbox).values(status="delivered", delivered_at_ms=NOW - HOUR))


AUTH = {"Authorization": "Bearer operator-token"}


def given_list(site: Site, *items: dict[str, Any]) -> Any:
    body = {"platform": "district", "by": "示例操作员", "items": list(items)}
    return site.client.post("/api/v1/reconciliations", json=body, headers=AUTH)


def test_a_given_list_is_compared_kept_and_what_they_lack_sent_again_by_one_command(site: Site) -> None:
    a, b, c = site.open("a", "b", "c")
    delivered(site)
    made = given_list(
        site,
        {"incident": a, "status": "received"},
        {"incident": str(b), "status": "closed", "updated_at": "2026-05-12T09:00:00Z"},
        {"incident": 4711, "status": "received"},
        {"incident": "x", "status": "received"},
        {"nothing": True},
    )
    assert made.status_code == 201, made.text
    report = made.json()["report"]
    assert (report["they_lack"], report["we_lack"], report["same"], report["unreadable"]) == ([c], [4711], 1, 2)
    assert [d["incident"] for d in report["differing"]] == [b]
    assert made.json()["closed"] is False
    number = made.json()["id"]
    assert [r["id"] for r in site.client.get("/api/v1/reconciliations").json()["items"]] == [number]
    again = site.client.post(f"/api/v1/reconciliations/{number}/resend", headers=AUTH)
    assert again.json() == {"incidents": 2, "events": 2}
    with site.database.read() as connection:
        waiting = sa.select(outbox.c.incident_id).where(outbox.c.status == "pending").order_by(outbox.c.incident_id)
        assert list(connection.execute(waiting).scalars()) == [b, c]
    mended = given_list(site, {"incident": a, "status": "received"})
    assert mended.json()["report"]["on_the_way"] == [b, c], "being sent again is not lacking"
    assert mended.json()["closed"] is True


def test_what_was_closed_long_ago_is_not_looked_for_but_is_known_when_they_list_it(one: Site) -> None:
    (number,) = one.open("a")
    with one.database.write() as connection:
        incident_store.apply_action(
            connection,
            number,
            WOLF,
            OPERATOR,
            now_ms=NOW - HOUR,
            source="/test",
        )
    delivered(one)
    one.clock[0] = NOW + 30 * DAY_MS
    assert given_list(one).json()["report"]["ours"] == 0
    report = given_list(one, {"incident": number, "status": "invalid"}).json()["report"]
    assert (report["same"], report["we_lack"]) == (1, [])


@dataclass
class Listing:
    """A platform that answers its list page by page."""

    pages: Callable[[str], tuple[int, bytes]]
    bad_signatures: int = 0
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def start(self) -> ThreadingHTTPServer:
        listing = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                listing.asked.append(self.path)
                try:
                    cloudevents.verify(SECRET, dict(self.headers.items()), b"", NOW // 1000)
                except cloudevents.SignatureInvalid:
                    listing.bad_signatures += 1
                status, body = listing.pages(self.path)
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server


@pytest.fixture
def listing() -> Iterator[Callable[[Callable[[str], tuple[int, bytes]]], tuple[Listing, Platform]]]:
    started: list[ThreadingHTTPServer] = []

    def start(pages: Callable[[str], tuple[int, bytes]]) -> tuple[Listing, Platform]:
        made = Listing(pages)
        started.append(made.start())
        text = SHIPPED.replace(
            '# url = "https://platform.example/incidents"', f'url = "http://127.0.0.1:{made.port}/l"'
        )
        return made, read(text).named("district")

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def page(*numbers: int, **more: Any) -> tuple[int, bytes]:
    return 200, json.dumps({"items": [{"incident": n, "status": "received"} for n in numbers], **more}).encode()


def test_their_list_is_fetched_page_by_page_and_every_request_is_signed(listing) -> None:
    answers = {"/l": page(1, 2, next="c-2"), "/l?cursor=c-2": page(3, next="/l?p=3"), "/l?p=3": page(4, next=None)}
    there, platform = listing(lambda path: answers[path])
    items = reconciliation.fetch(platform, lambda: NOW)
    assert [item["incident"] for item in items] == [1, 2, 3, 4]
    assert there.asked == list(answers)
    assert there.bad_signatures == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, b"{}"), says("platforms.status", where="platform district (127.0.0.1)", status_code=500)),
        ((302, b""), says("platforms.status", where="platform district (127.0.0.1)", status_code=302)),
        ((200, b"<html>"), says("platforms.no_json", where="platform district (127.0.0.1)")),
        ((200, b'{"things": []}'), says("platforms.no_items", name="district")),
        (page(1, next="http://127.0.0.2:9/l"), says("platforms.elsewhere", name="district", host="127.0.0.2")),
        (page(1, next="same"), says("platforms.circle", name="district")),
        (page(1, next=["x"]), says("platforms.next_kind", name="district")),
        (
            (200, b'"' + b"x" * 5_000_000 + b'"'),
            says("platforms.page_bytes", where="platform district (127.0.0.1)", most=4_194_304),
        ),
    ],
)
def test_a_list_that_cannot_be_had_says_why_and_never_takes_our_signature_elsewhere(listing, answer, said: str) -> None:
    _, platform = listing(lambda path: answer)
    with pytest.raises(PlatformUnavailable, match=said):
        reconciliation.fetch(platform, lambda: NOW)


def test_the_list_is_compared_once_a_day_and_again_a_quarter_of_an_hour_after_a_failure(one: Site, listing) -> None:
    one.open("a")
    delivered(one)
    status = [503]
    there, platform = listing(lambda path: (status[0], page()[1]))
    daily = Reconciler(one.database, [platform], at="03:30", clock_ms=lambda: one.clock[0])
    daily.next_round()
    assert "HTTP 503" in daily.last_error
    status[0] = 200
    daily.next_round()
    assert len(there.asked) == 1, "not asked again at once"
    one.clock[0] += 15 * 60_000
    daily.next_round()
    daily.next_round()
    assert len(there.asked) == 2
    assert daily.last_error == ""
    one.clock[0] = NOW + DAY_MS
    daily.next_round()
    with one.database.read() as connection:
        kept = reconciliation.list_reports(connection, limit=9)
    assert [k.report["they_lack"] for k in kept] == [[1], [1]]


def test_the_command_tells_the_difference_and_fails_while_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "platforms.toml").write_text(SHIPPED, encoding="utf-8")
    (tmp_path / "theirs.json").write_text(json.dumps({"items": [{"incident": 9, "status": "closed"}]}))
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f"data = '{tmp_path}'\n[platforms]\nfile = '{tmp_path}/platforms.toml'\n[outbox]\nsecret = '{SECRET}'\n"
        "[log]\nlevel = 'error'\n"
    )
    call = ["reconcile", "district", "-c", str(settings), "--file", str(tmp_path / "theirs.json")]
    told_ = CliRunner().invoke(cli, [*call, "--json"])
    assert told_.exit_code == 1, told_.output
    assert json.loads(told_.output)[0]["report"]["we_lack"] == [9]
    assert "9" in CliRunner().invoke(cli, call).output


# -- dead letters and the schema ---------------------------------------------------------------------------------------


def test_a_dead_letter_is_seen_and_sent_again_over_the_api(site: Site) -> None:
    site.open("a", "b")
    with site.database.write() as connection:
        dead = {"status": "refused", "last_status": 410, "last_error": "HTTP 410 gone"}
        connection.execute(sa.update(outbox).where(outbox.c.incident_id == 1).values(dead))
    found = site.client.get("/api/v1/deliveries").json()
    assert (found["refused"], found["pending"]) == (1, 1)
    (letter,) = found["items"]
    assert (letter["http_status"], letter["error"], letter["event"]["data"]["incident"]) == (410, "HTTP 410 gone", 1)
    url = f"/api/v1/deliveries/{letter['id']}/replay"
    assert TestClient(site.client.app).post(url).status_code == 401
    sent = site.client.post(url, headers=AUTH)
    assert sent.status_code == 202
    assert sent.json()["status"] == Status.PENDING
    assert len(site.woken) == 1
    assert site.client.post(url, headers=AUTH).status_code == 409
    assert site.client.post("/api/v1/deliveries/999999999999/replay", headers=AUTH).status_code == 404


def test_every_event_we_deliver_fits_the_published_schema(one: Site) -> None:
    (number,) = one.open("a")
    one.call("cb-1", told(number, "accepted"))
    with one.database.write() as connection:
        incident_store.apply_action(
            connection,
            number,
            WOLF,
            OPERATOR,
            now_ms=NOW,
            source="/test",
        )
    schema = one.client.get("/api/v1/schemas/incident-event").json()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    for status in Status:
        for letter in one.client.get(f"/api/v1/deliveries?status={status}").json()["items"]:
            check.validate(letter["event"])
            assert set(letter["event"]["data"]) == set(schema["properties"]["data"]["properties"])
    with pytest.raises(jsonschema.ValidationError):
        check.validate(letter["event"] | {"type": "river.incident.exploded"})


def test_an_unknown_reconciliation_is_not_found(one: Site) -> None:
    with one.database.read() as connection, pytest.raises(NotFound):
        reconciliation.report(connection, 2**40)
