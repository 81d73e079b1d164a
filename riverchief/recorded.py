"""Read recorded tables, for replay and for backtests."""

from pathlib import Path

import numpy as np
import polars as pl

from infra.errors import ConfigurationError
from infra.texts import say
from riverchief import table_files
from sensors import table_columns
from sensors.parameters import Catalogue
from simulator.replay import Table


def read_table(path: Path, catalogue: Catalogue) -> Table:
    """A recorded table (CSV, gzip, Parquet or Excel) as columns; raises ConfigurationError naming file and column.

    ``time`` must be RFC 3339 or carry no offset (then UTC is meant); ``station`` may be missing (the file's name
    stands for it). Columns that name no parameter are left alone.
    """
    frame = _frame(path)
    names = {name.strip().lower(): name for name in frame.columns}
    if "time" not in names:
        raise ConfigurationError(say("file.no_time", path=path, found=", ".join(frame.columns[:8])))
    time = _times(path, frame[names["time"]])
    values: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
    for column in table_columns.find_columns(frame.columns, catalogue).columns:
        numbers = frame[column.name].cast(pl.Float64, strict=False).to_numpy()
        values[column.parameter] = np.asarray(numbers * column.convert.gain + column.convert.offset)
    if not values:
        raise ConfigurationError(say("table.no_parameter", source=path, found=", ".join(frame.columns[:8])))
    station = (
        frame[names["station"]].cast(pl.String).fill_null("").to_numpy().astype(np.str_)
        if "station" in names
        else np.full(len(time), path.name.split(".")[0])
    )
    order = np.argsort(time, kind="stable")
    return Table(station[order], time[order], {key: value[order] for key, value in values.items()}, source=path.name)


def read_events(path: Path) -> dict[str, list[tuple[int, int]]]:
    """Station name → stretches (first, last ms) in which the column ``event`` of a table is 1; empty without one.

    Rows without a value are nobody's statement. Raises ConfigurationError naming file and column.
    """
    frame = _frame(path)
    names = {name.strip().lower(): name for name in frame.columns}
    if "event" not in names:
        return {}
    time = _times(path, frame[names["time"]])
    label = frame[names["event"]].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    station = frame[names["station"]].cast(pl.String).fill_null("").to_numpy() if "station" in names else None
    found: dict[str, list[tuple[int, int]]] = {}
    all_names = [path.name.split(".")[0]] if station is None else dict.fromkeys(station.tolist())
    for name in all_names:
        rows = np.arange(len(time)) if station is None else np.flatnonzero(station == name)
        rows = rows[np.argsort(time[rows], kind="stable")]
        rows = rows[~np.isnan(label[rows])]
        on = np.concatenate([[False], label[rows] == 1, [False]])
        first, last = np.flatnonzero(on[1:] & ~on[:-1]), np.flatnonzero(on[:-1] & ~on[1:]) - 1
        spans = zip(time[rows][first].tolist(), time[rows][last].tolist(), strict=True)
        if len(rows):
            found[str(name)] = list(spans)
    return found


def _frame(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            return table_files.read_parquet(path)
        if path.suffix in (".xlsx", ".xls"):
            return table_files.read_excel(path)
        return table_files.read_csv(path)
    except FileNotFoundError:
        raise ConfigurationError(say("file.missing", path=path)) from None
    except OSError as error:
        raise ConfigurationError(say("file.no_table", path=path, error=error.strerror)) from error


def _times(path: Path, column: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    try:
        if column.dtype == pl.String:
            column = column.str.to_datetime(time_unit="ms", time_zone="UTC", strict=True)
        elif column.dtype == pl.Datetime:
            column = column.dt.cast_time_unit("ms")
            column = column.dt.replace_time_zone("UTC") if column.dtype.time_zone is None else column  # type: ignore[attr-defined]
        else:
            raise ConfigurationError(say("file.time_type", path=path, dtype=column.dtype))
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(say("file.time_unreadable", path=path, error=reason)) from error
    if column.null_count():
        row = int(column.is_null().arg_max() or 0) + 2
        raise ConfigurationError(say("file.time_empty", path=path, row=row))
    return np.asarray(column.cast(pl.Int64).to_numpy(), np.int64)
