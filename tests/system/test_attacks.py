"""Attacks against a running server, each of which has to fail; `docs/security.md` says which threat each stands for.

What needs a broker of its own is attacked in `test_dynsec.py`, `test_credentials.py` and `test_stack.py`.
"""

import io
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import xlsxwriter
from PIL import Image

from governance.incidents import store as incident_store
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import Right, Role
from governance.people import attempts
from governance.people import store as people_store
from governance.people.store import TokenWish
from infra.clock import now_ms
from infra.database import Database
from ingest.sources import sender_limits
from ingest.storage import loggers, registry
from riverchief import settings
from riverchief.backup import backup
from riverchief.brokers.local import free_port
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water
from sensors.wire.hj212 import frame
from sensors.wire.hj212.readings import Logger
from tests import preloaded
from tests.cases import a_finding
from tests.databases import with_tables
from tests.hj212_site import Wire
from tests.rig import answers, eventually

HOSTILE = "<img src=x onerror=alert(1)>"
SECRET = "S3CRET-{}-zK9q"
SIGNING = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PHONE = "13900001234"
DAY_MS = 86_400_000
REGIONS = (
    Region("d", "示例区", "District", Level.DISTRICT),
    Region("d/n", "北街", "North", Level.STREET, "d"),
    Region("d/s", "南街", "South", Level.STREET, "d"),
)


class Site:
    """A site of two streets with a case in each, served by a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.gateway = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.receiver = socket.create_server(("127.0.0.1", 0))
        self.machine = SECRET.format("machine")
        self.tokens: dict[str, str] = {}
        self._fill()
        file = folder / "settings.toml"
        file.write_text(self._settings())
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "riverchief", "serve", "--settings", str(file)]
            self.process = preloaded.Popen(command, stdout=log, stderr=log)
        answers(self.url, self.process)
        self.slow = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self.slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def _settings(self) -> str:
        secret, receiver = SECRET.format, self.receiver.getsockname()[1]
        return f"""
data = '{self.folder}'
[mqtt]
enabled = false
password = '{secret("mqtt")}'
user = 'ingest'
[hj212]
enabled = true
host = '127.0.0.1'
port = {self.gateway}
[api]
port = {self.port}
token = '{self.machine}'
hosts = ['river.example']
[outbox]
url = 'http://user:{secret("outbox")}@127.0.0.1:{receiver}/events?key={secret("query")}'
secret = 'whsec_{SIGNING}'
[audit]
roots_url = 'http://user:{secret("roots")}@127.0.0.1:{receiver}/?key={secret("roots-query")}'
[watch]
heartbeat_url = 'http://127.0.0.1:{receiver}/{secret("heartbeat")}'
[log]
level = 'debug'
"""

    def _fill(self) -> None:
        at = now_ms() - 1000
        stations = tuple(
            Station(key, key, key, 113.05, 23.0, reach=reach, region=region)
            for key, reach, region in (("north", "up", "d/n"), ("south", "down", "d/s"))
        )
        line = ((113.0, 23.0), (113.1, 23.0))
        reaches = tuple(Reach(key, HOSTILE, HOSTILE, Water.RIVER, line) for key in ("up", "down"))
        people = (("北审", Role.REVIEWER, "d/n"), ("北长", Role.CHIEF, "d/n"), ("公众", Role.PUBLIC, ""))
        database = with_tables(Database(f"sqlite:///{self.folder / 'riverchief.db'}"))
        with closing(database), database.write() as connection:
            made = Registry(stations, (), reaches, catalogue(), regions=REGIONS)
            registry.save(connection, made)
            loggers.save(connection, Logger("LOGGER0001", "north", "secret1"))
            for name, role, region in (*people, ("管理", Role.ADMINISTRATOR, "")):
                tree = Regions(REGIONS)
                people_store.add(connection, name, role, region=region, by="x", now_ms=at, regions=tree)
                self.tokens[name] = people_store.issue_token(connection, name, by="x", now_ms=at)
            kinds = {
                "expired": {"now_ms": at - DAY_MS, "good_ms": 1000},
                "limited": {"now_ms": at, "wish": TokenWish(scopes=frozenset({Right.VIEW}))},
            }
            for kind, given in kinds.items():
                self.tokens[kind] = people_store.issue_token(connection, "管理", by="x", **given)  # type: ignore[arg-type]
            for station, region in (("north", "d/n"), ("south", "d/s")):
                finding = a_finding(at, rule="nh3n", cause=station, station=station)
                incident_store.record_findings(
                    connection, [finding], at, source="/x", place=lambda _, region=region: Place(region)
                )

    def ask(self, method: str, path: str, who: str = "", **given: Any) -> httpx.Response:
        """A request as somebody by their token, from an address behind the proxy on this machine."""
        headers = {"Host": f"localhost:{self.port}", **given.pop("headers", {})}
        if who:
            headers["Authorization"] = f"Bearer {self.tokens.get(who, who)}"
        return self.client.request(method, path, headers=headers, **given)

    def status(self, method: str, path: str, who: str = "", **given: Any) -> int:
        return self.ask(method, path, who, **given).status_code

    def raw(self, text: bytes) -> bytes:
        """What is answered to bytes that no client library sends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(text)
            return connection.recv(4096)

    def memory_mb(self) -> int:
        """The most memory that the server ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024

    def stop(self) -> None:
        self.client.close()
        self.slow.close()
        self.process.terminate()
        self.process.wait(60)
        self.receiver.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("attacked"))
    yield made
    made.stop()


def bomb() -> bytes:
    """A PNG of a few kB that is 50 megapixels."""
    stream = io.BytesIO()
    Image.new("L", (10_000, 5_000)).save(stream, "PNG")
    return stream.getvalue()


def photos_that_unfold_to_gigabytes(site: Site) -> bool:
    before, picture = site.memory_mb(), bomb()
    files = [("photos", (f"{i}.png", picture, "image/png")) for i in range(2)]
    files.append(("photos", ("x.pdf", b"%PDF-1.4\n%%EOF", "application/pdf")))
    found = {site.status("POST", "/api/v1/reports", data={"text": "x"}, files=files) for _ in range(2)}
    return found <= {400, 409, 413, 415, 422, 429} and site.memory_mb() - before < 400


def a_table_that_unfolds(site: Site) -> bool:
    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream, {"constant_memory": True}) as book:
        sheet = book.add_worksheet()
        sheet.write(0, 0, "time")
        sheet.write(1_048_575, 16_383, 1)
    before, file = site.memory_mb(), {"file": ("x.xlsx", stream.getvalue())}
    status = site.status("POST", "/registry/import", files=file, headers=signed_in(site))
    return status < 500 and site.memory_mb() - before < 400


def signed_in(site: Site, who: str = "管理") -> dict[str, str]:
    """The cookie of a browser that signed in with somebody's token."""
    answer = site.ask("POST", "/login", data={"token": site.tokens[who]})
    assert answer.status_code == 303, answer.text
    site.client.cookies.clear()
    return {"Cookie": answer.headers["set-cookie"].split(";")[0]}


def passwords_from_one_network(site: Site) -> bool:
    def guess(i: int, network: str) -> int:
        headers = {"X-Forwarded-For": f"2001:db8:{network}::{i:x}"}
        return site.status("POST", "/login", data={"name": f"name {i}", "password": "x"}, headers=headers)

    texts = [guess(i, "1:2") for i in range(1, attempts.FREE_OF_NETWORK + 2)]
    with closing(sqlite3.connect(site.folder / "riverchief.db")) as database:
        (closed,) = database.execute("SELECT count(*) FROM audit WHERE what = 'login.closed'").fetchone()
    return set(texts) == {401} and closed == 1


def reports_from_one_network(site: Site) -> bool:
    def report(i: int, network: str) -> int:
        headers = {"X-Forwarded-For": f"2001:db8:{network}::{i:x}"}
        data = {"text": f"第{i}次", "lon": 113.0, "lat": 23.0}
        return site.status("POST", "/api/v1/reports", data=data, headers=headers)

    found = [report(i, "7:7") for i in range(1, 9)]
    return found[0] == 201 and found[-1] == 429 and report(1, "7:8") == 201


def passwords_of_a_logger(site: Site) -> bool:
    def asked(mn: str, password: str) -> bytes:
        body = f"QN=20260101000000000;ST=21;CN=2011;PW={password};MN={mn};Flag=5;CP=&&DataTime=20260101000000&&"
        return frame.build(body.encode())

    wire, found = Wire(site.gateway), []
    for i in range(sender_limits.MAX_GUESSES):
        wire.send(asked("LOGGER0001" if i % 2 else "LOGGER9999", f"guess{i}"))
        found.append(wire.answer()[::2])
    wire.send(asked("LOGGER0001", "secret1"))
    locked = wire.answer()[::2] == found[0]
    wire.close()
    return len(set(found)) == 1 and locked


def the_cookie_as_a_token(site: Site) -> bool:
    cookie = signed_in(site)
    session = cookie["Cookie"].partition("=")[2]
    stolen = site.status("GET", "/api/v1/me", session) == 401
    ended = site.status("POST", "/logout", headers=cookie) == 303
    return stolen and ended and site.status("GET", "/api/v1/me", headers=cookie) == 401


def a_form_of_another_origin(site: Site) -> bool:
    cookie = signed_in(site)
    tries = ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"})
    paths = ("/login", "/logout", "/people", "/api/v1/people")
    return {site.status("POST", path, headers={**cookie, **one}) for path in paths for one in tries} == {403}


def a_name_that_leads_here(site: Site) -> bool:
    rebound = {"Host": f"evil.example:{site.port}", "Origin": f"http://evil.example:{site.port}"}
    paths = ("/api/v1/people", "/login", "/report")
    return {site.status("POST", path, headers=rebound) for path in paths} == {421}


def a_revoked_token(site: Site) -> bool:
    made = site.ask("POST", "/api/v1/me/tokens", "北审", json={"label": "x", "scopes": ["view"]}).json()
    used = site.status("GET", "/api/v1/me", made["token"])
    (number,) = (
        one["number"] if "number" in one else one["id"]
        for one in site.ask("GET", "/api/v1/me/tokens", "北审").json()["items"]
        if one["label"] == "x"
    )
    revoked = site.status("DELETE", f"/api/v1/me/tokens/{number}", "北审")
    return (used, revoked, site.status("GET", "/api/v1/me", made["token"])) == (200, 204, 401)


def more_than_a_limited_token(site: Site) -> bool:
    tried = (
        ("POST", "/api/v1/me/tokens", {"label": "y", "scopes": ["people"]}),
        ("POST", "/api/v1/people", {"name": "z", "role": "administrator"}),
        ("GET", "/api/v1/incidents", None),
    )
    return {site.status(method, path, "limited", json=body) for method, path, body in tried} == {403}


def a_channel_into_the_network(site: Site) -> bool:
    with socket.create_server(("127.0.0.1", 0)) as inner:
        inner.settimeout(0.01)
        channels = [{"url": f"json://127.0.0.1:{inner.getsockname()[1]}/x"}]
        put = site.status("PUT", "/api/v1/people/北长/contact", "管理", json={"channels": channels})
        sent = site.status("POST", "/api/v1/notices/test", "管理", json={"contact": "北长"})

        def refused() -> bool:
            shown = site.ask("GET", "/api/v1/notices", "管理", params={"contact": "北长"}).text
            return "outgoing.private" in shown

        eventually("the channel is refused", refused)
        try:
            inner.accept()
        except TimeoutError:
            return (put, sent) == (200, 202)
    return False


def a_contact_in_the_database(site: Site) -> bool:
    headers = {"X-Forwarded-For": "192.0.2.77"}
    data = {"text": "有油", "contact": PHONE, "lon": 113.0, "lat": 23.0}
    kept = site.status("POST", "/api/v1/reports", data=data, headers=headers) == 201
    return kept and not any(PHONE.encode() in file.read_bytes() for file in site.folder.glob("riverchief.db*"))


def the_record_of_a_case(site: Site) -> bool:
    with closing(sqlite3.connect(site.folder / "riverchief.db", timeout=30)) as database:
        try:
            database.execute("UPDATE audit SET by = '别人' WHERE n = 1")
            return False
        except sqlite3.IntegrityError:
            database.rollback()
        where = "WHERE incident_id = 1 AND seq = 1"
        (before,) = database.execute(f"SELECT comment FROM incident_entry {where}").fetchone()
        for comment in ("伪", before):
            database.execute(f"UPDATE incident_entry SET comment = ? {where}", (comment,))
            database.commit()
            if comment != before:
                found = site.ask("GET", "/api/v1/audit/verify", "管理").json()
    return not found["ok"] and found["faults"][0]["wrong"] == "differs"


def names_that_are_scripts(site: Site) -> bool:
    cookie = signed_in(site)
    pages = [site.ask("GET", path, headers={**cookie, "Accept": "text/html"}) for path in ("/rivers", "/report", "/")]
    return all(
        page.status_code == 200
        and HOSTILE not in page.text
        and "script-src 'self';" in page.headers["content-security-policy"]
        for page in pages
    )


def another_regions_versions(site: Site) -> bool:
    body = {"action": "comment", "comment": "x"}
    tags = ('"0"', '"1"', '"99"')
    path = "/api/v1/incidents/2/actions"
    return {site.status("POST", path, "北长", json=body, headers={"If-Match": tag}) for tag in tags} == {403}


def headers_that_never_end(site: Site) -> bool:
    try:
        return site.slow.recv(1) == b""
    except ConnectionResetError:
        return True


def a_phones_request(site: Site) -> bool:
    """A request that names a phone and is not signed by it."""
    headers = {"X-Phone": "1", "X-Signature": "AAAA"}
    return site.status("PUT", "/api/v1/field/records/x", json={}, headers=headers) in (401, 403)


def statuses(*wanted: int, **asked: Any) -> Callable[[Site], bool]:
    """An attack of one request, which is answered with one of these."""
    method, path = asked.pop("method", "GET"), asked.pop("path")
    return lambda site: site.status(method, path, **asked) in wanted


def raw(start: bytes, text: bytes) -> Callable[[Site], bool]:
    """An attack of bytes, answered with this line or a closed connection."""
    return lambda site: site.raw(text).startswith((start, b"")) and not site.raw(text).startswith(b"HTTP/1.1 2")


STATION = {"path": "/api/v1/stations/south", "method": "PATCH", "who": "北审"}
ATTACKS: dict[str, Callable[[Site], bool]] = {
    # the findings, V1 apart (test_dynsec.py)
    "photos that unfold to gigabytes": photos_that_unfold_to_gigabytes,
    "the record of a case changed by SQL": the_record_of_a_case,
    "a name that leads here (DNS rebinding)": a_name_that_leads_here,
    "a station of another region moved into one's own": statuses(403, json={"region": "d/n"}, **STATION),
    "a station of another region": statuses(403, json={"note": "x"}, **STATION),
    "passwords of a logger": passwords_of_a_logger,
    "headers that never end": headers_that_never_end,
    "photos of cases as one of the public": statuses(403, path=f"/api/v1/attachments/{'0' * 64}", who="公众"),
    "reports from one network behind a proxy": reports_from_one_network,
    "passwords from one network": passwords_from_one_network,
    "the cookie as a token, and after signing out": the_cookie_as_a_token,
    "a form of another origin": a_form_of_another_origin,
    "contacts of citizens in the database": a_contact_in_the_database,
    "names that are scripts": names_that_are_scripts,
    "versions of another region's cases": another_regions_versions,
    "mutes as one of the public": statuses(403, path="/api/v1/stations/north/mutes", who="公众"),
    "a table that unfolds": a_table_that_unfolds,
    # sessions and tokens
    "an expired token": statuses(401, path="/api/v1/me", who="expired"),
    "a revoked token": a_revoked_token,
    "more than a limited token gives": more_than_a_limited_token,
    "a token in the address": statuses(401, path="/api/v1/me?token=for-machines"),
    "a token twice": lambda site: site.raw(
        b"GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"
    ).startswith(b"HTTP/1.1 401"),
    "a planted session": statuses(401, path="/api/v1/me", headers={"Cookie": "rc-session=planted; rc-as=5rex"}),
    "another's part on a site that is not open": statuses(401, path="/api/v1/me", headers={"Cookie": "rc-as=566h"}),
    "the channel of changes without a session": statuses(401, path="/live", headers={"Accept": "text/event-stream"}),
    "a request that a phone did not sign": a_phones_request,
    # other people's data
    "a case of another region": statuses(403, path="/api/v1/incidents/2", who="北长"),
    "the evidence of another region's case": statuses(403, path="/api/v1/incidents/2/evidence", who="北长"),
    "somebody else's name": statuses(
        403, method="POST", path="/api/v1/incidents", who="北长", json={"text": "x", "by": "管理"}
    ),
    "a right of the administrator": statuses(
        403, method="POST", path="/api/v1/people", who="北审", json={"name": "y", "role": "administrator"}
    ),
    # what is sent
    "a body larger than allowed": statuses(413, method="POST", path="/api/v1/people", who="管理", content=b"x" * 2**21),
    "headers without an end": raw(b"HTTP/1.1 4", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"),
    "a request hidden in another": raw(
        b"HTTP/1.1 400",
        b"POST /api/v1/reports HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ),
    "a path out of the folder": statuses(404, path="/assets/..%2f..%2f..%2fetc%2fpasswd"),
    "a photo out of the folder": statuses(404, path="/r/photo/..%2f..%2friverchief.db"),
    "a way out after signing in": lambda site: (
        site.ask("POST", "/login", data={"token": site.tokens["管理"], "next": "//evil.example"}).headers["location"]
        == "/"
    ),
    # what leaves
    "a channel into the network": a_channel_into_the_network,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_fails(site: Site, attack: str) -> None:
    assert ATTACKS[attack](site), attack
    assert site.process.poll() is None
    assert site.status("GET", "/healthz") == 200


def test_no_secret_is_in_logs_trail_backups_metrics_or_answers(site: Site) -> None:
    cookie = signed_in(site)
    told = {"log": site.log.read_bytes()}
    for path in ("/readyz", "/metrics", "/api/v1/audit?limit=500", "/api/v1/deliveries", "/api/v1/people/北长/contact"):
        told[path] = site.ask("GET", path, "管理").content
    for path in ("/health", "/messages", "/people", "/trail"):
        told[path] = site.ask("GET", path, headers=cookie).content
    made = backup.back_up(settings.load(site.folder / "settings.toml"), site.folder.parent / "backup")
    files = (*made.folder.rglob("*"), *site.folder.glob("riverchief.db*"))
    told |= {file.name: file.read_bytes() for file in files if file.is_file()}
    secrets = [SECRET.split("{}")[1].encode(), SIGNING.encode(), PHONE.encode()]
    secrets += [token.encode() for token in site.tokens.values()]
    assert [(where, secret) for where, text in told.items() for secret in secrets if secret in text] == []
