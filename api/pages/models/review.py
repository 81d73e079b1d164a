"""The review of readings: which station-days need a person, and one of them with what a review would change. Pure."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np

from governance.incidents.model import Incident
from infra.times import DAY_MS, MINUTE_MS
from ingest.storage.port import Window
from sensors.maintenance import REVIEWED, MaintenanceRecords, Marks, MarkSpan, Review, mark_spans
from sensors.parameters import Catalogue
from sensors.reading import Bools, Flag, Floats, Ints, QualityTest
from sensors.standards import gb3838
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry, Station

MISSED = 3
"""A pause longer than so many intervals is a gap: lines end there, and stretches too."""
REASONS = (
    "standard",
    "reagent",
    "out_of_water",
    "fouling",
    "power",
    "work",
    "flow",
    "sample",
    "neighbours",
)
"""The reasons offered, as keys of their words; the last three speak for a reading rather than against it."""
EMPTY_WORDS = (
    "abnormal",
    "anomaly",
    "anomalous",
    "outlier",
    "outliers",
    "invalid",
    "wrong",
    "bad",
    "data",
    "value",
    "values",
    "reading",
    "readings",
    *(
        "数据",
        "读数",
        "数值",
        "监测",
        "异常",
        "离群",
        "可疑",
        "无效",
        "有效",
        "错误",
        "有问题",
        "不正常",
        "不对",
        "偏高",
    ),
    *("偏低", "过高", "过低", "正常", "值", "点"),
)
"""Words that say that something is wrong, and not what."""
LEAST_LETTERS = 4
"""Letters that a reason holds beside these words: the shortest that names a cause (探头离水)."""


def specific(reason: str) -> bool:
    """Whether a reason names a cause: more than that a reading is abnormal or an outlier."""
    rest = reason.lower()
    for word in EMPTY_WORDS:
        rest = re.sub(rf"\b{word}\b", " ", rest) if word.isascii() else rest.replace(word, " ")
    return len(re.findall(r"[^\W_]", rest)) >= LEAST_LETTERS


# -- the readings of a day ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Readings:
    """The readings of one parameter in one day, oldest first; ``packed`` holds flag and tests."""

    parameter: str
    at: Ints
    value: Floats
    packed: Ints

    @property
    def flag(self) -> Ints:
        return self.packed & 15

    @property
    def usable(self) -> Bools:
        return np.asarray((self.flag < Flag.SUSPECT) & np.isfinite(self.value))

    @property
    def reviewed(self) -> Bools:
        return np.asarray(self.packed >> 4 & REVIEWED != 0)

    @property
    def open(self) -> Bools:
        """Doubtful or bad readings of which nobody has said anything."""
        doubtful = (self.flag == Flag.SUSPECT) | (self.flag == Flag.BAD)
        return np.asarray(doubtful & ~self.reviewed)


def by_parameter(window: Window, catalogue: Catalogue) -> list[Readings]:
    """The readings of a station's window, one entry a parameter, in the order of the catalogue."""
    keys = list(catalogue.index)
    found = []
    for code in np.unique(window.parameter).tolist():
        rows = window.take(np.flatnonzero(window.parameter == code))
        found.append(Readings(keys[code], rows.at, rows.value, rows.packed))
    return found


def spans_in_force(marks: Iterable[MarkSpan], reviews: Iterable[Review], station: str) -> set[MarkSpan]:
    """The marks of a station, with the reviews as they stand now: ingest applies a new one a moment later."""
    from_records = {one for one in marks if one.station == station and not int(one.test) & REVIEWED}
    return from_records | review_spans(reviews)


def review_spans(reviews: Iterable[Review]) -> set[MarkSpan]:
    """The marks of the reviews that are in force."""
    return mark_spans(Registry(), MaintenanceRecords(reviews=tuple(reviews)))


def marked(readings: Readings, station: str, spans: Iterable[MarkSpan], catalogue: Catalogue) -> Readings:
    """The readings with these marks and no others."""
    n = len(readings.at)
    codes = np.full(n, catalogue.index[readings.parameter], np.int32)
    packed = Marks(spans, {station: 0}, catalogue).apply_marks(
        np.zeros(n, np.int32), codes, readings.at, readings.packed
    )
    return Readings(readings.parameter, readings.at, readings.value, packed)


def test_names(bits: int) -> tuple[str, ...]:
    """The quality tests of a bit set, as keys of their words."""
    return tuple(str(test.name).lower() for test in QualityTest if test & bits)


# -- the queue ---------------------------------------------------------------------------------------------------------


class Standing(StrEnum):
    """What a station-day needs."""

    OPEN = "open"
    REVIEWED = "reviewed"
    CLEAN = "clean"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class StationDay:
    """A station in one day: its readings, those with a flag that nobody reviewed, the tests that raised these (most
    frequent first), readings that were reviewed, and the incidents that have a condition there."""

    station: Station
    readings: int
    flagged: int
    tests: tuple[str, ...]
    reviewed: int
    incidents: tuple[Incident, ...]

    @property
    def share(self) -> float:
        return self.flagged / self.readings if self.readings else 0.0

    @property
    def standing(self) -> Standing:
        if not self.readings:
            return Standing.EMPTY
        if self.flagged or (self.incidents and not self.reviewed):
            return Standing.OPEN
        return Standing.REVIEWED if self.reviewed else Standing.CLEAN

    @property
    def suspicion(self) -> float:
        """Percent of flagged readings + their number up to 20 + 10 a kind of flag + 20 an incident. Our choice."""
        return 100 * self.share + min(self.flagged, 20) + 10 * len(self.tests) + 20 * len(self.incidents)


def station_day(station: Station, readings: Sequence[Readings], incidents: Sequence[Incident]) -> StationDay:
    """What is suspicious of a station in one day."""
    tests: Counter[str] = Counter()
    for one in readings:
        different, count = np.unique(one.packed[one.open] >> 4, return_counts=True)
        for bits, number in zip(different.tolist(), count.tolist(), strict=True):
            tests.update(dict.fromkeys(test_names(bits), number))
    return StationDay(
        station,
        sum(len(one.at) for one in readings),
        sum(int(one.open.sum()) for one in readings),
        tuple(name for name, _ in tests.most_common()),
        sum(int(one.reviewed.sum()) for one in readings),
        tuple(incidents),
    )


@dataclass(frozen=True, slots=True)
class Queue:
    """The station-days of one day: those that need a person, most suspicious first, and the others by name."""

    open: tuple[StationDay, ...]
    reviewed: tuple[StationDay, ...]
    clean: tuple[StationDay, ...]
    empty: tuple[StationDay, ...]

    def after(self, key: str) -> StationDay | None:
        """The station-day to look at next; None where no other needs anybody."""
        keys = [one.station.key for one in self.open]
        rest = self.open[keys.index(key) + 1 :] if key in keys else self.open
        return next((one for one in (*rest, *self.open) if one.station.key != key), None)


def queue(days: Iterable[StationDay]) -> Queue:
    """The station-days, sorted."""
    found: dict[Standing, list[StationDay]] = {standing: [] for standing in Standing}
    for one in sorted(days, key=lambda one: (-one.suspicion, one.station.key)):
        found[one.standing].append(one)
    return Queue(**{standing.value: tuple(mine) for standing, mine in found.items()})


def of_station(incidents: Iterable[Incident], station: str, start_ms: int, end_ms: int) -> list[Incident]:
    """The incidents that have a condition at a station in a span of time."""
    return [
        one
        for one in incidents
        if any(
            c.station == station
            and c.since_ms < end_ms
            and (one.last_observed_at_ms if c.resolved_at_ms is None else c.resolved_at_ms) >= start_ms
            for c in one.conditions
        )
    ]


# -- a station-day -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stretch:
    """Flagged readings in a row that nobody reviewed, in whole minutes; readings before ``until_ms`` are meant."""

    parameter: str
    since_ms: int
    until_ms: int
    count: int
    bad: bool
    tests: tuple[str, ...]


def stretches(readings: Readings, interval_s: int) -> list[Stretch]:
    """The stretches of flagged readings; one that is good again, or a gap, ends a stretch."""
    rows = np.flatnonzero(readings.open)
    if not len(rows):
        return []
    wide = np.diff(readings.at[rows]) > MISSED * interval_s * 1000
    breaks = np.flatnonzero((np.diff(rows) > 1) | wide) + 1
    found = []
    for mine in np.split(rows, breaks):
        first_ms, last_ms = int(readings.at[mine[0]]), int(readings.at[mine[-1]])
        found.append(
            Stretch(
                readings.parameter,
                first_ms - first_ms % MINUTE_MS,
                last_ms - last_ms % MINUTE_MS + MINUTE_MS,
                len(mine),
                bool((readings.flag[mine] == Flag.BAD).any()),
                test_names(int(np.bitwise_or.reduce(readings.packed[mine] >> 4))),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Figures:
    """Usable readings of a day and their extremes; None where there are none."""

    usable: int
    mean: float | None
    low: float | None
    high: float | None


def figures(readings: Readings) -> Figures:
    """Number, mean and extremes of the usable readings."""
    values = readings.value[readings.usable]
    if not len(values):
        return Figures(0, None, None, None)
    return Figures(len(values), float(values.mean()), float(values.min()), float(values.max()))


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of the table beside the picture."""

    at_ms: int
    figures: Figures
    count: int
    flagged: int
    tests: tuple[str, ...]


def hours(readings: Readings, start_ms: int) -> list[Hour]:
    """The readings hour by hour; hours without a reading are left out."""
    found = []
    of = (readings.at - start_ms) // 3_600_000
    for hour in np.unique(of).tolist():
        mine = of == hour
        part = Readings(readings.parameter, readings.at[mine], readings.value[mine], readings.packed[mine])
        flagged = (part.flag == Flag.SUSPECT) | (part.flag == Flag.BAD)
        tests = int(np.bitwise_or.reduce(part.packed >> 4)) if len(part.at) else 0
        found.append(
            Hour(start_ms + hour * 3_600_000, figures(part), len(part.at), int(flagged.sum()), test_names(tests))
        )
    return found


@dataclass(frozen=True, slots=True)
class Effect:
    """The figures of a parameter now, and if the chosen readings were called bad or good; ``touched`` are these."""

    parameter: str
    touched: int
    now: Figures
    bad: Figures
    good: Figures
    classes: tuple[WaterClass | None, WaterClass | None, WaterClass | None]


def effects(
    station: Station,
    days: Sequence[Readings],
    chosen: Sequence[str],
    span: tuple[int, int],
    spans: Iterable[MarkSpan],
    catalogue: Catalogue,
) -> list[Effect]:
    """What a review of the ``chosen`` parameters over a span would do to the means and classes of the day.

    ``days`` are the readings with the marks in ``spans``. The class is that of the day's mean, by this parameter alone.
    """
    spans = set(spans)
    found = []
    for one in days:
        if one.parameter not in chosen:
            continue
        touched = (one.at >= span[0]) & (one.at < span[1]) & (one.flag <= Flag.BAD)
        sides = [one]
        for test in (QualityTest.REVIEWED_BAD, QualityTest.REVIEWED_GOOD):
            added = MarkSpan(station.key, one.parameter, test, *span)
            sides.append(marked(one, station.key, spans | {added}, catalogue))
        now, bad, good = (figures(side) for side in sides)
        a, b, c = (class_of_mean(one.parameter, side.mean, station) for side in (now, bad, good))
        found.append(Effect(one.parameter, int(touched.sum()), now, bad, good, (a, b, c)))
    return found


def class_of_mean(parameter: str, mean: float | None, station: Station) -> WaterClass | None:
    """The class by one parameter alone; None where the standard has none for it, or nothing can be judged."""
    if mean is None or parameter not in gb3838.PARAMETERS:
        return None
    return gb3838.judge({parameter: mean}, gb3838.Water.of(station.water)).water_class


def neighbours(registry: Registry, station: Station, most: int = 4) -> list[Station]:
    """The other stations of the same reach, then those of the reaches next to it."""
    if not station.reach:
        return []
    below = {one.key: one.downstream for one in registry.reaches}
    near = {key for key, down in below.items() if down == station.reach} | {below.get(station.reach) or ""}
    others = [one for one in registry.stations if one.key != station.key]
    mine = [one for one in others if one.reach == station.reach]
    return [*mine, *(one for one in others if one.reach and one.reach in near)][:most]


# -- the picture -------------------------------------------------------------------------------------------------------

WIDTH, TOP, PLOT, AXIS, FOOT, LEFT, RIGHT = 880.0, 10.0, 96.0, 14.0, 18.0, 56.0, 10.0
HEIGHT = TOP + PLOT + AXIS + FOOT


@dataclass(frozen=True, slots=True)
class Sign:
    """A flagged reading on the axis; ``kind``: suspect, bad, missing, or reviewed_good and reviewed_bad."""

    x: float
    kind: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A number beside the picture, or an hour below it."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """One parameter of one day, drawn: ``lines`` are runs of usable readings, ``dots`` single ones, ``others`` those
    that are not used; ``limit`` is where the limit line lies, if within the picture. Bands are (x, width)."""

    lines: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    others: tuple[tuple[float, float], ...]
    signs: tuple[Sign, ...]
    rows: tuple[Tick, ...]
    hours: tuple[Tick, ...]
    chosen: tuple[float, float] | None
    visits: tuple[tuple[float, float], ...]
    limit: float | None


def picture(
    readings: Readings,
    start_ms: int,
    interval_s: int,
    *,
    decimals: int,
    chosen: tuple[int, int] | None = None,
    visits: Sequence[tuple[int, int]] = (),
    limit: float | None = None,
) -> Picture:
    """Draw a day. Lines break where readings are missing or not usable: nothing is joined across a gap."""
    usable = readings.usable
    low, high, step = _scale(readings.value[np.isfinite(readings.value)], limit)

    def x(at_ms: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, (at_ms - start_ms) / DAY_MS)), 1)

    def y(value: float) -> float:
        return round(TOP + PLOT * (high - value) / (high - low), 1)

    def band(span: tuple[int, int]) -> tuple[float, float]:
        return x(span[0]), max(1.5, round(x(span[1]) - x(span[0]), 1))

    lines, dots = [], []
    for run in _runs(readings.at, usable, interval_s):
        points = [(x(float(readings.at[i])), y(float(readings.value[i]))) for i in run]
        if len(points) == 1:
            dots.append(points[0])
        else:
            lines.append(" ".join(f"{a},{b}" for a, b in points))
    left_out = np.flatnonzero(~usable & np.isfinite(readings.value))
    count = max(1, round((high - low) / step))
    shown = max(decimals, 0)
    return Picture(
        tuple(lines),
        tuple(dots),
        tuple((x(float(readings.at[i])), y(float(readings.value[i]))) for i in left_out.tolist()),
        tuple(_signs(readings, x)),
        tuple(Tick(y(low + i * step), f"{low + i * step:.{shown}f}") for i in range(count + 1)),
        tuple(Tick(x(start_ms + h * 3_600_000), f"{h:02d}") for h in range(0, 25, 3)),
        None if chosen is None else band(chosen),
        tuple(band(one) for one in visits),
        y(limit) if limit is not None and low <= limit <= high else None,
    )


def _runs(at: Ints, usable: Bools, interval_s: int) -> Iterable[list[int]]:
    run: list[int] = []
    for i in range(len(at)):
        if run and (not usable[i] or at[i] - at[run[-1]] > MISSED * interval_s * 1000):
            yield run
            run = []
        if usable[i]:
            run.append(i)
    if run:
        yield run


def _signs(readings: Readings, x: Callable[[float], float]) -> Iterable[Sign]:
    for i in np.flatnonzero((readings.flag > Flag.UNKNOWN) | readings.reviewed).tolist():
        tests = int(readings.packed[i]) >> 4
        if tests & int(QualityTest.REVIEWED_GOOD):
            kind = "reviewed_good"
        elif tests & int(QualityTest.REVIEWED_BAD):
            kind = "reviewed_bad"
        else:
            kind = {int(Flag.SUSPECT): "suspect", int(Flag.BAD): "bad"}.get(int(readings.flag[i]), "missing")
        yield Sign(x(float(readings.at[i])), kind)


def _scale(values: Floats, limit: float | None) -> tuple[float, float, float]:
    """The lowest and highest number of the axis and the step between them: three or four round steps."""
    if not len(values):
        return 0.0, 1.0, 0.5
    low, high = float(values.min()), float(values.max())
    if limit is not None and low - (high - low) <= limit <= high + (high - low):
        low, high = min(low, limit), max(high, limit)
    spread = (high - low) or abs(high) * 0.2 or 1.0
    rough = spread / 3
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * f for f in (1, 2, 2.5, 5, 10) if unit * f >= rough)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return (low, high, step) if high > low else (low - step, low + step, step)


def to_redo(mine: Sequence[tuple[int, Review]]) -> int | None:
    """Of somebody's reviews the newest that was taken back and not given again since; None where there is none."""
    now = [_statement(one) for _, one in mine if not one.void]
    return max((number for number, one in mine if one.void and _statement(one) not in now), default=None)


def _statement(one: Review) -> tuple[object, ...]:
    return one.parameter, one.since_ms, one.until_ms, one.verdict, one.reason


def trend(readings: Readings) -> tuple[str, float]:
    """Whether the last quarter of the usable readings lies above (up) or below (down) the first, and by how much;
    a twentieth of the level, or three ordinary steps between two readings, counts as steady."""
    values = readings.value[readings.usable]
    if len(values) < 8:
        return "few", 0.0
    quarter = len(values) // 4
    by = float(np.median(values[-quarter:]) - np.median(values[:quarter]))
    noise = float(np.median([abs(b - a) for a, b in pairwise(values.tolist())]))
    if abs(by) <= max(noise * 3, abs(float(np.median(values))) * 0.05):
        return "steady", by
    return ("up" if by > 0 else "down"), by
