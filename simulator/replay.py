"""Recorded tables as devices: shifted in time, split into history and live part. Pure; reads no files.

A table's rows of one station are played in order. The record is split once: the first part becomes the days before now
with its own spacing, the rest is played live, a row each interval.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from infra.times import DAY_MS
from sensors.reading import Floats, Ints
from sensors.stations import Station
from sensors.wire.telemetry import Sample

LIVE_SHARE = 0.2
"""Of a record too short for the whole history, what is kept back to be played live."""

_BESIDE_THE_MAP = (113.175, 23.030)
_ROW_STEP = 0.006
_NOT_IN_A_KEY = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Table:
    """A recorded table as columns.

    ``station`` (n,) names, ``at_ms`` (n,) ms since the epoch UTC, ``columns`` parameter key → (n,) canonical values
    with NaN where missing. ``source`` says where the record is from; ``places`` has (lon, lat) of stations, by the
    table's own names, where they are known.
    """

    station: NDArray[np.str_]
    at_ms: Ints
    columns: Mapping[str, Floats]
    source: str = ""
    places: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Track:
    """The record of one station, split: rows of the table and the instants at which history is said to be.

    ``history`` (h,) and ``live`` (m,) are row numbers, oldest first; ``history_ms`` (h,) strictly before now.
    """

    key: str
    history: NDArray[np.intp]
    history_ms: Ints
    live: NDArray[np.intp]


def slug(name: str) -> str:
    """A station key from a table's station name: ``apalachicola_cat_point`` → ``apalachicola-cat-point``."""
    key = _NOT_IN_A_KEY.sub("-", name.strip().lower()).strip("-")[:64].rstrip("-")
    return key or "replayed"


def names(table: Table) -> tuple[str, ...]:
    """The table's stations in the order they first appear."""
    return tuple(dict.fromkeys(str(name) for name in table.station))


def keys(table: Table) -> dict[str, str]:
    """Name → station key; equal keys are numbered."""
    made: dict[str, str] = {}
    for name in names(table):
        key, number = slug(name), 2
        while key in made.values():
            key, number = f"{slug(name)[:60]}-{number}", number + 1
        made[name] = key
    return made


def replay_stations(table: Table, *, first: int = 0) -> tuple[Station, ...]:
    """Stations to register before the table is played.

    A station without a known place stands in a row beside the map; ``first`` is the place in that row for the first of
    them, so that several tables do not cover each other. ``interval_s`` is the record's usual spacing.
    """
    stations = []
    for i, (name, key) in enumerate(keys(table).items(), first):
        rows = _rows(table, name)
        measured = tuple(p for p, values in table.columns.items() if np.isfinite(values[rows]).any())
        lon, lat = table.places.get(name, (_BESIDE_THE_MAP[0], round(_BESIDE_THE_MAP[1] - i * _ROW_STEP, 4)))
        where = "" if name in table.places else "，位置仅为示意"
        note = f"回放记录 replayed record: {name}{where}"
        stations.append(
            Station(
                key=key,
                zh=f"回放 {name}",
                en=f"Replay of {name}",
                lon=lon,
                lat=lat,
                interval_s=_spacing_s(table.at_ms[rows]),
                parameters=measured,
                note=f"{note}. {table.source}" if table.source else note,
            )
        )
    return tuple(stations)


def tracks(table: Table, *, now_ms: int, history_days: float) -> tuple[Track, ...]:
    """Each station's record moved so that its history ends just before ``now_ms``.

    The history is the first ``history_days`` of the record; of a record that is not longer, all but its last fifth.
    The step from the last history row to now is the record's own step, so the series runs on without a jump.
    """
    made = []
    for name, key in keys(table).items():
        rows = _rows(table, name)
        at_ms = table.at_ms[rows]
        split = int(np.searchsorted(at_ms, at_ms[0] + round(history_days * DAY_MS)))
        if split == len(rows) and history_days > 0:
            split = len(rows) - int(len(rows) * LIVE_SHARE)
        following = at_ms[split] if split < len(rows) else at_ms[-1] + 1000 * _spacing_s(at_ms)
        made.append(Track(key, rows[:split], at_ms[:split] + (now_ms - following), rows[split:]))
    return tuple(made)


def samples(table: Table, rows: Sequence[int] | NDArray[np.intp], at_ms: Ints) -> Iterator[Sample]:
    """The rows as samples at the instants ``at_ms`` (n,); missing values are left out, a row without any too."""
    for row, at in zip(rows, at_ms, strict=True):
        values = {key: float(column[row]) for key, column in table.columns.items() if np.isfinite(column[row])}
        if values:
            yield Sample(int(at), values)


def _rows(table: Table, name: str) -> NDArray[np.intp]:
    """The station's rows, oldest first, the last of equal instants kept: one key is one reading."""
    rows = np.flatnonzero(table.station == name)
    rows = rows[np.argsort(table.at_ms[rows], kind="stable")]
    last = np.append(np.diff(table.at_ms[rows]) > 0, True)
    return rows[np.flatnonzero(last)]


def _spacing_s(at_ms: Ints) -> int:
    if len(at_ms) < 2:
        return 300
    return int(np.clip(np.median(np.diff(at_ms)) // 1000, 1, 86_400))
