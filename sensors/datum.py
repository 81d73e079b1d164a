"""Convert coordinates of Chinese maps and phones (GCJ-02, 火星坐标) to WGS 84 and back.

GCJ-02 is WGS 84 shifted by some hundred metres in a way that was never published; the formula below is the one in
public use, on the ellipsoid of Krasovsky 1940. The inverse is found by iteration, so that it undoes this formula
exactly; how well the formula meets official maps (metres, as public comparisons say) nobody outside can tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import cos, isnan, pi, radians, sin, sqrt

from infra.errors import ConfigurationError
from infra.texts import say

_SEMI_MAJOR_M = 6_378_245.0
_ECCENTRICITY_2 = 0.006_693_421_622_965_943
_CLOSE_DEGREES = 1e-11
"""A micrometre on the ground: the iteration is over."""
_MAX_ITERATIONS = 50


class Datum(StrEnum):
    """Geodetic datum of coordinates."""

    WGS84 = "WGS 84"
    GCJ02 = "GCJ-02"

    @classmethod
    def of(cls, text: object) -> "Datum":
        """Read the name of a datum, in any spelling; raises ConfigurationError."""
        plain = str(text).upper().replace("-", "").replace(" ", "").replace("_", "")
        for one in cls:
            if plain == one.value.upper().replace("-", "").replace(" ", ""):
                return one
        raise ConfigurationError(say("registry.no_datum", text=text))


def wgs84(lon: float, lat: float, datum: Datum) -> tuple[float, float]:
    """(lon, lat) in WGS 84 degrees of a place given in ``datum``; raises ConfigurationError where that has no inverse.

    Converted coordinates are rounded to 1e-9 degrees, a tenth of a millimetre.
    """
    if datum is Datum.WGS84:
        return lon, lat
    x, y = lon, lat
    for _ in range(_MAX_ITERATIONS):
        there = to_gcj02(x, y)
        east, north = lon - there[0], lat - there[1]
        x, y = x + east, y + north
        if abs(east) < _CLOSE_DEGREES and abs(north) < _CLOSE_DEGREES:
            return round(x, 9), round(y, 9)
        if isnan(x) or abs(y) > 90:
            break
    raise ConfigurationError(say("registry.not_convertible", lon=lon, lat=lat))


def to_gcj02(lon: float, lat: float) -> tuple[float, float]:
    """(lon, lat) in GCJ-02 of a place in WGS 84; meant for China, where alone GCJ-02 is used."""
    x, y = lon - 105.0, lat - 35.0
    wave = 20 * sin(6 * pi * x) + 20 * sin(2 * pi * x)
    east = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * sqrt(abs(x))
    east += (wave + 20 * sin(pi * x) + 40 * sin(pi * x / 3) + 150 * sin(pi * x / 12) + 300 * sin(pi * x / 30)) * 2 / 3
    north = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * sqrt(abs(x))
    north += (wave + 20 * sin(pi * y) + 40 * sin(pi * y / 3) + 160 * sin(pi * y / 12) + 320 * sin(pi * y / 30)) * 2 / 3
    squeeze = 1 - _ECCENTRICITY_2 * sin(radians(lat)) ** 2
    meridian_m = _SEMI_MAJOR_M * (1 - _ECCENTRICITY_2) / squeeze**1.5
    parallel_m = _SEMI_MAJOR_M / sqrt(squeeze) * cos(radians(lat))
    return lon + east / radians(parallel_m), lat + north / radians(meridian_m)


@dataclass(frozen=True, slots=True)
class Box:
    """Bounding box of all places of a site, in WGS 84 degrees."""

    west: float
    south: float
    east: float
    north: float

    @classmethod
    def of(cls, sides: Sequence[object]) -> "Box":
        """From [west, south, east, north]; raises ConfigurationError for what encloses nothing."""
        numbers = [float(s) for s in sides if isinstance(s, int | float) and not isinstance(s, bool)]
        if len(numbers) != 4 or len(sides) != 4 or not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
            raise ConfigurationError(say("registry.no_box", sides=list(sides)))
        return cls(*numbers)

    def check(self, lon: float, lat: float) -> None:
        """Raises ConfigurationError where a place lies outside, and says so when the two seem to be swapped."""
        if self._holds(lon, lat):
            return
        hint = say("registry.swapped") if self._holds(lat, lon) else ""
        sides = say("registry.sides", west=self.west, east=self.east, south=self.south, north=self.north)
        raise ConfigurationError(say("registry.outside_box", lon=lon, lat=lat, sides=sides, hint=hint))

    def _holds(self, lon: float, lat: float) -> bool:
        return self.west <= lon <= self.east and self.south <= lat <= self.north
