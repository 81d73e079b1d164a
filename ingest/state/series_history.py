"""The state of every series in memory: newest reading, quality-test state, rule conditions.

It is rebuilt from the stores when a station is first needed after a start.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from infra.times import DAY_MS, HOUR_MS, TIME_BITS
from ingest.rules.engine import RuleEngine, RuleInput
from ingest.rules.no_data import PAUSE_INTERVALS
from ingest.rules.water_events import StationReadings
from ingest.state.detector_state import DOUBT_KEY, RESUMED_KEY, SLOW_KEY, SUDDEN_KEY, TIDE_KEY, SavedState
from ingest.state.recent_readings import RecentReadings
from ingest.storage.port import ReadingStore, Window
from sensors.parameters import Catalogue
from sensors.quality import QualityResult, SeriesReadings, SeriesState, StateUpdate, check_quality
from sensors.quality.detectors.doubtful_events import (
    CombinedDetection,
    DoubtState,
    oxygen_leaps,
    settle_doubtful_events,
)
from sensors.quality.detectors.point_tests import FLAT_SECONDS
from sensors.quality.detectors.slow_events import SlowEventState, detect_slow_events
from sensors.quality.detectors.sudden_events import SuddenEventState, detect_sudden_events
from sensors.quality.detectors.tide import TidalDays, without_tidal_salt
from sensors.quality.detectors.upstream_evidence import UpstreamPath
from sensors.quality.events import Alarms, EventReadings
from sensors.quality.neighbours import NO_NEIGHBOURS, Neighbours
from sensors.quality.state import REMEMBERED_READINGS
from sensors.reading import Batch, Bools, Bytes, Codes, Flag, Ints, QualityTest, distinct, grown
from sensors.stations import Registry

NEVER = -1
MIN_LOOKBACK_S = FLAT_SECONDS + 3600
"""Look-back of the quality tests: the longest flat line, and an hour before its beginning."""
READ_AT_ONCE_MS = 2 * DAY_MS
"""Before the newest reading: states are saved at the change of a day, and a station may lag."""
MIN_READINGS = REMEMBERED_READINGS + 4
"""Readings needed of a series; older ones are read where the look-back holds fewer (slow analysers)."""


class SeriesHistory:
    """State as columns by series; a series is one parameter at one station."""

    def __init__(
        self,
        registry: Registry,
        store: ReadingStore,
        checks: RuleEngine,
        catalogue: Catalogue,
        learned: Callable[[str], Mapping[str, SavedState]],
        trial: RuleEngine | None = None,
    ) -> None:
        """``learned`` gives the saved state of a station, by parameter; ``trial`` evaluates the rules on trial."""
        self.registry = registry
        self.memory = SeriesState()
        self.watched = SuddenEventState()
        self.watched.grow(len(registry.stations))
        self.slow = SlowEventState()
        self.slow.grow(len(registry.stations))
        self.doubt = DoubtState()
        self.doubt.grow(len(registry.stations))
        self.network: Neighbours = NO_NEIGHBOURS
        """The neighbours of each station."""
        self.checks = checks
        self.trial = trial
        self.engines = (checks,) if trial is None else (checks, trial)
        self._store = store
        self._learned = learned
        self._catalogue = catalogue
        self._of = np.full((len(registry.stations), len(catalogue)), NEVER, np.int64)
        self._loaded = np.zeros(len(registry.stations), np.bool_)
        self._count = 0
        self._newest = np.full(0, NEVER, np.int64)  # with room to grow
        self.last_seen = np.full(len(registry.stations), NEVER, np.int64)
        self.resumed = np.zeros(len(registry.stations), np.int64)  # when each sent again after a pause (ms)
        self._pause_ms = _pause_ms(registry)
        self.lookback_ms = [
            int(1000 * max(MIN_LOOKBACK_S, *(engine.rules.lookback_s(p.key) for engine in self.engines)))
            for p in catalogue.parameters
        ]

    def use_registry(self, registry: Registry) -> None:
        """Use a newer registry with appended stations. Raises ValueError where a station changed."""
        more = len(registry.stations) - len(self.registry.stations)
        changed = [
            i for i, (old, new) in enumerate(zip(self.registry.stations, registry.stations, strict=False)) if old != new
        ]
        if changed or more < 0:
            raise ValueError("a station changed: history must be built anew")
        self._of = np.concatenate([self._of, np.full((more, len(self._catalogue)), NEVER, np.int64)])
        self._loaded = np.concatenate([self._loaded, np.zeros(more, np.bool_)])
        self.last_seen = np.concatenate([self.last_seen, np.full(more, NEVER, np.int64)])
        self.resumed = np.concatenate([self.resumed, np.zeros(more, np.int64)])
        self._pause_ms = _pause_ms(registry)
        self.watched.grow(len(registry.stations))
        self.slow.grow(len(registry.stations))
        self.doubt.grow(len(registry.stations))
        self.registry = registry

    def series(self, station: Codes, parameter: Codes, now_ms: int) -> Ints:
        """(n,) the series of each reading; stations that are not loaded yet are loaded first."""
        if not self._loaded[station].all():
            self.ensure_loaded(distinct(station).tolist(), now_ms)
        found = self._of[station, parameter]
        new = np.flatnonzero(found == NEVER)
        for one in dict.fromkeys(zip(station[new].tolist(), parameter[new].tolist(), strict=True)):
            self._add(*one)
        return self._of[station, parameter] if len(new) else found

    def of(self, station: Codes, parameter: Codes) -> Ints:
        """(n,) the series of each (station, parameter), NEVER where there is none."""
        return np.asarray(self._of[station, parameter])

    @property
    def station(self) -> Codes:
        """(series,) whose each series is."""
        return self.memory.station[: self._count]

    @property
    def parameter(self) -> Codes:
        """(series,) what each series measures."""
        return self.memory.parameter[: self._count]

    @property
    def newest(self) -> Ints:
        """(series,) newest reading of each series (ms), NEVER without one."""
        return self._newest[: self._count]

    @property
    def whole(self) -> bool:
        """Whether every station is loaded."""
        return bool(self._loaded.all())

    def ensure_loaded(self, stations: Iterable[int], now_ms: int) -> None:
        """Load those of the stations that are not loaded yet."""
        missing = [station for station in stations if not self._loaded[station]]
        if missing:
            with self._store.snapshot():
                for station in missing:
                    self.load(station, now_ms)

    def load(self, station: int, now_ms: int) -> None:
        """Rebuild the state of a station from the store."""
        key = self.registry.stations[station].key
        newest = self._store.newest(key)
        for name, at_ms in newest.items():
            parameter = self._catalogue.index[name]
            s = int(self._of[station, parameter])
            if s == NEVER:
                s = self._add(station, parameter)
            self.newest[s] = at_ms
        self._loaded[station] = True
        if not newest:
            return
        last = max(newest.values())
        self.last_seen[station] = last
        learned = self._learned(key)
        self.resumed[station] = learned[RESUMED_KEY].last_at_ms if RESUMED_KEY in learned else 0
        recent = RecentReadings(self._store, self._catalogue, key, self._read_from(station, newest, learned), last)
        pieces = {
            int(self._of[station, self._catalogue.index[name]]): self._needed_readings(name, newest[name], recent)
            for name in newest
        }
        self._rebuild(recent, pieces, learned, now_ms)

    def _read_from(self, station: int, newest: Mapping[str, int], learned: Mapping[str, SavedState]) -> int:
        """From when on (ms) the readings of a station are read at once: what most of its series need."""
        last = max(newest.values())
        lookback = max(self.lookback_ms[self._catalogue.index[name]] for name in newest)
        saved = [one.last_at_ms for name, one in learned.items() if name in newest or name == SLOW_KEY]
        first = min((at for at in saved if at > last - READ_AT_ONCE_MS), default=last)
        compared = MIN_READINGS * self.registry.stations[station].interval_s * 1000
        return min(first - compared, last - min(lookback, READ_AT_ONCE_MS))

    def _needed_readings(self, name: str, newest_ms: int, recent: RecentReadings) -> Window:
        """The readings that a series needs for its state."""
        piece = recent.window(newest_ms - self.lookback_ms[self._catalogue.index[name]], newest_ms, [name])
        if len(piece) < MIN_READINGS:
            start = int(piece.at[0]) if len(piece) else newest_ms + 1
            piece = recent.before(name, start, MIN_READINGS).join(piece)
        if not accepted(piece).all():
            piece = accepted_before(recent.before, name, int(piece.at[0])).join(piece)
        return piece

    def _rebuild(
        self, recent: RecentReadings, pieces: dict[int, Window], learned: Mapping[str, SavedState], now_ms: int
    ) -> None:
        """Rebuild state and conditions of these series from their stored readings and saved states."""
        station = recent.station
        series = np.array(list(pieces), np.int64)
        fresh = self.memory.taken(series)
        fresh.forget(np.arange(len(series)))
        earlier: list[Window] = []
        new: list[Window] = []
        for row, (number, piece) in enumerate(pieces.items()):
            name = self._catalogue.parameters[self.parameter[number]].key
            before, after = self._since(recent, name, piece, learned.get(name), fresh, row)
            earlier.append(before.take(np.flatnonzero(accepted(before))))  # bad readings are not compared with
            new.append(after.take(np.flatnonzero(accepted(after))))
        if any(len(w) for w in earlier):
            days = fresh.day.copy()
            retest_windows(earlier, [stored_status(w) for w in earlier], fresh, self._catalogue, learn=False)
            fresh.day[:] = days
        again = retest_windows(new, [stored_status(w) for w in new], fresh, self._catalogue, learn=True)
        newest_ms = max(int(self.newest[number]) for number in pieces)
        tidal = self._restore_slow_events(recent, learned, newest_ms)
        self._restore_sudden_events(station, new, again, learned.get(SUDDEN_KEY), tidal)
        for row, windows in enumerate(zip(earlier, new, pieces.values(), strict=True)):
            # the stored flags count: the beginning of a window was tested without its past
            for window in windows[:2]:
                present = np.flatnonzero(np.isin(fresh.at[row], window.at) & ~np.isnan(fresh.value[row]))
                fresh.packed[row, present] = window.packed[np.searchsorted(window.at, fresh.at[row, present])]
            bad = ~accepted(windows[2])
            fresh.dead_run[row] = len(bad) - 1 - np.flatnonzero(np.append(True, ~bad))[-1] + 1 if len(bad) else 0
            fresh.dead_at[row] = windows[2].at[-1] if len(bad) and bad[-1] else 0
        self.memory.put(series, fresh)
        self._restore_doubt(station, learned.get(DOUBT_KEY))
        for number, window in pieces.items():
            for engine in self.engines:
                engine.restore(number, RuleInput.of(window.at, window.value, window.packed), now_ms)

    def _restore_sudden_events(
        self,
        station: str,
        windows: Sequence[Window],
        verdict: QualityResult,
        learned: SavedState | None,
        tidal: TidalDays,
    ) -> None:
        """Rebuild the sudden-event state of a station from its saved state and the readings since."""
        i = self.registry.index[station]
        one = SuddenEventState()
        one.grow(1)
        last_at_ms = -1
        if learned is not None and one.restore(0, learned.body):
            last_at_ms = learned.last_at_ms
        parameter, at = (np.concatenate([getattr(w, name) for w in windows]) for name in ("parameter", "at"))
        visits = np.concatenate([w.packed for w in windows]) >> 4 & QualityTest.MAINTENANCE
        columns = parameter, at, np.concatenate([w.value for w in windows]), verdict.tests.astype(np.int64) | visits
        every = EventReadings(self._catalogue, np.full(len(at), i), *columns, verdict.move, verdict.course)
        readings = every.take(at >= last_at_ms)  # the last instant may have got more readings later
        untidal = without_tidal_salt(readings, tidal)
        seen = detect_sudden_events(replace(untidal, station=np.zeros_like(readings.station)), one)
        if len(seen.stations):
            one.apply(seen.stations, seen.memory)
        self.watched.apply(np.array([i]), one)

    def _restore_slow_events(
        self, recent: RecentReadings, learned: Mapping[str, SavedState], newest_ms: int
    ) -> TidalDays:
        """Rebuild the slow-event state of a station from its saved state and the readings since.

        Where none of the tide was saved at the same time, it is learned anew. Returns its tidal days.
        """
        i = self.registry.index[recent.station]
        one = SlowEventState()
        one.grow(1)
        since_ms = newest_ms - DAY_MS
        hours, tide = learned.get(SLOW_KEY), learned.get(TIDE_KEY)
        if hours is not None and one.past.restore(0, hours.body):
            since_ms = hours.last_at_ms + 1
            if tide is not None and tide.last_at_ms == hours.last_at_ms:
                one.tide.restore(0, tide.body)
        self.slow.put(i, one)
        window = recent.window(since_ms, newest_ms)
        columns = np.full(len(window), i), window.parameter, window.at, window.value, window.packed >> 4
        known = TidalDays.of(self.slow.tide.taken(np.array([i])), np.array([i]), [])
        result = detect_slow_events(EventReadings(self._catalogue, *columns), self.slow, self.network)
        self.slow.apply(result)
        return result.tidal_days if len(result.stations) else known

    def _restore_doubt(self, station: str, learned: SavedState | None) -> None:
        """Read the doubtful events of a station; they are saved with every batch that changes them."""
        one = DoubtState()
        one.grow(1)
        if learned is not None:
            one.restore(0, learned.body)
        self.doubt.apply(np.array([self.registry.index[station]]), one)

    def watch(self, batch: Batch, live: QualityResult, edges: Sequence[UpstreamPath]) -> CombinedDetection:
        """Detect sudden and slow events at the stations of a batch."""
        tests, station = live.tests.astype(np.int64), batch.station.astype(np.int64)
        columns = station, batch.parameter, batch.at, batch.value, tests, live.move, live.course
        readings = EventReadings(self._catalogue, *columns)
        slow_result = detect_slow_events(readings, self.slow, self.network)
        seen = detect_sudden_events(without_tidal_salt(readings, slow_result.tidal_days), self.watched, edges)
        doubt = settle_doubtful_events(
            Alarms.joined([seen.alarms, slow_result.alarms]),
            oxygen_leaps(readings),
            lambda: np.unique(station << TIME_BITS | batch.at),
            self.doubt,
        )
        return CombinedDetection(doubt.alarms, seen.stations, seen.memory, slow_result, doubt)

    def save_detection(self, seen: CombinedDetection) -> None:
        """Apply a detection whose batch was stored."""
        self.watched.apply(seen.stations, seen.memory)
        self.slow.apply(seen.slow_result)
        self.doubt.apply(seen.doubt.stations, seen.doubt.state)

    def last_alarm(self, station: int) -> int:
        """When a station last had an event alarm, doubtful ones included (ms); 0 for never."""
        return max(int(last[station]) for one in (self.watched, self.slow.past) for last in (one.alarmed, one.doubted))

    def measured(self, station: int, batch: Batch) -> StationReadings:
        """The last readings of a station: those in memory, and those of a new batch."""
        series = np.flatnonzero(self.station == station)
        number = np.repeat(self.parameter[series], self.memory.at.shape[1])
        at, value = self.memory.at[series].ravel(), self.memory.value[series].ravel()
        is_value, rows = ~np.isnan(value), np.flatnonzero(batch.station == station)
        return StationReadings(
            np.concatenate([number[is_value], batch.parameter[rows]]),
            np.concatenate([at[is_value], batch.at[rows]]),
            np.concatenate([value[is_value], batch.value[rows]]),
        )

    def _since(
        self,
        recent: RecentReadings,
        name: str,
        piece: Window,
        learned: SavedState | None,
        fresh: SeriesState,
        row: int,
    ) -> tuple[Window, Window]:
        """The readings that new ones are compared with, and those that the saved state does not contain yet."""
        if learned is None or (learned.body and not fresh.restore(row, learned.body)):
            return piece.take(np.empty(0, np.intp)), piece
        after = piece.take(np.flatnonzero(piece.at > learned.last_at_ms))
        if not len(piece) or piece.at[0] > learned.last_at_ms:
            newest_ms = int(piece.at[-1]) if len(piece) else learned.last_at_ms
            after = recent.window(learned.last_at_ms + 1, newest_ms, [name])
        return accepted_before(recent.before, name, learned.last_at_ms + 1), after

    def learned(
        self, series: Ints, at: Ints, carried: StateUpdate, seen: CombinedDetection
    ) -> list[tuple[str, str, SavedState]]:
        """The states to save with a batch: of new ``series`` (whose first reading is the first in ``at``), and at the
        change of a day."""
        first = np.flatnonzero(np.diff(series, prepend=-1))
        new = first[self.newest[series[first]] == NEVER]
        rows = [(int(series[i]), int(at[i]) - 1, b"") for i in new.tolist()]
        frozen = carried.frozen()
        latest = {one: SavedState(last_at_ms, body) for one, last_at_ms, body in rows + frozen}
        stations, parameters = self.registry.stations, self._catalogue.parameters
        turned = seen.memory.at[:, 1] // DAY_MS > self.watched.at[seen.stations, 1] // DAY_MS
        # also where a series is saved or an alarm was raised: these readings and the upstream evidence are not replayed
        turned |= np.isin(seen.stations, [*self.station[[one for one, _, _ in frozen]], *seen.alarms.station])
        together = [
            (stations[seen.stations[i]].key, SUDDEN_KEY, SavedState(int(seen.memory.at[i, 1]), seen.memory.frozen(i)))
            for i in np.flatnonzero(turned).tolist()
        ]
        slow_result = seen.slow_result
        ended = np.flatnonzero(slow_result.past.day > self.slow.past.day[slow_result.over])
        held = slow_result.open.hour[np.searchsorted(slow_result.stations, slow_result.over[ended])]
        together += [
            (stations[slow_result.over[i]].key, name, SavedState(int(hour) * HOUR_MS - 1, state.frozen(i)))
            for i, hour in zip(ended.tolist(), held.tolist(), strict=True)
            for name, state in ((SLOW_KEY, slow_result.past), (TIDE_KEY, slow_result.tide))
            if name == SLOW_KEY or slow_result.tide.has_gauge(np.array([i]))[0]
        ]
        together += [
            (stations[one].key, DOUBT_KEY, SavedState(int(seen.doubt.state.last[i].max()), seen.doubt.state.frozen(i)))
            for i, one in enumerate(seen.doubt.stations.tolist())
        ]
        return together + [
            (stations[self.station[number]].key, parameters[self.parameter[number]].key, one)
            for number, one in latest.items()
        ]

    def resuming_stations(self, station: Codes, at: Ints) -> dict[int, int]:
        """Station → when it sent again after a pause with these readings (ms); of several pauses the last."""
        last_seen = self.last_seen[station]
        if (at - last_seen <= self._pause_ms[station]).all():
            return {}
        news = distinct((station.astype(np.int64) << TIME_BITS | at)[at > last_seen])
        whose, instant = news >> TIME_BITS, news & (1 << TIME_BITS) - 1
        before = np.where(np.diff(whose, prepend=-1) == 0, np.roll(instant, 1), self.last_seen[whose])
        after = instant - before > self._pause_ms[whose]
        return dict(zip(whose[after].tolist(), instant[after].tolist(), strict=True))

    def _add(self, station: int, parameter: int) -> int:
        number = self._count
        self._of[station, parameter] = number
        self._count += 1
        self._newest = grown(self._newest, self._count, NEVER)
        self.memory.bind(number, station, parameter)
        for engine in self.engines:
            engine.bind(number, self.registry.stations[station], self._catalogue.parameters[parameter].key)
        return number

    def mark_stored(self, series: Ints, at: Ints, resumed: Mapping[int, int]) -> None:
        """Note stored readings, by observed_at; ``resumed`` as from :meth:`resuming_stations`."""
        np.maximum.at(self.newest, series, at)
        np.maximum.at(self.last_seen, self.station[series], at)
        self.resumed[list(resumed)] = list(resumed.values())

    def load_more(self, most: int, now_ms: int) -> bool:
        """Load up to ``most`` further stations; true once all are loaded, since silence cannot be evaluated before."""
        self.ensure_loaded(np.flatnonzero(~self._loaded)[:most].tolist(), now_ms)
        return self.whole


def _pause_ms(registry: Registry) -> Ints:
    return np.array([PAUSE_INTERVALS * s.interval_s * 1000 for s in registry.stations], np.int64)


def accepted(window: Window) -> Bools:
    """(n,) true for readings that are not bad, with which others are compared."""
    return np.asarray(window.packed & 15 < Flag.BAD)


def accepted_before(before: Callable[[str, int, int], Window], parameter: str, at_ms: int) -> Window:
    """The last accepted readings before an instant, as many as the state of a series holds, however old."""
    limit = MIN_READINGS
    while True:
        found = before(parameter, at_ms, limit)
        good = np.flatnonzero(accepted(found))
        if len(good) >= REMEMBERED_READINGS or len(found) < limit:
            return found.take(good[-REMEMBERED_READINGS:])
        limit *= 8


def stored_status(window: Window) -> Bytes:
    """(n,) the device status (HJ 212 letters) of stored readings as far as their flags tell: N, D, ? or T."""
    tests = window.packed >> 4
    status = np.where(tests & QualityTest.OVER_RANGE != 0, ord("T"), ord("N"))
    doubtful = np.where(accepted(window), ord("?"), ord("D"))
    return np.where(tests & QualityTest.DEVICE_STATUS != 0, doubtful, status).astype(np.uint8)


def retest_windows(
    windows: Sequence[Window], statuses: Sequence[Bytes], memory: SeriesState, catalogue: Catalogue, *, learn: bool
) -> QualityResult:
    """Run the quality tests over whole windows in one pass.

    ``windows`` is not empty; the first one continues the first series of ``memory`` and so on. ``memory`` is updated.
    """
    sizes = [len(w) for w in windows]
    verdict = check_quality(
        SeriesReadings(
            np.repeat(np.arange(len(windows)), sizes),
            np.concatenate([w.parameter for w in windows]),
            np.concatenate([w.at for w in windows]),
            np.concatenate([w.value for w in windows]),
            np.concatenate(statuses),
        ),
        memory,
        catalogue,
        learn=learn,
    )
    memory.apply(verdict.carried)
    return verdict


def merge(stored: Window, parameter: Codes, at: Ints, value: Sequence[float]) -> Window:
    """A stored window with new readings merged in, replacing those of the same key; new ones have no flags yet."""
    return stored.merge(Window(parameter, at, np.asarray(value, np.float64), np.zeros(len(at), np.int64)))
