"""What is compared: the product and its opponents; each takes a record's table and ways and returns its flags."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from infra.times import DAY_MS
from riverchief.tables.assess import SensorTable, judge
from sensors.quality.detectors.upstream_evidence import UpstreamPath
from sensors.reading import Bools, Flag, Floats, Ints, Places
from tools.benchmark.records import Record
from tools.benchmark.scorer import LEFT_OUT, Flags

Method = Callable[[Record], Flags]
PAST_DAYS: Final = 30


def ours(record: Record) -> Flags:
    """``riverchief assess`` as it is; doubtful events are none."""
    return flags_of(record.table, record.paths)


def flags_of(table: SensorTable, paths: Sequence[UpstreamPath] = ()) -> Flags:
    judged = judge(table, paths)
    sure = judged.alarms.discount == 0
    station, at = judged.alarms.station[sure], judged.alarms.at[sure]
    key = table.station.astype(np.int64) * 2**44 + table.at
    event = np.isin(key, station.astype(np.int64) * 2**44 + at)
    return Flags((judged.packed & 15) >= Flag.SUSPECT, event)


def none(record: Record) -> Flags:
    n, k = record.table.values.shape
    return Flags(np.zeros((n, k), np.bool_), np.zeros(n, np.bool_))


def series(record: Record) -> Iterator[tuple[Places, int, Ints, Floats]]:
    """Of each sensor at each station: rows with a reading, column, times and values."""
    table = record.table
    for mine in record.stations:
        for i, sensor in enumerate(table.found.sensors):
            rows = mine[~np.isnan(table.values[mine, i])]
            if sensor.kind_key not in LEFT_OUT and len(rows) > 3:
                yield rows, i, table.at[rows], table.values[rows, i]


@dataclass(frozen=True, slots=True)
class OwnPast:
    """Limits of a series: twice what it did in its first :data:`PAST_DAYS` days."""

    low: float
    high: float
    still_s: int
    past: Bools


def own_past(at: Ints, x: Floats) -> OwnPast | None:
    """None where there are too few readings."""
    past = at < at[0] + PAST_DAYS * DAY_MS
    own = x[past]
    if len(own) < 3:
        return None
    middle, reach = (own.max() + own.min()) / 2.0, own.max() - own.min()
    return OwnPast(middle - reach, middle + reach, 2 * longest_run_s(at[past], own), past)


def ioos(record: Record) -> Flags:
    """ioos_qc with limits from the first 30 days of each series, doubled: gross range, spike, rate, flat line."""
    qartod: Any = import_module("ioos_qc.qartod")
    flags = none(record)
    for rows, column, at, x in series(record):
        if (limits := own_past(at, x)) is None:
            continue
        own, seconds = x[limits.past], np.diff(at[limits.past]) / 1000.0
        when = at.astype("datetime64[ms]")
        spike = 2.0 * float(np.abs(own[1:-1] - (own[:-2] + own[2:]) / 2.0).max())
        rate = 2.0 * float((np.abs(np.diff(own)) / seconds).max())
        found = [
            qartod.gross_range_test(x, fail_span=(limits.low, limits.high)),
            qartod.spike_test(x, suspect_threshold=spike, fail_threshold=spike),
            qartod.rate_of_change_test(x, when, threshold=rate),
            qartod.flat_line_test(x, when, suspect_threshold=limits.still_s, fail_threshold=10**9, tolerance=1e-9),
        ]
        bad = np.max([np.where(np.isin(np.asarray(one), (3, 4)), 1, 0) for one in found], axis=0) > 0
        flags.fault[rows, column] = bad
    return Flags(flags.fault, two_sensors(record, flags.fault))


def saqc(record: Record) -> Flags:
    """SaQC's generic functions with such limits: range, constants, and outliers by their UniLOF score."""
    package: Any = import_module("saqc")
    pandas: Any = import_module("pandas")
    flags = none(record)
    for rows, column, at, x in series(record):
        if (limits := own_past(at, x)) is None:
            continue
        frame = pandas.DataFrame({"x": x}, index=pandas.to_datetime(at, unit="ms"))
        scored = package.SaQC(frame[limits.past]).assignUniLOF("x", target="score")
        checked = (
            package.SaQC(frame)
            .flagRange("x", min=limits.low, max=limits.high)
            .flagConstants("x", thresh=0, window=f"{limits.still_s}s")
            .flagUniLOF("x", thresh=2.0 * float(scored.data["score"].abs().max()))
        )
        flags.fault[rows, column] = checked.flags["x"].to_numpy() > -np.inf
    return Flags(flags.fault, two_sensors(record, flags.fault))


def longest_run_s(at: Ints, x: Floats) -> int:
    """How long the longest run of equal values lasted, seconds; an hour at least."""
    edges = np.append(np.flatnonzero(np.diff(x) != 0), len(x) - 1)
    begin = np.append(0, edges[:-1] + 1)
    return max(3600, int((at[edges] - at[begin]).max()) // 1000)


def two_sensors(record: Record, fault: Bools) -> Bools:
    """(rows,) an event: sensors of two kinds flagged within half an hour."""
    table, event = record.table, np.zeros(len(record.table.at), np.bool_)
    for rows in record.stations:
        at = table.at[rows]
        first = np.searchsorted(at, at - 30 * 60_000)
        near = np.zeros(len(rows), np.int64)
        for kind in {one.kind_key for one in table.found.sensors}:
            columns = [i for i, one in enumerate(table.found.sensors) if one.kind_key == kind]
            total = np.append(0, np.cumsum(fault[rows][:, columns].any(axis=1)))
            near += total[1:] > total[first]
        event[rows] = near >= 2
    return event & fault.any(axis=1)


def hampel(record: Record, window: int = 24, limit: float = 8.0) -> Flags:
    """A value farther from the median of the last 24 than 8 times their MAD."""
    flags = none(record)
    for rows, column, _, x in series(record):
        padded = np.concatenate([np.full(window - 1, x[0]), x])
        view = np.lib.stride_tricks.sliding_window_view(padded, window)
        middle = np.median(view, axis=1)
        spread = np.maximum(1.4826 * np.median(np.abs(view - middle[:, None]), axis=1), 1e-6)
        flags.fault[rows, column] = np.abs(x - middle) > limit * spread
    return Flags(flags.fault, two_sensors(record, flags.fault))


def forest(record: Record) -> Flags:
    """Isolation forest on the values and steps of all sensors of a station, trained on the first 30 days; events."""
    ensemble: Any = import_module("sklearn.ensemble")
    table, flags = record.table, none(record)
    for rows in record.stations:
        used = [i for i in range(table.values.shape[1]) if (~np.isnan(table.values[rows, i])).mean() > 0.5]
        x = table.values[rows][:, used]
        ok = np.flatnonzero(~np.isnan(x).any(axis=1))
        if len(ok) < 200 or not used:
            continue
        x = x[ok]
        features = np.hstack([x, np.diff(x, axis=0, prepend=x[:1])])
        past = table.at[rows[ok]] < table.at[rows[ok[0]]] + PAST_DAYS * DAY_MS
        model = ensemble.IsolationForest(n_estimators=100, random_state=0).fit(features[past])
        score = model.score_samples(features)
        flags.event[rows[ok]] = score < np.quantile(score[past], 0.001)
    return flags


METHODS: Final[dict[str, Method]] = {"ours": ours, "ioos_qc, own past": ioos, "Hampel": hampel}
OPTIONAL: Final[dict[str, tuple[str, Method]]] = {
    "SaQC, own past": ("saqc", saqc),
    "isolation forest": ("sklearn", forest),
}


def available(*, quick: bool) -> dict[str, Method]:
    """The methods whose packages are there; the quick run asks the product and ioos_qc alone."""
    named = {**METHODS, **{name: method for name, (package, method) in OPTIONAL.items() if find_spec(package)}}
    if find_spec("ioos_qc") is None:
        named.pop("ioos_qc, own past")
    return {name: method for name, method in named.items() if not quick or name in ("ours", "ioos_qc, own past")}
