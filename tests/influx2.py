"""An InfluxDB 2.7 stand-in, for machines without that server: buckets, mappings, tokens, tasks, writes, InfluxQL.

It answers every call of ``tests/data/influxdb-2.7-exchanges.jsonl`` as the real 2.7.12 did
(``tests/contract/test_influx2.py``): status, headers and text. Where the recording is silent, it follows the published
contract: members a request must and may have, and 401 ``… is unauthorized`` for a token without the right. Of InfluxQL
it knows the statements that this project sends to 2.x while writing, and those of the recording.
"""

import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from infra.times import rfc3339
from ingest.storage.lineprotocol import FieldValue, Point, parse

TOKEN = "admin-token-of-the-tests"
VERSION = "v2.7.12"
DAY_S = 86_400

RIGHTS = (
    "authorizations buckets dashboards orgs sources tasks telegrafs users variables scrapers secrets labels views "
    "documents notificationRules notificationEndpoints checks dbrp notebooks annotations remotes replications"
)
"""What the operator's token may read and write."""

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
RESOURCES = {"dbrps": "dbrp"}
"""The type of a right, where it is not called like the path."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, text, and the headers that the server itself makes."""

    status: int
    text: str = ""
    content_type: str = "application/json; charset=utf-8"
    code: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    accept: str
    rights: Sequence[Mapping[str, Any]] | None
    """The permissions of the token; None where the server does not know it."""

    def may(self, action: str, kind: str, id_: str | None = None) -> bool:
        return any(
            one["action"] == action and one["resource"]["type"] == kind and one["resource"].get("id") in (None, id_)
            for one in self.rights or ()
        )


@dataclass(slots=True)
class Bucket:
    """What was written to a bucket: series (measurement, tags) → time in ms → fields."""

    series: dict[tuple[str, tuple[tuple[str, str], ...]], dict[int, dict[str, FieldValue]]] = field(
        default_factory=dict
    )
    types: dict[tuple[str, str], str] = field(default_factory=dict)


class Influx2:
    """Listens on a free loopback port.

    ``things`` by kind and id; ``points`` by the name of a bucket; ``changes`` holds (method, path) of each request of
    the management that was not a GET. ``token`` is the operator's; ``clock_ns`` is the server's clock.
    """

    def __init__(
        self,
        org: str = "riverchief",
        buckets: Sequence[str] = (),
        token: str = TOKEN,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._ids = count(0xB88B7BB6B71C0001)
        self._clock_ns = clock_ns
        self.org_id = self._id()
        self.user_id = self._id()
        self.org = org
        self._operator = token
        self.things: dict[str, dict[str, dict[str, Any]]] = {
            "orgs": {self.org_id: {"id": self.org_id, "name": org, "description": "", **self._times()}},
            "buckets": {},
            "dbrps": {},
            "tasks": {},
            "authorizations": {},
        }
        self._points: dict[str, Bucket] = {}
        self.changes: list[tuple[str, str]] = []
        for name, days, what in (("_monitoring", 7, "monitoring"), ("_tasks", 3, "task")):
            rules = [{"type": "expire", "everySeconds": days * DAY_S, "shardGroupDurationSeconds": DAY_S}]
            described = {"type": "system", "description": f"System bucket for {what} logs"}
            self._keep("buckets", {"orgID": self.org_id, **described, "name": name, "retentionRules": rules})
        for name in buckets:
            self._add_bucket({"orgID": self.org_id, "name": name})
        all_ = [
            {"action": action, "resource": {"type": kind}} for kind in RIGHTS.split() for action in ("read", "write")
        ]
        self._add_token({"description": "admin's Token", "permissions": all_}, token)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # -- for the tests -----------------------------------------------------------------------------------------------

    def named(self, kind: str) -> dict[str, dict[str, Any]]:
        """The things of a kind by name, but for the server's own."""
        return {one["name"]: one for one in self.things[kind].values() if one.get("type") != "system"}

    def tokens(self) -> dict[str, dict[str, Any]]:
        """The tokens that were made, by description."""
        return {
            one["description"]: one for one in self.things["authorizations"].values() if one["token"] != self._operator
        }

    def points(self, bucket: str) -> dict[tuple[str, str, int], dict[str, FieldValue]]:
        """What a bucket holds: (measurement, station, time in ms) → fields."""
        held = self._points[self.named("buckets")[bucket]["id"]]
        return {
            (measurement, dict(tags).get("station", ""), at): fields
            for (measurement, tags), rows in held.series.items()
            for at, fields in rows.items()
        }

    def drop(self, bucket: str) -> None:
        """Delete a bucket with its mappings, as its administrator would."""
        self._remove("buckets", self.named("buckets")[bucket]["id"])

    # -- answering ---------------------------------------------------------------------------------------------------

    def answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer to a request."""
        path = urlsplit(url).path
        query = {key: values[-1] for key, values in parse_qs(urlsplit(url).query, keep_blank_values=True).items()}
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        token = headers.get("Authorization", "").removeprefix("Token ")
        rights = next(
            (
                one["permissions"]
                for one in self.things["authorizations"].values()
                if one["token"] == token and one["status"] == "active"
            ),
            None,
        )
        request = Request(method, path, query, body, headers.get("Accept", ""), rights)
        with self._lock:
            return self._open(request) or self._signed_in(request)

    def _open(self, request: Request) -> Answer | None:
        """What needs no token."""
        match request.method, request.path:
            case "GET", "/ping":
                return Answer(204, content_type="")
            case "GET", "/health":
                members = {"name": "influxdb", "message": "ready for queries and writes", "status": "pass"}
                shown = ", ".join(f'"{key}":"{value}"' for key, value in members.items())
                return Answer(200, f'{{{shown}, "checks":[], "version": "{VERSION}", "commit": "ec9dcde5d6"}}\n')
            case "GET", "/ready":
                up = {"status": "ready", "started": self._now(), "up": "898.062921ms"}
                return Answer(200, json.dumps(up, indent=4) + "\n")
            case "GET", "/api/v2/setup":
                return _pretty(200, {"allowed": False})
            case "POST", "/api/v2/setup":
                return _refusal(422, "conflict", "onboarding has already been completed")
        return None

    def _signed_in(self, request: Request) -> Answer:  # noqa: PLR0911  (a route of the stand-in each)
        if request.rights is None:
            message = "Unauthorized" if request.path == "/query" else "unauthorized access"
            return _refusal(401, "unauthorized", message, pretty=False)
        if request.path in {"/api/v2/write", "/write"} and request.method == "POST":
            return self._write(request)
        if request.path == "/query":
            return self._influxql(request)
        if request.path == "/api/v2/delete":
            return self._delete(request)
        if request.method != "GET":
            self.changes.append((request.method, request.path))
        found = re.fullmatch(r"/api/v2/(orgs|buckets|dbrps|tasks|authorizations)(?:/(\w+)(/runs)?)?", request.path)
        if found is None:
            return _refusal(404, "not found", f"path {request.path} not found")
        kind, id_, runs = found.groups()
        if id_ is None:
            return self._list(kind, request) if request.method == "GET" else self._post(kind, request)
        if id_ not in self.things[kind]:
            return _refusal(404, "not found", f"{kind} {id_} not found")
        if not request.may("write", RESOURCES.get(kind, kind), id_):
            return self._no_right("write", kind)
        thing = self.things[kind][id_]
        if runs:
            assert (kind, thing["status"]) == ("tasks", "inactive"), "running tasks is not modelled"
            return _refusal(400, "invalid", "failed to force run: inactive task", pretty=False)
        if request.method == "DELETE":
            self._remove(kind, id_)
            return Answer(204, content_type="")
        return self._patch(kind, thing, json.loads(request.body))

    def _no_right(self, action: str, kind: str) -> Answer:
        right = f"{action}:orgs/{self.org_id}/{RESOURCES.get(kind, kind)}"
        return _refusal(401, "unauthorized", f"{right} is unauthorized")

    # -- management --------------------------------------------------------------------------------------------------

    def _list(self, kind: str, request: Request) -> Answer:
        asked, right = request.query, RESOURCES.get(kind, kind)
        things = [one for one in self.things[kind].values() if request.may("read", right, one["id"])]
        if "orgID" in asked and asked["orgID"] != self.org_id:
            return _refusal(404, "not found", "organization not found")
        if kind == "orgs":
            if "org" in asked and asked["org"] != self.org:
                return _refusal(404, "not found", f'organization name "{asked["org"]}" not found')
            return _pretty(200, {"links": {"self": "/api/v2/orgs"}, "orgs": [self._shown(kind, one) for one in things]})
        if kind == "dbrps":
            if not request.may("read", right):
                things = []
            found = [*things, *self._virtual()] if request.may("read", right) else []
            return _pretty(200, {"content": [one for one in found if asked.get("db") in (None, one["database"])]})
        limit = int(asked.get("limit", 20 if kind == "buckets" else 100))
        if not 1 <= limit <= (100 if kind == "buckets" else 500):
            return _refusal(422, "unprocessable entity", "limit")
        if "name" in asked:
            things = [one for one in things if one["name"] == asked["name"]]
        if kind == "buckets":
            if "name" in asked and "orgID" in asked and not things:
                return _refusal(404, "not found", f'bucket "{asked["name"]}" not found')
            things.sort(key=lambda one: str(one["name"]))
            shown = {"descending": "false", "limit": limit, "offset": 0}
            shown |= {"bucket": asked["name"]} if "name" in asked else {}
        else:
            things = sorted((one for one in things if one["id"] > asked.get("after", "")), key=lambda one: one["id"])
            shown = {"limit": limit}
        shown |= {"orgID": asked["orgID"]} if "orgID" in asked else {}
        links = {
            "self": f"/api/v2/{kind}" + ("" if kind == "authorizations" else f"?{urlencode(sorted(shown.items()))}")
        }
        if kind == "tasks" and len(things) > limit:
            links["next"] = f"/api/v2/tasks?after={things[limit - 1]['id']}&limit={limit}"
        document = {"links": links, kind: [self._shown(kind, one) for one in things[:limit]]}
        return _compact(200, document) if kind == "tasks" else _pretty(200, document)

    def _post(self, kind: str, request: Request) -> Answer:
        body = json.loads(request.body)
        if kind not in ALLOWED or set(body) - ALLOWED[kind] or not NEEDED[kind] <= set(body):
            return _refusal(400, "invalid", f"members {sorted(body)}")
        if not request.may("write", RESOURCES.get(kind, kind)):
            return self._no_right("write", kind)
        if kind == "buckets":
            if body["name"] in self.named("buckets"):
                return _refusal(422, "conflict", f"bucket with name {body['name']} already exists")
            return _pretty(201, self._shown(kind, self._add_bucket(body)))
        if kind == "dbrps":
            return self._add_mapping(body)
        if kind == "authorizations":
            return _pretty(201, self._shown(kind, self._add_token(body, f"token-{next(self._ids):x}==")))
        return self._add_task(body)

    def _patch(self, kind: str, thing: dict[str, Any], change: dict[str, Any]) -> Answer:
        if kind not in PATCHABLE or set(change) - PATCHABLE[kind]:
            return _refusal(400, "invalid", f"unknown members of {kind}: {sorted(change)}")
        if kind == "buckets":
            (held,) = thing["retentionRules"]
            change |= {"retentionRules": [held | rule for rule in change.get("retentionRules", [{}])]}
            (rule,) = change["retentionRules"]
            if 0 < rule["everySeconds"] < rule["shardGroupDurationSeconds"]:
                message = "shard-group duration must also be updated to be smaller than new retention duration"
                return _refusal(422, "unprocessable entity", message)
        now = self._now() if kind == "buckets" else self._now_s()
        thing |= {**change, "updatedAt": now}
        return (_compact if kind == "tasks" else _pretty)(200, self._shown(kind, thing))

    def _add_bucket(self, body: Mapping[str, Any]) -> dict[str, Any]:
        (asked,) = body.get("retentionRules") or [{}]
        every = asked.get("everySeconds", 0)
        shard = asked.get("shardGroupDurationSeconds") or _shard_group_s(every)
        rule = {"type": "expire", "everySeconds": every, "shardGroupDurationSeconds": shard}
        described = {"description": body["description"]} if body.get("description") else {}
        return self._keep(
            "buckets",
            {"orgID": body["orgID"], "type": "user", **described, "name": body["name"], "retentionRules": [rule]},
        )

    def _add_mapping(self, body: Mapping[str, Any]) -> Answer:
        if body["bucketID"] not in self.things["buckets"]:
            return _refusal(400, "invalid", "no such bucket")
        key = ("database", "retention_policy")
        if any(all(one[name] == body[name] for name in key) for one in self.things["dbrps"].values()):
            return _refusal(422, "conflict", "another DBRP mapping with same orgID, db, and rp exists")
        made = {name: body[name] for name in key} | {"default": body.get("default", False), "virtual": False}
        made |= {"orgID": self.org_id, "bucketID": body["bucketID"]}
        id_ = self._id()
        self.things["dbrps"][id_] = {"id": id_, **made}
        return _pretty(201, self.things["dbrps"][id_])

    def _add_token(self, body: Mapping[str, Any], token: str) -> dict[str, Any]:
        described = {"token": token, "status": "active", "description": body.get("description", "")}
        permissions = [
            {"action": one["action"], "resource": self._named_resource(one["resource"])} for one in body["permissions"]
        ]
        return self._keep("authorizations", {**described, "permissions": permissions})

    def _named_resource(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        shown = {name: resource[name] for name in ("type", "id", "orgID") if resource.get(name)}
        if "id" in shown:
            shown["name"] = self.things[shown["type"]][shown["id"]]["name"]
        return {**shown, "org": self.org} if "orgID" in shown else shown

    def _add_task(self, body: Mapping[str, Any]) -> Answer:
        options = re.search(r'option task = \{name: "([^"]+)", every: (\w+)(?:, offset: (\w+))?', body["flux"])
        if options is None:
            return _refusal(400, "invalid", "missing required option: task", pretty=False)
        name, every, offset = options.groups()
        made = {"id": self._id(), "orgID": self.org_id, "org": self.org, "ownerID": self.user_id, "name": name}
        made |= {"status": body.get("status", "active"), "flux": body["flux"], "every": every}
        made |= {"offset": offset} if offset else {}
        made |= {"latestCompleted": self._now_s(), "createdAt": self._now_s()}
        self.things["tasks"][made["id"]] = made
        return _compact(201, self._shown("tasks", made))

    def _keep(self, kind: str, thing: Mapping[str, Any]) -> dict[str, Any]:
        made = {"id": self._id(), **thing, **self._times()}
        self.things[kind][made["id"]] = made
        if kind == "buckets":
            self._points[made["id"]] = Bucket()
        return made

    def _remove(self, kind: str, id_: str) -> None:
        del self.things[kind][id_]
        if kind == "buckets":
            mapped = [key for key, one in self.things["dbrps"].items() if one["bucketID"] == id_]
            for key in mapped:
                del self.things["dbrps"][key]

    def _shown(self, kind: str, one: Mapping[str, Any]) -> dict[str, Any]:
        """A thing as the server shows it: with links, in the server's order."""
        at = f"/api/v2/{kind}/{one['id']}"
        if kind == "orgs":
            below = {name: f"{at}/{name}" for name in ("labels", "logs", "members", "owners", "secrets")}
            of = {name: f"/api/v2/{name}?org={one['name']}" for name in ("buckets", "dashboards", "tasks")}
            return {"links": dict(sorted((below | of | {"self": at}).items())), **one}
        if kind == "tasks":
            below = {name: f"{at}/{name}" for name in ("labels", "logs", "members", "owners", "runs")}
            return {"links": {**below, "self": at}, "labels": [], **one}
        if kind == "authorizations":
            owner = {"orgID": self.org_id, "org": self.org, "userID": self.user_id, "user": "admin"}
            links = {"self": at, "user": f"/api/v2/users/{self.user_id}"}
            head = {name: one[name] for name in ("id", "token", "status", "description")}
            times = {name: one[name] for name in ("createdAt", "updatedAt")}
            return {**head, **owner, "permissions": one["permissions"], "links": links, **times}
        links = {name: f"{at}/{name}" for name in ("labels", "members", "owners")} | {"self": at}
        links |= {"org": f"/api/v2/orgs/{self.org_id}", "write": f"/api/v2/write?org={self.org_id}&bucket={one['id']}"}
        return {**one, "links": dict(sorted(links.items())), "labels": []}

    def _virtual(self) -> Iterator[dict[str, Any]]:
        """The mapping every bucket has by its name, where none was made."""
        made = {(one["database"], one["retention_policy"]) for one in self.things["dbrps"].values()}
        for bucket in sorted(self.things["buckets"].values(), key=lambda one: str(one["name"])):
            if (bucket["name"], "autogen") not in made:
                yield {
                    "id": bucket["id"],
                    "database": bucket["name"],
                    "retention_policy": "autogen",
                    "default": True,
                    "virtual": True,
                    "orgID": self.org_id,
                    "bucketID": bucket["id"],
                }

    def _id(self) -> str:
        return f"{next(self._ids):016x}"

    def _times(self) -> dict[str, str]:
        return {"createdAt": self._now(), "updatedAt": self._now()}

    def _now(self) -> str:
        return _instant(self._clock_ns())

    def _now_s(self) -> str:
        return rfc3339(self._clock_ns() // 10**9 * 1000)

    # -- points ------------------------------------------------------------------------------------------------------

    def _write(self, request: Request) -> Answer:
        asked = request.query
        if asked.get("org", self.org) != self.org:
            return _refusal(404, "not found", f'organization name "{asked["org"]}" not found', pretty=False)
        name = asked.get("bucket") or asked.get("db", "")
        bucket = next((one for one in self.things["buckets"].values() if one["name"] == name), None)
        if bucket is None:
            return _refusal(404, "not found", f'bucket "{name}" not found', pretty=False)
        if not request.may("write", "buckets", bucket["id"]):
            return _refusal(403, "forbidden", "insufficient permissions for write", pretty=False)
        points, faults = [], []
        for line in filter(None, request.body.split(b"\n")):
            try:
                points.append(parse(line))
            except ValueError as error:
                faults.append(f"unable to parse '{line.decode('utf-8', 'replace')}': {_parse_fault(line, error)}")
        if faults:
            return _refusal(400, "invalid", "\n".join(faults), pretty=False)
        fault = self._store(bucket, points)
        if fault is None:
            return Answer(204, content_type="")
        message = f"failure writing points to database: partial write: {fault}"
        return _refusal(422, "unprocessable entity", message, pretty=False)

    def _store(self, bucket: Mapping[str, Any], points: Sequence[Point]) -> str | None:
        """Keep what can be kept; what is said of the rest."""
        held = self._points[bucket["id"]]
        (rule,) = bucket["retentionRules"]
        edge_ns = self._clock_ns() - rule["everySeconds"] * 10**9 if rule["everySeconds"] else -(2**63)
        conflict, old = [], []
        for point in points:
            at = self._clock_ns() // 10**6 if point.at is None else point.at
            if at * 10**6 < edge_ns:
                old.append(f"{point.measurement} at {rfc3339(at)}")
                continue
            types = {key: (point.measurement, key, _type(value)) for key, value in point.fields.items()}
            wrong = [one for one in types.values() if held.types.setdefault(one[:2], one[2]) != one[2]]
            if wrong:
                measurement, key, type_ = wrong[0]
                conflict.append(
                    f'input field "{key}" on measurement "{measurement}" is type {type_}, '
                    f"already exists as type {held.types[measurement, key]}"
                )
                continue
            series = held.series.setdefault((point.measurement, tuple(sorted(point.tags.items()))), {})
            series.setdefault(at, {}).update(point.fields)
        if old:
            bound = f"dropped because it violates a Retention Policy Lower Bound at {_instant(edge_ns)}"
            return (
                f"dropped {len(old)} points outside retention policy of duration {rule['everySeconds'] // 3600}h0m0s - "
                f"oldest point {min(old)} {bound}, newest point {max(old)} {bound} dropped={len(old)} "
                f"for database: {bucket['id']} for retention policy: autogen"
            )
        return f"field type conflict: {conflict[0]} dropped={len(conflict)}" if conflict else None

    def _delete(self, request: Request) -> Answer:
        bucket = self.named("buckets")[request.query["bucket"]]
        found = re.fullmatch(r'(\w+)="(.*)"', json.loads(request.body)["predicate"])
        assert found is not None, "only tag=value is modelled, over all times"
        held = self._points[bucket["id"]]
        for measurement, tags in [key for key in held.series if found.groups() in key[1]]:
            del held.series[measurement, tags]
        return Answer(204, content_type="")

    # -- InfluxQL ----------------------------------------------------------------------------------------------------

    def _influxql(self, request: Request) -> Answer:
        form = {key: values[-1] for key, values in parse_qs(request.body.decode()).items()}
        asked = {**request.query, **form}
        if asked.get("org", self.org) != self.org:
            return _refusal(404, "not found", f'organization name "{asked["org"]}" not found', pretty=False)
        results = []
        for number, statement in enumerate(asked["q"].split("; ")):
            word = statement.split()[0]
            known = ("SELECT", "DELETE", "SHOW", "CREATE", "DROP", "EXPLAIN", "GRANT", "REVOKE", "ALTER", "SET", "KILL")
            if word not in known:
                message = f"found {word}, expected {', '.join(known)} at line 1, char 1"
                return _refusal(400, "invalid", f"failed to parse query: {message}", pretty=False)
            results.append({"statement_id": number, **self._result(request, asked.get("db", ""), statement)})
        if request.accept == "application/csv":
            return Answer(200, "".join(_csv(one["series"]) for one in results), "application/csv")
        return Answer(200, json.dumps({"results": results}, separators=(",", ":")) + "\n", "application/json")

    def _result(self, request: Request, database: str, statement: str) -> dict[str, Any]:
        """A statement's answer: its series, or its error."""
        if statement.startswith("CREATE DATABASE"):
            return {"error": "not implemented: CREATE DATABASE"}
        found = re.search(r' FROM (?:"?(\w+)"?\.)?"?(\w+)"?', statement)
        policy, measurement = found.groups() if found else (None, None)
        bucket = self._mapped(request, database, policy)
        if bucket is None:
            return {"error": f"database not found: {database}"}
        if statement.startswith("SHOW FIELD KEYS"):
            keys: dict[str, list[list[str]]] = {}
            for (name, key), type_ in sorted(bucket.types.items()):
                if measurement in (None, name):
                    keys.setdefault(name, []).append([key, type_])
            series = [{"name": n, "columns": ["fieldKey", "fieldType"], "values": v} for n, v in keys.items()]
        else:
            assert measurement is not None, statement
            series = list(_Select(statement, self._clock_ns() // 10**6).series(measurement, bucket))
        return {"series": series} if series else {}

    def _mapped(self, request: Request, database: str, policy: str | None) -> Bucket | None:
        """The bucket that InfluxQL means, if the token may read it."""
        for one in (*self.things["dbrps"].values(), *self._virtual()):
            if one["database"] == database and (
                one["default"] if policy is None else one["retention_policy"] == policy
            ):
                return self._points[one["bucketID"]] if request.may("read", "buckets", one["bucketID"]) else None
        return None


_Row = tuple[int, dict[str, Any]]
"""A time in ms, and the fields and tags there."""


class _Select:
    """``SELECT`` of fields, of ``*``, or of functions by ``time(1h)``; conditions joined by AND."""

    def __init__(self, statement: str, now_ms: int) -> None:
        self._now_ms = now_ms
        found = re.fullmatch(r"SELECT (.+?) FROM \S+(?: WHERE (.+?))?(?: GROUP BY (.+?))?(?: fill\(none\))?", statement)
        assert found is not None, statement
        chosen, where, by = found.groups()
        self._chosen = [re.sub(r'["\s]', "", one) for one in chosen.split(",")]
        self._conditions = [
            re.fullmatch(r'"?(\w+)"? ?(>=|<=|<|>|=) ?(.+)', one) for one in (where or "").split(" AND ") if one
        ]
        self._by = [one.strip(' "') for one in (by or "").split(",") if one]

    def series(self, measurement: str, bucket: Bucket) -> Iterator[dict[str, Any]]:
        groups: dict[tuple[tuple[str, str], ...], list[list[_Row]]] = {}
        tags_there = sorted({key for (name, tags) in bucket.series for key, _ in tags if name == measurement})
        by = tags_there if self._by == ["*"] else [one for one in self._by if not one.startswith("time(")]
        for (name, tags), rows in sorted(bucket.series.items(), key=lambda one: one[0]):
            if name == measurement and all(self._holds(one, tags=dict(tags)) for one in self._conditions):
                group = tuple((key, dict(tags).get(key, "")) for key in sorted(by))
                kept = [(at, fields | dict(tags)) for at, fields in sorted(rows.items()) if self._at(at)]
                groups.setdefault(group, []).append(kept)
        fields = sorted({key for (name, key) in bucket.types if name == measurement})
        for group, found in sorted(groups.items()):
            columns, values = self._values(list(_merged(found)), fields, tags_there)
            if values:
                shown = {"tags": dict(group)} if group else {}
                yield {"name": measurement, **shown, "columns": ["time", *columns], "values": values}

    def _values(
        self, rows: Sequence[_Row], fields: Sequence[str], tags: Sequence[str]
    ) -> tuple[list[str], list[list[Any]]]:
        if "(" not in self._chosen[0]:
            columns = sorted([*fields, *tags]) if self._chosen == ["*"] else self._chosen
            asked = [key for key in columns if key in fields]
            return columns, [
                [at, *(row.get(key) for key in columns)] for at, row in rows if any(key in row for key in asked)
            ]
        functions = {"mean": lambda v: sum(v) / len(v), "min": min, "max": max, "count": len}
        calls = [re.fullmatch(r"(\w+)\((\w+)\)", one) for one in self._chosen]
        hours: dict[int, list[dict[str, Any]]] = {}
        for at, row in rows:
            hours.setdefault(at - at % 3_600_000, []).append(row)
        values = []
        for at, inside in sorted(hours.items()):
            cells = [(call[1], [row[call[2]] for row in inside if call[2] in row]) for call in calls if call]
            if any(held for _, held in cells):
                values.append([at, *(functions[name](held) for name, held in cells)])
        return [call[1] for call in calls if call], values

    def _at(self, at_ms: int) -> bool:
        return all(self._holds(one, at_ms=at_ms) for one in self._conditions)

    def _holds(
        self, condition: re.Match[str] | None, *, tags: Mapping[str, str] | None = None, at_ms: int | None = None
    ) -> bool:
        assert condition is not None, "this condition is not modelled"
        name, sign, value = condition.groups()
        if name == "time":
            if at_ms is None:
                return True
            bound = self._now_ms - 3_600_000 if value == "now()-1h" else int(value.removesuffix("ms"))
            return {">=": at_ms >= bound, "<=": at_ms <= bound, ">": at_ms > bound, "<": at_ms < bound}[sign]
        return tags is None or tags.get(name, "") == value.strip("'")


def _merged(series: Sequence[Sequence[_Row]]) -> Iterator[_Row]:
    """Rows of several series by time; among equal times in the order of Go's ``container/heap``, as the server's."""
    heap = [list(rows) for rows in series if rows]

    def sift(place: int) -> None:
        while (child := 2 * place + 1) < len(heap):
            if child + 1 < len(heap) and heap[child + 1][0][0] < heap[child][0][0]:
                child += 1
            if heap[child][0][0] >= heap[place][0][0]:
                return
            heap[place], heap[child] = heap[child], heap[place]
            place = child

    for place in reversed(range(len(heap) // 2)):
        sift(place)
    while heap:
        yield heap[0].pop(0)
        if not heap[0]:
            heap[0] = heap[-1]
            heap.pop()
        sift(0)


def _csv(series: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for one in series:
        tags = ",".join(f"{key}={value}" for key, value in one.get("tags", {}).items())
        rows = [[one["name"], tags, *("" if cell is None else cell for cell in row)] for row in one["values"]]
        lines += [["name", "tags", *one["columns"]], *rows]
    return "".join(",".join(map(str, row)) + "\n" for row in lines)


def _parse_fault(line: bytes, error: ValueError) -> str:
    if "64-bit" in str(error) and "time" in str(error):
        return f'strconv.ParseInt: parsing "{line.split()[-1].decode()}": value out of range'
    return "invalid number" if "neither a number" in str(error) else "invalid field format"


def _type(value: FieldValue) -> str:
    return {bool: "boolean", int: "integer", float: "float", str: "string"}[type(value)]


def _instant(at_ns: int) -> str:
    """Nanoseconds as the server writes them."""
    whole = rfc3339(at_ns // 10**9 * 1000).removesuffix("Z").partition(".")[0]
    return f"{whole}.{at_ns % 10**9:09d}Z"


def _shard_group_s(every_s: int) -> int:
    """What the server takes where none is asked for."""
    return 3600 if 0 < every_s < 2 * DAY_S else DAY_S if 0 < every_s < 180 * DAY_S else 7 * DAY_S


# -- how the server writes -------------------------------------------------------------------------------------------


def _pretty(status: int, document: Any) -> Answer:
    return Answer(status, _escaped(json.dumps(document, indent="\t", ensure_ascii=False)))


def _compact(status: int, document: Any) -> Answer:
    return Answer(status, _escaped(json.dumps(document, separators=(",", ":"), ensure_ascii=False)) + "\n")


def _refusal(status: int, code: str, message: str, *, pretty: bool = True) -> Answer:
    form: dict[str, Any] = {"indent": "\t"} if pretty else {"separators": (",", ":")}
    return Answer(
        status, _escaped(json.dumps({"code": code, "message": message}, ensure_ascii=False, **form)), code=code
    )


def _escaped(text: str) -> str:
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _handler(fake: Influx2) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = fake.answer(self.command, self.path, dict(self.headers.items()), body)
            content = answer.text.encode()
            self.send_response(answer.status)
            if answer.content_type:
                self.send_header("Content-Type", answer.content_type)
            self.send_header("X-Influxdb-Build", "OSS")
            self.send_header("X-Influxdb-Version", VERSION)
            if answer.code:
                self.send_header("X-Platform-Error-Code", answer.code)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any

    return Handler
