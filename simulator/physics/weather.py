"""Sun, air temperature and cloud over Foshan; rain comes from the scenario."""

from dataclasses import dataclass

import numpy as np

from infra.times import BEIJING_OFFSET_MS, DAY_MS, HOUR_MS
from sensors.reading import Floats, Ints
from simulator.physics.noise import key_of, wander

LATITUDE = 23.0
_YEAR_MS = 365.2425 * DAY_MS
_SOLSTICE_MS = 1_592_604_000_000  # 2020-06-20, longest day
_HOTTEST_MS = 1_595_635_200_000  # 2020-07-25: the year's warmest water
_NOON_H = 12.45
"""When the sun is highest by Beijing time at 113° E."""

MEAN_C, SWING_C = 23.0, 8.2
"""Water in balance with the air: 14 to 15 °C in January, 31 in July."""


@dataclass(frozen=True, slots=True)
class Sky:
    """What the sky does at (n,) instants: ``light`` 0…1 of a clear midsummer noon, ``air_c`` in °C, ``wind`` 0…1."""

    light: Floats
    air_c: Floats
    balance_c: Floats
    wind: Floats


def sky(at_ms: Ints, seed: int, *, cloud: float, heat: float, rain: Floats) -> Sky:
    """Light, air temperature and the temperature at which the water would neither warm nor cool.

    ``rain``: (n,) mm/h, it darkens and cools. Another seed is another spell of weather; the season stays.
    """
    spell = wander(at_ms, key_of(seed, "cloud"), (70.0, 0.30), (24.0, 0.25), (5.0, 0.35), (1.6, 0.5), (0.6, 0.45))
    cover = np.clip(cloud + 0.75 * spell + 0.5 * np.minimum(rain / 4.0, 1.0), 0.0, 1.0)
    light = clear_sky(at_ms) * (1.0 - 0.75 * cover**1.3)
    season = warmth(at_ms)
    fronts = wander(at_ms, key_of(seed, "front"), (120.0, 0.6), (48.0, 0.4))
    slow = MEAN_C + heat + SWING_C * season + fronts * (3.2 - 1.6 * season)
    hour = ((at_ms + BEIJING_OFFSET_MS) % DAY_MS) / HOUR_MS
    daily = np.cos(2 * np.pi * (hour - 15.0) / 24)
    air = slow + (3.4 - 1.8 * cover) * daily - 3.0 * np.minimum(rain / 6.0, 1.0)
    balance = slow + 30.0 * (light - (0.24 + 0.05 * season)) - 2.5 * np.minimum(rain / 6.0, 1.0)
    gusts = wander(at_ms, key_of(seed, "wind"), (30.0, 0.6), (6.0, 0.4), (1.5, 0.35), (0.5, 0.25))
    wind = np.clip(0.35 + 0.5 * gusts + 0.15 * daily, 0.05, 1.0)
    return Sky(light, np.asarray(air), np.asarray(balance), wind)


def warmth(at_ms: Ints) -> Floats:
    """(n,) the year's warmth, −1 late in January, 1 late in July."""
    return np.asarray(np.cos(2 * np.pi * (at_ms - _HOTTEST_MS) / _YEAR_MS))


def clear_sky(at_ms: Ints) -> Floats:
    """(n,) sine of the sun's height above a horizon of 0, which is what reaches the water without cloud."""
    declination = np.radians(23.44) * np.cos(2 * np.pi * (at_ms - _SOLSTICE_MS) / _YEAR_MS)
    hour = ((at_ms + BEIJING_OFFSET_MS) % DAY_MS) / HOUR_MS
    angle = np.radians(15.0 * (hour - _NOON_H))
    latitude = np.radians(LATITUDE)
    sine = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(angle)
    return np.asarray(np.maximum(sine, 0.0))
