"""Every version of a rule that was ever in force, so that an old incident can show what raised it."""

from dataclasses import dataclass

import sqlalchemy as sa

from ingest.checks import explain
from ingest.checks.rules import Rules
from ingest.storage.tables import rule_version as table
from sensors.errors import NotFound
from sensors.parameters import Catalogue
from sensors.texts import Text


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


def keep(connection: sa.Connection, rules: Rules, catalogue: Catalogue, now_ms: int) -> None:
    """These rules are in force from now on; those that were and are not any more end now."""
    known = {(row.rule, row.version): row.until_ms for row in connection.execute(sa.select(table))}
    current = {(rule.id, rule.version): rule for rule in rules}
    for key, until_ms in known.items():
        mine = (table.c.rule == key[0]) & (table.c.version == key[1])
        if key in current and until_ms is not None:
            connection.execute(sa.update(table).where(mine).values(since_ms=now_ms, until_ms=None))
        elif key not in current and until_ms is None:
            connection.execute(sa.update(table).where(mine).values(until_ms=now_ms))
    new = []
    for key, rule in current.items():
        if key not in known:
            text = explain.sentence(rule, catalogue)
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


def in_force(connection: sa.Connection) -> list[Version]:
    """The rules in force, by id."""
    query = sa.select(table).where(table.c.until_ms.is_(None)).order_by(table.c.rule)
    return [_version(row) for row in connection.execute(query)]


def versions(connection: sa.Connection, rule: str) -> list[Version]:
    """All versions of a rule, the one in force first, then the last that was; raises NotFound."""
    query = sa.select(table).where(table.c.rule == rule)
    found = [_version(row) for row in connection.execute(query)]
    if not found:
        raise NotFound(f"no rule {rule[:80]!r} was ever in force")
    return sorted(found, key=lambda one: (one.until_ms is not None, -(one.until_ms or 0), one.version))


def version(connection: sa.Connection, rule: str, version: str) -> Version:
    """One version of a rule; raises NotFound."""
    found = {one.version: one for one in versions(connection, rule)}
    if version not in found:
        raise NotFound(f"rule {rule[:80]} has no version {version[:16]!r}; it has {', '.join(found)}")
    return found[version]


def _version(row: sa.Row[tuple[object, ...]]) -> Version:
    v = row._mapping
    said = Text(v["text_zh"], v["text_en"])
    return Version(v["rule"], v["version"], v["kind"], v["colour"], v["body"], said, v["since_ms"], v["until_ms"])
