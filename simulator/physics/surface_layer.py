"""The upper layer in which probes hang, half a metre to a metre below the surface.

A sunny calm noon warms it, and its algae fill it with oxygen, more than the whole depth that the cells are the mean of;
the current and the wind mix it in again. A cloud, a gust and the turn of the tide show in it within an hour.
"""

import numpy as np

from sensors.reading import Floats
from simulator.physics.chemistry import CHL, DIC, DO, GROWN_O2, ORGANIC, SOLIDS, TEMP

THICK_M, OF_DEPTH = 1.0, 0.4
"""It is so thick, or so much of a shallow water."""
SUN_C_M_H = 0.77
"""°C an hour that the light of a clear midsummer noon, some 900 W/m², gives to a metre of water."""
STILL, BY_CURRENT, BY_WIND = 0.2, 4.0, 3.0
"""Share an hour mixed in again: in still water, for each m/s of current, for the square of the wind (0…1). A channel of
6 m at 0.5 m/s mixes within minutes to a quarter of an hour, a still one in hours (order of magnitude, not measured)."""


class Upper:
    """How much warmer and richer the layer is than the whole depth, (2, s): of both waters at s stations."""

    def __init__(self, stations: int) -> None:
        self._warmer = np.zeros((2, stations))
        self._richer = np.zeros((2, stations))

    def step(
        self, waters: Floats, growth: Floats, light: float, wind: float, current: Floats, depth: Floats, step_s: float
    ) -> None:
        """Go on by a step and put the layer's excess into the content ``waters`` (2, tracers, s) in place."""
        hours = step_s / 3600
        thick = np.minimum(THICK_M, OF_DEPTH * depth)
        dark = 0.6 + 0.028 * (waters[:, SOLIDS] + waters[:, ORGANIC]) + 0.018 * waters[:, CHL]
        kept = (1 - np.exp(-dark * thick)) / thick - (1 - np.exp(-dark * depth)) / depth
        lit, deep = (light * (1 - np.exp(-dark * d)) / (dark * d) for d in (thick, depth))
        more = lit / (lit + 0.12) - deep / (deep + 0.12)
        warm = 1.066 ** (waters[:, TEMP] - 20.0)
        mixed = STILL + BY_CURRENT * current + BY_WIND * wind * wind
        stays = np.exp(-mixed * hours)
        heat = SUN_C_M_H * light * kept
        oxygen = GROWN_O2 * growth * warm * waters[:, CHL] * more / 24
        self._warmer = self._warmer * stays + heat / mixed * (1 - stays)
        self._richer = self._richer * stays + oxygen / mixed * (1 - stays)
        waters[:, TEMP] += self._warmer
        waters[:, DO] += self._richer
        waters[:, DIC] -= self._richer / 32.0
