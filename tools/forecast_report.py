"""Make the tables of docs/forecast.md: ``python tools/forecast_report.py DATA_DIR [--every 7] [--auto-theta 6]``.

Every table below DATA_DIR (``station,time`` and one column a parameter, ``anomaly_<parameter>`` = 1 where its keeper
rejected the sample) is forecast with the one configuration of :mod:`sensors.forecast`, every few hours, as the running
system would: from the 45 days before, and from nothing later. Samples the keeper rejected are left out, as flagged
readings are. The opponents forecast from the same hour: persistence, the value a day before (seasonal naive), the Theta
method, and for some hours AutoTheta of the package statsforecast, where it is installed.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from infra.times import HOUR_MS  # noqa: E402
from sensors import forecast as fc  # noqa: E402
from sensors.reading import Floats, Ints  # noqa: E402

NOT_PARAMETERS = ("anomaly", "event", "natural", "type", "corrected", "rain", "time", "station")
OLD = 999.0
RESTLESS_QUANTILE = 0.9
"""A day is restless whose mean change from hour to hour is above this quantile of the window's days; calm below the
opposite one."""
UNREST = ("calm", "usual", "restless")
Row = dict[str, float | str | bool | None]


def series_of(path: Path) -> Iterator[tuple[str, str, Ints, Floats]]:
    """(station, parameter, ms, value) of the good samples of each column of a table."""
    table = pl.read_csv(path, infer_schema_length=None, null_values=["", "NA"])
    for (station,), rows in table.group_by("station", maintain_order=True):
        at = rows["time"].str.to_datetime(time_zone="UTC", strict=False).dt.epoch("ms").to_numpy()
        for name in table.columns:
            if name.lower().startswith(NOT_PARAMETERS):
                continue
            value = rows[name].cast(pl.Float64, strict=False).to_numpy().astype(float)
            good = np.isfinite(value) & (np.abs(value) < 1e6) & (value > -OLD)
            if f"anomaly_{name}" in table.columns:
                good &= rows[f"anomaly_{name}"].cast(pl.Float64, strict=False).fill_null(0).to_numpy() != 1
            if good.sum() > 100:
                order = np.argsort(at[good], kind="stable")
                yield str(station), name, at[good][order], value[good][order]


def scored(at: Ints, value: Floats, every_h: int, auto: int) -> Iterator[Row]:
    """Forecast one series on its way and compare with what came; nothing where it is too sparse or short."""
    step = fc.spacing_h(at)
    if step is None:
        return
    day = 24 // step
    first = int(at[0] // (24 * HOUR_MS)) * 24 * HOUR_MS
    days = int((at[-1] - first) // (24 * HOUR_MS)) + 1
    size = fc.HISTORY_DAYS * day
    whole = np.concatenate([np.full(size, np.nan), fc.grid(at, value, first + days * 24 * HOUR_MS, step, days)])
    begin = size + (fc.WARM_DAYS + fc.MIN_COMPARED_DAYS) * day
    origins = np.arange(begin, len(whole) - day, max(1, every_h // step))
    asked = origins[:: max(1, len(origins) // auto)] if auto else origins[:0]
    unfit = (fc.Verdict.SPARSE, fc.Verdict.STALE, fc.Verdict.SHORT, fc.Verdict.CONSTANT)
    for origin in origins:
        window = whole[origin + 1 - size : origin + 1]
        (one,) = fc.forecasts(window[None], first + int(origin + 1 - size) * step * HOUR_MS, step)
        if one.skill.verdict not in unfit and len(one.at):
            row = _compared(one, window, whole[origin + 1 : origin + 1 + day], step)
            if row and one.skill.shown and origin in asked:
                row["auto_theta"] = _auto_theta(window, whole[origin + 1 : origin + 1 + day], one, step)
            if row:
                yield row


def _compared(one: fc.Forecast, window: Floats, came: Floats, step: int) -> Row:
    """The errors of a forecast and its opponents in the day after it; empty where nothing came."""
    lead = np.round((one.at - one.issued_ms) / HOUR_MS / step + 0.5).astype(int)
    lead = lead[lead <= len(came)]
    y = came[lead - 1]
    there = np.isfinite(y)
    if not there.any():
        return {}
    day = len(came)
    back = window[-day:][lead - 1]
    filled = np.where(np.isfinite(window), window, one.last)[None]
    lines = {
        "us": one.value[: len(lead)],
        "still": np.full(len(lead), one.last),
        "daily": np.where(np.isfinite(back), back, one.last),
        "theta": fc.theta_method(filled, lead, day)[0, -1],
    }
    row: Row = {"shown": one.skill.shown, "label": one.skill.coverage, "days": _unrest(window, day)}
    row |= {name: float(np.abs(y - line)[there].mean()) for name, line in lines.items()}
    low, high = one.low[: len(lead)], one.high[: len(lead)]
    row["inside"] = float(((y >= low) & (y <= high))[there].mean())
    spread = np.sqrt(lead)[:, None] * np.nanquantile(np.diff(window), [0.1, 0.9])  # what a random walk would give
    row["pin"] = _pinball((y - low)[there], (y - high)[there])
    row["pin_walk"] = _pinball((y - one.last - spread[:, 0])[there], (y - one.last - spread[:, 1])[there])
    return row | _crossings(one, y, lead * step, lines["daily"], window)


def _pinball(over_low: Floats, over_high: Floats) -> float:
    losses = (np.maximum(p * off, (p - 1) * off).mean() for p, off in ((0.1, over_low), (0.9, over_high)))
    return float(sum(losses))


def _unrest(window: Floats, day: int) -> str:
    moved = np.abs(np.diff(window, prepend=np.nan)).reshape(-1, day)
    known = np.isfinite(moved)
    each = np.where(known, moved, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    low, high = np.quantile(each[known.any(axis=1)], [1 - RESTLESS_QUANTILE, RESTLESS_QUANTILE])
    return "restless" if each[-1] > high else "calm" if each[-1] < low else "usual"


def _crossings(one: fc.Forecast, y: Floats, hours: Ints, daily: Floats, window: Floats) -> Row:
    """How often the value that a tenth of the window is beyond, on either side, was passed and was warned of."""
    row: dict[str, float] = dict.fromkeys(("came", "warned", "hit", "daily_warned", "daily_hit", "late"), 0.0)
    for share, above in ((0.9, True), (0.1, False)):
        limit, sign = float(np.nanquantile(window, share)), 1 if above else -1
        will = fc.crossing(one, limit, above=above) if one.skill.shown else None
        if will is None:
            continue
        beyond = np.flatnonzero(sign * (y - limit) > 0)
        warned = will.expected_h is not None and will.expected_h <= fc.DAY_LEADS_H
        yesterday = bool((sign * (daily - limit) > 0).any())
        row["came"] += len(beyond) > 0
        row["warned"] += warned
        row["hit"] += warned and len(beyond) > 0
        row["daily_warned"] += yesterday
        row["daily_hit"] += yesterday and len(beyond) > 0
        if warned and len(beyond):
            row["late"] += abs(float(hours[beyond[0]]) - float(will.expected_h or 0))
    return {**row}


def _auto_theta(window: Floats, came: Floats, one: fc.Forecast, step: int) -> float | None:
    """The error of AutoTheta with a season of a day; None without the package."""
    try:
        from statsforecast.models import AutoTheta
    except ImportError:
        return None
    known = np.flatnonzero(np.isfinite(window))
    line = np.interp(np.arange(known[0], len(window)), known, window[known])
    ahead = AutoTheta(season_length=24 // step).forecast(line, h=len(came))["mean"]
    return float(np.nanmean(np.abs(came - ahead)))


def _summary(frame: pl.DataFrame, by: pl.Expr) -> pl.DataFrame:
    shown, col = pl.col("shown"), pl.col

    def ratio(over: str, under: str) -> pl.Expr:
        both = shown & col(over).is_not_null() & col(under).is_not_null()
        return col(over).filter(both).sum() / col(under).filter(both).sum()

    of_series = frame.group_by("set", "series", maintain_order=True).agg(
        pl.len().alias("forecasts"),
        shown.sum().alias("shown"),
        *(ratio("us", name).alias(f"/{name}") for name in ("still", "daily", "theta", "auto_theta")),
        ratio("pin", "pin_walk").alias("/walk"),
        *(col("inside").filter(shown & (col("days") == one)).sum().alias(f"in_{one}") for one in UNREST),
        *((shown & (col("days") == one)).sum().alias(f"n_{one}") for one in UNREST),
        (col("label") - col("inside")).fill_nan(0).filter(shown).sum().alias("label_off"),
        *(col(name).sum() for name in ("came", "warned", "hit", "daily_warned", "daily_hit", "late")),
    )
    held = {one: col(f"in_{one}").sum() / col(f"n_{one}").sum() for one in UNREST}
    every = pl.sum_horizontal(col(f"in_{one}").sum() for one in UNREST)
    return of_series.group_by(by, maintain_order=True).agg(
        (col("shown").sum() / col("forecasts").sum()).alias("shown share"),
        *(col(f"/{name}").drop_nans().median() for name in ("still", "daily", "theta", "auto_theta", "walk")),
        (every / col("shown").sum()).alias("coverage"),
        *(share.alias(one) for one, share in held.items()),
        (col("label_off").sum() / col("shown").sum()).alias("label off"),
        (col("hit").sum() / col("came").sum()).alias("crossings warned of"),
        (col("hit").sum() / col("warned").sum()).alias("warnings true"),
        (col("daily_hit").sum() / col("came").sum()).alias("day before: of"),
        (col("daily_hit").sum() / col("daily_warned").sum()).alias("true"),
        (col("late").sum() / col("hit").sum()).alias("error h"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=7, help="hours between two forecasts")
    parser.add_argument("--auto-theta", type=int, default=0, help="forecasts of each series to compare with AutoTheta")
    parser.add_argument("--only", default="", help="part of a file's name")
    options = parser.parse_args()
    started, rows = time.perf_counter(), []
    for path in sorted(options.data.glob("*.csv*")):
        if options.only in path.name:
            for station, parameter, at, value in series_of(path):
                about = {"set": path.name.split(".")[0], "series": f"{station} {parameter}", "auto_theta": None}
                rows += [about | row for row in scored(at, value, options.every, options.auto_theta)]
    frame = pl.DataFrame(rows, schema_overrides={"auto_theta": pl.Float64}, infer_schema_length=None)
    each_ms = (time.perf_counter() - started) / max(len(frame), 1) * 1000
    with pl.Config(
        tbl_formatting="ASCII_MARKDOWN", tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True, tbl_rows=-1,
        tbl_cols=-1, float_precision=2, tbl_width_chars=400, fmt_str_lengths=60,
    ):  # fmt: skip
        print(pl.concat([_summary(frame, pl.col("set")), _summary(frame, pl.lit("all").alias("set"))]))
    print(f"\n{len(frame)} forecasts, {each_ms:.1f} ms each, the scoring included")


if __name__ == "__main__":
    main()
