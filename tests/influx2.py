"""What stands in for InfluxDB 2 where its management is tested: no such server is to be had here.

It keeps organisations, buckets, DBRP mappings, tasks and authorizations in memory, and is strict about what the public
contract of the 2.x API asks for: paths, methods, the ``Token`` scheme, the members a request must have and may have. A
real server checks more (the Flux of a task, names, rights), and may differ where the contract is silent.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

TOKEN = "admin-token-of-the-tests"

ALLOWED = {
    "buckets": {"orgID", "name", "description", "rp", "retentionRules", "schemaType"},
    "dbrps": {"orgID", "org", "bucketID", "database", "retention_policy", "default"},
    "tasks": {"orgID", "org", "status", "flux", "description"},
    "authorizations": {"orgID", "userID", "permissions", "status", "description"},
}
NEEDED = {
    "buckets": {"orgID", "name"},
    "dbrps": {"bucketID", "database", "retention_policy"},
    "tasks": {"flux"},
    "authorizations": {"orgID", "permissions"},
}
PATCHABLE = {
    "buckets": {"name", "description", "retentionRules"},
    "tasks": {"status", "flux", "name", "every", "cron", "offset", "description"},
}


class Influx2:
    """Listens on a free loopback port; ``things`` by kind and id, ``changes`` what was not a GET, as (method, path)."""

    def __init__(self, org: str = "riverchief") -> None:
        self._ids = count(1)
        self.org_id = self._id()
        self.things: dict[str, dict[str, dict[str, Any]]] = {
            "orgs": {self.org_id: {"id": self.org_id, "name": org}},
            "buckets": {},
            "dbrps": {},
            "tasks": {},
            "authorizations": {},
        }
        self.changes: list[tuple[str, str]] = []
        self.queries: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def named(self, kind: str) -> dict[str, dict[str, Any]]:
        """The things of a kind by name."""
        return {one["name"]: one for one in self.things[kind].values()}

    def _id(self) -> str:
        return f"{next(self._ids):016x}"

    def answer(self, method: str, url: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        path = urlsplit(url).path
        query = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        if method != "GET":
            self.changes.append((method, path))
        if (method, path) == ("POST", "/api/v2/query"):
            self.queries.append(json.loads(body)["query"])
            return 200, None
        found = re.fullmatch(r"/api/v2/(orgs|buckets|dbrps|tasks|authorizations)(?:/(\w+))?", path)
        if found is None:
            return _error(404, "not found", f"path {path} not found")
        kind, id_ = found.groups()
        if id_ is None and method == "GET":
            return self._list(kind, query)
        if id_ is None and method == "POST" and kind in ALLOWED:
            return self._post(kind, json.loads(body))
        if id_ not in self.things[kind]:
            return _error(404, "not found", f"{kind} {id_} not found")
        if method == "DELETE" and kind in {"dbrps", "tasks"}:
            del self.things[kind][id_]
            return 204, None
        if method == "PATCH" and kind in PATCHABLE:
            change = json.loads(body)
            if set(change) - PATCHABLE[kind]:
                return _error(400, "invalid", f"unknown members {set(change) - PATCHABLE[kind]}")
            self.things[kind][id_] |= change
            return 200, self.things[kind][id_]
        return _error(405, "method not allowed", f"{method} {path}")

    def _list(self, kind: str, query: dict[str, str]) -> tuple[int, Any]:
        things = sorted(self.things[kind].values(), key=lambda one: one["id"])
        if kind == "orgs" and "org" in query and query["org"] not in {one["name"] for one in things}:
            return _error(404, "not found", f'organization name "{query["org"]}" not found')
        if "orgID" in query and query["orgID"] != self.org_id:
            return _error(404, "not found", "organization not found")
        for member, asked in (("name", "name"), ("database", "db"), ("name", "org")):
            if asked in query and (asked != "org" or kind == "orgs"):
                things = [one for one in things if one.get(member) == query[asked]]
        if "after" in query:
            things = [one for one in things if one["id"] > query["after"]]
        limit = int(query.get("limit", 20 if kind == "buckets" else 100))
        if not 1 <= limit <= (100 if kind == "buckets" else 500):
            return _error(422, "unprocessable entity", "limit")
        links = {"self": f"/api/v2/{kind}"}
        if len(things) > limit:
            links["next"] = f"/api/v2/{kind}?after={things[limit - 1]['id']}&limit={limit}"
        return 200, {"links": links, ("content" if kind == "dbrps" else kind): things[:limit]}

    def _post(self, kind: str, body: dict[str, Any]) -> tuple[int, Any]:
        if set(body) - ALLOWED[kind] or not NEEDED[kind] <= set(body):
            return _error(400, "invalid", f"members {sorted(body)}")
        made = {"id": self._id(), **body}
        if kind == "tasks":
            name = re.search(r'option task = \{name: "([^"]+)", every: (\w+)', body["flux"])
            if name is None:
                return _error(400, "invalid", "missing required option: task")
            made["name"], made["every"] = name.groups()
        if kind == "authorizations":
            made["token"] = f"token-{made['id']}"
        if kind == "buckets" and body["name"] in self.named("buckets"):
            return _error(422, "conflict", f"bucket with name {body['name']} already exists")
        if kind == "dbrps" and body["bucketID"] not in self.things["buckets"]:
            return _error(400, "invalid", "no such bucket")
        self.things[kind][made["id"]] = made
        return 201, made


def _error(status: int, code: str, message: str) -> tuple[int, Any]:
    return status, {"code": code, "message": message}


def _handler(fake: Influx2) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Token {TOKEN}":
                status, answer = _error(401, "unauthorized", f"unauthorized access by {self.headers['Authorization']}")
            else:
                status, answer = fake.answer(self.command, self.path, body)
            content = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any

    return Handler
