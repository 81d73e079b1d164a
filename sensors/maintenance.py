"""Maintenance records of a station: checks, calibrations, visits, reviews, photos; and the readings they mark.

Pure. A failed check says that the sensor was wrong somewhere since it was last right, so that everything in between is
suspect; a visit says that the sensor was not in its water. Both are marks beside the readings (:class:`Marks`): they
come and go with the records they rest on, values never change.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from infra.errors import ConfigurationError
from infra.texts import Text, say
from infra.times import DAY_MS, beijing, rfc3339
from sensors.parameters import Catalogue
from sensors.reading import Codes, Flag, Ints, QualityTest
from sensors.standards import hj915
from sensors.standards.hj915 import CheckKind, Limit
from sensors.stations import Deployment, Registry

END_OF_TIME_MS: Final = 253_402_300_799_000
"""The end of the year 9999: what has no end yet."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one sensor, or its calibration.

    ``reading`` is what the instrument showed of the ``standard`` as it was found, ``after`` what it showed once it was
    adjusted (None: left as it was); both in the parameter's canonical unit. Drift needs ``before`` and ``span``.
    ``limit`` replaces the table's. ``void`` takes the record out of force and keeps it: it was entered in error.
    """

    station: str
    parameter: str
    kind: CheckKind
    at_ms: int
    standard: float
    reading: float
    after: float | None = None
    before: float | None = None
    span: float | None = None
    limit: float | None = None
    device: str = ""
    lot: str = ""
    by: str = ""
    note: str = ""
    void: bool = False

    def judged(self) -> "CheckResult":
        """The errors and whether they pass; raises ConfigurationError naming what is missing."""
        in_force = hj915.limit(self.kind, self.parameter, own=self.limit)
        found = hj915.error(in_force.kind, self.reading, self.standard, span=self.span, before=self.before)
        left = found
        if self.after is not None:
            left = hj915.error(in_force.kind, self.after, self.standard, span=self.span, before=self.before)
        passes = [hj915.within(one, in_force.most) for one in (found, left)]
        return CheckResult(in_force, found, left, passes[0], passes[1])


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of a check: the errors as found and as left, and whether each passes."""

    limit: Limit
    error: float
    error_left: float
    passed: bool
    left_right: bool


@dataclass(frozen=True, slots=True)
class Visit:
    """Work at a station from ``since_ms`` until ``until_ms`` (None: still does).

    ``parameters`` are the sensors worked on; none means all of the station.
    """

    station: str
    since_ms: int
    until_ms: int | None = None
    parameters: tuple[str, ...] = ()
    by: str = ""
    note: str = ""


class Verdict(StrEnum):
    """Verdict of a reviewer on readings."""

    GOOD = "good"
    SUSPECT = "suspect"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Review:
    """A person looked at the readings of ``parameter`` ("" for all) with since <= observed_at < until and says what
    they are worth. That goes before all tests and marks; ``void`` takes it back.

    ``pending``: it concerns an exceedance and counts for nothing until another person, ``second``, agrees."""

    station: str
    parameter: str
    since_ms: int
    until_ms: int
    verdict: Verdict
    reason: str
    by: str
    at_ms: int
    void: bool = False
    pending: bool = False
    second: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is in force."""
        return not self.void and not self.pending

    def meets(self, other: "Review") -> bool:
        """Whether both reviews cover a common reading."""
        same = self.parameter == other.parameter or not self.parameter or not other.parameter
        return (
            self.station == other.station and same and self.since_ms < other.until_ms and other.since_ms < self.until_ms
        )


def make_review(
    station: str,
    parameter: str,
    span_ms: tuple[int, int],
    verdict: Verdict,
    reason: str,
    by: str,
    now_ms: int,
    catalogue: Catalogue,
) -> Review:
    """A review made now, of readings there are: its end is at most now.

    Raises ConfigurationError for a span that ends before it begins or has not begun, an unknown parameter, no reason.
    """
    since_ms, until_ms = span_ms
    if until_ms <= since_ms:
        raise ConfigurationError(say("request.until_since", until=rfc3339(until_ms), since=rfc3339(since_ms)))
    if since_ms > now_ms:
        raise ConfigurationError(say("maintenance.review_ahead", since=rfc3339(since_ms)))
    if parameter and parameter not in catalogue:
        raise ConfigurationError(say("registry.no_parameter", parameter=parameter[:40]))
    if not reason.strip():
        raise ConfigurationError(say("maintenance.review_why"))
    return Review(station, parameter, since_ms, min(until_ms, now_ms), verdict, reason, by, now_ms)


@dataclass(frozen=True, slots=True, order=True)
class Mute:
    """Planned work: from ``since_ms`` until ``until_ms`` no rule (or only ``rules``) begins anything at ``station``."""

    station: str
    since_ms: int
    until_ms: int
    rules: tuple[str, ...] = ()
    by: str = ""
    reason: str = ""


RETIRED_UNTIL_MS: Final = 253_402_214_400_000
"""The end of a mute that has none, of a station out of service: 9999-12-31, which every zone can write."""
MAX_MUTE_MS: Final = 90 * DAY_MS
"""Planned work that goes on longer is entered again: a mute that nobody remembers hides a river."""


def plan_mute(
    station: str, span_ms: tuple[int, int], rules: tuple[str, ...], reason: str, by: str, in_force: Collection[str]
) -> Mute:
    """Planned work from the first instant of ``span_ms`` until the second; ``in_force`` are the rules there are.

    Raises ConfigurationError for a span that ends before it begins or is longer than ``MAX_MUTE_MS``, for a rule
    that is not in force, and without a reason.
    """
    since_ms, until_ms = span_ms
    if not 0 < until_ms - since_ms <= MAX_MUTE_MS:
        raise ConfigurationError(say("maintenance.mute_span", until=rfc3339(until_ms), since=rfc3339(since_ms)))
    if unknown := sorted(set(rules) - set(in_force)):
        raise ConfigurationError(say("rule.not_in_force", rule=unknown[0][:80]))
    if not reason.strip():
        raise ConfigurationError(say("maintenance.mute_why"))
    return Mute(station, since_ms, until_ms, rules, by, reason)


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo of a station; its bytes lie in a file named after their SHA-256 (hex)."""

    station: str
    sha256: str
    media_type: str
    size: int
    taken_ms: int
    by: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class MaintenanceRecords:
    """Maintenance records of the stations of a registry."""

    checks: tuple[Check, ...] = ()
    visits: tuple[Visit, ...] = ()
    reviews: tuple[Review, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class MarkSpan:
    """Readings of ``parameter`` ("" for all) at ``station`` with start <= observed_at < end fail ``test``."""

    station: str
    parameter: str
    test: QualityTest
    start_ms: int
    end_ms: int


def conflicting_visits(visits: Iterable[Visit]) -> list[tuple[Visit, Text]]:
    """Visits that end before they begin, or begin while another one of their station goes on."""
    found = []
    last: dict[str, Visit] = {}
    for visit in sorted(visits, key=lambda v: (v.station, v.since_ms)):
        if visit.until_ms is not None and visit.until_ms <= visit.since_ms:
            found.append((visit, say("maintenance.ends_before")))
        earlier = last.get(visit.station)
        if earlier is not None and visit.since_ms < (END_OF_TIME_MS if earlier.until_ms is None else earlier.until_ms):
            key = "maintenance.during_visit_of" if earlier.by else "maintenance.during_visit"
            found.append((visit, say(key, by=earlier.by, at=_when(earlier.since_ms))))
        last[visit.station] = visit
    return found


def last_maintained(
    maintenance: MaintenanceRecords, deployments: Iterable[Deployment], station: str, parameter: str, until_ms: int
) -> list[int]:
    """Times until ``until_ms`` at which a sensor was visited, checked or deployed; unordered."""
    then = [
        one.until_ms
        for one in maintenance.visits
        if one.station == station and one.until_ms is not None and (not one.parameters or parameter in one.parameters)
    ]
    then += [c.at_ms for c in maintenance.checks if (c.station, c.parameter) == (station, parameter) and not c.void]
    then += [d.since_ms for d in deployments if (d.station, d.parameter) == (station, parameter)]
    return [at_ms for at_ms in then if at_ms <= until_ms]


def mark_spans(registry: Registry, maintenance: MaintenanceRecords) -> set[MarkSpan]:
    """All marks in force; void records mark nothing."""
    found = {
        MarkSpan(
            v.station,
            parameter,
            QualityTest.MAINTENANCE,
            v.since_ms,
            END_OF_TIME_MS if v.until_ms is None else v.until_ms,
        )
        for v in maintenance.visits
        for parameter in v.parameters or ("",)
    }
    found |= {
        MarkSpan(r.station, r.parameter, _REVIEW_TEST[r.verdict], r.since_ms, r.until_ms)
        for r in maintenance.reviews
        if r.counts
    }
    by_kind: dict[tuple[str, str, CheckKind], list[Check]] = defaultdict(list)
    for check in maintenance.checks:
        if not check.void:
            by_kind[check.station, check.parameter, check.kind].append(check)
    deployed: dict[tuple[str, str], list[Deployment]] = defaultdict(list)
    for deployment in sorted(registry.deployments, key=lambda d: d.since_ms):
        deployed[deployment.station, deployment.parameter].append(deployment)
    for (station, parameter, _), checks in by_kind.items():
        found |= set(_check_marks(sorted(checks, key=lambda c: c.at_ms), deployed[station, parameter]))
    return found


@dataclass(frozen=True, slots=True)
class CheckDue:
    """When the sensor of ``parameter`` is to be checked next.

    ``last_ms`` is its last check since it was hung, None for none. ``wrong``: a check left it outside its limit, and
    none of that type passed since. ``due_ms`` is when it has to be checked at the latest, 0 where it never was and
    the date of deployment is unknown; None where no interval is defined.
    """

    parameter: str
    last_ms: int | None
    wrong: bool
    due_ms: int | None

    def overdue(self, now_ms: int) -> bool:
        """Whether the check should have been made."""
        return self.due_ms is not None and self.due_ms <= now_ms


def checks_due(
    parameters: Iterable[str], checks: Iterable[Check], deployments: Iterable[Deployment], now_ms: int
) -> list[CheckDue]:
    """When each sensor of one station is to be checked next, in the order given.

    ``hj915.check_days`` after the last check, or at once where that left it wrong. ``checks`` and ``deployments`` are
    those of the station.
    """
    done, hung = list(checks), list(deployments)
    found = []
    for parameter in parameters:
        since_ms = max((d.since_ms for d in hung if d.parameter == parameter and d.since_ms <= now_ms), default=None)
        mine = [c for c in done if c.parameter == parameter and not c.void and c.at_ms >= (since_ms or 0)]
        newest = {c.kind: c for c in sorted(mine, key=lambda c: c.at_ms)}
        last_ms = max((c.at_ms for c in mine), default=None)
        wrong = [c.at_ms for c in newest.values() if not c.judged().left_right]
        days = hj915.check_days(parameter)
        due_ms = None if days is None else 0
        if wrong:
            due_ms = min(wrong)
        elif days is not None and (from_ms := since_ms if last_ms is None else last_ms) is not None:
            due_ms = from_ms + days * DAY_MS
        found.append(CheckDue(parameter, last_ms, bool(wrong), due_ms))
    return found


def _check_marks(checks: Sequence[Check], deployed: Sequence[Deployment]) -> Iterable[MarkSpan]:
    """The spans before checks that did not pass, and after those that left the instrument wrong.

    Source: HJ 915 (unverified): data between the last passed and the next passed check are invalid.
    A swap ends the suspect span: the next sensor is another one. Without an earlier check the span begins with the
    deployment, and where that is unknown, with the check itself.
    """
    for i, check in enumerate(checks):
        judged = check.judged()
        if judged.passed and judged.left_right:
            continue
        hung_ms, gone_ms = _deployment_span(deployed, check.at_ms)
        earlier_ms = checks[i - 1].at_ms if i else hung_ms
        start_ms = max((at for at in (earlier_ms, hung_ms) if at is not None), default=check.at_ms)
        later_ms = min(checks[i + 1].at_ms if i + 1 < len(checks) else END_OF_TIME_MS, gone_ms)
        mark = (check.station, check.parameter, QualityTest.CALIBRATION)
        if not judged.passed and start_ms < check.at_ms:
            yield MarkSpan(*mark, start_ms, check.at_ms)
        if not judged.left_right and check.at_ms < later_ms:
            yield MarkSpan(*mark, check.at_ms, later_ms)


def _deployment_span(deployed: Sequence[Deployment], at_ms: int) -> tuple[int | None, int]:
    """Begin and end of the deployment in force at ``at_ms``."""
    since: int | None = None
    for deployment in deployed:
        if deployment.since_ms > at_ms:
            return since, deployment.since_ms
        since = deployment.since_ms
    return since, END_OF_TIME_MS


_REVIEW_TEST: Final = {
    Verdict.GOOD: QualityTest.REVIEWED_GOOD,
    Verdict.SUSPECT: QualityTest.REVIEWED_SUSPECT,
    Verdict.BAD: QualityTest.REVIEWED_BAD,
}
REVIEWED: Final = int(QualityTest.REVIEWED_GOOD | QualityTest.REVIEWED_SUSPECT | QualityTest.REVIEWED_BAD)
"""The tests that a review raises."""
_REVIEWED_FLAG: Final = {
    int(QualityTest.REVIEWED_GOOD): Flag.GOOD,
    int(QualityTest.REVIEWED_SUSPECT): Flag.SUSPECT,
    int(QualityTest.REVIEWED_BAD): Flag.BAD,
}
_FLAG_BEFORE_BIT: Final = 23
"""Bits 23 and 24 of a reviewed reading hold the flag it had before (1 to 4), less one."""


class Marks:
    """Mark spans as columns, to be applied to readings; reviews come last, because they override everything else."""

    def __init__(self, found: Iterable[MarkSpan], stations: Mapping[str, int], catalogue: Catalogue) -> None:
        self.spans = frozenset(found)
        known = sorted((s for s in self.spans if s.station in stations), key=lambda s: (int(s.test) & REVIEWED > 0, s))
        self._station = [stations[s.station] for s in known]
        self._parameter = [catalogue.index[s.parameter] if s.parameter else -1 for s in known]
        self._test = [int(s.test) for s in known]
        self._start = np.array([s.start_ms for s in known], np.int64)
        self._end = np.array([s.end_ms for s in known], np.int64)

    def apply_marks(self, station: Codes, parameter: Codes, at: Ints, packed: Ints) -> Ints:
        """(n,) ``packed`` with the marks in force, and without marks that are no longer; readings as in a batch."""
        marked = _without_marks(packed)
        if not len(at):
            return marked
        for i in np.flatnonzero((self._start <= at.max()) & (self._end > at.min())).tolist():
            mine = (station == self._station[i]) & (at >= self._start[i]) & (at < self._end[i])
            if self._parameter[i] >= 0:
                mine &= parameter == self._parameter[i]
            if self._test[i] & REVIEWED:
                marked[mine] = _reviewed(marked[mine], self._test[i])
            else:
                tests = marked[mine] >> 4 | self._test[i]
                marked[mine] = np.maximum(marked[mine] & 15, int(Flag.SUSPECT)) | tests << 4
        return marked


MARKED: Final = int(QualityTest.CALIBRATION | QualityTest.MAINTENANCE | QualityTest.DRIFT)
"""The tests that maintenance records raise."""


def _reviewed(packed: Ints, test: int) -> Ints:
    """(n,) the verdict of a review, with the flag before kept beside it; missing readings stay missing."""
    flag, tests = packed & 15, packed >> 4
    reviewed_flag = int(_REVIEWED_FLAG[test])
    kept = reviewed_flag | (tests | test | (flag - 1 & 3) << _FLAG_BEFORE_BIT) << 4
    return np.asarray(np.where((flag <= Flag.BAD) & (tests & REVIEWED == 0), kept, packed), np.int64)


def _without_marks(packed: Ints) -> Ints:
    """(n,) the verdicts without marks: readings with no other test are good again."""
    reviewed = packed >> 4 & REVIEWED != 0
    if reviewed.any():
        before = (packed >> 4 >> _FLAG_BEFORE_BIT & 3) + 1 | (packed >> 4 & ~(REVIEWED | 3 << _FLAG_BEFORE_BIT)) << 4
        packed = np.where(reviewed, before, packed)
    tests = packed >> 4 & ~MARKED
    lifted = (packed >> 4 & MARKED != 0) & (packed & 15 == Flag.SUSPECT) & (tests == 0)
    return np.asarray(np.where(lifted, int(Flag.GOOD), packed & 15) | tests << 4, np.int64)


def muted_until(visits: Iterable[Visit], stations: Mapping[str, int], now_ms: int) -> Ints:
    """(stations,) until when silence is expected: ``now_ms`` during a visit, after it the end of the last, else -1."""
    until = np.full(len(stations), -1, np.int64)
    for visit in visits:
        if visit.station in stations and visit.since_ms <= now_ms:
            end_ms = now_ms if visit.until_ms is None else min(visit.until_ms, now_ms)
            until[stations[visit.station]] = max(until[stations[visit.station]], end_ms)
    return until


def is_visited(visits: Iterable[Visit], station: str, at_ms: int) -> bool:
    """Whether a visit was going on then."""
    return any(
        one.station == station and one.since_ms <= at_ms and (one.until_ms is None or at_ms <= one.until_ms)
        for one in visits
    )


def _when(at_ms: int) -> str:
    return beijing(at_ms, "%Y-%m-%d %H:%M")
