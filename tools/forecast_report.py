"""Make the tables of docs/forecast.md: ``python tools/forecast_report.py DATA_DIR [--every 7] [--statsmodels 6]``.

Every table below DATA_DIR (``station,time`` and one column a parameter, ``anomaly_<parameter>`` = 1 where its keeper
rejected the sample) is forecast with the one configuration of :mod:`sensors.forecast`, every few hours, as the running
system would: from the 45 days before, and from nothing later. Samples the keeper rejected are left out, as flagged
readings are.
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from sensors import forecast as fc  # noqa: E402

NOT_PARAMETERS = ("anomaly", "event", "natural", "type", "corrected", "rain", "time", "station")
SHORT_H, DAY_H = 6, 24
KINDS = ("us", "us6", "still", "still6", "daily", "pin", "pin_still", "hid", "hid_still")
OLD = 999.0


@dataclass
class Score:
    """Sums over the forecasts of one series."""

    issues: int = 0
    shown: int = 0
    error: dict[str, list[float]] = field(default_factory=dict)
    inside: list[float] = field(default_factory=list)
    hits: list[tuple[float, float, bool]] = field(default_factory=list)
    warned: int = 0
    came: int = 0
    daily_warned: int = 0
    daily_hits: int = 0
    rival: list[tuple[float, float, float]] = field(default_factory=list)


def series_of(path: Path) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
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


def judged(at: np.ndarray, value: np.ndarray, every_h: int, rivals: int) -> Score | None:
    """Forecast one series on its way and compare with what came; None where it is too sparse or short."""
    step = fc.spacing_h(at)
    if step is None:
        return None
    hour = fc.HOUR_MS
    first = int(at[0] // (step * hour)) * step * hour
    days = int((at[-1] - first) // (24 * hour)) + 1
    whole = fc.grid(at, value, first + days * 24 * hour, step, days)
    size = fc.DAYS * 24 // step
    padded = np.concatenate([np.full(size, np.nan), whole])
    score = Score(error={name: [] for name in KINDS})
    begin = (fc.WARM_DAYS + fc.MIN_COMPARED_DAYS) * 24 // step
    origins = np.arange(begin, len(whole) - 1, max(1, every_h // step))
    asked = set(origins[:: max(1, len(origins) // rivals)].tolist()) if rivals else set()
    for chunk in np.array_split(origins, max(1, len(origins) // 16)):
        ends = {int(o): first + (int(o) + 1) * step * hour for o in chunk}
        for origin, end_ms in ends.items():
            window = padded[None, origin + 1 : origin + 1 + size]
            one = fc.forecasts(window, end_ms, step)[0]
            if one.skill.verdict in (fc.Verdict.SPARSE, fc.Verdict.STALE, fc.Verdict.SHORT, fc.Verdict.CONSTANT):
                continue
            _compare(score, one, whole, origin, step, window[0])
            if origin in asked and one.skill.shown:
                _rival(score, one, whole, origin, step, window[0], end_ms)
    return score


def _compare(score: Score, one: fc.Forecast, whole: np.ndarray, origin: int, step: int, window: np.ndarray) -> None:
    lead = np.round((one.at - one.issued_ms) / fc.HOUR_MS / step + 0.5).astype(int)
    there = (origin + lead < len(whole)) & (lead * step <= DAY_H)
    if not there.any():
        return
    truth = np.full(len(lead), np.nan)
    truth[there] = whole[origin + lead[there]]
    there &= np.isfinite(truth)
    score.issues += 1
    if not there.any():
        return
    y, hours = truth[there], lead[there] * step
    still = np.full(len(y), one.last)
    if not one.skill.shown:
        score.error["hid"].append(np.abs(y - one.value[there]).mean())
        score.error["hid_still"].append(np.abs(y - still).mean())
        return
    score.shown += 1
    score.error["us"].append(np.abs(y - one.value[there]).mean())
    score.error["still"].append(np.abs(y - still).mean())
    short = hours <= SHORT_H
    if short.any():
        score.error["us6"].append(np.abs(y - one.value[there])[short].mean())
        score.error["still6"].append(np.abs(y - still)[short].mean())
    back = whole[origin + lead[there] - 24 // step]
    score.error["daily"].append(float(np.nanmean(np.abs(y - np.where(np.isfinite(back), back, one.last)))))
    low, high = one.low[there], one.high[there]
    score.inside.append(float(((y >= low) & (y <= high)).mean()))
    score.error["pin"].append(_pinball(y, low, 0.1) + _pinball(y, high, 0.9))
    spread = np.nanquantile(np.diff(window), [0.1, 0.9])
    wide = np.sqrt(lead[there])[:, None] * spread  # what a random walk would give
    score.error["pin_still"].append(_pinball(y, still + wide[:, 0], 0.1) + _pinball(y, still + wide[:, 1], 0.9))
    _crossings(score, one, y, hours, back, window)


def _pinball(y: np.ndarray, at: np.ndarray, share: float) -> float:
    return float(np.maximum(share * (y - at), (share - 1) * (y - at)).mean())


def _crossings(
    score: Score, one: fc.Forecast, y: np.ndarray, hours: np.ndarray, back: np.ndarray, window: np.ndarray
) -> None:
    """The limit is the value that a tenth of the window is beyond, on either side in turn."""
    for share, above in ((0.9, True), (0.1, False)):
        limit = float(np.nanquantile(window, share))
        will = fc.crossing(one, limit, above=above)
        if will is None:
            continue
        sign = 1 if above else -1
        beyond = np.flatnonzero(sign * (y - limit) > 0)
        warned = will.expected_h is not None and will.expected_h <= DAY_H
        yesterday = bool((sign * (back - limit) > 0).any())
        score.warned += warned
        score.came += len(beyond) > 0
        score.daily_warned += yesterday
        score.daily_hits += yesterday and len(beyond) > 0
        if warned and len(beyond):
            came_h = float(hours[beyond[0]])
            inside = will.earliest_h is not None and will.earliest_h - 1 <= came_h <= (will.latest_h or 1e9) + 1
            score.hits.append((came_h, abs(came_h - float(will.expected_h or 0)), inside))


def _rival(
    score: Score, one: fc.Forecast, whole: np.ndarray, origin: int, step: int, window: np.ndarray, end_ms: int
) -> None:
    """The same forecast by statsmodels: regression on the same harmonics with AR(1) errors, in state space."""
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    lead = np.round((one.at - one.issued_ms) / fc.HOUR_MS / step + 0.5).astype(int)
    keep = (lead * step <= DAY_H) & (origin + lead < len(whole))
    if not keep.any():
        return
    known = window[-30 * 24 // step :]
    hours = end_ms / fc.HOUR_MS + (np.arange(len(known) + lead[keep].max()) - len(known) + 0.5) * step
    waves = fc._waves(hours, step)[:, 1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SARIMAX(known, exog=waves[: len(known)], order=(1, 0, 0), trend="c")
        fitted = model.fit(disp=False, maxiter=30)
        ahead = np.asarray(fitted.forecast(int(lead[keep].max()), exog=waves[len(known) :]))
    truth = whole[origin + lead[keep]]
    us = float(np.nanmean(np.abs(truth - one.value[keep])))
    it = float(np.nanmean(np.abs(truth - ahead[lead[keep] - 1])))
    score.rival.append((us, it, float(np.nanmean(np.abs(truth - one.last)))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=7, help="hours between two forecasts")
    parser.add_argument("--statsmodels", type=int, default=0, help="forecasts of each series to compare with SARIMAX")
    parser.add_argument("--only", default="", help="part of a file's name")
    options = parser.parse_args()
    print(
        "| data set | series | forecasts | shown | MAE/persistence | the same to 6 h | MAE/day before "
        "| pinball/random walk | coverage of 80 % | hidden: MAE/persistence |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows: list[tuple[str, str, Score]] = []
    started = time.perf_counter()
    for path in sorted(options.data.glob("*.csv*")):
        if options.only not in path.name:
            continue
        for station, parameter, at, value in series_of(path):
            score = judged(at, value, options.every, options.statsmodels)
            if score is not None and score.issues:
                rows.append((path.name.split(".")[0], f"{station} {parameter}", score))
                print(_row(*rows[-1]), flush=True)
    _summary(rows)
    total = sum(score.issues for _, _, score in rows)
    each_ms = (time.perf_counter() - started) / max(total, 1) * 1000
    print(f"\n{total} forecasts, {each_ms:.1f} ms each, the scoring included")


def _ratio(score: Score, over: str, under: str) -> float:
    return float(np.sum(score.error[over]) / np.sum(score.error[under])) if score.error[under] else float("nan")


def _row(name: str, what: str, score: Score) -> str:
    figures = [
        _ratio(score, "us", "still"),
        _ratio(score, "us6", "still6"),
        _ratio(score, "us", "daily"),
        _ratio(score, "pin", "pin_still"),
        float(np.mean(score.inside)) if score.inside else float("nan"),
        _ratio(score, "hid", "hid_still"),
    ]
    cells = " | ".join("–" if np.isnan(f) else f"{f:.2f}" for f in figures)
    return f"| {name} | {what} | {score.issues} | {score.shown / max(score.issues, 1):.0%} | {cells} |"


def _summary(rows: list[tuple[str, str, Score]]) -> None:
    print(
        "\n| data set | shown | MAE/persistence, median of series shown | coverage | crossings that came: warned of "
        "| warnings that came true | day before: warned of | true | median lead h | median error h "
        "| inside the interval |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    names = list(dict.fromkeys(name for name, _, _ in rows))
    for name in [*names, "all"]:
        mine = [score for n, _, score in rows if name in (n, "all")]
        shown = [s for s in mine if s.shown]
        hits = [hit for s in shown for hit in s.hits]
        came, warned = sum(s.came for s in shown), sum(s.warned for s in shown)
        day_hits, day_warned = sum(s.daily_hits for s in shown), sum(s.daily_warned for s in shown)
        inside = np.concatenate([s.inside for s in shown]) if shown else np.zeros(0)
        figures = [
            float(np.median([_ratio(s, "us", "still") for s in shown])) if shown else float("nan"),
            float(inside.mean()) if len(inside) else float("nan"),
            len(hits) / came if came else float("nan"),
            len(hits) / warned if warned else float("nan"),
            day_hits / came if came else float("nan"),
            day_hits / day_warned if day_warned else float("nan"),
            float(np.median([h[0] for h in hits])) if hits else float("nan"),
            float(np.median([h[1] for h in hits])) if hits else float("nan"),
            float(np.mean([h[2] for h in hits])) if hits else float("nan"),
        ]
        share = sum(s.shown for s in mine) / max(sum(s.issues for s in mine), 1)
        cells = " | ".join("–" if np.isnan(f) else f"{f:.2f}" for f in figures)
        print(f"| {name} | {share:.0%} | {cells} |")
    rival = np.array([row for _, _, s in rows for row in s.rival])
    if len(rival):
        ours = np.median(rival[:, 0] / rival[:, 2])
        theirs = np.median(rival[:, 1] / rival[:, 2])
        wins = (rival[:, 0] < rival[:, 1]).mean()
        print(
            f"\nstatsmodels SARIMAX(1,0,0) with the same harmonics, {len(rival)} forecasts: median MAE/persistence "
            f"ours {ours:.2f}, theirs {theirs:.2f}; ours better in {wins:.0%}"
        )


if __name__ == "__main__":
    main()
