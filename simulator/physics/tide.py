"""Tide at the mouth and its propagation upstream: four constituents and an overtide."""

import numpy as np

from infra.times import HOUR_MS
from sensors.reading import Floats, Ints

M2_H, S2_H, K1_H, O1_H, M4_H = 12.4206012, 12.0, 23.9344696, 25.8193417, 6.2103006
"""Periods. M2 carries it; S2 beats with it (spring and neap, 14.77 d); K1 and O1 make the two highs of a day differ."""

WAVES = ((M2_H, 0.46, 0.0), (S2_H, 0.19, 0.6), (K1_H, 0.20, 1.1), (O1_H, 0.15, 2.0), (M4_H, 0.05, -1.3))
"""Period in h, amplitude in m, phase. The sizes are assumed: a range of some 1.2 m in the mean, as inland. M4 stands so
to M2 that the water rises for 5.5 h and falls for 6.9: upstream in the Pearl River Delta the flood is the shorter."""


def height(at_ms: Ints | Floats, later_h: Floats | float = 0.0) -> Floats:
    """Height of the tide in m above its mean, ``later_h`` hours after it passed the mouth; shapes broadcast."""
    hours = np.asarray(at_ms, np.float64) / HOUR_MS - later_h
    total = np.zeros(np.shape(hours))
    for period_h, amplitude_m, phase in WAVES:
        total += amplitude_m * np.cos(2 * np.pi * hours / period_h - phase)
    return total
