"""Map the columns of the incident tables to the fields of the model and back. Pure.

A row comes from the table or from the body of an entry of the audit trail, which keeps rows as they are written. An
old entry of the trail lacks the columns that came later. Times stay milliseconds since the epoch, UTC.
"""

from collections.abc import Mapping
from typing import Any

from governance.incidents import headline
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.model import Case, Condition, Entry, EntryKind, Incident, Source, State
from governance.organisation.regions import Place
from governance.organisation.roles import Department
from infra.texts import Text

_INCIDENT_FIELDS = (
    "cause",
    "open_cause",
    "retrospective",
    "station",
    "parameter",
    "rule",
    "rule_version",
    "value",
    "observed_at_ms",
    "since_ms",
    "last_observed_at_ms",
    "opened_at_ms",
    "accepted_at_ms",
    "accepted_by",
    "recovered_at_ms",
    "closed_at_ms",
    "version",
)
"""Fields of an incident that have a column of the same name and shape."""

_CASE_FIELDS = tuple(
    name for name in Case.__slots__ if name not in {"source", "department", "joint", "contributed", "handlers", "also"}
)
"""Fields of a case that have a column of the same name and shape; ``also`` has a table of its own."""

_ENTRY_FIELDS = ("seq", "at_ms", "observed_at_ms", "by", "finding_id", "comment", "value", "role")
"""Fields of a history entry that have a column of the same name and shape."""


def incident_from_row(row: Mapping[Any, Any], conditions: tuple[Condition, ...], also: tuple[str, ...]) -> Incident:
    """An incident from its row, its conditions and its further causes (``Case.also``)."""
    return Incident(
        id=row["id"],
        state=State(row["state"]),
        colour=Colour(row["colour"]),
        kind=FindingKind(row["kind"]),
        title=Text(row["title_zh"], row["title_en"]),
        limit=row["limit"],
        conditions=conditions,
        place=Place(row["region"], row["reach"], row["lon"], row["lat"]),
        case=_case_from_row(row, also),
        headline=headline.headline_from_json(row.get("headline")),
        **{name: row[name] for name in _INCIDENT_FIELDS},
    )


def incident_to_row(incident: Incident) -> dict[str, Any]:
    """The row of an incident without its number."""
    case, place = incident.case, incident.place
    return {
        **{name: getattr(incident, name) for name in _INCIDENT_FIELDS},
        "state": incident.state.value,
        "colour": incident.colour.value,
        "kind": incident.kind.value,
        "title_zh": incident.title.zh,
        "title_en": incident.title.en,
        "headline": incident.headline.as_json() if incident.headline else {},
        "limit": incident.limit,
        "region": place.region,
        "reach": place.reach,
        "lon": place.lon,
        "lat": place.lat,
        **{name: getattr(case, name) for name in _CASE_FIELDS},
        "source": case.source.value,
        "department": case.department.value if case.department else None,
        "joint": [d.value for d in case.joint],
        "contributed": [d.value for d in case.contributed],
        "handlers": list(case.handlers),
    }


def condition_from_row(row: Mapping[Any, Any]) -> Condition:
    return Condition(**{name: row[name] for name in Condition.__slots__})


def condition_to_row(incident_id: int, condition: Condition) -> dict[str, Any]:
    return {"incident_id": incident_id, **{name: getattr(condition, name) for name in Condition.__slots__}}


def entry_from_row(row: Mapping[Any, Any]) -> Entry:
    """A history entry from its row."""
    return Entry(
        what=EntryKind(row["what"]),
        from_state=None if row["from_state"] is None else State(row["from_state"]),
        to_state=State(row["to_state"]),
        text=Text(row["text_zh"], row["text_en"]),
        limit=row["limit"],
        attachments=tuple(row["attachments"]),
        measurement=row["measurement"],
        details=row["details"],
        **{name: row[name] for name in _ENTRY_FIELDS},
    )


def entry_to_row(incident_id: int, entry: Entry) -> dict[str, Any]:
    return {
        "incident_id": incident_id,
        **{name: getattr(entry, name) for name in _ENTRY_FIELDS},
        "what": entry.what.value,
        "from_state": None if entry.from_state is None else entry.from_state.value,
        "to_state": entry.to_state.value,
        "text_zh": entry.text.zh,
        "text_en": entry.text.en,
        "limit": entry.limit,
        "attachments": list(entry.attachments),
        "measurement": dict(entry.measurement),
        "details": dict(entry.details),
    }


def _case_from_row(row: Mapping[Any, Any], also: tuple[str, ...]) -> Case:
    return Case(
        source=Source(row["source"]),
        department=None if row["department"] is None else Department(row["department"]),
        joint=tuple(Department(d) for d in row["joint"]),
        contributed=tuple(Department(d) for d in row["contributed"]),
        handlers=tuple(row.get("handlers", ())),
        also=also,
        **{name: row[name] for name in _CASE_FIELDS if name in row},
    )
