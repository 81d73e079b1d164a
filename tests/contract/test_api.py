"""The REST API over a real database file and a real ingest, asked as its users ask it."""

import asyncio
import base64
import io
import json
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import nanoarrow as na
import polars as pl
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

import governance.tables  # noqa: F401 - names its tables in the metadata
import ingest.storage.tables  # noqa: F401 - the same
from api import access
from api.app import MOST_BYTES, READINGS_MOST_BYTES, create_app
from api.context import Context, Part
from api.routes import readings as readings_route
from governance.incidents import store as incident_store
from governance.organisation.roles import LOCAL_NAME
from infra.database import Database
from infra.errors import ConfigurationError, StorageUnavailable
from infra.texts import Text, say
from infra.times import DAY_MS, rfc3339, to_ms
from ingest.intake import Intake
from ingest.pipeline import Receipt, Site
from ingest.rules.model import Rules
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import correction
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Reach, Registry, Station, Water
from sensors.wire.telemetry import MAX_BYTES
from tests.cases import a_finding, in_both_languages
from tests.databases import with_tables
from tests.says import says

BOTH = pytest.mark.both_databases
"""Tests whose answer comes from what is stored; the others say the same on any database."""

NOW = 1_778_580_000_000  # 2026-05-12T10:00:00Z
MINUTE = 60_000
PROBLEM = "application/problem+json"
SHIWAN = Station("shiwan", "石湾", "Shiwan", 113.05, 23.0, reach="dongping", interval_s=300, parameters=("ph", "nh3n"))
QICHA = Station("qicha", "奇槎", "Qicha", 113.14, 23.02, reach="qichachong", water=Water.CREEK)
REACHES = (
    Reach("dongping", "东平河", "Dongping", Water.RIVER, ((113.0, 23.0), (113.1, 23.0))),
    Reach("qichachong", "奇槎涌", "Qicha Creek", Water.CREEK, ((113.14, 23.03), (113.1, 23.0)), "dongping"),
)


@dataclass
class River:
    """A running system: its stores, its ingest, and a client of its API."""

    database: Database
    store: SqlReadings
    site: Site
    intake: Intake
    context: Context
    client: TestClient
    woken: list[None] = field(default_factory=list)

    def asked(self, **other: Any) -> TestClient:
        """A client of the same system set up differently."""
        return TestClient(create_app(replace(self.context, **other)))

    def send(self, station: str = "shiwan", at_ms: int = NOW - MINUTE, **values: float) -> dict[str, Any]:
        response = self.client.post("/api/v1/readings", json=message(station, (at_ms, values)))
        assert response.status_code == 202, response.text
        return dict(response.json())

    def wait_for(self, station: str) -> None:
        """Until the ingest has taken up a station that was registered just now."""
        while station not in self.site.history.registry:
            assert self.intake.alive
            time.sleep(0.02)


def message(station: str, *samples: tuple[int, dict[str, float]], **members: Any) -> dict[str, Any]:
    taken = [{"at": rfc3339(at_ms), "values": values} for at_ms, values in samples]
    return {"station": station, "readings": taken, **members}


def is_problem(response: Any, status: int, *named: str) -> dict[str, Any]:
    """The problem document, which must name all of ``named``."""
    assert response.status_code == status, f"{response.request.method} {response.url}: {response.text}"
    assert response.headers["content-type"] == PROBLEM
    document = dict(response.json())
    assert document["status"] == status
    assert {"type", "title", "detail"} <= document.keys()
    assert any("\u4e00" <= letter <= "\u9fff" for letter in document["title"])
    assert " / " in document["title"]
    for said in (document["detail"], *(one["message"] for one in document.get("errors", ()))):
        assert in_both_languages(said), said
    for text in named:
        assert text in document["detail"]
    return document


@pytest.fixture
def river(url: str) -> Iterator[River]:
    database = Database(url)
    with_tables(database)
    known = catalogue()
    with database.write() as connection:
        registry_store.save(connection, Registry((SHIWAN, QICHA), (), REACHES, known))
    store = SqlReadings(database, known)
    site = Site(database, store, Rules(), known)
    intake = Intake(site, clock_ms=lambda: NOW)
    intake.start()
    woken: list[None] = []
    context = Context(
        database,
        store,
        known,
        "/riverchief/test",
        lambda: NOW,
        intake.submit,
        wake=lambda: woken.append(None),
        open=True,
    )
    yield River(database, store, site, intake, context, TestClient(create_app(context)), woken)
    intake.stop()
    database.close()


# -- the root and the frame --------------------------------------------------------------------------------------------


def test_a_living_process_says_ok(river: River) -> None:
    response = river.client.get("/healthz")
    assert (response.status_code, response.text) == (200, "ok\n")
    assert response.headers["content-type"].startswith("text/plain")


@BOTH
def test_the_system_is_ready_when_the_database_answers_and_every_part_works(river: River) -> None:
    client = river.asked(parts=lambda: [Part("intake", True, "0 messages wait")])
    response = client.get("/readyz")
    assert response.status_code == 200
    assert [part["name"] for part in response.json()["parts"]] == ["database", "intake"]


def test_one_part_that_does_not_work_makes_the_system_not_ready(river: River) -> None:
    client = river.asked(parts=lambda: [Part("broker", False, "not connected since 10:00")])
    response = client.get("/readyz")
    assert response.status_code == 503
    broker = {"name": "broker", "ok": False, "detail": "not connected since 10:00", "vital": True}
    assert response.json()["parts"][1] == broker


def test_a_part_that_others_do_without_is_told_and_leaves_the_system_ready(river: River) -> None:
    response = river.asked(parts=lambda: [Part("influx", False, "refused", vital=False)]).get("/readyz")
    assert response.status_code == 200
    assert (response.json()["parts"][1]["ok"], response.json()["parts"][1]["detail"]) == (False, "refused")


def test_parts_that_cannot_be_asked_make_the_system_not_ready(river: River) -> None:
    def broken() -> list[Part]:
        raise RuntimeError("token=hush")

    response = river.asked(parts=broken).get("/readyz")
    assert response.status_code == 503
    assert "hush" not in response.text


def test_a_database_without_our_tables_is_not_ready(river: River, tmp_path: Path) -> None:
    client = river.asked(database=Database(f"sqlite:///{tmp_path / 'empty.db'}"))
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["parts"][0]["ok"] is False


def test_metrics_are_served_as_the_wiring_makes_them(river: River) -> None:
    response = river.asked(metrics=lambda: b"river_readings_total 7\n").get("/metrics")
    assert response.text == "river_readings_total 7\n"
    assert response.headers["content-type"].startswith("text/plain; version=")


WITHOUT_A_TOKEN = {
    "/api/v1/claims",
    "/api/v1/reports",
    "/api/v1/reports/{ticket}",
    "/api/v1/reports/{ticket}/objections",
    "/api/v1/reports/{ticket}/confirmations",
    "/api/v1/reports/{ticket}/contact",
    "/api/v1/callbacks/{platform}",
}
"""What is open to all: the secret of a label, a ticket or a signature says who it is, and citizens report freely."""


def test_the_openapi_document_describes_every_route_and_its_problems(river: River) -> None:
    document = river.client.get("/api/v1/openapi.json").json()
    routes = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert {
        ("get", "/api/v1/stations"),
        ("post", "/api/v1/stations"),
        ("patch", "/api/v1/stations/{key}"),
        ("get", "/api/v1/stations/latest"),
        ("get", "/api/v1/stations/{key}/series"),
        ("post", "/api/v1/readings"),
        ("get", "/api/v1/reaches/{key}"),
        ("post", "/api/v1/incidents/{incident_id}/actions"),
        ("get", "/api/v1/ledger"),
        ("post", "/api/v1/quarantine/{entry}/replay"),
    } <= routes
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert PROBLEM in operation["responses"]["default"]["content"], path
            assert "422" not in operation["responses"]
            assert ("security" in operation) == (path not in WITHOUT_A_TOKEN), (path, method)
    text = json.dumps(document)
    defined = document["components"]["schemas"]
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in defined


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/api/v1/docs"])
def test_no_page_that_loads_foreign_scripts_is_served(river: River, path: str) -> None:
    is_problem(river.client.get(path), 404, path)


def test_an_unknown_path_is_named(river: River) -> None:
    is_problem(river.client.get("/api/v1/rivers"), 404, "/api/v1/rivers")


def test_a_wrong_method_is_told_which_ones_there_are(river: River) -> None:
    response = river.client.put("/api/v1/stations")
    is_problem(response, 405, "PUT", "/api/v1/stations")
    assert response.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("path", ["/api/v1/stations", "/api/v1/stations/nobody", "/healthz", "/api/v1/nothing"])
def test_every_answer_carries_security_headers(river: River, path: str) -> None:
    headers = river.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"] == "no-store"


def test_an_unforeseen_error_is_answered_with_its_number_and_nothing_else(
    river: River, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> bytes:
        raise RuntimeError("password=hush in /srv/secret.py")

    response = river.asked(metrics=broken).get("/metrics")
    document = is_problem(response, 500)
    assert "hush" not in response.text
    assert "secret" not in response.text
    assert document["instance"].startswith("urn:uuid:")
    assert document["instance"] in capsys.readouterr().out
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_store_that_cannot_answer_asks_to_come_back_later(river: River) -> None:
    class Away:
        def latest(self, stations: object = None) -> list[object]:
            raise StorageUnavailable(say("store.database", error="database is locked"))

    response = river.asked(store=Away()).get("/api/v1/stations/latest")
    is_problem(response, 503, "database is locked")
    assert int(response.headers["retry-after"]) > 0


# -- who is asking -----------------------------------------------------------------------------------------------------

ASKED = [
    ("GET", "/api/v1/stations"),
    ("GET", "/api/v1/incidents"),
    ("GET", "/api/v1/ledger"),
    ("GET", "/api/v1/openapi.json"),
    ("POST", "/api/v1/stations"),
    ("PATCH", "/api/v1/stations/shiwan"),
    ("POST", "/api/v1/readings"),
    ("POST", "/api/v1/incidents/1/actions"),
    ("POST", "/api/v1/quarantine/1/replay"),
    ("DELETE", "/api/v1/stations/shiwan"),
]


NO_TOKENS = (None, "Bearer wrong", "Bearer ", "Basic river-token", "river-token", "Bearer river-token2", "Bearer é")


@pytest.mark.parametrize("shown", NO_TOKENS)
def test_nobody_reads_or_changes_anything_without_a_token(river: River, shown: str | None) -> None:
    client = river.asked(token="river-token")
    headers = {} if shown is None else {"Authorization": shown.encode("latin-1")}
    for method, path in ASKED:
        response = client.request(method, path, content=b"{", headers=headers)  # type: ignore[arg-type]
        is_problem(response, 401)
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert "river-token" not in response.text.replace("river-token2", "")


def test_the_token_of_the_settings_opens_everything(river: River) -> None:
    client = river.asked(token="river-token")
    client.headers["Authorization"] = "bearer river-token"
    assert client.get("/api/v1/stations").status_code == 200
    assert client.post("/api/v1/readings", json=message("shiwan", (NOW, {"ph": 7.0}))).status_code == 202


def test_a_site_that_is_not_open_asks_everybody_even_without_a_token_of_its_own(river: River) -> None:
    is_problem(river.asked(open=False).get("/api/v1/stations"), 401, "Authorization")


def test_every_route_says_which_right_it_needs(river: River) -> None:
    paths = river.client.get("/api/v1/openapi.json").json()["paths"]
    unsaid = [
        (method, path)
        for path, methods in paths.items()
        for method in methods
        if access.right_of(method.upper(), path.removeprefix("/api/v1")) is None and path not in WITHOUT_A_TOKEN
    ]
    assert unsaid == []


def test_the_whole_token_counts_whatever_its_letters(river: River) -> None:
    client = river.asked(token="河长")
    shown = {"Authorization": b"Bearer " + "河长".encode()}
    assert client.post("/api/v1/readings", json=message("shiwan"), headers=shown).status_code == 202  # type: ignore[arg-type]


def test_an_empty_token_is_a_contradiction_at_start(river: River) -> None:
    with pytest.raises(ConfigurationError, match=says("settings.empty_token")):
        create_app(replace(river.context, token=" "))


def test_a_web_page_of_another_origin_changes_nothing_even_without_a_token(river: River) -> None:
    body = json.dumps(message("shiwan", (NOW, {"ph": 7.0})))
    theirs = river.client.post("/api/v1/readings", content=body, headers={"Origin": "https://evil.example"})
    is_problem(theirs, 403, "https://evil.example")
    ours = river.client.post("/api/v1/readings", content=body, headers={"Origin": "http://testserver"})
    assert ours.status_code == 202


# -- sizes -------------------------------------------------------------------------------------------------------------


def _in_pieces(size: int) -> Iterator[bytes]:
    for start in range(0, size, 10_000):
        yield b"x" * min(10_000, size - start)


@pytest.mark.parametrize(
    ("path", "most"), [("/api/v1/readings", READINGS_MOST_BYTES), ("/api/v1/stations", MOST_BYTES)]
)
def test_a_body_that_is_too_large_is_refused_with_and_without_its_length(river: River, path: str, most: int) -> None:
    told = river.client.post(path, content=b"x" * (most + 1))
    is_problem(told, 413, str(most))
    untold = river.client.post(path, content=_in_pieces(most + 1))
    assert "content-length" not in untold.request.headers
    is_problem(untold, 413, str(most))
    assert untold.headers["x-content-type-options"] == "nosniff"
    assert river.client.post(path, content=_in_pieces(most)).status_code == 400  # it is not JSON, and that is all


def test_an_endless_body_is_not_read_to_its_end(river: River) -> None:
    read = 0
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        assert read < 1000
        return {"type": "http.request", "body": b"x" * 10_000, "more_body": True}

    async def send(part: Any) -> None:
        sent.append(part)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/readings",
        "query_string": b"",
        "headers": [(b"content-length", b"10"), (b"content-type", b"application/json")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("testserver", 80),
        "client": ("testclient", 1),
    }
    asyncio.run(create_app(river.context)(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 413
    assert [part["type"] for part in sent] == ["http.response.start", "http.response.body"]
    assert read == READINGS_MOST_BYTES // 10_000 + 1


@BOTH
def test_a_message_beyond_256_kib_but_within_the_slack_is_quarantined(river: River) -> None:
    body = json.dumps({"station": "shiwan", "readings": [], "note": "x" * MAX_BYTES})
    response = river.client.post("/api/v1/readings", content=body)
    assert response.status_code == 202
    assert [q["reason"] for q in response.json()["quarantined"]] == ["too_large"]


# -- stations ----------------------------------------------------------------------------------------------------------


@BOTH
def test_a_registered_station_is_found_again(river: River) -> None:
    new = {"key": "nandou-1", "zh": "南窦涌", "lon": 113.09, "lat": 23.01, "parameters": ["ph"], "gateway": "g1"}
    response = river.client.post("/api/v1/stations", json=new)
    assert response.status_code == 201
    assert response.headers["location"] == "/api/v1/stations/nandou-1"
    found = river.client.get(response.headers["location"])
    assert found.json() == response.json()
    assert found.json() == {
        **new,
        "en": "nandou-1",
        "reach": "",
        "water": "river",
        "region": "",
        "interval_s": 300,
        "note": "",
    }


@BOTH
def test_a_key_that_is_taken_is_refused_and_nothing_changes(river: River) -> None:
    response = river.client.post("/api/v1/stations", json={"key": "shiwan", "lon": 1, "lat": 2})
    is_problem(response, 409, "shiwan")
    assert river.client.get("/api/v1/stations/shiwan").json()["lon"] == 113.05


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"key": "Shiwan 2"}, "key"),
        ({"key": "latest"}, "'latest'"),
        ({"lon": 200}, "lon"),
        ({"lon": 23.0, "lat": 113.0}, "lat"),
        ({"lon": True}, "lon"),
        ({"lon": 10**400}, "lon"),
        ({"lat": "23"}, "lat"),
        ({"lat": None}, "lat"),
        ({"interval_s": True}, "interval_s"),
        ({"interval_s": 0}, "interval_s"),
        ({"parameters": ["ph", "acid"]}, "'acid'"),
        ({"parameters": ["ph", "ph"]}, "twice"),
        ({"parameters": "ph"}, "parameters"),
        ({"parameters": [["ph"]]}, "parameters"),
        ({"water": "sea"}, "water"),
        ({"zh": "\x00"}, "zh"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_station_that_cannot_be_is_refused_with_its_fault(river: River, change: dict[str, Any], named: str) -> None:
    good = {"key": "new", "lon": 113.0, "lat": 23.0}
    is_problem(river.client.post("/api/v1/stations", json=good | change), 400, named)
    assert [s["key"] for s in river.client.get("/api/v1/stations").json()["items"]] == ["qicha", "shiwan"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"key":"new","lon":NaN,"lat":1}', b'{"key":"new","zh":"\\ud800"}', b"\xff"]
)
def test_a_body_that_is_no_station_at_all_is_refused(river: River, body: bytes) -> None:
    response = river.client.post("/api/v1/stations", content=body, headers={"Content-Type": "application/json"})
    is_problem(response, 400, "body")


def test_a_body_of_another_type_is_told_what_is_needed(river: River) -> None:
    response = river.client.post(
        "/api/v1/stations", content=b'{"key":"new","lon":1,"lat":1}', headers={"Content-Type": "text/plain"}
    )
    is_problem(response, 400, "application/json")


@BOTH
def test_a_change_keeps_what_it_does_not_name(river: River) -> None:
    response = river.client.patch("/api/v1/stations/shiwan", json={"interval_s": 60, "gateway": "g7"})
    assert response.status_code == 200
    after = river.client.get("/api/v1/stations/shiwan").json()
    assert after == response.json()
    assert (after["interval_s"], after["gateway"], after["zh"], after["parameters"]) == (
        60,
        "g7",
        "石湾",
        ["ph", "nh3n"],
    )
    assert river.client.patch("/api/v1/stations/shiwan", json={"gateway": None}).json()["gateway"] is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"interval_s": 0}, "interval_s"),
        ({"zh": None}, "zh"),
        ({"lat": 91}, "lat"),
        ({"parameters": ["acid"]}, "acid"),
        ({"key": "other"}, "key"),
    ],
)
def test_a_change_is_checked_like_a_new_station(river: River, change: dict[str, Any], named: str) -> None:
    before = river.client.get("/api/v1/stations/shiwan").json()
    is_problem(river.client.patch("/api/v1/stations/shiwan", json=change), 400, named)
    assert river.client.get("/api/v1/stations/shiwan").json() == before


@BOTH
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PATCH", ""), ("GET", "/latest"), ("GET", "/series?parameter=ph")],
)
def test_a_station_nobody_registered_is_named(river: River, method: str, path: str) -> None:
    is_problem(river.client.request(method, f"/api/v1/stations/nobody{path}", json={}), 404, "'nobody'")


@BOTH
def test_stations_are_listed_page_by_page_each_once(river: River) -> None:
    for n in range(5):
        river.client.post("/api/v1/stations", json={"key": f"s{n}", "lon": 113, "lat": 23})
    seen, cursor = [], None
    while True:
        page = river.client.get("/api/v1/stations", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        assert len(page["items"]) <= 3
        seen += [s["key"] for s in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["qicha", "s0", "s1", "s2", "s3", "s4", "shiwan"]


LISTS = ("stations", "reaches", "incidents", "ledger", "quarantine")


NO_CURSORS = ("x", "é", "", "bnVsbA", "W10", "MTIz", "W1tbW1tb" * 100, "AAAA=", "Wy0xLC0xXQ")


@pytest.mark.parametrize("name", LISTS)
def test_a_cursor_that_is_none_is_refused(river: River, name: str) -> None:
    for cursor in NO_CURSORS:
        is_problem(river.client.get(f"/api/v1/{name}", params={"cursor": cursor}), 400, "cursor")


@BOTH
def test_a_cursor_of_one_list_does_not_fit_another(river: River) -> None:
    cursor = river.client.get("/api/v1/stations", params={"limit": 1}).json()["next_cursor"]
    is_problem(river.client.get("/api/v1/reaches", params={"cursor": cursor}), 400, "cursor")


@pytest.mark.parametrize("name", LISTS)
def test_a_page_of_no_possible_size_is_refused(river: River, name: str) -> None:
    for limit in ("0", "-1", "many", "100000", "9" * 5000):
        is_problem(river.client.get(f"/api/v1/{name}", params={"limit": limit}), 400, "limit")


@BOTH
def test_stations_are_a_map_for_those_who_ask_for_one(river: River) -> None:
    response = river.client.get("/api/v1/stations", headers={"Accept": "application/geo+json"})
    assert response.headers["content-type"] == "application/geo+json"
    assert "Accept" in response.headers["vary"].split(", ")
    collection = response.json()
    assert collection["type"] == "FeatureCollection"
    feature = collection["features"][1]
    assert feature["geometry"] == {"type": "Point", "coordinates": [113.05, 23.0]}
    assert (feature["id"], feature["properties"]["zh"]) == ("shiwan", "石湾")
    one = river.client.get("/api/v1/stations/shiwan", headers={"Accept": "application/geo+json"}).json()
    assert one == feature


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("application/geo+json;q=0.4, application/json;q=0.3", "application/geo+json"),
        ("application/geo+json;q=0, */*", "application/json"),
        ("application/geo+json;q=abc", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
    ],
)
def test_the_accept_header_decides_the_form(river: River, accept: str, given: str) -> None:
    response = river.client.get("/api/v1/stations", headers={"Accept": accept})
    assert response.headers["content-type"] == given


# -- latest ------------------------------------------------------------------------------------------------------------


@BOTH
def test_latest_shows_each_usable_value_with_its_age_and_name(river: River) -> None:
    river.send(at_ms=NOW - 5 * MINUTE, ph=7.18, do=6.0)
    river.send(at_ms=NOW - MINUTE, ph=99.0)  # no instrument measures that: flagged bad
    answer = river.client.get("/api/v1/stations/shiwan/latest").json()
    assert (answer["state"], answer["age_s"], answer["newest_at"]) == ("ok", 60.0, rfc3339(NOW - MINUTE))
    ph, do, nh3n = answer["values"]
    assert [v["parameter"] for v in answer["values"]] == ["ph", "do", "nh3n"]
    assert (ph["value"], ph["age_s"], ph["newest_at"]) == (7.18, 300.0, rfc3339(NOW - MINUTE))
    assert (ph["zh"], ph["en"], ph["unit"], ph["decimals"], ph["flag"]) == ("pH值", "pH", "1", 2, "good")
    assert (do["value"], do["unit"]) == (6.0, "mg/L")
    assert (nh3n["value"], nh3n["at"], nh3n["newest_at"]) == (None, None, None)  # expected and never sent


@BOTH
def test_a_station_that_sent_nothing_usable_shows_that_it_speaks(river: River) -> None:
    river.send(at_ms=NOW - MINUTE, ph=99.0)
    answer = river.client.get("/api/v1/stations/shiwan/latest").json()
    assert answer["state"] == "ok"
    assert answer["values"][0]["value"] is None
    assert answer["values"][0]["flag"] is None
    assert answer["values"][0]["newest_at"] == rfc3339(NOW - MINUTE)


@pytest.mark.parametrize(
    ("silent_s", "state"), [(0, "ok"), (450, "ok"), (451, "late"), (900, "late"), (901, "offline"), (-120, "ok")]
)
def test_a_station_is_late_after_one_and_a_half_intervals_and_offline_after_three(
    river: River, silent_s: int, state: str
) -> None:
    river.send(at_ms=NOW - silent_s * 1000, ph=7.0)
    answer = river.client.get("/api/v1/stations/shiwan/latest").json()
    assert (answer["state"], answer["age_s"]) == (state, max(0, silent_s))


@BOTH
def test_latest_of_all_has_every_station_the_silent_ones_too(river: River) -> None:
    river.send(ph=7.0)
    items = {item["station"]: item for item in river.client.get("/api/v1/stations/latest").json()["items"]}
    assert items["shiwan"]["values"][0]["value"] == 7.0
    assert (items["qicha"]["state"], items["qicha"]["newest_at"], items["qicha"]["values"]) == ("never", None, [])


@BOTH
def test_a_station_registered_or_changed_shows_at_once(river: River) -> None:
    river.send(at_ms=NOW - 400_000, ph=7.0)
    assert river.client.get("/api/v1/stations/shiwan/latest").json()["state"] == "ok"
    river.client.patch("/api/v1/stations/shiwan", json={"interval_s": 100})
    assert river.client.get("/api/v1/stations/shiwan/latest").json()["state"] == "offline"
    river.client.post("/api/v1/stations", json={"key": "new", "lon": 1, "lat": 1})
    assert river.client.get("/api/v1/stations/new/latest").json()["state"] == "never"


# -- series ------------------------------------------------------------------------------------------------------------


def _hours(river: River, count: int = 120) -> None:
    """A reading a minute, the newest a minute ago; every tenth is impossible."""
    samples = [(NOW - i * MINUTE, {"ph": 99.0 if i % 10 == 0 else 7.0 + i % 7 / 100}) for i in range(count, 0, -1)]
    assert river.client.post("/api/v1/readings", json=message("shiwan", *samples)).json()["stored"] == count


@BOTH
def test_a_series_has_every_reading_with_its_flag_and_the_tests_that_raised_it(river: River) -> None:
    _hours(river)
    answer = river.client.get("/api/v1/stations/shiwan/series", params={"parameter": "ph"}).json()
    assert (answer["unit"], answer["bucket_ms"], answer["end"]) == ("1", None, rfc3339(NOW))
    assert answer["start"] == rfc3339(NOW - DAY_MS)
    assert len(answer["points"]) == 120
    assert answer["points"][0] == {
        "at": rfc3339(NOW - 120 * MINUTE),
        "value": 99.0,
        "flag": "bad",
        "tests": answer["points"][0]["tests"],
    }
    assert "instrument_range" in answer["points"][0]["tests"]
    assert answer["points"][1]["flag"] == "good"
    assert answer["points"][1]["tests"] == []


@BOTH
def test_a_thinned_series_has_mean_extremes_and_count_of_the_usable_readings(river: River) -> None:
    _hours(river)
    asked = {"parameter": "ph", "start": rfc3339(NOW - 120 * MINUTE), "end": rfc3339(NOW), "points": 12}
    answer = river.client.get("/api/v1/stations/shiwan/series", params=asked).json()
    assert answer["bucket_ms"] == 10 * MINUTE
    assert len(answer["points"]) == 12
    first = answer["points"][0]
    assert (first["at"], first["count"], first["flag"]) == (asked["start"], 9, "bad")
    usable = [7.0 + i % 7 / 100 for i in range(119, 110, -1)]
    assert first["value"] == pytest.approx(sum(usable) / 9)
    assert (first["min"], first["max"]) == (min(usable), max(usable))
    assert "instrument_range" in first["tests"]


@BOTH
def test_a_bucket_without_any_usable_reading_is_null_in_every_form(river: River) -> None:
    samples = [(NOW - i * MINUTE, {"ph": 99.0 if i > 10 else 7.0}) for i in range(20, 0, -1)]
    river.client.post("/api/v1/readings", json=message("shiwan", *samples))
    asked = {"parameter": "ph", "start": rfc3339(NOW - 20 * MINUTE), "end": rfc3339(NOW), "points": 2}
    path = "/api/v1/stations/shiwan/series"
    first = river.client.get(path, params=asked).json()["points"][0]
    assert (first["value"], first["min"], first["max"], first["count"]) == (None, None, None, 0)
    text = river.client.get(path, params=asked, headers={"Accept": "text/csv"}).text.splitlines()
    assert text[0] == "at,value,unit,flag,tests,min,max,count"
    assert text[1].split(",")[1] == ""
    assert text[1].endswith(",,,0")
    stream = river.client.get(path, params=asked, headers={"Accept": "application/vnd.apache.arrow.stream"}).content
    rows = pl.read_ipc_stream(stream).to_dicts()
    assert (rows[0]["value"], rows[0]["min"], rows[0]["count"]) == (None, None, 0)
    assert rows[1]["value"] == 7.0


@BOTH
def test_a_series_is_the_same_as_json_csv_and_arrow(river: River) -> None:
    _hours(river, 30)
    path = "/api/v1/stations/shiwan/series?parameter=ph"
    points = river.client.get(path).json()["points"]
    as_csv = river.client.get(path, headers={"Accept": "text/csv"})
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="shiwan-ph.csv"' in as_csv.headers["content-disposition"]
    lines = io.StringIO(as_csv.text).read().splitlines()
    assert lines[0] == "at,value,unit,flag,tests"
    assert lines[1:] == [f"{p['at']},{p['value']!r},1,{p['flag']},{' '.join(p['tests'])}" for p in points]
    as_arrow = river.client.get(path, headers={"Accept": "application/vnd.apache.arrow.stream"})
    schema = na.ArrayStream.from_readable(as_arrow.content).schema
    kinds = [na.timestamp("ms", "UTC"), na.float64(), na.string(), na.list_(na.string())]
    assert [(field.name, field.type) for field in schema.fields] == [
        (name, kind.type) for name, kind in zip(["at", "value", "flag", "tests"], kinds, strict=True)
    ]
    assert dict(schema.metadata)[b"unit"] == b"1"
    table = pl.read_ipc_stream(as_arrow.content)
    assert table.schema["at"] == pl.Datetime("ms", "UTC")
    assert [to_ms(at) for at in table["at"]] == [to_ms(datetime.fromisoformat(p["at"])) for p in points]
    assert table["value"].to_list() == [p["value"] for p in points]
    assert table["flag"].to_list() == [p["flag"] for p in points]
    assert table["tests"].to_list() == [p["tests"] for p in points]


@BOTH
@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/vnd.apache.arrow.stream"])
def test_a_series_of_nothing_is_an_answer(river: River, accept: str) -> None:
    response = river.client.get("/api/v1/stations/qicha/series?parameter=tp", headers={"Accept": accept})
    assert response.status_code == 200
    if accept == "application/json":
        assert response.json()["points"] == []


@BOTH
def test_milliseconds_of_a_reading_survive(river: River) -> None:
    river.send(at_ms=NOW - 1_234, ph=7.0)
    points = river.client.get("/api/v1/stations/shiwan/series?parameter=ph").json()["points"]
    assert [p["at"] for p in points] == ["2026-05-12T09:59:58.766Z"]


@BOTH
def test_a_plus_that_the_url_turned_into_a_space_is_understood(river: River) -> None:
    answer = river.client.get("/api/v1/stations/shiwan/series?parameter=ph&start=2026-05-12T10:30:00+08:00").json()
    assert answer["start"] == "2026-05-12T02:30:00Z"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "parameter"),
        ("parameter=acid", "'acid'"),
        ("parameter=acid", "nh3n"),
        ("parameter=ph_q", "'ph_q'"),
        ("parameter=ph&start=yesterday", "'yesterday'"),
        ("parameter=ph&start=2026-05-12T10:00:00", "offset"),
        ("parameter=ph&end=2026-13-12T10:00:00Z", "end"),
        ("parameter=ph&end=", "end"),
        ("parameter=ph&start=2026-05-12T10:00:00Z&end=2026-05-12T10:00:00Z", "not before"),
        ("parameter=ph&start=2027-05-12T10:00:00Z", "not before"),
        ("parameter=ph&points=0", "points"),
        ("parameter=ph&points=20001", "points"),
        ("parameter=ph&points=x", "points"),
    ],
)
def test_a_series_that_cannot_be_is_refused_with_its_fault(river: River, query: str, named: str) -> None:
    is_problem(river.client.get(f"/api/v1/stations/shiwan/series?{query}"), 400, named)


@BOTH
def test_a_series_from_the_first_to_the_last_year_there_is_answered(river: River) -> None:
    _hours(river, 30)
    span = {"start": "0001-01-01T00:00:00+14:00", "end": "9999-12-31T23:59:59-12:00", "parameter": "ph", "points": 2}
    response = river.client.get("/api/v1/stations/shiwan/series", params=span)
    assert response.status_code == 200
    assert sum(p["count"] for p in response.json()["points"]) == 27


# -- readings ----------------------------------------------------------------------------------------------------------


@BOTH
def test_a_message_is_answered_once_its_readings_are_stored(river: River) -> None:
    body = message("shiwan", (NOW - MINUTE, {"ph": 7.18, "do": 6.0}), (NOW, {"ph": 7.2}), seq=0)
    response = river.client.post("/api/v1/readings", json=body)
    assert response.status_code == 202
    assert response.json() == {"stored": 3, "duplicate": 0, "quarantined": []}
    assert river.store.count()["shiwan"] == 3


@BOTH
def test_the_same_message_twice_is_one_reading(river: River) -> None:
    body = message("shiwan", (NOW, {"ph": 7.2}), seq=5)
    river.client.post("/api/v1/readings", json=body)
    again = river.client.post("/api/v1/readings", json=body)
    assert again.json() == {"stored": 0, "duplicate": 1, "quarantined": []}
    assert river.store.count()["shiwan"] == 1


@BOTH
def test_a_nan_costs_one_reading_and_not_the_message(river: River) -> None:
    body = b'{"station":"shiwan","readings":[{"at":"2026-05-12T09:59:00Z","values":{"ph":7.1,"do":NaN,"tp":Infinity}}]}'
    answer = river.client.post("/api/v1/readings", content=body).json()
    assert answer["stored"] == 1
    assert {(q["reason"], q["readings"][0]["parameter"]) for q in answer["quarantined"]} == {
        ("not_a_number", "do"),
        ("not_a_number", "tp"),
    }
    assert answer["quarantined"][0]["readings"][0]["at"] == "2026-05-12T09:59:00Z"


@BOTH
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (message("nobody", (NOW, {"ph": 7.0})), "unknown_station"),
        (message("No Body!", (NOW, {"ph": 7.0})), "bad_topic"),
        (message("shiwan", (NOW, {"acid": 7.0})), "unknown_parameter"),
        (message("shiwan", (NOW + DAY_MS, {"ph": 7.0})), "time_in_future"),
        (message("shiwan", (0, {"ph": 7.0})), "time_before_2000"),
        ({"station": "shiwan"}, "wrong_shape"),
        ({"station": "shiwan", "readings": [{"at": "noon", "values": {"ph": 7}}]}, "bad_time"),
        (
            {"station": "shiwan", "readings": [{"at": "0001-01-01T00:00:00+14:00", "values": {"ph": 7}}]},
            "time_before_2000",
        ),
    ],
)
def test_what_cannot_be_used_is_taken_and_quarantined_with_the_reason(
    river: River, body: dict[str, Any], reason: str
) -> None:
    response = river.client.post("/api/v1/readings", json=body)
    assert response.status_code == 202
    assert response.json()["stored"] == 0
    assert [q["reason"] for q in response.json()["quarantined"]] == [reason]
    held = river.client.get("/api/v1/quarantine").json()["items"]
    assert [h["reason"] for h in held] == [reason]
    assert base64.b64decode(held[0]["payload"]) == response.request.content


@BOTH
def test_a_reading_without_a_readable_time_is_listed_without_one(river: River) -> None:
    body = {"station": "shiwan", "readings": [{"at": "noon", "values": {"ph": 7}}]}
    refused = river.client.post("/api/v1/readings", json=body).json()["quarantined"][0]
    assert refused["readings"] == [{"at": None, "parameter": "ph"}]
    assert "noon" in refused["detail"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b"7", "object"),
        (b"null", "object"),
        (b"\xff\xfe\xfa", "JSON"),
        (b"{}", "station"),
        (b'{"station":null,"readings":[]}', "station"),
        (b'{"station":7,"readings":[]}', "station"),
        (b'{"station":["shiwan"],"readings":[NaN]}', "station"),
        (b'{"station":"\\ud800","readings":[]}', "surrogate"),
        (b"[" * 100_000, "JSON"),
        (b'{"station":' + b"9" * 500 + b"}", "station"),
        (b'{"station":' + b"9" * 5000 + b"}", "station"),
    ],
)
def test_a_body_that_names_no_station_is_refused_for_nobody_could_be_asked(
    river: River, body: bytes, named: str
) -> None:
    is_problem(river.client.post("/api/v1/readings", content=body), 400)
    assert named in river.client.post("/api/v1/readings", content=body).json()["detail"]
    assert river.client.get("/api/v1/quarantine").json()["items"] == []


@BOTH
def test_a_value_that_a_person_sends_again_as_another_one_names_the_person(river: River) -> None:
    river.send(at_ms=NOW - MINUTE, ph=7.0)
    river.send(at_ms=NOW - MINUTE, ph=7.4)
    with river.database.read() as connection:
        (row,) = connection.execute(sa.select(correction)).all()
    assert (row.old_value, row.new_value, row.by) == (7.0, 7.4, LOCAL_NAME)


def test_without_an_ingest_readings_are_sent_elsewhere(river: River) -> None:
    response = river.asked(submit=None).post("/api/v1/readings", json=message("shiwan", (NOW, {"ph": 7.0})))
    is_problem(response, 503)
    assert "retry-after" in response.headers


def test_a_message_that_takes_too_long_is_not_answered_as_durable_and_never_withdrawn(
    river: River, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings_route, "DURABLE_WITHIN_S", 0.01)
    handed_over: list[Future[Receipt]] = []

    def submit(_message: Message) -> "Future[Receipt]":
        handed_over.append(Future())
        return handed_over[-1]

    response = river.asked(submit=submit).post("/api/v1/readings", json=message("shiwan", (NOW, {"ph": 7.0})))
    is_problem(response, 503, "shiwan")
    handed_over[0].set_result(Receipt(1, 0, ()))  # raises if the API had cancelled what the ingest owns


# -- incidents ---------------------------------------------------------------------------------------------------------


def _fired(river: River, station: str = "shiwan", at_ms: int = NOW - MINUTE, **other: Any) -> int:
    finding = a_finding(
        at_ms,
        since_ms=at_ms - 10 * MINUTE,
        version="3",
        cause=f"{station}/nh3n",
        station=station,
        text=Text("石湾氨氮2.40 mg/L", "Shiwan: ammonia 2.40 mg/L"),
    )
    with river.database.write() as connection:
        return incident_store.record_findings(connection, [replace(finding, **other)], NOW, source="/t").ids[0]


REPORTED = ["accept", "reject", "false_alarm", "comment", "supervise", "merge", "emergency"]
"""What an administrator may do with an incident just reported."""


def _act(river: River, number: int, action: str, *, if_match: str | None = None, **body: Any) -> Any:
    headers = {} if if_match is None else {"If-Match": if_match}
    content = {"action": action, "by": "梁工", **body}
    return river.client.post(f"/api/v1/incidents/{number}/actions", json=content, headers=headers)


@BOTH
def test_an_incident_is_listed_and_told_in_full(river: River) -> None:
    number = _fired(river)
    listed = river.client.get("/api/v1/incidents").json()["items"]
    response = river.client.get(f"/api/v1/incidents/{number}")
    assert response.headers["etag"] == '"1"'
    full = response.json()
    assert listed == [full["incident"]]
    incident = full["incident"]
    assert (incident["state"], incident["open"], incident["colour"], incident["version"]) == (
        "reported",
        True,
        "yellow",
        1,
    )
    assert incident["title"] == {"zh": "石湾氨氮2.40 mg/L", "en": "Shiwan: ammonia 2.40 mg/L"}
    assert incident["observed_at"] == rfc3339(NOW - MINUTE)
    assert incident["allowed"] == REPORTED
    assert (incident["reach"], incident["due_at"], incident["overdue"]) == ("", "2026-05-13T02:30:00Z", False)
    assert [(c["station"], c["resolved_at"]) for c in full["conditions"]] == [("shiwan", None)]
    assert [(e["seq"], e["what"], e["by"]) for e in full["history"]] == [(1, "fired", "nh3n-high")]


@BOTH
def test_an_action_changes_the_incident_and_wakes_the_deliverer(river: River) -> None:
    number = _fired(river)
    response = _act(river, number, "accept", if_match='"1"')
    assert response.status_code == 200
    assert response.headers["etag"] == '"2"'
    body = response.json()
    assert (body["incident"]["state"], body["incident"]["accepted_by"]) == ("accepted", "梁工")
    assert [e["what"] for e in body["history"]] == ["fired", "accepted"]
    assert len(river.woken) == 1
    assert river.client.get(f"/api/v1/incidents/{number}").json() == body


@BOTH
def test_a_forbidden_action_is_told_what_is_allowed_now(river: River) -> None:
    number = _fired(river)
    document = is_problem(_act(river, number, "close", comment="clean again"), 409, str(number))
    assert document["allowed"] == REPORTED
    assert is_problem(_act(river, number, "delete"), 409, "delete")["allowed"] == document["allowed"]
    assert is_problem(_act(river, number, "comment"), 409)["allowed"] == document["allowed"]  # without a comment
    _act(river, number, "false_alarm", comment="the probe was being cleaned", reason="maintenance")
    assert is_problem(_act(river, number, "accept"), 409)["allowed"] == ["reopen"]
    assert len(river.woken) == 1
    assert river.client.get(f"/api/v1/incidents/{number}").json()["incident"]["version"] == 2


@BOTH
def test_a_decision_that_rests_on_an_older_state_is_refused(river: River) -> None:
    number = _fired(river)
    _act(river, number, "accept")
    is_problem(_act(river, number, "comment", comment="late", if_match='"1"'), 412, "2", "1")
    assert river.client.get(f"/api/v1/incidents/{number}").json()["incident"]["version"] == 2
    assert _act(river, number, "comment", comment="now", if_match='"1", W/"2"').status_code == 200
    assert _act(river, number, "comment", comment="whatever it is", if_match="*").status_code == 200


@pytest.mark.parametrize("if_match", ["1", "", '"1', '"1", x'])
def test_an_if_match_that_is_none_is_refused(river: River, if_match: str) -> None:
    number = _fired(river)
    is_problem(_act(river, number, "accept", if_match=if_match), 400, "If-Match")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"action": "comment", "comment": "x", "by": 3}, "by"),
        ({"action": "dispatch", "by": "梁工", "to": {"department": "police"}}, "police"),
        ({"by": "梁工"}, "action"),
        ({"action": 7, "by": "梁工"}, "action"),
        ({"action": "comment", "by": "梁工", "comment": "\x00"}, "comment"),
        ({"action": "comment", "by": "梁工", "state": "closed"}, "state"),
    ],
)
def test_an_action_of_the_wrong_shape_is_refused_with_its_fault(river: River, body: dict[str, Any], named: str) -> None:
    number = _fired(river)
    is_problem(river.client.post(f"/api/v1/incidents/{number}/actions", json=body), 400, named)


@BOTH
@pytest.mark.parametrize("number", ["0", "999", "-1", "99999999999999999999999"])
def test_an_incident_that_is_not_there_is_named(river: River, number: str) -> None:
    is_problem(river.client.get(f"/api/v1/incidents/{number}"), 404, number)
    is_problem(
        river.client.post(f"/api/v1/incidents/{number}/actions", json={"action": "comment", "by": "x"}), 404, number
    )


@BOTH
def test_incidents_are_found_by_state_and_station_page_by_page(river: River) -> None:
    numbers = [_fired(river, station) for station in ("shiwan", "qicha", "nandou")]
    _act(river, numbers[0], "false_alarm", comment="the probe was being cleaned", reason="maintenance")

    def listed(**asked: Any) -> list[int]:
        return [i["id"] for i in river.client.get("/api/v1/incidents", params=asked).json()["items"]]

    assert listed() == numbers[::-1]
    assert listed(state="false_alarm") == [numbers[0]]
    assert listed(state="closed") == []
    assert listed(open=True) == [numbers[2], numbers[1]]
    assert listed(open=False) == [numbers[0]]
    assert listed(open=False, state="reported") == []
    assert listed(station="qicha") == [numbers[1]]
    first = river.client.get("/api/v1/incidents", params={"limit": 2}).json()
    rest = river.client.get("/api/v1/incidents", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [i["id"] for i in first["items"] + rest["items"]] == numbers[::-1]
    assert rest["next_cursor"] is None
    is_problem(river.client.get("/api/v1/incidents?state=opened"), 400, "state")


# -- ledger and quarantine ---------------------------------------------------------------------------------------------


@BOTH
def test_the_account_of_a_day_closes(river: River) -> None:
    river.send(ph=7.0, acid=1.0)
    river.send(ph=7.0)
    (account,) = river.client.get("/api/v1/ledger", params={"day": "2026-05-12", "station": "shiwan"}).json()["items"]
    assert account["closed"] is True
    assert (account["sent"], account["stored"], account["duplicate"], account["quarantined"]) == (3, 1, 1, 1)
    assert account["missing"] == 0
    assert river.client.get("/api/v1/ledger", params={"day": "2026-05-11"}).json()["items"] == []


@BOTH
def test_missing_messages_nobody_counted_leave_the_account_open(river: River) -> None:
    for seq in (0, 4):
        river.client.post("/api/v1/readings", json=message("shiwan", (NOW - seq * MINUTE, {"ph": 7.0}), seq=seq))
    (account,) = river.client.get("/api/v1/ledger").json()["items"]
    assert (account["closed"], account["sent"], account["missing"]) == (False, None, None)
    assert account["messages_missing"] == 3


@BOTH
def test_accounts_are_listed_page_by_page_newest_day_first(river: River) -> None:
    for day in range(4):
        for station in ("shiwan", "qicha"):
            at_ms = NOW - day * DAY_MS
            river.client.post("/api/v1/readings", json=message(station, (at_ms, {"ph": 7.0}), sent_at=rfc3339(at_ms)))
    seen, cursor = [], None
    while True:
        asked = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = river.client.get("/api/v1/ledger", params=asked).json()
        seen += [(a["day"], a["station"]) for a in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        if len(seen) == 3:  # an account opened meanwhile before the cursor's place moves nothing
            river.send(station="nobody", ph=7.0)
    assert len(seen) == 8
    assert seen == sorted(seen, key=lambda entry: (-int(entry[0].replace("-", "")), entry[1]))


@pytest.mark.parametrize("day", ["today", "2026-02-30", "20260512", "1", "2026-W19-1", ""])
def test_a_day_that_is_none_is_refused(river: River, day: str) -> None:
    is_problem(river.client.get("/api/v1/ledger", params={"day": day}), 400, "day", repr(day))


@BOTH
def test_quarantine_keeps_the_bytes_and_shows_them_where_they_are_text(river: River) -> None:
    body = json.dumps(message("nobody", (NOW, {"ph": 7.0})), ensure_ascii=False).encode()
    river.client.post("/api/v1/readings", content=body)
    (held,) = river.client.get("/api/v1/quarantine").json()["items"]
    assert base64.b64decode(held["payload"]) == body
    assert (held["text"], held["payload_bytes"]) == (body.decode(), len(body))
    assert (held["status"], held["reason"], held["station"], held["account"]) == (
        "held",
        "unknown_station",
        "nobody",
        "?",
    )
    assert held["readings"] == [{"at": rfc3339(NOW), "parameter": "ph"}]
    river.context.submit(Message("shiwan", b"\xff\x00\x01", NOW)).result(30)  # type: ignore[misc]
    assert river.client.get("/api/v1/quarantine").json()["items"][0]["text"] is None


def test_a_long_text_is_shown_up_to_a_whole_letter(river: River) -> None:
    body = json.dumps({"station": "nobody", "note": "x" + "水" * 3000}, ensure_ascii=False).encode()
    river.client.post("/api/v1/readings", content=body)
    text = river.client.get("/api/v1/quarantine").json()["items"][0]["text"]
    assert body.decode().startswith(text)
    assert 4000 < len(text.encode()) <= 4096


@BOTH
def test_quarantine_is_found_by_reason_and_station_page_by_page(river: River) -> None:
    for n in range(3):
        river.send(station="nobody", at_ms=NOW - n * MINUTE, ph=7.0)
    river.send(acid=1.0)

    def listed(**asked: Any) -> list[int]:
        return [h["id"] for h in river.client.get("/api/v1/quarantine", params=asked).json()["items"]]

    assert listed() == [4, 3, 2, 1]
    assert listed(reason="unknown_parameter") == [4]
    assert listed(station="nobody") == [3, 2, 1]
    assert listed(status="replayed") == []
    assert listed(status="all") == [4, 3, 2, 1]
    first = river.client.get("/api/v1/quarantine", params={"limit": 3}).json()
    assert listed(limit=3, cursor=first["next_cursor"]) == [1]
    is_problem(river.client.get("/api/v1/quarantine?reason=bad_luck"), 400, "'bad_luck'")
    is_problem(river.client.get("/api/v1/quarantine?status=gone"), 400, "status")


@BOTH
def test_a_replay_after_the_station_was_registered_stores_its_readings_and_closes_the_ledger(river: River) -> None:
    assert river.send(station="nandou-1", ph=7.0, nh3n=0.5)["stored"] == 0
    (held,) = river.client.get("/api/v1/quarantine").json()["items"]
    river.client.post("/api/v1/stations", json={"key": "nandou-1", "lon": 113, "lat": 23})
    river.wait_for("nandou-1")
    response = river.client.post(f"/api/v1/quarantine/{held['id']}/replay")
    assert response.status_code == 200
    assert response.json() == {"stored": 2, "duplicate": 0, "quarantined": []}
    assert river.store.count()["nandou-1"] == 2
    assert river.client.get("/api/v1/quarantine").json()["items"] == []
    accounts = {a["station"]: a for a in river.client.get("/api/v1/ledger").json()["items"]}
    assert all(a["closed"] for a in accounts.values())
    assert (accounts["?"]["readings"], accounts["?"]["quarantined"]) == (0, 0)
    assert (accounts["nandou-1"]["readings"], accounts["nandou-1"]["stored"]) == (2, 2)
    again = river.client.post(f"/api/v1/quarantine/{held['id']}/replay")
    is_problem(again, 409, str(held["id"]), "replayed")
    assert river.store.count()["nandou-1"] == 2


@BOTH
def test_a_replay_that_is_refused_again_has_a_new_entry(river: River) -> None:
    river.send(station="nobody", ph=7.0)
    response = river.client.post("/api/v1/quarantine/1/replay")
    assert [q["reason"] for q in response.json()["quarantined"]] == ["unknown_station"]
    assert [h["id"] for h in river.client.get("/api/v1/quarantine").json()["items"]] == [2]
    (account,) = river.client.get("/api/v1/ledger").json()["items"]
    assert (account["closed"], account["quarantined"]) == (True, 1)


@BOTH
def test_two_replays_of_one_entry_at_once_count_it_once(river: River) -> None:
    river.send(acid=1.0)
    handed_over = threading.Event()
    go_on = threading.Event()

    def slowly(message: Message) -> "Future[Receipt]":
        answer: Future[Receipt] = Future()

        def work() -> None:
            handed_over.set()
            go_on.wait(30)
            answer.set_result(river.intake.submit(message).result(30))

        threading.Thread(target=work).start()
        return answer

    with river.asked(submit=slowly) as client:
        first: list[Any] = []
        thread = threading.Thread(target=lambda: first.append(client.post("/api/v1/quarantine/1/replay")))
        thread.start()
        assert handed_over.wait(30)
        is_problem(client.post("/api/v1/quarantine/1/replay"), 409, "1")
        go_on.set()
        thread.join(30)
        assert first[0].status_code == 200
    (account,) = river.client.get("/api/v1/ledger").json()["items"]
    assert (account["closed"], account["readings"], account["quarantined"]) == (True, 1, 1)


@BOTH
@pytest.mark.parametrize("entry", ["0", "7", "-1", "99999999999999999999999"])
def test_a_quarantine_entry_that_is_not_there_is_named(river: River, entry: str) -> None:
    is_problem(river.client.post(f"/api/v1/quarantine/{entry}/replay"), 404, entry)


@BOTH
def test_a_message_kept_in_part_cannot_be_replayed(river: River) -> None:
    river.context.submit(Message("shiwan", b"x" * (MAX_BYTES + 1), NOW)).result(30)  # type: ignore[misc]
    is_problem(river.client.post("/api/v1/quarantine/1/replay"), 409, str(MAX_BYTES + 1))
    assert river.client.get("/api/v1/quarantine").json()["items"][0]["status"] == "held"


def test_without_an_ingest_nothing_is_replayed_and_the_entry_stays_free(river: River) -> None:
    river.send(station="nobody", ph=7.0)
    client = river.asked(submit=None)
    for _ in range(2):
        is_problem(client.post("/api/v1/quarantine/1/replay"), 503)
    assert len(river.client.get("/api/v1/quarantine").json()["items"]) == 1


# -- reaches -----------------------------------------------------------------------------------------------------------


@BOTH
def test_a_reach_shows_its_line_its_stations_and_what_flows_into_it(river: River) -> None:
    page = river.client.get("/api/v1/reaches").json()
    assert [r["key"] for r in page["items"]] == ["dongping", "qichachong"]
    one = river.client.get("/api/v1/reaches/dongping").json()
    assert one == page["items"][0]
    assert one["line"] == [[113.0, 23.0], [113.1, 23.0]]
    assert (one["upstream"], one["stations"], one["downstream"]) == (["qichachong"], ["shiwan"], None)
    assert "class" not in one


@BOTH
def test_reaches_are_a_map_for_those_who_ask_for_one(river: River) -> None:
    accept = {"Accept": "application/geo+json"}
    response = river.client.get("/api/v1/reaches?limit=1", headers=accept)
    assert response.headers["content-type"] == "application/geo+json"
    (feature,) = response.json()["features"]
    assert feature["geometry"]["type"] == "LineString"
    assert feature["properties"]["stations"] == ["shiwan"]
    rest = river.client.get("/api/v1/reaches", params={"cursor": response.json()["next_cursor"]}, headers=accept).json()
    assert [f["id"] for f in rest["features"]] == ["qichachong"]
    assert river.client.get("/api/v1/reaches/dongping", headers=accept).json() == feature


@BOTH
def test_a_reach_nobody_registered_is_named(river: River) -> None:
    is_problem(river.client.get("/api/v1/reaches/nile"), 404, "'nile'")


@BOTH
def test_no_answer_holds_a_number_json_does_not_know(river: River) -> None:
    _fired(river, value=math.nan, limit=math.inf)
    text = river.client.get("/api/v1/incidents").text
    assert json.loads(text, parse_constant=pytest.fail)["items"][0]["value"] is None
