"""Rules published from the browser: a whole set that one person proposed by a backtest and another put in force.

The file of the site stays the beginning: what was published holds until the file is changed, and then the file holds.
Whichever was done last is in force.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from infra.database import Database
from infra.errors import Refused
from infra.records import from_row
from infra.texts import say
from ingest.rules import model, rule_file
from ingest.rules.model import Rules
from ingest.state import rule_versions
from ingest.storage.tables import rule_publication as table
from ingest.storage.tables import rule_version
from sensors.parameters import Catalogue


@dataclass(frozen=True, slots=True)
class Publication:
    """A set of rules as TOML; ``file`` is the fingerprint of the file it goes before, "" until an ingest took it."""

    id: int
    at_ms: int
    by: str
    proposed_by: str
    backtest: int
    reason: str
    rules: str
    file: str


@dataclass(frozen=True, slots=True)
class Tried:
    """The backtest ``id`` that ``by`` asked for: whether it is done, and its rules as TOML."""

    id: int
    by: str
    created_at_ms: int
    is_done: bool
    rules: str


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who publishes, in which role, and why."""

    name: str
    role: str
    reason: str


def publish(connection: sa.Connection, tried: Tried, by: Publisher, catalogue: Catalogue, now_ms: int) -> Publication:
    """Publish the rules of a backtest; an entry of the trail for each rule that differs.

    Sent twice it is published once. Raises Refused without a backtest that is done, for the person who asked for it,
    without a reason, where the rules changed since it was asked for, and where nothing differs.
    """
    newest = latest(connection)
    if newest is not None and newest.backtest == tried.id:
        return newest
    if not tried.is_done:
        raise Refused(say("rules_page.not_tried", number=tried.id))
    _check_publisher(tried, by)
    v = rule_version.c
    changed = (v.since_ms > tried.created_at_ms) | (v.until_ms > tried.created_at_ms)
    moved = connection.execute(sa.select(v.rule).where(changed).limit(1)).first() is not None
    if moved or (newest is not None and newest.at_ms > tried.created_at_ms):
        raise Refused(say("rules_page.changed_since", number=tried.id))
    return _put_in_force(connection, tried, by, catalogue, now_ms)


def publish_tried(
    connection: sa.Connection, tried: Tried, by: Publisher, catalogue: Catalogue, now_ms: int
) -> Publication:
    """Publish rules that were on trial, over the rules in force now.

    Raises Refused for the person who proposed them, without a reason, and while the ingest has yet to take what was
    published before.
    """
    _check_publisher(tried, by)
    newest = latest(connection)
    if newest is not None and not newest.file:
        raise Refused(say("rules_page.not_taken"))
    return _put_in_force(connection, tried, by, catalogue, now_ms)


def _check_publisher(tried: Tried, by: Publisher) -> None:
    if tried.by == by.name:
        raise Refused(say("rules_page.same_person", name=by.name))
    if not by.reason.strip():
        raise Refused(say("rules_page.no_reason"))


def _put_in_force(
    connection: sa.Connection, tried: Tried, by: Publisher, catalogue: Catalogue, now_ms: int
) -> Publication:
    before = {one.rule: one for one in rule_versions.in_force(connection)}
    after = {rule.id: rule for rule in rule_file.read(tried.rules, catalogue)}
    ids = [
        id_
        for id_ in sorted(before.keys() | after.keys())
        if id_ not in before or id_ not in after or before[id_].version != after[id_].version
    ]
    if not ids:
        raise Refused(say("rules_page.unchanged"))
    made = Publication(0, now_ms, by.name, tried.by, tried.id, by.reason.strip(), tried.rules, "")
    values = {name: getattr(made, name) for name in (column.name for column in table.c) if name != "id"}
    number = int(connection.execute(sa.insert(table).values(values).returning(table.c.id)).scalar_one())
    entries = []
    for id_ in ids:
        versions = {
            "before": {"version": before[id_].version} if id_ in before else None,
            "after": {"version": after[id_].version if id_ in after else ""},
        }
        body = {"proposed_by": tried.by, "backtest": tried.id, "reason": made.reason, **versions}
        entries.append(audit_trail.NewEntry("rule.published", "rule", id_, body, by.name, now_ms, by.role))
    audit_trail.append_many(connection, entries)
    return from_row(Publication, connection.execute(sa.select(table).where(table.c.id == number)).one())


def latest(connection: sa.Connection) -> Publication | None:
    """What was published last; None where nothing ever was."""
    row = connection.execute(sa.select(table).order_by(table.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else from_row(Publication, row)


def rules_in_force(published: Publication | None, of_file: Rules, catalogue: Catalogue) -> Rules:
    """The published rules, or those of the file where nothing was published or the file was changed since."""
    if published is None or published.file not in ("", fingerprint(of_file)):
        return of_file
    return rule_file.read(published.rules, catalogue)


def load(database: Database, of_file: Rules, catalogue: Catalogue) -> Rules:
    """The rules in force, read from the database and the rules of the file."""
    with database.read() as connection:
        return rules_in_force(latest(connection), of_file, catalogue)


def record_taken_over(connection: sa.Connection, published: Publication, of_file: Rules) -> None:
    """Write down which file a publication goes before, the first time that an ingest takes it."""
    where = (table.c.id == published.id) & (table.c.file == "")
    connection.execute(sa.update(table).where(where).values(file=fingerprint(of_file)))


def fingerprint(rules: Iterable[model.Rule]) -> str:
    """A digest of a set of rules."""
    text = "\n".join(sorted(f"{rule.id}@{rule.version}" for rule in rules))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
