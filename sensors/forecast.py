"""Forecast series for hours to days: tide, day, trend and a short memory, with an empirical interval.

Pure and causal. A series is averaged on a grid of whole hours; the tide and the day are harmonics, fitted with
exponential forgetting; for each lead the change from now is a small ridge regression on what the harmonics and the
Theta method say, on the day and the tidal day before, on the mean of a day and on the last movement. Ridge pulls to
no change: where nothing can be known, the forecast is persistence. Everything is fitted day by day on what was known
then, so that the same pass gives the forecast, the errors it would have made, its interval and its skill.

Scores: docs/forecast.md. Constants without a source are engineering choices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from infra.times import HOUR_MS
from sensors.reading import Floats, Ints

STEPS_H = (1, 2, 3, 4, 6)
"""Spacings of the grid in hours; all divide a day."""
HISTORY_DAYS = 45
"""Days of history that are used."""
WARM_DAYS = 7
"""Days before the first forecast that counts: half a spring-neap cycle (14.8 days)."""
MIN_COMPARED_DAYS = 7
"""Days of forecasts that can be compared with what came, before one is shown."""
LEADS_H = (*range(1, 25), *range(30, 73, 6))
"""Leads: each hour of a day, then every six hours up to three days."""
DAY_LEADS_H = 24
PERIODS_H = (12.4206, 12.0, 24.0, 25.8193, 6.2103, 8.0)
"""M2, S2, the day, O1, M4 and the third harmonic of the day. K1 (23.93 h) cannot be told from the day in 45 days and
is carried by it; S2 is also the second harmonic of the day. Periods: the usual tidal constituents."""
TIDAL_DAY_H = 24.8412
"""Two periods of M2."""
INTERVAL_COVERAGE = 0.8
"""The share of the truth that the interval is to hold."""
MAX_ERROR_RATIO = 0.95
"""Mean absolute error to that of persistence, above which a forecast is not shown."""
MIN_COVERAGE = 0.6
"""The share of the truths of the last two weeks that the interval must have held: below it an interval meant for four
of five misleads."""
MIN_STANDARD_ERRORS = 1.645
"""Standard errors by which the gain over persistence must be above zero: one-sided 5 %."""
FILL_H = 3
"""Hours for which the last good value may replace a missing one (or one step of the grid)."""

_CALM_SIZE = 0.25
"""The share of the usual error that stays in the width of the interval after a day without any. The interval then held
0.80, 0.79 and 0.80 after calm, usual and restless days, one of a fixed width 0.82, 0.81 and 0.66 (docs/forecast.md)."""

_TIDE_HALF_LIFE_D, _LEAD_HALF_LIFE_D = 12.0, 25.0
"""Days after which a day counts half, in the harmonics and in the regressions."""
_TIDE_RIDGE, _LEAD_RIDGE_H = 6.0, 36.0
"""Ridge penalties: in readings, and in hours to which the lead is added."""
_MAX_CHANGE_RATIO = 4.0
"""In multiples of the usual change: larger changes are weighted down to this, a storm is not the rule."""
_CONSTANT_RIDGE = 1e-6
"""Ridge penalty of the mean level, which is not to be pulled to zero."""
_FEATURES = 6


class Verdict(StrEnum):
    """Whether a forecast is shown, and if not, why."""

    SHOWN = "shown"
    SPARSE = "sparse"
    """Readings lie further apart than six hours, or there are hardly any."""
    SHORT = "short"
    """The past is too short to know what a forecast would have been worth."""
    STALE = "stale"
    """There is no good reading now to start from."""
    CONSTANT = "constant"
    """The series does not move."""
    NO_SKILL = "no_skill"
    """Saying that nothing changes would have been as good."""
    NARROW = "narrow"
    """Its interval held too few of the truths of the last two weeks."""


@dataclass(frozen=True, slots=True)
class Skill:
    """Skill of the forecasts of the past, leads up to a day.

    ``ratio``, ``ratio_daily`` and ``ratio_theta`` are the mean absolute error divided by that of persistence, of the
    value a day earlier (seasonal naive) and of the Theta method; NaN where there is nothing to compare. ``coverage`` is
    the share of the past errors that the interval in force at their time held; NaN where none was in force. ``days``
    of forecasts rest behind it.
    """

    ratio: float
    ratio_daily: float
    coverage: float
    days: int
    verdict: Verdict
    ratio_theta: float = float("nan")

    @property
    def shown(self) -> bool:
        return self.verdict is Verdict.SHOWN


@dataclass(frozen=True, slots=True)
class Forecast:
    """A forecast issued at ``issued_ms``: (n,) instants, the median, and the ends of the 80 % interval.

    A value stands for the mean over ``step_h`` hours around its instant. ``last`` is the newest mean there is, at
    ``last_ms``. Empty arrays where nothing could be computed; ``skill`` says whether to show it.
    """

    issued_ms: int
    step_h: int
    last_ms: int
    last: float
    at: Ints
    value: Floats
    low: Floats
    high: Floats
    skill: Skill


@dataclass(frozen=True, slots=True)
class Crossing:
    """When a limit will be crossed, in hours from the issue; None where not within the leads.

    ``earliest_h`` is when the bad end of the interval gets there, ``latest_h`` when the good end does: with one chance
    in ten the value is beyond the limit at the earliest, with nine in ten at the latest.
    """

    limit: float
    above: bool
    expected_h: float | None
    earliest_h: float | None
    latest_h: float | None


@dataclass(frozen=True, slots=True)
class Hindcasts:
    """Forecasts of the past of a batch of series (hindcasts); axes: series, origin, lead.

    ``value``, ``truth``, ``persistence``, ``daily`` and ``theta`` are (s, t, l), NaN where there is none; the origin
    ``t`` is the step it was issued after. ``size`` (s, t) is how large the errors were of late beside the usual ones.
    ``change`` (s, l) is the change from ``now`` (s,) that is expected after the last step.
    """

    leads: Ints
    per_day: int
    value: Floats
    truth: Floats
    persistence: Floats
    daily: Floats
    theta: Floats
    size: Floats
    change: Floats
    now: Floats

    @property
    def scaled(self) -> Floats:
        """The errors in multiples of ``size``."""
        return np.asarray((self.truth - self.value) / self.size[:, :, None])


def spacing_h(at_ms: Ints) -> int | None:
    """The spacing of the grid for readings at these instants, oldest first; None where they are too sparse."""
    if len(at_ms) < 2:
        return None
    usual_h = float(np.median(np.diff(at_ms))) / HOUR_MS
    return next((step for step in STEPS_H if usual_h <= step * 1.05), None)


def grid(at_ms: Ints, value: Floats, end_ms: int, step_h: int, days: int = HISTORY_DAYS) -> Floats:
    """(days * 24 / step_h,) means of the good readings of each step, NaN for a step without one.

    The last step ends at ``end_ms`` (exclusive); give good readings only, in any order.
    """
    steps, step_ms = days * 24 // step_h, step_h * HOUR_MS
    place = (np.asarray(at_ms, np.int64) - (end_ms - steps * step_ms)) // step_ms
    inside = (place >= 0) & (place < steps) & np.isfinite(value)
    count = np.bincount(place[inside], minlength=steps)
    total = np.bincount(place[inside], weights=np.asarray(value, np.float64)[inside], minlength=steps)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = total / count
    return mean


def hindcast(values: Floats, end_ms: int, step_h: int) -> Hindcasts:
    """Walk a batch of series day by day and forecast from every step with what was known then.

    Parameters
    ----------
    values : (s, n) float array
        Series on one grid (:func:`grid`), oldest first, NaN where missing; n is a whole number of days.
    end_ms : int
        The end of the last step, ms UTC.
    step_h : int
        One of ``STEPS_H``.

    Raises
    ------
    ValueError
        If the spacing is unknown or the days are not whole.
    """
    if step_h not in STEPS_H:
        raise ValueError(f"a grid of {step_h} h does not divide a day into known steps")
    per_day = 24 // step_h
    series, n = values.shape
    if n % per_day or n == 0:
        raise ValueError(f"{n} steps of {step_h} h are no whole days")
    days = n // per_day
    leads = np.array([h // step_h for h in LEADS_H if h % step_h == 0], np.int64)
    far = int(leads[-1])
    fill = max(1, FILL_H // step_h)
    hours = (end_ms / HOUR_MS - n * step_h) + (np.arange(n + 1 + far) + 0.5) * step_h
    tide = _tide(values, _waves(hours, step_h), days, per_day, far)
    here = tide[:, :days, :per_day].reshape(series, n)
    filled = here + _filled(values - here, fill)  # what is missing goes on with the tide
    whole = np.where(np.isfinite(filled), filled, here)  # what lies back and is missing longer was as tide and day say
    still = _filled(values, fill)
    theta = theta_method(still, leads, per_day)
    features = _features(filled, whole, tide, theta, leads, step_h)  # (s, n + 1, l, f); the last origin is now
    truth = np.full((series, n, len(leads)), np.nan)
    for i, lead in enumerate(leads):
        truth[:, : n - lead, i] = values[:, lead:]
    start = filled[:, :, None]
    fits = _fits(features[:, :n], truth - start, leads, days, per_day, step_h)  # (s, days + 1, l, f)
    blocks = features[:, :n].reshape(series, days, per_day, len(leads), _FEATURES)
    change = np.einsum("sdblf,sdlf->sdbl", blocks, fits[:, :days]).reshape(series, n, len(leads))
    lived = np.cumsum(np.isfinite(values).reshape(series, days, per_day).any(axis=2), axis=1)
    before = np.concatenate([np.zeros((series, 1), np.int64), lived[:, :-1]], axis=1)  # days with readings until then
    change[np.repeat(before < WARM_DAYS, per_day, axis=1)] = np.nan
    wait = -(-leads // per_day) * per_day - leads  # steps back from the origin to the same hour of an earlier day
    daily = np.full_like(truth, np.nan)
    for i, back in enumerate(wait):
        daily[:, back:, i] = still[:, : n - back]
    last = np.einsum("slf,slf->sl", features[:, n], fits[:, days])
    return Hindcasts(
        leads=leads * step_h,
        per_day=per_day,
        value=start + change,
        truth=truth,
        persistence=np.broadcast_to(still[:, :, None], truth.shape),
        daily=daily,
        theta=theta,
        size=_size(truth - start - change, leads, per_day),
        change=last,
        now=filled[:, -1],
    )


def intervals(found: Hindcasts, day: int, keep_days: int = 30) -> tuple[Floats, Floats]:
    """(s, l) what the interval in force on ``day`` adds to the forecast, below and above, in multiples of ``size``.

    Empirical quantiles of the scaled errors of the last ``keep_days`` whose truth was known when that day began (split
    conformal on the series' own past, locally weighted: Lei et al., 2018); NaN where fewer than a week of them are.
    """
    end = day * found.per_day
    first = max(0, end - keep_days * found.per_day)
    error = found.scaled[:, first:end]
    step_h = 24 // found.per_day
    origin = np.arange(first, end)
    unknown = origin[:, None] + found.leads[None, :] // step_h >= end
    error[:, unknown] = np.nan
    return _quantiles(error, 7 * found.per_day)


def _quantiles(error: Floats, least: int) -> tuple[Floats, Floats]:
    """(s, l) the lower and the upper quantile over the origins, NaN ignored."""
    ordered = np.sort(error, axis=1)  # NaN last
    count = np.isfinite(ordered).sum(axis=1)
    ends = []
    for share in ((1 - INTERVAL_COVERAGE) / 2, (1 + INTERVAL_COVERAGE) / 2):
        # the rank that holds for the next one, too: (n + 1) p of n errors
        rank = np.clip(share * (count + 1) - 1, 0, np.maximum(count - 1, 0))
        under = np.floor(rank).astype(np.intp)
        over = np.minimum(under + 1, np.maximum(count - 1, 0))
        a = np.take_along_axis(ordered, under[:, None, :], axis=1)[:, 0]
        b = np.take_along_axis(ordered, over[:, None, :], axis=1)[:, 0]
        ends.append(np.where(count >= least, a + (rank - under) * (b - a), np.nan))
    return ends[0], ends[1]


def skill(found: Hindcasts, row: int, coverage: float = float("nan")) -> Skill:
    """What the forecasts of one series of the batch were worth; what is missing now is for the caller to say."""
    short = found.leads <= DAY_LEADS_H
    error, still, daily, theta = (
        np.abs(found.truth[row] - one[row])[:, short]
        for one in (found.value, found.persistence, found.daily, found.theta)
    )
    both = np.isfinite(error) & np.isfinite(still)
    held = both.reshape(-1, found.per_day, both.shape[1]).sum(axis=(1, 2))
    days = int((held > 0).sum())
    if days == 0:
        return Skill(float("nan"), float("nan"), coverage, 0, Verdict.SHORT)
    if not still[both].any():
        return Skill(float("nan"), float("nan"), coverage, days, Verdict.CONSTANT)
    ratio, ratio_daily, ratio_theta = (_ratio(error, other) for other in (still, daily, theta))
    gain = np.where(both, still - error, 0.0).reshape(-1, found.per_day, both.shape[1]).sum(axis=(1, 2))[held > 0]
    # two neighbouring days share their truths: they count as one
    pairs = gain[: len(gain) // 2 * 2].reshape(-1, 2).sum(axis=1)
    few = 1 + 1.55 / max(len(pairs) - 1, 1)  # Student's t at 5 % to the normal one, within 3 % from 2 degrees on
    sure = len(pairs) > 2 and pairs.mean() > MIN_STANDARD_ERRORS * few * pairs.std(ddof=1) / np.sqrt(len(pairs))
    if days < MIN_COMPARED_DAYS:
        verdict = Verdict.SHORT
    elif not sure or ratio > MAX_ERROR_RATIO or ratio_daily >= 1.0 or ratio_theta >= 1.0:
        verdict = Verdict.NO_SKILL
    elif coverage < MIN_COVERAGE:
        verdict = Verdict.NARROW
    else:
        verdict = Verdict.SHOWN
    return Skill(ratio, ratio_daily, coverage, days, verdict, ratio_theta)


def _ratio(error: Floats, other: Floats) -> float:
    """The sum of one to that of the other where both are known."""
    both = np.isfinite(error) & np.isfinite(other)
    total = float(other[both].sum())
    return float(error[both].sum()) / total if total > 0 else float("nan")


def forecasts(values: Floats, end_ms: int, step_h: int, lowest: Sequence[float] = ()) -> list[Forecast]:
    """Forecast a batch of series on one grid (shapes as in :func:`past`) from the end of their last step.

    ``lowest`` (s,) is what no value of a series can be below (0 for a concentration); nothing where left out. A series
    that cannot be forecast gives an empty forecast whose skill says why.
    """
    found = hindcast(values, end_ms, step_h)
    days = values.shape[1] // found.per_day
    low, high = intervals(found, days)
    covered = _covered(found, days)
    centre_ms = step_h * HOUR_MS // 2
    at = end_ms - centre_ms + found.leads * HOUR_MS
    forecasts = []
    for row in range(len(values)):
        worth = skill(found, row, covered[row])
        good = np.isfinite(values[row])
        last = int(np.flatnonzero(good)[-1]) if good.any() else 0
        last_ms = end_ms - centre_ms - (values.shape[1] - 1 - last) * step_h * HOUR_MS
        now = float(found.now[row])
        if not good.any() or good.mean() < 0.1:
            worth = replace(worth, verdict=Verdict.SPARSE)
        elif not np.isfinite(now):
            worth = replace(worth, verdict=Verdict.STALE)
        usable = worth.verdict in (Verdict.SHOWN, Verdict.NO_SKILL)
        ready = usable & np.isfinite(found.change[row]) & np.isfinite(low[row]) & np.isfinite(high[row])
        if worth.shown and not (ready & (at <= end_ms + 24 * HOUR_MS)).any():
            worth, ready = replace(worth, verdict=Verdict.SHORT), ready & False  # skilful, but of no known width
        middle = now + found.change[row]
        size = found.size[row, -1]
        ends = middle + size * np.minimum(low[row], 0), middle + size * np.maximum(high[row], 0)
        lines = [line[ready] for line in (middle, *ends)]
        if len(lowest):
            lines = [np.maximum(line, lowest[row]) for line in lines]
        newest = float(values[row, last])
        forecasts.append(Forecast(end_ms, step_h, last_ms, newest, at[ready], lines[0], lines[1], lines[2], worth))
    return forecasts


def crossing(found: Forecast, limit: float, *, above: bool) -> Crossing | None:
    """When the forecast crosses a limit; None where it is beyond it already or there is no forecast."""
    sign = 1.0 if above else -1.0
    if not len(found.at) or not np.isfinite(found.last) or sign * (found.last - limit) > 0:
        return None
    hours = np.concatenate([[found.last_ms], found.at]).astype(np.float64)
    hours = (hours - found.issued_ms) / HOUR_MS
    bad, good = (found.high, found.low) if above else (found.low, found.high)
    expected, earliest, latest = (
        _reaches(hours, sign * (np.concatenate([[found.last], line]) - limit)) for line in (found.value, bad, good)
    )
    return Crossing(limit, above, expected, earliest, latest)


def _reaches(hours: Floats, over: Floats) -> float | None:
    """The first hour at which the line is above zero, interpolated between its points; not before the issue."""
    beyond = np.flatnonzero(over > 0)
    if not len(beyond):
        return None
    i = int(beyond[0])
    share = -over[i - 1] / (over[i] - over[i - 1])
    return max(0.0, float(hours[i - 1] + share * (hours[i] - hours[i - 1])))


def _covered(found: Hindcasts, days: int, last_days: int = 14) -> Floats:
    """(s,) the share of the truths of the last days that the interval in force held, leads up to a day."""
    short = found.leads <= DAY_LEADS_H
    held, known = np.zeros(len(found.now)), np.zeros(len(found.now))
    for day in range(max(WARM_DAYS + 7, days - last_days), days, 3):
        low, high = intervals(found, day)
        rows = slice(day * found.per_day, (day + 1) * found.per_day)
        error = found.scaled[:, rows][:, :, short]
        inside = (error >= np.minimum(low, 0)[:, None, short]) & (error <= np.maximum(high, 0)[:, None, short])
        there = np.isfinite(error) & np.isfinite(low)[:, None, short]
        held += (inside & there).sum(axis=(1, 2))
        known += there.sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        share: Floats = held / known
    return share


# -- the model -------------------------------------------------------------------------------------------------------


def _filled(values: Floats, most: int) -> Floats:
    """(s, n) values with each missing one taken from the last one not older than ``most`` steps; NaN beyond."""
    n = values.shape[1]
    place = np.where(np.isfinite(values), np.arange(n), -1)
    last = np.maximum.accumulate(place, axis=1)
    found = np.take_along_axis(values, np.maximum(last, 0), axis=1)
    found = np.where((last >= 0) & (np.arange(n) - last <= most), found, np.nan)
    return np.asarray(found)


def _waves(hours: Floats, step_h: int) -> Floats:
    """(t, p) a constant and the harmonics that this spacing resolves."""
    angles = [2 * np.pi * hours / period for period in PERIODS_H if period > 2.5 * step_h]
    return np.stack([np.ones_like(hours), *(f(a) for a in angles for f in (np.cos, np.sin))], axis=1)


def _tide(values: Floats, waves: Floats, days: int, per_day: int, far: int) -> Floats:
    """(s, days + 1, per_day + far) the harmonics as known when each day began, from that day's first step on.

    The last "day" begins one step before now: its first step is the newest.
    """
    series, width = len(values), waves.shape[1]
    seen = np.isfinite(values)
    n = days * per_day
    known = waves[:n].reshape(days, per_day, width)
    squares = np.einsum("dbp,dbq->dbpq", known, known).reshape(days, per_day, width * width)
    gram = np.einsum("sdb,dbq->sdq", seen.reshape(series, days, per_day).astype(np.float64), squares)
    gram = gram.reshape(series, days, width, width)
    first = np.take_along_axis(values, seen.argmax(axis=1)[:, None], axis=1)[:, 0]
    level = np.where(np.isfinite(first), first, 0.0)  # only rounding depends on it
    centred = np.where(seen, values - level[:, None], 0.0).reshape(series, days, per_day)
    moment = np.einsum("sdb,dbp->sdp", centred, known)
    ridge = np.eye(width) * _TIDE_RIDGE
    ridge[0, 0] = _CONSTANT_RIDGE
    fade = 0.5 ** (1 / _TIDE_HALF_LIFE_D)
    fits = np.zeros((series, days + 1, width))
    a, b = np.zeros((series, width, width)), np.zeros((series, width))
    for day in range(days):
        a, b = fade * a + gram[:, day], fade * b + moment[:, day]
        fits[:, day + 1] = np.linalg.solve(a + ridge, b[:, :, None])[:, :, 0]
    starts = np.append(np.arange(days) * per_day, n - 1)
    ahead = waves[np.minimum(starts[:, None] + np.arange(per_day + far), len(waves) - 1)]  # (days + 1, ., p)
    found: Floats = np.einsum("sdp,dkp->sdk", fits, ahead) + level[:, None, None]
    return found


def _features(filled: Floats, whole: Floats, tide: Floats, theta: Floats, leads: Ints, step_h: int) -> Floats:
    """(s, n + 1, l, f) what each change is regressed on; 0 where unknown.

    The extra origin is the newest step again, with the harmonics as they are known now.
    """
    series, n = filled.shape
    per_day = 24 // step_h
    days = n // per_day
    origins = np.append(np.arange(n), n - 1)
    day = np.append(np.repeat(np.arange(days), per_day), days)
    within = np.append(np.tile(np.arange(per_day), days), 0)
    now = filled[:, origins]
    here = tide[:, day, within]
    mean = _running_mean(whole, per_day)[:, origins]
    moved = now - whole[:, np.maximum(origins - max(1, 3 // step_h), 0)]
    back = np.zeros((series, n + 1, len(leads), _FEATURES))
    tidal = TIDAL_DAY_H / step_h
    for i, lead in enumerate(leads):
        back[:, :, i, 0] = tide[:, day, within + lead] - here
        yesterday = origins + lead - per_day * -(-lead // per_day)
        back[:, :, i, 2] = whole[:, np.maximum(yesterday, 0)] - now
        before = origins + lead - tidal * np.ceil(lead / tidal)
        place = np.floor(before).astype(np.int64)
        share = before - place
        first, second = whole[:, np.maximum(place, 0)], whole[:, np.clip(place + 1, 0, n - 1)]
        back[:, :, i, 5] = np.where(place + 1 <= origins, (1 - share) * first + share * second, np.nan) - now
    back[:, :, :, 1] = theta[:, origins] - now[:, :, None]
    back[:, :, :, 3] = (mean - now)[:, :, None]
    back[:, :, :, 4] = moved[:, :, None]
    return np.nan_to_num(back, copy=False, nan=0.0)


def _size(error: Floats, leads: Ints, per_day: int) -> Floats:
    """(s, n) the errors known of the last day beside those of a month, mean over the leads of a day."""
    series, n, _ = error.shape
    leads = leads[leads <= per_day]
    known = np.full((series, len(leads), n), np.nan)
    for i, lead in enumerate(leads):
        known[:, i, lead:] = np.abs(error[:, : n - lead, i])
    of_late, usual = (_running_mean(known.reshape(-1, n), days * per_day).reshape(known.shape) for days in (1, 30))
    seen = np.isfinite(of_late) & (usual > 0)
    total = np.divide(of_late, usual, out=np.zeros_like(usual), where=seen).sum(axis=1)
    count = seen.sum(axis=1)
    return np.asarray(np.where(count, total / np.maximum(count, 1), 1.0) + _CALM_SIZE)


def theta_method(values: Floats, leads: Ints, per_day: int) -> Floats:
    """(s, n, l) the Theta method: exponential smoothing on a daily profile, and half the slope of the past.

    Assimakopoulos and Nikolopoulos (2000) in the form of Hyndman and Billah (2003). Each value weighs half of the next
    one; choosing the weight by the past was no better on public series.
    """
    series, n = values.shape
    days = values.reshape(series, -1, per_day)
    there = np.isfinite(days)
    apart = np.where(there, days - _running_mean(values, per_day).reshape(days.shape)[:, :, -1:], 0.0)
    profile = np.zeros_like(days)  # of the days before
    profile[:, 1:] = (np.cumsum(apart, axis=1) / np.maximum(np.cumsum(there, axis=1), 1))[:, :-1]
    profile -= profile.mean(axis=2, keepdims=True)
    plain = values - profile.reshape(series, n)
    x, seen = np.arange(n), np.isfinite(plain)
    many, xs, ys, xx, xy = (np.cumsum(np.where(seen, one, 0.0), axis=1) for one in (1.0, x, plain, x * x, x * plain))
    slope = (many * xy - xs * ys) / np.maximum(many * xx - xs**2, 1.0)
    day, hour = x // per_day, (x[:, None] + leads) % per_day
    total, weight = np.zeros_like(plain), np.zeros_like(plain)
    for back in range(8):  # what is older weighs less than half a percent
        before = plain[:, : n - back]
        total[:, back:] += np.where(np.isfinite(before), before, 0.0) * 0.5**back
        weight[:, back:] += np.isfinite(before) * 0.5**back
    smooth = np.where(seen, total / np.maximum(weight, 1e-9), np.nan)
    return np.asarray(smooth[:, :, None] + profile[:, day[:, None], hour] + slope[:, :, None] / 2 * leads)


def _running_mean(filled: Floats, steps: int) -> Floats:
    """(s, n) the mean of the known values of the last ``steps`` steps."""
    there = np.isfinite(filled)
    total = np.cumsum(np.where(there, filled, 0.0), axis=1)
    count = np.cumsum(there, axis=1).astype(np.float64)
    total[:, steps:] -= total[:, :-steps].copy()
    count[:, steps:] -= count[:, :-steps].copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = total / count
    return mean


def _fits(features: Floats, change: Floats, leads: Ints, days: int, per_day: int, step_h: int) -> Floats:
    """(s, days + 1, l, f) the regression of each lead as known when each day began; the last one is now's."""
    series, n = change.shape[:2]
    fits = np.zeros((series, days + 1, len(leads), _FEATURES))
    fade = 0.5 ** (1 / _LEAD_HALF_LIFE_D)
    grams = np.zeros((series, days, len(leads), _FEATURES, _FEATURES))
    moments = np.zeros((series, days, len(leads), _FEATURES))
    counts = np.zeros((series, days, len(leads)))
    for i, lead in enumerate(leads):
        x = np.zeros((series, n, _FEATURES))
        y = np.full((series, n), np.nan)
        x[:, lead:], y[:, lead:] = features[:, : n - lead, i], change[:, : n - lead, i]  # laid where the truth came
        seen = np.isfinite(y)
        size = np.where(seen, np.abs(y), 0.0)
        usual = np.cumsum(size, axis=1) / np.maximum(np.cumsum(seen, axis=1), 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(seen, np.minimum(1.0, _MAX_CHANGE_RATIO * usual / size), 0.0)  # a storm is not the rule
        weight = np.where(seen & (size == 0), 1.0, weight).reshape(series, days, per_day)
        folded = x.reshape(series, days, per_day, _FEATURES)
        came = np.where(seen, y, 0.0).reshape(series, days, per_day)
        weighted = np.swapaxes(folded * weight[..., None], 2, 3)
        grams[:, :, i] = weighted @ folded
        moments[:, :, i] = (weighted @ came[..., None])[..., 0]
        counts[:, :, i] = weight.sum(axis=2)
    a, b = np.zeros_like(grams[:, 0]), np.zeros_like(moments[:, 0])
    many = np.zeros_like(counts[:, 0])
    ridge = (_LEAD_RIDGE_H + leads * step_h) / step_h
    eye = np.eye(_FEATURES)
    for day in range(days):
        a, b, many = fade * a + grams[:, day], fade * b + moments[:, day], fade * many + counts[:, day]
        diagonal = np.einsum("slff->slf", a) / np.maximum(many, 1.0)[..., None]
        floor = np.maximum(diagonal.max(axis=2, keepdims=True) * 1e-6, 1e-12)
        pull = ridge[None, :, None] * (diagonal + floor)
        fits[:, day + 1] = np.linalg.solve(a + pull[..., None] * eye, b[..., None])[..., 0]
    return fits
