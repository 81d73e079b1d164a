"""Which stretches of a river somebody went along: those within reach of a track. Pure."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from sensors.network import KM_PER_DEGREE, length_km

STEP_KM = 0.025
"""How fine water and track are looked at: a phone's position is 5 to 20 m off, so a finer step shows nothing more."""
Line = Sequence[tuple[float, float]]
Stretch = tuple[float, float]
"""From and to, in km down the river's line."""


def stretches(water: Line, ways: Iterable[Line], near_km: float) -> tuple[Stretch, ...]:
    """The stretches of a river's line (lon, lat) that lie within ``near_km`` of one of the ways, in order of flow.

    Between two points of a way it is taken to be straight: a way is interrupted by beginning another one.
    """
    if len(water) < 2:
        return ()
    lon, lat = water[0]
    scale = KM_PER_DEGREE * np.array([np.cos(np.radians(lat)), 1.0])
    origin = np.array([lon, lat])
    river = _dense((np.asarray(water, float) - origin) * scale)
    low, high = river.min(axis=0) - near_km, river.max(axis=0) + near_km
    met = np.zeros(len(river), bool)
    for way in ways:
        if not way:
            continue
        walked = _dense((np.asarray(way, float) - origin) * scale)
        walked = walked[((walked >= low) & (walked <= high)).all(axis=1)]
        walked = np.unique(np.round(walked / STEP_KM), axis=0) * STEP_KM  # who stands still is in one place
        for some in np.array_split(walked, len(walked) // 1000 + 1):
            if len(some):
                away = ((river[:, None, :] - some[None, :, :]) ** 2).sum(axis=2).min(axis=1)
                met |= away <= near_km**2
    whole = length_km(water)
    at = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(river, axis=0).T))])
    at *= whole / at[-1] if at[-1] else 0.0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], met, [False]]).astype(np.int8)))
    found = [(at[first], at[last - 1]) for first, last in zip(edges[::2], edges[1::2], strict=True)]
    return tuple((round(float(a), 3), round(float(b), 3)) for a, b in found if b > a)


def union(spans: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """Stretches that overlap or touch as one, in order."""
    merged: list[Stretch] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return tuple(merged)


def total_km(spans: Iterable[Stretch]) -> float:
    """The length of stretches that do not overlap, km."""
    return sum(end - begin for begin, end in spans)


def _dense(line: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The points of a polyline (km) and those between them, no further apart than `STEP_KM`."""
    if len(line) < 2:
        return line
    steps = np.maximum(1, np.ceil(np.hypot(*np.diff(line, axis=0).T) / STEP_KM)).astype(int)
    share = np.concatenate([np.arange(n) / n for n in steps])
    begin, way = np.repeat(line[:-1], steps, axis=0), np.repeat(np.diff(line, axis=0), steps, axis=0)
    return np.concatenate([begin + share[:, None] * way, line[-1:]])
