"""Public records of water with the labels of their keepers; they are given by folder, no part of this repository."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from infra.times import DAY_MS
from riverchief.tables.assess import SensorTable, Summary, read
from sensors.parameters import catalogue
from sensors.quality.detectors.upstream_evidence import UpstreamPath
from sensors.reading import Bools, Ints, Places

MONTH_MS: Final = 30.44 * DAY_MS
UNJUDGED: Final = -1
MARGIN: Final = 2
"""Samples beside a bad one that may be as bad: keepers mark a little more or less."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file, its ``river``, and stations from upstream to downstream; ``quiet``: whether it holds no event label."""

    file: str
    river: str
    chain: tuple[str, ...] = ()
    quiet: bool = True


PRINGLE: Final = ("pringle_creek_upstream", "pringle_creek_downstream")
SOURCES: Final = {
    "Logan": Source("logan_river_labelled", "Logan"),
    "Sandy Creek": Source("queensland_sandy_labelled", "Sandy Creek"),
    "Herbert": Source("herbert_river_labelled", "Herbert"),
    "Cat Point": Source("nerrs_apacpwq_labelled", "Cat Point"),
    "simulated": Source("simulated_faults_and_plumes", "Pringle", ("sim_upstream", "sim_downstream"), quiet=False),
    "GECCO": Source("gecco2018_train", "GECCO", quiet=False),
    "Pringle": Source("neon_pringle_creek_clean", "Pringle", PRINGLE),
    "Logan raw": Source("logan_river_raw_long", "Logan"),
    "CANARY B": Source("canary_station_b_raw", "CANARY B"),
    "St. Louis": Source("sonde_drift_pair", "St. Louis"),
}


@dataclass(frozen=True, slots=True)
class Record:
    """A table and what is known of it: ``bad`` (rows, sensors) and ``event`` (rows,) are 1, 0 or :data:`UNJUDGED`;
    ``natural`` (rows,) storms with good data, ``kind`` (rows, sensors) the keeper's reason."""

    name: str
    table: SensorTable
    bad: Ints
    event: Ints
    natural: Bools
    paths: tuple[UpstreamPath, ...]

    @property
    def stations(self) -> Iterator[Places]:
        """The rows of each station."""
        for i in range(len(self.table.names)):
            yield np.flatnonzero(self.table.station == i)

    def take(self, rows: Places) -> "Record":
        table = self.table
        thin = replace(table, station=table.station[rows], at=table.at[rows], values=table.values[rows])
        return replace(self, table=thin, bad=self.bad[rows], event=self.event[rows], natural=self.natural[rows])

    def thinned(self, minutes: int) -> "Record":
        """One reading in so many minutes."""
        slot = self.table.at // (minutes * 60_000) + self.table.station * 2**40
        return self.take(np.flatnonzero(np.diff(slot, prepend=-1) != 0))

    def clean(self) -> "Record":
        """Without what its keeper found bad, did not judge, or sits beside such a reading."""
        wrong = self.bad != 0
        for rows in self.stations:
            mine = wrong[rows]
            out = mine.copy()
            for k in range(1, MARGIN + 1):
                out[k:] |= mine[:-k]
                out[:-k] |= mine[k:]
            wrong[rows] = out
        return replace(self, table=replace(self.table, values=np.where(wrong, np.nan, self.table.values)))

    def step_min(self) -> float:
        return float(np.median(np.diff(self.table.at[self.table.station == self.table.station[0]]))) / 60_000


def load(data: Path, name: str, *, network: bool = False) -> Record:
    """A record by its name in :data:`SOURCES`; ``network``: with what is known of upstream and downstream."""
    source = SOURCES[name]
    path = data / f"{source.file}.csv.gz"
    table = read(path, catalogue(), Summary(path.name))
    frame = pl.read_csv(path, infer_schema_length=None)
    row = _rows(table, frame)
    sensors = [sensor.name for sensor in table.found.sensors]
    labelled = any(name.startswith("anomaly_") for name in frame.columns)

    def label(column: str, missing: int) -> Ints:
        found = np.full(len(table.at), missing, np.int64)
        if column in frame.columns:
            found[row] = frame[column].cast(pl.Float64, strict=False).fill_null(UNJUDGED).to_numpy().astype(np.int64)
        return found

    bad = np.stack([label(f"anomaly_{one}", UNJUDGED if labelled else 0) for one in sensors], axis=1)
    chain = [table.names.index(one) for one in source.chain] if network else []
    paths = tuple(UpstreamPath(above, below) for above, below in itertools.pairwise(chain))
    return Record(name, table, bad, label("event", 0), label("natural_event", 0) == 1, paths)


def _rows(table: SensorTable, frame: pl.DataFrame) -> Places:
    """The row of the table of each line of the file."""
    at = frame["time"].str.strip_suffix("Z").str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="ms").dt.epoch("ms")
    place = {name: i for i, name in enumerate(table.names)}
    station = np.array([place[str(one)] for one in frame["station"].to_list()], np.int64)
    key = table.station.astype(np.int64) * 2**44 + table.at
    return np.asarray(np.searchsorted(key, station * 2**44 + at.to_numpy()))
