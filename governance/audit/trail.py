"""Audit trail (审计): append, read and verify what was changed, by whom and when, as a chain of hashes.

A change and its entry (`append`) are written in one transaction. Entries are numbered 1, 2, 3 … without gaps. On
PostgreSQL the appending transaction holds an advisory lock until it ends, so append last; on SQLite write transactions
exclude each other anyway.

Triggers in the database forbid changing or deleting entries. `walk` finds what was changed in spite of them; an end
that was cut off shows against the signed roots kept outside (`governance.verification.roots`).
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Any

import rfc8785
import sqlalchemy as sa

from governance.audit.merkle import GENESIS, AuditEntry
from governance.tables import audit as table
from infra.errors import NotFound
from infra.texts import Text, keys, say
from infra.times import rfc3339, to_ms

TRAIL_LOCK = 0x7269_7665_7204
"""The PostgreSQL advisory lock of the appending transaction."""

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest whole number that every JSON reader keeps exactly (RFC 8785); larger ones are written as text."""

RULE_ROLE = "rule"
"""The role of what a rule found by itself."""

ROWS_PER_READ = 5_000
"""Entries held in memory while the trail is read."""


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to append.

    ``what`` says what happened (``incident.closed``, ``registry.station``, ``role.granted``), ``kind`` and ``id`` to
    what (``incident`` ``42``), ``by`` who did it and ``role`` in which role ('' where none is known). ``body`` is
    everything needed to understand it later: the state afterwards, before and after, the reason. Never a secret.
    """

    what: str
    kind: str
    id: str | int
    body: Mapping[str, Any]
    by: str
    at_ms: int
    role: str = ""


def append(
    connection: sa.Connection,
    what: str,
    *,
    kind: str,
    id: str | int,
    body: Mapping[str, Any],
    by: str,
    at_ms: int,
    role: str = "",
) -> int:
    """Append one entry (see `NewEntry`) and return its number; the caller's transaction commits it."""
    return append_many(connection, [NewEntry(what, kind, id, body, by, at_ms, role)])


def append_many(connection: sa.Connection, entries: Sequence[NewEntry]) -> int:
    """Append entries in this order with two statements; return the number of the last, 0 where there are none.

    Raises TypeError for a body that JSON cannot express.
    """
    if not entries:
        return 0
    written = [(entry, canonical(entry.body)) for entry in entries]
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({TRAIL_LOCK})")
    n, prev = head(connection)
    rows = []
    for entry, body in written:
        n += 1
        by, role, what, kind, subject = map(_text, (entry.by, entry.role, entry.what, entry.kind, str(entry.id)))
        line = AuditEntry(n, int(entry.at_ms), by, role, what, kind, subject, body, prev, "")
        prev = line.expected_hash()
        rows.append({**_columns(line), "hash": prev})
    connection.execute(sa.insert(table), rows)
    return n


def canonical(body: Mapping[str, Any]) -> str:
    """The canonical JSON of a body (RFC 8785): sorted keys, no spaces, UTF-8, numbers as ECMAScript writes them.

    Enums become their value, instants RFC 3339, a `Text` an object of two languages, NaN and infinities null, whole
    numbers beyond ``MAX_SAFE_INTEGER`` text.
    """
    plain = _json_value(body)
    try:
        return json.dumps(_same_in_both_writers(plain), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    except _WritersDiffer:
        return rfc8785.dumps(plain).decode()


def action_name(what: str) -> Text:
    """The name of an action in both languages; its code where the catalogue has none."""
    return _catalogue_name(what.replace(".", "_"), what)


def object_name(kind: str) -> Text:
    """The name of a kind of object in both languages; its code where the catalogue has none."""
    return _catalogue_name(f"of_{kind}", kind)


def action_codes() -> list[str]:
    """The codes of all actions that the catalogue names."""
    found = (key.removeprefix("audit_entry.") for key in keys() if key.startswith("audit_entry."))
    return sorted(key.replace("_", ".", 1) for key in found if not key.startswith(("of_", "by_", "role_")))


def _catalogue_name(name: str, code: str) -> Text:
    key = f"audit_entry.{name}"
    return say(key) if key in keys() else Text(code, code)


# -- reading -----------------------------------------------------------------------------------------------------------


def get(connection: sa.Connection, n: int) -> AuditEntry:
    """The entry of this number; raises NotFound."""
    found = list(_lines(connection, sa.select(table).where(table.c.n == n))) if 0 < n < 2**63 else []
    if not found:
        raise NotFound(say("audit_page.no_entry", n=n))
    return found[0]


def head(connection: sa.Connection) -> tuple[int, str]:
    """Number and hash of the newest entry; 0 and the genesis where there is none."""
    found = connection.execute(sa.select(table.c.n, table.c.hash).order_by(table.c.n.desc()).limit(1)).one_or_none()
    return (0, GENESIS) if found is None else (found.n, found.hash)


def list_entries(  # noqa: PLR0913  (a field of the entry each)
    connection: sa.Connection,
    *,
    what: str | None = None,
    kind: str | None = None,
    id: str | None = None,
    by: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    before_n: int | None = None,
    by_rules: bool = True,
    limit: int = 100,
) -> list[AuditEntry]:
    """At most ``limit`` entries, newest first; ``what`` also finds what begins with it and a dot, ``until_ms`` is
    exclusive, the next page begins with ``before_n``. Without ``by_rules`` what rules found is left out."""
    query = sa.select(table).order_by(table.c.n.desc()).limit(limit)
    if what is not None:
        query = query.where((table.c.what == what) | table.c.what.startswith(f"{what}.", autoescape=True))
    if kind is not None:
        query = query.where(table.c.kind == kind)
    if id is not None:
        query = query.where(table.c.subject == id)
    if by is not None:
        query = query.where(table.c.by == by)
    if since_ms is not None:
        query = query.where(table.c.at_ms >= since_ms)
    if until_ms is not None:
        query = query.where(table.c.at_ms < until_ms)
    if before_n is not None:
        query = query.where(table.c.n < before_n)
    if not by_rules:
        query = query.where(table.c.role != RULE_ROLE)
    return list(_lines(connection, query))


def entry_before(connection: sa.Connection, line: AuditEntry) -> AuditEntry | None:
    """The entry about the same thing before this one; None where it is the first."""
    same = (table.c.kind == line.kind) & (table.c.subject == line.id) & (table.c.n < line.n)
    return next(_lines(connection, sa.select(table).where(same).order_by(table.c.n.desc()).limit(1)), None)


def kinds() -> list[str]:
    """The kinds of objects that the catalogue names."""
    return sorted(key.removeprefix("audit_entry.of_") for key in keys() if key.startswith("audit_entry.of_"))


def entries_of(connection: sa.Connection, kind: str, id: str | int, *, until_ms: int | None = None) -> list[AuditEntry]:
    """Every entry about one thing, oldest first; with ``until_ms`` those up to and including that instant."""
    query = sa.select(table).where(table.c.kind == kind, table.c.subject == str(id)).order_by(table.c.n)
    if until_ms is not None:
        query = query.where(table.c.at_ms <= until_ms)
    return list(_lines(connection, query))


def contains_action(connection: sa.Connection, what: Sequence[str], *, after_n: int) -> bool:
    """Whether an entry after ``after_n`` has one of these actions."""
    query = sa.select(table.c.n).where(table.c.n > after_n, table.c.what.in_(what)).limit(1)
    return connection.execute(query).first() is not None


def all_entries(connection: sa.Connection, *, after_n: int = 0) -> Iterator[AuditEntry]:
    """All entries by number, read in blocks."""
    return _lines(connection, _streamed(sa.select(table).where(table.c.n > after_n).order_by(table.c.n)))


def select_entries(connection: sa.Connection, where: sa.ColumnElement[bool]) -> Iterator[AuditEntry]:
    """The entries that meet a condition on the table, by number, read in blocks."""
    return _lines(connection, _streamed(sa.select(table).where(where).order_by(table.c.n)))


def hashes(connection: sa.Connection, size: int, *, after_n: int = 0) -> Iterator[str]:
    """The hashes of the entries after ``after_n`` up to ``size``, by number."""
    query = sa.select(table.c.hash).where(table.c.n > after_n, table.c.n <= size).order_by(table.c.n)
    return iter(connection.execute(_streamed(query)).scalars())


# -- verifying ---------------------------------------------------------------------------------------------------------


class FaultKind(Enum):
    """What is wrong with an entry."""

    CHANGED = "changed"
    """Content or hash differs from what was recorded."""
    MISSING = "missing"
    """There are later entries, but not this one."""
    OUT_OF_ORDER = "out_of_order"
    """It does not follow the entry before it: one of the two was replaced by another with a hash that fits."""
    CUT_OFF = "cut_off"
    """A signed root covers it, and the trail ends before it."""
    REWRITTEN = "rewritten"
    """The chain is consistent, but does not match a signed root."""
    ROOT_MISSING = "root_missing"
    """A signed root kept outside is no longer in the database."""
    DIFFERS = "differs"
    """A case or a person in its table is not what the entry says; the entry is 0 where none is about the row."""
    SIGNATURE = "signature"
    """A root's signature is not valid, or made with another key than those given."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with entries ``n`` to ``until`` (the same for one), and a sentence."""

    n: int
    wrong: FaultKind
    until: int
    detail: str


@dataclass(slots=True)
class Verified:
    """The result of verifying: entries walked, roots that fit, and the faults by number.

    ``unsigned`` entries at the end are under no root yet: they could be cut off without a trace.
    """

    entries: int = 0
    head: str = GENESIS
    roots: int = 0
    unsigned: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.faults


MAX_FAULTS = 100
"""Faults kept of one verification."""


def walk(lines: Iterable[AuditEntry], found: Verified, after: tuple[int, str] = (0, GENESIS)) -> Iterator[AuditEntry]:
    """Yield each entry after comparing it with the one before; add faults to ``found``.

    ``after`` are number and hash of the entry before the first.
    """
    n, prev = after
    for line in lines:
        if line.n > n + 1:
            what = f"entry {n + 1} is" if line.n == n + 2 else f"entries {n + 1} to {line.n - 1} are"
            add_fault(found, Fault(n + 1, FaultKind.MISSING, line.n - 1, f"{what} missing"))
        if line.expected_hash() != line.hash:
            add_fault(found, Fault(line.n, FaultKind.CHANGED, line.n, f"entry {line.n} is not what was recorded"))
        elif line.n <= n or (line.n == n + 1 and line.prev != prev):
            detail = f"entry {line.n} does not follow entry {n}: one of them is not what was recorded"
            add_fault(found, Fault(max(1, min(n, line.n)), FaultKind.OUT_OF_ORDER, line.n, detail))
        n, prev = line.n, line.hash
        found.entries += 1
        found.head = line.hash
        yield line


def add_fault(found: Verified, fault: Fault) -> None:
    """Add a fault, unless there are ``MAX_FAULTS`` already."""
    if len(found.faults) < MAX_FAULTS:
        found.faults.append(fault)


# -- rows and canonical values -----------------------------------------------------------------------------------------


def _streamed(query: sa.Select[Any]) -> sa.Select[Any]:
    """The query, read in blocks; an option of the connection would hold for every later statement."""
    return query.execution_options(yield_per=ROWS_PER_READ)


def _lines(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[AuditEntry]:
    for row in connection.execute(query):
        yield AuditEntry(*row)  # the columns of the table, in their order


def _columns(line: AuditEntry) -> dict[str, Any]:
    return {
        "n": line.n,
        "at_ms": line.at_ms,
        "by": line.by,
        "role": line.role,
        "what": line.what,
        "kind": line.kind,
        "subject": line.id,
        "body": line.body,
        "prev_hash": line.prev,
    }


def _text(text: str) -> str:
    """Text as every database gives it back: without NUL and without half a surrogate pair."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "\\x00").encode("utf-8", "replace").decode()


class _WritersDiffer(Exception):
    """A value that the `json` module, eight times as fast as rfc8785, writes in another way than RFC 8785."""


def _same_in_both_writers(value: Any) -> Any:
    """The value in a form that both writers write alike; raises _WritersDiffer where there is none."""
    if isinstance(value, float):
        if value.is_integer() and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            return int(value)
        if 1e-4 <= abs(value) < 1e16:
            return value
        raise _WritersDiffer
    if isinstance(value, dict):
        if not all(key.isascii() for key in value):  # sorted by code point here, by UTF-16 unit there
            raise _WritersDiffer
        return {key: _same_in_both_writers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_same_in_both_writers(one) for one in value]
    return value


def _json_value(value: Any) -> Any:  # noqa: PLR0911  (a kind of value each)
    """A value as JSON expresses it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(str(value.value if isinstance(value, Enum) else value))
    if isinstance(value, Enum):
        return _json_value(value.value)
    if isinstance(value, int):
        return int(value) if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Text):
        return {"zh": _text(value.zh), "en": _text(value.en)}
    if isinstance(value, datetime):
        return rfc3339(to_ms(value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_text(str(key)): _json_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        ordered = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [_json_value(one) for one in ordered]
    raise TypeError(f"an entry of the trail cannot hold a {type(value).__name__}")
