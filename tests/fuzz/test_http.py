"""The HTTP API with parameters and bodies made from its own description, many of them wrong: no answer is a 5xx."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn
from fastapi.testclient import TestClient

from api.app import create_app
from api.context import Context
from governance.incidents.file_content import MAX_BYTES
from infra.clock import now_ms
from infra.database import Database
from infra.times import rfc3339
from ingest.intake import Intake
from ingest.pipeline import Site
from ingest.rules.model import Rules
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from riverchief.brokers.local import free_port
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from tests.databases import with_tables
from tests.fuzz.conftest import PAYLOADS, SECONDS, Trial
from tests.fuzz.mutation import NASTY, Mutator
from tests.fuzz.test_devices import _books_close
from tests.rig import eventually

SCHEMATHESIS = os.environ.get("RIVERCHIEF_SCHEMATHESIS")
WORDS = ("shiwan", "nobody", "1", "0", "-1", "ph", "2026-05", "2026-05-12", "2026-05-12T10:00:00Z", "a/b", "示例", "a")
ODD: tuple[object, ...] = (None, True, 0, -1, 2**63, 10**400, 1.5, "", "NaN", "\x00", "\ud800", [], {}, [[]], {"a": {}})


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    """A site with one station and its ingest, open to an administrator."""
    database = Database(f"sqlite:///{tmp_path / 'riverchief.db'}")
    with_tables(database)
    with database.write() as connection:
        station = Station("shiwan", "石湾", "Shiwan", 113.07, 23.0)
        registry_store.save(connection, Registry((station,), catalogue=catalogue()))
    store = SqlReadings(database, catalogue())
    site = Site(database, store, Rules(), catalogue())
    intake = Intake(site, clock_ms=now_ms)
    intake.start()
    photos = tmp_path / "photos"
    yield Context(database, store, catalogue(), "/test", now_ms, intake.submit, photos=photos, open=True)
    assert intake.alive
    assert intake.stop()
    _books_close(site, store)
    database.close()


class Requests:
    """Requests of an API as its document describes them, and some that it does not."""

    def __init__(self, document: Mapping[str, Any], trial: Trial) -> None:
        self._schemas = document["components"]["schemas"]
        self._rng = trial.rng
        reading = {"at": rfc3339(now_ms()), "values": {"ph": 7.1, "do": 5}, "status": {"do": "M"}}
        message = {"station": "shiwan", "seq": 1, "boot": 1, "total": 2, "readings": [reading]}
        self._readings = Mutator(trial.rng, [json.dumps(message).encode()])
        self._operations = [
            (method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]

    def next(self) -> tuple[str, str, bytes | None, dict[str, str]]:
        """Method, address, body and headers."""
        rng = self._rng
        if rng.random() < 0.15:
            return "post", "/api/v1/readings", next(self._readings), {"Content-Type": "application/json"}
        method, path, operation = rng.choice(self._operations)
        query = []
        for parameter in operation.get("parameters", ()):
            text = self._text(parameter.get("schema", {}))
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", quote(text or "x", safe="", errors="replace"))
            elif parameter["in"] == "query" and (parameter.get("required") or rng.random() < 0.4):
                query.append(f"{parameter['name']}={quote(text, errors='replace')}")
        content = operation.get("requestBody", {}).get("content")
        address = path + ("?" + "&".join(query) if query else "")
        if content is None:
            return method, address, None, {}
        kind, described = next(iter(content.items()))
        body = json.dumps(self._value(described.get("schema", {}), 0)).encode()
        if rng.random() < 0.1:
            body = next(Mutator(rng, [body], MAX_BYTES))
        return method, address, body, {"Content-Type": kind}

    def _text(self, schema: Mapping[str, Any]) -> str:
        rng = self._rng
        if rng.random() < 0.3:
            return rng.choice(WORDS)
        if rng.random() < 0.1:
            return rng.choice(NASTY)[:500].decode("utf-8", "replace")
        value = self._value(schema, 0)
        return value if isinstance(value, str) else json.dumps(value)

    def _value(self, schema: Mapping[str, Any], depth: int) -> Any:
        """Something that the schema allows, mostly."""
        rng = self._rng
        if rng.random() < 0.06 or depth > 6:
            return rng.choice(ODD)
        if "$ref" in schema:
            return self._value(self._schemas[schema["$ref"].rsplit("/", 1)[1]], depth + 1)
        if several := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            return self._value(rng.choice(several), depth)
        if "const" in schema or "enum" in schema:
            return schema["const"] if "const" in schema else rng.choice(schema["enum"])
        return self._typed(schema, depth)

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        rng = self._rng
        match schema.get("type"):
            case "object":
                return self._object(schema, depth)
            case "array":
                return [self._value(schema.get("items", {}), depth + 1) for _ in range(rng.choice((0, 1, 1, 2, 5)))]
            case "integer" | "number" as kind:
                low, high = schema.get("minimum", -10), schema.get("maximum", 1000)
                number = rng.choice((low, high, low - 1, high + 1, rng.uniform(low, high)))
                return round(number) if kind == "integer" else number
            case "boolean":
                return rng.random() < 0.5
        return rng.choice((*WORDS, rfc3339(now_ms()), rfc3339(now_ms() - 3_600_000), "x" * rng.choice((1, 300, 5000))))

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        rng, needed = self._rng, schema.get("required", ())
        made = {
            name: self._value(one, depth + 1)
            for name, one in schema.get("properties", {}).items()
            if rng.random() < (0.97 if name in needed else 0.4)
        }
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            made |= {rng.choice(WORDS): self._value(more, depth + 1) for _ in range(rng.randint(0, 2))}
        elif rng.random() < 0.03:
            made["unexpected"] = 1
        return made


@pytest.mark.fuzz("HTTP requests", 0.25)
def test_whatever_is_asked_of_the_api_no_answer_is_a_5xx(context: Context, trial: Trial) -> None:
    client = TestClient(create_app(context))  # raises what the application does not handle
    requests = Requests(client.get("/api/v1/openapi.json").json(), trial)
    for _ in trial.inputs():
        trial.last = method, address, body, headers = requests.next()
        answer = client.request(method, address, content=body, headers=headers)
        if answer.status_code == 503:  # what this site has not: another broker's logins, an HJ 212 gateway
            assert answer.json()["type"] == "urn:riverchief:problem:unavailable"
        else:
            assert answer.status_code < 500, answer.text
        trial.refused += answer.status_code >= 400


@pytest.mark.skipif(SCHEMATHESIS is None, reason="`make fuzz` runs schemathesis")
@pytest.mark.timeout(SECONDS + 600)
def test_schemathesis_finds_no_5xx(context: Context, tmp_path: Path) -> None:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(replace(context)), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually("the API answers", lambda: server.started)
        address = f"http://127.0.0.1:{port}/api/v1/openapi.json"
        only = ["--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing"]
        # these answer 503 where the site administers no broker and has no gateway
        only += ["--exclude-path-regex", "/credentials|/claims|/commands"]
        only += ["--max-examples", str(max(1, PAYLOADS // 50_000))]
        done = subprocess.run(
            [SCHEMATHESIS, "run", address, *only],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        print(done.stdout[-3000:])
        assert done.returncode == 0, done.stdout[-20_000:]
    finally:
        server.should_exit = True
        thread.join()
