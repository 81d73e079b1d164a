"""What the API says when it refuses: in Chinese first with English beside it, whatever is asked of whichever route."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.context import Context
from governance.incidents import store as incident_store
from infra.database import Database
from ingest.storage import registry
from ingest.storage.sql import SqlReadings
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water
from tests.cases import a_finding, in_both_languages
from tests.databases import with_tables
from tests.postgres import lasting

pytestmark = pytest.mark.both_databases

NOW = 1_790_000_000_000
ROOT = Path(__file__).parents[2]
KNOWN = {"key": "shiwan", "station": "shiwan", "reach": "dongping", "incident_id": "1", "code": "d", "rule": "nh3n"}
"""Path parts that are there, so that a bad body or query is what is refused."""


@pytest.fixture(scope="module")
def client(dialect: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    database = Database(lasting(dialect, tmp_path_factory.mktemp("sentences")))
    with_tables(database)
    stations = (Station("shiwan", "石湾", "Shiwan", 113.05, 23.0, reach="dongping", region="d"),)
    reaches = (Reach("dongping", "东平河", "Dongping", Water.RIVER, ((113.0, 23.0), (113.1, 23.0))),)
    regions = (Region("d", "示例区", "District", Level.DISTRICT),)
    fired = a_finding(NOW, rule="nh3n", cause="a")
    with database.write() as connection:
        registry.save(connection, Registry(stations, (), reaches, catalogue(), regions=regions))
        incident_store.record_findings(connection, [fired], NOW, source="/test")
    context = Context(database, SqlReadings(database, catalogue()), catalogue(), "/test", lambda: NOW, open=True)
    yield TestClient(create_app(context), raise_server_exceptions=False)
    database.close()


def guess(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str = "") -> Any:
    """Something of the right shape that means nothing: it gets past the types and is refused for what it says."""
    if "$ref" in schema:
        return guess(schemas[schema["$ref"].rpartition("/")[2]], schemas, name)
    if "anyOf" in schema:
        return guess(schema["anyOf"][0], schemas, name)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {key: guess(one, schemas, key) for key, one in schema.get("properties", {}).items() if key != "by"}
        case "array":
            return [guess(schema.get("items", {}), schemas, name)]
        case "integer" | "number":
            return 7
        case "boolean":
            return True
        case _:
            return KNOWN.get(name, "nonsense")


def asked(client: TestClient) -> Iterator[tuple[str, httpx.Response]]:
    """Every route with parts that are not there, each query spoilt, and bodies that are wrong in four ways."""
    document = client.get("/api/v1/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        there = path.replace("/reaches/{key}", "/reaches/dongping")
        there = re.sub(r"\{(\w+)\}", lambda part: KNOWN.get(part[1], "7"), there)
        for method, operation in methods.items():
            label = f"{method} {path}"
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            bodies: list[Any] = [None]
            if content is not None:
                bodies = [{}, [], guess(content, schemas)]
                properties = guess(content, schemas)
                if isinstance(properties, dict):
                    bodies += [{key: {"x": 1} for key in properties} | {"nonsense": 1}]
            if method == "delete":
                there = re.sub(r"\{\w+\}", "7", path)
            for body in bodies:
                yield label, client.request(method, there, json=body)
            yield label, client.request(method, re.sub(r"\{\w+\}", "nobody", path), json=bodies[-1])
            queries = [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"]
            for name in queries if method == "get" else ():
                for value in ("-1", "nonsense"):
                    yield f"{label}?{name}={value}", client.get(there, params={name: value})
            if method != "get":
                yield label, client.request(method, there, content=b"{", headers={"Content-Type": "application/json"})
                headers = {"Content-Type": "application/json", "Origin": "https://evil.example"}
                yield label, client.request(method, there, content=b"{}", headers=headers)


def test_no_route_refuses_in_one_language_only(client: TestClient) -> None:
    refused, wrong = set(), []
    for label, response in asked(client):
        if response.status_code < 400:
            continue
        document = response.json()
        refused.add((label.partition("?")[0], response.status_code))
        said = [document["title"], document["detail"], *(one["message"] for one in document.get("errors", ()))]
        if response.status_code == 500 or not all(map(in_both_languages, said)):
            wrong.append((label, response.status_code, said))
    assert wrong == []
    assert {status for _, status in refused} >= {400, 403, 404, 409, 503}
    assert len(refused) > 120


OWN_WORDS = re.compile(r"\bsame\(\s*f?[\"']")
"""Words of ours given as those of somebody else. That an error takes nothing but a Text is checked by mypy."""


def test_errors_that_reach_people_take_their_words_from_the_catalogue() -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in ("api", "governance", "infra", "ingest", "riverchief", "sensors", "simulator")
        for path in (ROOT / package).rglob("*.py")
        if OWN_WORDS.search(path.read_text(encoding="utf-8"))
    }
    assert found == set()
