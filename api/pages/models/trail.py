"""The trail as people read it: filters, entries, what verifying found, and an incident as it stood. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from api.names import who
from api.pages.models.messages import midnight
from governance.audit.merkle import AuditEntry
from governance.audit.trail import Verified
from governance.incidents.model import Entry, Incident
from infra.errors import ConfigurationError
from infra.texts import Text, say
from infra.times import BEIJING, DAY_MS, to_ms

FIELDS = ("what", "kind", "id", "by", "since", "until")


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
class TrailPage:
    """The page; ``entries`` counts all there are, ``signed`` how many are under a root."""

    filter: Filter
    rows: tuple[EntryRow, ...]
    more: int | None
    entries: int
    signed: int
    as_of: AsOf | None
    as_of_problem: Text | None


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
        before_n=int(before) if before.isdecimal() and len(before) < 18 else None,
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
