"""What ``<series-chart>`` draws of a series: its columns, the limits that divide its axis, its neighbours. Pure."""

from dataclasses import dataclass

import numpy as np

from api.pages.models.series import View
from infra.errors import WaterError
from sensors.reading import Bools, Flag, Floats, unpack
from sensors.source_attribution import RiverTree
from sensors.standards import gb3838
from sensors.standards.gb3838 import Water, WaterClass


@dataclass(frozen=True, slots=True)
class Columns:
    """A series as the browser draws it, oldest first.

    ``value`` is None where a row must not be drawn as a curve; ``low`` and ``high`` are empty unless the series was
    thinned. No line leads to the rows in ``breaks`` from the row before. ``missing`` are the spans without any reading
    and ``missing_count`` how many readings the promised interval would have made there.
    """

    at: list[int]
    value: list[float | None]
    low: list[float | None]
    high: list[float | None]
    flag: list[int]
    breaks: list[int]
    missing: list[tuple[int, int]]
    suspect: int
    bad: int
    missing_count: int


def columns(view: View, shift_ms: int = 0) -> Columns:
    """The columns of a view, moved by ``shift_ms``. A mean stands in the middle of what it is the mean of."""
    s = view.series
    flag, _ = unpack(s.packed)
    good = view.usable
    width_ms = s.bucket_ms or 0
    at = np.minimum(s.at + width_ms // 2, view.end_ms)
    breaks = (np.flatnonzero(~view.joined) + 1).tolist() if len(at) else []
    missing = [(int(s.at[i - 1]) + width_ms, int(s.at[i])) for i in breaks]
    longest_ms = 3000 * view.interval_s
    if not len(at):
        missing = [(view.start_ms, view.end_ms)]
    else:
        if int(s.at[0]) - view.start_ms > longest_ms:
            missing.insert(0, (view.start_ms, int(s.at[0])))
        if view.end_ms - int(s.at[-1]) - width_ms > longest_ms:
            missing.append((int(s.at[-1]) + width_ms, view.end_ms))
    thinned = s.bucket_ms is not None
    return Columns(
        at=(at + shift_ms).tolist(),
        value=_or_none(s.value, good),
        low=_or_none(s.low, good) if thinned else [],
        high=_or_none(s.high, good) if thinned else [],
        flag=flag.tolist(),
        breaks=breaks,
        missing=missing,
        suspect=int((flag == Flag.SUSPECT).sum()),
        bad=int((flag == Flag.BAD).sum()),
        missing_count=sum(max(1, round((b - a) / 1000 / view.interval_s) - 1) for a, b in missing),
    )


def _or_none(values: Floats, good: Bools) -> list[float | None]:
    return [float(value) if ok else None for value, ok in zip(values.tolist(), good.tolist(), strict=True)]


@dataclass(frozen=True, slots=True)
class Limits:
    """What divides the axis of a parameter: limits of classes I to V (pH: its two ends), and the target's own limit."""

    direction: str
    classes: tuple[float, ...]
    target: int | None
    limit: float | None


def limits(parameter: str, water: Water, target: WaterClass | None) -> Limits | None:
    """The limits of a parameter in this water; None for one without a class."""
    found, direction = gb3838.limits(parameter, water), gb3838.direction(parameter)
    if found is None or direction is None:
        return None
    limit = None if target is None else gb3838.limit(parameter, water, target)
    return Limits(direction.value, found, None if target is None else int(target), limit)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The next station up or down the water; ``travel_ms`` is the usual time of the water between the two."""

    station: str
    travel_ms: int
    upstream: bool


def neighbours(tree: RiverTree, station: str) -> dict[str, Neighbour]:
    """``up`` and ``down``: the nearest other station from which the water comes, and to which it goes; one of the same
    reach before one of a tributary.
    """
    try:
        here = tree.spot(station)
    except WaterError:
        return {}
    found: dict[str, tuple[tuple[bool, float], Neighbour]] = {}
    for other in tree.registry.stations:
        if other.key == station or other.reach not in tree.reaches:
            continue
        there = tree.spot(other.key)
        for side, start, end in (("up", there, here), ("down", here, there)):
            route = tree.path(start, end)
            if route is None or route.upstream_km or route.km <= 0:
                continue
            hours = sum(km / tree.speed_km_h[reach][1] for reach, km, _ in route.legs)
            rank = other.reach != here.reach, route.km
            if side not in found or rank < found[side][0]:
                found[side] = rank, Neighbour(other.key, round(hours * 3_600_000), side == "up")
    return {side: neighbour for side, (_, neighbour) in found.items()}
