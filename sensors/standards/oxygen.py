"""Oxygen saturation of water."""

import numpy as np

from sensors.reading import Floats


def saturation(temperature: Floats | float, salinity: Floats | float = 0.0) -> Floats:
    """Saturation concentration of dissolved oxygen in mg/L at one atmosphere.

    ``temperature`` in °C, valid 0 to 40, ``salinity`` in psu, valid 0 to 40; NaN outside. Air pressure is not
    corrected for: at 500 m above the sea the water holds about 6 % less.

    Source: Benson and Krause (1984).
    """
    t, s = np.broadcast_arrays(np.asarray(temperature, np.float64), np.asarray(salinity, np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        k = t + 273.15
        fresh = -139.34411 + 157570.1 / k - 66423080.0 / k**2 + 1.2438e10 / k**3 - 862194900000.0 / k**4
        salt = s * (0.017674 - 10.754 / k + 2140.7 / k**2)
        inside = (t >= 0) & (t <= 40) & (s >= 0) & (s <= 40)
        return np.asarray(np.where(inside, np.exp(fresh - salt), np.nan))
