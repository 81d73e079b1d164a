"""Stored readings get or lose the marks of checks and visits once these are recorded, corrected or ended.

A reading that becomes doubtful proves nothing any more; one that is cleared is judged as late data are: what it shows
is told, as a retrospective finding when it is too old to act on. What rested on readings that a reviewer calls bad is
withdrawn; doubt alone takes nothing back (design rule 5).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from governance.incidents.finding import Finding
from infra.texts import Text, say
from infra.times import DAY_MS
from ingest.rejudge.late_events import REACH_MS, PastEvents, StoredReadings
from ingest.rules.engine import RuleInput
from ingest.state.series_history import SeriesHistory
from ingest.storage.port import ReadingStore, Window
from sensors.maintenance import Marks, MarkSpan, Review, Verdict
from sensors.reading import Batch, Ints, QualityTest

AT_ONCE_MS = 7 * DAY_MS
"""Readings are looked through by weeks: a failed check may cast doubt on months."""


@dataclass(frozen=True, slots=True)
class RemarkResult:
    """Stored readings with another verdict; ``stations`` must be remembered anew; of the findings the ``lasting`` ones
    leave a condition firing."""

    batch: Batch
    packed: Ints
    stations: tuple[int, ...]
    findings: tuple[Finding, ...]
    lasting: tuple[Finding, ...]


def apply_marks(
    before: Marks,
    marks: Marks,
    history: SeriesHistory,
    store: ReadingStore,
    now_ms: int,
    reviews: Sequence[Review],
    past: PastEvents,
) -> RemarkResult:
    """What the stored readings become under the ``marks`` now in force where they differ from those ``before``.

    What rested on readings that one of the ``reviews`` calls bad is withdrawn; ``past`` tells the events.
    """
    verdicts: dict[tuple[int, int], dict[int, int]] = {}
    for span in before.spans ^ marks.spans:
        for station, window in _stored(span, history, store):
            laid = marks.apply_marks(np.full(len(window), station), window.parameter, window.at, window.packed)
            for i in np.flatnonzero(laid != window.packed).tolist():
                verdicts.setdefault((station, int(window.parameter[i])), {})[int(window.at[i])] = int(laid[i])
    findings: list[Finding] = []
    lasting: list[Finding] = []
    for (station, parameter), mine in sorted(verdicts.items()):
        found, left = _judged(station, parameter, mine, history, store, now_ms, reviews)
        findings += found
        lasting += left
    if history.checks.rules.events:
        was, now = (
            StoredReadings((Batch.empty(), np.empty(0, np.int64)), history, store, one) for one in (before, marks)
        )
        for found, left in _events(verdicts, was, now, past, reviews):
            findings += found
            lasting += left
    rows = [(s, p, at, packed) for (s, p), mine in sorted(verdicts.items()) for at, packed in sorted(mine.items())]
    batch = Batch.of([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], [0.0] * len(rows))
    packed = np.array([r[3] for r in rows], np.int64)
    return RemarkResult(batch, packed, tuple(sorted({r[0] for r in rows})), tuple(findings), tuple(lasting))


def _stored(span: MarkSpan, history: SeriesHistory, store: ReadingStore) -> Iterator[tuple[int, Window]]:
    registry = history.registry
    if span.station not in registry:
        return
    newest_ms = max(store.newest(span.station).values(), default=-1)
    last_ms = min(span.end_ms - 1, newest_ms)
    names = [span.parameter] if span.parameter else None
    for start_ms in range(span.start_ms, last_ms + 1, AT_ONCE_MS):
        end_ms = min(start_ms + AT_ONCE_MS - 1, last_ms)
        yield registry.index[span.station], store.window(span.station, start_ms, end_ms, names)


def _judged(
    station: int,
    parameter: int,
    verdicts: dict[int, int],
    history: SeriesHistory,
    store: ReadingStore,
    now_ms: int,
    reviews: Sequence[Review],
) -> tuple[list[Finding], list[Finding]]:
    """What the rules say of a series without and with the new verdicts (:meth:`Checks.late`, ``disproved``)."""
    registry, reach_ms = history.registry, history.lookback_ms[parameter]
    key, name = registry.stations[station].key, registry.catalogue.parameters[parameter].key
    series = int(history.series(np.array([station]), np.array([parameter]), now_ms)[0])

    def look(first_ms: int | None) -> tuple[RuleInput, RuleInput]:
        start_ms = min(verdicts) - reach_ms
        start_ms = start_ms if first_ms is None else min(start_ms, first_ms)
        around = store.window(key, start_ms, max(verdicts) + reach_ms, [name])
        pairs = zip(around.at.tolist(), around.packed.tolist(), strict=True)
        packed = np.array([verdicts.get(at, was) for at, was in pairs], np.int64)
        return RuleInput.of(around.at, around.value, around.packed), RuleInput.of(around.at, around.value, packed)

    found, lasting = history.checks.late(series, *look(None), now_ms)
    stored = store.window(key, min(verdicts), max(verdicts), [name])
    now_bad = np.array([verdicts.get(at, 0) >> 4 & _BAD != 0 for at in stored.at.tolist()], np.bool_)
    fresh = stored.at[now_bad & (stored.packed >> 4 & _BAD == 0)]
    if len(fresh):
        why = partial(_why, reviews, key, name, fresh)
        gone, ended = history.checks.withdrawn_by_review(series, look, why, now_ms)
        found, lasting = found + gone, lasting + ended
    return found, lasting


_BAD = int(QualityTest.REVIEWED_BAD)
_HEARD = _BAD | int(QualityTest.MAINTENANCE)
"""Marks that change what the event detector hears: it compares a sensor with its own last hours, and a level that is
doubted moves all the same."""


def _events(
    verdicts: Mapping[tuple[int, int], Mapping[int, int]],
    was: StoredReadings,
    now: StoredReadings,
    past: PastEvents,
    reviews: Sequence[Review],
) -> Iterator[tuple[list[Finding], list[Finding]]]:
    """What the events say of readings with these new ``verdicts``, and of the water below, down the river."""
    registry = now.history.registry
    changed: dict[int, set[int]] = {}
    called_bad: dict[int, set[int]] = {}
    for span in was.marks.spans ^ now.marks.spans:
        if int(span.test) & _HEARD and span.station in registry:
            station = registry.index[span.station]
            for (s, p), mine in verdicts.items():
                if s == station and registry.catalogue.parameters[p].event:
                    instants = {at for at in mine if span.start_ms <= at < span.end_ms}
                    changed.setdefault(s, set()).update(instants)
                    if int(span.test) & _BAD and span in now.marks.spans:
                        called_bad.setdefault(s, set()).update(instants)
    for station in past.downwards(s for s, instants in changed.items() if instants):
        for around in _stretches(np.array(sorted(changed[station]))):
            bad = np.array(sorted(called_bad.get(station, ())), np.int64)
            why = partial(_why, reviews, registry.stations[station].key, None, bad) if len(bad) else None
            before = partial(was.said, station, around)
            yield past.judge(station, around, now.said(station, around), before, now.said, why)
    for station, around, reason in past.downstream_findings(changed):
        yield now.use_stored_verdicts(station, around, past, reason)


def _stretches(at: Ints) -> Iterator[Ints]:
    """Instants, sorted, in pieces of a week at most, apart where what lies between them says nothing of either."""
    weeks = (at - at[0]) // AT_ONCE_MS
    return iter(np.split(at, np.flatnonzero((np.diff(at) > 2 * REACH_MS) | (np.diff(weeks) > 0)) + 1))


def _why(
    reviews: Sequence[Review], station: str, parameter: str | None, called_bad: Ints, first_ms: int, last_ms: int
) -> Text | None:
    """Who called readings bad that lie from one instant to another, and why; without a ``parameter`` any of them."""
    within = called_bad[(called_bad >= first_ms) & (called_bad <= last_ms)].tolist()
    review = _review(reviews, station, parameter, within)
    return None if review is None else say("finding.reviewed_bad", by=review.by, reason=review.reason)


def _review(reviews: Sequence[Review], station: str, parameter: str | None, at_ms: Sequence[int]) -> Review | None:
    """The newest review that calls such readings bad; without a ``parameter`` of any."""
    mine = [
        r
        for r in reviews
        if not r.void
        and r.verdict is Verdict.BAD
        and r.station == station
        and (parameter is None or r.parameter in ("", parameter))
        and any(r.since_ms <= at < r.until_ms for at in at_ms)
    ]
    return max(mine, key=lambda r: r.at_ms, default=None)
