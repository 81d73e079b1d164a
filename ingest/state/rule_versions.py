"""All versions of rules that were ever in force, so that an old incident can show its rule."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from infra.errors import NotFound
from infra.texts import Text, say
from ingest.rules import explain
from ingest.rules.model import Rules
from ingest.storage.tables import rule_version as table
from sensors.parameters import Catalogue


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a rule: its TOML and its sentence; in force from ``since_ms`` until ``until_ms`` (None: still)."""

    rule: str
    version: str
    kind: str
    colour: str
    body: str
    text: Text
    since_ms: int
    until_ms: int | None


def record_versions(connection: sa.Connection, rules: Rules, catalogue: Catalogue, now_ms: int) -> None:
    """Record that these rules are in force from now on and others end, each with an entry in the audit trail."""
    entries: list[audit_trail.NewEntry] = []
    until_by_version = {(row.rule, row.version): row.until_ms for row in connection.execute(sa.select(table))}
    current = {(rule.id, rule.version): rule for rule in rules}
    for key, until_ms in until_by_version.items():
        where = (table.c.rule == key[0]) & (table.c.version == key[1])
        if key in current and until_ms is not None:
            connection.execute(sa.update(table).where(where).values(since_ms=now_ms, until_ms=None))
            entries.append(_entry("in_force", current[key], catalogue, now_ms))
        elif key not in current and until_ms is None:
            connection.execute(sa.update(table).where(where).values(until_ms=now_ms))
            body = {"version": key[1]}
            entries.append(audit_trail.NewEntry("rule.ended", "rule", key[0], body, "riverchief", now_ms))
    new = []
    for key, rule in current.items():
        if key not in until_by_version:
            text = explain.sentence(rule, catalogue)
            entries.append(_entry("in_force", rule, catalogue, now_ms))
            new.append(
                {
                    "rule": rule.id,
                    "version": rule.version,
                    "kind": rule.kind,
                    "colour": rule.colour.value,
                    "body": explain.toml(rule),
                    "text_zh": text.zh,
                    "text_en": text.en,
                    "since_ms": now_ms,
                }
            )
    if new:
        connection.execute(sa.insert(table), new)
    audit_trail.append_many(connection, entries)


def _entry(what: str, rule: Any, catalogue: Catalogue, now_ms: int) -> audit_trail.NewEntry:
    """The audit entry of a version of a rule."""
    body = {
        "version": rule.version,
        "kind": rule.kind,
        "colour": rule.colour,
        "toml": explain.toml(rule),
        "text": explain.sentence(rule, catalogue),
    }
    return audit_trail.NewEntry(f"rule.{what}", "rule", rule.id, body, "riverchief", now_ms)


def in_force(connection: sa.Connection) -> list[Version]:
    """The rules in force, by id."""
    query = sa.select(table).where(table.c.until_ms.is_(None)).order_by(table.c.rule)
    return [_version(row) for row in connection.execute(query)]


def versions(connection: sa.Connection, rule: str) -> list[Version]:
    """All versions of a rule, the one in force first, then the last that was; raises NotFound."""
    query = sa.select(table).where(table.c.rule == rule)
    found = [_version(row) for row in connection.execute(query)]
    if not found:
        raise NotFound(say("rule.never_in_force", rule=rule[:80]))
    return sorted(found, key=lambda one: (one.until_ms is not None, -(one.until_ms or 0), one.version))


def version(connection: sa.Connection, rule: str, version: str) -> Version:
    """One version of a rule; raises NotFound."""
    found = {one.version: one for one in versions(connection, rule)}
    if version not in found:
        raise NotFound(say("rule.no_version", rule=rule[:80], version=version[:16], known=", ".join(found)))
    return found[version]


def _version(row: sa.Row[tuple[object, ...]]) -> Version:
    v = row._mapping
    text = Text(v["text_zh"], v["text_en"])
    return Version(v["rule"], v["version"], v["kind"], v["colour"], v["body"], text, v["since_ms"], v["until_ms"])
