"""Checks, visits, reviews, mutes and photos in the database, and the marks of readings that result from them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from governance.tables import incident_condition
from infra.errors import ConfigurationError, NotFound, Refused
from infra.records import from_row, to_row
from infra.texts import say
from infra.times import rfc3339
from ingest.storage.changes import UNKNOWN_AUTHOR, Author, upsert
from ingest.storage.tables import calibration, mark, mute, photo, review, visit
from sensors.maintenance import (
    MAX_MUTE_MS,
    RETIRED_UNTIL_MS,
    Check,
    MaintenanceRecords,
    MarkSpan,
    Mute,
    Photo,
    Review,
    Verdict,
    Visit,
    conflicting_visits,
)
from sensors.reading import QualityTest
from sensors.standards.hj915 import CheckKind

_CHECK_KEY = ("station", "parameter", "kind", "at_ms")


def load(connection: sa.Connection) -> MaintenanceRecords:
    """All maintenance records."""
    return MaintenanceRecords(
        tuple(c for _, c in checks(connection)),
        tuple(v for _, v in visits(connection)),
        tuple(r for _, r in reviews(connection)),
    )


def save(connection: sa.Connection, done: MaintenanceRecords, author: Author = UNKNOWN_AUTHOR) -> None:
    """Insert or update these checks and visits; others stay."""
    for check in done.checks:
        _put_check(connection, check, author)
    for one in done.visits:
        _put_visit(connection, one, author)


# -- checks ------------------------------------------------------------------------------------------------------------


def checks(connection: sa.Connection, station: str | None = None) -> list[tuple[int, Check]]:
    """(number, check), oldest first."""
    query = sa.select(calibration).order_by(calibration.c.at_ms, calibration.c.id)
    if station is not None:
        query = query.where(calibration.c.station == station)
    return [(row.id, _check(row)) for row in connection.execute(query)]


def newest_checks(connection: sa.Connection, station: str | None = None) -> list[Check]:
    """The newest valid check of each sensor and kind, as :func:`sensors.maintenance.checks_due` needs them."""
    c = calibration.c
    place = sa.func.row_number().over(
        partition_by=(c.station, c.parameter, c.kind), order_by=(c.at_ms.desc(), c.id.desc())
    )
    query = sa.select(calibration, place.label("place")).where(c.void.is_(False))
    if station is not None:
        query = query.where(c.station == station)
    newest = query.subquery()
    return [_check(row) for row in connection.execute(sa.select(newest).where(newest.c.place == 1))]


def check_of(connection: sa.Connection, station: str, number: int) -> Check:
    """The check of a station that has this number; raises NotFound."""
    found = [c for n, c in checks(connection, station) if n == number]
    if not found:
        raise NotFound(say("maintenance.no_calibration", station=station, number=number))
    return found[0]


def add_check(connection: sa.Connection, check: Check, author: Author) -> int:
    """Store a check; its number. Raises Refused where one of its kind exists at the same instant."""
    if (number := _number_of(connection, check)) is not None:
        raise Refused(
            say(
                "maintenance.checked_already",
                parameter=check.parameter,
                station=check.station,
                kind=check.kind,
                at=rfc3339(check.at_ms),
                number=number,
            )
        )
    _put_check(connection, check, author)
    return _number_of(connection, check) or 0


def keep_check(connection: sa.Connection, check: Check, author: Author) -> bool:
    """Store a check unless one of its kind exists at the same instant; a correction of that one stays."""
    new = _number_of(connection, check) is None
    if new:
        _put_check(connection, check, author)
    return new


def correct_check(connection: sa.Connection, station: str, number: int, author: Author, **other: Any) -> Check:
    """Correct a check, except its station, parameter, kind and instant. Raises NotFound, ConfigurationError."""
    corrected = replace(check_of(connection, station, number), **other)
    corrected.judged()
    _put_check(connection, corrected, author)
    return corrected


def _put_check(connection: sa.Connection, check: Check, author: Author) -> None:
    values = to_row(check, kind=check.kind.value)
    upsert(connection, calibration, {name: values.pop(name) for name in _CHECK_KEY}, values, author)


def _number_of(connection: sa.Connection, check: Check) -> int | None:
    same = sa.and_(*(calibration.c[name] == getattr(check, name) for name in _CHECK_KEY))
    return connection.execute(sa.select(calibration.c.id).where(same)).scalar()


def _check(row: sa.Row[Any]) -> Check:
    return from_row(Check, row, kind=CheckKind(row.kind))


# -- visits ------------------------------------------------------------------------------------------------------------


def visits(connection: sa.Connection, station: str | None = None) -> list[tuple[int, Visit]]:
    """(number, visit), oldest first."""
    query = sa.select(visit).order_by(visit.c.since_ms, visit.c.id)
    if station is not None:
        query = query.where(visit.c.station == station)
    return [(row.id, _visit(row)) for row in connection.execute(query)]


def ended_visits(connection: sa.Connection, now_ms: int, station: str | None = None) -> dict[str, int]:
    """Station → the end of its last ended visit (ms)."""
    query = sa.select(visit.c.station, sa.func.max(visit.c.until_ms)).where(visit.c.until_ms <= now_ms)
    if station is not None:
        query = query.where(visit.c.station == station)
    return {row[0]: int(row[1]) for row in connection.execute(query.group_by(visit.c.station))}


def current_visits(connection: sa.Connection, now_ms: int, station: str | None = None) -> dict[str, tuple[int, Visit]]:
    """Station → the visit that goes on now, with its number."""
    going = (visit.c.since_ms <= now_ms) & (visit.c.until_ms.is_(None) | (visit.c.until_ms > now_ms))
    query = sa.select(visit).where(going).order_by(visit.c.since_ms, visit.c.id)
    if station is not None:
        query = query.where(visit.c.station == station)
    return {row.station: (row.id, _visit(row)) for row in connection.execute(query)}


def begin_visit(connection: sa.Connection, new: Visit, author: Author) -> int:
    """Store a visit; its number. Raises Refused during another visit of the station."""
    stored = [v for _, v in visits(connection, new.station)]
    if new.since_ms in {v.since_ms for v in stored}:
        raise Refused(say("maintenance.visit_there", station=new.station, since=rfc3339(new.since_ms)))
    if faults := conflicting_visits([*stored, new]):
        since, why = rfc3339(faults[0][0].since_ms), faults[0][1]
        raise Refused(say("maintenance.a_visit_clashes", station=new.station, since=since, why=why))
    _put_visit(connection, new, author)
    where = (visit.c.station == new.station) & (visit.c.since_ms == new.since_ms)
    return int(connection.execute(sa.select(visit.c.id).where(where)).scalar_one())


def end_visit(
    connection: sa.Connection, station: str, number: int, until_ms: int, author: Author, note: str | None = None
) -> Visit:
    """End a visit. Raises NotFound, and Refused when it is over already or would end before it began."""
    stored = dict(visits(connection, station))
    if number not in stored:
        raise NotFound(say("maintenance.no_visit", station=station, number=number))
    going = stored[number]
    if going.until_ms is not None:
        raise Refused(say("maintenance.visit_over", number=number, station=station, until=rfc3339(going.until_ms)))
    if until_ms <= going.since_ms:
        raise Refused(say("maintenance.visit_began", number=number, station=station, since=rfc3339(going.since_ms)))
    ended = replace(going, until_ms=until_ms, note=going.note if note is None else note)
    _put_visit(connection, ended, author)
    return ended


def _put_visit(connection: sa.Connection, one: Visit, author: Author) -> None:
    values = {"until_ms": one.until_ms, "parameters": list(one.parameters), "by": one.by, "note": one.note}
    upsert(connection, visit, {"station": one.station, "since_ms": one.since_ms}, values, author)


def _visit(row: sa.Row[Any]) -> Visit:
    return from_row(Visit, row, parameters=tuple(row.parameters))


# -- reviews -----------------------------------------------------------------------------------------------------------


def reviews(connection: sa.Connection, station: str | None = None) -> list[tuple[int, Review]]:
    """(number, review), oldest first."""
    query = sa.select(review).order_by(review.c.since_ms, review.c.id)
    if station is not None:
        query = query.where(review.c.station == station)
    return [(row.id, from_row(Review, row, verdict=Verdict(row.verdict))) for row in connection.execute(query)]


def add_review(connection: sa.Connection, new: Review, author: Author) -> int:
    """Store a review; its number. Raises Refused where a valid one concerns the same readings."""
    for number, one in reviews(connection, new.station):
        if not one.void and one.meets(new):
            raise Refused(
                say(
                    "maintenance.reviewed_already",
                    number=number,
                    station=new.station,
                    verdict=one.verdict,
                    since=rfc3339(one.since_ms),
                    until=rfc3339(one.until_ms),
                )
            )
    _put_review(connection, new, author)
    where = sa.and_(*(review.c[name] == getattr(new, name) for name in _REVIEW_KEY))
    return int(connection.execute(sa.select(review.c.id).where(where)).scalar_one())


def with_second_person(connection: sa.Connection, new: Review) -> Review:
    """The review, pending where it removes readings from an exceedance: that takes a second person."""
    if new.verdict is Verdict.GOOD:
        return new
    c = incident_condition.c
    same = c.station == new.station
    if new.parameter:
        same &= c.parameter.in_((new.parameter, ""))
    during = (c.since_ms < new.until_ms) & (c.resolved_at_ms.is_(None) | (c.resolved_at_ms > new.since_ms))
    found = connection.execute(sa.select(c.incident_id).where(same, during).limit(1)).first()
    return new if found is None else replace(new, pending=True)


def confirm_review(connection: sa.Connection, station: str, number: int, author: Author) -> Review:
    """Agree with a pending review, which is in force from now on.

    Raises NotFound, and Refused for one that waits for nobody, or for the person who gave it.
    """
    found = dict(reviews(connection, station))
    if number not in found:
        raise NotFound(say("maintenance.no_review", station=station, number=number))
    one = found[number]
    if one.void or not one.pending:
        raise Refused(say("maintenance.not_pending", number=number, station=station))
    if one.by == author.by:
        raise Refused(say("maintenance.second_person", number=number, by=one.by))
    after = replace(one, pending=False, second=author.by)
    _put_review(connection, after, author)
    return after


def void_review(connection: sa.Connection, station: str, number: int, author: Author) -> Review:
    """Void a review; it stays on record. Raises NotFound, and Refused where it is void already."""
    found = dict(reviews(connection, station))
    if number not in found:
        raise NotFound(say("maintenance.no_review", station=station, number=number))
    if found[number].void:
        raise Refused(say("maintenance.void_already", number=number, station=station))
    after = replace(found[number], void=True)
    _put_review(connection, after, author)
    return after


_REVIEW_KEY = ("station", "parameter", "since_ms", "at_ms")


def _put_review(connection: sa.Connection, one: Review, author: Author) -> None:
    values = to_row(one, verdict=one.verdict.value)
    upsert(connection, review, {name: values.pop(name) for name in _REVIEW_KEY}, values, author)


# -- mutes -------------------------------------------------------------------------------------------------------------


def mutes(connection: sa.Connection, station: str | None = None) -> list[tuple[int, Mute]]:
    """(number, mute), oldest first."""
    query = sa.select(mute).order_by(mute.c.since_ms, mute.c.id)
    if station is not None:
        query = query.where(mute.c.station == station)
    return [(row.id, from_row(Mute, row, rules=tuple(row.rules))) for row in connection.execute(query)]


def add_mute(connection: sa.Connection, new: Mute, author: Author) -> int:
    """Store a mute; its number. Raises Refused where one of the station begins at the same instant."""
    where = (mute.c.station == new.station) & (mute.c.since_ms == new.since_ms)
    if (number := connection.execute(sa.select(mute.c.id).where(where)).scalar()) is not None:
        raise Refused(say("maintenance.mute_there", number=number, station=new.station, since=rfc3339(new.since_ms)))
    _put_mute(connection, new, author)
    return int(connection.execute(sa.select(mute.c.id).where(where)).scalar_one())


def end_mute(connection: sa.Connection, station: str, number: int, until_ms: int, author: Author) -> Mute:
    """End a mute earlier, or extend it.

    Raises NotFound, ConfigurationError for an end too far ahead, and Refused for one before it began.
    """
    if author.at_ms is not None and until_ms > author.at_ms + MAX_MUTE_MS:
        raise ConfigurationError(say("maintenance.mute_ahead", until=rfc3339(until_ms)))
    found = dict(mutes(connection, station))
    if number not in found:
        raise NotFound(say("maintenance.no_mute", station=station, number=number))
    if until_ms <= found[number].since_ms:
        raise Refused(
            say("maintenance.mute_began", number=number, station=station, since=rfc3339(found[number].since_ms))
        )
    after = replace(found[number], until_ms=until_ms)
    _put_mute(connection, after, author)
    return after


def retirements(connection: sa.Connection) -> dict[str, Mute]:
    """The stations that are out of service, each with since when, by whom and why.

    Retired is planned work without an end: no rule begins anything there and silence is expected.
    """
    query = sa.select(mute).where(mute.c.until_ms == RETIRED_UNTIL_MS)
    return {row.station: from_row(Mute, row, rules=tuple(row.rules)) for row in connection.execute(query)}


def retire(connection: sa.Connection, station: str, since_ms: int, reason: str, author: Author) -> Mute:
    """Take a station out of service. Its readings stay.

    Raises ConfigurationError without a reason and for a day to come, Refused where it is retired already.
    """
    if station in retirements(connection):
        raise Refused(say("maintenance.retired_already", station=station))
    if not reason.strip():
        raise ConfigurationError(say("maintenance.retire_why"))
    if author.at_ms is not None and since_ms > author.at_ms:
        raise ConfigurationError(say("maintenance.retire_ahead"))
    taken = {one.since_ms for _, one in mutes(connection, station)}
    while since_ms in taken:  # planned work that began at the same instant stays what it was
        since_ms += 1
    made = Mute(station, since_ms, RETIRED_UNTIL_MS, (), author.by, reason.strip())
    _put_mute(connection, made, author)
    return made


def reinstate(connection: sa.Connection, station: str, author: Author) -> Mute:
    """Put a retired station into service again, from now on. Raises Refused where it is not retired."""
    found = retirements(connection).get(station)
    if found is None or author.at_ms is None:
        raise Refused(say("maintenance.not_retired", station=station))
    after = replace(found, until_ms=max(author.at_ms, found.since_ms + 1))
    _put_mute(connection, after, author)
    return after


def _put_mute(connection: sa.Connection, one: Mute, author: Author) -> None:
    values = {"until_ms": one.until_ms, "rules": list(one.rules), "by": one.by, "reason": one.reason}
    upsert(connection, mute, {"station": one.station, "since_ms": one.since_ms}, values, author)


# -- photos ------------------------------------------------------------------------------------------------------------


def add_photo(connection: sa.Connection, one: Photo, author: Author) -> bool:
    """Store the record of a photo; false where the station has it already."""
    values = to_row(one)
    return upsert(connection, photo, {name: values.pop(name) for name in ("station", "sha256")}, values, author)


def photos(connection: sa.Connection, station: str) -> list[Photo]:
    """The photos of a station, newest first."""
    query = sa.select(photo).where(photo.c.station == station).order_by(photo.c.taken_ms.desc(), photo.c.id.desc())
    return [from_row(Photo, row) for row in connection.execute(query)]


def photo_type(connection: sa.Connection, sha256: str) -> str:
    """The media type of a photo of a station; raises NotFound."""
    found = connection.execute(sa.select(photo.c.media_type).where(photo.c.sha256 == sha256).limit(1)).scalar()
    if found is None:
        raise NotFound(say("attachment.no_such_photo", name=sha256[:80]))
    return str(found)


# -- marks -------------------------------------------------------------------------------------------------------------


def marks(connection: sa.Connection) -> set[MarkSpan]:
    """The marks of the stored readings."""
    rows = connection.execute(sa.select(mark))
    return {from_row(MarkSpan, row, test=QualityTest(row.test)) for row in rows}


def save_marks(connection: sa.Connection, before: Iterable[MarkSpan], after: Iterable[MarkSpan]) -> None:
    """Replace the stored marks ``before`` by ``after``."""
    removed, new = set(before) - set(after), set(after) - set(before)
    for one in sorted(removed):
        connection.execute(sa.delete(mark).where(*(mark.c[name] == value for name, value in _row(one).items())))
    if new:
        connection.execute(sa.insert(mark), [_row(one) for one in sorted(new)])


def _row(one: MarkSpan) -> dict[str, Any]:
    return to_row(one, test=int(one.test))
