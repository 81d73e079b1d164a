"""Visits at which a sensor jumped back: from when its readings before are in doubt.

What a jump is: :mod:`sensors.quality.detectors.post_visit_drift`.

A visit is looked at once the sensor has settled and its readings have come in. What was found then stands in the marks
and goes with the visit (decision 0015); readings that arrive later do not change it.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from infra.times import DAY_MS
from ingest.rules.engine import LATE_S
from ingest.storage.port import ReadingStore
from sensors.maintenance import FAR_MS, MaintenanceRecords, MarkSpan, Visit, last_maintained
from sensors.parameters import Catalogue
from sensors.quality.detectors.post_visit_drift import DAYS_BEFORE, SETTLES_MS, WINDOW_MS, jump, medians
from sensors.reading import Flag, QualityTest
from sensors.stations import Registry

UNKNOWN_MS: Final = 7 * DAY_MS
"""How far back a jump casts doubt where nothing says when the sensor was last right: stations are visited weekly
(domain notes, section 8, from memory)."""

FARTHEST_MS: Final = DAYS_BEFORE * DAY_MS
"""The same where it was longer ago: that says nothing of when it began, and these are the days compared."""

OLD_MS: Final = DAY_MS
"""What was due so long ago was looked at before a restart; what it showed stands in the marks."""

AT_ONCE: Final = 5
"""Visits looked at in one tick: some tenths of a second, so that readings do not wait."""


class VisitDrift:
    """What the visits of a site showed of the sensors; each is looked at once."""

    def __init__(self) -> None:
        self._seen: dict[Visit, frozenset[MarkSpan]] = {}

    def spans(
        self,
        registry: Registry,
        done: MaintenanceRecords,
        marked: Iterable[MarkSpan],
        store: ReadingStore,
        catalogue: Catalogue,
        now_ms: int,
    ) -> tuple[set[MarkSpan], int]:
        """The doubts that visits cast back, and when to ask again. ``marked`` are the spans marked so far."""
        kept: dict[tuple[str, int], set[MarkSpan]] = {}
        for span in marked:
            if span.test is QualityTest.DRIFT:
                kept.setdefault((span.station, span.end_ms), set()).add(span)
        found: set[MarkSpan] = set()
        again_ms, left = FAR_MS, AT_ONCE
        for visit in done.visits:
            if visit.until_ms is None or visit.station not in registry:
                continue
            due_ms = visit.until_ms + SETTLES_MS + WINDOW_MS + LATE_S * 1000
            if visit not in self._seen and now_ms - OLD_MS <= due_ms <= now_ms and left:
                self._seen[visit] = frozenset(_drifted(visit, visit.until_ms, registry, done, store, catalogue))
                left -= 1
            if visit in self._seen:
                found |= self._seen[visit]
                continue
            found |= kept.get((visit.station, visit.since_ms), set())
            if due_ms >= now_ms - OLD_MS:
                again_ms = min(again_ms, max(due_ms, now_ms))
        return found, again_ms


def medians_around_visit(
    visit: Visit, parameters: Sequence[str], store: ReadingStore
) -> dict[str, tuple[float, float]]:
    """What the sensors showed before a visit and after it had settled: medians of `WINDOW_MS` each, canonical units.

    A sensor with too few readings on either side is left out; so are all while the visit goes on.
    """
    if visit.until_ms is None:
        return {}
    starts = np.array([visit.since_ms - WINDOW_MS, visit.until_ms + SETTLES_MS])
    found = {}
    for key in parameters:
        parts = [store.window(visit.station, int(at), int(at) + WINDOW_MS - 1, [key]) for at in starts]
        kept = [np.flatnonzero(part.packed & 15 < Flag.BAD) for part in parts]
        at = np.concatenate([part.at[good] for part, good in zip(parts, kept, strict=True)])
        value = np.concatenate([part.value[good] for part, good in zip(parts, kept, strict=True)])
        order = np.argsort(at, kind="stable")
        before, after = medians(at[order], value[order], starts, starts + WINDOW_MS).tolist()
        if not np.isnan(before) and not np.isnan(after):
            found[key] = (before, after)
    return found


def _drifted(
    visit: Visit, until_ms: int, registry: Registry, done: MaintenanceRecords, store: ReadingStore, catalogue: Catalogue
) -> Iterable[MarkSpan]:
    """The sensors that jumped at a visit, and from when on they were off by more than anybody would leave: what creeps
    grows evenly since it was last right; but what was seen to step was right until then."""
    there = visit.parameters or tuple(store.newest(visit.station))
    for key in (k for k in there if k in catalogue and catalogue[k].event):
        first_ms = visit.since_ms - DAYS_BEFORE * DAY_MS - WINDOW_MS
        window = store.window(visit.station, first_ms, until_ms + SETTLES_MS + WINDOW_MS, [key])
        good = np.flatnonzero(window.packed & 15 < Flag.BAD)
        order = good[np.argsort(window.at[good], kind="stable")]
        stepped = window.at[(window.packed >> 4 & QualityTest.SHIFT != 0) & (window.at < visit.since_ms)]
        unusual = np.append(stepped, last_maintained(done, registry.deployments, visit.station, key, visit.since_ms))
        size = jump(window.at[order], window.value[order], visit.since_ms, until_ms, catalogue[key], unusual)
        if size is not None:
            right_ms = _right(visit, key, registry, done)
            since_ms = right_ms + round((visit.since_ms - right_ms) / abs(size))
            since_ms = max(since_ms, int(stepped.max(initial=since_ms)))
            yield MarkSpan(visit.station, key, QualityTest.DRIFT, since_ms, visit.since_ms)


def _right(visit: Visit, key: str, registry: Registry, done: MaintenanceRecords) -> int:
    """When the sensor was last set right before a visit, as far as anybody wrote it down."""
    last_ms = max(last_maintained(done, registry.deployments, visit.station, key, visit.since_ms), default=0)
    return last_ms if last_ms >= visit.since_ms - FARTHEST_MS else visit.since_ms - UNKNOWN_MS
