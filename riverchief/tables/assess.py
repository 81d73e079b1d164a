"""``riverchief assess``: quality and event checks over a table, by the functions of the live ingest.

This module reads the table and finds its sensors, station by station and piece by piece; what is doubtful and what is
an event is decided in :mod:`sensors.quality`. Everything it had to assume is said on stderr.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from infra.errors import ConfigurationError
from infra.texts import line, named, say
from infra.times import DAY_MS, TIME_BITS, rfc3339
from riverchief.tables import formats
from sensors.parameters import Catalogue
from sensors.quality import SeriesReadings, SeriesState, check_quality
from sensors.quality.constants import BELOW_ZERO, CHECK_DUE
from sensors.quality.detectors.clock_shift import ClockShift, find_clock_shifts
from sensors.quality.detectors.cross_parameter import CHECKED_PARAMETERS, find_contradictions, with_cross_check
from sensors.quality.detectors.doubtful_events import DoubtState, Settled, oxygen_leaps, settle_doubtful_events
from sensors.quality.detectors.slow_events import SlowEventState, detect_slow_events
from sensors.quality.detectors.sudden_events import SuddenEventState, detect_sudden_events
from sensors.quality.detectors.tide import without_tidal_salt
from sensors.quality.detectors.upstream_evidence import UpstreamPath
from sensors.quality.events import EVENT_OVER_AFTER_MS, Alarms, DiscountReason, EventReadings, first_alarms
from sensors.quality.explanations import (
    below_zero_text,
    clock_shift_text,
    maintenance_due_text,
    outcome_text,
    test_names,
)
from sensors.quality.explanations import event_text as event_sentence
from sensors.quality.neighbours import connected_groups, neighbour_stations
from sensors.quality.table_sensors import TableSensor, TableSensors, find_sensors
from sensors.reading import Bits, Bytes, Flag, Floats, Ints, Places, QualityTest, pack
from sensors.unit_change import find_unit_changes

COLUMNS = ("station", "time", "parameter", "kind", "flag", "reason")

TIME = (
    "time", "timestamp", "datetime", "date_time", "date/time", "datetimestamp", "date", "observed_at", "sample_time",
    "时间", "监测时间", "采样时间", "日期时间",
)  # fmt: skip
DAY = ("date", "day", "日期")
"""A column beside the time of day."""
STATION = (
    "station", "station_id", "station_name", "stationcode", "site", "site_id", "site_no", "site_name", "断面",
    "断面名称", "站点", "站点名称", "监测点",
)  # fmt: skip

_ZONED = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z")
_NAIVE = (
    "%Y-%m-%dT%H:%M:%S",  # three times as fast as with a fraction
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y年%m月%d日 %H:%M",
    "%Y%m%d%H%M%S",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
)

VALUES_PER_PASS = 150_000
"""Values of one pass: few enough to stay in the processor's cache, enough to make a pass worth it."""

MIN_NUMBER_SHARE = 0.5
"""A column of which fewer filled cells than this are numbers is no sensor."""

MAX_REPORTED = 5

MIN_CONSTANT_VALUES = 10
"""Fewest readings of a column for a note that all of them are the same number."""

LEAP_DAYS = 1_000
"""A longer pause than nearly three years is told: loggers that lost their clock begin again in 1970, 1980 or 2000."""

Progress = Callable[[float], None]


@dataclass
class Summary:
    """What was assessed, how much was doubtful, and everything that had to be assumed or left out."""

    file: str
    rows: int = 0
    stations: int = 0
    values: int = 0
    suspect: int = 0
    bad: int = 0
    events: int = 0
    doubtful: int = 0
    unassessed: int = 0
    by_test: dict[str, int] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    left_alone: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SensorTable:
    """A table in memory: rows sorted by (station, time), each key once. ``values`` (rows, sensors), NaN missing;
    column by column in memory, as it is read and assessed."""

    names: list[str]
    station: Places
    at: Ints
    values: Floats
    found: TableSensors


def assess_file(
    source: Path,
    out: Path,
    catalogue: Catalogue,
    *,
    network: Sequence[tuple[str, str]] = (),
    offset: timedelta | None = None,
    progress: Progress = lambda share: None,
) -> Summary:
    """Write the doubtful readings and the events of a table: ``station,time,parameter,kind,flag,reason``.

    ``network`` names which station is upstream of which; ``offset`` from UTC is that of times that say none.
    Raises ConfigurationError naming file and column for what cannot be used.
    """
    summary = Summary(source.name)
    table = read(source, catalogue, summary, offset)
    edges = _edges(source, table.names, network)
    judged = judge(table, edges, progress)
    summary.notes += [line("table.note_new"), *_units(table), *_clocks(table, judged.packed), *_due(table, judged.due)]
    frame = _frame(table, judged, summary)
    with formats.writing(out, COLUMNS) as sink:
        sink.write(frame)
    return summary


# -- judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts: ``packed`` (rows, sensors), 0 where there is no value, and the alarms; ``due`` (rows, sensors)
    why a sensor should have been cleaned or checked (:data:`~sensors.quality.engine.DUE`)."""

    packed: Ints
    alarms: Alarms
    due: Bits
    settled: tuple[Settled, ...] = ()


def judge(table: SensorTable, edges: Sequence[UpstreamPath] = (), progress: Progress = lambda share: None) -> Judged:
    """Assess a table in pieces of some ten thousand values: stations one after the other, neighbours side by side."""
    columns, kinds = table.found.sensors, table.found.catalogue
    n, k = table.values.shape
    parameter = np.array([c.parameter for c in columns], np.int64)
    values = _flat(table.values)
    packed, moves = np.zeros(n * k, np.int64), np.full(n * k, np.nan)
    courses, due = np.zeros(n * k, np.uint8), np.zeros(n * k, np.uint32)
    done, network = 0, neighbour_stations(edges)
    for members in connected_groups(len(table.names), edges):
        memory = SeriesState.of(
            np.repeat(members, k).astype(np.int32), np.tile(parameter, len(members)).astype(np.int32)
        )
        spans = [tuple(np.searchsorted(table.station, [one, one + 1]).tolist()) for one in members]
        for piece in _pieces(table.at, spans, max(1, VALUES_PER_PASS // max(1, k))):
            series, row = _by_series(table.values, piece)
            column = series % k
            cell = column * n + row
            at, letters = table.at[row], np.full(len(row), ord("N"), np.uint8)
            verdict = check_quality(
                SeriesReadings(series, parameter[column], at, values[cell], letters), memory, kinds, network=network
            )
            packed[cell] = pack(verdict.flag, verdict.tests)
            moves[cell] = verdict.move
            courses[cell] = verdict.course
            due[cell] = verdict.due
            for i in np.unique(verdict.reflag_series // k).tolist():
                again = verdict.reflag_series // k == i
                earlier = spans[i][0] + np.searchsorted(table.at[slice(*spans[i])], verdict.reflag_at[again])
                packed[verdict.reflag_series[again] % k * n + earlier] = verdict.reflag_packed[again]
            memory.apply(verdict.carried)
            done += sum(last - first for first, last in piece)
            progress(0.9 * done / max(n, 1))
    verdicts = packed.reshape(k, n).T
    _cross(table, verdicts)
    alarms, settled = _alarms(table, packed, moves, courses, parameter, edges)
    return Judged(verdicts, alarms, due.reshape(k, n).T, settled)


def _flat(cells: Floats) -> Floats:
    """(columns * rows,) a table column by column."""
    return np.asfortranarray(cells).T.reshape(-1)


def _pieces(at: Ints, spans: Sequence[tuple[int, int]], rows: int) -> Iterator[list[tuple[int, int]]]:
    """For each piece of time the rows (first, last) of every station; about so many rows in all."""
    when = at[slice(*spans[0])] if len(spans) == 1 else np.sort(np.concatenate([at[slice(*span)] for span in spans]))
    cuts = [*when[rows::rows].tolist(), None]
    firsts = [first for first, _ in spans]
    for cut in cuts:
        lasts = [last if cut is None else first + int(np.searchsorted(at[first:last], cut)) for first, last in spans]
        yield list(zip(firsts, lasts, strict=True))
        firsts = lasts
        spans = [(first, last) for first, (_, last) in zip(firsts, spans, strict=True)]


def _by_series(values: Floats, piece: Sequence[tuple[int, int]]) -> tuple[Ints, Places]:
    """(v,) the series of each value of a piece, numbered by station and column, and its row; sorted by both."""
    series, rows = [], []
    for i, (first, last) in enumerate(piece):
        column, row = np.nonzero(~np.isnan(values[first:last].T))
        series.append(column + i * values.shape[1])
        rows.append(row + first)
    return np.concatenate(series), np.concatenate(rows)


def _cross(table: SensorTable, packed: Ints) -> None:
    """In place: the readings of a row that contradict each other."""
    place = {kind: i for i, c in enumerate(table.found.sensors) if (kind := _key(table, c)) in CHECKED_PARAMETERS}
    if len(place) < 2:
        return
    values = {key: np.where(packed[:, i] & 15 < Flag.BAD, table.values[:, i], np.nan) for key, i in place.items()}
    for key, wrong in find_contradictions(values).items():
        packed[:, place[key]] = with_cross_check(packed[:, place[key]], wrong)


def _clocks(table: SensorTable, packed: Ints) -> list[str]:
    """One sentence for each change of a clock; stations that shift alike within two days share one."""
    kinds = table.found.catalogue.parameters
    columns: dict[str, int] = {}
    for i, sensor in enumerate(table.found.sensors):
        if kinds[sensor.parameter].event and np.isfinite(kinds[sensor.parameter].swing):
            columns.setdefault(kinds[sensor.parameter].event, i)
    used = list(columns.values())
    swing = np.array([kinds[table.found.sensors[i].parameter].swing for i in used])
    together: list[tuple[ClockShift, list[str]]] = []
    for one, name in enumerate(table.names):
        rows = slice(*np.searchsorted(table.station, [one, one + 1]).tolist())
        good = packed[rows][:, used] & 15 < Flag.BAD
        for found in find_clock_shifts(table.at[rows], np.where(good, table.values[rows][:, used], np.nan), swing):
            for with_others, names in together:
                if abs(found.since_ms - with_others.since_ms) <= 2 * DAY_MS and found.alike(with_others):
                    names.append(name)
                    break
            else:
                together.append((found, [name]))
    return [named(clock_shift_text(found, names)) for found, names in together]


def _units(table: SensorTable) -> list[str]:
    """One sentence for each sensor that goes on in another unit."""
    notes = []
    for column, sensor in zip(table.values.T, table.found.sensors, strict=True):
        rows = np.flatnonzero(~np.isnan(column))
        parameter = table.found.catalogue.parameters[sensor.parameter]
        kind = replace(parameter, key=sensor.kind_key)
        for change in find_unit_changes(column[rows], table.station[rows], kind)[:MAX_REPORTED]:
            row = rows[change.row]
            names = {
                "station": table.names[table.station[row]],
                "name": sensor.name,
                "since": rfc3339(int(table.at[row])),
            }
            notes.append(line("table.note_unit", **names, old=change.old, new=change.new))
    return notes


def _due(table: SensorTable, due: Bits) -> list[str]:
    """One sentence for each sensor that was due for a check, and why, with the days on which that began."""
    notes = []
    for reason in (CHECK_DUE, BELOW_ZERO):
        row, column = np.nonzero(due & np.uint32(reason))
        for station, sensor in np.unique(np.stack([table.station[row], column], axis=1), axis=0).tolist():
            rows = row[(table.station[row] == station) & (column == sensor)]
            days = np.unique(table.at[rows] // DAY_MS)
            began = (days[np.diff(days, prepend=-2) > 1][:MAX_REPORTED] * DAY_MS).tolist()
            name, one = table.names[station], table.found.sensors[sensor]
            parameter = table.found.catalogue.parameters[one.parameter]
            if reason == BELOW_ZERO:
                offset = parameter.show(-float(np.median(table.values[rows, sensor])))
                notes.append(named(below_zero_text(name, one.name, offset, began)))
            else:
                notes.append(named(maintenance_due_text(name, one.name, began, optical=parameter.optical)))
    return notes


def _key(table: SensorTable, sensor: TableSensor) -> str:
    return table.found.catalogue.parameters[sensor.parameter].key


def _alarms(
    table: SensorTable, packed: Ints, moves: Floats, courses: Bytes, parameter: Ints, edges: Sequence[UpstreamPath]
) -> tuple[Alarms, tuple[Settled, ...]]:
    """Events of the water, a slow event once, at the hour of its alarm; and what became of the doubtful ones."""
    cells = np.flatnonzero(packed)
    column, rows = np.divmod(cells, len(table.at))
    packed, moves, courses, value = packed[cells], moves[cells], courses[cells], _flat(table.values)[cells]
    watched = SuddenEventState()
    watched.grow(len(table.names))
    slow = SlowEventState()
    slow.grow(len(table.names))
    station, at = table.station[rows], table.at[rows]
    readings = EventReadings(table.found.catalogue, station, parameter[column], at, value, packed >> 4, moves, courses)
    slow_result = detect_slow_events(readings, slow, neighbour_stations(edges))
    seen = detect_sudden_events(without_tidal_salt(readings, slow_result.tidal_days), watched, tuple(edges))
    every, leaps = Alarms.joined([seen.alarms, slow_result.alarms]), oxygen_leaps(readings)
    doubt = DoubtState()
    doubt.grow(len(table.names))
    settled = settle_doubtful_events(every, leaps, lambda: np.unique(station << TIME_BITS | at), doubt)
    return first_alarms(settled.alarms), settled.settled


def _with_outcomes(alarms: Alarms, settled: Sequence[Settled], sentences: list[str]) -> list[str]:
    """The sentences of alarms, those of doubtful ones with what became of them."""
    ends: dict[tuple[int, DiscountReason], list[Settled]] = {}
    for one in settled:
        ends.setdefault((one.station, one.reason), []).append(one)
    for row in np.flatnonzero(alarms.discount).tolist():
        at_ms = int(alarms.at[row])
        cases = ends.get((int(alarms.station[row]), DiscountReason(int(alarms.discount[row]))), ())
        case = next((one for one in reversed(cases) if one.since_ms <= at_ms), None)
        if case is not None and at_ms <= case.at_ms:
            sentences[row] += named(outcome_text(case))
    return sentences


def _edges(source: Path, names: Sequence[str], network: Sequence[tuple[str, str]]) -> list[UpstreamPath]:
    """The network by position; upstream stations first do not matter, alarms are matched by time."""
    for pair in network:
        if missing := [name for name in pair if name not in names]:
            shown = ", ".join(names[:8])
            raise ConfigurationError(say("table.network_unknown", missing=missing[0], name=source.name, known=shown))
    return [UpstreamPath(names.index(a), names.index(b)) for a, b in network]


def network(text: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs (above, below) from ``a>b>c`` given any number of times, or a file with such lines."""
    pairs: list[tuple[str, str]] = []
    for one in text:
        lines = [one]
        if ">" not in one:
            try:
                lines = Path(one).read_text(encoding="utf-8").splitlines()
            except OSError as error:
                raise ConfigurationError(say("table.network_file", one=one, error=error.strerror)) from error
        for row in lines:
            chain = [name.strip() for name in row.split("#")[0].split(">")]
            if chain == [""]:
                continue
            if len(chain) < 2 or not all(chain):
                raise ConfigurationError(say("table.network_line", line=row))
            pairs += itertools.pairwise(chain)
    return pairs


def offset(text: str | None) -> timedelta | None:
    """``+08:00`` as a timedelta; raises ConfigurationError."""
    if text is None:
        return None
    match = re.fullmatch(r"([+-])(\d{1,2}):?(\d{2})", text.strip())
    if match is None or int(match[2]) > 14 or int(match[3]) > 59:
        raise ConfigurationError(say("table.offset", text=text))
    return (1 if match[1] == "+" else -1) * timedelta(hours=int(match[2]), minutes=int(match[3]))


# -- reading ---------------------------------------------------------------------------------------------------------


def read(source: Path, catalogue: Catalogue, summary: Summary, offset: timedelta | None = None) -> SensorTable:
    """The table as numbers; the summary notes what was assumed, left out or sorted."""
    with formats.reading(source) as table:
        names = list(table.names)
        day_at, time_at = _named(names, DAY), _named(names, TIME)
        if time_at is None:
            raise ConfigurationError(say("table.no_time", source=source, found=", ".join(names[:8])))
        station_at = _named(names, STATION)
        others = [i for i in range(len(names)) if i not in (day_at, time_at, station_at)]
        found = find_sensors([names[i] for i in others], catalogue)
        place = {names[i]: i for i in reversed(others)}
        if not found.sensors:
            raise ConfigurationError(say("table.no_parameter", source=source, found=", ".join(names[:8])))
        stamps: list[pl.Series] = []
        stations: list[pl.Series] = []
        cells: list[list[Floats]] = []
        unread = [_Unread() for _ in found.sensors]
        summary.remarks = list(found.remarks)
        for piece in table.pieces():
            frame = piece.frame
            stamps.append(_stamps(frame, day_at, time_at))
            if station_at is not None:
                stations.append(frame[str(station_at)].cast(pl.String))
            summary.unassessed += sum(_filled(frame[str(place[name])]) for name in found.left)
            cells.append(
                [_numbers(frame[str(place[c.name])], odd) for c, odd in zip(found.sensors, unread, strict=True)]
            )
    if not stamps or not sum(len(s) for s in stamps):
        raise ConfigurationError(say("table.no_rows", source=source))
    at, ok = _times(source, names[time_at], pl.concat(stamps), offset, summary)
    columns = [np.concatenate([piece[i] for piece in cells]) for i in range(len(found.sensors))]
    summary.rows = len(at)
    sensors, columns = _sensors(found, columns, unread, summary)
    if not columns:
        tried = [f"{c.name} {odd.first!r}" for c, odd in zip(found.sensors, unread, strict=True) if odd.cells]
        empty = ", ".join(tried or [c.name for c in found.sensors])
        raise ConfigurationError(say("table.no_numbers", source=source, found=empty))
    values = np.stack([c.canonical(v) for c, v in zip(sensors.sensors, columns, strict=True)]).T
    values[~np.isfinite(values)] = np.nan
    if station_at is None:
        label = source.name.split(".")[0]
        summary.notes.append(line("table.one_station", label=label))
        station_names, owner = [label], np.zeros(int(ok.sum()), np.intp)
    else:
        station_names, owner = _stations(pl.concat(stations).filter(pl.Series(ok)), summary)
    rows = np.flatnonzero(ok)
    return _sorted(station_names, owner, at[rows], values.T[:, rows].T, sensors, summary)


def _named(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """The place of the first of the wanted headers; what stands in a bracket behind it is left out."""
    spelled = [re.sub(r"[(（].*", "", name).strip().lower().replace(" ", "_") for name in names]
    return next((spelled.index(one) for one in wanted if one in spelled), None)


def _stamps(frame: pl.DataFrame, day_at: int | None, time_at: int) -> pl.Series:
    """The times, put together from the day and the time of day where these stand in two columns."""
    stamps = frame[str(time_at)]
    if day_at in (None, time_at) or not stamps.cast(pl.String).str.contains(r"^\s*\d{1,2}:\d\d").any():
        return stamps
    return frame[str(day_at)].cast(pl.String).str.strip_chars() + " " + stamps.cast(pl.String).str.strip_chars()


@dataclass
class _Unread:
    """How many filled cells of a column are no numbers, and the first of them."""

    cells: int = 0
    first: str = ""


def _numbers(cells: pl.Series, unread: _Unread) -> Floats:
    """(n,) numbers, NaN where there is none; what is filled and no number is counted in ``unread``."""
    if cells.dtype.is_numeric():
        numbers = cells.cast(pl.Float64)
        return np.array(numbers.fill_null(float("nan")).to_numpy(), np.float64)
    text = cells.cast(pl.String)
    numbers = text.cast(pl.Float64, strict=False)
    if numbers.null_count() > text.null_count():
        text = text.str.strip_chars()
        numbers = text.cast(pl.Float64, strict=False)
        odd = text.filter(numbers.is_null() & (text.str.len_bytes() > 0))
        unread.cells += len(odd)
        unread.first = unread.first or (odd[0] if len(odd) else "")
    return np.array(numbers.fill_null(float("nan")).to_numpy(), np.float64)


def _filled(cells: pl.Series) -> int:
    """How many cells are numbers."""
    return int(np.isfinite(_numbers(cells, _Unread())).sum())


def _sensors(
    found: TableSensors, columns: list[Floats], unread: Sequence[_Unread], summary: Summary
) -> tuple[TableSensors, list[Floats]]:
    """The columns that hold numbers; what each is taken as, and what is left alone, goes to the summary."""
    summary.left_alone = list(found.left)
    keep = []
    for i, (column, values, odd) in enumerate(zip(found.sensors, columns, unread, strict=True)):
        numbers = int(np.isfinite(values).sum())
        if not numbers and not odd.cells:
            summary.notes.append(line("table.note_no_numbers", name=column.name))
        elif numbers < MIN_NUMBER_SHARE * (numbers + odd.cells):
            summary.notes.append(line("table.note_text", name=column.name, first=odd.first))
            summary.left_alone.append(column.name)
            summary.unassessed += numbers
        else:
            if numbers >= MIN_CONSTANT_VALUES and np.nanmin(values) == np.nanmax(values):
                summary.notes.append(line("table.note_constant", name=column.name, value=f"{np.nanmax(values):g}"))
            if odd.cells:
                summary.notes.append(line("table.note_cells", name=column.name, cells=odd.cells, first=odd.first))
            summary.columns[column.name] = column.kind_key
            keep.append(i)
    guessed = [c.name for c in (found.sensors[i] for i in keep) if c.kind_key == "generic"]
    if guessed:
        summary.notes.append(line("table.note_plain", names=", ".join(guessed)))
    sensors: tuple[TableSensor, ...] = tuple(found.sensors[i] for i in keep)
    return replace(found, sensors=sensors), [columns[i] for i in keep]


def _times(
    source: Path, name: str, cells: pl.Series, offset: timedelta | None, summary: Summary
) -> tuple[Ints, np.ndarray]:
    """(n,) ms and which could be read; refuses a column that is mostly no time."""
    if isinstance(cells.dtype, pl.Datetime):
        zone = cells.dtype.time_zone
        stamps = cells.dt.convert_time_zone("UTC") if zone else cells
        return _ms(source, name, stamps, zoned=zone is not None, offset=offset, filled=len(cells), summary=summary)
    text = cells.cast(pl.String).str.strip_chars()
    filled = int((text.is_not_null() & (text.str.len_bytes() > 0)).sum())
    sample = text.drop_nulls().head(200)
    zoned = bool(len(sample)) and bool(
        (sample.str.contains(r"(Z|z|[+-]\d{2}:?\d{2})$") & sample.str.contains(":")).any()
    )
    if zoned and bool(text.str.ends_with("Z").all()):
        text = text.str.strip_suffix("Z")
        forms: tuple[str, ...] = _NAIVE
    else:
        text, forms = (text.str.replace(r"[zZ]$", "+00:00"), _ZONED) if zoned else (text, _NAIVE)
    best: pl.Series | None = None
    for form in forms:
        try:
            stamps = text.str.to_datetime(form, time_unit="ms", strict=False)
        except pl.exceptions.PolarsError:
            continue
        if best is None or stamps.null_count() < best.null_count():
            best = stamps
        if len(stamps) - stamps.null_count() >= filled:
            break
    if best is None or len(best) - best.null_count() < MIN_NUMBER_SHARE * max(filled, 1):
        first = sample[0] if len(sample) else ""
        raise ConfigurationError(say("table.bad_time", source=source, name=name, first=first))
    return _ms(source, name, best, zoned=zoned, offset=offset, filled=filled, summary=summary)


def _ms(
    source: Path, name: str, stamps: pl.Series, *, zoned: bool, offset: timedelta | None, filled: int, summary: Summary
) -> tuple[Ints, np.ndarray]:
    is_set = stamps.is_not_null().to_numpy()
    at = np.array(stamps.dt.epoch("ms").fill_null(0).to_numpy(), np.int64)
    if not zoned:
        if offset is None:
            summary.notes.append(line("table.note_offset", name=name))
        else:
            at = at - int(offset.total_seconds() * 1000)
    if lost := len(is_set) - int(is_set.sum()):
        summary.notes.append(line("table.note_no_time", name=name, rows=lost))
    strange = is_set & ((at < 0) | (at > 4_102_444_800_000))
    if strange.any():
        summary.notes.append(line("table.note_year", name=name, rows=int(strange.sum())))
    return at, is_set & ~strange


def _stations(cells: pl.Series, summary: Summary) -> tuple[list[str], Places]:
    names = cells.str.strip_chars().fill_null("")
    unique = names.unique(maintain_order=True).to_list()
    if "" in unique:
        summary.notes.append(line("table.note_nameless"))
    codes = names.replace_strict(unique, list(range(len(unique))), return_dtype=pl.Int64)
    return unique, np.array(codes.to_numpy(), np.intp)


def _sorted(
    stations: list[str], owner: Places, at: Ints, values: Floats, found: TableSensors, summary: Summary
) -> SensorTable:
    """Rows by station and time; of rows with one key each column's last number counts."""
    summary.notes += _hours_twice(stations, owner, at)
    backwards = int(((np.diff(at) < 0) & (np.diff(owner) == 0)).sum())
    order = np.lexsort((np.arange(len(at)), at, owner))
    if backwards:
        summary.notes.append(line("table.note_back", times=backwards))
        owner, at, values = owner[order], at[order], values.T[:, order].T
    elif (np.diff(owner) < 0).any():
        owner, at, values = owner[order], at[order], values.T[:, order].T
    again = np.append(False, (np.diff(at) == 0) & (np.diff(owner) == 0))
    if again.any():
        twice = int(again.sum())
        summary.notes.append(line("table.note_twice", rows=twice))
        for row in np.flatnonzero(again).tolist():
            values[row] = np.where(np.isnan(values[row]), values[row - 1], values[row])
        keep = np.append(~again[1:], True)
        owner, at, values = owner[keep], at[keep], values.T[:, keep].T
    leaps = np.flatnonzero((np.diff(at) > LEAP_DAYS * DAY_MS) & (np.diff(owner) == 0))
    for row in leaps[:MAX_REPORTED].tolist():
        names = {"station": stations[owner[row]], "before": rfc3339(int(at[row])), "after": rfc3339(int(at[row + 1]))}
        summary.notes.append(line("table.note_leap", **names))
    summary.stations = len(np.unique(owner))
    summary.values = int((~np.isnan(values)).sum())
    return SensorTable(stations, owner, at, values, found)


def _hours_twice(stations: Sequence[str], owner: Places, at: Ints) -> list[str]:
    """One sentence for each clock that was set back by an hour: local times say an hour twice when summer time ends."""
    apart, same = np.diff(at), np.diff(owner) == 0
    if not (apart < 0).any() or not (apart > 0).any():
        return []
    back = np.flatnonzero(same & (apart == np.median(apart[same & (apart > 0)]) - DAY_MS // 24))
    if len(back) > 3 * len(stations) + len(at) // 5000:  # in no order
        return []
    names = [
        {"station": stations[owner[row]], "when": rfc3339(int(at[row + 1]))} for row in back[:MAX_REPORTED].tolist()
    ]
    return [line("table.note_hour_twice", **one) for one in names]


# -- writing ---------------------------------------------------------------------------------------------------------


def _frame(table: SensorTable, judged: Judged, summary: Summary) -> pl.DataFrame:
    """The rows to write, by station and time; the events of an instant before its readings."""
    row, column = np.nonzero((judged.packed & 15) >= Flag.SUSPECT)
    packed = judged.packed[row, column]
    bits = packed >> 4
    summary.suspect = int(((packed & 15) == Flag.SUSPECT).sum())
    summary.bad = int(((packed & 15) == Flag.BAD).sum())
    counts = {str(t.name).lower(): int(((bits & int(t)) != 0).sum()) for t in QualityTest}
    summary.by_test = {name: count for name, count in counts.items() if count}
    sets, which = np.unique(bits, return_inverse=True)
    test_texts = np.array([named(test_names(int(one))) for one in sets] or [""], object)
    names = np.array([c.name for c in table.found.sensors], object)
    alarms = judged.alarms
    doubtful = alarms.discount > 0
    summary.events, summary.doubtful = (_runs(alarms.take(np.flatnonzero(one))) for one in (~doubtful, doubtful))
    sentences = [named(event_sentence(alarms, i)) for i in range(len(alarms.at))]
    sentences = _with_outcomes(alarms, judged.settled, sentences)
    station = np.concatenate([alarms.station, table.station[row]])
    at = np.concatenate([alarms.at, table.at[row]])
    events = len(alarms.at)
    order = np.lexsort((np.arange(len(at)), at, station))
    stamps = pl.Series(at[order]).cast(pl.Datetime("ms"))
    whole = bool((at % 1000 == 0).all())
    frame = {
        "0": np.array(table.names, object)[station[order]] if len(order) else [],
        "2": np.concatenate([np.full(events, "", object), names[column]])[order],
        "3": np.concatenate(
            [np.where(doubtful, "doubtful", "event").astype(object), np.full(len(row), "fault", object)]
        )[order],
        "4": np.concatenate([np.full(events, int(Flag.SUSPECT)), packed & 15])[order],
        "5": np.concatenate([np.array(sentences, object), test_texts[which] if len(row) else np.empty(0, object)])[
            order
        ],
    }
    text = pl.String
    series = [pl.Series(name, list(v), text) if name != "4" else pl.Series(name, v) for name, v in frame.items()]
    series.insert(1, stamps.dt.strftime("%Y-%m-%dT%H:%M:%SZ" if whole else "%Y-%m-%dT%H:%M:%S%.3fZ").alias("1"))
    return pl.DataFrame(series)


def _runs(alarms: Alarms) -> int:
    """Number of events: alarms of a station without a pause of six hours are one."""
    if not len(alarms.at):
        return 0
    order = np.lexsort((alarms.at, alarms.station))
    apart = np.diff(alarms.at[order]) > EVENT_OVER_AFTER_MS
    return 1 + int((apart | (np.diff(alarms.station[order]) != 0)).sum())


COUNTED_FIELDS = ("rows", "stations", "values", "suspect", "bad", "events", "doubtful")


def summary_lines(summary: Summary) -> Iterator[str]:
    """The summary for people: what was assumed, and what was found."""
    yield from summary.notes
    tests = ", ".join(f"{name} {count:,}" for name, count in summary.by_test.items()) or "-"
    counts = {name: getattr(summary, name) for name in COUNTED_FIELDS}
    left = say("table.assessed_all")
    if summary.left_alone:
        left = say("table.left", names=", ".join(summary.left_alone), cells=summary.unassessed)
    text = say("table.assessed", tests=tests, left=left, **counts)
    yield from (text.zh, text.en)
