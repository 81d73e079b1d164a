"""The trail as people and other machines meet it: the API, the command line, and the places its roots go to."""

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import ingest.storage.tables  # noqa: F401 - names its tables in the metadata
from api.app import create_app
from api.context import Context
from governance.audit import merkle
from governance.audit import trail as audit_trail
from governance.incidents import cloudevents
from governance.notify import channels
from governance.notify.contacts import Channel
from governance.verification import roots
from infra.database import Database
from infra.errors import ConfigurationError
from infra.times import DAY_MS
from ingest.storage.sql import SqlReadings
from riverchief import audit_sealing
from riverchief import settings as settings_
from riverchief.audit_sealing import Sealing
from riverchief.cli.app import app
from riverchief.settings import Settings
from sensors.parameters import catalogue
from tests.contract.test_subscriptions import smtp
from tests.databases import unguarded, with_tables
from tests.says import says

pytestmark = pytest.mark.both_databases

T = 1_790_000_000_000
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Site:
    """A data folder with a trail, and what asks it."""

    def __init__(self, folder: Path) -> None:
        self.settings: Settings = settings_.load(None, data=folder)
        folder.mkdir()
        self.database = Database(self.settings.database_url)
        with_tables(self.database)
        self.now_ms = T

    def add(self, count: int = 3) -> None:
        with self.database.write() as connection:
            for i in range(count):
                body = {"goal": f"目标{i}"}
                audit_trail.append(
                    connection, "plan.changed", kind="plan", id=f"p{i}", body=body, by="王工", at_ms=T + i
                )

    def sealing(self, url: str | None = None, mail: Channel | None = None) -> Sealing:
        return Sealing(
            self.database,
            audit_sealing.signing_key(self.settings),
            origin="/river",
            file=audit_sealing.roots_file(self.settings),
            clock_ms=lambda: self.now_ms,
            url=url,
            password=SECRET,
            mail=mail,
        )

    def client(self) -> TestClient:
        known = catalogue()
        store = SqlReadings(self.database, known)
        keys = audit_sealing.public_keys(self.settings)
        outside = partial(audit_sealing.outside_roots, self.settings)
        given = {"audit_keys": keys, "outside_roots": outside, "open": True}
        context = Context(self.database, store, known, "/river", lambda: self.now_ms, **given)
        return TestClient(create_app(context))

    def run(self, *arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*map(str, arguments), "--data", str(self.settings.data)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    def tamper(self, statement: str) -> None:
        unguarded(self.database, statement)


@pytest.fixture
def site(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("RIVERCHIEF_DATABASE__URL", url)
    made = Site(tmp_path / "data")
    yield made
    made.database.close()


def test_the_api_pages_through_the_trail_and_proves_an_entry(site: Site) -> None:
    site.add(5)
    client = site.client()
    assert client.get("/api/v1/audit/3/proof").status_code == 409
    site.sealing().seal()
    client = site.client()
    first = client.get("/api/v1/audit", params={"limit": 2}).json()
    rest = client.get("/api/v1/audit", params={"limit": 5, "cursor": first["next_cursor"]}).json()
    assert [entry["n"] for entry in first["items"] + rest["items"]] == [5, 4, 3, 2, 1]
    assert rest["next_cursor"] is None
    (found,) = client.get("/api/v1/audit", params={"what": "plan", "id": "p1"}).json()["items"]
    assert (found["n"], found["body"], found["by"]) == (2, {"goal": "目标1"}, "王工")
    assert client.get("/api/v1/audit/2").json() == found
    for n in (0, 6, 2**70):
        assert client.get(f"/api/v1/audit/{n}").status_code in {404, 422}
    verified = client.get("/api/v1/audit/verify").json()
    assert (verified["ok"], verified["entries"], verified["roots"], verified["signatures"]) == (True, 5, 1, True)
    proof = merkle.read_proof(client.get("/api/v1/audit/3/proof").content)
    merkle.check_proof(proof, audit_sealing.public_keys(site.settings))
    (root,) = client.get("/api/v1/audit/roots").json()["items"]
    assert merkle.read_root(root) == proof.root
    site.sealing().send()
    site.tamper("DELETE FROM audit_root")
    answer = client.get("/api/v1/audit/verify").json()
    assert (answer["ok"], answer["outside"], answer["faults"][0]["wrong"]) == (False, 1, "root_missing")
    site.tamper("UPDATE audit SET body = '{' WHERE n = 2")
    answer = client.get("/api/v1/audit/verify").json()
    assert (answer["ok"], answer["faults"][0]["n"], answer["faults"][0]["wrong"]) == (False, 2, "changed")
    assert client.get("/api/v1/audit/2").json()["body"] == {"unreadable": "{"}


def test_the_command_line_seals_proves_and_names_what_was_changed(site: Site, tmp_path: Path) -> None:
    site.add(4)
    assert site.run("audit", "seal")[0] == 0
    code, text = site.run("audit", "verify", "--json")
    told = json.loads(text)
    assert (code, told["ok"], told["roots"], told["outside"], told["unsigned"]) == (0, True, 1, 1, 0)
    proof, public = tmp_path / "proof.json", site.settings.data / "audit-key.pub"
    assert site.run("audit", "proof", 2, "--out", proof)[0] == 0
    offline = CliRunner().invoke(app, ["audit", "check", str(proof), "--key", str(public)])
    assert (offline.exit_code, "plan p1" in offline.output, "目标1" in offline.output) == (0, True, True)
    proof.write_text(proof.read_text().replace("目标1", "目标9"))
    offline = CliRunner().invoke(app, ["audit", "check", str(proof), "--key", str(public)])
    assert (offline.exit_code, "entry 2" in offline.output) == (1, True)
    site.tamper("UPDATE audit SET by = '别人' WHERE n = 3")
    code, text = site.run("audit", "verify")
    assert (code, "entry 3 is not what was recorded" in text) == (1, True)
    assert "p2" in site.run("audit", "list", "--id", "p2")[1]
    assert public.read_text() in site.run("audit", "key")[1]


def test_a_trail_cut_off_with_its_roots_is_found_by_the_file_of_roots(site: Site, tmp_path: Path) -> None:
    site.add(4)
    site.run("audit", "seal")
    elsewhere = (site.settings.data / "audit-roots.jsonl").rename(tmp_path / "elsewhere.jsonl")
    site.tamper("DELETE FROM audit WHERE n > 2")
    site.tamper("DELETE FROM audit_root")
    assert site.run("audit", "verify")[0] == 0
    code, text = site.run("audit", "verify", "--roots", elsewhere)
    assert (code, "entries 3 to 4 are cut off" in text) == (1, True)
    elsewhere.write_text("{}\n")
    with pytest.raises(ConfigurationError, match=says("audit_root.no_root", number=1)):
        site.run("audit", "verify", "--roots", elsewhere)


def test_a_root_is_made_each_hour_and_at_every_closing(site: Site) -> None:
    def sizes() -> list[int]:
        site.sealing().next_round()
        with site.database.read() as connection:
            return [root.size for root in roots.list_roots(connection)]

    site.add(2)
    assert sizes() == [2]
    site.add(1)
    site.now_ms += 3_600_000 - 1
    assert sizes() == [2]
    site.now_ms += 1
    assert sizes() == [2, 3]
    for number, what in enumerate(("rejected", "false_alarm", "closed", "accepted")):
        with site.database.write() as connection:
            audit_trail.append(connection, f"incident.{what}", kind="k", id=number, body={}, by="x", at_ms=site.now_ms)
        assert sizes() == [2, *range(3, min(4 + number, 6) + 1)]
    site.now_ms -= DAY_MS  # a clock that was ahead
    assert sizes()[-1] == 7


def test_a_root_is_made_once_an_hour_and_waits_until_every_place_outside_has_it(site: Site) -> None:
    with _archive() as archive:
        job = site.sealing(archive.url)
        archive.status = 503
        site.add(2)
        assert job.next_round() > 0
        assert "has not reached" in job.last_error
        archive.status = 204
        job.next_round()
        site.add(1)
        job.next_round()  # the same hour: no second root
        assert (job.last_error, len(archive.bodies)) == ("", 2)
        site.now_ms += DAY_MS
        job.next_round()
        job.next_round()
        site.now_ms += DAY_MS
        job.next_round()  # nothing was added: no root
    first, again, second = archive.bodies
    assert first == again  # the same event under the same id
    events = [cloudevents.parse(body) for body in (first, second)]
    assert [event["type"] for event in events] == ["river.audit.root"] * 2
    assert [event["data"]["size"] for event in events] == [2, 3]
    for headers, body in zip(archive.headers, archive.bodies, strict=True):
        cloudevents.verify(SECRET, headers, body, int(headers["webhook-timestamp"]))
    with site.database.read() as connection:
        made = roots.list_roots(connection)
        assert roots.list_roots(connection, unsent=True) == []
    assert audit_sealing.read_roots(audit_sealing.roots_file(site.settings)) == made
    assert [merkle.read_root(event["data"]) for event in events] == made


def test_what_the_auditor_got_by_mail_finds_a_trail_that_was_cut_off_with_all_that_is_here(
    site: Site, tmp_path: Path
) -> None:
    site.add(4)
    job = site.sealing(mail=channels.mail("mailto://127.0.0.1:9?from=river@example.org", "auditor@example.org", {}))
    job.next_round()
    assert "has not reached" in job.last_error
    with smtp() as (server, taken):
        job = site.sealing(mail=channels.mail(server, "auditor@example.org", {}))
        job.next_round()
    assert job.last_error == ""
    (mail,) = taken
    body = mail.get_body(("plain",))
    assert body is not None
    kept = tmp_path / "mails.jsonl"
    kept.write_text(body.get_content())
    assert site.run("audit", "verify", "--roots", kept)[0] == 0
    site.tamper("DELETE FROM audit WHERE n > 2")
    site.tamper("DELETE FROM audit_root")
    audit_sealing.roots_file(site.settings).unlink()
    code, text = site.run("audit", "verify", "--roots", kept)
    assert (code, "entries 3 to 4 are cut off" in text) == (1, True)


def test_a_key_that_cannot_be_used_is_named(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    given = site.settings.model_copy(update={"audit": site.settings.audit.model_copy(update={"key_file": file})})
    with pytest.raises(ConfigurationError, match=says("audit_root.key_unreadable", file=file)):
        audit_sealing.signing_key(given)
    file.write_text("no key")
    with pytest.raises(ConfigurationError, match=says("audit_root.key_no_pem", file=file)):
        audit_sealing.signing_key(given)
    audit_sealing.signing_key(site.settings)
    assert (site.settings.data / "audit-key.pem").stat().st_mode & 0o777 == 0o600


class _archive:
    """A web server of somebody else who keeps the roots."""

    def __init__(self) -> None:
        self.status = 204
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        archive = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                archive.headers.append(dict(self.headers.items()))
                archive.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(archive.status)
                self.end_headers()

            log_message: Callable[..., None] = lambda *_: None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/roots"

    def __enter__(self) -> "_archive":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
