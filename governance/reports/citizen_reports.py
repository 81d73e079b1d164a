"""Citizens' reports (群众举报): tickets, contacts, rate limit, repetitions, progress for the public.

A report is an incident in the state ``reported``, which the office accepts, rejects or merges like any other. Stored
beside it are the ticket, by which the public asks for its progress, and a contact that only the office sees.
"""

import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from governance.incidents import store as incident_store
from governance.incidents.finding import FindingKind
from governance.incidents.model import EntryKind, Incident, Order, State
from governance.organisation.regions import Place
from governance.organisation.roles import CITIZEN_NAME, Actor, Right, Role
from governance.tables import incident as incident_table
from governance.tables import incident_entry as entry_table
from governance.tables import report as table
from infra.errors import NotFound, WaterError
from infra.texts import Text, say
from infra.times import DAY_MS, HOUR_MS
from infra.vault import Vault, is_locked
from sensors.network import KM_PER_DEGREE, distance_km

REPETITION_MS = 10 * 60_000
"""The same report of the same sender within this time is a repetition. Our choice: networks are slow."""
REPORT_LOCK = 0x72_65_70_6F
"""The class of the PostgreSQL advisory locks of senders; the number within it is a hash of the sender."""
_LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
"""Letters and digits that are not mistaken for each other on the telephone."""


@dataclass(frozen=True, slots=True)
class Citizen(Actor):
    """Somebody without an account: may report, and object to a closed case."""

    def may(self, right: Right) -> bool:
        return right in (Right.REPORT, Right.REOPEN)


CITIZEN = Citizen(CITIZEN_NAME, Role.PUBLIC)


@dataclass(frozen=True, slots=True)
class SimilarityLimits:
    """Limits of similar incidents: distance, and age in days. Our choice: about two bridges of an urban creek."""

    metres: float = 300.0
    days: float = 2.0


class RateLimited(WaterError):
    """A sender exceeds the rate limit; ``retry_s`` is when to try again."""

    def __init__(self, retry_s: int) -> None:
        super().__init__(say("report.too_many", seconds=retry_s))
        self.retry_s = retry_s


@dataclass(frozen=True, slots=True)
class Report:
    """A report: ``contact`` is as stored, encrypted (`infra.vault`), or "" after its retention time.

    ``sender`` is a keyed hash of the network address, by which reports are counted but nobody is found.
    ``follows``: it is somebody else's, who may not be quoted; ``solved_at_ms``: when its sender said that it is solved.
    """

    ticket: str
    incident_id: int
    at_ms: int
    contact: str
    sender: str
    unsolved: int
    follows: bool = False
    solved_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class OriginalReport:
    """What somebody reported: their words, the ids of the photos, and the incident it became."""

    incident_id: int
    at_ms: int
    text: str
    photos: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """What the public sees of a ticket: the state in words, since when, and whether it is final.

    ``reason`` is why it was rejected, "" unless it was. ``solved``: its sender said that it is solved.
    """

    ticket: str
    state: State
    text: Text
    reason: str
    at_ms: int
    over: bool
    may_object: bool
    solved: bool = False


def new_ticket() -> str:
    """A new random ticket: 12 letters and digits in groups, 59 bits."""
    letters = "".join(secrets.choice(_LETTERS) for _ in range(12))
    return "-".join(letters[i : i + 4] for i in (0, 4, 8))


def normalized_ticket(text: str) -> str:
    """A ticket in the form in which it was issued, however it is typed."""
    letters = "".join(letter for letter in text.upper() if letter in _LETTERS)
    return "-".join(letters[i : i + 4] for i in range(0, len(letters), 4))


def sender_hash(vault: Vault, address: str) -> str:
    """A keyed hash of a network address, the same after a restart and in every process."""
    return vault.mark(f"sender {address}")[:32]


def check_rate_limit(connection: sa.Connection, sender: str, now_ms: int, *, an_hour: int) -> None:
    """Raises RateLimited when this sender has reported ``an_hour`` times within the last hour."""
    query = sa.select(table.c.at_ms).where(table.c.sender == sender, table.c.at_ms > now_ms - HOUR_MS)
    times = sorted(connection.execute(query).scalars())
    if len(times) >= an_hour:
        raise RateLimited(max(1, -(-(times[-an_hour] + HOUR_MS - now_ms) // 1000)))


def lock_sender(connection: sa.Connection, sender: str) -> None:
    """Lock this sender until the transaction ends: of two copies at once the second sees the first.

    On SQLite write transactions exclude each other anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(REPORT_LOCK, sa.func.hashtext(sender))))


def add(connection: sa.Connection, made: Report) -> None:
    """Store a report."""
    connection.execute(sa.insert(table).values({name: getattr(made, name) for name in made.__slots__}))


def get(connection: sa.Connection, given: str) -> Report:
    """The report of a ticket; raises NotFound."""
    row = (
        connection.execute(sa.select(table).where(table.c.ticket == normalized_ticket(given))).mappings().one_or_none()
    )
    if row is None:
        raise NotFound(say("report.no_ticket", ticket=given[:40]))
    return _report(row)


def of_incident(connection: sa.Connection, incident_id: int) -> list[Report]:
    """The reports behind an incident, those merged into it included, oldest first."""
    merged = sa.select(incident_table.c.id).where(incident_table.c.merged_into == incident_id)
    where = (table.c.incident_id == incident_id) | table.c.incident_id.in_(merged)
    rows = connection.execute(sa.select(table).where(where).order_by(table.c.at_ms)).mappings()
    return [_report(row) for row in rows]


def protect_contacts(connection: sa.Connection, vault: Vault, closed_before_ms: int) -> tuple[int, int]:
    """Remove the contacts of cases closed before an instant, encrypt those stored in clear; how many of each."""
    rows = connection.execute(sa.select(table).where(table.c.contact != "").order_by(table.c.id)).mappings()
    removed = encrypted = 0
    for one in [_report(row) for row in rows]:
        closed_ms = deciding_incident(connection, one.incident_id).closed_at_ms
        over = closed_ms is not None and closed_ms < closed_before_ms
        if not over and is_locked(one.contact):
            continue
        removed, encrypted = removed + over, encrypted + (not over)
        contact = "" if over else vault.lock(one.contact)
        connection.execute(sa.update(table).where(table.c.ticket == one.ticket).values(contact=contact))
    return removed, encrypted


def count_objection(connection: sa.Connection, given: str) -> None:
    """Count an objection: a citizen says that the case is not solved."""
    changed = sa.update(table).where(table.c.ticket == normalized_ticket(given)).values(unsolved=table.c.unsolved + 1)
    connection.execute(changed)


def mark_solved(connection: sa.Connection, given: str, now_ms: int) -> None:
    """The sender of a report says that it is solved."""
    changed = sa.update(table).where(table.c.ticket == normalized_ticket(given)).values(solved_at_ms=now_ms)
    connection.execute(changed)


def on_reach(connection: sa.Connection, reach: str, *, over: bool, limit: int) -> list[Incident]:
    """Problems that people reported at a reach, newest first: those that are open, or those that were handled and
    closed. What was merged into another case is over when that one is."""
    i = incident_table.c
    query = sa.select(i.id).where(i.kind == FindingKind.REPORT.value, i.reach == reach)
    if over:
        query = query.where(i.state == State.CLOSED.value, i.merged_into.is_(None))
    else:
        query = query.where(i.open_cause.is_not(None))
    newest = (i.closed_at_ms if over else i.id).desc()
    return [
        incident_store.get(connection, one) for one in connection.execute(query.order_by(newest).limit(limit)).scalars()
    ]


def objections(connection: sa.Connection, start_ms: int, end_ms: int) -> dict[int, tuple[int, int]]:
    """By incident the reports filed in this time, and how many of them citizens called not solved."""
    c = table.c
    unsolved = sa.func.sum(sa.case((c.unsolved > 0, 1), else_=0))
    query = sa.select(c.incident_id, sa.func.count(), unsolved).where(c.at_ms >= start_ms, c.at_ms < end_ms)
    return {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(query.group_by(c.incident_id))}


def find_repetition(connection: sa.Connection, new: Report, order: Order, place: Place, vault: Vault) -> Report | None:
    """The report that ``new`` repeats, whose contact is in clear: the same words, photos, contact and place within
    ``REPETITION_MS``."""
    query = (
        sa.select(table, entry_table.c.attachments)
        .join(entry_table, (entry_table.c.incident_id == table.c.incident_id) & (entry_table.c.seq == 1))
        .join(incident_table, incident_table.c.id == table.c.incident_id)
        .where(table.c.sender == new.sender, table.c.at_ms > new.at_ms - REPETITION_MS, *_repeats(order, place))
        .order_by(table.c.at_ms)
    )
    for row in connection.execute(query).mappings():
        if tuple(row["attachments"]) == tuple(order.attachments) and vault.open(row["contact"]) == new.contact:
            return _report(row)
    return None


def find_repetition_of_person(
    connection: sa.Connection, name: str, order: Order, place: Place, now_ms: int
) -> int | None:
    """The incident that a person reported within ``REPETITION_MS`` with the same words, photos and place."""
    where = (entry_table.c.by == name) & (entry_table.c.at_ms > now_ms - REPETITION_MS)
    rows = connection.execute(
        _SENT.where(where, *_repeats(order, place)).order_by(entry_table.c.incident_id)
    ).mappings()
    return next((row["incident_id"] for row in rows if tuple(row["attachments"]) == tuple(order.attachments)), None)


def _repeats(order: Order, place: Place) -> list[sa.ColumnElement[bool]]:
    """Conditions: the first entry of an incident has these words, and the incident this place."""
    c = incident_table.c
    at = [
        name.is_(None) if value is None else name == value for name, value in ((c.lon, place.lon), (c.lat, place.lat))
    ]
    return [entry_table.c.comment == order.comment, c.reach == place.reach, *at]


def original_report(connection: sa.Connection, incident_id: int) -> OriginalReport:
    """The report with which an incident began. Raises NotFound where nobody reported it."""
    row = connection.execute(_SENT.where(entry_table.c.incident_id == incident_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(say("incident.unknown", id=incident_id))
    return _original_from_row(row)


def of_person(connection: sa.Connection, name: str, *, limit: int) -> list[OriginalReport]:
    """The reports of a person, wherever they lie, newest first."""
    query = _SENT.where(entry_table.c.by == name).order_by(entry_table.c.incident_id.desc()).limit(limit)
    return [_original_from_row(row) for row in connection.execute(query).mappings()]


def deciding_incident(connection: sa.Connection, incident_id: int) -> Incident:
    """The incident that decides about a report: if it was merged, the one that goes on."""
    found = incident_store.get(connection, incident_id)
    seen = {found.id}
    while (into := found.case.merged_into) is not None and into not in seen:
        found = incident_store.get(connection, into)
        seen.add(found.id)
    return found


def progress(
    connection: sa.Connection, one: Report, incident: Incident, now_ms: int, reopen_within_ms: int
) -> Progress:
    """What the public sees: no names and no comments, except the reason of a rejection."""
    over = not incident.is_open
    closed_ms = incident.closed_at_ms or 0
    may_object = over and now_ms - closed_ms <= reopen_within_ms
    at_ms = max(one.at_ms, incident.case.step_since_ms, closed_ms)
    own = incident.id == one.incident_id  # the reason of the case it was merged into was not written for the public
    reason = _reason(connection, incident) if own and incident.state in _REFUSED_STATES else ""
    text = say(f"report.{incident.state}", reason=reason or "—")
    solved = one.solved_at_ms is not None and one.solved_at_ms >= closed_ms > 0
    return Progress(one.ticket, incident.state, text, reason, at_ms, over, may_object, solved)


_REFUSED_STATES = (State.REJECTED, State.FALSE_ALARM)


def _reason(connection: sa.Connection, incident: Incident) -> str:
    """The comment with which an incident was last rejected or called a false alarm."""
    c = entry_table.c
    query = sa.select(c.comment).where(c.incident_id == incident.id, c.what == incident.state.value)
    return connection.execute(query.order_by(c.seq.desc()).limit(1)).scalar() or ""


def similar_incidents(connection: sa.Connection, one: Incident, now_ms: int, near: SimilarityLimits) -> list[Incident]:
    """Other open incidents near in place and time, nearest first."""
    return incidents_near(connection, one.place, now_ms, near, but=one.id)


def incidents_near(
    connection: sa.Connection, place: Place, now_ms: int, near: SimilarityLimits, *, but: int = 0
) -> list[Incident]:
    """Open incidents near a place, of the last days, nearest first; not the one with the number ``but``."""
    lon, lat = place.lon, place.lat
    if lon is None or lat is None:
        return []
    wide = near.metres / 1000 / KM_PER_DEGREE  # in China a degree of longitude is at least half one of latitude
    rows = connection.execute(
        sa.select(incident_table.c.id, incident_table.c.lon, incident_table.c.lat).where(
            incident_table.c.open_cause.is_not(None),
            incident_table.c.id != but,
            incident_table.c.last_observed_at_ms > now_ms - near.days * DAY_MS,
            incident_table.c.lon.between(lon - 2 * wide, lon + 2 * wide),
            incident_table.c.lat.between(lat - wide, lat + wide),
        )
    ).all()
    found = sorted((1000 * distance_km((lon, lat), (row.lon, row.lat)), row.id) for row in rows)
    return [incident_store.get(connection, number) for metres, number in found if metres <= near.metres][:20]


_SENT = (
    sa.select(entry_table.c.incident_id, entry_table.c.at_ms, entry_table.c.comment, entry_table.c.attachments)
    .join(incident_table, incident_table.c.id == entry_table.c.incident_id)
    .where(
        incident_table.c.kind == FindingKind.REPORT.value,
        entry_table.c.seq == 1,
        entry_table.c.what == EntryKind.REPORTED.value,
    )
)


def _original_from_row(row: sa.RowMapping) -> OriginalReport:
    return OriginalReport(row["incident_id"], row["at_ms"], row["comment"] or "", tuple(row["attachments"]))


def _report(row: sa.RowMapping) -> Report:
    return Report(**{name: row[name] for name in Report.__slots__})
