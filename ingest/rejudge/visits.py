"""Drift found at visits: a sensor that jumped when it was serviced was wrong before, and since when.

The detector of jumps is :mod:`sensors.quality.detectors.post_visit_drift`. A visit is examined once, when the sensor
has settled and its readings have arrived. The marks keep the result as long as the visit is recorded (decision 0009);
readings that arrive later do not change it.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from infra.times import DAY_MS
from ingest.rules.engine import LATE_AFTER_S
from ingest.storage.port import ReadingStore
from sensors.maintenance import END_OF_TIME_MS, MaintenanceRecords, MarkSpan, Visit, last_maintained
from sensors.parameters import Catalogue
from sensors.quality.detectors.post_visit_drift import DAYS_BEFORE, SETTLES_MS, WINDOW_MS, jump_at_visit, window_medians
from sensors.reading import Flag, QualityTest
from sensors.stations import Registry

DEFAULT_DRIFT_MS: Final = 7 * DAY_MS
"""How far back readings are marked where no earlier check is recorded; stations are usually visited weekly."""

MAX_DRIFT_MS: Final = DAYS_BEFORE * DAY_MS
"""How far back readings are marked at most: an older check does not limit when the drift began."""

MAX_OVERDUE_MS: Final = DAY_MS
"""Visits due longer ago were examined before a restart; the marks hold the result."""

EXAMINED_PER_TICK: Final = 5
"""Visits examined in one tick: some tenths of a second, so that readings do not wait."""


class VisitDrift:
    """Drift found at the visits of a site; each visit is examined once."""

    def __init__(self) -> None:
        self._examined: dict[Visit, frozenset[MarkSpan]] = {}

    def spans(
        self,
        registry: Registry,
        done: MaintenanceRecords,
        marked: Iterable[MarkSpan],
        store: ReadingStore,
        catalogue: Catalogue,
        now_ms: int,
    ) -> tuple[set[MarkSpan], int]:
        """The spans of drift before visits, and when to ask again (ms). ``marked`` are the spans marked so far."""
        marked_spans: dict[tuple[str, int], set[MarkSpan]] = {}
        for span in marked:
            if span.test is QualityTest.DRIFT:
                marked_spans.setdefault((span.station, span.end_ms), set()).add(span)
        found: set[MarkSpan] = set()
        again_ms, left = END_OF_TIME_MS, EXAMINED_PER_TICK
        for visit in done.visits:
            if visit.until_ms is None or visit.station not in registry:
                continue
            due_ms = visit.until_ms + SETTLES_MS + WINDOW_MS + LATE_AFTER_S * 1000
            if visit not in self._examined and now_ms - MAX_OVERDUE_MS <= due_ms <= now_ms and left:
                self._examined[visit] = frozenset(_drifted(visit, visit.until_ms, registry, done, store, catalogue))
                left -= 1
            if visit in self._examined:
                found |= self._examined[visit]
                continue
            found |= marked_spans.get((visit.station, visit.since_ms), set())
            if due_ms >= now_ms - MAX_OVERDUE_MS:
                again_ms = min(again_ms, max(due_ms, now_ms))
        return found, again_ms


def medians_around_visit(
    visit: Visit, parameters: Sequence[str], store: ReadingStore
) -> dict[str, tuple[float, float]]:
    """The medians of `WINDOW_MS` before a visit and after the sensors had settled, by parameter, canonical units.

    A sensor with too few readings on either side is left out; so are all while the visit goes on.
    """
    if visit.until_ms is None:
        return {}
    starts = np.array([visit.since_ms - WINDOW_MS, visit.until_ms + SETTLES_MS])
    found = {}
    for key in parameters:
        parts = [store.window(visit.station, int(at), int(at) + WINDOW_MS - 1, [key]) for at in starts]
        accepted = [np.flatnonzero(part.packed & 15 < Flag.BAD) for part in parts]
        at = np.concatenate([part.at[good] for part, good in zip(parts, accepted, strict=True)])
        value = np.concatenate([part.value[good] for part, good in zip(parts, accepted, strict=True)])
        order = np.argsort(at, kind="stable")
        before, after = window_medians(at[order], value[order], starts, starts + WINDOW_MS).tolist()
        if not np.isnan(before) and not np.isnan(after):
            found[key] = (before, after)
    return found


def _drifted(
    visit: Visit, until_ms: int, registry: Registry, done: MaintenanceRecords, store: ReadingStore, catalogue: Catalogue
) -> Iterable[MarkSpan]:
    """The sensors that jumped at a visit, and from when on they were off by more than is tolerated.

    Drift is taken to grow evenly since the sensor was last right; a sensor that stepped was right until then.
    """
    parameters = visit.parameters or tuple(store.newest(visit.station))
    for key in (k for k in parameters if k in catalogue and catalogue[k].event):
        first_ms = visit.since_ms - DAYS_BEFORE * DAY_MS - WINDOW_MS
        window = store.window(visit.station, first_ms, until_ms + SETTLES_MS + WINDOW_MS, [key])
        good = np.flatnonzero(window.packed & 15 < Flag.BAD)
        order = good[np.argsort(window.at[good], kind="stable")]
        stepped = window.at[(window.packed >> 4 & QualityTest.SHIFT != 0) & (window.at < visit.since_ms)]
        unusual = np.append(stepped, last_maintained(done, registry.deployments, visit.station, key, visit.since_ms))
        size = jump_at_visit(window.at[order], window.value[order], visit.since_ms, until_ms, catalogue[key], unusual)
        if size is not None:
            right_ms = _last_right_ms(visit, key, registry, done)
            since_ms = right_ms + round((visit.since_ms - right_ms) / abs(size))
            since_ms = max(since_ms, int(stepped.max(initial=since_ms)))
            yield MarkSpan(visit.station, key, QualityTest.DRIFT, since_ms, visit.since_ms)


def _last_right_ms(visit: Visit, key: str, registry: Registry, done: MaintenanceRecords) -> int:
    """When the sensor was last known to be right before a visit, as far as it is recorded."""
    last_ms = max(last_maintained(done, registry.deployments, visit.station, key, visit.since_ms), default=0)
    return last_ms if last_ms >= visit.since_ms - MAX_DRIFT_MS else visit.since_ms - DEFAULT_DRIFT_MS
