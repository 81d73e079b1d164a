"""Who may ask what: every route of the API with no token and as people of seven roles, and in whose name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api import access
from api.app import create_app
from api.context import Context
from governance import audit, people
from governance.database import Database
from governance.roles import RIGHTS, Right, Role
from ingest.storage import registry
from ingest.storage.sql import SqlReadings
from riverchief import migrations
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from sensors.times import rfc3339

NOW = 1_790_000_000_000
ROLES = (Role.PUBLIC, Role.GRID_WORKER, Role.CHIEF, Role.OFFICE, Role.REVIEWER, Role.AUDITOR, Role.ADMINISTRATOR)

WITHOUT_A_TOKEN = {
    "/claims",
    "/reports",
    "/reports/{ticket}",
    "/reports/{ticket}/objections",
    "/callbacks/{platform}",
}
"""They check a secret, a ticket or a signature themselves, or are for everybody."""

LOOKERS = set(ROLES)
STAFF = LOOKERS - {Role.PUBLIC}
ACCOUNTS = {Role.OFFICE, Role.REVIEWER, Role.AUDITOR, Role.ADMINISTRATOR}
SENSITIVE: dict[tuple[str, str], set[Role]] = {
    ("GET", "/me"): LOOKERS,
    ("GET", "/stations"): LOOKERS,
    ("GET", "/incidents"): STAFF,
    ("GET", "/incidents/{incident_id}"): STAFF,
    ("GET", "/incidents/{incident_id}/origins"): STAFF,
    ("GET", "/incidents/{incident_id}/evidence"): STAFF,
    ("GET", "/attachments/{name}"): STAFF,
    ("GET", "/patrols"): STAFF,
    ("GET", "/people"): STAFF,
    ("POST", "/people"): {Role.ADMINISTRATOR},
    ("DELETE", "/people/{name}"): {Role.ADMINISTRATOR},
    ("POST", "/people/{name}/appointments"): {Role.ADMINISTRATOR},
    ("POST", "/people/{name}/tokens"): {Role.ADMINISTRATOR},
    ("DELETE", "/people/{name}/tokens"): {Role.ADMINISTRATOR},
    ("GET", "/stations/{key}/credentials"): {Role.REVIEWER, Role.ADMINISTRATOR},
    ("POST", "/stations/{key}/credentials"): {Role.REVIEWER, Role.ADMINISTRATOR},
    ("DELETE", "/stations/{key}/credentials/{user}"): {Role.REVIEWER, Role.ADMINISTRATOR},
    ("POST", "/stations/{key}/commands"): {Role.REVIEWER, Role.ADMINISTRATOR},
    ("POST", "/readings"): {Role.REVIEWER, Role.ADMINISTRATOR},
    ("POST", "/stations/{key}/reviews"): {Role.REVIEWER, Role.ADMINISTRATOR},
    ("DELETE", "/regions/{code}"): {Role.REVIEWER, Role.ADMINISTRATOR},
    ("GET", "/audit"): {Role.AUDITOR, Role.ADMINISTRATOR},
    ("GET", "/audit/verify"): {Role.AUDITOR, Role.ADMINISTRATOR},
    ("GET", "/audit/{n}"): {Role.AUDITOR, Role.ADMINISTRATOR},
    ("GET", "/audit/{n}/proof"): {Role.AUDITOR, Role.ADMINISTRATOR},
    ("GET", "/quarantine"): ACCOUNTS,
    ("POST", "/quarantine/{entry}/replay"): {Role.REVIEWER, Role.ADMINISTRATOR},
    ("GET", "/deliveries"): ACCOUNTS,
    ("POST", "/deliveries/{number}/replay"): {Role.OFFICE, Role.ADMINISTRATOR},
    ("GET", "/callbacks"): ACCOUNTS,
    ("POST", "/reconciliations"): {Role.OFFICE, Role.ADMINISTRATOR},
    ("GET", "/notices"): ACCOUNTS,  # they tell of incidents everywhere
    ("POST", "/notices/test"): {Role.OFFICE, Role.ADMINISTRATOR},
    ("POST", "/oncall/shifts"): {Role.OFFICE, Role.ADMINISTRATOR},
}
"""Who may, written down apart from the table in force."""


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    database = Database(f"sqlite:///{tmp_path / 'riverchief.db'}")
    migrations.upgrade(database)
    yield Context(database, SqlReadings(database, catalogue()), catalogue(), "/test", lambda: NOW)
    database.close()


AT = rfc3339(NOW - 1000)
BOSS = "管理员（示例）"
NAMING: dict[tuple[str, str], dict[str, object]] = {
    ("POST", "/incidents"): {"text": "示例：水面有油"},
    ("POST", "/incidents/{incident_id}/actions"): {"action": "comment", "comment": "示例"},
    ("POST", "/patrols"): {"id": "example-1", "started_at": AT, "ended_at": AT, "track": []},
    ("POST", "/stations/{key}/deployments"): {"parameter": "do"},
    ("POST", "/stations/{key}/deployments/{parameter}/end"): {},
    ("POST", "/stations/{key}/calibrations"): {"parameter": "do", "type": "span", "standard": 8, "reading": 8},
    ("PATCH", "/stations/{key}/calibrations/{number}"): {"void": True},
    ("POST", "/stations/{key}/visits"): {},
    ("POST", "/stations/{key}/visits/{number}/end"): {},
    ("POST", "/stations/{key}/reviews"): {"since": AT, "until": rfc3339(NOW), "verdict": "bad", "reason": "示例"},
    ("POST", "/stations/{key}/reviews/{number}/void"): {},
    ("POST", "/stations/{key}/mutes"): {"until": rfc3339(NOW + 1000), "reason": "示例"},
    ("POST", "/stations/{key}/mutes/{number}/end"): {},
    ("POST", "/stations/{key}/credentials"): {},
    ("POST", "/backtests"): {"rules": "x", "since": AT},
    ("POST", "/oncall/shifts"): {"shifts": [{"person": "a", "begins": AT, "until": rfc3339(NOW)}]},
    ("POST", "/reconciliations"): {"platform": "district", "items": []},
}
"""Every route whose body says who did it, with a body it takes."""


def test_nobody_can_write_down_somebody_elses_name(context: Context) -> None:
    """Whoever signed in is who did it; the administrator, too, is a person."""
    with context.database.write() as connection:
        registry.save(connection, Registry((Station("shiwan", "石湾", "Shiwan", 113.05, 23.0),), catalogue=catalogue()))
        people.add(connection, BOSS, Role.ADMINISTRATOR, by="test", now_ms=NOW)
        token = people.issue(connection, BOSS, by="test", now_ms=NOW)
    client = TestClient(create_app(context), headers={"Authorization": f"Bearer {token}"})
    document = client.get("/api/v1/openapi.json").json()
    schemas = document["components"]["schemas"]

    def names_somebody(operation: dict[str, Any]) -> bool:
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        told = json.dumps(content.get("schema", {}))
        return any("by" in schemas[ref]["properties"] for ref in re.findall(r"#/components/schemas/(\w+)", told))

    found = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if names_somebody(operation)
    }
    assert found == set(NAMING)
    with context.database.read() as connection:
        entries = len(audit.listing(connection, limit=1000))
    wrong = []
    for (method, path), body in NAMING.items():
        address = "/api/v1" + path.replace("{key}", "shiwan").replace("{parameter}", "do")
        address = re.sub(r"\{\w+\}", "1", address)
        answer = client.request(method, address, json=body | {"by": "别人（示例）"})
        detail = answer.json()["detail"]
        if answer.status_code != 403 or "别人（示例）" not in detail or BOSS not in detail:
            wrong.append((method, path, answer.text))
    photo = client.post("/api/v1/stations/shiwan/photos?by=别人", content=b"\xff\xd8\xff")
    assert photo.status_code == 403
    assert wrong == []
    with context.database.read() as connection:
        assert len(audit.listing(connection, limit=1000)) == entries


def test_each_route_lets_in_whom_it_should_and_nobody_else(context: Context) -> None:
    client = TestClient(create_app(context), raise_server_exceptions=False)
    tokens = {}
    with context.database.write() as connection:
        for role in ROLES:
            people.add(connection, f"示例{role}", role, by="test", now_ms=NOW)
            tokens[role] = people.issue(connection, f"示例{role}", by="test", now_ms=NOW)

    def ask(method: str, path: str, role: Role | None) -> int:
        headers = {"Content-Type": "application/json"}
        if role is not None:
            headers["Authorization"] = f"Bearer {tokens[role]}"
        address = "/api/v1" + re.sub(r"\{\w+\}", "1", path)
        return client.request(method, address, headers=headers, content=None if method == "GET" else b"{").status_code

    document = client.get("/api/v1/openapi.json", headers={"Authorization": f"Bearer {tokens[Role.PUBLIC]}"}).json()
    routes = [
        (method.upper(), path.removeprefix("/api/v1"))
        for path, methods in document["paths"].items()
        for method in methods
    ]
    assert set(SENSITIVE) <= set(routes), set(SENSITIVE) - set(routes)
    wrong = []
    for method, path in routes:
        if path in WITHOUT_A_TOKEN:
            assert ask(method, path, None) not in (401, 403), path
            continue
        if ask(method, path, None) != 401:
            wrong.append((method, path, "nobody"))
        right = access.right_of(method, path)
        needed = Right.PEOPLE if right is None else right
        may = SENSITIVE.get((method, path), {role for role in ROLES if needed in RIGHTS[role]})
        for role in ROLES:
            status = ask(method, path, role)
            if (status == 403) is (role in may) or status in (401, 500):
                wrong.append((method, path, f"{role} {status}"))
    assert wrong == []
