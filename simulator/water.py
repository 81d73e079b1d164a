"""What the sensors of a station would read on an ordinary day: pure, seeded, any instant at once.

Small on purpose. Every value is a sum of bounded drivers (season, tide, daylight, noise), so the ranges a parameter can
take are sums of the coefficients below. Nothing is carried from one instant to the next: noise is interpolated between
hashed lattice points, and so any cutting of the time axis gives the same values.

Source of the levels: domain facts §7.1 (Guangdong stations, April 2021) and §7.3 (baselines). Signs at tidal stations
as at 平洲: oxygen falls while conductivity and ammonia rise on the ebb, when the creeks drain into the river.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from sensors.parameters import Catalogue, catalogue
from sensors.reading import Floats, Ints
from sensors.stations import Station, Water

HOUR_MS = 3_600_000
M2_H, S2_H, K1_H = 12.4206, 12.0, 23.9345
"""Periods of the tide: M2 carries it, S2 beats with it (spring and neap, 14.8 days), K1 makes the two highs differ."""

_YEAR_MS = 365.2425 * 24 * HOUR_MS
_HOTTEST_MS = 1_595_635_200_000  # 2020-07-25: the year's warmest water
_MOUTH_LON, _KM_PER_DEGREE, _WAVE_KM_PER_H = 113.16, 102.5, 18.0  # the tide enters from the east and needs its time
_SUNRISE_H, _SUNSET_H, _LOSS_PER_H = 6.2, 18.6, 0.3  # Beijing time at 113° E; loss gives the peak at about 15 h
_NOISE = ((8.0, 0.55), (2.0, 0.30), (0.4, 0.15))  # lattice spacing in h, share; slow drift down to minutes

_Drivers = tuple[float, float, float, float, float, float]
_LINEAR: Mapping[Water, Mapping[str, _Drivers]] = {
    #                 base   warm   ebb    day   noise  white
    Water.RIVER: {
        "water_temp": (22.5, 8.0, 0.0, 0.5, 0.6, 0.2),
        "ph": (7.45, 0.02, -0.06, 0.07, 0.04, 0.02),
        "do": (5.5, -0.35, -0.60, 0.30, 0.20, 0.03),
        "conductivity": (380.0, -45.0, 35.0, 0.0, 15.0, 1.5),
        "codmn": (2.8, 0.2, 0.5, 0.0, 0.5, 0.03),
        "nh3n": (0.64, 0.0, 0.20, 0.0, 0.11, 0.008),
        "tn": (4.0, -0.3, 0.5, 0.0, 0.5, 0.03),
        "orp": (220.0, 0.0, -15.0, 5.0, 30.0, 4.0),
        "chla": (7.0, 2.0, 0.0, 0.5, 2.0, 0.3),
        "level": (0.8, 0.1, -1.0, 0.0, 0.05, 0.02),
    },
    Water.CREEK: {
        "water_temp": (23.5, 7.5, 0.0, 1.5, 0.8, 0.2),
        "ph": (7.35, 0.02, -0.02, 0.25, 0.06, 0.02),
        "do": (4.75, -0.20, -0.20, 1.10, 0.18, 0.03),
        "conductivity": (520.0, -45.0, 25.0, 0.0, 35.0, 2.0),
        "codmn": (6.2, 0.3, 0.3, 0.0, 1.2, 0.05),
        "nh3n": (1.30, 0.0, 0.15, 0.0, 0.28, 0.015),
        "tn": (7.0, -0.3, 0.3, 0.0, 1.2, 0.05),
        "orp": (120.0, -10.0, -8.0, 15.0, 30.0, 4.0),
        "chla": (18.0, 6.0, 0.0, 2.0, 5.0, 0.5),
        "level": (1.2, 0.1, -0.12, 0.0, 0.05, 0.02),
    },
    Water.LAKE: {
        "water_temp": (23.5, 7.5, 0.0, 1.2, 0.7, 0.2),
        "ph": (8.1, 0.10, 0.0, 0.25, 0.08, 0.02),
        "do": (7.8, -0.50, 0.0, 1.40, 0.30, 0.03),
        "conductivity": (330.0, -25.0, 0.0, 0.0, 15.0, 1.5),
        "codmn": (4.6, 0.3, 0.0, 0.1, 0.7, 0.04),
        "nh3n": (0.30, -0.03, 0.0, -0.02, 0.09, 0.008),
        "tn": (1.4, -0.1, 0.0, 0.0, 0.3, 0.02),
        "orp": (250.0, 0.0, 0.0, 10.0, 25.0, 4.0),
        "chla": (28.0, 10.0, 0.0, 3.0, 8.0, 0.8),
        "level": (1.5, 0.05, 0.0, 0.0, 0.06, 0.02),
    },
}
"""Canonical units. Multiplied by drivers in −1…1: the year's warmth, the ebb, daylight, slow noise, sensor noise."""

_TURBIDITY = {Water.RIVER: (26.0, 0.6), Water.CREEK: (22.0, 0.0), Water.LAKE: (12.0, 0.0)}
"""NTU, and what the fastest tidal current adds as a share (resuspension)."""

_TP = {Water.RIVER: (0.05, 0.0022), Water.CREEK: (0.18, 0.0040), Water.LAKE: (0.03, 0.0012)}
"""mg/L dissolved, and mg/L for each NTU: phosphorus travels on particles."""

KEYS = (*_LINEAR[Water.RIVER], "turbidity", "tp")
"""The parameters the model knows."""


def series(station: Station, at_ms: Ints, *, seed: int, known: Catalogue | None = None) -> dict[str, Floats]:
    """What ``station`` reads at the instants ``at_ms`` when nothing happens.

    Parameters
    ----------
    at_ms : (n,) int array
        ms since the epoch, UTC, in any order.
    seed : int
        Another seed is another stretch of weather and noise; tide and season stay.

    Returns
    -------
    dict
        Parameter key → (n,) values in the canonical unit, rounded to the catalogue's decimals. The keys are those of
        ``station.parameters`` that the model knows, all of them for a station that lists none.
    """
    at_ms = np.asarray(at_ms, np.int64)
    warm, day = warmth(at_ms), daylight(at_ms) * _sunshine(at_ms, seed)
    ebb = -tide(at_ms, station.lon)

    def linear(key: str) -> Floats:
        base, by_warm, by_ebb, by_day, by_noise, by_white = _LINEAR[station.water][key]
        own = 0.75 * _slow(at_ms, seed, station.key, key) + 0.25 * _constant(seed, station.key, key)
        white = _white(at_ms, seed, station.key, key)
        value: Floats = base + by_warm * warm + by_ebb * ebb + by_day * day + by_noise * own + by_white * white
        return value

    values = {key: linear(key) for key in _LINEAR[station.water]}
    if station.water is Water.LAKE:  # where there is more algae there is more oxygen in the day
        values["do"] += 0.06 * (values["chla"] - _LINEAR[Water.LAKE]["chla"][0])
    ntu, by_current = _TURBIDITY[station.water]
    muddy = np.exp(0.4 * _slow(at_ms, seed, station.key, "turbidity")) * (1 + by_current * _current(at_ms, station.lon))
    values["turbidity"] = ntu * muddy * (1 + 0.04 * _white(at_ms, seed, station.key, "turbidity"))
    dissolved, by_ntu = _TP[station.water]
    values["tp"] = dissolved * (1 + 0.2 * _slow(at_ms, seed, station.key, "tp")) + by_ntu * ntu * muddy
    values["tp"] += 0.003 * _white(at_ms, seed, station.key, "tp")
    wanted = [key for key in station.parameters or KEYS if key in values]
    return rounded({key: values[key] for key in wanted}, known or catalogue())


def rounded(values: Mapping[str, Floats], known: Catalogue) -> dict[str, Floats]:
    """The values with the decimals the catalogue shows."""
    return {key: np.round(value, known[key].decimals) for key, value in values.items()}


def tide(at_ms: Ints, lon: float) -> Floats:
    """(n,) height of the tide as a share of its largest, −1…1; stations further west have it later."""
    hours = at_ms / HOUR_MS - (_MOUTH_LON - lon) * _KM_PER_DEGREE / _WAVE_KM_PER_H

    def wave(period_h: float) -> Floats:
        return np.cos(2 * np.pi * hours / period_h)

    height: Floats = (wave(M2_H) + 0.35 * wave(S2_H) + 0.35 * wave(K1_H)) / 1.7
    return height


def _current(at_ms: Ints, lon: float) -> Floats:
    """(n,) square of the tidal current as a share of its largest, 0…1."""
    half = HOUR_MS // 4
    change = tide(at_ms + half, lon) - tide(at_ms - half, lon)
    share: Floats = np.clip((change / 0.23) ** 2, 0.0, 1.0)
    return share


def warmth(at_ms: Ints) -> Floats:
    """(n,) the year's warmth, −1 late in January, 1 late in July."""
    share: Floats = np.cos(2 * np.pi * (at_ms - _HOTTEST_MS) / _YEAR_MS)
    return share


def daylight(at_ms: Ints) -> Floats:
    """(n,) what daylight has done to the water, −1…1: lowest at dawn, highest in mid-afternoon, Beijing time."""
    hours, shape = _day()
    done: Floats = np.interp((at_ms / HOUR_MS + 8) % 24, hours, shape)
    return done


@lru_cache(maxsize=1)
def _day() -> tuple[Floats, Floats]:
    """The steady day of d(oxygen)/dt = light − loss · oxygen, as hours 0…24 and the shape scaled to −1…1."""
    steps = 24 * 60
    hours = np.arange(steps + 1) * 24.0 / steps
    light = np.sin(np.pi * np.clip((hours - _SUNRISE_H) / (_SUNSET_H - _SUNRISE_H), 0, 1))
    oxygen = np.zeros(steps + 1)
    for _ in range(5):  # five days bring it within e^-36 of the steady day
        for i in range(steps):
            oxygen[i + 1] = oxygen[i] + (light[i] - _LOSS_PER_H * oxygen[i]) * 24.0 / steps
        oxygen[0] = oxygen[-1]
    return hours, (2 * oxygen - oxygen.max() - oxygen.min()) / (oxygen.max() - oxygen.min())


def _sunshine(at_ms: Ints, seed: int) -> Floats:
    """(n,) how much of the daily cycle the weather lets happen, 0.5…1, the same everywhere."""
    return 0.75 + 0.25 * _lattice(at_ms, 24.0, _key(seed, "", "sunshine"))


def _slow(at_ms: Ints, seed: int, station: str, parameter: str) -> Floats:
    """(n,) smooth noise in −1…1."""
    parts = [share * _lattice(at_ms, hours, _key(seed, station, f"{parameter}/{hours}")) for hours, share in _NOISE]
    total: Floats = np.sum(parts, axis=0)
    return total


def _white(at_ms: Ints, seed: int, station: str, parameter: str) -> Floats:
    """(n,) sensor noise in −1…1, triangular around 0, independent from one millisecond to the next."""
    key = _key(seed, station, f"{parameter}/white")
    return _uniform(at_ms, key) + _uniform(at_ms, key ^ 0x5BF0_3635) - 1.0


def _constant(seed: int, station: str, parameter: str) -> float:
    """What sets this station apart from its neighbours for good, −1…1."""
    return float(2 * _uniform(np.zeros(1, np.int64), _key(seed, station, f"{parameter}/place"))[0] - 1)


def _lattice(at_ms: Ints, spacing_h: float, key: int) -> Floats:
    """(n,) value noise in −1…1: hashed points ``spacing_h`` apart, joined smoothly."""
    spacing = round(spacing_h * HOUR_MS)
    left = at_ms // spacing
    share = (at_ms - left * spacing) / spacing
    share = share * share * (3 - 2 * share)
    value: Floats = 2 * ((1 - share) * _uniform(left, key) + share * _uniform(left + 1, key)) - 1
    return value


def _key(seed: int, station: str, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{station}/{name}".encode(), digest_size=8).digest(), "big")


def _uniform(index: Ints, key: int) -> Floats:
    """(n,) numbers in 0…1 that depend on nothing but index and key (SplitMix64)."""
    x = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) / 2**53
