"""The trail as people read it: filters, entries, what verifying found, and an incident as it stood. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from api.names import who
from api.pages.models.messages import midnight
from api.requests import whole_number
from governance.audit.merkle import AuditEntry
from governance.audit.trail import Verified
from governance.incidents.model import Entry, Incident
from infra.errors import ConfigurationError
from infra.texts import Text, keys, same, say
from infra.times import BEIJING, DAY_MS, beijing, to_ms

FIELDS = ("by", "kind", "id", "what", "since", "until")
RULES = "rules"
"""The field of an address that says that what rules found is shown, too."""
MOST_CHANGES = 100
"""Changed fields that are shown of an entry."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What of the trail is shown; days in Beijing, both ends included."""

    what: str | None
    kind: str | None
    id: str | None
    by: str | None
    since_ms: int | None
    until_ms: int | None
    before_n: int | None
    by_rules: bool = False

    @property
    def used(self) -> bool:
        """Whether anything is left out."""
        return any((self.what, self.kind, self.id, self.by, self.since_ms, self.until_ms))


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry; ``body`` as JSON in lines, or as it stands where it is no JSON any more."""

    n: int
    at_ms: int
    who: Text
    what: str
    kind: str
    id: str
    body: str
    hash: str
    proven: bool


@dataclass(frozen=True, slots=True)
class AsOf:
    """An incident as it stood at an instant."""

    at_ms: int
    incident: Incident
    history: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field before and after, as JSON, an instant in Beijing time; None where there was none."""

    name: str
    before: str | None
    after: str | None


def filter_of(query: Mapping[str, str]) -> Filter:
    """What the address asks for. Raises ConfigurationError for a day that is none."""
    until_ms = _day(query.get("until", ""))
    before = query.get("before", "")
    return Filter(
        what=query.get("what", "").strip() or None,
        kind=query.get("kind", "").strip() or None,
        id=query.get("id", "").strip() or None,
        by=query.get("by", "").strip() or None,
        since_ms=_day(query.get("since", "")),
        until_ms=None if until_ms is None else until_ms + DAY_MS,
        before_n=whole_number(before, 17),
        by_rules=query.get(RULES) == "1",
    )


def row(line: AuditEntry, signed: int) -> EntryRow:
    """An entry as a row; proven where a signed root covers it."""
    found: Any = {}
    try:
        found = json.loads(line.body)
        body = json.dumps(found, ensure_ascii=False, indent=2)
    except ValueError:
        body = line.body
    entry = found.get("entry") if isinstance(found, dict) else None
    details = entry.get("details") if isinstance(entry, dict) else None
    name = who(line.by, line.role, details if isinstance(details, dict) else {})
    return EntryRow(line.n, line.at_ms, name, line.what, line.kind, line.id, body, line.hash, line.n <= signed)


def changes(line: AuditEntry, earlier: AuditEntry | None) -> tuple[FieldChange, ...]:
    """The fields that an entry changed: those it names itself, else those in which its state differs from the one of
    the entry before it about the same thing."""
    now = _object(line.body)
    if isinstance(now.get("before"), dict | None) and isinstance(now.get("after"), dict):
        before, after = now.get("before") or {}, now["after"]
    else:
        state = "incident" if line.kind == "incident" else ""
        before = _object(earlier.body) if earlier else {}
        before, after = (before.get(state) or {}, now.get(state) or {}) if state else (before, now)
    names = sorted(before.keys() | after.keys())
    found = (FieldChange(name, _shown(before, name), _shown(after, name)) for name in names)
    return tuple(one for one in found if one.before != one.after)[:MOST_CHANGES]


_CODED = {"state": "state", "colour": "incident", "kind": "rule_kind", "department": "department"}
"""Fields of an incident whose values are codes, and the section of the catalogue that has their words."""


def sentence(line: AuditEntry) -> Text | None:
    """What the history of the incident says of the change; None for an entry about anything else."""
    entry = _object(line.body).get("entry")
    if line.kind != "incident" or not isinstance(entry, dict) or "text_zh" not in entry:
        return None
    return Text(str(entry["text_zh"]), str(entry.get("text_en", "")))


def field_name(kind: str, name: str) -> Text:
    """What a field of an incident is called; that of anything else by its code."""
    key = f"audit_field.{name}"
    return say(key) if kind == "incident" and key in keys() else same(name)


def field_value(name: str, value: str) -> Text:
    """A coded value of an incident's field in words; any other as it is."""
    key = f"{_CODED.get(name, '')}.{value}"
    return say(key) if key in keys() else same(value)


def _object(body: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _shown(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    if name.endswith("_ms") and isinstance(value, int):
        return beijing(value, "%Y-%m-%d %H:%M:%S")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def moment(text: str) -> int:
    """The instant of a form, Beijing time: ``2026-05-12T14:05``. Raises ConfigurationError."""
    try:
        return to_ms(datetime.fromisoformat(text).replace(tzinfo=BEIJING))
    except ValueError:
        raise ConfigurationError(say("request.no_moment", text=text[:30])) from None


def verdict(found: Verified) -> str:
    """The key of the sentence: whole, whole but for the end, or broken."""
    if not found.ok:
        return "broken"
    return "whole_but_end" if found.unsigned else "whole"


def _day(text: str) -> int | None:
    if not text.strip():
        return None
    try:
        return midnight(date.fromisoformat(text.strip()))
    except ValueError:
        raise ConfigurationError(say("request.no_day", text=text[:20])) from None
