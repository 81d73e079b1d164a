"""Give stored readings the marks of checks, visits and reviews, or take them away, once these are recorded or changed.

A reading that becomes suspect proves nothing any more. One that is cleared counts as if it had arrived late.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from infra.texts import Text, say
from infra.times import DAY_MS
from ingest.rejudge.difference import EventChange, Rejudgement, SeriesChange, compare
from ingest.rejudge.past_events import PastEvents
from ingest.rejudge.station_moves import REACH_MS, StoredReadings
from ingest.rules.engine import RuleInput
from ingest.storage.port import Window
from sensors.maintenance import Marks, MarkSpan, Review
from sensors.maintenance import Verdict as ReviewVerdict
from sensors.reading import Ints, QualityTest

WINDOW_MS = 7 * DAY_MS
"""Readings are read in pieces of a week: a failed check may cast doubt on months."""

_CALLED_BAD: Final = int(QualityTest.REVIEWED_BAD | QualityTest.REVIEWED_SUSPECT)
_OF_EVENTS: Final = _CALLED_BAD | int(QualityTest.MAINTENANCE)
"""Marks that change what the event detector finds: it compares a sensor with its own last hours, and a level that is
in doubt moves all the same."""

Verdicts = Mapping[int, int]
"""New verdicts (packed) of stored readings of one series by observed_at (ms)."""


def rejudge_marks(
    before: Marks, stored: StoredReadings, past_events: PastEvents, reviews: Sequence[Review], now_ms: int
) -> Rejudgement:
    """What the stored readings become under the marks of ``stored`` where these differ from those ``before``.

    What rested on readings that one of the ``reviews`` calls bad is withdrawn.
    """
    verdicts = _changed_verdicts(before, stored)
    series = [_series_change(*key, bits, stored, reviews, now_ms) for key, bits in sorted(verdicts.items())]
    stations = _event_changes(verdicts, before, stored, reviews)
    difference = compare(series, stations, stored, past_events, now_ms)
    rows = [(s, p, at, packed) for (s, p), bits in sorted(verdicts.items()) for at, packed in sorted(bits.items())]
    return Rejudgement.of(rows, (station for station, _ in verdicts), difference)


def _changed_verdicts(before: Marks, stored: StoredReadings) -> dict[tuple[int, int], dict[int, int]]:
    """By (station, parameter) the new verdicts of the readings whose marks change."""
    verdicts: dict[tuple[int, int], dict[int, int]] = {}
    for span in before.spans ^ stored.marks.spans:
        for station, window in _windows(span, stored):
            packed = stored.marked(station, window, window.packed)
            for i in np.flatnonzero(packed != window.packed).tolist():
                verdicts.setdefault((station, int(window.parameter[i])), {})[int(window.at[i])] = int(packed[i])
    return verdicts


def _windows(span: MarkSpan, stored: StoredReadings) -> Iterator[tuple[int, Window]]:
    """The stored readings of a span, with their station."""
    registry = stored.history.registry
    if span.station not in registry:
        return
    newest_ms = max(stored.store.newest(span.station).values(), default=-1)
    last_ms = min(span.end_ms - 1, newest_ms)
    names = [span.parameter] if span.parameter else None
    for start_ms in range(span.start_ms, last_ms + 1, WINDOW_MS):
        end_ms = min(start_ms + WINDOW_MS - 1, last_ms)
        yield registry.index[span.station], stored.store.window(span.station, start_ms, end_ms, names)


def _series_change(
    station: int, parameter: int, verdicts: Verdicts, stored: StoredReadings, reviews: Sequence[Review], now_ms: int
) -> SeriesChange:
    """A series without and with the new verdicts."""
    history, registry = stored.history, stored.history.registry
    reach_ms = history.lookback_ms[parameter]
    series = int(history.series(np.array([station]), np.array([parameter]), now_ms)[0])

    def read_window(first_ms: int | None) -> tuple[RuleInput, RuleInput]:
        start_ms = min(verdicts) - reach_ms
        start_ms = start_ms if first_ms is None else min(start_ms, first_ms)
        around = stored.window(station, parameter, start_ms, max(verdicts) + reach_ms)
        pairs = zip(around.at.tolist(), around.packed.tolist(), strict=True)
        packed = np.array([verdicts.get(at, was) for at, was in pairs], np.int64)
        return RuleInput.of(around.at, around.value, around.packed), RuleInput.of(around.at, around.value, packed)

    window = stored.window(station, parameter, min(verdicts), max(verdicts))
    bad_now = np.array([verdicts.get(at, 0) >> 4 & _CALLED_BAD != 0 for at in window.at.tolist()], np.bool_)
    called_bad = window.at[bad_now & (window.packed >> 4 & _CALLED_BAD == 0)]
    if not len(called_bad):
        return SeriesChange(series, read_window)
    key, name = registry.stations[station].key, registry.catalogue.parameters[parameter].key
    return SeriesChange(series, read_window, partial(_reason_text, reviews, key, name, called_bad))


def _event_changes(
    verdicts: Mapping[tuple[int, int], Verdicts], before: Marks, stored: StoredReadings, reviews: Sequence[Review]
) -> dict[int, Callable[[], Iterator[EventChange]]]:
    """By station what the event detector sees before and after; made when it is asked for."""
    registry = stored.history.registry
    changed: dict[int, set[int]] = {}
    called_bad: dict[int, set[int]] = {}
    for span in before.spans ^ stored.marks.spans:
        if not int(span.test) & _OF_EVENTS or span.station not in registry:
            continue
        station = registry.index[span.station]
        for (s, p), bits in verdicts.items():
            if s == station and registry.catalogue.parameters[p].event:
                instants = {at for at in bits if span.start_ms <= at < span.end_ms}
                changed.setdefault(s, set()).update(instants)
                if int(span.test) & _CALLED_BAD and span in stored.marks.spans:
                    called_bad.setdefault(s, set()).update(instants)
    was = StoredReadings(stored.history, stored.store, before)

    def changes(station: int) -> Iterator[EventChange]:
        bad = np.array(sorted(called_bad.get(station, ())), np.int64)
        why = partial(_reason_text, reviews, registry.stations[station].key, None, bad) if len(bad) else None
        for at in _stretches(np.array(sorted(changed[station]), np.int64)):
            yield EventChange(at, partial(was.moves, station, at), stored.moves(station, at), why)

    return {station: partial(changes, station) for station in changed}


def _stretches(at: Ints) -> Iterator[Ints]:
    """Sorted instants in pieces of a week at most, cut where what lies between them does not affect either side."""
    if not len(at):
        return iter(())
    weeks = (at - at[0]) // WINDOW_MS
    return iter(np.split(at, np.flatnonzero((np.diff(at) > 2 * REACH_MS) | (np.diff(weeks) > 0)) + 1))


def _reason_text(
    reviews: Sequence[Review], station: str, parameter: str | None, called_bad: Ints, first_ms: int, last_ms: int
) -> Text | None:
    """Who called readings bad that lie from one instant to another, and why; without a ``parameter`` any of them."""
    within = called_bad[(called_bad >= first_ms) & (called_bad <= last_ms)].tolist()
    found = [
        r
        for r in reviews
        if r.counts
        and r.verdict is not ReviewVerdict.GOOD
        and r.station == station
        and (parameter is None or r.parameter in ("", parameter))
        and any(r.since_ms <= at < r.until_ms for at in within)
    ]
    newest = max(found, key=lambda r: r.at_ms, default=None)
    return None if newest is None else say(f"finding.reviewed_{newest.verdict}", by=newest.by, reason=newest.reason)
