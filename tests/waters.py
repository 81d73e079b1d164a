"""Water whose truth is known, made by a formula."""

import numpy as np

from sensors.reading import Floats


def creek(days: float, step: int = 15, seed: int = 1) -> dict[str, Floats]:
    """Quiet days of a creek, a reading in ``step`` minutes: a daily rhythm, and the noise of good sensors."""
    rng = np.random.default_rng(seed)
    n = round(days * 1440 / step)
    light = np.sin(2 * np.pi * np.arange(n) * step / 1440)
    return {
        "water_temp": 22 + light + rng.normal(0, 0.03, n),
        "ph": 7.4 + 0.1 * light + rng.normal(0, 0.01, n),
        "do": 6.5 + 0.8 * light + rng.normal(0, 0.05, n),
        "conductivity": 420 + 3 * light + rng.normal(0, 1, n),
        "turbidity": 12 + rng.normal(0, 0.5, n),
        "nh3n": 0.8 + rng.normal(0, 0.02, n),
    }
