"""A device that claims itself by the secret on its label: once, in time, and not by guessing."""

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.app import create_app
from api.context import Context, Devices
from infra.database import Database
from infra.errors import NotFound
from infra.texts import same
from infra.throttle import Throttle
from infra.times import DAY_MS
from ingest.devices import claims as claims_
from ingest.devices import credentials as credentials_
from ingest.devices.claims import ADDRESS_BURST, STATION_BURST, STATION_EVERY_S, Claims
from ingest.devices.credentials import BrokerUnavailable, Credentials, Endpoint
from ingest.storage import changes
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from riverchief.cli.app import app
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from tests.databases import with_tables
from tests.says import says

pytestmark = pytest.mark.both_databases

NOW = 1_778_580_000_000
STATIONS = (Station("shiwan", "石湾", "Shiwan", 113.05, 23.0), Station("qicha", "奇槎", "Qicha", 113.14, 23.02))


class Users:
    """A broker's users, which may be away."""

    def __init__(self) -> None:
        self.passwords: dict[str, str] = {}
        self.away = False

    def create_user(self, user: str, password: str, station: str) -> None:
        if self.away:
            raise BrokerUnavailable(same("the broker at 示例 cannot be reached"))
        self.passwords[user] = password

    def delete_user(self, user: str) -> None:
        self.passwords.pop(user, None)


class Site:
    """Two stations, a broker's users and a client of an API that asks everybody else for a token."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        with_tables(self.database)
        known = catalogue()
        with self.database.write() as connection:
            registry_store.save(connection, Registry(STATIONS, catalogue=known))
        self.users = Users()
        self.now_ms = NOW
        self.credentials = Credentials(self.database, self.users, lambda: self.now_ms)
        self.claims = Claims(self.database, self.credentials, lambda: self.now_ms)
        context = Context(
            self.database,
            SqlReadings(self.database, known),
            known,
            "/riverchief/test",
            lambda: self.now_ms,
            token="示例-token",
            devices=Devices(self.credentials, self.claims, Endpoint("broker.example", 8883, True, "PEM")),
        )
        self._app = create_app(context)
        self.client = self.client_at("192.0.2.1")

    def client_at(self, address: str) -> TestClient:
        return TestClient(self._app, client=(address, 50_000))

    def label(self, station: str = "shiwan", days: int = 30) -> str:
        with self.database.write() as connection:
            return claims_.make_label(connection, station, "示例", self.now_ms, days).secret

    def claim(self, secret: str, station: str = "shiwan", client: TestClient | None = None) -> Any:
        return (client or self.client).post("/api/v1/claims", json={"station": station, "secret": secret})

    def in_force(self, station: str = "shiwan") -> list[str]:
        with self.database.read() as connection:
            return [c.user for c in credentials_.listing(connection, station) if c.revoked_at_ms is None]


@pytest.fixture(autouse=True)
def _cheap_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of one guess is not what is tested."""
    monkeypatch.setattr(claims_, "_N", 2)


@pytest.fixture
def site(url: str) -> Iterator[Site]:
    made = Site(url)
    yield made
    made.database.close()


def test_a_device_gets_its_login_for_the_secret_on_its_label_and_only_once(site: Site) -> None:
    secret = site.label()
    response = site.claim(secret)
    assert response.status_code == 201, response.text
    assert response.headers["cache-control"] == "no-store"
    shown = response.json()
    assert site.users.passwords == {shown["user"]: shown["password"]}
    assert shown["broker"] == {"host": "broker.example", "port": 8883, "tls": True, "authority": "PEM"}
    assert shown["topics"]["telemetry"] == "rivers/v1/shiwan/telemetry"
    assert site.claim(secret).status_code == 403
    assert len(site.users.passwords) == 1
    with site.database.read() as connection:
        assert claims_.unused_labels(connection, NOW) == {}
        told = [(one.what, one.by, dict(one.after)) for one in changes.listing(connection, key="shiwan")]
    assert ("claim", "claim", {"used": True}) in told
    assert ("credential", "claim", {"issued": True}) in told


@pytest.mark.parametrize("typed", ["lower", "blanks", "misread"])
def test_a_secret_typed_by_hand_is_understood(site: Site, typed: str) -> None:
    secret = site.label()
    spelled = {
        "lower": secret.lower(),
        "blanks": secret.replace("-", " "),
        "misread": secret.replace("0", "O").replace("1", "l").replace("-", ""),
    }[typed]
    assert site.claim(spelled).status_code == 201


def test_a_wrong_secret_and_an_unknown_station_and_one_too_late_get_the_same_answer(site: Site) -> None:
    secret = site.label(days=1)
    used = site.label("qicha")
    assert site.claim(used, "qicha").status_code == 201
    answers = [site.claim("0000-0000-0000-0000"), site.claim(secret, "nowhere"), site.claim(used, "qicha")]
    site.now_ms += DAY_MS
    answers.append(site.claim(secret))
    assert {one.status_code for one in answers} == {403}
    assert len({one.text for one in answers}) == 1
    assert len({tuple(sorted(one.headers.items())) for one in answers}) == 1
    assert site.in_force() == []


def test_a_wrong_secret_and_an_unknown_station_cost_the_same_work(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    derive = claims_._derive
    monkeypatch.setattr(claims_, "_derive", lambda plain, salt: done.append(len(salt)) or derive(plain, salt))
    site.label()
    done.clear()
    site.claim("wrong")
    site.claim("wrong", "nowhere")
    assert done == [16, 16]


def test_guessing_is_stopped_for_a_station_from_however_many_addresses(site: Site) -> None:
    secret = site.label()
    clients = [site.client_at(f"192.0.2.{i}") for i in range(1, 31)]
    # one process has one count, whichever application asks
    codes = [site.claim("guess", client=client).status_code for client in clients]
    assert codes == [403] * STATION_BURST + [429] * (30 - STATION_BURST)
    right = site.claim(secret, client=site.client_at("198.51.100.1"))
    assert right.status_code == 429, "while a station is guessed at nobody is told whether a guess was right"
    assert 0 < int(right.headers["retry-after"]) <= STATION_EVERY_S
    assert site.claim("guess", "nowhere", clients[0]).status_code == 403, "another name has its own count"


def test_guessing_is_stopped_for_an_address_whatever_stations_it_names(site: Site) -> None:
    codes = [site.claim("guess", f"st-{i}").status_code for i in range(ADDRESS_BURST + 5)]
    assert codes == [403] * ADDRESS_BURST + [429] * 5
    assert site.claim("guess", "st-x", site.client_at("192.0.2.2")).status_code == 403
    neighbour = [site.client_at(f"2001:db8::{i}") for i in range(1, ADDRESS_BURST + 2)]
    codes = [site.claim("guess", f"su-{i}", client).status_code for i, client in enumerate(neighbour)]
    assert codes[-1] == 429, "one customer's many addresses of IPv6 are one"


def test_of_two_devices_with_one_secret_one_gets_a_login(site: Site) -> None:
    secret = site.label()
    together = threading.Barrier(4)

    def attempt(_: int) -> int:
        together.wait()
        try:
            site.claims.claim("shiwan", secret, "192.0.2.1")
        except claims_.ClaimRefused:
            return 403
        return 201

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == [201, 403, 403, 403]
    assert len(site.users.passwords) == 1


def test_while_the_broker_is_away_the_secret_stays_good(site: Site) -> None:
    secret = site.label()
    site.users.away = True
    assert site.claim(secret).status_code == 503
    assert site.in_force() == []
    site.users.away = False
    assert site.claim(secret).status_code == 201


def test_a_new_label_makes_the_old_one_void(site: Site) -> None:
    old, new = site.label(), site.label()
    assert site.claim(old).status_code == 403
    assert site.claim(new).status_code == 201


def test_a_claim_needs_no_token_and_everything_else_does(site: Site) -> None:
    assert site.client.post("/api/v1/stations/shiwan/credentials").status_code == 401
    assert site.client.delete("/api/v1/stations/shiwan/credentials/x").status_code == 401
    assert site.client.post("/api/v1/claims/", json={}).status_code in (401, 404)
    assert site.claim(site.label()).status_code == 201
    shown = {"Authorization": b"Bearer " + "示例-token".encode()}
    document = site.client.get("/api/v1/openapi.json", headers=shown).json()["paths"]  # type: ignore[arg-type]
    assert "security" not in document["/api/v1/claims"]["post"]
    assert document["/api/v1/stations/{key}/credentials"]["post"]["security"]
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert site.client.post("/api/v1/claims", json={}, headers=elsewhere).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"station": "shiwan"},
        {"station": "SHIWAN", "secret": "x"},
        {"station": "a\u0000", "secret": "x"},
        {"station": "shiwan", "secret": ""},
        {"station": "shiwan", "secret": "x" * 65},
        {"station": "shiwan", "secret": 5},
        {"station": "shiwan", "secret": "x", "role": "admin"},
        ["shiwan"],
    ],
)
def test_what_is_no_claim_is_refused_before_it_is_looked_at(site: Site, body: Any) -> None:
    assert site.client.post("/api/v1/claims", json=body).status_code == 400


def test_no_secret_is_kept_and_none_is_logged(
    site: Site, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = site.label()
    shown = site.claim(secret).json()
    site.claim(secret)
    site.claim("GUESS-GUESS")
    told = caplog.text + "".join(capfd.readouterr())
    for word in (secret, claims_.normalised_secret(secret), shown["password"], "GUESS"):
        assert word not in told
    with site.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM device_claim").all()
        rows += connection.exec_driver_sql("SELECT * FROM device_credential").all()
        rows += connection.exec_driver_sql("SELECT * FROM registry_change").all()
    for word in (secret, claims_.normalised_secret(secret), shown["password"]):
        assert word not in repr(rows)


def test_a_label_for_a_station_nobody_registered_is_not_made(site: Site) -> None:
    with site.database.write() as connection, pytest.raises(NotFound, match=says("registry.no_station", key="nowhere")):
        claims_.make_label(connection, "nowhere", "示例", NOW)


def test_labels_for_all_stations_that_have_none_come_from_the_command_line(tmp_path: Path) -> None:
    site = Site(f"sqlite:///{tmp_path / 'riverchief.db'}")
    site.now_ms = 2**41  # the command goes by the clock on the wall, which is before
    site.label("qicha", 3650)

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, ["stations", "claims", *arguments, "--data", str(tmp_path), "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    (made,) = run("make")
    assert made["station"] == "shiwan"
    assert set(run("list")) == {"qicha", "shiwan"}
    assert made["secret"] not in json.dumps(run("list"))
    assert run("make") == []
    (again,) = run("make", "shiwan")
    site.now_ms = again["expires_at_ms"] - 1
    assert site.claim(made["secret"]).status_code == 403
    assert site.claim(again["secret"]).status_code == 201
    site.database.close()


def test_a_throttle_lets_a_burst_pass_and_then_one_at_a_time_for_ever() -> None:
    now = [0.0]
    throttle = Throttle(3, 10.0, lambda: now[0])
    assert [throttle.take("a") for _ in range(4)] == [0, 0, 0, 10]
    now[0] = 9.0
    assert throttle.take("a") == pytest.approx(1)
    now[0] = 10.0
    assert [throttle.take("a"), throttle.take("a")] == [0, 10]
    passed = 0
    for second in range(10, 86_410):
        now[0] = float(second)
        passed += throttle.take("a") == 0
    assert passed <= 8_640, "what a day of trying every second lets pass"
    for i in range(200_000):
        throttle.take(f"name-{i}")
    assert len(throttle._free_at) <= Throttle.BUCKETS
