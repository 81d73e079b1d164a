"""Compare the registry and the versions of rules with the audit trail.

Entries ``registry.<table>`` hold a row as it was left; entries ``rule.in_force`` and ``rule.ended`` the life of a
version. The tables belong to packages above this one and are known by their names.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.audit.merkle import AuditEntry
from governance.tables import audit as trail_

Row = Mapping[str, Any]

KEYS: Mapping[str, tuple[str, ...]] = {
    "station": ("key",),
    "deployment": ("station", "parameter", "since_ms"),
    "device": ("serial",),
    "reach": ("key",),
    "travel": ("upper", "lower"),
    "outfall": ("key",),
    "region": ("code",),
    "calibration": ("station", "parameter", "kind", "at_ms"),
    "visit": ("station", "since_ms"),
    "review": ("station", "parameter", "since_ms", "at_ms"),
    "mute": ("station", "since_ms"),
    "photo": ("station", "sha256"),
}
"""Tables of the registry, and the columns whose values name a row in the trail."""

Found = tuple[int, str, str, Row, Row | None]
"""Number of the entry (0: none), kind, id, the row as the trail has it ({}: it has none), the row that is there."""


def rows(connection: sa.Connection) -> Iterator[Found]:
    """Every row in the trail, and every row of the tables that is missing in the trail."""
    yield from _registry(connection)
    yield from _rules(connection)


def _registry(connection: sa.Connection) -> Iterator[Found]:
    tables = {kind: table for kind in KEYS if (table := trail_.metadata.tables.get(kind)) is not None}
    recorded: dict[tuple[str, str], tuple[int, Row]] = {}
    where = trail_.c.kind.in_(tables) & trail_.c.what.startswith("registry.")
    for line in audit_trail.select_entries(connection, where):
        recorded[line.kind, line.id] = (line.n, _body(line).get("after") or {})
    for kind, table in tables.items():
        stored = {
            "/".join(str(row[name]) for name in KEYS[kind]): dict(row)
            for row in connection.execute(sa.select(table)).mappings()
        }
        for (of, id), (n, row) in recorded.items():
            if of == kind and (row or id in stored):
                yield n, kind, id, row, stored.get(id)
        for id in stored.keys() - {id for of, id in recorded if of == kind}:
            yield 0, kind, id, {}, stored[id]


def _rules(connection: sa.Connection) -> Iterator[Found]:
    table = trail_.metadata.tables.get("rule_version")
    if table is None:
        return
    recorded: dict[tuple[str, str], tuple[int, Row]] = {}
    for line in audit_trail.select_entries(connection, trail_.c.what.in_(("rule.in_force", "rule.ended"))):
        body = _body(line)
        key = line.id, str(body.get("version"))
        if line.what == "rule.ended":
            recorded[key] = (line.n, {**recorded.get(key, (0, {}))[1], "until_ms": line.at_ms})
            continue
        text = body.get("text") or {}
        state = {"kind": body.get("kind"), "colour": body.get("colour"), "body": body.get("toml")}
        texts = {"text_zh": text.get("zh"), "text_en": text.get("en")}
        recorded[key] = (line.n, {**state, **texts, "since_ms": line.at_ms, "until_ms": None})
    stored = {(row["rule"], row["version"]): dict(row) for row in connection.execute(sa.select(table)).mappings()}
    for key in recorded.keys() | stored.keys():
        n, row = recorded.get(key, (0, {}))
        yield n, "rule", "/".join(key), row, stored.get(key)


def _body(line: AuditEntry) -> Mapping[str, Any]:
    """The body of an entry; {} for one that this program did not write."""
    try:
        found = json.loads(line.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
