"""Patrols (巡河): check a track, decide whether a patrol counts, store and list patrols.

A patrol is uploaded whole, often hours later; the device makes its number, so that a repeated upload is the same
patrol. What counts is a setting of the site (`PatrolRule`): published rules differ (Guangzhou at least 10 min and 1 km,
Sixian 5 min and 300 m, Akqi 30 min and 2 km).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import sqlalchemy as sa

from governance.assessment.model import GroupBy, Share
from governance.audit import trail as audit_trail
from governance.organisation.roles import ROLES_WITH_TERMS, Actor, Role
from governance.organisation.terms import Appointment
from governance.people import store as people_store
from governance.reports.citizen_reports import lock_sender
from governance.tables import patrol as table
from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import Text, say
from infra.times import DAY_MS
from sensors.coverage import Stretch, stretches, union
from sensors.network import distance_km

MAX_POINTS = 20_000
"""A point a second for five hours and a half."""
MAX_DURATION_MS = DAY_MS
_KEY = re.compile(r"[A-Za-z0-9-]{8,64}")


@dataclass(frozen=True, slots=True)
class PatrolRule:
    """When a patrol counts: at least so many minutes and metres.

    Between two points no faster than ``fastest_m_s`` (54 km/h, a boat or a motorcycle; our choice): beyond it the
    receiver has jumped. Water within ``near_m`` of the track was looked at: a path on the bank, half of a river of
    150 m and 20 m of the phone's error; our choice.
    """

    minutes: float = 10.0
    metres: float = 1000.0
    fastest_m_s: float = 15.0
    near_m: float = 100.0


@dataclass(frozen=True, slots=True)
class Point:
    """Where the patroller was: ms UTC, WGS 84 degrees."""

    at_ms: int
    lon: float
    lat: float


@dataclass(frozen=True, slots=True)
class TrackResult:
    """Length of a track without the jumps of the receiver, and time from its first to its last point."""

    metres: float
    minutes: float
    jumps: int


@dataclass(frozen=True, slots=True)
class Patrol:
    """One patrol as kept; ``problems`` are the numbers of the incidents reported on it, ``covered`` the stretches of
    waters it passed, by reach (`walked_water`), ``chief`` the chief in whose place a deputy walked, else ""."""

    key: str
    by: str
    role: str
    reach: str
    region: str
    started_ms: int
    ended_ms: int
    uploaded_ms: int
    metres: float
    minutes: float
    jumps: int
    valid: bool
    why: Text
    way: str
    note: str
    problems: tuple[int, ...]
    covered: Mapping[str, tuple[Stretch, ...]] = field(default_factory=dict)
    track: tuple[Point, ...] = ()
    chief: str = ""


CORRECTABLE_MS = 7 * DAY_MS
"""So long after its receipt a patrol may be corrected: later, others have counted on it."""
WAYS = ("walk", "drone", "meeting", "on_site")
"""Ways to patrol (多样化巡河); only a walk has to prove its length."""


def measure_track(track: Sequence[Point], rule: PatrolRule) -> TrackResult:
    """Measure a track. A stretch faster than the rule allows is a jump of the receiver and adds no length."""
    metres, jumps = 0.0, 0
    for before, after in pairwise(track):
        if _is_jump(before, after, rule):
            jumps += 1
        else:
            metres += 1000 * distance_km((before.lon, before.lat), (after.lon, after.lat))
    minutes = (track[-1].at_ms - track[0].at_ms) / 60_000 if track else 0.0
    return TrackResult(metres, minutes, jumps)


def walked_water(
    track: Sequence[Point], waters: Mapping[str, Sequence[tuple[float, float]]], rule: PatrolRule
) -> dict[str, tuple[Stretch, ...]]:
    """The stretches of each water (its line by key) that a track passed, in km down it; jumps pass nothing."""
    ways: list[list[tuple[float, float]]] = []
    for i, point in enumerate(track):
        if i == 0 or _is_jump(track[i - 1], point, rule):
            ways.append([])
        ways[-1].append((point.lon, point.lat))
    found = {key: stretches(line, ways, rule.near_m / 1000) for key, line in waters.items()}
    return {key: passed for key, passed in found.items() if passed}


def _is_jump(before: Point, after: Point, rule: PatrolRule) -> bool:
    step_m = 1000 * distance_km((before.lon, before.lat), (after.lon, after.lat))
    return step_m > rule.fastest_m_s * (after.at_ms - before.at_ms) / 1000.0


def judge_patrol(way: str, done: TrackResult, rule: PatrolRule) -> tuple[bool, Text]:
    """Whether a patrol counts, and the sentence that says why."""
    if way != "walk":
        return True, say("patrol.other_way", way=say(f"patrol.way_{way}"))
    values = {
        "metres": f"{done.metres:.0f}",
        "minutes": f"{done.minutes:.0f}",
        "least_metres": f"{rule.metres:.0f}",
        "least_minutes": f"{rule.minutes:.0f}",
    }
    enough = done.metres >= rule.metres and done.minutes >= rule.minutes
    return enough, say("patrol.counts" if enough else "patrol.too_short", **values)


def check_way(way: str) -> str:
    """The way to patrol; raises ConfigurationError for one that is none."""
    if way not in WAYS:
        raise ConfigurationError(say("request.one_of", name="way", text=way[:80], known=", ".join(WAYS)))
    return way


def check_upload(key: str, way: str, started_ms: int, ended_ms: int, track: Sequence[Point], now_ms: int) -> None:
    """Raises ConfigurationError naming the first fault of an uploaded patrol."""
    if not _KEY.fullmatch(key):
        raise ConfigurationError(say("patrol.no_key", key=key[:80]))
    check_way(way)
    if ended_ms < started_ms:
        raise ConfigurationError(say("patrol.backwards"))
    if ended_ms - started_ms > MAX_DURATION_MS:
        raise ConfigurationError(say("patrol.too_long"))
    if ended_ms > now_ms + 5 * 60_000:
        raise ConfigurationError(say("patrol.ahead"))
    if len(track) > MAX_POINTS:
        raise ConfigurationError(say("patrol.many_points", count=len(track), most=MAX_POINTS))
    for i, point in enumerate(track):
        if not (-180 <= point.lon <= 180 and -90 <= point.lat <= 90):
            raise ConfigurationError(say("patrol.no_place", i=i, lon=point.lon, lat=point.lat))
        if i and point.at_ms <= track[i - 1].at_ms:
            raise ConfigurationError(say("patrol.not_later", i=i))
    if track and not (started_ms <= track[0].at_ms and track[-1].at_ms <= ended_ms):
        raise ConfigurationError(say("patrol.beyond"))


def without_duplicates(connection: sa.Connection, made: Patrol) -> Patrol:
    """The patrol, invalid where a valid one of the same person overlaps it or a valid one has the same track.

    Locks other uploads of this person and of this beginning until the transaction ends.
    """
    lock_sender(connection, f"patrol {made.started_ms}")
    lock_sender(connection, f"patrol {made.by}")
    if not made.valid:
        return made
    c = table.c
    own = (c.by == made.by) & (c.started_ms < made.ended_ms) & (c.ended_ms > made.started_ms)
    same = (c.started_ms == made.started_ms) & (c.ended_ms == made.ended_ms)
    points = [[p.at_ms, p.lon, p.lat] for p in made.track]
    query = sa.select(c.by, c.track).where(c.valid, c.key != made.key, own | same).order_by(c.id)
    for row in connection.execute(query):
        if row.by == made.by or (points and [list(point) for point in row.track] == points):
            return replace(made, valid=False, why=say("patrol.counted_already"))
    return made


def add(connection: sa.Connection, made: Patrol) -> None:
    """Keep a patrol. Raises Refused when another one of this number is there."""
    row = {name: getattr(made, name) for name in _COLUMNS} | {
        "reason_zh": made.why.zh,
        "reason_en": made.why.en,
        "problems": list(made.problems),
        "covered": made.covered,
        "track": [[p.at_ms, p.lon, p.lat] for p in made.track],
    }
    try:
        connection.execute(sa.insert(table).values(row))
    except sa.exc.IntegrityError:
        raise Refused(say("patrol.there", key=made.key)) from None
    body = {
        "chief": made.chief,
        "reach": made.reach,
        "started_ms": made.started_ms,
        "ended_ms": made.ended_ms,
        "metres": round(made.metres),
        "minutes": round(made.minutes, 1),
        "valid": made.valid,
        "way": made.way,
        "problems": list(made.problems),
    }
    audit_trail.append(
        connection,
        "patrol.uploaded",
        kind="patrol",
        id=made.key,
        body=body,
        by=made.by,
        role=made.role,
        at_ms=made.uploaded_ms,
    )


def correct(connection: sa.Connection, before: Patrol, after: Patrol, now_ms: int) -> None:
    """Keep a patrol as its person corrects it; the trail keeps both. Raises Refused where that is too late."""
    if now_ms > before.uploaded_ms + CORRECTABLE_MS:
        raise Refused(say("patrol.too_late", days=CORRECTABLE_MS // DAY_MS))
    row = {name: getattr(after, name) for name in (*_CORRECTED, "covered")}
    row |= {"reason_zh": after.why.zh, "reason_en": after.why.en}
    connection.execute(sa.update(table).where(table.c.key == before.key).values(row))
    old, new = ({name: getattr(one, name) for name in _CORRECTED} for one in (before, after))
    audit_trail.append(
        connection,
        "patrol.corrected",
        kind="patrol",
        id=before.key,
        body={"old": old, "new": new},
        by=before.by,
        role=before.role,
        at_ms=now_ms,
    )


def find(connection: sa.Connection, key: str, by: str | None = None) -> Patrol:
    """A patrol with its track, by its number; raises NotFound, also for one that is not ``by`` whom it should be."""
    row = connection.execute(sa.select(table).where(table.c.key == key)).mappings().one_or_none()
    if row is None or (by is not None and row["by"] != by):
        raise NotFound(say("patrol.unknown", key=key[:80]))
    return _patrol(row)


def listing(
    connection: sa.Connection,
    *,
    by: str | None = None,
    reach: str | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[tuple[int, Patrol]]:
    """(number, patrol) without tracks, the last uploaded first; ``start_ms`` to ``end_ms`` is when they began."""
    columns = [c for c in table.c if c.name != "track"]
    query = sa.select(*columns).order_by(table.c.id.desc()).limit(limit)
    for condition in (
        None if by is None else (table.c.by == by) | (table.c.chief == by),
        None if reach is None else table.c.reach == reach,
        None if start_ms is None else table.c.started_ms >= start_ms,
        None if end_ms is None else table.c.started_ms < end_ms,
        None if before_id is None else table.c.id < before_id,
    ):
        if condition is not None:
            query = query.where(condition)
    return [(row["id"], _patrol(row)) for row in connection.execute(query).mappings()]


def walked(connection: sa.Connection, start_ms: int, end_ms: int) -> dict[str, int] | None:
    """Valid patrols begun in this time by reach; None where no patrol was ever recorded."""
    c = table.c
    if connection.execute(sa.select(c.id).limit(1)).first() is None:
        return None
    query = sa.select(c.reach, sa.func.count()).where(c.valid, c.started_ms >= start_ms, c.started_ms < end_ms)
    return {row[0]: int(row[1]) for row in connection.execute(query.group_by(c.reach))}


def passed_water(connection: sa.Connection, start_ms: int, end_ms: int) -> dict[str, tuple[Stretch, ...]] | None:
    """The stretches of each reach passed by patrols that began in this time. None where no patrol was ever recorded.

    A patrol too short to count passed its water all the same.
    """
    c = table.c
    if connection.execute(sa.select(c.id).limit(1)).first() is None:
        return None
    query = sa.select(c.covered).where(c.started_ms >= start_ms, c.started_ms < end_ms)
    found: dict[str, list[Stretch]] = {}
    for row in connection.execute(query):
        for reach, passed in row.covered.items():
            found.setdefault(reach, []).extend((begin, end) for begin, end in passed)
    return {reach: union(spans) for reach, spans in found.items()}


def may_see(actor: Actor, one: Patrol) -> bool:
    """Whether an actor may see a patrol: their own, by their deputy, or in their regions."""
    return actor.name in (one.by, one.chief) or actor.covers(one.region, one.reach)


class PatrolShares:
    """Shares of patrols for the assessment: valid patrols, at most those due, of those due.

    ``due`` is how many a month each person of a role owes (`governance.assessment.model.Formula`).
    Who was in office for a part of the month, or left since, owes that part, rounded to whole patrols. ``deputies``:
    what a deputy walked counts for the chief.
    """

    def __init__(
        self, connection: sa.Connection, street: Callable[[str], str], due: Mapping[Role, int], deputies: bool = False
    ) -> None:
        self._connection = connection
        self._street = street
        self._due = due
        self._deputies = deputies

    def done(self, by: GroupBy, start_ms: int, end_ms: int, until_ms: int) -> Mapping[str, Share]:
        """Shares by person or street; nothing by reach: who owes a patrol owes it of all the water of a region.

        Before the month is over, those count that are due by then: the whole patrols of the part that has passed.
        """
        to_ms = min(end_ms, until_ms)
        t = table.c
        whose = sa.case((t.chief != "", t.chief), else_=t.by) if self._deputies else t.by
        query = sa.select(whose, sa.func.count()).where(t.valid, t.started_ms >= start_ms, t.started_ms < end_ms)
        walked = {row[0]: int(row[1]) for row in self._connection.execute(query.group_by(whose))}
        terms: dict[str, list[Appointment]] = {}
        for term in people_store.appointments(self._connection):
            terms.setdefault(term.name, []).append(term)
        found: dict[str, Share] = {}
        for person in people_store.list_people(self._connection, removed=True):
            month = self._due.get(person.role, 0)
            if not month or by is GroupBy.REACH or (by is GroupBy.CHIEF and person.role is not Role.CHIEF):
                continue
            held = [(one.since_ms, one.until_ms, one.region) for one in terms.get(person.name, ())]
            if person.role not in ROLES_WITH_TERMS:
                held = [(person.created_at_ms, person.removed_at_ms, person.region)]
            served = [(max(since, start_ms), min(until or to_ms, to_ms), region) for since, until, region in held]
            served = [span for span in served if span[0] < span[1]]
            if not served:
                continue
            part = month * _covered(served) / (end_ms - start_ms)
            due = int(part + 0.5) if until_ms >= end_ms else int(part + 1e-9)
            key = person.name if by is GroupBy.CHIEF else self._street(served[-1][2])
            found[key] = found.get(key, Share()) + Share(min(due, walked.get(person.name, 0)), due)
        return found


def _covered(spans: Sequence[tuple[int, int, str]]) -> int:
    """How long at least one of the spans lasts, ms."""
    total, reached = 0, 0
    for since, until, _ in sorted(spans):
        total += max(0, until - max(since, reached))
        reached = max(reached, until)
    return total


_CORRECTED = ("way", "reach", "note", "valid")
"""Fields that a correction may change; the recorded track is not among them."""
_COLUMNS = (
    *("key", "by", "role", "chief", "reach", "region", "started_ms", "ended_ms", "uploaded_ms"),
    *("metres", "minutes", "jumps", "valid", "way", "note"),
)


def _patrol(row: sa.RowMapping) -> Patrol:
    return Patrol(
        **{name: row[name] for name in _COLUMNS},
        why=Text(row["reason_zh"], row["reason_en"]),
        problems=tuple(row["problems"]),
        covered={reach: tuple((a, b) for a, b in passed) for reach, passed in row["covered"].items()},
        track=tuple(Point(int(at), lon, lat) for at, lon, lat in row.get("track", ())),
    )
